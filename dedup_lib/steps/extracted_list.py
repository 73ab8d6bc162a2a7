"""06: the list with what became of each of its videos."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from dedup_lib.errors import RunFolderError
from dedup_lib.groups.clean import count_statuses, outcome_of_row
from dedup_lib.groups.keepers import Traits
from dedup_lib.lists.dialects import PLAIN, Dialect
from dedup_lib.lists.tables import read_list
from dedup_lib.records import Outcome, Recipe, Status
from dedup_lib.run.folder import RunFolder
from dedup_lib.run.ledger import LedgerView
from dedup_lib.settings import ExtractSettings
from dedup_lib.store.address import StoreAddress
from dedup_lib.store.store import Store, missing_collection


@dataclass(frozen=True, kw_only=True)
class StoredVideos:
    """Videos whose vectors lie in the collection of another run."""

    address: StoreAddress
    collection: str
    urls: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ExtractedList:
    """A list with the outcome of each of its URLs."""

    frame: pd.DataFrame
    url_column: str
    outcomes: Mapping[str, Outcome]
    list_csv: Path | None
    """The file that the user named. None for a list that was read from a collection."""
    list_rows: int
    text_duplicates: int
    recipe: Recipe | None
    """None for a list that was read from a collection, because the collection holds the recipe of its vectors."""
    dialect: Dialect = PLAIN
    """Delimiter, encoding and line ends of the outputs."""
    existing: tuple[str, ...] = ()
    """URLs of videos that were in the collection before, in order. All comparisons number them as rows after those of
    the list. `outcomes` holds what is known of them."""
    ledgers: tuple[Path, ...] = ()
    """Ledgers of earlier runs, with the fingerprints of `existing`."""
    stored: tuple[StoredVideos, ...] = ()
    """Where the vectors of `existing` are, unless they are in the collection of this run."""

    @property
    def new_rows(self) -> int:
        """Number of rows in the list. Rows from this number on are `existing`."""
        return len(self.frame)

    @property
    def name(self) -> str:
        """Name of the list, for people."""
        return self.list_csv.name if self.list_csv is not None else "the collection"

    @property
    def own_urls(self) -> list[str]:
        """The URL of each row of the list."""
        return list(self.frame[self.url_column])

    @property
    def urls(self) -> list[str]:
        """The URL of each row, `existing` included."""
        return [*self.own_urls, *self.existing]

    @property
    def traits(self) -> list[Traits]:
        """For every row, `existing` included, the properties that decide which video is kept."""
        return [Traits.of(outcome_of_row(url, self.outcomes)) for url in self.urls]

    @property
    def own_outcomes(self) -> list[Outcome]:
        """The outcome of each row of the list."""
        return [outcome_of_row(url, self.outcomes) for url in self.own_urls]

    @property
    def compared_rows(self) -> list[int]:
        """The rows of the list that are compared with others."""
        return [row for row, outcome in enumerate(self.own_outcomes) if outcome.status == Status.OK]

    @property
    def statuses(self) -> dict[Status, int]:
        """Number of rows by status."""
        return count_statuses(self.own_urls, self.outcomes)


def load_extracted_list(run: RunFolder, *, collection: str) -> ExtractedList:
    """The list that 03_extract processed in this run folder, with the outcomes from the ledger.

    Where 03_extract has not run, the list is the content of the collection. Raises StoreError where there is no
    collection either, and RunFolderError where 03_extract has run and its ledger is gone.
    """
    record = run.read_record(ExtractSettings.stage)
    if record is None:
        with Store(find_filled_store(run, collection)) as store:
            urls = store.open_collection(collection).list_urls()
        return ExtractedList(
            frame=pd.DataFrame({"url": urls}, dtype=str),
            url_column="url",
            outcomes={url: Outcome(url=url, status=Status.OK) for url in urls},
            list_csv=None,
            list_rows=len(urls),
            text_duplicates=0,
            recipe=None,
        )
    recipe = Recipe(**record["recipe"])
    if not run.ledger_path.exists():
        # An empty one would set aside every row as not read yet.
        raise RunFolderError(
            f"{run.shown(run.ledger_path)} is missing, which holds what became of each URL: put it back, or run "
            "03_extract again in this run folder"
        )
    with LedgerView(run.ledger_path) as ledger:
        outcomes = ledger.load_outcomes(recipe.key)
    path, list_csv = run.recorded_path(record, "input_csv"), Path(record["list"]["csv"])
    read = read_list(path, is_ours=path != list_csv)
    return ExtractedList(
        frame=read.table,
        dialect=read.dialect,
        url_column=record["url_column"],
        outcomes=outcomes,
        list_csv=list_csv,
        list_rows=record["list"]["rows"],
        text_duplicates=record["list"]["text_duplicates"],
        recipe=recipe,
    )


def find_filled_store(run: RunFolder, collection: str) -> StoreAddress:
    """The store to read a collection from. Raises StoreError where its Milvus Lite file is missing."""
    address = StoreAddress.find(run)
    if address.is_local and not run.lite_path.exists():
        raise missing_collection(collection, address)
    return address

"""06: videos that were in the collection before the list."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from pathlib import Path

from dedup_lib.errors import RunFolderError
from dedup_lib.match.known_videos import find_near
from dedup_lib.records import Outcome, Recipe, Status, StoredRows, video_key
from dedup_lib.run.folder import RunFolder
from dedup_lib.run.ledger import LedgerView
from dedup_lib.run.paths import resolve_path
from dedup_lib.settings import SearchSettings
from dedup_lib.steps.bar import Bar, progress_on
from dedup_lib.steps.extracted_list import ExtractedList
from dedup_lib.steps.search_plan import load_vector_table, plan_search
from dedup_lib.store.address import StoreAddress
from dedup_lib.store.store import Store

MAX_BY_WORDS = 20_000
"""The most videos of the collection whose fingerprints are read for visual words, about 70 kB each. Of a larger
collection, only the videos that vectors propose are read."""


def add_existing(
    run: RunFolder, listed: ExtractedList, *, settings: SearchSettings, bar: Bar | None = None
) -> ExtractedList:
    """Add earlier videos of the collection to the list, after its rows: those that may be copies of a listed video.

    Without `against_existing`, returns the list unchanged. The added videos are:

    - the videos whose vectors are similar;
    - where frames decide, also every video with a fingerprint, if there are at most `MAX_BY_WORDS`, because visual
      words find copies that vectors do not find;
    - the videos of an earlier run whose URL the list repeats.

    `bar` shows one step after the other. Raises as `search_list` does, and RunFolderError for an earlier run without a
    ledger.
    """
    if not settings.against_existing:
        return listed
    paths = [resolve_path(name) / run.ledger_path.name for name in settings.existing_runs]
    for path in paths:
        if not path.is_file():
            raise RunFolderError(
                f"existing_runs names {run.shown(path.parent)}, which holds no ledger.sqlite: name the folders of runs "
                "that have read their videos"
            )
    ledgers = (run.ledger_path, *paths)
    own, begin = set(listed.own_urls), progress_on(bar)
    with Store(StoreAddress.choose(settings.store, run)) as store:
        collection = store.open_collection(settings.collection)
        plan = plan_search(collection, listed, settings, store=str(store.address))
        before, with_words = _load_before(ledgers, plan.recipe, own)
        if settings.decide == "cosine" or len(with_words) > MAX_BY_WORDS:
            with_words = set()
        held: set[str] = set()

        def stream() -> Iterator[StoredRows]:
            progress = begin("looking through the collection", collection.facts.rows)
            for rows in collection.stream_rows():
                progress(len(rows.urls))
                held.update(with_words.intersection(rows.urls))
                yield rows

        near = find_near(
            load_vector_table(run, collection, listed, begin=begin),
            stream(),
            floor=plan.floor,
            known={video_key(url) for url in own},
            max_pairs=settings.max_pairs,
        )
    repeated = {url for path in paths for url in _load_read(path, plan.recipe) if url in own}
    existing = tuple(sorted({*near, *held, *repeated}))
    known = {url: before.get(url) or Outcome(url=url, status=Status.OK) for url in existing}
    return replace(listed, existing=existing, outcomes={**known, **listed.outcomes}, ledgers=tuple(paths))


def _load_read(path: Path, recipe: Recipe) -> dict[str, Outcome]:
    """The videos that an earlier run read, by URL."""
    with LedgerView(path) as view:
        outcomes = view.load_outcomes(recipe.key)
    return {url: outcome for url, outcome in outcomes.items() if outcome.status == Status.OK}


def _load_before(ledgers: Sequence[Path], recipe: Recipe, own: AbstractSet[str]) -> tuple[dict[str, Outcome], set[str]]:
    """The outcomes of videos that are not in the list, and the URLs of those that have fingerprints."""
    before: dict[str, Outcome] = {}
    printed: set[str] = set()
    for path in ledgers:
        if not path.is_file():
            continue
        with LedgerView(path) as view:
            kinds = view.load_kinds()
        found = {url: outcome for url, outcome in _load_read(path, recipe).items() if url not in own}
        before = found | before
        printed |= {url for url in found if video_key(url) in kinds}
    return before, printed

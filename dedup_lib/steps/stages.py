"""What the notebooks call: each function is the work of one stage on one run folder.

The notebooks hold parameters, prose and pictures; what they do to a run is here.
"""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from dedup_lib import __version__
from dedup_lib.errors import AccountingError, ListError, RunFolderError, SettingError, StoreError
from dedup_lib.extract.job_folders import load_jobs
from dedup_lib.extract.pipeline import CollectionSink, ExtractReport, JobSink, extract_videos, pool_video
from dedup_lib.features.encoder import Encoder
from dedup_lib.features.encoders import DEFAULT_THRESHOLDS, SWEEP_LOWS, load_encoder
from dedup_lib.features.fingerprint import StoredFingerprints
from dedup_lib.groups.clean import CleanedList, clean_list, count_statuses, outcome_of_row
from dedup_lib.groups.columns import COLUMNS, describe_evidence, find_next_score
from dedup_lib.groups.decisions import (
    Decision,
    DecisionFile,
    RowPairs,
    decisions_path,
    list_pairs,
    load_decisions,
    rows_of_decisions,
)
from dedup_lib.groups.keepers import FIRST_SEEN, KeeperPolicy, Traits
from dedup_lib.groups.matcher import Weighed, weigh_list
from dedup_lib.groups.matches import Matches, SearchDone, SearchPlan
from dedup_lib.groups.pairs import save_pairs
from dedup_lib.groups.review import find_doubtful
from dedup_lib.groups.scored import is_match, score_pairs
from dedup_lib.groups.sweep import describe_sweep, round_thresholds
from dedup_lib.groups.thresholds import borderline_pairs
from dedup_lib.lists.dialects import PLAIN, Dialect
from dedup_lib.lists.tables import count_guarded, load_table, read_list, save_table
from dedup_lib.match.comparisons import find_method, pack_evidence, unpack_evidence
from dedup_lib.match.evidence import Evidence, Rule, Verdict
from dedup_lib.match.vector_join import (
    Proposal,
    VectorTable,
    audit_proposal,
    choose_search,
    find_device,
    find_near,
    join_by_search,
    join_exactly,
)
from dedup_lib.media.streams import FetchLimits
from dedup_lib.records import (
    KEPT_STATUSES,
    Begin,
    Group,
    Outcome,
    Pooling,
    Recipe,
    Scan,
    Schema,
    Status,
    StoredRows,
    VideoVectors,
    begin_silently,
    video_key,
)
from dedup_lib.run.failures import Reading, check_failures, find_causes
from dedup_lib.run.files import digest_file, write_text_atomically
from dedup_lib.run.folder import Record, RunFolder
from dedup_lib.run.ledger import Ledger, LedgerView
from dedup_lib.run.paths import expand_home, find_inputs, is_same_place, resolve_path
from dedup_lib.run.resources import ResourceMonitor
from dedup_lib.settings import (
    FLOWS,
    CollectionsSettings,
    DecodeSettings,
    DedupeUrlsSettings,
    ExtractSettings,
    SearchSettings,
    UploadSettings,
    parse_numbers,
)
from dedup_lib.store.store import (
    LARGEST_TOP_K,
    READ_ROWS,
    UPSERT_ROWS,
    Collection,
    CollectionFacts,
    Store,
    StoreAddress,
    missing_collection,
)

FINGERPRINT_REMEDY = "run 03_extract again in this run folder, or set decide: cosine"

MOST_BY_WORDS = 20_000
"""Videos of the collection whose fingerprints are read for visual words, some 70 kB each; of more, those that vectors
propose."""

COMPARISONS_AT_ONCE = 200
"""So many comparisons are lost at most where a run is killed."""

MOST_DECISIONS = 200
"""Pairs that a summary names of those that people decided."""

MOST_QUESTIONS = 50
"""Pairs that a person is asked about when fewer are doubtful."""


OUTPUTS = {
    "FINAL_RESULT": "unique_csv",
    "duplicates": "report_csv",
    "review": "review_csv",
    "invalid_urls": "invalid_csv",
    "failed_urls": "",
    "featureless_urls": "",
}
"""The lists that 06_search_and_clean writes, as `<name>.csv` into the run folder or where this parameter says."""


@dataclass(frozen=True, kw_only=True)
class ListSource:
    """Which file a stage reads, and the list that it goes back to."""

    path: Path
    url_column: str
    list_csv: Path
    """The file that the user named first."""
    list_rows: int | None
    """Its rows, None where this stage is the first to read it."""
    text_duplicates: int
    """Rows that 02_dedupe_urls took out before this stage."""

    @property
    def stem(self) -> str:
        """Name of the list without its endings; output files are named after it."""
        return list_stem(self.list_csv)

    def as_record(self, url_column: str, *, rows: int, text_duplicates: int = 0) -> Record:
        """How a stage record says which list it belongs to; `rows` are those of the file read, of which the stage
        took out `text_duplicates`."""
        return {
            "list": {
                "csv": str(self.list_csv),
                "rows": rows if self.list_rows is None else self.list_rows,
                "text_duplicates": self.text_duplicates + text_duplicates,
            },
            "url_column": url_column,
        }


def list_stem(path: Path) -> str:
    """`ads` for ads.csv and for ads.csv.gz."""
    name = path.name.removesuffix(".gz")
    return Path(name).stem


def locate_list(input_csv: str) -> Path:
    """The file that `input_csv` names: in the working directory, else in the project root. Where both hold one, a
    warning says which was taken.

    Raises SettingError for a web address.
    """
    if re.match("[a-z][a-z0-9+.-]+://", input_csv.strip(), re.IGNORECASE):
        remedy = (
            "give the path of the file, without file://"
            if input_csv.strip().lower().startswith("file:")
            else "download the list first, and give the path of the file"
        )
        raise SettingError("input_csv", input_csv, f"it is an address, not a file: {remedy}")
    found = find_inputs(input_csv)
    if len(found) > 1:
        warnings.warn(describe_choice(input_csv, found), stacklevel=2)
    return found[0] if found else resolve_path(input_csv)


def describe_choice(input_csv: str, found: Sequence[Path]) -> str:
    """Which of several files was taken for the list."""
    return f"input_csv = {input_csv!r} is {' and '.join(map(str, found))}: {found[0]} is read"


def find_first_list(run: RunFolder, *, input_csv: str, url_column: str) -> ListSource:
    """The list as the user has it: `input_csv`, or the one that this run folder was last used for.

    Raises RunFolderError when neither is known, and SettingError for an address, or a list that the run would write
    over.
    """
    record = run.read_record(DecodeSettings.stage)
    if not input_csv and record is None:
        raise RunFolderError(
            f"input_csv is empty, and {run.shown(run.path)} has not read a list yet: set input_csv to the CSV with the "
            "video URLs (make demo fills outputs/demo with an example)"
        )
    path = Path(record["list"]["csv"]) if record is not None and not input_csv else locate_list(input_csv)
    _check_place(run, path)
    return ListSource(path=path, url_column=url_column, list_csv=path, list_rows=None, text_duplicates=0)


def find_list(run: RunFolder, *, input_csv: str, url_column: str, after: Sequence[str]) -> ListSource:
    """The file that a stage reads: what the latest of the stages in `after` made of the list, else the list.

    `input_csv` names the list and may stay empty once an earlier notebook has read it in this run folder. Raises
    RunFolderError when it is empty and none has, or when they read different lists, and SettingError for an address or
    a list that the run would write over.
    """
    named = locate_list(input_csv) if input_csv else None
    if named is not None:
        _check_place(run, named)
    records = [record for stage in after if (record := run.read_record(stage)) is not None]
    lists = sorted({record["list"]["csv"] for record in records})
    if named is None and len(lists) > 1:
        raise RunFolderError(
            f"input_csv is empty, and the notebooks before this one read different lists in {run.shown(run.path)} "
            f"({', '.join(lists)}): set input_csv to one of them, or run those notebooks again with one list"
        )
    for record in records:
        if named is not None and named.resolve() != Path(record["list"]["csv"]).resolve():
            continue
        return ListSource(
            path=run.recorded_path(record, "output_csv"),
            url_column=url_column or record["url_column"],
            list_csv=Path(record["list"]["csv"]),
            list_rows=record["list"]["rows"],
            text_duplicates=record["list"]["text_duplicates"],
        )
    if named is None:
        raise RunFolderError(
            f"input_csv is empty, and {' or '.join(after)} has not run in {run.shown(run.path)}: set input_csv, or run "
            "the notebooks before this one with the same run_dir"
        )
    return ListSource(path=named, url_column=url_column, list_csv=named, list_rows=None, text_duplicates=0)


def _check_place(run: RunFolder, list_csv: Path) -> None:
    """Raises SettingError for a list that lies where 06_search_and_clean writes one."""
    for name in OUTPUTS:
        if is_same_place(list_csv, run.output_path("", f"{name}.csv")):
            raise SettingError(
                "input_csv",
                str(list_csv),
                f"06_search_and_clean would overwrite it with its {name}.csv; rename or move the list, or set another "
                "run_dir",
            )


def make_recipe(settings: ExtractSettings | CollectionsSettings, encoder: Encoder) -> Recipe:
    """The settings that change a vector."""
    return Recipe(
        encoder=encoder.name, model=encoder.model, num_frames=settings.num_frames, frame_span=settings.frame_span
    )


@dataclass(frozen=True, kw_only=True)
class VectorPlace:
    """Where the vectors of a run are."""

    store: str
    """Its address, without any secret."""
    collection: str
    """Empty for job folders."""

    def __str__(self) -> str:
        return f"{self.store}, collection {self.collection}" if self.collection else self.store

    def as_record(self) -> Record:
        """How a stage record says it."""
        return {"vectors": str(self)}


def find_place(run: RunFolder, settings: ExtractSettings | UploadSettings | SearchSettings) -> VectorPlace:
    """Where a notebook puts its vectors, or takes them from. Raises SettingError where the run must have a server and
    none is named, and StoreError where `MILVUS_URI` is no address."""
    address = StoreAddress.choose(settings.store, run)
    if isinstance(settings, ExtractSettings) and settings.mode == "batch":
        return VectorPlace(store=f"job folders, {settings.jobs_dir}", collection="")
    return VectorPlace(store=str(address), collection=settings.collection)


def jobs_path(run: RunFolder, jobs_dir: str) -> Path:
    """The folder of the job folders; a relative one lies in the run folder."""
    return run.path / expand_home(jobs_dir)


def choose_resources(run: RunFolder, *, monitor: ResourceMonitor) -> Record:
    """What extraction took of the machine, for the record of 03_extract: the samples of the longest call, which may be
    an earlier one in this run folder."""
    earlier: Record = {}
    # Of a damaged record nothing is kept; the one that follows replaces it.
    with suppress(RunFolderError):
        earlier = (run.read_record(ExtractSettings.stage) or {}).get("resources", {})
    samples: Record = monitor.as_record()
    if max(earlier.get("time_s", []), default=0.0) > max(samples["time_s"], default=0.0):
        return earlier
    return samples


def extract_list(
    run: RunFolder,
    urls: Sequence[str],
    *,
    settings: ExtractSettings,
    encoder: Encoder,
    progress: Callable[[int], object] = lambda count: None,
) -> tuple[ExtractReport, ResourceMonitor]:
    """Extract rows `start` to `end` of the list, straight to the store or into job folders.

    Raises RunFolderError when another process works on the run folder, or the disk refuses, and ClusterError when
    the cluster does.
    """
    recipe = make_recipe(settings, encoder)
    rows = range(len(urls))[settings.start : settings.end]
    with run.locked(settings.stage), Ledger(run.ledger_path, recipe) as ledger, ResourceMonitor() as monitor:

        def extract(sink: CollectionSink | JobSink) -> ExtractReport:
            return extract_videos(
                [urls[row] for row in rows],
                rows=rows,
                encoder=encoder,
                recipe=recipe,
                scan=Scan(step_s=settings.scan_step_s),
                sink=sink,
                ledger=ledger,
                limits=FetchLimits.of(settings),
                engine=settings.engine,
                workers=settings.workers,
                most_a_host=settings.most_a_host,
                retries=settings.retries,
                retry_failed=settings.retry_failed,
                batch_size=settings.batch_size,
                thumbnails_dir=run.thumbnails_dir,
                overwrite=settings.overwrite,
                progress=progress,
            )

        if settings.mode == "batch":
            return extract(JobSink(jobs_path(run, settings.jobs_dir), recipe)), monitor
        with Store(StoreAddress.choose(settings.store, run)) as store:
            collection = store.ensure_collection(
                settings.collection,
                pooling=Pooling.FIRST if settings.num_frames == 1 else Pooling.FRAMES,
                recipe=recipe,
                dimension=encoder.dimension,
                overwrite=settings.overwrite,
            )
            return extract(CollectionSink(collection)), monitor


@dataclass(frozen=True, kw_only=True)
class UploadReport:
    """What an upload left in the store."""

    facts: CollectionFacts
    jobs: int
    """Job folders uploaded."""
    other_recipes: int
    """Job folders left alone, because other settings made them."""


def upload_jobs(
    run: RunFolder, *, settings: UploadSettings, progress: Callable[[int], object] = lambda count: None
) -> UploadReport:
    """Upload the finished job folders, in batches, to a collection that is made when it is missing.

    Where 03_extract has run in this folder, its settings say which jobs count, and a list without a single
    readable video leaves an empty collection. Elsewhere RunFolderError is raised when there is no job, or when the
    jobs are of several recipes; and wherever another process works on the run folder.
    """
    pooling = Pooling(settings.vectors)
    jobs_dir = jobs_path(run, settings.jobs_dir)
    recipe, dimension = _recipe_to_upload(run, jobs_dir)
    uploaded = others = 0
    with run.locked(settings.stage), Store(StoreAddress.choose(settings.store, run)) as store:
        collection = store.ensure_collection(
            settings.collection, pooling=pooling, recipe=recipe, dimension=dimension, overwrite=settings.overwrite
        )
        batch = []
        for job in load_jobs(jobs_dir):
            if job.vectors is None or job.recipe != recipe:
                others += 1
                continue
            batch.append(pool_video(job.vectors, pooling))
            if len(batch) == UPSERT_ROWS:
                collection.upsert(batch)
                progress(len(batch))
                uploaded += len(batch)
                batch = []
        collection.upsert(batch)
        progress(len(batch))
        uploaded += len(batch)
        return UploadReport(facts=store.open_collection(settings.collection).facts, jobs=uploaded, other_recipes=others)


def _recipe_to_upload(run: RunFolder, jobs_dir: Path) -> tuple[Recipe, int]:
    """The recipe of the jobs that count, and the dimension of its vectors."""
    record = run.read_record(ExtractSettings.stage)
    if record is not None:
        return Recipe(**record["recipe"]), int(record["dimension"])
    recipes = {job.recipe: job.vectors.vectors.shape[1] for job in load_jobs(jobs_dir) if job.vectors is not None}
    if not recipes:
        raise RunFolderError(
            f"no job folder in {run.shown(jobs_dir)} holds a vector: run 03_extract with mode: batch first"
        )
    if len(recipes) > 1:
        raise RunFolderError(
            f"the job folders in {run.shown(jobs_dir)} were made with {len(recipes)} different settings, and "
            "03_extract has not run in this run folder to say which ones count: run it with the settings you want, or "
            "set jobs_dir"
        )
    return recipes.popitem()


@dataclass(frozen=True, kw_only=True)
class ExtractedList:
    """A list with what became of each of its URLs."""

    frame: pd.DataFrame
    url_column: str
    outcomes: Mapping[str, Outcome]
    list_csv: Path | None
    """The file that the user named; None for a list read from a collection."""
    list_rows: int
    text_duplicates: int
    recipe: Recipe | None
    """None for a list read from a collection: that one says how its vectors were made."""
    dialect: Dialect = PLAIN
    """In which the outputs are written."""
    existing: tuple[str, ...] = ()
    """URLs of videos that were in the collection before, in order. In all that is compared they stand for the rows
    behind those of the list; `outcomes` holds what is known of them."""
    ledgers: tuple[Path, ...] = ()
    """Of earlier runs, which hold their fingerprints."""

    @property
    def own_rows(self) -> int:
        """Rows of the list; those from here on are `existing`."""
        return len(self.frame)

    @property
    def name(self) -> str:
        """Of the list, for people."""
        return self.list_csv.name if self.list_csv is not None else "the collection"

    @property
    def own_urls(self) -> list[str]:
        """Of the rows of the list."""
        return list(self.frame[self.url_column])

    @property
    def urls(self) -> list[str]:
        """Of all rows, `existing` included."""
        return [*self.own_urls, *self.existing]

    def find_read(self) -> list[str]:
        """The URLs of the videos of the list that can be compared."""
        return [url for url in self.own_urls if outcome_of_row(url, self.outcomes).status == Status.OK]

    @property
    def traits(self) -> list[Traits]:
        """What the choice of a keeper looks at, of every row, `existing` included."""
        return [Traits.of(outcome_of_row(url, self.outcomes)) for url in self.urls]

    @property
    def own_outcomes(self) -> list[Outcome]:
        """What became of each row of the list."""
        return [outcome_of_row(url, self.outcomes) for url in self.own_urls]

    @property
    def compared_rows(self) -> list[int]:
        """Rows of the list that are compared with others."""
        return [row for row, outcome in enumerate(self.own_outcomes) if outcome.status == Status.OK]

    @property
    def without_vector(self) -> int:
        """Rows that are not compared with any other."""
        return len(self.frame) - len(self.compared_rows)

    @property
    def statuses(self) -> dict[Status, int]:
        """How many rows ended in each status."""
        return count_statuses(self.own_urls, self.outcomes)


def load_extracted_list(run: RunFolder, *, collection: str) -> ExtractedList:
    """The list that 03_extract worked through in this run folder, with the outcomes from the ledger.

    Where it has not run, the list is what the collection holds. Raises StoreError where there is none either.
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
    with Ledger(run.ledger_path, recipe) as ledger:
        outcomes = ledger.load()
    read = read_list(run.recorded_path(record, "input_csv"))
    return ExtractedList(
        frame=read.table,
        dialect=read.dialect,
        url_column=record["url_column"],
        outcomes=outcomes,
        list_csv=Path(record["list"]["csv"]),
        list_rows=record["list"]["rows"],
        text_duplicates=record["list"]["text_duplicates"],
        recipe=recipe,
    )


def find_filled_store(run: RunFolder, collection: str) -> StoreAddress:
    """The store to read a collection from. Raises StoreError for a file that is not there."""
    address = StoreAddress.find(run)
    if address.is_local and not run.lite_path.exists():
        raise missing_collection(collection, address)
    return address


class Bar(Protocol):
    """A progress bar, as tqdm's is."""

    total: float | None

    def update(self, n: float, /) -> object:
        """So much more is done."""

    def reset(self, total: float | None = None) -> object:
        """Start again at nothing."""

    def set_description(self, desc: str | None = None, refresh: bool | None = True) -> object:
        """Say what is counted."""


def begin_on(bar: Bar | None) -> Begin:
    """One step after the other on one bar, each with its own pace and time left."""
    if bar is None:
        return begin_silently
    known = ""

    def begin(step: str, count: int) -> Callable[[int], object]:
        nonlocal known
        if step == known:
            bar.total = count
        else:
            bar.reset(count)
            bar.set_description(step)
            known = step
        return bar.update

    return begin


def add_existing(
    run: RunFolder, listed: ExtractedList, *, settings: SearchSettings, bar: Bar | None = None
) -> ExtractedList:
    """The list with those videos of the collection behind its rows that were there before and may be the same as one of
    it; the list as it is unless `against_existing`.

    These are the videos whose vectors are alike; where pictures decide, all that have a fingerprint besides, as long as
    they are no more than `MOST_BY_WORDS`, for visual words find copies that vectors do not; and those of an earlier run
    whose URL the list repeats. `bar` shows one step after the other. Raises as `search_list` does, and RunFolderError
    for an earlier run without a ledger.
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
    own, begin = set(listed.own_urls), begin_on(bar)
    with Store(StoreAddress.choose(settings.store, run)) as store:
        collection = store.open_collection(settings.collection)
        plan = _plan_search(collection, listed, settings, store=str(store.address))
        before, with_words = _load_before(ledgers, plan.recipe, own)
        if settings.decide == "cosine" or len(with_words) > MOST_BY_WORDS:
            with_words = set()
        held: set[str] = set()

        def stream() -> Iterator[StoredRows]:
            progress = begin("looking through the collection", collection.facts.rows)
            for rows in collection.stream_rows():
                progress(len(rows.urls))
                held.update(with_words.intersection(rows.urls))
                yield rows

        near = find_near(
            _load_table(run, collection, listed, begin=begin),
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
    """The videos that were read in an earlier run, by URL."""
    with LedgerView(path) as view:
        outcomes = view.load_outcomes(recipe.key)
    return {url: outcome for url, outcome in outcomes.items() if outcome.status == Status.OK}


def _load_before(ledgers: Sequence[Path], recipe: Recipe, own: AbstractSet[str]) -> tuple[dict[str, Outcome], set[str]]:
    """What is known of videos that are not in the list, and which of them have fingerprints."""
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


def find_matches(run: RunFolder, listed: ExtractedList, *, settings: SearchSettings, bar: Bar | None = None) -> Matches:
    """Compare every video of the list with every other, as `search_list` does, and apply what people decided.

    Raises what `search_list` does, and ListError where decisions contradict each other.
    """
    keeper = KeeperPolicy(name=settings.keep, traits=listed.traits, own_rows=listed.own_rows)
    weighed, plan = search_list(run, listed, settings=settings, keeper=keeper, bar=bar)
    same, different = load_row_decisions(run, listed, settings=settings)
    return Matches(
        weighed=weighed,
        plan=plan,
        urls=listed.urls,
        compared_rows=listed.compared_rows,
        own_rows=listed.own_rows,
        keeper=keeper.knowing(weighed.marks),
        same=same,
        different=different,
    )


def search_list(
    run: RunFolder,
    listed: ExtractedList,
    *,
    settings: SearchSettings,
    keeper: KeeperPolicy = FIRST_SEEN,
    bar: Bar | None = None,
) -> tuple[Weighed, SearchPlan]:
    """Compare every video of the list with every other.

    The vectors of a collection propose pairs, and so do visual words; what the pictures say of these decides. With
    `decide: cosine` the vectors alone do. `keeper` names the video to keep of several. `bar` shows one
    step after the other.

    Raises StoreError when the collection was made by other settings than the run's, or lacks vectors of it,
    RunFolderError when the run folder lacks fingerprints, and SettingError when the sweep would end before it starts,
    or an output would be written over a list.
    """
    find_outputs(run, listed, settings=settings)
    begin = begin_on(bar)
    with Store(StoreAddress.choose(settings.store, run)) as store:
        collection = store.open_collection(settings.collection)
        plan = _plan_search(collection, listed, settings, store=str(store.address))
        table = _load_table(run, collection, listed, begin=begin)
        proposal, done = _propose(
            table, collection, listed, settings=settings, floor=plan.floor, store=plan.store, begin=begin
        )
        plan = replace(plan, search=done)
    scored = score_pairs(
        table,
        proposal,
        rows=len(listed.urls),
        floor=plan.floor,
        max_pairs=settings.max_pairs,
        own_rows=listed.own_rows,
    )
    if settings.decide == "cosine":
        return Weighed.by_cosine(scored), plan
    line_of = {int(row): line for line, rows in enumerate(table.rows) for row in rows}

    def cosine_of(first: int, second: int) -> float:
        lines = line_of.get(first), line_of.get(second)
        return math.nan if lines[0] is None or lines[1] is None else table.match_frames(lines[0], lines[1])

    with ExitStack() as stack:
        own = stack.enter_context(Ledger(run.ledger_path, plan.recipe))
        kind = _check_fingerprints(run, own, listed.find_read())
        earlier = [stack.enter_context(LedgerView(path)) for path in listed.ledgers]
        read = set(listed.find_read())
        urls = listed.urls

        def load(row: int) -> bytes | None:
            url = urls[row]
            if row < listed.own_rows:
                # A video that fails now may have left a fingerprint when it did not.
                found = [own.load_fingerprints([url])] if url in read else []
            else:
                found = [ledger.load_fingerprints([url]) for ledger in ([] if url in read else [own]) + earlier]
            return next((one[url][1] for one in found if url in one and one[url][0] == kind), None)

        comparisons = Comparisons(own, urls[: listed.own_rows])
        try:
            weighed = weigh_list(
                StoredFingerprints(load, rows=len(urls)),
                scored=scored,
                durations_s=[outcome_of_row(url, listed.outcomes).duration_s for url in urls],
                rules=replace(plan.rules, min_score=plan.sweep_low),
                keeps_excerpts=settings.excerpts == "keep",
                max_candidates=settings.max_candidates,
                damp_hubs=settings.damp_hubs,
                cosine_of=cosine_of,
                choose_knowing=lambda marks: keeper.knowing(marks).choose,
                own_rows=listed.own_rows,
                strict_cosine=DEFAULT_THRESHOLDS[plan.recipe.encoder],
                recall=comparisons.recall,
                remember=comparisons.remember,
                begin=begin,
            )
            comparisons.save()
        except ValueError as error:
            raise RunFolderError(
                f"{run.shown(run.ledger_path)} is damaged ({error}): move it away, then {FINGERPRINT_REMEDY}"
            ) from None
    return weighed, plan


class Comparisons:
    """What was found about pairs of a list, in the ledger of its run: a run that goes on, or that decides by another
    threshold, compares only what is new. `urls` are those of the list's rows."""

    def __init__(self, ledger: Ledger, urls: Sequence[str]) -> None:
        self._ledger = ledger
        self._keys = [video_key(url) for url in urls]
        self._method = find_method()
        self._waiting: list[tuple[str, str, str]] = []

    def recall(self, first: int, second: int) -> Evidence | None:
        """What the fingerprints of two rows said, None where that is not known: they are new, or the code is."""
        # What was there before the list has its fingerprint in the ledger of another run.
        if max(first, second) >= len(self._keys):
            return None
        keys = self._keys[first], self._keys[second]
        text = self._ledger.load_comparison(*keys, method=self._method)
        if text is not None:
            return unpack_evidence(text)
        # In a list of another order.
        text = self._ledger.load_comparison(*reversed(keys), method=self._method)
        return unpack_evidence(text).exchanged() if text is not None else None

    def remember(self, found: Evidence) -> None:
        """Note what was found about two rows; written by the hundred."""
        if max(found.first, found.second) >= len(self._keys):
            return
        self._waiting.append((self._keys[found.first], self._keys[found.second], pack_evidence(found)))
        if len(self._waiting) >= COMPARISONS_AT_ONCE:
            self.save()

    def save(self) -> None:
        """Write what waits."""
        self._ledger.record_comparisons(self._waiting, method=self._method)
        self._waiting.clear()


def _load_table(run: RunFolder, collection: Collection, listed: ExtractedList, *, begin: Begin) -> VectorTable:
    """The vectors of the list, taken out of the store once. Raises StoreError where some are missing."""
    rows: dict[str, list[int]] = {}
    for row, url in enumerate(listed.urls):
        if outcome_of_row(url, listed.outcomes).status == Status.OK:
            rows.setdefault(url, []).append(row)
    wanted = list(rows)
    missing: list[str] = []

    def load() -> Iterator[tuple[int, VideoVectors]]:
        progress = begin("reading vectors", len(wanted))
        for start in range(0, len(wanted), READ_ROWS):
            urls = wanted[start : start + READ_ROWS]
            progress(len(urls))
            stored = collection.load_vectors(urls)
            missing.extend(url for url in urls if url not in stored and rows[url][0] < listed.own_rows)
            for url, vectors in stored.items():
                for row in rows[url]:
                    yield row, vectors

    positions = collection.recipe.num_frames if collection.holds_frames else 1
    table = VectorTable.collect(load(), positions=positions, dimension=collection.facts.dimension, folder=run.path)
    if missing:
        raise StoreError(
            f"{len(missing)} of {len(rows)} videos have no vector in the collection {collection.facts.name!r}, "
            f"such as {missing[0]}: run 03_extract (direct flow) or 05_upload (batch flow) again first"
        )
    return table


def _propose(
    table: VectorTable,
    collection: Collection,
    listed: ExtractedList,
    *,
    settings: SearchSettings,
    floor: float,
    store: str,
    begin: Begin,
) -> tuple[Proposal, SearchDone]:
    """The pairs that vectors propose, and how they were searched.

    Raises SettingError when the index found less than `min_recall` of what is there.
    """
    method, why = choose_search(settings.search, videos=len(table), width=table.width)
    # Of more, the pictures are not compared.
    each = settings.max_candidates if settings.decide == "evidence" and settings.damp_hubs else None
    if method == "exact":
        device = find_device(videos=len(table), width=table.width)
        proposal = join_exactly(table, floor=floor, max_pairs=settings.max_pairs, each=each, device=device, begin=begin)
        return proposal, SearchDone(method=method, why=why, on=device)
    collection.ensure_index(settings.index, parse_numbers("index_params", settings.index_params))
    params = parse_numbers("search_params", settings.search_params)
    urls = listed.urls
    proposal = join_by_search(
        table,
        partial(collection.search, params=params),
        floor=floor,
        top_k=settings.top_k,
        largest_top_k=LARGEST_TOP_K,
        max_pairs=settings.max_pairs,
        each=each,
        line_of={video_key(urls[row]): line for line, rows in enumerate(table.rows) for row in rows},
        begin=begin,
    )
    audit = audit_proposal(
        table,
        proposal,
        floor=floor,
        videos=settings.audit_videos,
        max_pairs=settings.max_pairs,
        each=each,
        begin=begin,
    )
    if audit.recall is not None and audit.recall < settings.min_recall:
        raise SettingError(
            "search_params",
            settings.search_params,
            f"the index finds only {audit.found:,} of the {audit.pairs:,} pairs of {audit.videos:,} videos "
            f"({audit.recall:.1%}), and min_recall asks for {settings.min_recall:.1%}. Raise the number in "
            "search_params (nprobe, ef), or set search: exact",
        )
    return proposal, SearchDone(method=method, why=why, on=store, index=settings.index, audit=audit)


def _plan_search(collection: Collection, listed: ExtractedList, settings: SearchSettings, *, store: str) -> SearchPlan:
    recipe = collection.recipe
    if listed.recipe not in (None, recipe):
        raise StoreError(
            f"the collection {settings.collection!r} was filled with other settings than 03_extract used here.\n"
            f"it holds:  {recipe.to_json()}\nthis run:  {listed.recipe.to_json() if listed.recipe else '?'}\n"
            "run 03_extract (and 05_upload in the batch flow) with the settings you want, or set collection to another "
            "one"
        )
    if settings.decide == "cosine":
        threshold = settings.cosine_thresh if settings.cosine_thresh is not None else DEFAULT_THRESHOLDS[recipe.encoder]
    else:
        threshold = settings.min_score
    low = min(_find_sweep_low(settings, recipe), threshold)
    high = settings.sweep_high if settings.sweep_high is not None else 1.0
    if high <= low:
        raise SettingError("sweep_high", high, f"it must be above {low:g}, where the sweep starts")
    return SearchPlan(
        store=store,
        collection=settings.collection,
        pooling=collection.pooling,
        recipe=recipe,
        measure="cosine" if settings.decide == "cosine" else "score",
        threshold=threshold,
        review_from=settings.review_from,
        versions=settings.versions,
        sweep_low=low,
        sweep_high=high,
        floor=low if settings.decide == "cosine" else SWEEP_LOWS[recipe.encoder],
    )


def _find_sweep_low(settings: SearchSettings, recipe: Recipe) -> float:
    """Where a sweep starts, unless the threshold lies below it."""
    if settings.sweep_low is not None:
        return settings.sweep_low
    return SWEEP_LOWS[recipe.encoder] if settings.decide == "cosine" else settings.review_from


def _check_fingerprints(run: RunFolder, ledger: Ledger, urls: Sequence[str]) -> str:
    """The kind of the fingerprints of these videos; "" of no video. Raises RunFolderError unless all have one that can
    be compared."""
    kinds = ledger.load_kinds()
    missing = [url for url in urls if video_key(url) not in kinds]
    if missing:
        raise RunFolderError(
            f"{len(missing)} of {len(urls)} videos have no fingerprint in {run.shown(run.ledger_path)}, such as "
            f"{missing[0]}: {FINGERPRINT_REMEDY}"
        )
    found = sorted({kinds[video_key(url)] for url in urls})
    if len(found) > 1:
        raise RunFolderError(
            f"the fingerprints in {run.shown(run.ledger_path)} were made with different settings "
            f"({'; '.join(found)}) and cannot be compared: {FINGERPRINT_REMEDY}"
        )
    return found[0] if found else ""


def find_decisions(run: RunFolder, listed: ExtractedList, *, settings: SearchSettings) -> Path:
    """Where the decisions of a person about this list lie: `decisions_csv`, or beside the list; for a list that was
    read from a collection, in the run folder."""
    if settings.decisions_csv:
        return resolve_path(settings.decisions_csv)
    return decisions_path(listed.list_csv if listed.list_csv is not None else run.path / "list.csv")


def open_decisions(run: RunFolder, listed: ExtractedList, *, settings: SearchSettings) -> DecisionFile:
    """The decisions of a person about this list, to add to. Raises ListError for a file that is none."""
    return DecisionFile(find_decisions(run, listed, settings=settings))


def load_row_decisions(run: RunFolder, listed: ExtractedList, *, settings: SearchSettings) -> tuple[RowPairs, RowPairs]:
    """The rows of the list that a person called the same, and those called different.

    Raises ListError for a file that cannot be understood or contradicts itself.
    """
    found = (outcome_of_row(url, listed.outcomes) for url in listed.urls)
    urls = [outcome.url if outcome.status in KEPT_STATUSES else None for outcome in found]
    return rows_of_decisions(load_decisions(find_decisions(run, listed, settings=settings)), urls)


def list_decided(run: RunFolder, listed: ExtractedList, *, settings: SearchSettings) -> list[tuple[Decision, str, str]]:
    """The decisions of people that bear on this list, each with its two URLs: both are videos that could be read.

    Raises ListError for a file of decisions that cannot be understood.
    """
    urls = {url for url in listed.urls if outcome_of_row(url, listed.outcomes).status in KEPT_STATUSES}
    memory = load_decisions(find_decisions(run, listed, settings=settings))
    return [
        (decision, first, second)
        for decision in Decision
        for first, second in list_pairs(memory, decision)
        if {first, second} <= urls
    ]


def clean_by_evidence(
    listed: ExtractedList,
    *,
    groups: Sequence[Group],
    matches: Matches,
    auto_clean: bool,
) -> CleanedList:
    """Share out the rows of the list, with the evidence for each copy in its row. Raises AccountingError."""

    weighed, plan = matches.weighed, matches.plan
    members = {group.number: {group.kept, *group.copies} for group in groups}
    similarities = {
        copy: similarity for group in groups for copy, similarity in zip(group.copies, group.similarities, strict=True)
    }

    def describe(group: Group, copy: int) -> dict[str, object]:
        row = describe_evidence(weighed, kept=group.kept, copy=copy, rules=plan.rules)
        if not is_match(similarities[copy], plan.threshold):
            row |= {"verdict": str(Verdict.DUPLICATE), "rule": str(Rule.PERSON)}
        near = find_next_score(weighed, row=copy, group=members[group.number])
        return {name: value for name, value in row.items() if name != "score"} | {"next_score": near}

    return clean_list(
        listed.frame,
        url_column=listed.url_column,
        outcomes=listed.outcomes,
        groups=groups,
        auto_clean=auto_clean,
        why=matches.keeper.why,
        describe=describe,
        described=[name for name in COLUMNS if name != "score"],
        existing=listed.existing,
    )


def list_doubtful(
    matches: Matches,
    *,
    groups: Sequence[Group],
) -> pd.DataFrame:
    """The pairs that a person should look at, as in review.csv, the most uncertain first. Pairs that a person decided
    about are left out."""
    pairs = find_doubtful(matches.weighed, rules=matches.plan.rules, groups=groups, decided=matches.decided)
    rows = _describe_pairs(pairs, matches)
    names = ["first_url", "second_url", *(name for name in COLUMNS if name != "next_score")]
    return pd.DataFrame(rows, columns=names, dtype=object)


def _describe_pairs(pairs: Iterable[tuple[int, int]], matches: Matches) -> list[dict[str, object]]:
    return [
        {"first_url": matches.urls[first], "second_url": matches.urls[second]}
        | describe_evidence(matches.weighed, kept=first, copy=second, rules=matches.plan.rules)
        for first, second in pairs
    ]


def list_questions(matches: Matches, *, groups: Sequence[Group]) -> list[dict[str, object]]:
    """Pairs for a person to decide about, as rows of review.csv: the doubtful ones first and then those nearest to the
    threshold. Pairs that a person decided about are left out."""
    plan, decided = matches.plan, matches.decided
    doubtful = find_doubtful(matches.weighed, rules=plan.rules, groups=groups, decided=decided)
    open_pairs = [pair for pair in matches.weighed.pairs if (pair.first, pair.second) not in decided]
    above, below = borderline_pairs(open_pairs, threshold=plan.threshold, count=MOST_QUESTIONS)
    near = sorted([*above, *below], key=lambda pair: (abs(pair.similarity - plan.threshold), pair))
    asked = list(dict.fromkeys([*doubtful, *((pair.first, pair.second) for pair in near)]))
    return _describe_pairs(asked[: max(MOST_QUESTIONS, len(doubtful))], matches)


def find_outputs(run: RunFolder, listed: ExtractedList, *, settings: SearchSettings) -> dict[str, Path]:
    """Where 06_search_and_clean writes each of its lists.

    Raises SettingError where one would be written over another, or over what the run was given: the list, what the
    notebooks before made of it, and the decisions of a person.
    """
    records = [record for stage in FLOWS["direct"][:-1] if (record := run.read_record(stage)) is not None]
    taken = [(run.recorded_path(record, name), record["stage"]) for record in records for name in record["files"]]
    taken.append((find_decisions(run, listed, settings=settings), "the decisions of a person"))
    if listed.list_csv is not None:
        taken.insert(0, (listed.list_csv, "the list"))
    found = {}
    for name, parameter in OUTPUTS.items():
        path = run.output_path(getattr(settings, parameter) if parameter else "", f"{name}.csv")
        for place, what in taken:
            if is_same_place(path, place):
                raise SettingError(
                    parameter or name,
                    str(path),
                    f"this file is already used for {what}; name another one, or rename the list",
                )
        taken.append((path, f"{name}.csv"))
        found[name] = path
    return found


def save_outputs(
    run: RunFolder, listed: ExtractedList, cleaned: CleanedList, *, review: pd.DataFrame, settings: SearchSettings
) -> dict[str, Path]:
    """Save the outputs of a run as CSV, written down as the list is; returns where each lies, that of 02_dedupe_urls
    included.

    Raises RunFolderError when another process works on the run folder, or the disk refuses, and SettingError when one
    would be written over another list.
    """
    tables = {
        "FINAL_RESULT": cleaned.final,
        "duplicates": cleaned.duplicates,
        "review": review,
        "invalid_urls": cleaned.invalid,
        "failed_urls": cleaned.failed,
        "featureless_urls": cleaned.featureless,
    }
    files = find_outputs(run, listed, settings=settings)
    with run.locked(settings.stage):
        for name, path in files.items():
            save_table(tables[name], path, dialect=listed.dialect)
    deduped, extracted = run.read_record(DedupeUrlsSettings.stage), run.read_record(ExtractSettings.stage)
    # What 02 did to another list says nothing about this one.
    if deduped is not None and extracted is not None and deduped["list"] == extracted["list"]:
        files["text_duplicates"] = run.recorded_path(deduped, "text_duplicates")
    return files


def write_summary(
    run: RunFolder,
    *,
    listed: ExtractedList,
    cleaned: CleanedList,
    groups: Sequence[Group],
    matches: Matches,
    settings: SearchSettings,
    review: pd.DataFrame,
    files: Mapping[str, Path],
) -> dict[str, Any]:
    """Save and return summary.json: what went in, what came out, and by which settings.

    Raises AccountingError unless every row of the list, text duplicates included, is in exactly one output.
    """
    rows = {"input": listed.list_rows, "text_duplicates": listed.text_duplicates, **cleaned.count_rows()}
    if rows["input"] != sum(count for name, count in rows.items() if name != "input"):
        raise AccountingError(
            f"the rows of {listed.name} do not add up: {rows}. Run all notebooks again in this run folder, in order, "
            "on one list"
        )
    weighed, plan = matches.weighed, matches.plan
    decided = list_decided(run, listed, settings=settings)
    summary = {
        "version": __version__,
        "list": listed.name,
        "flow": [*_find_stages(run), SearchSettings.stage],
        "rows": rows,
        "statuses": {str(status): count for status, count in listed.statuses.items()},
        "reading": asdict(Reading.of(listed.own_outcomes)),
        "causes": [asdict(cause) for cause in find_causes(listed.own_outcomes)],
        "featureless": len(cleaned.featureless),
        "guarded_cells": _count_guarded(cleaned, files),
        "decision": {
            "measure": plan.measure,
            "threshold": plan.threshold,
            "encoder": plan.recipe.encoder,
            "model": plan.recipe.model,
            "num_frames": plan.recipe.num_frames,
            "frame_span": plan.recipe.frame_span,
            "schema": plan.pooling.schema,
            "pooling": plan.pooling,
            "keep": settings.keep,
            "groups": len(groups),
            "largest_group": max((group.size for group in groups), default=0),
            "store": plan.store,
            "collection": plan.collection,
            "pairs": len(weighed.pairs),
            "weighed": len(weighed.evidence),
            "review": len(review),
            "searched_deeper": weighed.searched_deeper,
        },
        "existing": {
            "compared": len(listed.existing),
            "repeated": int(cleaned.duplicates["duplicate_of"].isin(listed.existing).sum()),
        },
        "search": asdict(plan.search) if plan.search is not None else None,
        "recipe": asdict(plan.recipe),
        "decisions": {
            **{str(kind): sum(decision is kind for decision, *_ in decided) for kind in Decision},
            # By key, for a URL may hold a password.
            "pairs": [
                [str(decision), video_key(first), video_key(second)]
                for decision, first, second in decided[:MOST_DECISIONS]
            ],
        },
        "files": {name: run.shown_in_run(path) for name, path in files.items()},
        "digests": {name: digest_file(files[name]) for name in OUTPUTS if name in files},
    }
    with run.locked(SearchSettings.stage):
        write_text_atomically(run.path / "summary.json", json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    return summary


def check_reading(listed: ExtractedList, *, settings: SearchSettings) -> None:
    """The last check of a run, when all is written: raises FailedRowsError where a larger share of the rows than
    `fail_above` could not be read."""
    outcomes = listed.own_outcomes
    check_failures(Reading.of(outcomes), find_causes(outcomes), fail_above=settings.fail_above)


def _count_guarded(cleaned: CleanedList, files: Mapping[str, Path]) -> int:
    """Cells that got an apostrophe, in all outputs that share out the rows of the list."""
    tables = [cleaned.final, cleaned.duplicates, cleaned.invalid, cleaned.failed]
    # The report of 02 may be moved; its rows are counted by its record.
    if "text_duplicates" in files:
        with suppress(ListError):
            tables.append(load_table(files["text_duplicates"]))
    return sum(map(count_guarded, tables))


def save_compared_pairs(run: RunFolder, matches: Matches) -> pd.DataFrame:
    """Save every pair that was compared as pairs.parquet, for questions and plots; returns the table.

    Raises RunFolderError when another process works on the run folder, or the disk refuses.
    """
    table = matches.to_frame()
    with run.locked(SearchSettings.stage):
        save_pairs(table, run.pairs_path)
    return table


def save_sweep(run: RunFolder, matches: Matches, *, settings: SearchSettings) -> None:
    """Save what other thresholds would decide as sweep.json, for the overview of the run. It is exact unless the
    threshold lies below the usual start of a sweep: a run at another one would weigh other pairs then.

    Raises RunFolderError when another process works on the run folder, or the disk refuses.
    """
    plan = matches.plan
    found = describe_sweep(
        matches.weighed,
        thresholds=round_thresholds(plan.sweep_low, plan.sweep_high, threshold=plan.threshold),
        threshold=plan.threshold,
        num_videos=len(matches.compared_rows),
        urls=matches.urls,
        choose=matches.keeper.choose,
        same=matches.same,
        different=matches.different,
        own_rows=matches.own_rows,
    )
    is_exact = plan.sweep_low == _find_sweep_low(settings, plan.recipe)
    whole = {"parameter": plan.parameter, "measure": plan.measure, "is_exact": is_exact} | found
    with run.locked(settings.stage):
        write_text_atomically(run.sweep_path, json.dumps(whole, ensure_ascii=False, separators=(",", ":")) + "\n")


def _find_stages(run: RunFolder) -> list[str]:
    """The stages before 06_search_and_clean whose work its outputs rest on."""
    extracted = run.read_record(ExtractSettings.stage)
    flow = FLOWS[extracted["settings"]["mode"] if extracted is not None else "direct"]
    return [stage for stage in flow if stage != SearchSettings.stage and run.read_record(stage) is not None]


_POOLING_OF_NEW = {
    Schema.VIDEO_DEDUP: Pooling.FIRST,
    Schema.VIDEO_FRAMES: Pooling.FRAMES,
    Schema.AGGREGATED: Pooling.AVERAGE,
}


def manage_collections(run: RunFolder, settings: CollectionsSettings) -> pd.DataFrame:
    """Ping the store, or list, create, rename or drop collections; returns what is there afterwards, one row each.

    For `ping` the row is the server: its address, without any secret, and its version.
    """
    address = StoreAddress.choose(settings.store, run)
    if address.is_local:
        run.make()
    with Store(address) as store:
        match settings.action:
            case "ping":
                return pd.DataFrame([{"store": str(store.address), "version": store.ping(), "answers": "yes"}])
            case "create":
                encoder = load_encoder(settings.encoder, model=settings.model)
                store.create_collection(
                    settings.collection,
                    pooling=_POOLING_OF_NEW[Schema(settings.schema)],
                    recipe=make_recipe(settings, encoder),
                    dimension=encoder.dimension,
                )
            case "rename":
                store.rename_collection(settings.collection, settings.new_name)
            case "drop":
                store.drop_collection(settings.collection)
        return pd.DataFrame(
            [
                {
                    "collection": facts.name,
                    "rows": facts.rows,
                    "schema": str(facts.schema or "unknown"),
                    "dimension": facts.dimension,
                    "recipe": facts.recipe.to_json() if facts.recipe else "unknown",
                    "sample": ", ".join(str(row.get("url", "")) for row in store.sample_rows(facts.name)),
                }
                for facts in store.list_collections()
            ],
            columns=["collection", "rows", "schema", "dimension", "recipe", "sample"],
        )

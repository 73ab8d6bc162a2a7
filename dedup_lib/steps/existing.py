"""02, 06: what was read before the list, by earlier runs or into its collection."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from dedup_lib.errors import RunFolderError, SettingError, StoreError
from dedup_lib.groups.grouping import components, neighbours
from dedup_lib.match.known_videos import find_near
from dedup_lib.match.vector_table import VectorTable
from dedup_lib.records import Outcome, Progress, Recipe, Status, StoredRows, video_key
from dedup_lib.run.files import write_file_atomically
from dedup_lib.run.folder import RunFolder, describe_known_runs, thumbnail_path
from dedup_lib.run.ledger import LedgerView
from dedup_lib.run.paths import is_same_place
from dedup_lib.settings import SearchSettings
from dedup_lib.steps.bar import Bar, progress_on
from dedup_lib.steps.extracted_list import ExtractedList, StoredVideos
from dedup_lib.steps.review import load_memory
from dedup_lib.steps.search_plan import load_vector_table, plan_search
from dedup_lib.store.address import StoreAddress
from dedup_lib.store.collection import Collection
from dedup_lib.store.store import Store

MAX_BY_WORDS = 20_000
"""The most videos of the collection whose fingerprints are read for visual words, about 70 kB each. Of a larger
collection, only the videos that vectors propose are read."""


def find_earlier(run: RunFolder, names: Sequence[str]) -> list[RunFolder]:
    """The run folders that `existing_runs` names.

    Raises SettingError where it names the run itself, and RunFolderError for a folder that is gone or has no ledger.
    """
    folders = [RunFolder(name) for name in names]
    for name, folder in zip(names, folders, strict=True):
        if is_same_place(folder.path, run.path):
            raise SettingError("existing_runs", name, "it is the folder of this run itself; name the runs before it")
        if not folder.path.is_dir():
            raise RunFolderError(
                f"existing_runs names {run.shown(folder.path)}, and there is no such folder (any more); "
                f"{describe_known_runs()}: put it back, or name its new place"
            )
        if not folder.ledger_path.is_file():
            raise RunFolderError(
                f"existing_runs names {run.shown(folder.path)}, which holds no ledger.sqlite: name the folders of runs "
                "that have read their videos"
            )
    return folders


def find_earlier_store(folder: RunFolder, settings: SearchSettings) -> StoreAddress | None:
    """The store of an earlier run; None for a run without one, where the collection of this run has its vectors.

    Raises StoreError where its Milvus Lite file is missing.
    """
    address = StoreAddress.find(folder)
    if not address.is_local or folder.lite_path.exists():
        return address
    if settings.against_existing:
        return None
    raise StoreError(
        f"{folder.shown(folder.lite_path)} is missing, which holds the vectors of a run that existing_runs names: put "
        "it back, give that run's command again, or leave that run out of existing_runs"
    )


def load_known_urls(run: RunFolder, existing_runs: Sequence[str]) -> dict[str, str]:
    """Every URL whose video an earlier run has read, with the name of the first such run. Raises as `find_earlier`."""
    known: dict[str, str] = {}
    for folder in find_earlier(run, existing_runs):
        with LedgerView(folder.ledger_path) as view:
            for url in view.list_kept():
                known.setdefault(url, folder.path.name)
    return known


@dataclass(frozen=True)
class _Pool:
    """A collection to look through."""

    address: StoreAddress
    collection: str
    urls: AbstractSet[str] | None
    """The URLs that count there; None: all of them."""

    @property
    def place(self) -> tuple[str, str]:
        return self.address.uri, self.collection


def add_existing(
    run: RunFolder, listed: ExtractedList, *, settings: SearchSettings, bar: Bar | None = None
) -> ExtractedList:
    """Add earlier videos to the list, after its rows: those that may be copies of a listed video.

    They come from the runs that `existing_runs` names, each from the store of that run, and with `against_existing`
    also from everything else in the collection of this run. Without the two, returns the list unchanged. The added
    videos are:

    - the videos whose vectors are similar;
    - where frames decide, also every video with a fingerprint, if there are at most `MAX_BY_WORDS`, because visual
      words find copies that vectors do not find;
    - the videos about which a person decided together with a listed one;
    - the videos of an earlier run whose URL the list repeats, where the list could read them too.

    `bar` shows one step after the other. Raises as `search_list` and `find_earlier` do, and StoreError for an earlier
    run that made its vectors with other settings.
    """
    if not settings.against_existing and not settings.existing_runs:
        return listed
    earlier = find_earlier(run, settings.existing_runs)
    own, begin = set(listed.own_urls), progress_on(bar)
    address = StoreAddress.choose(settings.store, run)
    with Store(address) as store:
        collection = store.open_collection(settings.collection)
        plan = plan_search(collection, listed, settings, store=str(store.address))
        made_by = _made_by(collection)
        table = load_vector_table(run, collection, listed, begin=begin)
    ledgers = [run.ledger_path] if settings.against_existing else []
    ledgers += [folder.ledger_path for folder in earlier]
    outcomes = {path: _load_read(path, plan.recipe) for path in ledgers if path.is_file()}
    before, with_words = _find_before(outcomes, own)
    if settings.decide == "cosine" or len(with_words) > MAX_BY_WORDS:
        with_words = set()
    # What follows from decisions counts too, also by way of videos that nobody has read.
    decided = neighbours((min(pair), max(pair)) for pair in load_memory(run, listed, settings=settings))
    told = {url for urls in components(decided) if not own.isdisjoint(urls) for url in urls}
    read = [set(outcomes[folder.ledger_path]) for folder in earlier]
    everything = _Pool(address, settings.collection, None)
    existing: set[str] = set()
    stored: list[StoredVideos] = []
    for pool in _find_pools(everything, zip(earlier, read, strict=True), settings):
        with Store(pool.address) as store:
            collection = store.open_collection(pool.collection)
            if _made_by(collection) != made_by:
                raise StoreError(
                    f"the vectors of an earlier run ({pool.collection!r} in {pool.address}) were made with other "
                    "settings than those of this run, and the two cannot be compared: use one profile for both, or "
                    "leave that run out of existing_runs"
                )
            found = _look_through(
                collection,
                pool,
                table,
                own=own | existing,
                others=with_words | told,
                floor=plan.floor,
                max_pairs=settings.max_pairs,
                begin=begin,
            )
        existing |= found
        if pool.place != everything.place:
            stored.append(StoredVideos(address=pool.address, collection=pool.collection, urls=tuple(sorted(found))))
    compared = {outcome.url for outcome in listed.own_outcomes if outcome.status == Status.OK}
    urls = tuple(sorted(existing.union(*(compared & urls for urls in read))))
    # This run may have tried one of them for an older list, and failed.
    known = {url: before.get(url) or Outcome(url=url, status=Status.OK) for url in urls if url not in own}
    return replace(
        listed,
        existing=urls,
        outcomes={**listed.outcomes, **known},
        ledgers=tuple(folder.ledger_path for folder in earlier),
        stored=tuple(stored),
    )


def _made_by(collection: Collection) -> tuple[object, ...]:
    """What two collections must have in common, so that their vectors can be compared."""
    return collection.recipe, collection.pooling, collection.facts.dimension


def _find_pools(
    everything: _Pool, earlier: Iterable[tuple[RunFolder, AbstractSet[str]]], settings: SearchSettings
) -> list[_Pool]:
    """The collections to look through, each once. Raises StoreError where the vectors of an earlier run are gone."""
    pools = {everything.place: everything} if settings.against_existing else {}
    for folder, urls in earlier:
        address = find_earlier_store(folder, settings)
        if address is None:
            continue
        record = folder.read_record(SearchSettings.stage)
        collection = record["settings"]["collection"] if record is not None else settings.collection
        pool = _Pool(address, collection, urls)
        before = pools.get(pool.place)
        if before is None:
            pools[pool.place] = pool
        elif before.urls is not None:
            pools[pool.place] = replace(before, urls=before.urls | urls)
    return list(pools.values())


def _look_through(
    collection: Collection,
    pool: _Pool,
    table: VectorTable,
    *,
    own: AbstractSet[str],
    others: AbstractSet[str],
    floor: float,
    max_pairs: int,
    begin: Progress,
) -> set[str]:
    """The videos of a collection that are near one of the table, or among `others`; `own` do not count."""
    candidates = others - own if pool.urls is None else (others & pool.urls) - own
    own_keys = set(map(video_key, own))
    keys = None if pool.urls is None else set(map(video_key, pool.urls))
    held: set[str] = set()

    def stream() -> Iterator[StoredRows]:
        progress = begin("looking through the collection", collection.facts.rows)
        for rows in collection.stream_rows():
            progress(len(rows.urls))
            held.update(candidates & set(rows.urls))
            yield rows

    near = find_near(
        table,
        stream(),
        floor=floor,
        is_wanted=lambda key: key not in own_keys and (keys is None or key in keys),
        max_pairs=max_pairs,
    )
    return {*near, *held}


def copy_storyboards(run: RunFolder, listed: ExtractedList, urls: Iterable[str]) -> None:
    """Copy the storyboards of earlier runs' videos into this run, for its pages and its app."""
    for url in urls:
        target = thumbnail_path(url, thumbnails_dir=run.thumbnails_dir)
        sources = [path.parent / target.relative_to(run.path) for path in listed.ledgers]
        source = next((path for path in sources if path.is_file()), None)
        if source is not None and not target.exists():
            write_file_atomically(target, partial(shutil.copyfile, source))


def _load_read(path: Path, recipe: Recipe) -> dict[str, Outcome]:
    """The videos that an earlier run read, by URL."""
    with LedgerView(path) as view:
        outcomes = view.load_outcomes(recipe.key)
    return {url: outcome for url, outcome in outcomes.items() if outcome.status == Status.OK}


def _find_before(
    outcomes: Mapping[Path, Mapping[str, Outcome]], own: AbstractSet[str]
) -> tuple[dict[str, Outcome], set[str]]:
    """The outcomes of videos that are not in the list, and the URLs of those that have fingerprints. `outcomes` are
    those of each ledger; of several about one video, the first counts."""
    before: dict[str, Outcome] = {}
    printed: set[str] = set()
    for path, read in outcomes.items():
        with LedgerView(path) as view:
            kinds = view.load_kinds()
        found = {url: outcome for url, outcome in read.items() if url not in own}
        before = found | before
        printed |= {url for url in found if video_key(url) in kinds}
    return before, printed

"""06: find the pairs that may be copies, and compare them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from dedup_lib.errors import RunFolderError, SettingError
from dedup_lib.features.encoders import DEFAULT_THRESHOLDS
from dedup_lib.features.fingerprint import StoredFingerprints
from dedup_lib.groups.clean import outcome_of_row
from dedup_lib.groups.keepers import FIRST_SEEN, KeeperPolicy
from dedup_lib.groups.matcher import MAX_CANDIDATES, ComparedPairs, FingerprintedList, compare_candidates
from dedup_lib.groups.matches import Matches, SearchDone, SearchPlan
from dedup_lib.groups.scored import Scored, score_pairs
from dedup_lib.match.comparisons import find_method, pack_evidence, unpack_evidence
from dedup_lib.match.evidence import Evidence
from dedup_lib.match.index_search import audit_candidates, join_by_search
from dedup_lib.match.vector_join import Candidates, choose_search, join_exactly
from dedup_lib.match.vector_table import VectorTable
from dedup_lib.records import Progress, video_key
from dedup_lib.run.cores import count_cores
from dedup_lib.run.folder import RunFolder
from dedup_lib.run.ledger import Ledger, LedgerView
from dedup_lib.settings import MAX_TOP_K, IndexTuning, SearchSettings
from dedup_lib.steps.bar import Bar, progress_on
from dedup_lib.steps.existing import copy_storyboards
from dedup_lib.steps.extracted_list import ExtractedList
from dedup_lib.steps.outputs import find_outputs
from dedup_lib.steps.review import load_row_decisions
from dedup_lib.steps.saved_search import SavedSearch, name_search
from dedup_lib.steps.search_plan import load_vector_table, make_plan, plan_search
from dedup_lib.store.address import StoreAddress
from dedup_lib.store.collection import Collection
from dedup_lib.store.store import Store

FINGERPRINT_REMEDY = "run 03_extract again in this run folder, or set decide: cosine"

COMPARISONS_AT_ONCE = 200
"""Comparisons that are written to the ledger at once. A run that is killed loses at most this number."""


def find_matches(run: RunFolder, listed: ExtractedList, *, settings: SearchSettings, bar: Bar | None = None) -> Matches:
    """Compare every video of the list with every other, as `search_list` does, and apply people's decisions.

    Raises what `search_list` raises, and ListError where decisions contradict each other.
    """
    keeper = KeeperPolicy(name=settings.keep, traits=listed.traits, new_rows=listed.new_rows)
    compared, plan = search_list(run, listed, settings=settings, keeper=keeper, bar=bar)
    decided = load_row_decisions(run, listed, settings=settings)
    shown = {row for pair in compared.pairs for row in (pair.first, pair.second) if row >= listed.new_rows}
    copy_storyboards(run, listed, [listed.urls[row] for row in shown])
    return Matches(
        # A person may keep an excerpt rather than the longer video.
        compared=compared.without_excerpts(decided.kept),
        plan=plan,
        urls=listed.urls,
        compared_rows=listed.compared_rows,
        new_rows=listed.new_rows,
        keeper=replace(keeper.knowing(compared.marks), chosen=decided.kept),
        same=decided.same,
        different=decided.different,
    )


def search_list(
    run: RunFolder,
    listed: ExtractedList,
    *,
    settings: SearchSettings,
    keeper: KeeperPolicy = FIRST_SEEN,
    bar: Bar | None = None,
) -> tuple[ComparedPairs, SearchPlan]:
    """Compare every video of the list with every other.

    The vectors of a collection and visual words propose candidate pairs. The frames of each pair decide. With
    `decide: cosine` the vectors alone decide. `keeper` chooses which of several videos is kept. `bar` shows one step
    after the other.

    Raises StoreError when the collection was made with other settings than the run's, or lacks vectors of the run.
    Raises RunFolderError when the run folder lacks fingerprints. Raises SettingError when the sweep would end before
    it starts, or when an output would overwrite a list.
    """
    find_outputs(run, listed, settings=settings)
    begin = progress_on(bar)
    address = StoreAddress.choose(settings.store, run)
    name = name_search(run, listed, settings, address)
    saved = _load_search(run, listed, name)
    cosine_of: Callable[[int, int], float]
    if saved is not None and listed.recipe is not None:
        plan = make_plan(listed.recipe, saved.pooling, settings, store=saved.store)
        plan = replace(plan, search=saved.done)
        scored = Scored(pairs=(), nearest=np.zeros(0), floor=plan.floor, expanded_queries=saved.expanded_queries)
        cosine_of = _SavedCosines(saved.cosine_of, partial(_load_table, run, listed, settings, address, begin))
    else:
        with Store(address) as store:
            collection = store.open_collection(settings.collection)
            plan = plan_search(collection, listed, settings, store=str(store.address))
            table = load_vector_table(run, collection, listed, begin=begin)
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
            new_rows=listed.new_rows,
        )
        if settings.decide == "cosine":
            return ComparedPairs.by_cosine(scored), plan
        cosine_of = _compare_rows(table)

    urls = listed.urls
    read = [urls[row] for row in listed.compared_rows]
    with ExitStack() as stack:
        own = stack.enter_context(Ledger(run.ledger_path, plan.recipe))
        load = _FingerprintLoader(
            ledgers=(run.ledger_path, *listed.ledgers),
            kind=_check_fingerprints(run, own, read),
            urls=tuple(urls),
            read=frozenset(read),
            new_rows=listed.new_rows,
        )
        stack.callback(load.close)
        comparisons = Comparisons(own, urls[: listed.new_rows])
        try:
            compared = compare_candidates(
                FingerprintedList(
                    fingerprints=StoredFingerprints(load, rows=len(urls)),
                    durations_s=[outcome_of_row(url, listed.outcomes).duration_s for url in urls],
                    new_rows=listed.new_rows,
                    cosine_of=cosine_of,
                    folder=run.path,
                    candidates=saved.candidates if saved is not None else None,
                ),
                scored=scored,
                rules=replace(plan.rules, min_score=plan.sweep_low),
                keeps_excerpts=settings.excerpts == "keep",
                choose_knowing=lambda marks: keeper.knowing(marks).choose,
                strict_cosine=DEFAULT_THRESHOLDS[plan.recipe.encoder],
                cache=comparisons,
                workers=count_cores(),
                begin=begin,
            )
            comparisons.save()
        except ValueError as error:
            raise RunFolderError(
                f"{run.shown(run.ledger_path)} is damaged ({error}): move it away, then {FINGERPRINT_REMEDY}"
            ) from None
        if name and saved is None:
            own.record_search(name, SavedSearch.of(compared, plan).to_bytes())
    return compared, plan


def _load_search(run: RunFolder, listed: ExtractedList, name: str) -> SavedSearch | None:
    """What the last search proposed, unless its list, its settings or the code were others."""
    if not name or listed.recipe is None:
        return None
    with Ledger(run.ledger_path, listed.recipe) as ledger:
        data = ledger.load_search(name)
    # A damaged one is made anew.
    with suppress(ValueError):
        return SavedSearch.from_bytes(data) if data is not None else None
    return None


def _load_table(
    run: RunFolder, listed: ExtractedList, settings: SearchSettings, address: StoreAddress, begin: Progress
) -> VectorTable:
    with Store(address) as store:
        return load_vector_table(run, store.open_collection(settings.collection), listed, begin=begin)


def _compare_rows(table: VectorTable) -> Callable[[int, int], float]:
    """The `Evidence.cosine` of two rows of the list; NaN without vectors."""
    line_of = {int(row): line for line, rows in enumerate(table.rows) for row in rows}

    def cosine_of(first: int, second: int) -> float:
        lines = line_of.get(first), line_of.get(second)
        return math.nan if lines[0] is None or lines[1] is None else table.match_frames(lines[0], lines[1])

    return cosine_of


class _SavedCosines:
    """The `Evidence.cosine` of two rows as an earlier search found it. Vectors are loaded only for a pair that is new,
    as where another video is kept."""

    def __init__(self, saved: Mapping[tuple[int, int], float], load: Callable[[], VectorTable]) -> None:
        self._saved, self._load = saved, load

    @cached_property
    def _of_others(self) -> Callable[[int, int], float]:
        return _compare_rows(self._load())

    def __call__(self, first: int, second: int) -> float:
        known = self._saved.get((first, second))
        return known if known is not None else self._of_others(first, second)


@dataclass(frozen=True, kw_only=True)
class _FingerprintLoader:
    """Loads the fingerprint of a row from the ledgers of this run and of earlier ones. A process that it is sent to
    opens the ledgers itself."""

    ledgers: tuple[Path, ...]
    """The ledger of this run comes first."""
    kind: str
    urls: tuple[str, ...]
    read: frozenset[str]
    """The URLs that this run has read."""
    new_rows: int
    """Rows from here on were there before the list."""

    @cached_property
    def _views(self) -> list[LedgerView]:
        return [LedgerView(path) for path in self.ledgers]

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in vars(self).items() if name != "_views"}

    def close(self) -> None:
        for view in vars(self).get("_views", ()):
            view.close()

    def __call__(self, row: int) -> bytes | None:
        url = self.urls[row]
        own, *earlier = self._views
        if row < self.new_rows:
            # A video that fails now may have a fingerprint from an earlier, successful attempt.
            found = [own.load_fingerprints([url])] if url in self.read else []
        else:
            found = [view.load_fingerprints([url]) for view in ([] if url in self.read else [own]) + earlier]
        return next((one[url][1] for one in found if url in one and one[url][0] == self.kind), None)


class Comparisons:
    """The results of comparing pairs of a list, in the ledger of its run. A run that continues, or that uses another
    threshold, compares only new pairs. `urls` holds the URL of each row of the list."""

    def __init__(self, ledger: Ledger, urls: Sequence[str]) -> None:
        self._ledger = ledger
        self._keys = [video_key(url) for url in urls]
        self._method = find_method()
        self._waiting: list[tuple[str, str, str]] = []

    def recall(self, first: int, second: int) -> Evidence | None:
        """The evidence about two rows. None where it is not known, because a fingerprint or the code is new."""
        # The fingerprint of a video from before this list may be in the ledger of another run.
        if max(first, second) >= len(self._keys):
            return None
        keys = self._keys[first], self._keys[second]
        text = self._ledger.load_comparison(*keys, method=self._method)
        if text is not None:
            return unpack_evidence(text)
        # A list in another order compared the two the other way round.
        text = self._ledger.load_comparison(*reversed(keys), method=self._method)
        return unpack_evidence(text).exchanged() if text is not None else None

    def remember(self, found: Evidence) -> None:
        """Note the evidence about two rows. It is written once `COMPARISONS_AT_ONCE` results wait."""
        if max(found.first, found.second) >= len(self._keys):
            return
        self._waiting.append((self._keys[found.first], self._keys[found.second], pack_evidence(found)))
        if len(self._waiting) >= COMPARISONS_AT_ONCE:
            self.save()

    def save(self) -> None:
        """Write the results that wait."""
        self._ledger.record_comparisons(self._waiting, method=self._method)
        self._waiting.clear()


def _propose(
    table: VectorTable,
    collection: Collection,
    listed: ExtractedList,
    *,
    settings: SearchSettings,
    floor: float,
    store: str,
    begin: Progress,
) -> tuple[Candidates, SearchDone]:
    """The pairs that vectors propose, and how the vectors were searched.

    Raises SettingError when the index found less than `min_recall` of the pairs in its audit.
    """
    choice = choose_search(settings.search, videos=len(table), width=table.width)
    # Frames are compared only for pairs that are among this number of nearest candidates of one of the two videos.
    k_nearest = MAX_CANDIDATES if settings.decide == "evidence" else None
    if choice.method == "ann" and listed.stored:
        raise SettingError(
            "search",
            settings.search,
            "the vectors of existing_runs are in other stores, and the index of a store knows only its own: set "
            "search: exact",
        )
    if choice.method == "exact":
        proposal = join_exactly(
            table, floor=floor, max_pairs=settings.max_pairs, k_nearest=k_nearest, device=choice.device, begin=begin
        )
        return proposal, SearchDone(method=choice.method, why=choice.why, on=choice.device)
    tuning = IndexTuning.parse(settings.ann)
    collection.ensure_index(tuning.index, tuning.build)
    urls = listed.urls
    proposal = join_by_search(
        table,
        partial(collection.search, params=tuning.search),
        floor=floor,
        top_k=(tuning.top_k, MAX_TOP_K),
        max_pairs=settings.max_pairs,
        k_nearest=k_nearest,
        line_of={video_key(urls[row]): line for line, rows in enumerate(table.rows) for row in rows},
        begin=begin,
    )
    audit = audit_candidates(
        table,
        proposal,
        floor=floor,
        videos=tuning.audit_videos,
        max_pairs=settings.max_pairs,
        k_nearest=k_nearest,
        begin=begin,
    )
    if audit.recall is not None and audit.recall < tuning.min_recall:
        raise SettingError(
            "ann",
            settings.ann,
            f"the index finds only {audit.found:,} of the {audit.pairs:,} pairs of {audit.videos:,} videos "
            f"({audit.recall:.1%}), and min_recall asks for {tuning.min_recall:.1%}. Raise nprobe (of HNSW: ef) in "
            "ann, or set search: exact",
        )
    return proposal, SearchDone(method=choice.method, why=choice.why, on=store, index=tuning.index, audit=audit)


def _check_fingerprints(run: RunFolder, ledger: Ledger, urls: Sequence[str]) -> str:
    """The kind of the fingerprints of these videos, "" for no video. Raises RunFolderError unless all videos have a
    fingerprint of one kind."""
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

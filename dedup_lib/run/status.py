"""How far a run is, read from its folder without changing anything."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path

from dedup_lib.records import Recipe, Status
from dedup_lib.run.failures import find_host
from dedup_lib.run.folder import Record, RunFolder
from dedup_lib.run.ledger import Extraction, LedgerView, Tally
from dedup_lib.run.lock import INTERRUPTED, LockOwner, is_held, read_holder
from dedup_lib.settings import FLOWS, ExtractSettings

RATE_OVER_S = 60.0
"""Seconds over which the rate of a running extraction is measured."""

MAX_FREQUENT = 5
"""Most failing hosts, and most reasons, that are listed."""


class State(StrEnum):
    """The state of a run folder."""

    NEVER_STARTED = "never started"
    RUNNING = "running"
    STOPPED = "stopped"
    """Killed or interrupted."""
    FAILED = "failed"
    PARTLY_DONE = "partly done"
    """The requested notebooks are done, but other notebooks of the flow are left."""
    FINISHED = "finished"


class Done(StrEnum):
    """The progress of one notebook."""

    DONE = "done"
    NOW = "now"
    STOPPED_HERE = "stopped here"
    EARLIER = "done by an earlier run"
    TO_DO = "to do"


@dataclass(frozen=True, kw_only=True)
class NotebookProgress:
    """One notebook of the flow."""

    name: str
    done: Done
    finished: str
    """When its record was written, UTC in ISO format; empty without a record."""
    counts: dict[str, int]
    """The counts in its record."""


@dataclass(frozen=True, kw_only=True)
class ExtractionProgress:
    """The progress of the latest extraction, in URLs. Times are UTC in ISO format."""

    total: int
    done: int
    done_before: int
    """How many of `done` earlier extractions had done."""
    began: str
    heard: str
    """When it last saved something."""
    ended: str
    """When it was complete; empty until then."""
    videos_per_s: float
    """Rate over the last minute while it runs, otherwise over its whole time."""
    eta_s: float | None
    """Seconds until all is done; None when unknown."""
    statuses: dict[Status, int]
    """Number of URLs that this extraction has done, by status."""
    fetched_bytes: int
    """Bytes that this extraction has fetched."""


@dataclass(frozen=True, kw_only=True)
class Frequent:
    """A host or a reason, and how many URLs failed with it."""

    what: str
    urls: int


@dataclass(frozen=True, kw_only=True)
class RunProgress:
    """Everything that is shown about a run. Its texts are not sanitised: do that before they go to a terminal."""

    folder: str
    state: State
    holder: LockOwner | None
    """The run that works in the folder, or did last."""
    elapsed_s: float | None
    """How long that run has worked."""
    notebooks: tuple[NotebookProgress, ...]
    extraction: ExtractionProgress | None
    statuses: dict[Status, Tally]
    """All URLs in the ledger by status, for the recipe used last."""
    hosts: tuple[Frequent, ...]
    """The hosts with the most URLs without frames."""
    reasons: tuple[Frequent, ...]
    vectors: str
    """The store and the collection used last; empty when none was used yet."""
    report: str
    """The path of the report pages; empty when there are none."""
    go_on: str
    """How to continue the run; empty when nothing is left to do."""


class ExtractionWatch:
    """Reads the progress of a running extraction repeatedly, from one thread at a time, until it is closed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._view: LedgerView | None = None
        self._version = -1
        self._counted: tuple[Extraction | None, dict[Status, Tally]] = (None, {})

    def close(self) -> None:
        if self._view is not None:
            self._view.close()

    def read(self) -> ExtractionProgress | None:
        """The current progress; None when no extraction has begun. Raises RunFolderError for an unreadable ledger."""
        if self._view is None:
            if not self._path.exists():
                return None
            self._view = LedgerView(self._path)
        version = self._view.load_version()
        if version != self._version:
            self._counted = _count(self._view)
            self._version = version
        extraction, tally = self._counted
        return _measure(self._view, extraction, tally, goes_on=True) if extraction is not None else None


def _count(view: LedgerView) -> tuple[Extraction | None, dict[Status, Tally]]:
    extraction = view.load_extraction()
    return extraction, view.tally(extraction.recipe, since=extraction.began) if extraction is not None else {}


def _measure(
    view: LedgerView, extraction: Extraction, tally: Mapping[Status, Tally], *, goes_on: bool
) -> ExtractionProgress:
    read = _sum_urls(tally)
    if goes_on and not extraction.ended:
        now = datetime.now(UTC)
        span_s = min(RATE_OVER_S, _seconds_between(extraction.began, now))
        since = (now - timedelta(seconds=span_s)).isoformat(timespec="milliseconds")
        recent = _sum_urls(view.tally(extraction.recipe, since=max(since, extraction.began)))
    else:
        span_s, recent = _seconds_between(extraction.began, extraction.heard), read
    rate = recent / span_s if span_s > 0 else 0.0
    done = extraction.done_before + read
    left = extraction.total - done
    return ExtractionProgress(
        total=extraction.total,
        done=done,
        done_before=extraction.done_before,
        began=extraction.began,
        heard=extraction.heard,
        ended=extraction.ended,
        videos_per_s=rate,
        eta_s=left / rate if rate > 0 and goes_on and not extraction.ended else None,
        statuses={status: counted.urls for status, counted in tally.items()},
        fetched_bytes=sum(counted.fetched_bytes for counted in tally.values()),
    )


def _sum_urls(tally: Mapping[Status, Tally]) -> int:
    return sum(counted.urls for counted in tally.values())


def _seconds_between(earlier: str, later: str | datetime) -> float:
    end = later if isinstance(later, datetime) else datetime.fromisoformat(later)
    # A clock that was set back must not make a time negative.
    return max(0.0, (end - datetime.fromisoformat(earlier)).total_seconds())


def read_progress(run: RunFolder) -> RunProgress:
    """Reads the progress of a run. Raises RunFolderError for a damaged ledger or stage record."""
    holder = read_holder(run.lock_path)
    working = is_held(run.lock_path) and (holder is None or holder.lives)
    records = run.read_records()
    extraction, statuses, troubles = _read_ledger(run, records.get(ExtractSettings.stage), working=working)
    flow = _find_flow(holder, records)
    notebooks = tuple(_describe_notebook(stage, records.get(stage), holder, working=working) for stage in flow)
    left = [notebook.name for notebook in notebooks if notebook.done == Done.TO_DO]
    state = _find_state(holder, working=working, begun=bool(records or statuses), left=left)
    index = run.reports_dir / "index.html"
    return RunProgress(
        folder=run.shown(run.path),
        state=state,
        holder=holder,
        elapsed_s=_measure_run(run, holder, extraction, working=working),
        notebooks=notebooks,
        extraction=extraction,
        statuses=statuses,
        hosts=_most_frequent(find_host(url) or "(no host)" for url, _, _ in troubles),
        reasons=_most_frequent(f"{status}: {reason}" for _, status, reason in troubles),
        vectors=_find_vectors(records),
        report=run.shown(index) if index.exists() else "",
        go_on=_how_to_go_on(run, state, holder, left),
    )


def _find_vectors(records: Mapping[str, Record]) -> str:
    used = [record for record in records.values() if "vectors" in record]
    return str(max(used, key=lambda record: str(record["finished"]))["vectors"]) if used else ""


def _read_ledger(
    run: RunFolder, record: Record | None, *, working: bool
) -> tuple[ExtractionProgress | None, dict[Status, Tally], list[tuple[str, Status, str]]]:
    if not run.ledger_path.exists():
        return None, {}, []
    with LedgerView(run.ledger_path) as view:
        extraction, tally = _count(view)
        if extraction is not None:
            recipe = extraction.recipe
        elif record is not None:
            recipe = Recipe(**record["recipe"]).key
        else:
            return None, {}, []
        measured = _measure(view, extraction, tally, goes_on=working) if extraction is not None else None
        return measured, view.tally(recipe), view.list_troubles(recipe)


def _find_flow(holder: LockOwner | None, records: Mapping[str, Record]) -> list[str]:
    known = {*records, *(holder.notebooks if holder is not None else ())}
    mode = "batch" if known & (set(FLOWS["batch"]) - set(FLOWS["direct"])) else "direct"
    return sorted({*FLOWS[mode], *known})


def _describe_notebook(
    stage: str, record: Record | None, holder: LockOwner | None, *, working: bool
) -> NotebookProgress:
    finished = record["finished"] if record is not None else ""
    at_it = holder is not None and (working or not holder.ended or bool(holder.failure))
    if at_it and holder is not None and finished < holder.began and stage in holder.notebooks:
        if stage == holder.now:
            done = Done.NOW if working else Done.STOPPED_HERE
        else:
            done = Done.EARLIER if finished else Done.TO_DO
    else:
        done = Done.DONE if finished else Done.TO_DO
    counts = record["counts"] if record is not None else {}
    return NotebookProgress(
        name=stage,
        done=done,
        finished=finished,
        counts={name: count for name, count in counts.items() if isinstance(count, int)},
    )


def _find_state(holder: LockOwner | None, *, working: bool, begun: bool, left: list[str]) -> State:
    if working:
        return State.RUNNING
    if holder is None and not begun:
        return State.NEVER_STARTED
    if holder is not None and (not holder.ended or holder.failure == INTERRUPTED):
        return State.STOPPED
    if holder is not None and holder.failure:
        return State.FAILED
    return State.PARTLY_DONE if left else State.FINISHED


def _measure_run(
    run: RunFolder, holder: LockOwner | None, extraction: ExtractionProgress | None, *, working: bool
) -> float | None:
    if holder is None:
        return None
    if working:
        return _seconds_between(holder.began, datetime.now(UTC))
    if holder.ended:
        return _seconds_between(holder.began, holder.ended)
    # The run was killed: its last sign of life is its last save, or its last change of the notebook.
    last_s = _seconds_between(holder.began, datetime.fromtimestamp(run.lock_path.stat().st_mtime, UTC))
    return max(last_s, _seconds_between(holder.began, extraction.heard)) if extraction is not None else last_s


def _how_to_go_on(run: RunFolder, state: State, holder: LockOwner | None, left: list[str]) -> str:
    if state in (State.STOPPED, State.FAILED) and holder is not None:
        return holder.command or f"run notebooks/{holder.now}.ipynb again with the same run_dir"
    if state == State.NEVER_STARTED:
        return f"python -m dedup_lib run direct --set input_csv=LIST.csv --run {shlex.quote(run.path.name)}"
    if state == State.PARTLY_DONE:
        return f"run notebooks/{left[0]}.ipynb with the same run_dir"
    return ""


def _most_frequent(found: Iterable[str]) -> tuple[Frequent, ...]:
    # Sorted first, so that equal counts always come in the same order.
    counted = Counter(sorted(found)).most_common(MAX_FREQUENT)
    return tuple(Frequent(what=what, urls=urls) for what, urls in counted)

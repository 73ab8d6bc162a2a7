"""From URLs to stored vectors: fetch, decode and prepare in worker processes, encode in batches, save, and note each
outcome in the ledger. What an earlier run finished is not done again.

The three go on side by side, with short queues between them: while a batch is encoded, the workers read the next ones
and the one before is saved. A full queue makes those before it wait, so that memory stays the same at any length.
"""

from __future__ import annotations

import contextlib
import functools
import shutil
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from dedup_lib.errors import RunFolderError, VideoTrouble
from dedup_lib.extract.buffers import Gathered, ReadAhead, Saver
from dedup_lib.extract.job_folders import job_dir, load_job, save_job
from dedup_lib.extract.ray_pool import ClusterPool
from dedup_lib.extract.scheduler import Schedule
from dedup_lib.extract.worker_pool import Died, WorkerPool, ask_parent, count_workers
from dedup_lib.features.encoder import Encoder, Prepared
from dedup_lib.features.fingerprint import fingerprint_kind, make_fingerprint
from dedup_lib.features.vectors import pool_vectors
from dedup_lib.media.frames import draw_strip, encode_picture, prepare_sample, use_one_thread
from dedup_lib.media.sampling import GrabbedFrames, grab_frames
from dedup_lib.media.streams import Deadline, FetchLimits, MediaStream, open_stream
from dedup_lib.records import (
    Frames,
    Outcome,
    Pooling,
    Recipe,
    Sample,
    Scan,
    Status,
    Vectors,
    VideoVectors,
    utc_now,
    video_key,
)
from dedup_lib.run.files import writing
from dedup_lib.run.ledger import Ledger, LedgerView
from dedup_lib.store.store import Collection

Pool = WorkerPool["tuple[int, str]", "ReadVideo"] | ClusterPool["tuple[int, str]", "ReadVideo"]

KILL_AFTER_S = 5.0
"""A worker that is still at a video this long after its time is up is killed: its decoder hangs."""

READ_AHEAD = 64
"""So many videos that were read wait for the encoder, at most."""

ENCODE_AFTER_S = 1.0
"""When no further video comes within this time, those that wait are encoded."""


@dataclass(frozen=True, kw_only=True)
class ReadVideo:
    """What a worker hands back: the outcome, and for a video with usable frames what the encoder needs of each and
    which of those asked for it is, a strip of them as JPEG, and the fingerprint."""

    outcome: Outcome
    prepared: tuple[Prepared, ...] = ()
    positions: tuple[int, ...] = ()
    vectors: Vectors | None = None
    """Where it was encoded already, in place of what is prepared for that."""
    strip: bytes | None = None
    fingerprint: bytes | None = None
    retry_after_s: float | None = None
    """Pause that the server asks for before it is tried again."""
    tries: int = 1
    """Of this run, this one included."""


@dataclass(frozen=True, kw_only=True)
class Extracted:
    """A video whose outcome is final; `vectors` are None when it gave none."""

    row: int
    outcome: Outcome
    vectors: VideoVectors | None
    fingerprint: bytes | None = None
    tries: int = 1
    """Of this run."""


@dataclass(kw_only=True)
class ExtractReport:
    """What one call of `extract_videos` did."""

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    """Of every URL asked for, in the order of the list, those done by earlier runs included."""
    attempted: int = 0
    skipped: int = 0
    """Done by an earlier run."""
    finished_s: list[float] = field(default_factory=list)
    """Seconds since the start at which each attempted video was done."""

    @property
    def finished(self) -> NDArray[np.float64]:
        return np.array(self.finished_s, dtype=np.float64)


class Sink(Protocol):
    """Where vectors go."""

    def find_saved(self, outcomes: Mapping[str, Outcome], rows: Mapping[str, int]) -> dict[str, Outcome]:
        """Of these URLs (with their row in the list), the outcomes that need not be reached again."""
        ...

    def load(self, urls: Sequence[str]) -> dict[str, VideoVectors]:
        """The vectors that were saved of these URLs."""
        ...

    def save(self, videos: Sequence[Extracted]) -> dict[str, str]:
        """Keep the vectors of finished videos, those already there replaced; says by URL where each one's are."""
        ...


class CollectionSink:
    """Straight into a collection of the store."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection

    def find_saved(self, outcomes: Mapping[str, Outcome], rows: Mapping[str, int]) -> dict[str, Outcome]:
        known = {url: outcomes[url] for url in rows if url in outcomes}
        stored = self._collection.count_stored([url for url, o in known.items() if o.status == Status.OK])
        return {
            url: outcome
            for url, outcome in known.items()
            if outcome.status != Status.OK
            or stored.get(url) == (outcome.frames if self._collection.holds_frames else 1)
        }

    def load(self, urls: Sequence[str]) -> dict[str, VideoVectors]:
        return self._collection.load_vectors(urls)

    def save(self, videos: Sequence[Extracted]) -> dict[str, str]:
        vectors = [video.vectors for video in videos if video.vectors is not None]
        self._collection.upsert([pool_video(video, self._collection.pooling) for video in vectors])
        return {video.url: self._collection.facts.name for video in vectors}


class JobSink:
    """Into job folders, to be uploaded later."""

    def __init__(self, jobs_dir: Path, recipe: Recipe) -> None:
        with writing(jobs_dir):
            jobs_dir.mkdir(parents=True, exist_ok=True)
        self._jobs_dir = jobs_dir
        self._recipe = recipe
        self._rows: Mapping[str, int] = {}

    def find_saved(self, outcomes: Mapping[str, Outcome], rows: Mapping[str, int]) -> dict[str, Outcome]:
        saved = {}
        self._rows = rows
        for url, row in rows.items():
            job = load_job(job_dir(self._jobs_dir, row))
            if job is not None and job.recipe == self._recipe and job.outcome.url == url:
                saved[url] = job.outcome
            elif url in outcomes and outcomes[url].status != Status.OK:
                # 04_clean_jobs removes the folders of videos that gave no vector.
                saved[url] = outcomes[url]
        return saved

    def load(self, urls: Sequence[str]) -> dict[str, VideoVectors]:
        jobs = {url: load_job(job_dir(self._jobs_dir, self._rows[url])) for url in urls if url in self._rows}
        return {url: job.vectors for url, job in jobs.items() if job is not None and job.vectors is not None}

    def save(self, videos: Sequence[Extracted]) -> dict[str, str]:
        stored = {}
        for video in videos:
            path = job_dir(self._jobs_dir, video.row)
            with writing(path):
                save_job(path, outcome=video.outcome, recipe=self._recipe, vectors=video.vectors)
            if video.vectors is not None:
                stored[video.outcome.url] = path.name
        return stored


def pool_video(video: VideoVectors, pooling: Pooling) -> VideoVectors:
    """The vectors of a video's frames as they go into a collection."""
    positions = video.positions if pooling == Pooling.FRAMES else (0,)
    return replace(video, vectors=pool_vectors(video.vectors, pooling), positions=positions)


Alike = list[tuple[Outcome, bytes]]
"""Videos that were read well, with their fingerprints."""


def look_up_alike(beginning: str, *, ledger_path: Path, recipe: str, kind: str) -> Alike:
    """What a ledger knows of files that begin so: those of the recipe with this key whose fingerprints are of that
    kind."""
    if not ledger_path.exists():
        return []
    try:
        with LedgerView(ledger_path) as view:
            return view.find_alike(recipe, beginning, kind)
    except RunFolderError:
        # A ledger that cannot be read just now costs a decoding, and no video.
        return []


def ask_for_alike(beginning: str) -> Alike:
    """The same, in a process far from the ledger."""
    return ask_parent(beginning) or []


@dataclass(frozen=True)
class KnownFiles:
    """Files that were read: a list often has one file under several addresses."""

    look_up: Callable[[str], Alike]
    """Those that begin so."""

    def find(self, url: str, stream: MediaStream) -> ReadVideo | None:
        """What was read of the very same file under another address: length and beginning are the same, and the end is
        or the same server names both by the same hash. None where there is none, or the server does not give parts of a
        file. Raises VideoTrouble."""
        if not stream.beginning_mark:
            return None
        alike = [found for found in self.look_up(stream.beginning_mark) if found[0].url != url]
        same = [found for found in alike if stream.tag and found[0].tag == stream.tag]
        if not same and any(outcome.content != stream.beginning_mark for outcome, _ in alike):
            stream.read_end()
            same = [found for found in alike if stream.end_mark and found[0].content == _content(stream)]
        if not same:
            return None
        outcome, fingerprint = same[0]
        return ReadVideo(
            outcome=replace(outcome, url=url, tag=stream.tag, same_file_as=outcome.url), fingerprint=fingerprint
        )


def _content(stream: MediaStream) -> str:
    return f"{stream.beginning_mark} {stream.end_mark}".strip()


def read_video(
    task: tuple[int, str],
    *,
    recipe: Recipe,
    scan: Scan,
    limits: FetchLimits,
    prepare: Callable[[Frames], Prepared],
    known: KnownFiles | None = None,
) -> ReadVideo:
    """Fetch, decode and prepare the frames of one URL; a file that is `known` is not decoded. Runs in a worker process;
    never raises."""
    use_one_thread()
    _, url = task
    start_s, started = time.monotonic(), utc_now()
    stream = None
    try:
        deadline = Deadline(limits.timeout_s)
        stream = open_stream(url, limits=limits, deadline=deadline)
        same = known.find(url, stream) if known is not None else None
        read = same or _decode(url, stream, recipe=recipe, scan=scan, deadline=deadline, prepare=prepare)
    except VideoTrouble as trouble:
        read = ReadVideo(
            outcome=Outcome(
                url=url,
                status=trouble.status,
                reason=trouble.reason,
                retryable=trouble.retryable,
                refused_by=trouble.refused_by,
            ),
            retry_after_s=trouble.retry_after_s,
        )
    except Exception as error:
        # Whatever a hostile file provokes, it is the trouble of one video.
        reason = f"reading it failed unexpectedly: {type(error).__name__}: {error}"
        read = ReadVideo(outcome=Outcome(url=url, status=Status.DECODE_ERROR, reason=reason[:500]))
    finally:
        fetched_bytes = stream.fetched_bytes if stream is not None else 0
        if stream is not None:
            stream.close()
    elapsed_s = round(time.monotonic() - start_s, 3)
    return replace(
        read, outcome=replace(read.outcome, fetched_bytes=fetched_bytes, elapsed_s=elapsed_s, started=started)
    )


def _decode(
    url: str,
    stream: MediaStream,
    *,
    recipe: Recipe,
    scan: Scan,
    deadline: Deadline,
    prepare: Callable[[Frames], Prepared],
) -> ReadVideo:
    grabbed = grab_frames(
        stream,
        num_frames=recipe.num_frames,
        frame_span=recipe.frame_span,
        deadline=deadline,
        scan=scan,
    )
    sample = prepare_sample(grabbed.frames, positions=grabbed.positions, times_s=grabbed.times_s)
    outcome = Outcome(
        url=url,
        status=Status.OK if sample.frames else Status.FEATURELESS,
        reason="" if sample.frames else _why_featureless(recipe),
        frames=len(sample.frames),
        duration_s=round(grabbed.facts.duration_s, 3),
        width_px=grabbed.facts.width_px,
        height_px=grabbed.facts.height_px,
        picture_fraction=_picture_fraction(grabbed, sample),
        codec=grabbed.facts.codec,
        size_bytes=stream.size_bytes or 0,
        content=_content(stream),
        tag=stream.tag,
    )
    return ReadVideo(
        outcome=outcome,
        prepared=tuple(map(prepare, sample.frames)),
        positions=sample.positions,
        strip=encode_picture(draw_strip(grabbed.frames)),
        fingerprint=_fingerprint(grabbed) if sample.frames else None,
    )


def _fingerprint(grabbed: GrabbedFrames) -> bytes | None:
    # Where the scanned part shows nothing, the frames from further on still do.
    fingerprint = make_fingerprint(
        grabbed.scanned, times_s=grabbed.scanned_times_s, weights=grabbed.scanned_weights
    ) or make_fingerprint(grabbed.frames, times_s=grabbed.times_s)
    return fingerprint.to_bytes() if fingerprint is not None else None


def _picture_fraction(grabbed: GrabbedFrames, sample: Sample) -> float:
    if not sample.frames:
        return 1.0
    whole = grabbed.frames[grabbed.positions.index(sample.positions[0])]
    return round(sample.frames[0].size / whole.size, 3)


def _why_featureless(recipe: Recipe) -> str:
    if recipe.frame_span == "first":
        return "the first frames show one flat colour; frame_span: spread would look further"
    return "every frame taken shows one flat colour"


def extract_videos(
    urls: Sequence[str],
    *,
    rows: Sequence[int],
    encoder: Encoder,
    recipe: Recipe,
    scan: Scan,
    sink: Sink,
    ledger: Ledger,
    limits: FetchLimits,
    workers: int | None,
    most_a_host: int,
    retries: int,
    batch_size: int,
    thumbnails_dir: Path,
    engine: Literal["local", "ray"] = "local",
    overwrite: bool = False,
    retry_failed: bool = True,
    progress: Callable[[int], object] = lambda count: None,
) -> ExtractReport:
    """Bring every URL to a final outcome, with its vectors in `sink` and its outcome in `ledger`.

    `rows` are the places of the URLs in the list; a URL that occurs again is done once. Outcomes of earlier runs
    stand, but for those that a setting refused which has another value now, with `retry_failed` for those that may end
    better when tried again, and with `overwrite` for all of them. No more than `most_a_host` videos are fetched from
    one host at a time, and what fails for a cause that may pass is tried again up to `retries` times, after pauses.
    `progress` is called with the number of videos newly done. `workers` (None: as many as the cores need) fetch and
    decode on this machine, or with `engine` ray on each node of the cluster that RAY_ADDRESS names, which encode there.
    Raises RunFolderError when the disk refuses, and ClusterError when the cluster does.
    """
    row_of: dict[str, int] = {}
    for row, url in zip(rows, urls, strict=True):
        row_of.setdefault(url, row)
    earlier = ledger.load()
    kind = fingerprint_kind(scan, recipe)
    known = {} if overwrite else sink.find_saved(earlier, row_of)
    kinds = ledger.load_kinds()
    known = {url: o for url, o in known.items() if o.status != Status.OK or kinds.get(o.key) == kind}
    report = ExtractReport(
        outcomes={
            url: outcome
            for url, outcome in known.items()
            if not (outcome.retryable and retry_failed) and not _may_pass_now(outcome, limits)
        }
    )
    ledger.record(outcome for url, outcome in report.outcomes.items() if earlier.get(url) != outcome)
    report.skipped = len(report.outcomes)
    ledger.begin_extraction(total=len(row_of), done=report.skipped)
    progress(report.skipped)
    tasks = [(row, url) for url, row in row_of.items() if url not in report.outcomes]
    start_s = time.monotonic()

    def save(videos: Sequence[Extracted]) -> None:
        videos = _with_vectors_of_same_files(videos, sink)
        # Vectors first: a run that ends between the two does a few videos again, and loses none.
        stored = sink.save(videos)
        prints = {video.outcome.url: video.fingerprint for video in videos if video.fingerprint is not None}
        tries = {video.outcome.url: video.tries for video in videos}
        ledger.record(
            (video.outcome for video in videos), fingerprints=prints, kind=kind, stored=stored, attempts=tries
        )

    ledger.forget_contents(earlier.keys() - known.keys())
    look_up = functools.partial(look_up_alike, ledger_path=ledger.path.absolute(), recipe=recipe.key, kind=kind)
    work = functools.partial(read_video, recipe=recipe, scan=scan, limits=limits, prepare=encoder.prepare)
    kill_after_s = limits.timeout_s + KILL_AFTER_S
    pool: Pool
    if engine == "ray" and tasks:
        pool = ClusterPool(
            functools.partial(work, known=KnownFiles(ask_for_alike)),
            make_finish=functools.partial(EncodingAtOnce, encoder, batch_size),
            answer=look_up,
            workers=workers,
            timeout_s=kill_after_s,
            uses_gpu=encoder.uses_gpu,
        )
    else:
        pool = WorkerPool(
            functools.partial(work, known=KnownFiles(look_up)),
            workers=workers or count_workers(),
            timeout_s=kill_after_s,
        )
    schedule = Schedule(tasks, most_a_host=most_a_host, retries=retries)
    # Left in the opposite order: what was encoded is saved, also when something fails.
    with (
        Saver(save) as saver,
        pool,
        ReadAhead(_read_videos(pool, schedule, thumbnails_dir), most=READ_AHEAD, stop=pool.stop) as read,
    ):
        for videos in _encode_batches(read, encoder, batch_size):
            saver.add(videos)
            report.outcomes.update((video.outcome.url, video.outcome) for video in videos)
            report.finished_s.extend([time.monotonic() - start_s] * len(videos))
            progress(len(videos))
    ledger.end_extraction()
    report.outcomes = {url: report.outcomes[url] for url in row_of}
    report.attempted = len(tasks)
    return report


def _may_pass_now(outcome: Outcome, limits: FetchLimits) -> bool:
    """Whether what was refused by a setting may be let through, for that one has another value now."""
    name, _, _ = outcome.refused_by.partition("=")
    return bool(name) and limits.spell(name) != outcome.refused_by


def _read_videos(pool: Pool, schedule: Schedule, thumbnails_dir: Path) -> Generator[tuple[int, ReadVideo]]:
    """Each video as a worker leaves it at last, in the order in which they finish; a dead worker becomes an outcome,
    and is not tried again now: what hung its decoder would hang the next one."""
    for task, result in pool.run(schedule):
        row, url = task
        if isinstance(result, Died):
            status = Status.TIMEOUT if result.timed_out else Status.DECODE_CRASH
            outcome = Outcome(url=url, status=status, reason=result.reason, retryable=result.timed_out)
            yield row, ReadVideo(outcome=outcome, tries=schedule.finish(task) or 1)
            continue
        tries = schedule.finish(task, may_pass=result.outcome.retryable, pause_s=result.retry_after_s)
        if tries is None:
            continue
        if result.strip is not None:
            path = thumbnails_dir / f"{result.outcome.key}.jpg"
            with writing(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(result.strip)
        if source := result.outcome.same_file_as:
            path = thumbnails_dir / f"{video_key(source)}.jpg"
            with writing(path), contextlib.suppress(FileNotFoundError):
                shutil.copyfile(path, thumbnails_dir / f"{result.outcome.key}.jpg")
        yield row, replace(result, tries=tries)


def _with_vectors_of_same_files(videos: Sequence[Extracted], sink: Sink) -> list[Extracted]:
    """Videos whose file was read before get its vectors. Raises RunFolderError where those are gone."""
    found = sink.load([video.outcome.same_file_as for video in videos if video.outcome.same_file_as])
    given = []
    for video in videos:
        source = video.outcome.same_file_as
        if source and source not in found:
            raise RunFolderError(
                f"the vectors of {source} are no longer where they were saved, and {video.outcome.url} is the same "
                "file: start again, and both are read again"
            )
        given.append(replace(video, vectors=replace(found[source], url=video.outcome.url)) if source else video)
    return given


class EncodingAtOnce:
    """Encodes the frames of a video where it was read, together with those of other threads' videos."""

    def __init__(self, encoder: Encoder, batch_size: int) -> None:
        self._encode = Gathered(encoder.encode_prepared, most=batch_size)

    def __call__(self, video: ReadVideo) -> ReadVideo:
        if not video.prepared:
            return video
        return replace(video, prepared=(), vectors=self._encode(video.prepared))


def _encode_batches(
    read: ReadAhead[tuple[int, ReadVideo]], encoder: Encoder, batch_size: int
) -> Iterator[list[Extracted]]:
    """Encode the frames of several videos in one call, `batch_size` frames or a little more at a time; fewer when no
    further video comes for a while."""
    waiting: list[tuple[int, ReadVideo]] = []
    while (item := read.next(within_s=ENCODE_AFTER_S)) is not ReadAhead.END:
        if isinstance(item, tuple):
            _, video = item
            if not video.prepared:
                yield [_extracted(item, video.vectors)]
                continue
            waiting.append(item)
        if waiting and (item is None or sum(len(video.prepared) for _, video in waiting) >= batch_size):
            yield _encode(waiting, encoder)
            waiting = []
    if waiting:
        yield _encode(waiting, encoder)


def _encode(waiting: Sequence[tuple[int, ReadVideo]], encoder: Encoder) -> list[Extracted]:
    vectors = encoder.encode_prepared([one for _, video in waiting for one in video.prepared])
    ends = np.cumsum([len(video.prepared) for _, video in waiting])
    return [_extracted(item, part) for item, part in zip(waiting, np.split(vectors, ends[:-1]), strict=True)]


def _extracted(item: tuple[int, ReadVideo], vectors: Vectors | None) -> Extracted:
    row, video = item
    found = None
    if vectors is not None:
        found = VideoVectors(url=video.outcome.url, vectors=vectors, positions=video.positions)
    return Extracted(row=row, outcome=video.outcome, vectors=found, fingerprint=video.fingerprint, tries=video.tries)

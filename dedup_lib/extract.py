"""From URLs to stored vectors: fetch and decode in worker processes, encode in batches, save, and note each
outcome in the ledger. What an earlier run finished is not done again."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dedup_lib.encoders import Encoder
from dedup_lib.errors import VideoTrouble
from dedup_lib.fetch import Deadline, FetchLimits, open_stream
from dedup_lib.fingerprints import fingerprint_kind, make_fingerprint
from dedup_lib.frames import draw_strip, prepare_sample, save_picture
from dedup_lib.jobs import job_dir, load_job, save_job
from dedup_lib.ledger import Ledger
from dedup_lib.records import Frames, Outcome, Pooling, Recipe, Sample, Scan, Status, VideoVectors, utc_now
from dedup_lib.run_folder import writing
from dedup_lib.store import UPSERT_ROWS, Collection
from dedup_lib.vectors import pool_vectors
from dedup_lib.video import GrabbedFrames, grab_frames
from dedup_lib.workers import Died, WorkerPool

KILL_AFTER_S = 5.0
"""A worker that is still at a video this long after its time is up is killed: its decoder hangs."""

SAVE_EVERY_S = 1.0
"""Videos that are finished wait no longer than twice this until they are encoded and saved, so that a run can be
watched. A save costs some milliseconds more than its videos do."""


@dataclass(frozen=True, kw_only=True)
class ReadVideo:
    """What a worker hands back: the outcome, and for a video with usable frames these, a strip of them, and the
    fingerprint."""

    outcome: Outcome
    sample: Sample | None = None
    strip: Frames | None = None
    fingerprint: bytes | None = None


@dataclass(frozen=True, kw_only=True)
class Extracted:
    """A video whose outcome is final; `vectors` are None when it gave none."""

    row: int
    outcome: Outcome
    vectors: VideoVectors | None
    fingerprint: bytes | None = None


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

    def find_saved(self, outcomes: Mapping[str, Outcome], rows: Mapping[str, int]) -> dict[str, Outcome]:
        saved = {}
        for url, row in rows.items():
            job = load_job(job_dir(self._jobs_dir, row))
            if job is not None and job.recipe == self._recipe and job.outcome.url == url:
                saved[url] = job.outcome
            elif url in outcomes and outcomes[url].status != Status.OK:
                # 04_clean_jobs removes the folders of videos that gave no vector.
                saved[url] = outcomes[url]
        return saved

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


def read_video(task: tuple[int, str], *, recipe: Recipe, scan: Scan, limits: FetchLimits) -> ReadVideo:
    """Fetch, decode and prepare the frames of one URL. Runs in a worker process; never raises."""
    _, url = task
    start_s, started = time.monotonic(), utc_now()
    stream = None
    try:
        deadline = Deadline(limits.timeout_s)
        stream = open_stream(url, limits=limits, deadline=deadline)
        grabbed = grab_frames(
            stream,
            num_frames=recipe.num_frames,
            frame_span=recipe.frame_span,
            deadline=deadline,
            scan_step_s=scan.step_s,
            scan_longest_s=scan.longest_s,
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
        )
        read = ReadVideo(
            outcome=outcome,
            sample=sample if sample.frames else None,
            strip=draw_strip(grabbed.frames),
            fingerprint=_fingerprint(grabbed) if sample.frames else None,
        )
    except VideoTrouble as trouble:
        read = ReadVideo(
            outcome=Outcome(url=url, status=trouble.status, reason=trouble.reason, retryable=trouble.retryable)
        )
    except Exception as error:
        # Whatever a hostile file provokes, it is the trouble of one video.
        reason = f"reading it fails unexpectedly: {type(error).__name__}: {error}"
        read = ReadVideo(outcome=Outcome(url=url, status=Status.DECODE_ERROR, reason=reason[:500]))
    finally:
        fetched_bytes = stream.fetched_bytes if stream is not None else 0
        if stream is not None:
            stream.close()
    elapsed_s = round(time.monotonic() - start_s, 3)
    return replace(
        read, outcome=replace(read.outcome, fetched_bytes=fetched_bytes, elapsed_s=elapsed_s, started=started)
    )


def _fingerprint(grabbed: GrabbedFrames) -> bytes | None:
    # Where the scanned part shows nothing, the frames from further on still do.
    fingerprint = make_fingerprint(grabbed.scanned, times_s=grabbed.scanned_times_s) or make_fingerprint(
        grabbed.frames, times_s=grabbed.times_s
    )
    return fingerprint.to_bytes() if fingerprint is not None else None


def _picture_fraction(grabbed: GrabbedFrames, sample: Sample) -> float:
    if not sample.frames:
        return 1.0
    whole = grabbed.frames[grabbed.positions.index(sample.positions[0])]
    return round(sample.frames[0].size / whole.size, 3)


def _why_featureless(recipe: Recipe) -> str:
    if recipe.frame_span == "first":
        return "the first frames show one flat colour; frame_span: spread looks further"
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
    workers: int,
    batch_size: int,
    thumbnails_dir: Path,
    overwrite: bool = False,
    progress: Callable[[int], object] = lambda count: None,
) -> ExtractReport:
    """Bring every URL to a final outcome, with its vectors in `sink` and its outcome in `ledger`.

    `rows` are the places of the URLs in the list; a URL that occurs again is done once. Outcomes of earlier runs
    stand, but for those that may end better when tried again, and for all of them with `overwrite`. `progress` is
    called with the number of videos newly done. Raises RunFolderError when the disk refuses.
    """
    row_of: dict[str, int] = {}
    for row, url in zip(rows, urls, strict=True):
        row_of.setdefault(url, row)
    earlier = ledger.load()
    kind = fingerprint_kind(scan, recipe)
    known = {} if overwrite else sink.find_saved(earlier, row_of)
    kinds = ledger.load_kinds()
    known = {url: o for url, o in known.items() if o.status != Status.OK or kinds.get(o.key) == kind}
    report = ExtractReport(outcomes={url: o for url, o in known.items() if not o.retryable})
    ledger.record(outcome for url, outcome in report.outcomes.items() if earlier.get(url) != outcome)
    report.skipped = len(report.outcomes)
    ledger.begin_extraction(total=len(row_of), done=report.skipped)
    progress(report.skipped)
    tasks = [(row, url) for url, row in row_of.items() if url not in report.outcomes]
    start_s = last_saved_s = time.monotonic()
    unsaved: list[Extracted] = []

    def save() -> None:
        # Vectors first: a run that ends between the two does a few videos again, and loses none.
        stored = sink.save(unsaved)
        prints = {video.outcome.url: video.fingerprint for video in unsaved if video.fingerprint is not None}
        ledger.record((video.outcome for video in unsaved), fingerprints=prints, kind=kind, stored=stored)
        unsaved.clear()

    read = _read_videos(tasks, recipe, scan, limits, workers, thumbnails_dir)
    # Closed here, not when the exception of a run that fails is forgotten: until then its processes would go on.
    with contextlib.closing(read), contextlib.closing(_encode_batches(read, encoder, batch_size)) as batches:
        for videos in batches:
            unsaved.extend(videos)
            now_s = time.monotonic()
            report.outcomes.update((video.outcome.url, video.outcome) for video in videos)
            report.finished_s.extend([now_s - start_s] * len(videos))
            if len(unsaved) >= UPSERT_ROWS or (unsaved and now_s - last_saved_s >= SAVE_EVERY_S):
                save()
                last_saved_s = now_s
            progress(len(videos))
    save()
    ledger.end_extraction()
    report.outcomes = {url: report.outcomes[url] for url in row_of}
    report.attempted = len(tasks)
    return report


def _read_videos(
    tasks: Sequence[tuple[int, str]],
    recipe: Recipe,
    scan: Scan,
    limits: FetchLimits,
    workers: int,
    thumbnails_dir: Path,
) -> Generator[tuple[int, ReadVideo] | None]:
    """Each video as a worker leaves it, in the order in which they finish; a dead worker becomes an outcome. None when
    for a while there is none."""
    work = functools.partial(read_video, recipe=recipe, scan=scan, limits=limits)
    with WorkerPool(work, workers=min(workers, max(1, len(tasks))), timeout_s=limits.timeout_s + KILL_AFTER_S) as pool:
        for finished in pool.run_or_pause(tasks, pause_after_s=SAVE_EVERY_S):
            if finished is None:
                yield None
                continue
            (row, url), result = finished
            if isinstance(result, Died):
                status = Status.TIMEOUT if result.timed_out else Status.DECODE_CRASH
                outcome = Outcome(url=url, status=status, reason=result.reason, retryable=result.timed_out)
                yield row, ReadVideo(outcome=outcome)
                continue
            if result.strip is not None:
                path = thumbnails_dir / f"{result.outcome.key}.jpg"
                with writing(path):
                    save_picture(result.strip, path)
            yield row, result


def _encode_batches(
    read: Iterator[tuple[int, ReadVideo] | None], encoder: Encoder, batch_size: int
) -> Generator[list[Extracted]]:
    """Encode the frames of several videos in one call, `batch_size` frames or a little more at a time, or fewer where
    they come slowly. An empty list when for a while there is none."""
    waiting: list[tuple[int, ReadVideo]] = []
    waits_since_s = time.monotonic()
    for found in read:
        if found is not None and found[1].sample is None:
            yield [Extracted(row=found[0], outcome=found[1].outcome, vectors=None)]
        elif found is not None:
            waits_since_s = waits_since_s if waiting else time.monotonic()
            waiting.append(found)
        is_due = waiting and time.monotonic() - waits_since_s >= SAVE_EVERY_S
        if is_due or sum(item.outcome.frames for _, item in waiting) >= batch_size:
            yield _encode(waiting, encoder)
            waiting = []
        elif found is None:
            yield []
    if waiting:
        yield _encode(waiting, encoder)


def _encode(waiting: Sequence[tuple[int, ReadVideo]], encoder: Encoder) -> list[Extracted]:
    samples = [video.sample for _, video in waiting if video.sample is not None]
    vectors = encoder.encode_frames([frame for sample in samples for frame in sample.frames])
    ends = np.cumsum([len(sample.frames) for sample in samples])
    parts = np.split(vectors, ends[:-1])
    return [
        Extracted(
            row=row,
            outcome=video.outcome,
            vectors=VideoVectors(url=video.outcome.url, vectors=part, positions=sample.positions),
            fingerprint=video.fingerprint,
        )
        for (row, video), sample, part in zip(waiting, samples, parts, strict=True)
    ]

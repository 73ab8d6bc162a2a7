"""From URLs to stored vectors: workers read, the encoder works in batches, sinks save, the ledger notes.

The three run side by side, with short queues between them: while a batch is encoded, the workers read the next videos
and the previous batch is saved. A full queue makes the stage before it wait, so that memory does not grow with the
list.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from dedup_lib.errors import RunFolderError
from dedup_lib.extract.buffers import BatchWriter, MicroBatcher, Prefetcher
from dedup_lib.extract.ray_pool import ClusterPool
from dedup_lib.extract.scheduler import Schedule
from dedup_lib.extract.sinks import Extracted, Sink
from dedup_lib.extract.videos_read import KnownFiles, ReadVideo, ask_for_alike, look_up_alike
from dedup_lib.extract.worker import read_video
from dedup_lib.extract.worker_pool import WorkerFailure, WorkerPool
from dedup_lib.features.encoder import Encoder
from dedup_lib.media.limits import FetchLimits
from dedup_lib.records import Outcome, Recipe, Scan, Status, Vectors, VideoVectors
from dedup_lib.run.files import write_bytes_atomically
from dedup_lib.run.folder import thumbnail_path
from dedup_lib.run.ledger import Ledger
from dedup_lib.run.memory import release_memory, return_large_blocks
from dedup_lib.settings import ExtractSettings

Pool = WorkerPool["tuple[int, str]", "ReadVideo"] | ClusterPool["tuple[int, str]", "ReadVideo"]

KILL_AFTER_S = 5.0
"""Seconds after a video's deadline when its worker is killed, because its decoder hangs."""

BATCHES_AHEAD = 2
"""Batches of frames that may wait for the encoder: a frame takes a quarter of a megabyte."""

ENCODE_AFTER_S = 1.0
"""Seconds without a further video after which the waiting videos are encoded."""


@dataclass(kw_only=True)
class ExtractReport:
    """What one call of `extract_videos` did."""

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    """The outcome of every URL, in the order of the list, including those of earlier runs."""
    attempted: int = 0
    skipped: int = 0
    """Number of URLs that an earlier run has done."""
    finished_s: list[float] = field(default_factory=list)
    """For each attempted video, the seconds from the start until it was done."""


def extract_videos(
    urls: Sequence[str],
    *,
    rows: Sequence[int],
    settings: ExtractSettings,
    encoder: Encoder,
    recipe: Recipe,
    scan: Scan,
    sink: Sink,
    ledger: Ledger,
    thumbnails_dir: Path,
    progress: Callable[[int], object] = lambda count: None,
) -> ExtractReport:
    """Brings every URL to a final outcome: its vectors go to `sink`, its outcome to `ledger`.

    `rows` are the rows of the URLs in the list; a URL that occurs again is done once. Outcomes of earlier runs are
    kept, with four exceptions: a setting that refused the video has another value now; a local file that was missing is
    there now; with `retry_failed`, the failure may be temporary; with `overwrite`, all are done again. `progress` is
    called with the number of videos newly done.

    At most `most_a_host` videos are fetched from one host at a time. A temporary failure is retried up to `retries`
    times, with back-off. `workers` processes (None: as many as keep the cores busy) fetch and decode on this machine.
    With `engine: ray`, they run on each node of the cluster that RAY_ADDRESS names, and the nodes also encode.

    Raises RunFolderError for an error of the disk, and ClusterError for an error of the cluster.
    """
    return_large_blocks()
    row_of: dict[str, int] = {}
    for row, url in zip(rows, urls, strict=True):
        row_of.setdefault(url, row)
    limits = FetchLimits.of(settings)
    earlier = ledger.load()
    kind = scan.fingerprint_kind(recipe)
    known = {} if settings.overwrite else sink.find_saved(earlier, row_of)
    kinds = ledger.load_kinds()
    known = {url: o for url, o in known.items() if o.status != Status.OK or kinds.get(o.key) == kind}
    report = ExtractReport(
        outcomes={
            url: outcome
            for url, outcome in known.items()
            if not (outcome.retryable and settings.retry_failed) and not _may_pass_now(outcome, limits)
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
        # Vectors first: a run that ends between the two steps repeats a few videos, and loses none.
        stored = sink.save(videos)
        prints = {video.outcome.url: video.fingerprint for video in videos if video.fingerprint is not None}
        tries = {video.outcome.url: video.tries for video in videos}
        ledger.record(
            (video.outcome for video in videos), fingerprints=prints, kind=kind, stored=stored, attempts=tries
        )
        release_memory()

    ledger.forget_contents(earlier.keys() - known.keys())
    look_up = functools.partial(look_up_alike, ledger_path=ledger.path.absolute(), recipe=recipe.key, kind=kind)
    work = functools.partial(read_video, recipe=recipe, scan=scan, limits=limits, prepare=encoder.prepare)
    kill_after_s = limits.timeout_s + KILL_AFTER_S
    pool: Pool
    if settings.engine == "ray" and tasks:
        pool = ClusterPool(
            functools.partial(work, known=KnownFiles(ask_for_alike)),
            make_finish=functools.partial(EncodingAtOnce, encoder, settings.batch_size),
            answer=look_up,
            workers=settings.workers,
            timeout_s=kill_after_s,
            uses_gpu=encoder.uses_gpu,
        )
    else:
        pool = WorkerPool(
            functools.partial(work, known=KnownFiles(look_up)), workers=settings.workers, timeout_s=kill_after_s
        )
    schedule = Schedule(tasks, most_a_host=settings.most_a_host, retries=settings.retries)
    most_ahead = math.ceil(BATCHES_AHEAD * settings.batch_size / recipe.num_frames)
    # The contexts close in the opposite order, so that encoded videos are saved even after a failure.
    with (
        BatchWriter(save) as saver,
        pool,
        Prefetcher(_read_videos(pool, schedule, thumbnails_dir), most=most_ahead, stop=pool.stop) as read,
    ):
        for videos in _encode_batches(read, encoder, settings.batch_size):
            saver.add(videos)
            report.outcomes.update((video.outcome.url, video.outcome) for video in videos)
            report.finished_s.extend([time.monotonic() - start_s] * len(videos))
            progress(len(videos))
    ledger.end_extraction()
    report.outcomes = {url: report.outcomes[url] for url in row_of}
    report.attempted = len(tasks)
    return report


def _may_pass_now(outcome: Outcome, limits: FetchLimits) -> bool:
    """Whether the setting that refused the video has another value now, or a file that was missing is there now."""
    if outcome.refused_by:
        name, _, _ = outcome.refused_by.partition("=")
        return limits.spell(name) != outcome.refused_by
    # Path.is_file would raise for a name that is too long.
    return outcome.status == Status.INVALID_URL and os.path.isfile(outcome.url)  # noqa: PTH113


def _read_videos(pool: Pool, schedule: Schedule, thumbnails_dir: Path) -> Generator[tuple[int, ReadVideo]]:
    """Yields each video after its last try, in the order in which they finish. The death of a worker becomes an outcome
    without a retry in this run: what hung its decoder would hang the next one."""
    for task, result in pool.run(schedule):
        row, url = task
        if isinstance(result, WorkerFailure):
            status = Status.TIMEOUT if result.timed_out else Status.DECODE_CRASH
            may_pass = result.timed_out or result.was_killed
            outcome = Outcome(url=url, status=status, reason=result.reason, retryable=may_pass)
            yield row, ReadVideo(outcome=outcome, tries=schedule.finish(task) or 1)
            continue
        tries = schedule.finish(task, may_pass=result.outcome.retryable, pause_s=result.retry_after_s)
        if tries is None:
            continue
        path = thumbnail_path(result.outcome.url, thumbnails_dir=thumbnails_dir)
        if result.storyboard is not None:
            write_bytes_atomically(path, result.storyboard)
        if source := result.outcome.same_file_as:
            with contextlib.suppress(FileNotFoundError):
                write_bytes_atomically(path, thumbnail_path(source, thumbnails_dir=thumbnails_dir).read_bytes())
        yield row, replace(result, tries=tries)


def _with_vectors_of_same_files(videos: Sequence[Extracted], sink: Sink) -> list[Extracted]:
    """Gives videos whose file was read before the vectors of that file. Raises RunFolderError when those are gone."""
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
    """Encodes the frames of a video on the node that read it, together with those of videos in other threads."""

    def __init__(self, encoder: Encoder, batch_size: int) -> None:
        self._encode = MicroBatcher(encoder.encode_prepared, most=batch_size)

    def __call__(self, video: ReadVideo) -> ReadVideo:
        if not video.prepared:
            return video
        return replace(video, prepared=(), vectors=self._encode(video.prepared))


def _encode_batches(
    read: Prefetcher[tuple[int, ReadVideo]], encoder: Encoder, batch_size: int
) -> Iterator[list[Extracted]]:
    """Encodes the frames of several videos in one call: at least `batch_size` frames, or fewer when no further video
    comes within `ENCODE_AFTER_S`."""
    waiting: list[tuple[int, ReadVideo]] = []
    while (item := read.next(within_s=ENCODE_AFTER_S)) is not Prefetcher.END:
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

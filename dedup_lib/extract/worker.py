"""What a worker process does with one URL: fetch, decode, prepare frames."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from dedup_lib.errors import RunFolderError, VideoTrouble
from dedup_lib.extract.worker_pool import call_parent
from dedup_lib.features.encoder import Prepared
from dedup_lib.features.fingerprint import make_fingerprint
from dedup_lib.features.sound import fingerprint_sound
from dedup_lib.media.frames import prepare_sample, use_one_thread
from dedup_lib.media.limits import Deadline, FetchLimits
from dedup_lib.media.opening import open_video
from dedup_lib.media.sampling import GrabbedFrames, grab_frames
from dedup_lib.media.storyboard import Storyboard
from dedup_lib.media.streams import MediaStream
from dedup_lib.records import Frames, Outcome, Recipe, Sample, Scan, Status, Vectors, utc_now
from dedup_lib.run.ledger import LedgerView


@dataclass(frozen=True, kw_only=True)
class ReadVideo:
    """The result of a worker: the outcome and, for a video with usable frames, the encoder's input and the position of
    each frame, the storyboard as JPEG, and the fingerprint."""

    outcome: Outcome
    prepared: tuple[Prepared, ...] = ()
    positions: tuple[int, ...] = ()
    vectors: Vectors | None = None
    """Vectors of a video that is already encoded; `prepared` is then empty."""
    storyboard: bytes | None = None
    fingerprint: bytes | None = None
    retry_after_s: float | None = None
    """Pause that the server asks for before a retry."""
    tries: int = 1
    """Number of tries in this run, including this one."""


Alike = list[tuple[Outcome, bytes]]
"""Outcomes of videos that were read without error, each with its fingerprint."""


def look_up_alike(beginning: str, *, ledger_path: Path, recipe: str, kind: str) -> Alike:
    """Finds files with this beginning mark in a ledger: those of the recipe with this key and with fingerprints of this
    kind."""
    if not ledger_path.exists():
        return []
    try:
        with LedgerView(ledger_path) as view:
            return view.find_alike(recipe, beginning, kind)
    except RunFolderError:
        # When the ledger cannot be read just now, the video is decoded once more, and none is lost.
        return []


def ask_for_alike(beginning: str) -> Alike:
    """Like `look_up_alike`, but asks the parent process, which has the ledger."""
    return call_parent(beginning) or []


@dataclass(frozen=True)
class KnownFiles:
    """The files already read: a list often has one file under several addresses."""

    look_up: Callable[[str], Alike]
    """Returns the files with a given beginning mark."""

    def find(self, url: str, stream: MediaStream) -> ReadVideo | None:
        """Returns what was read of the same file under another address, or None. Raises VideoTrouble.

        Files are the same when their length and beginning are equal, and either the same server states the same hash
        for both, or further parts that were read of the first file are equal: decoding them would give the same frames.
        A server without range requests always gives None."""
        if not stream.beginning_mark:
            return None
        alike = [found for found in self.look_up(stream.beginning_mark) if found[0].url != url]
        same = [found for found in alike if stream.tag and found[0].tag == stream.tag]
        if not same:
            same = list(islice((found for found in alike if stream.agrees_with(found[0].content)), 1))
        if not same:
            return None
        outcome, fingerprint = same[0]
        return ReadVideo(
            outcome=replace(outcome, url=url, tag=stream.tag, same_file_as=outcome.url), fingerprint=fingerprint
        )


def read_video(
    task: tuple[int, str],
    *,
    recipe: Recipe,
    scan: Scan,
    limits: FetchLimits,
    prepare: Callable[[Frames], Prepared],
    known: KnownFiles | None = None,
) -> ReadVideo:
    """Fetches, decodes and prepares the frames of one URL; does not decode a `known` file. Runs in a worker process and
    never raises."""
    use_one_thread()
    _, url = task
    start_s, started = time.monotonic(), utc_now()
    stream = None
    try:
        deadline = Deadline(limits.timeout_s)
        stream = open_video(url, limits=limits, deadline=deadline)
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
        # A hostile file may cause any exception, and must fail only its own video.
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
        stream, num_frames=recipe.num_frames, frame_span=recipe.frame_span, deadline=deadline, scan=scan
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
        # Where each frame takes the same number of bytes, as in DV, unlike films often have one length and few other
        # marks: such a file is always decoded.
        content="" if grabbed.facts.has_only_key_frames else stream.content_mark,
        tag=stream.tag,
    )
    return ReadVideo(
        outcome=outcome,
        prepared=tuple(map(prepare, sample.frames)),
        positions=sample.positions,
        storyboard=_storyboard(grabbed),
        fingerprint=_fingerprint(grabbed) if sample.frames else None,
    )


def _fingerprint(grabbed: GrabbedFrames) -> bytes | None:
    # When the scanned frames give no fingerprint, the later frames still may.
    fingerprint = make_fingerprint(
        grabbed.scanned, times_s=grabbed.scanned_times_s, weights=grabbed.scanned_weights
    ) or make_fingerprint(grabbed.frames, times_s=grabbed.times_s)
    if fingerprint is None:
        return None
    sound = fingerprint_sound(grabbed.sound) if grabbed.sound is not None else None
    return replace(fingerprint, sound=sound).to_bytes()


def _storyboard(grabbed: GrabbedFrames) -> bytes:
    if grabbed.scanned:
        return Storyboard.of(grabbed.scanned, times_s=grabbed.scanned_times_s).to_bytes()
    return Storyboard.of(grabbed.frames, times_s=grabbed.times_s).to_bytes()


def _picture_fraction(grabbed: GrabbedFrames, sample: Sample) -> float:
    if not sample.frames:
        return 1.0
    whole = grabbed.frames[grabbed.positions.index(sample.positions[0])]
    return round(sample.frames[0].size / whole.size, 3)


def _why_featureless(recipe: Recipe) -> str:
    if recipe.frame_span == "first":
        return "the first frames show one flat colour; frame_span: spread would look further"
    return "every frame taken shows one flat colour"

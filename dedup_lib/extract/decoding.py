"""What a worker process makes of the stream of one video: frames for the encoder, a fingerprint, a storyboard."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from dedup_lib.extract.videos_read import ReadVideo
from dedup_lib.features.encoder import Prepared
from dedup_lib.features.fingerprint import make_fingerprint
from dedup_lib.features.sound import fingerprint_sound
from dedup_lib.media.frames import prepare_sample
from dedup_lib.media.limits import Deadline
from dedup_lib.media.sampling import GrabbedFrames, grab_frames
from dedup_lib.media.storyboard import Storyboard
from dedup_lib.media.streams import MediaStream
from dedup_lib.records import Frames, Outcome, Recipe, Sample, Scan, Status


def decode_video(
    url: str,
    stream: MediaStream,
    *,
    recipe: Recipe,
    scan: Scan,
    deadline: Deadline,
    prepare: Callable[[Frames], Prepared],
) -> ReadVideo:
    """Decodes the frames of one stream and prepares them for the encoder. Raises VideoTrouble."""
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

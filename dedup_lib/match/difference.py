"""The part that differs throughout, looked for in the alignment in which two videos fit best.

Frames are aligned by geometry and in time. Where a part differs then, motion decides whether other moments
correspond.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dedup_lib.features.fingerprint import Fingerprint
from dedup_lib.features.perceptual_hash import find_orientation_map, orient_frames
from dedup_lib.match.aligned_frames import AffineMaps, AlignedFrames, spread
from dedup_lib.match.alignment import AlignedSegment
from dedup_lib.match.block_motion import MIN_FRAMES
from dedup_lib.match.blocks import STILL_PX, shrink
from dedup_lib.match.colours import find_other_colour
from dedup_lib.match.evidence import DECIDING_CRITERIA, Criterion, Evidence
from dedup_lib.match.geometry import find_maps, find_overlap, register, warp_chroma, warp_stills, warp_tiny_frames
from dedup_lib.match.moments import SAME_MOMENT_S, align_changes, find_moments, find_shift, show_at
from dedup_lib.match.motion import ALIKE, correlate_changes
from dedup_lib.match.refine import refine
from dedup_lib.match.regions import (
    MIN_STILLS,
    Region,
    find_region,
    outline_region,
    show_the_same,
)
from dedup_lib.match.temporal_votes import OFFSET_TOLERANCE_S
from dedup_lib.media.frames import resize_frame

WORTH_COMPARING = 0.8
"""Another temporal alignment counts if it compares at least this share of the frames that the best one compares."""

MAX_STILLS_COMPARED = 32
"""Maximum number of stills compared in two long films, spread over all that they share: a region that differs does so
throughout."""


def find_differing_region(
    evidence: Evidence, first: Fingerprint, second: Fingerprint, *, orientation: int
) -> Region | None:
    """The part of the frame that differs throughout; None if there is none, or if the agreement would not decide.
    `orientation` is that of the first video in which frames agree as they are."""
    criterion, segment = evidence.best
    if criterion not in DECIDING_CRITERIA or segment is None:
        return None
    only_changes = criterion in (Criterion.MOTION, Criterion.REGISTERED_MOTION)
    # A temporal alignment that compares fewer frames says less. But one is not enough: in a scene that hardly moves,
    # frames agree at any time.
    moving = [
        one.segment
        for one in (evidence.motion, evidence.registered_motion)
        if one is not None and one.moves and one.segment.compared >= WORTH_COMPARING * segment.compared
    ]
    # A generator: the frames of long films, aligned in every way at once, would take much memory.
    ways = (
        (frames, one, _align_frames(one, frames, first, second, only_changes=only_changes))
        for frames in _register_all(evidence, first, second, orientation=orientation)
        for one in (segment, *moving)
    )
    frames, best, aligned = max(ways, key=lambda way: way[2].fit)
    found = find_region(aligned)
    if found is not None:
        closer = align_changes(*frames.tiny_frames, first, second, segment) if segment.correlation < ALIKE else None
        if closer is not None or not aligned.shows_moments:
            again = _align_frames(closer or best, frames, first, second, only_changes=only_changes, is_shifted=True)
            if correlate_changes(*map(shrink, again.tiny_frames)) >= ALIKE:
                aligned, found = again, find_region(again)
    if found is not None:
        refined = refine(aligned)
        if refined is not None:
            aligned, found = refined, find_region(refined)
    return found or _find_recoloured(aligned)


def _find_recoloured(aligned: AlignedFrames) -> Region | None:
    """The part that has another colour; None if there is none."""
    component = find_other_colour(aligned)
    if component is None:
        return None
    down, across = (np.flatnonzero(component.any(axis=axis)) / len(component) for axis in (1, 0))
    cell = 1 / len(component)
    box = float(across[0]), float(down[0]), float(across[-1] + cell), float(down[-1] + cell)
    return outline_region(box, aligned, only_colour=True)


_FramePair = tuple[NDArray[np.uint8], NDArray[np.uint8]]


@dataclass(frozen=True, kw_only=True)
class _Registered:
    """All frames of two videos, aligned by geometry: `tiny_frames` grey uint8 (N, 64, 64) and (M, 64, 64), `stills`
    grey uint8 (F, 256, 256) and (G, 256, 256), and their colours, `chroma`, as `Fingerprint.unpack_chroma`. `maps` are
    those of `AlignedFrames`."""

    tiny_frames: _FramePair
    stills: _FramePair
    chroma: _FramePair | None
    maps: AffineMaps


def _register_all(
    evidence: Evidence, first: Fingerprint, second: Fingerprint, *, orientation: int
) -> Iterator[_Registered]:
    """The frames of both videos in each supported alignment by geometry."""
    if evidence.best[0] not in (Criterion.REGISTERED, Criterion.REGISTERED_MOTION):
        own, stills = orient_frames(first.tiny_frames, orientation), orient_frames(first.unpack_stills(), orientation)
        yield _Registered(
            tiny_frames=(own, second.tiny_frames),
            stills=(_as_squares(stills), _as_squares(second.unpack_stills())),
            chroma=_orient_chroma(first, second, orientation),
            maps=(find_orientation_map(orientation), find_orientation_map(0)),
        )
    known = evidence.registration
    ways = [known] if known is not None else (register(first, second, mirrored=way) for way in (False, True))
    for registration in ways:
        if registration is None:
            continue
        overlap = find_overlap(first, second, registration)
        yield _Registered(
            tiny_frames=warp_tiny_frames(first, second, overlap),
            stills=warp_stills(first, second, overlap, side_px=STILL_PX),
            chroma=warp_chroma(first, second, overlap),
            maps=find_maps(first, second, overlap),
        )


def _orient_chroma(first: Fingerprint, second: Fingerprint, orientation: int) -> _FramePair | None:
    """The colours of the stills, those of the first video in this orientation; None if those of one are not known."""
    own, others = first.unpack_chroma(), second.unpack_chroma()
    if own is None or others is None:
        return None
    return orient_frames(own.reshape(-1, *own.shape[2:]), orientation).reshape(own.shape), others


def _align_frames(
    segment: AlignedSegment,
    frames: _Registered,
    first: Fingerprint,
    second: Fingerprint,
    *,
    only_changes: bool,
    is_shifted: bool = False,
) -> AlignedFrames:
    """The frames that one alignment in time lays on one another. `is_shifted`: shifted by less than a step of the scan,
    so that they fit best."""
    own, others = frames.tiny_frames
    places, other_places = segment.frame_correspondences(first.times_s, second.times_s)
    at_s = segment.shown_in_second(first.times_s)[places]
    is_simultaneous = bool(abs(segment.offset_s) <= SAME_MOMENT_S) and not segment.further
    moments_s, other_moments_s = find_moments(first), find_moments(second)
    is_same = np.abs(other_moments_s[other_places] - segment.shown_in_second(moments_s)[places]) <= SAME_MOMENT_S
    # A speed other than 1 is known only approximately, and so is the same moment in both videos.
    shows_moments = is_simultaneous and segment.speed == 1.0 and is_same.sum() >= MIN_FRAMES
    if shows_moments:
        places, other_places, at_s = places[is_same], other_places[is_same], at_s[is_same]
    elif is_shifted and not segment.is_sparse:
        at_s = at_s + np.float32(find_shift(own[places], at_s, others, second.times_s))
    if segment.is_sparse:
        # Nothing is known between frames that are seconds apart.
        at_s = second.times_s[other_places]
    chosen, other_chosen = segment.correspondences_at(
        first.still_times_s, second.still_times_s, tolerance_s=OFFSET_TOLERANCE_S
    )
    stills, other_stills = frames.stills
    if segment.is_sparse:
        # Key frames often lie at a cut, and the still of the other video may lie before it.
        kept = np.flatnonzero(show_the_same(stills[chosen], other_stills[other_chosen]))
        kept = kept[spread(len(kept), MAX_STILLS_COMPARED)]
        chosen, other_chosen = chosen[kept], other_chosen[kept]
    of_stills = moments_s[np.searchsorted(first.times_s, first.still_times_s[chosen])]
    other_of_stills = other_moments_s[np.searchsorted(second.times_s, second.still_times_s[other_chosen])]
    apart_s = other_of_stills - segment.shown_in_second(of_stills)
    both_stills = stills[chosen], other_stills[other_chosen]
    chroma = (frames.chroma[0][chosen], frames.chroma[1][other_chosen]) if frames.chroma is not None else None
    if len(chosen) < MIN_STILLS:
        # An excerpt shows few of the moments of which the whole film has stills.
        shown = spread(len(places), MAX_STILLS_COMPARED)
        apart_s = (second.times_s[other_places] - segment.shown_in_second(first.times_s)[places])[shown]
        chroma = None
        both_stills = _as_squares(own[places[shown]]), _as_squares(others[other_places[shown]])
    is_known = np.isfinite(apart_s) & (segment.speed == 1.0)
    return AlignedFrames(
        tiny_frames=(own[places], show_at(at_s, others, second.times_s)),
        stills=both_stills,
        maps=frames.maps,
        only_changes=only_changes,
        is_simultaneous=is_simultaneous,
        shows_moments=shows_moments,
        apart_s=np.where(is_known, apart_s, np.inf),
        chroma=chroma,
    )


def _as_squares(stills: NDArray[np.uint8]) -> NDArray[np.uint8]:
    squares = [resize_frame(still, (STILL_PX, STILL_PX)) for still in stills]
    return np.array(squares, np.uint8).reshape(-1, STILL_PX, STILL_PX)

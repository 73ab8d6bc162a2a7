"""Compares two fingerprints: alignment, motion, geometric verification, differing region, sound."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dedup_lib.features.fingerprint import Fingerprint
from dedup_lib.features.perceptual_hash import (
    count_differing_bits,
    hash_frames,
    hash_orientations,
)
from dedup_lib.match.aligned_frames import map_box
from dedup_lib.match.alignment import AlignedSegment, align_videos
from dedup_lib.match.difference import find_differing_region
from dedup_lib.match.evidence import DECIDING_CRITERIA, PROVING_CRITERIA, Criterion, Evidence
from dedup_lib.match.geometry import find_maps, find_overlap, register, warp_tiny_frames
from dedup_lib.match.moments import SameMoments, compare_same_moments
from dedup_lib.match.motion import ALIKE, MotionTrack, compare_motion, correlate_segment, extract_motion
from dedup_lib.match.overlay import Side, find_overlay, is_inset_frame
from dedup_lib.match.sound import SoundMatch, compare_sound

MAX_DISTANCE_BITS = 56
"""Maximum Hamming distance, in bits, of two frames that show the same. Unlike frames lie at 75 bits and more, most
above 100."""

MAX_REGISTERED_DISTANCE_BITS = 48
"""The same for frames aligned by geometry. It is lower because such frames already have a similar geometry."""


@dataclass(frozen=True)
class FrameFeatures:
    """The parts of one fingerprint that are compared, each computed on first use."""

    fingerprint: Fingerprint

    @cached_property
    def hashes(self) -> NDArray[np.uint8]:
        """uint8 (8, N, 32), in the order of `perceptual_hash.ORIENTATIONS`."""
        return hash_orientations(self.fingerprint.tiny_frames)

    @cached_property
    def track(self) -> MotionTrack:
        one = self.fingerprint
        return extract_motion(one.tiny_frames, times_s=one.times_s, weights=one.weights)


def compare_pair(first: Fingerprint, second: Fingerprint, *, durations_s: Sequence[float]) -> Evidence:
    """The evidence from the frames of two videos, whether or not the pair is a candidate. `first` stands for row 0
    and `second` for row 1."""
    return compare_features(
        with_durations(Evidence(first=0, second=1), durations_s), FrameFeatures(first), FrameFeatures(second)
    )


def with_durations(evidence: Evidence, durations_s: Sequence[float]) -> Evidence:
    """The same evidence, completed by `durations_s`, the durations of the videos in all rows."""
    shorter, longer = sorted((durations_s[evidence.first], durations_s[evidence.second]))
    return replace(evidence, duration_ratio=shorter / longer if longer else math.nan, longest_s=longer or math.nan)


def compare_features(candidate: Evidence, first: FrameFeatures | None, second: FrameFeatures | None) -> Evidence:
    """`candidate` with the evidence from the frames of its two videos; unchanged if a fingerprint is missing."""
    if first is None or second is None:
        return candidate
    # The order in the list must not change the result.
    if is_exchanged := _content(second.fingerprint) < _content(first.fingerprint):
        first, second = second, first
    found = _compare(candidate, first, second)
    return found.exchanged() if is_exchanged else found


def _content(fingerprint: Fingerprint) -> tuple[int, bytes]:
    return len(fingerprint.times_s), fingerprint.tiny_frames[0].tobytes() + fingerprint.descriptors[:8].tobytes()


def _compare(candidate: Evidence, one: FrameFeatures, other: FrameFeatures) -> Evidence:
    first, second = one.fingerprint, other.fingerprint
    # In most pairs no two frames agree in any orientation, and one comparison of all shows it.
    distances = count_differing_bits(one.hashes.reshape(-1, one.hashes.shape[2]), other.hashes[0])
    has_near = (distances <= MAX_DISTANCE_BITS).reshape(len(one.hashes), -1).any(axis=1)
    found: dict[int, AlignedSegment] = {}
    for orientation in np.flatnonzero(has_near):
        segment = align_videos(one.hashes[orientation], other.hashes[0], first, second, max_distance=MAX_DISTANCE_BITS)
        if segment is not None:
            found[int(orientation)] = segment
    best = max(found, key=lambda orientation: found[orientation].strength, default=0)
    track = one.track.oriented(best) if best else one.track
    frames = found.get(best)
    if frames is not None:
        frames = replace(frames, correlation=correlate_segment(track, other.track, frames))
    evidence = replace(
        candidate,
        frames=frames,
        # Where no frame agrees, motion has nothing to contradict: it counts only if it is alike.
        motion=compare_motion(
            track,
            other.track,
            lowest=-1.0 if frames is not None else ALIKE,
            known=frames,
        ),
        min_frames=min(len(first.times_s), len(second.times_s)),
        is_exact=frames is not None and _is_same(first, second),
    )
    if not (evidence.is_settled or evidence.is_settled_by_changes):
        evidence = _verify_both_ways(evidence, first, second)
    return replace(
        evidence,
        overlay=_find_overlay(evidence, first, second, is_turned=bool(best)),
        difference=find_differing_region(evidence, first, second, orientation=best),
        sound=_compare_sound(evidence, first, second),
        moments=_compare_moments(evidence, one, other, orientation=best),
        inset=_find_inset(evidence, first, second),
    )


def _compare_sound(evidence: Evidence, first: Fingerprint, second: Fingerprint) -> SoundMatch | None:
    """How alike both sound; None unless the agreement of their frames would decide."""
    criterion, segment = evidence.best
    if segment is None or criterion not in PROVING_CRITERIA:
        return None
    return compare_sound(first.sound, second.sound, segment)


def _compare_moments(
    evidence: Evidence, one: FrameFeatures, other: FrameFeatures, *, orientation: int
) -> SameMoments | None:
    """What both show at the same moments; None unless the agreement of their frames would decide."""
    (criterion, segment), first, second = evidence.best, one.fingerprint, other.fingerprint
    if segment is None or criterion not in (Criterion.FRAMES, Criterion.CONFIRMED, Criterion.REGISTERED):
        return None
    hashes, others, max_distance = one.hashes[orientation], other.hashes[0], MAX_DISTANCE_BITS
    if criterion == Criterion.REGISTERED and evidence.registration is not None:
        warped_first, warped_second = warp_tiny_frames(first, second, evidence.registration)
        hashes, others = hash_frames(warped_first), hash_frames(warped_second)
        max_distance = MAX_REGISTERED_DISTANCE_BITS
    return compare_same_moments(hashes, others, first, second, segment, max_distance=max_distance)


def _find_inset(evidence: Evidence, first: Fingerprint, second: Fingerprint) -> Side:
    registration = evidence.registration
    if registration is None or evidence.best[0] not in (Criterion.REGISTERED, Criterion.REGISTERED_MOTION):
        return ""
    maps = find_maps(first, second, find_overlap(first, second, registration))
    in_first, in_second = (map_box((0, 0, 1, 1), matrix) for matrix in maps)
    if is_inset_frame(second.tiny_frames, in_second):
        return "second"
    return "first" if is_inset_frame(first.tiny_frames, in_first) else ""


def _find_overlay(evidence: Evidence, first: Fingerprint, second: Fingerprint, *, is_turned: bool) -> Side:
    criterion, segment = evidence.best
    if criterion not in DECIDING_CRITERIA or segment is None or segment.speed != 1.0:
        return ""
    own, others = first.tiny_frames, second.tiny_frames
    if criterion in (Criterion.REGISTERED, Criterion.REGISTERED_MOTION):
        assert evidence.registration is not None
        own, others = warp_tiny_frames(first, second, evidence.registration)
    elif is_turned:
        return ""
    places, other_places = segment.frame_correspondences(first.times_s, second.times_s)
    return find_overlay(own[places], others[other_places])


def _verify_both_ways(evidence: Evidence, first: Fingerprint, second: Fingerprint) -> Evidence:
    """The stronger second opinion of two: with the first video as it is, and with the first video mirrored."""
    plain = _verify_geometry(evidence, first, second, mirrored=False)
    # No two frames can be aligned both as they are and mirrored.
    if plain.has_geometric_match:
        return plain
    return max(
        (plain, _verify_geometry(evidence, first, second, mirrored=True)),
        key=lambda found: (
            found.has_geometric_match,
            found.registered.strength if found.registered else -1.0,
            found.registration.inliers if found.registration else 0,
        ),
    )


def _verify_geometry(evidence: Evidence, first: Fingerprint, second: Fingerprint, *, mirrored: bool) -> Evidence:
    """Align the frames of two videos by geometry, and compare what both show."""
    registration = register(first, second, mirrored=mirrored)
    if registration is None:
        return evidence
    warped_first, warped_second = warp_tiny_frames(first, second, registration)
    own, others = hash_frames(warped_first), hash_frames(warped_second)
    registered = align_videos(own, others, first, second, max_distance=MAX_REGISTERED_DISTANCE_BITS)
    track, other = (
        extract_motion(warped, times_s=one.times_s, weights=one.weights)
        for warped, one in ((warped_first, first), (warped_second, second))
    )
    if registered is not None:
        registered = replace(registered, correlation=correlate_segment(track, other, registered))
    return replace(
        evidence,
        registration=registration,
        registered=registered,
        registered_motion=compare_motion(track, other, known=registered),
    )


def _is_same(first: Fingerprint, second: Fingerprint) -> bool:
    """Whether two videos were decoded to identical frames, whatever file they came in."""
    return (
        np.array_equal(first.tiny_frames, second.tiny_frames)
        and np.array_equal(first.times_s, second.times_s)
        and np.array_equal(first.descriptors, second.descriptors)
        and (None in (first.packed_chroma, second.packed_chroma) or first.packed_chroma == second.packed_chroma)
    )

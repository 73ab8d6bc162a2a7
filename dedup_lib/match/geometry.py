"""Geometric verification: how the frame of one video lies in that of another, by local features."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from dedup_lib.features.fingerprint import TINY_PX, Fingerprint, mirror_points

MAX_DISTANCE_BITS = 80
"""Two points whose codes differ in more of their 256 bits are never taken for the same."""

DISTANCE_RATIO = 0.85
"""A match counts when the second-best candidate is clearly worse (D. Lowe, 2004)."""

MIN_POINTS = 8
MIN_TO_ESTIMATE = 4
MIN_AFTER_FRAMES = {1: 5, 2: 8, 4: 12}
"""So many points must agree after the first frames, which share most words, for the others to be looked at."""

TOLERANCE_PX = 3.0
MAX_SCALE = 5.0
MAX_STRETCH = 2.5

MIN_REGION_PX = 12

FRAMES_TO_TRY = 2
"""For each frame of the first video, so many of the second are compared point by point."""


@dataclass(frozen=True, kw_only=True)
class Registration:
    """Where the first frame lies in the second.

    `matrix` float64 (2, 3) takes points of the first frame to the second, both in pixels of their fingerprints;
    `points` is the number of matches that agree with it, of `matches`; `region` (left, top, right, bottom) is the part
    of the second frame that these cover; `first_share` and `second_share` say how much of either frame that is.
    """

    matrix: NDArray[np.float64]
    mirrored: bool
    points: int
    matches: int
    region: tuple[float, float, float, float]
    first_share: float
    second_share: float

    def exchanged(self) -> Registration:
        """Where the second frame lies in the first, or in its mirror image where that was laid on the second; of a
        turned one, the region is the upright box around it."""
        inverse = np.asarray(cv2.invertAffineTransform(self.matrix), np.float64)
        left, top, right, bottom = self.region
        corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]]) @ inverse[:, :2].T
        low, high = (corners + inverse[:, 2]).min(axis=0), (corners + inverse[:, 2]).max(axis=0)
        return replace(
            self,
            matrix=inverse,
            region=(float(low[0]), float(low[1]), float(high[0]), float(high[1])),
            first_share=self.second_share,
            second_share=self.first_share,
        )


def register(first: Fingerprint, second: Fingerprint, *, mirrored: bool) -> Registration | None:
    """One affine map for all frames of two videos; None where their points do not agree on any.

    Matches of all frames are pooled: a copy is cropped, scaled or turned in the same way from its first frame to its
    last. Robust estimation by MAGSAC++ (D. Barath et al., 2020).
    """
    own = mirror_points(first) if mirrored else first
    pairs = np.zeros((0, 2), np.intp)
    estimate = None
    for tried, matches in enumerate(_match_frames(own, second), start=1):
        pairs = np.concatenate([pairs, matches])
        if tried in MIN_AFTER_FRAMES:
            estimate = _estimate_map(own.points[pairs[:, 0]], second.points[pairs[:, 1]])
            if estimate is None or estimate[1].sum() < MIN_AFTER_FRAMES[tried]:
                return None
    estimate = _estimate_map(own.points[pairs[:, 0]], second.points[pairs[:, 1]])
    if estimate is None:
        return None
    matrix, agree = estimate
    target = second.points[pairs[:, 1]]
    scales = np.linalg.svd(matrix[:, :2], compute_uv=False)
    if (
        agree.sum() < MIN_POINTS
        or scales[0] > MAX_SCALE
        or scales[1] < 1 / MAX_SCALE
        or scales[0] > MAX_STRETCH * scales[1]
    ):
        return None
    region = _region(np.asarray(target[agree], np.float64), matrix, first.size_px, second.size_px)
    if region is None:
        return None
    left, top, right, bottom = region
    area = (right - left) * (bottom - top)
    return Registration(
        matrix=matrix,
        mirrored=mirrored,
        points=int(agree.sum()),
        matches=len(pairs),
        region=region,
        first_share=min(1.0, area / float(scales.prod()) / (first.size_px[0] * first.size_px[1])),
        second_share=area / (second.size_px[0] * second.size_px[1]),
    )


def _estimate_map(
    source: NDArray[np.float32], target: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]] | None:
    """The affine map (2, 3) that most of the matches agree on, and which of them do; None where there is none."""
    if len(source) < MIN_TO_ESTIMATE:
        return None
    estimate, mask = cv2.estimateAffine2D(
        source, target, method=cv2.USAC_MAGSAC, ransacReprojThreshold=TOLERANCE_PX, maxIters=500, confidence=0.999
    )
    if estimate is None or not np.isfinite(estimate).all():
        return None
    return np.array(estimate, np.float64), np.asarray(mask, bool).ravel()


def _match_frames(first: Fingerprint, second: Fingerprint) -> Iterator[NDArray[np.intp]]:
    """For each frame of the first video, pairs of points (M, 2) that are each other's nearest, in the frame of the
    second that suits best; those that share most come first."""
    scores = _score_frames(first, second)
    for frame in np.argsort(-scores.max(axis=1, initial=0), kind="stable"):
        own = np.flatnonzero(first.frames == frame)
        best = np.zeros((0, 2), np.intp)
        for other in np.argsort(-scores[frame], kind="stable")[:FRAMES_TO_TRY]:
            if not scores[frame, other]:
                break
            others = np.flatnonzero(second.frames == other)
            matches = _mutual_matches(first.descriptors[own], second.descriptors[others])
            if len(matches) > len(best):
                best = np.stack([own[matches[:, 0]], others[matches[:, 1]]], axis=1)
        yield best


def _mutual_matches(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.intp]:
    if len(first) < 2 or len(second) < 2:
        return np.zeros((0, 2), np.intp)
    distances, nearest = cv2.batchDistance(first, second, cv2.CV_32S, normType=cv2.NORM_HAMMING, K=2)
    best, next_best = distances.T
    good = np.flatnonzero((best <= MAX_DISTANCE_BITS) & (best <= DISTANCE_RATIO * next_best))
    partners = nearest[good, 0]
    if not len(good):
        return np.zeros((0, 2), np.intp)
    _, back = cv2.batchDistance(second[partners], first, cv2.CV_32S, normType=cv2.NORM_HAMMING, K=1)
    is_mutual = back[:, 0] == good
    return np.stack([good[is_mutual], partners[is_mutual]], axis=1)


def _score_frames(first: Fingerprint, second: Fingerprint) -> NDArray[np.float64]:
    """How likely each frame of the first video (N) and each of the second (M) show the same, (N, M): the words that
    they share, each once a frame and compared by how few pairs of frames share it. What stands in all of them says
    nothing."""
    own_words, own_frames = first.words_of_frames
    words, frames = second.words_of_frames
    low, high = (np.searchsorted(words, own_words, side=side) for side in ("left", "right"))
    lengths = high - low
    steps = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    # Both are sorted by word: how many pairs of frames share it is the product of two counts.
    owners = np.searchsorted(own_words, own_words, side="right") - np.searchsorted(own_words, own_words, side="left")
    weights = np.repeat(1 / np.maximum(owners * lengths, 1), lengths)
    scores = np.zeros((first.num_stills, second.num_stills))
    np.add.at(scores, (np.repeat(own_frames, lengths), frames[np.repeat(low, lengths) + steps]), weights)
    return scores


def _region(
    target: NDArray[np.float64], matrix: NDArray[np.float64], first_px: tuple[int, int], second_px: tuple[int, int]
) -> tuple[float, float, float, float] | None:
    """The part of the second frame where points agree, a little wider, as far as both frames reach."""
    lowest, highest = _overlap(matrix, first_px, second_px)
    margin = 0.06 * np.array(second_px)
    low = np.maximum(np.percentile(target, 2, axis=0) - margin, lowest)
    high = np.minimum(np.percentile(target, 98, axis=0) + margin, highest)
    if (high - low).min() < MIN_REGION_PX:
        return None
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def _overlap(
    matrix: NDArray[np.float64], first_px: tuple[int, int], second_px: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The corners, upper left and lower right, of the part of the second frame where the first one lies."""
    width, height = first_px
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]]) @ matrix[:, :2].T + matrix[:, 2]
    # A turned frame has no upright edges: between its second and third corner on each axis it is everywhere.
    inner = np.sort(corners, axis=0)[1:3]
    return np.maximum(inner[0], 0.0), np.minimum(inner[1], np.array(second_px, float))


def find_overlap(first: Fingerprint, second: Fingerprint, registration: Registration) -> Registration:
    """The same, with all that both frames show as its region, points or none; as it is where that is hardly more than
    a line."""
    low, high = _overlap(registration.matrix, first.size_px, second.size_px)
    if (high - low).min() < MIN_REGION_PX:
        return registration
    return replace(registration, region=(float(low[0]), float(low[1]), float(high[0]), float(high[1])))


def warp_tiny_frames(
    first: Fingerprint, second: Fingerprint, registration: Registration
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The region of both videos, cut out of the tiny_frames of either and laid on one another: uint8 (N, 64, 64) and
    (M, 64, 64)."""
    return _lay(first, second, registration, (first.tiny_frames, second.tiny_frames), side_px=TINY_PX)


def warp_stills(
    first: Fingerprint,
    second: Fingerprint,
    registration: Registration,
    *,
    side_px: int,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The same of the stills: uint8 (F, side_px, side_px) and (G, side_px, side_px)."""
    return _lay(first, second, registration, (first.unpack_stills(), second.unpack_stills()), side_px=side_px)


def _lay(
    first: Fingerprint,
    second: Fingerprint,
    registration: Registration,
    frames: tuple[NDArray[np.uint8], NDArray[np.uint8]],
    *,
    side_px: int,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    left, top, right, bottom = registration.region
    step = np.array([(right - left) / side_px, (bottom - top) / side_px])
    # From pixels of the result to points of the second frame, by the centres of pixels.
    to_second = np.array([[step[0], 0, left + step[0] / 2 - 0.5], [0, step[1], top + step[1] / 2 - 0.5], [0, 0, 1]])
    to_first = np.linalg.inv(np.vstack([registration.matrix, [0, 0, 1]])) @ to_second
    own, others = frames
    own = own[:, :, ::-1] if registration.mirrored else own
    return (
        _cut_out(own, first.size_px, to_first, side_px=side_px),
        _cut_out(others, second.size_px, to_second, side_px=side_px),
    )


def _cut_out(
    frames: NDArray[np.uint8], size_px: tuple[int, int], to_still: NDArray[np.float64], *, side_px: int
) -> NDArray[np.uint8]:
    """Squares out of frames, given where each of their pixels lies in a still of `size_px`."""
    across, down = frames.shape[2] / size_px[0], frames.shape[1] / size_px[1]
    to_frame = np.array([[across, 0, across / 2 - 0.5], [0, down, down / 2 - 0.5], [0, 0, 1]]) @ to_still
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    cut = [
        cv2.warpAffine(
            np.ascontiguousarray(one), to_frame[:2], (side_px, side_px), flags=flags, borderMode=cv2.BORDER_REPLICATE
        )
        for one in frames
    ]
    return np.array(cut, np.uint8).reshape(-1, side_px, side_px)

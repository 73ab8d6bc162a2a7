"""Geometric verification: how the frame of one video lies in that of another, by keypoints."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from dedup_lib.features.fingerprint import CHROMA_PX, TINY_PX, Fingerprint, mirror_keypoints
from dedup_lib.match.aligned_frames import AffineMaps

MAX_DISTANCE_BITS = 80
"""Maximum Hamming distance of two matching keypoints, of the 256 bits of their descriptors."""

DISTANCE_RATIO = 0.85
"""A match counts when its distance is at most this share of the second-best one's (ratio test; D. Lowe, 2004)."""

MIN_INLIERS = 8
"""Minimum number of inliers of a registration."""
MIN_TO_ESTIMATE = 4
"""Minimum number of matches from which a map is estimated."""
MIN_AFTER_FRAMES = {1: 5, 2: 8, 4: 12}
"""Minimum number of inliers after 1, 2 and 4 frames; with fewer, the other frames are skipped. The first frames share
most words."""

TOLERANCE_PX = 3.0
MAX_SCALE = 5.0
MAX_STRETCH = 2.5

MIN_REGION_PX = 12

FRAMES_TO_TRY = 2
"""Number of frames of the second video that are compared keypoint by keypoint with each frame of the first."""


@dataclass(frozen=True, kw_only=True)
class Registration:
    """Where the first frame lies in the second.

    `matrix` float64 (2, 3) maps points of the first frame to the second, both in pixels of their fingerprints.
    `inliers` of the `matches` agree with it. `region` (left, top, right, bottom) is the part of the second frame that
    the inliers cover. `first_share` and `second_share` are the shares of the two frames that it takes.
    """

    matrix: NDArray[np.float64]
    mirrored: bool
    inliers: int
    matches: int
    region: tuple[float, float, float, float]
    first_share: float
    second_share: float

    @property
    def rotation_deg(self) -> int:
        """The turn of the frame, without its direction, in degrees from 0 to 180."""
        return round(abs(math.degrees(math.atan2(self.matrix[1, 0], self.matrix[0, 0]))))

    def exchanged(self) -> Registration:
        """Where the second frame lies in the first, or in the mirror image of the first if that was aligned. The region
        of a turned frame is the upright box around it."""
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
    """One affine map for all frames of two videos; None if their keypoints agree on none.

    Matches of all frames are pooled: a copy is cropped, scaled or turned in the same way from its first frame to its
    last. Robust estimation by MAGSAC++ (D. Barath et al., 2020).
    """
    own = mirror_keypoints(first) if mirrored else first
    pairs = np.zeros((0, 2), np.intp)
    for tried, matches in enumerate(_match_frames(own, second), start=1):
        pairs = np.concatenate([pairs, matches])
        if tried in MIN_AFTER_FRAMES:
            estimate = _estimate_map(own.keypoints[pairs[:, 0]], second.keypoints[pairs[:, 1]])
            if estimate is None or estimate[1].sum() < MIN_AFTER_FRAMES[tried]:
                return None
    estimate = _estimate_map(own.keypoints[pairs[:, 0]], second.keypoints[pairs[:, 1]])
    if estimate is None:
        return None
    matrix, agree = estimate
    target = second.keypoints[pairs[:, 1]]
    scales = np.linalg.svd(matrix[:, :2], compute_uv=False)
    if (
        agree.sum() < MIN_INLIERS
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
        inliers=int(agree.sum()),
        matches=len(pairs),
        region=region,
        first_share=min(1.0, area / float(scales.prod()) / (first.size_px[0] * first.size_px[1])),
        second_share=area / (second.size_px[0] * second.size_px[1]),
    )


def _estimate_map(
    source: NDArray[np.float32], target: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]] | None:
    """The affine map (2, 3) that most matches agree on, and the mask of its inliers; None if there is none."""
    if len(source) < MIN_TO_ESTIMATE:
        return None
    estimate, mask = cv2.estimateAffine2D(
        source, target, method=cv2.USAC_MAGSAC, ransacReprojThreshold=TOLERANCE_PX, maxIters=500, confidence=0.999
    )
    if estimate is None or not np.isfinite(estimate).all():
        return None
    return np.array(estimate, np.float64), np.asarray(mask, bool).ravel()


def _match_frames(first: Fingerprint, second: Fingerprint) -> Iterator[NDArray[np.intp]]:
    """For each frame of the first video, pairs of mutually nearest keypoints (M, 2) in the best matching frame of the
    second. Frames with the highest scores come first."""
    scores = _score_frames(first, second)
    for frame in np.argsort(-scores.max(axis=1, initial=0), kind="stable"):
        own = np.flatnonzero(first.keypoint_stills == frame)
        best = np.zeros((0, 2), np.intp)
        for other in np.argsort(-scores[frame], kind="stable")[:FRAMES_TO_TRY]:
            if not scores[frame, other]:
                break
            others = np.flatnonzero(second.keypoint_stills == other)
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
    """Scores (N, M): how likely each frame of the first video and each of the second show the same. Each word that
    they share counts once, divided by the number of frame pairs that share it: a word in all frames says nothing."""
    own_words, own_frames = first.words_of_stills
    words, frames = second.words_of_stills
    low, high = (np.searchsorted(words, own_words, side=side) for side in ("left", "right"))
    lengths = high - low
    steps = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    # Both are sorted by word. The number of frame pairs that share a word is the product of two counts.
    owners = np.searchsorted(own_words, own_words, side="right") - np.searchsorted(own_words, own_words, side="left")
    weights = np.repeat(1 / np.maximum(owners * lengths, 1), lengths)
    scores = np.zeros((first.num_stills, second.num_stills))
    np.add.at(scores, (np.repeat(own_frames, lengths), frames[np.repeat(low, lengths) + steps]), weights)
    return scores


def _region(
    target: NDArray[np.float64], matrix: NDArray[np.float64], first_px: tuple[int, int], second_px: tuple[int, int]
) -> tuple[float, float, float, float] | None:
    """The part of the second frame with the inliers, slightly widened within the overlap of both frames."""
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
    """Upper left and lower right corner of the part of the second frame that the first one covers."""
    width, height = first_px
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]]) @ matrix[:, :2].T + matrix[:, 2]
    # A turned frame has no upright edges. On each axis, it fills the range between its second and third corner.
    inner = np.sort(corners, axis=0)[1:3]
    return np.maximum(inner[0], 0.0), np.minimum(inner[1], np.array(second_px, float))


def find_overlap(first: Fingerprint, second: Fingerprint, registration: Registration) -> Registration:
    """The same registration with the whole overlap of both frames as its region, with or without inliers. It stays
    unchanged if the overlap is hardly more than a line."""
    low, high = _overlap(registration.matrix, first.size_px, second.size_px)
    if (high - low).min() < MIN_REGION_PX:
        return registration
    return replace(registration, region=(float(low[0]), float(low[1]), float(high[0]), float(high[1])))


def find_maps(first: Fingerprint, second: Fingerprint, registration: Registration) -> AffineMaps:
    """The maps from the frames that `warp_stills` cuts out to those of both fingerprints, as `AlignedFrames.maps`."""
    left, top, right, bottom = registration.region
    to_second = np.array([[right - left, 0, left], [0, bottom - top, top], [0, 0, 1]])
    to_first = np.linalg.inv(np.vstack([registration.matrix, [0, 0, 1]])) @ to_second
    if registration.mirrored:
        to_first = np.array([[-1, 0, first.size_px[0]], [0, 1, 0], [0, 0, 1]]) @ to_first
    own, other = (
        np.asarray(one[:2] / np.array(video.size_px)[:, None], np.float64)
        for one, video in ((to_first, first), (to_second, second))
    )
    return own, other


def warp_tiny_frames(
    first: Fingerprint, second: Fingerprint, registration: Registration
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The region of both videos, cut out of their tiny_frames and aligned by geometry: uint8 (N, 64, 64) and
    (M, 64, 64)."""
    return _warp(first, second, registration, (first.tiny_frames, second.tiny_frames), side_px=TINY_PX)


def warp_stills(
    first: Fingerprint,
    second: Fingerprint,
    registration: Registration,
    *,
    side_px: int,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The same for the stills: uint8 (F, side_px, side_px) and (G, side_px, side_px)."""
    return _warp(first, second, registration, (first.unpack_stills(), second.unpack_stills()), side_px=side_px)


def warp_chroma(
    first: Fingerprint, second: Fingerprint, registration: Registration
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]] | None:
    """The same for the colours of the stills: uint8 (F, 2, 32, 32) and (G, 2, 32, 32). None if those of one
    are not known."""
    own, others = first.unpack_chroma(), second.unpack_chroma()
    if own is None or others is None:
        return None
    planes = own.reshape(-1, CHROMA_PX, CHROMA_PX), others.reshape(-1, CHROMA_PX, CHROMA_PX)
    warped, other_warped = _warp(first, second, registration, planes, side_px=CHROMA_PX)
    return warped.reshape(own.shape), other_warped.reshape(others.shape)


def _warp(
    first: Fingerprint,
    second: Fingerprint,
    registration: Registration,
    frames: tuple[NDArray[np.uint8], NDArray[np.uint8]],
    *,
    side_px: int,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    left, top, right, bottom = registration.region
    step = np.array([(right - left) / side_px, (bottom - top) / side_px])
    # Maps pixels of the result to points of the second frame. Coordinates are those of pixel centres.
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
    """Squares cut out of frames. `to_still` maps their pixels to a still of `size_px`."""
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

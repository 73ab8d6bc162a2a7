"""Perceptual hashes of small grey frames, in all eight orientations."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dedup_lib.features.fingerprint import TINY_PX

Hashes = NDArray[np.uint8]
"""Hashes of N frames, (N, 32): 256 bits each."""

HASH_BITS = 256

ORIENTATIONS = range(8)
"""As it is (0), mirrored (1), upside down (2), both (3), and each of these with rows and columns exchanged (4 more)."""


def _cosine_transform() -> NDArray[np.float32]:
    frequencies, places = np.arange(1, 17)[:, None], np.arange(TINY_PX)[None]
    coefficients = np.cos(np.pi / (2 * TINY_PX) * frequencies * (2 * places + 1))
    return np.asarray(np.sqrt(2 / TINY_PX) * coefficients, np.float32)


_TRANSFORM = _cosine_transform()

_MIRRORED = np.where(np.arange(1, 17) % 2, np.float32(-1), np.float32(1))
"""Signs of the frequencies of a mirrored frame: the odd ones change their sign."""


def hash_frames(tiny_frames: NDArray[np.uint8]) -> Hashes:
    """Perceptual hashes of frames uint8 (N, 64, 64): which of the lowest 16 × 16 frequencies lie above their median.

    PDQ without its scaling: Facebook, "The TMK+PDQF Video-Hashing Algorithm and the PDQ Image-Hashing Algorithm", 2019.
    """
    return _pack(_above_median(find_frequencies(tiny_frames)))


def hash_changes(tiny_frames: NDArray[np.uint8]) -> Hashes:
    """Perceptual hashes of how frames (N, 64, 64) differ from their mean: of what moves, not of what stands still."""
    coefficients = find_frequencies(tiny_frames)
    return _pack(_above_median(coefficients - coefficients.mean(axis=0)))


def hash_orientations(tiny_frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The hashes of the frames (N, 64, 64) in each of the `ORIENTATIONS`: (8, N, 32).

    All orientations need only one transform, see `orient_frequencies`.
    """
    coefficients = find_frequencies(tiny_frames)
    hashes = np.empty((len(ORIENTATIONS), len(tiny_frames), HASH_BITS // 8), np.uint8)
    for orientation in range(4):
        above = _above_median(orient_frequencies(coefficients, orientation))
        hashes[orientation], hashes[orientation | 4] = _pack(above), _pack(above.transpose(0, 2, 1))
    return hashes


def orient_frequencies(coefficients: NDArray[np.float32], orientation: int) -> NDArray[np.float32]:
    """The lowest frequencies (N, F, F) of the frames in one of the `ORIENTATIONS`. If rows and columns of a frame are
    exchanged, so are those of its frequencies."""
    signs = _MIRRORED[: coefficients.shape[1]]
    across, down = (signs if orientation & bit else np.ones_like(signs) for bit in (1, 2))
    oriented = coefficients * across * down[:, None]
    return oriented.transpose(0, 2, 1) if orientation & 4 else oriented


def orient_frames(frames: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Frames (N, H, W) in one of the `ORIENTATIONS`."""
    oriented = frames[:, :, ::-1] if orientation & 1 else frames
    oriented = oriented[:, ::-1] if orientation & 2 else oriented
    return oriented.transpose(0, 2, 1) if orientation & 4 else oriented


def find_orientation_map(orientation: int) -> NDArray[np.float64]:
    """The map from points of a frame that `orient_frames` returns to those of the frame before, float64 (2, 3), both
    as shares of the frame."""
    matrix = np.zeros((2, 3))
    columns = (1, 0) if orientation & 4 else (0, 1)
    for row, column in enumerate(columns):
        is_reversed = bool(orientation & (1 << row))
        matrix[row, column], matrix[row, 2] = (-1, 1) if is_reversed else (1, 0)
    return matrix


def find_frequencies(tiny_frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The lowest frequencies of frames (N, 64, 64) without the constant ones, down and across: (N, 16, 16)."""
    return np.asarray(_TRANSFORM @ tiny_frames.astype(np.float32) @ _TRANSFORM.T)


def _above_median(coefficients: NDArray[np.float32]) -> NDArray[np.bool_]:
    return np.asarray(coefficients > np.median(coefficients, axis=(1, 2), keepdims=True))


def _pack(bits: NDArray[np.bool_]) -> Hashes:
    return np.packbits(bits.reshape(len(bits), HASH_BITS), axis=1)


def count_differing_bits(first: Hashes, second: Hashes) -> NDArray[np.uint16]:
    """Hamming distances (N, M) between hashes (N, 32) and hashes (M, 32)."""
    own, others = (np.ascontiguousarray(hashes).view(np.uint64) for hashes in (first, second))
    distances = np.zeros((len(own), len(others)), np.uint16)
    # Word after word: a sum over an axis of four is several times as slow.
    for word in range(own.shape[1]):
        distances += np.bitwise_count(own[:, word, None] ^ others[None, :, word])
    return distances

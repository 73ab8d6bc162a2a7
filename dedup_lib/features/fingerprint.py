"""The fingerprint of a video: small grey frames, and a few larger ones with keypoints.

Raise `records.FINGERPRINT_VERSION` with every change here that changes fingerprints.
"""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from typing import Any, TypeVar, overload

import cv2
import numpy as np
from numpy.typing import NDArray

from dedup_lib.features.sound import Sound
from dedup_lib.media.frames import cut_bars, is_flat, resize_frame
from dedup_lib.records import Frames

TINY_PX = 64
"""Side of a tiny_frame in pixels: the size at which PDQ takes its cosine transform, and enough to hash a part of it."""

STILL_SIDE_PX = 256
"""Longer side, in pixels, of a still in which keypoints are found."""

CHROMA_PX = 32
"""Side, in pixels, of the square to which the colours of a still are shrunk: enough to see which part has another."""

KEYPOINTS_A_STILL = 150
MIN_STILLS, MAX_STILLS = 8, 16
SECONDS_A_STILL = 4.0

MAX_LATER_STILLS = 96
"""Maximum number of stills from after the dense part of a scan."""

STILL_QUALITY = 70
"""JPEG quality of stills: a price in a still remains readable, and a still takes some 6 kB."""

MIN_MOTION = 0.02
"""Difference of a frame from its neighbour, as a share of its contrast, below which it is noise."""
STILLNESS_STEPS = 2
"""Number of steps per octave of that difference in which the stillness of a frame is measured."""

DESCRIPTOR_BYTES = 32
"""Length of a descriptor. Its second half is the first half of the mirrored frame's descriptor."""

_SIFT_MEAN = 0.08
"""Mean entry of a RootSIFT descriptor over all kinds of frames."""

FINGERPRINTS_AT_HAND = 200
"""Maximum number of fingerprints in the memory of a process. Pairs are compared in squares of 100 videos
(`match.pair_comparer`)."""
FRAMES_AT_HAND = 24_000
"""Maximum number of their frames, of 8 kB each: those of 100 one-minute videos. Fewer fingerprints of long films are
kept."""

Made = TypeVar("Made")

_ROW = 16
"""Tiny frames side by side in the stored sheet."""


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """The frames of one video without its bars and its flat frames.

    `tiny_frames` are grey uint8 (N, 64, 64), each a whole frame squeezed into a square. They are shown at the rising
    `times_s`, float32 (N,). `weights`, float32 (N,), are the numbers of scan steps that they stand for: one in the
    dense part of the scan, more after it, where frames are seconds apart.

    The stillest frames are kept larger, as stills of `size_px` (width, height), shown at the rising `still_times_s`,
    float32 (F,). Stills have keypoints: `keypoints` float32 (P, 2), x and y in pixels of the still; `descriptors`
    uint8 (P, 32), binary codes whose Hamming distance is small for keypoints that look alike; `keypoint_stills` int32
    (P,), the still of each keypoint.
    """

    times_s: NDArray[np.float32]
    weights: NDArray[np.float32]
    tiny_frames: NDArray[np.uint8]
    size_px: tuple[int, int]
    keypoints: NDArray[np.float32]
    descriptors: NDArray[np.uint8]
    keypoint_stills: NDArray[np.int32]
    still_times_s: NDArray[np.float32]
    packed_stills: bytes
    """The stills as they are stored. `unpack_stills` unpacks them on demand, because few are ever needed."""
    packed_chroma: bytes | None = None
    """The colours of the stills as they are stored (`unpack_chroma`); None if they are not known."""
    sound: Sound | None = None
    """The sound of the dense part of the scan; None if it has none, or if it is not known."""

    def __post_init__(self) -> None:
        frames, keypoints = len(self.times_s), len(self.keypoints)
        of_frames = [one.shape for one in (self.times_s, self.weights, self.tiny_frames)]
        if of_frames != [(frames,), (frames,), (frames, TINY_PX, TINY_PX)]:
            raise ValueError("a fingerprint needs one time and one weight a tiny_frame")
        of_keypoints = [one.shape for one in (self.keypoints, self.descriptors, self.keypoint_stills)]
        if of_keypoints != [(keypoints, 2), (keypoints, DESCRIPTOR_BYTES), (keypoints,)]:
            raise ValueError("a fingerprint needs one code and one frame a point")

    @property
    def num_stills(self) -> int:
        return len(self.still_times_s)

    def unpack_stills(self) -> NDArray[np.uint8]:
        """The stills, grey uint8 (F, height, width)."""
        width_px, height_px = self.size_px
        sheet = cv2.imdecode(np.frombuffer(self.packed_stills, np.uint8), cv2.IMREAD_GRAYSCALE)
        return np.asarray(sheet, np.uint8).reshape(self.num_stills, height_px, width_px)

    def unpack_chroma(self) -> NDArray[np.uint8] | None:
        """The colours of the stills, uint8 (F, 2, 32, 32): Cr and Cb of ITU-R BT.601, 128 for grey. None if they are
        not known."""
        if self.packed_chroma is None:
            return None
        sheet = cv2.imdecode(np.frombuffer(self.packed_chroma, np.uint8), cv2.IMREAD_GRAYSCALE)
        return np.asarray(sheet, np.uint8).reshape(self.num_stills, 2, CHROMA_PX, CHROMA_PX)

    @cached_property
    def words_of_stills(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Visual words (the first 16 bits of a descriptor), rising, and the still of each. One counts once a still."""
        words = self.descriptors[:, 0].astype(np.int64) << 40 | self.descriptors[:, 1].astype(np.int64) << 32
        both = np.unique(words | self.keypoint_stills)
        return both >> 32, both & 0xFFFFFFFF

    def to_bytes(self) -> bytes:
        """The fingerprint as it is stored. JPEG changes tiny_frames slightly."""
        count = len(self.tiny_frames)
        sheet = np.zeros((-(-count // _ROW) * _ROW, TINY_PX, TINY_PX), np.uint8)
        sheet[:count] = self.tiny_frames
        rows = sheet.reshape(-1, _ROW, TINY_PX, TINY_PX).transpose(0, 2, 1, 3)
        _, sheet = cv2.imencode(".jpg", rows.reshape(-1, _ROW * TINY_PX), [cv2.IMWRITE_JPEG_QUALITY, 80])
        parts: dict[str, Any] = {
            "times_s": self.times_s,
            "weights": self.weights,
            "sheet": sheet,
            "size_px": np.array(self.size_px, np.int32),
            "points": np.round(self.keypoints * 64).astype(np.uint16),
            "descriptors": self.descriptors,
            "frames": self.keypoint_stills.astype(np.uint8),
            "still_times_s": self.still_times_s,
            "stills": np.frombuffer(self.packed_stills, np.uint8),
        }
        if self.packed_chroma is not None:
            parts["chroma"] = np.frombuffer(self.packed_chroma, np.uint8)
        if self.sound is not None:
            parts["sound"] = self.sound.pack()
        file = io.BytesIO()
        np.savez(file, **parts)
        return file.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Fingerprint:
        """The fingerprint from its stored bytes. Raises ValueError for bytes that are not a fingerprint."""
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as file:
                parts = {name: file[name] for name in file.files}
            sheet = np.asarray(cv2.imdecode(parts["sheet"], cv2.IMREAD_GRAYSCALE))
            rows = sheet.reshape(-1, TINY_PX, _ROW, TINY_PX).transpose(0, 2, 1, 3)
            width_px, height_px = (int(side) for side in parts["size_px"])
            return cls(
                times_s=parts["times_s"],
                weights=parts["weights"],
                tiny_frames=rows.reshape(-1, TINY_PX, TINY_PX)[: len(parts["times_s"])].astype(np.uint8),
                size_px=(width_px, height_px),
                keypoints=parts["points"].astype(np.float32) / 64,
                descriptors=parts["descriptors"],
                keypoint_stills=parts["frames"].astype(np.int32),
                still_times_s=parts["still_times_s"],
                packed_stills=parts["stills"].tobytes(),
                packed_chroma=parts["chroma"].tobytes() if "chroma" in parts else None,
                sound=Sound.unpack(parts["sound"]) if "sound" in parts else None,
            )
        except Exception as error:  # Damaged bytes raise many kinds of errors, from zip, numpy or OpenCV.
            raise ValueError(f"these {len(data)} bytes are no fingerprint: {error}") from None


def keep_recent(make: Callable[[int], Made], *, count_frames: Callable[[Made], int]) -> Callable[[int], Made]:
    """A cache of what `make` returns for a row. Results used last are kept, up to `FINGERPRINTS_AT_HAND` and
    `FRAMES_AT_HAND`."""
    kept: OrderedDict[int, Made] = OrderedDict()
    frames = 0

    def recall(row: int) -> Made:
        nonlocal frames
        if row not in kept:
            kept[row] = make(row)
            frames += count_frames(kept[row])
        kept.move_to_end(row)
        while len(kept) > FINGERPRINTS_AT_HAND or (frames > FRAMES_AT_HAND and len(kept) > 1):
            _, dropped = kept.popitem(last=False)
            frames -= count_frames(dropped)
        return kept[row]

    return recall


class StoredFingerprints(Sequence["Fingerprint | None"]):
    """Fingerprints of a list that are loaded on demand. `load` gives the bytes of a row, or None if it has none.
    Recently used ones stay in memory (`keep_recent`). Can be pickled if `load` can."""

    def __init__(self, load: Callable[[int], bytes | None], *, rows: int) -> None:
        self._rows = rows
        self._load_bytes = load
        self._load = keep_recent(
            self._load_fingerprint, count_frames=lambda one: len(one.times_s) if one is not None else 0
        )

    def __reduce__(self) -> tuple[Callable[..., StoredFingerprints], tuple[object, ...]]:
        return partial(StoredFingerprints, rows=self._rows), (self._load_bytes,)

    def _load_fingerprint(self, row: int) -> Fingerprint | None:
        return Fingerprint.from_bytes(data) if (data := self._load_bytes(row)) is not None else None

    def __len__(self) -> int:
        return self._rows

    @overload
    def __getitem__(self, row: int) -> Fingerprint | None: ...
    @overload
    def __getitem__(self, row: slice) -> list[Fingerprint | None]: ...
    def __getitem__(self, row: int | slice) -> Fingerprint | list[Fingerprint | None] | None:
        if isinstance(row, slice):
            return [self[one] for one in range(*row.indices(self._rows))]
        if not 0 <= row < self._rows:
            raise IndexError(row)
        return self._load(row)


def make_fingerprint(
    frames: Sequence[Frames], *, times_s: Sequence[float], weights: Sequence[float] | None = None
) -> Fingerprint | None:
    """The fingerprint of frames, RGB uint8 (H, W, 3), shown at `times_s`; None if all of them are flat. `weights` are
    the numbers of scan steps that the frames stand for (None: one each)."""
    all_stand_for = [1.0] * len(frames) if weights is None else weights
    without_bars = cut_bars(frames)
    usable = [index for index, frame in enumerate(without_bars) if not is_flat(frame)]
    if not usable:
        return None
    # A video may change its size midway. Most of its frames have one size.
    sizes = [frames[index].shape for index in usable]
    size = max(dict.fromkeys(sizes), key=sizes.count)
    kept = [(times_s[index], without_bars[index]) for index in usable if frames[index].shape == size]
    height, width = kept[0][1].shape[:2]
    # Enlarge small frames: the detector finds nothing in 50 pixels.
    scale = STILL_SIDE_PX / max(height, width)
    size_px = max(1, round(width * scale)), max(1, round(height * scale))
    square = (TINY_PX, TINY_PX)
    # Only the stills are made grey again: grey copies of all frames would take a third more memory.
    tiny_frames = np.stack(
        [cv2.resize(_to_grey(frame), square, interpolation=cv2.INTER_AREA) for _, frame in kept]
    ).astype(np.uint8)
    shown_s = np.array([time_s for time_s, _ in kept], np.float32)
    stand_for = np.array([all_stand_for[index] for index in usable if frames[index].shape == size], np.float32)
    dense = int((stand_for <= 1.0).sum())
    chosen = _choose_stills(tiny_frames[:dense], shown_s[:dense], fewest=MIN_STILLS, most=MAX_STILLS)
    later = _choose_stills(tiny_frames[dense:], shown_s[dense:], fewest=1, most=MAX_LATER_STILLS)
    chosen += [dense + index for index in later]
    stills = [resize_frame(_to_grey(kept[index][1]), size_px) for index in chosen]
    keypoints, descriptors, owners = _detect_keypoints(stills)
    return Fingerprint(
        times_s=shown_s,
        weights=stand_for,
        tiny_frames=tiny_frames,
        size_px=size_px,
        keypoints=keypoints,
        descriptors=descriptors,
        keypoint_stills=owners,
        still_times_s=shown_s[chosen],
        packed_stills=pack_stills(stills),
        packed_chroma=pack_stills([plane for index in chosen for plane in _shrink_chroma(kept[index][1])]),
    )


def _to_grey(frame: Frames) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), np.uint8)


def _shrink_chroma(frame: Frames) -> NDArray[np.uint8]:
    """Cr and Cb of a frame, RGB (H, W, 3): uint8 (2, 32, 32)."""
    small = cv2.resize(frame, (CHROMA_PX, CHROMA_PX), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2YCrCb), np.uint8).transpose(2, 0, 1)[1:]


def pack_stills(stills: Sequence[NDArray[np.uint8]]) -> bytes:
    """Stills of one size, grey uint8 (height, width), one or more, as one JPEG."""
    _, packed = cv2.imencode(".jpg", np.concatenate(stills), [cv2.IMWRITE_JPEG_QUALITY, STILL_QUALITY])
    return packed.tobytes()


def _choose_stills(
    tiny_frames: NDArray[np.uint8], times_s: NDArray[np.float32], *, fewest: int, most: int
) -> list[int]:
    """Indexes of the frames to keep as stills, rising: the stillest ones, well apart, between `fewest` and `most`.

    The content of a frame decides, not its place. So the same frames are chosen if an intro was added or the beginning
    cut off. A still frame is also a sharp one.
    """
    if not len(times_s):
        return []
    span_s = float(times_s[-1] - times_s[0])
    wanted = min(max(round(span_s / SECONDS_A_STILL), fewest), most)
    # Close enough for the wanted number to fit, whichever frames are chosen first.
    apart_s = span_s / (2 * wanted)
    frames = tiny_frames.astype(np.float32)
    steps = np.abs(np.diff(frames, axis=0)).mean(axis=(1, 2))
    # The smaller difference counts, so a cut next to a still frame does not make it a moving one.
    motion = np.minimum(np.append(steps, np.inf), np.insert(steps, 0, np.inf)) if len(steps) else np.zeros(1)
    motion = np.minimum(motion, 255.0) / np.maximum(frames.std(axis=(1, 2)), 1.0)
    # Differences below those of an encoder count as none. Among equally still frames, regular places are chosen.
    stillness = np.round(STILLNESS_STEPS * np.log2(motion + MIN_MOTION))
    places_s = times_s[0] + (np.arange(wanted) + 0.5) * span_s / wanted
    off_s = np.abs(times_s[:, None] - places_s[None]).min(axis=1)
    chosen: list[int] = []
    for index in np.lexsort((off_s, stillness)):
        if len(chosen) < wanted and all(abs(times_s[index] - times_s[other]) > apart_s for other in chosen):
            chosen.append(int(index))
    return sorted(chosen)


def _detect_keypoints(
    stills: Sequence[NDArray[np.uint8]],
) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.int32]]:
    """Keypoints of these stills, their descriptors, and the still of each."""
    keypoints, descriptors, owners = [], [], []
    for owner, still in enumerate(stills):
        found, vectors = _sift().detectAndCompute(still, None)
        if vectors is None:
            continue
        best = np.argsort([-keypoint.response for keypoint in found], kind="stable")[:KEYPOINTS_A_STILL]
        keypoints.append(np.array([found[place].pt for place in best], np.float32))
        descriptors.append(encode_descriptors(np.asarray(vectors[best], np.float32)))
        owners.append(np.full(len(best), owner, np.int32))
    if not keypoints:
        return np.zeros((0, 2), np.float32), np.zeros((0, DESCRIPTOR_BYTES), np.uint8), np.zeros(0, np.int32)
    return np.concatenate(keypoints), np.concatenate(descriptors), np.concatenate(owners)


@cache
def _sift() -> cv2.SIFT:
    return cv2.SIFT.create(nfeatures=KEYPOINTS_A_STILL, contrastThreshold=0.02)


@cache
def _hyperplanes() -> NDArray[np.float32]:
    # The legacy generator is guaranteed to give the same numbers in every version.
    return np.random.RandomState(0).normal(size=(128, 128)).astype(np.float32)


@cache
def _mirrored_entries() -> NDArray[np.intp]:
    """New place of each entry of a SIFT descriptor when the frame is mirrored. The cells across the orientation and the
    directions are reversed."""
    entries = np.arange(128).reshape(4, 4, 8)
    return entries[::-1][:, :, -np.arange(8) % 8].reshape(-1)


def encode_descriptors(vectors: NDArray[np.float32]) -> NDArray[np.uint8]:
    """SIFT descriptors (P, 128) as binary codes uint8 (P, 32): the sides of 128 hyperplanes on which each descriptor
    and its mirror image lie.

    RootSIFT: R. Arandjelović, A. Zisserman, "Three things everyone should know to improve object retrieval", 2012;
    codes: M. Charikar, "Similarity estimation techniques from rounding algorithms", 2002.
    """
    root = np.sqrt(vectors / np.maximum(vectors.sum(axis=1, keepdims=True), 1e-6)) - _SIFT_MEAN
    # Many processes run side by side, where the threads of a matrix product cost more than the product.
    sides = [np.einsum("pe,eh->ph", one, _hyperplanes()) > 0 for one in (root, root[:, _mirrored_entries()])]
    return np.packbits(np.concatenate(sides, axis=1), axis=1)


def mirror_descriptors(descriptors: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The descriptors that the same keypoints have in the mirrored frame."""
    return np.roll(descriptors, DESCRIPTOR_BYTES // 2, axis=1)


def mirror_keypoints(fingerprint: Fingerprint) -> Fingerprint:
    """The fingerprint with the keypoints of the mirrored frames. The frames themselves stay the same."""
    width_px, _ = fingerprint.size_px
    return replace(
        fingerprint,
        keypoints=np.stack([width_px - fingerprint.keypoints[:, 0], fingerprint.keypoints[:, 1]], axis=1),
        descriptors=mirror_descriptors(fingerprint.descriptors),
    )

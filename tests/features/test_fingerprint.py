"""Fingerprints: what is kept of a video, how it is stored, and what a mirrored picture makes of it."""

from __future__ import annotations

import io
import pickle
from dataclasses import fields
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scenes import SIZE_PX, copy_of, draw_clip, each, fingerprint, times

from dedup_lib.features import fingerprint as fingerprint_module
from dedup_lib.features.fingerprint import (
    DESCRIPTOR_BYTES,
    MAX_STILLS,
    MIN_STILLS,
    STILL_SIDE_PX,
    Fingerprint,
    StoredFingerprints,
    make_fingerprint,
    mirror_descriptors,
)
from dedup_lib.records import Frames, Recipe, Scan

RECIPE = Recipe(encoder="pdq", model="", num_frames=3, frame_span="spread")


def flat(value: int, *, size_px: tuple[int, int] = SIZE_PX) -> Frames:
    return np.full((size_px[1], size_px[0], 3), value, np.uint8)


def slope(index: int) -> Frames:
    """A picture without a corner: every place has its own brightness, and nothing stands out."""
    across, down = np.meshgrid(np.linspace(0, 1, SIZE_PX[0]), np.linspace(0, 1, SIZE_PX[1]))
    light = 40 + 150 * (across + 0.01 * index + down) / 2.2
    return np.repeat(light.astype(np.uint8)[..., None], 3, axis=2)


def saved_parts(made: Fingerprint) -> dict[str, NDArray[Any]]:
    with np.load(io.BytesIO(made.to_bytes())) as file:
        return {name: file[name] for name in file.files}


def to_npz(parts: dict[str, NDArray[Any]]) -> bytes:
    file = io.BytesIO()
    np.savez(file, **parts)  # type: ignore[arg-type] # its stubs take the names for its own parameters
    return file.getvalue()


def distances(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Hamming distances of every two codes."""
    left, right = np.unpackbits(first, axis=1).astype(np.int64), np.unpackbits(second, axis=1).astype(np.int64)
    return left @ (1 - right).T + (1 - left) @ right.T


def test_what_is_kept_of_a_clip() -> None:
    made = copy_of(1)
    assert made.times_s.tolist() == times(40)
    assert (made.times_s.dtype, made.tiny_frames.dtype, made.tiny_frames.shape) == (np.float32, np.uint8, (40, 64, 64))
    assert made.size_px == SIZE_PX
    assert made.num_stills == MIN_STILLS
    assert sorted(set(made.keypoint_stills.tolist())) == list(range(MIN_STILLS))
    count = len(made.keypoints)
    assert count > 300
    assert (made.keypoints.dtype, made.keypoints.shape) == (np.float32, (count, 2))
    assert (made.descriptors.dtype, made.descriptors.shape) == (np.uint8, (count, DESCRIPTOR_BYTES))
    assert (made.keypoints >= 0).all()
    assert (made.keypoints <= SIZE_PX).all()


def test_a_fingerprint_survives_being_stored() -> None:
    made = copy_of(1)
    again = Fingerprint.from_bytes(made.to_bytes())
    assert np.array_equal(again.times_s, made.times_s)
    assert (again.size_px, again.num_stills) == (made.size_px, made.num_stills)
    assert np.array_equal(again.descriptors, made.descriptors)
    assert np.array_equal(again.keypoint_stills, made.keypoint_stills)
    assert np.abs(again.keypoints - made.keypoints).max() <= 1 / 64
    assert np.abs(again.tiny_frames.astype(int) - made.tiny_frames).mean() < 4
    for name in ("times_s", "tiny_frames", "keypoints", "descriptors", "keypoint_stills"):
        assert getattr(again, name).dtype == getattr(made, name).dtype, name


@pytest.mark.parametrize("count", [1, 15, 16, 17, 33])
def test_any_number_of_frames_can_be_stored(count: int) -> None:
    made = fingerprint(draw_clip(3, count=count, size_px=(96, 64), shots=1))
    again = Fingerprint.from_bytes(made.to_bytes())
    assert again.tiny_frames.shape == (count, 64, 64)
    assert np.abs(again.tiny_frames.astype(int) - made.tiny_frames).mean() < 4


def test_the_same_frames_give_the_same_bytes() -> None:
    frames = draw_clip(4, count=12)
    assert fingerprint(frames).to_bytes() == fingerprint([frame.copy() for frame in frames]).to_bytes()


def test_another_clip_gives_another_fingerprint() -> None:
    first, second = copy_of(1), copy_of(2)
    assert not np.array_equal(first.tiny_frames, second.tiny_frames)
    # Unlike points lie some half of the bits apart.
    assert np.median(distances(first.descriptors[:100], second.descriptors[:100])) > 80


DAMAGED = {
    "nothing": b"",
    "text": b"this is no fingerprint",
    "an array": (lambda file: (np.save(file, np.arange(5)), file.getvalue())[1])(io.BytesIO()),
    "a pickle": pickle.dumps({"times_s": [0.0]}),
    "an archive of other things": to_npz({"something": np.arange(5)}),
    "an archive of nothing": to_npz({}),
}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED.keys())
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="are no fingerprint"):
        Fingerprint.from_bytes(data)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sheet", np.arange(50, dtype=np.uint8)),
        ("sheet", np.zeros(0, np.uint8)),
        ("sheet", cv2.imencode(".jpg", np.zeros((64, 64), np.uint8))[1]),
        ("times_s", np.zeros(3, np.float32)),
        ("times_s", np.zeros(500, np.float32)),
        ("times_s", np.array([{"a": 1}], dtype=object)),
        ("size_px", np.zeros(1, np.int32)),
        ("points", np.zeros((5, 2), np.uint16)),
        ("descriptors", np.zeros((5, 32), np.uint8)),
        ("descriptors", np.array(["x"], dtype=object)),
        ("frames", np.zeros(5, np.uint8)),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value.dtype}{value.shape}",
)
def test_an_archive_with_a_wrong_part_is_refused(name: str, value: NDArray[Any]) -> None:
    parts = saved_parts(copy_of(1))
    with pytest.raises(ValueError, match="are no fingerprint"):
        Fingerprint.from_bytes(to_npz(parts | {name: value}))


@given(share=st.floats(0, 1, exclude_max=True))
def test_a_part_of_the_bytes_is_refused(share: float) -> None:
    data = copy_of(1).to_bytes()
    with pytest.raises(ValueError, match="are no fingerprint"):
        Fingerprint.from_bytes(data[: int(share * len(data))])


@given(place=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255), length=st.integers(1, 40))
def test_damage_is_refused_or_does_not_matter(place: float, value: int, length: int) -> None:
    """Whatever byte of it is lost: the archive keeps checksums of its parts."""
    made = copy_of(1)
    data = bytearray(made.to_bytes())
    start = int(place * len(data))
    data[start : start + length] = bytes([value]) * len(data[start : start + length])
    try:
        again = Fingerprint.from_bytes(bytes(data))
    except ValueError:
        return
    assert np.array_equal(again.descriptors, made.descriptors)
    assert np.array_equal(again.times_s, made.times_s)


@pytest.mark.parametrize("frames", [[], [flat(0)], [flat(0), flat(255), flat(90)]], ids=["none", "one", "several"])
def test_flat_frames_have_no_fingerprint(frames: list[Frames]) -> None:
    assert make_fingerprint(frames, times_s=times(len(frames))) is None


def test_flat_frames_are_left_out() -> None:
    frames = draw_clip(5, count=6)
    made = fingerprint([flat(0), *frames[:3], flat(255), *frames[3:], flat(0)])
    assert made.times_s.tolist() == [0.25, 0.5, 0.75, 1.25, 1.5, 1.75]
    assert np.array_equal(made.tiny_frames, fingerprint(frames).tiny_frames)


def test_the_size_that_most_frames_have_is_kept() -> None:
    wide, tall = draw_clip(6, count=5), draw_clip(7, count=3, size_px=(72, 128))
    made = fingerprint([*tall, *wide])
    assert made.size_px == SIZE_PX
    assert made.times_s.tolist() == [0.75, 1.0, 1.25, 1.5, 1.75]


def test_flat_frames_do_not_choose_the_size() -> None:
    made = fingerprint([*(flat(0, size_px=(90, 90)) for _ in range(9)), *draw_clip(6, count=3)])
    assert made.size_px == SIZE_PX
    assert len(made.times_s) == 3


def test_a_frame_one_pixel_wide() -> None:
    made = fingerprint([np.random.default_rng(0).integers(0, 256, (40, 1, 3), np.uint8)])
    assert made.tiny_frames.shape == (1, 64, 64)


@pytest.mark.parametrize("size_px", [(2, 2), (7, 5), (40, 3), (63, 63), (64, 20), (1000, 4), (6, 900), (640, 360)])
def test_frames_of_any_size(size_px: tuple[int, int]) -> None:
    """Points are looked for at one size."""
    generator = np.random.default_rng(0)
    made = fingerprint([generator.integers(0, 256, (size_px[1], size_px[0], 3), np.uint8) for _ in range(3)])
    assert made.tiny_frames.shape == (3, 64, 64)
    assert max(made.size_px) == STILL_SIDE_PX
    assert min(made.size_px) == max(1, round(min(size_px) * STILL_SIDE_PX / max(size_px)))
    assert (made.keypoints <= made.size_px).all()
    assert Fingerprint.from_bytes(made.to_bytes()).size_px == made.size_px


def test_one_frame() -> None:
    made = fingerprint(draw_clip(1, count=1, shots=1))
    assert (len(made.times_s), made.num_stills) == (1, 1)
    assert set(made.keypoint_stills.tolist()) == {0}


def shapes_of(made: Fingerprint) -> list[tuple[int, ...]]:
    return [one.shape for one in (made.keypoints, made.descriptors, made.keypoint_stills)]


def test_a_frame_without_texture_has_no_keypoints() -> None:
    made = fingerprint([slope(index) for index in range(4)])
    assert shapes_of(made) == [(0, 2), (0, DESCRIPTOR_BYTES), (0,)]
    assert made.num_stills == 4
    again = Fingerprint.from_bytes(made.to_bytes())
    assert shapes_of(again) == [(0, 2), (0, DESCRIPTOR_BYTES), (0,)]
    assert len(mirror_descriptors(again.descriptors)) == 0


def test_bars_are_no_part_of_it() -> None:
    frames = draw_clip(8, count=10)
    bare = fingerprint(frames)
    framed = fingerprint(each(lambda frame: cv2.copyMakeBorder(frame, 20, 20, 0, 0, cv2.BORDER_CONSTANT), frames))
    assert framed.size_px == bare.size_px
    assert np.array_equal(framed.tiny_frames, bare.tiny_frames)
    assert np.array_equal(framed.descriptors, bare.descriptors)


@pytest.mark.parametrize(
    ("count", "step_s", "frames"),
    [(5, 0.25, 5), (40, 0.25, MIN_STILLS), (40, 1.0, 10), (40, 10.0, MAX_STILLS)],
)
def test_longer_videos_have_points_of_more_frames(count: int, step_s: float, frames: int) -> None:
    clip = draw_clip(9, count=count, size_px=(64, 64), shots=5)
    made = make_fingerprint(clip, times_s=[step_s * index for index in range(count)])
    assert made is not None
    assert made.num_stills == frames


def test_parts_must_fit_each_other() -> None:
    parts = {field.name: getattr(copy_of(1), field.name) for field in fields(Fingerprint)}
    for name in ("times_s", "weights", "tiny_frames", "keypoints", "descriptors", "keypoint_stills"):
        with pytest.raises(ValueError, match=r"one weight a tiny_frame|one frame a point"):
            Fingerprint(**(parts | {name: parts[name][:-1]}))


def test_what_comes_after_the_dense_part_leaves_its_stills_as_they_are() -> None:
    frames = draw_clip(6, count=120, shots=20)
    kept = [index for index in range(120) if index < 40 or index % 6 == 0]
    dense = make_fingerprint(frames[:40], times_s=times(40))
    made = make_fingerprint(
        [frames[index] for index in kept],
        times_s=[times(120)[index] for index in kept],
        weights=[1.0 if index < 40 else 6.0 for index in kept],
    )
    assert made is not None and dense is not None
    again = Fingerprint.from_bytes(made.to_bytes())
    assert again.weights.tolist() == [1.0] * 40 + [6.0] * (len(kept) - 40)
    assert again.weights.dtype == np.float32
    assert np.array_equal(again.still_times_s[: dense.num_stills], dense.still_times_s)
    assert np.array_equal(again.descriptors[: len(dense.descriptors)], dense.descriptors)
    assert set(again.keypoint_stills.tolist()) == set(range(again.num_stills))
    # One every four seconds or a little fewer.
    assert dense.num_stills + 3 <= again.num_stills <= dense.num_stills + 5
    assert len(again.unpack_stills()) == again.num_stills


def test_a_film_of_which_only_the_later_part_shows_anything() -> None:
    frames = [flat(0)] * 20 + draw_clip(6, count=8)
    made = make_fingerprint(
        frames, times_s=[*times(20), *(5 + 1.5 * index for index in range(8))], weights=[1.0] * 20 + [6.0] * 8
    )
    assert made is not None
    assert made.times_s[0] == 5 and made.num_stills == 3


def test_mirrored_codes_are_those_of_the_mirrored_frame() -> None:
    made, mirrored = copy_of(1), copy_of(1, "mirrored")
    turned = mirror_descriptors(made.descriptors)
    found: list[Any] = []
    unturned: list[Any] = []
    for frame in range(made.num_stills):
        own, others = np.flatnonzero(made.keypoint_stills == frame), np.flatnonzero(mirrored.keypoint_stills == frame)
        places = np.stack([SIZE_PX[0] - 0.5 - made.keypoints[own, 0], made.keypoints[own, 1]], axis=1)
        near = np.linalg.norm(places[:, None] - mirrored.keypoints[others], axis=2) < 0.5
        for codes, nearest in ((turned, found), (made.descriptors, unturned)):
            apart = np.where(near, distances(codes[own], mirrored.descriptors[others]), 999)
            nearest.extend(apart.min(axis=1)[near.any(axis=1)].tolist())
    assert len(found) > 0.8 * len(made.keypoints)
    assert np.mean(np.array(found) <= 24) > 0.9
    # The test can fail: the codes as they are do not fit.
    assert np.median(unturned) > 60


def test_mirroring_twice_changes_nothing() -> None:
    codes = copy_of(1).descriptors
    assert np.array_equal(mirror_descriptors(mirror_descriptors(codes)), codes)


def test_the_kind_names_what_changes_a_fingerprint() -> None:
    dense = Scan(step_s=0.25)
    none = Scan(step_s=0)
    kinds = [
        dense.fingerprint_kind(RECIPE),
        Scan(step_s=0.5).fingerprint_kind(RECIPE),
        Scan(step_s=0.25, dense_s=30).fingerprint_kind(RECIPE),
        none.fingerprint_kind(RECIPE),
        none.fingerprint_kind(Recipe(encoder="pdq", model="", num_frames=8, frame_span="spread")),
        none.fingerprint_kind(Recipe(encoder="pdq", model="", num_frames=3, frame_span="first")),
    ]
    assert len(set(kinds)) == len(kinds)
    # Encoder and frames do not touch what a scan takes.
    clip = Recipe(encoder="clip", model="x", num_frames=8, frame_span="first")
    assert dense.fingerprint_kind(clip) == kinds[0]
    assert Scan(step_s=0, dense_s=9).fingerprint_kind(RECIPE) == kinds[3]


def test_stored_fingerprints_are_loaded_when_asked_for() -> None:
    asked: list[int] = []
    data = copy_of(1).to_bytes()

    def load(row: int) -> bytes | None:
        asked.append(row)
        return {0: data, 2: b"damaged"}.get(row)

    stored = StoredFingerprints(load, rows=4)
    assert (len(stored), asked) == (4, [])
    first = stored[0]
    assert first is not None
    assert np.array_equal(first.descriptors, copy_of(1).descriptors)
    assert stored[0] is first
    assert stored[1] is None
    assert stored[:2] == [first, None]
    assert asked == [0, 1]
    with pytest.raises(ValueError, match="are no fingerprint"):
        stored[2]
    with pytest.raises(IndexError):
        stored[4]


def test_of_long_films_fewer_are_kept_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    data = copy_of(1).to_bytes()

    def load(row: int) -> bytes:
        asked.append(row)
        return data

    monkeypatch.setattr(fingerprint_module, "FRAMES_AT_HAND", 2 * 40)
    stored = StoredFingerprints(load, rows=5)
    for row in (0, 1, 0, 2, 0, 1):
        assert stored[row] is not None
    # Of two that fit, the one used longer ago goes.
    assert asked == [0, 1, 2, 1]
    monkeypatch.setattr(fingerprint_module, "FRAMES_AT_HAND", 39)
    assert stored[3] is stored[3]


def test_a_list_of_stored_fingerprints_ends() -> None:
    assert list(StoredFingerprints(lambda row: None, rows=3)) == [None, None, None]
    assert list(StoredFingerprints(lambda row: None, rows=0)) == []

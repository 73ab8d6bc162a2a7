"""Flat frames, bars: what is done to a picture before it is encoded."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup_lib.features.pdq import PdqEncoder
from dedup_lib.media.frames import encode_preview, find_bars, is_flat, load_picture, prepare_sample
from dedup_lib.records import Frames

PHOTOS = ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg", "motorcycle_left.png", "hubble_deep_field.jpg")


def load_photo(name: str, *, size_px: tuple[int, int] = (480, 270)) -> Frames:
    spec = importlib.util.find_spec("skimage")
    assert spec and spec.submodule_search_locations
    photo = load_picture(Path(spec.submodule_search_locations[0]) / "data" / name)
    return cv2.resize(photo, size_px, interpolation=cv2.INTER_AREA).astype(np.uint8)


def put_bars(frame: Frames, bars: tuple[int, int, int, int], *, colour: tuple[int, int, int] = (0, 0, 0)) -> Frames:
    """`frame` with bars added at top, bottom, left and right."""
    top, bottom, left, right = bars
    value = [float(channel) for channel in colour]
    return cv2.copyMakeBorder(frame, top, bottom, left, right, cv2.BORDER_CONSTANT, value=value).astype(np.uint8)


def compress(frame: Frames, *, quality: int = 40) -> Frames:
    """What a lossy encoder leaves of it: smeared edges, noise on the bars."""
    data = cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.ascontiguousarray(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))[..., ::-1]).astype(np.uint8)


def noisy(shape: tuple[int, int], *, mean: float, deviation: float, seed: int = 0) -> Frames:
    noise = np.random.default_rng(seed).normal(mean, deviation, (*shape, 3))
    return np.clip(noise, 0, 255).astype(np.uint8)


# Flat frames


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (16, 16, 16), (0, 255, 0), (12, 80, 200)])
def test_one_colour_is_flat(colour: tuple[int, int, int]) -> None:
    assert is_flat(np.full((90, 160, 3), colour, np.uint8))


def test_noise_and_compression_leave_a_flat_frame_flat() -> None:
    assert is_flat(noisy((270, 480), mean=20, deviation=6))
    assert is_flat(compress(noisy((270, 480), mean=128, deviation=5)))


@pytest.mark.parametrize("name", PHOTOS)
def test_photographs_are_not_flat_however_dark(name: str) -> None:
    photo = load_photo(name)
    assert not is_flat(photo) and not is_flat((photo * 0.4).astype(np.uint8))


def test_two_colours_of_one_brightness_are_not_flat() -> None:
    frame = np.zeros((100, 100, 3), np.uint8)
    frame[:, :50], frame[:, 50:] = (200, 0, 0), (0, 102, 0)
    assert not is_flat(frame)


def test_pictures_of_a_few_pixels() -> None:
    assert is_flat(np.zeros((1, 1, 3), np.uint8)) and is_flat(np.zeros((1, 500, 3), np.uint8))


# Bars


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize(
    "bars", [(40, 40, 0, 0), (0, 0, 60, 60), (30, 30, 50, 50), (40, 0, 0, 0), (0, 0, 0, 64), (20, 44, 12, 80)]
)
def test_bars_are_found_to_the_pixel_and_through_compression(name: str, bars: tuple[int, int, int, int]) -> None:
    barred = put_bars(load_photo(name), bars)
    assert np.abs(np.subtract(find_bars([barred]), bars)).max() <= 4
    assert np.abs(np.subtract(find_bars([compress(barred, quality=80)]), bars)).max() <= 5


@pytest.mark.parametrize("colour", [(255, 255, 255), (16, 16, 16), (200, 30, 30), (90, 90, 90)])
def test_bars_may_have_any_colour(colour: tuple[int, int, int]) -> None:
    bars = (36, 36, 0, 0)
    frames = [put_bars(load_photo(name), bars, colour=colour) for name in PHOTOS[:3]]
    assert np.abs(np.subtract(find_bars(frames), bars)).max() <= 2


def test_bars_within_bars() -> None:
    inner = put_bars(load_photo("coffee.png"), (0, 0, 60, 60))
    both = put_bars(inner, (50, 50, 20, 20), colour=(255, 255, 255))
    assert np.abs(np.subtract(find_bars([both]), (50, 50, 80, 80))).max() <= 3


@pytest.mark.parametrize("name", ["coffee.png", "chelsea.png", "motorcycle_left.png"])
def test_a_picture_without_bars_is_left_alone(name: str) -> None:
    assert find_bars([load_photo(name)]) == (0, 0, 0, 0)


def test_a_dark_edge_that_lights_up_is_no_bar() -> None:
    dark, light = load_photo("coffee.png"), load_photo("coffee.png")
    dark[:60] = 0
    assert find_bars([dark])[0] >= 56
    assert find_bars([dark, light]) == (0, 0, 0, 0)


def test_what_is_nearly_all_bar_is_left_alone() -> None:
    frame = np.zeros((200, 300, 3), np.uint8)
    assert find_bars([frame]) == (0, 0, 0, 0)
    frame[95:105] = load_photo("coffee.png", size_px=(300, 10))
    assert find_bars([frame])[:2] == (0, 0)


def test_no_frame_has_no_bars() -> None:
    assert find_bars([]) == (0, 0, 0, 0)


sizes = st.tuples(st.integers(1, 40), st.integers(1, 40))


@given(size=sizes, seed=st.integers(0, 1000), bars=st.tuples(*[st.integers(0, 12)] * 4), step=st.integers(1, 255))
def test_something_is_always_left_of_a_picture(
    size: tuple[int, int], seed: int, bars: tuple[int, int, int, int], step: int
) -> None:
    content = np.random.default_rng(seed).integers(0, step, (*size, 3)).astype(np.uint8)
    frame = put_bars(content, bars)
    top, bottom, left, right = find_bars([frame])
    assert min(top, bottom, left, right) >= 0
    assert top + bottom < frame.shape[0] and left + right < frame.shape[1]
    sample = prepare_sample([frame, content], positions=(0, 1), times_s=(0.0, 1.0))
    assert all(0 not in kept.shape for kept in sample.frames)
    assert len(PdqEncoder().encode_frames(sample.frames)) == len(sample.frames)


def test_soft_edges_do_not_eat_a_small_picture_up() -> None:
    rows = np.repeat([0, 20, 255], 4)[:, None] + np.zeros((12, 40), int)
    rows[4:8, ::2] += 10
    frame = np.repeat(rows[..., None], 3, axis=2).astype(np.uint8)
    top, bottom, _, _ = find_bars([frame])
    assert top + bottom < 12


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize("bars", [(45, 45, 0, 0), (0, 0, 80, 80), (30, 30, 53, 53)])
def test_a_photograph_is_known_again_behind_bars(name: str, bars: tuple[int, int, int, int]) -> None:
    photo = load_photo(name)
    copies = [photo, compress(put_bars(photo, bars))]
    samples = [prepare_sample([copy], positions=(0,), times_s=(0.0,)) for copy in copies]
    first, second = (PdqEncoder().encode_frames(sample.frames)[0] for sample in samples)
    assert (1 - float(first @ second)) * 128 <= 31


# Samples


def test_flat_frames_are_dropped_and_the_others_keep_their_places() -> None:
    black, white = np.zeros((270, 480, 3), np.uint8), np.full((270, 480, 3), 255, np.uint8)
    frames = [black, load_photo("coffee.png"), white, load_photo("chelsea.png"), black]
    sample = prepare_sample(frames, positions=(0, 1, 2, 3, 4), times_s=(0.5, 1.5, 2.5, 3.5, 4.5))
    assert sample.positions == (1, 3) and sample.times_s == (1.5, 3.5)
    assert np.array_equal(sample.frames[0], frames[1]) and np.array_equal(sample.frames[1], frames[3])


def test_a_flat_picture_between_bars_is_dropped() -> None:
    grey = put_bars(np.full((150, 300, 3), 128, np.uint8), (25, 25, 0, 0))
    sample = prepare_sample([grey, grey], positions=(0, 1), times_s=(0.0, 1.0))
    assert sample.frames == sample.positions == sample.times_s == ()


def test_nothing_but_flat_frames_leaves_an_empty_sample() -> None:
    sample = prepare_sample([np.zeros((9, 16, 3), np.uint8)] * 3, positions=(0, 1, 2), times_s=(0.0, 1.0, 2.0))
    assert sample.frames == sample.positions == ()


def test_a_video_may_change_its_size() -> None:
    wide = put_bars(load_photo("coffee.png"), (40, 40, 0, 0))
    tall = put_bars(load_photo("chelsea.png", size_px=(200, 300)), (0, 0, 30, 30))
    sample = prepare_sample([wide, tall, wide], positions=(0, 1, 2), times_s=(0.0, 1.0, 2.0))
    heights_widths = [frame.shape[:2] for frame in sample.frames]
    assert np.allclose(heights_widths, [(270, 480), (300, 200), (270, 480)], atol=8)


def test_frames_of_a_sample_are_pictures_of_their_own() -> None:
    frame = put_bars(load_photo("rocket.jpg"), (40, 40, 0, 0))
    (kept,) = prepare_sample([frame], positions=(0,), times_s=(0.0,)).frames
    assert kept.flags.c_contiguous and kept.dtype == np.uint8


# Pictures in files


def test_a_saved_picture_comes_back_in_its_colours(tmp_path: Path) -> None:
    frame = cv2.GaussianBlur(load_photo("coffee.png"), (0, 0), 3).astype(np.uint8)
    (tmp_path / "ü.webp").write_bytes(encode_preview(frame))
    loaded = load_picture(tmp_path / "ü.webp")
    assert loaded.shape == frame.shape and np.abs(loaded.astype(int) - frame).mean() < 4


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n"])
def test_a_file_that_is_no_picture_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.jpg").write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.jpg"):
        load_picture(tmp_path / "x.jpg")

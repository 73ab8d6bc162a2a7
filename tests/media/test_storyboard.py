"""The colour frames of a video that people look at."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup_lib.media.storyboard import MAX_FRAMES, SIDE_PX, Storyboard
from dedup_lib.records import Frames


def colour(number: int, *, size_px: tuple[int, int] = (160, 90)) -> Frames:
    """A frame of one colour, by which it is known again after JPEG."""
    frame = np.zeros((size_px[1], size_px[0], 3), np.uint8)
    frame[:] = [number % 8 * 32, number // 8 % 8 * 32, number // 64 * 60]
    return frame


def number_of(frame: Frames) -> int:
    red, green, blue = frame.reshape(-1, 3).mean(axis=0)
    return int(round(red / 32) + 8 * round(green / 32) + 64 * round(blue / 60))


@given(st.lists(st.integers(0, 4_000), min_size=1, max_size=150))
def test_a_storyboard_has_few_frames_well_apart_with_their_own_times(steps: list[int]) -> None:
    times_s = [step * 0.25 for step in sorted(steps)]
    board = Storyboard.of([colour(number) for number in range(len(times_s))], times_s=times_s)
    assert 1 <= len(board.frames) == len(board.times_s) <= MAX_FRAMES
    assert board.times_s[0] == times_s[0] and set(board.times_s) <= set(times_s)
    assert all(after > before for before, after in itertools.pairwise(board.times_s))
    for frame, time_s in zip(board.frames, board.times_s, strict=True):
        assert times_s[number_of(frame)] == time_s


@pytest.mark.parametrize("size_px", [(256, 144), (144, 256), (40, 30), (256, 1), (1, 256)])
@pytest.mark.parametrize("count", [1, 7, 8, 9, 40])
def test_a_storyboard_comes_back_from_its_file(tmp_path: Path, size_px: tuple[int, int], count: int) -> None:
    frames = [colour(number, size_px=size_px) for number in range(count)]
    board = Storyboard.of(frames, times_s=[number * 0.75 for number in range(count)])
    (tmp_path / "ü.jpg").write_bytes(board.to_bytes())
    loaded = Storyboard.load(tmp_path / "ü.jpg")
    assert loaded is not None and loaded.times_s == board.times_s and len(loaded.frames) == count
    assert max(loaded.frames[0].shape) == SIDE_PX
    assert loaded.frames[0].shape == board.frames[0].shape
    if min(size_px) > 1:
        assert [number_of(frame) for frame in loaded.frames] == list(range(count))


def test_times_out_of_order_and_frames_of_another_size_are_borne() -> None:
    board = Storyboard.of([colour(0), colour(2, size_px=(90, 160)), colour(1)], times_s=[0.0, 4.0, 2.0])
    assert board.times_s == (0.0, 2.0, 4.0) and [number_of(frame) for frame in board.frames] == [0, 1, 2]
    assert len({frame.shape for frame in board.frames}) == 1


def test_the_nearest_frame_and_frames_over_all_of_the_video_are_found() -> None:
    board = Storyboard.of([colour(number) for number in range(10)], times_s=[float(number) for number in range(10)])
    assert [board.nearest(time_s) for time_s in (-5, 0, 3.4, 3.6, 8.9, 99)] == [0, 0, 3, 4, 9, 9]
    assert board.spread(5) == [1, 3, 5, 7, 9] and board.spread(1) == [5]
    assert Storyboard.of([colour(3)], times_s=[1.5]).spread(5) == [0]


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: b"no picture", lambda data: data[: len(data) // 3]])
def test_a_damaged_file_is_no_storyboard(tmp_path: Path, damage: object) -> None:
    data = Storyboard.of([colour(1)], times_s=[0.0]).to_bytes()
    (tmp_path / "x.jpg").write_bytes(damage(data))  # type: ignore[operator]
    assert Storyboard.load(tmp_path / "x.jpg") is None
    assert Storyboard.load(tmp_path / "gone.jpg") is None


def test_a_picture_that_lies_about_its_frames_is_no_storyboard() -> None:
    data = Storyboard.of([colour(1)], times_s=[0.0]).to_bytes()
    with pytest.raises(ValueError, match="no storyboard"):
        Storyboard.from_bytes(data.replace(b"[208, 117]", b"[999, 117]"))

"""Frames out of files of every kind, and a status for every file that gives none."""

from __future__ import annotations

import io
import math
import random
import re
import struct
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fault_server import FaultServer, Request, always, reply, reply_range
from media import join_tracks, number_frame, read_number, save_clip, save_repeats, save_still_end
from PIL import Image

from dedup_lib.demo.server import ClipServer
from dedup_lib.errors import VideoTrouble
from dedup_lib.media import sampling, tracks
from dedup_lib.media.frames import FRAME_SIDE_PX
from dedup_lib.media.limits import Deadline, FetchLimits
from dedup_lib.media.sampling import SCAN_SIDE_PX, GrabbedFrames, grab_frames
from dedup_lib.media.streams import open_stream
from dedup_lib.records import Scan, Status

LIMITS = FetchLimits(timeout_s=30, max_bytes=50_000_000, allow_private_addresses=True, allow_local_paths=True)

CLIPS: dict[str, dict[str, Any]] = {
    "index-last.mp4": {},
    "index-first.mp4": {"options": {"movflags": "+faststart"}},
    "fragmented.mp4": {"options": {"movflags": "frag_keyframe+empty_moov"}},
    "one-key-frame.mp4": {"key_every": 300},
    "with-sound.mp4": {"sound": True},
    "clip.mov": {},
    "clip.mkv": {},
    "clip.flv": {},
    "vp9.webm": {"codec": "libvpx-vp9"},
    "no-duration.webm": {"codec": "libvpx", "piped": True, "file_format": "webm", "options": {"live": "1"}},
    "mpeg4.avi": {"codec": "mpeg4"},
    "raw.avi": {"codec": "rawvideo", "pixels": "bgr24"},
    "clip.ts": {"file_format": "mpegts"},
    "one-key-frame.ts": {"file_format": "mpegts", "key_every": 300},
    "clip.h264": {"file_format": "h264"},
    "clip.gif": {"codec": "gif", "pixels": "rgb8"},
    "clip.mpg": {"codec": "mpeg2video", "file_format": "mpeg", "fps": 25, "count": 75},
    "clip.nut": {"codec": "ffv1", "pixels": "bgr0"},
    "clip.wmv": {"codec": "wmv2", "file_format": "asf"},
    "late-start.mkv": {"options": {"output_ts_offset": "100"}},
    "late-start.ts": {"file_format": "mpegts", "options": {"output_ts_offset": "1000"}},
    "mjpeg.avi": {"codec": "mjpeg", "pixels": "yuvj420p"},
}


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of three-second clips of all kinds, frames numbered from 0, ten a second unless CLIPS says otherwise."""
    folder = tmp_path_factory.mktemp("video")
    for name, facts in CLIPS.items():
        save_clip(folder / name, **facts)
    return folder


def grab(
    path: Path | str,
    *,
    num_frames: int = 3,
    frame_span: str = "spread",
    timeout_s: float = 30,
    scan: Scan | None = None,
) -> GrabbedFrames:
    deadline = Deadline(timeout_s)
    with open_stream(str(path), limits=LIMITS, deadline=deadline) as stream:
        return grab_frames(stream, num_frames=num_frames, frame_span=frame_span, deadline=deadline, scan=scan)


def trouble_of(path: Path | str, **asked: Any) -> VideoTrouble:
    with pytest.raises(VideoTrouble) as caught:
        grab(path, **asked)
    return caught.value


SCAN = {"scan": Scan(step_s=0.25)}


def numbers(grabbed: GrabbedFrames) -> list[int]:
    return [read_number(frame) for frame in grabbed.frames]


# Which frames


@pytest.mark.parametrize("name", CLIPS)
def test_spread_frames_are_those_at_a_sixth_a_half_and_five_sixths(clips: Path, name: str) -> None:
    grabbed = grab(clips / name)
    fps, count = CLIPS[name].get("fps", 10), CLIPS[name].get("count", 30)
    # FLV and MPEG program streams state a duration that is a few frames off.
    assert np.allclose(numbers(grabbed), [count / 6, count / 2, count * 5 / 6], atol=3 if fps == 25 else 1)
    assert np.allclose(grabbed.times_s, [number / fps for number in numbers(grabbed)], atol=0.02)
    assert grabbed.positions == (0, 1, 2)
    assert (grabbed.facts.width_px, grabbed.facts.height_px) == (160, 120)


@pytest.mark.parametrize("name", CLIPS)
def test_first_frames_are_the_first(clips: Path, name: str) -> None:
    grabbed = grab(clips / name, frame_span="first", num_frames=4)
    assert numbers(grabbed) == [0, 1, 2, 3]
    fps = CLIPS[name].get("fps", 10)
    assert np.allclose(grabbed.times_s, np.arange(4) / fps, atol=0.002) and grabbed.positions == (0, 1, 2, 3)


@pytest.mark.parametrize("name", ["index-last.mp4", "vp9.webm", "mpeg4.avi", "clip.ts"])
def test_over_http_the_same_frames_come_with_and_without_ranges(clips: Path, name: str) -> None:
    here = grab(clips / name)
    for ranges in (True, False):
        with ClipServer(clips, ranges=ranges) as server:
            there = grab(server.url(name))
        assert there.facts == here.facts and there.times_s == here.times_s
        assert all(np.array_equal(a, b) for a, b in zip(there.frames, here.frames, strict=True))


def test_over_http_without_a_length_the_same_frames_come(clips: Path) -> None:
    content = (clips / "index-last.mp4").read_bytes()
    with FaultServer(always(reply("200 OK", content, Content_Length=None))) as server:
        assert numbers(grab(server.url())) == numbers(grab(clips / "index-last.mp4"))


def test_known_facts(clips: Path) -> None:
    assert grab(clips / "index-last.mp4").facts.duration_s == pytest.approx(3.0)
    assert grab(clips / "index-last.mp4").facts.codec == "h264"
    # It states none, and was read to its end.
    assert grab(clips / "no-duration.webm").facts.duration_s == pytest.approx(3.0)
    assert grab(clips / "vp9.webm").facts.codec == "vp9"
    assert grab(clips / "clip.h264", **SCAN).facts.duration_s == 0


def test_every_frame_may_be_asked_for(clips: Path) -> None:
    assert numbers(grab(clips / "index-last.mp4", num_frames=30)) == list(range(30))
    assert numbers(grab(clips / "index-last.mp4", num_frames=30, frame_span="first")) == list(range(30))


def test_a_video_with_fewer_frames_than_asked_for(tmp_path: Path) -> None:
    clip = save_clip(tmp_path / "two.mp4", count=2)
    assert numbers(grab(clip, frame_span="first", num_frames=5)) == [0, 1]
    assert numbers(grab(clip, num_frames=4)) == [0, 0, 1, 1]


@pytest.mark.parametrize("name", ["one.mp4", "one.webm"])
def test_a_video_of_one_frame(tmp_path: Path, name: str) -> None:
    clip = save_clip(tmp_path / name, count=1, codec="libvpx" if name.endswith("webm") else "libx264")
    assert len(grab(clip, frame_span="first").frames) == 1
    # A still is shown at every position, as it is in a copy of it that lasts longer.
    spread = grab(clip)
    assert spread.positions == (0, 1, 2) and set(spread.times_s) == {0.0}


# What frames look like


def test_frames_are_rgb_and_not_too_large(tmp_path: Path) -> None:
    grabbed = grab(save_clip(tmp_path / "wide.mp4", count=3, size_px=(1280, 360)), num_frames=1)
    (frame,) = grabbed.frames
    assert frame.shape == (144, FRAME_SIDE_PX, 3) and frame.dtype == np.uint8 and frame.flags.c_contiguous
    assert (grabbed.facts.width_px, grabbed.facts.height_px) == (1280, 360)
    expected = cv2.resize(number_frame(1, size_px=(1280, 360)), (512, 144), interpolation=cv2.INTER_AREA)
    assert np.abs(frame.astype(int) - expected).mean() < 6


def test_a_small_frame_is_not_enlarged(tmp_path: Path) -> None:
    assert grab(save_clip(tmp_path / "tiny.mp4", size_px=(32, 16))).frames[0].shape == (16, 32, 3)


MATRIX = [0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000]


@pytest.mark.parametrize(
    ("matrix", "quarters"),
    [
        ([0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000], 1),
        ([-0x10000, 0, 0, 0, -0x10000, 0, 0, 0, 0x40000000], 2),
        ([0, -0x10000, 0, 0x10000, 0, 0, 0, 0, 0x40000000], 3),
    ],
)
def test_a_video_is_turned_as_its_file_asks(clips: Path, tmp_path: Path, matrix: list[int], quarters: int) -> None:
    plain, wanted = (b"".join(n.to_bytes(4, "big", signed=True) for n in m) for m in (MATRIX, matrix))
    content = (clips / "index-last.mp4").read_bytes()
    # The matrix stands in the header of the film and in that of its track (ISO/IEC 14496-12, 8.3.2).
    track = content.index(b"tkhd")
    assert content.count(plain, track) == 1
    (tmp_path / "turned.mp4").write_bytes(content[:track] + content[track:].replace(plain, wanted))
    upright, turned = (grab(path, scan=Scan(step_s=1)) for path in (clips / "index-last.mp4", tmp_path / "turned.mp4"))
    # The matrix turns clockwise.
    for frame, wanted_frame in ((turned.frames[0], upright.frames[0]), (turned.scanned[1], upright.scanned[1])):
        assert np.array_equal(frame, np.rot90(wanted_frame, -quarters))
    size = (120, 160) if quarters % 2 else (160, 120)
    assert (turned.facts.width_px, turned.facts.height_px) == size == turned.frames[0].shape[1::-1]


# The scan of a fingerprint


@pytest.mark.parametrize("name", CLIPS)
def test_a_scan_takes_a_frame_every_step(clips: Path, name: str) -> None:
    grabbed = grab(clips / name, scan=Scan(step_s=0.25))
    fps = CLIPS[name].get("fps", 10)
    times = np.array(grabbed.scanned_times_s)
    # A frame stands for its step when it comes late, never when it comes early.
    assert np.array_equal(np.floor(times / 0.25 + 1e-3), np.arange(12))
    assert (times - np.arange(12) * 0.25 < 2 / fps + 1e-3).all()
    seen = [read_number(frame) for frame in grabbed.scanned]
    assert np.allclose(seen, times * fps, atol=1)


@pytest.mark.parametrize(
    ("name", "fps", "facts"),
    [
        ("slow.mp4", 12, {}),
        ("clip.mp4", 25, {}),
        ("fast.mp4", 50, {}),
        ("clip.h264", 30, {"file_format": "h264"}),
        ("clip.mpg", 25, {"codec": "mpeg2video", "file_format": "mpeg"}),
        ("clip.webm", 30, {"codec": "libvpx-vp9"}),
    ],
)
def test_frames_that_are_left_out_shift_no_time(tmp_path: Path, name: str, fps: int, facts: dict[str, Any]) -> None:
    clip = save_clip(tmp_path / name, count=fps * 4, fps=fps, key_every=fps, **facts)
    grabbed = grab(clip, scan=Scan(step_s=0.25))
    seen = np.array([read_number(frame) for frame in grabbed.scanned])
    assert len(seen) == 16
    assert np.allclose(seen / fps, grabbed.scanned_times_s, atol=0.02)


# What stays


SLIDES_S = {"slides.mp4": {}, "slides.mkv": {}, "slides.flv": {}, "slides.webm": {"codec": "libvpx-vp9"}}


@pytest.mark.parametrize("name", SLIDES_S)
def test_a_slide_show_has_the_frames_of_its_copy_at_a_usual_rate(tmp_path: Path, name: str) -> None:
    slides = [number_frame(number) for number in range(3)]
    few = grab(save_clip(tmp_path / name, frames=slides, fps=1, **SLIDES_S[name]), **SCAN)
    many = [slide for slide in slides for _ in range(25)]
    usual = grab(save_clip(tmp_path / "usual.mp4", frames=many, fps=25), **SCAN)
    assert numbers(few) == numbers(usual) == [0, 1, 2]
    assert np.array_equal(np.floor(few.scanned_times_s), [read_number(frame) for frame in few.scanned])
    assert [read_number(frame) for frame in few.scanned] == [read_number(frame) for frame in usual.scanned]
    assert np.allclose(few.scanned_times_s, usual.scanned_times_s, atol=0.1)
    assert few.facts.duration_s == pytest.approx(3.0) == usual.facts.duration_s
    # A picture that stays is converted once.
    assert len({id(frame) for frame in few.scanned}) == 3


@pytest.mark.parametrize("scan", [{}, SCAN])
@pytest.mark.parametrize(
    ("moving", "suffix"),
    [*product([1, 10], [".mp4", ".mkv", ".webm"]), *product([10], [".gif", ".webp", ".png", ".avif"])],
)
def test_the_last_frame_stands(tmp_path: Path, moving: int, suffix: str, scan: dict[str, Scan]) -> None:
    clip = save_still_end(tmp_path / f"clip{suffix}", moving=moving, stands_s=9.0)
    grabbed = grab(clip, num_frames=8, **scan)
    whole_s = moving / 10 - 0.1 + 9.0
    assert grabbed.facts.duration_s == pytest.approx(whole_s)
    assert grabbed.times_s == pytest.approx([number / 10 for number in numbers(grabbed)])
    assert numbers(grabbed) == [min(int(whole_s * (i + 0.5) / 8 * 10), moving - 1) for i in range(8)]
    assert len(grabbed.scanned) == (math.ceil(whole_s / 0.25) if scan else 0)


@pytest.mark.parametrize("scan", [{}, SCAN])
@pytest.mark.parametrize("suffix", [".nut", ".wmv"])
def test_a_frame_that_is_repeated_stays(tmp_path: Path, suffix: str, scan: dict[str, Scan]) -> None:
    """A packet without content repeats a frame. WMV has none, and its packets have no duration."""
    clip = save_repeats(tmp_path / f"clip{suffix}", count=40, every=4, until=20)
    grabbed = grab(clip, num_frames=8, **scan)
    assert grabbed.facts.duration_s == pytest.approx(4.0)
    assert grabbed.times_s == pytest.approx([number / 10 for number in numbers(grabbed)])
    assert numbers(grabbed) == [min(int(4.0 * (i + 0.5) / 8 * 10) // 4 * 4, 20) for i in range(8)]


@pytest.mark.parametrize("scan", [{}, SCAN])
@pytest.mark.parametrize("comments", [1, 3])
def test_comments_at_the_end_of_a_gif_are_no_frames(tmp_path: Path, comments: int, scan: dict[str, Scan]) -> None:
    """FFmpeg gives them the delay of the last picture again, and that may be long."""
    clip = save_still_end(tmp_path / "clip.gif", moving=10, stands_s=9.0)
    usual = grab(clip, num_frames=8, **scan)
    comment = b"\x21\xfe\x05hello\x05world\x00"
    clip.write_bytes(clip.read_bytes().removesuffix(b"\x3b") + comment * comments + b"\x3b")
    commented = grab(clip, num_frames=8, **scan)
    assert commented.facts == usual.facts
    assert numbers(commented) == numbers(usual)


@pytest.mark.parametrize("scan", [{}, SCAN])
def test_where_the_damage_begins_is_said(clips: Path, tmp_path: Path, scan: dict[str, Scan]) -> None:
    content = (clips / "mjpeg.avi").read_bytes()
    start, end = len(content) // 2, content.rindex(b"idx1")
    (tmp_path / "damaged.avi").write_bytes(content[:start] + content[start:end].replace(b"\xff", b"\0") + content[end:])
    with pytest.raises(VideoTrouble, match=r"no frame after 1\.\d s can be decoded: Invalid data"):
        grab(tmp_path / "damaged.avi", **scan)


def test_an_encrypted_video_is_refused_as_such(tmp_path: Path) -> None:
    """Decoded, its frames would be noise or nothing."""
    key = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "76a6c65c5ea762046bd749a2e632ccbb"}
    options = key | {"encryption_kid": "a7e61c373e219033c21091fa607bf3b8"}
    clip = save_clip(tmp_path / "clip.mp4", options=options)
    for scan in ({}, SCAN):
        with pytest.raises(VideoTrouble, match=r"the film is encrypted \(MP4 with a key\)") as caught:
            grab(clip, **scan)
        assert caught.value.status == Status.ENCRYPTED


def test_an_encrypted_stream_of_webm_is_refused_as_such(tmp_path: Path) -> None:
    plain = save_clip(tmp_path / "plain.webm", codec="libvpx-vp9", title="a name of 25 characters !")
    assert grab(plain, **SCAN).frames
    content = plain.read_bytes()
    # The stream's encryption, in place of its name (RFC 9559, 5.1.4.1.31).
    key = b"\x47\xe1\x81\x05" + b"\x47\xe2\x88" + b"key no 1"
    encoding = b"\x50\x33\x81\x01" + b"\x50\x35\x8f" + key
    (tmp_path / "encrypted.webm").write_bytes(
        content.replace(b"\x53\x6e\x99a name of 25 characters !", b"\x6d\x80\x99" + b"\x62\x40\x96" + encoding)
    )
    with pytest.raises(VideoTrouble, match=r"the film is encrypted \(WebM with a key\)"):
        grab(tmp_path / "encrypted.webm", **SCAN)


@pytest.mark.parametrize("scan", [{}, SCAN], ids=["without a scan", "with a scan"])
@pytest.mark.parametrize("filling", [bytes(300_000), random.Random(1).randbytes(300_001)], ids=["zeros", "noise"])
@pytest.mark.parametrize("part", [0.5, 1])
@pytest.mark.parametrize("mode", [0, 1], ids=["usual packets", "packets of a camera"])
def test_recorders_leave_gaps_in_their_files_and_fill_them_up(
    clips: Path, tmp_path: Path, mode: int, part: float, filling: bytes, scan: dict[str, Scan]
) -> None:
    plain = save_clip(tmp_path / "plain.ts", file_format="mpegts", options={"mpegts_m2ts_mode": str(mode)})
    content = plain.read_bytes()
    place = int(len(content) * part)
    (tmp_path / "filled.ts").write_bytes(content[:place] + filling + content[place:])
    assert np.allclose(numbers(grab(tmp_path / "filled.ts", **scan)), numbers(grab(plain, **scan)), atol=3)


def test_films_of_ogg_one_behind_the_other_are_one_film(corpus_dir: Path, tmp_path: Path) -> None:
    """Each begins with packets that are no pictures, and that the decoder refuses."""
    film = corpus_dir / "videos" / "wpt" / "counting.ogv"
    (tmp_path / "joined.ogv").write_bytes(film.read_bytes() * 2)
    once, twice = grab(film, num_frames=4, **SCAN), grab(tmp_path / "joined.ogv", num_frames=8, **SCAN)
    assert twice.facts.duration_s == pytest.approx(2 * once.facts.duration_s, abs=0.5)
    assert np.allclose(twice.times_s[4:], np.add(once.times_s, twice.facts.duration_s / 2), atol=0.5)


@pytest.mark.parametrize(("name", "codec"), [("a.swf", "flv1"), ("a.h261", "h261"), ("a.gxf", "mpeg2video")])
def test_formats_of_other_times_are_read(tmp_path: Path, name: str, codec: str) -> None:
    fps, size_px = (25, (720, 576)) if codec == "mpeg2video" else (30, (176, 144))
    clip = save_clip(tmp_path / name, codec=codec, fps=fps, size_px=size_px, key_every=5)
    assert np.allclose(numbers(grab(clip)), [5, 15, 25], atol=2)


@pytest.mark.parametrize("scan", [{}, SCAN], ids=["without a scan", "with a scan"])
@pytest.mark.parametrize(
    ("lasts", "begins"), [(3000, -1), (3000, 10**8), (3000, 40_000), (0, 1024), (1, 0)], ids=lambda number: f"{number}"
)
def test_an_edit_list_that_shows_nothing_hides_nothing(
    clips: Path, tmp_path: Path, lasts: int, begins: int, scan: dict[str, Scan]
) -> None:
    content = bytearray((clips / "with-sound.mp4").read_bytes())
    place = content.index(b"elst") + 12
    content[place : place + 8] = struct.pack(">Ii", lasts, begins)
    (tmp_path / "edited.mp4").write_bytes(content)
    edited, plain = (grab(path, **scan) for path in (tmp_path / "edited.mp4", clips / "with-sound.mp4"))
    assert numbers(edited) == numbers(plain)
    assert np.allclose(edited.times_s, plain.times_s) and np.allclose(edited.scanned_times_s, plain.scanned_times_s)


def test_what_stays_beyond_the_longest_scan_is_not_taken(tmp_path: Path) -> None:
    clip = save_still_end(tmp_path / "clip.mp4", moving=10, stands_s=60.0)
    assert grab(clip, scan=Scan(step_s=0.5, dense_s=5)).scanned_times_s[-1] == 5.0
    assert grab(clip, frame_span="first", scan=Scan(step_s=0.5, dense_s=5)).scanned_times_s[-1] == 5.0


def test_frames_stamped_in_the_order_of_decoding_are_told_in_the_order_shown(clips: Path, tmp_path: Path) -> None:
    plain = grab(clips / "index-last.mp4", num_frames=8, **SCAN)
    content = (clips / "index-last.mp4").read_bytes()
    # Without the box of composition offsets (ISO/IEC 14496-12, 8.6.1.3) each frame is stamped as it is decoded.
    assert content.count(b"ctts") == content.count(b"edts") == 1
    (tmp_path / "late.mp4").write_bytes(content.replace(b"ctts", b"free").replace(b"edts", b"free"))
    late = grab(tmp_path / "late.mp4", num_frames=8, **SCAN)
    assert (late.times_s, late.scanned_times_s) == (plain.times_s, plain.scanned_times_s)
    assert numbers(late) == numbers(plain)
    assert [read_number(frame) for frame in late.scanned] == [read_number(frame) for frame in plain.scanned]


@pytest.mark.parametrize("later_s", [0, 60, 3600])
def test_times_that_begin_anew_go_on(tmp_path: Path, later_s: int) -> None:
    first, second = (
        save_clip(
            tmp_path / f"{start}.ts",
            file_format="mpegts",
            frames=[number_frame(start + n) for n in range(30)],
            options={"output_ts_offset": str(later_s if start else 0)},
        )
        for start in (0, 30)
    )
    (tmp_path / "both.ts").write_bytes(first.read_bytes() + second.read_bytes())
    grabbed = grab(tmp_path / "both.ts", **SCAN)
    assert grabbed.facts.duration_s == pytest.approx(6.0, abs=0.11)
    if later_s != 60:
        # Sixty seconds have frames where they are looked for: before and behind the gap.
        assert np.allclose(numbers(grabbed), [10, 30, 50], atol=1)
    assert np.allclose([read_number(frame) / 10 for frame in grabbed.scanned], grabbed.scanned_times_s, atol=0.11)


@pytest.mark.parametrize("scan", [{}, SCAN])
def test_recordings_whose_streams_have_other_numbers_are_one_film(tmp_path: Path, scan: dict[str, Scan]) -> None:
    content = b""
    for part in range(3):
        path = save_clip(
            tmp_path / f"{part}.ts",
            frames=[number_frame(20 * part + number) for number in range(20)],
            file_format="mpegts",
            options={"mpegts_start_pid": f"0x{part + 2}00", "mpegts_pmt_start_pid": f"0x1{part}00"},
        )
        content += path.read_bytes()
    (tmp_path / "joined.ts").write_bytes(content)
    grabbed = grab(tmp_path / "joined.ts", num_frames=6, **scan)
    assert grabbed.facts.duration_s == pytest.approx(6.0, abs=0.11)
    assert np.allclose(numbers(grabbed), [5, 15, 25, 35, 45, 55], atol=1)
    assert np.allclose([read_number(frame) / 10 for frame in grabbed.scanned], grabbed.scanned_times_s, atol=0.11)


@pytest.mark.parametrize("scan", [{}, SCAN], ids=["without a scan", "with a scan"])
@pytest.mark.parametrize("later_s", [0, 4], ids=["counting anew", "going on"])
@pytest.mark.parametrize("mode", [0, 1], ids=["usual packets", "packets of a camera"])
@pytest.mark.parametrize(
    "codecs", [("mpeg2video", "libx264"), ("libx264", "mpeg2video"), ("libx264", "libx265"), ("libx265", "libx264")]
)
def test_recordings_in_other_codecs_are_one_film(
    tmp_path: Path, codecs: tuple[str, str], mode: int, later_s: int, scan: dict[str, Scan]
) -> None:
    content = b""
    for part, codec in enumerate(codecs):
        path = save_clip(
            tmp_path / f"{part}.ts",
            frames=[number_frame(100 * part + number) for number in range(100)],
            fps=25,
            codec=codec,
            file_format="mpegts",
            sound=True,
            options={"output_ts_offset": str(part * later_s), "mpegts_m2ts_mode": str(mode)},
        )
        content += path.read_bytes()
    (tmp_path / "joined.ts").write_bytes(content)
    grabbed = grab(tmp_path / "joined.ts", num_frames=6, **scan)
    assert grabbed.facts.duration_s == pytest.approx(8.0, abs=0.2)
    assert np.allclose(numbers(grabbed), [17, 50, 83, 117, 150, 183], atol=4)
    assert np.allclose([read_number(frame) / 25 for frame in grabbed.scanned], grabbed.scanned_times_s, atol=0.2)


def test_a_damaged_table_begins_no_recording(clips: Path, tmp_path: Path) -> None:
    content = bytearray((clips / "clip.ts").read_bytes())
    # The table of the streams, which says that packet number 256 is of H.264.
    places = [found.start() for found in re.finditer(b"\x1b\xe1\x00", content)]
    assert len(places) > 2
    content[places[1]] = 0x02
    (tmp_path / "damaged.ts").write_bytes(content)
    damaged, plain = (grab(path, **SCAN) for path in (tmp_path / "damaged.ts", clips / "clip.ts"))
    assert numbers(damaged) == numbers(plain) and damaged.scanned_times_s == plain.scanned_times_s


@pytest.mark.parametrize(("dense_s", "count"), [(1.0, 5), (1.1, 5), (0.2, 1), (2.5, 11), (60, 12)])
def test_the_dense_part_of_a_scan_ends_where_it_shall(clips: Path, dense_s: float, count: int) -> None:
    grabbed = grab(clips / "index-last.mp4", scan=Scan(step_s=0.25, dense_s=dense_s))
    assert len(grabbed.scanned) == len(grabbed.scanned_times_s) == len(grabbed.scanned_weights)
    dense = [
        time_s for time_s, weight in zip(grabbed.scanned_times_s, grabbed.scanned_weights, strict=True) if weight == 1
    ]
    assert len(dense) == count and max(dense) <= dense_s


@pytest.mark.parametrize("size_px", [(640, 480), (300, 600), (96, 64)])
def test_scanned_frames_are_small(tmp_path: Path, size_px: tuple[int, int]) -> None:
    clip = save_clip(tmp_path / "a.mp4", size_px=size_px)
    grabbed = grab(clip, scan=Scan(step_s=0.5))
    height, width = grabbed.scanned[0].shape[:2]
    assert max(width, height) == min(SCAN_SIDE_PX, max(size_px))
    assert abs(width / height - size_px[0] / size_px[1]) < 0.01
    assert all(frame.dtype == np.uint8 and frame.shape == (height, width, 3) for frame in grabbed.scanned)


def test_a_scan_changes_nothing_else_and_a_step_of_0_is_none(clips: Path) -> None:
    for name in ("index-last.mp4", "clip.ts", "clip.h264"):
        plain, scanned = grab(clips / name), grab(clips / name, scan=Scan(step_s=0.25))
        assert (plain.scanned, plain.scanned_times_s) == ((), ())
        assert (plain.facts, plain.times_s, plain.positions) == (scanned.facts, scanned.times_s, scanned.positions)
        assert all(np.array_equal(a, b) for a, b in zip(plain.frames, scanned.frames, strict=True))


def test_a_damaged_tail_is_no_trouble_to_a_scan(clips: Path, tmp_path: Path) -> None:
    whole = grab(clips / "index-first.mp4", scan=Scan(step_s=0.25))
    content = (clips / "index-first.mp4").read_bytes()
    for name, damaged in (
        ("cut.mp4", content[: int(len(content) * 0.6)]),
        ("garbled.mp4", content[: int(len(content) * 0.6)] + b"\xa5" * (len(content) - int(len(content) * 0.6))),
    ):
        (tmp_path / name).write_bytes(damaged)
        grabbed = grab(tmp_path / name, frame_span="first", scan=Scan(step_s=0.25))
        assert 3 <= len(grabbed.scanned) < len(whole.scanned)
        assert np.allclose([read_number(frame) / 10 for frame in grabbed.scanned], grabbed.scanned_times_s)


# What comes after the dense part of a scan


def later(grabbed: GrabbedFrames) -> list[float]:
    """When the pictures after the dense part are shown, which they spell."""
    found = [
        (time_s, read_number(frame), weight)
        for time_s, frame, weight in zip(grabbed.scanned_times_s, grabbed.scanned, grabbed.scanned_weights, strict=True)
        if weight > 1
    ]
    assert [time_s for time_s, *_ in found] == sorted(time_s for time_s, *_ in found)
    assert np.allclose([time_s * 10 for time_s, *_ in found], [number for _, number, _ in found], atol=1.01)
    return [time_s for time_s, *_ in found]


LONG = {
    "long.mp4": {},
    "long.mkv": {},
    "long.webm": {"codec": "libvpx"},
    "long.avi": {"codec": "mpeg4"},
    "long.flv": {},
}


@pytest.mark.parametrize("key_every", [20, 300])
@pytest.mark.parametrize("name", LONG)
def test_after_its_dense_part_a_scan_takes_a_frame_every_few_seconds(tmp_path: Path, name: str, key_every: int) -> None:
    clip = save_clip(tmp_path / name, count=250, key_every=key_every, **LONG[name])
    grabbed = grab(clip, scan=Scan(step_s=0.25, dense_s=5))
    times_s = later(grabbed)
    assert times_s[0] > 5 and (np.diff([5, *times_s, 25]) <= 3).all()
    assert 8 <= len(times_s) <= 20
    # They stand for all that comes after it.
    assert sum(grabbed.scanned_weights) * 0.25 == pytest.approx(25, abs=0.6)
    # The dense part is that of a video that ends with it.
    short = grab(save_clip(tmp_path / f"short-{name}", count=50, key_every=key_every, **LONG[name]), **SCAN)
    dense = [
        time_s for time_s, weight in zip(grabbed.scanned_times_s, grabbed.scanned_weights, strict=True) if weight == 1
    ]
    assert np.allclose(dense[:20], short.scanned_times_s, atol=0.11)


def test_a_format_without_an_index_has_its_later_frames_too(tmp_path: Path) -> None:
    clip = save_clip(tmp_path / "clip.ts", count=250, key_every=20, file_format="mpegts")
    times_s = later(grab(clip, scan=Scan(step_s=0.25, dense_s=5)))
    # Its first key frame is that at or behind the place that a seek leads to.
    assert times_s[0] < 9 and (np.diff([*times_s, 25]) <= 3).all()


def test_of_a_long_film_so_many_frames_are_taken_over_all_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = save_clip(tmp_path / "clip.mp4", count=250, key_every=50)
    monkeypatch.setattr(sampling, "MAX_LATER", 4)
    times_s = later(grab(clip, scan=Scan(step_s=0.25, dense_s=5)))
    assert len(times_s) <= 4 and times_s[-1] > 15
    # Where little may be decoded, key frames cover it.
    monkeypatch.setattr(sampling, "MAX_LATER", 100)
    monkeypatch.setattr(sampling, "MAX_DECODED_ON_S", 0.0)
    times_s = later(grab(clip, scan=Scan(step_s=0.25, dense_s=5)))
    assert 3 <= len(times_s) <= 5 and (np.diff([5, *times_s, 25]) <= 6).all()


def test_what_cannot_be_read_of_it_is_no_trouble(tmp_path: Path) -> None:
    clip = save_clip(tmp_path / "clip.mp4", count=250, options={"movflags": "+faststart"})
    content = clip.read_bytes()
    half = len(content) // 2
    clip.write_bytes(content[:half] + b"\xa5" * (len(content) - half))
    assert later(grab(clip, frame_span="first", scan=Scan(step_s=0.25, dense_s=5)))[-1] < 20


def test_a_server_that_gives_no_more_ends_it_early(tmp_path: Path) -> None:
    # Noise fills a file of several ranges.
    generator = np.random.default_rng(0)
    frames = [generator.integers(0, 255, (120, 160, 3), np.uint8) for _ in range(250)]
    content = save_clip(tmp_path / "clip.mp4", frames=frames, options={"movflags": "+faststart"}).read_bytes()
    scan = Scan(step_s=0.25, dense_s=5)
    with FaultServer(lambda request: iter([reply_range(request, content)])) as server:
        whole = grab(server.url(), frame_span="first", scan=scan)
        asked = len(server.requests)

    def answer(request: Request) -> Iterator[bytes]:
        return iter([reply_range(request, content) if request.number < asked - 2 else reply("503 Service Unavailable")])

    with FaultServer(answer) as server:
        early = grab(server.url(), frame_span="first", scan=scan)
    assert sum(weight == 1 for weight in early.scanned_weights) == sum(weight == 1 for weight in whole.scanned_weights)
    assert 0 < len(early.scanned) < len(whole.scanned)
    assert early.facts == whole.facts


def test_it_ends_when_little_time_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = save_clip(tmp_path / "clip.mp4", count=250)
    monkeypatch.setattr(sampling, "TIME_TO_SPARE", 1.0)
    grabbed = grab(clip, scan=Scan(step_s=0.25, dense_s=5))
    assert set(grabbed.scanned_weights) == {1.0} and len(grabbed.frames) == 3


@pytest.mark.parametrize("name", ["clip.h264", "clip.webp"])
def test_what_cannot_be_sought_in_has_its_dense_part(clips: Path, tmp_path: Path, name: str) -> None:
    if name.endswith("webp"):
        clip = save_still_end(tmp_path / name, moving=20, stands_s=1.0)
    else:
        clip = clips / name
    grabbed = grab(clip, scan=Scan(step_s=0.25, dense_s=1))
    assert set(grabbed.scanned_weights) == {1.0} and grabbed.scanned_times_s[-1] <= 1.0


# Which of several streams


def film_and(path: Path, other: Path, *, first: bool, default: bool, film: Path) -> Path:
    """The film with another video stream beside it: `first` in the file, or the `default` one."""
    sources = [(other, default), (film, not default)] if first else [(film, not default), (other, default)]
    return join_tracks(path, sources)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
@pytest.mark.parametrize(("first", "default"), [*product([False, True], repeat=2)])
def test_a_poster_larger_than_the_film_is_not_the_film(
    clips: Path, tmp_path: Path, suffix: str, first: bool, default: bool
) -> None:
    poster = save_clip(tmp_path / "poster.mp4", frames=[number_frame(200, size_px=(640, 360))], size_px=(640, 360))
    film = clips / "index-last.mp4"
    grabbed = grab(film_and(tmp_path / f"both{suffix}", poster, first=first, default=default, film=film), **SCAN)
    assert (grabbed.facts.width_px, numbers(grabbed)) == (160, [5, 15, 25])
    assert len(grabbed.scanned) == 12 and grabbed.facts.duration_s == pytest.approx(3.0, abs=0.01)


@pytest.mark.parametrize("name", ["both.mp4", "both.mkv", "fragmented.mp4"])
@pytest.mark.parametrize("first", [False, True])
def test_of_a_film_in_two_sizes_the_larger_is_taken(clips: Path, tmp_path: Path, name: str, first: bool) -> None:
    larger = save_clip(tmp_path / "larger.mp4", size_px=(320, 240))
    sources = [(larger, False), (clips / "index-last.mp4", True)]
    options = {"movflags": "frag_keyframe+empty_moov"} if name == "fragmented.mp4" else {}
    both = join_tracks(tmp_path / name, sources if first else sources[::-1], options=options)
    assert grab(both).facts.width_px == 320


def test_a_larger_film_of_another_shape_gives_way_to_the_one_that_players_show(clips: Path, tmp_path: Path) -> None:
    other = save_clip(tmp_path / "other.mp4", size_px=(640, 240))
    both = film_and(tmp_path / "both.mp4", other, first=True, default=False, film=clips / "index-last.mp4")
    assert grab(both).facts.width_px == 160


# How long


@pytest.mark.parametrize("is_told", [True, False])
@pytest.mark.parametrize("scan", [{}, SCAN, {"scan": Scan(step_s=0.25, dense_s=10)}])
def test_sound_that_goes_on_makes_no_video_longer(tmp_path: Path, is_told: bool, scan: dict[str, Scan]) -> None:
    clip = save_clip(tmp_path / "clip.mkv", sound=True, sound_s=20.0)
    if not is_told:
        # The tags in which the muxer tells the duration of each stream are read by name.
        clip.write_bytes(clip.read_bytes().replace(b"DURATION", b"OTHERTAG"))
    for name, ranges in ((clip.name, True), (clip.name, False)):
        with ClipServer(tmp_path, ranges=ranges) as server:
            grabbed = grab(server.url(name), **scan)
        if scan or is_told or ranges:
            assert grabbed.facts.duration_s == pytest.approx(3.0)
        assert numbers(grabbed) == [5, 15, 25]


def test_the_end_of_a_long_film_is_found_without_reading_it_through(tmp_path: Path) -> None:
    # Noise, so that the file is large.
    noise = [np.random.default_rng(seed).integers(0, 255, (120, 160, 3), np.uint8) for seed in range(200)]
    clip = save_clip(tmp_path / "clip.mkv", frames=noise, sound=True, sound_s=60.0, codec="mjpeg", pixels="yuvj420p")
    clip.write_bytes(clip.read_bytes().replace(b"DURATION", b"OTHERTAG"))
    with (
        ClipServer(tmp_path) as server,
        open_stream(server.url(clip.name), limits=LIMITS, deadline=Deadline(30)) as stream,
    ):
        grabbed = grab_frames(stream, num_frames=1, frame_span="first", deadline=Deadline(30))
        assert stream.fetched_bytes < clip.stat().st_size * 0.8
    assert grabbed.facts.duration_s == pytest.approx(20.0)


# Damage


def cut(source: Path, target: Path, fraction: float) -> Path:
    content = source.read_bytes()
    target.write_bytes(content[: int(len(content) * fraction)])
    return target


def test_the_first_frames_of_a_file_that_is_cut_off_are_there(clips: Path, tmp_path: Path) -> None:
    assert numbers(grab(cut(clips / "index-first.mp4", tmp_path / "cut.mp4", 0.6), frame_span="first")) == [0, 1, 2]


def test_frames_that_a_decoder_made_up_are_not_taken(tmp_path: Path) -> None:
    clip = save_clip(tmp_path / "clip.mp4", size_px=(640, 480), key_every=300)
    content = bytearray(clip.read_bytes())
    # Only the start of each picture is left, so that the decoder knows that there is one and paints it grey.
    place, end = content.index(b"mdat") + 4, content.index(b"moov") - 4
    while place < end:
        size = int.from_bytes(content[place : place + 4], "big")
        content[place + 20 : place + 4 + size] = b"\xa5" * max(0, size - 16)
        place += 4 + size
    assert place == end
    clip.write_bytes(content)
    assert trouble_of(clip).status == Status.DECODE_ERROR


def test_reading_meets_the_deadline(clips: Path) -> None:
    with (
        open_stream(str(clips / "vp9.webm"), limits=LIMITS, deadline=Deadline(30)) as stream,
        pytest.raises(VideoTrouble) as caught,
    ):
        grab_frames(stream, num_frames=3, frame_span="spread", deadline=Deadline(0.0))
    assert caught.value.status == Status.TIMEOUT


# What is no video


def test_random_bytes_are_no_video(tmp_path: Path) -> None:
    for seed in range(40):
        (tmp_path / "clip.mp4").write_bytes(random.Random(seed).randbytes(20_000))
        assert trouble_of(tmp_path / "clip.mp4").status == Status.NOT_VIDEO


# What is an image, and what moves


def jpeg(number: int, *, size_px: tuple[int, int] = (160, 120), **options: Any) -> bytes:
    packed = io.BytesIO()
    Image.fromarray(number_frame(number, size_px=size_px)).save(packed, "JPEG", **options)
    return packed.getvalue()


def exif_with_thumbnail() -> bytes:
    """An EXIF block whose second directory holds a JPEG."""
    thumbnail = jpeg(1, size_px=(16, 12))
    second = 14
    entries = struct.pack("<HHHII", 2, 0x201, 4, 1, second + 30) + struct.pack("<HHII", 0x202, 4, 1, len(thumbnail))
    return b"Exif\0\0II*\0" + struct.pack("<IHI", 8, 0, second) + entries + bytes(4) + thumbnail


JPEGS = b"".join(map(jpeg, range(50)))
STILL = {
    "jpeg": jpeg(1),
    "large jpeg": jpeg(1, size_px=(1600, 1200), quality=100),
    "progressive jpeg": jpeg(1, progressive=True),
    "jpeg with a thumbnail": jpeg(1, exif=exif_with_thumbnail()),
    "motion photo": jpeg(1) + b"\x00\x00\x00\x18ftypmp42" + bytes(5000),
    "jpeg with a smaller one behind": jpeg(1) + jpeg(1, size_px=(80, 60)),
    "jpeg that is cut off": jpeg(1)[:-100],
    "jpeg without end": b"\xff\xd8\xff\xe0" + b"\xff" * 5000,
    "webp that is cut off in its head": b"RIFF\x00\x00\x00\x00WEBPVP8X",
}


@pytest.mark.parametrize("name", STILL)
def test_a_still_picture_is_an_image(tmp_path: Path, name: str) -> None:
    (tmp_path / "clip.mp4").write_bytes(STILL[name])
    assert trouble_of(tmp_path / "clip.mp4").status == Status.IMAGE


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "AVIF", "MPO"])
@pytest.mark.parametrize("whole", [True, False])
def test_a_still_picture_of_a_format_that_may_move_is_an_image(tmp_path: Path, kind: str, whole: bool) -> None:
    pictures = [Image.fromarray(number_frame(number)) for number in (1, 1 if whole else 2)]
    path = tmp_path / "clip.mp4"
    # Both pictures of a stereo photograph belong to it; others with one picture are saved as what could move.
    pictures[0].save(path, kind, save_all=True, append_images=pictures[1:] if kind == "MPO" else [])
    assert trouble_of(path).status == Status.IMAGE


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("raw", JPEGS),
        ("padded", b"".join(jpeg(number) + bytes(number % 3) for number in range(50))),
        (
            "parts of an answer",
            b"".join(b"--part\r\nContent-Type: image/jpeg\r\n\r\n" + jpeg(n) + b"\r\n" for n in range(50)),
        ),
    ],
)
def test_jpegs_one_after_the_other_are_a_video(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / "clip").write_bytes(content)
    grabbed = grab(tmp_path / "clip", **SCAN)
    # They carry no times, and are shown at the rate that players take: how long they last is not known.
    assert grabbed.facts.duration_s == 0
    assert [read_number(frame) for frame in grabbed.scanned] == [0, 7, 13, 19, 25, 32, 38, 44]


def test_an_animation_in_webp_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = save_still_end(tmp_path / "clip.webp", moving=10, stands_s=1.0)
    whole = clip.read_bytes()
    monkeypatch.setattr(tracks, "MAX_DECODED_FRAMES", 5)
    assert trouble_of(clip).status == Status.TOO_LARGE
    clip.write_bytes(whole[:24] + b"\xff\xff\x00\xff\xff\x00" + whole[30:])
    assert trouble_of(clip).status == Status.TOO_LARGE
    clip.write_bytes(whole[: len(whole) // 2])
    assert trouble_of(clip).status == Status.DECODE_ERROR


PAGES = ["<html> <b>how to write HTML</b>", "<!doctype html><html lang=en>"]


@pytest.mark.parametrize("title", PAGES)
@pytest.mark.parametrize("name", ["clip.mkv", "clip.webm", "clip.flv", "clip.mp4", "clip.ts"])
def test_a_film_that_speaks_of_pages_is_a_film(tmp_path: Path, name: str, title: str) -> None:
    clip = save_clip(
        tmp_path / name,
        options={"movflags": "+faststart"} if name.endswith("mp4") else {},
        metadata={"title": title, "comment": title, "description": title, "service_name": title},
        codec="libvpx" if name.endswith("webm") else "libx264",
    )
    assert title.encode() in clip.read_bytes()[:4096]
    assert len(grab(clip).frames) == 3


@pytest.mark.parametrize("page", [*PAGES, "\ufeff\n<html>", "<head><title>Film</title>", "Not found <html> at all"])
def test_a_page_is_a_page(tmp_path: Path, page: str) -> None:
    (tmp_path / "clip.mp4").write_text(page, encoding="utf-8")
    assert trouble_of(tmp_path / "clip.mp4").status == Status.HTML

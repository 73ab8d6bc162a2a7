"""Every fault that a server or a file is known for, and the one status that it ends in.

Each is served by a real server on this machine and read as a run reads it.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from extraction import LIMITS, RECIPE, run
from fault_server import FaultServer, in_turn, serve
from faults import BOMB, CONTENTS, FAULTS, PATIENCE_S, chunked, clip, edit, rapid, read, redirect, trickle
from hypothesis import given, settings
from hypothesis import strategies as st
from media import save_clip

from dedup_lib.demo.server import ClipServer
from dedup_lib.extract import pipeline
from dedup_lib.extract.worker_pool import WorkerFailure, WorkerPool
from dedup_lib.media import addresses, tracks
from dedup_lib.records import INVALID_STATUSES, KEPT_STATUSES, Outcome, Status


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_a_server_ends_in_one_status(name: str) -> None:
    fault = FAULTS[name]
    limits = replace(LIMITS, timeout_s=fault.timeout_s, max_bytes=fault.max_bytes)
    with FaultServer(fault.answer) as server:
        outcome = read(server.url(), limits=limits)
    assert (outcome.status, outcome.retryable) == (fault.status, fault.retryable), outcome.reason
    assert fault.words in outcome.reason
    assert bool(outcome.reason) == (outcome.status != Status.OK)


def test_a_bomb_is_not_unpacked() -> None:
    with FaultServer(FAULTS["a bomb of zeros"].answer) as server:
        assert read(server.url()).fetched_bytes <= len(BOMB)
    with FaultServer(FAULTS["a bomb that says nothing of it"].answer) as server:
        assert read(server.url()).fetched_bytes <= len(BOMB)


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"x"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (chunked(b"#EXTM3U") + b"0\r\n", b"X: y\r\n"),
    ],
    ids=["a header", "promises", "trailers"],
)
def test_what_trickles_out_of_reach_of_the_deadline_costs_its_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: bytes, piece: bytes
) -> None:
    monkeypatch.setattr(pipeline, "KILL_AFTER_S", 0.5)
    with FaultServer(trickle(head, piece)) as server:
        report = run([server.url()], tmp_path, limits=replace(LIMITS, timeout_s=PATIENCE_S))
    assert [(o.status, o.retryable) for o in report.outcomes.values()] == [(Status.TIMEOUT, True)]


# Addresses


def read_from_outside(url: str) -> Outcome:
    return read(url, limits=replace(LIMITS, allow_private_addresses=False))


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", Status.BLOCKED_ADDRESS),
        ("localhost", Status.BLOCKED_ADDRESS),
        ("LOCALHOST", Status.BLOCKED_ADDRESS),
        ("127.0.0.%31", Status.BLOCKED_ADDRESS),
        ("127。0。0。1", Status.BLOCKED_ADDRESS),
        ("①②⑦.0.0.1", Status.BLOCKED_ADDRESS),
        ("[::ffff:127.0.0.1]", Status.BLOCKED_ADDRESS),
        ("[::ffff:7f00:1]", Status.BLOCKED_ADDRESS),
        ("[::127.0.0.1]", Status.BLOCKED_ADDRESS),
        ("[64:ff9b::127.0.0.1]", Status.BLOCKED_ADDRESS),
        ("[::1]", Status.BLOCKED_ADDRESS),
        ("[::]", Status.BLOCKED_ADDRESS),
        ("0.0.0.0", Status.BLOCKED_ADDRESS),
        ("10.0.0.1", Status.BLOCKED_ADDRESS),
        ("192.168.0.1", Status.BLOCKED_ADDRESS),
        ("169.254.169.254", Status.BLOCKED_ADDRESS),
        ("[fd00:ec2::254]", Status.BLOCKED_ADDRESS),
        ("example.org@127.0.0.1", Status.BLOCKED_ADDRESS),
        ("2130706433", Status.INVALID_URL),
        ("017700000001", Status.INVALID_URL),
        ("0x7f000001", Status.INVALID_URL),
        ("0x7f.0.0.1", Status.INVALID_URL),
        ("0177.0.0.1", Status.INVALID_URL),
        ("0000127.0.0.1", Status.INVALID_URL),
        ("127.1", Status.INVALID_URL),
        ("127.0.1", Status.INVALID_URL),
    ],
)
def test_no_spelling_of_a_private_address_is_asked_anything(host: str, status: Status) -> None:
    with FaultServer(serve(clip())) as server:
        outcome = read_from_outside(server.url(host=host))
        assert (outcome.status, outcome.retryable) == (status, False) and outcome.reason
        assert server.connections == 0


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.2",
        "0.0.0.0",
        "169.254.169.254",
        "[::ffff:127.0.0.2]",
        "[::ffff:169.254.169.254]",
        "[::1]",
        "[fd00:ec2::254]",
    ],
)
def test_a_redirect_is_no_way_to_a_private_address(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # A test can reach no public server, so one loopback address plays its part.
    is_public_address = addresses.is_public_address
    monkeypatch.setattr(
        addresses, "is_public_address", lambda address: address == "127.0.0.1" or is_public_address(address)
    )
    with FaultServer(serve(clip())) as inner:
        target = inner.url(host=host)
        with FaultServer(in_turn(redirect("/2"), redirect(target))) as outer:
            outcome = read_from_outside(outer.url())
            assert len(outer.requests) == 2
        assert (outcome.status, outcome.retryable) == (Status.BLOCKED_ADDRESS, False)
        assert "allow_private_addresses" in outcome.reason
        assert inner.connections == 0


@pytest.mark.parametrize("name", CONTENTS)
def test_a_content_gets_one_status(name: str) -> None:
    make, status, words = CONTENTS[name]
    with FaultServer(serve(make())) as server:
        outcome = read(server.url())
    assert (outcome.status, outcome.retryable) == (status, False), outcome.reason
    assert words in outcome.reason


def test_no_more_frames_are_decoded_than_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracks, "MAX_DECODED_FRAMES", 5_000)
    with FaultServer(serve(rapid("a.mp4", count=20_000, fps=60_000))) as server:
        outcome = read(server.url(), recipe=replace(RECIPE, num_frames=12))
    assert (outcome.status, outcome.retryable) == (Status.TOO_LARGE, False) and "5,000 frames" in outcome.reason


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{path}\n#EXT-X-ENDLIST\n", Status.HTTP_ERROR),
        ("\n#EXTM3U\n#EXTINF:3,\n{url}\n", Status.NOT_VIDEO),
        ("#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\nfile://{path}\n#EXT-X-ENDLIST\n", Status.BLOCKED_ADDRESS),
        ("ffconcat version 1.0\nfile '{path}'\n", Status.NOT_VIDEO),
        ("# a remark\nffconcat version 1.0\nfile '{url}'\n", Status.NOT_VIDEO),
        ("v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n", Status.NOT_VIDEO),
        ("[playlist]\nFile1={url}\nNumberOfEntries=1\n", Status.NOT_VIDEO),
        ("<smil><body><video src='{url}'/></body></smil>", Status.NOT_VIDEO),
        ("<?xml version='1.0'?><asx><ref href='{url}'/></asx>", Status.NOT_VIDEO),
        ("<MPD><BaseURL>file://{path}</BaseURL></MPD>", Status.BLOCKED_ADDRESS),
        ("RTSPtext\nrtsp://127.0.0.1/x\n", Status.NOT_VIDEO),
        ("[Reference]\nRef1={url}\n", Status.NOT_VIDEO),
    ],
)
def test_a_playlist_opens_nothing_else(tmp_path: Path, text: str, status: Status) -> None:
    (tmp_path / "clip.ts").write_bytes(clip("clip.ts"))
    with ClipServer(tmp_path) as server:
        for name in ("list.mp4", "list.m3u8", "list.ffconcat", "list.sdp", "list.mpd"):
            (tmp_path / name).write_text(text.format(path=tmp_path / "clip.ts", url=server.url("clip.ts")))
            assert read(server.url(name)).status == status
            assert read(str(tmp_path / name)).status == Status.NOT_VIDEO
        assert "/clip.ts" not in server.requests


# Processes


Pool = WorkerPool[tuple[int, str], Outcome]


def read_outcome(task: tuple[int, str]) -> Outcome:
    return read(task[1])


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with WorkerPool(read_outcome, workers=1, timeout_s=LIMITS.timeout_s + 5) as pool:
        yield pool


def read_with_little_memory(task: tuple[int, str]) -> Outcome:
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (psutil.Process().memory_info().data + 40 * 1024**2, most))
    return read_outcome(task)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts what a process allocates")
def test_a_video_that_wants_too_much_memory_ends_as_too_large(tmp_path: Path) -> None:
    small = save_clip(tmp_path / "small.mp4", count=3)
    large = save_clip(tmp_path / "large.mp4", count=3, size_px=(3840, 2160), codec="mpeg4")
    with WorkerPool(read_with_little_memory, workers=1, timeout_s=60) as pool:
        outcomes = dict(pool.run([(0, str(small)), (1, str(large)), (2, str(small))]))
    assert [outcomes[task].status for task in sorted(outcomes)] == [Status.OK, Status.TOO_LARGE, Status.OK]
    assert "memory" in outcomes[1, str(large)].reason


EDITS = st.lists(
    st.tuples(
        st.sampled_from(["flip", "insert", "delete", "overwrite", "truncate"]),
        st.floats(0, 1, exclude_max=True),
        st.binary(min_size=1, max_size=40),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=120)
@given(
    name=st.sampled_from(
        ["index-first.mp4", "index-last.mp4", "clip.webm", "clip.mkv", "mpeg4.avi", "clip.gif", "clip.ts"]
    ),
    edits=EDITS,
)
def test_whatever_happens_to_a_file_it_gets_a_status(
    pool: Pool, tmp_path_factory: pytest.TempPathFactory, name: str, edits: list[tuple[str, float, bytes]]
) -> None:
    path = tmp_path_factory.getbasetemp() / f"edited-{name}"
    path.write_bytes(edit(clip(name), edits))
    ((_, outcome),) = pool.run([(0, str(path))])
    if isinstance(outcome, WorkerFailure):
        # A crash or a hang is one video's end, and the next one finds another process.
        assert "unexpectedly" not in outcome.reason
    else:
        assert outcome.status in {*KEPT_STATUSES, *INVALID_STATUSES, Status.DECODE_ERROR, Status.TOO_LARGE}


# Real files


ODD: dict[str, Status] = {
    "moviepy/result.webm": Status.NOT_VIDEO,
    "androidx-media/sample_malformed_free_box.mp4": Status.DECODE_ERROR,
    "decord/corrupted.mp4": Status.OK,
    "androidx-media/sample_with_invalid_nalu.mp4": Status.OK,
    "androidx-media/invalid-bitstream.webm": Status.DECODE_ERROR,
    "androidx-media/subsample_encrypted_noaltref.webm": Status.ENCRYPTED,
    "libwebm/invalid_vp9_bitstream-bug_1416.webm": Status.TOO_LARGE,
    "libwebm/invalid_vp9_bitstream-bug_1417.webm": Status.DECODE_ERROR,
    "mp4parse/no_timescale.mp4": Status.OK,
    "videocomposer/video_5360763.mp4": Status.OK,
    "androidx-media/bbb_mono_16kHz_23.05kbps_amrwb.3gp": Status.NO_VIDEO_STREAM,
    "androidx-media/bbb_mono_8kHz_12.2kbps_amrnb.3gp": Status.NO_VIDEO_STREAM,
    "androidx-media/bbb_1ch_12kHz_q10_vorbis.webm": Status.NO_VIDEO_STREAM,
    "androidx-media/bbb_1ch_48kHz_q10_opus.webm": Status.NO_VIDEO_STREAM,
    "androidx-media/full_blocks.mkv": Status.NO_VIDEO_STREAM,
    "androidx-media/sample_with_dts.mkv": Status.NO_VIDEO_STREAM,
    "androidx-media/subsample_encrypted_altref.webm": Status.ENCRYPTED,
    "androidx-media/sample_fragmented_uuid.mp4": Status.DECODE_ERROR,
    "wpt/video_512x288_h264-360k_dashinit.mp4": Status.ENCRYPTED,
    "wpt/video_512x288_h264-360k_enc_2keys_2sess.mp4": Status.ENCRYPTED,
    "decord/video_180.mov": Status.OK,
    "decord/video_270.mov": Status.OK,
    "decord/video_90.mov": Status.OK,
    "torchcodec/h264_10bits.mp4": Status.OK,
    "torchcodec/h265_10bits.mp4": Status.OK,
    "androidx-media/hdr10-av1.mp4": Status.OK,
    "androidx-media/hdr10-video-with-sdr-container.mp4": Status.OK,
    "moviepy/no_duration.webm": Status.FEATURELESS,
    "androidx-media/sample_with_fake_auxiliary_tracks.mp4": Status.FEATURELESS,
    "androidx-media/sample_with_fake_auxiliary_tracks_interleaved_with_primary_video_tracks.mp4": Status.FEATURELESS,
    "wpt/400x300-red-resize-200x150-green.webm": Status.FEATURELESS,
    "androidx-media/8k24fps_300ms.mp4": Status.OK,
}
"""The odd files of the corpus: broken, encrypted, without video, turned, of many bits, without duration, huge."""


@pytest.fixture(scope="module")
def corpus_server(corpus_dir: Path) -> Iterator[ClipServer]:
    with (corpus_dir / "labels.csv").open(newline="", encoding="utf-8") as file:
        assert {label["file"] for label in csv.DictReader(file) if label["role"] == "odd"} == ODD.keys()
    with ClipServer(corpus_dir / "videos") as server:
        yield server


@pytest.mark.parametrize("name", ODD)
def test_an_odd_file_gets_the_status_that_it_deserves(corpus_server: ClipServer, pool: Pool, name: str) -> None:
    # In a worker, because the largest of them must fit into the memory that one may take.
    ((_, outcome),) = pool.run([(0, corpus_server.url(name))])
    assert isinstance(outcome, Outcome)
    assert (outcome.status, outcome.retryable) == (ODD[name], False), outcome.reason

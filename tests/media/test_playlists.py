"""Films that come as HLS or DASH: the same frames as of a file, and every way in which a playlist may deceive."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from extraction import RECIPE, SCAN, run
from fault_server import FaultServer, Request, reply, reply_range
from hypothesis import given, settings
from hypothesis import strategies as st
from media import number_frame, read_number, save_clip, save_sound

from dedup_lib.demo.server import ClipServer
from dedup_lib.errors import VideoTrouble
from dedup_lib.extract.videos_read import ReadVideo
from dedup_lib.extract.worker import read_video
from dedup_lib.features.fingerprint import Fingerprint
from dedup_lib.features.pdq import hash_frame
from dedup_lib.match.evidence import MatchThresholds, Verdict
from dedup_lib.match.verify import compare_pair
from dedup_lib.media import addresses, hls, playlists
from dedup_lib.media.dash import read_dash
from dedup_lib.media.hls import read_hls
from dedup_lib.media.limits import Deadline, FetchLimits
from dedup_lib.media.opening import open_video
from dedup_lib.media.playlists import MAX_PLAYLIST_BYTES, MAX_SEGMENTS, Base, Piece, Playlist
from dedup_lib.media.sampling import GrabbedFrames, grab_frames
from dedup_lib.records import Outcome, Scan, Status
from dedup_lib.steps.list_sample import fetch_sample

LIMITS = FetchLimits(timeout_s=30, max_bytes=50_000_000, allow_private_addresses=True, allow_local_paths=True)

FPS, COUNT, KEY_EVERY = 10, 250, 20

_HLS = {"hls_time": "2", "hls_list_size": "0"}
_DASH = {"seg_duration": "2", "use_timeline": "0"}

KINDS: dict[str, dict[str, Any]] = {
    "ts.m3u8": {"file_format": "hls", "options": _HLS, "sound": True},
    "fmp4.m3u8": {"file_format": "hls", "options": {**_HLS, "hls_segment_type": "fmp4"}, "sound": True},
    "ranges.m3u8": {"file_format": "hls", "options": {**_HLS, "hls_flags": "single_file"}},
    "ranges-fmp4.m3u8": {
        "file_format": "hls",
        "options": {**_HLS, "hls_flags": "single_file", "hls_segment_type": "fmp4"},
    },
    "whole-seconds.m3u8": {"file_format": "hls", "options": {**_HLS, "hls_flags": "round_durations"}},
    "number.mpd": {"file_format": "dash", "options": _DASH},
    "timeline.mpd": {
        "file_format": "dash",
        "options": {"seg_duration": "2", "media_seg_name": "$RepresentationID$-$Time$.m4s"},
        "sound": True,
    },
    # Its durations are those that were asked for, a tenth less than the real ones.
    "list.mpd": {"file_format": "dash", "options": {**_DASH, "use_template": "0"}},
    "ranges.mpd": {"file_format": "dash", "options": {**_DASH, "use_template": "0", "single_file": "1"}},
    "webm.mpd": {"file_format": "dash", "codec": "libvpx", "options": {**_DASH, "dash_segment_type": "webm"}},
}

ROUNDED = {"whole-seconds.m3u8": 10}
"""By how many frames the sampled ones may differ, where the durations in the playlist add up to a second less."""


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One film of 25 seconds as a file and as playlists of all kinds, each in a folder of its own."""
    folder = tmp_path_factory.mktemp("films")
    save_clip(folder / "film.mp4", count=COUNT, fps=FPS, key_every=KEY_EVERY)
    for name, facts in KINDS.items():
        place = folder / name
        place.mkdir()
        save_clip(place / name, count=COUNT, fps=FPS, key_every=KEY_EVERY, **facts)
    return folder


@pytest.fixture
def server(films: Path) -> Iterator[ClipServer]:
    with ClipServer(films) as server:
        yield server


def grab(
    url: str, *, num_frames: int = 8, frame_span: str = "spread", scan: Scan | None = None, limits: FetchLimits = LIMITS
) -> GrabbedFrames:
    deadline = Deadline(limits.timeout_s)
    with open_video(url, limits=limits, deadline=deadline) as stream:
        return grab_frames(stream, num_frames=num_frames, frame_span=frame_span, deadline=deadline, scan=scan)


def read(url: str, *, limits: FetchLimits = LIMITS, scan: Scan = SCAN) -> ReadVideo:
    found = read_video((0, url), recipe=RECIPE, scan=scan, limits=limits, prepare=hash_frame)
    assert "unexpectedly" not in found.outcome.reason and len(found.outcome.reason) < 300, found.outcome.reason
    return found


def outcome_of(url: str, *, limits: FetchLimits = LIMITS) -> Outcome:
    return read(url, limits=limits).outcome


def asked_files(server: ClipServer) -> set[str]:
    return {path.rpartition("/")[2] for path in server.requests}


def numbers(grabbed: GrabbedFrames) -> list[int]:
    return [read_number(frame) for frame in grabbed.frames]


def serve_files(files: dict[str, bytes]) -> Callable[[Request], Iterable[bytes]]:
    """Ranges of these files, by their path with its query."""

    def answer(request: Request) -> Iterable[bytes]:
        body = files.get(request.path)
        return [reply("404 Not Found") if body is None else reply_range(request, body)]

    return answer


def media_list(*segments: str, duration_s: float = 2, tags: str = "", end: str = "#EXT-X-ENDLIST") -> str:
    """A playlist of HLS with these segments, after these further tags."""
    lines = "".join(f"#EXTINF:{duration_s},\n{segment}\n" for segment in segments)
    return f"#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:10\n{tags}\n{lines}{end}\n"


def manifest(content: str, *, kind: str = "static", lasts: str = "PT26S", sets: str = 'mimeType="video/mp4"') -> str:
    """A manifest of DASH with one period and one representation that has this content."""
    return (
        f'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="{kind}" '
        f'mediaPresentationDuration="{lasts}"><Period><AdaptationSet {sets}>'
        f'<Representation id="v" bandwidth="1000" width="160" height="120">{content}</Representation>'
        "</AdaptationSet></Period></MPD>"
    )


@contextlib.contextmanager
def one_playlist(
    films: Path, name: str, text: str | bytes, *, kind: str = "ts.m3u8"
) -> Iterator[tuple[str, ClipServer]]:
    """Serves a playlist beside the segments of this kind; gives its URL and the server."""
    path = films / kind / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    try:
        with ClipServer(films) as server:
            yield server.url(f"{kind}/{name}"), server
    finally:
        path.unlink()


def segments_of(films: Path, kind: str = "ts.m3u8") -> list[str]:
    """The links of a playlist's segments, in their order."""
    return [line for line in (films / kind / kind).read_text().splitlines() if line and not line.startswith("#")]


# The same film


@pytest.mark.parametrize("name", KINDS)
def test_a_playlist_gives_the_frames_of_the_file(films: Path, server: ClipServer, name: str) -> None:
    file, playlist = grab(server.url("film.mp4"), scan=SCAN), grab(server.url(f"{name}/{name}"), scan=SCAN)
    assert numbers(playlist) == pytest.approx(numbers(file), abs=ROUNDED.get(name, 0))
    assert playlist.times_s == pytest.approx([number / FPS for number in numbers(playlist)], abs=0.002)
    assert playlist.scanned_times_s == pytest.approx(file.scanned_times_s, abs=0.002)
    assert playlist.facts.duration_s == pytest.approx(25.0, abs=0.002)
    assert (playlist.facts.width_px, playlist.facts.height_px) == (160, 120)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "whole files"])
def test_seeking_in_a_playlist_finds_the_frames_of_the_file(films: Path, name: str, *, ranges: bool) -> None:
    """With a short dense part, all frames are sought, and the key frames of the rest."""
    scan = Scan(step_s=0.25, dense_s=3.0)
    with ClipServer(films, ranges=ranges) as server:
        file, playlist = grab(server.url("film.mp4"), scan=scan), grab(server.url(f"{name}/{name}"), scan=scan)
    assert numbers(playlist) == pytest.approx(numbers(file), abs=ROUNDED.get(name, 0))
    assert playlist.times_s == pytest.approx([number / FPS for number in numbers(playlist)], abs=0.002)
    assert playlist.facts.duration_s == pytest.approx(25.0, abs=1.0)
    # Other frames may be taken there, but each is the one of its time.
    assert playlist.scanned_times_s[-1] > 22
    for frame, time_s in zip(playlist.scanned, playlist.scanned_times_s, strict=True):
        assert abs(read_number(frame) - time_s * FPS) < 1.5


@pytest.mark.parametrize("name", KINDS)
def test_a_playlist_is_a_copy_of_the_file(server: ClipServer, name: str) -> None:
    file, playlist = read(server.url("film.mp4")), read(server.url(f"{name}/{name}"))
    assert playlist.outcome.status == Status.OK and playlist.outcome.fetched_bytes > 0
    assert file.fingerprint and playlist.fingerprint
    if name != "webm.mpd":
        assert playlist.fingerprint == file.fingerprint
    found = compare_pair(
        Fingerprint.from_bytes(file.fingerprint), Fingerprint.from_bytes(playlist.fingerprint), durations_s=(25.0, 25.0)
    )
    assert found.judge(MatchThresholds(min_score=0.5, review_from=0.03))[0] == Verdict.DUPLICATE


@pytest.mark.parametrize("is_bare", [False, True], ids=["usual", "parameters in the first segment only"])
def test_eight_frames_of_a_long_film_cost_few_segments(tmp_path: Path, *, is_bare: bool) -> None:
    """A frame a second: four minutes in 125 segments."""
    noise = np.random.default_rng(1)
    frames = [number_frame(number) for number in range(250)]
    for frame in frames:
        frame[60:] = noise.integers(0, 255, frame[60:].shape)
    save_clip(tmp_path / "long.m3u8", frames=frames, fps=1, key_every=2, file_format="hls", options=_HLS)
    segments = sorted(tmp_path.glob("long*.ts"))
    assert len(segments) == 125
    for segment in segments:
        if is_bare and segment.name != "long0.ts":
            # Parameter sets of H.264 become filler data, which decoders pass over.
            segment.write_bytes(re.sub(b"(?<=\0\0\1)[\x67\x68]", b"\x6c", segment.read_bytes()))
    with ClipServer(tmp_path) as server:
        grabbed = grab(server.url("long.m3u8"))
        assert np.allclose(numbers(grabbed), grabbed.times_s, atol=1)
        assert np.allclose(grabbed.times_s, [250 * (i + 0.5) / 8 for i in range(8)], atol=2)
        # Up to 64 kB are read to open one, and each of these has 17.
        assert len(asked_files(server)) <= 1 + 6 + 8 * 5
    with ClipServer(tmp_path) as server:
        assert numbers(grab(server.url("long.m3u8"), num_frames=2, frame_span="first")) == [0, 1]
        assert len(asked_files(server)) <= 1 + 20


def test_two_films_may_have_one_playlist_text(films: Path, tmp_path: Path) -> None:
    """Links are relative, so equal playlists are no equal films, as equal files would be."""
    for name, first in (("a", 0), ("b", 100)):
        (tmp_path / name).mkdir()
        frames = [number_frame(first + number) for number in range(60)]
        save_clip(tmp_path / name / "all.ts", frames=frames, file_format="mpegts")
        (tmp_path / name / "film.m3u8").write_text(media_list("all.ts", "all.ts", duration_s=6))
    with ClipServer(tmp_path) as server:
        urls = [server.url(f"{name}/film.m3u8") for name in "ab"]
        report = run(urls, tmp_path / "run", workers=1)
    found = [(outcome.status, outcome.same_file_as) for outcome in report.outcomes.values()]
    assert found == [(Status.OK, "")] * 2


def test_a_single_file_in_a_manifest_is_read_as_that_file(films: Path) -> None:
    text = manifest("<BaseURL>../film.mp4</BaseURL><SegmentBase indexRange='800-900'/>", lasts="PT25S")
    with one_playlist(films, "base.mpd", text) as (url, server):
        listed, file = outcome_of(url), outcome_of(server.url("film.mp4"))
    assert listed.content == file.content != "" and listed.size_bytes == file.size_bytes
    assert listed.status == Status.OK and listed.duration_s == 25.0


# Which rendition


def master(*entries: tuple[str, str]) -> str:
    """A playlist of renditions, each with its attributes and its link."""
    return "#EXTM3U\n" + "".join(f"#EXT-X-STREAM-INF:{facts}\n{link}\n" for facts, link in entries)


@pytest.mark.parametrize(
    ("entries", "chosen"),
    [
        # The smallest of at least 512 px, wherever it stands.
        ({"a": "1920x1080", "b": "640x360", "c": "320x180", "d": "1280x720"}, "b"),
        ({"a": "360x640", "b": "720x1280"}, "a"),
        ({"a": "512x288", "b": "640x360"}, "a"),
        ({"a": "320x180", "b": "480x270", "c": "160x90"}, "b"),
        ({"a": "", "b": "640x360", "c": "1280x720"}, "b"),
        ({"a": "99999999x1", "b": "640x360"}, "b"),
    ],
)
def test_the_smallest_rendition_that_is_large_enough_is_read(entries: dict[str, str], chosen: str) -> None:
    text = master(
        *((f"BANDWIDTH=9,RESOLUTION={size}" if size else "BANDWIDTH=1", link) for link, size in entries.items())
    )
    base = Base(url="https://example.com/films/master.m3u8?x=1", may_leave_tls=False)
    found = read_hls(text, base)
    assert isinstance(found, list) and found[0] == f"https://example.com/films/{chosen}"
    sets = "".join(
        f'<Representation id="{link}" bandwidth="9" {{}}><BaseURL>{link}</BaseURL></Representation>'.format(
            'width="{}" height="{}"'.format(*size.split("x")) if size else ""
        )
        for link, size in entries.items()
    )
    text = (
        '<MPD mediaPresentationDuration="PT9S"><Period><AdaptationSet contentType="video">'
        f"{sets}</AdaptationSet></Period></MPD>"
    )
    film = read_dash(text.encode(), base)
    assert [segment.piece.url for segment in film.segments] == [f"https://example.com/films/{chosen}"]


@pytest.mark.parametrize(
    ("entries", "chosen"),
    [
        (("BANDWIDTH=5000000", "BANDWIDTH=600000", "BANDWIDTH=100000"), 1),
        (("BANDWIDTH=200000", "BANDWIDTH=100000"), 0),
        (('BANDWIDTH=64000,CODECS="mp4a.40.2"', 'BANDWIDTH=200000,CODECS="avc1.64001f,mp4a.40.2"'), 1),
        (("AVERAGE-BANDWIDTH=1,BANDWIDTH=x", "BANDWIDTH=700000"), 1),
        (("",), 0),
    ],
)
def test_without_sizes_the_bandwidth_tells(entries: tuple[str, ...], chosen: int) -> None:
    text = master(*((facts, f"{number}.m3u8") for number, facts in enumerate(entries)))
    found = read_hls(text, Base(url="http://a/", may_leave_tls=True))
    assert isinstance(found, list) and found[0] == f"http://a/{chosen}.m3u8"


def test_a_list_of_renditions_leads_to_the_film(films: Path) -> None:
    text = master(
        ('BANDWIDTH=1,RESOLUTION=640x360,CODECS="avc1.64000a,mp4a.40.2"', "ts.m3u8?token=a%2Fb"),
        ("BANDWIDTH=9,RESOLUTION=1920x1080", "large/missing.m3u8"),
        ('BANDWIDTH=1,CODECS="mp4a.40.2"', "sound.m3u8"),
    )
    text = text.replace("#EXTM3U\n", '#EXTM3U\r\n#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1,URI="keys.m3u8"\r\n')
    with one_playlist(films, "master.m3u8", f"\ufeff{text}") as (url, server):
        assert numbers(grab(url)) == numbers(grab(server.url("film.mp4")))
        assert asked_files(server) >= {"master.m3u8", "ts.m3u8"}
        assert not asked_files(server) & {"missing.m3u8", "sound.m3u8", "keys.m3u8"}


def test_of_a_film_with_its_sound_apart_only_the_pictures_are_fetched(server: ClipServer) -> None:
    assert outcome_of(server.url("timeline.mpd/timeline.mpd")).status == Status.OK
    sounds = [name for name in asked_files(server) if re.match("1-|init-stream1", name)]
    assert sounds == [] and "init-stream0.m4s" in asked_files(server)


def test_pictures_for_fast_winding_are_no_film() -> None:
    marked = '<EssentialProperty schemeIdUri="http://dashif.org/guidelines/trickmode" value="1"/>'
    one = '<Representation id="{0}" width="{1}" height="9"><BaseURL>{0}</BaseURL></Representation>'
    text = (
        f'<d:MPD xmlns:d="urn:mpeg:dash:schema:mpd:2011" xmlns="urn:mpeg:dash:schema:mpd:2011">'
        f'<Period duration="P0Y0M0DT0H0M4.5S"><AdaptationSet mimeType="video/mp4">{marked}{one.format("fast", 640)}'
        f'</AdaptationSet><AdaptationSet mimeType="image/jpeg">{one.format("tiles", 640)}</AdaptationSet>'
        f'<AdaptationSet mimeType="video/mp4">{one.format("film", 1920)}</AdaptationSet></Period></d:MPD>'
    )
    film = read_dash(text.encode(), Base(url="http://a/b/", may_leave_tls=True))
    assert film.file_url == "http://a/b/film" and film.duration_s == 4.5


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r"),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "\ufeff" + text,
        lambda text: " \n\r\n\n" + text,
        lambda text: "\ufeff\n" + text.replace("\n", "\n\n"),
        lambda text: re.sub("#EXTINF:[^,]*", "#EXTINF:-1", text),
        lambda text: text.replace("#EXT-X-ENDLIST", "#EXT-X-PLAYLIST-TYPE: VOD"),
        lambda text: re.sub("#EXT-X-TARGETDURATION.*\n", "", text),
        lambda text: re.sub("#EXTINF:[^,]*,", "#EXTINF:-1.000000", text),
    ],
    ids=[
        "CR",
        "CRLF",
        "mark",
        "blank lines before",
        "blank lines between",
        "no durations",
        "no end",
        "no usual duration",
        "no durations or commas",
    ],
)
def test_a_playlist_may_be_written_otherwise(films: Path, change: Callable[[str], str]) -> None:
    text = (films / "ts.m3u8" / "ts.m3u8").read_text()
    changed = change(text)
    assert changed != text
    with one_playlist(films, "odd.m3u8", changed) as (url, _):
        found = numbers(grab(url))
    assert np.allclose(found, numbers(grab(str(films / "film.mp4"))), atol=8)


# Renditions and mirrors that are dead

WAYS_OF_BEING_DEAD: dict[str, Callable[[Request], Iterable[bytes]]] = {
    "404": lambda request: [reply("404 Not Found")],
    "403": lambda request: [reply("403 Forbidden")],
    "503": lambda request: [reply("503 Service Unavailable")],
    "a web page": lambda request: [reply("200 OK", b"<html><body>gone</body></html>")],
    "hangs up": lambda request: [b""],
    "no answer": lambda request: request.stall(),
    "leads elsewhere": lambda request: [reply("302 Found", Location="ftp://127.0.0.1/a")],
}


def dead_at(often: str, once: str) -> list[tuple[str, str]]:
    """Every way of being dead at one place, and at the other one, all but that which takes long."""
    ways = [way for way in WAYS_OF_BEING_DEAD if way != "leads elsewhere"]
    return [(way, often) for way in ways] + [(way, once) for way in ways if way != "no answer"]


def patience(way: str) -> FetchLimits:
    """Half of the time is for what does not answer."""
    return replace(LIMITS, timeout_s=6) if way == "no answer" else LIMITS


@pytest.mark.parametrize(("way", "place"), dead_at("rendition", "segment"))
def test_another_rendition_is_read_where_the_best_one_is_dead(films: Path, way: str, place: str) -> None:
    files = {f"/{path.name}": path.read_bytes() for path in (films / "ts.m3u8").iterdir()}
    files["/list"] = master(
        ("BANDWIDTH=1,RESOLUTION=640x360", "dead/list"),
        ("BANDWIDTH=1,RESOLUTION=1920x1080", "ts.m3u8"),
        ("BANDWIDTH=1,RESOLUTION=1280x720", "file:///etc/passwd"),
    ).encode()

    def answer(request: Request) -> Iterable[bytes]:
        if request.path == "/dead/list" and place == "segment":
            return [reply("200 OK", media_list("a.ts").encode())]
        return (WAYS_OF_BEING_DEAD[way] if request.path.startswith("/dead/") else serve_files(files))(request)

    with FaultServer(answer) as server:
        grabbed = grab(server.url("/list"), limits=patience(way))
    assert numbers(grabbed) == numbers(grab(str(films / "film.mp4")))


@pytest.mark.parametrize(("way", "level"), dead_at("MPD", "Representation"))
def test_the_next_mirror_is_read_where_the_first_one_is_dead(films: Path, way: str, level: str) -> None:
    folder = films / "number.mpd"
    files = {f"/alive/{path.name}": path.read_bytes() for path in folder.iterdir()}
    text = (folder / "number.mpd").read_text()
    mirrors = "<BaseURL>dead/</BaseURL><BaseURL> alive/ </BaseURL>"
    files["/list"] = re.sub(f"(<{level}[^>]*>)", rf"\1{mirrors}", text, count=1).encode()

    def answer(request: Request) -> Iterable[bytes]:
        return (WAYS_OF_BEING_DEAD[way] if request.path.startswith("/dead/") else serve_files(files))(request)

    with FaultServer(answer) as server:
        grabbed = grab(server.url("/list"), limits=patience(way))
    assert numbers(grabbed) == numbers(grab(str(films / "film.mp4")))


@pytest.mark.parametrize("way", ["404", "hangs up"])
def test_another_representation_is_read_where_the_best_one_is_dead(films: Path, way: str) -> None:
    folder = films / "number.mpd"
    files = {f"/{path.name}": path.read_bytes() for path in folder.iterdir()}
    text = (folder / "number.mpd").read_text()
    (one,) = re.findall(r"<Representation.*?</Representation>", text, re.DOTALL)
    dead = re.sub(r"(<Representation[^>]*>)", r"\1<BaseURL>dead/</BaseURL>", one).replace('width="160"', 'width="640"')
    files["/list"] = text.replace(one, one + dead).encode()

    def answer(request: Request) -> Iterable[bytes]:
        return (WAYS_OF_BEING_DEAD[way] if request.path.startswith("/dead/") else serve_files(files))(request)

    with FaultServer(answer) as server:
        grabbed = grab(server.url("/list"))
        assert any(request.path.startswith("/dead/") for request in server.requests)
    assert numbers(grabbed) == numbers(grab(str(films / "film.mp4")))


@pytest.mark.parametrize(
    ("ways", "status", "words"),
    [
        (["404", "503", "403"], Status.HTTP_ERROR, "HTTP 503"),
        (["404", "403"], Status.HTTP_ERROR, "HTTP 404"),
        (["404", "leads elsewhere"], Status.HTTP_ERROR, "HTTP 404"),
        (["leads elsewhere", "404"], Status.BLOCKED_ADDRESS, "redirects to ftp:"),
        (["no answer", "no answer"], Status.TIMEOUT, ""),
        (["404"] * 9, Status.HTTP_ERROR, "HTTP 404"),
    ],
)
def test_where_all_renditions_are_dead_the_most_telling_reason_is_given(
    ways: list[str], status: Status, words: str
) -> None:
    text = master(*(("BANDWIDTH=1,RESOLUTION=640x360", f"{number}") for number in range(len(ways))))

    def answer(request: Request) -> Iterable[bytes]:
        if request.path == "/list":
            return [reply("200 OK", text.encode())]
        return WAYS_OF_BEING_DEAD[ways[int(request.path[1:])]](request)

    with FaultServer(answer) as server:
        outcome = outcome_of(
            server.url("/list"), limits=replace(LIMITS, timeout_s=1.5) if "no answer" in ways else LIMITS
        )
        asked = {request.path for request in server.requests} - {"/list"}
    assert outcome.status == status and words in outcome.reason
    assert len(asked) == (1 if ways[0] == "leads elsewhere" else min(len(ways), 4))


# Recordings one after the other


def test_two_recordings_in_one_playlist_are_one_film(films: Path, tmp_path: Path) -> None:
    """Their time stamps begin anew, hours later or by another clock, and so do their pictures."""
    first = [number_frame(number) for number in range(100)]
    second = [number_frame(number, size_px=(320, 240)) for number in range(100, 200)]
    late = {**_HLS, "output_ts_offset": "5000"}
    save_clip(tmp_path / "a.m3u8", frames=first, key_every=20, file_format="hls", options=_HLS)
    save_clip(tmp_path / "b.m3u8", frames=second, size_px=(320, 240), key_every=20, file_format="hls", options=late)
    mp4 = {**_HLS, "hls_segment_type": "fmp4", "hls_fmp4_init_filename": "c-init.mp4"}
    save_clip(
        tmp_path / "c.m3u8", frames=second, size_px=(320, 240), fps=10, key_every=20, file_format="hls", options=mp4
    )
    plain = save_clip(tmp_path / "plain.mp4", frames=[number_frame(number) for number in range(200)], key_every=20)
    texts = {name: (tmp_path / f"{name}.m3u8").read_text() for name in "abc"}
    with ClipServer(tmp_path) as server:
        file = {scan: grab(server.url(plain.name), scan=scan) for scan in (None, SCAN)}
        for other in "bc":
            tail = re.sub("(?m)^#EXT(M3U|-X-VERSION|-X-TARGET|-X-MEDIA-SEQ).*\n", "", texts[other])
            head = texts["a"].replace("#EXT-X-ENDLIST\n", "#EXT-X-DISCONTINUITY\n")
            (tmp_path / "joined.m3u8").write_text(head + tail)
            for scan, wanted in file.items():
                joined = grab(server.url("joined.m3u8"), scan=scan)
                assert numbers(joined) == numbers(wanted)
                assert joined.times_s == pytest.approx(wanted.times_s, abs=0.01)
                assert joined.facts.duration_s == pytest.approx(20.0, abs=0.01)
                assert joined.scanned_times_s == pytest.approx(wanted.scanned_times_s, abs=0.01)
                assert [read_number(one) for one in joined.scanned] == [read_number(one) for one in wanted.scanned]


def test_periods_of_a_manifest_are_one_film(films: Path) -> None:
    """The second one is the first half of the film once more, under other names."""
    whole = (films / "number.mpd" / "number.mpd").read_text()
    period = re.search("<Period.*</Period>", whole, re.DOTALL)
    assert period
    one = period[0].replace('id="0" start="PT0.0S"', 'duration="PT10.0S"', 1)
    text = whole.replace(period[0], one + one).replace("PT25.0S", "PT20S")
    with one_playlist(films, "periods.mpd", text, kind="number.mpd") as (url, _):
        grabbed = grab(url, num_frames=4, scan=SCAN)
    # Segments of 2.6 and 2.4 seconds are stated as two: a period ends a little late.
    assert np.allclose(numbers(grabbed), [25, 75, 25, 75], atol=30)
    assert numbers(grabbed)[2] < 60 and grabbed.facts.duration_s == pytest.approx(20, abs=5)


def test_a_missing_part_is_left_out(films: Path) -> None:
    lines = (films / "ts.m3u8" / "ts.m3u8").read_text()
    gone = segments_of(films)[4]
    text = lines.replace(gone, f"#EXT-X-GAP\nmissing-{gone}")
    with one_playlist(films, "gap.m3u8", text) as (url, server):
        grabbed, file = grab(url, scan=SCAN), grab(server.url("film.mp4"), scan=SCAN)
        assert not any(name.startswith("missing") for name in asked_files(server))
    assert grabbed.facts.duration_s == pytest.approx(25, abs=0.01)
    assert sum(a != b for a, b in zip(numbers(grabbed), numbers(file), strict=True)) <= 1


@pytest.mark.parametrize("later_s", [0, 3600])
def test_segments_of_several_recordings_stand_in_their_order(tmp_path: Path, later_s: int) -> None:
    """Some writers make each segment by itself, or join recordings, and say nothing of it."""
    names = []
    for part in range(6):
        frames = [number_frame(part * 20 + number) for number in range(20)]
        options = {"output_ts_offset": str(later_s if part > 2 else 0)}
        names.append(save_clip(tmp_path / f"{part}.ts", frames=frames, file_format="mpegts", options=options).name)
    (tmp_path / "list.m3u8").write_text(media_list(*names))
    with ClipServer(tmp_path) as server:
        grabbed = grab(server.url("list.m3u8"), num_frames=6, scan=SCAN)
    assert grabbed.facts.duration_s == pytest.approx(12, abs=0.3)
    assert np.allclose(numbers(grabbed), [10, 30, 50, 70, 90, 110], atol=2)
    shown = [read_number(frame) / 10 for frame in grabbed.scanned]
    assert np.allclose(shown, grabbed.scanned_times_s, atol=0.3)


@pytest.mark.parametrize("kind", ["ts.m3u8", "fmp4.m3u8"])
@pytest.mark.parametrize("factor", [0.5, 2])
def test_a_playlist_may_be_wrong_about_its_duration(films: Path, kind: str, factor: float) -> None:
    text = (films / kind / kind).read_text()
    text = re.sub(r"(?<=INF:)[0-9.]+", lambda found: f"{float(found[0]) * factor:.3f}", text)
    with one_playlist(films, "wrong.m3u8", text, kind=kind) as (url, server):
        for scan in (None, SCAN):
            grabbed, file = grab(url, scan=scan), grab(server.url("film.mp4"), scan=scan)
            if factor > 1:
                # It ends before the last frame that is looked for, and is then measured.
                assert grabbed.facts.duration_s == pytest.approx(25, abs=0.01)
                assert numbers(grabbed) == numbers(file)


def test_sound_may_go_on_behind_the_last_frame(films: Path, tmp_path: Path) -> None:
    """A seek to a segment without frames finds those before it."""
    save_clip(tmp_path / "a.m3u8", count=100, key_every=20, sound=True, sound_s=14, file_format="hls", options=_HLS)
    with ClipServer(tmp_path) as server:
        grabbed = grab(server.url("a.m3u8"))
        assert numbers(grabbed)[-1] > 85 and grabbed.facts.duration_s <= 14
        scanned = grab(server.url("a.m3u8"), scan=Scan(step_s=0.25, dense_s=3))
        assert scanned.scanned_times_s[-1] > 8


@pytest.mark.parametrize("scan", [None, SCAN, Scan(step_s=0.25, dense_s=3)])
def test_a_last_segment_that_only_the_duration_promises_may_be_missing(films: Path, scan: Scan | None) -> None:
    """The duration of a manifest may be that of its sound, which goes on a little longer."""
    text = (films / "number.mpd" / "number.mpd").read_text().replace("PT25.0S", "PT26.1S")
    with one_playlist(films, "longer.mpd", text, kind="number.mpd") as (url, server):
        grabbed, file = grab(url, scan=scan), grab(server.url("film.mp4"), scan=scan)
        assert "chunk-stream0-00014.m4s" in asked_files(server)
    assert grabbed.facts.duration_s == pytest.approx(25, abs=1.2)
    assert np.allclose(numbers(grabbed), numbers(file), atol=12)


# Refused


@pytest.mark.parametrize(
    ("name", "text", "status", "words"),
    [
        ("live.m3u8", media_list("ts0.ts", end=""), Status.LIVE, "live"),
        ("event.m3u8", media_list("ts0.ts", tags="#EXT-X-PLAYLIST-TYPE:EVENT", end=""), Status.LIVE, "live"),
        ("live.mpd", manifest("<BaseURL>ts0.ts</BaseURL>", kind="dynamic"), Status.LIVE, "live"),
        ("key.m3u8", media_list("ts0.ts", tags='#EXT-X-KEY:METHOD=AES-128,URI="k"'), Status.ENCRYPTED, "AES-128"),
        ("sample.m3u8", media_list("ts0.ts", tags="#EXT-X-KEY:METHOD=SAMPLE-AES"), Status.ENCRYPTED, "SAMPLE-AES"),
        ("key.mpd", manifest("<ContentProtection/><BaseURL>ts0.ts</BaseURL>"), Status.ENCRYPTED, "ContentProtection"),
        ("music.m3u8", "#EXTM3U\n#EXTINF:123,A song\nts0.ts\n", Status.NOT_VIDEO, "list of files"),
        ("sound.m3u8", master(('BANDWIDTH=1,CODECS="mp4a.40.2"', "ts.m3u8")), Status.NO_VIDEO_STREAM, "sound"),
        ("sound.mpd", manifest("", sets='mimeType="audio/mp4"'), Status.NO_VIDEO_STREAM, "no video"),
        ("empty.m3u8", media_list(), Status.DECODE_ERROR, "no segments"),
        ("none.m3u8", "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n", Status.DECODE_ERROR, "no rendition"),
        ("nothing.m3u8", media_list("ts0.ts", duration_s=0), Status.DECODE_ERROR, "0 seconds"),
        ("odd.m3u8", media_list("ts0.ts", duration_s=float("nan")), Status.DECODE_ERROR, "'nan,'"),
        ("none.m3u8", media_list("ts0.ts").replace("INF:2", "INF:"), Status.DECODE_ERROR, "','"),
        ("power.m3u8", media_list("ts0.ts").replace("F:2", "F:1e9"), Status.DECODE_ERROR, "'1e9,'"),
        ("untimed.m3u8", media_list("ts0.ts\nts1.ts"), Status.DECODE_ERROR, "no #EXTINF"),
        ("map.m3u8", media_list("ts0.ts", tags="#EXT-X-MAP:BYTERANGE=1@2"), Status.DECODE_ERROR, "no URI"),
        ("range.m3u8", media_list("ts0.ts", tags="#EXT-X-BYTERANGE:x@2"), Status.DECODE_ERROR, "'x@2'"),
        ("behind.m3u8", media_list("ts0.ts", tags="#EXT-X-BYTERANGE:999@10"), Status.DECODE_ERROR, "no format"),
        ("beyond.m3u8", media_list("ts0.ts", tags="#EXT-X-BYTERANGE:99999999@0"), Status.DECODE_ERROR, "byte range"),
        ("link.m3u8", media_list("http://[::1/ts0.ts"), Status.DECODE_ERROR, "not a URL"),
        ("long.m3u8", media_list("ts0.ts", duration_s=999_999_999), Status.TOO_LARGE, "168 hours"),
        ("cut.mpd", "<?xml version='1.0'?><MPD><Period>", Status.DECODE_ERROR, "no XML"),
        ("no-periods.mpd", "<MPD></MPD>", Status.DECODE_ERROR, "no periods"),
        ("no-sets.mpd", "<MPD><Period/></MPD>", Status.DECODE_ERROR, "no renditions"),
        ("endless.mpd", manifest("<BaseURL>ts0.ts</BaseURL>", lasts="PT0S"), Status.DECODE_ERROR, "no duration"),
        ("odd.mpd", manifest("<BaseURL>ts0.ts</BaseURL>", lasts="forever"), Status.DECODE_ERROR, "'forever'"),
        ("media.mpd", manifest("<SegmentTemplate duration='2'/>"), Status.DECODE_ERROR, "no media"),
        ("place.mpd", manifest("<SegmentTemplate media='$Time$' />"), Status.DECODE_ERROR, "no duration"),
        (
            "negative.mpd",
            manifest("<SegmentTemplate media='a'><SegmentTimeline><S d='-2'/></SegmentTimeline></SegmentTemplate>"),
            Status.DECODE_ERROR,
            "'-2'",
        ),
    ],
)
def test_what_is_no_film_is_refused(films: Path, name: str, text: str, status: Status, words: str) -> None:
    with one_playlist(films, name, text) as (url, server):
        outcome = outcome_of(url)
        assert (outcome.status, outcome.retryable) == (status, False), outcome.reason
        assert words in outcome.reason
        if "ts0.ts" not in outcome.reason and status != Status.DECODE_ERROR:
            assert asked_files(server) == {name}


def test_a_clear_key_tag_and_a_finished_event_are_read(films: Path) -> None:
    text = (films / "ts.m3u8" / "ts.m3u8").read_text()
    ended = text.replace("#EXT-X-VERSION", "#EXT-X-KEY:METHOD=NONE\n#EXT-X-PLAYLIST-TYPE:EVENT\n#EXT-X-VERSION")
    recorded = text.replace("#EXT-X-ENDLIST", "").replace("#EXT-X-VERSION", "#EXT-X-PLAYLIST-TYPE:VOD\n#EXT-X-VERSION")
    for named in (ended, recorded):
        with one_playlist(films, "other.m3u8", named) as (url, _):
            assert outcome_of(url).status == Status.OK


def test_a_film_of_which_one_version_is_clear_is_read(films: Path) -> None:
    text = (films / "number.mpd" / "number.mpd").read_text()
    one = re.search("<AdaptationSet.*</AdaptationSet>", text, re.DOTALL)
    assert one
    locked = (
        one[0].replace('width="160"', 'width="640"').replace("<Representation", "<ContentProtection/><Representation")
    )
    with one_playlist(films, "half.mpd", text.replace(one[0], locked + one[0]), kind="number.mpd") as (url, _):
        assert outcome_of(url).status == Status.OK


@pytest.mark.parametrize(
    ("name", "link"),
    [
        (name, link)
        for name in ("media", "map", "master", "template", "base")
        for link in ("file:///etc/passwd", "ftp://127.0.0.1/a.ts", "data:text/plain,a", "concat:a.ts|b.ts", "/tmp/a.ts")
    ],
)
def test_a_playlist_leads_to_the_web_only(films: Path, name: str, link: str) -> None:
    text = {
        "media": media_list(segments_of(films)[0], link),
        "map": media_list("ts0.ts", tags=f'#EXT-X-MAP:URI="{link}"'),
        "master": master(("BANDWIDTH=1,RESOLUTION=640x360", link)),
        "template": manifest(f"<SegmentTemplate duration='2' media='{link}' initialization='i'/>"),
        "base": manifest(f"<BaseURL>{link}</BaseURL>"),
    }[name]
    suffix = "mpd" if name in ("template", "base") else "m3u8"
    with one_playlist(films, f"leads.{suffix}", text) as (url, server):
        outcome = outcome_of(url)
        if link.startswith("/"):
            # A path of this server, and of no other machine.
            assert outcome.status == Status.HTTP_ERROR and "404" in outcome.reason
            return
        assert (outcome.status, outcome.retryable) == (Status.BLOCKED_ADDRESS, False)
        assert f"the playlist leads to {link.split(':')[0]}:, and only http and https are followed" in outcome.reason
        assert asked_files(server) == {f"leads.{suffix}"}


def test_a_playlist_does_not_lead_from_https_to_http() -> None:
    secure = Base(url="https://example.com/a.m3u8", may_leave_tls=False)
    with pytest.raises(VideoTrouble) as caught:
        read_hls(media_list("http://example.com/a.ts"), secure)
    assert caught.value.status == Status.BLOCKED_ADDRESS and "from https to http" in caught.value.reason
    # As for redirects: when the list gave no scheme, https was a guess.
    guessed = Base(url=secure.url, may_leave_tls=True)
    assert isinstance(read_hls(media_list("http://example.com/a.ts"), guessed), Playlist)


PRIVATE = ("127.0.0.2", "0.0.0.0", "169.254.169.254", "[::1]", "[::ffff:127.0.0.2]")


@pytest.mark.parametrize("host", PRIVATE)
@pytest.mark.parametrize("place", ["first segment", "later segment", "rendition", "manifest", "redirect of a segment"])
def test_a_playlist_is_no_way_to_a_private_address(
    films: Path, host: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A test can reach no public server, so one loopback address plays its part.
    is_public_address = addresses.is_public_address
    monkeypatch.setattr(
        addresses, "is_public_address", lambda address: address == "127.0.0.1" or is_public_address(address)
    )
    outside = FetchLimits(timeout_s=20, max_bytes=50_000_000)
    body = (films / "ts.m3u8" / "ts0.ts").read_bytes()
    with FaultServer(serve_files({"/private.ts": body})) as inner:
        target = inner.url("/private.ts", host=host)
        lists = {
            "first segment": media_list(target),
            "later segment": media_list("a.ts", target),
            "rendition": master(("BANDWIDTH=1", target)),
            "manifest": manifest(f"<BaseURL>{target}</BaseURL>"),
            "redirect of a segment": media_list("moved.ts"),
        }

        def answer(request: Request) -> Iterable[bytes]:
            if request.path == "/moved.ts":
                return [reply("302 Found", Location=target)]
            return serve_files({"/list": lists[place].encode(), "/a.ts": body})(request)

        with FaultServer(answer) as outer:
            outcome = outcome_of(outer.url("/list"), limits=outside)
        assert inner.connections == 0
    assert (outcome.status, outcome.retryable) == (Status.BLOCKED_ADDRESS, False), outcome.reason
    assert "allow_private_addresses" in outcome.reason
    assert outcome.refused_by == "allow_private_addresses=False"


@pytest.mark.parametrize("kind", ["renditions", "mirrors"])
def test_where_one_way_is_dead_the_next_may_not_be_a_private_address(
    films: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(addresses, "is_public_address", lambda address: address == "127.0.0.1")
    with FaultServer(serve_files({"/a": (films / "ts.m3u8" / "ts0.ts").read_bytes()})) as inner:
        target = inner.url("/a", host="127.0.0.2")
        text = {
            "renditions": master(("BANDWIDTH=1", "dead"), ("BANDWIDTH=1", target)),
            "mirrors": manifest(f"<BaseURL>dead</BaseURL><BaseURL>{target}</BaseURL>"),
        }[kind]
        with FaultServer(serve_files({"/list": text.encode()})) as outer:
            outcome = outcome_of(outer.url("/list"), limits=FetchLimits(timeout_s=20, max_bytes=50_000_000))
        assert inner.connections == 0
    assert outcome.status == Status.HTTP_ERROR and "404" in outcome.reason


# Faults


@pytest.mark.parametrize(
    ("answer", "status", "words", "retryable"),
    [
        (reply("404 Not Found"), Status.HTTP_ERROR, "HTTP 404", False),
        (
            reply("503 Service Unavailable", Retry_After="7"),
            Status.HTTP_ERROR,
            "HTTP 503",
            True,
        ),
        (reply("200 OK", b""), None, "", False),
        (reply("416 Range Not Satisfiable", Content_Range="bytes */0"), None, "", False),
        (reply("200 OK", b"<html><body>gone</body></html>"), None, "", False),
        (b"", Status.UNREACHABLE, "the server breaks off", True),
    ],
    ids=["404", "503", "empty", "no range of nothing", "web page", "hangs up"],
)
def test_a_segment_in_the_middle_is_gone(
    films: Path, answer: bytes, status: Status | None, words: str, retryable: bool
) -> None:
    files = {f"/{path.name}": path.read_bytes() for path in (films / "ts.m3u8").iterdir()}

    def serve(request: Request) -> Iterable[bytes]:
        return [answer] if request.path == f"/{segments_of(films)[4]}" else serve_files(files)(request)

    with FaultServer(serve) as server:
        found = read(server.url("/ts.m3u8"))
    if status is None:
        # Two seconds of damage in a film of 25 are passed over, as they are in a file.
        assert found.outcome.status == Status.OK, found.outcome.reason
        return
    assert (found.outcome.status, found.outcome.retryable) == (status, retryable)
    assert found.outcome.reason.startswith(f"a later segment of the playlist: {words}")
    assert found.retry_after_s == (7 if b"Retry-After" in answer else None)


@pytest.mark.parametrize("body", [b"<html>moved</html>", b"", b"not here", media_list("ts0.ts").encode()])
def test_a_first_segment_that_is_no_video_does_not_make_the_row_invalid(films: Path, body: bytes) -> None:
    """It says nothing for certain about the film, unlike a web page in place of a file."""
    with FaultServer(serve_files({"/list": media_list("a.ts", "b.ts").encode(), "/a.ts": body})) as server:
        outcome = outcome_of(server.url("/list"))
    assert outcome.status in (Status.DECODE_ERROR, Status.HTTP_ERROR), outcome.reason


def test_a_playlist_on_this_machine_is_not_read(films: Path) -> None:
    outcome = outcome_of(str(films / "ts.m3u8" / "ts.m3u8"))
    assert outcome.status == Status.NOT_VIDEO and "from a web server only" in outcome.reason


def test_lists_that_lead_to_lists_end(films: Path) -> None:
    loop = master(("BANDWIDTH=1", "loop.m3u8"))
    with one_playlist(films, "loop.m3u8", loop) as (url, server):
        outcome = outcome_of(url)
        assert outcome.status == Status.DECODE_ERROR and "from one list of renditions to another" in outcome.reason
        assert server.requests == {"/ts.m3u8/loop.m3u8": 2}


def test_an_endless_playlist_ends(films: Path) -> None:
    def answer(request: Request) -> Iterator[bytes]:
        yield reply("200 OK", b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n", Content_Length=None)
        while True:
            yield b"#EXTINF:2,\na.ts\n" * 4096

    with FaultServer(answer) as server:
        outcome = outcome_of(server.url("/list"))
    assert (outcome.status, outcome.retryable) == (Status.TOO_LARGE, False)
    assert f"{MAX_PLAYLIST_BYTES:,} bytes" in outcome.reason


@pytest.mark.parametrize(
    "text",
    [
        media_list(*["a"] * (MAX_SEGMENTS + 1), duration_s=1),
        manifest("<SegmentTemplate timescale='90000' duration='1' media='$Number$'/>", lasts="PT99H"),
        manifest("<SegmentTemplate endNumber='999999999999' timescale='9000000' duration='1' media='$Number$'/>"),
        *(
            manifest(
                "<SegmentTemplate timescale='90000' media='$Time$'><SegmentTimeline>"
                f"<S d='1' r='{r}'/><S t='{t}' d='1'/>"
                "</SegmentTimeline></SegmentTemplate>"
            )
            for r, t in ((999_999_999_999, 0), (-1, 999_999_999_999))
        ),
    ],
    ids=["list", "duration", "last number", "repetition", "open repetition"],
)
def test_the_number_of_segments_is_bounded(films: Path, text: str) -> None:
    with FaultServer(serve_files({"/list": text.encode()})) as server:
        outcome = outcome_of(server.url("/list"))
        assert {request.path for request in server.requests} == {"/list"}
    assert outcome.status == Status.TOO_LARGE and f"{MAX_SEGMENTS:,} segments" in outcome.reason


def many(media: str, *, before: str = "", name: str = "v") -> str:
    """A manifest whose template `media` makes fifty thousand links."""
    times = "<SegmentTimeline><S d='1' r='49999'/></SegmentTimeline>"
    text = manifest(f"{before}<SegmentTemplate media='{media}$Number$'>{times}</SegmentTemplate>")
    return text.replace('id="v"', f'id="{name}"')


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (many("a" * 1_900), Status.TOO_LARGE),
        (many("", before=f"<BaseURL>{'a' * 60_000}/</BaseURL>"), Status.TOO_LARGE),
        (many("a" * 3_000_000), Status.DECODE_ERROR),
        (many("$RepresentationID$" * 100, name="v" * 3_000_000), Status.DECODE_ERROR),
        (master(("A" * 4_000_000, "a.m3u8")), Status.HTTP_ERROR),
        (media_list("a.ts", tags="#EXT-X-KEY:" + "A" * 3_000_000), Status.ENCRYPTED),
        (media_list("a.ts").replace(":2,", ":" + " " * 3_000_000), Status.DECODE_ERROR),
    ],
    ids=["template", "base", "long template", "long name", "attributes", "key", "duration"],
)
def test_a_small_text_makes_no_gigabytes_and_no_minutes(text: str, status: Status) -> None:
    started_s = time.process_time()
    with FaultServer(serve_files({"/list": text.encode()})) as server:
        outcome = outcome_of(server.url("/list"))
    assert outcome.status == status, outcome.reason
    assert time.process_time() - started_s < 5


def test_the_number_of_renditions_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hls, "MAX_RENDITIONS", 3)
    assert playlists.MAX_RENDITIONS < MAX_SEGMENTS
    base = Base(url="http://a/", may_leave_tls=True)
    assert read_hls(master(*[("BANDWIDTH=1", "a")] * 3), base) == ["http://a/a"]
    with pytest.raises(VideoTrouble, match="more than 3 renditions"):
        read_hls(master(*[("BANDWIDTH=1", "a")] * 4), base)


LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10 if n else "ha"}">' for n in range(10))


@pytest.mark.parametrize(
    "declared",
    [
        f"<!DOCTYPE MPD [{LAUGHS}]>",
        '<!DOCTYPE MPD [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE MPD SYSTEM "{url}">',
        '<!DOCTYPE MPD [<!ENTITY % x SYSTEM "{url}"> %x;]>',
    ],
    ids=["a billion laughs", "a file", "a document type elsewhere", "a parameter entity"],
)
def test_entities_are_not_read(films: Path, declared: str) -> None:
    with FaultServer(serve_files({})) as other:
        text = manifest("<BaseURL>&l9;&x;</BaseURL>").replace(
            "<MPD", declared.replace("{url}", other.url()) + "<MPD", 1
        )
        with FaultServer(serve_files({"/list": text.encode()})) as server:
            outcome = outcome_of(server.url("/list"))
        assert other.connections == 0
    assert outcome.status == Status.DECODE_ERROR and "entities" in outcome.reason


@pytest.mark.parametrize(
    "text",
    ["<MPD>" + "<a>" * 300_000, manifest("<a>" * 100_000 + "</a>" * 100_000), "<MPD " + "a='1' " * 100_000 + "/>"],
)
def test_deep_and_wide_documents_are_read_to_their_end(text: str) -> None:
    with FaultServer(serve_files({"/list": text.encode()})) as server:
        assert outcome_of(server.url("/list")).status in (Status.DECODE_ERROR, Status.HTTP_ERROR)


def test_the_bytes_of_all_segments_count_together(films: Path) -> None:
    size_bytes = sum((films / "ts.m3u8" / name).stat().st_size for name in segments_of(films))
    small = FetchLimits(timeout_s=30, max_bytes=size_bytes // 2, allow_private_addresses=True)
    with ClipServer(films) as server:
        outcome = outcome_of(server.url("ts.m3u8/ts.m3u8"), limits=small)
        assert (outcome.status, outcome.refused_by) == (Status.TOO_LARGE, f"max_bytes={size_bytes // 2}")
        assert server.served_bytes < size_bytes


def test_segments_may_be_redirected_packed_and_sent_whole(films: Path) -> None:
    """What servers do to files, they do to segments."""
    import gzip

    files = {f"/{path.name}": path.read_bytes() for path in (films / "ts.m3u8").iterdir()}

    def answer(request: Request) -> Iterable[bytes]:
        path, _, query = request.path.partition("?")
        if path == "/ts.m3u8":
            return [reply("200 OK", gzip.compress(files[path]), Content_Encoding="gzip")]
        if not query:
            return [reply("302 Found", Location=f"{path}?signed", Set_Cookie="seen=1")]
        assert request.headers["cookie"] == "seen=1"
        return [reply("200 OK", files[path])]

    with FaultServer(answer) as server:
        grabbed = grab(server.url("/ts.m3u8"), scan=SCAN)
    with ClipServer(films) as plain:
        assert numbers(grabbed) == numbers(grab(plain.url("film.mp4"), scan=SCAN))


def test_links_are_relative_to_where_the_playlist_was_found(films: Path) -> None:
    """With its user and password, which go to no other server, and with names in any script."""
    files = {path.name: path.read_bytes() for path in (films / "ts.m3u8").iterdir()}
    renamed = files["ts.m3u8"].replace(b"ts0.ts", "Straße ☃.ts?a=ü".encode())

    def answer(request: Request) -> Iterable[bytes]:
        assert request.headers["authorization"].startswith("Basic ")
        if request.path == "/old":
            return [
                reply("301 Moved Permanently", Location="http://u:p@" + request.headers["host"] + "/new/place/ts.m3u8")
            ]
        if request.path == "/new/place/Stra%C3%9Fe%20%E2%98%83.ts?a=%C3%BC":
            return [reply_range(request, files["ts0.ts"])]
        return serve_files(
            {f"/new/place/{name}": body for name, body in files.items()} | {"/new/place/ts.m3u8": renamed}
        )(request)

    with FaultServer(answer) as server:
        outcome = outcome_of(server.url("/old", user="u:p@"))
    assert outcome.status == Status.OK, outcome.reason


def test_one_connection_reads_a_film(films: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ClipServer(films) as server:
        opened = []
        accept = server._server.process_request
        monkeypatch.setattr(server._server, "process_request", lambda *a: (opened.append(a), accept(*a)))
        assert outcome_of(server.url("number.mpd/number.mpd")).status == Status.OK
        assert len(opened) == 1 and sum(server.requests.values()) > 13


def test_the_song_of_a_playlist_is_no_video(tmp_path: Path) -> None:
    save_sound(tmp_path / "a.aac")
    (tmp_path / "song.m3u8").write_text(media_list("a.aac", duration_s=1))
    with ClipServer(tmp_path) as server:
        assert outcome_of(server.url("song.m3u8")).status == Status.NO_VIDEO_STREAM


@pytest.mark.parametrize("name", ["ts.m3u8", "timeline.mpd"])
def test_a_sample_for_calibration_is_saved_as_one_file(films: Path, tmp_path: Path, name: str) -> None:
    with ClipServer(films) as server:
        url = server.url(f"{name}/{name}")
        sample = fetch_sample([url], folder=tmp_path, limits=LIMITS, workers=1)
        assert not sample.failures
        file = read(str(sample.paths[url]))
        assert file.fingerprint == read(server.url("film.mp4")).fingerprint


# Text


def pieces(found: list[str] | Playlist) -> list[Piece]:
    assert isinstance(found, Playlist)
    return [segment.piece for segment in found.segments]


def test_a_byte_range_without_a_place_follows_the_one_before() -> None:
    text = (
        '#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MAP:URI="all.mp4",BYTERANGE="720@0"\n'
        "#EXTINF:2,\n#EXT-X-BYTERANGE:100@720\nall.mp4\n#EXTINF:2\n#EXT-X-BYTERANGE:50\nall.mp4\n"
        "#EXTINF:1.5,a title\n#EXT-X-BYTERANGE:30\nother.mp4\n#EXT-X-ENDLIST"
    )
    found = read_hls(text, Base(url="http://a/b", may_leave_tls=True))
    assert [(piece.url[-9:], piece.first, piece.size_bytes) for piece in pieces(found)] == [
        ("a/all.mp4", 720, 100),
        ("a/all.mp4", 820, 50),
        ("other.mp4", 0, 30),
    ]
    assert isinstance(found, Playlist) and found.duration_s == 5.5
    assert {segment.beginning for segment in found.segments} == {Piece(url="http://a/all.mp4", size_bytes=720)}


@pytest.mark.parametrize(
    ("template", "names"),
    [
        ('media="$RepresentationID$/$Number%04d$.m4s" duration="4"', ["v/0001.m4s", "v/0002.m4s", "v/0003.m4s"]),
        (
            'media="$$$Bandwidth$-$Number$" startNumber="7" duration="40" timescale="10"',
            ["$1000-7", "$1000-8", "$1000-9"],
        ),
        ('media="$Time$" duration="4000" timescale="1000" presentationTimeOffset="500"', ["500", "4500", "8500"]),
        ('media="n$Number$" duration="4" startNumber="0" endNumber="1"', ["n0", "n1"]),
        ('media="$Number%099d$" duration="9"', ["1".rjust(99, "0"), "2".rjust(99, "0")]),
    ],
)
def test_templates_are_filled_in(template: str, names: list[str]) -> None:
    text = manifest(f"<SegmentTemplate {template}/>", lasts="PT10S")
    found = read_dash(text.encode(), Base(url="http://a/", may_leave_tls=True))
    assert [piece.url for piece in pieces(found)] == [f"http://a/{name}" for name in names]


def test_a_timeline_gives_numbers_times_and_durations() -> None:
    timeline = '<S t="100" d="20" r="1"/><S d="10"/><S t="200" d="50" r="-1"/><S t="300" d="10"/>'
    text = manifest(
        f"<SegmentTemplate timescale='10' media='$Number$-$Time$' startNumber='5' presentationTimeOffset='100'>"
        f"<SegmentTimeline>{timeline}</SegmentTimeline></SegmentTemplate>",
        lasts="PT21S",
    )
    film = read_dash(text.encode(), Base(url="http://a/", may_leave_tls=True))
    assert [(segment.piece.url[9:], segment.start_s) for segment in film.segments] == [
        ("5-100", 0),
        ("6-120", 2),
        ("7-140", 4),
        ("8-200", 5),
        ("9-250", 10),
        ("10-300", 15),
    ]
    assert film.duration_s == 21


def test_what_a_representation_leaves_out_is_inherited() -> None:
    text = (
        '<MPD mediaPresentationDuration="PT1M4S"><BaseURL>http://b/films/</BaseURL><Period>'
        '<SegmentTemplate timescale="1000" initialization="$RepresentationID$-init"/>'
        '<AdaptationSet mimeType="video/mp4" width="640" height="360"><BaseURL>one/</BaseURL>'
        '<SegmentTemplate duration="32000" media="none"/>'
        '<Representation id="hd"><SegmentTemplate media="$Number$"/></Representation>'
        "</AdaptationSet></Period></MPD>"
    )
    film = read_dash(text.encode(), Base(url="https://a/", may_leave_tls=True))
    assert [piece.url for piece in pieces(film)] == ["http://b/films/one/1", "http://b/films/one/2"]
    assert {segment.beginning for segment in film.segments} == {Piece(url="http://b/films/one/hd-init")}


SAMPLES = (
    media_list("a.ts", "b.ts", tags='#EXT-X-MAP:URI="i",BYTERANGE="9@1"\n#EXT-X-BYTERANGE:1@2\n#EXT-X-DISCONTINUITY'),
    master(('BANDWIDTH=1,RESOLUTION=640x360,CODECS="avc1"', "a.m3u8"), ("BANDWIDTH=2", "b.m3u8")),
    manifest("<SegmentTemplate timescale='9' duration='4' media='$Number%02d$' initialization='$Bandwidth$'/>"),
    manifest(
        "<SegmentTemplate media='$Time$'><SegmentTimeline><S t='1' d='2' r='-1'/></SegmentTimeline></SegmentTemplate>"
    ),
    manifest("<SegmentList duration='2'><Initialization range='0-9'/><SegmentURL mediaRange='1-2'/></SegmentList>"),
)


@settings(max_examples=200)
@given(
    sample=st.sampled_from(SAMPLES),
    edits=st.lists(
        st.tuples(
            st.floats(0, 1, exclude_max=True),
            st.integers(0, 12),
            st.one_of(
                st.text(max_size=6),
                st.sampled_from(["0", "-1", "9" * 30, "nan", "1e9", "//", "\0", "\n", '"', "$", "<", "&", "\ud800"]),
            ),
        ),
        max_size=5,
    ),
)
def test_no_text_does_more_than_be_refused(sample: str, edits: list[tuple[float, int, str]]) -> None:
    for place, length, new in edits:
        at = int(place * len(sample))
        sample = sample[:at] + new + sample[at + length :]
    base = Base(url="https://example.com/a/b", may_leave_tls=False)
    text = sample.encode("utf-8", "replace")
    for parse in (lambda: read_hls(text.decode(), base), lambda: read_dash(text, base)):
        try:
            found = parse()
        except VideoTrouble as trouble:
            assert trouble.reason and len(trouble.reason) < 300
        else:
            links = found if isinstance(found, list) else [piece.url for piece in pieces(found)]
            assert 0 < len(links) <= MAX_SEGMENTS and all(link.startswith("https://") for link in links)

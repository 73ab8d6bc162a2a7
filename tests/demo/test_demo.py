"""The demo's clips look as their names promise, its server behaves like a web server, its check can fail."""

from __future__ import annotations

import csv
import http.client
import json
import shutil
import socket
import ssl
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import av
import numpy as np
import pdqhash
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_once import shared_folder

from dedup_lib.demo.check import Check, check_outcome
from dedup_lib.demo.clips import Manifest, bar_size_px, make_clips, render_film, write_list
from dedup_lib.demo.films import FILMS
from dedup_lib.demo.planted import BLACK_NAME, COPIES, IMAGE_NAME, PLANTED, TEASER_FRACTION, TRUNCATED_NAME
from dedup_lib.demo.server import ClipServer, parse_range
from dedup_lib.records import FAILED_STATUSES, INVALID_STATUSES, KEPT_STATUSES, Frames, Status

BASE_URL = "http://127.0.0.1:8765"

PARTS = ("square", "teaser")
"""Copies of a part of the picture, or of the film."""

FEW = ("spots/night-ride.mp4", "spots/under-the-lens.mp4", "spots/slow-mornings.mp4")
"""Films of which the damaged file and the picture are made, and one with copies in MP4."""


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    with shared_folder(tmp_path_factory, "demo-clips") as folder:
        return make_clips(folder)


@pytest.fixture
def few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    """New clips of three films, and of all copies of them."""
    films = [film for film in FILMS if film.name in FEW]
    monkeypatch.setattr("dedup_lib.demo.clips.FILMS", films)
    monkeypatch.setattr("dedup_lib.demo.clips.COPIES", [copy for copy in COPIES if copy.of in FEW])
    return make_clips(tmp_path / "few")


def load_frames(path: Path) -> list[Frames]:
    with av.open(str(path)) as container:
        return [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in container.decode(video=0)]


@pytest.fixture(scope="session")
def hashes(clips: Manifest) -> dict[str, np.ndarray[Any, Any]]:
    """PDQ bits (3, 256) of every film and every copy of the whole of one, at 1/6, 1/2 and 5/6, bars cut off."""
    bars = {film.name: (0, 0) for film in FILMS}
    sizes = {film.name: film.size_px for film in FILMS}
    bars |= {
        copy.name: bar_size_px(*sizes[copy.of], treatment=copy.treatment)
        for copy in COPIES
        if copy.treatment not in PARTS
    }
    found = {}
    for name, (x, y) in bars.items():
        frames = load_frames(clips.folder / name)
        picked = [frames[int(len(frames) * fraction)] for fraction in (1 / 6, 1 / 2, 5 / 6)]
        height, width = picked[0].shape[:2]
        cut = [np.ascontiguousarray(frame[y : height - y, x : width - x]) for frame in picked]
        found[name] = np.stack([pdqhash.compute(frame)[0] for frame in cut])
    return found


# Clips


def test_clips_are_new_at_first_and_then_found_again(few: Manifest) -> None:
    times = {name: (few.folder / name).stat().st_mtime_ns for name in few.file_bytes}
    again = make_clips(few.folder)
    assert few.is_new and not again.is_new
    assert again.file_bytes == few.file_bytes
    assert times == {name: (few.folder / name).stat().st_mtime_ns for name in few.file_bytes}


def test_a_damaged_folder_is_made_again_byte_for_byte(few: Manifest, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(few.folder, folder)
    for name in few.file_bytes:
        (folder / name).write_bytes(b"")
    (folder / BLACK_NAME).unlink()
    assert make_clips(folder).is_new
    for name in few.file_bytes:
        assert (folder / name).read_bytes() == (few.folder / name).read_bytes(), name


def test_files_are_small(clips: Manifest) -> None:
    assert all(0 < size < 200_000 for size in clips.file_bytes.values()), clips.file_bytes


@pytest.mark.parametrize("film", FILMS, ids=lambda film: film.name)
def test_films_decode_whole(clips: Manifest, film: Any) -> None:
    frames = load_frames(clips.folder / film.name)
    assert len(frames) == film.frames
    assert frames[0].shape == (film.size_px[1], film.size_px[0], 3)
    lit = [number for number, frame in enumerate(frames) if frame.std() > 15]
    assert lit[0] <= (film.black_start_s + 0.3) * film.fps and len(lit) == len(frames) - lit[0]


def test_copies_differ_from_their_originals_in_codec_size_or_colour(clips: Manifest) -> None:
    sizes = {film.name: film.size_px for film in FILMS}
    for copy in COPIES:
        with av.open(str(clips.folder / copy.name)) as container:
            stream = container.streams.video[0]
            codec, size = stream.codec_context.name, (stream.width, stream.height)
            frame = next(container.decode(stream)).to_ndarray(format="rgb24").astype(int)
        width, height = sizes[copy.of]
        match copy.treatment:
            case "webm":
                assert "vp" in codec
            case "half_size":
                assert abs(size[0] - width / 2) <= 1 and abs(size[1] - height / 2) <= 1
            case "letterbox":
                assert size[0] == width and size[1] > height and frame[0].max() < 8
            case "pillarbox":
                assert size[0] > width and size[1] == height and frame[:, 0].max() < 8
            case "grey":
                assert np.abs(frame[..., 0] - frame[..., 2]).max() < 8
            case "low_bitrate":
                assert clips.file_bytes[copy.name] < clips.file_bytes[copy.of] / 2
            case "logo":
                assert size == (width, height)
            case "square":
                assert size == (height, height)
            case "teaser":
                assert size == (width, height)


def test_copies_lie_near_and_other_films_far(hashes: dict[str, np.ndarray[Any, Any]]) -> None:
    source = {film.name: film.name for film in FILMS} | {copy.name: copy.of for copy in COPIES}
    assert set(source) - set(hashes) == {copy.name for copy in COPIES if copy.treatment in PARTS}
    for first, second in combinations(hashes, 2):
        bits = np.mean([(a != b).sum() for a, b in zip(hashes[first], hashes[second], strict=True)])
        if source[first] == source[second]:
            assert bits < 28, (first, second)
        else:
            assert bits > 70, (first, second)


def test_a_part_of_a_film_is_that_part(clips: Manifest) -> None:
    for copy in COPIES:
        if copy.treatment not in PARTS:
            continue
        part, whole = load_frames(clips.folder / copy.name), load_frames(clips.folder / copy.of)
        assert len(part) == (len(whole) if copy.treatment == "square" else round(len(whole) * TEASER_FRACTION))
        left = (whole[0].shape[1] - part[0].shape[1]) // 2
        for frame, original in zip(part, whole, strict=False):
            own, beside = (
                np.abs(frame.astype(int) - np.roll(original, shift, axis=1)[:, left : left + frame.shape[1]])
                for shift in (0, 8)
            )
            assert own.mean() < 10 and own.mean() < beside.mean()


def test_black_starts_are_alike_only_there(clips: Manifest, hashes: dict[str, np.ndarray[Any, Any]]) -> None:
    one, two = (film.name for film in FILMS if film.black_start_s)
    for name in (one, two):
        assert all(frame.max() < 4 for frame in load_frames(clips.folder / name)[:24])
    assert all((a != b).sum() > 70 for a, b in zip(hashes[one][1:], hashes[two][1:], strict=True))


def test_the_black_clip_is_black(clips: Manifest) -> None:
    assert max(frame.max() for frame in load_frames(clips.folder / BLACK_NAME)) < 4


def test_the_truncated_clip_does_not_open(clips: Manifest) -> None:
    assert (clips.folder / TRUNCATED_NAME).read_bytes()[4:8] == b"ftyp"
    with pytest.raises(av.error.InvalidDataError):
        load_frames(clips.folder / TRUNCATED_NAME)


def test_the_picture_is_a_png(clips: Manifest) -> None:
    assert (clips.folder / IMAGE_NAME).read_bytes().startswith(b"\x89PNG\r\n")


def test_the_camera_moves() -> None:
    frames = render_film(FILMS[4], seed=0)
    assert np.abs(frames[0].astype(int) - frames[30]).mean() > 4


# The list


def test_the_list_holds_every_planted_row_once(tmp_path: Path) -> None:
    path = write_list(tmp_path / "list.csv", base_url=BASE_URL)
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [row.id for row in PLANTED]
    assert len({row.id for row in PLANTED}) == len(PLANTED)
    assert [row["video_url"] for row in rows] == [row.url(BASE_URL) for row in PLANTED]
    assert any("," in row["title"] for row in rows)
    assert any(not row["title"].isascii() for row in rows)


def test_each_made_file_is_listed(clips: Manifest) -> None:
    assert set(clips.file_bytes) <= {row.name for row in PLANTED}
    on_disk = {str(path.relative_to(clips.folder)) for path in clips.folder.rglob("*") if path.is_file()}
    assert on_disk == set(clips.file_bytes) | {".manifest.json"}


def test_planted_rows_agree_with_the_tables() -> None:
    assert Counter(row.expected for row in PLANTED) == {
        "final": len(FILMS) + 1,
        "text_duplicate": 3,
        "duplicate": len(COPIES),
        "invalid": 3,
        "failed": 3,
    }
    assert {(row.name, row.copy_of) for row in PLANTED if row.expected == "duplicate"} == {
        (copy.name, copy.of) for copy in COPIES
    }
    places = {row.name: place for place, row in reversed(list(enumerate(PLANTED)))}
    for place, row in enumerate(PLANTED):
        if row.copy_of:
            assert places[row.copy_of] < place
            assert PLANTED[places[row.copy_of]].expected == "final"
        assert row.expected == "duplicate" or not (row.verdict or row.rule)
        allowed = {"final": KEPT_STATUSES, "duplicate": {Status.OK}, "text_duplicate": {None}}
        allowed |= {"invalid": INVALID_STATUSES, "failed": FAILED_STATUSES}
        assert row.status in allowed[row.expected]


def test_urls_are_spelled_as_planned() -> None:
    spelled: dict[str, list[str]] = {}
    for row in PLANTED:
        spelled.setdefault(row.spelling, []).append(row.url(BASE_URL))
    assert spelled["empty"] == [""]
    assert spelled["escaped_tilde"] == ["HTTP://127.0.0.1:8765/%7Estudio/stone%20by%20stone.mp4?"]
    assert spelled["fragment"] == ["http://127.0.0.1:8765/~studio/stone%20by%20stone.mp4#t=2"]
    assert spelled["https"] == ["https://127.0.0.1:8765/spots/harbour-at-five.mp4"]
    assert "http%3A%2F%2F127.0.0.1%3A8765%2Fspots%2Fclear-sight.mp4" in spelled["wholly_encoded"]
    assert spelled["doubly_encoded"] == ["http%253A%252F%252F127.0.0.1%253A8765%252Fspots%252Flanding-site.mp4"]


# The server

CONTENT = bytes(range(256)) * 300


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "served"
    (root / "~a").mkdir(parents=True)
    (root / "~a" / "b c.mp4").write_bytes(CONTENT)
    (root / "page.mp4").write_text("<!doctype html><p>moved</p>")
    (root / "empty.webm").write_bytes(b"")
    (tmp_path / "secret.mp4").write_bytes(b"secret")
    return root


@pytest.fixture
def server(folder: Path) -> Iterator[ClipServer]:
    with ClipServer(folder) as server:
        yield server


def ask(url: str, *, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method, headers=named), timeout=10) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read()


def test_whole_file(server: ClipServer) -> None:
    status, headers, body = ask(server.url("~a/b c.mp4"))
    assert (status, body) == (200, CONTENT)
    assert headers["Content-Type"] == "video/mp4"
    assert headers["Accept-Ranges"] == "bytes"
    assert headers["ETag"].strip('"')


@pytest.mark.parametrize(
    ("wanted", "start", "stop"),
    [("bytes=0-99", 0, 100), ("bytes=76700-", 76700, 76800), ("bytes=-5", 76795, 76800), ("bytes=9-999999", 9, 76800)],
)
def test_one_range(server: ClipServer, wanted: str, start: int, stop: int) -> None:
    status, headers, body = ask(server.url("~a/b c.mp4"), Range=wanted)
    assert (status, body) == (206, CONTENT[start:stop])
    assert headers["Content-Range"] == f"bytes {start}-{stop - 1}/76800"
    assert headers["Content-Length"] == str(stop - start)


@pytest.mark.parametrize("wanted", ["bytes=0-1,5-6", "bytes=9-3", "bytes=-", "lines=0-9", "bytes=x-y"])
def test_ranges_that_are_ignored(server: ClipServer, wanted: str) -> None:
    status, headers, body = ask(server.url("~a/b c.mp4"), Range=wanted)
    assert (status, body) == (200, CONTENT)
    assert "Content-Range" not in headers


@pytest.mark.parametrize("wanted", ["bytes=76800-", "bytes=-0", "bytes=99999-100000"])
def test_range_out_of_reach(server: ClipServer, wanted: str) -> None:
    status, headers, body = ask(server.url("~a/b c.mp4"), Range=wanted)
    assert (status, headers["Content-Range"], body) == (416, "bytes */76800", b"")


def test_a_range_of_an_older_version_gives_the_whole_file(server: ClipServer, folder: Path) -> None:
    url = server.url("~a/b c.mp4")
    etag = ask(url)[1]["ETag"]
    assert ask(url, Range="bytes=0-9", If_Range=etag)[0] == 206
    (folder / "~a" / "b c.mp4").write_bytes(b"new" * 100)
    assert ask(url, Range="bytes=0-9", If_Range=etag)[::2] == (200, b"new" * 100)
    assert ask(url)[1]["ETag"] != etag


def test_head_sends_no_body(server: ClipServer) -> None:
    status, headers, body = ask(server.url("~a/b c.mp4"), method="HEAD")
    assert (status, headers["Content-Length"], body) == (200, "76800", b"")
    assert server.served_bytes == 0


@pytest.mark.parametrize("name", ["none.mp4", "~a", "", "../secret.mp4", "~a/../../secret.mp4"])
def test_what_is_not_there_or_not_to_be_seen(server: ClipServer, name: str) -> None:
    assert ask(server.url(name))[0] == 404


def test_empty_file_and_web_page(server: ClipServer) -> None:
    assert ask(server.url("empty.webm"))[::2] == (200, b"")
    assert ask(server.url("page.mp4"))[1]["Content-Type"].startswith("text/html")


def test_requests_and_bytes_are_counted(server: ClipServer) -> None:
    ask(server.url("~a/b c.mp4"))
    ask(server.url("~a/b c.mp4"), Range="bytes=0-9")
    ask(server.url("none.mp4"), method="HEAD")
    assert server.requests == {"/~a/b c.mp4": 2, "/none.mp4": 1}
    assert server.served_bytes == len(CONTENT) + 10


def test_without_ranges_the_file_comes_whole(folder: Path) -> None:
    with ClipServer(folder, ranges=False) as server:
        status, headers, body = ask(server.url("~a/b c.mp4"), Range="bytes=0-9")
    assert (status, body) == (200, CONTENT)
    assert "Accept-Ranges" not in headers


def test_latency_holds_answers_back_until_closing(folder: Path) -> None:
    # The wait is far longer than the client's patience, and closing the server does not sit it out.
    with ClipServer(folder, latency_s=600) as server, pytest.raises(TimeoutError):
        urllib.request.urlopen(server.url("page.mp4"), timeout=0.3)


def test_latency_only_delays(folder: Path) -> None:
    with ClipServer(folder, latency_s=0.01) as server:
        assert ask(server.url("~a/b c.mp4"))[2] == CONTENT


def test_one_connection_serves_several_requests_and_closing_ends_it(folder: Path) -> None:
    with ClipServer(folder) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        for _ in range(2):
            connection.request("GET", "/page.mp4")
            assert connection.getresponse().read().startswith(b"<!doctype")
    connection.close()


def test_clients_may_go_away(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (folder / "big.mp4").write_bytes(bytes(16_000_000))
    with ClipServer(folder) as server:
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
                connection.sendall(b"GET /big.mp4 HTTP/1.1\r\nHost: x\r\n\r\n")
                connection.recv(100)
        with socket.create_connection(("127.0.0.1", server.port), timeout=10):
            pass
        assert ask(server.url("~a/b c.mp4"))[2] == CONTENT
    assert capfd.readouterr() == ("", "")


def test_https_is_refused_at_once(server: ClipServer) -> None:
    context = ssl.create_default_context()
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection,
        pytest.raises((ssl.SSLError, ConnectionError)) as caught,
    ):
        context.wrap_socket(connection, server_hostname="127.0.0.1")
    assert not isinstance(caught.value, TimeoutError)


def test_a_port_can_be_kept_or_given_up(folder: Path) -> None:
    with ClipServer(folder) as first:
        with pytest.raises(OSError, match="in use"):
            ClipServer(folder, port=first.port)
        with ClipServer(folder, port=first.port, or_any_port=True) as second:
            assert second.port != first.port
            assert ask(second.url("page.mp4"))[0] == 200
    with ClipServer(folder, port=first.port) as again:
        assert again.base_url == first.base_url


@given(st.integers(0, 50), st.integers(0, 60), st.integers(0, 60))
def test_ranges_follow_their_definition(size: int, first: int, last: int) -> None:
    wanted = [place for place in range(size) if first <= place <= last]
    header = f"bytes={first}-{last}"
    if first > last:
        assert parse_range(header, size_bytes=size) is None
    elif wanted:
        assert list(range(size))[parse_range(header, size_bytes=size) or slice(0)] == wanted
    else:
        with pytest.raises(ValueError, match="outside"):
            parse_range(header, size_bytes=size)


# The check


def save_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, sorted({name for row in rows for name in row} | {"id"}))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """The outputs of a run that went as planted."""
    originals = {row.name: row for row in reversed(PLANTED) if row.expected == "final"}
    files = {
        "final": "FINAL_RESULT.csv",
        "text_duplicate": "adverts.duplicates.csv",
        "duplicate": "duplicates.csv",
        "invalid": "invalid_urls.csv",
        "failed": "failed_urls.csv",
    }
    groups = sorted({copy.of for copy in COPIES})
    for output, name in files.items():
        rows: list[dict[str, Any]] = []
        for row in PLANTED:
            if row.expected == output:
                line = {"id": row.id, "title": row.title, "url": row.url(BASE_URL), "status": row.status}
                if output == "duplicate":
                    line |= {
                        "duplicate_of": originals[row.copy_of].url(BASE_URL),
                        "group": groups.index(row.copy_of),
                        "verdict": row.verdict,
                        "rule": row.rule,
                    }
                rows.append(line)
        save_rows(tmp_path / name, rows)
    save_rows(tmp_path / "featureless_urls.csv", [{"id": row.id} for row in PLANTED if row.name == BLACK_NAME])
    summary = {
        "list": "adverts.csv",
        "rows": {"input": 35, "final": 17, "text_duplicates": 3, "duplicates": 9, "invalid": 3, "failed": 3},
        "statuses": {
            "ok": 25, "featureless": 1, "image": 1, "html": 1, "invalid_url": 1, "http_error": 1, "decode_error": 1,
            "unreachable": 1, "timeout": 0,
        },
        "featureless": 1,
    }  # fmt: skip
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    return tmp_path


def failing(checks: list[Check]) -> set[str]:
    return {check.what for check in checks if not check.holds}


def test_a_run_as_planted_passes(run_dir: Path) -> None:
    checks = check_outcome(run_dir, base_url=BASE_URL)
    assert failing(checks) == set()
    assert len({check.what for check in checks}) == len(checks) > 25


def edit(name: str, change: Callable[[list[dict[str, Any]]], None]) -> Callable[[Path], None]:
    def apply(run_dir: Path) -> None:
        with (run_dir / name).open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        change(rows)
        save_rows(run_dir / name, rows)

    return apply


def move(name: str, to: str, row_id: str) -> Callable[[Path], None]:
    def apply(run_dir: Path) -> None:
        edit(name, lambda rows: rows.remove(next(row for row in rows if row["id"] == row_id)))(run_dir)
        edit(to, lambda rows: rows.append({"id": row_id, "duplicate_of": "", "group": "99"}))(run_dir)

    return apply


def edit_summary(key: str, value: Any) -> Callable[[Path], None]:
    def apply(run_dir: Path) -> None:
        path = run_dir / "summary.json"
        summary = json.loads(path.read_text())
        summary[key] = value if not isinstance(value, dict) else summary[key] | value
        path.write_text(json.dumps(summary))

    return apply


FINAL, COPIED, INVALID, FAILED = "FINAL_RESULT.csv", "duplicates.csv", "invalid_urls.csv", "failed_urls.csv"
TAPE = "“Café au matin (tape transfer)” is a copy of"


@pytest.mark.parametrize(
    ("spoil", "noticed"),
    [
        (edit(FINAL, lambda rows: rows.pop(0)), {f"rows of {FINAL}", "every listed row is in one output"}),
        (edit(FINAL, lambda rows: rows.append(rows[0])), {f"rows of {FINAL}", "every listed row is in one output"}),
        (move(FINAL, COPIED, "TVC-1624"), {"same black start, different films: both kept", "groups of copies"}),
        (move(COPIED, FINAL, "TVC-0744"), {f"rows of {COPIED}", "“Whiskers (4:3)” is a copy of"}),
        (edit(COPIED, lambda rows: rows[0].update(duplicate_of=rows[1]["duplicate_of"])), {TAPE}),
        (edit(COPIED, lambda rows: rows[0].update(duplicate_of="http://other/spots/slow-mornings.mp4")), {TAPE}),
        (edit(COPIED, lambda rows: rows[0].update(group="77")), {"groups of copies"}),
        (
            edit(COPIED, lambda rows: [row.update(verdict="review", rule="cosine") for row in rows]),
            {
                "verdict on “Up the tower (teaser)”",
                "verdict on “Far away is near (square)”",
                "rule on “Far away is near (square)”",
            },
        ),
        (
            edit(COPIED, lambda rows: [row.pop("verdict") for row in rows]),
            {"verdict on “Up the tower (teaser)”", "verdict on “Far away is near (square)”"},
        ),
        (edit(FAILED, lambda rows: rows[0].update(status="timeout")), {"why “The lost reel” was set aside"}),
        (move(INVALID, FAILED, "TVC-1434"), {f"rows of {INVALID}", f"rows of {FAILED}"}),
        (edit("adverts.duplicates.csv", lambda rows: rows.clear()), {"rows of adverts.duplicates.csv"}),
        (edit("featureless_urls.csv", lambda rows: rows.clear()), {"rows of featureless_urls.csv"}),
        (edit_summary("rows", {"final": 16}), {"summary: rows, final", "summary: outputs add up to the input"}),
        (edit_summary("statuses", {"timeout": 2}), {"summary: statuses"}),
        (edit_summary("featureless", 0), {"summary: featureless"}),
        (lambda run_dir: (run_dir / FAILED).unlink(), {f"rows of {FAILED}"}),
    ],
)
def test_a_spoilt_run_is_noticed(run_dir: Path, spoil: Callable[[Path], None], noticed: set[str]) -> None:
    spoil(run_dir)
    assert noticed <= failing(check_outcome(run_dir, base_url=BASE_URL))


def test_an_empty_folder_fails_every_count(tmp_path: Path) -> None:
    checks = check_outcome(tmp_path, base_url=BASE_URL)
    assert failing(checks) == {check.what for check in checks}

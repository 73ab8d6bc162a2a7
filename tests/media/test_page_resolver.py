"""Web pages that are followed to their video, by yt-dlp behind our connections: pages of a server on this machine."""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from extraction import run
from fault_server import FaultServer, Request, reply, reply_range
from media import save_clip

from dedup_lib.errors import SettingError, VideoTrouble
from dedup_lib.media import addresses
from dedup_lib.media.limits import Deadline, FetchLimits, Meter
from dedup_lib.media.opening import check_resolver, open_video
from dedup_lib.media.sampling import grab_frames
from dedup_lib.records import Status
from dedup_lib.settings import ExtractSettings

pytest.importorskip("yt_dlp", reason="yt-dlp is not installed: requirements-pages.txt names it")

from dedup_lib.media import page_resolver

PAGE = "<!doctype html><html><head><title>A film</title>{}</head><body><h1>A film</h1>{}</body></html>"
PUBLIC = "8.8.8.8"


def page(head: str = "", body: str = "") -> bytes:
    return reply("200 OK", PAGE.format(head, body).encode(), Content_Type="text/html; charset=utf-8")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return save_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", count=30, fps=10).read_bytes()


@contextmanager
def site(clip: bytes, pages: Callable[[Request], bytes]) -> Iterator[FaultServer]:
    """`/clip.mp4` is a film, everything else what `pages` gives."""

    def answer(request: Request) -> list[bytes]:
        if request.path.startswith("/clip.mp4"):
            return [reply_range(request, clip, Content_Type="video/mp4")]
        return [pages(request)]

    with FaultServer(answer) as server:
        yield server


def limits(**changes: object) -> FetchLimits:
    known: dict[str, object] = {"timeout_s": 20, "max_bytes": 50_000_000, "allow_private_addresses": True}
    return FetchLimits(**{**known, "resolve_pages": True, **changes})  # type: ignore[arg-type] # by name


def read_duration_s(url: str, **changes: object) -> float:
    """The duration of the film that a URL leads to."""
    deadline = Deadline(20)
    stream = open_video(url, limits=limits(**changes), deadline=deadline)
    with stream:
        grabbed = grab_frames(stream, num_frames=2, frame_span="spread", deadline=deadline)
        assert stream.fetched_bytes > len(PAGE)
    return grabbed.facts.duration_s


def trouble_of(url: str, **changes: object) -> VideoTrouble:
    with pytest.raises(VideoTrouble) as caught:
        read_duration_s(url, **changes)
    return caught.value


TAGS = {
    "og:video": ('<meta property="og:video" content="{}/clip.mp4">', ""),
    "twitter": ('<meta name="twitter:player:stream" content="{}/clip.mp4">', ""),
    "video": ("", '<video src="/clip.mp4"></video>'),
    "source": ("", '<video><source src="/clip.mp4" type="video/mp4"></video>'),
}


@pytest.mark.parametrize("kind", TAGS)
def test_the_video_of_a_page_is_read(clip: bytes, kind: str) -> None:
    head, body = TAGS[kind]
    with site(clip, lambda request: page(head.format(server.url("")), body)) as server:
        assert read_duration_s(server.url("/film.html")) == pytest.approx(3.0, abs=0.2)
        paths = [request.path for request in server.requests]
        assert paths[0] == "/film.html" and paths[-1] == "/clip.mp4"


def test_the_video_is_fetched_with_the_referer_of_its_page(clip: bytes) -> None:
    with site(clip, lambda request: page(body='<video src="/clip.mp4"></video>')) as server:
        read_duration_s(server.url("/film.html"))
        last = server.requests[-1]
        assert (last.path, last.headers["referer"]) == ("/clip.mp4", server.url("/film.html"))
        assert "range" in last.headers and "cookie" not in last.headers


def test_a_page_that_redirects_is_followed(clip: bytes) -> None:
    def pages(request: Request) -> bytes:
        if request.path == "/old.html":
            return reply("302 Found", Location="/film.html", Set_Cookie="visit=1")
        return page(body='<video src="/clip.mp4"></video>')

    with site(clip, pages) as server:
        assert read_duration_s(server.url("/old.html")) == pytest.approx(3.0, abs=0.2)


def test_it_is_off_by_default_and_the_reason_names_the_setting(clip: bytes) -> None:
    with site(clip, lambda request: page(body='<video src="/clip.mp4"></video>')) as server:
        trouble = trouble_of(server.url("/film.html"), resolve_pages=False)
        assert len(server.requests) == 1
    assert trouble.status is Status.HTML
    assert "resolve_pages would look for its video" in trouble.reason
    assert trouble.refused_by == "resolve_pages=False", "so that the next run with it tries the page again"
    assert not ExtractSettings().resolve_pages and not FetchLimits.of(ExtractSettings()).resolve_pages
    assert FetchLimits.of(ExtractSettings(resolve_pages=True)).resolve_pages


def test_without_the_setting_yt_dlp_is_not_even_loaded() -> None:
    code = "import sys, dedup_lib.media.opening, dedup_lib.steps.extract; sys.exit('yt_dlp' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_page_without_a_video_is_a_page(clip: bytes) -> None:
    with site(clip, lambda request: page(body="<p>Words.</p>")) as server:
        trouble = trouble_of(server.url("/words.html"))
    assert (trouble.status, trouble.retryable) == (Status.HTML, False)
    assert "in which yt-dlp finds no video" in trouble.reason


def test_a_page_with_several_videos_is_not_guessed_at(clip: bytes) -> None:
    videos = "".join(f'<video src="/clip.mp4?{number}"></video>' for number in range(3))
    with site(clip, lambda request: page(body=videos)) as server:
        trouble = trouble_of(server.url("/films.html"))
    assert trouble.status is Status.HTML and "several videos" in trouble.reason


def test_a_page_that_leads_to_a_page_is_a_page(clip: bytes) -> None:
    def pages(request: Request) -> bytes:
        return page('<meta property="og:video" content="/player.mp4">' if "film" in request.path else "")

    with site(clip, pages) as server:
        assert trouble_of(server.url("/film.html")).status is Status.HTML


def test_03_reads_pages_beside_files_and_tries_again_what_the_setting_refused(clip: bytes, tmp_path: Path) -> None:
    with site(clip, lambda request: page(body='<video src="/clip.mp4"></video>')) as server:
        urls = [server.url("/film.html"), server.url("/clip.mp4")]
        before = run(urls, tmp_path, limits=limits(resolve_pages=False)).outcomes
        assert [before[url].status for url in urls] == [Status.HTML, Status.OK]
        report = run(urls, tmp_path, limits=limits())
    assert (report.attempted, report.skipped) == (1, 1)
    found = report.outcomes[urls[0]]
    assert (found.status, found.same_file_as) == (Status.OK, urls[1])


# --- the rules hold


@pytest.fixture
def only_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """127.0.0.1 counts as public, so that a page on this machine can lead to an address that is not."""
    is_public = addresses.is_public_address
    monkeypatch.setattr(addresses, "is_public_address", lambda address: address == "127.0.0.1" or is_public(address))


@pytest.mark.parametrize(
    "target", ["http://10.1.2.3/clip.mp4", "http://[::1]/clip.mp4", "http://169.254.169.254/clip.mp4"]
)
@pytest.mark.parametrize(
    "tag",
    ['<meta property="og:video" content="{}">', '<video src="{}"></video>', '<iframe src="{}"></iframe>'],
    ids=["og:video", "video", "iframe"],
)
@pytest.mark.usefixtures("only_here")
def test_a_page_leads_to_no_private_address(clip: bytes, target: str, tag: str) -> None:
    given = tag.format(target)
    made = page(head=given) if "meta" in tag else page(body=given)
    with site(clip, lambda request: made) as server:
        trouble = trouble_of(server.url("/film.html"), allow_private_addresses=False)
    if "iframe" not in tag:
        assert trouble.status is Status.BLOCKED_ADDRESS, trouble.reason
        assert trouble.refused_by == "allow_private_addresses=False"
    assert trouble.status in (Status.BLOCKED_ADDRESS, Status.HTML)


@pytest.mark.usefixtures("only_here")
def test_a_redirect_that_only_yt_dlp_gets_is_checked_too(clip: bytes) -> None:
    """The first visit gets a page, the second one is sent to the metadata of a cloud."""

    def pages(request: Request) -> bytes:
        if request.number == 0:
            return page(body="<p>Loading</p>")
        return reply("302 Found", Location="http://169.254.169.254/latest/meta-data/")

    with site(clip, pages) as server:
        trouble = trouble_of(server.url("/film.html"), allow_private_addresses=False)
    assert trouble.status is Status.BLOCKED_ADDRESS and "169.254.169.254" in trouble.reason


@pytest.mark.usefixtures("only_here")
def test_a_redirect_of_the_media_is_checked_too(clip: bytes) -> None:
    def pages(request: Request) -> bytes:
        if request.path == "/film.mp4":
            return reply("302 Found", Location="http://192.168.0.1/clip.mp4")
        return page(body='<video src="/film.mp4"></video>')

    with site(clip, pages) as server:
        trouble = trouble_of(server.url("/film.html"), allow_private_addresses=False)
    assert trouble.status is Status.BLOCKED_ADDRESS and "192.168.0.1" in trouble.reason


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/clip.mp4", "rtmp://127.0.0.1/clip"])
def test_only_the_web_is_followed(clip: bytes, target: str) -> None:
    tags = f'<meta property="og:video" content="{target}">', f'<video src="{target}"></video>'
    with site(clip, lambda request: page(*tags)) as server:
        assert trouble_of(server.url("/film.html")).status in (Status.BLOCKED_ADDRESS, Status.HTML)


def test_the_time_holds_for_the_page_too(clip: bytes) -> None:
    def answer(request: Request) -> Iterator[bytes]:
        if request.number:
            yield from request.stall()
        yield page(body="<p>Loading</p>")

    with FaultServer(answer) as server:
        deadline = Deadline(1.0)
        with pytest.raises(VideoTrouble) as caught:
            open_video(server.url("/film.html"), limits=limits(timeout_s=1.0), deadline=deadline)
    assert caught.value.status is Status.TIMEOUT


def test_the_bytes_hold_for_the_page_too(clip: bytes) -> None:
    def pages(request: Request) -> bytes:
        return page(body="<p>Loading</p>" if request.number == 0 else "x" * 400_000)

    with site(clip, pages) as server:
        assert trouble_of(server.url("/film.html"), max_bytes=200_000).status is Status.TOO_LARGE


def test_endless_redirects_and_requests_end(clip: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def pages(request: Request) -> bytes:
        return page() if request.number == 0 else reply("302 Found", Location=f"/{request.number}.html")

    with site(clip, pages) as server:
        assert "redirects in a row" in trouble_of(server.url("/film.html")).reason
    monkeypatch.setattr(page_resolver, "MAX_REQUESTS", 2)
    with site(clip, pages) as server:
        assert "more than 2 requests" in trouble_of(server.url("/film.html")).reason


# --- what the code for a site may not do


def connect_in_a_thread() -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(socket.create_connection, (PUBLIC, 80), 0.1).result()


@pytest.mark.parametrize(
    "misdeed",
    [
        lambda folder: subprocess.run([sys.executable, "-c", ""], check=True),
        lambda folder: os.system("true"),
        lambda folder: socket.create_connection((PUBLIC, 80), timeout=0.1),
        lambda folder: connect_in_a_thread(),
        lambda folder: (folder / "cache.json").write_text("{}"),
        lambda folder: (folder / "cache").mkdir(),
        lambda folder: ctypes.CDLL(None),
    ],
    ids=["a program", "a shell", "a connection", "a connection of a thread", "a file", "a folder", "a library"],
)
def test_the_code_for_a_site_is_confined(
    clip: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, misdeed: Callable[[Path], object]
) -> None:
    def extract(self: object, url: str) -> None:
        misdeed(tmp_path)
        raise AssertionError("it was let")

    monkeypatch.setattr("yt_dlp.extractor.generic.GenericIE._real_extract", extract)
    with site(clip, lambda request: page()) as server:
        trouble = trouble_of(server.url("/film.html"))
    assert trouble.status is Status.UNREACHABLE and "is refused to the code that resolves web pages" in trouble.reason
    assert not list(tmp_path.iterdir())
    # Only there, and only then.
    (tmp_path / "mine.txt").write_text("anybody else may")


def test_the_code_for_a_site_may_ask_its_server_anything(clip: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a body, headers and cookies, through a redirect; its secrets stay with the server that they are for."""

    def extract(self: Any, url: str) -> dict[str, Any]:
        headers = {"Authorization": "Bearer secret", "Content-Type": "application/json"}
        told = self._download_json(f"{url}/api", "film", data=b'{"film": 1}', headers=headers)
        formats = [
            {"url": f"{url}/none.mp3", "vcodec": "none", "format_id": "sound"},
            {"url": f"{url}/large.mp4", "width": 1920, "height": 1080, "format_id": "large"},
            {"url": f"{url}{told['path']}", "width": 640, "height": 360, "format_id": "enough"},
            {"url": f"{url}/small.mp4", "width": 320, "height": 180, "format_id": "small"},
        ]
        return {"id": "film", "title": "A film", "formats": formats, "http_headers": {"Cookie": "stolen=1"}}

    def pages(request: Request) -> bytes:
        match request.path:
            case "/api":
                return reply("303 See Other", Location="/told.json", Set_Cookie="visit=1")
            case "/told.json":
                return reply("200 OK", b'{"path": "/clip.mp4?token=1"}', Content_Type="application/json")
        return page()

    monkeypatch.setattr("yt_dlp.extractor.generic.GenericIE._real_extract", extract)
    with site(clip, pages) as server:
        assert read_duration_s(server.url("")) == pytest.approx(3.0, abs=0.2)
        first, second, film = (
            next(request for request in server.requests if request.path == path)
            for path in ("/api", "/told.json", "/clip.mp4?token=1")
        )
    assert (first.headers["authorization"], first.headers["content-length"]) == ("Bearer secret", "11")
    assert second.headers["cookie"] == "visit=1"
    assert not {"authorization", "content-length"} & second.headers.keys()
    assert not {"authorization", "cookie"} & film.headers.keys()


def test_neither_configuration_nor_plugins_nor_a_cache_are_used(
    clip: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    plugins = tmp_path / "yt-dlp" / "plugins" / "mine" / "yt_dlp_plugins" / "extractor"
    plugins.mkdir(parents=True)
    (plugins / "evil.py").write_text("raise SystemExit('a plugin was loaded')")
    (tmp_path / "yt-dlp" / "config").write_text("--proxy http://127.0.0.1:9\n")
    before = sorted(tmp_path.rglob("*"))
    with site(clip, lambda request: page(body='<video src="/clip.mp4"></video>')) as server:
        found = page_resolver.resolve_page(
            server.url("/film.html"),
            limits=limits(),
            deadline=Deadline(20),
            fetched=Meter(limits(), what="fetched"),
        )
        assert found.url == server.url("/clip.mp4")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_missing_package_is_told_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    check_resolver(ExtractSettings(resolve_pages=True))
    monkeypatch.setitem(sys.modules, "yt_dlp", None)
    check_resolver(ExtractSettings())
    with pytest.raises(SettingError, match=r"pip install -r requirements-pages\.txt -c constraints\.txt"):
        check_resolver(ExtractSettings(resolve_pages=True))

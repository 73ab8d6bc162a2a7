"""The browser of the tests sees what is wrong with a page."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from browser import Visit, open_visit, violations
from playwright.sync_api import Browser

GOOD = """<!doctype html><html lang="en"><head><title>A page</title></head>
<body><main><h1>A page</h1><p>Words.</p>{}</main></body></html>"""


def write_page(folder: Path, extra: str = "") -> str:
    path = folder / "page.html"
    path.write_text(GOOD.format(extra), encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The address of a server of the folder, on this machine."""
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_a_sound_page_passes(visit: Visit, tmp_path: Path, served: str) -> None:
    for address in (write_page(tmp_path), f"{served}/page.html"):
        visit.page.goto(address)
        assert visit.page.title() == "A page"
        assert violations(visit.page) == []
    visit.check()


@pytest.mark.parametrize(
    ("extra", "complaint"),
    [
        ('<img alt="" src="http://192.0.2.1/a.png">', "another machine"),
        ('<img alt="" src="https://example.com/a.png">', "another machine"),
        ('<link rel="stylesheet" href="//localhost.example/a.css">', "another machine"),
        ("<script>new WebSocket('ws://192.0.2.1/')</script>", "another machine"),
        ("<script>fetch('http://192.0.2.1/')</script>", "another machine"),
        ("<script>console.error('oh no')</script>", "oh no"),
        ("<script>throw new Error('oh no')</script>", "oh no"),
        ("<script>Promise.reject(new Error('oh no'))</script>", "oh no"),
        ('<img alt="" src="missing.png">', "missing.png"),
    ],
)
def test_what_is_wrong_fails_the_visit(browser: Browser, tmp_path: Path, extra: str, complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint), open_visit(browser) as visit:
        visit.page.goto(write_page(tmp_path, extra))
        visit.page.wait_for_timeout(200)


def test_an_expected_error_passes(visit: Visit, tmp_path: Path) -> None:
    visit.expected.append("^oh no")
    visit.page.goto(write_page(tmp_path, "<script>console.error('oh no')</script>"))


def test_what_keeps_people_out_is_found(visit: Visit, tmp_path: Path) -> None:
    visit.page.goto(
        write_page(tmp_path, '<p style="color: #bbb">pale</p><img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=">')
    )
    assert {line.split(":")[0] for line in violations(visit.page)} == {
        "serious color-contrast",
        "critical image-alt",
    }

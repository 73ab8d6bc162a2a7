"""A real browser for the tests: Debian's chromium, which reaches nothing but this machine.

Every request to another machine is refused, by Playwright and by the resolver of the browser, and fails the test that
caused it; so do errors on the console and exceptions of scripts. The fixtures stand in `conftest.py`.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Route, WebSocketRoute, sync_playwright

# --no-sandbox: chromium refuses to start for root with it. The others keep it from calling its maker's hosts.
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
AXE_DIR = Path(__file__).parent / "axe"


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Chromium, headless; skips the test where there is none.

    While it is open an event loop runs in this thread, so that `asyncio.run` is refused.
    """
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    if executable is None:
        pytest.skip("needs chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Visit:
    """A page with what went wrong on it: `refused` requests to elsewhere, and `errors` of console and scripts.

    `expected` are patterns of errors that are no fault of ours.
    """

    page: Page
    refused: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)

    def check(self) -> None:
        """Fail on anything that went wrong."""
        errors = [text for text in self.errors if not any(re.search(pattern, text) for pattern in self.expected)]
        assert not self.refused, f"the page asked for something on another machine: {self.refused}"
        assert not errors, f"the page has errors: {errors}"


@contextmanager
def open_visit(browser: Browser, **options: Any) -> Iterator[Visit]:
    """A new page in a profile of its own; `options` are those of `Browser.new_context`. Checked at the end."""
    context = browser.new_context(service_workers="block", **options)
    visited = Visit(context.new_page())

    def route(asked: Route) -> None:
        if _is_here(asked.request.url):
            asked.continue_()
        else:
            visited.refused.append(asked.request.url)
            asked.abort()

    def route_socket(asked: WebSocketRoute) -> None:
        visited.refused.append(asked.url)
        asked.close()

    def hear(message: ConsoleMessage) -> None:
        if message.type == "error":
            visited.errors.append(f"{message.text} ({message.location.get('url', '')})")

    context.route("**/*", route)
    context.route_web_socket(lambda url: not _is_here(url), route_socket)
    context.on("console", hear)
    context.on("weberror", lambda error: visited.errors.append(str(error.error)))
    try:
        yield visited
        visited.check()
    finally:
        context.close()


def _is_here(url: str) -> bool:
    parts = urlsplit(url)
    if parts.hostname:
        return parts.hostname == "127.0.0.1"
    return parts.scheme in ("file", "data", "blob", "about")


def violations(page: Page) -> list[str]:
    """What axe-core finds serious or critical on a page, one line each; skips the test where it is not installed."""
    script = AXE_DIR / "node_modules" / "axe-core" / "axe.min.js"
    if not script.is_file():
        pytest.skip("needs axe-core: npm ci --prefix tests/axe")
    page.evaluate(script.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run()")["violations"]
    return [
        f"{violation['impact']} {violation['id']}: {violation['help']}: {node['html'][:200]}"
        for violation in found
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]

"""A real browser for the tests: Debian's chromium, which reaches nothing but this machine; and servers for it.

Every request to another machine is refused, by Playwright and by the resolver of the browser, and fails the test that
caused it; so do errors on the console and exceptions of scripts. The fixtures stand in `conftest.py`.
"""

from __future__ import annotations

import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Route, WebSocketRoute, expect, sync_playwright

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
TIMEOUT_MS = 90_000
"""For servers, and for what they compute."""
AXE_DIR = Path(__file__).resolve().parents[1] / "axe"


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Chromium, headless; skips the test where there is none.

    While it is open an event loop runs in this thread, so that `asyncio.run` is refused.
    """
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    if executable is None:
        pytest.skip("needs chromium")
    expect.set_options(timeout=TIMEOUT_MS)
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


def wait_until(holds: Callable[[], bool]) -> None:
    """Look again and again, and fail when it does not come to hold."""
    end_s = time.monotonic() + TIMEOUT_MS / 1000
    while not holds() and time.monotonic() < end_s:
        time.sleep(0.1)
    assert holds()


def find_free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


@contextmanager
def serving(*words: str, cwd: Path, environment: Mapping[str, str], says: str) -> Iterator[re.Match[str]]:
    """`python -m` these words, until it is ended; gives what it `says`, a pattern, when it is ready."""
    with (
        tempfile.NamedTemporaryFile("w+", suffix=".log") as log,
        subprocess.Popen(
            [sys.executable, "-m", *words], cwd=cwd, env=environment, stdout=log, stderr=subprocess.STDOUT
        ) as server,
    ):
        said = Path(log.name)
        try:
            wait_until(lambda: server.poll() is not None or re.search(says, said.read_text()) is not None)
            ready = re.search(says, said.read_text())
            assert ready is not None, said.read_text()
            yield ready
        finally:
            server.send_signal(signal.SIGTERM)
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()


@contextmanager
def jupyterlab(project: Path, environment: Mapping[str, str]) -> Iterator[Callable[[str], str]]:
    """JupyterLab over a folder, without the settings of the person who runs this; gives what makes a path of a file
    in it the address that opens it."""
    port, token = find_free_port(), secrets.token_hex(8)
    # Without the question for news, which would cover a part of the page.
    quiet = project / "jupyter" / "CONFIG" / "labconfig" / "page_config.json"
    quiet.parent.mkdir(parents=True)
    quiet.write_text('{"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": true}}')
    own = {f"JUPYTER_{kind}_DIR": str(project / "jupyter" / kind) for kind in ("CONFIG", "DATA", "RUNTIME")}
    options = [f"--ServerApp.port={port}", "--ServerApp.port_retries=0", "--ServerApp.ip=127.0.0.1", "--no-browser"]
    options += [f"--IdentityProvider.token={token}", "--allow-root"]
    with serving("jupyterlab", *options, cwd=project, environment={**environment, **own}, says="is running at"):
        yield lambda path: f"http://127.0.0.1:{port}/lab/tree/{path}?token={token}"


def run_all(page: Page) -> None:
    """Run all cells of the notebook that JupyterLab shows, as a person does."""
    # What is run before its kernel is there is not run.
    expect(page.get_by_role("button", name=re.compile("Idle$"))).to_be_visible(timeout=TIMEOUT_MS)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()

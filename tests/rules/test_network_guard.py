"""The guard that keeps tests on this machine: it refuses, it writes down, and it lets local traffic pass."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import loopback_only
import pytest

pytest_plugins = ["pytester"]

# A suite of its own, guarded by the very same conftest.py: what fails in it must not fail here.
GUARDED_TESTS = """
import asyncio, multiprocessing, os, socket, subprocess, sys
import pytest

BEYOND = "example.invalid"

def call_in_child(code):
    return subprocess.run([sys.executable, "-c", "import socket; " + code], capture_output=True, text=True)

def test_plain_attempt():
    socket.create_connection((BEYOND, 80), timeout=1)

@pytest.mark.parametrize("attempt", [
    lambda s: socket.getaddrinfo(BEYOND, 80),
    lambda s: socket.gethostbyname(BEYOND),
    lambda s: socket.gethostbyname_ex(BEYOND),
    lambda s: socket.gethostbyaddr("192.0.2.1"),
    lambda s: socket.getnameinfo(("192.0.2.1", 80), 0),
    lambda s: s.connect((BEYOND, 80)),
    lambda s: s.connect(("192.0.2.1", 80)),
    lambda s: s.connect_ex(("192.0.2.1", 80)),
    lambda s: s.connect(("0xC0000201", 80)),
    lambda s: s.sendto(b"", ("192.0.2.1", 53)),
    lambda s: s.sendto(b"", 0, (BEYOND, 53)),
    lambda s: s.sendmsg([b""], [], 0, ("192.0.2.1", 53)),
], ids=range(12))
def test_swallowed(attempt):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s, pytest.raises(Exception):
        attempt(s)

def test_swallowed_ipv6():
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as s, pytest.raises(Exception):
        s.connect(("2001:db8::1", 80))

def test_swallowed_in_child():
    assert "NetworkAccessError" in call_in_child(f"socket.getaddrinfo('{BEYOND}', 80)").stderr

def test_swallowed_in_spawned_worker():
    worker = multiprocessing.get_context("spawn").Process(target=socket.gethostbyname, args=(BEYOND,))
    worker.start()
    worker.join()
    assert worker.exitcode == 1

def test_swallowed_in_event_loop():
    async def attempt():
        with pytest.raises(Exception):
            await asyncio.open_connection(BEYOND, 80)
    asyncio.run(attempt())

def test_swallowed_by_grpc():
    import grpc
    with grpc.insecure_channel(f"{BEYOND}:19530") as channel, pytest.raises(grpc.RpcError):
        channel.unary_unary("/a/b")(b"", timeout=20)

def test_local_passes():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        for host in ("127.0.0.1", "localhost", "127.1"):
            socket.create_connection((host, port), timeout=5).close()
        assert call_in_child(f"socket.create_connection(('127.0.0.1', {port})).close()").returncode == 0
    assert socket.getaddrinfo("192.0.2.1", 80)
    left, right = socket.socketpair()
    left.close(), right.close()
"""
SWALLOWED = 17


def test_attempts_fail_their_test_even_when_swallowed(pytester: pytest.Pytester) -> None:
    here = Path(__file__).resolve().parents[1]
    shutil.copy(here / "conftest.py", pytester.path)
    shutil.copytree(
        here / "network_guard", pytester.path / "network_guard", ignore=shutil.ignore_patterns("__pycache__")
    )
    pytester.makeini("[pytest]\npythonpath = network_guard")
    pytester.makepyfile(GUARDED_TESTS)

    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", timeout=120)

    # A swallowed attempt passes as a test and then fails at its teardown; the plain one does both.
    result.assert_outcomes(passed=SWALLOWED + 1, failed=1, errors=SWALLOWED + 1)
    result.stdout.no_fnmatch_line("ERROR*test_local_passes*")
    result.stdout.fnmatch_lines(["*grpc example.invalid:19530*"])


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.255.0.9", "127.1", "::1", "::ffff:127.0.0.1", ""])
def test_loopback_is_recognised(host: str) -> None:
    assert loopback_only.is_loopback(host)


@pytest.mark.parametrize(
    "host", ["example.com", "localhost.example.com", "10.0.0.1", "0.0.0.0", "::", "::ffff:10.0.0.1", "128.0.0.1"]
)
def test_other_machines_are_not_loopback(host: str) -> None:
    assert not loopback_only.is_loopback(host)


def test_this_suite_is_guarded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Shown on a log of its own, or this test would fail at its teardown."""
    log_path = tmp_path / "attempts.log"
    monkeypatch.setenv(loopback_only.LOG_VARIABLE, str(log_path))
    with pytest.raises(loopback_only.NetworkAccessError, match=r"example\.invalid"):
        socket.getaddrinfo("example.invalid", 80)
    assert "example.invalid" in log_path.read_text(encoding="utf-8")

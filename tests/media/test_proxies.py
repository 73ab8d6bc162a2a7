"""A machine whose environment names a proxy, as most in companies do: what is on this machine is reached without it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_server import FaultServer, always, reply

from dedup_lib.errors import StoreError
from dedup_lib.run.paths import find_project_root
from dedup_lib.store.address import StoreAddress
from dedup_lib.store.client import Client
from dedup_lib.store.store import Store

NAMES = ("grpc_proxy", "http_proxy", "https_proxy", "all_proxy")


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@pytest.fixture
def proxied(closed_port: int) -> dict[str, str]:
    """The environment of a child process: every variable that may name a proxy names one that is away, and none says
    what goes without it."""
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    proxy = f"http://127.0.0.1:{closed_port}"
    return kept | dict.fromkeys(NAMES, proxy) | dict.fromkeys(map(str.upper, NAMES), proxy)


STORE_AND_READ = """
import sys
from pathlib import Path
from pymilvus import MilvusClient
from dedup_lib.store.store import Store
from dedup_lib.store.address import StoreAddress

with Store(StoreAddress(uri=sys.argv[1])) as local:
    version = local.ping()
    assert local.list_collections() == []
    from milvus_lite.server_manager import server_manager_instance

    uri = server_manager_instance.start_and_get_uri(sys.argv[1])
    for host in ("127.0.0.1", "localhost"):
        with Store(StoreAddress(uri=uri.replace("127.0.0.1", host))) as server:
            assert server.ping() == version
print("reached", version)
"""


def test_a_store_on_this_machine_is_reached_past_every_proxy(tmp_path: Path, proxied: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STORE_AND_READ, str(tmp_path / "milvus.db")],
        cwd=find_project_root(),
        env=proxied,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("reached milvus")


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(Client, "connect_timeout_s", 1.0)
    yield


@pytest.mark.usefixtures("patience")
def test_a_store_elsewhere_is_reached_through_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultServer(always(reply("403 Forbidden"))) as proxy:
        monkeypatch.setenv("grpc_proxy", proxy.url(""))
        with pytest.raises(StoreError, match="does not answer"):
            Store(StoreAddress(uri="http://milvus.invalid:19530"))
        assert {request.path for request in proxy.requests} == {"milvus.invalid:19530"}


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("/runs/ads/milvus.db", True),
        ("http://127.0.0.1:19530", True),
        ("http://127.8.0.1:19530", True),
        ("http://LOCALHOST:19530", True),
        ("https://milvus.localhost.:19530", True),
        ("http://[::1]:19530", True),
        ("http://[::ffff:127.0.0.1]:19530", True),
        ("http://0.0.0.0:19530", True),
        ("http://root:secret@localhost:19530", True),
        ("http://localhost.example.com:19530", False),
        ("http://10.0.0.1:19530", False),
        ("http://milvus:19530", False),
        ("https://in03.serverless.zillizcloud.com", False),
    ],
)
def test_what_is_on_this_machine(uri: str, expected: bool) -> None:
    assert StoreAddress(uri=uri).is_on_this_machine is expected

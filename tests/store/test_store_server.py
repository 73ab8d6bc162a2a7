"""A server in trouble: what is said, how soon, and that the same call goes on once the trouble is over."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import psutil
import pytest
from milvus_for_tests import TOKEN, MilvusServer
from pymilvus import DataType, MilvusClient
from pymilvus.client.types import LoadState
from stored import DIMENSION, RECIPE, unit_rows, video

from dedup_lib.errors import StoreError
from dedup_lib.records import Pooling
from dedup_lib.store.address import StoreAddress
from dedup_lib.store.client import Client
from dedup_lib.store.collection import Collection
from dedup_lib.store.store import Store

AT_MOST_S = 20
"""Far above the timeouts that the tests set, and far below those that hold outside."""

_numbers = count()


@pytest.fixture
def store(milvus_server: MilvusServer) -> Iterator[Store]:
    with Store(milvus_server.address) as opened:
        yield opened


@pytest.fixture
def collection(store: Store) -> Iterator[Collection]:
    made = store.create_collection(f"s{next(_numbers)}", pooling=Pooling.FIRST, recipe=RECIPE, dimension=DIMENSION)
    yield made
    store.drop_collection(made.facts.name)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Client, "connect_timeout_s", 1.0)
    monkeypatch.setattr(Client, "timeout_s", 1.0)


def check_said_soon(call: Callable[[], object], said: str) -> str:
    began = time.monotonic()
    with pytest.raises(StoreError, match=said) as caught:
        call()
    assert time.monotonic() - began < AT_MOST_S
    return str(caught.value)


NO_ANSWER = "does not answer. Check MILVUS_URI, and that the server is running and can be reached"


def test_other_machines_do_not_reach_it(milvus_server: MilvusServer) -> None:
    door, server = milvus_server.processes
    listening = [c.laddr for c in door.net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert [(address.ip, address.port) for address in listening] == [("127.0.0.1", milvus_server.port)]
    own = Path("/proc/self/ns/net").readlink()
    assert Path(f"/proc/{server.pid}/ns/net").readlink() != own


@pytest.mark.parametrize("token", ["", "root:wr0ng", "nobody:Milvus"])
def test_a_token_that_is_refused(milvus_server: MilvusServer, token: str) -> None:
    address = replace(milvus_server.address, token=token)
    said = check_said_soon(lambda: Store(address).list_collections(), "refuses the token. Check MILVUS_TOKEN")
    assert "wr0ng" not in said


def test_a_user_without_rights(milvus_server: MilvusServer, store: Store, collection: Collection) -> None:
    root = MilvusClient(milvus_server.address.uri, token=TOKEN)
    root.create_user("reader", "Secret123")
    try:
        with Store(replace(milvus_server.address, token="reader:Secret123")) as other:
            check_said_soon(lambda: other.drop_collection(collection.facts.name), "does not allow this user to do that")
    finally:
        root.drop_user("reader")
        root.close()
    assert store.has_collection(collection.facts.name)


@pytest.mark.usefixtures("impatient")
def test_a_port_that_takes_connections_and_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = StoreAddress(uri=f"http://127.0.0.1:{silent.getsockname()[1]}")
        check_said_soon(lambda: Store(address), NO_ANSWER)


@pytest.mark.usefixtures("impatient")
def test_a_server_that_hangs(milvus_server: MilvusServer, store: Store, collection: Collection) -> None:
    collection.upsert([video("a")])
    for call in (
        lambda: collection.upsert([video("b")]),
        lambda: collection.load_vectors(["a"]),
        lambda: collection.search(unit_rows(1), 1),
        lambda: list(collection.stream_rows()),
        lambda: collection.ensure_index("HNSW", {"M": 8, "efConstruction": 64}),
        store.list_collections,
        store.ping,
    ):
        # For each by itself: after ten seconds (COMMON_SESSION_TTL) the server would end.
        milvus_server.freeze()
        try:
            check_said_soon(call, NO_ANSWER)
        finally:
            milvus_server.thaw()
        store.ping()
    assert collection.load_vectors(["a"]).keys() == {"a"}


def test_a_server_that_dies_and_comes_back(milvus_server: MilvusServer, store: Store, collection: Collection) -> None:
    name = collection.facts.name
    videos = [video(f"v{n}", seed=n) for n in range(500)]
    collection.upsert(videos[:300])
    milvus_server.kill()
    try:
        for call in (
            lambda: collection.upsert(videos[300:]),
            lambda: collection.load_vectors(["v1"]),
            lambda: collection.search(unit_rows(1), 1),
            lambda: list(collection.stream_rows()),
            lambda: store.has_collection(name),
            store.list_collections,
        ):
            check_said_soon(call, NO_ANSWER)
    finally:
        milvus_server.start()
    # The same connection and collection go on.
    collection.upsert(videos)
    assert sorted(collection.load_vectors([v.url for v in videos])) == sorted(v.url for v in videos)
    assert len(collection.search(unit_rows(1), 500)[0]) == 500
    with Store(milvus_server.address) as again:
        assert again.open_collection(name).facts.rows == 500


def test_a_collection_that_a_killed_process_left_without_an_index(milvus_server: MilvusServer, store: Store) -> None:
    made = store.create_collection("bare", pooling=Pooling.FIRST, recipe=RECIPE, dimension=DIMENSION)
    made.upsert([video("a")])
    store._client.milvus.release_collection("bare")
    store._client.milvus.drop_index("bare", "vector")
    held = store.open_collection("bare")
    assert held.facts.rows == 1
    assert len(held.search(unit_rows(1), 5)[0]) == 1
    store.drop_collection("bare")


def test_a_collection_of_another_program_is_listed_and_left_as_it_is(milvus_server: MilvusServer, store: Store) -> None:
    client = store._client.milvus
    schema = client.create_schema(auto_id=True)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIMENSION)
    client.create_collection("foreign", schema=schema)
    client.insert("foreign", [{"vector": row.tolist()} for row in unit_rows(3)])
    client.flush("foreign")
    (facts,) = [one for one in store.list_collections() if one.name == "foreign"]
    assert (facts.rows, facts.dimension, facts.recipe) == (3, DIMENSION, None)
    assert client.list_indexes("foreign") == []
    assert client.get_load_state("foreign")["state"] == LoadState.NotLoad
    store.drop_collection("foreign")

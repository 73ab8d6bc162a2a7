"""One connection to a store: loads collections, explains what Milvus raises."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from dedup_lib.errors import StoreError
from dedup_lib.records import Pooling, Recipe, Schema
from dedup_lib.store.address import StoreAddress
from dedup_lib.store.troubles import explain_trouble, raise_what_lite_logs

T = TypeVar("T")

_WITHOUT_PROXY: Mapping[str, int] = {"grpc.enable_http_proxy": 0}
"""For a channel that heeds no grpc_proxy, https_proxy and http_proxy: to a proxy, the name of this machine means the
proxy's own, and many environments name a proxy and no exception."""

LOAD_TIMEOUT_S = 900.0
"""For a large collection, or a server that comes up again."""

_LOAD_POLL_S = 0.05

_NOT_LOADED = 101
"""Code of the error for a collection that is not in the store's memory, as after a restart of the server."""

_LITE_MEMORY_BYTES = 32 * 1024**2
"""Of new rows that Milvus Lite holds before it writes them to a file. Writing takes many times as much: 80,000 rows in
one go 1.4 GB, by 32 MiB 0.7 GB."""

NLIST = 128

RECIPE = "dedup.recipe"

POOLING = "dedup.pooling"


@dataclass(frozen=True, kw_only=True)
class CollectionFacts:
    """What a collection is: name, rows, and, where this project made it, its pooling and recipe."""

    name: str
    rows: int
    dimension: int
    pooling: Pooling | None
    recipe: Recipe | None

    @property
    def schema(self) -> Schema | None:
        """What a row stands for, None for a collection of unknown origin."""
        return self.pooling.schema if self.pooling else None


class Client:
    """One connection to a store: what Milvus raises is explained, and a collection is in memory before it is read."""

    connect_timeout_s = 30.0
    timeout_s = 120.0
    """Bounds every other call: without it some never return while the server is away."""

    def __init__(self, address: StoreAddress) -> None:
        self.address = address
        # Read when it is imported.
        os.environ.setdefault("MILVUS_LITE_MEMTABLE_MEMORY_LIMIT_BYTES", str(_LITE_MEMORY_BYTES))
        # pymilvus reads MILVUS_URI when it is imported, and takes half a second for it.
        from pymilvus import MilvusClient

        # Both log a traceback for every error, which is raised as well.
        for library in ("pymilvus", "milvus_lite"):
            logging.getLogger(library).setLevel(logging.CRITICAL)
        with self.explained("connect"), raise_what_lite_logs():
            self.milvus = MilvusClient(
                uri=address.uri,
                token=address.token,
                timeout=self.connect_timeout_s,
                grpc_options=_WITHOUT_PROXY if address.is_on_this_machine else {},
            )
        self._opened = self._identify()

    def close(self) -> None:
        was_removed = self._was_removed()
        self.milvus.close()
        if self.address.is_local:
            from milvus_lite.server_manager import server_manager_instance

            server_manager_instance.release_server(self.address.uri)
        if was_removed and self._identify() != self._opened:
            # What was in memory has been written to where the store was, and no run could open so little of one.
            shutil.rmtree(self.address.uri, ignore_errors=True)

    def _identify(self) -> tuple[int, int] | None:
        """Which folder a Milvus Lite store is, None where there is none, and for a server."""
        try:
            facts = Path(self.address.uri).stat() if self.address.is_local else None
        except OSError:
            return None
        return (facts.st_dev, facts.st_ino) if facts is not None else None

    def _was_removed(self) -> bool:
        try:
            Path(self.address.uri).stat()
        except FileNotFoundError:
            return self._opened is not None
        except OSError:
            pass
        return False

    def check_place(self) -> None:
        """Raises StoreError when a Milvus Lite store was removed or replaced after it was opened: it takes rows all the
        same, and they are lost."""
        if self._identify() != self._opened:
            raise StoreError(
                f"{self.address} was removed or replaced while it was open: put it back, or start again without it; "
                "the videos whose vectors it held are then read again"
            )

    @contextlib.contextmanager
    def explained(self, action: str) -> Iterator[None]:
        """Turn what Milvus and its transport raise into a StoreError that says what to do."""
        import grpc
        from pymilvus.exceptions import MilvusException

        try:
            yield
        except (MilvusException, grpc.RpcError, ValueError, OSError) as error:
            raise StoreError(explain_trouble(self.address, action, error)) from None

    def describe_index(self, name: str) -> Mapping[str, Any]:
        """Its kind as `index_type`, and its parameters; empty where there is none."""
        held: dict[str, Any] = self.milvus.describe_index(name, "vector", timeout=self.timeout_s) or {}
        return held | (held.get("params") or {})

    def drop_index(self, name: str) -> None:
        """Leave a collection without an index, out of the store's memory."""
        self.milvus.release_collection(name, timeout=self.timeout_s)
        if self.milvus.list_indexes(name, timeout=self.timeout_s):
            self.milvus.drop_index(name, "vector", timeout=self.timeout_s)

    def add_index(self, name: str) -> None:
        """Index the vectors of a new collection where the store needs it for a search.

        Milvus Lite compares every vector as fast without, and trains an index anew on each small file of rows, too few
        of them for its lists.
        """
        if self.address.is_local:
            return
        index = self.milvus.prepare_index_params()
        index.add_index("vector", index_type="IVF_FLAT", metric_type="IP", params={"nlist": NLIST})
        # An empty collection has nothing to wait for.
        self.milvus.create_index(name, index, sync=False, timeout=self.timeout_s)

    def load(self, name: str) -> None:
        """Have a collection in the store's memory, which reading needs; waits while a server comes up again."""
        from pymilvus.exceptions import MilvusException

        try:
            self._ask_to_load(name)
        except MilvusException:
            indexes = self.milvus.list_indexes(name, timeout=self.timeout_s)
            if self.address.is_local and indexes:
                # A process that is killed while it writes an index leaves half a file. The rows are elsewhere.
                self.drop_index(name)
            elif not self.address.is_local and not indexes:
                # A process that was killed right after it had created the collection leaves it without.
                self.add_index(name)
            else:
                raise
            self._ask_to_load(name)

    def _ask_to_load(self, name: str) -> None:
        from pymilvus.client.types import LoadState

        # By itself, pymilvus would wait as long for each single answer as for the whole.
        self.milvus.load_collection(name, timeout=self.timeout_s, _async=True)
        deadline = time.monotonic() + LOAD_TIMEOUT_S
        while self.milvus.get_load_state(name, timeout=self.timeout_s)["state"] != LoadState.Loaded:
            if time.monotonic() > deadline:
                raise StoreError(
                    f"{self.address} has not loaded the collection {name!r} within {LOAD_TIMEOUT_S / 60:.0f} minutes: "
                    "check that the server has enough memory, then start again"
                )
            time.sleep(_LOAD_POLL_S)

    def when_loaded(self, name: str, call: Callable[[], T]) -> T:
        """Read from a collection, which a server that was started anew since has first to load."""
        from pymilvus.exceptions import MilvusException

        try:
            return call()
        except MilvusException as error:
            if error.code != _NOT_LOADED:
                raise
            self.load(name)
            return call()

    def describe(self, name: str) -> Mapping[str, Any]:
        described: Mapping[str, Any] = self.milvus.describe_collection(name, timeout=self.timeout_s)
        return described

    def find_facts(self, name: str) -> CollectionFacts:
        described = self.describe(name)
        properties = described.get("properties") or {}
        recipe, pooling = properties.get(RECIPE), properties.get(POOLING)
        return CollectionFacts(
            name=name,
            rows=self.count_rows(name),
            dimension=next((int(f["params"]["dim"]) for f in described["fields"] if "dim" in f["params"]), 0),
            pooling=Pooling(pooling) if pooling else None,
            recipe=Recipe.from_json(recipe) if recipe else None,
        )

    def count_rows(self, name: str) -> int:
        # Its own statistics would count rows that an upsert has replaced.
        self.load(name)
        counted = self.milvus.query(
            name, filter="", output_fields=["count(*)"], consistency_level="Strong", timeout=self.timeout_s
        )
        return int(counted[0]["count(*)"])

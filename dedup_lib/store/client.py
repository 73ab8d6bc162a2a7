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
from dedup_lib.settings import NLIST
from dedup_lib.store.address import StoreAddress
from dedup_lib.store.troubles import explain_trouble, raise_what_lite_logs

T = TypeVar("T")

_WITHOUT_PROXY: Mapping[str, int] = {"grpc.enable_http_proxy": 0}
"""Options for a channel that ignores grpc_proxy, https_proxy and http_proxy. A proxy would take the name of this
machine for its own, and many environments name a proxy without an exception for this machine."""

LOAD_TIMEOUT_S = 900.0
"""Seconds to load a collection; large collections and restarting servers take long."""

_LOAD_POLL_S = 0.05

_NOT_LOADED = 101
"""Error code for a collection that is not in the store's memory, for example after a restart of the server."""

_LITE_MEMORY_BYTES = 16 * 1024**2
"""Bytes of new rows that Milvus Lite keeps in memory before it writes them to a file. Writing takes many times as much
memory: 1.4 GB for 80,000 rows at once, 0.9 GB for the same rows by 16 MiB."""

RECIPE = "dedup.recipe"

POOLING = "dedup.pooling"


@dataclass(frozen=True, kw_only=True)
class CollectionFacts:
    """Facts about a collection: name, number of rows, dimension, and, when this project made it, pooling and recipe."""

    name: str
    rows: int
    dimension: int
    pooling: Pooling | None
    recipe: Recipe | None

    @property
    def schema(self) -> Schema | None:
        """What a row stands for; None for a collection of unknown origin."""
        return self.pooling.schema if self.pooling else None


class Client:
    """One connection to a store. It explains the errors of Milvus, and loads a collection before it is read."""

    connect_timeout_s = 30.0
    timeout_s = 120.0
    """Timeout in seconds of every call but connecting; without it, some calls never return when the server is down."""

    def __init__(self, address: StoreAddress) -> None:
        self.address = address
        # milvus_lite reads this when it is imported.
        os.environ.setdefault("MILVUS_LITE_MEMTABLE_MEMORY_LIMIT_BYTES", str(_LITE_MEMORY_BYTES))
        # Imported here, because the import takes half a second and reads MILVUS_URI.
        from pymilvus import MilvusClient

        # Both libraries raise every error, so their log of its traceback is not needed.
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
            # Closing wrote the rows in memory to the old place. No run can open such an incomplete store.
            shutil.rmtree(self.address.uri, ignore_errors=True)

    def _identify(self) -> tuple[int, int] | None:
        """Device and inode of the folder of a Milvus Lite store; None when there is no folder, and for a server."""
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
        """Raises StoreError when a Milvus Lite store was removed or replaced after it was opened. Such a store still
        accepts rows, but they are lost."""
        if self._identify() != self._opened:
            raise StoreError(
                f"{self.address} was removed or replaced while it was open: put it back, or start again without it; "
                "the videos whose vectors it held are then read again"
            )

    @contextlib.contextmanager
    def explained(self, action: str) -> Iterator[None]:
        """Turns the errors of Milvus and of its transport into a StoreError that says what to do."""
        import grpc
        from pymilvus.exceptions import MilvusException

        try:
            yield
        except (MilvusException, grpc.RpcError, ValueError, OSError) as error:
            raise StoreError(explain_trouble(self.address, action, error)) from None

    def describe_index(self, name: str) -> Mapping[str, Any]:
        """The index of a collection: its kind as `index_type`, and its parameters; empty when there is no index."""
        held: dict[str, Any] = self.milvus.describe_index(name, "vector", timeout=self.timeout_s) or {}
        return held | (held.get("params") or {})

    def drop_index(self, name: str) -> None:
        """Releases a collection from the store's memory and drops its index."""
        self.milvus.release_collection(name, timeout=self.timeout_s)
        if self.milvus.list_indexes(name, timeout=self.timeout_s):
            self.milvus.drop_index(name, "vector", timeout=self.timeout_s)

    def add_index(self, name: str) -> None:
        """Indexes the vectors of a new collection, when the store needs an index to search.

        Milvus Lite needs none: it compares every vector as fast without. It would also train an index for each small
        file of rows, with too few rows for the lists of the index.
        """
        if self.address.is_local:
            return
        index = self.milvus.prepare_index_params()
        index.add_index("vector", index_type="IVF_FLAT", metric_type="IP", params={"nlist": NLIST})
        # The collection is empty, so there is nothing to wait for.
        self.milvus.create_index(name, index, sync=False, timeout=self.timeout_s)

    def load(self, name: str) -> None:
        """Loads a collection into the store's memory, so that it can be read; waits while a server restarts."""
        from pymilvus.exceptions import MilvusException

        try:
            self._ask_to_load(name)
        except MilvusException:
            indexes = self.milvus.list_indexes(name, timeout=self.timeout_s)
            if self.address.is_local and indexes:
                # A process killed while writing an index leaves half a file. The rows are in other files.
                self.drop_index(name)
            elif not self.address.is_local and not indexes:
                # A process killed right after it created the collection leaves it without an index.
                self.add_index(name)
            else:
                raise
            self._ask_to_load(name)

    def _ask_to_load(self, name: str) -> None:
        from pymilvus.client.types import LoadState

        # When pymilvus waits itself, it uses one timeout for every single answer and for the whole wait.
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
        """Calls `call`, which reads from a collection; loads the collection first when a restarted server lost it."""
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
            # Counting would load, and perhaps index, what belongs to another program.
            rows=self.count_rows(name) if recipe else self._estimate_rows(name),
            dimension=next((int(f["params"]["dim"]) for f in described["fields"] if "dim" in f["params"]), 0),
            pooling=Pooling(pooling) if pooling else None,
            recipe=Recipe.from_json(recipe) if recipe else None,
        )

    def _estimate_rows(self, name: str) -> int:
        return int(self.milvus.get_collection_stats(name, timeout=self.timeout_s)["row_count"])

    def count_rows(self, name: str) -> int:
        # The store's own statistics also count rows that an upsert has replaced.
        self.load(name)
        counted = self.milvus.query(
            name, filter="", output_fields=["count(*)"], consistency_level="Strong", timeout=self.timeout_s
        )
        return int(counted[0]["count(*)"])

"""Vectors in Milvus: a local file (Milvus Lite) by default, a server or Zilliz Cloud by `MILVUS_URI`, same code.

Every collection has the same fields; its schema says what a row stands for (see `records.Schema`). Its properties carry
the recipe of its vectors, and vectors of another recipe are refused. docs/store.md explains the fields and properties.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import functools
import ipaddress
import itertools
import logging
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import numpy as np
from dotenv import dotenv_values

from dedup_lib.errors import SettingError, StoreError
from dedup_lib.features.vectors import is_unit, stack_rows
from dedup_lib.records import MAX_URL_BYTES, Hit, Pooling, Recipe, Schema, StoredRows, Vectors, VideoVectors, video_key
from dedup_lib.run.folder import RunFolder, find_run
from dedup_lib.run.paths import find_project_root
from dedup_lib.settings import StoreChoice

T = TypeVar("T")

UPSERT_ROWS = 1000
READ_ROWS = 1000
LARGEST_TOP_K = 16_384
"""Milvus gives no more neighbours than this for one vector, and takes no more vectors in one search."""

_READ_BYTES = 60_000_000
"""Most that one answer may hold: a server sends no message above 64 MiB."""

_KEYS_A_PAGE = 16_384
"""Most rows that a server gives for one query without keys."""

_HITS_A_CALL = 20_000
"""Vectors times neighbours in one search: Milvus Lite takes gigabytes for more."""

_WRITE_BYTES = 30_000_000
"""Most of one message to the store, beyond a row: a server takes none above 64 MiB."""

_CONNECT_TIMEOUT_S = 30.0
_TIMEOUT_S = 120.0
"""Bounds every other call: without it some never return while the server is away."""

_WITHOUT_PROXY: Mapping[str, int] = {"grpc.enable_http_proxy": 0}
"""For a channel that heeds no grpc_proxy, https_proxy and http_proxy: to a proxy, the name of this machine means the
proxy's own, and many environments name a proxy and no exception."""

_LOAD_TIMEOUT_S = 900.0
"""For a large collection, or a server that comes up again."""

_LOAD_POLL_S = 0.05

_NOT_LOADED = 101
"""Code of the error for a collection that is not in the store's memory, as after a restart of the server."""

_INDEX_STALL_S = 900.0
"""An index that takes in no row for so long will not be finished."""

_INDEX_POLL_S = 0.5

_SIGNS_OF_ABSENCE = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "illegal connection params", "Timeout", "timeout")
"""In what the transport says of a server that does not answer, or not in time."""

_LITE_MEMORY_BYTES = 32 * 1024**2
"""Of new rows that Milvus Lite holds before it writes them to a file. Writing takes many times as much: 80,000 rows in
one go 1.4 GB, by 32 MiB 0.7 GB."""

_NLIST = 128
_ALL_LISTS: Mapping[str, int] = {"nprobe": _NLIST}

_terminal = threading.Lock()
"""Held by the one thread that keeps others from writing to it."""

_FIELDS = ("id", "video", "url", "position", "vector")
_RECIPE = "dedup.recipe"
_POOLING = "dedup.pooling"


@dataclass(frozen=True, kw_only=True)
class StoreAddress:
    """Where the store is. `token` never appears in a text form of this record."""

    uri: str
    token: str = ""

    @classmethod
    def find(cls, run: RunFolder) -> StoreAddress:
        """The server named by `MILVUS_URI` and `MILVUS_TOKEN`, in the environment or in a `.env` file at the
        project root, else the Milvus Lite file of the run folder.

        Raises StoreError when the URI is no http(s) address, or `.env` is no text.
        """
        return cls.find_server(run.path) or cls(uri=str(run.lite_path))

    @classmethod
    def choose(cls, choice: StoreChoice, run: RunFolder) -> StoreAddress:
        """The store of a run by its parameter `store`. Raises SettingError where that asks for a server and none is
        named, and as `find` does."""
        address = cls.find(run)
        if choice == "server" and address.is_local:
            raise SettingError(
                "store",
                choice,
                "MILVUS_URI names no server. Copy .env.example to .env and write the line MILVUS_URI=http://host:19530 "
                "(of Zilliz Cloud, the https address of the cluster) into it, and MILVUS_TOKEN below; or set "
                "store: auto, which puts the vectors into a file in the run folder",
            )
        return address

    @classmethod
    def find_server(cls, path: Path) -> StoreAddress | None:
        """The server that `MILVUS_URI` and `MILVUS_TOKEN` name for the project that holds this path, if any."""
        env_path = find_project_root(path) / ".env"
        try:
            named = {**dotenv_values(env_path), **os.environ}
        except UnicodeDecodeError:
            raise StoreError(f"{env_path} is not valid UTF-8: save it as plain text in UTF-8") from None
        uri = (named.get("MILVUS_URI") or "").strip()
        if not uri:
            return None
        # The URI may hold a password: the error does not repeat it.
        if not _is_server_address(uri):
            raise StoreError(
                "MILVUS_URI is not the http:// or https:// address of a Milvus server or of Zilliz Cloud (it is not "
                "shown, for it may hold a password): correct it, or leave it empty for a Milvus Lite file in the run "
                "folder"
            )
        return cls(uri=uri, token=(named.get("MILVUS_TOKEN") or "").strip())

    @classmethod
    def parse(cls, text: str) -> StoreAddress:
        """The store that a person names: `server` for the one of `MILVUS_URI`, else the path of a Milvus Lite file, or
        the name of a run in outputs/ or the path of its folder, whose file is meant. No file is made.

        Raises StoreError where `MILVUS_URI` names none, or the name is no store.
        """
        if text == "server":
            server = cls.find_server(Path.cwd())
            if server is None:
                raise StoreError(
                    "server means the store that MILVUS_URI names, and MILVUS_URI is empty: set it in .env or in the "
                    "environment"
                )
            return server
        if text.endswith(".db"):
            return cls(uri=str(Path(text).absolute()))
        if (run := find_run(text)) is not None:
            return cls(uri=str(run.lite_path))
        raise StoreError(
            f"{text!r} is not a store: give the name of a run in outputs/, the path of a Milvus Lite file (….db), or "
            "server"
        )

    @property
    def is_local(self) -> bool:
        return "://" not in self.uri

    @property
    def is_on_this_machine(self) -> bool:
        """Whether it is a Milvus Lite file, or a server at an address that never leaves this machine."""
        host = "localhost" if self.is_local else (urlsplit(self.uri).hostname or "").removesuffix(".")
        if host == "localhost" or host.endswith(".localhost"):
            return True
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        inner = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return (inner or address).is_loopback or (inner or address).is_unspecified

    def __str__(self) -> str:
        """The address as it may be shown: without user, password and token."""
        if self.is_local:
            return f"Milvus Lite, {Path(self.uri).name}"
        parts = urlsplit(self.uri)
        return f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")

    def __repr__(self) -> str:
        return f"StoreAddress({str(self)!r})"


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


def missing_collection(name: str, address: StoreAddress) -> StoreError:
    """The error for a collection that is not in this store."""
    return StoreError(
        f"there is no collection {name!r} in {address}: fill it first (03_extract with mode: direct, or 05_upload), or "
        "set collection to one that exists"
    )


def _is_server_address(uri: str) -> bool:
    try:
        parts = urlsplit(uri)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


class Store:
    """One connection. Use as a context manager: Milvus Lite keeps its file locked until it is closed."""

    def __init__(self, address: StoreAddress) -> None:
        self.address = address
        # Read when it is imported.
        os.environ.setdefault("MILVUS_LITE_MEMTABLE_MEMORY_LIMIT_BYTES", str(_LITE_MEMORY_BYTES))
        # pymilvus reads MILVUS_URI when it is imported, and takes half a second for it.
        from pymilvus import MilvusClient

        # Both log a traceback for every error, which is raised as well.
        for library in ("pymilvus", "milvus_lite"):
            logging.getLogger(library).setLevel(logging.CRITICAL)
        with self._explained("connect"), _raising_what_lite_logs():
            self._client = MilvusClient(
                uri=address.uri,
                token=address.token,
                timeout=_CONNECT_TIMEOUT_S,
                grpc_options=_WITHOUT_PROXY if address.is_on_this_machine else {},
            )
        self._opened = self._identify()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        was_removed = self._was_removed()
        self._client.close()
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
    def _explained(self, action: str) -> Iterator[None]:
        """Turn what Milvus and its transport raise into a StoreError that says what to do."""
        import grpc
        from pymilvus.exceptions import MilvusException

        try:
            yield
        except (MilvusException, grpc.RpcError, ValueError, OSError) as error:
            raise StoreError(_explain(self.address, action, error)) from None

    def ping(self) -> str:
        """Version of the server, which proves that it answers. Raises StoreError when it does not."""
        with self._explained("ping"):
            return str(self._client.get_server_version(timeout=_CONNECT_TIMEOUT_S))

    def list_collections(self) -> list[CollectionFacts]:
        """Every collection, by name."""
        with self._explained("list collections"):
            return [self._facts(name) for name in sorted(self._client.list_collections(timeout=_TIMEOUT_S))]

    def sample_rows(self, name: str, *, count: int = 3) -> list[dict[str, Any]]:
        """A few rows of a collection, without their vectors."""
        with self._explained(f"read {name}"):
            self._load(name)
            fields = [f["name"] for f in self._describe(name)["fields"] if f["name"] != "vector"]
            return list(self._client.query(name, filter="", limit=count, output_fields=fields, timeout=_TIMEOUT_S))

    def has_collection(self, name: str) -> bool:
        with self._explained(f"look for {name}"):
            return bool(self._client.has_collection(name, timeout=_TIMEOUT_S))

    def create_collection(self, name: str, *, pooling: Pooling, recipe: Recipe, dimension: int) -> Collection:
        """A new, empty collection. Raises StoreError when the name is taken or no good."""
        from pymilvus import DataType

        self._check_new_name(name)
        with self._explained(f"create {name}"):
            fields = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
            fields.add_field("id", DataType.VARCHAR, is_primary=True, max_length=64)
            fields.add_field("video", DataType.VARCHAR, max_length=32)
            fields.add_field("url", DataType.VARCHAR, max_length=MAX_URL_BYTES)
            fields.add_field("position", DataType.INT64)
            fields.add_field("vector", DataType.FLOAT_VECTOR, dim=dimension)
            self._client.create_collection(
                name,
                schema=fields,
                consistency_level="Strong",
                properties={_RECIPE: recipe.to_json(), _POOLING: str(pooling)},
                timeout=_TIMEOUT_S,
            )
            self._add_index(name)
            return Collection(self, self._facts(name))

    def open_collection(self, name: str) -> Collection:
        """An existing collection. Raises StoreError when there is none."""
        if not self.has_collection(name):
            raise missing_collection(name, self.address)
        with self._explained(f"open {name}"):
            return Collection(self, self._facts(name))

    def ensure_collection(
        self, name: str, *, pooling: Pooling, recipe: Recipe, dimension: int, overwrite: bool = False
    ) -> Collection:
        """The collection of that name, made when it is missing, emptied first with `overwrite`.

        Raises StoreError when it holds vectors of another recipe or pooling: they cannot be compared.
        """
        if overwrite and self.has_collection(name):
            self.drop_collection(name)
        if not self.has_collection(name):
            return self.create_collection(name, pooling=pooling, recipe=recipe, dimension=dimension)
        collection = self.open_collection(name)
        collection.refuse_others(
            pooling=pooling,
            recipe=recipe,
            dimension=dimension,
            whose="this run",
            remedy="set collection to another name, or set overwrite: true to empty this one and fill it again",
        )
        return collection

    def rename_collection(self, name: str, new_name: str) -> None:
        """Give a collection another name. Raises StoreError when there is none, or the new name is taken or no good."""
        if not self.has_collection(name):
            raise StoreError(
                f"there is no collection {name!r} in {self.address} to rename: `collections list` shows what there is"
            )
        self._check_new_name(new_name)
        with self._explained(f"rename {name}"):
            self._client.rename_collection(name, new_name, timeout=_TIMEOUT_S)

    def drop_collection(self, name: str) -> None:
        """Delete a collection with all its rows. Raises StoreError when there is none."""
        if not self.has_collection(name):
            raise StoreError(
                f"there is no collection {name!r} in {self.address} to drop: `collections list` shows what there is"
            )
        with self._explained(f"drop {name}"):
            self._client.drop_collection(name, timeout=_TIMEOUT_S)

    def _check_new_name(self, name: str) -> None:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,254}", name):
            raise StoreError(
                f"collection = {name!r} cannot be used: use letters, digits and _ only, and no digit first"
            )
        if self.has_collection(name):
            raise StoreError(
                f"the collection {name!r} already exists in {self.address}: drop it first, or choose another name"
            )

    def _add_index(self, name: str) -> None:
        """Index the vectors of a new collection where the store needs it for a search.

        Milvus Lite compares every vector as fast without, and trains an index anew on each small file of rows, too few
        of them for its lists.
        """
        if self.address.is_local:
            return
        index = self._client.prepare_index_params()
        index.add_index("vector", index_type="IVF_FLAT", metric_type="IP", params={"nlist": _NLIST})
        # An empty collection has nothing to wait for.
        self._client.create_index(name, index, sync=False, timeout=_TIMEOUT_S)

    def _describe_index(self, name: str) -> Mapping[str, Any]:
        """Its kind as `index_type`, and its parameters; empty where there is none."""
        held: dict[str, Any] = self._client.describe_index(name, "vector", timeout=_TIMEOUT_S) or {}
        return held | (held.get("params") or {})

    def _drop_index(self, name: str) -> None:
        """Leave a collection without an index, out of the store's memory."""
        self._client.release_collection(name, timeout=_TIMEOUT_S)
        if self._client.list_indexes(name, timeout=_TIMEOUT_S):
            self._client.drop_index(name, "vector", timeout=_TIMEOUT_S)

    def _load(self, name: str) -> None:
        """Have a collection in the store's memory, which reading needs; waits while a server comes up again."""
        from pymilvus.exceptions import MilvusException

        try:
            self._ask_to_load(name)
        except MilvusException:
            indexes = self._client.list_indexes(name, timeout=_TIMEOUT_S)
            if self.address.is_local and indexes:
                # A process that is killed while it writes an index leaves half a file. The rows are elsewhere.
                self._drop_index(name)
            elif not self.address.is_local and not indexes:
                # A process that was killed right after it had created the collection leaves it without.
                self._add_index(name)
            else:
                raise
            self._ask_to_load(name)

    def _ask_to_load(self, name: str) -> None:
        from pymilvus.client.types import LoadState

        # By itself, pymilvus would wait as long for each single answer as for the whole.
        self._client.load_collection(name, timeout=_TIMEOUT_S, _async=True)
        deadline = time.monotonic() + _LOAD_TIMEOUT_S
        while self._client.get_load_state(name, timeout=_TIMEOUT_S)["state"] != LoadState.Loaded:
            if time.monotonic() > deadline:
                raise StoreError(
                    f"{self.address} has not loaded the collection {name!r} within {_LOAD_TIMEOUT_S / 60:.0f} minutes: "
                    "check that the server has enough memory, then start again"
                )
            time.sleep(_LOAD_POLL_S)

    def _when_loaded(self, name: str, call: Callable[[], T]) -> T:
        """Read from a collection, which a server that was started anew since has first to load."""
        from pymilvus.exceptions import MilvusException

        try:
            return call()
        except MilvusException as error:
            if error.code != _NOT_LOADED:
                raise
            self._load(name)
            return call()

    def _describe(self, name: str) -> Mapping[str, Any]:
        described: Mapping[str, Any] = self._client.describe_collection(name, timeout=_TIMEOUT_S)
        return described

    def _facts(self, name: str) -> CollectionFacts:
        described = self._describe(name)
        properties = described.get("properties") or {}
        recipe, pooling = properties.get(_RECIPE), properties.get(_POOLING)
        return CollectionFacts(
            name=name,
            rows=self._count(name),
            dimension=next((int(f["params"]["dim"]) for f in described["fields"] if "dim" in f["params"]), 0),
            pooling=Pooling(pooling) if pooling else None,
            recipe=Recipe.from_json(recipe) if recipe else None,
        )

    def _count(self, name: str) -> int:
        # Its own statistics would count rows that an upsert has replaced.
        self._load(name)
        counted = self._client.query(
            name, filter="", output_fields=["count(*)"], consistency_level="Strong", timeout=_TIMEOUT_S
        )
        return int(counted[0]["count(*)"])


class Collection:
    """One collection of a store: rows in, rows out, neighbours."""

    def __init__(self, store: Store, facts: CollectionFacts) -> None:
        self._store = store
        self._client = store._client
        self.facts = facts
        self._may_have_lists = store.address.is_local

    @property
    def recipe(self) -> Recipe:
        """Recipe of the stored vectors. Raises StoreError for a collection that carries none."""
        if self.facts.recipe is None:
            raise StoreError(
                f"the collection {self.facts.name!r} does not say how its vectors were made, so they cannot be "
                "compared: set collection to one that 03_extract or 05_upload filled"
            )
        return self.facts.recipe

    @property
    def pooling(self) -> Pooling:
        """How videos become rows. Raises StoreError for a collection that does not say."""
        if self.facts.pooling is None:
            raise StoreError(
                f"the collection {self.facts.name!r} was not filled by this project: set collection to another name"
            )
        return self.facts.pooling

    @property
    def holds_frames(self) -> bool:
        """Whether a row is one frame of a video rather than the whole."""
        return self.pooling.schema == Schema.VIDEO_FRAMES

    def count(self) -> int:
        """How many rows it has now."""
        with self._store._explained(f"count {self.facts.name}"):
            return self._store._count(self.facts.name)

    def refuse_others(self, *, pooling: Pooling, recipe: Recipe, dimension: int, whose: str, remedy: str) -> None:
        """Raises StoreError, with both recipes and the remedy, unless such vectors may be mixed with those it holds."""
        held = self.facts
        if (held.recipe, held.pooling, held.dimension) != (recipe, pooling, dimension):
            label = f"{whose}:".ljust(10)
            raise StoreError(
                f"the collection {held.name!r} holds vectors made with other settings than those of {whose}, and the "
                "two cannot be mixed.\n"
                f"it holds:  {held.pooling}, {held.dimension} dimensions, "
                f"{held.recipe.to_json() if held.recipe else '?'}\n"
                f"{label} {pooling}, {dimension} dimensions, {recipe.to_json()}\n"
                f"{remedy}"
            )

    def upsert(self, videos: Sequence[VideoVectors]) -> None:
        """Store videos; those already there are replaced, never doubled, and of a URL given twice the last counts.

        Raises StoreError for vectors that are not finite and of unit length, which Milvus Lite would take.
        """
        last = {video.url: video for video in videos}
        rows = [row for video in last.values() for row in self._rows_of(video)]
        if self.holds_frames:
            self._delete_stored(list(last))
        self._write(rows)

    def put_rows(self, rows: StoredRows) -> None:
        """Store rows as another collection holds them; those with the same keys are replaced.

        Raises StoreError for vectors that are not finite and of unit length.
        """
        self._check_vectors(rows.vectors, f"the rows from {rows.keys[0] if rows.keys else '?'}")
        fields = (rows.keys, rows.videos, rows.urls, rows.positions, rows.vectors)
        self._write([dict(zip(_FIELDS, row, strict=True)) for row in zip(*fields, strict=True)])

    def _write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._drop_lists()
        start = size = 0
        for end, row in enumerate(rows, start=1):
            size += row["vector"].nbytes + len(row["url"].encode()) + 100
            if end == len(rows) or end - start == UPSERT_ROWS or size >= _WRITE_BYTES:
                with self._store._explained(f"store vectors in {self.facts.name}"):
                    self._client.upsert(self.facts.name, rows[start:end], timeout=_TIMEOUT_S)
                start, size = end, 0
        self._store.check_place()

    def _drop_lists(self) -> None:
        """Milvus Lite would make lists of each small file of new rows by itself, as many as of all rows."""
        if not self._may_have_lists:
            return
        name = self.facts.name
        with self._store._explained(f"store vectors in {name}"):
            if str(self._store._describe_index(name).get("index_type")).startswith("IVF"):
                self._store._drop_index(name)
                self._store._load(name)
        self._may_have_lists = False

    def _check_vectors(self, vectors: Vectors, whose: str) -> None:
        if vectors.shape[1:] != (self.facts.dimension,) or not is_unit(vectors):
            raise StoreError(
                f"the vectors of {whose} have shape {vectors.shape} or are not of unit length; the "
                f"collection {self.facts.name!r} takes unit vectors of {self.facts.dimension} dimensions"
            )

    def _rows_of(self, video: VideoVectors) -> Iterator[dict[str, Any]]:
        self._check_vectors(video.vectors, video.url)
        if self.holds_frames and max(video.positions) >= self.recipe.num_frames:
            raise StoreError(
                f"{video.url} has a frame number {max(video.positions)}, but these settings take "
                f"{self.recipe.num_frames} frames, counted from 0"
            )
        for position, vector in zip(video.positions, video.vectors, strict=True):
            key = _frame_key(video.key, position) if self.holds_frames else video.key
            yield dict(zip(_FIELDS, (key, video.key, video.url, position, vector), strict=True))

    def _delete_stored(self, urls: Sequence[str]) -> None:
        # A video that gives fewer frames than last time would keep its old ones beside the new.
        stored = [row["id"] for row in self._read(urls, fields=["id"])]
        for start in range(0, len(stored), READ_ROWS):
            with self._store._explained(f"replace vectors in {self.facts.name}"):
                self._client.delete(self.facts.name, ids=stored[start : start + READ_ROWS], timeout=_TIMEOUT_S)

    def count_stored(self, urls: Sequence[str]) -> dict[str, int]:
        """How many rows each of these URLs has, for those that have any."""
        counts: dict[str, int] = {}
        for row in self._read(urls, fields=["url"]):
            counts[row["url"]] = counts.get(row["url"], 0) + 1
        return counts

    def load_vectors(self, urls: Sequence[str]) -> dict[str, VideoVectors]:
        """The stored vectors of these URLs, rows in order of position; a URL without any is left out."""
        rows: dict[str, list[tuple[int, Vectors]]] = {}
        for row in self._read(urls, fields=["url", "position", "vector"]):
            # A list of Python's floats takes eight times as much.
            rows.setdefault(row["url"], []).append((int(row["position"]), np.array(row["vector"], np.float32)))
        return {
            url: VideoVectors(
                url=url,
                vectors=stack_rows([vector for _, vector in found]),
                positions=tuple(position for position, _ in found),
            )
            for url, found in ((url, sorted(rows[url], key=lambda row: row[0])) for url in urls if url in rows)
        }

    def list_urls(self) -> list[str]:
        """Every URL in the collection, sorted."""
        pages = self._pages_of_keys()
        return sorted({str(row["url"]) for page in pages for rows in self._get(page, fields=["url"]) for row in rows})

    def stream_rows(self) -> Iterator[StoredRows]:
        """Every row of the collection exactly once, in blocks of at most `READ_ROWS`, in the order of their keys: the
        frames of a video follow one another.

        In memory are the vectors of one block and, of a Milvus Lite file, the keys of all rows. Raises StoreError at
        the end when it did not get as many rows as the store counts, as happens while another process writes.
        """
        expected, read = self.count(), 0
        for page in self._pages_of_keys():
            for found in self._get(page, fields=_FIELDS):
                read += len(found)
                if found:
                    yield _as_stored(found)
        if read != expected:
            raise StoreError(
                f"{read:,} rows of the collection {self.facts.name!r} were read, but {self._store.address} counts "
                f"{expected:,}: another process is writing to it. Wait until that is done, then start again"
            )

    def get_rows(self, keys: Sequence[str]) -> StoredRows:
        """The rows with these primary keys, as many of them as there are, in the order of their keys."""
        return _as_stored([row for rows in self._get(keys, fields=_FIELDS) for row in rows])

    def _pages_of_keys(self) -> Iterator[list[str]]:
        """The primary keys of all rows, ascending."""
        _ = self.recipe  # the fields of a collection of other origin are unknown
        name = self.facts.name
        if self._store.address.is_local:
            # Milvus Lite sorts and filters the whole collection anew for each page, and sets no bound to a page.
            with self._store._explained(f"read {name}"):
                rows = self._client.query(
                    name,
                    filter="",
                    limit=max(1, self._store._count(name)),
                    output_fields=["id"],
                    timeout=_TIMEOUT_S,
                )
            yield sorted(str(row["id"]) for row in rows)
            return
        begin = functools.partial(
            self._client.query_iterator,
            name,
            batch_size=_KEYS_A_PAGE,
            filter="",
            output_fields=["id"],
            timeout=_TIMEOUT_S,
        )
        with self._store._explained(f"read {name}"):
            pages = self._store._when_loaded(name, begin)
        while True:
            with self._store._explained(f"read {name}"):
                page = [str(row["id"]) for row in self._store._when_loaded(name, pages.next)]
            if not page:
                break
            yield page
        pages.close()

    def _read(self, urls: Sequence[str], *, fields: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        # By primary key: a filter on another field looks at every row of the collection for each call.
        keys = [key for url in dict.fromkeys(urls) for key in self._row_keys(video_key(url))]
        for rows in self._get(keys, fields=fields):
            yield from rows

    def _get(self, keys: Sequence[str], *, fields: Sequence[str]) -> Iterator[list[Mapping[str, Any]]]:
        """The rows with these keys, as many at a time as one answer may hold, however long their URLs are."""
        step = max(1, min(READ_ROWS, _READ_BYTES // (4 * self.facts.dimension + MAX_URL_BYTES)))
        for start, level in zip(range(0, len(keys), step), _levels(), strict=False):
            with self._store._explained(f"read {self.facts.name}"):
                get = functools.partial(
                    self._client.get,
                    self.facts.name,
                    ids=list(keys[start : start + step]),
                    output_fields=list(fields),
                    consistency_level=level,
                    timeout=_TIMEOUT_S,
                )
                rows = list(self._store._when_loaded(self.facts.name, get))
            yield rows

    def _row_keys(self, video: str) -> list[str]:
        """Primary keys of all rows that a video may have."""
        if not self.holds_frames:
            return [video]
        return [_frame_key(video, position) for position in range(self.recipe.num_frames)]

    def ensure_index(self, kind: str, params: Mapping[str, int]) -> None:
        """Have this index on the vectors, such as IVF_FLAT with nlist, made anew where there is another one.

        Raises StoreError for one that the store does not have; the collection then has the one of a new collection.
        """
        name = self.facts.name
        with self._store._explained(f"look at the index of {name}"):
            held = self._store._describe_index(name)
            if held.get("index_type") == kind and all(str(held.get(key)) == str(params[key]) for key in params):
                return
        quiet = _without_advice() if self._store.address.is_local else contextlib.nullcontext()
        with self._store._explained(f"index {name} by {kind}"), quiet:
            try:
                self._make_index(kind, params)
            finally:
                self._store._load(name)
        self._may_have_lists = self._store.address.is_local

    def _make_index(self, kind: str, params: Mapping[str, int]) -> None:
        name = self.facts.name
        self._client.flush(name, timeout=_LOAD_TIMEOUT_S)
        self._store._drop_index(name)
        index = self._client.prepare_index_params()
        # Milvus Lite overlooks parameters that are not in a dictionary of their own.
        index.add_index("vector", index_type=kind, metric_type="IP", params={"params": dict(params)})
        # By itself, pymilvus would wait as long for each single answer as for the whole.
        self._client.create_index(name, index, timeout=_TIMEOUT_S, sync=False)
        self._await_index()

    def _await_index(self) -> None:
        """Wait until the index holds all rows, for hours where there are many millions."""
        done, moved_s = -1, time.monotonic()
        while True:
            held = self._client.describe_index(self.facts.name, "vector", timeout=_TIMEOUT_S)
            if held["state"] == "Finished":
                return
            if held["state"] == "Failed":
                raise ValueError("the store gave up building the index; its log says why")
            if held["indexed_rows"] != done:
                done, moved_s = held["indexed_rows"], time.monotonic()
            if time.monotonic() - moved_s > _INDEX_STALL_S:
                raise ValueError(f"the index has been stuck at {done:,} rows for {_INDEX_STALL_S:.0f} s")
            time.sleep(_INDEX_POLL_S)

    def search(self, vectors: Vectors, limit: int, *, params: Mapping[str, int] = _ALL_LISTS) -> list[list[Hit]]:
        """The `limit` nearest rows of each vector (N, D), best first; `limit` is at most `LARGEST_TOP_K`.

        `params` are those of the index, and say how much of it is looked through: all of the usual one, unless told.
        Raises StoreError for another limit.
        """
        if not 1 <= limit <= LARGEST_TOP_K:
            raise StoreError(
                f"{limit:,} neighbours per vector cannot be asked for: Milvus gives from 1 to {LARGEST_TOP_K:,}"
            )
        step = max(1, min(READ_ROWS, _HITS_A_CALL // limit))
        found: list[list[Hit]] = []
        for start, level in zip(range(0, len(vectors), step), _levels(), strict=False):
            with self._store._explained(f"search {self.facts.name}"):
                ask = functools.partial(
                    self._client.search,
                    self.facts.name,
                    data=list(vectors[start : start + step]),
                    anns_field="vector",
                    limit=limit,
                    output_fields=["video"],
                    search_params={"metric_type": "IP", "params": dict(params)},
                    consistency_level=level,
                    timeout=_TIMEOUT_S,
                )
                answers = self._store._when_loaded(self.facts.name, ask)
            found.extend(
                [Hit(video=str(hit["entity"]["video"]), cosine=float(hit["distance"])) for hit in hits]
                for hits in answers
            )
        return found


def _as_stored(found: Sequence[Mapping[str, Any]]) -> StoredRows:
    rows = sorted(found, key=lambda row: str(row["id"]))
    return StoredRows(
        keys=tuple(str(row["id"]) for row in rows),
        videos=tuple(str(row["video"]) for row in rows),
        urls=tuple(str(row["url"]) for row in rows),
        positions=tuple(int(row["position"]) for row in rows),
        vectors=stack_rows([row["vector"] for row in rows]),
    )


def _levels() -> Iterator[str]:
    """The consistency of each call of one reading: the first waits, on a server, until all is seen that anyone has
    written before; the others see as much without waiting (0.2 s a call)."""
    return itertools.chain(["Strong"], itertools.repeat("Session"))


def _frame_key(video: str, position: int) -> str:
    return f"{video}-{position:04d}"


@contextlib.contextmanager
def _without_advice() -> Iterator[None]:
    """FAISS, by which Milvus Lite makes an index of each of its files, advises on the terminal against small ones. What
    an index misses, an audit says."""
    with _terminal:
        shown, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)
        try:
            yield
        finally:
            os.dup2(shown, 2)
            os.close(shown)


@contextlib.contextmanager
def _raising_what_lite_logs() -> Iterator[None]:
    """Milvus Lite says why it cannot open its file in its log alone."""
    logged: list[BaseException] = []

    class Overhear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.exc_info and record.exc_info[1]:
                logged.append(record.exc_info[1])

    logger, handler = logging.getLogger("milvus_lite.server_manager"), Overhear()
    logger.setLevel(logging.ERROR)
    logger.propagate = False
    logger.addHandler(handler)
    try:
        yield
    except Exception as error:
        raise error from (logged[-1] if logged else error.__cause__)
    finally:
        logger.removeHandler(handler)


def _explain(address: StoreAddress, action: str, error: Exception) -> str:
    import grpc

    causes: list[BaseException] = []
    cause: BaseException | None = error
    # pymilvus raises errors from themselves: their chain has no end.
    while cause is not None and cause not in causes:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    text = " ".join(f"{type(cause).__name__}: {cause}" for cause in causes)
    if address.is_local and "DataDirLockedError" in text:
        return (
            f"cannot open {address.uri}: another notebook or run has it open, and a Milvus Lite file takes one process "
            "at a time. Shut that kernel down, wait for that run to end, or name a server by MILVUS_URI"
        )
    if address.is_local and Path(address.uri).is_file():
        return (
            f"cannot open {address.uri}: it is a single file of an older Milvus Lite, and this version keeps a folder. "
            "Move it away and run 03_extract or 05_upload again"
        )
    for refusal in (errno.ENOSPC, errno.EROFS, errno.EACCES):
        if address.is_local and os.strerror(refusal) in text:
            remedy = "Free space or make it writable, then start again: finished work is kept"
            return f"cannot {action}: {address} cannot be written ({os.strerror(refusal)}). {remedy}"
    if address.is_local and os.strerror(errno.EEXIST) in text:
        return (
            f"cannot {action}: {address} is damaged, for a collection in it is incomplete. Move it away and start "
            "again; the videos whose vectors it held are then read again"
        )
    if "UNAUTHENTICATED" in text or "auth check failure" in text:
        return f"cannot {action}: {address} refuses the token. Check MILVUS_TOKEN"
    if "PERMISSION_DENIED" in text or "permission deny" in text or "PrivilegeType" in text:
        return (
            f"cannot {action}: {address} does not allow this user to do that. Check MILVUS_TOKEN, or have the right "
            "granted"
        )
    if not address.is_local and any(sign in text for sign in _SIGNS_OF_ABSENCE):
        return (
            f"cannot {action}: {address} does not answer. Check MILVUS_URI, and that the server is running and can be "
            "reached from here, then start again: finished work is kept"
        )
    if address.is_local and action == "connect":
        return f"cannot open {address.uri}: {causes[-1]}"
    # A server may repeat what it was sent, and the transport encodes the token.
    details = (isinstance(error, grpc.Call) and error.details()) or str(error)
    said = details.strip().partition("\n")[0].replace(address.uri, str(address))
    parts = urlsplit(address.uri)
    for token in (address.token, f"{parts.username}:{parts.password}"):
        for secret in filter(None, (base64.b64encode(token.encode()).decode(), token, token.partition(":")[2])):
            said = said.replace(secret, "…")
    return f"cannot {action} in {address}: {said}"

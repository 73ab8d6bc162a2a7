"""Vectors in Milvus: a local file (Milvus Lite) by default, a server or Zilliz Cloud by `MILVUS_URI`, same code.

Every collection has the same fields; its schema says what a row stands for (see `records.Schema`):

    id        VARCHAR  primary key: the video's key, and for single frames `-` and the frame's position
    video     VARCHAR  key of the video's URL
    url       VARCHAR  the URL
    position  INT64    which of the sampled frames; 0 where a row stands for a whole video
    vector    FLOAT_VECTOR  unit length, so that the inner product (metric IP) is the cosine

Its properties carry the recipe of its vectors, and vectors of another recipe are refused.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import logging
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from dotenv import dotenv_values

from dedup_lib.errors import StoreError
from dedup_lib.records import MAX_URL_BYTES, Hit, Pooling, Recipe, Schema, Vectors, VideoVectors, video_key
from dedup_lib.run_folder import RunFolder, find_project_root
from dedup_lib.vectors import is_unit, stack_rows

UPSERT_ROWS = 1000
READ_ROWS = 1000
LARGEST_TOP_K = 16_384
"""Milvus gives no more neighbours than this for one vector."""

_HITS_A_CALL = 20_000
"""Vectors times neighbours in one search: Milvus Lite takes gigabytes for more."""

_TIMEOUT_S = 120.0
"""Bounds every call: without it some never return while the server is away."""

_SIGNS_OF_ABSENCE = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "illegal connection params", "Timeout")
"""In what the transport says of a server that does not answer, or not in time."""

_NLIST = 128
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
        env_path = find_project_root(run.path) / ".env"
        try:
            named = {**dotenv_values(env_path), **os.environ}
        except UnicodeDecodeError:
            raise StoreError(f"{run.shown(env_path)} is not UTF-8: save it as plain text in UTF-8") from None
        uri = (named.get("MILVUS_URI") or "").strip()
        if not uri:
            return cls(uri=str(run.lite_path))
        # The URI may hold a password: the error does not repeat it.
        if not _is_server_address(uri):
            raise StoreError(
                "MILVUS_URI must be the http(s) address of a Milvus server or of Zilliz Cloud; leave it empty for a "
                "Milvus Lite file in the run folder"
            )
        return cls(uri=uri, token=(named.get("MILVUS_TOKEN") or "").strip())

    @property
    def is_local(self) -> bool:
        return "://" not in self.uri

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
        # pymilvus reads MILVUS_URI when it is imported, and takes half a second for it.
        from pymilvus import MilvusClient

        # Both log a traceback for every error, which is raised as well.
        for library in ("pymilvus", "milvus_lite"):
            logging.getLogger(library).setLevel(logging.CRITICAL)
        with self._explained("connect"):
            self._client = MilvusClient(uri=address.uri, token=address.token, timeout=_TIMEOUT_S)
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
                f"{self.address} was removed or replaced while it was open: put it back, or start again without it, "
                "and the videos whose vectors it held are read again"
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
            return str(self._client.get_server_version(timeout=_TIMEOUT_S))

    def list_collections(self) -> list[CollectionFacts]:
        """Every collection, by name."""
        with self._explained("list collections"):
            return [self._facts(name) for name in sorted(self._client.list_collections(timeout=_TIMEOUT_S))]

    def sample_rows(self, name: str, *, count: int = 3) -> list[dict[str, Any]]:
        """A few rows of a collection, without their vectors."""
        with self._explained(f"read {name}"):
            self._client.load_collection(name, timeout=_TIMEOUT_S)
            fields = [f["name"] for f in self._describe(name)["fields"] if f["name"] != "vector"]
            return list(self._client.query(name, filter="", limit=count, output_fields=fields, timeout=_TIMEOUT_S))

    def has_collection(self, name: str) -> bool:
        with self._explained(f"look for {name}"):
            return bool(self._client.has_collection(name, timeout=_TIMEOUT_S))

    def create_collection(self, name: str, *, pooling: Pooling, recipe: Recipe, dimension: int) -> Collection:
        """A new, empty collection. Raises StoreError when the name is taken or no good."""
        from pymilvus import DataType

        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,254}", name):
            raise StoreError(f"collection = {name!r} cannot be used: letters, digits and _ only, no digit first")
        if self.has_collection(name):
            raise StoreError(
                f"the collection {name!r} exists already in {self.address}: drop it first or choose another name"
            )
        with self._explained(f"create {name}"):
            fields = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
            fields.add_field("id", DataType.VARCHAR, is_primary=True, max_length=64)
            fields.add_field("video", DataType.VARCHAR, max_length=32)
            fields.add_field("url", DataType.VARCHAR, max_length=MAX_URL_BYTES)
            fields.add_field("position", DataType.INT64)
            fields.add_field("vector", DataType.FLOAT_VECTOR, dim=dimension)
            index = self._client.prepare_index_params()
            index.add_index("vector", index_type="IVF_FLAT", metric_type="IP", params={"nlist": _NLIST})
            self._client.create_collection(
                name,
                schema=fields,
                index_params=index,
                consistency_level="Strong",
                properties={_RECIPE: recipe.to_json(), _POOLING: str(pooling)},
                timeout=_TIMEOUT_S,
            )
        return Collection(self, self._facts(name))

    def open_collection(self, name: str) -> Collection:
        """An existing collection. Raises StoreError when there is none."""
        if not self.has_collection(name):
            raise StoreError(
                f"there is no collection {name!r} in {self.address}: fill it first (03_extract with mode: direct, or "
                "05_upload), or set collection"
            )
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
        held = collection.facts
        if (held.recipe, held.pooling, held.dimension) != (recipe, pooling, dimension):
            raise StoreError(
                f"the collection {name!r} holds other vectors than this run makes, and they cannot be mixed.\n"
                f"it holds:  {held.pooling}, {held.dimension} dimensions, "
                f"{held.recipe.to_json() if held.recipe else '?'}\n"
                f"this run:  {pooling}, {dimension} dimensions, {recipe.to_json()}\n"
                "choose another collection, or set overwrite: true to start this one anew"
            )
        return collection

    def drop_collection(self, name: str) -> None:
        """Delete a collection with all its rows. Raises StoreError when there is none."""
        if not self.has_collection(name):
            raise StoreError(f"there is no collection {name!r} in {self.address} to drop")
        with self._explained(f"drop {name}"):
            self._client.drop_collection(name, timeout=_TIMEOUT_S)

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
        # Loads it too, which every use of a collection needs. Its own statistics would count rows that an upsert has
        # replaced.
        self._client.load_collection(name, timeout=_TIMEOUT_S)
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

    @property
    def recipe(self) -> Recipe:
        """Recipe of the stored vectors. Raises StoreError for a collection that carries none."""
        if self.facts.recipe is None:
            raise StoreError(
                f"the collection {self.facts.name!r} does not say how its vectors were made, so nothing can be "
                "compared with them: it was not filled by this project"
            )
        return self.facts.recipe

    @property
    def pooling(self) -> Pooling:
        """How videos become rows. Raises StoreError for a collection that does not say."""
        if self.facts.pooling is None:
            raise StoreError(f"the collection {self.facts.name!r} was not filled by this project")
        return self.facts.pooling

    @property
    def holds_frames(self) -> bool:
        """Whether a row is one frame of a video rather than the whole."""
        return self.pooling.schema == Schema.VIDEO_FRAMES

    def upsert(self, videos: Sequence[VideoVectors]) -> None:
        """Store videos; those already there are replaced, never doubled, and of a URL given twice the last counts.

        Raises StoreError for vectors that are not finite and of unit length, which Milvus Lite would take.
        """
        last = {video.url: video for video in videos}
        rows = [row for video in last.values() for row in self._rows_of(video)]
        if self.holds_frames:
            self._delete_stored(list(last))
        for start in range(0, len(rows), UPSERT_ROWS):
            with self._store._explained(f"store vectors in {self.facts.name}"):
                self._client.upsert(self.facts.name, rows[start : start + UPSERT_ROWS], timeout=_TIMEOUT_S)
        self._store.check_place()

    def _rows_of(self, video: VideoVectors) -> Iterator[dict[str, Any]]:
        if video.vectors.shape[1:] != (self.facts.dimension,) or not is_unit(video.vectors):
            raise StoreError(
                f"the vectors of {video.url} have shape {video.vectors.shape} or are not of unit length; the "
                f"collection {self.facts.name!r} takes unit vectors of {self.facts.dimension} dimensions"
            )
        if self.holds_frames and max(video.positions) >= self.recipe.num_frames:
            raise StoreError(
                f"{video.url} has a frame {max(video.positions)}, but this recipe takes "
                f"{self.recipe.num_frames} frames, counted from 0"
            )
        for position, vector in zip(video.positions, video.vectors, strict=True):
            key = _frame_key(video.key, position) if self.holds_frames else video.key
            yield {"id": key, "video": video.key, "url": video.url, "position": position, "vector": vector}

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
        found: set[str] = set()
        with self._store._explained(f"read {self.facts.name}"):
            pages = self._client.query_iterator(
                self.facts.name, batch_size=READ_ROWS, filter="", output_fields=["url"], timeout=_TIMEOUT_S
            )
            while page := pages.next():
                found.update(str(row["url"]) for row in page)
            pages.close()
        return sorted(found)

    def _read(self, urls: Sequence[str], *, fields: list[str]) -> Iterator[Mapping[str, Any]]:
        # By primary key: a filter on another field looks at every row of the collection for each call.
        keys = [key for url in dict.fromkeys(urls) for key in self._row_keys(video_key(url))]
        for start in range(0, len(keys), READ_ROWS):
            with self._store._explained(f"read {self.facts.name}"):
                yield from self._client.get(
                    self.facts.name,
                    ids=keys[start : start + READ_ROWS],
                    output_fields=fields,
                    consistency_level="Strong",
                    timeout=_TIMEOUT_S,
                )

    def _row_keys(self, video: str) -> list[str]:
        """Primary keys of all rows that a video may have."""
        if not self.holds_frames:
            return [video]
        return [_frame_key(video, position) for position in range(self.recipe.num_frames)]

    def search(self, vectors: Vectors, limit: int) -> list[list[Hit]]:
        """The `limit` nearest rows of each vector (N, D), best first; `limit` is at most `LARGEST_TOP_K`.

        All lists of the index are probed: the search is exact.
        """
        step = max(1, min(READ_ROWS, _HITS_A_CALL // limit))
        found: list[list[Hit]] = []
        for start in range(0, len(vectors), step):
            with self._store._explained(f"search {self.facts.name}"):
                answers = self._client.search(
                    self.facts.name,
                    data=list(vectors[start : start + step]),
                    anns_field="vector",
                    limit=limit,
                    output_fields=["video"],
                    search_params={"metric_type": "IP", "params": {"nprobe": _NLIST}},
                    consistency_level="Strong",
                    timeout=_TIMEOUT_S,
                )
            found.extend(
                [Hit(video=str(hit["entity"]["video"]), cosine=float(hit["distance"])) for hit in hits]
                for hits in answers
            )
        return found


def _frame_key(video: str, position: int) -> str:
    return f"{video}-{position:04d}"


def _explain(address: StoreAddress, action: str, error: Exception) -> str:
    import grpc

    causes: list[BaseException] = []
    cause: BaseException | None = error
    # pymilvus raises errors from themselves: their chain has no end.
    while cause is not None and cause not in causes:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    text = " ".join(f"{type(cause).__name__}: {cause}" for cause in causes)
    if address.is_local and "Open local milvus failed" in text:
        return (
            f"cannot {action}: {address} cannot be opened. Most often another notebook or run has it open: shut that "
            "kernel down (one process a Milvus Lite file), or name a server by MILVUS_URI"
        )
    for refusal in (errno.ENOSPC, errno.EROFS, errno.EACCES):
        if address.is_local and os.strerror(refusal) in text:
            remedy = "Make room or make it writable, and start again: what is done stays done"
            return f"cannot {action}: {address} cannot be written ({os.strerror(refusal)}). {remedy}"
    if address.is_local and os.strerror(errno.EEXIST) in text:
        return (
            f"cannot {action}: {address} is damaged, a collection in it is only half there. Move it away and start "
            "again: the videos whose vectors it held are read again"
        )
    if "UNAUTHENTICATED" in text or "auth check failure" in text:
        return f"cannot {action}: {address} refuses the token; check MILVUS_TOKEN"
    if not address.is_local and any(sign in text for sign in _SIGNS_OF_ABSENCE):
        return (
            f"cannot {action}: {address} does not answer; check MILVUS_URI, and that the server runs and can be "
            "reached, and start again: what is done stays done"
        )
    # A server may repeat what it was sent, and the transport encodes the token.
    details = (isinstance(error, grpc.Call) and error.details()) or str(error)
    said = details.strip().partition("\n")[0].replace(address.uri, str(address))
    parts = urlsplit(address.uri)
    for token in (address.token, f"{parts.username}:{parts.password}"):
        for secret in filter(None, (base64.b64encode(token.encode()).decode(), token, token.partition(":")[2])):
            said = said.replace(secret, "…")
    return f"cannot {action} in {address}: {said}"

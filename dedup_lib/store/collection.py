"""One collection: rows in, rows out, nearest neighbours."""

from __future__ import annotations

import contextlib
import functools
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from dedup_lib.errors import StoreError
from dedup_lib.features.vectors import is_unit, stack_rows
from dedup_lib.records import MAX_URL_BYTES, Hit, Pooling, Recipe, Schema, StoredRows, Vectors, VideoVectors, video_key
from dedup_lib.settings import MAX_TOP_K, NLIST
from dedup_lib.store.client import LOAD_TIMEOUT_S, Client, CollectionFacts
from dedup_lib.store.troubles import without_advice

UPSERT_ROWS = 1000

READ_ROWS = 1000

_READ_BYTES = 60_000_000
"""Most bytes in one answer: a server sends no message above 64 MiB."""

_KEYS_A_PAGE = 16_384
"""Most rows that a server returns for one query without keys."""

_HITS_A_CALL = 20_000
"""Most vectors times neighbours in one search: Milvus Lite takes gigabytes of memory for more."""

_WRITE_BYTES = 30_000_000
"""Bytes after which a message to the store is sent; the last row may exceed it. A server accepts at most 64 MiB."""

_INDEX_STALL_S = 900.0
"""Seconds without a newly indexed row after which an index counts as stuck."""

_INDEX_POLL_S = 0.5

_ALL_LISTS: Mapping[str, int] = {"nprobe": NLIST}

FIELDS = ("id", "video", "url", "position", "vector")


class Collection:
    """One collection of a store: rows in, rows out, neighbours."""

    def __init__(self, client: Client, facts: CollectionFacts) -> None:
        self._client = client
        self.facts = facts
        self._may_have_lists = client.address.is_local

    @property
    def recipe(self) -> Recipe:
        """Recipe of the stored vectors. Raises StoreError for a collection without a recipe."""
        if self.facts.recipe is None:
            raise StoreError(
                f"the collection {self.facts.name!r} does not say how its vectors were made, so they cannot be "
                "compared: set collection to one that 03_extract or 05_upload filled"
            )
        return self.facts.recipe

    @property
    def pooling(self) -> Pooling:
        """How videos become rows. Raises StoreError for a collection without this property."""
        if self.facts.pooling is None:
            raise StoreError(
                f"the collection {self.facts.name!r} was not filled by this project: set collection to another name"
            )
        return self.facts.pooling

    @property
    def holds_frames(self) -> bool:
        """Whether a row is one frame of a video rather than the whole video."""
        return self.pooling.schema == Schema.VIDEO_FRAMES

    def count(self) -> int:
        """The current number of rows."""
        with self._client.explained(f"count {self.facts.name}"):
            return self._client.count_rows(self.facts.name)

    def refuse_others(self, *, pooling: Pooling, recipe: Recipe, dimension: int, whose: str, remedy: str) -> None:
        """Raises StoreError, which shows both recipes and the remedy, unless the collection may take such vectors."""
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
        """Stores videos. A stored video is replaced, never doubled. When a URL is given twice, the last one counts.

        Raises StoreError for vectors that are not finite or not of unit length; Milvus Lite would accept them.
        """
        last = {video.url: video for video in videos}
        rows = [row for video in last.values() for row in self._rows_of(video)]
        if self.holds_frames:
            self._delete_stored(list(last))
        self._write(rows)

    def put_rows(self, rows: StoredRows) -> None:
        """Stores rows as they were read from another collection; replaces rows with the same keys.

        Raises StoreError for vectors that are not finite or not of unit length.
        """
        self._check_vectors(rows.vectors, f"the rows from {rows.keys[0] if rows.keys else '?'}")
        fields = (rows.keys, rows.videos, rows.urls, rows.positions, rows.vectors)
        self._write([dict(zip(FIELDS, row, strict=True)) for row in zip(*fields, strict=True)])

    def _write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._drop_lists()
        start = size = 0
        for end, row in enumerate(rows, start=1):
            size += row["vector"].nbytes + len(row["url"].encode()) + 100
            if end == len(rows) or end - start == UPSERT_ROWS or size >= _WRITE_BYTES:
                with self._client.explained(f"store vectors in {self.facts.name}"):
                    self._client.milvus.upsert(self.facts.name, rows[start:end], timeout=self._client.timeout_s)
                start, size = end, 0
        self._client.check_place()

    def _drop_lists(self) -> None:
        """Drops an IVF index of Milvus Lite before rows are written. Otherwise Milvus Lite would build the full number
        of lists for each small file of new rows."""
        if not self._may_have_lists:
            return
        name = self.facts.name
        with self._client.explained(f"store vectors in {name}"):
            if str(self._client.describe_index(name).get("index_type")).startswith("IVF"):
                self._client.drop_index(name)
                self._client.load(name)
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
            yield dict(zip(FIELDS, (key, video.key, video.url, position, vector), strict=True))

    def _delete_stored(self, urls: Sequence[str]) -> None:
        # A video with fewer frames than last time would keep old frames beside the new ones.
        stored = [row["id"] for row in self._read(urls, fields=["id"])]
        for start in range(0, len(stored), READ_ROWS):
            with self._client.explained(f"replace vectors in {self.facts.name}"):
                self._client.milvus.delete(
                    self.facts.name, ids=stored[start : start + READ_ROWS], timeout=self._client.timeout_s
                )

    def count_stored(self, urls: Sequence[str]) -> dict[str, int]:
        """Number of rows for each of these URLs; URLs without rows are left out."""
        counts: dict[str, int] = {}
        for row in self._read(urls, fields=["url"]):
            counts[row["url"]] = counts.get(row["url"], 0) + 1
        return counts

    def load_vectors(self, urls: Sequence[str]) -> dict[str, VideoVectors]:
        """The stored vectors of these URLs, rows in order of position; URLs without rows are left out."""
        rows: dict[str, list[tuple[int, Vectors]]] = {}
        for row in self._read(urls, fields=["url", "position", "vector"]):
            # A list of Python floats takes eight times the memory.
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
        """Yields every row of the collection exactly once, in blocks of at most `READ_ROWS`, in the order of the keys:
        the frames of a video follow one another.

        Memory holds the vectors of one block and, for a Milvus Lite file, the keys of all rows. Raises StoreError at
        the end when the number of rows differs from the store's count, because another process is writing.
        """
        expected, read = self.count(), 0
        for page in self._pages_of_keys():
            for found in self._get(page, fields=FIELDS):
                read += len(found)
                if found:
                    yield _as_stored(found)
        if read != expected:
            raise StoreError(
                f"{read:,} rows of the collection {self.facts.name!r} were read, but {self._client.address} counts "
                f"{expected:,}: another process is writing to it. Wait until that is done, then start again"
            )

    def get_rows(self, keys: Sequence[str]) -> StoredRows:
        """The rows with these primary keys, in the order of their keys; keys without a row are left out."""
        return _as_stored([row for rows in self._get(keys, fields=FIELDS) for row in rows])

    def _pages_of_keys(self) -> Iterator[list[str]]:
        """The primary keys of all rows, ascending."""
        _ = self.recipe  # the fields of a collection of other origin are unknown
        name = self.facts.name
        if self._client.address.is_local:
            # One page for all: Milvus Lite has no page limit, and sorts the whole collection anew for each page.
            with self._client.explained(f"read {name}"):
                rows = self._client.milvus.query(
                    name,
                    filter="",
                    limit=max(1, self._client.count_rows(name)),
                    output_fields=["id"],
                    timeout=self._client.timeout_s,
                )
            yield sorted(str(row["id"]) for row in rows)
            return
        begin = functools.partial(
            self._client.milvus.query_iterator,
            name,
            batch_size=_KEYS_A_PAGE,
            filter="",
            output_fields=["id"],
            timeout=self._client.timeout_s,
        )
        with self._client.explained(f"read {name}"):
            pages = self._client.when_loaded(name, begin)
        while True:
            with self._client.explained(f"read {name}"):
                page = [str(row["id"]) for row in self._client.when_loaded(name, pages.next)]
            if not page:
                break
            yield page
        pages.close()

    def _read(self, urls: Sequence[str], *, fields: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        # By primary key, because a filter on another field scans the whole collection in each call.
        keys = list(map(video_key, dict.fromkeys(urls)))
        if self.holds_frames:
            keys = [_frame_key(video, position) for video in keys for position in range(self.recipe.num_frames)]
        for rows in self._get(keys, fields=fields):
            yield from rows

    def _get(self, keys: Sequence[str], *, fields: Sequence[str]) -> Iterator[list[Mapping[str, Any]]]:
        """Yields the rows with these keys in blocks that fit into one answer even when every URL is very long."""
        step = max(1, min(READ_ROWS, _READ_BYTES // (4 * self.facts.dimension + MAX_URL_BYTES)))
        for start, level in zip(range(0, len(keys), step), _levels(), strict=False):
            with self._client.explained(f"read {self.facts.name}"):
                get = functools.partial(
                    self._client.milvus.get,
                    self.facts.name,
                    ids=list(keys[start : start + step]),
                    output_fields=list(fields),
                    consistency_level=level,
                    timeout=self._client.timeout_s,
                )
                rows = list(self._client.when_loaded(self.facts.name, get))
            yield rows

    def ensure_index(self, kind: str, params: Mapping[str, int]) -> None:
        """Makes sure that the vectors have this index, such as IVF_FLAT with nlist; replaces any other index.

        Raises StoreError for an index that the store does not support; the collection then has the index of a new
        collection.
        """
        name = self.facts.name
        with self._client.explained(f"look at the index of {name}"):
            held = self._client.describe_index(name)
            if held.get("index_type") == kind and all(str(held.get(key)) == str(params[key]) for key in params):
                return
        quiet = without_advice() if self._client.address.is_local else contextlib.nullcontext()
        with self._client.explained(f"index {name} by {kind}"), quiet:
            try:
                self._make_index(kind, params)
            finally:
                self._client.load(name)
        self._may_have_lists = self._client.address.is_local

    def _make_index(self, kind: str, params: Mapping[str, int]) -> None:
        name = self.facts.name
        self._client.milvus.flush(name, timeout=LOAD_TIMEOUT_S)
        self._client.drop_index(name)
        index = self._client.milvus.prepare_index_params()
        # Milvus Lite ignores parameters that are not in a dictionary of their own.
        index.add_index("vector", index_type=kind, metric_type="IP", params={"params": dict(params)})
        # When pymilvus waits itself, it uses one timeout for every single answer and for the whole wait.
        self._client.milvus.create_index(name, index, timeout=self._client.timeout_s, sync=False)
        self._await_index()

    def _await_index(self) -> None:
        """Waits until the index holds all rows, which takes hours for many millions."""
        done, moved_s = -1, time.monotonic()
        while True:
            held = self._client.milvus.describe_index(self.facts.name, "vector", timeout=self._client.timeout_s)
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
        """Returns the `limit` nearest rows of each vector (N, D), best first.

        `params` are the search parameters of the index and say how much of it to search; the default searches all lists
        of the standard index. Raises StoreError when `limit` is not from 1 to `MAX_TOP_K`.
        """
        if not 1 <= limit <= MAX_TOP_K:
            raise StoreError(
                f"{limit:,} neighbours per vector cannot be asked for: Milvus gives from 1 to {MAX_TOP_K:,}"
            )
        step = max(1, min(READ_ROWS, _HITS_A_CALL // limit))
        found: list[list[Hit]] = []
        for start, level in zip(range(0, len(vectors), step), _levels(), strict=False):
            with self._client.explained(f"search {self.facts.name}"):
                ask = functools.partial(
                    self._client.milvus.search,
                    self.facts.name,
                    data=list(vectors[start : start + step]),
                    anns_field="vector",
                    limit=limit,
                    output_fields=["video"],
                    search_params={"metric_type": "IP", "params": dict(params)},
                    consistency_level=level,
                    timeout=self._client.timeout_s,
                )
                answers = self._client.when_loaded(self.facts.name, ask)
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
    """Yields the consistency level of each call in a series. On a server, the first call waits until it sees all
    earlier writes of all clients; the others see the same without that wait (0.2 s a call)."""
    return itertools.chain(["Strong"], itertools.repeat("Session"))


def _frame_key(video: str, position: int) -> str:
    return f"{video}-{position:04d}"

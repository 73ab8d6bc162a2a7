"""Copies a collection from one store to another; may be stopped and begun again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dedup_lib.errors import StoreError
from dedup_lib.records import StoredRows
from dedup_lib.store.address import StoreAddress
from dedup_lib.store.collection import Collection
from dedup_lib.store.store import Store


@dataclass(frozen=True, kw_only=True)
class CopyReport:
    """The result of a copy, in rows."""

    rows: int
    """Rows of the source. The target holds the same row for each of them."""
    written: int
    """How many of these rows were missing or different in the target before."""
    target_rows: int
    """Rows of the target; more than `rows` when it holds rows that the source does not have."""


def copy_between(
    source: StoreAddress,
    target: StoreAddress,
    *,
    collection: str,
    new_name: str = "",
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> CopyReport:
    """Copies a collection to another store, or to the same store under another name; see `copy_collection`.

    Creates the target when it is missing. Also raises StoreError when there is no such source, or when source and
    target are the same.
    """
    new_name = new_name or collection
    if source.is_local and not Path(source.uri).exists():
        raise StoreError(f"there is no store at {source.uri}: name a run in which 03_extract has read videos")
    if (source, collection) == (target, new_name):
        raise StoreError(
            f"{collection!r} cannot be copied onto itself: choose another store, or another name for the copy (--as)"
        )
    with ExitStack() as stores:
        from_store = stores.enter_context(Store(source))
        # A Milvus Lite file can be open only once.
        to_store = from_store if source == target else stores.enter_context(Store(target))
        copied = from_store.open_collection(collection)
        if not to_store.has_collection(new_name):
            to_store.create_collection(
                new_name, pooling=copied.pooling, recipe=copied.recipe, dimension=copied.facts.dimension
            )
        return copy_collection(copied, to_store.open_collection(new_name), progress=progress)


def copy_collection(
    source: Collection, target: Collection, *, progress: Callable[[int, int], object] = lambda done, total: None
) -> CopyReport:
    """Copies every row of `source` to `target`, then compares all of them bit by bit.

    Skips rows that the target already holds with the same vector, so that a stopped copy continues. Keeps rows that
    only the target has. Calls `progress` with the number of rows done and the total; each row counts twice, once copied
    and once compared. Raises StoreError when the recipes differ, or a row differs in the end.
    """
    target.refuse_others(
        pooling=source.pooling,
        recipe=source.recipe,
        dimension=source.facts.dimension,
        whose="the source",
        remedy="copy it under another name (--as)",
    )
    total = 2 * source.count()
    looked = written = 0
    for rows in source.stream_rows():
        missing = _find_other(rows, target.get_rows(rows.keys))
        target.put_rows(rows.take(missing))
        written += len(missing)
        looked += len(rows)
        progress(looked, total)
    compared = 0
    for rows in source.stream_rows():
        held = target.get_rows(rows.keys)
        if other := _find_other(rows, held):
            raise StoreError(
                f"{len(other):,} rows of {target.facts.name!r} differ from those of {source.facts.name!r}, such as "
                f"that of {rows.urls[other[0]]}: another process is writing to one of the two. Copy again when it is "
                "done"
            )
        compared += len(rows)
        progress(looked + compared, total)
    return CopyReport(rows=compared, written=written, target_rows=target.count())


def _find_other(rows: StoredRows, held: StoredRows) -> list[int]:
    """The numbers of those `rows` that are missing or different in `held`."""
    place = {key: number for number, key in enumerate(held.keys)}

    def is_there(number: int) -> bool:
        at = place.get(rows.keys[number])
        return (
            at is not None
            and (rows.videos[number], rows.urls[number], rows.positions[number])
            == (held.videos[at], held.urls[at], held.positions[at])
            and np.array_equal(rows.vectors[number], held.vectors[at])
        )

    return [number for number in range(len(rows)) if not is_there(number)]

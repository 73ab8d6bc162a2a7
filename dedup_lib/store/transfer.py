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
    """What a copy came to, in rows."""

    rows: int
    """Of the source: each of them is in the target, as it is in the source."""
    written: int
    """Of these, the ones that were not in the target, or not the same, before."""
    target_rows: int
    """Of the target. More than `rows` where it holds some that the source does not."""


def copy_between(
    source: StoreAddress,
    target: StoreAddress,
    *,
    collection: str,
    new_name: str = "",
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> CopyReport:
    """Copy a collection to another store, or under another name to the same; see `copy_collection`.

    The target is made when it is missing. Raises StoreError also when there is no such source, or the two are one.
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
        # A Milvus Lite file is opened once.
        to_store = from_store if source == target else stores.enter_context(Store(target))
        copied = from_store.open_collection(collection)
        if not to_store.has_collection(new_name):
            to_store.create_collection(
                new_name, pooling=copied.pooling, recipe=copied.recipe, dimension=copied.facts.dimension
            )
        return copy_collection(copied, to_store.open_collection(new_name), progress=progress)


def copy_collection(
    source: Collection,
    target: Collection,
    *,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> CopyReport:
    """Have every row of `source` in `target`, and compare all of them afterwards, bit by bit.

    Rows that are there already with the same vector are passed over, so that a copy that was stopped goes on; rows that
    only the target has stay. `progress` is told how many rows were looked at, and of how many, each counted twice:
    copied, compared. Raises StoreError when the two hold vectors of different recipes, or a row differs in the end.
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
    """Which of `rows` (by number) are not in `held`, or not the same there."""
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

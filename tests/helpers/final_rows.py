"""The outputs of a run, as rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dedup_lib.store.address import StoreAddress
from dedup_lib.store.store import Store


def load_rows(folder: Path, urls: Sequence[str], *, collection: str = "clips") -> tuple[int, dict[str, bytes]]:
    """How many rows the collection holds, and the vectors of each URL."""
    with Store(StoreAddress(uri=str(folder / "milvus.db"))) as store:
        (facts,) = store.list_collections()
        vectors = store.open_collection(collection).load_vectors(urls)
        return facts.rows, {url: video.vectors.tobytes() for url, video in vectors.items()}

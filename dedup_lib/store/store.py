"""The collections of a store: list, create, open, rename, drop.

All collections have the same fields; the schema says what a row stands for (see `records.Schema`). The properties of a
collection carry the recipe of its vectors; it refuses vectors of another recipe. docs/store.md explains the fields and
properties.
"""

from __future__ import annotations

import re
from typing import Any

from dedup_lib.errors import StoreError
from dedup_lib.records import MAX_URL_BYTES, Pooling, Recipe
from dedup_lib.store.address import StoreAddress
from dedup_lib.store.client import POOLING, RECIPE, Client, CollectionFacts
from dedup_lib.store.collection import Collection


def missing_collection(name: str, address: StoreAddress) -> StoreError:
    """The error for a collection that is not in this store."""
    return StoreError(
        f"there is no collection {name!r} in {address}: fill it first (03_extract with mode: direct, or 05_upload), or "
        "set collection to one that exists"
    )


def check_name(name: str) -> None:
    """Raises StoreError for a name that no collection may have."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,254}", name):
        raise StoreError(f"collection = {name!r} cannot be used: use letters, digits and _ only, and no digit first")


class Store:
    """One connection. Use it as a context manager: Milvus Lite keeps its file locked until it is closed."""

    def __init__(self, address: StoreAddress) -> None:
        self.address = address
        self._client = Client(address)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection and releases the lock on a Milvus Lite file."""
        self._client.close()

    def ping(self) -> str:
        """Returns the version of the server. Raises StoreError when the server does not answer."""
        with self._client.explained("ping"):
            return str(self._client.milvus.get_server_version(timeout=self._client.connect_timeout_s))

    def list_collections(self) -> list[CollectionFacts]:
        """Every collection, sorted by name."""
        with self._client.explained("list collections"):
            return [
                self._client.find_facts(name)
                for name in sorted(self._client.milvus.list_collections(timeout=self._client.timeout_s))
            ]

    def sample_rows(self, name: str, *, count: int = 3) -> list[dict[str, Any]]:
        """Returns `count` rows of a collection, without their vectors."""
        with self._client.explained(f"read {name}"):
            self._client.load(name)
            fields = [f["name"] for f in self._client.describe(name)["fields"] if f["name"] != "vector"]
            return list(
                self._client.milvus.query(
                    name, filter="", limit=count, output_fields=fields, timeout=self._client.timeout_s
                )
            )

    def has_collection(self, name: str) -> bool:
        with self._client.explained(f"look for {name}"):
            return bool(self._client.milvus.has_collection(name, timeout=self._client.timeout_s))

    def create_collection(self, name: str, *, pooling: Pooling, recipe: Recipe, dimension: int) -> Collection:
        """Creates an empty collection. Raises StoreError when the name is taken or not allowed."""
        from pymilvus import DataType

        self._check_new_name(name)
        with self._client.explained(f"create {name}"):
            fields = self._client.milvus.create_schema(auto_id=False, enable_dynamic_field=False)
            fields.add_field("id", DataType.VARCHAR, is_primary=True, max_length=64)
            fields.add_field("video", DataType.VARCHAR, max_length=32)
            fields.add_field("url", DataType.VARCHAR, max_length=MAX_URL_BYTES)
            fields.add_field("position", DataType.INT64)
            fields.add_field("vector", DataType.FLOAT_VECTOR, dim=dimension)
            self._client.milvus.create_collection(
                name,
                schema=fields,
                consistency_level="Strong",
                properties={RECIPE: recipe.to_json(), POOLING: str(pooling)},
                timeout=self._client.timeout_s,
            )
            self._client.add_index(name)
            return Collection(self._client, self._client.find_facts(name))

    def open_collection(self, name: str) -> Collection:
        """Opens an existing collection. Raises StoreError when there is none."""
        if not self.has_collection(name):
            raise missing_collection(name, self.address)
        with self._client.explained(f"open {name}"):
            return Collection(self._client, self._client.find_facts(name))

    def ensure_collection(
        self, name: str, *, pooling: Pooling, recipe: Recipe, dimension: int, overwrite: bool = False
    ) -> Collection:
        """Opens the collection of this name, or creates it; with `overwrite`, drops and creates it anew.

        Raises StoreError when it holds vectors of another recipe, pooling or dimension: they cannot be compared.
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
        """Renames a collection. Raises StoreError when there is none, or the new name is taken or not allowed."""
        self._require(name, "rename")
        self._check_new_name(new_name)
        with self._client.explained(f"rename {name}"):
            self._client.milvus.rename_collection(name, new_name, timeout=self._client.timeout_s)

    def drop_collection(self, name: str) -> None:
        """Deletes a collection with all its rows. Raises StoreError when there is none."""
        self._require(name, "drop")
        with self._client.explained(f"drop {name}"):
            self._client.milvus.drop_collection(name, timeout=self._client.timeout_s)

    def _require(self, name: str, action: str) -> None:
        if not self.has_collection(name):
            raise StoreError(
                f"there is no collection {name!r} in {self.address} to {action}: `collections list` shows what there is"
            )

    def _check_new_name(self, name: str) -> None:
        check_name(name)
        if self.has_collection(name):
            raise StoreError(
                f"the collection {name!r} already exists in {self.address}: drop it first, or choose another name"
            )

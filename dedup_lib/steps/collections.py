"""08: look at collections, and change them."""

from __future__ import annotations

import pandas as pd

from dedup_lib.errors import StoreError
from dedup_lib.features.encoders import load_encoder
from dedup_lib.records import Pooling, Schema
from dedup_lib.run.folder import RunFolder
from dedup_lib.settings import CollectionsSettings
from dedup_lib.steps.extract import make_recipe
from dedup_lib.store.address import StoreAddress
from dedup_lib.store.store import Store, check_name, missing_collection

_POOLING_OF_NEW = {
    Schema.VIDEO_DEDUP: Pooling.FIRST,
    Schema.VIDEO_FRAMES: Pooling.FRAMES,
    Schema.AGGREGATED: Pooling.AVERAGE,
}


def manage_collections(run: RunFolder, settings: CollectionsSettings) -> pd.DataFrame:
    """Ping the store, or list, create, rename or drop collections. Returns the collections afterwards, one row each.

    Raises StoreError where there is no store to look at, and creates none but for `create`.

    For `ping` the one row describes the store: its address, without any secret, and its version.
    """
    address = StoreAddress.choose(settings.store, run)
    if address.is_local and settings.action == "create":
        check_name(settings.collection)
        run.make()
    elif address.is_local and not run.lite_path.exists():
        return _answer_without_store(run, address, settings)
    with Store(address) as store:
        match settings.action:
            case "ping":
                return pd.DataFrame([{"store": str(store.address), "version": store.ping(), "answers": "yes"}])
            case "create":
                encoder = load_encoder(settings.encoder, model=settings.model)
                store.create_collection(
                    settings.collection,
                    pooling=_POOLING_OF_NEW[Schema(settings.schema)],
                    recipe=make_recipe(settings, encoder),
                    dimension=encoder.dimension,
                )
            case "rename":
                store.rename_collection(settings.collection, settings.new_name)
            case "drop":
                store.drop_collection(settings.collection)
        return _tabulate(
            [
                {
                    "collection": facts.name,
                    "rows": facts.rows,
                    "schema": str(facts.schema or "unknown"),
                    "dimension": facts.dimension,
                    "recipe": facts.recipe.to_json() if facts.recipe else "unknown",
                    "sample": ", ".join(
                        dict.fromkeys(
                            str(row.get("url", "")) for row in (store.sample_rows(facts.name) if facts.recipe else ())
                        )
                    ),
                }
                for facts in store.list_collections()
            ]
        )


def _tabulate(rows: list[dict[str, object]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["collection", "rows", "schema", "dimension", "recipe", "sample"])


def _answer_without_store(run: RunFolder, address: StoreAddress, settings: CollectionsSettings) -> pd.DataFrame:
    """What is said about a Milvus Lite file that is not there yet: it has no collections."""
    match settings.action:
        case "list":
            return _tabulate([])
        case "ping":
            raise StoreError(
                f"{run.shown(run.path)} has no store yet: 03_extract creates its {run.lite_path.name}, or name a "
                "server in MILVUS_URI"
            )
    raise missing_collection(settings.collection, address)

"""08: look at collections, and change them."""

from __future__ import annotations

import pandas as pd

from dedup_lib.features.encoders import load_encoder
from dedup_lib.records import Pooling, Schema
from dedup_lib.run.folder import RunFolder
from dedup_lib.settings import CollectionsSettings
from dedup_lib.steps.extract import make_recipe
from dedup_lib.store.address import StoreAddress
from dedup_lib.store.store import Store

_POOLING_OF_NEW = {
    Schema.VIDEO_DEDUP: Pooling.FIRST,
    Schema.VIDEO_FRAMES: Pooling.FRAMES,
    Schema.AGGREGATED: Pooling.AVERAGE,
}


def manage_collections(run: RunFolder, settings: CollectionsSettings) -> pd.DataFrame:
    """Ping the store, or list, create, rename or drop collections. Returns the collections afterwards, one row each.

    For `ping` the one row describes the store: its address, without any secret, and its version.
    """
    address = StoreAddress.choose(settings.store, run)
    if address.is_local:
        run.make()
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
        return pd.DataFrame(
            [
                {
                    "collection": facts.name,
                    "rows": facts.rows,
                    "schema": str(facts.schema or "unknown"),
                    "dimension": facts.dimension,
                    "recipe": facts.recipe.to_json() if facts.recipe else "unknown",
                    "sample": ", ".join(str(row.get("url", "")) for row in store.sample_rows(facts.name)),
                }
                for facts in store.list_collections()
            ],
            columns=["collection", "rows", "schema", "dimension", "recipe", "sample"],
        )

"""06: the numbers of a search, and its vectors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dedup_lib.errors import StoreError
from dedup_lib.features.encoders import DEFAULT_THRESHOLDS, SWEEP_LOWS
from dedup_lib.groups.clean import outcome_of_row
from dedup_lib.groups.matches import SearchPlan
from dedup_lib.match.vector_table import VectorTable
from dedup_lib.records import Pooling, Progress, Recipe, Status, VideoVectors
from dedup_lib.run.folder import RunFolder
from dedup_lib.settings import SearchSettings
from dedup_lib.steps.extracted_list import ExtractedList
from dedup_lib.store.collection import READ_ROWS, Collection
from dedup_lib.store.store import Store


def load_vector_table(run: RunFolder, collection: Collection, listed: ExtractedList, *, begin: Progress) -> VectorTable:
    """The vectors of the list, read from each store once. Raises StoreError where some are missing."""
    rows: dict[str, list[int]] = {}
    for row, url in enumerate(listed.urls):
        if outcome_of_row(url, listed.outcomes).status == Status.OK:
            rows.setdefault(url, []).append(row)
    elsewhere = {url for stored in listed.stored for url in stored.urls}
    missing: list[str] = []
    progress = begin("reading vectors", len(rows))

    def load_from(collection: Collection, wanted: Sequence[str]) -> Iterator[tuple[int, VideoVectors]]:
        for start in range(0, len(wanted), READ_ROWS):
            urls = wanted[start : start + READ_ROWS]
            progress(len(urls))
            stored = collection.load_vectors(urls)
            missing.extend(url for url in urls if url not in stored and rows[url][0] < listed.new_rows)
            for url, vectors in stored.items():
                for row in rows[url]:
                    yield row, vectors

    def load() -> Iterator[tuple[int, VideoVectors]]:
        yield from load_from(collection, [url for url in rows if url not in elsewhere])
        for stored in listed.stored:
            with Store(stored.address) as store:
                yield from load_from(store.open_collection(stored.collection), stored.urls)

    positions = collection.recipe.num_frames if collection.holds_frames else 1
    table = VectorTable.collect(load(), positions=positions, dimension=collection.facts.dimension, folder=run.path)
    if missing:
        raise StoreError(
            f"{len(missing)} of {len(rows)} videos have no vector in the collection {collection.facts.name!r}, "
            f"such as {missing[0]}: run 03_extract (direct flow) or 05_upload (batch flow) again first, "
            "without overwrite, start and end"
        )
    return table


def plan_search(collection: Collection, listed: ExtractedList, settings: SearchSettings, *, store: str) -> SearchPlan:
    """The numbers of a search. Raises StoreError where another recipe than the list's made the vectors of the
    collection, and SettingError where the sweep would end before it starts."""
    recipe = collection.recipe
    if listed.recipe not in (None, recipe):
        raise StoreError(
            f"the collection {settings.collection!r} was filled with other settings than 03_extract used here.\n"
            f"it holds:  {recipe.to_json()}\nthis run:  {listed.recipe.to_json() if listed.recipe else '?'}\n"
            "run 03_extract (and 05_upload in the batch flow) with the settings you want, or set collection to another "
            "one"
        )
    return make_plan(recipe, collection.pooling, settings, store=store)


def make_plan(recipe: Recipe, pooling: Pooling, settings: SearchSettings, *, store: str) -> SearchPlan:
    """The numbers of a search among vectors of this recipe. Raises SettingError where the sweep would end before it
    starts."""
    if settings.decide == "cosine":
        threshold = settings.cosine_thresh if settings.cosine_thresh is not None else DEFAULT_THRESHOLDS[recipe.encoder]
    else:
        threshold = settings.min_score
    low = min(find_sweep_low(settings, recipe), threshold)
    return SearchPlan(
        store=store,
        collection=settings.collection,
        pooling=pooling,
        recipe=recipe,
        measure="cosine" if settings.decide == "cosine" else "score",
        threshold=threshold,
        review_from=settings.review_from,
        versions=settings.versions,
        sweep_low=low,
        floor=low if settings.decide == "cosine" else SWEEP_LOWS[recipe.encoder],
    )


def find_sweep_low(settings: SearchSettings, recipe: Recipe) -> float:
    """The start of a sweep, unless the threshold lies below it."""
    if settings.sweep_low is not None:
        return settings.sweep_low
    return SWEEP_LOWS[recipe.encoder] if settings.decide == "cosine" else settings.review_from

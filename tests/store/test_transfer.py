"""Copies between stores, real ones on both sides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from stored import DIMENSION, RECIPE, unit_rows, video

from dedup_lib.errors import StoreError
from dedup_lib.records import Pooling, StoredRows, VideoVectors
from dedup_lib.store.address import StoreAddress
from dedup_lib.store.collection import READ_ROWS
from dedup_lib.store.store import Store
from dedup_lib.store.transfer import copy_between

VIDEOS = READ_ROWS // 2
_numbers = count()


@pytest.fixture
def lite(tmp_path: Path) -> StoreAddress:
    """A store with a collection of more rows than one call reads."""
    address = StoreAddress(uri=str(tmp_path / "milvus.db"))
    rows = unit_rows(3 * VIDEOS)
    with Store(address) as store:
        made = store.create_collection("videos", pooling=Pooling.FRAMES, recipe=RECIPE, dimension=DIMENSION)
        made.upsert(
            [
                VideoVectors(url=f"https://h/{n}?'\"\\ü", vectors=rows[3 * n : 3 * n + 3], positions=(0, 1, 2))
                for n in range(VIDEOS)
            ]
        )
    return address


@pytest.fixture(params=["lite", "server"])
def other(request: pytest.FixtureRequest, tmp_path: Path) -> StoreAddress:
    if request.param == "lite":
        return StoreAddress(uri=str(tmp_path / "other.db"))
    address: StoreAddress = request.getfixturevalue("milvus_server").address
    return address


@pytest.fixture
def name(other: StoreAddress) -> Iterator[str]:
    """Of a collection of the other store that is gone after the test."""
    name = f"t{next(_numbers)}"
    yield name
    with Store(other) as store:
        if store.has_collection(name):
            store.drop_collection(name)


def read_all(address: StoreAddress, collection: str) -> StoredRows:
    with Store(address) as store:
        blocks = list(store.open_collection(collection).stream_rows())
    return StoredRows(
        keys=tuple(key for block in blocks for key in block.keys),
        videos=tuple(key for block in blocks for key in block.videos),
        urls=tuple(url for block in blocks for url in block.urls),
        positions=tuple(position for block in blocks for position in block.positions),
        vectors=np.concatenate([block.vectors for block in blocks]),
    )


def assert_equal(first: StoredRows, second: StoredRows) -> None:
    assert (first.keys, first.videos, first.urls, first.positions) == (
        second.keys,
        second.videos,
        second.urls,
        second.positions,
    )
    np.testing.assert_array_equal(first.vectors, second.vectors)


def test_there_and_back(lite: StoreAddress, other: StoreAddress, name: str, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    there = copy_between(
        lite, other, collection="videos", new_name=name, progress=lambda done, total: seen.append((done, total))
    )
    assert (there.rows, there.written, there.target_rows) == (3 * VIDEOS,) * 3
    assert seen == sorted(seen)
    assert seen[-1] == (6 * VIDEOS, 6 * VIDEOS)
    back = StoreAddress(uri=str(tmp_path / "back.db"))
    assert copy_between(other, back, collection=name).written == 3 * VIDEOS
    assert_equal(read_all(lite, "videos"), read_all(back, name))
    with Store(back) as store:
        facts = store.open_collection(name).facts
        assert (facts.recipe, facts.pooling, facts.dimension) == (RECIPE, Pooling.FRAMES, DIMENSION)
    assert copy_between(lite, other, collection="videos", new_name=name).written == 0


def test_a_copy_that_was_stopped_goes_on(lite: StoreAddress, other: StoreAddress, name: str) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copy_between(lite, other, collection="videos", new_name=name, progress=stop)
    held = len(read_all(other, name))
    assert 0 < held < 3 * VIDEOS
    report = copy_between(lite, other, collection="videos", new_name=name)
    assert (report.rows, report.written, report.target_rows) == (3 * VIDEOS, 3 * VIDEOS - held, 3 * VIDEOS)
    assert_equal(read_all(lite, "videos"), read_all(other, name))


def test_rows_of_the_copy_alone_stay_and_others_are_put_right(
    lite: StoreAddress, other: StoreAddress, name: str
) -> None:
    copy_between(lite, other, collection="videos", new_name=name)
    original = read_all(lite, "videos")
    with Store(other) as store:
        copy = store.open_collection(name)
        copy.upsert([video("of the copy", frames=2)])
        turned = original.take([5])
        copy.put_rows(replace(turned, vectors=-turned.vectors))
    report = copy_between(lite, other, collection="videos", new_name=name)
    assert (report.rows, report.written, report.target_rows) == (3 * VIDEOS, 1, 3 * VIDEOS + 2)
    found = read_all(other, name)
    assert found.urls.count("of the copy") == 2
    assert_equal(found.take([n for n, url in enumerate(found.urls) if url != "of the copy"]), original)


def test_a_row_that_changes_meanwhile_is_noticed(lite: StoreAddress, other: StoreAddress, name: str) -> None:
    original = read_all(lite, "videos")

    def meddle(done: int, total: int) -> None:
        if done == total // 2:
            with Store(other) as store:
                store.open_collection(name).put_rows(replace(original.take([0]), urls=("meddled",)))

    if other.is_local:
        pytest.skip("a Milvus Lite file is open in one place alone")
    with pytest.raises(StoreError, match=r"1 rows of .* differ from those of 'videos'"):
        copy_between(lite, other, collection="videos", new_name=name, progress=meddle)


def test_vectors_of_another_recipe_are_not_mixed_in(lite: StoreAddress, other: StoreAddress, name: str) -> None:
    recipe = replace(RECIPE, num_frames=5)
    with Store(other) as store:
        store.create_collection(name, pooling=Pooling.FRAMES, recipe=recipe, dimension=DIMENSION)
    with pytest.raises(StoreError, match="other settings than those of the source") as caught:
        copy_between(lite, other, collection="videos", new_name=name)
    assert RECIPE.to_json() in str(caught.value)
    assert recipe.to_json() in str(caught.value)
    assert "another name" in str(caught.value)


def test_within_one_store(lite: StoreAddress) -> None:
    assert copy_between(lite, lite, collection="videos", new_name="again").rows == 3 * VIDEOS
    assert_equal(read_all(lite, "videos"), read_all(lite, "again"))
    for again in ("", "videos"):
        with pytest.raises(StoreError, match="onto itself"):
            copy_between(lite, lite, collection="videos", new_name=again)


def test_what_is_not_there_is_not_copied(lite: StoreAddress, tmp_path: Path) -> None:
    missing = StoreAddress(uri=str(tmp_path / "nosuch.db"))
    with pytest.raises(StoreError, match=r"there is no store at .*nosuch\.db"):
        copy_between(missing, lite, collection="videos")
    assert not Path(missing.uri).exists()
    with pytest.raises(StoreError, match="no collection 'nosuch'"):
        copy_between(lite, missing, collection="nosuch")

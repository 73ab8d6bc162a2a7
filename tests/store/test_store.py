"""The store on Milvus Lite and on a real server: what goes in, what comes out, and what is refused."""

from __future__ import annotations

import base64
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from stored import DIMENSION, RECIPE, unit_rows, video

from dedup_lib.errors import StoreError
from dedup_lib.features.vectors import normalise_rows
from dedup_lib.records import MAX_URL_BYTES, Pooling, Recipe, Schema, Vectors, VideoVectors, video_key
from dedup_lib.run.folder import RunFolder
from dedup_lib.store.address import StoreAddress
from dedup_lib.store.collection import READ_ROWS, Collection
from dedup_lib.store.store import Store

SECRET = "pass-w0rd"


@pytest.fixture(scope="module", params=["lite", "server"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    if request.param == "lite":
        address = StoreAddress(uri=str(tmp_path_factory.mktemp("store") / "milvus.db"))
    else:
        address = request.getfixturevalue("milvus_server").address
    with Store(address) as opened:
        yield opened


_numbers = count()


@pytest.fixture
def name(store: Store) -> Iterator[str]:
    """Of a collection that is gone after the test."""
    name = f"c{next(_numbers)}"
    yield name
    if store.has_collection(name):
        store.drop_collection(name)


Make = Callable[[Pooling], Collection]


@pytest.fixture
def make(store: Store, name: str) -> Make:
    return lambda pooling: store.create_collection(name, pooling=pooling, recipe=RECIPE, dimension=DIMENSION)


def stored_rows(store: Store, name: str) -> int:
    return next(facts.rows for facts in store.list_collections() if facts.name == name)


# Collections


@pytest.mark.parametrize("pooling", Pooling)
def test_a_collection_says_how_its_vectors_were_made(store: Store, name: str, make: Make, pooling: Pooling) -> None:
    made = make(pooling).facts
    assert (made.name, made.rows, made.dimension, made.pooling, made.recipe) == (name, 0, DIMENSION, pooling, RECIPE)
    assert made.schema == pooling.schema
    assert store.open_collection(name).facts == made
    assert made in store.list_collections()
    assert store.open_collection(name).holds_frames == (pooling.schema == Schema.VIDEO_FRAMES)


@pytest.mark.parametrize("bad", ["", "1a", "a b", "a-b", "ä", "a;b", "a" * 256, "a\n"])
def test_names_that_a_server_refuses_are_refused(store: Store, bad: str) -> None:
    with pytest.raises(StoreError, match="letters, digits and _ only"):
        store.create_collection(bad, pooling=Pooling.FIRST, recipe=RECIPE, dimension=DIMENSION)


def test_a_name_is_given_once(store: Store, name: str, make: Make) -> None:
    make(Pooling.FIRST)
    with pytest.raises(StoreError, match=f"'{name}' already exists"):
        make(Pooling.FIRST)


def test_what_is_not_there_is_neither_opened_nor_dropped(store: Store) -> None:
    where = re.escape(str(store.address))
    with pytest.raises(StoreError, match=f"no collection 'nosuch' in {where}: fill it first"):
        store.open_collection("nosuch")
    with pytest.raises(StoreError, match="no collection 'nosuch'"):
        store.drop_collection("nosuch")


def test_what_milvus_refuses_is_one_line(store: Store, capfd: pytest.CaptureFixture[str]) -> None:
    for refused in (store.has_collection, store.open_collection, store.drop_collection):
        with pytest.raises(StoreError, match="illegal") as caught:
            refused("")
        assert "\n" not in str(caught.value)
    with pytest.raises(StoreError, match="cannot create zero"):
        store.create_collection("zero", pooling=Pooling.FIRST, recipe=RECIPE, dimension=0)
    assert "Traceback" not in capfd.readouterr().err


def test_a_collection_may_be_given_another_name(store: Store, name: str, make: Make) -> None:
    make(Pooling.FIRST).upsert([video("a")])
    store.rename_collection(name, f"{name}_new")
    assert not store.has_collection(name)
    renamed = store.open_collection(f"{name}_new")
    assert (renamed.facts.rows, renamed.recipe, renamed.pooling) == (1, RECIPE, Pooling.FIRST)
    assert renamed.search(unit_rows(1), 1)[0][0].video == video_key("a")
    renamed.upsert([video("b")])
    make(Pooling.FIRST)
    for new, said in ((name, "already exists"), (f"{name}_new", "already exists"), ("a b", "letters, digits")):
        with pytest.raises(StoreError, match=said):
            store.rename_collection(f"{name}_new", new)
    with pytest.raises(StoreError, match=r"no collection 'nosuch' .* to rename"):
        store.rename_collection("nosuch", "other")
    assert store.open_collection(f"{name}_new").list_urls() == ["a", "b"]
    store.drop_collection(f"{name}_new")


def test_dropping_takes_a_collection_with_all_its_rows(store: Store, name: str, make: Make) -> None:
    make(Pooling.FIRST).upsert([video("a")])
    store.drop_collection(name)
    assert not store.has_collection(name)
    assert make(Pooling.FIRST).list_urls() == []


def test_ensure_makes_then_keeps_then_empties(store: Store, name: str) -> None:
    def ensure(*, overwrite: bool) -> Collection:
        return store.ensure_collection(
            name, pooling=Pooling.FIRST, recipe=RECIPE, dimension=DIMENSION, overwrite=overwrite
        )

    ensure(overwrite=False).upsert([video("a")])
    assert ensure(overwrite=False).list_urls() == ["a"]
    assert ensure(overwrite=True).list_urls() == []
    other = replace(RECIPE, encoder="clip", model="m")
    store.ensure_collection(name, pooling=Pooling.MAX, recipe=other, dimension=4, overwrite=True)
    assert store.open_collection(name).recipe == other


@pytest.mark.parametrize(
    ("recipe", "pooling", "dimension"),
    [
        pytest.param(replace(RECIPE, num_frames=5), Pooling.FRAMES, DIMENSION, id="recipe"),
        pytest.param(replace(RECIPE, preprocessing=99), Pooling.FRAMES, DIMENSION, id="preprocessing"),
        pytest.param(RECIPE, Pooling.AVERAGE, DIMENSION, id="pooling"),
        pytest.param(RECIPE, Pooling.FRAMES, DIMENSION + 1, id="dimension"),
    ],
)
def test_other_vectors_are_not_mixed_in(
    store: Store, name: str, make: Make, recipe: Recipe, pooling: Pooling, dimension: int
) -> None:
    make(Pooling.FRAMES).upsert([video("a")])
    with pytest.raises(StoreError) as caught:
        store.ensure_collection(name, pooling=pooling, recipe=recipe, dimension=dimension)
    assert f"holds:  frames, {DIMENSION} dimensions, {RECIPE.to_json()}" in str(caught.value)
    assert f"this run:  {pooling}, {dimension} dimensions, {recipe.to_json()}" in str(caught.value)
    assert "overwrite: true" in str(caught.value)
    assert stored_rows(store, name) == 1


def test_a_collection_of_unknown_origin_is_listed_and_not_compared(tmp_path: Path) -> None:
    from pymilvus import MilvusClient

    address = StoreAddress(uri=str(tmp_path / "milvus.db"))
    with Store(address) as store:
        MilvusClient(address.uri).create_collection("foreign", dimension=4)
        (facts,) = store.list_collections()
        assert (facts.name, facts.recipe, facts.pooling, facts.schema) == ("foreign", None, None, None)
        assert store.sample_rows("foreign") == []
        foreign = store.open_collection("foreign")
        with pytest.raises(StoreError, match="does not say how its vectors were made"):
            _ = foreign.recipe
        with pytest.raises(StoreError, match="not filled by this project"):
            _ = foreign.pooling
        with pytest.raises(StoreError, match="does not say how its vectors were made"):
            foreign.list_urls()
        with pytest.raises(StoreError, match=r"it holds:  None, 4 dimensions, \?"):
            store.ensure_collection("foreign", pooling=Pooling.FIRST, recipe=RECIPE, dimension=4)


# Rows in


@pytest.mark.parametrize("pooling", [Pooling.FIRST, Pooling.FRAMES])
def test_storing_twice_doubles_nothing(store: Store, name: str, make: Make, pooling: Pooling) -> None:
    collection = make(pooling)
    videos = [video(f"v{n}", frames=3 if pooling == Pooling.FRAMES else 1, seed=n) for n in range(5)]
    for _ in range(2):
        collection.upsert(videos)
    collection.upsert([*videos, *videos])
    assert stored_rows(store, name) == sum(len(v.positions) for v in videos)
    assert collection.count_stored([v.url for v in videos]) == {v.url: len(v.positions) for v in videos}


def test_the_last_vectors_of_a_video_count(make: Make) -> None:
    collection = make(Pooling.FRAMES)
    collection.upsert([video("a", frames=3, seed=1), video("b", frames=3, seed=2)])
    collection.upsert([video("a", frames=3, seed=3), video("a", frames=2, seed=4)])
    held = collection.load_vectors(["a", "b"])
    assert held["a"].positions == (0, 1)
    np.testing.assert_array_equal(held["a"].vectors, unit_rows(2, seed=4))
    np.testing.assert_array_equal(held["b"].vectors, unit_rows(3, seed=2))


def test_nothing_is_a_fine_batch(store: Store, name: str, make: Make) -> None:
    make(Pooling.FRAMES).upsert([])
    assert stored_rows(store, name) == 0


def broken(change: Callable[[Vectors], Vectors]) -> VideoVectors:
    whole = video("bad", frames=2, seed=9)
    return replace(whole, vectors=change(whole.vectors.copy()))


def with_entry(value: float) -> Callable[[Vectors], Vectors]:
    def change(rows: Vectors) -> Vectors:
        rows[1, 2] = value
        return rows

    return change


CHANGES: dict[str, Callable[[Vectors], Vectors]] = {
    "nan": with_entry(float("nan")),
    "infinity": with_entry(float("inf")),
    "zero": lambda rows: rows * 0,
    "too long": lambda rows: rows * np.float32(1.01),
    "too narrow": lambda rows: rows[:, :-1],
    "too wide": lambda rows: np.pad(rows, ((0, 0), (0, 1))),
}


@pytest.mark.parametrize("pooling", [Pooling.FRAMES, Pooling.FIRST])
def test_one_bad_vector_and_nothing_of_the_batch_is_written(make: Make, pooling: Pooling) -> None:
    collection = make(pooling)
    collection.upsert([video("kept")])
    for change in CHANGES.values():
        with pytest.raises(StoreError, match=f"vectors of bad .*unit vectors of {DIMENSION} dimensions"):
            collection.upsert([video("kept", seed=5), video("new"), broken(change)])
        assert collection.list_urls() == ["kept"]
        np.testing.assert_array_equal(collection.load_vectors(["kept"])["kept"].vectors, unit_rows(1))


# Rows out

ODD_URLS = [
    "https://h/'single'.mp4",
    'https://h/"double".mp4',
    "https://h/back\\slash\\.mp4",
    "https://h/ünï-中文-🎬.mp4",
    "https://h/a]' or video != \"",
    "/a path/with spaces & {braces}.mp4",
    "https://h/" + "x" * 2000,
    "",
]


def test_any_url_comes_back(store: Store, name: str, make: Make) -> None:
    collection = make(Pooling.FIRST)
    collection.upsert([video(url, seed=n) for n, url in enumerate(ODD_URLS)])
    assert collection.list_urls() == sorted(ODD_URLS)
    held = collection.load_vectors([*ODD_URLS, "absent", ODD_URLS[0]])
    assert list(held) == ODD_URLS
    for n, url in enumerate(ODD_URLS):
        assert (held[url].url, held[url].key, held[url].positions) == (url, video_key(url), (0,))
        np.testing.assert_array_equal(held[url].vectors, unit_rows(1, seed=n))
        assert held[url].vectors.dtype == np.float32
    assert {row["url"] for row in store.sample_rows(name, count=100)} == set(ODD_URLS)
    assert all("vector" not in row for row in store.sample_rows(name))
    assert len(store.sample_rows(name, count=2)) == 2


def test_positions_come_back_in_order(make: Make) -> None:
    collection = make(Pooling.FRAMES)
    rows = unit_rows(3)
    collection.upsert([VideoVectors(url="a", vectors=rows, positions=(2, 0, 1))])
    held = collection.load_vectors(["a"])["a"]
    assert held.positions == (0, 1, 2)
    np.testing.assert_array_equal(held.vectors, rows[[1, 2, 0]])


def test_a_frame_beyond_the_recipe_is_refused(make: Make) -> None:
    collection = make(Pooling.FRAMES)
    with pytest.raises(StoreError, match="frame number 3, but these settings take 3 frames"):
        collection.upsert([VideoVectors(url="a", vectors=unit_rows(1), positions=(3,))])
    assert collection.count_stored(["a"]) == {}


def test_more_videos_than_one_call_reads(store: Store, name: str, make: Make) -> None:
    collection = make(Pooling.FRAMES)
    rows = unit_rows(3 * (READ_ROWS + 50))
    videos = [
        VideoVectors(url=f"https://h/{n}", vectors=rows[3 * n : 3 * n + 3], positions=(0, 1, 2))
        for n in range(READ_ROWS + 50)
    ]
    collection.upsert(videos)
    urls = [v.url for v in videos]
    assert stored_rows(store, name) == len(rows)
    assert collection.list_urls() == sorted(urls)
    assert collection.count_stored(urls) == dict.fromkeys(urls, 3)
    held = collection.load_vectors(urls)
    np.testing.assert_array_equal(np.concatenate([held[url].vectors for url in urls]), rows)
    collection.upsert([replace(v, vectors=v.vectors[:1], positions=(0,)) for v in videos])
    assert collection.count_stored(urls) == dict.fromkeys(urls, 1)


@pytest.mark.parametrize("pooling", [Pooling.FIRST, Pooling.FRAMES])
def test_all_rows_come_back_once_in_the_order_of_their_keys(make: Make, pooling: Pooling) -> None:
    collection = make(pooling)
    frames = 3 if pooling == Pooling.FRAMES else 1
    videos = [video(f"https://h/{n}", frames=frames, seed=n) for n in range(READ_ROWS // 2)]
    collection.upsert(videos)
    collection.upsert(videos[: READ_ROWS // 4])
    expected = sorted((v.key, p, v.url, tuple(row)) for v in videos for p, row in enumerate(v.vectors))
    blocks = list(collection.stream_rows())
    assert max(map(len, blocks)) <= READ_ROWS
    assert all(block.vectors.dtype == np.float32 for block in blocks)
    rows = [
        (key, position, url, tuple(vector))
        for block in blocks
        for key, position, url, vector in zip(block.videos, block.positions, block.urls, block.vectors, strict=True)
    ]
    assert rows == expected
    keys = [key for block in blocks for key in block.keys]
    assert keys == sorted(set(keys))


def test_rows_that_vanish_while_they_are_read_are_noticed(make: Make) -> None:
    collection = make(Pooling.FRAMES)
    collection.upsert([video(f"v{n}", frames=3) for n in range(READ_ROWS)])
    last = max((f"v{n}" for n in range(READ_ROWS)), key=video_key)
    blocks = collection.stream_rows()
    next(blocks)
    collection.upsert([video(last, frames=1)])
    with pytest.raises(StoreError, match=r"2,998 rows .* counts 3,000: another process is writing to it"):
        list(blocks)


def test_urls_may_be_as_long_as_they_can_be(make: Make) -> None:
    """Together they are longer than the longest message that a server takes or sends."""
    collection = make(Pooling.FIRST)
    urls = [f"{n:05}" + "ü" * ((MAX_URL_BYTES - 5) // 2) for n in range(READ_ROWS + 30)]
    rows = unit_rows(len(urls))
    collection.upsert([VideoVectors(url=url, vectors=rows[n : n + 1], positions=(0,)) for n, url in enumerate(urls)])
    assert collection.list_urls() == urls
    assert sum(map(len, collection.stream_rows())) == len(urls)


def test_a_collection_that_was_released_is_loaded_again(store: Store, name: str, make: Make) -> None:
    collection = make(Pooling.FIRST)
    collection.upsert([video("a")])
    reads: list[Callable[[], object]] = [
        lambda: collection.load_vectors(["a"]).keys() == {"a"},
        lambda: collection.search(unit_rows(1), 1)[0][0].video == video_key("a"),
        lambda: collection.list_urls() == ["a"],
    ]
    for read in reads:
        store._client.milvus.release_collection(name)
        assert read()


# Search


@pytest.mark.parametrize("limit", [-1, 0, 16_385])
def test_more_neighbours_than_milvus_gives(make: Make, limit: int) -> None:
    with pytest.raises(StoreError, match="Milvus gives from 1 to 16,384"):
        make(Pooling.FIRST).search(unit_rows(1), limit)


def test_search_is_exact(make: Make) -> None:
    random = np.random.default_rng(3)
    centres = random.normal(size=(12, DIMENSION))
    rows = normalise_rows(centres[random.integers(12, size=600)] + 0.1 * random.normal(size=(600, DIMENSION)))
    collection = make(Pooling.FIRST)
    urls = [f"https://h/{n}" for n in range(len(rows))]
    collection.upsert([VideoVectors(url=url, vectors=rows[n : n + 1], positions=(0,)) for n, url in enumerate(urls)])
    cosines = rows.astype(np.float64) @ rows.astype(np.float64).T
    keys = [video_key(url) for url in urls]
    for queries, limit in ((600, 1), (600, 10), (40, 600), (3, 16_384)):
        found = collection.search(rows[:queries], limit)
        assert len(found) == queries
        assert {len(hits) for hits in found} == {min(limit, 600)}
        for n, hits in enumerate(found):
            best = np.sort(cosines[n])[::-1][: len(hits)]
            np.testing.assert_allclose([hit.cosine for hit in hits], best, atol=1e-5)
            exact = [cosines[n, keys.index(hit.video)] for hit in hits[:20]]
            np.testing.assert_allclose([hit.cosine for hit in hits[:20]], exact, atol=1e-5)
            assert len({hit.video for hit in hits}) == len(hits)


def test_search_finds_what_was_stored_a_moment_ago(make: Make) -> None:
    collection = make(Pooling.FIRST)
    for n in range(10):
        collection.upsert([video(f"v{n}", seed=n)])
        (hits,) = collection.search(unit_rows(1, seed=n), 1)
        assert hits[0].video == video_key(f"v{n}")
        assert hits[0].cosine == pytest.approx(1, abs=1e-6)


def test_an_empty_collection_has_no_neighbours(make: Make) -> None:
    collection = make(Pooling.FRAMES)
    assert collection.search(unit_rows(2), 5) == [[], []]
    assert collection.list_urls() == []
    assert list(collection.stream_rows()) == []
    assert collection.load_vectors(["a"]) == {}
    collection.upsert([video("a")])
    assert collection.search(unit_rows(0), 5) == []


@pytest.mark.parametrize(
    ("kind", "params", "asked"),
    [("IVF_FLAT", {"nlist": 4}, {"nprobe": 4}), ("HNSW", {"M": 8, "efConstruction": 64}, {"ef": 300})],
)
def test_an_index_is_made_as_asked(
    store: Store, name: str, make: Make, kind: str, params: dict[str, int], asked: dict[str, int]
) -> None:
    rows = unit_rows(300)
    collection = make(Pooling.FIRST)
    collection.upsert([VideoVectors(url=f"u{n}", vectors=row[None], positions=(0,)) for n, row in enumerate(rows)])
    for _ in range(2):
        collection.ensure_index(kind, params)
        held = store._client.milvus.describe_index(name, "vector")
        assert held["index_type"] == kind
        assert {key: int((held.get("params") or held)[key]) for key in params} == params
        for (hit,), number in zip(collection.search(rows[:20], 1, params=asked), range(20), strict=True):
            assert hit.video == video_key(f"u{number}")
    with pytest.raises(StoreError, match=f"cannot index {name} by NOSUCH in"):
        collection.ensure_index("NOSUCH", {})
    assert [hits[0].video for hits in collection.search(rows[:2], 1)] == [video_key("u0"), video_key("u1")]


# The file


def test_rows_outlive_the_connection(tmp_path: Path) -> None:
    address = StoreAddress(uri=str(tmp_path / "milvus.db"))
    with Store(address) as store:
        made = store.create_collection("v", pooling=Pooling.FRAMES, recipe=RECIPE, dimension=DIMENSION)
        made.upsert([video("a", frames=3)])
    with Store(address) as store:
        assert store.ping()
        held = store.open_collection("v")
        assert (held.facts.rows, held.recipe, held.pooling) == (3, RECIPE, Pooling.FRAMES)
        np.testing.assert_array_equal(held.load_vectors(["a"])["a"].vectors, unit_rows(3))
        assert [hit.video for hit in held.search(unit_rows(1), 1)[0]] == [video_key("a")]


OPEN_STORE = """
import sys
from dedup_lib.errors import StoreError
from dedup_lib.store.store import Store
from dedup_lib.store.address import StoreAddress
try:
    Store(StoreAddress(uri=sys.argv[1])).close()
except StoreError as error:
    sys.exit(str(error))
"""


def open_elsewhere(path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", OPEN_STORE, str(path)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_file_serves_one_process_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "milvus.db"
    with Store(StoreAddress(uri=str(path))):
        second = open_elsewhere(path)
    assert second.returncode == 1
    assert "another notebook or run has it open, and a Milvus Lite file takes one process at a time" in second.stderr
    assert "Traceback" not in second.stderr
    assert open_elsewhere(path).returncode == 0, "the lock goes with the store"


def test_what_cannot_be_opened_is_named_with_its_cause(tmp_path: Path) -> None:
    for path, said in (
        (tmp_path / "file.db", "a single file of an older Milvus Lite"),
        (tmp_path / "nosuch" / "milvus.db", "not exists"),
        (Path("/proc/milvus.db"), "No such file or directory"),
    ):
        (tmp_path / "file.db").write_text("SQLite format 3")
        with pytest.raises(StoreError, match=re.escape(f"cannot open {path}: ")) as caught:
            Store(StoreAddress(uri=str(path)))
        assert said in str(caught.value)


INDEX_AND_DIE = """
import resource, signal, sys
from pymilvus import MilvusClient
client = MilvusClient(sys.argv[1])
client.flush("v")
client.release_collection("v")
index = client.prepare_index_params()
index.add_index("vector", index_type="IVF_FLAT", metric_type="IP", params={"params": {"nlist": 4}})
if "--die" in sys.argv:
    # Python would get an error. So the kernel ends the process at the byte, in the middle of the file.
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
client.create_index("v", index)
client.load_collection("v")
"""


def test_an_index_that_was_half_written_by_a_killed_process_is_no_loss(tmp_path: Path) -> None:
    path = tmp_path / "milvus.db"
    rows = unit_rows(1500)
    with Store(StoreAddress(uri=str(path))) as store:
        made = store.create_collection("v", pooling=Pooling.FIRST, recipe=RECIPE, dimension=DIMENSION)
        made.upsert([VideoVectors(url=f"u{n}", vectors=rows[n : n + 1], positions=(0,)) for n in range(len(rows))])
    command = [sys.executable, "-c", INDEX_AND_DIE, str(path)]
    killed = subprocess.run([*command, "--die"], capture_output=True, timeout=120, check=False)
    assert killed.returncode == -signal.SIGXFSZ, killed.stderr.decode()
    again = subprocess.run(command, capture_output=True, timeout=120, check=False)
    assert again.returncode, "the index is whole: nothing is to be mended"
    with Store(StoreAddress(uri=str(path))) as store:
        held = store.open_collection("v")
        assert held.facts.rows == len(rows)
        assert held.search(rows[7:8], 1)[0][0].video == video_key("u7")
    with Store(StoreAddress(uri=str(path))) as store:
        assert len(store.open_collection("v").list_urls()) == len(rows)


SEARCH_TWICE = """
import sys, time
import numpy as np
from dedup_lib.records import Pooling, Recipe, VideoVectors
from dedup_lib.store.store import Store
from dedup_lib.store.address import StoreAddress
recipe = Recipe(encoder="pdq", model="", num_frames=3, frame_span="spread")
rows = np.eye(8, dtype=np.float32)
for _ in range(2):
    with Store(StoreAddress(uri=sys.argv[1])) as store:
        made = store.ensure_collection("v", pooling=Pooling.FIRST, recipe=recipe, dimension=8)
        made.upsert([VideoVectors(url=f"u{n}", vectors=rows[n % 8 :][:1], positions=(0,)) for n in range(300)])
        store._client.milvus.flush("v")
        made.search(rows, 10)
        made.ensure_index("IVF_FLAT", {"nlist": 128})
        assert len(made.search(rows, 300, params={"nprobe": 128})[0]) == 300
        made.upsert([VideoVectors(url="u0", vectors=rows[:1], positions=(0,))])
        store._client.milvus.flush("v")
        time.sleep(0.5)
"""


def test_the_terminal_stays_quiet(tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-c", SEARCH_TWICE, str(tmp_path / "milvus.db")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=True,
    )
    assert told.stdout == ""


STORE_AND_WAIT = """
import sys, time
import numpy as np
from dedup_lib.records import MAX_URL_BYTES, Pooling, Recipe, VideoVectors
from dedup_lib.store.store import Store
from dedup_lib.store.address import StoreAddress
store = Store(StoreAddress(uri=sys.argv[1]))
recipe = Recipe(encoder="pdq", model="", num_frames=3, frame_span="spread")
made = store.create_collection("v", pooling=Pooling.FIRST, recipe=recipe, dimension=8)
for n in range(300):
    made.upsert([VideoVectors(url=f"u{n}", vectors=np.eye(8, dtype=np.float32)[n % 8 :][:1], positions=(0,))])
sys.stdout.write("stored\\n")
sys.stdout.flush()
time.sleep(600)
"""


def test_a_killed_process_loses_no_stored_row(tmp_path: Path) -> None:
    path = tmp_path / "milvus.db"
    writer = subprocess.Popen([sys.executable, "-c", STORE_AND_WAIT, str(path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    with writer.stdout:
        assert writer.stdout.readline() == "stored\n"
        writer.kill()
        writer.wait()
    with Store(StoreAddress(uri=str(path))) as store:
        held = store.open_collection("v")
        assert held.list_urls() == sorted(f"u{n}" for n in range(300))
        assert len(held.search(unit_rows(1), 300)[0]) == 300


# The address


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    for name in ("MILVUS_URI", "MILVUS_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for folder in ("notebooks", "params"):
        (tmp_path / folder).mkdir()
    return RunFolder(tmp_path / "outputs" / "mine")


def test_without_settings_it_is_the_file_in_the_run_folder(run: RunFolder) -> None:
    address = StoreAddress.find(run)
    assert address == StoreAddress(uri=str(run.lite_path))
    assert address.is_local
    assert str(address) == "Milvus Lite, milvus.db"


def test_the_env_file_lies_at_the_project_root_and_the_environment_wins(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text(f"MILVUS_URI = http://10.0.0.1:19530 \nMILVUS_TOKEN='root:{SECRET}'\n")
    address = StoreAddress.find(run)
    assert (address.uri, address.token, address.is_local) == ("http://10.0.0.1:19530", f"root:{SECRET}", False)
    monkeypatch.setenv("MILVUS_URI", "https://in01.zillizcloud.com")
    assert StoreAddress.find(run) == StoreAddress(uri="https://in01.zillizcloud.com", token=f"root:{SECRET}")
    monkeypatch.setenv("MILVUS_URI", " ")
    assert StoreAddress.find(run).is_local


def test_an_env_file_in_another_encoding(run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(f"# größe\nMILVUS_TOKEN={SECRET}\n".encode("utf-16"))
    with pytest.raises(StoreError, match=r"\.env is not valid UTF-8") as caught:
        StoreAddress.find(run)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "uri",
    [
        "milvus.db",
        "/data/milvus.db",
        "localhost:19530",
        f"tcp://root:{SECRET}@host:19530",
        "http://",
        f"http://root:{SECRET}@",
        f"http://root:{SECRET}@host:abc",
        f"http://root:{SECRET}@host:99999",
        f"http://root:{SECRET}@[::1",
        "http://host:0",
    ],
)
def test_what_is_no_address_is_refused_without_repeating_it(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    monkeypatch.setenv("MILVUS_URI", uri)
    with pytest.raises(StoreError, match=r"MILVUS_URI is not the http:// or https:// address") as caught:
        StoreAddress.find(run)
    assert SECRET not in str(caught.value)


def test_no_text_form_shows_a_secret() -> None:
    address = StoreAddress(uri=f"https://root:{SECRET}@db.example:443/name?token={SECRET}", token=SECRET)
    assert str(address) == "https://db.example:443"
    assert str(StoreAddress(uri=f"http://root:{SECRET}@[::1]:19530")) == "http://[::1]:19530"
    for text in (repr(address), f"{address}", f"{[address]}"):
        assert SECRET not in text
        assert "root" not in text


def test_a_server_that_is_away_is_named_and_its_secrets_are_not(capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(StoreError) as caught:
        Store(StoreAddress(uri=f"http://root:{SECRET}@127.0.0.1:{port}", token=f"other:{SECRET}"))
    assert f"http://127.0.0.1:{port} does not answer. Check MILVUS_URI" in str(caught.value)
    assert caught.value.__suppress_context__, "what is chained to it may hold the URI"
    said = capfd.readouterr()
    assert SECRET not in str(caught.value) + said.out + said.err


class Echo(grpc.GenericRpcHandler):
    """Takes a connection and refuses every call on it, and says what was sent with it."""

    def service(self, handler_call_details: Any) -> Any:
        if handler_call_details.method.endswith("/Connect"):
            return grpc.unary_unary_rpc_method_handler(lambda request, context: b"")
        sent = f"{dict(handler_call_details.invocation_metadata)} root:{SECRET} http://root:{SECRET}@127.0.0.1"
        return grpc.unary_unary_rpc_method_handler(
            lambda request, context: context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"no: None {sent}\x1b[31m")
        )


@pytest.mark.parametrize(("user", "token"), [("", f"root:{SECRET}"), (f"root:{SECRET}@", "")], ids=["token", "URI"])
def test_a_server_that_repeats_what_it_was_sent_shows_no_secret(
    user: str, token: str, capfd: pytest.CaptureFixture[str]
) -> None:
    server = grpc.server(ThreadPoolExecutor(2), handlers=[Echo()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with pytest.raises(StoreError) as caught:
            Store(StoreAddress(uri=f"http://{user}127.0.0.1:{port}", token=token)).list_collections()
    finally:
        server.stop(None)
    said = capfd.readouterr()
    shown = str(caught.value) + said.out + said.err
    assert "no: None " in shown
    for secret in (SECRET, base64.b64encode(f"root:{SECRET}".encode()).decode(), "\x1b"):
        assert secret not in shown


def test_a_path_in_milvus_uri_is_refused_before_pymilvus_stumbles_over_it(tmp_path: Path) -> None:
    code = (
        "from dedup_lib.errors import StoreError\nfrom dedup_lib.run.folder import RunFolder\n"
        "from dedup_lib.store.store import StoreAddress\nimport sys\n"
        "try:\n    StoreAddress.find(RunFolder(sys.argv[1]))\nexcept StoreError as error:\n    sys.exit(str(error))\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env=os.environ | {"MILVUS_URI": str(tmp_path / "milvus.db")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert found.returncode == 1
    assert found.stderr.startswith("MILVUS_URI is not the http:// or https:// address")

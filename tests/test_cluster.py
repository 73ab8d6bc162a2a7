"""Videos are read on the machines of a Ray cluster as they are here, and no machine that is lost loses one."""

from __future__ import annotations

import functools
import os
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from media import save_clip
from test_extract import LIMITS, RECIPE, SCAN, WANTED, Hostile, media  # noqa: F401 - a fixture
from tiny_clip import WIDTH, save_tiny_clip

from dedup_lib import cluster as cluster_module
from dedup_lib import extract
from dedup_lib.cluster import ClusterPool
from dedup_lib.demo.server import ClipServer
from dedup_lib.encoders import Encoder, load_encoder
from dedup_lib.errors import ClusterError, EncoderError
from dedup_lib.extract import CollectionSink, ExtractReport, MakePool, encode_beside, extract_videos
from dedup_lib.ledger import Ledger
from dedup_lib.records import Outcome, Pooling, Recipe, Status
from dedup_lib.store import Store, StoreAddress
from dedup_lib.workers import Died

# Read when Ray is imported: it would look for an address by which others reach this machine, and report to its makers.
os.environ |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}
pytest.importorskip("ray", reason="Ray is not installed: pip install -r requirements-ray.txt")

TESTS = Path(__file__).resolve().parent
NODE: dict[str, Any] = {
    "num_cpus": 1,
    "node_ip_address": "127.0.0.1",
    "object_store_memory": 80 * 1024**2,
    "include_dashboard": False,
}


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A cluster of two nodes on the loopback interface."""
    with pytest.MonkeyPatch.context() as patch:
        # Whatever it is told, Ray asks whether this machine is in a cloud unless this file says so, and tells its
        # makers that it has nothing to tell.
        home = tmp_path_factory.mktemp("home")
        (home / "ray_bootstrap_config.yaml").write_text("provider: {type: local}")
        patch.setenv("HOME", str(home))
        patch.setenv("RAY_USAGE_STATS_REPORT_URL", "http://127.0.0.1:9")
        patch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]))
        from ray.cluster_utils import Cluster

        made = Cluster(initialize_head=True, head_node_args=NODE)
        made.add_node(**NODE)
        patch.setenv("RAY_ADDRESS", made.address)
        yield made
        made.shutdown()


@pytest.fixture
def server(media: Path) -> Iterator[ClipServer]:  # noqa: F811
    with ClipServer(media) as server:
        yield server


def on_cluster(name: str = "pdq", model: str = "") -> MakePool:
    return functools.partial(ClusterPool, make_finish=functools.partial(encode_beside, name, model, 8))


def run(
    urls: list[str],
    folder: Path,
    *,
    cluster: MakePool | None,
    encoder: Encoder | None = None,
    recipe: Recipe = RECIPE,
    timeout_s: float = LIMITS.timeout_s,
    progress: Callable[[int], object] = lambda count: None,
) -> ExtractReport:
    """Extract into a collection below the folder."""
    encoder = encoder or load_encoder("pdq")
    with (
        Ledger(folder / "ledger.sqlite", recipe) as ledger,
        Store(StoreAddress(uri=str(folder / "milvus.db"))) as store,
    ):
        collection = store.ensure_collection(
            "videos", pooling=Pooling.FRAMES, recipe=recipe, dimension=encoder.dimension
        )
        return extract_videos(
            urls,
            rows=range(len(urls)),
            encoder=encoder,
            recipe=recipe,
            scan=SCAN,
            sink=CollectionSink(collection),
            ledger=ledger,
            limits=replace(LIMITS, timeout_s=timeout_s),
            workers=2,
            most_a_host=64,
            retries=0,
            batch_size=8,
            thumbnails_dir=folder / "thumbnails",
            cluster=cluster,
            progress=progress,
        )


def stored(folder: Path, urls: list[str]) -> dict[str, np.ndarray]:
    """The vectors in the collection, and that it holds no others."""
    with Store(StoreAddress(uri=str(folder / "milvus.db"))) as store:
        collection = store.open_collection("videos")
        found = {url: video.vectors for url, video in collection.load_vectors(urls).items()}
        assert collection.facts.rows == sum(len(vectors) for vectors in found.values())
    return found


def timeless(outcome: Outcome) -> Outcome:
    return replace(outcome, elapsed_s=0.0, started="")


def in_process(number: int) -> int:
    """A task that is done by a process of a machine; some kill theirs."""
    if number == 12:
        os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(0.02)
    return number


def tell_machine() -> Callable[[Any], Any]:
    """What is added on a machine: its name."""
    import ray

    node = ray.get_runtime_context().get_node_id()
    return lambda number: (number, node)


def make_pool(make_finish: Callable[[], Callable[[Any], Any]] = tell_machine) -> ClusterPool[int, Any]:
    return ClusterPool(in_process, workers=2, timeout_s=20, make_finish=make_finish)


def refuse() -> Callable[[Any], Any]:
    raise EncoderError("the model is not on this machine")


def test_both_machines_work_and_a_process_that_dies_is_one_task(nodes: Any) -> None:
    with make_pool() as pool:
        tasks = [None if number % 7 == 6 else number for number in range(60)]
        done = dict(pool.run(iter(tasks)))
    assert set(done) == {number for number in tasks if number is not None}
    died = done.pop(12)
    assert isinstance(died, Died) and "SIGSEGV" in died.reason and not died.timed_out
    assert all(result[0] == number for number, result in done.items())
    assert len({node for _, node in done.values()}) == 2


def test_the_same_comes_out_as_here(nodes: Any, server: ClipServer, tmp_path: Path) -> None:
    urls = [server.url(name) for name in WANTED]
    here = run(urls, tmp_path / "here", cluster=None)
    there = run(urls, tmp_path / "there", cluster=on_cluster())
    assert [outcome.status for outcome in there.outcomes.values()] == list(WANTED.values())
    assert list(map(timeless, there.outcomes.values())) == list(map(timeless, here.outcomes.values()))
    expected = stored(tmp_path / "here", urls)
    found = stored(tmp_path / "there", urls)
    assert found.keys() == expected.keys() and len(found) == 4
    for url, vectors in found.items():
        np.testing.assert_array_equal(vectors, expected[url])
    assert sorted(path.name for path in (tmp_path / "there" / "thumbnails").iterdir()) == sorted(
        path.name for path in (tmp_path / "here" / "thumbnails").iterdir()
    )
    with Ledger(tmp_path / "there" / "ledger.sqlite", RECIPE) as ledger:
        assert len(ledger.load_kinds()) == 4
    asked = sum(server.requests.values())
    again = run(urls, tmp_path / "there", cluster=on_cluster())
    assert (again.attempted, sum(server.requests.values())) == (0, asked)


def test_a_model_encodes_where_videos_are_read(nodes: Any, server: ClipServer, tmp_path: Path) -> None:
    model = str(save_tiny_clip(tmp_path / "model"))
    encoder, recipe = load_encoder("clip", model=model), replace(RECIPE, encoder="clip", model=model)
    urls = [server.url(name) for name in ("a.mp4", "b.webm", "page.mp4")]
    for name, cluster in (("here", None), ("there", on_cluster("clip", model))):
        run(urls, tmp_path / name, cluster=cluster, encoder=encoder, recipe=recipe)
    expected, found = (stored(tmp_path / name, urls) for name in ("here", "there"))
    assert found.keys() == expected.keys() and len(found) == 2
    for url, vectors in found.items():
        assert vectors.shape == (3, WIDTH)
        assert (vectors * expected[url]).sum(axis=1).min() > 0.9999


def test_decoders_that_crash_and_hang_have_their_status(
    nodes: Any, server: ClipServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extract, "read_video", Hostile(crash=signal.SIGSEGV, hang="hang"))
    monkeypatch.setattr(extract, "KILL_AFTER_S", 0.5)
    urls = [server.url(name) for name in ("a.mp4", "crash.mp4", "hang.mp4", "c.ts")]
    report = run(urls, tmp_path, cluster=on_cluster(), timeout_s=8)
    wanted = [Status.OK, Status.DECODE_CRASH, Status.TIMEOUT, Status.OK]
    assert [outcome.status for outcome in report.outcomes.values()] == wanted


def test_a_run_that_ends_in_the_middle_goes_on(nodes: Any, media: Path, tmp_path: Path) -> None:  # noqa: F811
    with ClipServer(media, latency_s=0.05) as server:
        urls = [f"{server.url('a.mp4')}?n={number}" for number in range(20)]
        seen = Counter[str]()

        def stop(count: int) -> None:
            seen["done"] += count
            if seen["done"] >= 5:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(urls, tmp_path, cluster=on_cluster(), progress=stop)
        with Ledger(tmp_path / "ledger.sqlite", RECIPE) as ledger:
            finished = len(ledger.load())
        assert 5 <= finished < len(urls)
        report = run(urls, tmp_path, cluster=on_cluster())
        assert (report.skipped, report.attempted) == (finished, len(urls) - finished)
    assert stored(tmp_path, urls).keys() == set(urls)


def test_what_a_lost_machine_was_at_is_done_by_the_others(nodes: Any, tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    for number in range(12):
        save_clip(folder / f"{number}.mp4", count=8 + number)
    third = nodes.add_node(**NODE)
    with ClipServer(folder, latency_s=0.2) as server:
        urls = [server.url(f"{number}.mp4") + f"?n={again}" for again in range(3) for number in range(12)]
        seen = Counter[str]()

        def remove(count: int) -> None:
            if seen["done"] < 4 <= seen["done"] + count:
                nodes.remove_node(third, allow_graceful=False)
            seen["done"] += count

        report = run(urls, tmp_path, cluster=on_cluster(), progress=remove)
    assert {outcome.status for outcome in report.outcomes.values()} == {Status.OK}
    assert list(report.outcomes) == urls and seen["done"] == len(urls)
    assert stored(tmp_path, urls).keys() == set(urls)


def break_down() -> Callable[[Any], Any]:
    def finish(number: int) -> int:
        raise RuntimeError("the accelerator is gone")

    return finish


def test_what_a_machine_cannot_finish_ends_the_run_and_is_no_trouble_of_a_task(nodes: Any) -> None:
    with make_pool(break_down) as pool, pytest.raises(RuntimeError, match="the accelerator is gone"):
        list(pool.run(iter([1])))


def test_actors_that_are_lost_with_many_tasks_are_replaced_once(nodes: Any) -> None:
    with make_pool() as pool:
        done = pool.run(iter(range(20, 120)))
        found = [next(done) for _ in range(5)]
        before = list(pool._members.values())
        for member in before:
            pool._ray.kill(member.actor)
        found += done
        after = list(pool._members.values())
        assert len(after) == 2 and not set(after) & set(before)
        assert max(pool._lost.values()) == 1
    assert sorted(task for task, _ in found) == list(range(20, 120))
    assert not any(isinstance(result, Died) for _, result in found)


def test_a_task_that_takes_its_machine_down_again_and_again_may_be_tried_by_another_run(
    nodes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_module, "MOST_LOSSES", 1)
    with make_pool(fell) as pool:
        ((_, died),) = pool.run(iter([1]))
    assert isinstance(died, Died) and died.timed_out and "lost" in died.reason


def fell() -> Callable[[Any], Any]:
    return lambda number: os._exit(1)


def test_where_nothing_is_left_no_cluster_is_needed(tmp_path: Path) -> None:
    def refuse_pool(*_: Any, **__: Any) -> Any:
        raise AssertionError("a cluster was asked for")

    assert run([], tmp_path, cluster=refuse_pool).attempted == 0


def test_machines_that_are_not_set_up_alike(nodes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        make_pool(refuse) as pool,
        pytest.raises(ClusterError, match=r"cannot take part: .*the model is not on this"),
    ):
        next(pool.run(iter([1])))
    monkeypatch.setattr(cluster_module, "__version__", "9.9.9")
    with (
        make_pool() as pool,
        pytest.raises(ClusterError, match=r"has version \S+ of this project"),
    ):
        next(pool.run(iter([1])))


def test_there_is_no_cluster(nodes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    monkeypatch.setenv("RAY_ADDRESS", address)
    with (
        pytest.raises(ClusterError, match=f"no Ray cluster at {address} .*engine: local"),
        make_pool(),
    ):
        pass


def test_ray_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ClusterError, match=r"pip install -r requirements-ray\.txt"), make_pool():
        pass

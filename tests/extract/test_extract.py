"""A list of URLs ends with one outcome each, whatever the videos, the workers and the machine do meanwhile."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from extraction import LIMITS, RECIPE, SCAN, WANTED, Hostile, load_fingerprints, load_jobs, load_ledger, run
from fault_server import FaultServer, Request, reply, reply_range
from fresh_python import modules_loaded_by
from media import save_clip
from worker_modules import modules_loaded_for

from dedup_lib.demo.server import ClipServer
from dedup_lib.errors import RunFolderError, VideoTrouble
from dedup_lib.extract import pipeline, scheduler
from dedup_lib.extract.job_folders import find_jobs, job_dir, load_job
from dedup_lib.extract.worker import read_video
from dedup_lib.extract.worker_pool import WorkerPool
from dedup_lib.features.encoder import Prepared
from dedup_lib.features.fingerprint import Fingerprint, make_fingerprint
from dedup_lib.features.pdq import PdqEncoder, hash_frame
from dedup_lib.media.frames import prepare_sample
from dedup_lib.media.limits import FetchLimits
from dedup_lib.media.ranges import CHUNK_BYTES
from dedup_lib.media.storyboard import SIDE_PX, Storyboard
from dedup_lib.records import Frames, Recipe, Scan, Status, video_key
from dedup_lib.run.ledger import Ledger
from dedup_lib.store.address import StoreAddress
from dedup_lib.store.store import Store

# Outcomes


@pytest.mark.parametrize("store", ["", "clips"])
def test_every_url_has_one_outcome_and_a_second_run_does_nothing(
    server: ClipServer, tmp_path: Path, store: str
) -> None:
    urls = [server.url(name) for name in WANTED] + ["", "ftp://example.org/x", str(tmp_path / "none.mp4")]
    first = run(urls, tmp_path, store=store)
    assert list(first.outcomes) == urls
    wanted = [*WANTED.values(), *[Status.INVALID_URL] * 3]
    assert [outcome.status for outcome in first.outcomes.values()] == wanted
    assert (first.attempted, first.skipped, len(first.finished_s)) == (len(urls), 0, len(urls))
    assert load_ledger(tmp_path) == first.outcomes
    assert all(outcome.frames == 3 for outcome in first.outcomes.values() if outcome.status == Status.OK)
    assert all(outcome.reason for outcome in first.outcomes.values() if outcome.status != Status.OK)

    before = server.requests
    second = run(urls, tmp_path, store=store)
    assert (second.attempted, second.skipped) == (0, len(urls))
    assert second.outcomes == first.outcomes and list(second.outcomes) == urls
    assert server.requests == before


def test_vectors_in_the_store_are_those_of_the_frames(server: ClipServer, tmp_path: Path) -> None:
    urls = [server.url("a.mp4"), server.url("black.mp4"), server.url("b.webm")]
    run(urls, tmp_path, store="clips")
    run(urls, tmp_path)
    with Store(StoreAddress(uri=str(tmp_path / "milvus.db"))) as store:
        stored = store.open_collection("clips").load_vectors(urls)
    assert list(stored) == [urls[0], urls[2]]
    for row in (0, 2):
        job = load_job(tmp_path / "jobs" / f"url_{row:04d}")
        assert job is not None and job.vectors is not None
        assert np.array_equal(job.vectors.vectors, stored[urls[row]].vectors)
        assert job.vectors.positions == stored[urls[row]].positions == (0, 1, 2)


def test_a_flat_frame_leaves_a_gap_in_the_positions(tmp_path: Path) -> None:
    import av
    from media import number_frame

    with av.open(str(tmp_path / "late.mp4"), "w") as container:
        stream: Any = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for number in range(30):
            frame = np.zeros((120, 160, 3), np.uint8) if number < 10 else number_frame(number)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    run([str(tmp_path / "late.mp4")], tmp_path)
    job = load_job(tmp_path / "jobs" / "url_0000")
    assert job is not None and job.vectors is not None
    assert job.vectors.positions == (1, 2) and job.outcome.frames == 2 and job.outcome.status == Status.OK


def test_thumbnails_of_what_was_read_are_saved(server: ClipServer, tmp_path: Path) -> None:
    urls = [server.url("a.mp4"), server.url("black.mp4"), server.url("page.mp4")]
    run(urls, tmp_path)
    names = {file.name for file in (tmp_path / "thumbnails").iterdir()}
    assert names == {f"{video_key(url)}.jpg" for url in urls[:2]}
    board = Storyboard.load(tmp_path / "thumbnails" / f"{video_key(urls[0])}.jpg")
    assert board is not None and max(board.frames[0].shape) == SIDE_PX


@pytest.mark.parametrize("store", ["", "clips"])
def test_a_url_that_occurs_again_is_done_once(server: ClipServer, tmp_path: Path, store: str) -> None:
    urls = [server.url("a.mp4"), server.url("b.webm"), server.url("a.mp4")]
    report = run(urls, tmp_path, store=store)
    assert report.attempted == 2 and list(report.outcomes) == urls[:2]
    if not store:
        assert [path.name for path in find_jobs(tmp_path / "jobs")] == ["url_0000", "url_0001"]


def test_rows_name_the_job_folders(server: ClipServer, tmp_path: Path) -> None:
    run([server.url("a.mp4"), server.url("page.mp4")], tmp_path, rows=[7, 12_345])
    assert [path.name for path in find_jobs(tmp_path / "jobs")] == ["url_0007", "url_12345"]


def test_an_empty_list_is_done_at_once(tmp_path: Path) -> None:
    report = run([], tmp_path)
    assert report.outcomes == {} and report.attempted == 0


def test_progress_counts_every_url_once(server: ClipServer, tmp_path: Path) -> None:
    urls = [server.url(name) for name in WANTED]
    counts: list[int] = []
    for _ in range(2):
        run(urls, tmp_path, batch_size=5, progress=counts.append)
        assert sum(counts) == len(urls)
        counts.clear()


@pytest.mark.parametrize("store", ["", "clips"])
def test_what_can_be_compared_has_a_fingerprint(server: ClipServer, tmp_path: Path, store: str) -> None:
    urls = [server.url(name) for name in WANTED]
    report = run(urls, tmp_path, store=store)
    stored = load_fingerprints(tmp_path, urls)
    assert list(stored) == [url for url in urls if report.outcomes[url].status == Status.OK]
    assert {kind for kind, _ in stored.values()} == {SCAN.fingerprint_kind(RECIPE)}
    found = Fingerprint.from_bytes(stored[server.url("a.mp4")][1])
    # Two seconds, a picture a quarter of a second.
    assert len(found.tiny_frames) == 8
    assert np.allclose(found.times_s, np.arange(8) / 4, atol=0.06)


def test_without_a_scan_a_fingerprint_is_of_the_encoded_frames(server: ClipServer, tmp_path: Path) -> None:
    url = server.url("a.mp4")
    run([url], tmp_path, scan=Scan(step_s=0))
    ((kind, data),) = load_fingerprints(tmp_path, [url]).values()
    assert "3 spread" in kind
    assert np.allclose(Fingerprint.from_bytes(data).times_s, [0.3, 1.0, 1.6], atol=0.11)


@pytest.mark.parametrize("store", ["", "clips"])
def test_a_video_without_a_fingerprint_of_this_kind_is_read_again(
    server: ClipServer, tmp_path: Path, store: str
) -> None:
    urls = [server.url(name) for name in ("a.mp4", "b.webm", "page.mp4", "black.mp4")]
    run(urls, tmp_path, store=store)
    before = load_fingerprints(tmp_path, urls)
    coarse = Scan(step_s=0.5)
    assert run(urls, tmp_path, store=store, scan=coarse).attempted == 2
    assert {kind for kind, _ in load_fingerprints(tmp_path, urls).values()} == {coarse.fingerprint_kind(RECIPE)}
    assert run(urls, tmp_path, store=store, scan=coarse).attempted == 0

    assert run(urls[:1], tmp_path, store=store).attempted == 1
    requests = server.requests.copy()
    assert run(urls, tmp_path, store=store).attempted == 1
    changed = {path for path, count in server.requests.items() if count != requests[path]}
    assert changed == {"/b.webm"}
    assert load_fingerprints(tmp_path, urls) == before


def test_fingerprints_lost_from_the_ledger_are_made_again(server: ClipServer, tmp_path: Path) -> None:
    urls = [server.url(name) for name in ("a.mp4", "b.webm", "page.mp4")]
    run(urls, tmp_path)
    before = load_fingerprints(tmp_path, urls)
    with sqlite3.connect(tmp_path / "ledger.sqlite") as database:
        database.execute("DELETE FROM fingerprints WHERE key = ?", (video_key(urls[1]),))
    database.close()
    assert run(urls, tmp_path).attempted == 1
    assert load_fingerprints(tmp_path, urls) == before


def test_what_is_shown_only_after_the_scan_has_a_fingerprint_too(tmp_path: Path) -> None:
    import av
    from media import number_frame

    url = str(tmp_path / "late.mp4")
    with av.open(url, "w") as container:
        stream: Any = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for number in range(24):
            frame = np.zeros((120, 160, 3), np.uint8) if number < 12 else number_frame(number)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    assert run([url], tmp_path, scan=Scan(step_s=0.25, dense_s=1)).outcomes[url].status == Status.OK
    ((_, data),) = load_fingerprints(tmp_path, [url]).values()
    assert min(Fingerprint.from_bytes(data).times_s) > 1


def test_every_video_that_can_be_compared_has_a_fingerprint_though_its_size_changes() -> None:
    from media import number_frame

    dark = [np.zeros((120, 160, 3), np.uint8)] * 5
    lit = [number_frame(number, size_px=(80, 60)) for number in (3, 9)]
    times_s = [float(number) for number in range(7)]
    assert prepare_sample([*dark, *lit], positions=range(7), times_s=times_s).frames
    found = make_fingerprint([*dark, *lit], times_s=times_s)
    assert found is not None
    assert found.times_s.tolist() == [5.0, 6.0]
    assert make_fingerprint(dark, times_s=times_s[:5]) is None
    assert make_fingerprint([], times_s=[]) is None


# Same result whatever the workers


def test_the_number_of_workers_changes_nothing(server: ClipServer, tmp_path: Path) -> None:
    urls = [server.url(name) for name in WANTED] * 2
    reports = {}
    for workers, batch_size in ((1, 1), (4, 7)):
        folder = tmp_path / str(workers)
        reports[workers] = run(urls, folder, workers=workers, batch_size=batch_size)
    assert load_jobs(tmp_path / "1") == load_jobs(tmp_path / "4")
    assert load_fingerprints(tmp_path / "1", urls) == load_fingerprints(tmp_path / "4", urls) != {}
    told = [[(url, o.status, o.reason, o.frames) for url, o in reports[n].outcomes.items()] for n in (1, 4)]
    assert told[0] == told[1]


# Again


def test_only_what_may_end_better_is_tried_again(media: Path, tmp_path: Path) -> None:
    content = (media / "a.mp4").read_bytes()
    asked: list[str] = []

    def answer(request: Request) -> list[bytes]:
        asked.append(request.path)
        is_first = asked.count(request.path) == 1
        if request.path == "/busy.mp4" and is_first:
            return [reply("503 Busy")]
        if request.path == "/gone.mp4":
            return [reply("404 Not Found")]
        return [reply_range(request, content)]

    with FaultServer(answer) as server:
        urls = [server.url(f"/{name}.mp4") for name in ("busy", "gone", "good")]
        first = run(urls, tmp_path)
        assert [o.status for o in first.outcomes.values()] == [Status.HTTP_ERROR, Status.HTTP_ERROR, Status.OK]
        assert [o.retryable for o in first.outcomes.values()] == [True, False, False]
        asked_before = list(asked)
        second = run(urls, tmp_path)
        assert set(asked[len(asked_before) :]) == {"/busy.mp4"}
        assert (second.attempted, second.skipped) == (1, 2)
        assert [o.status for o in second.outcomes.values()] == [Status.OK, Status.HTTP_ERROR, Status.OK]
        assert load_ledger(tmp_path) == second.outcomes
        job = load_job(tmp_path / "jobs" / "url_0000")
        assert job is not None and job.vectors is not None


def test_with_overwrite_everything_is_done_again(server: ClipServer, tmp_path: Path) -> None:
    urls = [server.url("a.mp4"), server.url("page.mp4")]
    run(urls, tmp_path)
    before = server.requests
    report = run(urls, tmp_path, overwrite=True)
    assert (report.attempted, report.skipped) == (2, 0)
    assert all(server.requests[path] > count for path, count in before.items())


def test_another_recipe_starts_afresh(server: ClipServer, tmp_path: Path) -> None:
    urls = [server.url("a.mp4"), server.url("page.mp4")]
    run(urls, tmp_path)
    single = Recipe(encoder="pdq", model="", num_frames=1, frame_span="first")
    assert run(urls, tmp_path, recipe=single).attempted == 2
    assert [file.name for file in (tmp_path / "jobs" / "url_0000").glob("*.npy")] == ["first_frame.npy"]
    assert run(urls, tmp_path, recipe=single).attempted == 0
    assert run(urls, tmp_path).attempted == 1


def truncate(job: Path) -> None:
    content = (job / "frame_01.npy").read_bytes()
    (job / "frame_01.npy").write_bytes(content[: len(content) // 2])


def rename_url(job: Path) -> None:
    (job / "url.txt").write_text("http://127.0.0.1/another.mp4\n")


def change_recipe(job: Path) -> None:
    record = (job / "job.json").read_text()
    assert '"num_frames": 3' in record
    (job / "job.json").write_text(record.replace('"num_frames": 3', '"num_frames": 4'))


def add_vector(job: Path) -> None:
    shutil.copy(job / "frame_00.npy", job / "frame_09.npy")


def scale_vector(job: Path) -> None:
    np.save(job / "frame_00.npy", np.load(job / "frame_00.npy") * 2)


def drop_vector(job: Path) -> None:
    (job / "frame_02.npy").unlink()


def garble_record(job: Path) -> None:
    (job / "job.json").write_text("{")


@pytest.mark.parametrize(
    "damage", [truncate, rename_url, change_recipe, add_vector, scale_vector, drop_vector, garble_record, shutil.rmtree]
)
def test_a_damaged_job_is_done_again_and_no_other(server: ClipServer, tmp_path: Path, damage: Any) -> None:
    urls = [server.url(name) for name in ("a.mp4", "b.webm", "page.mp4")]
    run(urls, tmp_path)
    whole = load_jobs(tmp_path)
    before = server.requests
    damage(tmp_path / "jobs" / "url_0001")
    assert (run(urls, tmp_path).attempted, load_jobs(tmp_path)) == (1, whole)
    changed = {path for path, count in server.requests.items() if count != before[path]}
    assert changed == {"/b.webm"}


def test_vectors_missing_from_the_store_are_made_again(server: ClipServer, tmp_path: Path) -> None:
    urls = [server.url(name) for name in ("a.mp4", "b.webm", "page.mp4")]
    run(urls, tmp_path, store="clips")
    with Store(StoreAddress(uri=str(tmp_path / "milvus.db"))) as store:
        store.drop_collection("clips")
    assert run(urls, tmp_path, store="clips").attempted == 2
    assert run(urls, tmp_path, store="clips").attempted == 0


def test_a_video_with_fewer_vectors_in_the_store_than_frames_is_done_again(server: ClipServer, tmp_path: Path) -> None:
    urls = [server.url(name) for name in ("a.mp4", "b.webm")]
    run(urls, tmp_path, store="clips")
    with Store(StoreAddress(uri=str(tmp_path / "milvus.db"))) as store:
        collection = store.open_collection("clips")
        whole = collection.load_vectors(urls)[urls[1]]
        collection.upsert([replace(whole, vectors=whole.vectors[:2], positions=whole.positions[:2])])
    assert run(urls, tmp_path, store="clips").attempted == 1
    with Store(StoreAddress(uri=str(tmp_path / "milvus.db"))) as store:
        assert store.open_collection("clips").count_stored(urls) == {urls[0]: 3, urls[1]: 3}


def test_a_file_that_was_missing_is_read_once_it_is_there(tmp_path: Path) -> None:
    paths = [tmp_path / "later.mp4", tmp_path / "never.mp4", Path("n" * 300)]
    urls = [*map(str, paths), ""]
    first = run(urls, tmp_path).outcomes
    assert {first[url].status for url in urls} == {Status.INVALID_URL}
    save_clip(paths[0], count=10)
    again = run(urls, tmp_path)
    assert (again.attempted, again.outcomes[urls[0]].status) == (1, Status.OK)
    assert run(urls, tmp_path).attempted == 0


# The same file under another address


@pytest.fixture(scope="module")
def long_film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A film of many ranges; what comes behind it is of no consequence to a player."""
    noise = np.random.default_rng(0).integers(0, 256, (80, 240, 320, 3), dtype=np.uint8)
    content = save_clip(tmp_path_factory.mktemp("long") / "noise.mp4", frames=noise, size_px=(320, 240)).read_bytes()
    assert len(content) > 20 * CHUNK_BYTES
    return content


@pytest.mark.parametrize("store", ["", "clips"])
def test_a_file_under_another_address_is_not_decoded_again(long_film: bytes, tmp_path: Path, store: str) -> None:
    middle = len(long_film) // 2
    other = long_film[:middle] + bytes(2 * CHUNK_BYTES) + long_film[middle + 2 * CHUNK_BYTES :]
    files = {"/one": long_film, "/same": long_film, "/other": other, "/plain": b""}

    def answer(request: Request) -> Iterable[bytes]:
        if request.path == "/plain":
            return [reply("200 OK", files["/one"])]
        return [reply_range(request, files[request.path])]

    with FaultServer(answer) as server:
        urls = [server.url(name) for name in files]
        first = run(urls[:1], tmp_path, store=store)
        found = run(urls, tmp_path, store=store).outcomes
        again = run(urls, tmp_path, store=store)
    assert first.outcomes[urls[0]].same_file_as == ""
    assert [found[url].status for url in urls] == [Status.OK] * 4
    assert [found[url].same_file_as for url in urls] == ["", urls[0], "", ""]
    assert (found[urls[1]].duration_s, found[urls[1]].frames) == (found[urls[0]].duration_s, found[urls[0]].frames)
    assert found[urls[1]].fetched_bytes <= 8 * CHUNK_BYTES < found[urls[2]].fetched_bytes
    assert again.attempted == 0
    if store:
        with Store(StoreAddress(uri=str(tmp_path / "milvus.db"))) as opened:
            stored = opened.open_collection(store).load_vectors(urls)
    else:
        jobs = {url: load_job(job_dir(tmp_path / "jobs", row)) for row, url in enumerate(urls)}
        stored = {url: job.vectors for url, job in jobs.items() if job is not None and job.vectors is not None}
    assert set(stored) == set(urls)
    np.testing.assert_array_equal(stored[urls[1]].vectors, stored[urls[0]].vectors)
    with Ledger(tmp_path / "ledger.sqlite", RECIPE) as ledger:
        prints = ledger.load_fingerprints(urls)
    assert prints[urls[1]] == prints[urls[0]]
    assert (tmp_path / "thumbnails" / f"{video_key(urls[1])}.jpg").exists()


DIGEST = '"d41d8cd98f00b204e9800998ecf8427e"'


@pytest.mark.parametrize("tag", [DIGEST, DIGEST.replace('e"', 'e-12"'), f'"{"0aF" * 21}0"'])
def test_a_file_that_its_server_names_by_the_same_hash_is_known_by_its_first_range(
    long_film: bytes, tmp_path: Path, tag: str
) -> None:
    with FaultServer(lambda request: [reply_range(request, long_film, ETag=tag)]) as server:
        urls = [server.url("/one"), server.url("/same")]
        run(urls[:1], tmp_path)
        before = len(server.requests)
        found = run(urls, tmp_path).outcomes[urls[1]]
        assert len(server.requests) == before + 1
    assert (found.same_file_as, found.fetched_bytes) == (urls[0], CHUNK_BYTES)


@pytest.mark.parametrize(
    ("tag", "changes"),
    [
        (f"W/{DIGEST}", {}),
        (DIGEST.strip('"'), {}),
        (f"{DIGEST}, {DIGEST}", {}),
        # Of a length and a second in which a file was written, as web servers make them.
        ('"6560a1b2-8d3a7f"', {}),
        ('"1"', {}),
        ('""', {}),
        (None, {}),
        (DIGEST, {"host": "localhost"}),
        (DIGEST, {"length": 1}),
        (DIGEST, {"version": 1}),
        (DIGEST, {"ranges": False}),
        (DIGEST, {"tag": DIGEST.replace("d41", "d42")}),
    ],
)
def test_a_tag_that_proves_nothing_makes_no_two_files_the_same(
    long_film: bytes, tmp_path: Path, tag: str | None, changes: dict[str, Any]
) -> None:
    """Two files of one length that differ behind their first range."""
    # The last byte of the file type box's version (ISO/IEC 14496-12, 4.3).
    version = bytes([changes.get("version", long_film[15])])
    other = long_film[:15] + version + long_film[16:] + b"2" + bytes(changes.get("length", 0))

    def answer(request: Request) -> Iterable[bytes]:
        if request.path == "/one":
            return [reply_range(request, long_film + b"1", ETag=tag)]
        if not changes.get("ranges", True):
            return [reply("200 OK", other, ETag=tag)]
        return [reply_range(request, other, ETag=changes.get("tag", tag))]

    with FaultServer(answer) as server:
        urls = [server.url("/one"), server.url("/other", host=changes.get("host", "127.0.0.1"))]
        run(urls[:1], tmp_path)
        found = run(urls, tmp_path).outcomes[urls[1]]
    assert (found.status, found.same_file_as) == (Status.OK, "")


@pytest.mark.parametrize(("codec", "pixels"), [("rawvideo", "bgr24"), ("dvvideo", "yuv420p")])
def test_films_whose_frames_all_have_one_size_are_told_apart(tmp_path: Path, codec: str, pixels: str) -> None:
    """Films of one length, both black at their beginning and end, that differ in a second: another price."""
    films = tmp_path / "films"
    films.mkdir()
    names = ["one.avi", "other.avi"]
    for name, shown in zip(names, (3, 7), strict=True):
        scene = np.full((576, 720, 3), 90, dtype=np.uint8)
        scene[:, ::shown] = 200
        price = scene.copy()
        price[200:300, :: shown + 1] = 10
        black = np.zeros_like(scene)
        frames = [*[black] * 2, *[scene if shown == 3 else price] * 6, *[black] * 2]
        save_clip(films / name, frames=frames, fps=25, size_px=(720, 576), codec=codec, pixels=pixels)
    one, other = ((films / name).read_bytes() for name in names)
    assert len(one) == len(other)
    assert one[:CHUNK_BYTES] == other[:CHUNK_BYTES]
    with ClipServer(films) as server:
        urls = [server.url(name) for name in names]
        run(urls[:1], tmp_path)
        found = run(urls, tmp_path).outcomes[urls[1]]
    assert (found.status, found.same_file_as) == (Status.OK, "")


def test_vectors_that_are_gone_are_made_anew(long_film: bytes, tmp_path: Path) -> None:
    """Of a collection that was dropped, nothing is taken for another address."""
    with FaultServer(lambda request: [reply_range(request, long_film)]) as server:
        urls = [server.url("/one"), server.url("/same")]
        run(urls[:1], tmp_path, store="clips")
        with Store(StoreAddress(uri=str(tmp_path / "milvus.db"))) as opened:
            opened.drop_collection("clips")
        report = run(urls, tmp_path, store="clips", workers=1)
        assert [report.outcomes[url].status for url in urls] == [Status.OK] * 2
        with Store(StoreAddress(uri=str(tmp_path / "milvus.db"))) as opened:
            assert set(opened.open_collection("clips").load_vectors(urls)) == set(urls)


# Failures that may pass


def load_attempts(folder: Path) -> list[int]:
    with contextlib.closing(sqlite3.connect(folder / "ledger.sqlite")) as database:
        return [attempts for (attempts,) in database.execute("SELECT attempts FROM outcomes ORDER BY url")]


@pytest.mark.parametrize("retries", [0, 1, 2])
def test_a_failure_that_may_pass_is_tried_again(
    media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, retries: int
) -> None:
    """The first two answers are 503, all further ones are the video."""
    monkeypatch.setattr(scheduler, "FIRST_PAUSE_S", 0.05)
    content = (media / "a.mp4").read_bytes()

    def answer(request: Request) -> Iterable[bytes]:
        return [reply("503 Busy") if request.number < 2 else reply_range(request, content)]

    with FaultServer(answer) as server:
        url = server.url("/a.mp4")
        outcome = run([url], tmp_path, retries=retries).outcomes[url]
        requests = len(server.requests)
        assert load_attempts(tmp_path) == [retries + 1]
        run([url], tmp_path)
        # What is done is not tried; what failed is, and its tries are counted on.
        assert load_attempts(tmp_path) == [3 if retries == 2 else retries + 2]
    assert outcome.status == (Status.OK if retries == 2 else Status.HTTP_ERROR)
    assert outcome.retryable == (retries < 2)
    assert requests == retries + 1 if retries < 2 else requests > 2


def test_a_failure_that_will_not_pass_is_not_tried_again(tmp_path: Path) -> None:
    with FaultServer(lambda request: [reply("404 Not Found")]) as server:
        url = server.url("/a.mp4")
        assert run([url], tmp_path, retries=3).outcomes[url].reason == "HTTP 404 Not Found"
        assert len(server.requests) == 1


def test_failures_of_earlier_calls_may_be_left_alone(tmp_path: Path) -> None:
    with FaultServer(lambda request: [reply("503 Busy")]) as server:
        url = server.url("/a.mp4")
        run([url], tmp_path)
        report = run([url], tmp_path, retry_failed=False)
        assert (report.attempted, len(server.requests)) == (0, 1)
        assert report.outcomes[url].status == Status.HTTP_ERROR
        assert run([url], tmp_path).attempted == 1


def test_workers_that_crash_and_hang_become_outcomes(
    server: ClipServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No file that kills the decoder on purpose can be kept in a repository: the deed is put in by hand.
    monkeypatch.setattr(pipeline, "read_video", Hostile(crash=signal.SIGSEGV, hang="hang"))
    monkeypatch.setattr(pipeline, "KILL_AFTER_S", 0.5)
    urls = [server.url(name) for name in ("a.mp4", "crash.mp4", "b.webm", "hang.mp4", "c.ts", "crash2.mp4")]
    limits = replace(LIMITS, timeout_s=3)
    report = run(urls, tmp_path, limits=limits)
    assert [outcome.status for outcome in report.outcomes.values()] == [
        Status.OK,
        Status.DECODE_CRASH,
        Status.OK,
        Status.TIMEOUT,
        Status.OK,
        Status.DECODE_CRASH,
    ]
    assert "SIGSEGV" in report.outcomes[urls[1]].reason
    assert [outcome.retryable for outcome in report.outcomes.values()] == [False, False, False, True, False, False]
    assert load_ledger(tmp_path) == report.outcomes
    monkeypatch.undo()
    assert run(urls, tmp_path).attempted == 1


def test_a_video_whose_process_was_killed_from_outside_is_tried_again(
    server: ClipServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the system does when memory runs out: that says nothing about the video."""
    monkeypatch.setattr(pipeline, "read_video", Hostile(a=signal.SIGKILL))
    urls = [server.url("a.mp4"), server.url("b.webm")]
    killed, fine = run(urls, tmp_path).outcomes.values()
    assert (killed.status, killed.retryable, fine.status) == (Status.DECODE_CRASH, True, Status.OK)
    assert "was killed (SIGKILL), as the system does when memory runs out" in killed.reason
    monkeypatch.undo()
    report = run(urls, tmp_path)
    assert (report.attempted, report.outcomes[urls[0]].status) == (1, Status.OK)


class Deadly(PdqEncoder):
    """Does to its process, where a frame is prepared, what a broken decoder would."""

    def prepare(self, frame: Frames) -> Prepared:
        match frame.shape[1]:
            case 176:
                # Writes far beyond the memory of a frame.
                ctypes.memset(frame.ctypes.data, 0, 1 << 40)
            case 192:
                os._exit(3)
            case 208:
                # Takes more time of a processor than it is allowed.
                resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + 1, -1))
                while True:
                    pass
            case 224:
                bytearray(1 << 40)
        return super().prepare(frame)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems know other ends")
def test_a_process_that_dies_while_it_reads_takes_its_own_video_only(tmp_path: Path) -> None:
    widths_px = (160, 176, 192, 208, 224, 240)
    paths = [save_clip(tmp_path / f"{width}.mp4", count=5, size_px=(width, 120)) for width in widths_px]
    report = run(list(map(str, paths)), tmp_path, encoder=Deadly())
    outcomes = list(report.outcomes.values())
    assert [outcome.status for outcome in outcomes] == [
        Status.OK,
        Status.DECODE_CRASH,
        Status.DECODE_CRASH,
        Status.DECODE_CRASH,
        Status.DECODE_ERROR,
        Status.OK,
    ]
    for outcome, words in zip(outcomes[1:5], ("SIGSEGV", "exit code 3", "SIGXCPU", "MemoryError"), strict=True):
        assert words in outcome.reason and not outcome.retryable
    assert load_ledger(tmp_path) == report.outcomes
    assert run(list(map(str, paths)), tmp_path).attempted == 0, "what kills a decoder is not given to the next one"


def test_reading_never_raises(tmp_path: Path) -> None:
    for url in ("\ud800", "\0", "x" * 100_000, "http://[", "http://%/", "//", "."):
        read = read_video((0, url), recipe=RECIPE, scan=SCAN, limits=LIMITS, prepare=hash_frame)
        assert read.outcome.status == Status.INVALID_URL and not read.prepared, url


def test_what_was_spent_is_noted(server: ClipServer) -> None:
    url = server.url("a.mp4")
    read = read_video((0, url), recipe=RECIPE, scan=SCAN, limits=LIMITS, prepare=hash_frame)
    assert read.outcome.fetched_bytes == server.served_bytes > 0 and read.outcome.elapsed_s > 0
    assert (read.outcome.width_px, read.outcome.height_px, read.outcome.codec) == (160, 120, "h264")
    assert read.outcome.duration_s == 2.0 and read.outcome.frames == 3
    with urllib.request.urlopen(url) as answer:
        assert read.outcome.size_bytes == len(answer.read())


# A run that ends in the middle


class Failing(PdqEncoder):
    """An encoder that fails at its second batch."""

    calls = 0

    def encode_prepared(self, prepared: Any) -> Any:
        self.calls += 1
        if self.calls == 2:
            raise RuntimeError("the accelerator is gone")
        return super().encode_prepared(prepared)


def test_a_run_that_fails_leaves_no_process_behind(server: ClipServer, tmp_path: Path) -> None:
    import psutil

    urls = [server.url(name) for name in ("a.mp4", "b.webm", "c.ts", "d.gif")]
    with pytest.raises(RuntimeError, match="accelerator") as kept:
        run(urls, tmp_path, encoder=Failing(), batch_size=1)
    # A notebook keeps its last exception, and with it every frame it passed through.
    assert kept.value.__traceback__
    helpers = [
        process
        for process in psutil.Process().children(recursive=True)
        if process.status() != psutil.STATUS_ZOMBIE and "forkserver" in " ".join(process.cmdline())
    ]
    workers = [process for process in helpers if process.parent() in helpers]
    assert workers == []


PARENT = """
import sys
from pathlib import Path
from extraction import run
if __name__ == "__main__":
    import dedup_lib.extract.buffers
    dedup_lib.extract.buffers.SAVE_EVERY_S = 0.05
    run(sys.argv[3:], Path(sys.argv[1]), store=sys.argv[2], batch_size=1)
"""


@pytest.mark.parametrize("store", ["", "clips"])
def test_a_run_that_is_killed_is_finished_by_the_next(media: Path, tmp_path: Path, store: str) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    folder = tmp_path / "run"
    with ClipServer(media, latency_s=0.15) as server:
        urls = [f"{server.url(name)}?{number}" for number in range(12) for name in ("a.mp4", "page.mp4")]
        command = [sys.executable, str(script), str(folder), store, *urls]
        with subprocess.Popen(command) as parent:
            end_s = time.monotonic() + 60
            while parent.poll() is None and time.monotonic() < end_s:
                if (folder / "ledger.sqlite").exists() and len(load_ledger(folder)) >= 5:
                    break
                time.sleep(0.05)
            assert parent.poll() is None, "it ended before it could be killed"
            parent.kill()
        done = load_ledger(folder)
        assert 5 <= len(done) < len(urls)
        server.latency_s = 0
        report = run(urls, folder, store=store)
        assert list(report.outcomes) == urls
        assert [o.status for o in report.outcomes.values()] == [Status.OK, Status.HTML] * 12
        assert report.skipped >= len(done) and report.attempted + report.skipped == len(urls)
        assert run(urls, folder, store=store).attempted == 0
        assert len(load_fingerprints(folder, urls)) == 12


# A disk that refuses


def test_a_file_in_the_place_of_the_job_folder_is_told_before_any_work(server: ClipServer, tmp_path: Path) -> None:
    (tmp_path / "jobs").touch()
    with pytest.raises(RunFolderError, match=r"cannot write .*jobs"):
        run([server.url("a.mp4")], tmp_path)
    assert server.requests == {}


@pytest.mark.parametrize("place", ["jobs/url_0000", "thumbnails"])
def test_a_place_that_cannot_be_written_is_told(server: ClipServer, tmp_path: Path, place: str) -> None:
    (tmp_path / "jobs").mkdir()
    (tmp_path / place).touch()
    with pytest.raises(RunFolderError, match=rf"cannot write .*{place}"):
        run([server.url("a.mp4")], tmp_path)
    (tmp_path / place).unlink()
    assert run([server.url("a.mp4")], tmp_path).attempted == 1


def test_a_private_address_is_an_outcome_and_nobody_is_asked(server: ClipServer, tmp_path: Path) -> None:
    url = server.url("a.mp4")
    limits = FetchLimits(timeout_s=5, max_bytes=1000, allow_private_addresses=False)
    assert run([url], tmp_path, limits=limits).outcomes[url].status == Status.BLOCKED_ADDRESS
    assert server.requests == {}


@pytest.mark.parametrize(
    ("refusing", "status"),
    [
        ({"allow_private_addresses": False}, Status.BLOCKED_ADDRESS),
        ({"allow_local_paths": False}, Status.INVALID_URL),
        ({"max_bytes": 1000}, Status.TOO_LARGE),
    ],
)
def test_what_a_setting_refused_is_tried_again_when_that_is_another(
    server: ClipServer, tmp_path: Path, refusing: dict[str, Any], status: Status
) -> None:
    local = tmp_path / "local.mp4"
    local.write_bytes((server.folder / "a.mp4").read_bytes())
    url, limits = str(local) if "allow_local_paths" in refusing else server.url("a.mp4"), replace(LIMITS, **refusing)
    for attempted in (1, 0):
        report = run([url], tmp_path / "run", limits=limits)
        assert (report.attempted, report.outcomes[url].status) == (attempted, status)
        (setting,) = refusing
        assert setting in report.outcomes[url].reason
    for attempted in (1, 0):
        report = run([url], tmp_path / "run", limits=LIMITS)
        assert (report.attempted, report.outcomes[url].status) == (attempted, Status.OK)


def test_a_trouble_of_one_video_never_leaves(tmp_path: Path) -> None:
    (tmp_path / "folder.mp4").mkdir()
    try:
        report = run([str(tmp_path / "folder.mp4"), "x" * 70_000], tmp_path)
    except VideoTrouble as trouble:
        pytest.fail(f"it left: {trouble}")
    assert {o.status for o in report.outcomes.values()} == {Status.INVALID_URL}


def test_the_process_that_encodes_loads_no_decoder() -> None:
    loaded = modules_loaded_by(
        "import dedup_lib.extract.pipeline, dedup_lib.features.encoders, dedup_lib.steps.extract"
    )
    assert not loaded & {"av", "cv2"}


@pytest.mark.parametrize("name", ["a.mp4", "d.gif"])
def test_workers_share_all_modules_that_a_video_needs(server: ClipServer, name: str) -> None:
    with WorkerPool(modules_loaded_for, workers=1, timeout_s=60) as pool:
        [(_, outcome)] = pool.run([server.url(name)])
    assert outcome == (Status.OK, set())

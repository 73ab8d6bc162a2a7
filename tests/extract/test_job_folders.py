"""Job folders: what lies in one, which ones count as finished, and which may be removed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dedup_lib.errors import RunFolderError
from dedup_lib.extract.job_folders import (
    describe_jobs,
    find_empty_jobs,
    find_jobs,
    job_dir,
    load_job,
    load_jobs,
    remove_empty_jobs,
    save_job,
)
from dedup_lib.records import Outcome, Recipe, Status, VideoVectors

RECIPE = Recipe(encoder="pdq", model="", num_frames=3, frame_span="spread")
ONE_FRAME = replace(RECIPE, num_frames=1)
URL = "https://h/ünï 中文 🎬.mp4?a='1'&b=\"2\""
OUTCOME = Outcome(url=URL, status=Status.OK, frames=2, duration_s=3.25, width_px=640, codec="h264", elapsed_s=0.5)
FAILURE = Outcome(url=URL, status=Status.HTTP_ERROR, reason="404 – gone", retryable=True)


def vectors_of(count: int, *, url: str = URL) -> VideoVectors:
    return VideoVectors(
        url=url, vectors=np.eye(8, dtype=np.float32)[:count], positions=tuple(2 * n for n in range(count))
    )


def save(path: Path, *, outcome: Outcome = OUTCOME, count: int = 2, recipe: Recipe = RECIPE) -> Path:
    vectors = vectors_of(count, url=outcome.url) if count else None
    save_job(path, outcome=outcome, recipe=recipe, vectors=vectors)
    return path


def names(path: Path) -> list[str]:
    return sorted(file.name for file in path.iterdir())


# Layout


def test_a_job_of_one_frame(tmp_path: Path) -> None:
    path = save(job_dir(tmp_path, 7), count=1, recipe=ONE_FRAME)
    assert path.name == "url_0007"
    assert names(path) == ["first_frame.npy", "job.json", "url.txt"]
    assert (path / "url.txt").read_text(encoding="utf-8") == URL + "\n"
    row = np.load(path / "first_frame.npy")
    assert (row.shape, row.dtype) == ((8,), np.float32)
    assert names(tmp_path) == ["url_0007"], "nothing is left beside the folder"


def test_a_job_of_several_frames(tmp_path: Path) -> None:
    path = save(job_dir(tmp_path, 0), count=2)
    assert names(path) == ["frame_00.npy", "frame_01.npy", "job.json", "url.txt"]
    record = json.loads((path / "job.json").read_text(encoding="utf-8"))
    assert set(record) == {"recipe", "positions", "outcome"}
    assert record["positions"] == [0, 2]


def test_a_job_without_vectors(tmp_path: Path) -> None:
    path = save(job_dir(tmp_path, 0), outcome=FAILURE, count=0)
    assert names(path) == ["job.json", "url.txt"]
    job = load_job(path)
    assert job is not None
    assert (job.outcome, job.vectors) == (FAILURE, None)


@pytest.mark.parametrize("count", [1, 2, 8])
@pytest.mark.parametrize("url", [URL, "https://h/cr\rlf\r\n.mp4", "https://h/nl\n", ""])
def test_a_job_comes_back_as_it_was_saved(tmp_path: Path, count: int, url: str) -> None:
    path = save(tmp_path / "url_0000", outcome=replace(OUTCOME, url=url), count=count)
    job = load_job(path)
    assert job is not None
    assert job.vectors is not None
    assert (job.path, job.recipe, job.outcome) == (path, RECIPE, replace(OUTCOME, url=url))
    assert (job.vectors.url, job.vectors.positions) == (url, vectors_of(count).positions)
    np.testing.assert_array_equal(job.vectors.vectors, vectors_of(count).vectors)
    assert job.vectors.vectors.dtype == np.float32


def test_more_than_a_hundred_frames_keep_their_order(tmp_path: Path) -> None:
    rows = np.eye(128, dtype=np.float32)
    many = VideoVectors(url=URL, vectors=rows, positions=tuple(range(128)))
    save_job(tmp_path / "url_0000", outcome=OUTCOME, recipe=replace(RECIPE, num_frames=128), vectors=many)
    job = load_job(tmp_path / "url_0000")
    assert job is not None
    assert job.vectors is not None
    np.testing.assert_array_equal(job.vectors.vectors, rows)


# Whole or not at all


def test_a_half_written_folder_is_none(tmp_path: Path) -> None:
    left = tmp_path / ".url_0000.part"
    left.mkdir()
    (left / "frame_00.npy").write_bytes(b"half")
    (left / "foreign").mkdir()
    assert find_jobs(tmp_path) == []
    save(tmp_path / "url_0000")
    assert names(tmp_path) == ["url_0000"]
    assert load_job(tmp_path / "url_0000") is not None


def test_a_folder_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = save(tmp_path / "url_0000")
    with pytest.raises(UnicodeEncodeError):
        save(path, outcome=replace(OUTCOME, url="\ud800"))
    job = load_job(path)
    assert job is not None
    assert job.outcome == OUTCOME
    assert names(tmp_path) == ["url_0000"]


def test_saving_again_replaces_ours_and_keeps_what_is_not(tmp_path: Path) -> None:
    path = save(tmp_path / "url_0000", count=3)
    (path / "notes.txt").write_text("mine")
    np.save(path / "mine.npy", np.ones(3))
    (path / "clips").mkdir()
    save(path, count=1, recipe=ONE_FRAME)
    assert names(path) == ["clips", "first_frame.npy", "job.json", "mine.npy", "notes.txt", "url.txt"]
    job = load_job(path)
    assert job is not None
    assert job.vectors is not None
    assert job.vectors.vectors.shape == (1, 8)
    save(path, outcome=FAILURE, count=0)
    assert names(path) == ["clips", "job.json", "mine.npy", "notes.txt", "url.txt"]


def edit_record(**changes: object) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        record = json.loads((path / "job.json").read_text(encoding="utf-8"))
        (path / "job.json").write_text(json.dumps(record | changes), encoding="utf-8")

    return edit


def replace_vector(content: object) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        if isinstance(content, bytes):
            (path / "frame_01.npy").write_bytes(content)
        else:
            np.save(path / "frame_01.npy", np.asarray(content))

    return edit


def write(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda path: (path / name).write_bytes(content)


UNIT = np.eye(8, dtype=np.float32)[1]
OUTCOME_RECORD = {"url": URL, "status": "ok"}


def as_npz(path: Path) -> None:
    np.savez(path / "frame_01.npz", UNIT)
    os.replace(path / "frame_01.npz", path / "frame_01.npy")


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda path: (path / "job.json").unlink(), id="no job.json"),
        pytest.param(lambda path: (path / "url.txt").unlink(), id="no url.txt"),
        pytest.param(lambda path: (path / "frame_01.npy").unlink(), id="no vector"),
        pytest.param(write("job.json", b""), id="empty job.json"),
        pytest.param(write("job.json", b'{"recipe": {'), id="half job.json"),
        pytest.param(write("job.json", b"[1, 2]"), id="job.json is a list"),
        pytest.param(write("job.json", b"\xff\xfe"), id="job.json in another encoding"),
        pytest.param(write("url.txt", b"\xff"), id="url.txt in another encoding"),
        pytest.param(write("url.txt", b"https://h/another.mp4\n"), id="another url"),
        pytest.param(write("frame_02.npy", b""), id="a vector too many"),
        pytest.param(write("first_frame.npy", b""), id="a vector of another layout"),
        pytest.param(edit_record(recipe={"encoder": "pdq"}), id="recipe lacks a part"),
        pytest.param(edit_record(recipe=None), id="no recipe"),
        pytest.param(edit_record(outcome=OUTCOME_RECORD | {"status": "new"}), id="unknown status"),
        pytest.param(edit_record(outcome=OUTCOME_RECORD | {"more": 1}), id="unknown field"),
        pytest.param(edit_record(outcome=[]), id="outcome is a list"),
        pytest.param(edit_record(outcome=OUTCOME_RECORD | {"status": "timeout"}), id="failed, with vectors"),
        pytest.param(edit_record(positions=[]), id="no positions"),
        pytest.param(edit_record(positions=[0]), id="a position too few"),
        pytest.param(edit_record(positions=[0, 1, 2]), id="a position too many"),
        pytest.param(edit_record(positions=[1, 1]), id="a position twice"),
        pytest.param(edit_record(positions="ab"), id="positions are text"),
        pytest.param(edit_record(positions=None), id="positions are none"),
        pytest.param(replace_vector(b""), id="empty vector file"),
        pytest.param(replace_vector(b"\x93NUMPY"), id="half a header"),
        pytest.param(replace_vector(b"no numpy file at all"), id="not numpy"),
        pytest.param(replace_vector(UNIT[:4]), id="of another width"),
        pytest.param(replace_vector(UNIT[None]), id="two dimensions"),
        pytest.param(replace_vector(np.float32(1)), id="no dimension"),
        pytest.param(replace_vector(UNIT * np.nan), id="nan"),
        pytest.param(replace_vector(UNIT * 0), id="zero"),
        pytest.param(replace_vector(UNIT * 2), id="not of unit length"),
        pytest.param(replace_vector(UNIT.astype(complex)), id="complex"),
        pytest.param(replace_vector(UNIT.astype(str)), id="text"),
        pytest.param(replace_vector(UNIT.astype(object)), id="pickled"),
        pytest.param(as_npz, id="several arrays"),
    ],
)
def test_a_damaged_job_counts_as_unfinished(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    path = save(tmp_path / "url_0000")
    save(tmp_path / "url_0001", outcome=replace(OUTCOME, url="https://h/whole.mp4"))
    damage(path)
    assert load_job(path) is None
    assert [job.path.name for job in load_jobs(tmp_path)] == ["url_0001"]
    described = describe_jobs(find_jobs(tmp_path))
    assert described.to_numpy().tolist() == [["url_0000", "", "", ""], ["url_0001", "https://h/whole.mp4", "ok", ""]]
    save(path)
    assert load_job(path) is not None


def test_a_truncated_vector_at_any_length(tmp_path: Path) -> None:
    path = save(tmp_path / "url_0000")
    whole = (path / "frame_01.npy").read_bytes()
    for length in range(0, len(whole), 7):
        (path / "frame_01.npy").write_bytes(whole[:length])
        assert load_job(path) is None


def test_no_vector_and_no_reason_why_not(tmp_path: Path) -> None:
    path = save(tmp_path / "url_0000", outcome=FAILURE, count=0)
    edit_record(outcome=OUTCOME_RECORD)(path)
    assert load_job(path) is None


def test_a_folder_that_is_none_at_all(tmp_path: Path) -> None:
    assert load_job(tmp_path / "url_0000") is None


# Finding


def test_jobs_come_in_the_order_of_the_list(tmp_path: Path) -> None:
    for row in (10_000, 9_999, 100_000, 2, 10, 0):
        save(job_dir(tmp_path, row), outcome=replace(OUTCOME, url=f"https://h/{row}"))
    wanted = ["url_0000", "url_0002", "url_0010", "url_9999", "url_10000", "url_100000"]
    assert [path.name for path in find_jobs(tmp_path)] == wanted
    assert [job.outcome.url.rpartition("/")[2] for job in load_jobs(tmp_path)] == [
        "0",
        "2",
        "10",
        "9999",
        "10000",
        "100000",
    ]


def test_only_our_folders_are_jobs(tmp_path: Path) -> None:
    for name in ("url_1", "url_00001", "url_000a", "xurl_0000", "url_0000 copy", "URL_0000", "url_٠٠٠٠", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "url_0001").write_text("a file")
    (tmp_path / "target").mkdir()
    (tmp_path / "url_0002").symlink_to(tmp_path / "target", target_is_directory=True)
    (tmp_path / "url_0003").symlink_to(tmp_path / "nowhere")
    assert find_jobs(tmp_path) == []
    (tmp_path / "url_0004").mkdir()
    assert [path.name for path in find_jobs(tmp_path)] == ["url_0004"]


def test_no_job_folder_at_all(tmp_path: Path) -> None:
    for use in (find_jobs, find_empty_jobs, lambda path: remove_empty_jobs(path, dry_run=True)):
        with pytest.raises(RunFolderError, match=r"nosuch does not exist: run 03_extract with mode: batch"):
            use(tmp_path / "nosuch")
    (tmp_path / "nosuch").write_text("a file")
    with pytest.raises(RunFolderError):
        find_jobs(tmp_path / "nosuch")


# Removing


def test_only_what_holds_no_vector_is_removed(tmp_path: Path) -> None:
    jobs_dir, outside = tmp_path / "jobs", tmp_path / "outside"
    outside.mkdir()
    (outside / "url.txt").write_text("kept")
    empty = [
        save(job_dir(jobs_dir, 0), outcome=FAILURE, count=0),
        save(job_dir(jobs_dir, 10_000), outcome=FAILURE, count=0),
    ]
    unfinished = job_dir(jobs_dir, 1)
    unfinished.mkdir()
    (unfinished / "url.txt").write_text(URL)
    empty.insert(1, unfinished)

    save(job_dir(jobs_dir, 2))
    damaged = save(job_dir(jobs_dir, 3))
    (damaged / "job.json").unlink()
    for row, extra in ((4, "notes.txt"), (5, "mine.npy"), (6, ".hidden")):
        (save(job_dir(jobs_dir, row), outcome=FAILURE, count=0) / extra).write_text("mine")
    (save(job_dir(jobs_dir, 7), outcome=FAILURE, count=0) / "clips").mkdir()
    folder_as_file = job_dir(jobs_dir, 8)
    (folder_as_file / "url.txt").mkdir(parents=True)
    job_dir(jobs_dir, 9).symlink_to(outside, target_is_directory=True)
    for name in ("url_1", "other", ".url_0011.part"):
        (jobs_dir / name).mkdir()
        (jobs_dir / name / "url.txt").write_text(URL)
    before = names(jobs_dir)

    assert remove_empty_jobs(jobs_dir, dry_run=True) == empty
    assert names(jobs_dir) == before
    assert all(load_job(path) for path in empty if path != unfinished)

    assert remove_empty_jobs(jobs_dir, dry_run=False) == empty
    assert names(jobs_dir) == sorted(set(before) - {path.name for path in empty})
    assert (outside / "url.txt").read_text() == "kept"
    assert find_empty_jobs(jobs_dir) == []
    assert remove_empty_jobs(jobs_dir, dry_run=False) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_removal_that_the_disk_refuses_is_told(tmp_path: Path) -> None:
    path = save(job_dir(tmp_path, 0), outcome=FAILURE, count=0)
    path.chmod(0o500)
    with pytest.raises(RunFolderError, match=r"cannot write .*url_0000: Permission denied"):
        remove_empty_jobs(tmp_path, dry_run=False)
    path.chmod(0o700)
    assert remove_empty_jobs(tmp_path, dry_run=False) == [path]


def test_describing_nothing_has_columns() -> None:
    assert list(describe_jobs([]).columns) == ["job", "url", "status", "reason"]

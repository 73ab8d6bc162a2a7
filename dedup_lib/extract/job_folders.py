"""Job folders of the batch flow: `url_0000/` holds the vectors of one video, its URL and its settings.

    url_0000/first_frame.npy     one frame: float32 (D,)
    url_0001/frame_00.npy …      several frames, one file each
    url_0001/url.txt             the URL
    url_0001/job.json            recipe and outcome; written last: a folder without it is unfinished

A folder is written under a temporary name and renamed when it is complete.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dedup_lib.errors import RunFolderError
from dedup_lib.features.vectors import is_unit
from dedup_lib.records import Outcome, Recipe, Status, VideoVectors
from dedup_lib.run.files import writing

if TYPE_CHECKING:
    import pandas as pd

_NAME = re.compile(r"url_([0-9]{4}|[1-9][0-9]{4,})")
_VECTOR_NAME = re.compile(r"first_frame\.npy|frame_[0-9]{2,}\.npy")
_BARE_FILES = frozenset({"url.txt", "job.json"})


@dataclass(frozen=True, kw_only=True)
class Job:
    """A finished job folder: what was extracted, and by which recipe."""

    path: Path
    recipe: Recipe
    outcome: Outcome
    vectors: VideoVectors | None
    """None for a video without a vector."""


def job_dir(jobs_dir: Path, row: int) -> Path:
    """The folder of the video in this row of the list."""
    return jobs_dir / f"url_{row:04d}"


def save_job(path: Path, *, outcome: Outcome, recipe: Recipe, vectors: VideoVectors | None) -> None:
    """Writes a complete job folder. Replaces the files of an earlier run and keeps all other files there."""
    scratch = path.with_name(f".{path.name}.part")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        if vectors is not None:
            for name, row in zip(_vector_names(len(vectors.vectors), recipe), vectors.vectors, strict=True):
                np.save(scratch / name, row)
        (scratch / "url.txt").write_text(outcome.url + "\n", encoding="utf-8")
        record = {
            "recipe": asdict(recipe),
            "positions": list(vectors.positions) if vectors is not None else [],
            "outcome": asdict(outcome),
        }
        (scratch / "job.json").write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        if path.exists():
            _replace_files(scratch, path)
        else:
            os.replace(scratch, path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _replace_files(scratch: Path, path: Path) -> None:
    # A folder without job.json counts as unfinished, so that file is removed first and written last.
    for old in (path / "job.json", *_find_vectors(path)):
        old.unlink(missing_ok=True)
    for new in sorted(scratch.iterdir(), key=lambda file: file.name == "job.json"):
        os.replace(new, path / new.name)


def _find_vectors(path: Path) -> list[Path]:
    return [file for file in path.iterdir() if _VECTOR_NAME.fullmatch(file.name)]


def _vector_names(count: int, recipe: Recipe) -> list[str]:
    return ["first_frame.npy"] if recipe.num_frames == 1 else [f"frame_{index:02d}.npy" for index in range(count)]


def load_job(path: Path) -> Job | None:
    """Loads a job folder; returns None when it is unfinished or its parts do not fit together."""
    try:
        record = json.loads((path / "job.json").read_text(encoding="utf-8"))
        # Read as bytes, to keep a carriage return in a URL.
        url = (path / "url.txt").read_bytes().decode("utf-8").removesuffix("\n")
        recipe = Recipe(**record["recipe"])
        outcome = Outcome(**record["outcome"] | {"status": Status(record["outcome"]["status"])})
        positions = tuple(int(position) for position in record["positions"])
        names = _vector_names(len(positions), recipe) if positions else []
        rows = [_load_vector(path / name) for name in names]
        stacked = np.stack(rows) if rows else None
        found = {file.name for file in _find_vectors(path)}
    except (OSError, ValueError, TypeError, KeyError):
        return None
    if outcome.url != url or found != set(names) or list(positions) != sorted(set(positions)):
        return None
    vectors = None
    if stacked is not None:
        if len(stacked) != len(positions) or not is_unit(stacked):
            return None
        vectors = VideoVectors(url=url, vectors=stacked, positions=positions)
    if (vectors is None) == (outcome.status == Status.OK):
        return None
    return Job(path=path, recipe=recipe, outcome=outcome, vectors=vectors)


def _load_vector(path: Path) -> NDArray[np.float32]:
    """Loads one vector. Raises ValueError or OSError for a file that `save_job` did not write."""
    with path.open("rb") as file:
        row = np.lib.format.read_array(file, allow_pickle=False)
    if row.ndim != 1 or row.dtype != np.float32:
        raise ValueError(f"{path.name} holds no vector")
    return row


def find_jobs(jobs_dir: Path) -> list[Path]:
    """The job folders in `jobs_dir`, in order. Raises RunFolderError when `jobs_dir` does not exist."""
    if not jobs_dir.is_dir():
        raise RunFolderError(
            f"the folder of job folders {jobs_dir} does not exist: run 03_extract with mode: batch first, or set "
            "jobs_dir"
        )
    return sorted(
        (path for path in jobs_dir.iterdir() if _NAME.fullmatch(path.name) and path.is_dir() and not path.is_symlink()),
        key=lambda path: int(path.name.removeprefix("url_")),
    )


def load_jobs(jobs_dir: Path) -> Iterator[Job]:
    """Yields every finished job with vectors, in order."""
    for path in find_jobs(jobs_dir):
        job = load_job(path)
        if job is not None and job.vectors is not None:
            yield job


def find_empty_jobs(jobs_dir: Path) -> list[Path]:
    """Job folders that hold no vector and only files that 03_extract writes."""
    return [
        path
        for path in find_jobs(jobs_dir)
        if all(file.name in _BARE_FILES and file.is_file() for file in path.iterdir())
    ]


def describe_jobs(paths: Sequence[Path]) -> pd.DataFrame:
    """One row per job folder: job, url, status, reason; an unfinished folder has only its name."""
    # Imported here to spare each worker process half a second.
    import pandas as pd

    rows = []
    for path in paths:
        job = load_job(path)
        rows.append(
            (path.name, job.outcome.url, str(job.outcome.status), job.outcome.reason)
            if job
            else (path.name, "", "", "")
        )
    return pd.DataFrame(rows, columns=["job", "url", "status", "reason"])


def remove_empty_jobs(jobs_dir: Path, *, dry_run: bool) -> list[Path]:
    """Removes the job folders that hold no vector and returns their paths; with `dry_run` it removes nothing. Raises
    RunFolderError where the disk refuses."""
    empty = find_empty_jobs(jobs_dir)
    for path in () if dry_run else empty:
        with writing(path):
            for name in _BARE_FILES:
                (path / name).unlink(missing_ok=True)
            path.rmdir()
    return empty

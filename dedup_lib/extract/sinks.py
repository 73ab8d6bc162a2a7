"""Where finished videos go: into a collection, or to job folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dedup_lib.extract.job_folders import job_dir, load_job, save_job
from dedup_lib.features.vectors import pool_vectors
from dedup_lib.records import Outcome, Pooling, Recipe, Status, VideoVectors
from dedup_lib.run.files import writing
from dedup_lib.store.collection import Collection


@dataclass(frozen=True, kw_only=True)
class Extracted:
    """A video with its final outcome; `vectors` is None when it has none."""

    row: int
    outcome: Outcome
    vectors: VideoVectors | None
    fingerprint: bytes | None = None
    tries: int = 1
    """Number of tries in this run."""


class CollectionSink:
    """Saves directly into a collection of the store."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection

    def find_saved(self, outcomes: Mapping[str, Outcome], rows: Mapping[str, int]) -> dict[str, Outcome]:
        """Returns the outcomes of those URLs that need not be done again. `outcomes` are those of earlier runs; `rows`
        maps each URL to its row in the list."""
        known = {url: outcomes[url] for url in rows if url in outcomes}
        stored = self._collection.count_stored([url for url, o in known.items() if o.status == Status.OK])
        return {
            url: outcome
            for url, outcome in known.items()
            if outcome.status != Status.OK
            or stored.get(url) == (outcome.frames if self._collection.holds_frames else 1)
        }

    def load(self, urls: Sequence[str]) -> dict[str, VideoVectors]:
        """The saved vectors of these URLs; URLs without any are left out."""
        return self._collection.load_vectors(urls)

    def save(self, videos: Sequence[Extracted]) -> dict[str, str]:
        """Saves the vectors of finished videos and replaces those already there; returns where they are, by URL."""
        vectors = [video.vectors for video in videos if video.vectors is not None]
        self._collection.upsert([pool_video(video, self._collection.pooling) for video in vectors])
        return {video.url: self._collection.facts.name for video in vectors}


class JobSink:
    """Saves into job folders, to be uploaded later; its methods are those of `CollectionSink`."""

    def __init__(self, jobs_dir: Path, recipe: Recipe) -> None:
        with writing(jobs_dir):
            jobs_dir.mkdir(parents=True, exist_ok=True)
        self._jobs_dir = jobs_dir
        self._recipe = recipe
        self._folders: dict[str, Path] = {}
        """The job folders with vectors that are known, by URL."""

    def find_saved(self, outcomes: Mapping[str, Outcome], rows: Mapping[str, int]) -> dict[str, Outcome]:
        saved = {}
        for url, row in rows.items():
            folder = job_dir(self._jobs_dir, row)
            job = load_job(folder)
            if job is not None and job.recipe == self._recipe and job.outcome.url == url:
                saved[url] = job.outcome
                self._folders[url] = folder
            elif url in outcomes and outcomes[url].status != Status.OK:
                # 04_clean_jobs removes the folders of videos that gave no vector.
                saved[url] = outcomes[url]
        return saved

    def load(self, urls: Sequence[str]) -> dict[str, VideoVectors]:
        jobs = {url: load_job(self._folders[url]) for url in urls if url in self._folders}
        return {url: job.vectors for url, job in jobs.items() if job is not None and job.vectors is not None}

    def save(self, videos: Sequence[Extracted]) -> dict[str, str]:
        stored = {}
        for video in videos:
            path = job_dir(self._jobs_dir, video.row)
            with writing(path):
                save_job(path, outcome=video.outcome, recipe=self._recipe, vectors=video.vectors)
            if video.vectors is not None:
                stored[video.outcome.url] = path.name
                self._folders[video.outcome.url] = path
        return stored


Sink = CollectionSink | JobSink


def pool_video(video: VideoVectors, pooling: Pooling) -> VideoVectors:
    """Turns the vectors of a video's frames into the vectors that a collection stores."""
    positions = video.positions if pooling == Pooling.FRAMES else (0,)
    return replace(video, vectors=pool_vectors(video.vectors, pooling), positions=positions)

"""05: job folders into a collection."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from dedup_lib.errors import RunFolderError
from dedup_lib.extract.job_folders import load_jobs
from dedup_lib.extract.sinks import pool_video
from dedup_lib.records import Pooling, Recipe, VideoVectors
from dedup_lib.run.folder import RunFolder
from dedup_lib.settings import ExtractSettings, UploadSettings
from dedup_lib.steps.extract import jobs_path
from dedup_lib.store.address import StoreAddress
from dedup_lib.store.client import CollectionFacts
from dedup_lib.store.collection import UPSERT_ROWS
from dedup_lib.store.store import Store


@dataclass(frozen=True, kw_only=True)
class UploadReport:
    """The result of an upload."""

    facts: CollectionFacts
    jobs: int
    """Number of job folders that were uploaded."""
    other_recipes: int
    """Number of job folders with vectors that were skipped, because other settings made them, or because the folder of
    an earlier row has their URL."""


def upload_jobs(
    run: RunFolder, *, settings: UploadSettings, progress: Callable[[int], object] = lambda count: None
) -> UploadReport:
    """Upload the finished job folders, in batches, to a collection. A missing collection is created.

    Where 03_extract has run in this folder, its settings say which jobs count. A list without a readable video then
    gives an empty collection. Where it has not run, raises RunFolderError when there is no job, or when the jobs have
    several recipes. Raises RunFolderError also when another process works on the run folder.
    """
    pooling = Pooling(settings.vectors)
    jobs_dir = jobs_path(run, settings.jobs_dir)
    recipe, dimension = _recipe_to_upload(run, jobs_dir)
    uploaded: set[str] = set()
    others = 0

    def choose() -> Iterator[VideoVectors]:
        nonlocal others
        for job in load_jobs(jobs_dir):
            # Where rows of the list were removed, the last folders are left over, and their URLs moved to earlier ones.
            if job.vectors is None or job.recipe != recipe or job.outcome.url in uploaded:
                others += 1
                continue
            uploaded.add(job.outcome.url)
            yield pool_video(job.vectors, pooling)

    with run.locked(settings.stage), Store(StoreAddress.choose(settings.store, run)) as store:
        collection = store.ensure_collection(
            settings.collection, pooling=pooling, recipe=recipe, dimension=dimension, overwrite=settings.overwrite
        )
        videos = choose()
        while batch := list(islice(videos, UPSERT_ROWS)):
            collection.upsert(batch)
            progress(len(batch))
        facts = store.open_collection(settings.collection).facts
        return UploadReport(facts=facts, jobs=len(uploaded), other_recipes=others)


def _recipe_to_upload(run: RunFolder, jobs_dir: Path) -> tuple[Recipe, int]:
    """The recipe of the jobs that count, and the dimension of their vectors."""
    record = run.read_record(ExtractSettings.stage)
    if record is not None:
        return Recipe(**record["recipe"]), int(record["dimension"])
    recipes = {job.recipe: job.vectors.vectors.shape[1] for job in load_jobs(jobs_dir) if job.vectors is not None}
    if not recipes:
        raise RunFolderError(
            f"no job folder in {run.shown(jobs_dir)} holds a vector: run 03_extract with mode: batch first"
        )
    if len(recipes) > 1:
        raise RunFolderError(
            f"the job folders in {run.shown(jobs_dir)} were made with {len(recipes)} different settings, and "
            "03_extract has not run in this run folder to say which ones count: run it with the settings you want, or "
            "set jobs_dir"
        )
    return recipes.popitem()

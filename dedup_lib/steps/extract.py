"""03: read the videos of a list."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dedup_lib.errors import RunFolderError
from dedup_lib.features.encoder import Encoder
from dedup_lib.media.opening import check_resolver
from dedup_lib.records import Pooling, Recipe, Scan
from dedup_lib.run.folder import Record, RunFolder
from dedup_lib.run.ledger import Ledger
from dedup_lib.run.paths import expand_home
from dedup_lib.run.resources import ResourceMonitor
from dedup_lib.settings import CollectionsSettings, ExtractSettings, SearchSettings, UploadSettings
from dedup_lib.store.address import StoreAddress
from dedup_lib.store.store import Store

if TYPE_CHECKING:
    from dedup_lib.extract.pipeline import ExtractReport
    from dedup_lib.extract.sinks import Sink


def make_recipe(settings: ExtractSettings | CollectionsSettings, encoder: Encoder) -> Recipe:
    """The recipe: all settings that change a vector."""
    return Recipe(
        encoder=encoder.name, model=encoder.model, num_frames=settings.num_frames, frame_span=settings.frame_span
    )


@dataclass(frozen=True, kw_only=True)
class VectorPlace:
    """The place of a run's vectors."""

    store: str
    """Address of the store, without any secret."""
    collection: str
    """Empty for job folders."""

    def __str__(self) -> str:
        return f"{self.store}, collection {self.collection}" if self.collection else self.store

    def as_record(self) -> Record:
        """The entry for a stage record."""
        return {"vectors": str(self)}


def find_place(run: RunFolder, settings: ExtractSettings | UploadSettings | SearchSettings) -> VectorPlace:
    """The place where a notebook writes its vectors, or reads them. Raises SettingError where the run needs a server
    and none is named. Raises StoreError where `MILVUS_URI` is no address."""
    address = StoreAddress.choose(settings.store, run)
    if isinstance(settings, ExtractSettings) and settings.mode == "batch":
        return VectorPlace(store=f"job folders, {settings.jobs_dir}", collection="")
    return VectorPlace(store=str(address), collection=settings.collection)


def jobs_path(run: RunFolder, jobs_dir: str) -> Path:
    """The folder that holds the job folders. A relative path is taken from the run folder."""
    return run.path / expand_home(jobs_dir)


def choose_resources(run: RunFolder, *, monitor: ResourceMonitor) -> Record:
    """The machine's resources that extraction used, for the record of 03_extract. They are the samples of the longest
    call, which may be an earlier one in this run folder."""
    earlier: Record = {}
    # Nothing of a damaged record is kept; the next record replaces it.
    with suppress(RunFolderError):
        earlier = (run.read_record(ExtractSettings.stage) or {}).get("resources", {})
    samples: Record = monitor.as_record()
    if max(earlier.get("time_s", []), default=0.0) > max(samples["time_s"], default=0.0):
        return earlier
    return samples


def extract_list(
    run: RunFolder,
    urls: Sequence[str],
    *,
    settings: ExtractSettings,
    encoder: Encoder,
    progress: Callable[[int], object] = lambda count: None,
) -> tuple[ExtractReport, ResourceMonitor]:
    """Extract rows `start` to `end` of the list, directly into the store or into job folders.

    Raises RunFolderError when another process works on the run folder, or when the disk takes no more. Raises
    ClusterError when the cluster cannot do the work, and SettingError when `resolve_pages` lacks its package.
    """
    # The command line imports this module for its other functions, and would keep PyAV in memory during the whole run.
    from dedup_lib.extract.pipeline import extract_videos
    from dedup_lib.extract.sinks import CollectionSink, JobSink

    check_resolver(settings)
    recipe = make_recipe(settings, encoder)
    rows = range(len(urls))[settings.start : settings.end]
    with run.locked(settings.stage), Ledger(run.ledger_path, recipe) as ledger, ResourceMonitor() as monitor:

        def extract(sink: Sink) -> ExtractReport:
            return extract_videos(
                [urls[row] for row in rows],
                rows=rows,
                settings=settings,
                encoder=encoder,
                recipe=recipe,
                scan=Scan(step_s=settings.scan_step_s),
                sink=sink,
                ledger=ledger,
                thumbnails_dir=run.thumbnails_dir,
                progress=progress,
            )

        if settings.mode == "batch":
            return extract(JobSink(jobs_path(run, settings.jobs_dir), recipe)), monitor
        with Store(StoreAddress.choose(settings.store, run)) as store:
            collection = store.ensure_collection(
                settings.collection,
                pooling=Pooling.FIRST if settings.num_frames == 1 else Pooling.FRAMES,
                recipe=recipe,
                dimension=encoder.dimension,
                overwrite=settings.overwrite,
            )
            return extract(CollectionSink(collection)), monitor

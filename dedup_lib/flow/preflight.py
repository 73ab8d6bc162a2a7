"""Checks before the first notebook: a run that cannot succeed is refused and leaves nothing."""

from __future__ import annotations

import difflib
from contextlib import suppress
from pathlib import Path

from dedup_lib.errors import ListError, RunFolderError, SettingError
from dedup_lib.features.encoders import check_encoder
from dedup_lib.flow.forecast import forecast_memory
from dedup_lib.flow.plan import RunPlan
from dedup_lib.groups.decisions import decisions_path, load_decisions
from dedup_lib.lists.tables import find_url_column, load_list
from dedup_lib.media.opening import check_resolver
from dedup_lib.run.folder import describe_known_runs
from dedup_lib.run.paths import expand_home, is_there, notebook_path, resolve_path
from dedup_lib.settings import (
    CalibrateSettings,
    CleanJobsSettings,
    DecodeSettings,
    DedupeUrlsSettings,
    ExtractSettings,
    SearchSettings,
    UploadSettings,
)
from dedup_lib.steps.existing import find_earlier, find_earlier_store
from dedup_lib.steps.extract import find_place
from dedup_lib.steps.extracted_list import find_filled_store
from dedup_lib.steps.inputs import ListSource, find_first_list, find_list
from dedup_lib.store.address import StoreAddress
from dedup_lib.store.store import Store


def check_start(plan: RunPlan) -> tuple[str, ...]:
    """Raises early what the notebooks of a plan would raise later. Returns notes for the person.

    The errors are ListError for a list, or decisions about it, that cannot be read; RunFolderError where no list is
    known, an earlier run to compare with has read nothing, or a notebook is missing; EncoderError for a model that
    cannot be loaded; and SettingError and StoreError for a store that is not named, is missing, or does not answer.
    """
    places = [
        find_place(plan.run, settings)
        for settings in plan.settings.values()
        if isinstance(settings, ExtractSettings | UploadSettings | SearchSettings)
    ]
    source, rows = _check_list(plan)
    _check_work_before(plan)
    for settings in plan.settings.values():
        if isinstance(settings, SearchSettings):
            _check_earlier(plan, settings)
        if isinstance(settings, ExtractSettings):
            check_resolver(settings)
        if isinstance(settings, ExtractSettings | CalibrateSettings):
            check_encoder(settings.encoder, model=settings.model)
        if isinstance(settings, SearchSettings) and (settings.decisions_csv or source is not None):
            beside = decisions_path(source.list_csv) if source is not None else Path()
            load_decisions(resolve_path(settings.decisions_csv) if settings.decisions_csv else beside)
    address = StoreAddress.find(plan.run)
    # The run itself creates a Milvus Lite file.
    if any(place.collection for place in places) and not address.is_local:
        with Store(address) as store:
            store.ping()
    for path in map(notebook_path, plan.notebooks):
        if not path.is_file():
            raise RunFolderError(f"there is no {path}: keep the folders dedup_lib, notebooks and params together")
    note = forecast_memory(plan, rows=rows)
    return (note,) if note else ()


def _check_list(plan: RunPlan) -> tuple[ListSource | None, int]:
    """The list that the first notebook reads, and the number of its rows. None and 0 where it reads no list."""
    first = plan.settings[plan.notebooks[0]]
    if isinstance(first, DecodeSettings):
        source = find_first_list(plan.run, input_csv=first.input_csv, url_column=first.url_column)
    elif isinstance(first, DedupeUrlsSettings | ExtractSettings | CalibrateSettings):
        before = [stage for stage in (DedupeUrlsSettings.stage, DecodeSettings.stage) if stage != first.stage]
        source = find_list(plan.run, input_csv=first.input_csv, url_column=first.url_column, after=before)
    else:
        return None, 0
    if first.input_csv and not is_there(source.path):
        raise ListError(_describe_missing(first.input_csv, source.path))
    listed = load_list(source.path, is_ours=source.is_ours)
    find_url_column(listed, url_column=source.url_column)
    return source, len(listed)


def _check_earlier(plan: RunPlan, settings: SearchSettings) -> None:
    """Check that the vectors of earlier runs are there, and will be comparable with those of this run."""
    own = plan.settings.get(ExtractSettings.stage)
    for name, folder in zip(settings.existing_runs, find_earlier(plan.run, settings.existing_runs), strict=True):
        find_earlier_store(folder, settings)
        recipe = (folder.read_record(ExtractSettings.stage) or {}).get("recipe", {})
        for parameter in ("encoder", "num_frames", "frame_span"):
            wanted, used = getattr(own, parameter, None), recipe.get(parameter)
            if wanted is not None and used is not None and used != wanted:
                raise SettingError(
                    "existing_runs",
                    name,
                    f"its videos were read with {parameter} = {used!r}, and this run reads with {wanted!r}: use one "
                    "profile for both",
                )


def _check_work_before(plan: RunPlan) -> None:
    """Check that a plan which begins in the middle of a flow finds the earlier results it needs."""
    first = plan.settings[plan.notebooks[0]]
    if isinstance(first, SearchSettings) and plan.run.read_record(ExtractSettings.stage) is None:
        find_filled_store(plan.run, first.collection)
    if isinstance(first, CleanJobsSettings | UploadSettings) and not plan.run.path.is_dir():
        raise RunFolderError(
            f"there is no run folder {plan.run.shown(plan.run.path)} with job folders to work on; "
            f"{describe_known_runs()}"
        )


def _describe_missing(input_csv: str, path: Path) -> str:
    here = Path.cwd() / expand_home(input_csv)
    places = [path] if here.resolve() == path.resolve() else [here, path]
    names: set[str] = set()
    for place in places:
        with suppress(OSError):
            names.update(file.name for file in place.parent.iterdir())
    near = difflib.get_close_matches(path.name, sorted(names), n=1)
    meant = f"; did you mean {near[0]}?" if near else ": check the path of the list"
    return f"{' and '.join(map(str, places))} {'does' if len(places) == 1 else 'do'} not exist{meant}"

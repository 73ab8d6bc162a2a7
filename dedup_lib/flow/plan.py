"""Which notebooks a run executes, each with its parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dedup_lib.errors import SettingError
from dedup_lib.flow.earlier import choose_earlier
from dedup_lib.run.folder import RunFolder, named_run_dir
from dedup_lib.run.paths import find_inputs, is_same_place, is_there, resolve_path
from dedup_lib.settings import (
    FLOWS,
    SETTINGS,
    DecodeSettings,
    DedupeUrlsSettings,
    NotebookSettings,
    SearchSettings,
    parameter_types,
    refuse_unknown,
)
from dedup_lib.steps.inputs import describe_choice

_OUTPUTS = ("output_csv", "report_csv", "unique_csv", "invalid_csv")


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """What a run will do: the notebooks in order, and the parameters of the profile that each of them has."""

    run: RunFolder
    notebooks: tuple[str, ...]
    parameters: Mapping[str, Mapping[str, Any]]
    settings: Mapping[str, NotebookSettings]
    """All parameters of each notebook. What the profile does not set keeps its default."""
    notes: tuple[str, ...] = ()
    """What a person should know before the run starts."""


def plan_run(
    profile: Mapping[str, Any], *, run_name: str = "", against: Sequence[str] = (), first: str = "", only: str = ""
) -> RunPlan:
    """Choose the notebooks and check all their parameters before any work.

    `against` names earlier runs (see `choose_earlier`); they are added to `existing_runs`. `first` and `only` are
    notebook numbers such as `03`. Raises what `choose_earlier` raises, and SettingError for a parameter that no
    notebook of the flow has, and for a value that a parameter does not allow.
    """
    mode = profile.get("mode", "direct")
    if not isinstance(mode, str) or mode not in FLOWS:
        raise SettingError("mode", mode, f"it must be one of {', '.join(FLOWS)}")
    flow = FLOWS[mode]
    refuse_unknown(profile, flow, where=f"no notebook of the {mode} flow")
    return _plan(profile, _choose(flow, first=first, only=only), run_name=run_name, against=against)


def plan_notebook(stage: str, profile: Mapping[str, Any], *, run_name: str = "") -> RunPlan:
    """Plan a run of one notebook with the parameters of a profile that it has. The notebook may belong to no flow.

    Raises SettingError for a parameter that no notebook has, and for a value that a parameter does not allow.
    """
    refuse_unknown(profile, SETTINGS, where="no notebook")
    return _plan(profile, (stage,), run_name=run_name)


def _plan(
    profile: Mapping[str, Any], notebooks: tuple[str, ...], *, run_name: str, against: Sequence[str] = ()
) -> RunPlan:
    values = dict(profile) | ({"run_dir": named_run_dir(run_name)} if run_name else {})
    if not str(values.get("run_dir") or "").strip():
        raise SettingError("run_dir", values.get("run_dir"), "set it in the profile, or give the run a name with --run")
    NotebookSettings.check_given(values)
    notes = _settle_list(values)
    notes = (*notes, *_keep_earlier(values, notebooks, against=against), *_note_list(values, notebooks))
    if against:
        earlier, said = choose_earlier(RunFolder(values["run_dir"]), against)
        given = values.get("existing_runs", [])
        # What is no list is refused below.
        values["existing_runs"] = list(dict.fromkeys([*given, *earlier])) if isinstance(given, list) else given
        notes = (*notes, *said)
    parameters = {
        stage: {name: values[name] for name in parameter_types(SETTINGS[stage]) if name in values}
        for stage in notebooks
    }
    settings = {stage: SETTINGS[stage](**parameters[stage]) for stage in notebooks}
    run = RunFolder(values["run_dir"])
    _check_outputs(run, settings, input_csv=values.get("input_csv"))
    search = settings.get(SearchSettings.stage)
    if isinstance(search, SearchSettings) and search.decisions_csv and not is_there(resolve_path(search.decisions_csv)):
        notes = (*notes, f"decisions_csv = {search.decisions_csv!r} names no file yet: no decision of a person counts")
    return RunPlan(run=run, notebooks=notebooks, parameters=parameters, settings=settings, notes=notes)


def _check_outputs(run: RunFolder, settings: Mapping[str, NotebookSettings], *, input_csv: object) -> None:
    """Raises SettingError where a parameter names the list, or the same file for two outputs, as an output. Without
    this check, a run could read for hours before 06 refuses."""
    taken = [(resolve_path(input_csv), "", "the list")] if isinstance(input_csv, str) and input_csv else []
    for stage, chosen in settings.items():
        for name in _OUTPUTS:
            if not (given := getattr(chosen, name, "")):
                continue
            path = run.output_path(given, "")
            for place, parameter, what in taken:
                if is_same_place(path, place):
                    remedy = "give it to one of the two alone (--only)" if parameter == name else "name another file"
                    raise SettingError(name, given, f"{stage} would overwrite {what}: {remedy}")
            taken.append((path, name, f"{name} of {stage}"))


def _keep_earlier(values: dict[str, Any], notebooks: Sequence[str], *, against: Sequence[str]) -> tuple[str, ...]:
    """Set `existing_runs` in `values` to those of 02_dedupe_urls, where a plan begins after it and names none: 02 has
    set their URLs aside already. Returns notes for the person about it."""
    if against or "existing_runs" in values or DedupeUrlsSettings.stage in notebooks:
        return ()
    record = RunFolder(values["run_dir"]).read_record(DedupeUrlsSettings.stage) or {"settings": {}}
    known = record["settings"].get("existing_runs")
    if not known or SearchSettings.stage not in notebooks:
        return ()
    values["existing_runs"] = known
    names = ", ".join(Path(name).name for name in known)
    return (f"compared with {names} too, as when 02_dedupe_urls ran here; --set 'existing_runs=[]' compares with none",)


def _note_list(values: Mapping[str, Any], notebooks: Sequence[str]) -> tuple[str, ...]:
    """A note where a plan begins after 01_decode, and the outputs would lack rows of the list: no notebook reads the
    list that a person names, or the list was saved since 01_decode read it."""
    if DecodeSettings.stage in notebooks or not set(notebooks) & set(FLOWS["batch"]):
        return ()
    record = RunFolder(values["run_dir"]).read_record(DecodeSettings.stage) or {}
    path = Path(record.get("list", {}).get("csv", ""))
    named = values.get("input_csv")
    is_read = any("input_csv" in parameter_types(SETTINGS[stage]) for stage in notebooks)
    if record and isinstance(named, str) and named and not is_read and not is_same_place(resolve_path(named), path):
        return (
            f"input_csv = {named!r} is not read: this run has the rows of {path.name}; run without --from and --only "
            "to read another list",
        )
    if not path.is_file():
        return ()
    saved = datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="milliseconds")
    if saved <= record["finished"]:
        return ()
    return (
        f"{path.name} was saved after 01_decode had read it: this run has the rows of that time; run without --from "
        "and --only to read it again",
    )


def _settle_list(values: dict[str, Any]) -> tuple[str, ...]:
    """Change `input_csv` in `values` to a path that the notebooks can find: they work in the project root, but the
    person may be in another folder. Returns notes for the person about the choice."""
    named = values.get("input_csv")
    if not isinstance(named, str) or not named or not (found := find_inputs(named)):
        return ()
    if not is_same_place(found[0], resolve_path(named)):
        values["input_csv"] = str(found[0])
    return (describe_choice(named, found),) if len(found) > 1 else ()


def _choose(flow: Sequence[str], *, first: str, only: str) -> tuple[str, ...]:
    for option, number in (("--from", first), ("--only", only)):
        if number and not any(stage.startswith(f"{number}_") for stage in flow):
            numbers = ", ".join(stage[:2] for stage in flow)
            raise SettingError(option, number, f"this flow has the notebooks {numbers}")
    if only:
        return tuple(stage for stage in flow if stage.startswith(f"{only}_"))
    return tuple(stage for stage in flow if not first or stage[:2] >= first)

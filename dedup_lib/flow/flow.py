"""Running a flow: which notebooks, with which parameters, one after the other through papermill.

There is no logic here that the notebooks lack: the same result comes from running them by hand.
"""

from __future__ import annotations

import ast
import difflib
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import nbformat
import yaml
from nbformat import NotebookNode
from tqdm import tqdm

from dedup_lib.errors import FailedRowsError, NotebookError, RunFolderError, SettingError
from dedup_lib.report.overview import write_index
from dedup_lib.report.pages import merge_parameters, render_notebook
from dedup_lib.run.files import write_text_atomically, writing
from dedup_lib.run.folder import RunFolder, named_run_dir
from dedup_lib.run.paths import find_inputs, find_project_root, is_same_place, resolve_path
from dedup_lib.sanitise import show_text
from dedup_lib.settings import FLOWS, SETTINGS, NotebookSettings, parameter_types, refuse_unknown
from dedup_lib.steps.stages import begin_on, describe_choice

_TEXTS = frozenset(name for cls in SETTINGS.values() for name, hint in parameter_types(cls).items() if hint is str)


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """What a run will do: notebooks in order, and for each its own parameters out of the profile."""

    run: RunFolder
    notebooks: tuple[str, ...]
    parameters: Mapping[str, Mapping[str, Any]]
    settings: Mapping[str, NotebookSettings]
    """All parameters of each notebook, its defaults in place of what the profile does not say."""
    notes: tuple[str, ...] = ()
    """What a person should know before it starts."""


@dataclass(frozen=True, kw_only=True)
class NotebookDone:
    """One executed notebook."""

    name: str
    executed_path: Path
    elapsed_s: float


def load_profile(profile: str) -> dict[str, Any]:
    """The parameters of a profile: the name of one in `params/`, or the path of a YAML file.

    Raises SettingError when there is no such file or it is no flat mapping.
    """
    if profile.endswith((".yaml", ".yml")):
        path = next(iter(find_inputs(profile)), resolve_path(profile))
    else:
        path = find_project_root() / "params" / f"{profile}.yaml"
    if not path.is_file():
        raise SettingError("profile", profile, _describe_missing_profile(profile, path))
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.MarkedYAMLError as error:
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if (mark := error.problem_mark) else ""
        raise SettingError("profile", profile, f"{path.name} is not valid YAML{place}: {error.problem}") from None
    except (yaml.YAMLError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise SettingError("profile", profile, f"{path.name} is not valid YAML: {reason}") from None
    if not isinstance(values, dict) or any(isinstance(value, dict) for value in values.values()):
        raise SettingError("profile", profile, f"{path.name} must consist of lines `parameter: value`, without nesting")
    return {str(name): value for name, value in values.items()}


def _describe_missing_profile(profile: str, path: Path) -> str:
    params_dir = find_project_root() / "params"
    names = sorted(file.stem for file in params_dir.glob("*.yaml"))
    known = f"he profiles in params/ are {', '.join(names)}"
    if "://" in profile:
        remedy = "a list is downloaded first, and then given as in run direct --set input_csv=LIST.csv"
        return f"it is an address, not a profile; {remedy}. T{known}"
    is_file = any(found.is_file() for found in find_inputs(profile))
    if is_file or Path(profile).suffix not in ("", ".", ".yaml", ".yml"):
        given = shlex.quote(f"input_csv={profile}")
        return f"it is no profile; a list is given beside one, as in run direct --set {given}. T{known}"
    missing = path.name if path.parent == params_dir else path
    near = difflib.get_close_matches(Path(profile).stem, names, n=1)
    return f"there is no file {missing}; " + (f"did you mean {near[0]}? T{known}" if near else f"t{known}")


@cache
def load_defaults(stage: str) -> Mapping[str, Any]:
    """The parameters of a notebook of this project by name: its parameters cell holds their only defaults.

    Raises RunFolderError where the notebooks do not lie beside the package, and SettingError for a default that is
    worked out, where a plain value is wanted.
    """
    defaults = {}
    for parameter in merge_parameters(_read_notebook(stage).cells):
        try:
            defaults[parameter.name] = ast.literal_eval(parameter.value)
        except ValueError:
            allowed = f"the parameters cell of notebooks/{stage}.ipynb may hold only plain values"
            raise SettingError(parameter.name, parameter.value, allowed) from None
    return defaults


def fill_in(stage: str, parameters: Mapping[str, Any]) -> NotebookNode:
    """A notebook of this project with these parameters in place of its defaults, as papermill would run it.

    Raises RunFolderError where the notebooks do not lie beside the package.
    """
    from papermill.parameterize import parameterize_notebook

    notebook = _read_notebook(stage)
    # As papermill's own reader leaves it.
    notebook.metadata["papermill"] = {}
    for cell in notebook.cells:
        cell.metadata.setdefault("tags", [])
    filled: NotebookNode = parameterize_notebook(notebook, dict(parameters))
    return filled


def _read_notebook(stage: str) -> NotebookNode:
    path = find_project_root(Path(__file__).parent) / "notebooks" / f"{stage}.ipynb"
    try:
        notebook: NotebookNode = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]  # nbformat has no types
    except OSError as error:
        raise RunFolderError(
            f"{path}, which holds the defaults of {stage}, cannot be read ({error.strerror}): keep the folders "
            "dedup_lib, notebooks and params together"
        ) from None
    return notebook


def parse_overrides(texts: Sequence[str]) -> dict[str, Any]:
    """`name=value` texts, each value read as YAML: `0.9` is a number, `[a, b]` a list, `null` is None. A parameter
    that is a text is taken as it stands: names of files and collections may look like anything.

    Raises SettingError for a text without `=`.
    """
    values = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise SettingError("--set", text, "write it as name=value, such as --set min_score=0.8")
        values[name.strip()] = value if name.strip() in _TEXTS else _read_value(value)
    return values


def _read_value(text: str) -> Any:
    try:
        return yaml.safe_load(text) if text.strip() else ""
    except (yaml.YAMLError, ValueError):
        return text


def apply_overrides(profile: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """A profile with the parameters that a person sets besides. Another encoder takes the place of the profile's with
    its model, which is that encoder's own."""
    kept = dict(profile)
    if {"encoder"} <= kept.keys() & overrides.keys() and kept["encoder"] != overrides["encoder"]:
        kept.pop("model", None)
    return kept | dict(overrides)


def plan_run(profile: Mapping[str, Any], *, run_name: str = "", first: str = "", only: str = "") -> RunPlan:
    """Choose the notebooks and check all their parameters before any work.

    `first` and `only` are notebook numbers such as `03`. Raises SettingError for a parameter that no notebook of
    the flow knows, or whose value does not do.
    """
    values = dict(profile)
    if run_name:
        values["run_dir"] = named_run_dir(run_name)
    mode = values.get("mode", "direct")
    if not isinstance(mode, str) or mode not in FLOWS:
        raise SettingError("mode", mode, f"it must be one of {', '.join(FLOWS)}")
    flow = FLOWS[mode]
    refuse_unknown(values, flow, where=f"no notebook of the {mode} flow")
    return _plan(values, _choose(flow, first=first, only=only))


def plan_notebook(stage: str, profile: Mapping[str, Any], *, run_name: str = "") -> RunPlan:
    """A run of one notebook, which may belong to no flow, by the parameters of a profile that it knows.

    Raises SettingError for a parameter that no notebook knows, or whose value does not do.
    """
    values = dict(profile)
    if run_name:
        values["run_dir"] = named_run_dir(run_name)
    refuse_unknown(values, SETTINGS, where="no notebook")
    return _plan(values, (stage,))


def _plan(values: dict[str, Any], notebooks: tuple[str, ...]) -> RunPlan:
    if not str(values.get("run_dir") or "").strip():
        raise SettingError("run_dir", values.get("run_dir"), "set it in the profile, or give the run a name with --run")
    notes = _settle_list(values)
    parameters = {
        stage: {name: values[name] for name in parameter_types(SETTINGS[stage]) if name in values}
        for stage in notebooks
    }
    settings = {stage: SETTINGS[stage].of({**load_defaults(stage), **parameters[stage]}) for stage in notebooks}
    return RunPlan(
        run=RunFolder(values["run_dir"]), notebooks=notebooks, parameters=parameters, settings=settings, notes=notes
    )


def _settle_list(values: dict[str, Any]) -> tuple[str, ...]:
    """Name the list such that the notebooks, which work in the project root, find the file that a person means, who may
    be elsewhere; returns what to tell of it."""
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


def execute_plan(
    plan: RunPlan,
    *,
    command: str = "",
    report: bool = True,
    on_start: Callable[[str], object] = lambda name: None,
    on_progress: Callable[[str], object] = lambda text: None,
    on_done: Callable[[NotebookDone], object] = lambda done: None,
) -> None:
    """Run the notebooks in order and render each as a page, with an index over them. `command` is what a person types
    to go on with a run that was stopped; `on_start` is told the name of each notebook, and at the end of the report;
    `on_progress` what their bars write while they work.

    Raises NotebookError at the first that fails; its executed copy and the pages so far are kept. Raises
    FailedRowsError when all is written but too many rows failed, and RunFolderError when another run works on the
    folder, or the disk refuses.
    """
    with plan.run.locked(*plan.notebooks, command=command) as lock, writing(plan.run.path):
        try:
            for name in plan.notebooks:
                lock.go_to(name)
                on_start(name)
                done = _execute(plan, name, report=report, inherited=lock.descriptors, on_progress=on_progress)
                on_done(done)
        finally:
            if report:
                on_start("the report")
                with tqdm(unit="", file=_Listener(on_progress), leave=False) as bar:
                    write_index(plan.run.path, begin=begin_on(bar))


class _Listener:
    """A file that hands on what is written into it."""

    def __init__(self, hear: Callable[[str], object]) -> None:
        self._hear = hear

    def write(self, text: str) -> None:
        self._hear(text)

    def flush(self) -> None:
        """Nothing is held back."""


def _execute(
    plan: RunPlan, name: str, *, report: bool, inherited: tuple[int, ...], on_progress: Callable[[str], object]
) -> NotebookDone:
    # Take over a second to import; the other commands do without them.
    import papermill

    from dedup_lib.flow.kernel import LoggedKernelManager

    source = find_project_root() / "notebooks" / f"{name}.ipynb"
    executed = plan.run.notebooks_dir / f"{name}.ipynb"
    log_path = executed.with_suffix(".log")
    executed.parent.mkdir(parents=True, exist_ok=True)
    start_s = time.monotonic()
    try:
        papermill.execute_notebook(
            _escape_braces(source),
            _escape_braces(executed),
            parameters=dict(plan.parameters[name]),
            cwd=str(find_project_root()),
            kernel_name="python3",
            progress_bar=False,
            stderr_file=_Listener(on_progress),
            kernel_manager_class=LoggedKernelManager,
            config=LoggedKernelManager.config_of(log_path, inherited=inherited),
        )
    except papermill.PapermillExecutionError as error:
        reason = str(error.evalue).strip() or error.ename
        if error.ename == FailedRowsError.__name__:
            raise FailedRowsError(reason) from None
        raise NotebookError(name, reason, executed) from None
    finally:
        if log_path.exists():
            write_text_atomically(log_path, show_text(log_path.read_text(encoding="utf-8", errors="replace")))
        if report and executed.exists():
            render_notebook(executed, plan.run.reports_dir / f"{name}.html", title=name)
    return NotebookDone(name=name, executed_path=executed, elapsed_s=time.monotonic() - start_s)


def _escape_braces(path: Path) -> str:
    # papermill runs every path through str.format.
    return str(path).replace("{", "{{").replace("}", "}}")

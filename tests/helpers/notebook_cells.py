"""The notebooks of a run in this process, cell after cell: a kernel for each of them takes seconds to start."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import chdir
from typing import Any

from dedup_lib.flow.notebook import fill_in
from dedup_lib.flow.plan import RunPlan
from dedup_lib.run.paths import find_project_root


def run_cells(plan: RunPlan) -> None:
    """Do and write what the notebooks of a plan do and write when a person runs them by hand; nothing is shown.

    Raises what a cell raises.
    """
    for stage in plan.notebooks:
        run_notebook(stage, plan.parameters[stage])


def run_notebook(stage: str, parameters: Mapping[str, Any]) -> None:
    """The same for one notebook, whatever its parameters are."""
    names: dict[str, Any] = {"In": [""]}
    with chdir(find_project_root()):
        for cell in fill_in(stage, parameters).cells:
            if cell.cell_type == "code":
                names["In"].append(cell.source)
                exec(compile(cell.source, stage, "exec"), names)

"""Runs the notebooks of a plan one after the other, through papermill."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tqdm import tqdm

from dedup_lib.errors import FailedRowsError, NotebookError
from dedup_lib.flow.plan import RunPlan
from dedup_lib.run.files import write_text_atomically, writing
from dedup_lib.run.paths import find_project_root, notebook_path
from dedup_lib.sanitise import sanitise
from dedup_lib.steps.bar import progress_on


def execute_plan(
    plan: RunPlan,
    *,
    command: str = "",
    report: bool = True,
    on_start: Callable[[str], object] = lambda name: None,
    on_progress: Callable[[str], object] = lambda text: None,
    on_done: Callable[[str, float], object] = lambda name, elapsed_s: None,
) -> None:
    """Run the notebooks in order and render each as a page, with an index of the pages.

    `command` is the command that continues a stopped run. `on_start` gets the name of each notebook, and finally that
    of the report. `on_progress` gets the text that the progress bars write. `on_done` gets the name of each
    finished notebook, and its seconds.

    Raises NotebookError at the first notebook that fails. Its executed copy and the pages so far are kept. Raises
    FailedRowsError when all is written but too many rows failed. Raises RunFolderError when another run works on the
    folder, or when the disk takes no more.
    """

    def write_report() -> None:
        if report:
            on_start("the report")
            # Imported when no notebook runs any more: its plots and tables take 100 MB.
            from dedup_lib.report.overview import write_index

            with tqdm(unit="", file=_Listener(on_progress), leave=False) as bar:
                write_index(plan.run.path, begin=progress_on(bar))

    with plan.run.locked(*plan.notebooks, command=command) as lock, writing(plan.run.path), _finally(write_report):
        for name in plan.notebooks:
            lock.go_to(name)
            on_start(name)
            start_s = time.monotonic()
            _execute(plan, name, report=report, inherited=lock.descriptors, on_progress=on_progress)
            on_done(name, time.monotonic() - start_s)


@contextmanager
def _finally(finish: Callable[[], object]) -> Iterator[None]:
    """Calls `finish` at the end of the block. After an error, no error of `finish` takes its place."""
    try:
        yield
    except BaseException:
        with suppress(Exception):
            finish()
        raise
    finish()


class _Listener:
    """A file that passes on the text that is written to it."""

    def __init__(self, hear: Callable[[str], object]) -> None:
        self._hear = hear

    def write(self, text: str) -> None:
        self._hear(text)

    def flush(self) -> None:
        """Does nothing, because `write` passes on all text at once."""


def _execute(
    plan: RunPlan, name: str, *, report: bool, inherited: tuple[int, ...], on_progress: Callable[[str], object]
) -> None:
    # These imports take seconds; the other commands do not need them.
    import papermill

    from dedup_lib.flow.kernel import LoggedKernelManager

    source = notebook_path(name)
    executed = plan.run.notebooks_dir / f"{name}.ipynb"
    log_path = executed.with_suffix(".log")
    executed.parent.mkdir(parents=True, exist_ok=True)

    def show() -> None:
        if log_path.exists():
            write_text_atomically(log_path, sanitise(log_path.read_text(encoding="utf-8", errors="replace")))
        if report and executed.exists():
            from dedup_lib.report.notebook_pages import render_notebook

            render_notebook(executed, plan.run.reports_dir / f"{name}.html", title=name)

    with _finally(show):
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
        except RuntimeError as error:
            # Jupyter has no error of its own for a kernel that does not begin.
            if not str(error).startswith("Kernel died"):
                raise
            reason = (
                f"its process ended before it was done ({error}), as where memory runs out: give the same command "
                f"again, for finished work is kept. What it said last is in {log_path}"
            )
            raise NotebookError(name, reason, executed) from None


def _escape_braces(path: Path) -> str:
    # papermill runs every path through str.format.
    return str(path).replace("{", "{{").replace("}", "}}")

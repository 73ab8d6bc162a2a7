"""The kernel of a run's notebook: it ends as a script ends, soon, and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import nbclient.exceptions
import nbformat
import papermill
import pytest

from dedup_lib.flow.kernel import LoggedKernelManager

SOURCE = """
import atexit, multiprocessing, pathlib

process = multiprocessing.get_context("forkserver").Process(target=int)
process.start()
process.join()
atexit.register(pathlib.Path("ended").touch)
"""

LONG = """
import atexit, pathlib, time

atexit.register(pathlib.Path("ended").touch)
try:
    time.sleep(60)
finally:
    pathlib.Path("left").touch()
"""


def run_cell(source: str, folder: Path, **options: object) -> None:
    """Run a notebook of one cell in that folder, as a run does."""
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)]), folder / "in.ipynb")
    papermill.execute_notebook(
        str(folder / "in.ipynb"),
        str(folder / "out.ipynb"),
        cwd=str(folder),
        kernel_name="python3",
        progress_bar=False,
        kernel_manager_class=LoggedKernelManager,
        config=LoggedKernelManager.config_of(folder / "log"),
        **options,
    )


def test_a_kernel_whose_notebook_started_processes_ends_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The helpers of multiprocessing ignore SIGTERM, and a kernel that waits for them is killed."""
    temporary = tmp_path / "t"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    run_cell(SOURCE, tmp_path)
    assert (tmp_path / "ended").exists()
    assert not list(temporary.iterdir())
    assert (tmp_path / "log").read_text() == ""


def test_a_kernel_in_the_middle_of_a_cell_stops_the_cell_and_ends_by_itself(tmp_path: Path) -> None:
    with pytest.raises(nbclient.exceptions.CellTimeoutError):
        run_cell(LONG, tmp_path, execution_timeout=1)
    assert (tmp_path / "left").exists()
    assert (tmp_path / "ended").exists()

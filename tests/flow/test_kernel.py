"""The kernel of a run's notebook: it ends as a script ends, soon, and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

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


def test_a_kernel_whose_notebook_started_processes_ends_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The helpers of multiprocessing ignore SIGTERM, and a kernel that waits for them is killed."""
    temporary = tmp_path / "t"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(SOURCE)])
    nbformat.write(notebook, tmp_path / "in.ipynb")
    papermill.execute_notebook(
        str(tmp_path / "in.ipynb"),
        str(tmp_path / "out.ipynb"),
        cwd=str(tmp_path),
        kernel_name="python3",
        progress_bar=False,
        kernel_manager_class=LoggedKernelManager,
        config=LoggedKernelManager.config_of(tmp_path / "log"),
    )
    assert (tmp_path / "ended").exists()
    assert not list(temporary.iterdir())
    assert (tmp_path / "log").read_text() == ""

"""The notebooks under papermill alone, as its own command line runs them: names, profiles, the store."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from notebook_cells import run_notebook

from dedup_lib.errors import RunFolderError, SettingError
from dedup_lib.flow.profiles import load_profile
from dedup_lib.run.folder import RunFolder
from dedup_lib.settings import CleanJobsSettings

ROOT = Path(__file__).resolve().parents[2]


def papermill(notebook: str | Path, *arguments: str, cwd: Path) -> tuple[int, str]:
    """Exit code, and all that it says."""
    path = ROOT / "notebooks" / f"{notebook}.ipynb" if isinstance(notebook, str) else notebook
    done = subprocess.run(
        [sys.executable, "-m", "papermill", str(path), "out.ipynb", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_a_name_that_no_notebook_knows_ends_papermill(tmp_path: Path) -> None:
    code, told = papermill(
        "06_search_and_clean", "-p", "min_scor", "0.4", "-p", "run_dir", str(tmp_path / "run"), cwd=tmp_path
    )
    assert code == 1
    assert re.search("min_scor = 0.4 cannot be used: .* did you mean min_score?", told)
    assert not (tmp_path / "run").exists()


def test_job_folders_stay_while_another_run_works_in_the_folder(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    job = run.path / "batch_outputs" / "url_0000"
    job.mkdir(parents=True)
    usual = CleanJobsSettings(run_dir=str(run.path)).as_record()
    with run.locked("03_extract"), pytest.raises(RunFolderError, match="is in use by process"):
        run_notebook("04_clean_jobs", usual)
    assert job.exists()
    run_notebook("04_clean_jobs", usual)
    assert not job.exists()


def test_a_name_in_the_parameters_cell_that_no_notebook_knows(tmp_path: Path) -> None:
    """As JupyterLab leaves it where a person has mistyped a line."""
    notebook = nbformat.read(ROOT / "notebooks" / "01_decode.ipynb", as_version=4)
    cell = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    cell.source = f'{cell.source}\nurl_colum = "link"'
    nbformat.write(notebook, tmp_path / "mine.ipynb")
    code, told = papermill(tmp_path / "mine.ipynb", cwd=tmp_path)
    assert code == 1
    assert "url_colum = 'link' cannot be used" in told and "did you mean url_column?" in told


def test_the_line_that_is_recommended_says_nothing_of_unknown_parameters(tmp_path: Path) -> None:
    (line,) = re.findall(
        r"`papermill notebooks/(\w+)\.ipynb out\.ipynb ([^`]+)`", (ROOT / "docs" / "outputs.md").read_text("utf-8")
    )
    (tmp_path / "ads.csv").write_text("url\nhttp://127.0.0.1:9/a.mp4\n")
    words = [str(tmp_path / "run") if word == "outputs/ads" else word for word in line[1].split()]
    code, told = papermill(line[0], *words, cwd=tmp_path)
    assert code == 0
    assert "nknown parameter" not in told
    assert (tmp_path / "run" / "ads.decoded.csv").exists(), "the list is found where papermill was called"


@pytest.mark.parametrize("notebook", ["03_extract", "05_upload", "06_search_and_clean"])
def test_a_profile_that_needs_a_server_is_obeyed(tmp_path: Path, notebook: str) -> None:
    """The parameters of other notebooks in it are let through."""
    with pytest.raises(SettingError, match="store = 'server' cannot be used: MILVUS_URI names no server"):
        run_notebook(notebook, load_profile("zilliz") | {"run_dir": str(tmp_path / "run")})
    assert not (tmp_path / "run").exists()

from __future__ import annotations

import importlib.metadata
import json
import platform
import re
from pathlib import Path

import pytest

from dedup_lib import __version__
from dedup_lib.errors import RunFolderError
from dedup_lib.records import utc_now
from dedup_lib.run.files import write_text_atomically
from dedup_lib.run.folder import RunFolder, find_run, list_runs
from dedup_lib.run.paths import find_inputs, find_project_root, resolve_path
from dedup_lib.run.versions import RECORDED_PACKAGES, find_versions
from dedup_lib.settings import CleanJobsSettings

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = CleanJobsSettings(run_dir="outputs/x", jobs_dir="jobs", dry_run=False)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "project {x} ünï"
    for name in ("notebooks", "params"):
        (root / name).mkdir(parents=True)
    monkeypatch.chdir(root)
    return root


def test_the_project_root_is_the_nearest_with_notebooks_and_params(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = project / "notebooks" / "deep"
    deep.mkdir()
    for folder in (project, project / "notebooks", deep, project / "params"):
        assert find_project_root(folder) == project
        monkeypatch.chdir(folder)
        assert find_project_root() == project
        assert resolve_path("ads.csv") == project / "ads.csv"
        assert RunFolder("outputs/x").path == project / "outputs" / "x"


def test_outside_of_a_project_it_is_the_one_that_the_package_lies_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_project_root() == find_project_root(tmp_path) == ROOT
    assert resolve_path("outputs/x") == ROOT / "outputs" / "x"
    assert RunFolder("outputs/x").shown(ROOT / "outputs" / "x") == str(ROOT / "outputs" / "x"), "from here, all of it"
    assert RunFolder(tmp_path / "run").shown(tmp_path / "run" / "a.csv") == str(tmp_path / "run" / "a.csv")


def test_a_file_that_a_person_names_is_looked_for_where_they_are_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_inputs("ads.csv") == find_inputs("a" * 300) == find_inputs("a\0b") == []
    assert find_inputs("README.md") == [ROOT / "README.md"]
    (tmp_path / "README.md").write_text("")
    assert find_inputs("README.md") == [tmp_path / "README.md", ROOT / "README.md"]
    assert find_inputs(ROOT / "README.md") == [ROOT / "README.md"]
    monkeypatch.chdir(ROOT)
    assert find_inputs("README.md") == [ROOT / "README.md"]


def test_a_run_is_found_by_its_name_or_its_path(project: Path) -> None:
    for name in ("", " ", "nosuch", "a" * 300):
        assert find_run(name) is None
    for name in ("ads", "empty"):
        (project / "outputs" / name).mkdir(parents=True)
    (project / "outputs" / "ads" / "run.lock").write_text("")
    (project / "ads").mkdir()
    for name in ("ads", "outputs/ads", str(project / "outputs" / "ads")):
        found = find_run(name)
        assert found is not None and found.path == project / "outputs" / "ads", "not a folder that only has the name"
    assert (empty := find_run("empty")) is not None and empty.path == project / "outputs" / "empty"
    assert list_runs() == ["ads"], "where no run has worked is none"


def test_absolute_paths_and_home_are_left_where_they_are(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve_path(tmp_path / "ads.csv") == tmp_path / "ads.csv"
    assert resolve_path("~/ads.csv") == tmp_path / "ads.csv"
    run = RunFolder(project / "outputs" / "x")
    assert run.output_path("", "default.csv") == run.path / "default.csv"
    assert run.output_path("mine/a.csv", "default.csv") == run.path / "mine" / "a.csv"
    assert run.output_path(str(tmp_path / "a.csv"), "default.csv") == tmp_path / "a.csv"
    assert run.output_path("~/a.csv", "default.csv") == tmp_path / "a.csv"


def test_a_name_that_starts_as_a_home_does_and_is_none(project: Path) -> None:
    assert resolve_path("~draft.csv") == project / "~draft.csv"
    run = RunFolder("outputs/x")
    assert run.output_path("~draft.csv", "a.csv") == run.path / "~draft.csv"
    assert run.output_path("", "~.csv") == run.path / "~.csv"


def test_paths_as_people_read_them(project: Path, tmp_path: Path) -> None:
    run = RunFolder("outputs/x")
    assert run.shown(run.path / "a.csv") == "outputs/x/a.csv"
    assert run.shown(tmp_path / "a.csv") == str(tmp_path / "a.csv")
    assert run.shown_in_run(run.path / "stages" / "a.json") == "stages/a.json"
    assert run.shown_in_run(project / "a.csv") == str(project / "a.csv")
    assert repr(run) == "RunFolder('outputs/x')"


def test_a_run_folder_is_made_and_everything_lies_in_it(project: Path) -> None:
    run = RunFolder("outputs/new/x")
    assert not run.path.exists(), "only what is written makes it"
    run.make()
    assert run.path.is_dir()
    for path in (run.ledger_path, run.lite_path, run.thumbnails_dir, run.notebooks_dir, run.reports_dir):
        assert path.parent == run.path


def test_a_run_folder_that_cannot_be_made(project: Path) -> None:
    (project / "file").write_text("")
    for run_dir in ("file", "file/x"):
        with pytest.raises(RunFolderError, match=r"the run folder .* cannot be created .*: set another run_dir"):
            RunFolder(run_dir).make()


def test_a_run_folder_that_no_file_system_knows(project: Path) -> None:
    with pytest.raises(RunFolderError, match=r"cannot be created .*: set another run_dir"):
        RunFolder("outputs/a\0b").make()
    with pytest.raises(RunFolderError, match=r"cannot be created \(File name too long\)"):
        RunFolder(f"outputs/{'a' * 300}").make()


def test_what_a_stage_leaves_is_read_by_the_next(project: Path) -> None:
    before = utc_now()
    run = RunFolder("outputs/x")
    path = run.write_record(
        SETTINGS, counts={"rows": 3}, files={"output_csv": run.path / "ünï.csv"}, details={"list": {"csv": "/ads.csv"}}
    )
    assert path == run.path / "stages" / "04_clean_jobs.json"
    record = run.read_record("04_clean_jobs")
    assert record is not None
    assert before <= record.pop("finished") <= utc_now()
    assert record.pop("by").endswith(f" on {platform.node()}")
    assert record == {
        "stage": "04_clean_jobs",
        "settings": {"run_dir": "outputs/x", "jobs_dir": "jobs", "dry_run": False},
        "counts": {"rows": 3},
        "files": {"output_csv": "ünï.csv"},
        "versions": find_versions(),
        "list": {"csv": "/ads.csv"},
    }
    record = run.read_record("04_clean_jobs")
    assert record is not None
    assert run.recorded_path(record, "output_csv") == run.path / "ünï.csv"
    run.write_record(SETTINGS, counts={"rows": 4}, files={})
    assert json.loads(path.read_text(encoding="utf-8"))["counts"] == {"rows": 4}


def test_a_notebook_says_which_run_it_works_on(project: Path) -> None:
    run = RunFolder("outputs/<b>x")
    assert run._repr_html_().endswith(
        "<strong>This is the run &lt;b&gt;x</strong>, in outputs/&lt;b&gt;x, a new folder.</p>"
    )
    run.write_record(SETTINGS, counts={}, files={})
    assert run._repr_html_().endswith("in outputs/&lt;b&gt;x.</p>")


def test_a_record_says_which_versions_were_at_work() -> None:
    versions = find_versions()
    assert versions["numpy"] == importlib.metadata.version("numpy")
    assert versions["dedup_lib"] == __version__
    required = (Path(__file__).resolve().parents[2] / "requirements.txt").read_text(encoding="utf-8")
    names = set(re.findall(r"^([A-Za-z][\w.-]*)[><=]", required, re.MULTILINE))
    assert set(RECORDED_PACKAGES) <= names


def test_a_stage_that_has_not_run(project: Path) -> None:
    run = RunFolder("outputs/x")
    assert run.read_record("01_decode") is None
    with pytest.raises(RunFolderError, match="has not finished in outputs/x: `python -m dedup_lib status x`"):
        run.require_record("01_decode")
    with pytest.raises(RunFolderError, match=re.escape(f"dedup_lib status '{project / 'elsewhere'}'`")):
        RunFolder("elsewhere").require_record("01_decode")


@pytest.mark.parametrize("content", [b"", b'{"stage": ', b"\xff\xfe{", b"[]", b"null"])
def test_a_damaged_record_is_named(project: Path, content: bytes) -> None:
    run = RunFolder("outputs/x")
    run.write_record(SETTINGS, counts={}, files={}).write_bytes(content)
    with pytest.raises(RunFolderError, match=r"outputs/x/stages/04_clean_jobs\.json is damaged .*04_clean_jobs\.ipynb"):
        run.read_record("04_clean_jobs")


def test_text_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.json"
    write_text_atomically(path, "ünï\r\nline\n")
    assert path.read_bytes() == "ünï\r\nline\n".encode()
    with pytest.raises(UnicodeEncodeError):
        write_text_atomically(path, "\ud800")
    assert path.read_bytes() == "ünï\r\nline\n".encode()
    assert list(path.parent.iterdir()) == [path]

"""A list against earlier runs, as a nightly batch gives it: by the command line's own plan, over the demo's clips."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from made_once import shared_folder
from milvus_for_tests import TOKEN, MilvusServer
from notebook_cells import run_cells

from dedup_lib.demo.clips import make_clips, write_list
from dedup_lib.demo.server import ClipServer
from dedup_lib.errors import RunFolderError, SettingError
from dedup_lib.flow.plan import RunPlan, plan_run
from dedup_lib.flow.preflight import check_start
from dedup_lib.flow.profiles import load_profile

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project of its own with the demo's list, whose clips are served; its outputs go nowhere else."""
    root = tmp_path_factory.mktemp("project")
    for name in ("notebooks", "params"):
        (root / name).symlink_to(ROOT / name)
    with shared_folder(tmp_path_factory, "demo-clips") as clips:
        make_clips(clips)
    with ClipServer(clips) as server, pytest.MonkeyPatch.context() as patch:
        write_list(root / "videos.csv", base_url=server.base_url)
        patch.chdir(root)
        patch.setenv("MILVUS_URI", "")
        yield root


def make_list(root: Path, name: str, part: slice) -> None:
    with (root / "videos.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    with (root / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows[part]])


def plan(name: str, against: Sequence[str] = (), **changed: Any) -> RunPlan:
    profile = load_profile("demo") | {"input_csv": f"{name}.csv"} | changed
    return plan_run(profile, run_name=name, against=against)


def run(name: str, against: Sequence[str] = (), **changed: Any) -> dict[str, Any]:
    planned = plan(name, against, **changed)
    check_start(planned)
    run_cells(planned)
    summary: dict[str, Any] = json.loads((planned.run.path / "summary.json").read_text(encoding="utf-8"))
    return summary


def load_rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def archive(project: Path) -> Path:
    """The first rows of the list, read; the run that later lists are held against."""
    make_list(project, "archive", slice(0, 18))
    run("archive")
    return project / "outputs" / "archive"


def test_each_week_is_held_against_all_before_it(project: Path, archive: Path) -> None:
    for name, part in (("week1", slice(12, 28)), ("week2", slice(20, None))):
        make_list(project, name, part)
    assert plan("week1", ["week*"]).notes == ("--against week*: no earlier run with a result fits yet",)
    planned = plan("week1", ["archive", "week*"]).parameters
    first = run("week1", ["archive", "week*"])
    assert first["existing"] == {"runs": ["archive"], "urls": 6, "compared": 13, "repeated": 3}
    assert first["rows"] == {"input": 16, "text_duplicates": 6, "final": 4, "duplicates": 3, "invalid": 2, "failed": 1}
    outputs = project / "outputs"
    known = load_rows(outputs / "week1" / "week1.duplicates.csv")
    assert {(row["read_by"], row["first_row"]) for row in known} == {("archive", "")}
    read = {row["video_url"] for row in load_rows(archive / "archive.unique.csv")}
    copies = load_rows(outputs / "week1" / "duplicates.csv")
    assert {row["duplicate_of"] for row in known + copies} <= read
    assert len(list((outputs / "week1" / "thumbnails").iterdir())) > first["reading"]["read"], "with those of the old"
    second = run("week2", ["archive", "week*"])
    assert second["existing"]["runs"] == ["archive", "week1"]
    assert plan("week1", ["archive", "week*"]).parameters == planned, "week2 came later, and does not count"
    with pytest.raises(SettingError, match="it was itself compared with this run"):
        plan("week1", ["week2"])


def test_a_week_without_anything_new_is_a_run_like_any_other(project: Path, archive: Path) -> None:
    """With all notebooks: 03 and 06 are those of the other flow, too."""
    make_list(project, "known", slice(0, 3))
    summary = run("known", ["archive"], mode="batch")
    assert summary["rows"] == {"input": 3, "text_duplicates": 3, "final": 0, "duplicates": 0, "invalid": 0, "failed": 0}
    assert summary["reading"]["known"] == summary["existing"]["urls"] == 3
    assert load_rows(project / "outputs" / "known" / "FINAL_RESULT.csv") == []


def test_what_no_list_can_be_held_against_is_refused(project: Path, archive: Path) -> None:
    make_list(project, "mine", slice(0, 2))
    with pytest.raises(SettingError, match=r"there is no such run folder; did you mean archive\?"):
        plan("mine", ["archiv"])
    with pytest.raises(SettingError, match="it is this run itself"):
        plan("archive", ["archive"])
    (project / "outputs" / "begun" / "stages").mkdir(parents=True)
    with pytest.raises(SettingError, match="it has no result yet"):
        plan("mine", ["begun"])
    planned = plan("mine", ["archive"])
    assert planned.parameters["06_search_and_clean"]["existing_runs"] == ["outputs/archive"]
    for at_work, named in (("archive", "archive"), ("archive", "arch*"), ("first time", "first*")):
        (project / "outputs" / at_work).mkdir(exist_ok=True)
        with plan(at_work).run.locked("03_extract"), pytest.raises(RunFolderError, match="is at work"):
            plan("mine", [named])
    (project / "outputs" / "[1]").mkdir()
    (project / "outputs" / "[1]" / "stages").symlink_to(archive / "stages")
    assert plan("mine", ["[1]"]).parameters["02_dedupe_urls"]["existing_runs"] == ["outputs/[1]"], "a name, no pattern"
    with pytest.raises(SettingError, match=r"read with num_frames = 8, and this run reads with 4: use one profile"):
        check_start(plan("mine", ["archive"], num_frames=4))
    assert not (project / "outputs" / "mine").exists()


def test_a_list_on_a_server_is_held_against_another_there(
    project: Path, milvus_server: MilvusServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each run has a collection of its own. A copy of what the earlier one holds is found by its vectors and frames."""
    monkeypatch.setenv("MILVUS_URI", milvus_server.address.uri)
    monkeypatch.setenv("MILVUS_TOKEN", milvus_server.address.token)
    for name, part in (("before", slice(0, 18)), ("after", slice(12, 28))):
        make_list(project, name, part)
    run("before", store="server", collection="before")
    found = run("after", ["before"], store="server", collection="after")
    assert found["existing"] == {"runs": ["before"], "urls": 6, "compared": 13, "repeated": 3}
    copies = load_rows(project / "outputs" / "after" / "duplicates.csv")
    read = {row["video_url"] for row in load_rows(project / "outputs" / "before" / "before.unique.csv")}
    assert len(copies) == 3 and {row["duplicate_of"] for row in copies} <= read
    for name in ("before", "after"):
        files = [path for path in (project / "outputs" / name).rglob("*") if path.is_file()]
        assert not [path for path in files if TOKEN.encode() in path.read_bytes()]
        assert not (project / "outputs" / name / "milvus.db").exists(), "nothing went into a file"

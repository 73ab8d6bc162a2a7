"""Old runs, listed and removed; and what a shell completes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import Said, Say
from made_run import make_run

from dedup_lib.run.folder import RunFolder

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("notebooks", "params", "outputs"):
        (tmp_path / name).mkdir()
    for name in ("direct", "demo", "zilliz"):
        (tmp_path / "params" / f"{name}.yaml").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MILVUS_URI", "")
    return tmp_path


def make(project: Path, name: str, *, failed: int = 1) -> Path:
    """A finished run, whose list lies in its own folder."""
    return make_run(project / "outputs" / name, sizes=[2, 1], failed=failed, has_pictures=False).run.path


def cells(said: Said) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in said.out.splitlines() if "│" in line]


def test_runs_are_listed_the_latest_first(say: Say, project: Path) -> None:
    assert say("runs", "list").out == "outputs/ holds no run yet\n"
    assert say("runs", "list", "--json").out == ""
    make(project, "old")
    for path in (project / "outputs" / "old").rglob("*"):
        os.utime(path, (1e9, 1e9))
    os.utime(project / "outputs" / "old", (1e9, 1e9))
    begun = make(project, "[red]new")
    (begun / "summary.json").unlink()
    damaged = make(project, "damaged")
    (damaged / "ledger.sqlite").write_bytes(b"no ledger" * 100)
    (damaged / "summary.json").write_text("[")
    for path in damaged.rglob("*"):
        os.utime(path, (1.1e9, 1.1e9))
    os.utime(damaged, (1.1e9, 1.1e9))
    (project / "outputs" / "no run").mkdir()
    (project / "outputs" / "big link").symlink_to(project / "nowhere")
    said = say("runs", "list")
    assert (said.code, said.err) == (0, "")
    new, second, old = cells(said)
    assert (new[0], new[2:4], second[0], second[5]) == ("[red]new", ["", ""], "damaged", "damaged")
    assert (old[0], old[1], old[2:4]) == ("old", "2001-09-09 01:46", ["4", "2"])
    told = [json.loads(line) for line in say("runs", "list", "--json").out.splitlines()]
    assert [run["name"] for run in told] == ["[red]new", "damaged", "old"]
    assert (told[2]["rows"], told[2]["kept"], told[0]["rows"]) == (4, 2, None)
    size = sum(path.stat().st_size for path in (project / "outputs" / "old").rglob("*") if path.is_file())
    assert told[2]["size_bytes"] == size


def test_a_run_goes_with_everything_but_what_it_was_given(say: Say, project: Path) -> None:
    run = make(project, "ads")
    (run / "decisions.csv").write_text("first_url,second_url,decision\n")
    outside = project / "precious"
    outside.mkdir()
    (outside / "film.mp4").write_text("kept")
    (run / "linked").symlink_to(outside)
    (run / "notebooks").mkdir()
    (run / "notebooks" / "file").symlink_to(outside / "film.mp4")
    said = say("runs", "remove", "ads", "--yes")
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith("removed ads, ")
    assert "left outputs/ads/ads.csv, because a run was given it" in said.out
    assert {path.name for path in run.iterdir()} == {"ads.csv", "decisions.csv"}
    assert (outside / "film.mp4").read_text() == "kept"
    assert say("runs", "list").out == "outputs/ holds no run yet\n"
    again = say("runs", "remove", "ads", "--yes")
    assert (again.code, again.out) == (1, "")
    assert "no run has worked there, so it is left alone" in again.err


@pytest.mark.parametrize("is_there", [True, False])
def test_a_list_that_is_a_link_stays_and_counts_as_a_link(say: Say, project: Path, is_there: bool) -> None:
    run = make(project, "ads")
    (run / "ads.csv").unlink()
    (run / "ads.csv").symlink_to(project / "large.csv")
    if is_there:
        (project / "large.csv").write_bytes(bytes(50_000_000))
    said = say("runs", "remove", "ads", "--yes")
    assert (said.code, said.err) == (0, "")
    assert re.match(r"removed ads, [0-9.]+ [kM]?B\nleft outputs/ads/ads.csv", said.out), said.out
    assert [path.name for path in run.iterdir()] == ["ads.csv"]


def test_the_output_of_one_run_that_is_the_list_of_another_stays(say: Say, project: Path) -> None:
    first, second = make(project, "first"), make(project, "second")
    (first / "ads.csv").rename(project / "ads.csv")
    for path in first.glob("stages/*.json"):
        path.write_text(path.read_text().replace(str(first / "ads.csv"), str(project / "ads.csv")))
    for path in second.glob("stages/*.json"):
        path.write_text(path.read_text().replace(str(second / "ads.csv"), str(first / "FINAL_RESULT.csv")))
    assert say("runs", "remove", "first", "--yes").code == 0
    assert [path.name for path in first.iterdir()] == ["FINAL_RESULT.csv"]
    assert (project / "ads.csv").exists()


def test_a_removal_asks(say: Say, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make(project, "ads")
    record = run / "stages" / "06_search_and_clean.json"
    (make(project, "week") / "stages" / "06_search_and_clean.json").write_text(
        record.read_text().replace('"existing_runs": []', '"existing_runs": ["outputs/ads"]')
    )
    with Path(os.devnull).open() as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        said = say("runs", "remove", "ads")
    assert said.code == 130
    assert "Remove ads (" in said.out
    assert "week was compared with ads, and cannot be run again without it" in said.err
    assert record.exists()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nosuch", "there is no such run folder; outputs/ holds ads"),
        ("adz", "did you mean ads?"),
        ("../precious", "give the name of a run in outputs/, not a path"),
        ("/tmp", "not a path"),
        ("ads/stages", "not a path"),
        ("..", "not a path"),
        ("", "not a path"),
        ("linked", "it is a link, and links are not followed"),
        ("other", "no run has worked there, so it is left alone"),
        ("file", "no run has worked there, so it is left alone"),
        ("held", "is at work (process "),
    ],
)
def test_what_is_no_run_at_rest_is_left_alone_and_all_else_with_it(
    say: Say, project: Path, name: str, reason: str
) -> None:
    make(project, "ads")
    make(project, "held")
    for folder in (project / "precious", project / "outputs" / "other"):
        folder.mkdir()
        (folder / "film.mp4").write_text("kept")
    (project / "outputs" / "file").write_text("kept")
    (project / "outputs" / "linked").symlink_to(project / "outputs" / "ads")
    before = sorted(project.rglob("*"))
    with RunFolder(project / "outputs" / "held").locked("03_extract"):
        said = say("runs", "remove", "ads", name, "--yes")
    assert (said.code, said.out) == (1, "")
    assert reason in said.err
    assert sorted(project.rglob("*")) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_removal_that_the_disk_refuses_may_be_begun_again(say: Say, project: Path) -> None:
    run = make(project, "ads")
    (run / "stages").chmod(0o500)
    said = say("runs", "remove", "ads", "--yes")
    assert said.code == 1
    assert "cannot remove outputs/ads/stages/" in said.err
    (run / "stages").chmod(0o700)
    assert say("runs", "remove", "ads", "--yes").code == 0


def test_a_shell_completes_profiles_and_runs(project: Path) -> None:
    for name in ("ads", "ads strict", "other"):
        (project / "outputs" / name / "stages").mkdir(parents=True)

    def complete(*words: str) -> list[str]:
        """As bash asks it, by the command that `make setup` installs."""
        code = "import sys; sys.argv[0] = 'dedup-lib'; from dedup_lib.cli.main import main; main()"
        asked = {"COMP_WORDS": "\n".join(("dedup-lib", *words)), "COMP_CWORD": str(len(words))}
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONPATH": str(ROOT), "_DEDUP_LIB_COMPLETE": "bash_complete"} | asked,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.stderr == ""
        return [line.partition(",")[2] for line in done.stdout.splitlines()]

    assert complete("run", "d") == ["demo", "direct"]
    assert complete("status", "ads") == complete("runs", "remove", "ads") == ["ads", "ads strict"]
    assert complete("run", "direct", "--against", "o") == complete("app", "o") == ["other"]
    assert {"run", "runs", "report"} == set(complete("r"))

"""The command line: help, one line for every error, exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from command_line import Say
from fresh_python import modules_loaded_by

from dedup_lib import __version__
from dedup_lib.cli.console import show_outcome
from dedup_lib.cli.main import commands
from dedup_lib.run.folder import RunFolder

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("notebooks", "params"):
        (tmp_path / name).mkdir()
    (tmp_path / "params" / "direct.yaml").write_bytes((ROOT / "params" / "direct.yaml").read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MILVUS_URI", "")
    return tmp_path


def walk(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from walk(child, (*path, name))


@pytest.mark.parametrize("path", list(walk(commands)), ids=" ".join)
def test_every_command_explains_itself(path: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(commands, [*path, "--help"])
    assert shown.exit_code == 0
    usage, _, rest = shown.output.partition("\n")
    assert usage.startswith("Usage: ")
    assert len(rest.split()) > 8
    example = " ".join(["python -m dedup_lib", *path])
    assert f"\n  {example}" in rest, "an example"
    assert shown.output == CliRunner().invoke(commands, [*path, "-h"]).output


def test_help_names_profiles_that_exist() -> None:
    text = CliRunner().invoke(commands, ["run", "--help"]).output
    for profile in (ROOT / "params").glob("*.yaml"):
        assert profile.stem in text


def test_the_version() -> None:
    assert __version__ in CliRunner().invoke(commands, ["--version"]).output


def test_help_and_errors_load_nothing_heavy() -> None:
    loaded = modules_loaded_by(
        "from click.testing import CliRunner; from dedup_lib.cli.main import commands\n"
        "for path in ('', 'run', 'calibrate', 'collections create', 'demo', 'report', 'status', 'app', 'compare', "
        "'explain'):\n"
        "    assert CliRunner().invoke(commands, [*path.split(), '--help']).exit_code == 0\n"
    )
    assert not loaded & {"papermill", "nbconvert", "torch", "pymilvus", "pandas", "cv2", "av"}


def test_pages_of_notebooks_load_nothing_that_they_do_not_need() -> None:
    loaded = modules_loaded_by("import dedup_lib.flow.execute, dedup_lib.report.notebook_pages")
    assert not loaded & {"pandas", "cv2"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "nosuch"), "error: profile = 'nosuch' cannot be used: there is no file nosuch.yaml"),
        (("run", "direct", "--set", "workers"), "error: --set = 'workers' cannot be used"),
        (("run", "direct", "--set", "workers=0"), "error: workers = 0 cannot be used"),
        (("run", "direct", "--set", "wokers=3"), "did you mean workers?"),
        (("run", "direct", "--set", "encoder=[bold]x[/]"), "error: encoder = '[bold]x[/]' cannot be used"),
        (("calibrate", "nosuch"), "error: profile = 'nosuch' cannot be used: there is no file nosuch.yaml"),
        (("calibrate", "direct", "--set", "sample_size=1"), "error: sample_size = 1 cannot be used"),
        (("run", "direct", "--only", "04"), "error: --only = '04' cannot be used"),
        (("run", "direct", "--from", "9"), "error: --from = '9' cannot be used"),
        (("collections", "drop", "nosuch", "--yes"), "error: --run = 'demo' cannot be used: there is no such run"),
        (("collections", "list", "--run", "nosuch"), "outputs/ holds no run yet. For a server, name it in MILVUS_URI"),
        (("runs", "remove", "nosuch"), "error: NAME = 'nosuch' cannot be used: there is no such run folder"),
        (("collections", "create", "1a"), "error: collection = '1a' cannot be used"),
        (("collections", "create", "a", "--num-frames", "0"), "error: num_frames = 0 cannot be used"),
        (
            ("collections", "create", "a", "--encoder", "pdq", "--model", "m"),
            "error: model = 'm' cannot be used: the encoder pdq has no model",
        ),
    ],
)
def test_an_error_is_one_line_and_code_1(say: Say, arguments: tuple[str, ...], message: str) -> None:
    said = say(*arguments)
    assert said.code == 1
    assert message in said.err
    assert len(said.err.splitlines()) == 1, said.err
    assert said.out == ""
    assert not Path("outputs").exists(), "what is refused leaves no folder"


@pytest.mark.parametrize(
    "arguments",
    [
        ("nosuch",),
        ("run",),
        ("run", "direct", "--nosuch"),
        ("collections", "create"),
        ("collections", "create", "a", "--schema", "other"),
        ("collections", "create", "a", "--num-frames", "many"),
        ("report",),
        ("runs", "remove"),
        ("demo", "--port", "x"),
        ("app", "x", "--port", "99999"),
    ],
)
def test_a_command_that_makes_no_sense_is_code_2(say: Say, arguments: tuple[str, ...]) -> None:
    said = say(*arguments)
    assert said.code == 2
    assert "Usage: " in said.err
    assert "Error: " in said.err
    assert "Traceback" not in said.err


def test_the_module_can_be_called(project: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dedup_lib", "run", "nosuch"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ["PYTHONPATH"]])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: profile = 'nosuch'")
    assert len(done.stderr.splitlines()) == 1


def test_looking_after_collections(say: Say, project: Path) -> None:
    def cells(*arguments: str) -> list[list[str]]:
        said = say("collections", *arguments, "--run", "mine")
        assert (said.code, said.err) == (0, "")
        lines = [[cell.strip() for cell in line.split("│")] for line in said.out.splitlines() if "│" in line]
        return [line for line in lines if line[1]]

    (made,) = cells("create", "ads", "--schema", "aggregated", "--num-frames", "5")
    (pinged,) = cells("ping")
    assert "Milvus Lite, milvus.db" in pinged
    assert made[1:4] == ["ads", "0", "aggregated"]
    assert cells("list") == [made]
    assert cells("rename", "ads", "clips") == [[*made[:1], "clips", *made[2:]]]
    assert cells("drop", "clips", "--yes") == []
    assert (project / "outputs" / "mine" / "milvus.db").exists()


def test_dropping_asks_first(project: Path) -> None:
    asked = CliRunner().invoke(commands, ["collections", "drop", "ads"], input="n\n")
    assert asked.exit_code == 1
    assert "Delete the collection ads with all its vectors from the Milvus Lite file of the run demo?" in asked.output
    assert not (project / "outputs").exists()


def test_copying_a_collection(say: Say, project: Path) -> None:
    assert say("collections", "create", "ads", "--run", "mine").code == 0
    for _ in range(2):
        said = say("collections", "copy", "mine", "copy.db", "--collection", "ads", "--as", "clips")
        assert (said.code, said.err) == (0, "")
        assert "copied ads in Milvus Lite, milvus.db to clips in Milvus Lite, copy.db: 0 rows" in said.out
    assert (project / "copy.db").is_dir()
    for arguments, message in (
        (("nosuch", "copy.db"), "error: 'nosuch' is not a store: give the name of a run in outputs/"),
        (("mine", "server"), "error: server means the store that MILVUS_URI names"),
        (("nosuch.db", "mine"), "error: there is no store at"),
        (("mine", "mine", "--collection", "ads"), "error: 'ads' cannot be copied onto itself"),
        (("mine", "copy.db"), "error: there is no collection 'videos'"),
    ):
        said = say("collections", "copy", *arguments)
        assert (said.code, said.out) == (1, "")
        assert said.err.startswith(message)


@pytest.mark.parametrize("name", ["../../x", "..", ".", "a/b", "a\\b", "/tmp/x", "a\x1b[31m", " ", "a\nb", "ä" * 128])
@pytest.mark.parametrize("command", [("run", "direct"), ("calibrate", "direct"), ("collections", "list")], ids=" ".join)
def test_a_run_is_named_and_leads_nowhere_else(say: Say, project: Path, command: tuple[str, ...], name: str) -> None:
    said = say(*command, "--run", name)
    assert said.code == 1
    assert f"error: --run = {name!r} cannot be used: the name of a run may not contain / or \\" in said.err
    assert "set run_dir" in said.err
    assert not (project / "outputs").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "a\x1b[31m.yaml"),
        ("run", "direct", "--set", "\x1b]0;x\x07=1"),
        ("run", "direct", "--only", "\x9b2J"),
        ("report", "\x1b[2J"),
        ("report", "x", "\x9b2J"),
        ("\x9b2J",),
        ("run", "direct", "--\x9b2J"),
        ("collections", "drop", "\x1b[2J", "--yes"),
        ("collections", "rename", "\x1b[2J", "\x9b2J"),
        ("collections", "copy", "\x1b[2J", "\x9b2J"),
        ("collections", "create", "x", "--encoder", "\x9b2J"),
        ("collections", "list", "--run", "a\x9b2J"),
        ("runs", "remove", "\x9b2J"),
        ("run", "direct", "--against", "\x9b2J"),
    ],
)
def test_nothing_that_is_said_is_obeyed_by_a_terminal(say: Say, project: Path, arguments: tuple[str, ...]) -> None:
    (project / "outputs" / "demo").mkdir(parents=True)
    said = say(*arguments)
    assert said.code in (1, 2)
    assert "\\x" in said.err
    assert not {"\x1b", "\x9b", "\x07"} & set(said.err + said.out)


def test_a_report_of_a_run_without_notebooks(say: Say, project: Path) -> None:
    (project / "outputs" / "empty").mkdir(parents=True)
    said = say("report", "outputs/empty")
    assert (said.code, said.err) == (0, "")
    assert "report: outputs/empty/reports/index.html" in said.out
    assert say("report", "empty").out == said.out
    missing = say("report", "nosuch")
    assert missing.code == 1
    assert "'nosuch'" in missing.err
    assert "outputs/ holds no run yet" in missing.err, "a folder in which no run has worked is none"
    assert (project / "outputs" / "empty" / "reports" / "index.html").exists()


@pytest.mark.parametrize("left", ["", '{\n "cells": [\n  {', "{}"])
def test_half_a_notebook_of_a_killed_run_is_named_and_is_no_traceback(say: Say, project: Path, left: str) -> None:
    executed = project / "outputs" / "ads" / "notebooks" / "06_search_and_clean.ipynb"
    executed.parent.mkdir(parents=True)
    executed.write_text(left)
    said = say("report", "ads")
    assert said.code == 1 and "Traceback" not in said.err
    assert str(executed) in said.err.replace("\n", "") and "holds no whole notebook" in said.err
    executed.unlink()
    assert say("report", "ads").code == 0


def test_a_run_is_not_compared_with_itself(say: Say, project: Path) -> None:
    (project / "outputs" / "ads").mkdir(parents=True)
    said = say("compare", "ads", "outputs/ads")
    assert (said.code, said.out) == (1, "")
    assert (
        said.err
        == "error: RUN_B = 'outputs/ads' cannot be used: it is the same run as RUN_A; name two different runs\n"
    )


def test_the_status_of_a_run_that_never_started(say: Say, project: Path) -> None:
    (project / "outputs" / "[new] run").mkdir(parents=True)
    for arguments in ((), ("--watch",)):
        said = say("status", "[new] run", *arguments)
        assert (said.code, said.err) == (0, "")
        assert said.out.startswith("outputs/[new] run  never started\n")
        assert "to start: python -m dedup_lib run direct --set input_csv=LIST.csv --run '[new] run'" in said.out
    told = json.loads(say("status", "outputs/[new] run", "--json").out)
    assert (told["state"], told["extraction"], told["statuses"]) == ("never started", None, {})
    assert list((project / "outputs" / "[new] run").iterdir()) == []
    missing = say("status", "nosuch")
    assert (missing.code, missing.out) == (1, "")
    assert "outputs/ holds no run yet" in missing.err
    assert not (project / "outputs" / "nosuch").exists()


def test_what_to_do_next_and_what_was_known(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = RunFolder("outputs/week 48")
    run.make()
    rows = {"input": 60, "final": 12, "text_duplicates": 41, "duplicates": 4, "invalid": 0, "failed": 3}
    causes = [
        {"status": "blocked_address", "reason": "private", "rows": 2, "refused_by": "allow_private_addresses=false"},
        {"status": "timeout", "reason": "nothing came", "rows": 1, "refused_by": ""},
    ]
    summary: dict[str, Any] = {"list": "ads.csv", "rows": rows, "files": {}, "causes": causes, "retryable": 3}
    summary |= {"reading": {"read": 16, "failed": 3, "not_videos": 0, "pending": 2, "known": 40}}
    summary |= {"existing": {"runs": ["ads"], "urls": 40, "compared": 9, "repeated": 3}, "decision": {"review": 1}}
    (run.path / "summary.json").write_text(json.dumps(summary))
    show_outcome(run, command="python -m dedup_lib run direct")
    shown = capsys.readouterr().out
    cells = [[cell.strip() for cell in line.split("│")[1:-1]][:2] for line in shown.splitlines() if "│" in line]
    assert [[name, int(count)] for name, count in cells] == [
        ["videos kept", 12],
        ["repeated URLs", 1],
        ["copies of kept videos", 1],
        ["already known, by their URL", 40],
        ["already known, by their frames", 3],
        ["not videos", 0],
        ["could not be read", 3],
    ]
    assert sum(int(count) for _, count in cells) == rows["input"]
    assert "compared with ads: 12 new, 2 repeated in the list, 43 already known\n" in shown
    assert [line.removeprefix("next: ") for line in shown.splitlines() if line.startswith("next: ")] == [
        "1 pair waits for you to decide: python -m dedup_lib app 'week 48'",
        "2 rows were refused by a setting; if you trust the list: python -m dedup_lib run direct --set "
        "allow_private_addresses=true",
        "1 row was not read for a reason that may pass; to try again: python -m dedup_lib run direct",
        "2 rows were not tried yet: run again without start and end",
    ]
    show_outcome(run)
    assert "to try again" not in capsys.readouterr().out, "where nothing can be repeated"


def test_what_a_run_came_to(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = RunFolder("outputs/[mine]")
    show_outcome(run)
    assert capsys.readouterr().out == ""
    rows = {"input": 9, "final": 5, "text_duplicates": 1, "duplicates": 1, "invalid": 1, "failed": 1}
    files = {"FINAL_RESULT": "FINAL_RESULT.csv", "duplicates": "/elsewhere/copies.csv"}
    run.make()
    (run.path / "summary.json").write_text(json.dumps({"list": "[bold]ads[/].csv", "rows": rows, "files": files}))
    run.reports_dir.mkdir()
    (run.reports_dir / "index.html").write_text("")
    show_outcome(run)
    shown = capsys.readouterr().out
    assert "9 rows of [bold]ads[/].csv" in shown
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown.splitlines() if "│" in line]
    assert cells == [
        ["videos kept", "5", "outputs/[mine]/FINAL_RESULT.csv"],
        ["repeated URLs", "1", ""],
        ["copies of kept videos", "1", "/elsewhere/copies.csv"],
        ["not videos", "1", ""],
        ["could not be read", "1", ""],
    ]
    assert "report: outputs/[mine]/reports/index.html" in shown

"""Planning a run: which notebooks, with which parameters; and what is said of one that fails."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from dedup_lib.errors import NotebookError, RunFolderError, SettingError
from dedup_lib.flow.execute import execute_plan
from dedup_lib.flow.plan import RunPlan, plan_notebook, plan_run
from dedup_lib.flow.profiles import load_profile, parse_overrides
from dedup_lib.run.folder import RunFolder
from dedup_lib.run.paths import find_project_root
from dedup_lib.settings import FLOWS, DecodeSettings, DedupeUrlsSettings

PROFILES = sorted((Path(__file__).resolve().parents[2] / "params").glob("*.yaml"))
DIRECT = ("01_decode", "02_dedupe_urls", "03_extract", "06_search_and_clean")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the profiles of this one, whose outputs go nowhere else."""
    for name in ("notebooks", "params"):
        (tmp_path / name).mkdir()
    for profile in PROFILES:
        (tmp_path / "params" / profile.name).write_bytes(profile.read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def plan(project: Path, given: dict[str, Any] | None = None, **choice: str) -> RunPlan:
    return plan_run({"run_dir": str(project / "outputs" / "x")} | (given or {}), **choice)


# Profiles


@pytest.mark.parametrize("profile", [path.stem for path in PROFILES])
def test_every_profile_can_be_run(project: Path, profile: str) -> None:
    values = load_profile(profile) | {"input_csv": "ads.csv"}
    planned = plan_run(values)
    assert planned.notebooks == FLOWS[values.get("mode", "direct")]
    assert planned.run.path == project / "outputs" / Path(values["run_dir"]).name
    for stage in planned.notebooks:
        assert planned.parameters[stage]["run_dir"] == values["run_dir"]
    given = {name: value for part in planned.parameters.values() for name, value in part.items()}
    assert given == values, "every line of the profile reaches a notebook"


def test_a_profile_by_its_path(project: Path, tmp_path: Path) -> None:
    (project / "mine.yml").write_text("run_dir: outputs/x # comment\ncosine_thresh: 0.9\n'end': ~\n", encoding="utf-8")
    wanted = {"run_dir": "outputs/x", "cosine_thresh": 0.9, "end": None}
    assert load_profile("mine.yml") == load_profile(str(project / "mine.yml")) == wanted
    (project / "empty.yaml").write_text("# nothing\n")
    assert load_profile("empty.yaml") == {}


@pytest.mark.parametrize("name", ["nosuch", "nosuch.yaml", "", "../secret"])
def test_a_profile_that_is_not_there(project: Path, name: str) -> None:
    with pytest.raises(SettingError, match=r"[Tt]he profiles in params/ are batch, demo, direct"):
        load_profile(name)


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"a: [1", "is not valid YAML"),
        (b"a: 1\n b: 2\n", "is not valid YAML"),
        (b"%YAML 9\n---\na: !x 1", "is not valid YAML"),
        (b"a: \xff\xfe", "is not valid YAML"),
        (b"when: 2024-99-99", "is not valid YAML"),
        (b"a: 1\n---\nb: 2\n", "is not valid YAML"),
        (b"- a\n- b\n", "without nesting"),
        (b"just text", "without nesting"),
        (b"extract:\n  workers: 3\n", "without nesting"),
    ],
)
def test_a_profile_that_cannot_be_read_is_one_line(project: Path, content: bytes, cause: str) -> None:
    (project / "mine.yaml").write_bytes(content)
    with pytest.raises(SettingError, match=cause) as caught:
        load_profile("mine.yaml")
    assert "mine.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no file refuses everybody")
def test_a_profile_that_the_system_does_not_give_is_one_line(project: Path) -> None:
    (project / "mine.yaml").symlink_to("/proc/self/mem")
    with pytest.raises(SettingError, match=r"mine\.yaml cannot be read \(Input/output error\): make it readable"):
        load_profile("mine.yaml")


# Overrides


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("cosine_thresh=0.9", "cosine_thresh", 0.9),
        ("cosine_thresh=1", "cosine_thresh", 1),
        ("cosine_thresh=null", "cosine_thresh", None),
        ("overwrite=true", "overwrite", True),
        ("num_frames = 5", "num_frames", 5),
        ("drop_query_parameters=[token, sig]", "drop_query_parameters", ["token", "sig"]),
        ("drop_query_parameters=[]", "drop_query_parameters", []),
        ("vectors=average", "vectors", "average"),
        ("workers=[", "workers", "["),
        ("workers=", "workers", ""),
        ("nosuch=2024-99-99", "nosuch", "2024-99-99"),
    ],
)
def test_an_override_is_read_as_yaml(text: str, name: str, value: object) -> None:
    ((found_name, found),) = parse_overrides([text]).items()
    assert (found_name, found) == (name, value)
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "value",
    ["2024", "on", "null", "~", "my #1.csv", "C: x.csv", "[draft].csv", "{a}.csv", "a=b=c", "*.csv", "0x10", ""],
)
def test_a_text_is_taken_as_it_stands(value: str) -> None:
    assert parse_overrides([f"input_csv={value}", f"run_dir={value}"]) == {"input_csv": value, "run_dir": value}


def test_the_last_override_counts() -> None:
    assert parse_overrides(["workers=1", "workers=2"]) == {"workers": 2}
    assert parse_overrides([]) == {}


@pytest.mark.parametrize("text", ["workers", "", "workers: 3"])
def test_an_override_needs_its_sign(text: str) -> None:
    with pytest.raises(SettingError, match="write it as name=value"):
        parse_overrides([text])


# Parameters


def test_every_notebook_gets_its_own_parameters(project: Path) -> None:
    planned = plan(
        project, {"input_csv": "ads.csv", "encoder": "pdq", "cosine_thresh": 0.9, "drop_query_parameters": []}
    )
    assert planned.notebooks == DIRECT
    assert {stage: sorted(given) for stage, given in planned.parameters.items()} == {
        "01_decode": ["input_csv", "run_dir"],
        "02_dedupe_urls": ["drop_query_parameters", "input_csv", "run_dir"],
        "03_extract": ["encoder", "input_csv", "run_dir"],
        "06_search_and_clean": ["cosine_thresh", "run_dir"],
    }


def test_a_name_that_is_nearly_right(project: Path) -> None:
    with pytest.raises(SettingError, match=r"cosine_tresh = 0\.9 .*direct flow.*did you mean cosine_thresh\?"):
        plan(project, {"cosine_tresh": 0.9})
    with pytest.raises(SettingError, match=r"xyzzy = 1 .*docs/reference\.md lists them all"):
        plan(project, {"xyzzy": 1})
    assert not (project / "outputs").exists(), "nothing is made for a run that cannot start"


def test_a_parameter_of_the_other_flow(project: Path) -> None:
    for name, value in (("vectors", "frames"), ("dry_run", True)):
        with pytest.raises(SettingError, match=f"{name} = .*no notebook of the direct flow"):
            plan(project, {name: value})
        assert name in str(plan(project, {name: value, "mode": "batch"}).parameters)


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("workers", 0, "from 1 to 256"),
        ("workers", True, "a whole number"),
        ("workers", "4", "a whole number"),
        ("encoder", "dino", "one of 'sscd', 'clip', 'pdq'"),
        ("cosine_thresh", 1.5, "from -1 to 1"),
        ("cosine_thresh", float("nan"), "a number"),
        ("run_dir", 7, "text"),
        ("timeout_s", 1e10, "from 0.1 to 86400"),
        ("input_csv", None, "text"),
        ("input_csv", {"C": "x"}, "text"),
        ("drop_query_parameters", "token", "a list of text"),
    ],
)
def test_values_are_checked_before_any_work(project: Path, name: str, value: object, allowed: str) -> None:
    with pytest.raises(SettingError, match=rf"{name} = .*{allowed}"):
        plan(project, {name: value})
    assert not (project / "outputs").exists()


@pytest.mark.parametrize("mode", ["fast", "", None, ["direct"], 1, True])
def test_a_mode_that_is_none(project: Path, mode: object) -> None:
    with pytest.raises(SettingError, match=r"mode = .* it must be one of direct, batch"):
        plan(project, {"mode": mode})


@pytest.mark.parametrize("run_dir", ["", "  ", None])
def test_a_run_needs_a_folder(project: Path, run_dir: object) -> None:
    with pytest.raises(SettingError, match=r"run_dir = .*--run"):
        plan(project, {"run_dir": run_dir})
    with pytest.raises(SettingError, match="run_dir = None"):
        plan_run({})
    with pytest.raises(SettingError, match="run_dir = 2024 cannot be used: it must be text"):
        plan(project, {"run_dir": 2024}, only="06")


def test_a_run_of_another_name(project: Path) -> None:
    planned = plan(project, run_name="2024 {ünï}")
    assert planned.run.path == find_project_root() / "outputs" / "2024 {ünï}"
    assert planned.parameters["01_decode"]["run_dir"] == "outputs/2024 {ünï}"


def test_a_folder_that_cannot_be_made(project: Path) -> None:
    (project / "file").write_text("")
    planned = plan_run({"run_dir": "file/x"})
    with pytest.raises(RunFolderError, match="set another run_dir"):
        execute_plan(planned)


def test_a_profile_is_left_as_it_was(project: Path) -> None:
    given = {"run_dir": "outputs/x", "workers": 2}
    plan_run(given, run_name="other")
    assert given == {"run_dir": "outputs/x", "workers": 2}


# Notebooks


@pytest.mark.parametrize(
    ("choice", "notebooks"),
    [
        ({}, DIRECT),
        ({"first": "01"}, DIRECT),
        ({"first": "03"}, DIRECT[2:]),
        ({"first": "06"}, DIRECT[3:]),
        ({"only": "03"}, DIRECT[2:3]),
        ({"only": "02", "first": "03"}, DIRECT[1:2]),
    ],
)
def test_part_of_a_flow(project: Path, choice: dict[str, str], notebooks: tuple[str, ...]) -> None:
    planned = plan(project, {"input_csv": "ads.csv", "cosine_thresh": 0.9}, **choice)
    assert planned.notebooks == notebooks
    assert tuple(planned.parameters) == notebooks


@pytest.mark.parametrize("number", ["04", "05", "00", "3", "0", "03_extract", "seven", " "])
@pytest.mark.parametrize("option", ["first", "only"])
def test_a_notebook_that_the_flow_lacks(project: Path, option: str, number: str) -> None:
    named = {"first": "--from", "only": "--only"}[option]
    with pytest.raises(SettingError, match=f"{named} = {number!r} .*notebooks 01, 02, 03, 06"):
        plan(project, **{option: number})


def test_the_batch_flow_has_them(project: Path) -> None:
    planned = plan(project, {"mode": "batch"}, first="04")
    assert planned.notebooks == ("04_clean_jobs", "05_upload", "06_search_and_clean")


# What a notebook says


def write_notebook(project: Path, source: str) -> RunPlan:
    """The plan of a run whose first notebook does this."""
    notebook = new_notebook(
        cells=[new_code_cell("", metadata={"tags": ["parameters"]}), new_code_cell(source)],
        metadata={"language_info": {"name": "python"}},
    )
    nbformat.write(notebook, project / "notebooks" / "01_decode.ipynb")
    return plan(project, {"input_csv": "ads.csv"})


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no local sockets")
def test_kernels_listen_in_a_folder_of_their_own_that_is_gone_afterwards(project: Path) -> None:
    source = (
        "import json, pathlib, ipykernel.connect\n"
        "known = json.loads(ipykernel.connect.get_connection_info())\n"
        "pathlib.Path('outputs/address.json').write_text(json.dumps(known))\n"
        "raise ValueError('enough')"
    )
    planned = write_notebook(project, source)
    with pytest.raises(NotebookError, match="enough"):
        execute_plan(planned)
    known = json.loads((project / "outputs" / "address.json").read_text(encoding="utf-8"))
    sockets_dir = Path(known["ip"]).parent
    assert known["transport"] == "ipc"
    assert sockets_dir.is_absolute() and not sockets_dir.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot kill by a signal")
def test_a_notebook_whose_process_is_killed_has_failed(project: Path) -> None:
    """As the system does where memory runs out."""
    planned = write_notebook(project, "import os\nos.write(2, b'its last words')\nos.kill(os.getpid(), 9)")
    with pytest.raises(NotebookError, match=r"its process ended before it was done \(Kernel died\)") as caught:
        execute_plan(planned)
    log_path = planned.run.notebooks_dir / "01_decode.log"
    assert f"finished work is kept. What it said last is in {log_path}" in str(caught.value)
    assert "its last words" in log_path.read_text(encoding="utf-8")


def test_what_a_notebook_says_is_obeyed_by_no_terminal(project: Path) -> None:
    source = (
        "import os, sys\n"
        "os.write(2, b'\\x1b[31mfrom a library about https://user:secret@h/\\xff\\n')\n"
        "print('\\x1b[2Jprinted https://user:secret@h/')\n"
        "raise ValueError('\\x1b[31mno\\x07 to https://user:secret@h/')"
    )
    planned = write_notebook(project, source)
    with pytest.raises(NotebookError, match=r"01_decode failed: \\x1b\[31mno\\x07 to https://h/") as caught:
        execute_plan(planned)
    log = planned.run.notebooks_dir / "01_decode.log"
    page = planned.run.reports_dir / "01_decode.html"
    assert "\\x1b[31mfrom a library about https://h/\ufffd" in log.read_text(encoding="utf-8")
    for text in (str(caught.value), log.read_text(encoding="utf-8"), page.read_text(encoding="utf-8")):
        assert not {"\x1b", "\x07"} & set(text)
    assert "printed https://h/" in page.read_text(encoding="utf-8")
    assert "no\\x07 to https://h/" in page.read_text(encoding="utf-8")


# A notebook by itself


def test_a_notebook_of_no_flow_gets_what_it_knows_of_a_profile(project: Path) -> None:
    given = load_profile("direct") | {"sample_size": 4, "input_csv": "ads.csv"}
    planned = plan_notebook("07_calibrate", given, run_name="mine")
    assert planned.notebooks == ("07_calibrate",)
    assert planned.run.path == project / "outputs" / "mine"
    known = planned.parameters["07_calibrate"]
    assert (known["sample_size"], known["input_csv"], known["run_dir"]) == (4, "ads.csv", "outputs/mine")
    assert "mode" in given and "mode" not in known


def test_what_a_notebook_of_no_flow_refuses(project: Path) -> None:
    for name, value, words in (
        ("sample_sise", 4, "did you mean sample_size"),
        ("sample_size", 1, "at least 2"),
        ("run_dir", "", "--run"),
    ):
        with pytest.raises(SettingError, match=f"{name} = .*{words}"):
            plan_notebook("07_calibrate", {"run_dir": "outputs/x", name: value})
    assert not (project / "outputs").exists()


def test_a_later_notebook_alone_is_held_against_the_runs_that_the_list_was(project: Path) -> None:
    settings = DedupeUrlsSettings(run_dir="outputs/week2", existing_runs=["outputs/week1"])
    RunFolder("outputs/week2").write_record(settings, counts={}, files={})
    for choice in ({"only": "06"}, {"first": "03"}):
        found = plan_run({"run_dir": "outputs/week2"}, **choice)
        assert found.parameters["06_search_and_clean"]["existing_runs"] == ["outputs/week1"]
        assert found.notes == (
            "compared with week1 too, as when 02_dedupe_urls ran here; --set 'existing_runs=[]' compares with none",
        )
    whole = plan_run({"run_dir": "outputs/week2"})
    alone = plan_run({"run_dir": "outputs/week2", "existing_runs": []}, only="06")
    for planned in (whole, alone):
        assert not planned.parameters["06_search_and_clean"].get("existing_runs")
        assert planned.notes == ()
    assert plan_run({"run_dir": "outputs/week1"}, only="06").notes == ()


def test_a_file_of_decisions_that_is_not_there_is_said(project: Path) -> None:
    (project / "mine.csv").write_text("first_url,second_url,decision,decided_at\n")
    assert plan(project, {"decisions_csv": "mine.csv"}).notes == ()
    (note,) = plan(project, {"decisions_csv": "mnie.csv"}).notes
    assert note == "decisions_csv = 'mnie.csv' names no file yet: no decision of a person counts"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"output_csv": "ads.csv"}, "01_decode would overwrite the list: name another file"),
        ({"unique_csv": "ads.csv"}, "06_search_and_clean would overwrite the list: name another file"),
        ({"output_csv": "x.csv"}, "02_dedupe_urls would overwrite output_csv of 01_decode: give it to one"),
        ({"report_csv": "x.csv"}, "06_search_and_clean would overwrite report_csv of 02_dedupe_urls: give it to one"),
        ({"unique_csv": "x.csv", "invalid_csv": "x.csv"}, "would overwrite unique_csv of 06_search_and_clean: name"),
    ],
)
def test_a_file_is_written_once(project: Path, given: dict[str, str], words: str) -> None:
    (project / "ads.csv").write_text("url\nhttps://h/a\n")
    named = {name: str(project / file) for name, file in given.items()}
    with pytest.raises(SettingError, match=words):
        plan(project, {"input_csv": "ads.csv"} | named)
    alone = plan(project, {"input_csv": "ads.csv", "report_csv": "x.csv"}, only="06")
    assert alone.notebooks == ("06_search_and_clean",)


def test_a_later_notebook_alone_says_when_the_list_is_newer(project: Path) -> None:
    path = project / "ads.csv"
    path.write_text("url\nhttps://h/a\n")
    settings = DecodeSettings(run_dir="outputs/x")
    RunFolder("outputs/x").write_record(settings, counts={}, files={}, details={"list": {"csv": str(path), "rows": 1}})
    finished_s = path.stat().st_mtime
    for later_s, words in ((-60, []), (60, ["ads.csv was saved after 01_decode had read it"])):
        os.utime(path, (finished_s + later_s, finished_s + later_s))
        for choice in ({"only": "06"}, {"first": "03"}):
            notes = plan(project, {"input_csv": str(path)}, **choice).notes
            assert [note.partition(":")[0] for note in notes] == words
        assert plan(project, {"input_csv": str(path)}).notes == ()
    for choice, words in (({"only": "06"}, ["input_csv = 'other.csv' is not read"]), ({"first": "03"}, [])):
        notes = plan(project, {"input_csv": "other.csv"}, **choice).notes
        assert [note.partition(":")[0] for note in notes if "other.csv" in note] == words
    path.unlink()
    assert plan(project, only="06").notes == ()

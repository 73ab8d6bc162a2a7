"""What is refused before a run starts, by the command line as people call it: in one line, and no folder is left."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dedup_lib.cli.main import main
from dedup_lib.errors import EncoderError
from dedup_lib.features.encoders import check_encoder
from dedup_lib.flow.forecast import forecast_memory
from dedup_lib.flow.plan import plan_run
from dedup_lib.flow.preflight import check_start
from dedup_lib.flow.profiles import apply_overrides, load_profile
from dedup_lib.settings import ExtractSettings

ROOT = Path(__file__).resolve().parents[2]
HUB_MODEL = "openai/clip-vit-base-patch32"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a list and a folder beside its own, in which a person is."""
    root = tmp_path / "project"
    for folder, files in (("notebooks", "*.ipynb"), ("params", "*.yaml"), ("lists", "")):
        (root / folder).mkdir(parents=True)
        for file in (ROOT / folder).glob(files) if files else ():
            shutil.copy(file, root / folder)
    (root / "lists" / "ads.csv").write_text("url\nhttp://127.0.0.1:9/a.mp4\n")
    monkeypatch.chdir(root / "lists")
    monkeypatch.setenv("MILVUS_URI", "")
    return root


ADS = ("--set", "input_csv=ads.csv")
LIST_BESIDE = "a list is given beside one, as in run direct --set "


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("zilliz", *ADS),
            "store = 'server' cannot be used: MILVUS_URI names no server. Copy .env.example to .env and",
        ),
        (("server", *ADS, "--set", "mode=batch"), "write the line MILVUS_URI="),
        (("server", *ADS, "--from", "03"), "MILVUS_URI names no server"),
        (("dirct", *ADS), "there is no file dirct.yaml; did you mean direct? The profiles in params/ are batch, demo"),
        (
            ("ads.csv",),
            f"it is no profile; {LIST_BESIDE}input_csv=ads.csv --run ads. The profiles in params/ are batch",
        ),
        (("my ads.tsv.gz",), f"it is no profile; {LIST_BESIDE}'input_csv=my ads.tsv.gz' --run 'my ads'. The profiles"),
        (("https://h/ads.csv",), "it is an address, not a profile; a list is downloaded first"),
        (("https://h/ads.yaml",), "it is an address, not a profile; a list is downloaded first"),
        (("params/dirct.yaml", *ADS), "dirct.yaml; did you mean direct? The profiles in params/ are batch"),
        (("nosuch.yaml", *ADS), "nosuch.yaml; the profiles in params/ are batch"),
        (("direct", "--set", "input_csv=https://u:p@h/ads.csv"), "it is an address, not a file: download the list"),
        (("direct", "--set", "input_csv=adz.csv"), "adz.csv do not exist; did you mean ads.csv?"),
        (("direct", "--set", "input_csv=nowhere/x.csv"), "x.csv do not exist: check the path of the list"),
        (("direct", "--set", f"input_csv={'a' * 300}.csv"), "a.csv do not exist: check the path of the list"),
        (("direct", *ADS, "--set", "url_column=link"), "url_column = 'link' is not a column of the list"),
        (("direct",), "input_csv is empty"),
        (("direct", "--from", "03"), "input_csv is empty, and 02_dedupe_urls or 01_decode has not run"),
        (("direct", "--only", "06"), "there is no collection 'videos' in Milvus Lite, milvus.db: fill it first"),
        (("batch", "--from", "05"), "with job folders to work on; outputs/ holds no run yet"),
        (("direct", *ADS, "--set", "model=m"), "model = 'm' cannot be used: there is no file"),
        (("direct", *ADS, "--set", "encoder=pdq", "--set", "model=m"), "the encoder pdq has no model"),
        (("first_frame", *ADS), f"the CLIP model '{HUB_MODEL}' is not on this machine"),
        (("direct", *ADS, "--set", "encoder=clip", "--set", "model=/nowhere/m"), "there is no folder /nowhere/m"),
        (("direct", *ADS, "--set", "start=2", "--set", "end=1"), "end = 1 cannot be used: it must not be less than"),
        (("direct", *ADS, "--set", "ann=[nprobe]"), "write 'nprobe' as name:value"),
    ],
)
def test_a_run_that_cannot_succeed_is_refused_at_once_and_leaves_nothing(
    project: Path,
    arguments: tuple[str, ...],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["dedup_lib", "run", *arguments, "--run", "mine"])
    with pytest.raises(SystemExit) as stopped:
        main()
    told = capsys.readouterr()
    assert (stopped.value.code, told.out) == (1, "")
    assert told.err.startswith("error: ") and len(told.err.splitlines()) == 1, told.err
    assert said in told.err
    assert not (project / "outputs").exists()


def test_a_notebook_that_is_missing_is_told_before_the_first_one_runs(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "notebooks" / "02_dedupe_urls.ipynb").unlink()
    monkeypatch.setattr(sys, "argv", ["dedup_lib", "run", "direct", *ADS, "--run", "mine"])
    with pytest.raises(SystemExit):
        main()
    assert "02_dedupe_urls.ipynb: keep the folders dedup_lib, notebooks and params" in capsys.readouterr().err
    assert not (project / "outputs").exists()


def test_decisions_that_cannot_be_read_are_told_before_anything_is_read(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "lists" / "decisions.csv").write_text("first_url,second_url,decision,decided_at\na,b,perhaps,\n")
    monkeypatch.setattr(sys, "argv", ["dedup_lib", "run", "direct", *ADS, "--run", "mine"])
    with pytest.raises(SystemExit):
        main()
    assert "decisions.csv" in capsys.readouterr().err
    assert not (project / "outputs").exists()


def test_a_server_that_does_not_answer_is_told_before_the_list_is_read(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / ".env").write_text("MILVUS_URI=http://root:geheim@127.0.0.1:9\n")
    monkeypatch.delenv("MILVUS_URI")
    monkeypatch.setattr(sys, "argv", ["dedup_lib", "run", "server", *ADS, "--set", "encoder=pdq", "--run", "mine"])
    with pytest.raises(SystemExit) as stopped:
        main()
    told = capsys.readouterr().err
    assert stopped.value.code == 1
    assert "http://127.0.0.1:9 does not answer. Check MILVUS_URI" in told and "geheim" not in told
    assert not (project / "outputs").exists()


def test_another_encoder_takes_the_place_of_the_profiles_with_its_model(project: Path) -> None:
    first_frame = load_profile("first_frame")
    planned = plan_run(apply_overrides(first_frame, {"encoder": "pdq", "input_csv": "ads.csv"}))
    settings = planned.settings[ExtractSettings.stage]
    assert isinstance(settings, ExtractSettings)
    assert (settings.encoder, settings.model) == ("pdq", "")
    assert apply_overrides(first_frame, {"encoder": "clip"})["model"] == first_frame["model"]
    assert apply_overrides(first_frame, {"encoder": "pdq", "model": "m"})["model"] == "m"
    assert apply_overrides(first_frame, {"num_frames": 2})["model"] == first_frame["model"]
    assert apply_overrides({"model": "m"}, {"encoder": "clip"})["model"] == "m", "it waits for its encoder"


def test_the_list_is_the_one_where_the_person_is(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = load_profile("direct") | {"input_csv": "ads.csv"}
    planned = plan_run(profile)
    here, there = project / "lists" / "ads.csv", project / "ads.csv"
    assert planned.parameters["01_decode"]["input_csv"] == str(here), "the notebooks work elsewhere"
    assert planned.notes == ()
    (project / "ads.csv").write_text("url\n")
    (note,) = plan_run(profile).notes
    assert note == f"input_csv = 'ads.csv' is {here} and {there}: {here} is read"
    monkeypatch.chdir(project)
    planned = plan_run(profile)
    assert (planned.parameters["01_decode"]["input_csv"], planned.notes) == ("ads.csv", ())
    monkeypatch.chdir(project / "notebooks")
    planned = plan_run(profile)
    assert (planned.parameters["01_decode"]["input_csv"], planned.notes) == ("ads.csv", ())


def say_as_a_process(*arguments: str, cwd: Path, python: tuple[str, ...] = (sys.executable,)) -> tuple[int, str, str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ["PYTHONPATH"]])}
    done = subprocess.run(
        [*python, "-m", "dedup_lib", *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_a_run_from_outside_of_the_project(tmp_path: Path) -> None:
    (tmp_path / "my ads.csv").write_text("url\nhttp://127.0.0.1:9/a.mp4\n")
    run_dir = tmp_path / "run"
    chosen = ("--set", "input_csv=my ads.csv", "--set", f"run_dir={run_dir}", "--only", "01")
    code, out, err = say_as_a_process("run", "direct", *chosen, cwd=tmp_path)
    assert (code, err) == (0, "")
    assert f"report: {run_dir / 'reports' / 'index.html'}" in " ".join(out.split())
    record = json.loads((run_dir / "stages" / "01_decode.json").read_text("utf-8"))
    assert record["list"]["csv"] == str(tmp_path / "my ads.csv")
    holder = json.loads((run_dir / "run.lock").read_text("utf-8"))
    assert holder["command"].startswith(f"cd {tmp_path} && python -m dedup_lib run direct --set 'input_csv=my ads.csv'")
    code, out, _ = say_as_a_process("status", "run", cwd=tmp_path)
    assert code == 0 and f"{run_dir} partly done" in " ".join(out.split())
    code, _, err = say_as_a_process("run", "dirct", cwd=tmp_path)
    assert code == 1 and "did you mean direct?" in err


@pytest.mark.parametrize("is_in_the_project", [True, False])
def test_a_python_without_the_packages_is_told_what_to_type(tmp_path: Path, is_in_the_project: bool) -> None:
    # Without what is installed, as the Python of the system is.
    python = (sys.executable, "-S")
    code, out, err = say_as_a_process("status", "x", cwd=ROOT if is_in_the_project else tmp_path, python=python)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1, err
    assert err.startswith("error: the package ") and "is not installed" in err
    assert f"type source {'' if is_in_the_project else f'{ROOT}/'}.venv/bin/activate first" in err
    assert "make run" in err


# Notes


@pytest.mark.parametrize(
    ("profile", "settings", "said"),
    [
        ("direct", {}, "about 1.2 GB for 30,000 videos with 8 each. A server holds them elsewhere (MILVUS_URI,"),
        ("batch", {}, "about 1.2 GB for 30,000 videos with 8 each. A server"),
        ("direct", {"end": 28_000}, "about 1.1 GB for 28,000 videos"),
        ("direct", {"end": 20_000}, ""),
        ("direct", {"encoder": "pdq"}, ""),
        ("direct", {"num_frames": 1}, ""),
        ("batch", {"vectors": "average"}, ""),
    ],
)
def test_memory_that_a_long_list_will_take_is_told(
    project: Path, profile: str, settings: dict[str, object], said: str
) -> None:
    path = project / "lists" / "long.csv"
    path.write_text("url\n" + "".join(f"http://h/{row}.mp4\n" for row in range(30_000)))
    values = load_profile(profile) | {"input_csv": str(path)} | settings
    notes = check_start(plan_run(values, run_name="long"))
    assert [said in note for note in notes] == [True] * bool(said)
    assert not (project / "outputs").exists()


def test_vectors_on_a_server_take_no_memory_here(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_run(load_profile("direct") | {"input_csv": str(project / "lists" / "ads.csv")}, run_name="long")
    assert "Milvus Lite" in forecast_memory(plan, rows=90_000)
    monkeypatch.setenv("MILVUS_URI", "http://127.0.0.1:9")
    assert forecast_memory(plan, rows=90_000) == ""


# A model, by its files alone


def test_a_model_in_a_folder_is_looked_at_without_loading_it(clip_dir: Path, tmp_path: Path) -> None:
    check_encoder("pdq")
    check_encoder("clip", model=str(clip_dir))
    for name, remedy in (("model.safetensors", "lacks model.safetensors"), ("preprocessor_config.json", "lacks prep")):
        folder = tmp_path / name
        shutil.copytree(clip_dir, folder)
        (folder / name).unlink()
        with pytest.raises(EncoderError, match=f"{name} holds no CLIP model that can be loaded .*{remedy}"):
            check_encoder("clip", model=str(folder))
    for text, said in (('{"model_type": "bert"}', r"is not a CLIP model \(model_type bert\)"), ("[]", "no CLIP model")):
        (folder / "config.json").write_text(text)
        with pytest.raises(EncoderError, match=said):
            check_encoder("clip", model=str(folder))


def test_a_model_that_was_fetched_before_is_found_offline(clip_dir: Path, tmp_path: Path) -> None:
    kept = tmp_path / f"models--{HUB_MODEL.replace('/', '--')}"
    shutil.copytree(clip_dir, kept / "snapshots" / "abc")
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text("abc")
    code = """
import sys
from dedup_lib.features.encoders import check_encoder
check_encoder('clip')
print('torch' in sys.modules)
"""
    environment = os.environ | {"HF_HUB_CACHE": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr
    with pytest.raises(EncoderError, match="is not on this machine, and downloads are switched off"):
        check_encoder("clip")

"""The report never says something else than the outputs, however 06_search_and_clean was run again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from media import save_clip
from pages import Page, open_page
from scenes import draw_clip

from dedup_lib.report.overview import write_index
from dedup_lib.run.folder import RunFolder
from dedup_lib.run.paths import find_project_root

ROOT = find_project_root(Path(__file__).parent)
STAGE = "06_search_and_clean"


def call(*words: str, module: str = "dedup_lib") -> str:
    done = subprocess.run(
        [sys.executable, "-m", module, *words],
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@dataclass(frozen=True)
class Made:
    """A run that was made by the command line at 0.5, with one pair that a person called different, one the same."""

    folder: Path
    urls: list[str]
    said: str

    def page(self, name: str = "index") -> Page:
        return open_page(self.folder / "reports" / f"{name}.html")

    def run_by_papermill(self, out: Path, *, min_score: float) -> None:
        words = ("-p", "run_dir", str(self.folder), "-p", "min_score", str(min_score))
        call(f"notebooks/{STAGE}.ipynb", str(out), *words, module="papermill")

    def run(self, *words: str) -> str:
        return call("run", "direct", "--set", f"run_dir={self.folder}", *words)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("made")
    paths = []
    for name, seed, codec in (("film", 1, "libx264"), ("copy", 1, "mpeg4"), ("other", 2, "libx264")):
        frames = draw_clip(seed)
        height, width = frames[0].shape[:2]
        paths.append(save_clip(folder / f"{name}.mp4", frames=frames, fps=5, size_px=(width, height), codec=codec))
    urls = list(map(str, paths))
    (folder / "ads.csv").write_text("url\n" + "\n".join(urls) + "\n", encoding="utf-8")
    elsewhere = "https://example.com/not-in-this-list.mp4"
    (folder / "decisions.csv").write_text(
        "first_url,second_url,decision,decided_at\n"
        f"{urls[0]},{urls[1]},different,\n{urls[0]},{urls[2]},same,\n{urls[0]},{elsewhere},same,\n",
        encoding="utf-8",
    )
    sets = {"input_csv": folder / "ads.csv", "run_dir": folder / "run", "allow_local_paths": "true", "encoder": "pdq"}
    words = [word for name, value in (sets | {"min_score": 0.5}).items() for word in ("--set", f"{name}={value}")]
    return Made(folder / "run", urls, call("run", "direct", "--from", "03", *words))


def test_what_people_decided_is_told(made: Made) -> None:
    words = "2 pairs decided by people (1 same, 1 different)"
    assert words in made.said
    summary = json.loads((made.folder / "summary.json").read_text(encoding="utf-8"))
    assert (summary["decisions"]["same"], summary["decisions"]["different"]) == (1, 1)
    assert not [url for url in made.urls if url in json.dumps(summary)], "a URL may hold a password"
    page = made.page()
    _, _, section = page.text.rpartition("What people decided")
    assert words in section
    decided = section.partition("How each URL turned out")[0]
    assert decided.index("they count as one video") < decided.index("they count as two videos")
    assert decided.count("film.mp4") == 2 and "copy.mp4" in decided and "other.mp4" in decided


def test_papermill_of_06_makes_the_report_again(made: Made, tmp_path: Path) -> None:
    assert "min_score = 0.5" in made.page().text
    made.run_by_papermill(tmp_path / "out.ipynb", min_score=0.4)
    summary = json.loads((made.folder / "summary.json").read_text(encoding="utf-8"))
    assert summary["decision"]["threshold"] == 0.4
    # The page of the notebook holds what it left, not what an earlier run showed; `report` leaves it at that.
    for remade in (False, True):
        if remade:
            call("report", str(made.folder))
        page, notebook = made.page(), made.page(STAGE)
        assert "min_score = 0.4" in page.text and "min_score = 0.5" not in page.text
        assert "min_score0.4" in notebook.text and "in JupyterLab, by papermill" in notebook.text
        assert "older than the outputs" not in page.text + notebook.text
        assert "may not show" not in page.text


def test_without_a_report_the_old_one_says_that_it_is_outdated(made: Made) -> None:
    made.run("--only", "06", "--set", "min_score=0.45", "--no-report")
    for name in ("index", STAGE):
        assert "This page is older than the outputs." in made.page(name).text
    call("report", str(made.folder))
    assert "min_score = 0.45" in made.page().text
    assert "All against all" in made.page(STAGE).text, "the whole page of the run"
    for name in ("index", STAGE):
        assert "older than the outputs" not in made.page(name).text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("outputs", "duplicates.csv and review.csv are no longer what 06_search_and_clean wrote"),
        ("reading", "03_extract ran after 06_search_and_clean: run that again"),
        ("moved", ""),
    ],
)
def test_outputs_that_do_not_belong_to_the_report_are_named(made: Made, tmp_path: Path, change: str, said: str) -> None:
    folder = tmp_path / "run"
    shutil.copytree(made.folder, folder)
    if change == "outputs":
        for name in ("duplicates.csv", "review.csv"):
            with (folder / name).open("a", encoding="utf-8") as file:
                file.write("\n")
    elif change == "moved":
        (folder / "duplicates.csv").rename(tmp_path / "sent.csv")
    else:
        path = RunFolder(folder).record_path("03_extract")
        record = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps(record | {"finished": "2999-01-01T00:00:00.000+00:00"}), encoding="utf-8")
    text = open_page(write_index(folder)).text
    assert ("may not show what the outputs hold" in text) == bool(said)
    assert said in text

"""06 as people have it before them: in JupyterLab and as an app, in a real browser, over a run of four small videos."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from browser import TIMEOUT_MS, Visit, find_free_port, jupyterlab, open_visit, run_all, serving, violations
from fault_server import FaultServer, Request, reply, reply_range
from media import save_clip
from notebook_cells import run_cells
from playwright.sync_api import Browser, Page, expect
from scenes import SIZE_PX, STEP_S, draw_clip

from dedup_lib.flow.plan import plan_run
from dedup_lib.flow.profiles import load_profile
from dedup_lib.groups.decisions import Decision, load_decisions

ROOT = Path(__file__).resolve().parents[2]
FPS = round(1 / STEP_S)


@dataclass
class Project:
    """A copy of the project's notebooks with one finished run, the one that they are set to."""

    root: Path
    environment: dict[str, str]

    @property
    def run(self) -> Path:
        return self.root / "outputs" / "demo"

    @property
    def decisions(self) -> dict[frozenset[str], Decision]:
        return load_decisions(self.root / "decisions.csv")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    root = tmp_path_factory.mktemp("project")
    for name in ("notebooks", "params"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    first, second, other = (draw_clip(seed) for seed in range(3))
    # Of its pictures, 37 of 40 agree with the first: whether it is a copy hangs on the threshold of the score.
    mixed = first[:8] + second[8:11] + first[11:]
    films = {"whole": first, "again": first, "mixed": mixed, "other": other}
    clips = {
        f"/{name}.mp4": save_clip(root / f"{name}.mp4", frames=frames, fps=FPS, size_px=SIZE_PX).read_bytes()
        for name, frames in films.items()
    }

    def answer(request: Request) -> list[bytes]:
        clip = clips[request.path]
        return [reply_range(request, clip) if "range" in request.headers else reply("200 OK", clip)]

    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ["PYTHONPATH"]]),
        "IPYTHONDIR": str(root / "ipython"),
    }
    with FaultServer(answer) as server:
        (root / "list.csv").write_text("url\n" + "".join(f"{server.url(path)}\n" for path in clips))
        with chdir(root):
            given = {"input_csv": "list.csv", "allow_private_addresses": True}
            run_cells(plan_run(load_profile("direct") | given, run_name="demo"))
        yield Project(root, environment)


@contextmanager
def window(browser: Browser) -> Iterator[Visit]:
    # So high that nothing is left out because nobody sees it.
    with open_visit(browser, viewport={"width": 1200, "height": 6000}) as visit:
        visit.page.set_default_timeout(TIMEOUT_MS)
        yield visit


def kept(page: Page) -> int:
    """How many videos the threshold explorer says would be kept."""
    return int(page.get_by_text("compared videos kept").locator("strong").nth(1).inner_text())


def move_the_slider_and_answer(page: Page, project: Project) -> None:
    """What a person does in 06, and that it shows."""
    slider = page.locator(".widget-slider").get_by_role("slider")
    counts = page.get_by_text("compared videos kept")
    expect(counts).to_contain_text("At 0.5000")
    assert kept(page) == 2
    slider.focus()
    for key, threshold, left in (("End", "1.0000", 3), ("Home", "0.0300", 2)):
        slider.press(key)
        expect(counts).to_contain_text(f"At {threshold}")
        assert kept(page) == left, threshold
        expect(page.get_by_role("img", name=f"the threshold at {threshold}")).to_be_visible()
    keep_the_value(page, project)
    before = project.decisions
    queue = page.get_by_role("group", name="Review queue")
    progress = queue.get_by_role("status")
    expect(progress).to_have_text(re.compile(r"^0 of \d+ decided$"))
    for side in ("First", "Second"):
        expect(queue.get_by_role("img", name=re.compile(rf"^{side} at 0:0"))).to_be_visible()
    expect(queue.get_by_text(re.compile(r"\d+ of \d+ frames agree at the same moments"))).to_be_visible()
    # The slider moves through both videos, and arrow keys move it wherever the focus is in the queue.
    moment = queue.get_by_role("slider", name="moment in both videos")
    shown = moment.get_attribute("aria-valuetext")
    queue.focus()
    page.keyboard.press("ArrowRight")
    expect(moment).not_to_have_attribute("aria-valuetext", shown or "")
    # Whoever holds a key down answers one pair.
    for _ in range(3):
        page.keyboard.down("d")
    page.keyboard.up("d")
    expect(progress).to_have_text(re.compile(r"^1 of \d+ decided$"))
    assert len(project.decisions) == len(before) + 1
    assert list(project.decisions.values())[-1] == Decision.DIFFERENT
    page.keyboard.press("u")
    expect(progress).to_have_text(re.compile(r"^0 of \d+ decided$"))
    assert project.decisions == before
    queue.get_by_role("button", name="Same, keep second").click()
    expect(progress).to_have_text(re.compile(r"^1 of \d+ decided$"))
    assert list(project.decisions.values())[-1].is_same


def keep_the_value(page: Page, project: Project) -> None:
    """The button keeps the value of the slider, and says what to type; that is then what decides."""
    page.get_by_role("button", name="Decide by min_score 0.03").click()
    expect(page.get_by_text("is in outputs/demo/chosen.yaml")).to_contain_text("min_score: 0.03")
    command = page.get_by_text("python -m dedup_lib run outputs/demo/chosen.yaml --only 06")
    expect(command).to_be_visible()
    profile = load_profile(str(project.run / "chosen.yaml"))
    assert profile["min_score"] == 0.03
    assert profile["input_csv"].endswith("list.csv") and profile["allow_private_addresses"] is True


def test_06_in_jupyterlab(project: Project, browser: Browser) -> None:
    (project.run / "FINAL_RESULT.csv").unlink()
    with jupyterlab(project.root, project.environment) as address, window(browser) as visit:
        page = visit.page
        page.goto(address("notebooks/00_start.ipynb"))
        page.get_by_role("link", name="06_search_and_clean").first.click()
        expect(page.get_by_role("heading", name="06 · Search and clean")).to_be_visible()
        run_all(page)
        expect(page.get_by_text(re.compile(r"^4 rows in, 2 videos kept\."))).to_be_visible()
        assert page.locator("[data-mime-type='application/vnd.jupyter.error']").count() == 0
        assert (project.run / "FINAL_RESULT.csv").exists()
        move_the_slider_and_answer(page, project)


def test_the_app(project: Project, browser: Browser) -> None:
    # By its own settings, not by those that stand in the notebook.
    record_path = project.run / "stages" / "06_search_and_clean.json"
    record = json.loads(record_path.read_text())
    record["settings"]["unique_csv"] = "kept by the app.csv"
    record_path.write_text(json.dumps(record))
    for left in (project.root / "decisions.csv", project.run / "chosen.yaml"):
        left.unlink(missing_ok=True)
    words = ["dedup_lib", "app", "demo", "--port", str(find_free_port()), "--no-browser"]
    says = r"app: (http://127\.0\.0\.1:\d+/\?token=\w+)"
    with (
        serving(*words, cwd=project.root, environment=project.environment, says=says) as said,
        window(browser) as visit,
    ):
        page = visit.page
        page.goto(said[1])
        expect(page.get_by_role("heading", name="demo: which videos are the same?")).to_be_visible()
        expect(page.get_by_text(re.compile(r"^4 rows in, 2 videos kept\."))).to_be_visible()
        assert (project.run / "kept by the app.csv").exists()
        headings = [heading.inner_text() for heading in page.get_by_role("heading", level=2).all()]
        assert headings == ["Ask a person", "Try other thresholds", "The groups", "The clean list", "What came out"]
        expect(page.locator(".jp-InputArea-editor, .highlight"), "no code is shown").to_have_count(0)
        expect(page.get_by_role("slider", name="threshold")).to_be_visible()
        expect(page.get_by_role("img", name="Where every row went: rows; rows in the list 4;")).to_be_visible()
        move_the_slider_and_answer(page, project)
        expect(page.get_by_role("slider", name="threshold")).to_have_attribute("aria-valuetext", "0.0300")
        assert violations(page) == []

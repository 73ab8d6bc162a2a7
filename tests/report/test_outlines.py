"""The region that differs throughout is outlined, on both videos, wherever it is known where it lies."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from browser import Visit
from made_run import RECIPE, make_run
from PIL import Image
from playwright.sync_api import expect

from dedup_lib.groups.decisions import DecisionFile
from dedup_lib.match.aligned_frames import Box
from dedup_lib.media.frames import draw_outline
from dedup_lib.media.storyboard import Storyboard
from dedup_lib.records import Frames, Outcome, Status
from dedup_lib.report.overview import write_index
from dedup_lib.report.pictures import OUTLINE_MARGIN, Pictures, Shot
from dedup_lib.run.folder import RunFolder, thumbnail_path
from dedup_lib.run.ledger import Ledger
from dedup_lib.ui.queue import ReviewQueue

PLAIN, BARRED = "https://example.com/plain.mp4", "https://example.com/barred.mp4"
ROW = {
    "first_url": PLAIN,
    "second_url": BARRED,
    "verdict": "review",
    "rule": "a region differs throughout",
    "kept_from_s": "0",
    "kept_to_s": "10",
    "offset_s": "0",
    "kept_coverage": "1",
    "copy_coverage": "1",
    "differs": "middle right, 10%",
    "differs_in_kept": "0.500 0.250 0.750 0.500",
    "differs_in_copy": "0.500 0.250 0.750 0.500",
}


def noise(height: int, width: int, *, bar: int = 0) -> Frames:
    """Grey and crowded; with black bars above and below."""
    frame = np.random.default_rng(0).integers(60, 200, (height, width, 3)).astype(np.uint8)
    frame[:bar] = frame[height - bar :] = 0
    return frame


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """With the storyboards of both videos: 100 pixels of picture, the second one between bars of 50."""
    run = RunFolder(tmp_path / "run")
    run.thumbnails_dir.mkdir(parents=True)
    for url, frame in ((PLAIN, noise(100, 200)), (BARRED, noise(200, 200, bar=50))):
        board = Storyboard.of([frame] * 20, times_s=[0.5 * number for number in range(20)])
        thumbnail_path(url, thumbnails_dir=run.thumbnails_dir).write_bytes(board.to_bytes())
    return run


def outlines(run: RunFolder, **changes: str) -> tuple[Box | None, Box | None]:
    with Pictures(run, recipe=RECIPE) as pictures:
        return pictures.find_outlines(PLAIN, BARRED, ROW | changes)


def test_the_outline_lies_around_the_region_and_bars_are_counted(run: RunFolder) -> None:
    plain, barred = outlines(run)
    wide = np.array([-OUTLINE_MARGIN, -OUTLINE_MARGIN, OUTLINE_MARGIN, OUTLINE_MARGIN])
    assert plain == pytest.approx(np.array([0.5, 0.25, 0.75, 0.5]) + wide)
    assert barred == pytest.approx(np.array([0.5, 0.375, 0.75, 0.5]) + wide, abs=0.01)
    # It never reaches into the bars.
    _, at_edge = outlines(run, differs_in_copy="0.5 0 1 1")
    assert at_edge == pytest.approx([0.5 - OUTLINE_MARGIN, 0.25, 1, 0.75], abs=0.01)


@pytest.mark.parametrize("text", ["", "nan", "0.1 0.2 0.3", "a b c d", "0.1 0.2 0.3 nan"])
def test_nothing_is_outlined_where_nothing_is_known_to_differ(run: RunFolder, text: str) -> None:
    assert outlines(run, differs_in_kept=text, differs_in_copy=text) == (None, None)


def test_nothing_is_outlined_where_the_bars_are_not_those_that_were_cut_off(run: RunFolder) -> None:
    read = [
        Outcome(url=url, status=Status.OK, frames=8, picture_fraction=share)
        for url, share in ((PLAIN, 1.0), (BARRED, 0.7))
    ]
    with Ledger(run.ledger_path, RECIPE) as ledger:
        ledger.record(read, fingerprints={}, kind="made")
    plain, barred = outlines(run)
    assert plain is not None and barred is None


def shown(shot: Shot) -> Frames:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(shot.picture.partition(",")[2]))).convert("L"))


def test_frames_of_both_videos_bear_the_outline(run: RunFolder) -> None:
    with Pictures(run, recipe=RECIPE) as pictures:
        both = pictures.draw_beside(PLAIN, BARRED, ROW, outlines=pictures.find_outlines(PLAIN, BARRED, ROW))
        bare = pictures.draw_beside(PLAIN, BARRED, ROW)
    assert [len(shots) for shots in both] == [5, 5] and [len(shots) for shots in bare] == [0, 5]
    # The longer side has 208 pixels.
    for shots, row in ((both[0], round((0.5 + OUTLINE_MARGIN) * 104)), (both[1], round((0.5 + OUTLINE_MARGIN) * 208))):
        for shot in shots:
            line = shown(shot)[row - 3 : row + 1, 110:150]
            assert line.mean(axis=1).max() > 215, "white"
            assert line.mean(axis=1).min() < 90, "beside black"


@pytest.mark.parametrize("box", [(0.0, 0.0, 1.0, 1.0), (0.2, 0.3, 0.21, 0.31), (0.9, 0.9, 1.0, 1.0)])
def test_an_outline_is_drawn_within_any_frame(box: Box) -> None:
    frame = np.full((40, 60, 3), 128, np.uint8)
    outlined = draw_outline(frame, box)
    assert outlined.shape == frame.shape and (frame == 128).all()
    assert set(np.unique(outlined)) <= {0, 128, 255} and (outlined == 255).any()


def test_the_queue_outlines_the_region_and_says_so(run: RunFolder) -> None:
    queue = ReviewQueue([ROW], run=run, recipe=RECIPE, decisions=DecisionFile(run.path / "decisions.csv"))
    assert queue.question is not None
    assert queue.question["legend"] == "White outline: the region that differs throughout."
    assert queue.question["second"]["outline"] == pytest.approx(outlines(run)[1])
    bare = ReviewQueue(
        [ROW | {"differs_in_kept": "", "differs_in_copy": ""}],
        run=run,
        recipe=RECIPE,
        decisions=DecisionFile(run.path / "decisions.csv"),
    )
    assert bare.question is not None
    assert (bare.question["legend"], bare.question["first"]["outline"]) == ("", None)


def test_the_report_outlines_the_region_and_the_dialog_says_so_too(tmp_path: Path, visit: Visit) -> None:
    made = make_run(tmp_path / "run", sizes=[2, 1, 1], threshold=0.3)
    path = made.run.path / "review.csv"
    doubtful = pd.read_csv(path, dtype=str, keep_default_na=False)
    doubtful.loc[0, "differs_in_kept"] = doubtful.loc[0, "differs_in_copy"] = ROW["differs_in_kept"]
    doubtful.to_csv(path, index=False)
    visit.page.goto(write_index(made.run.path).as_uri())
    pair = visit.page.locator("article.pair").first
    expect(pair.locator(".legend")).to_have_text("White outline: the region that differs throughout.")
    pair.locator(".shots img").first.click()
    dialog = visit.page.locator("#enlarged")
    expect(dialog.locator(".legend")).to_have_text("White outline: the region that differs throughout.")
    visit.page.keyboard.press("Escape")
    visit.page.locator("#sheets .shots img").first.click()
    expect(dialog).to_be_visible()
    expect(dialog.locator(".legend")).to_be_hidden()

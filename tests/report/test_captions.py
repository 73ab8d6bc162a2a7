"""Which columns of a list name its videos."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from made_run import make_run

from dedup_lib.report.captions import MAX_SHOWN, Captions, choose_columns
from dedup_lib.run.folder import RunFolder

ROWS = 40
VIETNAMESE = {
    "id": [f"{row:06}" for row in range(ROWS)],
    "nhãn hàng": [["Vinamilk", "TH true milk", "Dutch Lady"][row % 3] for row in range(ROWS)],
    "tiêu đề": [f"Phiên bản số {row}, ba mươi giây" for row in range(ROWS)],
    "link": [f"https://example.com/{row}.mp4" for row in range(ROWS)],
    "ngày phát sóng": ["02/02/2024"] * ROWS,
    "thời lượng": ["30", "15"] * (ROWS // 2),
    "ghi chú": ["", *[""] * (ROWS - 1)],
}


@pytest.mark.parametrize(
    ("columns", "chosen"),
    [
        (list(VIETNAMESE), ["tiêu đề", "nhãn hàng", "id"]),
        (["link", "id", "thời lượng"], ["id"]),
        (["nhãn hàng", "ngày phát sóng"], ["nhãn hàng"]),
        (["link", "thời lượng", "ghi chú"], []),
    ],
)
def test_titles_brands_and_numbers_are_chosen_by_what_they_hold(columns: list[str], chosen: list[str]) -> None:
    assert choose_columns(pd.DataFrame(VIETNAMESE)[columns]) == chosen


def test_columns_that_are_out_of_the_question_are_not_chosen() -> None:
    assert choose_columns(pd.DataFrame(VIETNAMESE), without=["tiêu đề"]) == ["nhãn hàng", "id"]
    assert choose_columns(pd.DataFrame({"title": []}, dtype=str)) == []


def test_a_caption_is_one_short_line(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", sizes=[1, 1], has_pictures=False).run
    table = pd.read_csv(run.path / "ads.csv", dtype=str)
    table["title"] = ["<b>two\nlines\u202e", "word " * 25]
    table.to_csv(run.path / "ads.csv", index=False)
    captions = Captions(run)
    first, second = (captions.about(url)[0][1] for url in table["url"])
    assert "\n" not in first and "\u202e" not in first and first.startswith("<b>two")
    assert len(second) == MAX_SHOWN and second.endswith("…")
    assert captions.about("https://example.com/elsewhere.mp4") == ()


def test_without_a_list_there_are_no_captions(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", sizes=[1, 1], has_pictures=False).run
    (run.path / "ads.csv").unlink()
    assert Captions(run).about("a") == () == Captions(RunFolder(tmp_path / "nowhere")).about("a")

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from pages import Page, open_page

from dedup_lib import report
from dedup_lib.plots import thumbnail_path

HOSTILE_TEXT = "<script>alert(1)</script><img src=https://evil.example/x.png onerror=alert(1)>"
SCRIPT_URL = "javascript:alert(document.domain)"
FLOW = ["01_decode", "02_dedupe_urls", "03_extract", "05_upload", "06_search_and_clean"]


def png() -> str:
    picture = io.BytesIO()
    plt.imsave(picture, np.zeros((4, 4, 3), dtype=np.uint8), format="png")
    return base64.b64encode(picture.getvalue()).decode()


@pytest.fixture
def rendered(tmp_path: Path) -> Page:
    frame = pd.DataFrame({"url": [HOSTILE_TEXT], "similarity": [0.93]})
    cells = [
        new_markdown_cell(
            "# Search\n\nFollows [the URL step](02_dedupe_urls.ipynb), see [there](./01_decode.ipynb#top)."
        ),
        new_code_cell(
            'run_dir: str = "outputs/demo"  # folder of this run\ntop_k: int = 100  # neighbours',
            metadata={"tags": ["parameters"]},
        ),
        new_code_cell(f"run_dir = {HOSTILE_TEXT!r}", metadata={"tags": ["injected-parameters"]}),
        new_code_cell(
            "hidden_code()",
            outputs=[
                new_output("stream", name="stderr", text="\r 10% PROGRESS"),
                new_output("stream", name="stdout", text=f"\x1b[31m36 rows\x1b[0m {HOSTILE_TEXT}"),
            ],
        ),
        new_markdown_cell("## How alike?"),
        new_code_cell("figure", outputs=[new_output("execute_result", data={"image/png": png()}, execution_count=7)]),
        new_code_cell(
            "frame",
            outputs=[new_output("execute_result", data={"text/html": frame.to_html(), "text/plain": "PLAINTEXT"})],
        ),
        new_code_cell(
            "explorer",
            outputs=[
                new_output("display_data", data={report.WIDGET_VIEW: {"model_id": "abc"}, "text/plain": "VBox()"}),
                new_output("display_data", data={"application/javascript": "fetch('https://evil.example')"}),
            ],
        ),
        new_code_cell(
            "broken",
            outputs=[
                new_output(
                    "error",
                    ename="ValueError",
                    evalue="no",
                    traceback=["\x1b[38;5;15mTraceback\x1b[0m of cell", f"\x1b[31mValueError\x1b[0m: {HOSTILE_TEXT}"],
                )
            ],
        ),
    ]
    state = {"application/vnd.jupyter.widget-state+json": {"state": {"abc": "WIDGETSTATE"}}}
    executed_path = tmp_path / "06.ipynb"
    nbformat.write(new_notebook(cells=cells, metadata={"widgets": state}), executed_path)
    html_path = tmp_path / "reports" / "06.html"
    report.render_notebook(executed_path, html_path, title=f"Search {HOSTILE_TEXT}")
    assert [path.name for path in html_path.parent.iterdir()] == ["06.html"], "no scratch file stays"
    return open_page(html_path)


def test_page_hides_code_prompts_progress_and_widget_state(rendered: Page) -> None:
    everything = rendered.text + str(rendered.tags)
    for hidden in ("hidden_code", "explorer", "PROGRESS", "WIDGETSTATE", "VBox", "evil.example')", "Out[", "In [", "¶"):
        assert hidden not in everything
    assert "PLAINTEXT" not in everything
    assert rendered.text.count("it opens in JupyterLab") == 1


def test_page_shows_hostile_text_as_text(rendered: Page) -> None:
    assert rendered.text.count(HOSTILE_TEXT) == 5  # title, parameter, printed, table, traceback
    assert [attrs["src"][:22] for tag, attrs in rendered.tags if tag == "img"] == ["data:image/png;base64,"]


def test_page_shows_parameters_with_what_was_set(rendered: Page) -> None:
    said = " ".join(rendered.text.split())
    assert "Parameters: 1 of 2 set for this run" in said
    assert "folder of this run" in said
    assert "outputs/demo" not in said, "the injected value takes the place of the default"
    assert "top_k100defaultneighbours" in "".join(said.split())


def test_page_keeps_the_traceback_readable(rendered: Page) -> None:
    assert "Traceback of cell" in rendered.text
    assert "\x1b" not in rendered.text
    assert "36 rows" in rendered.text


def test_links_between_notebooks_lead_to_pages(rendered: Page) -> None:
    assert {"02_dedupe_urls.html", "./01_decode.html#top", "index.html"} == set(rendered.links())


def test_picture_is_described_by_its_heading(rendered: Page) -> None:
    assert [attrs["alt"] for tag, attrs in rendered.tags if tag == "img"] == ["Picture under “How alike?”"]


def test_lone_surrogates_do_not_stop_a_page(tmp_path: Path) -> None:
    notebook = new_notebook(cells=[new_markdown_cell("# Odd \\ud800")])
    path = tmp_path / "odd.ipynb"
    path.write_text(nbformat.writes(notebook).replace("\\\\ud800", "\\ud800"), encoding="utf-8")
    report.render_notebook(path, tmp_path / "odd.html", title="Odd")
    assert "Odd \\ud800" in open_page(tmp_path / "odd.html").text


def write_run(
    run_dir: Path,
    *,
    groups: int = 2,
    copies: int = 1,
    has_summary: bool = True,
    stages: list[str] = FLOW,
    final: int = 17,
) -> Path:
    """A run folder as the notebooks leave it, with a repeated URL of every hostile kind."""
    for folder in ("stages", "reports", "thumbnails"):
        (run_dir / folder).mkdir(parents=True)
    for stage in stages:
        record = {
            "stage": stage,
            "settings": {"run_dir": HOSTILE_TEXT, "top_k": 1000, "end": None, "overwrite": False},
            "counts": {"rows": 36, "unique_rows": 30},
            "files": {"output_csv": str(run_dir / f"{stage}.csv")},
        }
        (run_dir / "stages" / f"{stage}.json").write_text(json.dumps(record))
        (run_dir / f"{stage}.csv").write_text("url\n")
        (run_dir / "reports" / f"{stage}.html").write_text("<!DOCTYPE html>")
    if not has_summary:
        return run_dir
    rows = [
        {
            "url": f"https://example.com/{group}/{copy}.mp4?a=1&b=<b>",
            "duplicate_of": f"https://example.com/{group}/kept.mp4",
            "similarity": f"{0.99 - copy / 100:.4f}",
            "group": str(group + 1),
        }
        for group in range(groups)
        for copy in range(copies)
    ]
    if rows:
        rows[0]["url"] = SCRIPT_URL
        kept_path = thumbnail_path(rows[0]["duplicate_of"], thumbnails_dir=run_dir / "thumbnails")
        plt.imsave(kept_path, np.zeros((8, 8, 3), dtype=np.uint8))
    columns = ["url", "duplicate_of", "similarity", "group"]
    pd.DataFrame(rows, columns=columns).to_csv(run_dir / "duplicates.csv", index=False)
    pd.DataFrame(
        [
            {"url": f"https://example.com/{n}", "status": "http_error", "reason": HOSTILE_TEXT, "retryable": "True"}
            for n in range(2)
        ]
    ).to_csv(run_dir / "failed_urls.csv", index=False)
    pd.DataFrame([{"url": SCRIPT_URL, "status": "invalid_url", "reason": "no web address"}]).to_csv(
        run_dir / "invalid_urls.csv", index=False
    )
    (run_dir / "FINAL_RESULT.csv").write_text("url\n")
    duplicates = len(rows)
    summary: dict[str, Any] = {
        "version": "0.1.0",
        "list": f"links {HOSTILE_TEXT}.csv",
        "flow": FLOW,
        "rows": {
            "input": 26 + duplicates,
            "final": final,
            "text_duplicates": 6,
            "duplicates": duplicates,
            "invalid": 1,
            "failed": 2,
        },
        "statuses": {"ok": 17 + duplicates, "http_error": 2, "invalid_url": 1},
        "featureless": 0,
        "decision": {"threshold": 0.9, "encoder": "clip", "groups": groups, "searched_deeper": 0},
        "files": {"FINAL_RESULT": "FINAL_RESULT.csv", "duplicates": "duplicates.csv", "gone": "gone.csv"},
    }
    (run_dir / "summary.json").write_text(json.dumps(summary))
    return run_dir


def test_overview_of_a_complete_run(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "my list")
    index_path = report.write_index(run_dir)
    assert index_path == run_dir / "reports" / "index.html"
    page = open_page(index_path)
    assert "28 rows in, 17 videos kept" in page.text
    assert "2 copies of kept videos" in page.text
    assert "1 row that is no video" in page.text
    assert "every row is accounted for" in page.text
    assert "2 copies in 2 groups" in page.text
    assert "Only the" not in page.text
    assert page.text.count(HOSTILE_TEXT) >= 1 + 1 + len(FLOW)
    links = page.links()
    assert {"../FINAL_RESULT.csv", "../duplicates.csv", "06_search_and_clean.html", "01_decode.html"} <= set(links)
    assert not any("gone.csv" in href or "javascript" in href for href in links)
    assert SCRIPT_URL in page.text
    for href in links:
        if not href.startswith("http"):
            assert (index_path.parent / href).exists(), href
    pictures = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(pictures) == 1
    assert page.text.count("no picture") == 3


def test_overview_is_the_same_every_time(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "run", groups=5, copies=3)
    first = report.write_index(run_dir).read_bytes()
    assert report.write_index(run_dir).read_bytes() == first


def test_overview_says_when_rows_do_not_add_up(tmp_path: Path) -> None:
    page = open_page(report.write_index(write_run(tmp_path / "run", final=16)))
    assert "some rows are unaccounted for" in page.text
    assert "do not add up" in page.text
    assert "every row is accounted for" not in page.text


def test_overview_of_a_run_that_stopped_early(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "run", has_summary=False, stages=FLOW[:2])
    (run_dir / "reports" / "03_extract.html").write_text("<!DOCTYPE html>")
    page = open_page(report.write_index(run_dir))
    assert "has not reached its end" in page.text
    assert "Finished: 01_decode and 02_dedupe_urls" in page.text
    assert "Stopped in 03_extract" in page.text
    assert "unique rows: 30" in page.text
    assert "03_extract.html" in page.links()


def test_overview_of_an_empty_run_folder(tmp_path: Path) -> None:
    assert "No notebook has finished yet." in open_page(report.write_index(tmp_path / "new")).text


def test_overview_without_duplicates(tmp_path: Path) -> None:
    page = open_page(report.write_index(write_run(tmp_path / "run", groups=0, final=17)))
    assert "No video has a copy in the list" in page.text
    assert "26 rows in, 17 videos kept" in page.text


def test_overview_says_what_it_leaves_out(tmp_path: Path) -> None:
    page = open_page(report.write_index(write_run(tmp_path / "run", groups=60, copies=3), most_copies=2))
    assert "Only the 50 largest groups are shown here; the CSV of duplicates lists all 60." in page.text
    assert page.text.count("and 1 more copy") == 50
    assert len([1 for tag, attrs in page.tags if attrs.get("scope") == "rowgroup"]) == 50


def test_groups_come_largest_first_and_copies_nearest_first(tmp_path: Path) -> None:
    rows = [("b", "a", 0.91, 1), ("d", "c", 0.92, 2), ("e", "c", 0.99, 2), ("f", "c", 0.95, 2)]
    copies = pd.DataFrame(rows, columns=["url", "duplicate_of", "similarity", "group"]).astype(str)
    tables = report.group_tables(copies, thumbnails_dir=tmp_path, most_groups=9, most_copies=2)
    assert [(table["number"], table["size"], table["hidden"]) for table in tables] == [(2, 4, 1), (1, 2, 0)]
    assert [copy["url"] for copy in tables[0]["copies"]] == ["e", "f"]


EVIDENCE = [
    ({"verdict": "duplicate", "rule": "cosine"}, "cosine"),
    (
        {"verdict": "duplicate", "rule": "pictures agree", "frames_agreeing": "19", "frames_compared": "20"},
        "pictures agree, 19 of 20",
    ),
    (
        {
            "verdict": "excerpt",
            "rule": "pictures agree",
            "frames_agreeing": "8",
            "frames_compared": "8",
            "offset_s": "-12.26",
        },
        "excerpt: pictures agree, 8 of 8, 12.3 s earlier",
    ),
    (
        {
            "verdict": "duplicate",
            "rule": "pictures agree when laid on one another",
            "offset_s": "3.0",
            "frames_agreeing": "4",
            "frames_compared": "9",
        },
        "pictures agree when laid on one another, 4 of 9, 3.0 s later",
    ),
    ({"verdict": "duplicate", "rule": "pictures agree", "offset_s": "0.02"}, "pictures agree"),
    (
        {"verdict": "duplicate", "rule": "a person's decision", "frames_agreeing": "1", "frames_compared": "9"},
        "a person's decision",
    ),
    ({"rule": HOSTILE_TEXT}, HOSTILE_TEXT),
    ({}, ""),
]


@pytest.mark.parametrize(("row", "words"), EVIDENCE)
def test_what_speaks_for_a_copy_is_one_line(row: dict[str, str], words: str) -> None:
    assert report.describe_copy(row) == words


def test_the_overview_says_what_speaks_for_a_copy(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "run", copies=len(EVIDENCE))
    copies = pd.read_csv(run_dir / "duplicates.csv", dtype=str)
    evidence = pd.DataFrame([row for row, _ in EVIDENCE] * 2).fillna("")
    pd.concat([copies, evidence], axis=1).to_csv(run_dir / "duplicates.csv", index=False)
    page = open_page(report.write_index(run_dir))
    for _, words in EVIDENCE:
        assert page.text.count(words) >= 2


def test_copies_that_were_never_compared_come_last_and_have_no_number(tmp_path: Path) -> None:
    rows = [("b", "a", "", "1"), ("c", "a", "0.5", "1"), ("d", "a", "", "1"), ("e", "a", "0.9", "1")]
    copies = pd.DataFrame(rows, columns=["url", "duplicate_of", "similarity", "group"])
    (table,) = report.group_tables(copies, thumbnails_dir=tmp_path, most_groups=9, most_copies=9)
    shown: Any = table["copies"]
    assert [(copy["url"], copy["similarity"]) for copy in shown] == [
        *(("e", "0.9000"), ("c", "0.5000"), ("b", "–"), ("d", "–"))
    ]


def test_overview_says_how_many_reasons_it_leaves_out(tmp_path: Path) -> None:
    page = open_page(report.write_index(write_run(tmp_path / "run"), most_reasons=1))
    assert "and 1 more reason" in page.text
    assert "no web address" not in page.text


@pytest.mark.parametrize("url", [SCRIPT_URL, " https://a.b", "data:text/html,x", "//evil.example", "", "HTTPX://a"])
def test_only_web_addresses_become_links(url: str) -> None:
    assert not report.is_web_url(url)
    assert report.is_web_url("HTTPS://example.com")


def test_every_status_is_explained() -> None:
    assert set(report.STATUS_WORDS) == set(report.Status)

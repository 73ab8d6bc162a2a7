from __future__ import annotations

import base64
import io
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from pages import Page, open_page

from dedup_lib.report import notebook_pages, pages

HOSTILE_TEXT = "<script>alert(1)</script><img src=https://evil.example/x.png onerror=alert(1)>"
SCRIPT_URL = "javascript:alert(document.domain)"


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
                new_output("stream", name="stdout", text="\r 10% PROGRESS\r100% PROGRESS\nsaid besides\n"),
                new_output("stream", name="stdout", text="\r 20% PROGRESS\n\n"),
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
                new_output(
                    "display_data", data={notebook_pages.WIDGET_VIEW: {"model_id": "abc"}, "text/plain": "VBox()"}
                ),
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
    notebook_pages.render_notebook(executed_path, html_path, title=f"Search {HOSTILE_TEXT}")
    assert [path.name for path in html_path.parent.iterdir()] == ["06.html"], "no scratch file stays"
    return open_page(html_path)


def test_page_hides_code_prompts_progress_and_widget_state(rendered: Page) -> None:
    everything = rendered.text + str(rendered.tags)
    for hidden in ("hidden_code", "explorer", "PROGRESS", "WIDGETSTATE", "VBox", "evil.example')", "Out[", "In [", "¶"):
        assert hidden not in everything
    assert "PLAINTEXT" not in everything
    assert rendered.text.count("it opens in JupyterLab") == 1
    assert "said besides" in rendered.text, "what is printed beside a bar stays"
    boxes = [attrs for _, attrs in rendered.tags if "output_stdout" in (attrs.get("class") or "")]
    assert len(boxes) == 2, "a bar leaves no empty box"


def test_page_shows_hostile_text_as_text(rendered: Page) -> None:
    assert rendered.text.count(HOSTILE_TEXT) == 5  # title, parameter, printed, table, traceback
    assert [attrs["src"][:22] for tag, attrs in rendered.tags if tag == "img"] == ["data:image/png;base64,"]


def test_page_shows_parameters_with_what_was_set(rendered: Page) -> None:
    said = " ".join(rendered.text.split())
    assert "Parameters: 1 of 2 set by this run" in said
    assert "folder of this run" in said
    assert "outputs/demo" not in said, "the injected value takes the place of the default"
    assert "top_k100defaultneighbours" in "".join(said.split())


def test_page_keeps_the_traceback_readable(rendered: Page) -> None:
    assert "Traceback of cell" in rendered.text
    assert "\x1b" not in rendered.text
    assert "36 rows" in rendered.text


def test_pages_lead_to_those_that_are_there(tmp_path: Path) -> None:
    source = "# One\n\n[start](00_start.ipynb), [two](02_two.ipynb), [three](./03_three.ipynb#top), [web](https://a.b/x.ipynb)"
    path, folder = tmp_path / "one.ipynb", tmp_path / "reports"
    nbformat.write(new_notebook(cells=[new_markdown_cell(source)]), path)
    notebook_pages.render_notebook(path, folder / "01_one.html", title="One")
    (folder / "index.html").write_text("<!DOCTYPE html>")
    back, start, web = "index.html", "index.html", "https://a.b/x.ipynb"

    def links() -> list[str]:
        pages.link_pages(folder)
        return [attrs["href"] for tag, attrs in Page(folder / "01_one.html").tags if tag == "a" and "href" in attrs]

    assert links() == [back, start, web]
    (folder / "03_three.html").write_text("<!DOCTYPE html>")
    assert links() == [back, start, "03_three.html#top", web]
    assert links() == [back, start, "03_three.html#top", web]
    (folder / "03_three.html").unlink()
    assert links() == [back, start, web]
    assert "three" in Page(folder / "01_one.html").text


def test_picture_is_described_by_its_heading(rendered: Page) -> None:
    assert [attrs["alt"] for tag, attrs in rendered.tags if tag == "img"] == ["Picture under “How alike?”"]


def test_lone_surrogates_do_not_stop_a_page(tmp_path: Path) -> None:
    notebook = new_notebook(cells=[new_markdown_cell("# Odd \\ud800")])
    path = tmp_path / "odd.ipynb"
    path.write_text(nbformat.writes(notebook).replace("\\\\ud800", "\\ud800"), encoding="utf-8")
    notebook_pages.render_notebook(path, tmp_path / "odd.html", title="Odd")
    assert "Odd \\ud800" in open_page(tmp_path / "odd.html").text


@pytest.mark.parametrize("url", [SCRIPT_URL, " https://a.b", "data:text/html,x", "//evil.example", "", "HTTPX://a"])
def test_only_web_addresses_become_links(url: str) -> None:
    assert not pages.is_web_url(url)
    assert pages.is_web_url("HTTPS://example.com")

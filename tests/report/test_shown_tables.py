"""Tables in notebooks."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pandas as pd

from dedup_lib.report.tables import describe_record, shown_table


def test_a_table_is_shown_without_what_must_not_be() -> None:
    frame = pd.DataFrame({"url\x1b": ["https://user:secret@h/a", "\x1b[2J"], "n": [1, 2]})
    assert [list(shown_table(frame).columns), *shown_table(frame).to_numpy().tolist()] == [
        ["url\\x1b", "n"],
        ["https://h/a", 1],
        ["\\x1b[2J", 2],
    ]
    assert frame["url\x1b"][0] == "https://user:secret@h/a"
    assert list(shown_table(pd.DataFrame({"a": []})).columns) == ["a"]


def test_a_shown_table_can_be_scrolled_by_a_keyboard_and_has_a_name() -> None:
    html = str(shown_table(pd.DataFrame({'u"<': ["1"], "n": ["<b>"]}))._repr_html_())
    assert 'role="region" aria-label="Table of u&quot;&lt;, n: 1 row" tabindex="0"' in html
    assert "<b>" not in html
    assert ": 0 rows" in str(shown_table(pd.DataFrame({"a": []}))._repr_html_())
    assert "<th" in html and "<th>" not in html and re.search(r'<td style="text-align: left[^"]*">1</td>', html)
    url = f"https://cdn.example.com/{'folder/' * 20}film.mp4"
    assert f">{url}</td>" in str(shown_table(pd.DataFrame({"url": [url]}))._repr_html_())


def test_urls_and_long_texts_are_broken_over_lines_and_ids_are_not() -> None:
    encoded = "https%3A%2F%2Fcdn.example.com%2Fspots%2Ffilm.mp4"
    cells = {"url": ["https://h/a.mp4"], "before": [encoded], "id": ["TVC 0001/3"], "reason": ["a word, " * 8 + "end"]}
    html = str(shown_table(pd.DataFrame(cells))._repr_html_())
    for broken in ("https://h/a.mp4", encoded, "a word, " * 8 + "end"):
        assert f'overflow-wrap: anywhere">{broken}<' in html
    assert re.search(r"white-space: nowrap\">TVC 0001/3<", html)


def test_a_cell_with_a_url_shows_its_picture() -> None:
    frame = pd.DataFrame(
        {"url": ["https://u:p@h/a.mp4?x=1&y=2", "https://h/<b>"], "duplicate_of": ["https://h/<b>", "-"]}
    )
    pictures = {
        "https://u:p@h/a.mp4?x=1&y=2": "data:image/webp;base64,AA",
        "https://h/<b>": "data:image/webp;base64,BB",
    }
    html = str(shown_table(frame, pictures=pictures)._repr_html_())
    assert html.count("base64,AA") == 1 and html.count("base64,BB") == 2
    assert "u:p@" not in html and "<b>" not in html
    assert "<img" not in str(shown_table(frame, pictures={"https://h/<b>": ""})._repr_html_())


def test_a_record_is_a_row_for_each_field() -> None:
    @dataclass(frozen=True)
    class Inner:
        name: str = "a"

    @dataclass(frozen=True)
    class Outer:
        inner: Inner
        unknown: None = None
        count: int = 3

    shown = describe_record(Outer(Inner()))
    assert dict(zip(shown.index, shown["value"], strict=True)) == {"inner.name": "a", "count": "3"}

"""Charts of the overview: numbers to places."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup_lib.report import charts
from dedup_lib.report.words import flow_steps

ROWS = {"input": 36, "text_duplicates": 6, "invalid": 3, "failed": 0, "duplicates": 8, "final": 19}


@given(low=st.floats(-1e6, 1e6), span=st.floats(1e-3, 1e7))
def test_ticks_are_few_and_inside(low: float, span: float) -> None:
    ticks = charts.round_values(low, low + span)
    assert 1 <= len(ticks) <= 8
    assert all(low - 1e-6 * span - 1e-6 <= tick <= low + span + 1e-6 * span + 1e-6 for tick in ticks)


@pytest.mark.parametrize(("value", "shown"), [(0.25, "0.25"), (1500.0, "1,500"), (2e6, "2 M"), (0.0, "0")])
def test_ticks_as_people_read_them(value: float, shown: str) -> None:
    assert charts.show_number(value) == shown


def test_a_histogram_turns_logarithmic_where_one_bar_dwarfs_the_others() -> None:
    edges = [0.0, 0.5, 0.9, 1.0]
    options = {"name": "a", "title": "A", "noun": "pairs", "x_label": "similarity", "mark": 0.5}
    even = charts.draw_histogram(edges, [3, 0, 4], **options)  # type: ignore[arg-type] # by name
    tall = charts.draw_histogram(edges, [9000, 0, 4], **options)  # type: ignore[arg-type] # by name
    assert (even.y.is_log, tall.y.is_log, tall.y_label) == (False, True, "pairs, log scale")
    assert [bar.height > 5 for bar in tall.bars] == [True, False, True]
    assert tall.mark_x == tall.x.at(0.5)
    assert [bar.words for bar in even.bars] == ["0 to 0.5: 3", "0.5 to 0.9: 0", "0.9 to 1: 4"]
    nothing = charts.draw_histogram(edges, [0, 0, 0], **options)  # type: ignore[arg-type] # by name
    assert not any(bar.height for bar in nothing.bars)


@pytest.mark.parametrize("is_upright", [False, True])
def test_the_flow_labels_every_loss(is_upright: bool) -> None:
    flow = charts.draw_flow(flow_steps(ROWS), is_upright=is_upright)
    assert [label.count for label in flow.labels] == ["−6", "−3", "0", "−8", "36", "19"]
    assert [band.meaning for band in flow.bands if band.meaning != "stream"] == [
        *("neutral", "repeated", "invalid", "duplicate", "kept")
    ]
    for label in flow.labels:
        assert 0 <= label.x <= flow.width and 0 <= label.y <= flow.height


def test_a_flow_of_nothing_and_of_rows_that_do_not_add_up() -> None:
    empty = dict.fromkeys(ROWS, 0)
    assert [band.path for band in charts.draw_flow(flow_steps(empty), is_upright=False).bands]
    for final in (10, 25):
        labels = charts.draw_flow(flow_steps(ROWS | {"final": final}), is_upright=True).labels
        assert "unaccounted for" in {label.words for label in labels}


@pytest.mark.parametrize("most", [1, 2, 3, 7])
def test_counts_are_marked_at_whole_numbers(most: int) -> None:
    drawn = charts.draw_histogram(
        [0, 1, 2], [most, most], name="sizes", title="Sizes", noun="groups", x_label="videos", mark=None
    )
    labels = [label for _, label in drawn.y.ticks()]
    assert {"0", "1", "2"} & set(labels) and not any("." in label for label in labels)

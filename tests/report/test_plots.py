from __future__ import annotations

import base64
import io
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from IPython.core.interactiveshell import InteractiveShell
from IPython.display import display
from IPython.utils.capture import capture_output
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from storyboards import save_storyboard

from dedup_lib.evaluate.metrics import CurvePoint, VariantScore
from dedup_lib.match.evidence import Verdict
from dedup_lib.records import Group, Pair, Status, SweepPoint
from dedup_lib.report import figures, plots, style
from dedup_lib.report import words as report_words
from dedup_lib.run.folder import thumbnail_path

HOSTILE = "https://example.com/$\\frac{$_^{/例え\n\x00\ud800?a=$1$"
ROWS = {"input": 36, "text_duplicates": 6, "invalid": 3, "failed": 2, "duplicates": 8, "final": 17}
POINTS = [
    SweepPoint(threshold=0.8 + step / 50, kept=20 + step, duplicates=10 - step, groups=4, largest_group=5)
    for step in range(10)
]
SAMPLES = pd.DataFrame({"time_s": [0.0, 1.0, 2.0], "memory_mib": [80.0, 90.0, 85.0], "cpu_percent": [10.0, 200.0, 5.0]})

CURVE = [
    CurvePoint(threshold=0.5, precision=0.9, recall=0.8, mean_group_recall=0.7),
    CurvePoint(threshold=0.9, precision=None, recall=0.0, mean_group_recall=None),
]
RECALLS = [VariantScore(name="grey", clips=4, found=3, similarities=(0.9, None, 0.8, 0.9))]


def draw(figure: Figure) -> None:
    figure.savefig(io.BytesIO(), format="png")


def texts(figure: Figure) -> str:
    draw(figure)
    return "\n".join(text.get_text() for text in figure.findobj(Text) if isinstance(text, Text) and text.get_visible())


@pytest.fixture
def urls(tmp_path: Path) -> list[str]:
    urls = [f"https://example.com/{name}.mp4" for name in "abcdef"]
    for url in urls[:4]:
        save_storyboard(url, thumbnails_dir=tmp_path)
    thumbnail_path(urls[4], thumbnails_dir=tmp_path).write_bytes(b"no picture at all")
    return urls


PAIRS = pd.DataFrame(
    {"cosine": [0.1, 0.9], "term_coverage": [0.2, 1.0], "score": [0.0, 1.0], "verdict": ["different", "duplicate"]}
)
VERDICTS = {"different": np.array([0.0, 0.4]), "duplicate": np.array([0.95])}

FIGURES = {
    "similarities": lambda: plots.figure_similarities(np.array([0.5, 0.95]), VERDICTS, threshold=0.9, measure="score"),
    "sweep": lambda: plots.figure_sweep(POINTS, threshold=0.9),
    "sweep with decisions": lambda: plots.figure_sweep(
        POINTS, threshold=0.9, same=np.linspace(0.5, 1, 16), different=np.linspace(0, 0.7, 4)
    ),
    "statuses": lambda: plots.figure_statuses({Status.OK: 5, Status.TIMEOUT: 1}),
    "flow": lambda: plots.figure_flow(ROWS),
    "throughput": lambda: plots.figure_throughput([3.0, 1.0, 2.0]),
    "resources": lambda: plots.figure_resources(SAMPLES),
    "measured": lambda: plots.figure_measured(PAIRS, measure="score"),
    "curves": lambda: plots.figure_curves({"a": CURVE, "b": CURVE}, thresholds={"a": 0.5, "b": 0.9}),
    "recalls": lambda: plots.figure_recalls(RECALLS, words={}, threshold=0.9),
    "likeness": lambda: plots.figure_likeness(np.array([0.9, np.nan]), np.array([0.2]), threshold=0.8),
}
EMPTY_FIGURES = {
    "similarities": (
        lambda: plots.figure_similarities(np.array([]), {}, threshold=0.9, measure="cosine"),
        "No pair was compared.",
    ),
    "sweep": (lambda: plots.figure_sweep([], threshold=0.9), "No thresholds"),
    "statuses": (lambda: plots.figure_statuses({Status.OK: 0}), "No URLs"),
    "flow": (lambda: plots.figure_flow(dict.fromkeys(ROWS, 0)), "no rows"),
    "throughput": (lambda: plots.figure_throughput([]), "No video was read"),
    "resources": (lambda: plots.figure_resources(SAMPLES.iloc[:0]), "No samples"),
    "pairs": (
        lambda: plots.figure_pairs([], urls=[], thumbnails_dir=Path(), threshold=0.9, title="Above"),
        "No such pairs",
    ),
    "groups": (lambda: plots.figure_groups([], urls=[], thumbnails_dir=Path(), nothing="No copies."), "No copies."),
    "measured": (lambda: plots.figure_measured(PAIRS.iloc[:0], measure="score"), "No pair was compared"),
    "measured by cosine alone": (lambda: plots.figure_measured(PAIRS, measure="cosine"), "The cosine alone decides"),
    "curves": (lambda: plots.figure_curves({}, thresholds={}), "No settings"),
    "recalls": (lambda: plots.figure_recalls([], words={}, threshold=0.9), "No variants"),
    "likeness": (lambda: plots.figure_likeness(np.array([np.nan]), np.array([]), threshold=0.9), "No two videos"),
    "mistakes": (
        lambda: plots.figure_mistakes([], [], urls=[], captions=[], thumbnails_dir=Path(), title="Mistakes"),
        "No pair is wrong",
    ),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figure_is_closed_and_leaves_the_style_alone(name: str) -> None:
    before = mpl.rcParams.copy()
    figure = FIGURES[name]()
    assert plt.get_fignums() == []
    assert mpl.rcParams == before
    draw(figure)
    for ax in figure.axes:
        assert ax.get_title(loc="left")
        assert ax.get_xlabel()


@pytest.mark.parametrize("name", EMPTY_FIGURES)
def test_empty_data_is_said_in_words(name: str) -> None:
    make, words = EMPTY_FIGURES[name]
    assert words in texts(make())
    assert plt.get_fignums() == []


@given(values=st.lists(st.floats(-1, 1, width=32) | st.just(float("nan")), max_size=40), threshold=st.floats(-1, 1))
def test_histogram_edges_lose_no_value_and_part_at_the_threshold(values: list[float], threshold: float) -> None:
    finite = np.array([value for value in values if value == value], dtype=np.float64)
    if not len(finite):
        return
    edges = figures.histogram_edges(finite, threshold=threshold)
    assert threshold in edges
    assert np.all(np.diff(edges) > 0)
    counts, _ = np.histogram(finite, bins=edges)
    assert counts.sum() == len(finite)
    assert counts[edges[:-1] >= threshold].sum() == np.sum(finite >= threshold)


def test_similarities_tell_matches_apart_and_count_videos_without_a_neighbour() -> None:
    figure = plots.figure_similarities(
        np.array([0.2, 0.9, 0.95, np.nan, -np.inf]), VERDICTS, threshold=0.9, measure="score"
    )
    said = texts(figure)
    assert "match: 2" in said
    assert "below: 1" in said
    assert "2 videos without one" in said
    assert "different: 2" in said
    assert "how surely the two are the same" in said
    assert said.count("threshold 0.9") == 2


def test_log_scale_only_where_a_bar_dwarfs() -> None:
    many = np.concatenate([np.full(5000, 0.3), [0.95]])
    tall, pairs = plots.figure_similarities(many, VERDICTS, threshold=0.9, measure="cosine").axes
    assert tall.get_yscale() == "log"
    assert "log scale" in tall.get_ylabel()
    assert pairs.get_yscale() == "log" and "log scale" in pairs.get_ylabel()
    even, _ = plots.figure_similarities(np.array([0.3, 0.95]), VERDICTS, threshold=0.9, measure="cosine").axes
    assert even.get_yscale() == "linear"


def test_sweep_draws_every_field_of_the_points() -> None:
    figure = plots.figure_sweep(POINTS, threshold=0.9)
    drawn = [list(line.get_ydata()) for ax in figure.axes for line in ax.lines if len(line.get_ydata()) == len(POINTS)]
    assert drawn == [[getattr(p, name) for p in POINTS] for name in ("kept", "duplicates", "groups", "largest_group")]


def test_statuses_show_counts_in_the_colour_of_their_meaning() -> None:
    figure = plots.figure_statuses(
        {Status.OK: 1200, Status.HTML: 3, Status.TIMEOUT: 2, Status.PENDING: 1, Status.IMAGE: 0}
    )
    said = texts(figure)
    assert "1,200" in said
    assert "image" not in said
    colours = {mpl.colors.to_hex(patch.get_facecolor()).upper() for patch in figure.axes[0].patches}
    assert colours == {style.COLOURS[meaning] for meaning in ("kept", "invalid", "failed", "neutral")}


def test_flow_leads_from_the_rows_in_to_the_rows_kept() -> None:
    steps = report_words.flow_steps(ROWS)
    assert [step.name for step in steps] == list(ROWS)
    assert [step.count for step in steps] == list(ROWS.values())
    losses = [step for step in steps if step.is_loss]
    assert [step.high for step in losses] == [36, 30, 27, 25]
    assert losses[-1].low == steps[-1].high == 17
    said = texts(plots.figure_flow(ROWS))
    for words in ("36", "−6", "−3", "−2", "−8", "17", "copies of kept videos"):
        assert words in said


@pytest.mark.parametrize(("final", "count"), [(16, 1), (19, 2)])
def test_flow_shows_rows_that_are_unaccounted_for(final: int, count: int) -> None:
    steps = report_words.flow_steps(ROWS | {"final": final})
    assert [(step.name, step.count) for step in steps if step.name == "unaccounted"] == [("unaccounted", count)]
    assert "unaccounted for" in texts(plots.figure_flow(ROWS | {"final": final}))


def test_throughput_counts_every_video_in_any_order() -> None:
    total, rate = plots.figure_throughput([4.0, 1.0, 2.0, 2.0]).axes
    assert total.lines[0].get_ydata().max() == 4
    assert "4 videos in 4.0 s" in total.get_title(loc="left")
    assert "1.00 videos per second" in rate.get_title(loc="left")


def test_pairs_show_both_strips_and_the_verdict(urls: list[str], tmp_path: Path) -> None:
    pairs = [Pair(first=0, second=1, similarity=0.9), Pair(first=2, second=4, similarity=0.89996)]
    figure = plots.figure_pairs(pairs, urls=urls, thumbnails_dir=tmp_path, threshold=0.9, title="Near $it$")
    said = texts(figure)
    assert "0.9000\nmatch" in said
    assert "0.9000\nno match" in said
    assert "Near $it$" in said
    assert said.count("no picture") == 1, "a damaged thumbnail is a grey box"
    assert sum(len(ax.images) for ax in figure.axes) == 3


def test_wide_strips_are_stacked(urls: list[str], tmp_path: Path) -> None:
    save_storyboard(urls[0], thumbnails_dir=tmp_path, frames=8)
    pair = [Pair(first=0, second=1, similarity=0.9)]
    figure = plots.figure_pairs(pair, urls=urls, thumbnails_dir=tmp_path, threshold=0.9, title="")
    draw(figure)
    upper, lower = figure.axes
    assert upper.get_position().y0 > lower.get_position().y1


def test_text_from_outside_is_neither_math_nor_a_missing_glyph(tmp_path: Path) -> None:
    pair = [Pair(first=0, second=1, similarity=0.5)]
    figure = plots.figure_pairs(
        pair, urls=[HOSTILE, "https://a.b/$\\frac{$"], thumbnails_dir=tmp_path, threshold=0.9, title=HOSTILE
    )
    said = texts(figure)
    assert "$\\frac{$" in said
    assert "\x00" not in said


def test_groups_show_the_largest_first_with_the_kept_video_in_front(urls: list[str], tmp_path: Path) -> None:
    groups = [
        Group(number=1, kept=0, copies=(1,), similarities=(0.95,)),
        Group(number=2, kept=2, copies=(1, 3, 4, 5), similarities=(0.91, 0.92, 0.99, 0.93)),
    ]
    figure = plots.figure_groups(groups, urls=urls, thumbnails_dir=tmp_path, nothing="", most=1)
    captions = [ax.get_title(loc="left") for ax in figure.axes]
    assert captions == [f"example.com/{name}.mp4" for name in "cefd"]
    said = texts(figure)
    assert "1 largest of 2" in said
    assert "group 2\n5 videos\n1 not shown" in said


def test_copies_that_were_never_compared_come_last_in_their_group(urls: list[str], tmp_path: Path) -> None:
    nan = float("nan")
    group = Group(number=1, kept=0, copies=(1, 2, 3, 4), similarities=(nan, 0.4, float("nan"), 0.9))
    figure = plots.figure_groups([group], urls=urls, thumbnails_dir=tmp_path, nothing="")
    captions = [ax.get_title(loc="left") for ax in figure.axes if ax.axison]
    assert captions == [f"example.com/{name}.mp4" for name in "aecb"]


@given(text=st.text(max_size=80), most=st.integers(1, 60))
def test_shortening_keeps_both_ends_and_the_limit(text: str, most: int) -> None:
    short = report_words.shorten_middle(text, most=most)
    assert len(short) <= most or len(text) <= most
    assert (short == text) == (len(text) <= most or text == short)
    if len(text) > most >= 3:
        assert (short[0], short[-1]) == (text[0], text[-1])


def test_a_caption_shows_no_password_even_where_it_is_cut() -> None:
    secret = "s" * 60
    for most in (10, 30, 200):
        assert "sss" not in report_words.short_url(f"https://user:{secret}@host/{'a' * 100}.mp4", most=most)


def test_every_verdict_has_a_colour() -> None:
    assert {style.COLOURS[report_words.VERDICT_MEANINGS[verdict]] for verdict in Verdict} <= set(style.COLOURS.values())


def test_every_status_has_a_colour() -> None:
    assert {report_words.status_meaning(status) for status in Status} <= set(style.COLOURS)


def test_labelled_pairs_are_found_missed_wrong_or_told_apart() -> None:
    said = texts(
        plots.figure_likeness(np.array([0.9, 0.85, 0.3, np.nan]), np.array([0.95, 0.2, np.nan, np.nan]), threshold=0.85)
    )
    assert "found: 2" in said
    assert "missed: 2, 1 of them further left" in said
    assert "wrong: 1" in said
    assert "told apart: 3, 2 of them further left" in said
    assert said.count("threshold 0.85") == 2


def test_recalls_are_counted_and_said_in_words() -> None:
    said = texts(plots.figure_recalls(RECALLS, words={"grey": "without colours"}, threshold=0.9))
    assert "3 of 4" in said
    assert "without colours" in said


def test_mistakes_have_captions_and_a_limit(urls: list[str], tmp_path: Path) -> None:
    captions = [f"clip {number} $\\frac{HOSTILE}" for number in range(len(urls))]
    figure = plots.figure_mistakes(
        [((0, 1), 0.91234), ((0, 2), 0.9)],
        [((2, 3), None), ((2, 4), None)],
        urls=urls,
        captions=captions,
        thumbnails_dir=tmp_path,
        title="Mistakes",
        most=1,
    )
    said = texts(figure)
    assert "wrong\n0.9123" in said
    assert "missed\nnot alike" in said
    assert all(f"clip {number}" in said for number in (0, 1, 2, 3))
    assert "clip 4" not in said and "example.com/a" not in said


# For those who do not see it, and in a page


def test_a_figure_is_told_in_words(urls: list[str], tmp_path: Path) -> None:
    assert figures.describe_figure(plots.figure_flow(ROWS)) == (
        "Where every row went: rows; rows in the list 36; repeated URLs −6; not videos −3; could not be read −2; "
        "copies of kept videos −8; videos kept 17"
    )
    said = figures.describe_figure(FIGURES["similarities"]())
    assert said.startswith(
        "Each video's nearest neighbour: videos over score: how surely the two are the same; threshold 0.9; "
        "below: 1; match: 1."
    )
    assert "\n" not in said
    groups = [Group(number=1, kept=0, copies=(1,), similarities=(0.9,))]
    said = figures.describe_figure(plots.figure_groups(groups, urls=urls, thumbnails_dir=tmp_path, nothing=""))
    assert said.endswith("in green. group 1, 2 videos: example.com/a.mp4. example.com/b.mp4")


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_has_words(name: str) -> None:
    assert len(figures.describe_figure(FIGURES[name]())) > 20


def test_frames_are_packed_as_jpeg_and_charts_as_png(urls: list[str], tmp_path: Path) -> None:
    pairs = [Pair(first=0, second=1, similarity=0.95)]
    frames = plots.figure_pairs(pairs, urls=urls, thumbnails_dir=tmp_path, threshold=0.9, title='"<b>')
    for figure, form in ((frames, "jpeg"), (plots.figure_flow(ROWS), "png")):
        image = figures.draw_image(figure)
        html = image.as_html('"<b>')
        assert f'<img src="data:image/{form};base64,' in html
        assert 'alt="&quot;&lt;b&gt;"' in html
        assert len(html) < 60_000


def test_a_notebook_holds_the_image_by_itself_too() -> None:
    """For exports and previews that read no HTML."""
    InteractiveShell.instance()
    with capture_output() as shown:
        display(plots.figure_flow(ROWS))
    (output,) = shown.outputs
    assert set(output.data) == {"text/html", "image/png", "text/plain"}
    with Image.open(io.BytesIO(base64.b64decode(output.data["image/png"]))) as picture:
        assert picture.width > 400
    assert output.data["image/png"] in output.data["text/html"]


@pytest.mark.parametrize(("same", "different", "has_rates"), [(19, 0, False), (16, 4, True), (0, 20, False)])
def test_decisions_are_marked_and_from_twenty_on_rated(same: int, different: int, has_rates: bool) -> None:
    figure = plots.figure_sweep(
        POINTS, threshold=0.9, same=np.linspace(0.5, 1, same), different=np.linspace(0, 0.7, different)
    )
    said = texts(figure)
    assert f"the same: {same}" in said and f"different: {different}" in said
    assert ("precision" in said) == ("recall" in said) == has_rates
    if has_rates:
        rates = {str(line.get_label()): np.asarray(line.get_xydata()) for line in figure.axes[-1].lines}
        at_half = {
            name: float(rates[name][np.isclose(rates[name][:, 0], 0.5), 1][0]) for name in ("precision", "recall")
        }
        assert at_half == {"precision": pytest.approx(16 / 17), "recall": 1.0}, (
            "0.7 alone of the different ones is above"
        )


def test_a_chart_keeps_the_colour_of_a_single_point() -> None:
    verdicts = ["different"] * 290 + ["duplicate"] * 9 + ["excerpt"]
    scores = np.linspace(0, 1, len(verdicts))
    table = pd.DataFrame({"cosine": scores, "term_coverage": scores, "score": scores, "verdict": verdicts})
    image = figures.draw_image(plots.figure_measured(table, measure="score"))
    with Image.open(io.BytesIO(base64.b64decode(image.data))) as picture:
        drawn = np.asarray(picture.convert("RGB")).astype(int).reshape(-1, 3)
    pink = np.array(mpl.colors.to_rgb(style.COLOURS["excerpt"])) * 255
    # Points are three quarters opaque.
    assert np.abs(drawn - (0.75 * pink + 0.25 * 255)).max(axis=1).min() < 12

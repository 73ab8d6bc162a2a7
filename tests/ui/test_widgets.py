from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from storyboards import save_storyboard

from dedup_lib.groups.decisions import Decision, DecisionFile, load_decisions
from dedup_lib.groups.sweep import count_scores
from dedup_lib.groups.thresholds import sweep_thresholds
from dedup_lib.records import Pair, SweepPoint
from dedup_lib.run.folder import RunFolder
from dedup_lib.ui.widgets import ReviewQueue, ThresholdExplorer, nearest_index, scores_html

THRESHOLDS = [0.8, 0.85, 0.9, 0.95]
PAIRS = [
    Pair(first=0, second=1, similarity=0.97),
    Pair(first=0, second=2, similarity=0.92),
    Pair(first=2, second=3, similarity=0.83),
]
URLS = ["https://example.com/a.mp4", "javascript:alert(1)", "https://example.com/<b>", "https://example.com/d.mp4"]


def explore(thumbnails_dir: Path, *, urls: list[str] = URLS, threshold: float = 0.91) -> ThresholdExplorer:
    return ThresholdExplorer(
        sweep_thresholds(PAIRS, num_videos=4, thresholds=THRESHOLDS),
        by_verdict={"duplicate": np.array([0.97, 0.92]), "different": np.array([0.83, *[0.01] * 1000])},
        threshold=threshold,
        parameter="min_score",
        measure="score",
        pairs=PAIRS,
        urls=urls,
        thumbnails_dir=thumbnails_dir,
    )


def test_starts_at_the_point_nearest_to_the_decision(tmp_path: Path) -> None:
    explorer = explore(tmp_path)
    assert explorer.slider.value == 0.9
    assert list(explorer.children) == [explorer.slider, explorer.counts, explorer.histogram, explorer.borderline]
    assert ">min_score: 0.9</pre>" in explorer.counts.value


def test_moving_the_slider_updates_everything(tmp_path: Path) -> None:
    explorer = explore(tmp_path)
    points = {point.threshold: point for point in sweep_thresholds(PAIRS, num_videos=4, thresholds=THRESHOLDS)}
    seen = set()
    for threshold in THRESHOLDS:
        explorer.slider.value = threshold
        assert f"<strong>{points[threshold].kept}</strong> of the" in explorer.counts.value
        assert f"min_score: {threshold:g}" in explorer.counts.value
        # The rejected pairs are drawn too, and told in the legend.
        assert "duplicate: 2" in explorer.histogram.value and "different: 1,001" in explorer.histogram.value
        assert "pairs, log scale" in explorer.histogram.value
        assert f">{threshold:.4g}</text>" in explorer.histogram.value
        assert f"the threshold at {threshold:.4f}" in explorer.histogram.value
        seen.add(explorer.histogram.value)
    assert len(seen) == len(THRESHOLDS)


def test_bars_hold_the_pairs_of_their_interval() -> None:
    scores = count_scores({"duplicate": np.array([0.97, 0.979, 1.0]), "review": np.array([0.0, 0.019])})
    html = scores_html(scores, threshold=0.5, measure="score")
    titles = re.findall(r"<title>([^<]+)</title>", html)
    assert titles == ["duplicate, 0.96 to 0.98: 2", "duplicate, 1 to 1.02: 1", "review, 0 to 0.02: 2"]
    assert "duplicate 3; review 2" in html, "for those who do not see it"
    assert count_scores({"different": np.array([-0.31])})["edges"][0] == -0.32
    assert "<rect" not in scores_html(count_scores({}), threshold=0.5, measure="cosine")


def test_borderline_pairs_stand_on_their_side_of_the_threshold(tmp_path: Path) -> None:
    explorer = explore(tmp_path)
    above, below = explorer.borderline.value.split("Just not matching")
    assert above.index("0.9200") < above.index("0.9700")
    assert "0.8300" in below
    explorer.slider.value = 0.8
    assert "None." in explorer.borderline.value.split("Just not matching")[1]


def test_text_from_outside_is_escaped_and_pictures_are_embedded(tmp_path: Path) -> None:
    save_storyboard(URLS[0], thumbnails_dir=tmp_path)
    html = explore(tmp_path).borderline.value
    assert "<b>" not in html
    assert 'href="javascript' not in html
    assert 'src="data:image/webp;base64,' in html
    assert "no picture" in html


def test_widgets_show_neither_credentials_nor_control_characters(tmp_path: Path) -> None:
    urls = ["https://user:secret@h/a", "\x1b[31m\u202e", "HTTPS://token@h/b", "ftp://u:secret@h/"]
    html = explore(tmp_path, urls=urls).borderline.value
    assert not [hidden for hidden in ("secret", "token", "\x1b", "\u202e") if hidden in html]
    assert re.search(r'<a href="https://h/a" rel="noreferrer noopener" [^>]* target="_blank"', html)
    assert "\\x1b[31m\\u202e" in html


def test_an_error_while_moving_surfaces(tmp_path: Path) -> None:
    urls = list(URLS)
    explorer = explore(tmp_path, urls=urls)
    urls.clear()
    with pytest.raises(IndexError):
        explorer.slider.value = 0.8


@pytest.mark.parametrize("points", [[], sweep_thresholds([], num_videos=4, thresholds=THRESHOLDS)])
def test_without_points_or_pairs_it_says_so(tmp_path: Path, points: list[SweepPoint]) -> None:
    explorer = ThresholdExplorer(
        points,
        by_verdict={},
        threshold=0.95,
        parameter="cosine_thresh",
        measure="cosine",
        pairs=[],
        urls=[],
        thumbnails_dir=tmp_path,
    )
    assert explorer.slider.disabled
    assert explorer.slider.value == 0.95
    assert list(explorer.children) == [explorer.counts]
    assert "There is no threshold to try" in explorer.counts.value


@pytest.mark.parametrize(("threshold", "index"), [(-1.0, 0), (0.8, 0), (0.876, 2), (1.0, 3)])
def test_nearest_index(threshold: float, index: int) -> None:
    assert nearest_index(THRESHOLDS, threshold=threshold) == index


# Review


def review(
    folder: Path, *, pairs: Sequence[Pair] = PAIRS, urls: Sequence[str] = URLS, file: DecisionFile | None = None
) -> ReviewQueue:
    return ReviewQueue(
        [
            {
                "first_url": urls[pair.first],
                "second_url": urls[pair.second],
                "verdict": "review",
                "rule": "frames agree, inliers or motion do not",
                "score": pair.similarity,
                "frames_agreeing": 8,
                "frames_compared": 9,
                "kept_coverage": 0.5,
                "copy_coverage": 1.0,
                "cosine": None,
            }
            for pair in pairs
        ],
        run=RunFolder(folder),
        recipe=None,
        decisions=file or DecisionFile(folder / "decisions.csv"),
    )


def saved(folder: Path) -> dict[frozenset[str], Decision]:
    return load_decisions(folder / "decisions.csv")


def urls_of(pair: Pair) -> tuple[str, str]:
    return URLS[pair.first], URLS[pair.second]


def key(pair: Pair) -> frozenset[str]:
    return frozenset(urls_of(pair))


def test_each_decision_is_saved_before_the_next_pair_is_shown(tmp_path: Path) -> None:
    queue = review(tmp_path)
    assert queue.current == urls_of(PAIRS[0])
    assert "0 of 3 decided" in queue.progress.value
    assert (queue.same.disabled, queue.undo.disabled) == (False, True)
    queue.same.click()
    assert saved(tmp_path) == {key(PAIRS[0]): Decision.SAME}
    assert queue.current == urls_of(PAIRS[1])
    queue.different.click()
    assert "2 of 3 decided" in queue.progress.value
    queue.different.click()
    assert list(saved(tmp_path).values()) == [Decision.SAME, Decision.DIFFERENT, Decision.DIFFERENT]
    assert queue.current is None
    assert "3 of 3 decided" in queue.progress.value
    assert "Nothing left to review" in queue.question.value
    assert all(button.disabled for button in (queue.same, queue.different, queue.skip))
    for button in (queue.same, queue.different, queue.skip):
        button.click()
    assert len((tmp_path / "decisions.csv").read_text().splitlines()) == 4


def test_undo_takes_back_the_last_one_and_shows_it_again(tmp_path: Path) -> None:
    queue = review(tmp_path)
    queue.undo.click()
    queue.same.click()
    queue.skip.click()
    queue.different.click()
    assert queue.current == urls_of(PAIRS[1])
    for pair, left in ((PAIRS[2], 1), (PAIRS[0], 0)):
        queue.undo.click()
        assert queue.current == urls_of(pair)
        assert len(saved(tmp_path)) == left
        assert f"{left} of 3 decided" in queue.progress.value
    assert queue.undo.disabled
    queue.different.click()
    assert saved(tmp_path) == {key(PAIRS[0]): Decision.DIFFERENT}


def test_what_is_skipped_comes_back_once_at_the_end(tmp_path: Path) -> None:
    queue = review(tmp_path)
    asked = []
    while queue.current is not None:
        asked.append(queue.current)
        queue.skip.click()
    assert asked == [urls_of(pair) for pair in [*PAIRS, *PAIRS]]
    assert "Nothing left to review. 3 skipped." in queue.question.value
    assert "0 of 3 decided" in queue.progress.value
    assert saved(tmp_path) == {}
    assert review(tmp_path).current == urls_of(PAIRS[0])


def test_what_was_decided_or_follows_is_not_asked(tmp_path: Path) -> None:
    pairs = [*PAIRS, Pair(first=1, second=2, similarity=0.8), Pair(first=0, second=3, similarity=0.7)]
    review(tmp_path, pairs=pairs).same.click()
    queue = review(tmp_path, pairs=pairs)
    assert queue.current == urls_of(PAIRS[1])
    queue.same.click()
    assert "2 of 4 decided" in queue.progress.value, "1 and 2 are each the same as 0"
    assert queue.current == urls_of(PAIRS[2])
    queue.different.click()
    assert queue.current is None, "3 differs from all that are the same as 2"
    queue.undo.click()
    queue.undo.click()
    assert queue.current == urls_of(PAIRS[1])
    assert "0 of 4 decided" in queue.progress.value


def test_a_url_is_not_compared_with_itself_nor_a_pair_asked_twice(tmp_path: Path) -> None:
    pairs = [
        Pair(first=0, second=1, similarity=1.0),
        Pair(first=0, second=2, similarity=0.9),
        Pair(first=1, second=2, similarity=0.9),
    ]
    queue = review(tmp_path, pairs=pairs, urls=[URLS[0], URLS[0], URLS[3]])
    assert "0 of 1 decided" in queue.progress.value
    queue.same.click()
    assert queue.current is None


@pytest.mark.parametrize("button", ["same", "undo"])
def test_a_disk_error_is_told_and_does_not_advance(tmp_path: Path, button: str) -> None:
    folder = tmp_path / "<decisions>"
    folder.mkdir()
    queue = review(tmp_path, file=DecisionFile(folder / "decisions.csv"))
    queue.same.click()
    (folder / "decisions.csv").rename(tmp_path / "kept.csv")
    (folder / "decisions.csv").mkdir()
    getattr(queue, button).click()
    assert queue.current == urls_of(PAIRS[1])
    assert 'role="alert"' in queue.message.value
    assert "&lt;decisions&gt;/decisions.csv cannot be written (Is a directory): free space" in queue.message.value
    assert "1 of 3 decided" in queue.progress.value
    (folder / "decisions.csv").rmdir()
    (tmp_path / "kept.csv").rename(folder / "decisions.csv")
    getattr(queue, button).click()
    assert queue.message.value == ""
    assert queue.current == urls_of(PAIRS[2] if button == "same" else PAIRS[0])


def test_a_question_shows_frames_and_evidence_and_escapes_what_is_foreign(tmp_path: Path) -> None:
    thumbnails_dir = RunFolder(tmp_path).thumbnails_dir
    thumbnails_dir.mkdir()
    save_storyboard(URLS[0], thumbnails_dir=thumbnails_dir)
    queue = review(tmp_path, pairs=[PAIRS[1], PAIRS[0]])
    html = queue.question.value
    assert html.count('src="data:image/webp;base64,') == html.count("no picture") == 1
    assert "<strong>0.9200</strong>: 8 of 9 frames agree, but local features or movement do not; " in html
    assert "all of the second is in the first (50% of it)." in html
    assert "Without an answer it is undecided, and both are kept." in html
    assert '>first coverage</th><td style="text-align: left">0.5</td>' in html
    assert "cosine" not in html
    assert "<b>" not in html
    queue.skip.click()
    assert 'href="javascript' not in queue.question.value
    assert "javascript:alert(1)" in queue.question.value


def test_without_pairs_it_says_so(tmp_path: Path) -> None:
    queue = review(tmp_path, pairs=[])
    assert queue.current is None
    assert "There are no pairs to review." in queue.question.value
    assert queue.progress.value == ""
    assert queue.undo.disabled


def test_buttons_say_what_they_do(tmp_path: Path) -> None:
    queue = review(tmp_path)
    buttons = [queue.same, queue.different, queue.skip, queue.undo]
    assert [button.description for button in buttons] == ["Same", "Different", "Skip", "Undo"]
    assert all(button.tooltip for button in buttons)
    assert list(queue.children[2].children) == buttons

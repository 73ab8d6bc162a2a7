"""The review queue of 06: what it asks, what it writes, and what the browser gets."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from storyboards import save_storyboard

from dedup_lib.groups.decisions import Decision, DecisionFile, load_decisions
from dedup_lib.records import Pair
from dedup_lib.report.pictures import Pictures
from dedup_lib.run.folder import RunFolder
from dedup_lib.ui.queue import ReviewQueue

PAIRS = [
    Pair(first=0, second=1, similarity=0.97),
    Pair(first=0, second=2, similarity=0.92),
    Pair(first=2, second=3, similarity=0.83),
]
URLS = ["https://example.com/a.mp4", "javascript:alert(1)", "https://example.com/<b>", "https://example.com/d.mp4"]


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
    assert "0 of 3 decided" in queue.progress
    assert queue.question is not None and not queue.can_undo
    queue.answer("same")
    assert saved(tmp_path) == {key(PAIRS[0]): Decision.SAME}
    assert queue.current == urls_of(PAIRS[1])
    queue.answer("different")
    assert "2 of 3 decided" in queue.progress
    queue.answer("different")
    assert list(saved(tmp_path).values()) == [Decision.SAME, Decision.DIFFERENT, Decision.DIFFERENT]
    assert queue.current is None
    assert "3 of 3 decided" in queue.progress
    assert "Nothing left to review" in queue.nothing
    assert queue.question is None
    for word in ("same", "different", "skip"):
        queue.answer(word)
    assert len((tmp_path / "decisions.csv").read_text().splitlines()) == 4


def test_undo_takes_back_the_last_one_and_shows_it_again(tmp_path: Path) -> None:
    queue = review(tmp_path)
    queue.answer("undo")
    queue.answer("same")
    queue.answer("skip")
    queue.answer("different")
    assert queue.current == urls_of(PAIRS[1])
    for pair, left in ((PAIRS[2], 1), (PAIRS[0], 0)):
        queue.answer("undo")
        assert queue.current == urls_of(pair)
        assert len(saved(tmp_path)) == left
        assert f"{left} of 3 decided" in queue.progress
    assert not queue.can_undo
    queue.answer("different")
    assert saved(tmp_path) == {key(PAIRS[0]): Decision.DIFFERENT}


def test_what_is_skipped_comes_back_once_at_the_end(tmp_path: Path) -> None:
    queue = review(tmp_path)
    asked = []
    while queue.current is not None:
        asked.append(queue.current)
        queue.answer("skip")
    assert asked == [urls_of(pair) for pair in [*PAIRS, *PAIRS]]
    assert "Nothing left to review. 3 skipped." in queue.nothing
    assert "0 of 3 decided" in queue.progress
    assert saved(tmp_path) == {}
    assert review(tmp_path).current == urls_of(PAIRS[0])


def test_what_was_decided_or_follows_is_not_asked(tmp_path: Path) -> None:
    pairs = [*PAIRS, Pair(first=1, second=2, similarity=0.8), Pair(first=0, second=3, similarity=0.7)]
    review(tmp_path, pairs=pairs).answer("same")
    queue = review(tmp_path, pairs=pairs)
    assert queue.current == urls_of(PAIRS[1])
    queue.answer("same")
    assert "2 of 4 decided" in queue.progress, "1 and 2 are each the same as 0"
    assert queue.current == urls_of(PAIRS[2])
    queue.answer("different")
    assert queue.current is None, "3 differs from all that are the same as 2"
    queue.answer("undo")
    queue.answer("undo")
    assert queue.current == urls_of(PAIRS[1])
    assert "0 of 4 decided" in queue.progress


def test_a_url_is_not_compared_with_itself_nor_a_pair_asked_twice(tmp_path: Path) -> None:
    pairs = [
        Pair(first=0, second=1, similarity=1.0),
        Pair(first=0, second=2, similarity=0.9),
        Pair(first=1, second=2, similarity=0.9),
    ]
    queue = review(tmp_path, pairs=pairs, urls=[URLS[0], URLS[0], URLS[3]])
    assert "0 of 1 decided" in queue.progress
    queue.answer("same")
    assert queue.current is None


@pytest.mark.parametrize("button", ["same", "undo"])
def test_a_disk_error_is_told_and_does_not_advance(tmp_path: Path, button: str) -> None:
    folder = tmp_path / "<decisions>"
    folder.mkdir()
    queue = review(tmp_path, file=DecisionFile(folder / "decisions.csv"))
    queue.answer("same")
    (folder / "decisions.csv").rename(tmp_path / "kept.csv")
    (folder / "decisions.csv").mkdir()
    queue.answer(button)
    assert queue.current == urls_of(PAIRS[1])
    assert "<decisions>/decisions.csv cannot be written (Is a directory): free space" in queue.message
    assert "1 of 3 decided" in queue.progress
    (folder / "decisions.csv").rmdir()
    (tmp_path / "kept.csv").rename(folder / "decisions.csv")
    queue.answer(button)
    assert queue.message == ""
    assert queue.current == urls_of(PAIRS[2] if button == "same" else PAIRS[0])


def test_a_question_holds_frames_and_evidence_and_no_link_that_runs(tmp_path: Path) -> None:
    thumbnails_dir = RunFolder(tmp_path).thumbnails_dir
    thumbnails_dir.mkdir()
    save_storyboard(URLS[0], thumbnails_dir=thumbnails_dir, frames=3)
    queue = review(tmp_path, pairs=[PAIRS[1], PAIRS[0]])
    asked = queue.question
    assert asked is not None
    assert asked["first"]["sheet"].startswith("data:image/jpeg;base64,") and asked["second"]["sheet"] == ""
    assert asked["first"]["times_s"] == (0.0, 1.0, 2.0) and asked["moments"] == [(0, None), (1, None), (2, None)]
    assert asked["score"] == "0.9200"
    assert asked["explained"].startswith("8 of 9 frames agree, but local features or movement do not; ")
    assert "all of the second is in the first (50% of it)" in asked["explained"]
    assert asked["so_far"] == "Without an answer it is undecided, and both are kept."
    assert ("first coverage", "0.5") in asked["measures"]
    assert not any("cosine" in name for name, _ in asked["measures"])
    queue.answer("skip")
    asked = queue.question
    assert asked is not None and asked["second"]["url"] == "javascript:alert(1)" and asked["second"]["href"] == ""


def test_frames_that_belong_together_are_paired(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.thumbnails_dir.mkdir()
    save_storyboard("long", thumbnails_dir=run.thumbnails_dir, frames=6)
    save_storyboard("part", thumbnails_dir=run.thumbnails_dir, frames=2)
    row = {"kept_from_s": 3, "kept_to_s": 5, "offset_s": -3, "speed": 1}
    with Pictures(run, recipe=None) as pictures:
        moments, start = pictures.pair_moments("long", "part", row)
        assert moments == [(0, None), (1, None), (2, None), (3, 0), (4, 1), (5, None)] and start == 3
        assert pictures.pair_moments("long", "part", {}) == ([(0, 0), (1, 1), *((n, None) for n in range(2, 6))], 0)
        assert pictures.pair_moments("gone", "nowhere", row) == ([], 0)


def test_without_pairs_it_says_so(tmp_path: Path) -> None:
    queue = review(tmp_path, pairs=[])
    assert queue.current is None and queue.question is None
    assert queue.nothing == "There are no pairs to review."
    assert queue.progress == "" and not queue.can_undo


@pytest.mark.parametrize("word", ["keep first", "keep second", "version"])
def test_more_than_same_and_different_can_be_said(tmp_path: Path, word: str) -> None:
    queue = review(tmp_path)
    queue.answer(word)
    first, second = urls_of(PAIRS[0])
    said = Decision(word) if first < second else Decision(word).reversed
    assert saved(tmp_path) == {key(PAIRS[0]): said}
    assert queue.current != (first, second) and queue.can_undo


def test_the_time_that_is_left_is_told_after_some_answers(tmp_path: Path) -> None:
    urls = [f"https://example.com/{number}.mp4" for number in range(12)]
    pairs = [Pair(first=2 * number, second=2 * number + 1, similarity=0.5) for number in range(6)]
    queue = review(tmp_path, pairs=pairs, urls=urls)
    said = []
    for _ in pairs:
        said.append(queue.progress)
        queue.answer("different")
    assert said[2] == "2 of 6 decided" and re.fullmatch(r"3 of 6 decided · about \d+ s left", said[3])
    assert queue.progress == "6 of 6 decided"


def test_the_browser_can_only_send_answers(tmp_path: Path) -> None:
    queue = review(tmp_path)
    for answer in ({"answer": "remove all"}, {"answer": ["same"]}, {}):
        queue._handle_custom_msg(answer | {"asked": queue.asked}, [])
    for content in ({"answer": "same"}, "same", None):
        queue._handle_custom_msg(content, [])
    assert saved(tmp_path) == {} and queue.current == urls_of(PAIRS[0])
    queue._handle_custom_msg({"answer": "same", "asked": queue.asked}, [])
    assert saved(tmp_path) == {key(PAIRS[0]): Decision.SAME}


@pytest.mark.parametrize("word", ["different", "skip", "undo"])
def test_a_button_pressed_twice_answers_only_the_pair_that_was_shown(tmp_path: Path, word: str) -> None:
    queue = review(tmp_path)
    queue.answer("different")
    queue.answer("different")
    before = len(saved(tmp_path))
    shown = queue.asked
    for _ in range(2):
        queue._handle_custom_msg({"answer": word, "asked": shown}, [])
    assert queue.asked == shown + 1
    assert len(saved(tmp_path)) - before == {"different": 1, "skip": 0, "undo": -1}[word]

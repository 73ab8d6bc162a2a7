"""The table of every pair that was compared, and the answers that are given from it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from made_run import MadeRun, make_run

from dedup_lib.cli.main import commands
from dedup_lib.errors import RunFolderError, SettingError
from dedup_lib.groups.decisions import Decision, DecisionFile
from dedup_lib.groups.matcher import ComparedPairs
from dedup_lib.groups.pairs import PAIR_COLUMNS, collect_verdicts, find_pair, load_pairs, save_pairs, tabulate_pairs
from dedup_lib.match.evidence import MatchThresholds, Verdict
from dedup_lib.records import json_line
from dedup_lib.report import plots
from dedup_lib.run.folder import RunFolder
from dedup_lib.steps.explain import explain_pair

SIZES = [3, 1, 4, 1, 2]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> MadeRun:
    return make_run(tmp_path_factory.mktemp("runs") / "ads", sizes=SIZES, failed=2)


@pytest.fixture(scope="module")
def by_cosine(tmp_path_factory: pytest.TempPathFactory) -> MadeRun:
    return make_run(tmp_path_factory.mktemp("runs") / "ads", sizes=SIZES, by_cosine=True)


def test_every_compared_pair_is_one_row_with_its_verdict(made: MadeRun) -> None:
    table = load_pairs(made.run)
    assert list(table) == list(PAIR_COLUMNS)
    assert len(table) == len(made.compared.evidence)
    urls = made.listed.urls
    for (first, second), evidence in made.compared.evidence.items():
        row = find_pair(table, urls[second], urls[first])
        assert row is not None
        assert (row["first_url"], row["second_url"]) == (urls[first], urls[second])
        verdict, rule = evidence.judge(made.plan.rules)
        assert (row["verdict"], row["rule"]) == (str(verdict), str(rule))
        _, stretch = evidence.best
        assert stretch is not None
        assert row["score"] == pytest.approx(evidence.score)
        assert (row["frames_agreeing"], row["frames_compared"]) == (stretch.agreeing, stretch.compared)
        assert row["cosine"] == (pytest.approx(evidence.cosine) if evidence.cosine == evidence.cosine else None)
    assert {"different", "review"} & set(table["verdict"]), "pairs that were not joined are there too"
    assert sum(map(len, collect_verdicts(table).values())) == len(table)


def test_a_list_by_cosine_has_its_pairs_and_their_cosine(by_cosine: MadeRun) -> None:
    table = load_pairs(by_cosine.run)
    assert len(table) == len(by_cosine.compared.pairs)
    assert table["score"].to_list() == pytest.approx([pair.similarity for pair in by_cosine.compared.pairs])
    assert table["cosine"].equals(table["score"].rename("cosine"))
    assert set(table["rule"]) == {"cosine"}


def test_nothing_compared_gives_an_empty_table_that_can_be_saved(tmp_path: Path) -> None:
    nothing = ComparedPairs(pairs=(), nearest=np.zeros(0), floor=0.0, expanded_queries=0, evidence={})
    rules = MatchThresholds(min_score=0.5, review_from=0.03)
    table = tabulate_pairs(nothing, urls=[], rules=rules)
    run = RunFolder(tmp_path)
    save_pairs(table, run.pairs_path)
    again = load_pairs(run)
    assert list(again) == list(PAIR_COLUMNS) and not len(again)
    assert again.attrs["rules"]["min_score"] == 0.5
    assert collect_verdicts(again) == {}
    assert plots.figure_measured(again, measure="score").axes


def test_urls_of_any_kind_come_back(made: MadeRun, tmp_path: Path) -> None:
    odd = ["https://example.com/ä b.mp4?x=1,2", "=HYPERLINK(1)", "", "https://example.com/ä b.mp4?x=1,2"]
    urls = [*odd, *made.listed.urls[len(odd) :]]
    save_pairs(tabulate_pairs(made.compared, urls=urls, rules=made.plan.rules), tmp_path / "pairs.parquet")
    table = load_pairs(RunFolder(tmp_path))
    wanted = [(urls[first], urls[second]) for first, second in sorted(made.compared.evidence)]
    assert list(zip(table["first_url"], table["second_url"], strict=True)) == wanted


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: path.unlink(), "is not there"),
        (lambda path: path.write_bytes(b""), "is damaged"),
        (lambda path: path.write_bytes(b"no table at all"), "is damaged"),
        (lambda path: pd.DataFrame({"first_url": ["a"]}).to_parquet(path), "another version"),
    ],
)
def test_a_table_that_cannot_be_read_is_said_with_the_remedy(
    made: MadeRun, tmp_path: Path, spoil: Callable[[Path], object], words: str
) -> None:
    run = RunFolder(tmp_path)
    run.pairs_path.write_bytes(made.run.pairs_path.read_bytes())
    spoil(run.pairs_path)
    with pytest.raises(RunFolderError, match=words) as caught:
        load_pairs(run)
    assert "run 06_search_and_clean again" in str(caught.value)


# --- questions


def test_a_pair_that_was_compared_is_explained_whichever_comes_first(made: MadeRun) -> None:
    (first, second), evidence = next(iter(made.compared.evidence.items()))
    urls = made.listed.urls
    explained = explain_pair(made.run, urls[first], urls[second])
    assert explained == explain_pair(made.run, urls[second].replace("https://", "HTTPS://"), urls[first] + "#t=3")
    assert (explained.first_url, explained.second_url) == (urls[first], urls[second])
    assert explained.verdict == str(evidence.judge(made.plan.rules)[0])
    assert "frames agree" in explained.why
    assert "compared by 06" in explained.origin
    assert explained.measured["frames_compared"] == 40
    assert json.loads(json_line(explained))["verdict"] == explained.verdict
    assert len(explained.outputs) == 2


def test_what_nothing_proposed_is_compared_now(made: MadeRun) -> None:
    urls = made.listed.urls
    first, second = 0, SIZES[0] + 1
    assert (first, second) not in made.compared.evidence
    explained = explain_pair(made.run, urls[first], urls[second])
    assert "compared now" in explained.origin
    assert explained.verdict == str(Verdict.DIFFERENT)
    assert "too few frames agree" in explained.why


def test_what_could_not_be_read_is_said_with_the_reason(made: MadeRun) -> None:
    gone = made.listed.urls[-1]
    explained = explain_pair(made.run, gone, made.listed.urls[0])
    assert explained.verdict == ""
    assert str(made.listed.outcomes[gone].reason) in explained.why
    assert any("set aside" in line for line in explained.outputs)


def test_the_decision_of_a_person_is_told(tmp_path: Path) -> None:
    made = make_run(tmp_path / "ads", sizes=[2])
    urls = made.listed.urls
    assert made.listed.list_csv is not None
    DecisionFile(made.listed.list_csv.with_name("decisions.csv")).decide(urls[0], urls[1], Decision.DIFFERENT)
    assert "a person said that they are different" in explain_pair(made.run, urls[0], urls[1]).why


def test_what_follows_from_decisions_is_told(tmp_path: Path) -> None:
    made = make_run(tmp_path / "ads", sizes=[1, 1, 1, 1])
    first, second, third, fourth = made.listed.urls
    assert made.listed.list_csv is not None
    decisions = DecisionFile(made.listed.list_csv.with_name("decisions.csv"))
    decisions.decide(first, second, Decision.SAME)
    decisions.decide(second, third, Decision.SAME)
    decisions.decide(second, fourth, Decision.DIFFERENT)
    for other, said in ((third, "the same"), (fourth, "different")):
        words = f"it follows from what people said that they are {said}, which outweighs this"
        assert words in explain_pair(made.run, first, other).why


def test_two_that_are_joined_by_way_of_others_are_said_to_be_so(tmp_path: Path) -> None:
    """A person joined the first with the second, which is like the others."""
    made = make_run(tmp_path / "ads", sizes=[1, 3], same={(0, 1)})
    urls = made.listed.urls
    for other in urls[2:]:
        explained = explain_pair(made.run, urls[0], other)
        assert explained.verdict == str(Verdict.DIFFERENT)
        assert explained.why.endswith("yet both are in one group, by way of other videos in it")


def test_by_cosine_a_pair_below_the_sweep_is_said_to_be_so(by_cosine: MadeRun) -> None:
    urls = by_cosine.listed.urls
    explained = explain_pair(by_cosine.run, urls[0], urls[SIZES[0]])
    assert explained.verdict == str(Verdict.DIFFERENT)
    assert "cosine" in explained.why and "0.3" in explained.why


@pytest.mark.parametrize("place", ["first", "second"])
def test_a_url_that_is_not_in_the_list_is_refused_by_name(made: MadeRun, place: str) -> None:
    known, unknown = made.listed.urls[0], "https://example.com/unknown.mp4"
    pair = (unknown, known) if place == "first" else (known, unknown)
    with pytest.raises(SettingError, match="not in the list") as caught:
        explain_pair(made.run, *pair)
    assert ("URL_A" if place == "first" else "URL_B") in str(caught.value)


def test_one_video_is_not_held_against_itself(made: MadeRun) -> None:
    url = made.listed.urls[0]
    with pytest.raises(SettingError, match="same URL"):
        explain_pair(made.run, url, f"{url}#again")


def test_a_run_that_has_not_finished_is_said_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="06_search_and_clean"):
        explain_pair(RunFolder(tmp_path / "new"), "a", "b")


def test_the_command_prints_the_answer_and_one_line_for_programs(made: MadeRun) -> None:
    urls = made.listed.urls
    words = ["explain", str(made.run.path), urls[0], urls[1]]
    said = CliRunner().invoke(commands, words)
    assert said.exit_code == 0
    assert f"the second: {urls[1]}" in said.output
    assert "frames_compared" in said.output and "compared by 06_search_and_clean" in said.output
    as_json = CliRunner().invoke(commands, [*words, "--json"])
    assert json.loads(as_json.output) == json.loads(json_line(explain_pair(made.run, urls[0], urls[1])))


# --- frames


def test_rejected_pairs_are_drawn_and_counted(made: MadeRun) -> None:
    table = tabulate_pairs(made.compared, urls=made.listed.urls, rules=MatchThresholds(min_score=0.9, review_from=0.03))
    verdicts = collect_verdicts(table)
    assert "review" in verdicts or "different" in verdicts
    for figure in (
        plots.figure_similarities(np.array([1.0]), verdicts, threshold=0.9, measure="score"),
        plots.figure_measured(table, measure="score"),
    ):
        legend = figure.axes[-1].get_legend()
        assert legend is not None
        said = [text.get_text() for text in legend.get_texts()]
        counted = table if len(figure.axes) > 1 else table[table["cosine"].notna()]
        shown = counted["verdict"].value_counts()
        assert shown.sum() == len(counted) > 0
        for verdict, count in shown[shown > 0].items():
            assert f"{verdict}: {count:,}" in said

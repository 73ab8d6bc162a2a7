"""What changed from one run to another: the logic, the words in the terminal, and the page."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pandas as pd
import pytest
from browser import Visit, violations
from hypothesis import given
from hypothesis import strategies as st
from pages import open_page
from rich.console import Console
from storyboards import save_storyboard

from dedup_lib.errors import ListError, RunFolderError, SettingError
from dedup_lib.lists.tables import save_table
from dedup_lib.records import json_line
from dedup_lib.report.comparison import DUPLICATE, KEPT, Change, Comparison, RunOutcome, compare_runs, load_outcome
from dedup_lib.report.comparison_page import write_comparison
from dedup_lib.run.folder import RunFolder
from dedup_lib.ui.terminal import MAX_COMPARED, draw_comparison

URLS = [f"https://example.com/{letter}.mp4" for letter in "abcdefgh"]


def outcome(groups: Mapping[str, str], **others: str) -> RunOutcome:
    """A run that keeps the first letter of each group and takes the rest for its copies, all of one letter; `others`
    are statuses by letter."""
    url = {letter: f"https://example.com/{letter}.mp4" for letter in "abcdefgh"}
    kept_of = {url[copy]: url[kept] for kept, copies in groups.items() for copy in copies}
    fates = dict.fromkeys(kept_of, DUPLICATE) | {url[kept]: KEPT for kept in groups}
    fates |= {url[letter]: status for letter, status in others.items()}
    return RunOutcome(name="run", rows={"input": len(fates)}, fates=fates, kept_of=kept_of, settings={})


def letters(pairs: tuple[tuple[str, str], ...]) -> list[str]:
    return ["".join(url[-5] for url in pair) for pair in pairs]


@st.composite
def outcomes(draw: st.DrawFn) -> RunOutcome:
    """Any run over some of the URLs."""
    fates: dict[str, str] = {}
    kept_of: dict[str, str] = {}
    for url in draw(st.lists(st.sampled_from(URLS), min_size=1, unique=True)):
        kept = [other for other, fate in fates.items() if fate == KEPT]
        fates[url] = draw(st.sampled_from([KEPT, "timeout", "html", *([DUPLICATE] if kept else [])]))
        if fates[url] == DUPLICATE:
            kept_of[url] = draw(st.sampled_from(kept))
    settings = draw(st.dictionaries(st.sampled_from(["x", "y"]), st.integers(0, 2)))
    return RunOutcome(name="run", rows={"input": len(fates)}, fates=fates, kept_of=kept_of, settings=settings)


def exchanged(found: Comparison) -> Comparison:
    """The same, seen from the other side."""

    def turn(changes: tuple[Change, ...]) -> tuple[Change, ...]:
        turned = (Change(what=change.what, before=change.after, after=change.before) for change in changes)
        return tuple(sorted(turned, key=lambda change: change.what))

    return replace(
        found,
        before=found.after,
        after=found.before,
        only_before=found.only_after,
        only_after=found.only_before,
        rows=turn(found.rows),
        settings=turn(found.settings),
        fates=turn(found.fates),
        keepers=tuple(sorted((new, old) for old, new in found.keepers)),
        joined_before=found.joined_after,
        joined_after=found.joined_before,
    )


@given(run=outcomes())
def test_a_run_is_like_itself(run: RunOutcome) -> None:
    found = compare_runs(run, replace(run, name="again"))
    assert found.is_empty
    assert found.headline == "Nothing changed"
    assert (found.in_both, found.settings) == (len(run.fates), ())


@given(before=outcomes(), after=outcomes())
def test_the_other_way_round_it_is_the_same(before: RunOutcome, after: RunOutcome) -> None:
    if before.fates.keys() & after.fates.keys():
        found = compare_runs(before, after)
        assert exchanged(exchanged(found)) == exchanged(compare_runs(after, before))


@given(before=outcomes(), after=outcomes())
def test_pairs_are_those_of_the_definition(before: RunOutcome, after: RunOutcome) -> None:
    both = sorted(before.fates.keys() & after.fates.keys())
    if not both:
        return

    def joined(run: RunOutcome) -> set[tuple[str, str]]:
        kept = {url: run.kept_of.get(url, url) for url in both if run.fates[url] in (KEPT, DUPLICATE)}
        return {pair for pair in combinations(sorted(kept), 2) if kept[pair[0]] == kept[pair[1]]}

    found = compare_runs(before, after)
    assert found.joined_before.pairs == tuple(sorted(joined(before) - joined(after)))
    assert found.joined_after.pairs == tuple(sorted(joined(after) - joined(before)))
    assert found.joined_before.count == len(found.joined_before.pairs)
    assert found.joined_after.count == len(found.joined_after.pairs)


def test_what_changed_is_told_apart() -> None:
    found = compare_runs(
        outcome({"a": "bc", "d": "", "e": "f"}, g="timeout"), outcome({"b": "a", "c": "", "d": "ef", "g": ""})
    )
    assert letters(found.joined_before.pairs) == ["ac", "bc"]
    assert letters(found.joined_after.pairs) == ["de", "df"]
    assert letters(found.keepers) == ["ab"]
    assert [(change.what[-5], change.before, change.after) for change in found.fates] == [
        ("a", "kept", "duplicate"),
        ("b", "duplicate", "kept"),
        ("c", "duplicate", "kept"),
        ("e", "kept", "duplicate"),
        ("g", "timeout", "kept"),
    ]
    assert not found.is_empty
    assert (
        found.headline
        == "2 newly joined pairs, 2 pairs no longer joined, 1 other video kept, 5 URLs with another outcome"
    )


def test_lists_that_share_some_urls() -> None:
    found = compare_runs(outcome({"a": "", "b": ""}), outcome({"b": "", "c": "", "d": ""}))
    assert (found.in_both, found.only_before, found.only_after) == (1, 1, 2)
    assert found.headline == "Different lists, and the same outcome for the URLs they share"
    with pytest.raises(SettingError, match="none of its 1 URLs is among the 2 of run"):
        compare_runs(outcome({"a": "", "b": ""}), outcome({"c": ""}))


def test_pairs_of_a_large_group_are_counted_and_not_all_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dedup_lib.report.comparison.MAX_PAIRS", 5)
    urls = [f"https://example.com/{number:05}" for number in range(4000)]
    one = RunOutcome(
        name="one",
        rows={},
        fates={url: KEPT if url == urls[0] else DUPLICATE for url in urls},
        kept_of=dict.fromkeys(urls[1:], urls[0]),
        settings={},
    )
    found = compare_runs(
        one, RunOutcome(name="many", rows={}, fates=dict.fromkeys(urls, KEPT), kept_of={}, settings={})
    )
    assert found.joined_before.count == 4000 * 3999 // 2
    assert len(found.joined_before.pairs) == 5


# --- runs on disk


def save_run(path: Path, *, kept: list[str], copies: dict[str, str], failed: list[str], threshold: float) -> RunFolder:
    """A run folder as 06 leaves it."""
    run = RunFolder(path)
    tables = {
        "FINAL_RESULT": pd.DataFrame({"link": kept, "title": ["=1+1"] * len(kept)}),
        "duplicates": pd.DataFrame({"url": list(copies), "duplicate_of": list(copies.values())}),
        "invalid_urls": pd.DataFrame({"url": [], "status": [], "reason": []}),
        "failed_urls": pd.DataFrame({"url": failed, "status": "timeout", "reason": "slow"}),
    }
    for name, table in tables.items():
        save_table(table.astype(str), path / f"{name}.csv")
    counts = {"input": len(kept) + len(copies) + len(failed), "final": len(kept), "duplicates": len(copies)}
    records = {
        "03_extract": {"settings": {"run_dir": str(path), "encoder": "pdq"}, "url_column": "link"},
        "06_search_and_clean": {
            "settings": {"run_dir": str(path), "min_score": threshold},
            "counts": counts,
            "files": {name: f"{name}.csv" for name in tables},
        },
    }
    (path / "stages").mkdir()
    for stage, record in records.items():
        (path / "stages" / f"{stage}.json").write_text(json.dumps(record))
    return run


HOSTILE = "https://user:secret@example.com/<script>alert(1)</script>\x1b[31m\u202e.mp4"


@pytest.fixture
def runs(tmp_path: Path) -> tuple[RunFolder, RunFolder]:
    before = save_run(tmp_path / "a", kept=URLS[:2], copies={URLS[2]: URLS[0]}, failed=[HOSTILE], threshold=0.3)
    after = save_run(tmp_path / "b", kept=[*URLS[:3], HOSTILE], copies={}, failed=[], threshold=0.6)
    return before, after


def test_runs_are_read_from_their_folders(runs: tuple[RunFolder, RunFolder]) -> None:
    found = compare_runs(*map(load_outcome, runs))
    assert [(change.what, change.before, change.after) for change in found.settings] == [
        ("06_search_and_clean: min_score", 0.3, 0.6)
    ]
    assert [(change.before, change.after) for change in found.fates] == [("duplicate", "kept"), ("timeout", "kept")]
    assert letters(found.joined_before.pairs) == ["ac"]
    assert json.loads(json_line(found, is_empty=found.is_empty))["joined_before"]["count"] == 1


def test_a_run_that_has_not_finished_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=rf"06_search_and_clean has not finished in .* status {tmp_path}/new`"):
        load_outcome(RunFolder(tmp_path / "new"))


def test_an_output_that_is_gone_is_named(runs: tuple[RunFolder, RunFolder]) -> None:
    (runs[0].path / "duplicates.csv").unlink()
    with pytest.raises(ListError, match=r"duplicates\.csv cannot be read \(does not exist\): run 06"):
        load_outcome(runs[0])


@pytest.mark.parametrize(
    ("name", "column"), [("FINAL_RESULT", "link"), ("duplicates", "url"), ("failed_urls", "status")]
)
def test_a_column_that_somebody_removed_is_named(runs: tuple[RunFolder, RunFolder], name: str, column: str) -> None:
    path = runs[0].path / f"{name}.csv"
    path.write_text(path.read_text().replace(column, "renamed", 1))
    with pytest.raises(ListError, match=rf"{name}\.csv has no column '{column}': run 06_search_and_clean again"):
        load_outcome(runs[0])


def test_what_an_earlier_run_has_read_counts_as_looked_at(runs: tuple[RunFolder, RunFolder]) -> None:
    """The second run set two URLs aside by their text: one that an earlier run has read, and one that is repeated."""
    _, after = runs
    record = json.loads(after.record_path("06_search_and_clean").read_text())
    record["files"]["text_duplicates"] = "ads.duplicates.csv"
    after.record_path("06_search_and_clean").write_text(json.dumps(record))
    save_table(pd.DataFrame({"link": URLS[1:3]}), after.path / "FINAL_RESULT.csv")
    set_aside = {"url": [URLS[0], URLS[1]], "duplicate_of": [URLS[0], URLS[1]], "read_by": ["archive", ""]}
    save_table(pd.DataFrame(set_aside), after.path / "ads.duplicates.csv")
    found = compare_runs(*map(load_outcome, runs))
    assert (found.in_both, found.only_before) == (3, 1)
    assert Change(what=URLS[0], before="kept", after="already known") in found.fates
    save_table(pd.DataFrame(set_aside).drop(columns="read_by"), after.path / "ads.duplicates.csv")
    assert URLS[0] not in load_outcome(after).fates, "an earlier version wrote no such column"


def drawn(comparison: Comparison) -> str:
    console = Console(width=100, file=io.StringIO())
    with console.capture() as captured:
        console.print(draw_comparison(comparison))
    return captured.get()


def test_the_terminal_shows_what_changed_and_nothing_that_it_obeys(runs: tuple[RunFolder, RunFolder]) -> None:
    said = drawn(compare_runs(*map(load_outcome, runs)))
    assert said.startswith("1 pair no longer joined, 2 URLs with another outcome\n4 URLs are in both runs\n")
    assert "06_search_and_clean: min_score  0.3  0.6" in said
    assert "pairs no longer joined: 1\n" in said
    assert not [hidden for hidden in ("secret", "\x1b", "\u202e") if hidden in said]


def test_long_tables_are_cut_in_the_terminal() -> None:
    urls = [f"https://example.com/{number}" for number in range(50)]
    before, after = (
        RunOutcome(name=name, rows={}, fates=dict.fromkeys(urls, fate), kept_of={}, settings={})
        for name, fate in (("a", KEPT), ("b", "timeout"))
    )
    said = drawn(compare_runs(before, after))
    assert said.count("timeout") == MAX_COMPARED
    assert "and 30 more, which --json lists" in said


def test_the_page_shows_what_changed(runs: tuple[RunFolder, RunFolder], visit: Visit) -> None:
    before, after = runs
    path = write_comparison(compare_runs(*map(load_outcome, runs)), before=before, after=after)
    assert path == after.reports_dir / "compared_with_a.html"
    page = open_page(path)
    assert "1 pair no longer joined, 2 URLs with another outcome" in page.text
    assert not [hidden for hidden in ("secret", "\x1b", "\u202e") if hidden in path.read_text()]
    visit.page.goto(path.as_uri())
    rows = visit.page.get_by_role("table").nth(2).get_by_role("row")
    assert [row.inner_text().split() for row in rows.all()][1] == [
        *(
            "no",
            "picture",
            "example.com/a.mp4",
            "no",
            "picture",
            "example.com/c.mp4",
            "not",
            "compared",
            "not",
            "compared",
        )
    ]
    assert violations(visit.page) == []


def test_the_page_shows_what_the_list_says_and_eight_frames(runs: tuple[RunFolder, RunFolder], visit: Visit) -> None:
    before, after = runs
    titles = ["Up and away", "By the sea", "Up again"]
    table = pd.DataFrame({"link": URLS[:3], "title": titles, "brand": ["Tarnwick", "Tarnwick", "Nordlys"]})
    save_table(table, after.path / "ads.csv")
    record_path = after.record_path("03_extract")
    record_path.write_text(json.dumps(json.loads(record_path.read_text()) | {"files": {"input_csv": "ads.csv"}}))
    # Whichever of the two runs has its frames, and however few they are.
    for run, url, count in ((after, URLS[0], 12), (before, URLS[2], 3)):
        run.thumbnails_dir.mkdir()
        save_storyboard(url, thumbnails_dir=run.thumbnails_dir, frames=count)
    visit.page.goto(write_comparison(compare_runs(*map(load_outcome, runs)), before=before, after=after).as_uri())
    row = visit.page.get_by_role("table").nth(2).get_by_role("row").nth(1)
    assert "Up and away · Tarnwick" in row.inner_text() and "Up again · Nordlys" in row.inner_text()
    sizes = [image.evaluate("image => [image.naturalWidth, image.naturalHeight]") for image in row.locator("img").all()]
    assert sizes == [[4 * 128, 2 * 72], [3 * 128, 72]]

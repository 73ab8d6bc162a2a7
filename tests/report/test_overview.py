"""The overview of a run: what it says, what it leaves out, and what it does in a real browser."""

from __future__ import annotations

import base64
import io
import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from browser import Visit, violations
from made_run import RECIPE, MadeRun, make_run
from pages import open_page
from PIL import Image
from playwright.sync_api import expect
from storyboards import save_storyboard

from dedup_lib import steps
from dedup_lib.errors import RunFolderError
from dedup_lib.groups.clean import clean_list
from dedup_lib.match.evidence import Criterion
from dedup_lib.media.storyboard import Storyboard
from dedup_lib.records import Outcome, Status, video_key
from dedup_lib.report import contact_sheet, evidence_words, overview, sections
from dedup_lib.report import words as report_words
from dedup_lib.report.overview import write_index
from dedup_lib.report.pictures import Pictures, Shot
from dedup_lib.run.folder import RunFolder, thumbnail_path
from dedup_lib.run.ledger import Ledger

HOSTILE_TEXT = "<script>alert(1)</script><img src=https://evil.example/x.png onerror=alert(1)>"
ENDING_TEXT = "</script><!--<script>\u2028\u202e]]>"
SCRIPT_URL = "javascript:alert(document.domain)"
FLOW = ["01_decode", "02_dedupe_urls", "03_extract", "05_upload", "06_search_and_clean"]


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
            "versions": {"dedup_lib": "9.9", "numpy": "2.0"},
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
            "score": f"{0.99 - copy / 100:.4f}",
            "group": str(group + 1),
        }
        for group in range(groups)
        for copy in range(copies)
    ]
    if rows:
        rows[0]["url"] = SCRIPT_URL
        save_storyboard(rows[0]["duplicate_of"], thumbnails_dir=run_dir / "thumbnails")
    columns = ["url", "duplicate_of", "score", "group"]
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
        "decision": {"threshold": 0.9, "encoder": "clip", "groups": groups, "expanded_queries": 0},
        "files": {"FINAL_RESULT": "FINAL_RESULT.csv", "duplicates": "duplicates.csv", "gone": "gone.csv"},
    }
    (run_dir / "summary.json").write_text(json.dumps(summary))
    return run_dir


def test_overview_of_a_complete_run(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "my list")
    index_path = write_index(run_dir)
    assert index_path == run_dir / "reports" / "index.html"
    page = open_page(index_path)
    assert "28 rows in, 17 videos kept" in page.text
    assert "2 copies of kept videos" in page.text
    assert "1 row that is not a video" in page.text
    assert "every row is accounted for" in page.text
    assert "2 copies in 2 groups" in page.text
    assert "Only the" not in page.text
    assert page.text.count(HOSTILE_TEXT) >= 1 + 1 + len(FLOW)
    links = page.links()
    assert {"../FINAL_RESULT.csv", "../duplicates.csv", "06_search_and_clean.html", "01_decode.html"} <= set(links)
    assert not any("gone.csv" in href or "javascript" in href for href in links)
    assert SCRIPT_URL in page.text
    for href in links:
        if not href.startswith(("http", "#")):
            assert (index_path.parent / href).exists(), href
    pictures = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(pictures) == 1
    assert page.text.count("no picture") == 3
    assert "dedup_lib 9.9" in page.text, "the version that made it"


def test_overview_is_the_same_every_time(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "run", groups=5, copies=3)
    first = write_index(run_dir).read_bytes()
    assert write_index(run_dir).read_bytes() == first


def test_overview_says_when_rows_do_not_add_up(tmp_path: Path) -> None:
    page = open_page(write_index(write_run(tmp_path / "run", final=16)))
    assert "some rows are unaccounted for" in page.text
    assert "do not add up" in page.text
    assert "every row is accounted for" not in page.text


def test_overview_of_a_run_that_stopped_early(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "run", has_summary=False, stages=FLOW[:2])
    (run_dir / "reports" / "03_extract.html").write_text("<!DOCTYPE html>")
    page = open_page(write_index(run_dir))
    assert "is not finished" in page.text
    assert "Finished: 01_decode and 02_dedupe_urls" in page.text
    assert "Stopped in 03_extract" in page.text
    assert "unique rows: 30" in page.text
    assert "03_extract.html" in page.links()


def test_overview_of_an_empty_run_folder(tmp_path: Path) -> None:
    assert "No notebook has finished yet." in open_page(write_index(tmp_path / "new")).text


def test_overview_without_duplicates(tmp_path: Path) -> None:
    page = open_page(write_index(write_run(tmp_path / "run", groups=0, final=17)))
    assert "None of the 17 videos that were compared has a copy." in page.text
    assert "26 rows in, 17 videos kept" in page.text


def test_every_status_is_explained() -> None:
    assert set(report_words.STATUS_WORDS) == set(Status)


EXPLAINED = [
    ({"verdict": "duplicate", "rule": "cosine"}, "only their vectors were compared"),
    (
        {"rule": "frames agree", "frames_agreeing": "19", "frames_compared": "20", "offset_s": "0.02"},
        "19 of 20 frames agree at the same moments",
    ),
    (
        {
            "verdict": "excerpt",
            "rule": "frames agree",
            "frames_agreeing": "8",
            "frames_compared": "8",
            "offset_s": "-12.26",
            "kept_coverage": "0.3",
            "copy_coverage": "1.0",
        },
        "8 of 8 frames agree at the same moments; all of the copy is in the kept video (30% of it); "
        "the copy shows it 12.3 s earlier",
    ),
    (
        {
            "rule": "frames agree when aligned by inliers",
            "offset_s": "3.0",
            "speed": "1.25",
            "frames_agreeing": "4",
            "frames_compared": "9",
            "transform": "turned by 180°",
        },
        "4 of 9 frames agree once one is laid on the other (another crop, a caption, a turn); "
        "the copy shows it 3.0 s later; it runs 1.25 times as fast; its frame is turned by 180°",
    ),
    ({"rule": "a person's decision", "frames_agreeing": "1", "frames_compared": "9"}, "a person decided so"),
    ({"rule": HOSTILE_TEXT}, HOSTILE_TEXT),
    ({}, ""),
]


@pytest.mark.parametrize(("row", "words"), EXPLAINED)
def test_what_speaks_for_a_copy_is_a_sentence(row: dict[str, str], words: str) -> None:
    assert evidence_words.explain(row) == words


def test_every_rule_has_words() -> None:
    assert set(evidence_words.CRITERION_WORDS) == set(Criterion)


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0:00.0"), (5.25, "0:05.2"), (59.99, "1:00"), (61, "1:01"), (3723, "1:02:03")]
)
def test_a_length_as_people_read_it(seconds: float, shown: str) -> None:
    assert report_words.show_seconds(seconds) == shown


def test_groups_come_largest_first_and_copies_nearest_first(tmp_path: Path) -> None:
    rows = [("b", "a", "0.91", "1"), ("d", "c", "0.92", "2"), ("e", "c", "0.99", "2"), ("f", "c", "", "2")]
    copies = pd.DataFrame(rows, columns=["url", "duplicate_of", "score", "group"])
    pictures = Pictures(RunFolder(tmp_path), recipe=None)
    sheets = list(contact_sheet.draw_groups(contact_sheet.rank_groups(copies), pictures, most_copies=2))
    assert [(sheet.number, sheet.size, sheet.hidden) for sheet in sheets] == [(2, 4, 1), (1, 2, 0)]
    assert [(copy.url, copy.shown_similarity) for copy in sheets[0].copies] == [("e", "0.9900"), ("d", "0.9200")]
    (told, _) = contact_sheet.draw_groups(contact_sheet.rank_groups(copies), pictures, most_copies=3)
    assert (told.copies[-1].url, told.copies[-1].shown_similarity) == ("f", ""), "what was never compared comes last"


def test_a_damaged_ledger_leaves_a_page_without_facts(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "run")
    (run_dir / "ledger.sqlite").write_bytes(b"no database at all" * 100)
    assert "17 videos kept" in open_page(write_index(run_dir)).text


@pytest.mark.parametrize("name", ["summary.json", "stages/03_extract.json"])
def test_a_damaged_record_is_named_with_the_notebook_that_makes_it_again(tmp_path: Path, name: str) -> None:
    run_dir = write_run(tmp_path / "run")
    (run_dir / name).parent.mkdir(exist_ok=True)
    (run_dir / name).write_bytes(b'{"rows": ')
    with pytest.raises(RunFolderError, match=rf"{name} is damaged .* run notebooks/\d\d_\w+\.ipynb again"):
        write_index(run_dir)


def test_nothing_in_the_data_of_a_page_can_end_it() -> None:
    text = sections.embed_json({"url": ENDING_TEXT})
    assert text.isascii() and not set(text) & set("<>&")
    assert json.loads(text) == {"url": ENDING_TEXT}


def test_what_is_left_out_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MAX_GROUPS", "MAX_COPIES", "MAX_REASONS", "MAX_ROWS_SET_ASIDE"):
        monkeypatch.setattr(overview, name, 1)
    page = open_page(write_index(write_run(tmp_path / "run", groups=3, copies=2)))
    assert "Only the 1 largest groups are shown here; the CSV of duplicates lists all 3." in page.text
    assert "and 1 more copy, listed in the CSV of duplicates" in page.text
    assert "and 1 more reason, listed" in page.text
    assert "and 2 more, listed in the CSV files" in page.text


def test_hosts_stand_beside_the_reasons(tmp_path: Path) -> None:
    rows = [(f"https://host{n % 5}.example/{n}", "timeout", "slow") for n in range(11)] + [("", "timeout", "slow")]
    (table,) = sections.reason_table(pd.DataFrame(rows, columns=["url", "status", "reason"]))
    assert (table["count"], table["more_hosts"]) == (12, 2)
    assert table["hosts"] == "host0.example (3), host1.example (2), host2.example (2)"


# In a real browser


@pytest.fixture(scope="module", params=["score", "cosine"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> MadeRun:
    """A run of some sixty videos in which thresholds matter, with decisions of a person."""
    made = make_run(
        tmp_path_factory.mktemp("made") / "run",
        sizes=[3] * 8 + [5] * 4 + [2] * 6 + [1] * 6,
        failed=9,
        by_cosine=request.param == "cosine",
        same={(0, 50)},
        different={(3, 4)},
    )
    write_index(made.run.path)
    return made


def open_overview(visit: Visit, run_dir: Path) -> None:
    visit.page.goto((run_dir / "reports" / "index.html").as_uri() + "#thresholds")


def move_to(visit: Visit, index: int) -> None:
    visit.page.locator("#threshold").evaluate(
        "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input')); }", index
    )


def test_the_slider_shows_what_06_decides(visit: Visit, made: MadeRun) -> None:
    open_overview(visit, made.run.path)
    thresholds = json.loads(made.run.sweep_path.read_text(encoding="utf-8"))["thresholds"]
    before = {group.kept: set(group.copies) for group in made.matches.group()}
    seen = set()
    # Most pairs lie near 0 or near 1.
    between = np.searchsorted(
        thresholds, np.quantile([pair.similarity for pair in made.compared.pairs], (0.2, 0.4, 0.6, 0.8))
    )
    for index in (0, *map(int, between), thresholds.index(made.plan.threshold), len(thresholds) - 1):
        threshold = thresholds[index]
        move_to(visit, index)
        groups = made.matches.group(threshold)
        after = {group.kept: set(group.copies) for group in groups}
        cleaned = clean_list(
            made.listed.frame, url_column="url", outcomes=made.listed.outcomes, groups=groups, auto_clean=True
        )
        expected = {
            "final": len(cleaned.final),
            "duplicates": len(cleaned.duplicates),
            "groups": len(groups),
            "largest_group": max((group.size for group in groups), default=0),
        }
        shown = {
            name: int(visit.page.locator(f"[data-count={name}]").inner_text().split()[0].replace(",", ""))
            for name in expected
        }
        assert shown == expected, threshold
        expect(visit.page.locator("#at")).to_have_text(f"{threshold:g}")
        fates = {
            "vanish": len(before.keys() - after.keys()),
            "appear": len(after.keys() - before.keys()),
            "change": sum(before[kept] != after[kept] for kept in before.keys() & after.keys()),
        }
        for fate, count in fates.items():
            assert visit.page.locator(f"#changes [data-fate={fate}]").count() == count, (threshold, fate)
        vanishing = visit.page.locator(".vanishing").evaluate_all("sheets => sheets.map(one => one.dataset.kept)")
        assert set(vanishing) == {video_key(made.listed.urls[kept]) for kept in before.keys() - after.keys()}
        seen.add((shown["duplicates"], fates["vanish"] > 0, fates["appear"] > 0))
    assert len(seen) >= 4, "a slider that changes nothing proves nothing"
    titles = visit.page.locator("#chart-pairs .bars title").all_text_contents()
    every = made.compared.evidence or made.compared.pairs
    assert sum(int(title.rpartition(": ")[2].replace(",", "")) for title in titles) == len(every)
    shown_verdicts = {title.partition(",")[0] for title in titles}
    assert "review" in shown_verdicts or not made.compared.evidence, "rejected pairs are drawn too"
    visit.page.get_by_role("button", name="Back to 0.3").click()
    expect(visit.page.locator("#said")).to_contain_text("that the run used")
    expect(visit.page.locator("#changes article")).to_have_count(0)


def test_the_slider_moves_by_keys_and_draws_its_line(visit: Visit, made: MadeRun) -> None:
    open_overview(visit, made.run.path)
    slider, mark = visit.page.get_by_label("Try another threshold"), visit.page.locator("#chart-pairs .mark")
    before = mark.get_attribute("transform")
    slider.press("ArrowRight")
    expect(slider).to_have_attribute("aria-valuetext", "0.31")
    assert mark.get_attribute("transform") != before
    assert mark.text_content() == "0.31"
    decided = visit.page.locator("#chart-pairs .decided").get_attribute("x1")
    was = (before or "").removeprefix("translate(").split()[0]
    assert float(was) == pytest.approx(float(decided or "nan"), abs=0.01), "where it was, a thin line stays"


def test_tables_sort_and_groups_are_found(visit: Visit, made: MadeRun) -> None:
    open_overview(visit, made.run.path)
    table = visit.page.locator("table.sortable").first
    heading = table.get_by_role("columnheader", name="URLs")
    column = "table => [...table.tBodies[0].rows].map(row => Number(row.cells[1].textContent))"
    for direction in ("ascending", "descending"):
        heading.get_by_role("button").click()
        expect(heading).to_have_attribute("aria-sort", direction)
        counts = table.evaluate(column)
        assert counts == sorted(counts, reverse=direction == "descending") and len(set(counts)) > 1
    url = next(group for group in made.matches.group(0.3)).kept
    visit.page.locator("#copies input[type=search]").fill(made.listed.urls[url].split("/")[4])
    expect(visit.page.locator("#sheets .sheet:visible")).to_have_count(1)
    visit.page.locator("#copies input[type=search]").fill("nothing is called so")
    expect(visit.page.locator("#sheets .sheet:visible")).to_have_count(0)
    visit.page.locator("#reading input[type=search]").first.fill("404")
    expect(visit.page.locator("#reading table").nth(1).locator("tbody tr:visible")).to_have_count(1)


@pytest.mark.parametrize("made", ["score"], indirect=True)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_read_it(visit: Visit, made: MadeRun, scheme: Any) -> None:
    visit.page.emulate_media(color_scheme=scheme)
    open_overview(visit, made.run.path)
    move_to(visit, 60)
    for details in visit.page.locator("details").all():
        details.evaluate("one => { one.open = true; }")
    assert violations(visit.page) == []
    visit.page.set_viewport_size({"width": 390, "height": 800})
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= 390
    levels = visit.page.locator("h1, h2, h3, h4").evaluate_all("all => all.map(one => Number(one.tagName[1]))")
    assert levels[0] == 1 and all(after - before <= 1 for before, after in pairwise(levels))


def test_colours_can_be_chosen_and_are_kept(visit: Visit, made: MadeRun) -> None:
    open_overview(visit, made.run.path)
    look = "getComputedStyle(document.body).backgroundColor"
    light = visit.page.evaluate(look)
    button = visit.page.get_by_role("button", name="Colours")
    button.click()
    button.click()
    expect(button).to_have_text("Colours: dark")
    assert visit.page.evaluate(look) != light
    visit.page.reload()
    expect(button).to_have_text("Colours: dark")
    for theme in ("dark", "automatic"):
        expect(button).to_have_text(f"Colours: {theme}")
        visit.page.emulate_media(media="print", color_scheme="dark")
        assert visit.page.evaluate(look) == "rgb(255, 255, 255)", "paper is white"
        expect(button).to_be_hidden()
        visit.page.emulate_media(media="screen")
        button.click()


def test_pairs_to_review_leave_less_room_for_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sections, "PAGE_CHARACTERS", 400_000)
    made = make_run(tmp_path / "run", sizes=[2] * 30 + [1] * 30, threshold=0.3)
    page = write_index(made.run.path).read_text(encoding="utf-8")
    groups, pairs = (
        sum(map(len, re.findall(r"data:image[^\"]+", "".join(re.findall(pattern, page, re.DOTALL)))))
        for pattern in (
            r'<article class="sheet[^"]*" id="group.*?</article>',
            r'<article class="sheet[^"]* pair.*?</article>',
        )
    )
    assert pairs > 300_000 and groups > 0
    assert groups + pairs <= 400_000
    assert (made.run.path / "reports" / "groups-2.html").exists()


def test_a_run_of_many_groups_is_shared_out(visit: Visit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sections, "PAGE_GROUPS", 40)
    made = make_run(tmp_path / "run", sizes=[2] * 110, has_pictures=False)
    write_index(made.run.path)
    pages = sorted(path.name for path in (made.run.path / "reports").iterdir())
    groups = len(made.matches.group(0.3))
    assert pages == [*(f"groups-{number}.html" for number in range(2, -(-groups // 40) + 1)), "index.html"]
    assert len(pages) > 2
    for name in pages:
        path = made.run.path / "reports" / name
        assert path.stat().st_size < 1e6
        assert len([1 for tag, attrs in open_page(path).tags if attrs.get("class") == "sheet"]) <= 40
    open_overview(visit, made.run.path)
    visit.page.get_by_text("All groups with pictures").click()
    rows = visit.page.locator("#copies table tbody tr")
    expect(rows).to_have_count(groups)
    last = rows.last.get_by_role("link")
    number = last.inner_text()
    last.click()
    expect(visit.page.locator(f"#group-{number}")).to_be_visible()
    visit.page.get_by_role("link", name="Overview of the run").click()
    write_index(made.run.path)
    assert sorted(path.name for path in (made.run.path / "reports").iterdir()) == pages


@pytest.mark.parametrize(
    ("sizes", "failed", "said"),
    [
        ([], 4, ["3 of 4 videos could not be read, so nothing was compared.", "Fewer than two videos could be read"]),
        ([1], 1, ["Fewer than two videos could be read"]),
        (
            [1] * 5,
            8,
            ["6 of 13 videos could not be read. Another 2 are not videos. Only 5 were read.", "None of the 5"],
        ),
        ([1] * 5, 4, ["No value from 0.15 to 1 would make one of these videos the copy of another", "None of the 5"]),
    ],
)
def test_a_run_without_copies_or_without_videos(
    visit: Visit, tmp_path: Path, sizes: list[int], failed: int, said: list[str]
) -> None:
    made = make_run(tmp_path / "run", sizes=sizes, failed=failed)
    page = open_page(write_index(made.run.path))
    for words in said:
        assert words in page.text
    assert "list has a copy" not in page.text
    open_overview(visit, made.run.path)
    expect(visit.page.locator("#threshold")).to_have_count(0)
    titles = visit.page.locator("figure figcaption, figure h3").all_inner_texts()
    assert not [title for title in titles if "threshold" in title or "neighbour" in title]
    assert violations(visit.page) == []


def test_no_text_from_outside_runs(visit: Visit, tmp_path: Path) -> None:
    made = make_run(tmp_path / "run", sizes=[2, 2, 1, 1, 1], failed=4, threshold=0.9)
    reports = made.run.path / "reports"
    for path in (*made.run.path.glob("*.csv"), *made.run.path.glob("*.json"), *made.run.path.glob("stages/*.json")):
        text = path.read_text(encoding="utf-8")
        hostile = f"https://x.example/{HOSTILE_TEXT.replace('alert(1)', 'console.error(1)')}{ENDING_TEXT}"
        text = text.replace("https://cdn", hostile + "cdn").replace("https://gone", hostile)
        path.write_text(text.replace("404 Not Found", hostile), encoding="utf-8")
    page = open_page(write_index(made.run.path))
    assert {path.name for path in reports.iterdir()} == {"index.html"}
    assert "<img src=https://evil.example" in page.text
    open_overview(visit, made.run.path)
    for index in range(0, 86, 5):
        move_to(visit, index)
        assert HOSTILE_TEXT[:8] in (visit.page.locator("main").text_content() or "")
    expect(visit.page.locator("script")).to_have_count(3)
    assert visit.page.locator("img[onerror], img:not([src^='data:'])").count() == 0
    # The policy stops what might slip in all the same.
    visit.expected.append("Content Security Policy")
    for tried in ("script.textContent = 'window.ran = 1'", "script.src = 'data:text/javascript,window.ran=1'"):
        visit.page.evaluate(
            f"() => {{ const script = document.createElement('script'); {tried}; document.body.append(script); }}"
        )
    visit.page.wait_for_timeout(100)
    assert visit.page.evaluate("window.ran") is None


# The shared part as bars


def shared_row(**found: object) -> dict[str, str]:
    row = {"kept_from_s": 10, "kept_to_s": 20, "offset_s": -10, "speed": 2, "kept_coverage": 0.1, "copy_coverage": 0.5}
    return {name: "" if value is None else str(value) for name, value in (row | found).items()}


@pytest.fixture
def timed(tmp_path: Path) -> RunFolder:
    """A run over two videos: of 100 and of 10 seconds, and one whose duration is not known."""
    run = RunFolder(tmp_path / "run")
    run.make()
    with Ledger(run.ledger_path, RECIPE) as ledger:
        ledger.record(
            Outcome(url=url, status=Status.OK, duration_s=duration_s)
            for url, duration_s in (("a", 100.0), ("b", 10.0), ("c", 0.0))
        )
    return run


def test_the_shared_part_lies_where_the_evidence_says(timed: RunFolder) -> None:
    with Pictures(timed, recipe=RECIPE) as pictures:
        shared = pictures.find_shared("a", "b", shared_row())
        assert shared is not None
        assert [(part.start, part.width) for part in shared] == [(10.0, 10.0), (0.0, 50.0)]
        assert [str(part) for part in shared] == ["0:10.0 to 0:20.0 of 1:40", "0:00.0 to 0:05.0 of 0:10.0"]
        # Never outside of a video, and never too narrow to be seen.
        late = pictures.find_shared("a", "b", shared_row(kept_from_s=99.9, kept_to_s=130, offset_s=-95))
        assert late is not None and all(part.start + part.width <= 100.7 for part in late)
        assert late[0].width == 0.7
        for row in (shared_row(kept_coverage=1, copy_coverage=1), shared_row(kept_to_s=None), {}):
            assert pictures.find_shared("a", "b", row) is None
        assert pictures.find_shared("a", "c", shared_row()) is None
        assert pictures.find_shared("a", "nowhere", shared_row()) is None


# Frames at the same moments


def save_film(run: RunFolder, url: str, *, begin_s: float = 0.0, length_s: float = 10.0, speed: float = 1.0) -> None:
    """Saves the storyboard of a film whose frames are as bright as the second of the original that they show."""
    run.thumbnails_dir.mkdir(parents=True, exist_ok=True)
    times_s = [0.5 * number for number in range(int(2 * length_s))]
    frames = [np.full((90, 160, 3), round(10 * (begin_s + speed * time_s)), np.uint8) for time_s in times_s]
    board = Storyboard.of(frames, times_s=times_s)
    thumbnail_path(url, thumbnails_dir=run.thumbnails_dir).write_bytes(board.to_bytes())


def seconds_of(shots: tuple[Shot, ...]) -> list[float]:
    """The seconds of the original that frames show."""
    pictures = [base64.b64decode(shot.picture.partition(",")[2]) for shot in shots]
    return [float(np.asarray(Image.open(io.BytesIO(one)).convert("L")).mean()) / 10 for one in pictures]


def test_a_whole_copy_is_shown_at_the_moments_of_the_kept_video(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    save_film(run, "kept")
    save_film(run, "copy", length_s=5.0, speed=2.0)
    row = shared_row(kept_from_s=0, kept_to_s=10, offset_s=0, speed=2, kept_coverage=1, copy_coverage=1)
    with Pictures(run, recipe=None) as pictures:
        kept = pictures.draw_shots("kept")
        beside, copy = pictures.draw_beside("kept", "copy", row)
    assert beside == () and len(kept) == len(copy) == 5
    assert seconds_of(copy) == pytest.approx(seconds_of(kept), abs=0.7)
    assert [shot.time for shot in kept] == ["0:01.0", "0:03.0", "0:05.0", "0:07.0", "0:09.0"]
    assert [shot.time for shot in copy] == ["0:00.5", "0:01.5", "0:02.5", "0:03.5", "0:04.5"]


def test_an_excerpt_is_shown_beside_the_part_that_it_is_from(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    save_film(run, "kept", length_s=20)
    save_film(run, "excerpt", begin_s=12, length_s=3)
    row = shared_row(kept_from_s=12, kept_to_s=15, offset_s=-12, speed=1, kept_coverage=0.15, copy_coverage=1)
    with Pictures(run, recipe=None) as pictures:
        beside, excerpt = pictures.draw_beside("kept", "excerpt", row)
    assert seconds_of(beside) == pytest.approx(seconds_of(excerpt), abs=0.3)
    assert seconds_of(beside)[0] == pytest.approx(12.5, abs=0.5) and len(beside) == len(excerpt) == 5


def test_without_times_or_storyboards_each_video_shows_what_it_has(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    save_film(run, "copy")
    with Pictures(run, recipe=None) as pictures:
        assert len(pictures.draw_beside("gone", "copy", shared_row())[1]) == 5
        assert len(pictures.draw_beside("copy", "copy", {})[1]) == 5
        assert pictures.draw_beside("copy", "gone", shared_row()) == ((), ())
        assert pictures.draw_shots("gone") == ()


@pytest.fixture
def report(tmp_path: Path, visit: Visit) -> Visit:
    """The report of a run over three groups and six single videos, open in a browser."""
    made = make_run(tmp_path / "run", sizes=[2, 2, 3, *[1] * 6], failed=2, threshold=0.3)
    table = pd.read_csv(made.run.path / "ads.csv", dtype=str)
    table.loc[2, "title"] = "Penumbra at noon"
    table.to_csv(made.run.path / "ads.csv", index=False)
    visit.page.goto(write_index(made.run.path).as_uri())
    return visit


def test_a_click_enlarges_the_frames_of_one_moment(report: Visit) -> None:
    page = report.page
    group = page.locator("article.sheet").first
    group.locator(".shots img").nth(2).click()
    dialog = page.locator("#enlarged")
    expect(dialog).to_be_visible()
    expect(dialog.get_by_role("status")).to_have_text("moment 3 of 4")
    shown_together = group.locator(f".shots[data-set={group.locator('.shots').first.get_attribute('data-set')}]")
    expect(dialog.locator("img")).to_have_count(shown_together.count())
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(dialog.get_by_role("status")).to_have_text("moment 4 of 4")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    group.locator(".shots").first.focus()
    page.keyboard.press("Enter")
    expect(dialog).to_be_visible()
    expect(dialog.get_by_role("status")).to_have_text("moment 1 of 4")
    dialog.get_by_role("button", name="Close").click()
    expect(dialog).to_be_hidden()


def test_frames_are_printed_and_buttons_are_not(report: Visit) -> None:
    page = report.page
    shown = page.locator(".shots img").count()
    assert shown and page.locator(".shots img:visible").count() == shown
    page.emulate_media(media="print")
    expect(page.locator(".shots img:visible")).to_have_count(shown)
    expect(page.locator(".gallery img:visible")).to_have_count(6)
    expect(page.locator("button:visible")).to_have_count(page.locator(".shots").count())


def test_the_columns_of_the_list_are_shown_and_found(report: Visit) -> None:
    page = report.page
    assert page.locator("article.sheet .caption").first.inner_text().startswith("Film ")
    page.get_by_placeholder("a title").fill("penumbra")
    expect(page.locator("#sheets > .sheet:visible")).to_have_count(1)
    expect(page.locator(".gallery li")).to_have_count(6)
    assert page.locator("#single").inner_text().startswith("Kept videos without a copy\n\n6 videos")


def test_a_list_that_was_held_against_earlier_ones_says_what_is_new(tmp_path: Path) -> None:
    made = make_run(tmp_path / "run", sizes=[2, 1], has_pictures=False, threshold=0.01)
    path = made.run.path / "summary.json"
    summary = json.loads(path.read_text(encoding="utf-8"))
    assert "already known" not in open_page(write_index(made.run.path)).text
    summary["existing"] = {"compared": 9, "repeated": 0, "urls": 1, "runs": ["Week 47"]}
    summary["rows"]["text_duplicates"] = 3
    path.write_text(json.dumps(summary), encoding="utf-8")
    said = " ".join(open_page(write_index(made.run.path)).text.split())
    final, copies = summary["rows"]["final"], summary["rows"]["duplicates"]
    repeated = 2 + copies
    assert f"Compared with Week 47: {final} new, {repeated} repeated in the list, 1 already known." in said


def test_two_urls_are_told_why_they_were_joined_or_not(tmp_path: Path, visit: Visit) -> None:
    made = make_run(tmp_path / "run", sizes=[2, 1, 1, 1], has_pictures=False, threshold=0.3)
    steps.save_compared_pairs(made.run, made.matches)
    visit.page.goto(write_index(made.run.path).as_uri())
    section = visit.page.locator("#why")
    first, second = section.get_by_role("searchbox").all()
    said = section.get_by_role("status")
    urls = made.listed.urls
    pair = made.matches.find(urls[0], urls[1])
    assert pair is not None
    # Whole URLs, in any order, with or without their scheme; or as much as only one of them has.
    for one, other in ((urls[0], urls[1]), (urls[1].removeprefix("https://"), urls[0]), ("/00000/", " /00001/ ")):
        first.fill(one)
        second.fill(other)
        expect(said).to_contain_text(f"{pair['score']:.4f}: {pair['frames_agreeing']} of 40 frames agree")
        expect(said).to_contain_text("00000/a-film-with-a-name.mp4, the second https://cdn1")
    for one, other, answer in (
        ("/00000/", "", ""),
        ("/00000/", "/00000/", "Both are the same video."),
        ("/00000/", "spots", "videos fit the second: give more of its URL."),
        ("nowhere", "/00001/", "No compared pair has a video that fits the first"),
        ("/00000/", "/00003/", "These two were not compared, because nothing proposed them; the command explain"),
    ):
        first.fill(one)
        second.fill(other)
        expect(said).to_contain_text(answer) if answer else expect(said).to_have_text("")
    assert violations(visit.page) == []


def test_without_pairs_nobody_is_asked_for_two_urls(tmp_path: Path) -> None:
    made = make_run(tmp_path / "run", sizes=[2, 1], has_pictures=False, threshold=0.3)
    made.run.pairs_path.unlink(missing_ok=True)
    assert 'id="why"' not in write_index(made.run.path).read_text(encoding="utf-8")

"""The report of a run, `reports/index.html`.

One file that may be mailed: it opens offline and asks nobody for anything. Its only script is
`templates/overview.js`, allowed by its hash; what the script shows lies in the page as JSON. Many groups are shared out
over further pages, `groups-2.html` and so on.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from dedup_lib.groups.decisions import Decision, describe_decisions
from dedup_lib.lists.tables import load_table
from dedup_lib.records import Progress, Recipe, Status, no_progress
from dedup_lib.report import charts, sections
from dedup_lib.report.about_run import describe_comparison, describe_run, show_date
from dedup_lib.report.compared import list_compared
from dedup_lib.report.contact_sheet import Sheet, draw_gallery, draw_groups, draw_pair, rank_groups
from dedup_lib.report.pages import link_pages, mark_outdated, save_page
from dedup_lib.report.pictures import Pictures
from dedup_lib.report.words import (
    DECIDED_MEANINGS,
    DECISION_WORDS,
    STATUS_WORDS,
    count_words,
    describe_news,
    describe_no_copies,
    flow_steps,
    join_words,
    status_meaning,
)
from dedup_lib.run.files import digest_file
from dedup_lib.run.folder import Record, RunFolder
from dedup_lib.settings import FLOWS, ExtractSettings, SearchSettings

EVIDENCE_STAGE = SearchSettings.stage

MAX_GROUPS = 3_000
"""Most groups with images, over all pages; the CSV of duplicates lists all groups."""

MAX_COPIES = 12

MAX_REASONS = 400

MAX_ROWS_SET_ASIDE = 1_000

MAX_REPEATED = 1_000

MAX_GALLERY = 60
"""Most kept videos without a copy that are shown."""

_PARTS = (
    *("stopped", "progress", "news", "tiles", "is_unaccounted", "trouble"),
    *("sweep", "sweep_json", "compared_json", "decision"),
)
"""The parts of a page that a run has only with a result, or only without one."""


@cache
def load_script() -> tuple[str, str]:
    """The script of the overview, and its hash for the content security policy."""
    source = resources.files("dedup_lib.report").joinpath("templates/overview.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
    return source, f"'sha256-{digest}'"


def find_recipe(stages: Mapping[str, Record]) -> Recipe | None:
    """The recipe of the run's vectors; None when 03_extract has not recorded one."""
    found = stages.get(ExtractSettings.stage, {}).get("recipe")
    try:
        return Recipe(**found) if found else None
    except TypeError:
        # Another version of the project wrote this recipe.
        return None


def describe_progress(stages: Mapping[str, Record], *, pages: Sequence[Mapping[str, str]]) -> dict[str, object]:
    """The values of the overview for a run that has not finished."""
    stopped = [page for page in pages if page["name"] not in stages]
    finished = join_words(list(stages))
    return {
        "headline": "This run is not finished",
        "subline": f"Finished: {finished}. There is no result yet." if finished else "No notebook has finished yet.",
        "stopped": stopped,
        "progress": [
            {
                "name": name,
                "counts": [(key.replace("_", " "), count) for key, count in record.get("counts", {}).items()],
            }
            for name, record in stages.items()
        ],
    }


def expect_other_outputs(run: RunFolder) -> None:
    """Marks the report of a run as outdated, because its outputs are about to be written again.

    Raises RunFolderError for an error of the disk, or when another process works in the run folder.
    """
    with run.locked(EVIDENCE_STAGE):
        mark_outdated(
            run,
            "index.html",
            "groups-*.html",
            f"{EVIDENCE_STAGE}.html",
            words=f"{EVIDENCE_STAGE} has written the outputs again since this page was made.",
        )


def write_again(run: RunFolder, *, begin: Progress = no_progress) -> None:
    """Writes the overview again after 06_search_and_clean ran alone; a run of the whole flow writes it at its own end.
    Raises the errors of `expect_other_outputs`."""
    with run.locked(EVIDENCE_STAGE) as lock:
        is_by_itself = lock.is_own
    # No lock is needed: every page is written completely or not at all. The app may have several visitors at once.
    if is_by_itself:
        # This import takes seconds.
        from dedup_lib.report.notebook_pages import render_pages

        render_pages(run, is_all=False)
        write_index(run.path, begin=begin)


def find_disagreements(run: RunFolder, *, summary: Record, stages: Mapping[str, Record]) -> list[str]:
    """Says why the outputs differ from what the notebooks last wrote, as sentences; empty when they do not differ."""
    said = []
    decided = stages.get(EVIDENCE_STAGE, {}).get("finished", "")
    flow = {name for names in FLOWS.values() for name in names} - {EVIDENCE_STAGE}
    later = [name for name, record in stages.items() if name in flow and record.get("finished", "") > decided]
    if decided and later:
        said.append(f"{join_words(later)} ran after {EVIDENCE_STAGE}: run that again to bring the outputs up to date.")
    changed = [
        summary["files"][name]
        for name, digest in summary.get("digests", {}).items()
        # A file that was moved away has no digest and does not contradict the report.
        if digest_file(run.path / summary["files"][name]) not in ("", digest)
    ]
    if changed:
        verb = "is" if len(changed) == 1 else "are"
        said.append(
            f"{join_words(changed)} {verb} no longer what {EVIDENCE_STAGE} wrote: somebody changed it, or a later call "
            "was cut off. To write it again, run that again."
        )
    return said


def write_index(run_dir: Path, *, begin: Progress = no_progress) -> Path:
    """Writes `reports/index.html` with the result, the evidence, other thresholds, the files and the settings, and
    links the pages beside it with each other. Returns its path.

    For a run that failed early, the page says how far it got. Groups that would make it too large for a mail go to
    further pages beside it. The page says what it leaves out; the CSVs have everything. `begin` gets the progress over
    the groups.
    """
    run = RunFolder(run_dir)
    summary = run.read_summary() or {}
    stages = run.read_records()
    for old in run.reports_dir.glob("groups-*.html"):
        old.unlink(missing_ok=True)
    pages = [
        {"name": path.stem, "href": quote(path.name)}
        for path in sorted(run.reports_dir.glob("*.html"))
        if path.name != "index.html"
    ]
    recipe = find_recipe(stages)
    script, script_hash = load_script()
    pace, memory = sections.draw_pace(run, recipe=recipe), sections.draw_memory(stages)
    latest = list(stages.values())[-1] if stages else {}
    shared: dict[str, Any] = {
        "name": run.path.name,
        "list": summary.get("list", ""),
        "version": latest.get("versions", {}).get("dedup_lib", ""),
        "script": script,
        "script_hash": script_hash,
    }
    values: dict[str, Any] = shared | {
        "has_summary": bool(summary),
        "pages": pages,
        "evidence": next((page for page in pages if page["name"] == EVIDENCE_STAGE), None),
        "files": sections.list_files(run, summary=summary, stages=stages),
        "settings": [
            {"name": name, "settings": list(record.get("settings", {}).items())} for name, record in stages.items()
        ],
        "versions": list(latest.get("versions", {}).items()),
        "pace_words": [words for words, _ in (pace, memory) if words],
        "pace": [chart for _, chart in (pace, memory) if chart is not None],
        "when": show_date(latest.get("finished", "")),
        "facts": describe_run(run, summary, stages),
        "disagreements": find_disagreements(run, summary=summary, stages=stages) if summary else [],
        **dict.fromkeys(_PARTS),
    }
    index_path = run.reports_dir / "index.html"
    with Pictures(run, recipe=recipe) as pictures:
        if summary:
            copies = _load_output(run, summary, "duplicates")
            values |= _describe_result(run, summary, pictures, copies=copies, shared=shared, begin=begin)
            values |= _describe_single(run, summary, stages, pictures, copies=copies)
        else:
            values |= describe_progress(stages, pages=pages)
    save_page(index_path, "index.html", **values)
    link_pages(run.reports_dir)
    return index_path


def _load_output(run: RunFolder, summary: Record, key: str) -> pd.DataFrame:
    path = run.path / summary.get("files", {}).get(key, f"{key}.csv")
    return load_table(path) if path.exists() else pd.DataFrame()


def _describe_result(
    run: RunFolder,
    summary: Record,
    pictures: Pictures,
    *,
    copies: pd.DataFrame,
    shared: Mapping[str, Any],
    begin: Progress,
) -> dict[str, Any]:
    """The values of the overview for a run with a result. Also writes the further pages of groups."""

    rows = summary["rows"]
    flow = flow_steps(rows)
    is_unaccounted = any(step.name == "unaccounted" for step in flow)
    headline, subline = sections.describe_rows(rows, is_unaccounted=is_unaccounted)
    doubtful = _load_output(run, summary, "review")
    set_aside = pd.concat(
        [_load_output(run, summary, key) for key in ("failed_urls", "invalid_urls")], ignore_index=True
    )
    ranked = rank_groups(copies)
    review = [draw_pair(row, pictures) for row in doubtful.head(sections.MAX_REVIEWED).to_dict("records")]
    decisions = summary.get("decisions", {})
    decided = sections.draw_decided(run, summary, pictures)
    taken = sum(video.weight for pair in (*review, *decided) for video in pair)
    first, parts = _write_groups(run, ranked[:MAX_GROUPS], pictures, taken=taken, shared=shared, begin=begin)
    reasons = sections.reason_table(set_aside)
    existing = summary.get("existing", {}).get("compared", 0)
    compared = summary["statuses"].get(Status.OK, 0)
    is_compared = compared > 0 and compared + existing > 1
    sweep = run.read_json(run.sweep_path, stage=SearchSettings.stage) if is_compared else None
    described = sections.describe_sweep(sweep) if sweep else None
    asked = list_compared(run) if is_compared else {}
    on_page = {video.key for sheet in first for video in (sheet.kept, *sheet.copies)}
    on_page |= {video.key for pair in (*review, *decided) for video in pair}
    return {
        "headline": headline,
        "subline": subline,
        "news": describe_news(summary),
        "rows": rows,
        "tiles": sections.outcome_tiles(rows),
        "flows": [charts.draw_flow(flow, is_upright=upright) for upright in (False, True)] if rows["input"] else [],
        "flow_words": "Rows of the list: " + ", ".join(f"{step.words} {step.shown}" for step in flow),
        "is_unaccounted": is_unaccounted,
        "sheets": first,
        "parts": parts,
        "group_words": sections.describe_groups(
            min(len(ranked), MAX_GROUPS), all_groups=len(ranked), copies=len(copies)
        ),
        "no_copies": describe_no_copies(compared, existing=existing),
        "trouble": sections.describe_trouble(summary, is_compared=is_compared),
        "sweep": described,
        "sweep_json": sections.embed_sweep(sweep, final=rows["final"], shown=on_page, pictures=pictures)
        if sweep and described and described["has_copies"]
        else "",
        "compared_json": sections.embed_json(asked) if asked else "",
        "hidden_compared": asked.get("hidden", 0),
        "review": review,
        "decided": decided,
        "decided_meanings": DECIDED_MEANINGS,
        "decided_words": describe_decisions(decisions),
        "hidden_decided": sum(int(decisions.get(kind, 0)) for kind in Decision) - len(decided),
        "hidden_review": max(0, len(doubtful) - sections.MAX_REVIEWED),
        "reasons": reasons[:MAX_REASONS],
        "hidden_reasons": max(0, len(reasons) - MAX_REASONS),
        "set_aside": set_aside.head(MAX_ROWS_SET_ASIDE).to_dict("records"),
        "hidden_set_aside": max(0, len(set_aside) - MAX_ROWS_SET_ASIDE),
        "statuses": [
            {
                "name": status.value,
                "count": summary["statuses"][status],
                "words": STATUS_WORDS[status],
                "meaning": status_meaning(status),
            }
            for status in Status
            if summary["statuses"].get(status)
        ],
        "decision": [
            *describe_comparison(summary["decision"]).items(),
            *((words, summary["decision"][key]) for key, words in DECISION_WORDS.items() if key in summary["decision"]),
        ],
    }


def _describe_single(
    run: RunFolder, summary: Record, stages: Mapping[str, Record], pictures: Pictures, *, copies: pd.DataFrame
) -> dict[str, Any]:
    """The values of the overview about kept videos without a copy, and about repeated URLs."""
    final = _load_output(run, summary, "FINAL_RESULT")
    column = next((record["url_column"] for record in stages.values() if "url_column" in record), "url")
    kept = set(copies["duplicate_of"]) if len(copies) else set()
    single = [url for url in final[column] if url not in kept] if column in final else []
    repeated = _load_output(run, summary, "text_duplicates")
    all_of_them = count_words(len(single), ("video", "videos"))
    return {
        "gallery": draw_gallery(single[:MAX_GALLERY], pictures),
        "gallery_words": f"{all_of_them}, each from its middle."
        if len(single) <= MAX_GALLERY
        else f"The first {MAX_GALLERY} of {all_of_them}, each from its middle; FINAL_RESULT.csv lists all.",
        "repeated": repeated.head(MAX_REPEATED).to_dict("records"),
        "repeated_words": f"{count_words(len(repeated), ('row repeats', 'rows repeat'))} a URL that stands above",
        "hidden_repeated": max(0, len(repeated) - MAX_REPEATED),
    }


def _tell(progress: Callable[[int], object], sheets: Iterable[Sheet]) -> Iterator[Sheet]:
    for sheet in sheets:
        progress(1)
        yield sheet


def _write_groups(
    run: RunFolder,
    ranked: Sequence[tuple[int, pd.DataFrame]],
    pictures: Pictures,
    *,
    taken: int,
    shared: Mapping[str, Any],
    begin: Progress,
) -> tuple[list[Sheet], list[dict[str, Any]]]:
    """Writes the further pages of groups. `taken` is the weight of the other images of the overview. Returns the sheets
    of the first page and, when there are further pages, a row for each group."""
    first: list[Sheet] = []
    listed: list[dict[str, Any]] = []
    number = 1
    drawn = _tell(begin("drawing groups of copies", len(ranked)), draw_groups(ranked, pictures, most_copies=MAX_COPIES))
    for number, sheets in enumerate(sections.share_out_pages(drawn, taken=taken), start=1):
        href = f"groups-{number}.html" if number > 1 else ""
        if number == 1:
            first = sheets
        else:
            save_page(run.reports_dir / href, "groups.html", **shared, sheets=sheets, number=number)
        listed += [
            {
                "number": sheet.number,
                "size": sheet.size,
                "url": sheet.kept.url,
                "lowest": sheet.lowest,
                "href": f"{href}#group-{sheet.number}",
            }
            for sheet in sheets
        ]
    return first, listed if number > 1 else []

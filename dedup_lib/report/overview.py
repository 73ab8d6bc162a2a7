"""The overview of a run, `reports/index.html`: what came of the list, why, and what another threshold would decide.

One file that may be mailed: it opens offline and asks nobody for anything. Its only script is
`templates/overview.js`, allowed by its hash; what the script shows lies in the page as JSON. Many groups are shared out
over further pages, `groups-2.html` and so on.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pandas as pd

from dedup_lib.errors import RunFolderError
from dedup_lib.groups.decisions import describe_decisions
from dedup_lib.lists.tables import load_table
from dedup_lib.match.evidence import Rule
from dedup_lib.records import Begin, Recipe, Status, begin_silently
from dedup_lib.report import charts
from dedup_lib.report.contact_sheet import Pictures, Sheet, Video, draw_groups, draw_pair, rank_groups
from dedup_lib.report.pages import link_pages, mark_outdated, page_templates, render_pages, save_page
from dedup_lib.report.plots import FlowStep, describe_no_copies, flow_steps, short_url, status_meaning
from dedup_lib.run.failures import Cause, Reading
from dedup_lib.run.files import digest_file
from dedup_lib.run.folder import Record, RunFolder
from dedup_lib.run.ledger import LedgerView
from dedup_lib.sanitise import show_line
from dedup_lib.settings import FLOWS, ExtractSettings, SearchSettings

EVIDENCE_STAGE = SearchSettings.stage

MOST_GROUPS = 3_000
"""Groups with pictures, over all pages; the CSV of duplicates has all."""
MOST_COPIES = 12
MOST_REVIEWED = 60
MOST_REASONS = 400
MOST_MAIN_REASONS = 5
MOST_ROWS_SET_ASIDE = 1_000
MOST_SWEPT_PICTURES = 300
"""Of videos in groups that only another threshold would make."""

PAGE_CHARACTERS = 5_500_000
"""Pictures that a page may hold, so that it can be mailed."""
PAGE_GROUPS = 400

STATUS_WORDS = {
    Status.OK: "read, with frames that can be compared",
    Status.FEATURELESS: "read, but every frame is one flat colour: it cannot be compared, and is kept",
    Status.IMAGE: "an image, not a video",
    Status.HTML: "a web page, not a video",
    Status.NOT_VIDEO: "not in a known video format, a playlist, or an empty file",
    Status.NO_VIDEO_STREAM: "sound only",
    Status.INVALID_URL: "an empty cell, or not a URL that can be fetched",
    Status.UNREACHABLE: "the host does not exist, or refuses or drops the connection",
    Status.HTTP_ERROR: "the server answers with an error, or with something that makes no sense",
    Status.TIMEOUT: "not finished within timeout_s, or no answer for 15 seconds",
    Status.TOO_LARGE: "more than max_bytes, or pictures too large or too many to decode",
    Status.DECODE_ERROR: "damaged, cut off or encrypted",
    Status.DECODE_CRASH: "the file crashed its decoder",
    Status.BLOCKED_ADDRESS: "leads to a private address, which is not allowed, or redirects from https to http",
    Status.PENDING: "not read yet: outside start and end, or the run stopped before it",
}

DECISION_WORDS = {
    "threshold": "similarity from which on two videos are copies",
    "num_frames": "frames per video",
    "frame_span": "where the frames are taken",
    "schema": "what is compared",
    "largest_group": "videos in the largest group",
    "measure": "what is compared with the threshold",
    "pairs": "pairs of copies",
    "weighed": "pairs whose pictures were compared",
    "review": "pairs that a person should look at",
    "searched_deeper": "videos searched deeper than top_k",
}

FILE_WORDS = {
    "FINAL_RESULT": "the clean list: every video once",
    "duplicates": "copies removed, each with the video kept in its place and the evidence",
    "review": "pairs of videos that a person should look at, with the evidence",
    "invalid_urls": "rows that are certainly not videos, with the reason",
    "failed_urls": "rows that could not be read, with the reason and whether trying again may help",
    "text_duplicates": "rows that repeat a URL above them, perhaps in another spelling, with the rule",
    "featureless_urls": "videos without usable frames: kept, but not compared",
}

LOSS_WORDS = {
    "text_duplicates": ("repeated URL", "repeated URLs"),
    "duplicates": ("copy of a kept video", "copies of kept videos"),
    "invalid": ("row that is not a video", "rows that are not videos"),
    "failed": ("row that could not be read", "rows that could not be read"),
}


def count_words(count: int, words: tuple[str, str]) -> str:
    """A count with its noun in the singular or plural."""
    return f"{count:,} {words[0] if count == 1 else words[1]}"


def join_words(parts: Sequence[str]) -> str:
    """An enumeration: "a, b and c"."""
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1]))) if parts else ""


def describe_rows(rows: Mapping[str, int], *, is_unaccounted: bool) -> tuple[str, str]:
    """What came of a list, as a headline and the sentence below it."""
    headline = (
        f"{count_words(rows['input'], ('row', 'rows'))} in, {count_words(rows['final'], ('video', 'videos'))} kept"
    )
    losses = [count_words(rows[name], words) for name, words in LOSS_WORDS.items() if rows[name]]
    sentence = f"Set aside: {join_words(losses)}" if losses else "Nothing was set aside"
    account = "some rows are unaccounted for" if is_unaccounted else "every row is accounted for"
    return headline, f"{sentence}; {account}."


def outcome_tiles(rows: Mapping[str, int]) -> list[dict[str, object]]:
    """One tile an outcome: its rows, words and share of the list."""
    words = {
        "final": ("kept", "videos kept"),
        "duplicates": ("duplicate", "copies of kept videos"),
        "text_duplicates": ("repeated", "repeated URLs"),
        "invalid": ("invalid", "not videos"),
        "failed": ("failed", "could not be read"),
    }
    return [
        {
            "meaning": meaning,
            "rows": rows[name],
            "words": label,
            "share": f"{rows[name] / rows['input']:.1%} of the list" if rows["input"] else "",
        }
        for name, (meaning, label) in words.items()
    ]


def describe_trouble(summary: Record, *, is_compared: bool) -> dict[str, Any] | None:
    """What stands above everything else where most rows gave no video, or nothing could be compared; else None."""
    if "reading" not in summary:
        # Of an earlier version.
        return None
    reading = Reading(**summary["reading"])
    if not (reading.is_poor or (not is_compared and reading.read < reading.tried) or not reading.tried):
        return None
    causes = [Cause(**cause) for cause in summary["causes"]]
    rest = f"Only {reading.read:,} were read." if is_compared else ""
    return {
        "words": f"{reading.headline}." if is_compared else f"{reading.headline}, so nothing was compared.",
        "others": " ".join(filter(None, (reading.others, rest))),
        "causes": [
            {"rows": cause.rows, "words": str(cause), "remedy": cause.remedy} for cause in causes[:MOST_MAIN_REASONS]
        ],
        "more_causes": max(0, len(causes) - MOST_MAIN_REASONS),
    }


def draw_decided(run: RunFolder, summary: Record, pictures: Pictures) -> list[tuple[Video, Video]]:
    """The pairs that people decided, with their frames; a summary names their videos by key alone."""
    found = summary.get("decisions", {}).get("pairs", [])
    recipe = Recipe(**summary["recipe"]) if found else None
    if recipe is None or not run.ledger_path.exists():
        return []
    drawn = []
    with LedgerView(run.ledger_path) as ledger:
        for decision, *keys in found[:MOST_REVIEWED]:
            outcomes = [ledger.load_outcome(recipe.key, key) for key in keys]
            urls = [outcome.url for outcome in outcomes if outcome is not None]
            if len(urls) == len(keys):
                row = {"first_url": urls[0], "second_url": urls[1], "verdict": decision, "rule": str(Rule.PERSON)}
                drawn.append(draw_pair(row, pictures))
    return drawn


def load_rows(path: Path) -> pd.DataFrame:
    """A CSV of the run as text, without rows when there is no such file."""
    return load_table(path) if path.exists() else pd.DataFrame()


def find_host(url: str) -> str:
    """The host of a URL as people read it; empty where it has none."""
    try:
        return show_line(urlsplit(url).hostname or "")
    except ValueError:
        return ""


def reason_table(set_aside: pd.DataFrame) -> list[dict[str, object]]:
    """How often each reason occurs and at which hosts, the most frequent first; rows of the CSVs of invalid and failed
    URLs."""
    if set_aside.empty:
        return []
    table = []
    for (status, reason), rows in set_aside.groupby(["status", "reason"]):
        hosts = Counter(filter(None, map(find_host, rows["url"])))
        table.append(
            {
                "status": status,
                "reason": reason,
                "count": len(rows),
                "example": rows["url"].iloc[0],
                "hosts": ", ".join(f"{host} ({count:,})" for host, count in hosts.most_common(3)),
                "more_hosts": max(0, len(hosts) - 3),
                "meaning": status_meaning(Status(str(status))),
            }
        )
    return sorted(table, key=lambda row: (-row["count"], row["status"], row["reason"]))


def list_files(run: RunFolder, *, summary: Record, stages: Mapping[str, Record]) -> list[dict[str, str]]:
    """Files that the run wrote and that are still there, the results first, with links from the overview."""
    named = [(FILE_WORDS.get(key, key), path) for key, path in summary.get("files", {}).items()]
    named += [
        (f"written by {stage}", path)
        for stage, record in stages.items()
        for key, path in record.get("files", {}).items()
        if key != "input_csv"
    ]
    files: dict[Path, dict[str, str]] = {}
    for words, path in named:
        whole = (run.path / path).resolve()
        if path and whole.is_file() and whole not in files:
            inside = whole.is_relative_to(run.path.resolve())
            files[whole] = {
                "name": str(whole.relative_to(run.path.resolve())) if inside else run.shown(whole),
                "href": quote(os.path.relpath(whole, run.reports_dir.resolve()), errors="replace"),
                "words": words,
            }
    return list(files.values())


def load_json(path: Path) -> Record:
    """A JSON object of the run folder; empty where there is none."""
    record: Record = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return record


def describe_flow(flow: Sequence[FlowStep]) -> str:
    """The picture of the flow in words, for those who do not see it."""
    return "Rows of the list: " + ", ".join(f"{step.words} {step.shown}" for step in flow)


def embed_json(value: object) -> str:
    """JSON that may stand inside a script element: no text in it can end the element or start a comment, and nothing
    but ASCII is in it."""
    text = json.dumps(value, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@cache
def load_script() -> tuple[str, str]:
    """The script of the overview, and its hash for the content security policy."""
    source, _, _ = page_templates().loader.get_source(page_templates(), "overview.js")  # type: ignore[union-attr]
    digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
    return source, f"'sha256-{digest}'"


def find_recipe(stages: Mapping[str, Record]) -> Recipe | None:
    """By which settings the run's vectors were made, where 03_extract got that far."""
    found = stages.get(ExtractSettings.stage, {}).get("recipe")
    try:
        return Recipe(**found) if found else None
    except TypeError:
        # Of another version.
        return None


def draw_pace(run: RunFolder, *, recipe: Recipe | None) -> tuple[str, charts.Chart | None]:
    """How many URLs were done over the time in which 03_extract was at work, in words and as a chart."""
    if not run.ledger_path.exists():
        return "", None
    try:
        with LedgerView(run.ledger_path) as ledger:
            latest = ledger.load_extraction()
            key = recipe.key if recipe is not None else latest.recipe if latest is not None else ""
            calls = ledger.load_extractions(key)
            finishes = [datetime.fromisoformat(text) for text in ledger.load_finishes(key)]
    except (RunFolderError, ValueError):
        return "", None
    times_s, done, worked_s, before, busy = [0.0], [0], 0.0, 0, 0
    for call in calls:
        began = datetime.fromisoformat(call.began)
        inside = [
            when for when in finishes if began <= when <= datetime.fromisoformat(call.heard) + timedelta(seconds=1)
        ]
        if not inside:
            continue
        times_s += [worked_s + (when - began).total_seconds() for when in inside]
        done += range(before + 1, before + len(inside) + 1)
        worked_s, before, busy = times_s[-1], done[-1], busy + 1
    if worked_s <= 0:
        return "", None
    often = f", in {busy} calls" if busy > 1 else ""
    words = f"{count_words(before, ('URL', 'URLs'))} in {worked_s:,.1f} s{often}: {before / worked_s:,.2f} per second."
    step = max(1, len(times_s) // 300)
    kept = sorted({*range(0, len(times_s), step), len(times_s) - 1})
    chart = charts.draw_lines(
        [times_s[index] for index in kept],
        [("", "neutral", [float(done[index]) for index in kept])],
        name="pace",
        title="URLs done over time",
        x_label="seconds of work",
        y_label="URLs done",
        is_filled=True,
    )
    return words, chart


def draw_memory(stages: Mapping[str, Record]) -> tuple[str, charts.Chart | None]:
    """What 03_extract took of the machine in its longest call, in words and as a chart."""
    resources = stages.get(ExtractSettings.stage, {}).get("resources", {})
    times_s, memory_mib = resources.get("time_s", []), resources.get("memory_mib", [])
    if len(times_s) < 2:
        return "", None
    cpu = max(resources.get("cpu_percent", [0.0]))
    words = f"At most {max(memory_mib):,.0f} MiB of memory, and {cpu:,.0f} % of one core."
    chart = charts.draw_lines(
        times_s,
        [("", "neutral", memory_mib)],
        name="memory",
        title="Memory over time",
        x_label="seconds since the start of the longest call",
        y_label="MiB",
        is_filled=True,
    )
    return words, chart


def describe_sweep(sweep: Record) -> dict[str, Any]:
    """The charts of the thresholds, without those that would be empty, and what the slider says at first."""
    thresholds, decided = sweep["thresholds"], sweep["thresholds"].index(sweep["threshold"])
    points, nearest = sweep["points"], sweep["nearest"]
    step = thresholds[-1] - thresholds[-2] if len(thresholds) > 1 else 0.01
    measure = "score (how surely two videos are the same)" if sweep["measure"] == "score" else "cosine"
    drawn = [
        (
            sweep["pairs"],
            charts.draw_histogram(
                [*thresholds, round(thresholds[-1] + step, 4)],
                sweep["pairs"],
                name="pairs",
                title="Pairs that some threshold would call copies",
                noun="pairs",
                x_label=measure,
                mark=sweep["threshold"],
            ),
        ),
        (
            points["duplicates"],
            charts.draw_lines(
                thresholds,
                [
                    ("copies removed", "duplicate", points["duplicates"]),
                    ("groups", "neutral", points["groups"]),
                ],
                name="sweep",
                title="What each threshold would decide",
                x_label="threshold",
                y_label="count",
                mark=sweep["threshold"],
            ),
        ),
        (
            nearest["counts"],
            charts.draw_histogram(
                nearest["edges"],
                nearest["counts"],
                name="nearest",
                title="Each video's nearest neighbour",
                noun="videos",
                x_label=sweep["measure"],
                mark=sweep["threshold"],
            ),
        ),
    ]
    return {
        "parameter": sweep["parameter"],
        "threshold": sweep["threshold"],
        "steps": len(thresholds),
        "decided": decided,
        "low": thresholds[0],
        "high": thresholds[-1],
        "is_exact": sweep["is_exact"],
        "left_out": sweep["parts_left_out"],
        "has_copies": any(points["duplicates"]),
        "charts": [chart for values, chart in drawn if any(values)],
        "without": nearest["without"],
        "groups": points["groups"][decided],
        "duplicates": points["duplicates"][decided],
        "largest_group": points["largest_group"][decided],
    }


def embed_sweep(sweep: Record, *, final: int, shown: set[str], pictures: Pictures) -> str:
    """What the slider needs, as JSON for the page: the sweep, the rows of the clean list as decided, and pictures of
    videos of which the page shows none (by key: `shown` has some)."""
    needed: dict[str, str] = {}
    for row, (key, _) in sweep["videos"].items():
        if key not in shown and len(needed) < MOST_SWEPT_PICTURES:
            needed[row] = pictures.draw_strip(key)
    whole = {name: value for name, value in sweep.items() if name != "nearest"} | {
        "final": final,
        "pictures": {row: picture for row, picture in needed.items() if picture},
        "videos": {row: [key, short_url(url, most=90)] for row, (key, url) in sweep["videos"].items()},
    }
    return embed_json(whole)


def share_out_pages(sheets: Iterator[Sheet]) -> Iterator[list[Sheet]]:
    """Sheets in pages of a size that can be mailed, at least one of them, which may be empty."""
    page: list[Sheet] = []
    weight = 0
    for sheet in sheets:
        if page and (len(page) == PAGE_GROUPS or weight + sheet.weight > PAGE_CHARACTERS):
            yield page
            page, weight = [], 0
        page.append(sheet)
        weight += sheet.weight
    yield page


def describe_groups(shown: int, *, all_groups: int, copies: int) -> str:
    """How many groups there are and how many of them the pages show."""
    found = (
        f"{count_words(copies, ('copy', 'copies'))} in {count_words(all_groups, ('group', 'groups'))}, largest first."
    )
    if shown == all_groups:
        return found
    return f"{found} Only the {shown:,} largest groups are shown here; the CSV of duplicates lists all {all_groups:,}."


def describe_progress(stages: Mapping[str, Record], *, pages: Sequence[Mapping[str, str]]) -> dict[str, object]:
    """What the overview says of a run that did not reach its end."""
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
    """Have the report of a run say that it is outdated, until it is made again: its outputs are about to be written.

    Raises RunFolderError when the disk refuses, or another process works on the run folder.
    """
    with run.locked(EVIDENCE_STAGE):
        mark_outdated(
            run,
            "index.html",
            "groups-*.html",
            f"{EVIDENCE_STAGE}.html",
            words=f"{EVIDENCE_STAGE} has written the outputs again since this page was made.",
        )


def write_again(run: RunFolder, *, begin: Begin = begin_silently) -> None:
    """Make the overview again when 06_search_and_clean was run by itself; a run of the flow makes it at its own end.
    Raises as `expect_other_outputs` does."""
    with run.locked(EVIDENCE_STAGE) as lock:
        is_by_itself = lock.is_own
    # Without the lock, for the app may have several visitors, and each page is written whole or not at all.
    if is_by_itself:
        render_pages(run, is_all=False)
        write_index(run.path, begin=begin)


def find_disagreements(run: RunFolder, *, summary: Record, stages: Mapping[str, Record]) -> list[str]:
    """Why the outputs are not what the notebooks last made, as sentences; empty where they are."""
    said = []
    decided = stages.get(EVIDENCE_STAGE, {}).get("finished", "")
    flow = {name for names in FLOWS.values() for name in names} - {EVIDENCE_STAGE}
    later = [name for name, record in stages.items() if name in flow and record.get("finished", "") > decided]
    if decided and later:
        said.append(f"{join_words(later)} ran after {EVIDENCE_STAGE}: run that again to bring the outputs up to date.")
    changed = [
        summary["files"][name]
        for name, digest in summary.get("digests", {}).items()
        # A file that was moved away says nothing else than the report.
        if digest_file(run.path / summary["files"][name]) not in ("", digest)
    ]
    if changed:
        verb = "is" if len(changed) == 1 else "are"
        said.append(
            f"{join_words(changed)} {verb} no longer what {EVIDENCE_STAGE} wrote: somebody changed it, or a later call "
            "was cut off. To write it again, run that again."
        )
    return said


def write_index(run_dir: Path, *, begin: Begin = begin_silently) -> Path:
    """Write `reports/index.html`: what came of the list, the evidence, other thresholds, the files, the settings;
    and link the pages beside it with each other.

    Works for a run that failed early too: the page then says how far it got. Groups that would make it too large for a
    mail go to further pages beside it. What is left out is said, and stands in the CSVs. `begin` is told of the groups.
    """
    run = RunFolder(run_dir)
    summary = load_json(run.path / "summary.json")
    stages = {path.stem: load_json(path) for path in sorted((run.path / "stages").glob("*.json"))}
    for old in run.reports_dir.glob("groups-*.html"):
        old.unlink(missing_ok=True)
    pages = [
        {"name": path.stem, "href": quote(path.name)}
        for path in sorted(run.reports_dir.glob("*.html"))
        if path.name != "index.html"
    ]
    recipe = find_recipe(stages)
    script, script_hash = load_script()
    pace, memory = draw_pace(run, recipe=recipe), draw_memory(stages)
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
        "files": list_files(run, summary=summary, stages=stages),
        "settings": [
            {"name": name, "settings": list(record.get("settings", {}).items())} for name, record in stages.items()
        ],
        "versions": list(latest.get("versions", {}).items()),
        "pace_words": [words for words, _ in (pace, memory) if words],
        "pace": [chart for _, chart in (pace, memory) if chart is not None],
        "stopped": (),
        "progress": (),
        "rows": {},
        "flows": [],
        "flow_words": "",
        "sweep": None,
        "sweep_json": "",
        "trouble": None,
        "disagreements": find_disagreements(run, summary=summary, stages=stages) if summary else [],
        "decided": (),
        "hidden_decided": 0,
        "decided_words": "",
        "no_copies": "",
        "is_unaccounted": False,
        **dict.fromkeys(("tiles", "statuses", "reasons", "set_aside", "decision", "review", "sheets", "parts"), ()),
        **dict.fromkeys(("hidden_reasons", "hidden_set_aside", "hidden_review"), 0),
        "group_words": "",
    }
    index_path = run.reports_dir / "index.html"
    with Pictures(run, recipe=recipe) as pictures:
        if summary:
            values |= _describe_result(run, summary, pictures, shared=shared, begin=begin)
        else:
            values |= describe_progress(stages, pages=pages)
    save_page(index_path, "index.html", **values)
    link_pages(run.reports_dir)
    return index_path


def _describe_result(
    run: RunFolder, summary: Record, pictures: Pictures, *, shared: Mapping[str, Any], begin: Begin
) -> dict[str, Any]:
    """What the overview says of a run that has a result; further pages of groups are written on the way."""

    def load_output(key: str) -> pd.DataFrame:
        return load_rows(run.path / summary.get("files", {}).get(key, f"{key}.csv"))

    rows = summary["rows"]
    flow = flow_steps(rows)
    is_unaccounted = any(step.name == "unaccounted" for step in flow)
    headline, subline = describe_rows(rows, is_unaccounted=is_unaccounted)
    copies, doubtful = load_output("duplicates"), load_output("review")
    set_aside = pd.concat([load_output("failed_urls"), load_output("invalid_urls")], ignore_index=True)
    ranked = rank_groups(copies)
    first, parts = _write_groups(run, ranked[:MOST_GROUPS], pictures, shared=shared, begin=begin)
    review = [draw_pair(row, pictures) for row in doubtful.head(MOST_REVIEWED).to_dict("records")]
    decisions = summary.get("decisions", {})
    decided = draw_decided(run, summary, pictures)
    reasons = reason_table(set_aside)
    existing = summary.get("existing", {}).get("compared", 0)
    compared = summary["statuses"].get(Status.OK, 0)
    is_compared = compared > 0 and compared + existing > 1
    sweep = load_json(run.sweep_path) if is_compared else {}
    described = describe_sweep(sweep) if sweep else None
    on_page = {video.key for sheet in first for video in (sheet.kept, *sheet.copies)}
    on_page |= {video.key for pair in (*review, *decided) for video in pair}
    return {
        "headline": headline,
        "subline": subline,
        "rows": rows,
        "tiles": outcome_tiles(rows),
        "flows": [charts.draw_flow(flow, is_upright=upright) for upright in (False, True)] if rows["input"] else [],
        "flow_words": describe_flow(flow),
        "is_unaccounted": is_unaccounted,
        "sheets": first,
        "parts": parts,
        "group_words": describe_groups(min(len(ranked), MOST_GROUPS), all_groups=len(ranked), copies=len(copies)),
        "no_copies": describe_no_copies(compared, existing=existing),
        "trouble": describe_trouble(summary, is_compared=is_compared),
        "sweep": described,
        "sweep_json": embed_sweep(sweep, final=rows["final"], shown=on_page, pictures=pictures)
        if described and described["has_copies"]
        else "",
        "review": review,
        "decided": decided,
        "decided_words": describe_decisions(decisions),
        "hidden_decided": decisions.get("same", 0) + decisions.get("different", 0) - len(decided),
        "hidden_review": max(0, len(doubtful) - MOST_REVIEWED),
        "reasons": reasons[:MOST_REASONS],
        "hidden_reasons": max(0, len(reasons) - MOST_REASONS),
        "set_aside": set_aside.head(MOST_ROWS_SET_ASIDE).to_dict("records"),
        "hidden_set_aside": max(0, len(set_aside) - MOST_ROWS_SET_ASIDE),
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
            (DECISION_WORDS.get(key, key.replace("_", " ")), value) for key, value in summary["decision"].items()
        ],
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
    shared: Mapping[str, Any],
    begin: Begin,
) -> tuple[list[Sheet], list[dict[str, Any]]]:
    """The sheets of the first page, and a row for each group of a run that needs more pages; these are written."""
    first: list[Sheet] = []
    listed: list[dict[str, Any]] = []
    number = 1
    drawn = _tell(
        begin("drawing groups of copies", len(ranked)), draw_groups(ranked, pictures, most_copies=MOST_COPIES)
    )
    for number, sheets in enumerate(share_out_pages(drawn), start=1):
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

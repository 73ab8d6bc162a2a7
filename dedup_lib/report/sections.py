"""The sections of the report of a run."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from dedup_lib.errors import RunFolderError
from dedup_lib.match.evidence import Criterion
from dedup_lib.records import Recipe, Status
from dedup_lib.report import charts
from dedup_lib.report.contact_sheet import Sheet, Video, draw_pair
from dedup_lib.report.pictures import Pictures
from dedup_lib.report.words import (
    FILE_WORDS,
    FLOW_MEANINGS,
    FLOW_WORDS,
    LOSS_WORDS,
    count_words,
    join_words,
    short_url,
    status_meaning,
)
from dedup_lib.run.failures import Cause, Reading, find_host
from dedup_lib.run.folder import Record, RunFolder
from dedup_lib.run.ledger import LedgerView
from dedup_lib.sanitise import sanitise_line
from dedup_lib.settings import ExtractSettings

MAX_REVIEWED = 60

MAX_MAIN_REASONS = 5

MAX_SWEPT_PICTURES = 300
"""Most images of videos that only another threshold would put into a group."""

PAGE_CHARACTERS = 5_500_000
"""Most characters of images in a page, so that it can be mailed."""

PAGE_GROUPS = 400


def describe_rows(rows: Mapping[str, int], *, is_unaccounted: bool) -> tuple[str, str]:
    """The result of a list as a headline and a sentence below it."""
    headline = (
        f"{count_words(rows['input'], ('row', 'rows'))} in, {count_words(rows['final'], ('video', 'videos'))} kept"
    )
    losses = [count_words(rows[name], words) for name, words in LOSS_WORDS.items() if rows[name]]
    sentence = f"Set aside: {join_words(losses)}" if losses else "Nothing was set aside"
    account = "some rows are unaccounted for" if is_unaccounted else "every row is accounted for"
    return headline, f"{sentence}; {account}."


def outcome_tiles(rows: Mapping[str, int]) -> list[dict[str, object]]:
    """One tile per outcome: its rows, words and share of the list."""
    return [
        {
            "meaning": FLOW_MEANINGS[name],
            "rows": rows[name],
            "words": FLOW_WORDS[name],
            "share": f"{rows[name] / rows['input']:.1%} of the list" if rows["input"] else "",
        }
        for name in ("final", "duplicates", "text_duplicates", "invalid", "failed")
    ]


def describe_trouble(summary: Record, *, is_compared: bool) -> dict[str, Any] | None:
    """The warning at the top of the report when most rows gave no video, or nothing could be compared; else None."""
    if "reading" not in summary:
        # An earlier version of the project wrote this summary.
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
            {"rows": cause.rows, "words": str(cause), "remedy": cause.remedy} for cause in causes[:MAX_MAIN_REASONS]
        ],
        "more_causes": max(0, len(causes) - MAX_MAIN_REASONS),
    }


def draw_decided(run: RunFolder, summary: Record, pictures: Pictures) -> list[tuple[Video, Video]]:
    """The pairs that people decided, with their frames. The summary names the videos only by key; the ledger has their
    URLs."""
    found = summary.get("decisions", {}).get("pairs", [])
    recipe = Recipe(**summary["recipe"]) if found else None
    if recipe is None or not run.ledger_path.exists():
        return []
    drawn = []
    with LedgerView(run.ledger_path) as ledger:
        for decision, *keys in found[:MAX_REVIEWED]:
            outcomes = [ledger.load_outcome(recipe.key, key) for key in keys]
            urls = [outcome.url for outcome in outcomes if outcome is not None]
            if len(urls) == len(keys):
                row = {"first_url": urls[0], "second_url": urls[1], "verdict": decision, "rule": str(Criterion.PERSON)}
                drawn.append(draw_pair(row, pictures))
    return drawn


def reason_table(set_aside: pd.DataFrame) -> list[dict[str, object]]:
    """How often each reason occurs and at which hosts, the most frequent first. `set_aside` has the rows of the CSVs of
    invalid and failed URLs."""
    if set_aside.empty:
        return []
    table = []
    for (status, reason), rows in set_aside.groupby(["status", "reason"]):
        hosts = Counter(sanitise_line(host) for host in map(find_host, rows["url"]) if host)
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
    """The files of the run that still exist, the results first, with their links for the overview."""
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


def embed_json(value: object) -> str:
    """JSON in ASCII that is safe inside a script element: no text in it can end the element or start a comment."""
    text = json.dumps(value, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def draw_pace(run: RunFolder, *, recipe: Recipe | None) -> tuple[str, charts.Chart | None]:
    """The number of URLs done over the working time of 03_extract, in words and as a chart."""
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
    """The memory and CPU that 03_extract used in its longest call, in words; the memory also as a chart."""
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
    """The charts of the thresholds, without empty ones, and the first values of the slider."""
    thresholds, decided = sweep["thresholds"], sweep["thresholds"].index(sweep["threshold"])
    points, nearest = sweep["points"], sweep["nearest"]
    # A run of an earlier version did not count the rejected pairs.
    scores = sweep.get("scores", {"edges": [0.0, 1.0], "counts": {}})
    measure = "score (how surely two videos are the same)" if sweep["measure"] == "score" else "cosine"
    drawn = [
        (
            scores["counts"],
            charts.draw_verdicts(
                scores["edges"], scores["counts"], name="pairs", x_label=measure, mark=sweep["threshold"]
            ),
        ),
        (
            points["duplicates"],
            charts.draw_lines(
                thresholds,
                [("copies removed", "duplicate", points["duplicates"]), ("groups", "neutral", points["groups"])],
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
    """The data of the slider as JSON for the page: the sweep, the rows `final` of the clean list, and images of videos
    that the page does not show yet (`shown` has the keys of those it does)."""
    needed: dict[str, str] = {}
    for row, (key, _) in sweep["videos"].items():
        if key not in shown and len(needed) < MAX_SWEPT_PICTURES:
            needed[row] = pictures.draw_strip(key)
    whole = {name: value for name, value in sweep.items() if name != "nearest"} | {
        "final": final,
        "pictures": {row: picture for row, picture in needed.items() if picture},
        "videos": {row: [key, short_url(url, most=90)] for row, (key, url) in sweep["videos"].items()},
    }
    return embed_json(whole)


def share_out_pages(sheets: Iterator[Sheet], *, taken: int) -> Iterator[list[Sheet]]:
    """Divides sheets into pages that are small enough to mail; yields at least one page, which may be empty. The other
    images of the first page have `taken` characters."""
    page: list[Sheet] = []
    weight = taken
    for sheet in sheets:
        if page and (len(page) == PAGE_GROUPS or weight + sheet.weight > PAGE_CHARACTERS):
            yield page
            page, weight = [], 0
        page.append(sheet)
        weight += sheet.weight
    yield page


def describe_groups(shown: int, *, all_groups: int, copies: int) -> str:
    """A text about the number of groups, and how many of them the pages show."""
    found = (
        f"{count_words(copies, ('copy', 'copies'))} in {count_words(all_groups, ('group', 'groups'))}, largest first."
    )
    if shown == all_groups:
        return found
    return f"{found} Only the {shown:,} largest groups are shown here; the CSV of duplicates lists all {all_groups:,}."

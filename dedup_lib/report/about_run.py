"""What a report says about the run itself: when, where, by whom, with what, and how it compared."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime

from dedup_lib.evaluate.threshold import show_percent
from dedup_lib.groups.matches import SearchPlan
from dedup_lib.report.tables import ShownTable
from dedup_lib.report.words import count_words, describe_duration
from dedup_lib.run.folder import Record, RunFolder

POOLING_WORDS = {
    "frames": "a vector a frame",
    "first": "a vector a video: its first frame",
    "average": "a vector a video: the average of its frames",
    "max": "a vector a video: the largest values of its frames",
}

SPAN_WORDS = {"spread": "spread over the film", "first": "its first"}

VERSION_WORDS = {"review": "a person decides", "remove": "removed as copies", "keep": "kept, each of them"}


def show_date(finished: str) -> str:
    """A time of a stage record for people, as in 28 November 2026, 05:36 UTC; "" for no time."""
    try:
        when = datetime.fromisoformat(finished).astimezone(UTC)
    except ValueError:
        return ""
    return f"{when.day} {when:%B %Y, %H:%M} UTC"


def sum_durations(run: RunFolder, stages: Mapping[str, Record]) -> float:
    """Seconds that the notebooks of a run took, by what papermill noted in them; 0 when it noted nothing."""
    total_s = 0.0
    for stage in stages:
        path = run.notebooks_dir / f"{stage}.ipynb"
        try:
            noted = json.loads(path.read_text(encoding="utf-8"))["metadata"]["papermill"]["duration"]
            total_s += float(noted or 0.0)
        except (OSError, ValueError, KeyError, TypeError):
            # The notebook was run in JupyterLab, or somebody removed it.
            continue
    return total_s


def describe_comparison(plan: Record) -> dict[str, str]:
    """How videos were compared, as words and values. `plan` is that of `SearchPlan.as_record`, or the part of
    summary.json with its values; what is unknown is left out."""
    encoder = " ".join(filter(None, (str(plan.get("encoder", "")), str(plan.get("model") or ""))))
    frames = f"{plan['num_frames']} frames a video" if "num_frames" in plan else ""
    span = SPAN_WORDS.get(plan.get("frame_span", ""), "")
    is_scored = plan.get("measure") == "score"
    search = plan.get("search") or {}
    audit = search.get("audit") or {}
    how = f"by the index {search['index']} of the store" if search.get("index") else "exactly"
    facts = {
        "vectors in": f"{plan['store']}, collection {plan['collection']}" if "store" in plan else "",
        "encoder": ", ".join(filter(None, (encoder, frames, span))),
        "stored": POOLING_WORDS.get(plan.get("pooling", ""), ""),
        "searched": f"{how}: {search['why']}" if search else "",
        "found by the index": f"{show_percent(audit['recall'])} of {count_words(audit['pairs'], ('pair', 'pairs'))}"
        if audit.get("recall") is not None
        else "",
        "candidates": f"pairs with a cosine of at least {plan['floor']:g}" if is_scored and "floor" in plan else "",
        "copies": f"{plan['measure']} of at least {plan['threshold']:g}" if "measure" in plan else "",
        "for a person": f"score from {plan['review_from']:g} on" if is_scored and "review_from" in plan else "",
        "versions": VERSION_WORDS.get(plan.get("versions", ""), "") if is_scored else "",
    }
    return {words: value for words, value in facts.items() if value}


def describe_plan(plan: SearchPlan) -> ShownTable:
    """How the videos of a list were compared, as a table in words."""
    facts = describe_comparison(plan.as_record())
    return ShownTable({"": list(facts.values())}, index=list(facts), dtype=object)


def describe_run(run: RunFolder, summary: Record, stages: Mapping[str, Record]) -> list[tuple[str, str]]:
    """Facts about a run, each as words and a value; those that are unknown are left out."""
    latest = max(stages.values(), key=lambda record: record.get("finished", ""), default={})
    listed: Record = next((record["list"] for record in stages.values() if record.get("list")), {})
    decision = summary.get("decision", {})
    took_s = sum_durations(run, stages)
    compared = describe_comparison(decision)
    version = latest.get("versions", {}).get("dedup_lib", "")
    facts = {
        "finished": show_date(latest.get("finished", "")),
        "time taken": describe_duration(took_s) if took_s else "",
        "run by": latest.get("by", ""),
        "list": f"{run.shown(listed['csv'])}, {count_words(listed['rows'], ('row', 'rows'))}" if listed else "",
        "run folder": run.shown(run.path),
        **{words: compared.get(words, "") for words in ("vectors in", "encoder", "copies")},
        "made with": f"dedup_lib {version}" if version else "",
    }
    return [(words, value) for words, value in facts.items() if value]

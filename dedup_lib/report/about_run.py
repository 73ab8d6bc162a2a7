"""What a report says about the run itself: when, where, by whom and with what."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime

from dedup_lib.report.words import count_words, describe_duration
from dedup_lib.run.folder import Record, RunFolder


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


def describe_run(run: RunFolder, summary: Record, stages: Mapping[str, Record]) -> list[tuple[str, str]]:
    """Facts about a run, each as words and a value; those that are unknown are left out."""
    latest = max(stages.values(), key=lambda record: record.get("finished", ""), default={})
    listed: Record = next((record["list"] for record in stages.values() if record.get("list")), {})
    decision = summary.get("decision", {})
    took_s = sum_durations(run, stages)
    frames = decision.get("num_frames")
    encoder = " ".join(filter(None, (str(decision.get("encoder", "")), str(decision.get("model") or ""))))
    rule = f"{decision['measure']} of at least {decision['threshold']:g}" if "measure" in decision else ""
    version = latest.get("versions", {}).get("dedup_lib", "")
    facts = {
        "finished": show_date(latest.get("finished", "")),
        "time taken": describe_duration(took_s) if took_s else "",
        "run by": latest.get("by", ""),
        "list": f"{run.shown(listed['csv'])}, {count_words(listed['rows'], ('row', 'rows'))}" if listed else "",
        "run folder": run.shown(run.path),
        "vectors in": f"{decision['store']}, collection {decision['collection']}" if "store" in decision else "",
        "encoder": f"{encoder}, {frames} frames a video" if encoder and frames else encoder,
        "copies are pairs with": rule,
        "made with": f"dedup_lib {version}" if version else "",
    }
    return [(words, value) for words, value in facts.items() if value]

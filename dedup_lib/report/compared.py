"""Every compared pair of a run, for the question why two videos were joined, or why not."""

from __future__ import annotations

from typing import Any

import pandas as pd

from dedup_lib.errors import RunFolderError
from dedup_lib.groups.columns import COLUMNS
from dedup_lib.groups.pairs import load_pairs
from dedup_lib.match.evidence import Verdict
from dedup_lib.report.evidence_words import VERDICT_WORDS, explain
from dedup_lib.run.folder import RunFolder
from dedup_lib.sanitise import sanitise_line

MAX_PAIRS = 3_000
"""Most pairs that a page answers for, those with the highest scores: they take some 0.4 MB."""


def load_scores(run: RunFolder) -> dict[frozenset[str], float]:
    """The score of every compared pair of URLs of a run; empty when the run has no pairs, or those of another
    version."""
    try:
        table = load_pairs(run)
    except RunFolderError:
        return {}
    pairs = map(frozenset, zip(table["first_url"], table["second_url"], strict=True))
    return dict(zip(pairs, table["score"], strict=True))


def list_compared(run: RunFolder) -> dict[str, Any]:
    """The compared pairs of a run as the script of the overview reads them: `urls`, and `pairs` of two places in them,
    a score and the evidence in words, the highest score first; `hidden` counts those that are left out. Empty when the
    run has no pairs, or those of another version."""
    try:
        table = load_pairs(run)
    except RunFolderError:
        return {}
    shown = table.sort_values("score", ascending=False, kind="stable").head(MAX_PAIRS)
    known = [name for name in COLUMNS if name in shown]
    places: dict[str, int] = {}
    pairs = []
    for row in shown[["first_url", "second_url", *known]].to_dict("records"):
        values = {str(name): None if pd.isna(value) else value for name, value in row.items()}
        sides = [
            places.setdefault(sanitise_line(str(values[name])), len(places)) for name in ("first_url", "second_url")
        ]
        words = f"{explain(values, first='the first', second='the second')}. {_say_verdict(str(values['verdict']))}"
        pairs.append([*sides, None if values["score"] is None else round(float(values["score"]), 4), words])
    return {"urls": list(places), "pairs": pairs, "hidden": len(table) - len(pairs)} if pairs else {}


def _say_verdict(verdict: str) -> str:
    words = VERDICT_WORDS[Verdict(verdict)]
    return f"{words[0].upper()}{words[1:]}, unless a person decided otherwise."

"""The page about the changes from one run to another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dedup_lib.report.captions import Captions
from dedup_lib.report.compared import load_scores
from dedup_lib.report.comparison import Comparison
from dedup_lib.report.pages import save_page
from dedup_lib.report.pictures import load_strip
from dedup_lib.report.words import FLOW_WORDS
from dedup_lib.run.folder import RunFolder

MAX_COMPARED = 50
"""Most pairs and videos of each kind on the page of a comparison."""

STRIP_ROWS = 2
"""Rows of four frames of each video there."""


def write_comparison(comparison: Comparison, *, before: RunFolder, after: RunFolder) -> Path:
    """Writes a page about the changes from one run to another, among the pages of the second run, with frames of the
    pairs that only one run joined, and what the list says about them; returns its path."""
    captions = Captions(after), Captions(before)
    scores = load_scores(before), load_scores(after)

    def show_video(url: str) -> dict[str, object]:
        strips = (load_strip(url, thumbnails_dir=run.thumbnails_dir, rows=STRIP_ROWS) for run in (after, before))
        return {
            "url": url,
            "picture": next(filter(None, strips), ""),
            "caption": next(filter(None, (known.about(url) for known in captions)), ()),
        }

    def show_pairs(pairs: Sequence[tuple[str, str]]) -> list[dict[str, object]]:
        return [
            {"videos": [show_video(url) for url in pair], "scores": [known.get(frozenset(pair)) for known in scores]}
            for pair in pairs[:MAX_COMPARED]
        ]

    path = after.reports_dir / f"compared_with_{before.path.name}.html"
    save_page(
        path,
        "compare.html",
        comparison=comparison,
        rows=[(FLOW_WORDS.get(change.what, change.what), change.before, change.after) for change in comparison.rows],
        fates=comparison.fates[:MAX_COMPARED],
        keepers=show_pairs(comparison.keepers),
        parted=show_pairs(comparison.joined_before.pairs),
        joined=show_pairs(comparison.joined_after.pairs),
    )
    return path

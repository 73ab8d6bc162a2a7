"""The evidence about a pair of videos, in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from dedup_lib.match.evidence import Criterion, Verdict
from dedup_lib.match.sound import MAX_OTHER

SAME_SOUND = 0.5
"""Correlation from which the sound is called the same: copies encoded again at low bitrates are above it."""

OFFSET_WORTH_SAYING_S = 0.25

CRITERION_WORDS = {
    Criterion.EXACT: "both files decode to exactly the same pictures",
    Criterion.FRAMES: "{share} frames agree at the same moments",
    Criterion.CONFIRMED: "{share} frames agree at the same moments, and local features confirm it",
    Criterion.REGISTERED: "{share} frames agree once one is laid on the other (another crop, a caption, a turn)",
    Criterion.MOTION: "the movement is alike in {share} pictures",
    Criterion.REGISTERED_MOTION: "the movement is alike in {share} pictures once one is laid on the other",
    Criterion.SHORT: "only a part is shared: {share} frames agree there",
    Criterion.UNCONFIRMED: "{share} frames agree, but local features or movement do not",
    Criterion.DIFFERS: "{share} frames agree, but a region differs throughout",
    Criterion.SOUND: "{share} frames agree, but the sound differs",
    Criterion.MOMENTS: "{share} frames agree, but others differ at the same moments",
    Criterion.UNLIKE: "{share} frames agree, but the encoder finds the frames unlike",
    Criterion.ALIKE: "the encoder finds the frames alike, but their pictures do not prove it",
    Criterion.WEAK: "too few frames agree: {share}",
    Criterion.PERSON: "a person decided so",
    Criterion.COSINE: "only their vectors were compared",
}
"""The finding of each rule, in words."""


def read_number(text: object) -> float | None:
    """Reads a number from a CSV cell; None when the cell is empty or no finite number."""
    try:
        number = float(str(text))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


OUTLINE_WORDS = "White outline: the region that differs throughout."

ALL_COVERED = 0.995
"""A share from here on is all of a video."""

VERDICT_WORDS = {
    Verdict.DUPLICATE: "they count as copies, and one of them is removed",
    Verdict.EXCERPT: "one counts as an excerpt of the other",
    Verdict.REVIEW: "it is undecided, and both are kept",
    Verdict.DIFFERENT: "they count as different, and both are kept",
}
"""The consequence of each verdict, as long as no person decides."""


def explain(row: Mapping[Any, object], *, first: str = "the kept video", second: str = "the copy") -> str:
    """The evidence that two videos show the same, as one sentence that calls them `first` and `second`. `row` is a row
    of the CSV of duplicates or of review; "copy" in its columns means the second video."""
    rule = str(row.get("rule", ""))
    share = "none" if rule == Criterion.WEAK else "enough"
    if row.get("frames_compared"):
        share = f"{row['frames_agreeing']} of {row['frames_compared']}"
    try:
        found = CRITERION_WORDS[Criterion(rule)].format(share=share)
    except ValueError:
        # Another version of the project wrote this rule.
        return rule
    if rule == Criterion.PERSON:
        return found
    parts = [f"{found} ({row['differs']})" if rule == Criterion.DIFFERS and row.get("differs") else found]
    numbers = {name: read_number(row.get(name)) for name in ("offset_s", "speed", "kept_coverage", "copy_coverage")}
    offset_s, speed = numbers["offset_s"], numbers["speed"]
    kept, copy = numbers["kept_coverage"], numbers["copy_coverage"]
    if kept is not None and copy is not None and min(kept, copy) < ALL_COVERED:
        parts.append(_say_shares(kept, copy, first=first, second=second))
    if offset_s is not None and abs(offset_s) >= OFFSET_WORTH_SAYING_S:
        parts.append(f"{second} shows it {abs(offset_s):.1f} s {'later' if offset_s > 0 else 'earlier'}")
    if speed is not None and abs(speed - 1) >= 0.005:
        parts.append(f"it runs {speed:.2f} times as fast")
    if row.get("transform"):
        parts.append(f"its frame is {row['transform']}")
    sound = read_number(row.get("sound_correlation"))
    if sound is not None and rule != Criterion.SOUND:
        parts.append(_say_sound(sound))
    return "; ".join(parts)


def _say_sound(correlation: float) -> str:
    if correlation <= MAX_OTHER:
        return "the sound differs"
    return "the sound is the same" if correlation >= SAME_SOUND else "the sound agrees in part"


def _say_shares(kept: float, copy: float, *, first: str, second: str) -> str:
    """The shares of two videos that both show, in words; one of them is not all of a video."""
    if copy >= ALL_COVERED:
        return f"all of {second} is in {first} ({kept:.0%} of it)"
    if kept >= ALL_COVERED:
        return f"all of {first} is in {second} ({copy:.0%} of it)"
    return f"they share {copy:.0%} of {second} and {kept:.0%} of {first}"

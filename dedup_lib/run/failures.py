"""Why rows gave no video: the causes, their counts, and the setting that helps."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from dedup_lib.errors import FailedRowsError
from dedup_lib.records import FAILED_STATUSES, KEPT_STATUSES, Outcome, Status

MAX_CAUSES = 20
"""Most causes that are listed; the CSVs of failed and invalid URLs give the reason of every row."""


@dataclass(frozen=True, kw_only=True)
class Cause:
    """A reason that several rows share. It leaves out the host, which differs from row to row."""

    status: Status
    reason: str
    rows: int
    refused_by: str = ""
    """The setting that refused the rows, as `name=value`."""

    @property
    def remedy(self) -> str:
        """The setting that would allow these rows, as `name=value`; empty when none would."""
        name, _, value = self.refused_by.partition("=")
        if not name:
            return ""
        return f"{name}={int(value) * 10}" if value.isdecimal() else f"{name}=true"

    def __str__(self) -> str:
        return f"{self.status}: {self.reason}" if self.reason else str(self.status)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How the reading of a list ended, in numbers of rows. Repeated URLs do not count."""

    read: int
    failed: int
    """Rows that may be a video which could not be read."""
    not_videos: int
    pending: int
    """Rows not tried yet."""
    known: int = 0
    """Rows that were not tried, because an earlier run has read their URL."""

    @classmethod
    def of(cls, outcomes: Iterable[Outcome], *, known: int = 0) -> Reading:
        """Counts `outcomes`, one for each row that is not `known`."""
        found = Counter(outcome.status for outcome in outcomes)
        failed = sum(found[status] for status in FAILED_STATUSES - {Status.PENDING})
        read = sum(found[status] for status in KEPT_STATUSES)
        pending = found[Status.PENDING]
        return cls(
            read=read, failed=failed, not_videos=found.total() - read - failed - pending, pending=pending, known=known
        )

    @property
    def tried(self) -> int:
        return self.read + self.failed + self.not_videos

    @property
    def failed_share(self) -> float:
        """Failed rows as a share of the tried rows; 1 when no row is a video."""
        if not self.tried:
            return 0.0
        return self.failed / self.tried if self.read or self.known else 1.0

    @property
    def is_poor(self) -> bool:
        """Whether most of the rows gave no video."""
        return (self.read + self.known) * 2 < self.tried + self.known

    @property
    def headline(self) -> str:
        """A text about the more frequent kind of row without a video: failed, or no video."""
        if not self.tried:
            return "No row was read yet"
        if self.failed >= self.not_videos:
            return f"{self.failed:,} of {self.tried:,} videos could not be read"
        return f"{self.not_videos:,} of {self.tried:,} rows are not videos"

    @property
    def others(self) -> str:
        """A sentence about the less frequent kind of row without a video; empty when there is none."""
        is_failed = self.failed < self.not_videos
        count = self.failed if is_failed else self.not_videos
        if not count:
            return ""
        if is_failed:
            return f"Another {count:,} could not be read."
        return f"Another {count:,} {'is not a video' if count == 1 else 'are not videos'}."


def find_causes(outcomes: Iterable[Outcome]) -> list[Cause]:
    """Finds why rows gave no video: at most `MAX_CAUSES` causes, the most frequent first. `outcomes` has one per row.

    Rows refused by the same setting share a cause; so do rows whose reasons differ only in the host.
    """
    counts: Counter[tuple[Status, str]] = Counter()
    reasons: dict[tuple[Status, str], Counter[str]] = {}
    refused: dict[tuple[Status, str], str] = {}
    for outcome in outcomes:
        if outcome.status in KEPT_STATUSES:
            continue
        reason = _without_host(outcome.reason, outcome.url)
        key = (outcome.status, outcome.refused_by or reason)
        counts[key] += 1
        reasons.setdefault(key, Counter())[reason] += 1
        refused[key] = outcome.refused_by
    causes = [
        Cause(status=key[0], reason=reasons[key].most_common(1)[0][0], rows=rows, refused_by=refused[key])
        for key, rows in counts.items()
    ]
    return sorted(causes, key=lambda cause: (-cause.rows, cause.status, cause.reason))[:MAX_CAUSES]


def find_host(url: str) -> str:
    """The host of a URL; "" when it has none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _without_host(reason: str, url: str) -> str:
    host = find_host(url)
    if not host:
        return reason
    # A host name inside a longer name or word is another host.
    return re.sub(rf"(?<![\w.-]){re.escape(host)}(?!\.?[\w-])", "…", reason, count=1, flags=re.IGNORECASE)


def find_main_cause(reading: Reading, causes: Iterable[Cause]) -> Cause | None:
    """The cause of more than half of the tried and known rows; None when there is no such cause."""
    for cause in causes:
        if cause.status != Status.PENDING and cause.rows * 2 > reading.tried + reading.known:
            return cause
    return None


def check_failures(reading: Reading, causes: Iterable[Cause], *, fail_above: float) -> None:
    """Raises FailedRowsError when more than the share `fail_above` (0 to 1) of the tried rows failed.

    The share counts as 1 when no tried row gave a video.
    """
    if reading.failed_share <= fail_above:
        return
    tried = [cause for cause in causes if cause.status != Status.PENDING]
    told = "; ".join(f"{cause.rows:,} × {cause}" for cause in tried[:3])
    remedies = dict.fromkeys(cause.remedy for cause in tried[:3] if cause.remedy)
    helps = f" To read them, run again with {' '.join(f'--set {remedy}' for remedy in remedies)}." if remedies else ""
    if reading.read:
        what = f"{reading.failed:,} of {reading.tried:,} videos could not be read, more than"
    else:
        what = f"{reading.headline}, and no row gave a video, which is more than"
    raise FailedRowsError(
        f"{what} fail_above = {fail_above:g} allows. All outputs are written. The reasons: "
        f"{told}.{helps} If the list is as it should be, set fail_above higher; 1 allows everything"
    )

"""Shares out the rows of a list among the outputs, and proves that none is lost or doubled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from dedup_lib.errors import AccountingError
from dedup_lib.groups.keepers import FIRST_IN_LIST
from dedup_lib.lists.tables import free_column_name
from dedup_lib.records import FAILED_STATUSES, INVALID_STATUSES, Group, Outcome, Status


@dataclass(frozen=True, kw_only=True)
class CleanedList:
    """The outputs of a run. Each row of the list is in one of `final`, `duplicates`, `invalid` and `failed`.
    `featureless` repeats rows of `final` that were kept without a comparison."""

    final: pd.DataFrame
    duplicates: pd.DataFrame
    invalid: pd.DataFrame
    failed: pd.DataFrame
    featureless: pd.DataFrame

    def count_rows(self) -> dict[str, int]:
        """Number of rows in each output, without `featureless`."""
        return {
            "final": len(self.final),
            "duplicates": len(self.duplicates),
            "invalid": len(self.invalid),
            "failed": len(self.failed),
        }


def outcome_of_row(url: str, outcomes: Mapping[str, Outcome]) -> Outcome:
    """The recorded outcome of a row, or one that says that it was not attempted."""
    return outcomes.get(url) or Outcome(
        url=url,
        status=Status.PENDING,
        reason="not read yet: outside start and end, or the run stopped before it",
        retryable=True,
    )


def count_statuses(urls: Sequence[str], outcomes: Mapping[str, Outcome]) -> dict[Status, int]:
    """Number of rows in each status, for the statuses that occur, in their fixed order."""
    counts = Counter(outcome_of_row(url, outcomes).status for url in urls)
    return {status: counts[status] for status in Status if counts[status]}


def list_troubles(urls: Sequence[str], outcomes: Mapping[str, Outcome]) -> pd.DataFrame:
    """The rows without a vector, as columns url, status, reason, retryable."""
    found = (outcome_of_row(url, outcomes) for url in urls)
    rows = [(o.url, str(o.status), o.reason, o.retryable) for o in found if o.status != Status.OK]
    return pd.DataFrame(rows, columns=["url", "status", "reason", "retryable"])


def clean_list(
    frame: pd.DataFrame,
    *,
    url_column: str,
    outcomes: Mapping[str, Outcome],
    groups: Sequence[Group],
    auto_clean: bool,
    why: Callable[[int, int], str] = lambda kept, copy: FIRST_IN_LIST,
    describe: Callable[[Group, int], Mapping[str, object]] = lambda group, copy: {},
    described: Sequence[str] = (),
    existing: Sequence[str] = (),
) -> CleanedList:
    """Share out the rows of a list: copies to `duplicates`, failures to `failed`, and with `auto_clean` rows that are
    certainly not videos to `invalid`. Without `auto_clean` those stay in `final`. The columns and the order of the list
    stay the same.

    `why` says why a kept row is kept rather than a copy. `describe` gives the evidence for a copy of a group, by the
    column names `described`. `existing` are URLs of videos that were there before the list. Their rows follow those of
    the list, they may be kept in place of a row of the list, and they go to no output. Raises AccountingError when a
    row would be lost or doubled, or when a kept video is in neither `final` nor `existing`.
    """
    urls = frame[url_column].tolist()
    every = [*urls, *existing]
    found = [outcome_of_row(url, outcomes) for url in urls]
    copies = {
        row: {
            "duplicate_of": every[group.kept],
            "score": similarity,
            "group": group.number,
            "kept_because": why(group.kept, row),
            **describe(group, row),
        }
        for group in groups
        for row, similarity in zip(group.copies, group.similarities, strict=True)
        if row < len(urls)
    }
    failed = [row for row, o in enumerate(found) if o.status in FAILED_STATUSES]
    invalid = [row for row, o in enumerate(found) if auto_clean and o.status in INVALID_STATUSES]
    removed = {*copies, *failed, *invalid}
    final = [row for row in range(len(urls)) if row not in removed]
    featureless = [row for row in final if found[row].status == Status.FEATURELESS]

    def table(rows: Sequence[int], added: Mapping[str, Sequence[object]]) -> pd.DataFrame:
        return _with_columns(frame, rows, {"url": [urls[row] for row in rows], **added}, url_column)

    def reasons(rows: Sequence[int]) -> dict[str, list[object]]:
        return {"status": [str(found[row].status) for row in rows], "reason": [found[row].reason for row in rows]}

    ordered = sorted(copies, key=lambda row: (copies[row]["group"], row))
    named = dict.fromkeys(("duplicate_of", "score", "group", "kept_because", *described))
    cleaned = CleanedList(
        final=frame.iloc[final].reset_index(drop=True),
        duplicates=table(ordered, {name: [copies[row][name] for row in ordered] for name in named}),
        invalid=table(invalid, reasons(invalid)),
        failed=table(failed, {**reasons(failed), "retryable": [found[row].retryable for row in failed]}),
        featureless=table(featureless, reasons(featureless)),
    )
    check_rows(len(frame), cleaned, url_column=url_column, existing=existing)
    return cleaned


def _with_columns(
    frame: pd.DataFrame, rows: Sequence[int], added: Mapping[str, Sequence[object]], url_column: str
) -> pd.DataFrame:
    """The added columns, then those of the list. A URL column that is itself called `url` is not repeated."""
    original = frame.iloc[list(rows)].reset_index(drop=True)
    if url_column == "url":
        original = original.drop(columns=[url_column])
    renamed = {name: free_column_name(frame, name) for name in original.columns if name in added}
    # As objects: if a count is missing in one row, pandas would turn the others into floats.
    return pd.concat([pd.DataFrame(dict(added), dtype=object), original.rename(columns=renamed)], axis=1)


def check_rows(rows: int, cleaned: CleanedList, *, url_column: str, existing: Sequence[str] = ()) -> None:
    """Raises AccountingError unless the outputs together hold `rows` rows, and every kept video is in `final` or
    `existing`."""
    counts = cleaned.count_rows()
    if sum(counts.values()) != rows:
        raise AccountingError(f"{rows} rows came in and {sum(counts.values())} would go out: {counts}")
    missing = set(cleaned.duplicates["duplicate_of"]) - set(cleaned.final[url_column]) - set(existing)
    if missing:
        raise AccountingError(f"{len(missing)} kept videos are not in the final list, such as {min(missing)}")

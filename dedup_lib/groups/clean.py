"""Shares out the rows of a list among the outputs, and proves that none is lost or doubled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from dedup_lib.errors import AccountingError
from dedup_lib.groups.keepers import FIRST_IN_LIST
from dedup_lib.lists.tables import free_column_name
from dedup_lib.records import (
    FAILED_STATUSES,
    INVALID_STATUSES,
    Group,
    Outcome,
    Status,
)


@dataclass(frozen=True, kw_only=True)
class CleanedList:
    """The outputs of a run. `final`, `duplicates`, `invalid` and `failed` share out the rows of the list;
    `featureless` repeats rows of `final` that were kept without being compared."""

    final: pd.DataFrame
    duplicates: pd.DataFrame
    invalid: pd.DataFrame
    failed: pd.DataFrame
    featureless: pd.DataFrame

    def count_rows(self) -> dict[str, int]:
        """Rows of the outputs that share out the list."""
        return {
            "final": len(self.final),
            "duplicates": len(self.duplicates),
            "invalid": len(self.invalid),
            "failed": len(self.failed),
        }


def outcome_of_row(url: str, outcomes: Mapping[str, Outcome]) -> Outcome:
    """What became of a row: its recorded outcome, or that it was not attempted."""
    return outcomes.get(url) or Outcome(
        url=url,
        status=Status.PENDING,
        reason="not read yet: outside start and end, or the run stopped before it",
        retryable=True,
    )


def count_statuses(urls: Sequence[str], outcomes: Mapping[str, Outcome]) -> dict[Status, int]:
    """How many rows ended in each status, for the statuses that occur, in their fixed order."""
    counts = Counter(outcome_of_row(url, outcomes).status for url in urls)
    return {status: counts[status] for status in Status if counts[status]}


def list_troubles(urls: Sequence[str], outcomes: Mapping[str, Outcome]) -> pd.DataFrame:
    """The rows that gave no vector: url, status, reason, retryable."""
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
    """Share out the rows of a list: copies to `duplicates`, failures to `failed`, and with `auto_clean` what is
    certainly no video to `invalid`; without it those stay in `final`. Columns and order of the list survive.

    `why` says of a kept row and a copy why the first is kept, and `describe` what speaks for a copy of a group being
    one, by the names of the columns `described`. `existing` are URLs of videos that were there before the list: they
    stand for the rows behind its own, may be kept in place of one of these, and go to no output. Raises AccountingError
    when a row would be lost or doubled, or a kept video is in neither `final` nor `existing`.
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
        duplicates=table(
            ordered,
            {name: [copies[row][name] for row in ordered] for name in named},
        ),
        invalid=table(invalid, reasons(invalid)),
        failed=table(failed, {**reasons(failed), "retryable": [found[row].retryable for row in failed]}),
        featureless=table(featureless, reasons(featureless)),
    )
    check_rows(len(frame), cleaned, url_column=url_column, existing=existing)
    return cleaned


def _with_columns(
    frame: pd.DataFrame, rows: Sequence[int], added: Mapping[str, Sequence[object]], url_column: str
) -> pd.DataFrame:
    """The added columns, then those of the list; its URL column is not repeated under the name `url`."""
    original = frame.iloc[list(rows)].reset_index(drop=True)
    if url_column == "url":
        original = original.drop(columns=[url_column])
    renamed = {name: free_column_name(frame, name) for name in original.columns if name in added}
    # As they are: where a count is missing in one row, pandas would make fractions of the others.
    return pd.concat([pd.DataFrame(dict(added), dtype=object), original.rename(columns=renamed)], axis=1)


def check_rows(rows: int, cleaned: CleanedList, *, url_column: str, existing: Sequence[str] = ()) -> None:
    """Raises AccountingError unless the outputs hold `rows` rows together and every kept video is in `final` or one of
    `existing`."""
    counts = cleaned.count_rows()
    if sum(counts.values()) != rows:
        raise AccountingError(f"{rows} rows came in and {sum(counts.values())} would go out: {counts}")
    missing = set(cleaned.duplicates["duplicate_of"]) - set(cleaned.final[url_column]) - set(existing)
    if missing:
        raise AccountingError(f"{len(missing)} kept videos are not in the final list, such as {min(missing)}")

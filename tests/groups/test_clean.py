"""Sharing out a list: every row to exactly one output."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup_lib.errors import AccountingError
from dedup_lib.groups.clean import CleanedList, check_rows, clean_list, count_statuses, list_troubles, outcome_of_row
from dedup_lib.records import FAILED_STATUSES, INVALID_STATUSES, Group, Outcome, Status

ADDED = ("url", "duplicate_of", "score", "group", "status", "reason", "retryable")


def frame_of(urls: list[str], *, url_column: str = "url", **columns: list[str]) -> pd.DataFrame:
    rows = {"row": [str(row) for row in range(len(urls))], url_column: urls, **columns}
    return pd.DataFrame(rows, dtype="str")


def outcomes_of(urls: list[str], statuses: list[Status | None]) -> dict[str, Outcome]:
    return {
        url: Outcome(url=url, status=status, reason=f"why {url}", retryable=status == Status.TIMEOUT)
        for url, status in zip(urls, statuses, strict=True)
        if status is not None
    }


@st.composite
def runs(draw: st.DrawFn) -> tuple[pd.DataFrame, str, dict[str, Outcome], list[Group], bool]:
    """A list with any columns, an outcome for most rows, and groups among those that are ok."""
    number = draw(st.integers(0, 15))
    urls = [f"https://h/{n}" for n in range(number)]
    statuses = draw(st.lists(st.sampled_from([*Status, *[Status.OK] * 10, None]), min_size=number, max_size=number))
    url_column = draw(st.sampled_from(["url", "link", "URL"]))
    others = draw(st.sets(st.sampled_from([*ADDED, "url_2", "status_2", "title"]), max_size=6)) - {url_column}
    frame = frame_of(urls, url_column=url_column, **{c: [f"{c} {n}" for n in range(number)] for c in sorted(others)})
    ready = [row for row in range(number) if statuses[row] == Status.OK]
    groups: list[Group] = []
    while len(ready) >= 2 and draw(st.booleans()):
        size = draw(st.integers(2, len(ready)))
        kept, *copies = sorted(draw(st.permutations(ready))[:size])
        ready = [row for row in ready if row not in (kept, *copies)]
        groups.append(
            Group(number=len(groups) + 1, kept=kept, copies=tuple(copies), similarities=(0.97,) * len(copies))
        )
    return frame, url_column, outcomes_of(urls, statuses), groups, draw(st.booleans())


@given(run=runs())
def test_every_row_goes_to_exactly_one_output(
    run: tuple[pd.DataFrame, str, dict[str, Outcome], list[Group], bool],
) -> None:
    frame, url_column, outcomes, groups, auto_clean = run
    before = frame.copy()
    cleaned = clean_list(frame, url_column=url_column, outcomes=outcomes, groups=groups, auto_clean=auto_clean)
    pd.testing.assert_frame_equal(frame, before)

    shared_out = [cleaned.final, cleaned.duplicates, cleaned.invalid, cleaned.failed]
    rows = [row for table in shared_out for row in table["row"]]
    assert sorted(rows) == sorted(frame["row"])
    assert sum(cleaned.count_rows().values()) == len(frame)

    assert list(cleaned.final.columns) == list(frame.columns)
    assert cleaned.final.index.equals(pd.RangeIndex(len(cleaned.final)))
    for table in (cleaned.final, cleaned.invalid, cleaned.failed, cleaned.featureless):
        assert [int(row) for row in table["row"]] == sorted(int(row) for row in table["row"])
        expected = frame.iloc[[int(row) for row in table["row"]]][url_column].tolist()
        assert table["url" if table is not cleaned.final else url_column].tolist() == expected

    kept = set(cleaned.final[url_column])
    assert set(cleaned.duplicates["duplicate_of"]) <= kept
    assert {
        (int(row), group) for row, group in zip(cleaned.duplicates["row"], cleaned.duplicates["group"], strict=True)
    } == {(copy, group.number) for group in groups for copy in group.copies}

    def status_of(row: str) -> Status:
        return outcome_of_row(frame[url_column][int(row)], outcomes).status

    assert {status_of(row) for row in cleaned.failed["row"]} <= FAILED_STATUSES
    assert not {status_of(row) for row in cleaned.final["row"]} & FAILED_STATUSES
    assert {status_of(row) for row in cleaned.invalid["row"]} <= INVALID_STATUSES
    if auto_clean:
        assert not {status_of(row) for row in cleaned.final["row"]} & INVALID_STATUSES
    else:
        assert cleaned.invalid.empty
    assert set(cleaned.featureless["row"]) <= set(cleaned.final["row"])
    assert {status_of(row) for row in cleaned.featureless["row"]} <= {Status.FEATURELESS}

    for table in shared_out[1:]:
        assert table.columns.is_unique
        values = {tuple(sorted(record.values(), key=str)) for record in table.astype(str).to_dict("records")}
        assert len(values) == len(table)
        for _, record in table.iterrows():
            whole = set(frame.iloc[int(record["row"])])
            assert whole <= set(record), "no cell of the list is lost"

    assert sum(count_statuses(frame[url_column], outcomes).values()) == len(frame)


URLS = ["a", "b", "c", "d", "e", "f"]
STATUSES = [Status.OK, Status.HTML, Status.TIMEOUT, Status.OK, None, Status.FEATURELESS]
GROUP = Group(number=1, kept=0, copies=(3,), similarities=(0.98,))


def clean(frame: pd.DataFrame, *, url_column: str = "url", auto_clean: bool = True) -> CleanedList:
    return clean_list(
        frame, url_column=url_column, outcomes=outcomes_of(URLS, STATUSES), groups=[GROUP], auto_clean=auto_clean
    )


def test_what_each_output_says() -> None:
    cleaned = clean(frame_of(URLS))
    assert cleaned.final["url"].tolist() == ["a", "f"]
    assert cleaned.duplicates.to_dict("records") == [
        {"url": "d", "duplicate_of": "a", "score": 0.98, "group": 1, "kept_because": "first in the list", "row": "3"}
    ]
    assert cleaned.invalid.to_dict("records") == [{"url": "b", "status": "html", "reason": "why b", "row": "1"}]
    assert cleaned.featureless.to_dict("records") == [
        {"url": "f", "status": "featureless", "reason": "why f", "row": "5"}
    ]
    timeout, pending = cleaned.failed.to_dict("records")
    assert timeout == {"url": "c", "status": "timeout", "reason": "why c", "retryable": True, "row": "2"}
    assert (pending["url"], pending["status"], pending["retryable"]) == ("e", "pending", True)
    assert "not read yet" in pending["reason"]
    assert cleaned.count_rows() == {"final": 2, "duplicates": 1, "invalid": 1, "failed": 2}


def test_without_auto_clean_what_is_no_video_stays() -> None:
    cleaned = clean(frame_of(URLS), auto_clean=False)
    assert cleaned.final["url"].tolist() == ["a", "b", "f"]
    assert cleaned.invalid.empty
    assert list(cleaned.invalid.columns) == ["url", "status", "reason", "row"]


def test_columns_of_the_list_never_clash_with_ours() -> None:
    frame = frame_of(
        URLS,
        url_column="link",
        url=[f"page {u}" for u in URLS],
        status=["live"] * 6,
        status_2=["x"] * 6,
        score=["y"] * 6,
        group=["z"] * 6,
    )
    cleaned = clean(frame, url_column="link")
    (copy,) = cleaned.duplicates.to_dict("records")
    assert copy == {
        "url": "d",
        "duplicate_of": "a",
        "score": 0.98,
        "group": 1,
        "kept_because": "first in the list",
        "row": "3",
        "link": "d",
        "url_2": "page d",
        "status": "live",
        "status_2": "x",
        "score_2": "y",
        "group_2": "z",
    }
    (invalid,) = cleaned.invalid.to_dict("records")
    assert (invalid["status"], invalid["status_3"], invalid["status_2"]) == ("html", "live", "x")
    assert list(cleaned.final.columns) == list(frame.columns)


def test_a_group_stands_together() -> None:
    urls = [str(n) for n in range(6)]
    groups = [
        Group(number=1, kept=0, copies=(3, 5), similarities=(0.98, 0.97)),
        Group(number=2, kept=1, copies=(2, 4), similarities=(0.96, 0.99)),
    ]
    outcomes = outcomes_of(urls, [Status.OK] * 6)
    cleaned = clean_list(frame_of(urls), url_column="url", outcomes=outcomes, groups=groups, auto_clean=True)
    assert cleaned.duplicates["url"].tolist() == ["3", "5", "2", "4"]
    assert cleaned.duplicates["score"].tolist() == [0.98, 0.97, 0.96, 0.99]


def test_what_speaks_for_a_copy_stands_in_its_row() -> None:
    groups = [Group(number=1, kept=0, copies=(2, 3), similarities=(0.98, float("nan")))]
    urls = ["a", "b", "c", "d"]
    cleaned = clean_list(
        frame_of(urls, points=["9"] * 4),
        url_column="url",
        outcomes=outcomes_of(urls, [Status.OK] * 4),
        groups=groups,
        auto_clean=True,
        describe=lambda group, copy: {"rule": f"group {group.number}", "points": copy},
        described=["rule", "points"],
    )
    names = ["url", "duplicate_of", "score", "group", "kept_because", "rule", "points", "row", "points_2"]
    assert list(cleaned.duplicates) == names
    assert cleaned.duplicates["rule"].tolist() == ["group 1", "group 1"]
    assert cleaned.duplicates["points"].tolist() == [2, 3]
    assert cleaned.duplicates["points_2"].tolist() == ["9", "9"]
    assert cleaned.duplicates["score"].isna().tolist() == [False, True]


def test_without_a_copy_the_columns_are_the_same() -> None:
    cleaned = clean_list(
        frame_of(["a"]),
        url_column="url",
        outcomes=outcomes_of(["a"], [Status.OK]),
        groups=[],
        auto_clean=True,
        described=["verdict", "rule"],
    )
    assert list(cleaned.duplicates) == [
        *("url", "duplicate_of", "score", "group", "kept_because", "verdict", "rule", "row")
    ]
    assert cleaned.duplicates.empty


def test_a_featureless_row_that_a_person_calls_a_copy_is_listed_once() -> None:
    urls = ["a", "b", "c"]
    outcomes = outcomes_of(urls, [Status.OK, Status.FEATURELESS, Status.FEATURELESS])
    group = Group(number=1, kept=0, copies=(1,), similarities=(float("nan"),))
    cleaned = clean_list(frame_of(urls), url_column="url", outcomes=outcomes, groups=[group], auto_clean=True)
    assert cleaned.duplicates["url"].tolist() == ["b"]
    assert cleaned.featureless["url"].tolist() == ["c"]
    assert cleaned.final["url"].tolist() == ["a", "c"]


def test_a_url_that_occurs_twice() -> None:
    frame = frame_of(["a", "b", "a"])
    outcomes = outcomes_of(["a", "b"], [Status.OK, Status.TIMEOUT])
    group = Group(number=1, kept=0, copies=(2,), similarities=(1.0,))
    cleaned = clean_list(frame, url_column="url", outcomes=outcomes, groups=[group], auto_clean=True)
    assert (cleaned.final["row"].tolist(), cleaned.duplicates["row"].tolist()) == (["0"], ["2"])
    assert cleaned.duplicates["duplicate_of"].tolist() == ["a"]


def test_a_list_with_an_index_of_its_own() -> None:
    cleaned = clean(frame_of(URLS).set_index(pd.Index([9, 7, 5, 5, 3, 1])))
    assert cleaned.final["url"].tolist() == ["a", "f"]
    assert cleaned.duplicates["url"].tolist() == ["d"]


# Accounting


def test_a_row_that_would_go_to_two_outputs() -> None:
    group = Group(number=1, kept=0, copies=(2,), similarities=(1.0,))
    with pytest.raises(AccountingError, match="6 rows came in and 7 would go out"):
        clean_list(
            frame_of(URLS), url_column="url", outcomes=outcomes_of(URLS, STATUSES), groups=[group], auto_clean=True
        )


def test_a_kept_video_that_is_not_in_the_final_list() -> None:
    group = Group(number=1, kept=2, copies=(3,), similarities=(1.0,))
    with pytest.raises(AccountingError, match="1 kept videos are not in the final list, such as c"):
        clean_list(
            frame_of(URLS), url_column="url", outcomes=outcomes_of(URLS, STATUSES), groups=[group], auto_clean=True
        )


@pytest.mark.parametrize("output", ["final", "failed"])
def test_a_row_that_would_be_lost(output: str) -> None:
    cleaned = clean(frame_of(URLS))
    check_rows(6, cleaned, url_column="url")
    lost = replace(cleaned, **{output: getattr(cleaned, output).iloc[1:]})
    with pytest.raises(AccountingError, match="6 rows came in and 5 would go out"):
        check_rows(6, lost, url_column="url")


# What became of the rows


def test_statuses_are_counted_by_row_in_their_fixed_order() -> None:
    counted = count_statuses([*URLS, "a", "unknown"], outcomes_of(URLS, STATUSES))
    assert list(counted.items()) == [
        (Status.OK, 3),
        (Status.FEATURELESS, 1),
        (Status.HTML, 1),
        (Status.TIMEOUT, 1),
        (Status.PENDING, 2),
    ]


def test_troubles_are_the_rows_without_a_vector() -> None:
    troubles = list_troubles(URLS, outcomes_of(URLS, STATUSES))
    assert troubles["url"].tolist() == ["b", "c", "e", "f"]
    assert troubles["status"].tolist() == ["html", "timeout", "pending", "featureless"]
    assert list(list_troubles([], {}).columns) == ["url", "status", "reason", "retryable"]

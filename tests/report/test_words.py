"""Numbers and sentences that several pages and the terminal share."""

from __future__ import annotations

import pytest

from dedup_lib.report.words import describe_bytes, describe_no_copies


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (99_940, "99.9 kB"),
        (99_960, "100 kB"),
        (999_400, "999 kB"),
        (999_600, "1.0 MB"),
        (10**15, "1,000.0 TB"),
    ],
)
def test_a_size_never_reads_as_a_thousand_of_its_unit(count: int, shown: str) -> None:
    assert describe_bytes(count) == shown


@pytest.mark.parametrize(
    ("compared", "existing", "said"),
    [
        (1, 0, "Fewer than two videos could be read, so nothing was compared."),
        (1, 5, "The one video that was compared has no copy."),
        (1200, 0, "None of the 1,200 videos that were compared has a copy."),
    ],
)
def test_a_result_without_copies_in_words(compared: int, existing: int, said: str) -> None:
    assert describe_no_copies(compared, existing=existing) == said

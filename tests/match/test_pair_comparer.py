"""Many pairs compared in several processes, with the same evidence as in one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import pytest
from scenes import copy_of

from dedup_lib.features import fingerprint as fingerprint_module
from dedup_lib.features.fingerprint import StoredFingerprints
from dedup_lib.match import pair_comparer
from dedup_lib.match.evidence import Evidence
from dedup_lib.match.pair_comparer import PairComparer


@dataclass(frozen=True)
class Shelf:
    """What loads the fingerprint of a row; in some processes it fails."""

    data: tuple[bytes | None, ...]
    broken_at: int = -1
    ends_at: int = -1
    home: int = os.getpid()

    def __call__(self, row: int) -> bytes | None:
        if row == self.broken_at:
            return b"damaged"
        if row == self.ends_at and os.getpid() != self.home:
            os._exit(3)
        return self.data[row]


def shelf(**flaws: int) -> Shelf:
    clips = [(0, "itself"), (1, "itself"), (2, "itself"), (0, "smaller"), (1, "logo")]
    return Shelf(data=(*(copy_of(*clip).to_bytes() for clip in clips), None), **flaws)


def compare(load: Shelf, *, workers: int) -> Sequence[Evidence]:
    rows = range(len(load.data))
    pairs = [Evidence(first=first, second=second) for first, second in combinations(rows, 2)]
    comparer = PairComparer(StoredFingerprints(load, rows=len(rows)), workers=workers)
    found = list(comparer.compare(pairs))
    assert sorted((one.first, one.second) for one in found) == list(combinations(rows, 2))
    return sorted(found, key=lambda one: (one.first, one.second))


@pytest.fixture(autouse=True)
def _any_time_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair_comparer, "MEASURED_S", 0.0)
    monkeypatch.setattr(pair_comparer, "MIN_S_FOR_PROCESSES", 0.0)
    monkeypatch.setattr(pair_comparer, "MAX_PAIRS_AT_ONCE", 2)
    monkeypatch.setattr(pair_comparer, "SQUARE_ROWS", 2)


def test_several_processes_find_what_one_finds() -> None:
    alone = compare(shelf(), workers=1)
    beside = compare(shelf(), workers=3)
    assert list(map(repr, beside)) == list(map(repr, alone))
    assert [(one.first, one.second) for one in alone if one.is_enough] == [(0, 3), (1, 4)]


def test_pairs_of_a_process_that_ends_are_compared_all_the_same() -> None:
    assert list(map(repr, compare(shelf(ends_at=2), workers=2))) == list(map(repr, compare(shelf(), workers=1)))


def test_a_damaged_fingerprint_is_the_same_error_everywhere() -> None:
    for workers in (1, 2):
        with pytest.raises(ValueError, match="are no fingerprint"):
            compare(shelf(broken_at=4), workers=workers)


def test_a_fingerprint_is_loaded_once_where_the_videos_of_families_lie_apart_in_the_list(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pair_comparer, "SQUARE_ROWS", 50)
    monkeypatch.setattr(fingerprint_module, "FINGERPRINTS_AT_HAND", 4)
    families, members = 10, 3
    data = copy_of(0, "itself").to_bytes()
    loaded: list[int] = []

    def load(row: int) -> bytes:
        loaded.append(row)
        return data

    pairs = [
        Evidence(first=family + families * first, second=family + families * second)
        for family in range(families)
        for first, second in combinations(range(members), 2)
    ]
    found = list(PairComparer(StoredFingerprints(load, rows=families * members)).compare(pairs))
    assert {(one.first, one.second) for one in found} == {(one.first, one.second) for one in pairs}
    assert sorted(loaded) == list(range(families * members))


def test_no_pairs_are_compared_at_once() -> None:
    assert list(PairComparer(StoredFingerprints(lambda row: None, rows=0)).compare([])) == []

"""How many cores a process may use: those of the machine, fewer by affinity, fewer in a container."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dedup_lib.run import cores
from dedup_lib.run.cores import count_cores


@pytest.mark.parametrize(
    ("limit", "found"),
    [("max 100000", 8), ("200000 100000", 2), ("150000 100000", 2), ("1000 100000", 1), ("6400000 100000", 8), ("", 8)],
)
def test_the_limit_of_a_container_counts(
    limit: str, found: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(cores, "_QUOTA", tmp_path / "cpu.max")
    assert count_cores() == 8
    (tmp_path / "cpu.max").write_text(f"{limit}\n")
    assert count_cores() == found

"""Whether a run over the list of the demo came out as planted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from dedup_lib.demo.films import FILMS
from dedup_lib.demo.planted import PLANTED, Output, Planted
from dedup_lib.lists.tables import load_table
from dedup_lib.records import Status
from dedup_lib.run.folder import RunFolder

Row = dict[str, str]


@dataclass(frozen=True)
class Check:
    """One planted thing, and whether the run found it as expected."""

    what: str
    expected: str
    found: str
    holds: bool


def check_outcome(run_dir: Path, *, base_url: str) -> list[Check]:
    """Compares the outputs of a run with the planted rows, matched by their column `id`.

    A missing output makes a check fail, and never raises an exception.
    """
    summary = RunFolder(run_dir).read_summary() or {}
    stem = Path(str(summary.get("list", ""))).stem
    files: dict[Output, Path] = {
        "final": run_dir / "FINAL_RESULT.csv",
        "text_duplicate": run_dir / f"{stem}.duplicates.csv",
        "duplicate": run_dir / "duplicates.csv",
        "invalid": run_dir / "invalid_urls.csv",
        "failed": run_dir / "failed_urls.csv",
    }
    outputs = {output: _load_rows(path) for output, path in files.items()}
    checks = [_check_rows(files[output].name, rows, _planted(output)) for output, rows in outputs.items()]
    featureless = run_dir / "featureless_urls.csv"
    flat = [row for row in PLANTED if row.status is Status.FEATURELESS]
    checks.append(_check_rows(featureless.name, _load_rows(featureless), flat))
    checks.append(_check_places(outputs))
    checks += [_check_status(row, outputs["invalid"] + outputs["failed"]) for row in _planted("invalid", "failed")]
    for row in _planted("duplicate"):
        checks.append(_check_copy(row, outputs["duplicate"], base_url))
        checks += _check_evidence(row, outputs["duplicate"])
    checks.append(_check_groups(outputs["duplicate"]))
    checks.append(_check_black_starts(outputs["final"]))
    return checks + _check_summary(summary)


def _planted(*outputs: Output) -> list[Planted]:
    return [row for row in PLANTED if row.expected in outputs]


def _check_rows(name: str, rows: list[Row], planted: Iterable[Planted]) -> Check:
    expected = Counter(row.id for row in planted)
    found = Counter(row.get("id", "without id") for row in rows)
    missing, extra = sorted((expected - found).elements()), sorted((found - expected).elements())
    told = f"{found.total()} rows"
    if missing:
        told += f"; missing: {', '.join(missing)}"
    if extra:
        told += f"; not planted: {', '.join(extra)}"
    return Check(f"rows of {name}", f"{expected.total()} rows", told, found == expected)


def _check_places(outputs: dict[Output, list[Row]]) -> Check:
    places = Counter(row.get("id", "without id") for rows in outputs.values() for row in rows)
    wrong = sorted(row.id for row in PLANTED if places[row.id] != 1)
    told = f"{places.total()} rows" + (f"; not in exactly one output: {', '.join(wrong)}" if wrong else "")
    holds = not wrong and places.total() == len(PLANTED)
    return Check("every listed row is in one output", f"{len(PLANTED)} rows", told, holds)


def _check_status(planted: Planted, rows: list[Row]) -> Check:
    expected = str(planted.status)
    found = _of(planted, rows, "status")
    return Check(f"why “{planted.title}” was set aside", expected, found, found == expected)


def _check_copy(planted: Planted, rows: list[Row], base_url: str) -> Check:
    found = _of(planted, rows, "duplicate_of")
    parts = urlsplit(found)
    name = unquote(parts.path).removeprefix("/")
    holds = name == planted.copy_of and parts.netloc == urlsplit(base_url).netloc
    return Check(f"“{planted.title}” is a copy of", planted.copy_of, name or found, holds)


def _check_evidence(planted: Planted, rows: list[Row]) -> list[Check]:
    checks = []
    for column, expected in (("verdict", planted.verdict), ("rule", planted.rule)):
        if expected:
            found = _of(planted, rows, column)
            checks.append(Check(f"{column} on “{planted.title}”", str(expected), found, found == expected))
    return checks


def _check_groups(rows: list[Row]) -> Check:
    def told(sizes: Counter[str]) -> str:
        return f"{len(sizes)} groups, the largest of {1 + max(sizes.values(), default=0)} videos"

    expected = told(Counter(row.copy_of for row in _planted("duplicate")))
    found = told(Counter(row.get("group", "") for row in rows))
    return Check("groups of copies", expected, found, found == expected)


def _check_black_starts(final: list[Row]) -> Check:
    names = {film.name for film in FILMS if film.black_start_s}
    pair = [row for row in PLANTED if row.name in names]
    kept = [row.title for row in pair if any(found.get("id") == row.id for found in final)]
    titles = [row.title for row in pair]
    return Check("same black start, different films: both kept", ", ".join(titles), ", ".join(kept), kept == titles)


def _check_summary(summary: dict[str, Any]) -> list[Check]:
    counts = Counter(row.expected for row in PLANTED)
    expected = {
        "input": len(PLANTED),
        "final": counts["final"],
        "text_duplicates": counts["text_duplicate"],
        "duplicates": counts["duplicate"],
        "invalid": counts["invalid"],
        "failed": counts["failed"],
    }
    rows = summary.get("rows", {})
    checks = [
        Check(f"summary: rows, {name}", str(number), str(rows.get(name)), rows.get(name) == number)
        for name, number in expected.items()
    ]
    total = sum(rows.get(name, 0) for name in expected if name != "input")
    checks.append(Check("summary: outputs add up to the input", str(len(PLANTED)), str(total), total == len(PLANTED)))
    statuses = Counter(str(row.status) for row in PLANTED if row.status is not None)
    found = {status: number for status, number in summary.get("statuses", {}).items() if number}
    checks.append(Check("summary: statuses", _told(statuses), _told(found), found == dict(statuses)))
    flat = statuses[Status.FEATURELESS]
    shown = summary.get("featureless")
    return [*checks, Check("summary: featureless", str(flat), str(shown), shown == flat)]


def _told(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {counts[name]}" for name in sorted(counts)) or "none"


def _of(planted: Planted, rows: list[Row], column: str) -> str:
    """The value of a column in the planted row of an output, or words that say what is missing."""
    for row in rows:
        if row.get("id") == planted.id:
            return row.get(column) or f"no {column}"
    return "not there"


def _load_rows(path: Path) -> list[Row]:
    rows: list[Any] = load_table(path).to_dict("records") if path.exists() else []
    return rows

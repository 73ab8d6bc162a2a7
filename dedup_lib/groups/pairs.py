"""The table of all compared pairs, `pairs.parquet`: what plots and questions are answered from.

The file is in the run folder. `pandas.read_parquet` reads it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dedup_lib.errors import RunFolderError
from dedup_lib.groups.columns import COLUMNS, describe_evidence
from dedup_lib.groups.matcher import ComparedPairs
from dedup_lib.match.evidence import MatchThresholds
from dedup_lib.match.score import TERMS
from dedup_lib.run.files import write_file_atomically
from dedup_lib.run.folder import RunFolder

MEASURED = {name: meaning for name, meaning in COLUMNS.items() if name != "next_score"}

PAIR_COLUMNS = {
    "first_url": "the video that comes first in the list",
    "second_url": "the other one",
    **MEASURED,
    **{f"term_{name}": f"for the score: {meaning}" for name, meaning in TERMS.items()},
}
"""Meaning of the columns of pairs.parquet. The first of two videos counts as the kept one. `score.list_contributions`
gives what each term adds to the score."""

WORDS = ("verdict", "rule", "transform", "differs", "differs_in_kept", "differs_in_copy")
COUNTS = ("frames_agreeing", "frames_compared", "frames_unlike", "inliers")
ROWS_AT_ONCE = 20_000


def tabulate_pairs(compared: ComparedPairs, *, urls: Sequence[str], rules: MatchThresholds) -> pd.DataFrame:
    """All compared pairs, whatever was decided, in the order of the list.

    The columns are `PAIR_COLUMNS`: texts as categories, counts as Int32, other numbers as float32. NA or NaN means not
    measured. `attrs["rules"]` holds the thresholds of the verdicts.
    """
    rows = [*compared.evidence] if compared.evidence else [(pair.first, pair.second) for pair in compared.pairs]
    rows.sort()
    # In parts, because a row takes 2 kB as Python objects and 0.1 kB as numbers.
    parts = [
        _as_part([_describe(compared, *pair, rules=rules) for pair in rows[start : start + ROWS_AT_ONCE]])
        for start in range(0, max(1, len(rows)), ROWS_AT_ONCE)
    ]
    table = pd.concat(parts, ignore_index=True)
    places = pd.Index(urls).unique()
    for column, side in (("first_url", 0), ("second_url", 1)):
        codes = places.get_indexer(pd.Index([urls[pair[side]] for pair in rows], dtype=places.dtype))
        table[column] = pd.Categorical.from_codes(codes, categories=places)
    for column in WORDS:
        table[column] = table[column].astype("category")
    table.attrs = {"rules": asdict(rules)}
    return table[list(PAIR_COLUMNS)]


def _describe(compared: ComparedPairs, first: int, second: int, *, rules: MatchThresholds) -> dict[str, object]:
    row = describe_evidence(compared, kept=first, copy=second, rules=rules)
    evidence = compared.about(first, second)
    if evidence is None:
        return row | {"cosine": row["score"]}
    return row | {f"term_{name}": value for name, value in evidence.terms.items()}


def _as_part(described: Sequence[Mapping[str, object]]) -> pd.DataFrame:
    part = pd.DataFrame(described, columns=[name for name in PAIR_COLUMNS if not name.endswith("_url")])
    for name in part:
        if name in WORDS:
            part[name] = part[name].fillna("").astype(str)
        else:
            part[name] = part[name].astype("Int32" if name in COUNTS else "float32")
    return part


def save_pairs(table: pd.DataFrame, path: Path) -> None:
    """Save the table of `tabulate_pairs`, whole or not at all. Raises RunFolderError if it cannot be written."""
    write_file_atomically(path, table.to_parquet)


def collect_verdicts(table: pd.DataFrame) -> dict[str, NDArray[np.float32]]:
    """The scores of all pairs by verdict, for a histogram. Verdicts without pairs are left out."""
    found = table.groupby("verdict", observed=True)["score"]
    return {str(verdict): np.asarray(values, np.float32) for verdict, values in found}


def load_pairs(run: RunFolder) -> pd.DataFrame:
    """The table that `save_pairs` wrote to a run folder. Raises RunFolderError if it is missing or cannot be read."""
    remedy = "run 06_search_and_clean again: python -m dedup_lib run PROFILE --run NAME --only 06"
    if not run.pairs_path.is_file():
        raise RunFolderError(f"{run.shown(run.pairs_path)} is not there, so no pair is known: {remedy}")
    try:
        table = pd.read_parquet(run.pairs_path)
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{run.shown(run.pairs_path)} is damaged ({error}): {remedy}") from None
    knobs = {field.name for field in fields(MatchThresholds)}
    if list(table) != list(PAIR_COLUMNS) or set(table.attrs.get("rules", {})) != knobs:
        raise RunFolderError(f"{run.shown(run.pairs_path)} is of another version: {remedy}")
    return table


def find_pair(table: pd.DataFrame, first_url: str, second_url: str) -> dict[str, Any] | None:
    """The row of two videos, in either order, with None for what was not measured; None if they were not compared."""
    for one, other in ((first_url, second_url), (second_url, first_url)):
        found = table[(table["first_url"] == one) & (table["second_url"] == other)]
        if len(found):
            return {str(name): None if pd.isna(value) else value for name, value in found.iloc[0].items()}
    return None

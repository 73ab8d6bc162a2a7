"""06: what people decided, and what they are asked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from dedup_lib.groups.clean import outcome_of_row
from dedup_lib.groups.columns import COLUMNS, describe_evidence
from dedup_lib.groups.decisions import (
    Decision,
    DecisionFile,
    Memory,
    RowDecisions,
    decisions_path,
    list_pairs,
    load_decisions,
    rows_of_decisions,
    spell_as,
)
from dedup_lib.groups.matches import Matches
from dedup_lib.groups.review import ask_once, find_doubtful
from dedup_lib.groups.thresholds import Borderline
from dedup_lib.records import KEPT_STATUSES, Group
from dedup_lib.run.folder import RunFolder
from dedup_lib.run.paths import resolve_path
from dedup_lib.settings import SearchSettings
from dedup_lib.steps.extracted_list import ExtractedList

MAX_DECISIONS = 200
"""The most decided pairs that a summary names."""

MAX_QUESTIONS = 50
"""Number of pairs that a person is asked about, unless more pairs are doubtful."""


def find_decisions(run: RunFolder, listed: ExtractedList, *, settings: SearchSettings) -> Path:
    """The path of a person's decisions about this list: `decisions_csv`, or else a file beside the list. For a list
    that was read from a collection, the file is in the run folder."""
    if settings.decisions_csv:
        return resolve_path(settings.decisions_csv)
    return decisions_path(listed.list_csv if listed.list_csv is not None else run.path / "list.csv")


def open_decisions(run: RunFolder, listed: ExtractedList, *, settings: SearchSettings) -> DecisionFile:
    """The file of a person's decisions about this list, to add to. Raises ListError for a file of another kind."""
    return DecisionFile(find_decisions(run, listed, settings=settings))


def load_memory(run: RunFolder, listed: ExtractedList, *, settings: SearchSettings) -> Memory:
    """What people decided, in the URLs of the list. Raises ListError for a file that cannot be understood."""
    return spell_as(load_decisions(find_decisions(run, listed, settings=settings)), listed.urls)


def load_row_decisions(run: RunFolder, listed: ExtractedList, *, settings: SearchSettings) -> RowDecisions:
    """What people decided about pairs of rows.

    Raises ListError for a file that cannot be understood or contradicts itself.
    """
    found = (outcome_of_row(url, listed.outcomes) for url in listed.urls)
    urls = [outcome.url if outcome.status in KEPT_STATUSES else None for outcome in found]
    return rows_of_decisions(
        load_memory(run, listed, settings=settings),
        urls,
        are_versions_same=settings.versions == "remove",
        place=run.shown(find_decisions(run, listed, settings=settings)),
    )


def list_decided(run: RunFolder, listed: ExtractedList, *, settings: SearchSettings) -> list[tuple[Decision, str, str]]:
    """The decisions of people about this list, each with its two URLs. Both videos of each pair were read.

    Raises ListError for a file of decisions that cannot be understood.
    """
    urls = {url for url in listed.urls if outcome_of_row(url, listed.outcomes).status in KEPT_STATUSES}
    memory = load_memory(run, listed, settings=settings)
    return [
        (decision, first, second)
        for decision in Decision
        for first, second in list_pairs(memory, decision)
        if {first, second} <= urls
    ]


def list_doubtful(matches: Matches, *, groups: Sequence[Group]) -> pd.DataFrame:
    """The pairs that a person should look at, as rows of review.csv, the most uncertain first: one between each two
    groups. Pairs that a person has decided about are left out."""
    rows = _describe_pairs(_ask(matches, groups), matches)
    names = ["first_url", "second_url", *(name for name in COLUMNS if name != "next_score")]
    return pd.DataFrame(rows, columns=names, dtype=object)


def _ask(matches: Matches, groups: Sequence[Group]) -> list[tuple[int, int]]:
    pairs = find_doubtful(matches.compared, rules=matches.plan.rules, groups=groups)
    return ask_once(pairs, groups=groups, decided=matches.decided)


def _describe_pairs(pairs: Iterable[tuple[int, int]], matches: Matches) -> list[dict[str, object]]:
    return [
        {"first_url": matches.urls[first], "second_url": matches.urls[second]}
        | describe_evidence(matches.compared, kept=first, copy=second, rules=matches.plan.rules)
        for first, second in pairs
    ]


def list_questions(matches: Matches, *, groups: Sequence[Group]) -> list[dict[str, object]]:
    """The pairs that a person is asked about, as rows of review.csv: first the doubtful pairs, then those nearest to
    the threshold. Pairs that a person has decided about are left out."""
    plan, decided = matches.plan, matches.decided
    doubtful = _ask(matches, groups)
    open_pairs = [pair for pair in matches.compared.pairs if (pair.first, pair.second) not in decided]
    above, below = Borderline(open_pairs).at(plan.threshold, count=MAX_QUESTIONS)
    near = sorted([*above, *below], key=lambda pair: (abs(pair.similarity - plan.threshold), pair))
    asked = list(dict.fromkeys([*doubtful, *((pair.first, pair.second) for pair in near)]))
    return _describe_pairs(asked[: max(MAX_QUESTIONS, len(doubtful))], matches)

"""Why two videos of a run were joined, or why not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dedup_lib.errors import SettingError
from dedup_lib.features.fingerprint import Fingerprint
from dedup_lib.groups.decisions import Decision, TransitiveDecisions
from dedup_lib.groups.matcher import ComparedPairs
from dedup_lib.groups.pairs import COUNTS, find_pair, load_pairs, tabulate_pairs
from dedup_lib.lists.urls import normalise_url
from dedup_lib.match.evidence import MatchThresholds, Verdict
from dedup_lib.match.score import TERMS, list_contributions
from dedup_lib.match.verify import compare_pair
from dedup_lib.records import Outcome, Status
from dedup_lib.report.comparison import DUPLICATE, KEPT, RunOutcome, load_outcome
from dedup_lib.report.evidence_words import VERDICT_WORDS
from dedup_lib.report.evidence_words import explain as say_evidence
from dedup_lib.run.folder import RunFolder
from dedup_lib.run.ledger import LedgerView
from dedup_lib.settings import SearchSettings
from dedup_lib.steps.extracted_list import load_extracted_list
from dedup_lib.steps.review import load_memory


@dataclass(frozen=True, kw_only=True)
class Explained:
    """What a run says about two videos."""

    first_url: str
    second_url: str
    """Both URLs are spelled as in the list."""
    verdict: str
    """Empty where the two could not be compared."""
    why: str
    """One sentence."""
    origin: str
    """When the two were compared, and what proposed them."""
    outputs: tuple[str, ...]
    """For each of the two, the output that it went to."""
    measured: Mapping[str, Any]
    """The measured values, by the names of `pairs.PAIR_COLUMNS`. Missing values are left out."""
    adds: Mapping[str, float]
    """What each of the `score.TERMS` adds to the score (see `score.list_contributions`). Empty without a score."""


def explain_pair(run: RunFolder, first: str, second: str) -> Explained:
    """Explain the verdict of a finished run about two videos: the evidence for a copy, and the evidence against it.

    `first` and `second` are URLs of the list, in any spelling that counts as the same URL. A pair that nothing
    proposed is compared now, by the fingerprints in the ledger.

    Raises SettingError for a URL that is not in the list, or for the same URL twice. Raises RunFolderError where
    06_search_and_clean has not finished, or where its files cannot be read.
    """
    record = run.require_record(SearchSettings.stage)
    settings = SearchSettings.of({**record["settings"], "run_dir": str(run.path)})
    table = load_pairs(run)
    listed = load_extracted_list(run, collection=settings.collection)
    urls = dict.fromkeys([*listed.own_urls, *map(str, table["first_url"].cat.categories)])
    one, other = (_find_url(text, urls, argument) for text, argument in ((first, "URL_A"), (second, "URL_B")))
    if one == other:
        raise SettingError("URL_B", second, "the list counts it as the same URL as URL_A; give two different videos")
    outcome = load_outcome(run)
    is_joined = outcome.kept_of.get(one, one) == outcome.kept_of.get(other, other)
    memory = load_memory(run, listed, settings=settings)
    decided = TransitiveDecisions(memory, are_versions_same=settings.versions == "remove").about(one, other)
    said = _say_decision(decided, is_direct=frozenset((one, other)) in memory)

    def tell(verdict: str, why: str, origin: str, measured: Mapping[str, Any] | None = None) -> Explained:
        return Explained(
            first_url=one,
            second_url=other,
            verdict=verdict,
            why=why,
            origin=origin,
            outputs=tuple(_say_output(url, outcome) for url in (one, other)),
            measured=dict(_known(measured or {})),
            adds=_list_contributions(measured or {}),
        )

    # A video that was in the collection before this list may have no outcome here; its vectors were compared.
    read = {url: listed.outcomes.get(url) for url in (one, other)}
    unread = [
        f"{url} gave nothing to compare ({', '.join(filter(None, (known.status, known.reason)))})"
        for url, known in read.items()
        if known is not None and known.status != Status.OK
    ]
    if unread:
        return tell("", "; ".join(unread), "they were not compared")
    origin = f"compared by {SearchSettings.stage}"
    row = find_pair(table, one, other)
    if row is None and settings.decide == "cosine":
        if is_joined:
            return tell(Verdict.DUPLICATE, f"both are in one group, which did not need this pair{said}", origin)
        threshold = table.attrs["rules"]["min_score"]
        why = f"the cosine of their vectors is below all that the sweep asks for, and {threshold:g} is asked for here"
        return tell(Verdict.DIFFERENT, why + said, origin)
    if row is None:
        row = _compare_now(run, one, other, outcomes=read, rules=MatchThresholds(**table.attrs["rules"]))
        origin = "compared now: neither vectors nor visual words proposed them to the run"
    if row is None:
        return tell("", "one of them has no fingerprint in this run folder", "they were not compared")
    if row["first_url"] != one:
        one, other = other, one
    verdict = Verdict(row["verdict"])
    why = f"{say_evidence(row, first='the first', second='the second')}; so {VERDICT_WORDS[verdict]}"
    if is_joined and not said and verdict not in (Verdict.DUPLICATE, Verdict.EXCERPT):
        why += "; yet both are in one group, by way of other videos in it"
    return tell(verdict, why + said, origin, row)


def _find_url(text: str, known: Iterable[str], argument: str) -> str:
    if text in known:
        return text
    key = normalise_url(text).key
    found = next((url for url in known if normalise_url(url).key == key), None)
    if found is None:
        raise SettingError(argument, text, "it is not in the list of this run; give a URL as the list has it")
    return found


def _say_decision(decided: Decision | None, *, is_direct: bool) -> str:
    """What people decided about the two, after a sentence about the evidence; empty if they decided nothing."""
    if decided is None:
        return ""
    said = "the same" if decided.is_same else "versions of one film" if decided is Decision.VERSION else "different"
    who = "a person said" if is_direct else "it follows from what people said"
    return f"; {who} that they are {said}, which outweighs this"


def _say_output(url: str, outcome: RunOutcome) -> str:
    fate = outcome.fates.get(url, "")
    if fate == DUPLICATE:
        return f"{url} is a duplicate of {outcome.kept_of[url]}"
    if fate == KEPT:
        return f"{url} is kept"
    return f"{url} was set aside: {fate}" if fate else f"{url} was in the collection before this list"


def _compare_now(
    run: RunFolder, first: str, second: str, *, outcomes: Mapping[str, Outcome | None], rules: MatchThresholds
) -> dict[str, Any] | None:
    with LedgerView(run.ledger_path) as ledger:
        packed = ledger.load_fingerprints((first, second))
    if len(packed) < 2:
        return None
    one, other = (Fingerprint.from_bytes(packed[url][1]) for url in (first, second))
    durations_s = [outcome.duration_s if outcome is not None else 0.0 for outcome in outcomes.values()]
    evidence = compare_pair(one, other, durations_s=durations_s)
    compared = ComparedPairs(
        pairs=(),
        nearest=np.full(2, np.nan),
        floor=0.0,
        expanded_queries=0,
        evidence={(0, 1): evidence},
        versions=rules.versions,
    )
    return find_pair(tabulate_pairs(compared, urls=[first, second], rules=rules), first, second)


def _known(row: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    """The measured values, as rounded numbers."""
    for name, value in row.items():
        if name in ("first_url", "second_url", "verdict") or name.startswith("term_") or value in (None, ""):
            continue
        yield name, value if isinstance(value, str) else int(value) if name in COUNTS else round(float(value), 4)


def _list_contributions(row: Mapping[str, Any]) -> dict[str, float]:
    terms = {name: row.get(f"term_{name}") for name in TERMS}
    known = {name: float(value) for name, value in terms.items() if value is not None}
    return (
        {name: round(value, 2) for name, value in list_contributions(known).items()} if len(known) == len(TERMS) else {}
    )

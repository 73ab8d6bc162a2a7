"""06: write the outputs and the summary."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from dedup_lib import __version__
from dedup_lib.errors import AccountingError, ListError
from dedup_lib.groups.clean import CleanedList, clean_list
from dedup_lib.groups.columns import COLUMNS, describe_evidence, find_criterion, find_next_score
from dedup_lib.groups.decisions import Decision
from dedup_lib.groups.matches import Matches
from dedup_lib.groups.pairs import save_pairs
from dedup_lib.groups.sweep import count_scores, describe_sweep
from dedup_lib.lists.tables import count_guarded, load_table, save_table
from dedup_lib.match.evidence import Criterion, Verdict
from dedup_lib.records import FAILED_STATUSES, Group, video_key
from dedup_lib.run.failures import Reading, check_failures, find_causes
from dedup_lib.run.files import digest_file, write_text_atomically
from dedup_lib.run.folder import Record, RunFolder
from dedup_lib.settings import FLOWS, DedupeUrlsSettings, ExtractSettings, SearchSettings
from dedup_lib.steps.extracted_list import ExtractedList
from dedup_lib.steps.inputs import OUTPUTS, refuse_overwriting
from dedup_lib.steps.review import MAX_DECISIONS, find_decisions, list_decided
from dedup_lib.steps.search_plan import find_sweep_low


def clean_by_evidence(
    listed: ExtractedList, *, groups: Sequence[Group], matches: Matches, auto_clean: bool
) -> CleanedList:
    """Assign each row of the list to an output. The row of a copy has its evidence. Raises AccountingError."""

    compared, plan = matches.compared, matches.plan
    members = {group.number: {group.kept, *group.copies} for group in groups}
    similarities = {
        copy: similarity for group in groups for copy, similarity in zip(group.copies, group.similarities, strict=True)
    }

    def describe(group: Group, copy: int) -> dict[str, object]:
        row = describe_evidence(compared, kept=group.kept, copy=copy, rules=plan.rules)
        similarity = similarities[copy]
        found = find_criterion(compared, kept=group.kept, copy=copy, similarity=similarity, rules=plan.rules)
        if found == Criterion.PERSON:
            row |= {"verdict": str(Verdict.DUPLICATE), "rule": str(found)}
        near = find_next_score(compared, row=copy, group=members[group.number])
        return {name: value for name, value in row.items() if name != "score"} | {"next_score": near}

    return clean_list(
        listed.frame,
        url_column=listed.url_column,
        outcomes=listed.outcomes,
        groups=groups,
        auto_clean=auto_clean,
        why=matches.keeper.why,
        describe=describe,
        described=[name for name in COLUMNS if name != "score"],
        existing=listed.existing,
    )


def find_outputs(run: RunFolder, listed: ExtractedList, *, settings: SearchSettings) -> dict[str, Path]:
    """The path of each list that 06_search_and_clean writes.

    Raises SettingError where an output would overwrite another output or an input of the run. Inputs are the list,
    what earlier notebooks made of it, and the decisions of a person.
    """
    records = [record for stage in FLOWS["direct"][:-1] if (record := run.read_record(stage)) is not None]
    taken = [
        (run.recorded_path(record, name), f"a file of {record['stage']}")
        for record in records
        for name in record["files"]
    ]
    taken.append((find_decisions(run, listed, settings=settings), "the decisions of a person"))
    if listed.list_csv is not None:
        taken.insert(0, (listed.list_csv, "the list"))
    found = {}
    for name, parameter in OUTPUTS.items():
        path = run.output_path(getattr(settings, parameter) if parameter else "", f"{name}.csv")
        refuse_overwriting(parameter or name, path, taken)
        taken.append((path, f"{name}.csv"))
        found[name] = path
    return found


def save_outputs(
    run: RunFolder, listed: ExtractedList, cleaned: CleanedList, *, review: pd.DataFrame, settings: SearchSettings
) -> dict[str, Path]:
    """Save the outputs of a run as CSV, in the dialect of the list. Returns their paths, with that of the report of
    02_dedupe_urls.

    Raises RunFolderError when another process works on the run folder, or when the disk takes no more. Raises
    SettingError when an output would overwrite another list. Raises AccountingError unless every row of the list, text
    duplicates included, is in exactly one output.
    """
    tables = {
        "FINAL_RESULT": cleaned.final,
        "duplicates": cleaned.duplicates,
        "review": review,
        "invalid_urls": cleaned.invalid,
        "failed_urls": cleaned.failed,
        "featureless_urls": cleaned.featureless,
    }
    files = find_outputs(run, listed, settings=settings)
    _count_rows(listed, cleaned)
    with run.locked(settings.stage):
        for name, path in files.items():
            save_table(tables[name], path, dialect=listed.dialect)
    if (deduped := _find_deduped(run)) is not None:
        files["text_duplicates"] = run.recorded_path(deduped, "text_duplicates")
    return files


def _count_rows(listed: ExtractedList, cleaned: CleanedList) -> dict[str, int]:
    """Number of rows in the list and in each output. Raises AccountingError unless the two add up."""
    rows = {"input": listed.list_rows, "text_duplicates": listed.text_duplicates, **cleaned.count_rows()}
    if rows["input"] != sum(count for name, count in rows.items() if name != "input"):
        raise AccountingError(
            f"the rows of {listed.name} do not add up: {rows}. Run all notebooks again in this run folder, in order, "
            "on one list"
        )
    return rows


def write_summary(
    run: RunFolder,
    *,
    listed: ExtractedList,
    cleaned: CleanedList,
    groups: Sequence[Group],
    matches: Matches,
    settings: SearchSettings,
    review: pd.DataFrame,
    files: Mapping[str, Path],
) -> dict[str, Any]:
    """Save summary.json and return its content: what went in, what came out, and with which settings. Raises
    AccountingError as `save_outputs` does."""
    rows = _count_rows(listed, cleaned)
    compared, plan = matches.compared, matches.plan
    decided = list_decided(run, listed, settings=settings)
    known = _count_known(run)
    summary = {
        "version": __version__,
        "list": listed.name,
        "flow": [*_find_stages(run), SearchSettings.stage],
        "rows": rows,
        "statuses": {str(status): count for status, count in listed.statuses.items()},
        "reading": asdict(Reading.of(listed.own_outcomes, known=known)),
        "causes": [asdict(cause) for cause in find_causes(listed.own_outcomes)],
        "featureless": len(cleaned.featureless),
        "guarded_cells": _count_guarded(cleaned, files),
        "decision": {
            **plan.as_record(),
            "keep": settings.keep,
            "groups": len(groups),
            "largest_group": max((group.size for group in groups), default=0),
            "pairs": len(compared.pairs),
            "compared": len(compared.evidence),
            "review": len(review),
            "expanded_queries": compared.expanded_queries,
        },
        "retryable": sum(outcome.retryable for outcome in listed.own_outcomes if outcome.status in FAILED_STATUSES),
        "existing": {
            "runs": [Path(name).name for name in settings.existing_runs],
            "urls": known,
            "compared": len(listed.existing),
            "repeated": int(cleaned.duplicates["duplicate_of"].isin(listed.existing).sum()),
        },
        "recipe": asdict(plan.recipe),
        "decisions": {
            **{str(kind): sum(decision is kind for decision, *_ in decided) for kind in Decision},
            # By key, because a URL may hold a password.
            "pairs": [
                [str(decision), video_key(first), video_key(second)]
                for decision, first, second in decided[:MAX_DECISIONS]
            ],
        },
        "files": {name: run.shown_in_run(path) for name, path in files.items()},
        "digests": {name: digest_file(files[name]) for name in OUTPUTS if name in files},
    }
    with run.locked(SearchSettings.stage):
        write_text_atomically(run.path / "summary.json", json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    return summary


def _count_known(run: RunFolder) -> int:
    """Number of rows that 02_dedupe_urls set aside because an earlier run has read their URL."""
    deduped = _find_deduped(run)
    return int(deduped["counts"].get("known", 0)) if deduped is not None else 0


def _find_deduped(run: RunFolder) -> Record | None:
    """The record of 02_dedupe_urls; None unless it is about the list that 03_extract read."""
    deduped, extracted = run.read_record(DedupeUrlsSettings.stage), run.read_record(ExtractSettings.stage)
    is_same = deduped is not None and extracted is not None and deduped["list"] == extracted["list"]
    return deduped if is_same else None


def check_reading(run: RunFolder, listed: ExtractedList, *, settings: SearchSettings) -> None:
    """The last check of a run, after all files are written. Raises FailedRowsError where the share of rows that could
    not be read is above `fail_above`."""
    outcomes = listed.own_outcomes
    reading = Reading.of(outcomes, known=_count_known(run))
    check_failures(reading, find_causes(outcomes), fail_above=settings.fail_above)


def _count_guarded(cleaned: CleanedList, files: Mapping[str, Path]) -> int:
    """Number of cells that got an apostrophe, in all outputs that hold rows of the list."""
    tables = [cleaned.final, cleaned.duplicates, cleaned.invalid, cleaned.failed]
    # The report of 02 may have been moved. The row counts come from its record, not from this file.
    if "text_duplicates" in files:
        with suppress(ListError):
            tables.append(load_table(files["text_duplicates"]))
    return sum(map(count_guarded, tables))


def save_compared_pairs(run: RunFolder, matches: Matches) -> pd.DataFrame:
    """Save every compared pair as pairs.parquet, for questions and plots. Returns the table.

    Raises RunFolderError when another process works on the run folder, or when the disk takes no more.
    """
    table = matches.to_frame()
    with run.locked(SearchSettings.stage):
        save_pairs(table, run.pairs_path)
    return table


def save_sweep(run: RunFolder, matches: Matches, *, settings: SearchSettings) -> None:
    """Save as sweep.json what other thresholds would decide, for the overview of the run.

    The sweep is exact unless the threshold lies below the usual start of a sweep. Then a run at another threshold
    would weigh other pairs. Raises RunFolderError when another process works on the run folder, or when the disk takes
    no more.
    """
    plan = matches.plan
    found = describe_sweep(matches)
    is_exact = plan.sweep_low == find_sweep_low(settings, plan.recipe)
    whole = {"parameter": plan.parameter, "measure": plan.measure, "is_exact": is_exact} | found
    whole["scores"] = count_scores(matches.by_verdict)
    with run.locked(settings.stage):
        write_text_atomically(run.sweep_path, json.dumps(whole, ensure_ascii=False, separators=(",", ":")) + "\n")


def _find_stages(run: RunFolder) -> list[str]:
    """The stages before 06_search_and_clean whose results its outputs use."""
    extracted = run.read_record(ExtractSettings.stage)
    flow = FLOWS[extracted["settings"]["mode"] if extracted is not None else "direct"]
    return [stage for stage in flow if stage != SearchSettings.stage and run.read_record(stage) is not None]

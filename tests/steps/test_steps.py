"""The work of the stages on real run folders, ledgers, job folders and Milvus Lite files."""

from __future__ import annotations

import io
import json
import os
import sqlite3
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scenes import draw_clip, each, fingerprint
from tqdm import tqdm

from dedup_lib.errors import AccountingError, ListError, RunFolderError, SettingError, StoreError
from dedup_lib.evaluate.edits import resize
from dedup_lib.extract.job_folders import job_dir, save_job
from dedup_lib.features.encoders import DEFAULT_THRESHOLDS, SWEEP_LOWS
from dedup_lib.features.vectors import normalise_rows, pool_vectors
from dedup_lib.groups.clean import CleanedList
from dedup_lib.groups.columns import COLUMNS
from dedup_lib.groups.decisions import Decision, DecisionFile
from dedup_lib.groups.grouping import group_copies
from dedup_lib.lists.dialects import PLAIN, Dialect
from dedup_lib.lists.tables import load_list, load_table, save_table
from dedup_lib.match.evidence import Verdict
from dedup_lib.records import Frames, Outcome, Pooling, Recipe, Status, Vectors, VideoVectors
from dedup_lib.run.folder import RunFolder, thumbnail_path
from dedup_lib.run.ledger import Ledger
from dedup_lib.run.resources import ResourceMonitor
from dedup_lib.settings import (
    CollectionsSettings,
    DecodeSettings,
    DedupeUrlsSettings,
    ExtractSettings,
    NotebookSettings,
    SearchSettings,
    UploadSettings,
)
from dedup_lib.steps.bar import progress_on
from dedup_lib.steps.collections import manage_collections
from dedup_lib.steps.existing import add_existing, copy_storyboards
from dedup_lib.steps.extract import choose_resources, make_recipe
from dedup_lib.steps.extracted_list import ExtractedList, load_extracted_list
from dedup_lib.steps.inputs import ListSource, check_outputs, find_first_list, find_list, list_stem
from dedup_lib.steps.outputs import clean_by_evidence, save_outputs, save_sweep, write_summary
from dedup_lib.steps.review import find_decisions, list_doubtful, list_questions, load_row_decisions, open_decisions
from dedup_lib.steps.search import find_matches, search_list
from dedup_lib.steps.upload import upload_jobs
from dedup_lib.store.address import StoreAddress
from dedup_lib.store.store import Store

RECIPE = Recipe(encoder="pdq", model="", num_frames=3, frame_span="spread")
AFTER = ("02_dedupe_urls", "01_decode")
WIDTH = 8


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    for name in ("notebooks", "params"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MILVUS_URI", "")
    run = RunFolder("outputs/mine")
    run.make()
    return run


@pytest.fixture
def root(run: RunFolder, tmp_path: Path) -> Path:
    return tmp_path


def decode_settings(**changes: Any) -> DecodeSettings:
    return DecodeSettings(**{"run_dir": "outputs/mine", "input_csv": "", "url_column": "", "output_csv": ""} | changes)


def dedupe_settings() -> DedupeUrlsSettings:
    return DedupeUrlsSettings(
        run_dir="outputs/mine",
        input_csv="",
        url_column="",
        output_csv="",
        report_csv="",
        ignore_path_case=False,
        drop_query_parameters=[],
    )


def extract_settings(**changes: Any) -> ExtractSettings:
    values: dict[str, Any] = {
        "run_dir": "outputs/mine",
        "input_csv": "",
        "url_column": "",
        "mode": "direct",
        "jobs_dir": "batch_outputs",
        "store": "auto",
        "collection": "videos",
        "num_frames": 3,
        "frame_span": "spread",
        "scan_step_s": 0.25,
        "encoder": "pdq",
        "model": "",
        "batch_size": 8,
        "start": 0,
        "end": None,
        "overwrite": False,
        "workers": 1,
        "most_a_host": 1,
        "retries": 0,
        "retry_failed": True,
        "engine": "local",
        "timeout_s": 5.0,
        "max_bytes": 1000,
        "allow_private_addresses": False,
        "allow_local_paths": True,
    }
    return ExtractSettings(**values | changes)


def search_settings(**changes: Any) -> SearchSettings:
    values: dict[str, Any] = {
        "run_dir": "outputs/mine",
        "store": "auto",
        "collection": "videos",
        "decide": "cosine",
        "min_score": 0.5,
        "review_from": 0.03,
        "excerpts": "remove",
        "versions": "review",
        "cosine_thresh": 0.9,
        "against_existing": False,
        "existing_runs": [],
        "search": "auto",
        "max_pairs": 10_000,
        "ann": ["nprobe:128", "top_k:2", "audit_videos:100"],
        "keep": "first_seen",
        "auto_clean": True,
        "fail_above": 1,
        "decisions_csv": "",
        "unique_csv": "",
        "report_csv": "",
        "invalid_csv": "",
        "sweep_low": None,
    }
    return SearchSettings(**values | changes)


def upload_settings(vectors: Any = "frames", **changes: Any) -> UploadSettings:
    values: dict[str, Any] = {"run_dir": "outputs/mine", "jobs_dir": "batch_outputs", "collection": "videos"}
    values |= {"store": "auto"}
    return UploadSettings(**values | {"vectors": vectors, "overwrite": False} | changes)


def record(
    run: RunFolder,
    settings: NotebookSettings,
    source: ListSource,
    *,
    rows: int = 10,
    text_duplicates: int = 0,
    output_csv: str = "out.csv",
    **details: Any,
) -> None:
    """What a notebook leaves behind."""
    run.write_record(
        settings,
        counts={},
        files={"input_csv": source.path, "output_csv": run.path / output_csv, "text_duplicates": run.path / "t.csv"},
        details=source.as_record("url", rows=rows, text_duplicates=text_duplicates) | details,
    )


# Which list


@pytest.mark.parametrize(
    ("name", "stem"),
    [("ads.csv", "ads"), ("ads.csv.gz", "ads"), ("a.b.csv", "a.b"), ("ads", "ads"), ("ä {x}.tsv", "ä {x}")],
)
def test_outputs_are_named_after_the_list(name: str, stem: str) -> None:
    assert list_stem(Path("/data") / name) == stem


@pytest.mark.parametrize(
    "name", [".csv", "..csv", "...gz", ".gz", "a\n\x1b[31m.csv", "$(x);.csv", "<b>.csv", "-rf.csv", "~.csv"]
)
def test_no_name_of_a_list_leads_out_of_the_run_folder(run: RunFolder, name: str) -> None:
    path = run.output_path("", f"{list_stem(Path('/data') / name)}.unique.csv")
    assert path.resolve().parent == run.path.resolve()


def test_the_first_list_is_named_or_remembered(run: RunFolder, root: Path) -> None:
    with pytest.raises(RunFolderError, match=r"input_csv is empty, and outputs/mine has not read a list yet"):
        find_first_list(run, input_csv="", url_column="")
    named = find_first_list(run, input_csv="lists/ads.csv", url_column="link")
    wanted = ListSource(
        path=root / "lists" / "ads.csv",
        url_column="link",
        list_csv=root / "lists" / "ads.csv",
        list_rows=None,
        text_duplicates=0,
    )
    assert named == wanted
    record(run, decode_settings(), named)
    assert find_first_list(run, input_csv="", url_column="link") == wanted
    assert find_first_list(run, input_csv="other.csv", url_column="").path == root / "other.csv"


def test_each_stage_reads_what_the_one_before_made(run: RunFolder, root: Path) -> None:
    first = find_first_list(run, input_csv="ads.csv", url_column="")
    record(run, decode_settings(), first, rows=10, output_csv="ads.decoded.csv")
    second = find_list(run, input_csv="", url_column="", after=["01_decode"])
    assert second == ListSource(
        path=run.path / "ads.decoded.csv", url_column="url", list_csv=root / "ads.csv", list_rows=10, text_duplicates=0
    )
    assert second.stem == "ads"
    record(run, dedupe_settings(), second, rows=10, text_duplicates=3, output_csv="ads.unique.csv")
    third = find_list(run, input_csv="", url_column="", after=AFTER)
    assert (third.path, third.list_csv) == (run.path / "ads.unique.csv", root / "ads.csv")
    assert (third.list_rows, third.text_duplicates) == (10, 3)
    assert third.as_record("url", rows=7)["list"] == {"csv": str(root / "ads.csv"), "rows": 10, "text_duplicates": 3}

    for same in ("ads.csv", str(root / "ads.csv"), "./ads.csv", "outputs/../ads.csv"):
        assert find_list(run, input_csv=same, url_column="", after=AFTER) == third
    assert find_list(run, input_csv="", url_column="mine", after=AFTER).url_column == "mine"


def test_another_list_starts_anew(run: RunFolder, root: Path) -> None:
    first = find_first_list(run, input_csv="ads.csv", url_column="")
    record(run, dedupe_settings(), first, text_duplicates=3)
    other = find_list(run, input_csv="other.csv", url_column="", after=AFTER)
    assert other == ListSource(
        path=root / "other.csv", url_column="", list_csv=root / "other.csv", list_rows=None, text_duplicates=0
    )


def test_a_later_stage_of_another_list_is_passed_over(run: RunFolder, root: Path) -> None:
    old = find_first_list(run, input_csv="old.csv", url_column="")
    record(run, dedupe_settings(), old, output_csv="old.unique.csv")
    new = find_first_list(run, input_csv="new.csv", url_column="")
    record(run, decode_settings(), new, output_csv="new.decoded.csv")
    found = find_list(run, input_csv="new.csv", url_column="", after=AFTER)
    assert (found.path, found.text_duplicates) == (run.path / "new.decoded.csv", 0)
    with pytest.raises(RunFolderError, match=r"read different lists in outputs/mine .*new\.csv, .*old\.csv.*set input"):
        find_list(run, input_csv="", url_column="", after=AFTER)


def test_no_list_at_all(run: RunFolder) -> None:
    with pytest.raises(RunFolderError, match="input_csv is empty, and 02_dedupe_urls or 01_decode has not run"):
        find_list(run, input_csv="", url_column="", after=AFTER)


# Upload


def rows_of(seed: int, *, frames: int = 3) -> Vectors:
    return normalise_rows(np.random.default_rng(seed).normal(size=(frames, WIDTH)))


def video_of(url: str, seed: int, *, frames: int = 3) -> VideoVectors:
    return VideoVectors(url=url, vectors=rows_of(seed, frames=frames), positions=tuple(range(frames)))


def save_jobs(
    run: RunFolder, videos: Iterable[VideoVectors | None], *, recipe: Recipe = RECIPE, first: int = 0
) -> None:
    for row, video in enumerate(videos, start=first):
        url = video.url if video else f"https://h/failed {row}"
        outcome = Outcome(url=url, status=Status.OK if video else Status.TIMEOUT)
        save_job(job_dir(run.path / "batch_outputs", row), outcome=outcome, recipe=recipe, vectors=video)


VIDEOS = [video_of(f"https://h/{n}", n, frames=1 + n % 3) for n in range(5)]


@pytest.mark.parametrize("pooling", Pooling)
def test_job_folders_go_up_pooled_as_asked(run: RunFolder, pooling: Pooling) -> None:
    save_jobs(run, [*VIDEOS, None])
    done: list[int] = []
    for _ in range(2):
        report = upload_jobs(run, settings=upload_settings(str(pooling)), progress=done.append)
    assert (report.jobs, report.other_recipes, sum(done)) == (5, 0, 10)
    assert (report.facts.pooling, report.facts.recipe, report.facts.dimension) == (pooling, RECIPE, WIDTH)
    assert report.facts.rows == (sum(len(v.positions) for v in VIDEOS) if pooling == Pooling.FRAMES else 5)
    with Store(StoreAddress.find(run)) as store:
        held = store.open_collection("videos").load_vectors([v.url for v in VIDEOS])
    for video in VIDEOS:
        np.testing.assert_allclose(held[video.url].vectors, pool_vectors(video.vectors, pooling), atol=1e-6)
        assert held[video.url].positions == (video.positions if pooling == Pooling.FRAMES else (0,))


def test_an_upload_mixes_nothing(run: RunFolder) -> None:
    save_jobs(run, VIDEOS[:2])
    upload_jobs(run, settings=upload_settings("frames"))
    with pytest.raises(StoreError, match="holds vectors made with other settings than those of this run"):
        upload_jobs(run, settings=upload_settings("average"))
    replaced = upload_jobs(run, settings=upload_settings("average", overwrite=True))
    assert (replaced.facts.rows, replaced.facts.pooling) == (2, Pooling.AVERAGE)


def test_job_folders_of_other_settings_stay_behind(run: RunFolder) -> None:
    other = replace(RECIPE, num_frames=2)
    save_jobs(run, VIDEOS[:3])
    save_jobs(run, VIDEOS[3:], recipe=other, first=3)
    with pytest.raises(RunFolderError, match="made with 2 different settings, and 03_extract has not run"):
        upload_jobs(run, settings=upload_settings())
    source = find_first_list(run, input_csv="ads.csv", url_column="")
    record(run, extract_settings(), source, recipe=vars(RECIPE), dimension=WIDTH)
    report = upload_jobs(run, settings=upload_settings())
    assert (report.jobs, report.other_recipes, report.facts.recipe) == (3, 2, RECIPE)


def test_the_folder_that_a_longer_list_left_over_is_not_uploaded(run: RunFolder) -> None:
    stale, fresh = video_of("https://h/b", 1), video_of("https://h/b", 2)
    save_jobs(run, [VIDEOS[0], stale])
    save_jobs(run, [fresh])
    report = upload_jobs(run, settings=upload_settings("average"))
    assert (report.jobs, report.other_recipes, report.facts.rows) == (1, 1, 1)
    with Store(StoreAddress.find(run)) as store:
        held = store.open_collection("videos").load_vectors([fresh.url])
    np.testing.assert_allclose(held[fresh.url].vectors, pool_vectors(fresh.vectors, Pooling.AVERAGE), atol=1e-6)


def test_a_list_without_a_readable_video_leaves_an_empty_collection(run: RunFolder) -> None:
    save_jobs(run, [None])
    source = find_first_list(run, input_csv="ads.csv", url_column="")
    record(run, extract_settings(), source, recipe=vars(RECIPE), dimension=WIDTH)
    report = upload_jobs(run, settings=upload_settings())
    assert (report.jobs, report.facts.rows, report.facts.recipe) == (0, 0, RECIPE)


def test_nothing_to_upload(run: RunFolder) -> None:
    with pytest.raises(RunFolderError, match=r"batch_outputs does not exist: run 03_extract with mode: batch first"):
        upload_jobs(run, settings=upload_settings())
    save_jobs(run, [None])
    with pytest.raises(RunFolderError, match="no job folder in outputs/mine/batch_outputs holds a vector"):
        upload_jobs(run, settings=upload_settings())
    assert not run.lite_path.exists()


# Search

LIKE = rows_of(100)
"""Frames that several videos share."""


def copy_of(url: str) -> VideoVectors:
    return VideoVectors(url=url, vectors=LIKE, positions=(0, 1, 2))


def fill(run: RunFolder, videos: Iterable[VideoVectors], *, recipe: Recipe = RECIPE) -> None:
    with Store(StoreAddress.find(run)) as store:
        filled = store.ensure_collection("videos", pooling=Pooling.FRAMES, recipe=recipe, dimension=WIDTH)
        filled.upsert(list(videos))


URLS = ["https://h/0", "https://h/copy 1", "https://h/gone", "https://h/1", "https://h/copy 2", "https://h/late"]


def extracted(
    run: RunFolder, *, text_duplicates: int = 0, recipe: Recipe = RECIPE, dialect: Dialect = PLAIN
) -> ExtractedList:
    """A list that 03_extract worked through in the direct flow."""
    path = run.path / "ads.unique.csv"
    save_table(pd.DataFrame({"n": range(len(URLS)), "url": URLS}), path, dialect=dialect)
    source = ListSource(
        path=path,
        url_column="url",
        list_csv=run.path.parent / "ads.csv",
        list_rows=len(URLS) + text_duplicates,
        text_duplicates=text_duplicates,
    )
    record(run, extract_settings(), source, recipe=vars(recipe))
    statuses = [Status.OK, Status.OK, Status.TIMEOUT, Status.OK, Status.OK]
    with Ledger(run.ledger_path, recipe) as ledger:
        ledger.record(Outcome(url=u, status=s) for u, s in zip(URLS, statuses, strict=False))
    return load_extracted_list(run, collection="videos")


STORED = [VIDEOS[0], copy_of(URLS[1]), video_of(URLS[3], 1), copy_of(URLS[4])]


def test_the_list_is_what_extract_worked_through(run: RunFolder) -> None:
    listed = extracted(run, text_duplicates=2)
    assert listed.urls == URLS
    assert (listed.name, listed.list_rows, listed.text_duplicates, listed.recipe) == ("ads.csv", 8, 2, RECIPE)
    assert listed.statuses == {Status.OK: 4, Status.TIMEOUT: 1, Status.PENDING: 1}
    assert not run.lite_path.exists(), "the store is not needed for it"
    (run.path / "ads.unique.csv").unlink()
    with pytest.raises(ListError, match="does not exist"):
        load_extracted_list(run, collection="videos")


def test_a_ledger_that_is_gone_is_missed(run: RunFolder) -> None:
    """With an empty one, every row would be set aside as not read yet, and FINAL_RESULT.csv would be empty."""
    extracted(run)
    for path in run.path.glob("ledger.sqlite*"):
        path.unlink()
    with pytest.raises(RunFolderError, match=r"outputs/mine/ledger\.sqlite is missing.*or run 03_extract again"):
        load_extracted_list(run, collection="videos")
    assert not run.ledger_path.exists()


def test_without_extract_the_list_is_what_the_collection_holds(run: RunFolder) -> None:
    with pytest.raises(StoreError, match="no collection 'videos'"):
        load_extracted_list(run, collection="videos")
    fill(run, [*STORED, copy_of("https://h/'ünï'")])
    listed = load_extracted_list(run, collection="videos")
    assert listed.urls == sorted([*(v.url for v in STORED), "https://h/'ünï'"])
    assert (listed.name, listed.list_rows, listed.text_duplicates, listed.recipe) == ("the collection", 5, 0, None)
    scored, plan = search_list(run, listed, settings=search_settings())
    assert plan.recipe == RECIPE
    (group,) = group_copies(scored.pairs, threshold=plan.threshold)
    assert {listed.urls[row] for row in (group.kept, *group.copies)} == {URLS[1], URLS[4], "https://h/'ünï'"}


def test_a_search_compares_the_list_and_nothing_else(run: RunFolder) -> None:
    strangers = [copy_of(f"https://other/{n}") for n in range(9)]
    fill(run, [*STORED, *strangers])
    for search in ("exact", "ann"):
        scored, plan = search_list(run, extracted(run), settings=search_settings(search=search))
        assert [(p.first, p.second, p.similarity) for p in scored.pairs if p.similarity >= 0.9] == [(1, 4, 1.0)]
        assert (scored.expanded_queries > 0) == (search == "ann")
        assert plan.search is not None and plan.search.method == search
    assert scored.floor == plan.sweep_low == SWEEP_LOWS["pdq"]
    np.testing.assert_array_equal(np.isnan(scored.nearest), [False, False, True, False, False, True])


def clustered(count: int) -> list[VideoVectors]:
    """Videos of three frames, five alike each time, as many as fill the lists of an index."""
    random = np.random.default_rng(0)
    centres = np.repeat(random.normal(size=(count // 5, 3, WIDTH)), 5, axis=0)
    rows = centres + 0.35 * random.normal(size=centres.shape)
    return [
        VideoVectors(url=f"https://h/{n}", vectors=normalise_rows(frames), positions=(0, 1, 2))
        for n, frames in enumerate(rows)
    ]


def test_an_index_is_audited_and_a_poor_one_ends_the_run(run: RunFolder) -> None:
    fill(run, clustered(800))
    listed = load_extracted_list(run, collection="videos")
    exact, plan = search_list(run, listed, settings=search_settings(search="exact", sweep_low=0.8))
    assert plan.search is not None and (plan.search.on, plan.search.audit) == ("cpu", None)
    tuning = ["index:HNSW", "M:16", "ef:400", "top_k:50", "audit_videos:100"]
    thorough = search_settings(search="ann", ann=tuning, sweep_low=0.8)
    found, plan = search_list(run, listed, settings=thorough)
    assert plan.search is not None and plan.search.index == "HNSW" and "Milvus Lite" in plan.search.on
    assert plan.search.audit is not None and plan.search.audit.recall is not None
    assert plan.search.audit.videos == 100 and plan.search.audit.recall >= 0.99
    assert len(found.pairs) >= 0.99 * len(exact.pairs) > 500
    tuning = ["nlist:512", "nprobe:1", "top_k:50", "audit_videos:100"]
    poor = search_settings(search="ann", ann=tuning, sweep_low=0.8)
    with pytest.raises(SettingError, match=r"ann = .*'nprobe:1'.*the index finds .* min_recall asks for 99") as told:
        search_list(run, listed, settings=poor)
    assert "Raise nprobe (of HNSW: ef) in ann, or set search: exact" in str(told.value)
    _, plan = search_list(run, listed, settings=replace(poor, ann=[*tuning, "min_recall:0"]))
    assert plan.search is not None and plan.search.audit is not None and plan.search.audit.recall is not None
    assert 0 < plan.search.audit.recall < 0.99


def test_an_index_that_the_store_does_not_have_changes_nothing(run: RunFolder) -> None:
    fill(run, clustered(10))
    listed = load_extracted_list(run, collection="videos")
    unknown = search_settings(search="ann", ann=["index:NOSUCH"])
    for _ in range(2):
        with pytest.raises(StoreError, match=r"cannot index videos by NOSUCH in Milvus Lite.*unknown index_type"):
            search_list(run, listed, settings=unknown)
    scored, _ = search_list(run, listed, settings=search_settings(search="ann"))
    assert len(scored.pairs) >= 10


def test_numbers_left_empty_are_the_encoders_own(run: RunFolder) -> None:
    fill(run, STORED)
    listed = extracted(run)
    _, plan = search_list(run, listed, settings=search_settings(cosine_thresh=None))
    assert (plan.threshold, plan.sweep_low) == (DEFAULT_THRESHOLDS["pdq"], SWEEP_LOWS["pdq"])
    assert plan.sweep(6) == sorted({0.5, 0.6, 0.7, DEFAULT_THRESHOLDS["pdq"], 0.8, 0.9, 1.0})
    _, plan = search_list(run, listed, settings=search_settings(cosine_thresh=0.3))
    assert (plan.threshold, plan.sweep_low, plan.sweep(4)) == (0.3, 0.3, [0.3, 0.4, 0.6, 0.8, 1.0])


def test_vectors_of_other_settings_are_not_compared(run: RunFolder) -> None:
    other = replace(RECIPE, num_frames=5)
    fill(run, STORED, recipe=other)
    with pytest.raises(StoreError, match="filled with other settings than 03_extract used here") as caught:
        search_list(run, extracted(run), settings=search_settings())
    assert RECIPE.to_json() in str(caught.value)
    assert other.to_json() in str(caught.value)


def test_a_collection_that_lacks_videos_is_not_searched(run: RunFolder) -> None:
    fill(run, STORED[:-1])
    words = "1 of 4 videos have no vector in the collection 'videos', such as https://h/copy 2: .* without overwrite"
    with pytest.raises(StoreError, match=words):
        search_list(run, extracted(run), settings=search_settings())


# Search by evidence

KIND = "1, every 0.25 s to 60 s"
FRAMES = {seed: draw_clip(seed) for seed in (0, 1, 2)}
"""Three unlike clips of ten seconds."""
SMALLER = each(partial(resize, width=0.5, height=0.5), FRAMES[1])


def print_all(run: RunFolder, frames: Mapping[str, Sequence[Frames]], *, kind: str = KIND) -> None:
    """Store fingerprints of these clips."""
    with Ledger(run.ledger_path, RECIPE) as ledger:
        ledger.record([], fingerprints={url: fingerprint(of).to_bytes() for url, of in frames.items()}, kind=kind)


def seen(run: RunFolder, **frames: Sequence[Frames]) -> ExtractedList:
    """The list as 03_extract leaves it: vectors and fingerprints; the second clip is a copy of the fourth."""
    fill(run, STORED)
    listed = extracted(run)
    print_all(
        run, dict(zip((URLS[0], URLS[1], URLS[3], URLS[4]), (FRAMES[0], FRAMES[1], FRAMES[2], SMALLER), strict=True))
    )
    print_all(run, {URLS[int(name[-1])]: of for name, of in frames.items()})
    return listed


# Against what was there before


def search_both(run: RunFolder, **changes: Any) -> tuple[ExtractedList, pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    """The list with what was there before, duplicates.csv and review.csv, and the summary, as 06 makes them."""
    settings = search_settings(against_existing=True, keep="best", **changes)
    listed = add_existing(run, extracted(run), settings=settings)
    matches = find_matches(run, listed, settings=settings)
    groups = matches.group()
    cleaned = clean_by_evidence(listed, groups=groups, matches=matches, auto_clean=True)
    review = list_doubtful(matches, groups=groups)
    files = save_outputs(run, listed, cleaned, review=review, settings=settings)
    summary = write_summary(
        run,
        listed=listed,
        cleaned=cleaned,
        groups=groups,
        matches=matches,
        settings=settings,
        review=review,
        files=files,
    )
    return listed, cleaned.duplicates, review, summary


def test_a_new_list_is_compared_with_what_the_collection_holds(run: RunFolder) -> None:
    old = [copy_of("https://old/1"), video_of("https://old/2", 50), video_of("https://old/3", 51)]
    fill(run, [*STORED, *old])
    listed, duplicates, _, summary = search_both(run)
    assert (listed.existing, listed.new_rows, listed.urls) == (("https://old/1",), 6, [*URLS, "https://old/1"])
    assert list(duplicates["url"]) == [URLS[1], URLS[4]], "two of the list, and none of those from before"
    assert set(duplicates["duplicate_of"]) == {"https://old/1"}
    assert set(duplicates["kept_because"]) == {"in the collection before"}
    assert (summary["rows"]["input"], summary["rows"]["final"], summary["rows"]["duplicates"]) == (6, 2, 2)
    assert summary["existing"] == {"runs": [], "urls": 0, "compared": 1, "repeated": 2}
    assert summary["statuses"] == {"ok": 4, "timeout": 1, "pending": 1}
    DecisionFile(run.path.parent / "decisions.csv").decide(URLS[1], "https://old/1", Decision.DIFFERENT)
    _, duplicates, _, summary = search_both(run)
    assert list(zip(duplicates["url"], duplicates["duplicate_of"], strict=True)) == [(URLS[4], "https://old/1")]
    DecisionFile(run.path.parent / "decisions.csv").decide("https://old/2", URLS[0], Decision.SAME)
    listed, duplicates, _, summary = search_both(run)
    assert listed.existing == ("https://old/1", "https://old/2")
    assert dict(zip(duplicates["url"], duplicates["duplicate_of"], strict=True))[URLS[0]] == "https://old/2"
    decisions = DecisionFile(run.path.parent / "decisions.csv")
    decisions.decide("https://nobody/read", URLS[3], Decision.SAME)
    decisions.decide("https://nobody/read", "https://old/3", Decision.SAME)
    _, duplicates, _, summary = search_both(run)
    assert dict(zip(duplicates["url"], duplicates["duplicate_of"], strict=True))[URLS[3]] == "https://old/3"
    listed = add_existing(run, extracted(run), settings=search_settings())
    assert listed.existing == (), "only where it is asked for"


def test_old_videos_are_told_by_the_pictures_of_the_runs_that_read_them(run: RunFolder) -> None:
    """One was read here, one in an earlier run, of one no pictures are left, and the URL of one comes again."""
    listed = seen(run)
    here, before, lost = "https://old/here", "https://old/before", "https://old/lost"
    fill(run, [video_of(here, 60), video_of(before, 61), replace(VIDEOS[0], url=lost)])
    earlier = RunFolder("outputs/earlier")
    for folder, frames in ((run, {here: FRAMES[0]}), (earlier, {before: SMALLER, URLS[3]: FRAMES[2]})):
        with Ledger(folder.ledger_path, RECIPE) as ledger:
            ledger.record(Outcome(url=url, status=Status.OK, duration_s=10) for url in frames)
        print_all(folder, frames)
    listed, duplicates, review, summary = search_both(run, decide="evidence", existing_runs=["outputs/earlier"])
    assert listed.existing == (URLS[3], before, here, lost)
    found = dict(zip(duplicates["url"], duplicates["duplicate_of"], strict=True))
    assert found == {URLS[0]: here, URLS[1]: before, URLS[3]: URLS[3], URLS[4]: before}
    assert set(duplicates["rule"]) <= {"identical frames", "frames agree"}
    assert summary["existing"] == {"runs": ["earlier"], "urls": 0, "compared": 4, "repeated": 4}
    assert list(zip(review["first_url"], review["second_url"], review["rule"], strict=True)) == [
        (URLS[0], lost, "cosine")
    ]
    words = r"names outputs/none, and there is no such folder \(any more\); outputs/ holds earlier, mine: put"
    with pytest.raises(RunFolderError, match=words):
        search_both(run, decide="evidence", existing_runs=["outputs/none"])
    RunFolder("outputs/none").make()
    with pytest.raises(RunFolderError, match=r"existing_runs names outputs/none, which holds no ledger\.sqlite"):
        search_both(run, decide="evidence", existing_runs=["outputs/none"])


def test_the_missing_store_of_an_earlier_run_is_named(run: RunFolder) -> None:
    fill(run, STORED)
    with Ledger(RunFolder("outputs/earlier").ledger_path, RECIPE):
        pass
    with pytest.raises(StoreError, match=r"outputs/earlier/milvus\.db is missing.* a run that existing_runs names"):
        add_existing(run, extracted(run), settings=search_settings(existing_runs=["outputs/earlier"]))


def test_a_storyboard_is_copied_whole_or_not_at_all(run: RunFolder) -> None:
    resource = pytest.importorskip("resource", reason="Windows does not limit the size of files")
    earlier = RunFolder("outputs/earlier")
    source, target = (thumbnail_path(URLS[0], thumbnails_dir=folder.thumbnails_dir) for folder in (earlier, run))
    source.parent.mkdir(parents=True)
    source.write_bytes(bytes(100_000))
    listed = replace(extracted(run), ledgers=(earlier.ledger_path,))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(RunFolderError, match="File too large"):
            copy_storyboards(run, listed, [URLS[0]])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not target.exists()
    copy_storyboards(run, listed, [URLS[0]])
    assert target.read_bytes() == source.read_bytes()


def test_what_failed_here_and_was_read_by_an_earlier_run_is_compared(run: RunFolder) -> None:
    """One URL is of the list, and one was of an older list of this run. The vectors lie with the earlier run."""
    listed = seen(run)
    before, again = "https://old/failed here", URLS[2]
    with Ledger(run.ledger_path, RECIPE) as ledger:
        ledger.record([Outcome(url=before, status=Status.HTML)])
    earlier = RunFolder("outputs/earlier")
    earlier.make()
    fill(earlier, [copy_of(before), video_of(again, 70)])
    with Ledger(earlier.ledger_path, RECIPE) as ledger:
        ledger.record(Outcome(url=url, status=Status.OK, duration_s=10) for url in (before, again))
    print_all(earlier, {before: SMALLER, again: FRAMES[0]})
    listed, duplicates, _, summary = search_both(run, decide="evidence", existing_runs=["outputs/earlier"])
    assert listed.existing == (before,)
    found = dict(zip(duplicates["url"], duplicates["duplicate_of"], strict=True))
    assert found == {URLS[1]: before, URLS[4]: before}
    assert (summary["rows"]["failed"], summary["existing"]["compared"]) == (2, 1), "the list's row stays a failed one"


def test_pictures_decide(run: RunFolder) -> None:
    with tqdm(file=io.StringIO()) as bar:
        compared, plan = search_list(run, seen(run), settings=search_settings(decide="evidence"), bar=bar)
    assert [(p.first, p.second, p.excerpt) for p in compared.pairs] == [(1, 4, "")]
    assert [pair.similarity for pair in compared.pairs] == [compared.evidence[1, 4].score]
    assert (plan.measure, plan.threshold, plan.review_from) == ("score", 0.5, 0.03)
    assert compared.floor == plan.sweep_low == plan.review_from
    found = compared.about(4, 1)
    assert found is not None and found.judge(plan.rules)[0] == Verdict.DUPLICATE
    assert found.cosine == pytest.approx(1.0)
    assert bar.n == bar.total == len(compared.evidence)
    np.testing.assert_array_equal(np.isnan(compared.nearest[[2, 5]]), [True, True])


def test_pictures_outweigh_vectors(run: RunFolder) -> None:
    """Two clips with the same vectors show different things, and two that show the same have different vectors."""
    listed = seen(run, row_3=FRAMES[1], row_4=FRAMES[2])
    compared, _ = search_list(run, listed, settings=search_settings(decide="evidence"))
    assert [(p.first, p.second) for p in compared.pairs] == [(1, 3)]
    assert (1, 4) in compared.evidence
    by_cosine, _ = search_list(run, listed, settings=search_settings())
    assert [(p.first, p.second) for p in by_cosine.pairs if p.similarity >= 0.9] == [(1, 4)]
    assert by_cosine.evidence == {}


def test_an_excerpt_is_removed_or_kept_as_asked(run: RunFolder) -> None:
    listed = seen(run, row_1=FRAMES[1][:16])
    removed, plan = search_list(run, listed, settings=search_settings(decide="evidence"))
    assert [(p.first, p.second, p.excerpt) for p in removed.pairs] == [(1, 4, "first")]
    assert group_copies(removed.pairs, threshold=plan.threshold)[0].kept == 4, "an excerpt never stays for the whole"
    kept = find_matches(run, listed, settings=search_settings(decide="evidence", excerpts="keep"))
    assert kept.compared.pairs == ()
    review = list_doubtful(kept, groups=[])
    assert review[["first_url", "second_url", "verdict"]].values.tolist() == [[URLS[1], URLS[4], "excerpt"]]


def test_what_was_compared_is_not_compared_again(run: RunFolder) -> None:
    """What the ledger holds about a pair is taken for what was found, until one of the videos is read anew."""
    settings = search_settings(decide="evidence")
    listed = seen(run)
    first, _ = search_list(run, listed, settings=settings)
    again, _ = search_list(run, listed, settings=replace(settings, min_score=0.9))
    assert again.evidence == first.evidence and again.pairs == first.pairs
    with sqlite3.connect(run.ledger_path) as database:
        database.execute("UPDATE comparisons SET data = '{}'")
    forgotten, _ = search_list(run, listed, settings=settings)
    assert forgotten.pairs == () and set(forgotten.evidence) >= set(first.evidence) - {(1, 4)}
    fresh, _ = search_list(run, seen(run), settings=settings)
    assert fresh.pairs == first.pairs


@pytest.mark.parametrize("changed", [{"min_score": 0.9}, {"excerpts": "keep"}, {"versions": "remove"}])
def test_another_threshold_searches_nothing_again(run: RunFolder, changed: dict[str, object]) -> None:
    """What a search proposed is kept: neither the store nor a fingerprint is read again. A new video ends that."""
    settings = search_settings(decide="evidence")
    listed = seen(run, row_1=FRAMES[1][:16])
    before, plan = search_list(run, listed, settings=settings)
    expected, _ = search_list(run, listed, settings=replace(settings, **changed))
    run.lite_path.rename(run.path / "away.db")
    with sqlite3.connect(run.ledger_path) as database:
        database.execute("UPDATE fingerprints SET data = x'00'")
    again, plan_again = search_list(run, listed, settings=settings)
    assert (again.pairs, again.evidence, again.candidates) == (before.pairs, before.evidence, before.candidates)
    assert plan_again == plan
    found, _ = search_list(run, listed, settings=replace(settings, **changed))
    assert (found.pairs, found.evidence) == (expected.pairs, expected.evidence)
    for other in ({"max_pairs": 4_000_000}, {"search": "exact"}):
        with pytest.raises(StoreError, match="there is no collection"):
            search_list(run, listed, settings=replace(settings, **other))
    assert listed.recipe is not None
    with Ledger(run.ledger_path, listed.recipe) as ledger:
        ledger.record([])
        search_list(run, listed, settings=settings)
        ledger.record([Outcome(url="http://example.com/new", status=Status.TIMEOUT)])
    with pytest.raises(StoreError, match="there is no collection"):
        search_list(run, listed, settings=settings)


@pytest.mark.parametrize("data", [b"", b"PK", bytes(100)])
def test_a_damaged_search_is_made_anew(run: RunFolder, data: bytes) -> None:
    listed = seen(run, row_1=FRAMES[1][:16])
    before, _ = search_list(run, listed, settings=search_settings(decide="evidence"))
    with sqlite3.connect(run.ledger_path) as database:
        database.execute("UPDATE searches SET data = ?", (data,))
    again, _ = search_list(run, listed, settings=search_settings(decide="evidence"))
    assert again.pairs == before.pairs
    with sqlite3.connect(run.ledger_path) as database:
        assert len(database.execute("SELECT data FROM searches").fetchone()[0]) > len(data)


def test_an_upload_ends_what_a_search_found(run: RunFolder) -> None:
    listed = seen(run, row_1=FRAMES[1][:16])
    search_list(run, listed, settings=search_settings(decide="evidence"))
    run.lite_path.rename(run.path / "away.db")
    search_list(run, listed, settings=search_settings(decide="evidence"))
    run.write_record(upload_settings(run_dir=str(run.path)), counts={}, files={})
    with pytest.raises(StoreError, match="there is no collection"):
        search_list(run, listed, settings=search_settings(decide="evidence"))


def test_a_comparison_that_is_damaged_is_said(run: RunFolder) -> None:
    listed = seen(run)
    search_list(run, listed, settings=search_settings(decide="evidence"))
    with sqlite3.connect(run.ledger_path) as database:
        database.execute("UPDATE comparisons SET data = 'x'")
    with pytest.raises(RunFolderError, match=r"ledger\.sqlite is damaged"):
        search_list(run, listed, settings=search_settings(decide="evidence"))


def test_numbers_of_a_search_by_evidence(run: RunFolder) -> None:
    listed = seen(run)
    _, plan = search_list(run, listed, settings=search_settings(decide="evidence", min_score=0.02))
    assert (plan.threshold, plan.sweep_low) == (0.02, 0.02)
    _, plan = search_list(run, listed, settings=search_settings(decide="evidence", sweep_low=0.2))
    assert (plan.threshold, plan.sweep(4)) == (0.5, [0.2, 0.4, 0.5, 0.6, 0.8, 1.0])


REMEDY = "run 03_extract again in this run folder, or set decide: cosine"


def test_videos_without_a_fingerprint_are_not_searched_by_evidence(run: RunFolder) -> None:
    fill(run, STORED)
    listed = extracted(run)
    print_all(run, {URLS[0]: FRAMES[0], URLS[3]: FRAMES[2]})
    with pytest.raises(RunFolderError) as caught:
        search_list(run, listed, settings=search_settings(decide="evidence"))
    assert str(caught.value) == (
        f"2 of 4 videos have no fingerprint in outputs/mine/ledger.sqlite, such as {URLS[1]}: {REMEDY}"
    )
    assert search_list(run, listed, settings=search_settings())[0].pairs


def test_a_list_of_a_collection_alone_has_no_fingerprints(run: RunFolder) -> None:
    fill(run, STORED)
    listed = load_extracted_list(run, collection="videos")
    with pytest.raises(RunFolderError, match=f"4 of 4 videos have no fingerprint .*{REMEDY}"):
        search_list(run, listed, settings=search_settings(decide="evidence"))


def test_fingerprints_of_different_kinds_are_not_compared(run: RunFolder) -> None:
    listed = seen(run)
    print_all(run, {URLS[3]: FRAMES[2]}, kind="1, every 1 s to 60 s")
    with pytest.raises(RunFolderError, match=rf"different settings \({KIND}; 1, every 1 s to 60 s\).*: {REMEDY}"):
        search_list(run, listed, settings=search_settings(decide="evidence"))


@pytest.mark.parametrize("data", [b"", b"no fingerprint", fingerprint(FRAMES[0]).to_bytes()[:-100]])
def test_a_damaged_fingerprint_is_named_with_what_to_do(run: RunFolder, data: bytes) -> None:
    listed = seen(run)
    with Ledger(run.ledger_path, RECIPE) as ledger:
        ledger.record([], fingerprints={URLS[3]: data}, kind=KIND)
    with pytest.raises(RunFolderError, match=rf"outputs/mine/ledger\.sqlite is damaged .*move it away, then {REMEDY}"):
        search_list(run, listed, settings=search_settings(decide="evidence"))


def test_a_video_that_fails_now_is_not_compared_by_what_it_once_showed(run: RunFolder) -> None:
    listed = seen(run, row_2=FRAMES[1], row_5=SMALLER)
    compared, _ = search_list(run, listed, settings=search_settings(decide="evidence"))
    assert {row for rows in compared.evidence for row in rows} <= {0, 1, 3, 4}
    assert [(p.first, p.second) for p in compared.pairs] == [(1, 4)]


# What a person decided


def decide(path: Path, *decisions: tuple[int, int, str]) -> None:
    lines = [f"{URLS[first]},{URLS[second]},{decision},\n" for first, second, decision in decisions]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("first_url,second_url,decision,decided_at\n" + "".join(lines), encoding="utf-8")


def test_decisions_lie_beside_the_list_or_where_they_are_said_to(run: RunFolder, root: Path) -> None:
    listed = extracted(run)
    assert find_decisions(run, listed, settings=search_settings()) == root / "outputs" / "decisions.csv"
    assert find_decisions(run, listed, settings=search_settings(decisions_csv="mine.csv")) == root / "mine.csv"
    of_collection = replace(listed, list_csv=None)
    assert find_decisions(run, of_collection, settings=search_settings()) == run.path / "decisions.csv"
    assert open_decisions(run, listed, settings=search_settings()).path == root / "outputs" / "decisions.csv"
    assert not (root / "outputs" / "decisions.csv").exists(), "nothing was decided"


@pytest.mark.parametrize("how", ["evidence", "cosine"])
def test_what_a_person_decided_outweighs_all_else(run: RunFolder, root: Path, how: str) -> None:
    listed = seen(run)
    decide(root / "outputs" / "decisions.csv", (1, 4, "different"), (0, 3, "same"), (0, 2, "same"))
    summary, files = finish(run, listed, decide=how)
    (row,) = load_list(files["duplicates"]).to_dict("records")
    assert (row["url"], row["duplicate_of"]) == (URLS[3], URLS[0])
    assert (row["verdict"], row["rule"], row["score"]) == ("duplicate", "a person's decision", "")
    assert load_list(files["FINAL_RESULT"])["url"].tolist() == [URLS[0], URLS[1], URLS[4]]
    assert (summary["rows"]["duplicates"], summary["decision"]["review"]) == (1, 0)
    # A video that was not read is neither kept nor a copy, whatever was said of it.
    assert load_list(files["failed_urls"])["url"].tolist() == [URLS[2], URLS[5]]


def test_a_decision_counts_in_any_spelling_of_its_urls(run: RunFolder) -> None:
    fill(run, STORED)
    path = run.path.parent / "decisions.csv"
    path.write_text("first_url,second_url,decision,decided_at\nHTTPS://H/0,https://h:443/1#t=2,same,\n")
    summary, files = finish(run, extracted(run))
    found = load_list(files["duplicates"])
    assert dict(zip(found["url"], found["duplicate_of"], strict=True))[URLS[3]] == URLS[0]
    assert summary["decisions"]["same"] == 1


def test_decisions_that_contradict_each_other_stop_the_run(run: RunFolder, root: Path) -> None:
    listed = extracted(run)
    decide(root / "outputs" / "decisions.csv", (0, 1, "same"), (1, 3, "same"), (0, 3, "different"))
    with pytest.raises(ListError, match=f"it calls {URLS[0]} and {URLS[3]} different, but also the same by"):
        load_row_decisions(run, listed, settings=search_settings())


def test_the_evidence_stands_in_the_row_of_a_copy(run: RunFolder) -> None:
    summary, files = finish(run, seen(run), decide="evidence")
    (row,) = load_list(files["duplicates"]).to_dict("records")
    assert (row["url"], row["duplicate_of"], float(row["score"]) > 0.9) == (URLS[4], URLS[1], True)
    assert (row["verdict"], row["rule"]) == ("duplicate", "frames agree")
    assert (row["frames_agreeing"], row["frames_compared"], row["offset_s"]) == ("40", "40", "0.0")
    assert (row["kept_coverage"], row["copy_coverage"], row["cosine"]) == ("1.0", "1.0", "1.0")
    assert (row["kept_from_s"], row["kept_to_s"]) == ("0.0", "9.75")
    assert summary["decision"]["measure"] == "score"
    assert summary["decision"]["compared"] >= 1
    assert files["review"] == run.path / "review.csv"


def test_questions_say_how_alike_two_videos_are(run: RunFolder) -> None:
    listed = seen(run)
    for how, rule in (("evidence", "frames agree"), ("cosine", "cosine")):
        matches = find_matches(
            run, listed, settings=search_settings(decide=how, sweep_low=-1.0 if how == "cosine" else None)
        )
        asked = list_questions(matches, groups=[])
        known = {(question["first_url"], question["second_url"]): question for question in asked}
        pair = (URLS[1], URLS[4])
        assert (known[pair]["verdict"], known[pair]["rule"], known[pair]["score"] > 0.9) == ("duplicate", rule, True)
        if how == "cosine":
            assert {question["verdict"] for urls, question in known.items() if urls != pair} == {"different"}
        left = list_questions(replace(matches, same={(1, 4)}), groups=[])
        assert left == [question for question in asked if question is not known[pair]]


@pytest.mark.parametrize(
    ("address", "remedy"),
    [
        ("https://example.com/list.csv", "download the list first"),
        (" S3://bucket/list.csv", "download the list first"),
        ("file:///data/list.csv", "give the path of the file, without file://"),
    ],
)
def test_a_list_behind_an_address_is_refused_with_a_remedy(run: RunFolder, address: str, remedy: str) -> None:
    with pytest.raises(SettingError, match=f"input_csv = .* is an address, not a file: {remedy}"):
        find_first_list(run, input_csv=address, url_column="")
    with pytest.raises(SettingError, match=remedy):
        find_list(run, input_csv=address, url_column="", after=AFTER)


@pytest.mark.skipif(sys.platform != "linux", reason="needs file names that are no text")
def test_a_list_whose_name_is_no_text_is_refused(run: RunFolder, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.csv")
    path.write_text("url\nhttps://h/a.mp4\n")
    with pytest.raises(
        SettingError, match=r"caf.udce9\.csv' cannot be used: its name is no valid UTF-8: give the file"
    ):
        find_first_list(run, input_csv=str(path), url_column="")


# Outputs


def finish(run: RunFolder, listed: ExtractedList, **changes: Any) -> tuple[dict[str, Any], dict[str, Path]]:
    settings = search_settings(**changes)
    matches = find_matches(run, listed, settings=settings)
    groups = matches.group()
    review = list_doubtful(matches, groups=groups)
    cleaned = clean_by_evidence(listed, groups=groups, matches=matches, auto_clean=True)
    files = save_outputs(run, listed, cleaned, review=review, settings=settings)
    summary = write_summary(
        run,
        listed=listed,
        cleaned=cleaned,
        groups=groups,
        matches=matches,
        settings=settings,
        review=review,
        files=files,
    )
    return summary, files


@pytest.mark.parametrize(
    "name",
    ["FINAL_RESULT.csv", "duplicates.csv", "review.csv", "invalid_urls.csv", "failed_urls.csv", "featureless_urls.csv"],
)
def test_a_list_that_a_run_would_write_over_is_refused_at_once(run: RunFolder, root: Path, name: str) -> None:
    (run.path / name).write_text("url\nhttps://h/1\n")
    (root / "link.csv").symlink_to(run.path / name)
    for given in (str(run.path / name), f"outputs/mine/../mine/{name}", "link.csv"):
        with pytest.raises(SettingError, match=rf"input_csv = .*would overwrite it with its {name}; rename or move"):
            find_first_list(run, input_csv=given, url_column="")
        with pytest.raises(SettingError, match=f"would overwrite it with its {name}"):
            find_list(run, input_csv=given, url_column="", after=AFTER)
    # In the folder of another run it is a list as any other.
    assert find_first_list(RunFolder("outputs/other"), input_csv=str(run.path / name), url_column="").stem == name[:-4]


@pytest.mark.parametrize(
    ("outputs", "parameter", "what"),
    [
        ({"output_csv": "../ads.csv"}, "output_csv", "the list"),
        ({"output_csv": "x.csv", "report_csv": "../ads.csv"}, "report_csv", "the list"),
        ({"output_csv": "ads.decoded.csv"}, "output_csv", "the file that this notebook reads"),
        ({"output_csv": "x.csv", "report_csv": "./x.csv"}, "report_csv", "output_csv"),
    ],
)
def test_no_notebook_overwrites_what_it_reads(
    run: RunFolder, outputs: dict[str, str], parameter: str, what: str
) -> None:
    first = find_first_list(run, input_csv=str(run.path.parent / "ads.csv"), url_column="")
    record(run, decode_settings(), first, output_csv="ads.decoded.csv")
    source = find_list(run, input_csv="", url_column="", after=["01_decode"])
    check_outputs(source, output_csv=run.path / "x.csv", report_csv=run.path / "y.csv")
    with pytest.raises(SettingError, match=rf"{parameter} = .*it would overwrite {what}: name another file"):
        check_outputs(source, **{name: run.path / place for name, place in outputs.items()})


@pytest.mark.parametrize(
    ("parameter", "place", "whose"),
    [
        ("unique_csv", "../ads.csv", "the list"),
        ("report_csv", "../decisions.csv", "the decisions of a person"),
        ("invalid_csv", "ads.duplicates.csv", "a file of 02_dedupe_urls"),
        ("report_csv", "FINAL_RESULT.csv", "FINAL_RESULT.csv"),
        ("invalid_csv", "./review.csv", "review.csv"),
    ],
)
def test_no_output_is_written_over_another_list(run: RunFolder, parameter: str, place: str, whose: str) -> None:
    fill(run, STORED)
    listed = extracted(run, text_duplicates=2)
    source = find_first_list(run, input_csv=str(run.path.parent / "ads.csv"), url_column="")
    files = {"output_csv": run.path / "ads.unique.csv", "text_duplicates": run.path / "ads.duplicates.csv"}
    run.write_record(dedupe_settings(), counts={}, files=files, details=source.as_record("url", rows=8))
    before = {path: path.read_bytes() for path in run.path.parent.rglob("*.csv")}
    settings = search_settings(**{parameter: place})
    cleaned = CleanedList(**dict.fromkeys(("final", "duplicates", "invalid", "failed", "featureless"), pd.DataFrame()))
    for go in (
        lambda: search_list(run, listed, settings=settings),
        lambda: save_outputs(run, listed, cleaned, review=pd.DataFrame(), settings=settings),
    ):
        with pytest.raises(SettingError, match=rf"it would overwrite {whose}: name another file"):
            go()
    assert before == {path: path.read_bytes() for path in run.path.parent.rglob("*.csv")}


def test_what_a_run_leaves(run: RunFolder, root: Path) -> None:
    fill(run, STORED)
    listed = extracted(run, text_duplicates=2)
    source = find_first_list(run, input_csv=str(run.path.parent / "ads.csv"), url_column="")
    record(run, dedupe_settings(), source, rows=8, text_duplicates=2)
    summary, files = finish(run, listed, report_csv="copies.csv", unique_csv=str(root / "clean.csv"))

    assert summary["rows"] == {"input": 8, "text_duplicates": 2, "final": 3, "duplicates": 1, "invalid": 0, "failed": 2}
    assert summary["statuses"] == {"ok": 4, "timeout": 1, "pending": 1}
    assert summary["flow"] == ["02_dedupe_urls", "03_extract", "06_search_and_clean"]
    assert summary["files"] == {
        "FINAL_RESULT": str(root / "clean.csv"),
        "duplicates": "copies.csv",
        "review": "review.csv",
        "invalid_urls": "invalid_urls.csv",
        "failed_urls": "failed_urls.csv",
        "featureless_urls": "featureless_urls.csv",
        "text_duplicates": "t.csv",
    }
    decision = summary["decision"]
    assert (decision["measure"], decision["compared"], decision["review"]) == ("cosine", 0, 0)
    assert (decision["threshold"], decision["encoder"], decision["schema"]) == (0.9, "pdq", "video_frames")
    assert (decision["groups"], decision["largest_group"]) == (1, 2)
    assert json.loads((run.path / "summary.json").read_text(encoding="utf-8")) == summary

    assert load_list(root / "clean.csv")["url"].tolist() == [URLS[0], URLS[1], URLS[3]]
    assert load_list(files["duplicates"]).to_dict("records") == [
        {
            "url": URLS[4],
            "duplicate_of": URLS[1],
            "score": "1.0",
            "group": "1",
            "kept_because": "first in the list",
            **dict.fromkeys((name for name in COLUMNS if name != "score"), ""),
            "verdict": "duplicate",
            "rule": "cosine",
            "n": "4",
        }
    ]
    asked = ["first_url", "second_url", *(name for name in COLUMNS if name != "next_score")]
    assert files["review"].read_text(encoding="utf-8") == ",".join(asked) + "\n"
    failed = load_list(files["failed_urls"])
    assert failed["status"].tolist() == ["timeout", "pending"]
    assert files["invalid_urls"].read_text(encoding="utf-8") == "url,status,reason,n\n"


@pytest.mark.parametrize(
    "dialect",
    [
        Dialect(delimiter=";", has_mark=True, line_end="\r\n"),
        Dialect(delimiter="\t", encoding="utf-16-le", has_mark=True, line_end="\r\n"),
    ],
    ids=str,
)
def test_outputs_are_written_down_as_the_list_is(run: RunFolder, dialect: Dialect) -> None:
    fill(run, STORED)
    listed = extracted(run, dialect=dialect, text_duplicates=1)
    source = find_first_list(run, input_csv=str(run.path.parent / "ads.csv"), url_column="")
    record(run, dedupe_settings(), source, rows=7, text_duplicates=1)
    save_table(pd.DataFrame({"url": [URLS[0]], "n": ["=1"]}), run.path / "t.csv", dialect=dialect)
    summary, files = finish(run, listed)
    assert len(files) == 7
    assert summary["guarded_cells"] == 1
    for name, path in files.items():
        text = path.read_bytes().decode(dialect.encoding)
        header, *rest = text.removesuffix("\r\n").split("\r\n")
        assert header[0] == "\ufeff" and "\n" not in "".join(rest)
        columns = load_table(path).columns
        assert header[1:].split(dialect.delimiter) == list(columns), name
        assert len(rest) == len(load_table(path))


@pytest.mark.parametrize(
    ("threshold", "low", "is_exact"), [(0.9, None, True), (0.4, None, False), (0.4, 0.3, True), (0.9, 0.3, True)]
)
def test_other_thresholds_are_saved_for_the_overview(
    run: RunFolder, threshold: float, low: float | None, is_exact: bool
) -> None:
    fill(run, STORED)
    listed = extracted(run)
    settings = search_settings(cosine_thresh=threshold, sweep_low=low)
    matches = find_matches(run, listed, settings=settings)
    save_sweep(run, matches, settings=settings)
    sweep = json.loads(run.sweep_path.read_text(encoding="utf-8"))
    assert (sweep["parameter"], sweep["threshold"], sweep["is_exact"]) == ("cosine_thresh", threshold, is_exact)
    assert threshold in sweep["thresholds"] and sweep["thresholds"] == sorted(sweep["thresholds"])
    groups = matches.group()
    assert sweep["points"]["groups"][sweep["thresholds"].index(threshold)] == len(groups)
    assert sweep["compared"] == 4


def test_text_duplicates_of_another_list_are_not_those_of_this_one(run: RunFolder) -> None:
    fill(run, STORED)
    listed = extracted(run)
    other = find_first_list(run, input_csv="other.csv", url_column="")
    record(run, dedupe_settings(), other, text_duplicates=5)
    summary, files = finish(run, listed)
    assert "text_duplicates" not in files
    assert summary["rows"]["text_duplicates"] == 0


def test_rows_that_do_not_add_up_are_not_written_down(run: RunFolder) -> None:
    fill(run, STORED)
    listed = replace(extracted(run), list_rows=7)
    with pytest.raises(AccountingError, match=r"the rows of ads\.csv do not add up"):
        finish(run, listed)
    assert not (run.path / "summary.json").exists()
    assert not (run.path / "FINAL_RESULT.csv").exists(), "what an earlier run wrote is left as it is"


# Collections


def manage(run: RunFolder, action: Any, **changes: Any) -> pd.DataFrame:
    values: dict[str, Any] = {
        "run_dir": "outputs/mine",
        "store": "auto",
        "collection": "",
        "new_name": "",
        "schema": "video_frames",
        "encoder": "pdq",
        "model": "",
        "num_frames": 3,
        "frame_span": "spread",
    }
    return manage_collections(run, CollectionsSettings(**values | {"action": action} | changes))


def test_looking_after_collections(run: RunFolder) -> None:
    columns = ["collection", "rows", "schema", "dimension", "recipe", "sample"]
    empty = manage(run, "list")
    assert (list(empty.columns), len(empty)) == (columns, 0)
    with pytest.raises(StoreError, match="outputs/mine has no store yet"):
        manage(run, "ping")
    with pytest.raises(StoreError, match="no collection 'b'"):
        manage(run, "drop", collection="b")
    assert not run.lite_path.exists(), "looking creates nothing"

    made = manage(run, "create", collection="b", schema="aggregated", num_frames=5)
    recipe = replace(RECIPE, num_frames=5)
    assert made.to_dict("records") == [
        {
            "collection": "b",
            "rows": 0,
            "schema": "aggregated",
            "dimension": 256,
            "recipe": recipe.to_json(),
            "sample": "",
        }
    ]
    (pinged,) = manage(run, "ping").to_dict("records")
    assert (pinged["store"], pinged["answers"]) == ("Milvus Lite, milvus.db", "yes")
    assert pinged["version"]
    with pytest.raises(StoreError, match="'b' already exists"):
        manage(run, "create", collection="b")
    fill(run, [copy_of("https://h/a")])
    listed = manage(run, "list")
    assert listed["collection"].tolist() == ["b", "videos"]
    assert listed["rows"].tolist() == [0, 3]
    assert listed["sample"].tolist() == ["", "https://h/a"]
    assert manage(run, "rename", collection="b", new_name="c")["collection"].tolist() == ["c", "videos"]
    for values, said in (({"collection": "c"}, "new_name = ''"), ({"new_name": "c"}, "collection = ''")):
        with pytest.raises(SettingError, match=said):
            manage(run, "rename", **values)
    manage(run, "rename", collection="c", new_name="b")
    assert manage(run, "drop", collection="b")["collection"].tolist() == ["videos"]
    with pytest.raises(StoreError, match="no collection 'b'"):
        manage(run, "drop", collection="b")


@pytest.mark.parametrize(
    ("schema", "num_frames", "pooling"),
    [("video_dedup", 1, Pooling.FIRST), ("video_frames", 3, Pooling.FRAMES), ("aggregated", 3, Pooling.AVERAGE)],
)
def test_a_collection_made_by_hand_takes_what_a_run_makes(
    run: RunFolder, schema: str, num_frames: int, pooling: Pooling
) -> None:
    manage(run, "create", collection="videos", schema=schema, num_frames=num_frames)
    recipe = replace(RECIPE, num_frames=num_frames)
    with Store(StoreAddress.find(run)) as store:
        opened = store.ensure_collection("videos", pooling=pooling, recipe=recipe, dimension=256)
        assert opened.facts.rows == 0


def test_a_recipe_holds_what_changes_a_vector() -> None:
    from dedup_lib.features.encoders import load_encoder

    assert make_recipe(extract_settings(), load_encoder("pdq")) == RECIPE
    assert make_recipe(extract_settings(workers=9, batch_size=1), load_encoder("pdq")) == RECIPE
    assert make_recipe(extract_settings(num_frames=1, frame_span="first"), load_encoder("pdq")) != RECIPE


def test_the_samples_of_the_longest_call_are_kept(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    settings = ExtractSettings()

    def call(longest_s: float) -> float:
        with ResourceMonitor() as monitor:
            pass
        monitor.samples["time_s"] = longest_s
        resources = choose_resources(run, monitor=monitor)
        run.write_record(settings, counts={}, files={}, details={"resources": resources})
        return float(max(resources["time_s"]))

    assert [call(longest_s) for longest_s in (5, 0.5, 2, 7, 0.5)] == [5, 5, 5, 7, 7]
    run.record_path(settings.stage).write_text("damaged")
    assert call(0.5) == 0.5


# How far it is


def test_a_bar_starts_anew_with_each_step_and_grows_within_one() -> None:
    said = io.StringIO()
    with tqdm(file=said, mininterval=0, unit="") as bar:
        begin = progress_on(bar)
        begin("searching", 4)(4)
        assert (bar.n, bar.total) == (4, 4)
        begin("comparing", 2)(1)
        assert (bar.n, bar.total) == (1, 2)
        begin("comparing", 3)(2)
        assert (bar.n, bar.total) == (3, 3)
    assert "searching: 100%" in said.getvalue()
    assert "comparing: 100%" in said.getvalue()
    progress_on(None)("nobody watches", 1)(1)

"""Runs of any size without fetching a video: pairs, evidence, pictures and outcomes are made up, and the stages decide
and save by them as in a notebook."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from scenes import draw_canvas

from dedup_lib import steps
from dedup_lib.features.fingerprint import DESCRIPTOR_BYTES, Fingerprint, pack_stills
from dedup_lib.groups.keepers import KeeperPolicy
from dedup_lib.groups.matcher import ComparedPairs
from dedup_lib.groups.matches import Matches, SearchPlan
from dedup_lib.match.alignment import AlignedSegment
from dedup_lib.match.evidence import Evidence
from dedup_lib.match.geometry import Registration
from dedup_lib.media.storyboard import Storyboard
from dedup_lib.records import Frames, Outcome, Pair, Pooling, Recipe, Status
from dedup_lib.run.folder import RunFolder, thumbnail_path
from dedup_lib.run.ledger import Ledger
from dedup_lib.settings import SETTINGS, ExtractSettings, NotebookSettings, SearchSettings

RECIPE = Recipe(encoder="pdq", model="", num_frames=8, frame_span="spread")
LAID = Registration(
    matrix=np.eye(2, 3),
    mirrored=False,
    inliers=200,
    matches=250,
    region=(0, 0, 100, 80),
    first_share=0.8,
    second_share=0.8,
)
TROUBLES = (
    (Status.HTTP_ERROR, "HTTP 404 Not Found", False),
    (Status.TIMEOUT, "nothing came for 60 s", True),
    (Status.UNREACHABLE, "the host does not exist", True),
    (Status.HTML, "the URL gives a web page, not a video", False),
)


def settings_of(stage: str, **values: Any) -> NotebookSettings:
    """The defaults of a notebook, with some values changed."""
    return SETTINGS[stage](**values)


@dataclass
class MadeRun:
    """A run folder, and all that its decisions were made of."""

    run: RunFolder
    listed: steps.ExtractedList
    matches: Matches

    @property
    def compared(self) -> ComparedPairs:
        """What was compared."""
        return self.matches.compared

    @property
    def plan(self) -> SearchPlan:
        """How."""
        return self.matches.plan


def agree(
    agreeing: int, compared: int, *, offset_s: float = 0.0, copy: float = 1.0, kept: float = 1.0
) -> AlignedSegment:
    """So many pictures that agree in several scenes."""
    return AlignedSegment(
        agreeing=agreeing,
        compared=compared,
        first_start_s=2.0,
        first_end_s=12.0,
        second_start_s=2.0 + offset_s,
        second_end_s=12.0 + offset_s,
        first_coverage=kept,
        second_coverage=copy,
        speed=1.0,
        distance_bits=10.0,
        scenes=10,
        correlation=0.9,
    )


def make_compared(generator: np.random.Generator, sizes: list[int], *, count: int, by_cosine: bool) -> ComparedPairs:
    """Videos in sets of these sizes, of which the pairs are more or less alike."""
    pairs, evidence, first = [], {}, 0
    for size in sizes:
        rows = range(first, first + size)
        first += size
        for one in rows:
            for other in range(one + 1, rows.stop):
                similarity = float(np.round(generator.choice([1.0, generator.uniform(0.1, 1.0)]), 4))
                excerpt = "second" if generator.random() < 0.1 else ""
                if by_cosine:
                    pairs.append(Pair(first=one, second=other, similarity=similarity))
                    continue
                compared = 40
                segment = replace(
                    agree(
                        max(1, round(similarity * compared)),
                        compared,
                        offset_s=float(generator.choice([0.0, 0.0, 3.5])),
                        kept=0.3 if excerpt else float(generator.uniform(0.5, 1.0)),
                        copy=1.0 if excerpt else float(generator.uniform(0.5, 1.0)),
                    ),
                    correlation=float(generator.uniform(0.5, 1.0)),
                )
                found = Evidence(first=one, second=other, frames=segment, registration=LAID, min_frames=40, cosine=0.9)
                evidence[one, other] = found
                if found.score >= 0.15:
                    pairs.append(Pair(first=one, second=other, similarity=found.score, excerpt=excerpt))
        if size == 1 and not by_cosine and first > 1:
            # What agrees without being confirmed is for a person to look at.
            evidence[first - 2, first - 1] = Evidence(
                first=first - 2, second=first - 1, frames=agree(20, 60), min_frames=40
            )
    nearest = np.full(count, np.nan)
    for pair in pairs:
        for row in (pair.first, pair.second):
            nearest[row] = np.fmax(nearest[row], pair.similarity)
    return ComparedPairs(pairs=tuple(sorted(pairs)), nearest=nearest, floor=0.15, expanded_queries=0, evidence=evidence)


def make_frames(seed: int, canvas: Frames) -> list[Frames]:
    """Four frames, 170 × 96, out of a large picture."""
    generator = np.random.default_rng(seed)
    height, width = canvas.shape[:2]
    places = zip(generator.integers(0, width - 340, 4), generator.integers(0, height - 192, 4), strict=True)
    return [np.asarray(cv2.resize(canvas[y : y + 192, x : x + 340], (170, 96))) for x, y in places]


def make_fingerprint(frames: list[Frames]) -> Fingerprint:
    """Of these frames, shown one after the other for 15 seconds."""
    grey = [cv2.resize(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), (64, 64)) for frame in frames]
    return Fingerprint(
        times_s=np.arange(0, 15, 0.5, dtype=np.float32),
        weights=np.ones(30, np.float32),
        tiny_frames=np.stack([grey[index % len(grey)] for index in range(30)]).astype(np.uint8),
        size_px=(256, 144),
        keypoints=np.zeros((0, 2), np.float32),
        descriptors=np.zeros((0, DESCRIPTOR_BYTES), np.uint8),
        keypoint_stills=np.zeros(0, np.int32),
        still_times_s=np.zeros(1, np.float32),
        packed_stills=pack_stills([np.zeros((144, 256), np.uint8)]),
    )


def make_run(
    folder: Path,
    *,
    sizes: list[int],
    failed: int = 0,
    by_cosine: bool = False,
    threshold: float = 0.3,
    seed: int = 0,
    has_pictures: bool = True,
    same: Collection[tuple[int, int]] = frozenset(),
    different: Collection[tuple[int, int]] = frozenset(),
) -> MadeRun:
    """A run over sets of videos of these sizes, and rows that failed."""
    run = RunFolder(folder)
    run.make()
    generator = np.random.default_rng(seed)
    count = sum(sizes)
    urls = [f"https://cdn{row % 7}.example.com/spots/{row:05}/a-film-with-a-name.mp4" for row in range(count)]
    urls += [f"https://gone{row % 5}.example.org/{row}.mp4" for row in range(failed)]
    frame = pd.DataFrame({"url": urls, "title": [f"Film {row}" for row in range(len(urls))]}, dtype=str)
    list_csv = run.path / "ads.csv"
    frame.to_csv(list_csv, index=False)
    outcomes = [
        Outcome(
            url=url,
            status=Status.OK,
            frames=8,
            duration_s=15.0,
            width_px=int(generator.choice([640, 1280])),
            height_px=480,
            codec="h264",
            size_bytes=int(generator.integers(100_000, 10_000_000)),
        )
        for url in urls[:count]
    ]
    for index, url in enumerate(urls[count:]):
        status, reason, retryable = TROUBLES[index % len(TROUBLES)]
        outcomes.append(Outcome(url=url, status=status, reason=reason, retryable=retryable))
    canvas = draw_canvas(generator, size_px=(1600, 900))
    with Ledger(run.ledger_path, RECIPE) as ledger:
        ledger.begin_extraction(total=len(urls), done=0)
        fingerprints = {}
        if has_pictures:
            run.thumbnails_dir.mkdir()
            for row, url in enumerate(urls[:count]):
                frames = make_frames(row, canvas)
                thumbnail_path(url, thumbnails_dir=run.thumbnails_dir).write_bytes(
                    Storyboard.of(frames, times_s=[float(number) for number in range(len(frames))]).to_bytes()
                )
                fingerprints[url] = make_fingerprint(frames).to_bytes()
        ledger.record(outcomes, fingerprints=fingerprints, kind="made")
        ledger.end_extraction()
    listed = steps.ExtractedList(
        frame=frame,
        url_column="url",
        outcomes={outcome.url: outcome for outcome in outcomes},
        list_csv=list_csv,
        list_rows=len(urls),
        text_duplicates=0,
        recipe=RECIPE,
    )
    settings = settings_of(
        SearchSettings.stage, run_dir=str(folder), decide="cosine" if by_cosine else "evidence", sweep_low=0.15
    )
    assert isinstance(settings, SearchSettings)
    plan = SearchPlan(
        store="Milvus Lite, milvus.db",
        collection="videos",
        pooling=Pooling.FRAMES,
        recipe=RECIPE,
        measure="cosine" if by_cosine else "score",
        threshold=threshold,
        review_from=0.03,
        versions="review",
        sweep_low=0.15,
        floor=0.15,
    )
    compared = make_compared(generator, sizes, count=len(urls), by_cosine=by_cosine)
    keeper = KeeperPolicy(name="best", traits=listed.traits).knowing(compared.marks)
    made = MadeRun(
        run,
        listed,
        Matches(
            compared=compared,
            plan=plan,
            urls=listed.urls,
            compared_rows=listed.compared_rows,
            new_rows=listed.new_rows,
            keeper=keeper,
            same=same,
            different=different,
        ),
    )
    save(made, settings)
    return made


def save(made: MadeRun, settings: SearchSettings) -> None:
    """What the notebooks leave in the run folder."""
    run, listed = made.run, made.listed
    source = steps.ListSource(
        path=listed.list_csv or run.path,
        url_column="url",
        list_csv=listed.list_csv or run.path,
        list_rows=None,
        text_duplicates=0,
    )
    extracted = settings_of(ExtractSettings.stage, run_dir=str(run.path), input_csv=str(source.path))
    times_s = [round(index * 0.5, 1) for index in range(20)]
    run.write_record(
        extracted,
        counts={"rows": len(listed.frame)},
        files={"input_csv": source.path},
        details=source.as_record("url", rows=len(listed.frame))
        | {
            "recipe": vars(RECIPE),
            "dimension": 256,
            "resources": {
                "attempted": len(listed.frame),
                "time_s": times_s,
                "memory_mib": [300.0 + time_s for time_s in times_s],
                "cpu_percent": [150.0] * len(times_s),
            },
        },
    )
    groups = made.matches.group()
    review = steps.list_doubtful(made.matches, groups=groups)
    cleaned = steps.clean_by_evidence(listed, groups=groups, matches=made.matches, auto_clean=True)
    files = steps.save_outputs(run, listed, cleaned, review=review, settings=settings)
    steps.save_compared_pairs(run, made.matches)
    steps.save_sweep(run, made.matches, settings=settings)
    summary = steps.write_summary(
        run,
        listed=listed,
        cleaned=cleaned,
        groups=groups,
        matches=made.matches,
        settings=settings,
        review=review,
        files=files,
    )
    run.write_record(settings, counts=summary["rows"], files=files)

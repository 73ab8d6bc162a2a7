"""Real clips, copies, look-alikes and broken files, from end to end; skipped where they are not at hand."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import pytest

from dedup_lib.extract.job_folders import load_jobs
from dedup_lib.extract.pipeline import ExtractReport, extract_videos
from dedup_lib.extract.sinks import JobSink
from dedup_lib.features.encoders import DEFAULT_THRESHOLDS
from dedup_lib.features.pdq import PdqEncoder
from dedup_lib.groups.grouping import group_copies
from dedup_lib.groups.scored import score_pairs
from dedup_lib.match.vector_join import join_exactly
from dedup_lib.match.vector_table import VectorTable
from dedup_lib.records import Recipe, Scan, Status, VideoVectors
from dedup_lib.run.ledger import Ledger
from dedup_lib.settings import ExtractSettings

RECIPE = Recipe(encoder="pdq", model="", num_frames=3, frame_span="spread")


@dataclass(frozen=True)
class Corpus:
    labels: list[dict[str, str]]
    urls: list[str]
    report: ExtractReport
    vectors: dict[str, VideoVectors]

    def rows(self, *roles: str) -> Iterator[tuple[str, str]]:
        """File name and URL of every clip of these roles."""
        for label, url in zip(self.labels, self.urls, strict=True):
            if label["role"] in roles:
                yield label["file"], url

    def statuses(self, *roles: str) -> dict[str, Status]:
        return {name: self.report.outcomes[url].status for name, url in self.rows(*roles)}


@pytest.fixture(scope="module")
def corpus(corpus_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    with (corpus_dir / "labels.csv").open(newline="", encoding="utf-8") as file:
        labels = list(csv.DictReader(file))
    urls = [str(corpus_dir / "videos" / label["file"]) for label in labels]
    folder = tmp_path_factory.mktemp("corpus")
    with Ledger(folder / "ledger.sqlite", RECIPE) as ledger:
        report = extract_videos(
            urls,
            rows=range(len(urls)),
            settings=ExtractSettings(
                timeout_s=120, max_bytes=10**9, allow_local_paths=True, workers=2, most_a_host=2, retries=0
            ),
            encoder=PdqEncoder(),
            recipe=RECIPE,
            scan=Scan(step_s=0),
            sink=JobSink(folder / "jobs", RECIPE),
            ledger=ledger,
            thumbnails_dir=folder / "thumbnails",
        )
    jobs = (job.vectors for job in load_jobs(folder / "jobs"))
    return Corpus(labels, urls, report, {vectors.url: vectors for vectors in jobs if vectors})


def test_nothing_stops_the_run(corpus: Corpus) -> None:
    assert list(corpus.report.outcomes) == corpus.urls
    troubled = [outcome for outcome in corpus.report.outcomes.values() if outcome.status != Status.OK]
    assert all(outcome.reason and "unexpectedly" not in outcome.reason for outcome in troubled)
    stopped = {Status.TIMEOUT, Status.DECODE_CRASH, Status.PENDING}
    assert stopped.isdisjoint(corpus.statuses("odd").values())


def test_real_clips_are_read(corpus: Corpus) -> None:
    assert {
        name: status for name, status in corpus.statuses("copy", "distinct", "excerpt").items() if status != "ok"
    } == {}
    # OpenCV crashes on this one.
    assert corpus.statuses("copy", "distinct")["bgslibrary/demo.avi"] == Status.OK


def test_blank_clips_are_featureless(corpus: Corpus) -> None:
    assert set(corpus.statuses("featureless").values()) == {Status.FEATURELESS}
    assert not {url for _, url in corpus.rows("featureless")} & corpus.vectors.keys()


def test_no_two_unlike_clips_are_taken_for_copies(corpus: Corpus, tmp_path: Path) -> None:
    videos = [corpus.vectors.get(url) for url in corpus.urls]
    table = VectorTable.collect(
        ((row, video) for row, video in enumerate(videos) if video), positions=3, dimension=256, folder=tmp_path
    )
    threshold = DEFAULT_THRESHOLDS["pdq"]
    proposal = join_exactly(table, floor=threshold, max_pairs=10_000)
    scored = score_pairs(table, proposal, rows=len(videos), floor=threshold, max_pairs=10_000)
    groups = group_copies(scored.pairs, threshold=threshold)
    roles = [label["role"] for label in corpus.labels]
    names = [label["group"] or label["file"] for label in corpus.labels]
    found = {pair for group in groups for pair in combinations(sorted((group.kept, *group.copies)), 2)}
    judged = {pair for pair in found if {roles[row] for row in pair} <= {"copy", "distinct"}}
    wrong = [
        [corpus.labels[row]["file"] for row in pair] for pair in sorted(judged) if names[pair[0]] != names[pair[1]]
    ]
    assert wrong == []
    copies = [row for row, role in enumerate(roles) if role == "copy"]
    right = sum(names[first] == names[second] for first, second in combinations(copies, 2))
    # What PDQ alone reaches on these copies, logos, trims and title cards among them; a little less is allowed.
    assert len(judged) >= 0.4 * right
    assert not any(roles[row] == "featureless" for group in groups for row in (group.kept, *group.copies))

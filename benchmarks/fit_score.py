"""Fit the weights of the score, and see on sources that were left out what it is worth.

    python benchmarks/fit_score.py --help

The benchmark compares pairs of labelled clips, of variants and their references, and of look-alikes. It compares each
pair, whether or not anything would propose it. The model is fitted to the pairs by maximum likelihood. `score.AGAINST`
gives the signs of its weights. The weights keep a pair that fails the criteria below one half, and a pair that meets
them above it.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path

import click
import numpy as np
import pandas as pd
from accuracy import (
    ROOT,
    choose_sources,
    console,
    corpus_option,
    load_labels,
    progress_bar,
    results_option,
    run_command,
    save_results,
    work_option,
    workers_option,
)
from lookalikes import Lookalike, find_clips, make_lookalikes
from matplotlib import rc_context
from numpy.typing import NDArray
from rich.table import Table
from scipy.optimize import minimize
from templates import TEMPLATE

from dedup_lib.errors import VideoTrouble
from dedup_lib.evaluate.metrics import are_copies
from dedup_lib.evaluate.variants import REFERENCE
from dedup_lib.features.fingerprint import Fingerprint, make_fingerprint
from dedup_lib.match.evidence import MIN_COMMON_SHARE, Evidence
from dedup_lib.match.score import AGAINST, TERMS
from dedup_lib.match.verify import compare_pair
from dedup_lib.media.limits import Deadline
from dedup_lib.media.sampling import grab_frames
from dedup_lib.media.streams import FileStream
from dedup_lib.records import FINGERPRINT_VERSION, Scan
from dedup_lib.report.figures import new_figure
from dedup_lib.report.style import COLOURS, STYLE
from dedup_lib.run.files import write_file_atomically, write_text_atomically
from dedup_lib.steps.calibrate import choose_kinds, make_labelled_variants

WEIGHTS = ROOT / "dedup_lib" / "match" / "score.json"

FOLDS = 5
RIDGE = 1.0
"""Half of the sum of squared weights, times this factor, is added to the loss."""

MARGIN = 0.1
"""The criteria keep a score at least this far from one half, in the logarithm of the odds."""

LOOKALIKE_WEIGHT = 0.3
"""A pair of look-alikes counts less than a pair of real clips, because real lists hold few look-alikes."""

UNLIKE_PAIRS = 1000
LOOKALIKE_PAIRS = 600
"""Number of pairs that are drawn: of clips from different sources, and of the look-alikes of one kind and seed."""

DEADLINE_S = 300.0
SCAN_STEP_S = 0.25

Read = tuple[bytes, float]
"""A stored fingerprint and a duration."""


@dataclass(frozen=True, kw_only=True)
class File:
    """A video. Its copies are in the same group. Its source decides its fold."""

    path: Path
    group: str
    source: str


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Pairs of one kind: `terms` float64 (P, T), `same` bool (P,), and the source of each pair."""

    kind: str
    terms: NDArray[np.float64]
    same: NDArray[np.bool_]
    sources: tuple[str, ...]
    weight: float


def read_file(path: Path) -> Read | None:
    """The fingerprint and duration that 03 stores for a video. None where the video cannot be read."""
    try:
        grabbed = grab_frames(
            FileStream(path),
            num_frames=1,
            frame_span="first",
            deadline=Deadline(DEADLINE_S),
            scan=Scan(step_s=SCAN_STEP_S),
        )
    except VideoTrouble:
        return None
    made = make_fingerprint(
        grabbed.scanned, times_s=grabbed.scanned_times_s, weights=grabbed.scanned_weights
    ) or make_fingerprint(grabbed.frames, times_s=grabbed.times_s)
    return (made.to_bytes(), grabbed.facts.duration_s) if made is not None else None


def read_all(files: Sequence[File], *, cache_path: Path, workers: int) -> dict[Path, Read]:
    """The fingerprint and duration of each file that can be read. Files in the cache are not read again."""
    known: dict[str, Read | None] = pickle.loads(cache_path.read_bytes()) if cache_path.is_file() else {}
    keys = {file.path: f"{FINGERPRINT_VERSION} {file.path} {file.path.stat().st_size}" for file in files}
    missing = [path for path, key in keys.items() if key not in known]
    with progress_bar("reading videos", len(missing)) as advance, ProcessPoolExecutor(workers) as pool:
        for path, read in zip(missing, pool.map(read_file, missing, chunksize=4), strict=True):
            known[keys[path]] = read
            advance(1)
    if missing:
        cache_path.parent.mkdir(parents=True, exist_ok=True)
        cache_path.write_bytes(pickle.dumps(known))
    return {path: read for path, key in keys.items() if (read := known[key]) is not None}


def compare_two(first: Read, second: Read) -> Evidence:
    """The evidence of the frames of two videos."""
    one, other = (Fingerprint.from_bytes(data) for data, _ in (first, second))
    return compare_pair(one, other, durations_s=(first[1], second[1]))


def list_terms(pair: tuple[Read, Read]) -> list[float]:
    """The terms of the score of two videos, in the order of `TERMS`."""
    terms = compare_two(*pair).terms
    return [terms[name] for name in TERMS]


def compare_sample(
    kind: str,
    files: Sequence[File],
    pairs: Sequence[tuple[int, int]],
    *,
    read: Mapping[Path, Read],
    workers: int,
    weight: float,
) -> Sample:
    """The terms of these pairs of files. Pairs with a file that cannot be read are left out."""
    wanted = [pair for pair in pairs if all(files[row].path in read for row in pair)]
    both = [(read[files[first].path], read[files[second].path]) for first, second in wanted]
    terms: list[list[float]] = []
    with progress_bar(f"comparing {kind}", len(both)) as advance, ProcessPoolExecutor(workers) as pool:
        for one in pool.map(list_terms, both, chunksize=16):
            terms.append(one)
            advance(1)
    return Sample(
        kind=kind,
        terms=np.array(terms).reshape(len(terms), len(TERMS)),
        same=np.array([files[first].group == files[second].group for first, second in wanted]),
        sources=tuple(files[first].source for first, _ in wanted),
        weight=weight,
    )


def draw_unlike(files: Sequence[File], *, count: int) -> list[tuple[int, int]]:
    """Draw `count` pairs of files from different sources. The pairs are the same every time."""
    drawn: set[tuple[int, int]] = set()
    generator = random.Random(0)
    possible = len({file.source for file in files}) > 1
    while possible and len(drawn) < count:
        first, second = sorted(generator.sample(range(len(files)), 2))
        if files[first].source != files[second].source:
            drawn.add((first, second))
    return sorted(drawn)


def list_corpus(corpus_dir: Path) -> tuple[list[File], list[tuple[int, int]]]:
    """The labelled clips, with all pairs of copies and a random draw of unlike pairs."""
    labels = [label for label in load_labels(corpus_dir) if label.role in ("copy", "distinct")]
    repositories = load_repositories(corpus_dir)
    files = [
        File(path=corpus_dir / "videos" / label.file, group=label.group or label.file, source=repositories[label.file])
        for label in labels
    ]
    copies = [pair for pair in combinations(range(len(files)), 2) if are_copies(labels[pair[0]], labels[pair[1]])]
    return files, copies + draw_unlike(files, count=UNLIKE_PAIRS)


def load_repositories(corpus_dir: Path) -> dict[str, str]:
    """The repository of each labelled clip."""
    table = pd.read_csv(corpus_dir / "labels.csv", dtype=str)
    return dict(zip(table["file"], table["repository"], strict=True))


def list_variants(corpus_dir: Path, *, work_dir: Path, workers: int) -> tuple[list[File], list[tuple[int, int]]]:
    """The variants of the distinct clips. Pairs each variant with its reference, and adds a random draw of unlike
    pairs."""
    sources = choose_sources(load_labels(corpus_dir), videos_dir=corpus_dir / "videos", count=None)
    repositories = load_repositories(corpus_dir)
    with progress_bar("making variants", len(sources)) as advance:
        made = make_labelled_variants(
            sources, kinds=choose_kinds([]), work_dir=work_dir, workers=workers, progress=advance
        )
    files = [
        File(path=path, group=label.group, source=repositories[label.group])
        for path, label in zip(made.paths, made.labels, strict=True)
    ]
    references = {files[row].group: row for row, kind in enumerate(made.kinds) if kind == REFERENCE}
    pairs = [
        (min(row, references[file.group]), max(row, references[file.group]))
        for row, file in enumerate(files)
        if row != references[file.group]
    ]
    return files, pairs + draw_unlike(files, count=UNLIKE_PAIRS)


def list_lookalikes(files: Sequence[Lookalike]) -> tuple[list[File], list[tuple[int, int]]]:
    """Look-alikes of one kind. Each family is a separate source. The pairs are a random draw of those within a
    family."""
    listed = [File(path=file.path, group=file.label.group, source=file.family.name) for file in files]
    pairs = [
        (first, second)
        for first, second in combinations(range(len(listed)), 2)
        if listed[first].source == listed[second].source
    ]
    return listed, random.Random(0).sample(pairs, min(LOOKALIKE_PAIRS, len(pairs)))


# --- the model


def fit(terms: NDArray[np.float64], same: NDArray[np.bool_], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """The weights of the terms and the intercept, float64 (T + 1,), with the maximum likelihood for these pairs."""
    signs = np.array([-1.0 if name in AGAINST else 1.0 for name in TERMS])
    signed = terms * signs

    def loss(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logit = signed @ values[:-1] + values[-1]
        wrong = weights * (1 / (1 + np.exp(-logit)) - same)
        total = float((weights * (np.logaddexp(0, logit) - same * logit)).sum() + RIDGE / 2 * (values[:-1] ** 2).sum())
        return total, np.append(signed.T @ wrong + RIDGE * values[:-1], wrong.sum())

    # The lowest score of a pair that meets the criteria must be above one half. The highest score of a pair that fails
    # them, or that meets them with a region that differs throughout, must be below it.
    names = list(TERMS)
    least, most, marred = np.zeros((3, len(TERMS) + 1))
    least[[names.index("criteria"), -1]] = 1.0
    least[names.index("coverage")] = MIN_COMMON_SHARE
    most[-1] = -1.0
    most[[names.index(name) for name in names if name not in ("criteria", *AGAINST)]] = -1.0
    marred[:] = most
    marred[[names.index("criteria"), names.index("differs")]] = -1.0, 1.0
    found = minimize(
        loss,
        np.zeros(len(TERMS) + 1),
        jac=True,
        method="SLSQP",
        bounds=[(0.0, None)] * len(TERMS) + [(None, None)],
        constraints=[
            {"type": "ineq", "fun": lambda values, row=row: row @ values - MARGIN, "jac": lambda values, row=row: row}
            for row in (least, most, marred)
        ],
        options={"maxiter": 500},
    )
    return np.asarray(found.x * np.append(signs, 1.0))


def predict(terms: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The scores, float64 (P,)."""
    return np.asarray(1 / (1 + np.exp(-(terms @ values[:-1] + values[-1]))))


def find_fold(source: str) -> int:
    """The fold of all files from a source."""
    return hashlib.sha256(source.encode()).digest()[0] % FOLDS


def predict_left_out(samples: Sequence[Sample]) -> list[NDArray[np.float64]]:
    """For each sample, the score of each pair. The weights are fitted without the fold of the pair's source."""
    terms, same, weights = gather(samples)
    folds = np.array([find_fold(source) for sample in samples for source in sample.sources])
    scores = np.zeros(len(same))
    for fold in range(FOLDS):
        out = folds == fold
        scores[out] = predict(terms[out], fit(terms[~out], same[~out], weights[~out]))
    ends = np.cumsum([len(sample.same) for sample in samples])[:-1]
    return np.split(scores, ends)


def gather(
    samples: Sequence[Sample],
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]:
    """The terms of all pairs, whether each is a pair of copies, and its weight."""
    return (
        np.concatenate([sample.terms for sample in samples]),
        np.concatenate([sample.same for sample in samples]),
        np.concatenate([np.full(len(sample.same), sample.weight) for sample in samples]),
    )


def calibrate(scores: NDArray[np.float64], same: NDArray[np.bool_]) -> Iterator[dict[str, float]]:
    """For each tenth of the score: the number of pairs, their mean score, and the share of copies among them."""
    for low in np.arange(10) / 10:
        inside = (scores >= low) & (scores < low + 0.1 if low < 0.9 else scores <= 1)
        if inside.any():
            yield {
                "from": float(low),
                "pairs": int(inside.sum()),
                "score": round(float(scores[inside].mean()), 4),
                "copies": round(float(same[inside].mean()), 4),
            }


def count_at(scores: NDArray[np.float64], same: NDArray[np.bool_], threshold: float) -> dict[str, int]:
    """Count the pairs that a threshold would join."""
    joined = scores >= threshold
    return {
        "found": int((joined & same).sum()),
        "copies": int(same.sum()),
        "wrong": int((joined & ~same).sum()),
        "unlike": int((~same).sum()),
    }


def draw_calibration(curve: Sequence[Mapping[str, float]], path: Path) -> None:
    """Plot the share of copies over the score. Each tenth is a dot. Its area grows with the number of pairs."""
    with rc_context(STYLE):
        figure, axes = new_figure(1, 1, width_in=5.5, height_in=4.2)
        ax = axes[0, 0]
        ax.plot([0, 1], [0, 1], color=COLOURS["neutral"], linewidth=1, label="as it should be")
        ax.scatter(
            [one["score"] for one in curve],
            [one["copies"] for one in curve],
            s=[12 + 60 * np.log10(one["pairs"]) for one in curve],
            color=COLOURS["duplicate"],
            label="left-out pairs, in tenths of the score",
        )
        ax.set(xlabel="score", ylabel="share of copies", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
        ax.set_title("What a score is worth")
        ax.legend(loc="upper left")
        write_file_atomically(path, partial(figure.savefig, dpi=110, format="png"))


def table_of(counts: Mapping[str, Mapping[str, Mapping[str, int]]]) -> Table:
    """A table of the counts for each kind of pairs at each threshold."""
    table = Table(title="left-out pairs at each threshold: copies found, unlike pairs joined")
    for heading in ("pairs", *next(iter(counts.values()))):
        table.add_column(heading)
    for kind, at in counts.items():
        table.add_row(
            kind,
            *(f"{one['found']} of {one['copies']}, {one['wrong']} of {one['unlike']} wrong" for one in at.values()),
        )
    return table


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@corpus_option(required=True)
@click.option("--seeds", default="0,1,2", show_default=True, help="Of the look-alikes, as lookalikes.py takes them.")
@click.option("--families", default=100, show_default=True, type=click.IntRange(0), help="Of advertisements, a seed.")
@click.option("--scenes", default=30, show_default=True, type=click.IntRange(0), help="Families of takes, a seed.")
@work_option("outputs", help="Where accuracy/ and lookalikes/ hold the videos, and score/ what was read of them.")
@workers_option
@results_option(help="Where score.json and score.png go.")
@click.option("--write", is_flag=True, help="Write the weights into the package too.")
def command(
    corpus_dir: Path,
    seeds: str,
    families: int,
    scenes: int,
    work_dir: Path,
    workers: int,
    results_dir: Path,
    write: bool,
) -> None:
    """Fit the score to labelled pairs.

    The figures are those of pairs whose source (the repository of a real clip, the family of a made one) was left out
    of the fit; the weights are fitted to all.
    """
    real = {
        "labelled clips": list_corpus(corpus_dir),
        "variants": list_variants(corpus_dir, work_dir=work_dir / "accuracy", workers=workers),
    }
    alike: dict[str, tuple[list[File], list[tuple[int, int]]]] = {}
    clips = find_clips(corpus_dir)
    for seed in map(int, seeds.split(",")):
        made = make_lookalikes(
            templates=families,
            scenes=scenes,
            seed=seed,
            clips=clips,
            work_dir=work_dir / "lookalikes",
            workers=workers,
        )
        for name, holds in _KINDS.items():
            alike[f"{name}, seed {seed}"] = list_lookalikes([file for file in made if holds(file)])
    every = [file for files, _ in (real | alike).values() for file in files]
    read = read_all(every, cache_path=work_dir / "score" / "read.pickle", workers=workers)
    samples = [
        compare_sample(kind, files, pairs, read=read, workers=workers, weight=weight)
        for lists, weight in ((real, 1.0), (alike, LOOKALIKE_WEIGHT))
        for kind, (files, pairs) in lists.items()
    ]
    scores = predict_left_out(samples)
    counts = {
        sample.kind: {
            f"{threshold:g}": count_at(found, sample.same, threshold) for threshold in (0.03, 0.3, 0.5, 0.8, 0.9)
        }
        for sample, found in zip(samples, scores, strict=True)
    }
    console.print(table_of(counts))
    terms, same, weights = gather(samples)
    values = fit(terms, same, weights)
    fitted = {
        "intercept": round(float(values[-1]), 2) + 0.0,
        **{name: round(float(value), 2) + 0.0 for name, value in zip(TERMS, values, strict=False)},
    }
    console.print(fitted)
    curve = list(calibrate(np.concatenate(scores), same))
    save_results(
        results_dir / "score.json",
        section="left out",
        results={"counts": counts, "calibration": curve, "weights": fitted},
    )
    draw_calibration(curve, results_dir / "score.png")
    if write:
        write_text_atomically(WEIGHTS, json.dumps(fitted, indent=2) + "\n")


_KINDS: Mapping[str, Callable[[Lookalike], bool]] = {
    "advertisements of a template": lambda file: file.family.kind == TEMPLATE,
    "takes of a scene": lambda file: file.family.kind != TEMPLATE,
}


if __name__ == "__main__":
    run_command(command)

"""How often excerpts of long films are found, wherever in the film they lie.

    python benchmarks/long.py --help

Films of several minutes are made from labelled clips, each with key frames every two seconds, and with key frames at
cuts and every ten seconds. Excerpts from after the first minute, encoded again, are compared with their film, pair by
pair, and with the other film, which shows other clips.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import click
import cv2
from accuracy import (
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
from combined import judge_copy
from fit_score import File, read_all
from rich.table import Table

from dedup_lib.evaluate.edits import RATE, Timed, resize
from dedup_lib.evaluate.variants import Source, Variant, load_clip, save_pictures, x264_options
from dedup_lib.match.evidence import Verdict
from dedup_lib.records import Frames, Scan

FILMS = 2
"""The films show other clips each."""

FILM_SIZE_PX, EXCERPT_SCALE = (480, 270), 0.75

KEY_FRAMES = {"2 s": 2 * RATE, "10 s": 10 * RATE}
"""Maximum number of frames from one key frame to the next. With the larger one, x264 also puts them at cuts."""

LENGTHS_S = (10.0, 5.0, 2.0)

CRF, EXCERPT_CRF = 23, 28


def play_film(sources: Sequence[Source]) -> Iterator[Timed]:
    """The beginnings of the clips, one after the other, all of one size."""
    shown = 0
    for source in sources:
        for frame in load_clip(source.path).frames:
            yield shown / RATE, fit_into(frame, FILM_SIZE_PX)
            shown += 1


def fit_into(frame: Frames, size_px: tuple[int, int]) -> Frames:
    """The frame in black bars, where its shape is another one."""
    scale = min(size_px[0] / frame.shape[1], size_px[1] / frame.shape[0])
    small = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)[: size_px[1], : size_px[0]]
    across, down = size_px[0] - small.shape[1], size_px[1] - small.shape[0]
    bars = (down // 2, down - down // 2, across // 2, across - across // 2)
    return cv2.copyMakeBorder(small, *bars, cv2.BORDER_CONSTANT, value=(0, 0, 0)).astype("uint8", copy=False)


def make_film(task: tuple[int, Sequence[Source]], *, a_length: int, seed: int, folder: Path) -> list[Path]:
    """One film in each kind of key frames, and then its excerpts. Files that exist are kept."""
    film, sources = task
    paths = [folder / f"film{film}-{kind.replace(' ', '')}.mp4" for kind in KEY_FRAMES]
    marker = folder / f"film{film}.done"
    if not marker.exists():
        shown = list(play_film(sources))
        for path, interval in zip(paths, KEY_FRAMES.values(), strict=True):
            fixed = {"sc_threshold": "0"} if interval == min(KEY_FRAMES.values()) else {}
            options = x264_options(CRF) | {"g": str(interval), **fixed}
            save_pictures(path, shown, variant=Variant("film", options=options))
        generator = random.Random(f"{seed} {film}")
        for length_s in LENGTHS_S:
            for _ in range(a_length):
                start = generator.randrange(round(Scan.dense_s * RATE), len(shown) - round(length_s * RATE))
                save_pictures(
                    folder / f"film{film}-{length_s:g}s-from-{start / RATE:.2f}.mp4",
                    play_excerpt(shown[start : start + round(length_s * RATE)]),
                    variant=Variant("excerpt", options=x264_options(EXCERPT_CRF)),
                )
        marker.touch()
    return [*paths, *sorted(folder.glob(f"film{film}-*-from-*.mp4"))]


def play_excerpt(shown: Iterable[Timed]) -> Iterator[Timed]:
    """These frames of a film, smaller, from time 0 on."""
    for number, (_, frame) in enumerate(shown):
        yield number / RATE, resize(frame, width=EXCERPT_SCALE, height=EXCERPT_SCALE)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@corpus_option(required=True)
@click.option("--excerpts", "a_length", default=15, show_default=True, type=click.IntRange(1), help="Of each length.")
@click.option("--seed", default=0, show_default=True, help="Another seed cuts other excerpts from other films.")
@work_option("outputs/long", help="Where the made videos are kept, and what was read of them.")
@workers_option
@results_option(help="Where long.json goes.")
def command(corpus_dir: Path, a_length: int, seed: int, work_dir: Path, workers: int, results_dir: Path) -> None:
    """Count the excerpts that are found in films of several minutes."""
    sources = choose_sources(load_labels(corpus_dir), videos_dir=corpus_dir / "videos", count=None)
    random.Random(seed).shuffle(sources)
    folder = work_dir / f"seed{seed}"
    tasks = [(film, sources[film::FILMS]) for film in range(FILMS)]
    made: list[list[Path]] = []
    make = partial(make_film, a_length=a_length, seed=seed, folder=folder)
    with progress_bar("making films", len(tasks)) as advance, ProcessPoolExecutor(workers) as pool:
        for paths in pool.map(make, tasks):
            made.append(paths)
            advance(1)
    files = [File(path=path, group=str(film), source=str(film)) for film, paths in enumerate(made) for path in paths]
    read = read_all(files, cache_path=work_dir / "read.pickle", workers=workers)
    kinds = list(KEY_FRAMES)
    rows = [
        (excerpt, kind, made[other][place], other == film)
        for film, paths in enumerate(made)
        for excerpt in paths[len(kinds) :]
        for other in range(FILMS)
        for place, kind in enumerate(kinds)
    ]
    judged: list[tuple[Verdict, str]] = []
    with progress_bar("comparing", len(rows)) as advance, ProcessPoolExecutor(workers) as pool:
        for one in pool.map(judge_copy, [(read[path], read[excerpt]) for excerpt, _, path, _ in rows], chunksize=4):
            judged.append(one)
            advance(1)
    counts: dict[str, Counter[str]] = {}
    for (excerpt, kind, _, is_own), (verdict, _) in zip(rows, judged, strict=True):
        length = excerpt.name.split("-")[1]
        name = f"{length}, key frames every {kind}" if is_own else "of another film"
        counts.setdefault(name, Counter())[str(verdict)] += 1
    console.print(table_of(counts))
    results: dict[str, Any] = {name: dict(count) for name, count in counts.items()}
    save_results(results_dir / "long.json", section=f"seed {seed}", results=results)


def table_of(counts: Mapping[str, Counter[str]]) -> Table:
    """How many excerpts of each kind are found."""
    table = Table("excerpts", "found", "in review", "of", title="Excerpts of long films")
    for name, count in counts.items():
        found = count[str(Verdict.EXCERPT)] + count[str(Verdict.DUPLICATE)]
        table.add_row(name, str(found), str(count[str(Verdict.REVIEW)]), str(count.total()))
    return table


if __name__ == "__main__":
    run_command(command)

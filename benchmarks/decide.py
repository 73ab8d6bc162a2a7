"""What the decisions of a list cost once its videos are read, and how that grows.

    python benchmarks/decide.py --help

A tenth of the made-up videos in each list are copies: cropped, captioned, darker or trimmed. The decisions are made as
in 06_search_and_clean: visual words propose, frames and local features decide. For each size, the benchmark prints and
saves the seconds, the compared pairs and the copies found. It also gives the exponent with which the seconds grow.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from dedup_lib.features.fingerprint import Fingerprint, make_fingerprint
from dedup_lib.groups.grouping import group_copies
from dedup_lib.groups.matcher import FingerprintedList, compare_candidates
from dedup_lib.groups.scored import Scored
from dedup_lib.match.evidence import MatchThresholds
from dedup_lib.records import Frames
from dedup_lib.run.files import write_text_atomically

ROOT = Path(__file__).resolve().parent.parent
RULES = MatchThresholds(min_score=0.5, review_from=0.03)
STEP_S = 0.25
HEIGHT_PX, WIDTH_PX = 144, 256
PICTURES = 60
"""Frames per video: 15 seconds with four frames per second, in six shots."""
COPY_EVERY = 10

console = Console(highlight=False)


def draw_shot(generator: np.random.Generator) -> Frames:
    """An image with patches of texture, shapes and letters. It is larger than a frame; the camera moves over it."""
    height, width = HEIGHT_PX * 2, WIDTH_PX * 2
    coarse = generator.integers(0, 256, (height // 32, width // 32, 3), dtype=np.uint8)
    picture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(60):
        x, y = (int(place) for place in generator.integers(0, (width, height)))
        size, colour = int(generator.integers(6, 50)), [int(part) for part in generator.integers(0, 256, 3)]
        match generator.integers(0, 3):
            case 0:
                cv2.circle(picture, (x, y), size, colour, -1, cv2.LINE_AA)
            case 1:
                cv2.rectangle(picture, (x, y), (x + size, y + size // 2), colour, -1)
            case _:
                letter = chr(int(generator.integers(65, 91)))
                cv2.putText(picture, letter, (x, y), cv2.FONT_HERSHEY_SIMPLEX, size / 20, colour, 2, cv2.LINE_AA)
    return np.asarray(picture, np.uint8)


def make_video(number: int) -> Fingerprint:
    """The fingerprint of a made-up video. Every tenth video is a copy of the one before it."""
    is_copy = number % COPY_EVERY == COPY_EVERY - 1
    generator = np.random.default_rng(number - is_copy)
    frames: list[Frames] = []
    while len(frames) < PICTURES:
        shot = draw_shot(generator)
        start, way = generator.uniform(0, 60, 2), generator.uniform(-5, 5, 2)
        for step in range(PICTURES // 6):
            down, across = (int(place) for place in np.clip(start + 60 + way * step, 0, 130))
            frames.append(shot[down : down + HEIGHT_PX, across : across + WIDTH_PX])
    if is_copy:
        change = (crop, caption, darken, lambda frame: frame)[number // COPY_EVERY % 4]
        first = PICTURES // 5 if number // COPY_EVERY % 4 == 3 else 0
        frames = [change(frame) for frame in frames[first:]]
    fingerprint = make_fingerprint(frames, times_s=[STEP_S * index for index in range(len(frames))])
    assert fingerprint is not None
    return fingerprint


def crop(frame: Frames) -> Frames:
    """The frame without its outer sixth."""
    return np.ascontiguousarray(frame[HEIGHT_PX // 12 : -HEIGHT_PX // 12, WIDTH_PX // 12 : -WIDTH_PX // 12])


def caption(frame: Frames) -> Frames:
    """The frame with a bar of text over its lowest seventh."""
    marked = frame.copy()
    marked[-HEIGHT_PX // 7 :] = 0
    cv2.putText(marked, "JUST WATCH THIS", (10, HEIGHT_PX - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1)
    return marked


def darken(frame: Frames) -> Frames:
    """The frame with 0.7 of its brightness."""
    return (frame * 0.7).astype(np.uint8)


def decide(fingerprints: Sequence[Fingerprint]) -> dict[str, Any]:
    """Decide about one list. Returns its seconds, pairs and copies."""
    start_s = time.perf_counter()
    compared = compare_candidates(
        FingerprintedList(
            fingerprints=fingerprints, durations_s=[float(one.times_s[-1]) + STEP_S for one in fingerprints]
        ),
        scored=Scored(pairs=(), nearest=np.zeros(0), floor=0.0, expanded_queries=0),
        rules=RULES,
        keeps_excerpts=False,
    )
    groups = group_copies(compared.pairs, threshold=RULES.min_score)
    seconds = time.perf_counter() - start_s
    found = {(group.kept, copy) for group in groups for copy in group.copies}
    planted = {(number - 1, number) for number in range(COPY_EVERY - 1, len(fingerprints), COPY_EVERY)}
    return {
        "videos": len(fingerprints),
        "seconds": round(seconds, 2),
        "pairs_compared": len(compared.evidence),
        "geometric_agreements": sum(one.registration is not None for one in compared.evidence.values()),
        "all_pairs": len(fingerprints) * (len(fingerprints) - 1) // 2,
        "copies": len(planted),
        "found": len(found & planted),
        "wrong": len(found - planted),
    }


@click.command()
@click.option("--sizes", default="250,500,1000,2000", show_default=True, help="Videos in each list, by commas.")
@click.option("--workers", default=2, show_default=True, help="Processes that make the videos.")
@click.option(
    "--results-dir", type=click.Path(path_type=Path), default=ROOT / "benchmarks" / "results", show_default=True
)
def main(sizes: str, workers: int, results_dir: Path) -> None:
    """Decide about made-up lists of several sizes."""
    counts = sorted(int(size) for size in sizes.split(","))
    with ProcessPoolExecutor(max_workers=workers, initializer=partial(cv2.setNumThreads, 1)) as pool:
        made = list(pool.map(make_video, range(counts[-1]), chunksize=20))
    rows = [decide(made[:count]) for count in counts]
    table = Table(*rows[0], title="Decisions after the videos were read", title_justify="left")
    for row in rows:
        table.add_row(*(f"{value:,}" for value in row.values()))
    console.print(table)
    exponent = None
    if len(rows) > 1:
        exponent = round(float(np.polyfit(np.log(counts), np.log([row["seconds"] for row in rows]), 1)[0]), 2)
        console.print(f"seconds grow with the number of videos to the power of {exponent}")
    results = json.dumps({"rows": rows, "exponent": exponent}, indent=1)
    write_text_atomically(results_dir / "decide.json", results + "\n")


if __name__ == "__main__":
    main()

"""How often copies with three edits at once are found: cropped, darkened, and with a caption, for example.

    python benchmarks/combined.py --help

People who post a clip again seldom make one edit only. Each copy gets one edit from each of three of four groups, drawn
at random, and a rate of its encoding. It is compared with its reference, pair by pair.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
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
from fit_score import File, Read, compare_two, read_all
from rich.table import Table

from dedup_lib.evaluate.edits import RATE, Clip, Edit, Timed, cut, draw_card, each, put_before, resize
from dedup_lib.evaluate.variants import REFERENCE, VARIANTS, Source, Variant, load_clip, save_pictures, x264_options
from dedup_lib.match.evidence import MatchThresholds, Verdict
from dedup_lib.records import Frames
from dedup_lib.settings import SearchSettings

EDITS_A_COPY = 3

RATE_FACTORS = (23, 28, 33)
"""Constant rate factors of H.264, one of which each copy has."""


def crop_to_other_shape(frame: Frames) -> Frames:
    """The middle of a wide frame as 4:3, that of any other one as 16:9."""
    height, width = frame.shape[:2]
    is_wide = 3 * width > 4 * height
    across, down = (height * 4 // 3, height) if is_wide else (width, min(height, width * 9 // 16))
    left, top = (width - across) // 2, (height - down) // 2
    return np.ascontiguousarray(frame[top : top + down, left : left + across])


def _variants(*names: str) -> dict[str, Edit]:
    return {name: VARIANTS[name].edit for name in names}


GROUPS: Mapping[str, Mapping[str, Edit]] = {
    "frame": _variants(
        *("crop_10", "crop_20", "letterbox", "pillarbox", "stretch", "mirror", "size_30", "in_blur"),
    )
    | {
        "other_shape": each(crop_to_other_shape),
        "size_50": each(lambda frame: resize(frame, width=0.5, height=0.5)),
    },
    "brightness": _variants("bright", "grey", "blur", "noise")
    | {
        "dark": each(lambda frame: cv2.convertScaleAbs(frame, alpha=0.65)),
        "warm": each(lambda frame: np.clip(frame * np.array([1.15, 1.0, 0.85]), 0, 255).astype(np.uint8)),
        "as_it_is": lambda clip, other: clip.play(),
    },
    "laid over": _variants("logo", "caption", "subtitles"),
    "time": _variants(
        *("speed_105", "trim_start", "trim_end", "black_intro", "foreign_intro", "end_card", "other_rate"),
    )
    | {
        "card": put_before(lambda clip, other, time_s: draw_card(clip), 1),
        "middle": cut(0.25, 0.75),
    },
}
"""The edits by group, in the order in which a copy gets them."""


@dataclass(frozen=True)
class Copy:
    """The edits of one copy, at most one from each group, and how coarsely it is encoded."""

    edits: tuple[tuple[str, str], ...]
    rate_factor: int

    @property
    def name(self) -> str:
        return f"{'+'.join(edit for _, edit in self.edits)}@{self.rate_factor}"

    def play(self, clip: Clip, other: Clip) -> Iterable[Timed]:
        for group, edit in self.edits:
            clip = _sample(GROUPS[group][edit](clip, other))
        return clip.play()


def _sample(timed: Iterable[Timed]) -> Clip:
    """The frames as a clip: what is shown at each time of its rate."""
    frames: list[Frames] = []
    shown: Frames | None = None
    for time_s, frame in timed:
        # A tolerance, because times are sums of fractions.
        while shown is not None and len(frames) / RATE < time_s - 1e-6:
            frames.append(shown)
        shown = frame
    return Clip(frames=(*frames, *([shown] if shown is not None else [])))


def draw_copies(count: int, generator: random.Random) -> list[Copy]:
    """Draw `count` copies of one clip."""
    copies = []
    for _ in range(count):
        chosen = set(generator.sample(list(GROUPS), EDITS_A_COPY))
        edits = tuple((group, generator.choice(list(edits))) for group, edits in GROUPS.items() if group in chosen)
        copies.append(Copy(edits, generator.choice(RATE_FACTORS)))
    return copies


def make_copies(task: tuple[Source, Sequence[Copy], Path]) -> dict[str, Path]:
    """The files of one clip by the name of the copy, and of its reference. Files that exist are kept."""
    source, copies, folder = task
    paths = {REFERENCE: folder / "reference.mp4", **{copy.name: folder / f"{copy.name}.mp4" for copy in copies}}
    if not all(path.exists() for path in paths.values()):
        clip, other = load_clip(source.path), load_clip(source.other_path)
        save_pictures(paths[REFERENCE], clip.play(), variant=VARIANTS[REFERENCE])
        for copy in copies:
            variant = Variant(copy.name, options=x264_options(copy.rate_factor))
            save_pictures(paths[copy.name], copy.play(clip, other), variant=variant)
    return paths


def judge_copy(pair: tuple[Read, Read]) -> tuple[Verdict, str]:
    """The verdict about two videos with the default thresholds, and the rule that decided."""
    rules = MatchThresholds(min_score=SearchSettings.min_score, review_from=SearchSettings.review_from)
    verdict, criterion = compare_two(*pair).judge(rules)
    return verdict, str(criterion)


def table_of(found: Mapping[str, Sequence[int]]) -> Table:
    """How many copies with each edit are joined, those that are joined least first."""
    table = Table("edit", "joined", "copies", title="Copies with three edits, by edit")
    for edit, (joined, count) in sorted(found.items(), key=lambda one: one[1][0] / one[1][1]):
        table.add_row(edit, str(joined), str(count))
    return table


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@corpus_option(required=True)
@click.option("--clips", default=40, show_default=True, type=click.IntRange(1), help="Drawn from the unlike ones.")
@click.option("--copies", "a_clip", default=8, show_default=True, type=click.IntRange(1), help="Of each clip.")
@click.option("--seed", default=0, show_default=True, help="Another seed draws other clips and other edits.")
@work_option("outputs/combined", help="Where the made videos are kept, and what was read of them.")
@workers_option
@results_option(help="Where combined.json goes.")
def command(
    corpus_dir: Path, clips: int, a_clip: int, seed: int, work_dir: Path, workers: int, results_dir: Path
) -> None:
    """Count the copies with three edits that are joined with their reference."""
    generator = random.Random(seed)
    sources = choose_sources(load_labels(corpus_dir), videos_dir=corpus_dir / "videos", count=None)
    chosen = generator.sample(sources, min(clips, len(sources)))
    tasks = [(source, draw_copies(a_clip, generator), source.folder(work_dir / f"seed{seed}")) for source in chosen]
    made: list[dict[str, Path]] = []
    with progress_bar("making copies", len(tasks)) as advance, ProcessPoolExecutor(workers) as pool:
        for paths in pool.map(make_copies, tasks):
            made.append(paths)
            advance(1)
    files = [
        File(path=path, group=str(row), source=str(row)) for row, paths in enumerate(made) for path in paths.values()
    ]
    read = read_all(files, cache_path=work_dir / "read.pickle", workers=workers)
    names = [(row, name) for row, paths in enumerate(made) for name in paths if name != REFERENCE]
    pairs = [(read[made[row][REFERENCE]], read[made[row][name]]) for row, name in names]
    judged: list[tuple[Verdict, str]] = []
    with progress_bar("comparing", len(pairs)) as advance, ProcessPoolExecutor(workers) as pool:
        for one in pool.map(judge_copy, pairs, chunksize=4):
            judged.append(one)
            advance(1)
    save_results(results_dir / "combined.json", section=f"seed {seed}", results=describe(names, judged))


def describe(names: Sequence[tuple[int, str]], judged: Sequence[tuple[Verdict, str]]) -> dict[str, Any]:
    """The counts over all copies and by edit, which are printed too."""
    by_edit: dict[str, list[int]] = {}
    for (_, name), (verdict, _) in zip(names, judged, strict=True):
        for edit in name.partition("@")[0].split("+"):
            counts = by_edit.setdefault(edit, [0, 0])
            counts[0] += verdict in (Verdict.DUPLICATE, Verdict.EXCERPT)
            counts[1] += 1
    verdicts = Counter(str(verdict) for verdict, _ in judged)
    console.print(table_of(by_edit))
    console.print(dict(verdicts))
    return {
        "copies": len(judged),
        "verdicts": dict(verdicts),
        "rules of those not joined": dict(
            Counter(rule for verdict, rule in judged if verdict in (Verdict.REVIEW, Verdict.DIFFERENT)).most_common()
        ),
        "joined and all, by edit": by_edit,
    }


if __name__ == "__main__":
    run_command(command)

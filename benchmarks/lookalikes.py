"""How often unlike videos that look alike are taken for copies: advertisements of one template, takes of one scene.

    python benchmarks/lookalikes.py --help

`templates` makes the videos. `dedup_lib.evaluate.variants` makes true copies of some of them. All videos go into one
list, and through extraction, store and decision as in 03 and 06. The benchmark counts what was removed.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
from accuracy import (
    compare_by_profile,
    console,
    corpus_option,
    describe_pairs,
    load_labels,
    parse_profile,
    progress_bar,
    results_option,
    run_command,
    save_results,
    table_of_pairs,
    work_option,
    workers_option,
)
from rich.table import Table
from templates import SCENE, TAKE, TEMPLATE, Album, Family, plan_scenes, plan_templates, unlike_photographs

from dedup_lib.errors import ListError
from dedup_lib.evaluate.edits import Clip, Timed, cut, each, resize
from dedup_lib.evaluate.metrics import (
    Compared,
    Label,
    Rows,
    Score,
    pick_pairs,
    score_groups,
)
from dedup_lib.evaluate.variants import (
    MAX_S_PER_CLIP,
    REFERENCE,
    VARIANTS,
    Variant,
    load_clip,
    save_pictures,
    x264_options,
)
from dedup_lib.extract.worker_pool import WorkerFailure, WorkerPool
from dedup_lib.records import Frames, Status
from dedup_lib.run.files import write_text_atomically

VERSION = 3
"""Raised when a change here or in the drawing changes the files, so that older files are not used again."""

MIN_CLIPS = 8
"""With fewer clips, members of a family would share a photograph."""

GRAIN = 2.0
"""Standard deviation of the noise in takes, on a scale of 255. No two takes of a camera have the same noise."""

TAKE_S = 3.0
"""Length of real takes in seconds. Takes of a short clip are shorter."""
MIN_CLIP_S = 2.0

STILL_DEVIATION, MOVING_DEVIATION = 4.0, 12.0
"""Standard deviation over time, on a scale of 255. A pixel below the first value stands still. A pixel above the second
value moves."""
STILL_SHARE, MOVING_SHARE = 0.45, 0.005
"""Shares of the frame that must stand still, and that must move."""
MIN_AWAY = 2.5
"""Smallest allowed median, over the frames of one half, of the distance between a frame's moving parts and the nearest
frame of the other half, on a scale of 255."""


def add_watermark(frame: Frames) -> Frames:
    """Add faint words across the frame, three times."""
    marked = frame.copy()
    height, width = frame.shape[:2]
    for row in (0.25, 0.55, 0.85):
        start = round(width * 0.15), round(height * row)
        cv2.putText(
            marked, "PREVIEW COPY", start, cv2.FONT_HERSHEY_SIMPLEX, width / 420, (255, 255, 255), 2, cv2.LINE_AA
        )
    return cv2.addWeighted(marked, 0.4, frame, 0.6, 0).astype(np.uint8, copy=False)


COPIES: dict[str, Variant] = {
    **{
        name: VARIANTS[name]
        for name in ("low_bitrate", "letterbox", "pillarbox", "logo", "caption", "grey", "other_rate")
    },
    "size_50": Variant(what="half the size", edit=each(partial(resize, width=0.5, height=0.5))),
    "trim_10": Variant(what="the first tenth cut off", edit=cut(0.1, 1.0)),
    "watermark": Variant(what="faint words across the picture", edit=each(add_watermark)),
}
"""The kinds of copies that are made of some members. The copies must be found again."""


@dataclass(frozen=True, kw_only=True)
class Lookalike:
    """One file: a member of a family, or a copy of one."""

    family: Family
    member: int
    kind: str
    """`REFERENCE`, or one of `COPIES`."""
    path: Path

    @property
    def label(self) -> Label:
        file = f"{self.family.name}/{self.path.name}"
        return Label(file=file, role="copy", group=f"{self.family.name}/{self.member}")


def choose_copies(family: Family) -> list[tuple[int, str]]:
    """The copies to make: two of the first member, one of the second. The kinds take turns."""
    kinds = list(COPIES)
    places = ((0, 2 * family.number), (0, 2 * family.number + 1), (1, family.number + len(kinds) // 2))
    return [(member, kinds[place % len(kinds)]) for member, place in places]


def make_family(family: Family, *, album: Album, folder: Path) -> list[Lookalike]:
    """Make the members of a family and the copies of some, as files. Existing files are not made again."""
    members = make_members(family, album=album, folder=folder)
    return members + _make_copies(family, members)


def make_members(family: Family, *, album: Album, folder: Path) -> list[Lookalike]:
    """Make only the members of a family."""
    made = []
    for member in range(family.members):
        path = folder / family.name / f"{member}.mp4"
        if not path.exists():
            save_pictures(
                path, _play(family, member, album), variant=Variant(what="", options=x264_options(family.crf))
            )
        made.append(Lookalike(family=family, member=member, kind=REFERENCE, path=path))
    return made


def _make_copies(family: Family, members: Sequence[Lookalike]) -> list[Lookalike]:
    made: list[Lookalike] = []
    clips: dict[int, Clip] = {}
    for member, kind in choose_copies(family):
        path = members[member].path.with_name(f"{member}-{kind}{COPIES[kind].suffix}")
        if not path.exists():
            if member not in clips:
                clips[member] = load_clip(members[member].path)
            save_pictures(path, COPIES[kind].edit(clips[member], clips[member]), variant=COPIES[kind])
        made.append(Lookalike(family=family, member=member, kind=kind, path=path))
    return made


def _play(family: Family, member: int, album: Album) -> Iterator[Timed]:
    noise = family.random("grain", member)
    for number, (frame, _) in enumerate(family.draw(member, album)):
        if family.kind == SCENE:
            frame = np.clip(frame + noise.normal(0, GRAIN, frame.shape).astype(np.float32), 0, 255).astype(np.uint8)
        yield number / family.fps, frame


# --- takes of real clips


def cut_real_takes(path: Path, *, number: int, folder: Path) -> list[Lookalike]:
    """Cut two parts that share no frame out of a clip, and make copies of them. Returns none unless the camera stands
    still and something moves in front of it.
    """
    family = Family(kind=TAKE, number=number, seed=0, layout=path.stem[:40], differs="moment", moves="real")
    marker = folder / family.name / "takes.json"
    if not marker.exists():
        clip = load_clip(path)
        is_fit = clip.duration_s >= MIN_CLIP_S and shows_still_camera(clip)
        if is_fit:
            share = min(0.47, TAKE_S / clip.duration_s)
            options = Variant(what="", options=x264_options(20))
            for member, (start, end) in enumerate(((0.0, share), (1.0 - share, 1.0))):
                save_pictures(folder / family.name / f"{member}.mp4", cut(start, end)(clip, clip), variant=options)
        marker.parent.mkdir(parents=True, exist_ok=True)
        write_text_atomically(marker, json.dumps(is_fit))
    if not json.loads(marker.read_text(encoding="utf-8")):
        return []
    members = [
        Lookalike(family=family, member=member, kind=REFERENCE, path=folder / family.name / f"{member}.mp4")
        for member in range(family.members)
    ]
    return members + _make_copies(family, members)


def shows_still_camera(clip: Clip) -> bool:
    """Whether most of the frame never changes, a part of it changes, and nothing is shown twice."""
    small = np.stack([cv2.resize(frame, (64, 36), interpolation=cv2.INTER_AREA) for frame in clip.frames])
    grey = small.astype(np.float32).mean(axis=3)
    deviation = grey.std(axis=0)
    stands = float((deviation < STILL_DEVIATION).mean()) >= STILL_SHARE
    moves = float((deviation > MOVING_DEVIATION).mean()) >= MOVING_SHARE
    half = len(grey) // 2
    moving = grey[:, deviation > STILL_DEVIATION]
    if not stands or not moves:
        return False
    away = np.abs(moving[:half, None] - moving[None, half : half * 2]).mean(axis=2).min(axis=1)
    return bool(np.median(away) > MIN_AWAY)


# --- the whole list


def find_clips(corpus_dir: Path | None) -> list[Path]:
    """One clip of each group in a folder of labelled clips. Odd clips, excerpts and blank clips are left out."""
    if corpus_dir is None:
        return []
    first_of: dict[str, str] = {}
    for label in load_labels(corpus_dir):
        if label.role in ("copy", "distinct"):
            first_of.setdefault(label.group or label.file, label.file)
    return [corpus_dir / "videos" / file for file in first_of.values()]


def open_album(clips: Sequence[Path]) -> Album:
    """The album of photographs from the clips. Empty where there are too few."""
    chosen = unlike_photographs(clips)
    return Album(clips=tuple(chosen)) if len(chosen) >= MIN_CLIPS else Album()


def name_folder(work_dir: Path, *, seed: int, clips: Sequence[Path]) -> Path:
    """The folder for the files of a seed and these clips."""
    facts = [VERSION, *((path.name, path.stat().st_size) for path in clips)]
    return work_dir / f"seed{seed}-{hashlib.sha256(repr(facts).encode()).hexdigest()[:8]}"


def make_lookalikes(
    *, templates: int, scenes: int, seed: int, clips: Sequence[Path], work_dir: Path, workers: int
) -> list[Lookalike]:
    """Make all files, family by family. Files that are in `work_dir` are not made again."""
    folder = name_folder(work_dir, seed=seed, clips=clips)
    album = open_album(clips)
    families = [*plan_templates(templates, seed=seed), *plan_scenes(scenes, seed=seed)]
    tasks: list[_Task] = [
        *((family.name, partial(make_family, family, album=album, folder=folder)) for family in families),
        *((path.name, partial(cut_real_takes, path, number=place, folder=folder)) for place, path in enumerate(clips)),
    ]
    made: dict[int, list[Lookalike]] = {}
    with (
        progress_bar("making look-alikes", len(tasks)) as advance,
        WorkerPool(_do, workers=min(workers, max(1, len(tasks))), timeout_s=MAX_S_PER_CLIP) as pool,
    ):
        for (number, (name, _)), done in pool.run(enumerate(tasks)):
            if isinstance(done, WorkerFailure):
                raise ListError(f"look-alikes cannot be made of {name}: {done.reason}")
            made[number] = done
            advance(1)
    return [file for number in sorted(made) for file in made[number]]


_Task = tuple[str, Callable[[], list[Lookalike]]]


def _do(numbered: tuple[int, _Task]) -> list[Lookalike]:
    _, (_, make) = numbered
    return make()


# --- what became of them


@dataclass(frozen=True, kw_only=True)
class Cell:
    """The results of the families of one kind that have the same difference and the same movement."""

    families: int = 0
    pairs: int = 0
    """Pairs of files in one family that show different members."""
    wrong: int = 0
    """The pairs among these that are in one group."""
    review: int = 0
    """The pairs among these that a person is asked about."""
    videos: int = 0
    lost: int = 0
    """Members that were lost: all their files were removed in favour of another video."""
    copies: int = 0
    found: int = 0
    """Copies in one group with their member."""
    asked: int = 0
    """Copies that were not found, but that a person is asked about, together with their member."""

    def __add__(self, other: Cell) -> Cell:
        return Cell(**{name: value + getattr(other, name) for name, value in vars(self).items()})


Cells = dict[tuple[str, str, str], Cell]
"""The results by kind of family, movement, and difference."""


def count_families(files: Sequence[Lookalike], compared: Compared, score: Score) -> Cells:
    """Add up the results of all families."""
    members: dict[Family, list[int]] = defaultdict(list)
    for row, file in enumerate(files):
        members[file.family].append(row)
    doubtful = {(min(pair), max(pair)) for pair in compared.doubtful}
    wrong, right = set(score.wrong), set(score.right)
    removed = {row for group in compared.groups for row in group.copies}
    cells: Cells = defaultdict(Cell)
    for family, rows in members.items():
        unlike = [pair for pair in combinations(rows, 2) if files[pair[0]].member != files[pair[1]].member]
        copied = [
            (first, second)
            for first, second in combinations(rows, 2)
            if files[first].member == files[second].member and files[first].kind == REFERENCE
        ]
        kept = {files[row].member for row in rows if row not in removed}
        key = family.kind, family.moves, family.differs
        cells[key] += Cell(
            families=1,
            pairs=len(unlike),
            wrong=len(wrong & set(unlike)),
            review=len(doubtful & set(unlike)),
            videos=family.members,
            lost=len({files[row].member for row in rows} - kept),
            copies=len(copied),
            found=len(right & set(copied)),
            asked=len(doubtful & set(copied)),
        )
    return dict(cells)


def count_copies(files: Sequence[Lookalike], score: Score) -> dict[str, tuple[int, int]]:
    """For each kind of copy, the number of copies found and the number of copies."""
    references = {(file.family, file.member): row for row, file in enumerate(files) if file.kind == REFERENCE}
    right = set(score.right)
    counted: dict[str, tuple[int, int]] = {}
    for row, file in enumerate(files):
        if file.kind != REFERENCE:
            found, of = counted.get(file.kind, (0, 0))
            counted[file.kind] = found + ((references[file.family, file.member], row) in right), of + 1
    return counted


def describe_lookalikes(files: Sequence[Lookalike], compared: Compared) -> dict[str, Any]:
    """The results of all files, as JSON."""
    labels = [file.label for file in files]
    score = score_groups(labels, compared.groups)
    cells = count_families(files, compared, score)

    def describe(pairs: Sequence[Rows]) -> list[dict[str, Any]]:
        picked = [pair for pair, _ in pick_pairs(pairs, labels=labels, compared=compared)]
        return describe_pairs(picked, labels=labels, compared=compared)

    return {
        "threshold": compared.threshold,
        "files": len(files),
        "cells": [
            {"kind": kind, "moves": moves, "differs": differs, **vars(cell)}
            for (kind, moves, differs), cell in sorted(cells.items())
        ],
        "copies": {
            kind: {"found": found, "of": of} for kind, (found, of) in sorted(count_copies(files, score).items())
        },
        "wrong_pairs": len(score.wrong),
        "wrong_between_families": sum(files[a].family != files[b].family for a, b in score.wrong),
        # One pair of files stands for all pairs of the same two members.
        "wrong": describe(score.wrong),
        "review": describe(compared.doubtful),
        "missed": describe_pairs(
            [pair for pair in score.missed if files[pair[0]].kind == REFERENCE], labels=labels, compared=compared
        ),
        "unread": {
            label.file: str(outcome.status)
            for label, outcome in zip(labels, compared.outcomes, strict=True)
            if outcome.status != Status.OK
        },
    }


def one_a_family(described: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The first described pair of each family, or of each two families."""
    first_of: dict[tuple[str, ...], Mapping[str, Any]] = {}
    for row in described:
        first_of.setdefault(tuple(group.rpartition("/")[0] for group in row["groups"]), row)
    return list(first_of.values())


def table_of_cells(result: Mapping[str, Any], *, title: str) -> Table:
    """For each kind of family, one row per movement and difference, and one row with the totals."""
    table = Table("kind · moves · differs", title=title, title_justify="left")
    for name in ("families", "videos lost", "pairs wrong", "to review", "copies found", "asked"):
        table.add_column(name, justify="right")
    for kind in (TEMPLATE, SCENE, TAKE):
        rows = [cell for cell in result["cells"] if cell["kind"] == kind]
        for row in rows:
            cell = Cell(**{name: row[name] for name in vars(Cell())})
            table.add_row(f"{kind} · {row['moves']} · {row['differs']}", *_show_cell(cell))
        if rows:
            total = sum((Cell(**{name: row[name] for name in vars(Cell())}) for row in rows), Cell())
            table.add_section()
            table.add_row(f"{kind}, all", *_show_cell(total))
            table.add_section()
    return table


def _show_cell(cell: Cell) -> tuple[str, ...]:
    return (
        str(cell.families),
        f"{cell.lost} of {cell.videos}",
        f"{cell.wrong} of {cell.pairs}",
        str(cell.review),
        f"{cell.found} of {cell.copies}",
        str(cell.asked),
    )


def table_of_copies(result: Mapping[str, Any]) -> Table:
    """One row per kind of copy."""
    table = Table("copy", "what it is", "found", title="Copies found again", title_justify="left")
    for kind, counts in result["copies"].items():
        table.add_row(kind, COPIES[kind].what, f"{counts['found']} of {counts['of']}")
    return table


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@corpus_option(
    required=False,
    help="Folder with labels.csv and videos/, for photographs and real takes [default: $VIDEO_CORPUS_DIR, or none].",
)
@click.option("--families", default=100, show_default=True, type=click.IntRange(0), help="Of advertisements.")
@click.option("--scenes", default=30, show_default=True, type=click.IntRange(0), help="Families of drawn takes.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Another one gives other videos.")
@work_option("outputs/lookalikes", help="Where the videos, and what was read of them, are kept for the next time.")
@click.option(
    "--profile",
    "profiles",
    multiple=True,
    default=("pdq:3:spread",),
    show_default=True,
    metavar="E:N:SPAN[:HOW][:T]",
    help="Encoder, frames, first or spread, evidence or cosine, threshold. Give several to compare them.",
)
@workers_option
@results_option(help="Where lookalikes.json goes.")
@click.option("--only-make", is_flag=True, help="Make the videos, and measure nothing.")
def measure(
    corpus_dir: Path | None,
    families: int,
    scenes: int,
    seed: int,
    work_dir: Path,
    profiles: Sequence[str],
    workers: int,
    results_dir: Path,
    only_make: bool,
) -> None:
    """Make unlike videos that look alike, and copies of some, and see which are removed.

    No member of a family may be lost. Tables go to the terminal, and all numbers to
    benchmarks/results/lookalikes.json.
    """
    chosen = [parse_profile(text) for text in profiles]
    clips = find_clips(corpus_dir)
    files = make_lookalikes(
        templates=families, scenes=scenes, seed=seed, clips=clips, work_dir=work_dir, workers=workers
    )
    if only_make:
        return
    kept = name_folder(work_dir, seed=seed, clips=clips) / "read"
    paths = [file.path for file in files]
    compared = compare_by_profile(paths, profiles=chosen, workers=workers, folder=kept)
    results = {name: describe_lookalikes(files, one) for name, one in compared.items()}
    for name, result in results.items():
        console.print(table_of_pairs(one_a_family(result["wrong"]), title=f"{name}: families with wrong pairs"))
        console.print(table_of_pairs(result["missed"], title=f"{name}: missed copies"))
        console.print(table_of_copies(result))
        console.print(table_of_cells(result, title=f"{name}: what became of {len(files)} files"))
        console.print(f"{name}: wrong pairs of files of two families: {result['wrong_between_families']}")
        for file, status in result["unread"].items():
            console.print(f"{name}: not read, {status}: {file}")
    save_results(results_dir / "lookalikes.json", section=f"seed {seed}", results=results)


if __name__ == "__main__":
    run_command(measure)

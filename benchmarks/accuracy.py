"""How often the pipeline is right: on clips with labels, and on variants made of unlike clips.

    python benchmarks/accuracy.py --help

Files go the way of a run: 03_extract and 06_search_and_clean by the functions of `dedup_lib.stages`, into a Milvus
Lite file in a temporary folder. Then the groups are held against the labels. A folder of labelled clips holds
`videos/` and `labels.csv` with the columns file, role and group; the roles are

    copy         belongs to `group`: every two files of a group are duplicates
    distinct     a duplicate of nothing
    featureless  every frame is one flat colour: must match nothing
    excerpt      a short cut of its group's video; left out of the numbers and shown apart
    odd          broken or unusual; left out and shown apart
"""

from __future__ import annotations

import ast
import csv
import hashlib
import json
import math
import os
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import click
import nbformat
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from variants import REFERENCE, VARIANTS, Source, make_all_variants

from dedup_lib.decide import group_copies, video_similarity
from dedup_lib.encoders import load_encoder
from dedup_lib.errors import DedupError, ListError, SettingError
from dedup_lib.plots import COLOURS, STYLE, new_figure
from dedup_lib.records import Group, Outcome, Pair, Status, VideoVectors
from dedup_lib.report import merge_parameters
from dedup_lib.run_folder import RunFolder, write_text_atomically
from dedup_lib.settings import ExtractSettings, SearchSettings
from dedup_lib.stages import ExtractedList, extract_list, search_list
from dedup_lib.store import Store, StoreAddress

ROOT = Path(__file__).resolve().parent.parent
ROLES = ("copy", "distinct", "featureless", "excerpt", "odd")
LEFT_OUT_ROLES = frozenset({"excerpt", "odd"})
CURVE_STEPS = 51
COLLECTION = "videos"

console = Console(highlight=False)

Rows = tuple[int, int]
"""Two files by their place in the list, the earlier one first."""


@dataclass(frozen=True, kw_only=True)
class Label:
    """What is known of one file. `group` is empty for a file that has no copy."""

    file: str
    role: str
    group: str = ""


@dataclass(frozen=True, kw_only=True)
class GroupScore:
    """Of one label group: its pairs, and how many of them were found."""

    name: str
    pairs: int
    found: int

    @property
    def recall(self) -> float:
        return self.found / self.pairs


@dataclass(frozen=True, kw_only=True)
class Score:
    """Predicted groups held against labels. The numbers are None where there is nothing to divide by."""

    right: tuple[Rows, ...]
    wrong: tuple[Rows, ...]
    missed: tuple[Rows, ...]
    apart_found: tuple[Rows, ...]
    """Predicted pairs that touch an excerpt or an odd file."""
    apart_missed: tuple[Rows, ...]
    """Pairs of one label group that touch an excerpt or an odd file and were not predicted."""
    featureless_matched: tuple[int, ...]
    """Featureless files in any predicted group; their pairs are among `wrong` too."""
    groups: tuple[GroupScore, ...]
    """By name; groups without a pair that counts are left out."""

    @property
    def precision(self) -> float | None:
        """Share of the predicted pairs that are right."""
        predicted = len(self.right) + len(self.wrong)
        return len(self.right) / predicted if predicted else None

    @property
    def precision_interval(self) -> tuple[float, float]:
        """Wilson 95 % interval of the precision; pairs of one group hang together, so it is somewhat too narrow."""
        return wilson_interval(len(self.right), len(self.right) + len(self.wrong))

    @property
    def recall(self) -> float | None:
        """Share of the labelled pairs that were predicted."""
        labelled = len(self.right) + len(self.missed)
        return len(self.right) / labelled if labelled else None

    @property
    def mean_group_recall(self) -> float | None:
        """Recall averaged over the label groups, so that one large group does not decide."""
        return statistics.fmean(group.recall for group in self.groups) if self.groups else None


def wilson_interval(successes: int, total: int, *, z: float = 1.959964) -> tuple[float, float]:
    """Interval of a share that was seen as `successes` of `total`, 95 % unless told; (0, 1) of nothing.

    E. B. Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", 1927. Raises ValueError
    unless 0 <= successes <= total.
    """
    if not 0 <= successes <= total:
        raise ValueError(f"{successes} successes of {total} are impossible")
    if total == 0:
        return 0.0, 1.0
    share = successes / total
    spread = z * math.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    middle, scale = share + z**2 / (2 * total), 1 + z**2 / total
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


def score_groups(labels: Sequence[Label], groups: Sequence[Group]) -> Score:
    """Hold predicted groups, as rows of the list, against the label of each row.

    Every two files of a predicted group are a predicted pair: right where both share a label group, else wrong.
    """
    predicted = {pair for group in groups for pair in combinations(sorted((group.kept, *group.copies)), 2)}
    members: dict[str, list[int]] = {}
    for row, label in enumerate(labels):
        if label.group:
            members.setdefault(label.group, []).append(row)
    labelled = {pair for rows in members.values() for pair in combinations(rows, 2)}

    def counts(pair: Rows) -> bool:
        return LEFT_OUT_ROLES.isdisjoint(labels[row].role for row in pair)

    scored = []
    for name in sorted(members):
        pairs = [pair for pair in combinations(members[name], 2) if counts(pair)]
        if pairs:
            scored.append(GroupScore(name=name, pairs=len(pairs), found=sum(pair in predicted for pair in pairs)))
    return Score(
        right=tuple(sorted(pair for pair in predicted & labelled if counts(pair))),
        wrong=tuple(sorted(pair for pair in predicted - labelled if counts(pair))),
        missed=tuple(sorted(pair for pair in labelled - predicted if counts(pair))),
        apart_found=tuple(sorted(pair for pair in predicted if not counts(pair))),
        apart_missed=tuple(sorted(pair for pair in labelled - predicted if not counts(pair))),
        featureless_matched=tuple(
            sorted({row for pair in predicted for row in pair if labels[row].role == "featureless"})
        ),
        groups=tuple(scored),
    )


def load_labels(corpus_dir: Path) -> list[Label]:
    """The labels of a folder of clips. Raises ListError when they are missing, wrong, or name a missing file."""
    path = corpus_dir / "labels.csv"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise ListError(f"{path} cannot be read ({error}): name a folder that holds labels.csv and videos/") from None
    missing = {"file", "role", "group"} - set(rows[0] if rows else ())
    if missing:
        raise ListError(f"{path} has no row, or lacks the columns {', '.join(sorted(missing))}")
    for row in rows:
        if row["role"] not in ROLES:
            raise ListError(f"{path}: the role {row['role']!r} of {row['file']} must be one of {', '.join(ROLES)}")
        if not (corpus_dir / "videos" / row["file"]).is_file():
            raise ListError(f"{path} names {row['file']}, which is not in {corpus_dir / 'videos'}")
    return [Label(file=row["file"], role=row["role"], group=row["group"]) for row in rows]


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Settings of the pipeline to be measured; a threshold of None is the encoder's own."""

    encoder: str
    num_frames: int
    frame_span: str
    threshold: float | None = None
    model: str = ""

    @classmethod
    def parse(cls, text: str, *, model: str = "") -> Profile:
        """`pdq:3:spread` or, with a threshold, `pdq:3:spread:0.7`. Raises SettingError for anything else."""
        encoder, *rest = text.split(":")
        try:
            frames, span, *threshold = rest
            (at,) = map(float, threshold) if threshold else (None,)
            profile = cls(
                encoder=encoder,
                num_frames=int(frames),
                frame_span=span,
                threshold=at,
                model=model if encoder == "clip" else "",
            )
        except ValueError:
            raise SettingError("profile", text, "write encoder:frames:span[:threshold], as in pdq:3:spread") from None
        profile.extract_settings(run_dir=".", workers=1)
        profile.search_settings(run_dir=".")
        return profile

    def __str__(self) -> str:
        at = "" if self.threshold is None else f" at {self.threshold:g}"
        return f"{self.encoder} {self.num_frames} {self.frame_span}{at}"

    def extract_settings(self, *, run_dir: str, workers: int) -> ExtractSettings:
        return ExtractSettings(
            **read_defaults(ExtractSettings.stage)
            | {
                "run_dir": run_dir,
                "mode": "direct",
                "collection": COLLECTION,
                "num_frames": self.num_frames,
                "frame_span": self.frame_span,
                "encoder": self.encoder,
                "model": self.model,
                "workers": workers,
                "timeout_s": 300.0,
            }
        )

    def search_settings(self, *, run_dir: str) -> SearchSettings:
        return SearchSettings(
            **read_defaults(SearchSettings.stage)
            | {"run_dir": run_dir, "collection": COLLECTION, "cosine_thresh": self.threshold}
        )


@cache
def read_defaults(stage: str) -> dict[str, Any]:
    """The parameters of a notebook, which holds their only defaults."""
    notebook = nbformat.read(ROOT / "notebooks" / f"{stage}.ipynb", as_version=4)  # type: ignore[no-untyped-call]  # nbformat
    return {parameter.name: ast.literal_eval(parameter.value) for parameter in merge_parameters(notebook.cells)}


@dataclass(frozen=True, kw_only=True)
class Compared:
    """What the pipeline makes of a list of files: outcome and vectors of each, and the pairs that are near."""

    threshold: float
    sweep: tuple[float, ...]
    """Thresholds to try; no pair below the first of them is known."""
    outcomes: tuple[Outcome, ...]
    vectors: tuple[VideoVectors | None, ...]
    pairs: tuple[Pair, ...]

    @property
    def groups(self) -> list[Group]:
        return group_copies(self.pairs, threshold=self.threshold)

    def similarity(self, pair: Rows) -> float | None:
        """How alike two files are, None where one of them has no vector."""
        first, second = (self.vectors[row] for row in pair)
        return None if first is None or second is None else video_similarity(first, second)


def compare_files(
    paths: Sequence[Path], *, profile: Profile, workers: int, progress: Callable[[int], object] = lambda count: None
) -> Compared:
    """Extract and search local files as 03 and 06 do, in a store that is gone afterwards."""
    # A server named for real work must not get the vectors of a benchmark.
    os.environ.update(MILVUS_URI="", MILVUS_TOKEN="")
    urls = [str(path) for path in paths]
    encoder = load_encoder(profile.encoder, model=profile.model)
    with tempfile.TemporaryDirectory(prefix="accuracy-") as folder:
        run = RunFolder(folder)
        report, _ = extract_list(
            run,
            urls,
            settings=profile.extract_settings(run_dir=folder, workers=workers),
            encoder=encoder,
            progress=progress,
        )
        listed = ExtractedList(
            frame=pd.DataFrame({"url": urls}, dtype=str),
            url_column="url",
            outcomes=report.outcomes,
            name="accuracy",
            list_rows=len(urls),
            text_duplicates=0,
            recipe=None,
        )
        scored, plan = search_list(run, listed, settings=profile.search_settings(run_dir=folder))
        with Store(StoreAddress.find(run)) as store:
            stored = store.open_collection(COLLECTION).load_vectors(urls)
    return Compared(
        threshold=plan.threshold,
        sweep=tuple(plan.sweep(CURVE_STEPS)),
        outcomes=tuple(report.outcomes[url] for url in urls),
        vectors=tuple(stored.get(url) for url in urls),
        pairs=scored.pairs,
    )


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """What one threshold would reach."""

    threshold: float
    precision: float | None
    recall: float | None
    mean_group_recall: float | None


def sweep_scores(labels: Sequence[Label], compared: Compared) -> list[CurvePoint]:
    """Precision and recall over thresholds, in rising order."""
    points = []
    for threshold in compared.sweep:
        score = score_groups(labels, group_copies(compared.pairs, threshold=threshold))
        points.append(
            CurvePoint(
                threshold=threshold,
                precision=score.precision,
                recall=score.recall,
                mean_group_recall=score.mean_group_recall,
            )
        )
    return points


@dataclass(frozen=True, kw_only=True)
class VariantScore:
    """Of one kind of variant: how many share a group with their reference, and how near they are to it."""

    name: str
    clips: int
    found: int
    similarities: tuple[float, ...]
    """To the reference, of those that both have a vector."""

    @property
    def recall(self) -> float:
        return self.found / self.clips


def score_variants(labels: Sequence[Label], kinds: Sequence[str], compared: Compared) -> list[VariantScore]:
    """Recall of each kind of variant; `kinds` names the kind of each file, `REFERENCE` one a label group."""
    group_of = {row: group.number for group in compared.groups for row in (group.kept, *group.copies)}
    references = {
        label.group: row for row, (label, kind) in enumerate(zip(labels, kinds, strict=True)) if kind == REFERENCE
    }
    pairs: dict[str, list[Rows]] = {}
    for row, (label, kind) in enumerate(zip(labels, kinds, strict=True)):
        if kind != REFERENCE:
            pairs.setdefault(kind, []).append((references[label.group], row))
    return [
        VariantScore(
            name=kind,
            clips=len(found),
            found=sum(row in group_of and group_of[row] == group_of.get(reference) for reference, row in found),
            similarities=tuple(s for pair in found if (s := compared.similarity(pair)) is not None),
        )
        for kind, found in pairs.items()
    ]


def choose_sources(labels: Sequence[Label], *, videos_dir: Path, count: int | None) -> list[Source]:
    """The distinct clips to make variants of, `count` of them or all; a larger sample holds the smaller ones.

    Each borrows its foreign start from the distinct clip after it. Raises ListError for fewer than two clips.
    """
    names = [label.file for label in labels if label.role == "distinct"]
    if len(names) < 2:
        raise ListError(f"variants need two clips of the role distinct, and there are {len(names)}")
    others = dict(zip(names, [*names[1:], names[0]], strict=True))
    chosen = sorted(sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())[:count])
    return [Source(name=name, path=videos_dir / name, other_path=videos_dir / others[name]) for name in chosen]


def describe_pairs(pairs: Sequence[Rows], *, labels: Sequence[Label], compared: Compared) -> list[dict[str, Any]]:
    """Pairs as rows of a report, the most alike first."""
    described = []
    for pair in pairs:
        similarity = compared.similarity(pair)
        described.append(
            {
                "files": [labels[row].file for row in pair],
                "groups": [labels[row].group for row in pair],
                "similarity": None if similarity is None else round(similarity, 4),
            }
        )
    return sorted(described, key=lambda row: (-(row["similarity"] or 0.0), row["files"]))


def describe_score(score: Score, *, labels: Sequence[Label], compared: Compared) -> dict[str, Any]:
    """A score as JSON; files by their names in the corpus."""
    read = {Status.OK, Status.FEATURELESS}
    return {
        "threshold": compared.threshold,
        "files": len(labels),
        "precision": _rounded(score.precision),
        "precision_interval": [_rounded(end) for end in score.precision_interval],
        "recall": _rounded(score.recall),
        "mean_group_recall": _rounded(score.mean_group_recall),
        "right_pairs": len(score.right),
        "labelled_pairs": len(score.right) + len(score.missed),
        "groups": {group.name: {"found": group.found, "pairs": group.pairs} for group in score.groups},
        "wrong": describe_pairs(score.wrong, labels=labels, compared=compared),
        "missed": describe_pairs(score.missed, labels=labels, compared=compared),
        "featureless_matched": [labels[row].file for row in score.featureless_matched],
        "apart": {
            "found": describe_pairs(score.apart_found, labels=labels, compared=compared),
            "missed": describe_pairs(score.apart_missed, labels=labels, compared=compared),
        },
        "unread": {
            label.file: str(outcome.status)
            for label, outcome in zip(labels, compared.outcomes, strict=True)
            if outcome.status not in read and label.role not in LEFT_OUT_ROLES
        },
    }


def save_results(path: Path, *, section: str, results: Mapping[str, Any]) -> None:
    """Write results by profile into one section of a JSON file; other sections and profiles in it stay."""
    saved = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    saved[section] = {**saved.get(section, {}), **results}
    write_text_atomically(path, json.dumps(saved, indent=1, ensure_ascii=False, sort_keys=True) + "\n")


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def table_of_scores(scores: Mapping[str, Score]) -> Table:
    """One column a profile: the numbers, then the recall of each group."""
    table = Table("", title="Against the labels", title_justify="left")
    for name in scores:
        table.add_column(name, justify="right")
    intervals = [score.precision_interval for score in scores.values()]
    table.add_row("precision", *(_percent(score.precision) for score in scores.values()))
    table.add_row("  95 % interval", *(f"{_percent(low)} – {_percent(high)}" for low, high in intervals))
    table.add_row("recall over pairs", *(_percent(score.recall) for score in scores.values()))
    table.add_row("recall over groups", *(_percent(score.mean_group_recall) for score in scores.values()))
    counts = {"right": "right pairs", "wrong": "wrong pairs", "missed": "missed pairs"}
    for name, words in {**counts, "featureless_matched": "featureless files matched"}.items():
        table.add_row(words, *(str(len(getattr(score, name))) for score in scores.values()))
    table.add_section()
    first = next(iter(scores.values()))
    for place, group in enumerate(first.groups):
        cells = (score.groups[place] for score in scores.values())
        table.add_row(escape(group.name), *(f"{cell.found} of {cell.pairs}" for cell in cells))
    return table


def table_of_pairs(described: Sequence[Mapping[str, Any]], *, title: str) -> Table:
    """Pairs with their similarity, one a row."""
    table = Table("similarity", title=f"{title}: {len(described) or 'none'}", title_justify="left")
    for _ in range(2):
        table.add_column("file", overflow="fold")
    for row in described:
        similarity = "–" if row["similarity"] is None else f"{row['similarity']:.3f}"
        table.add_row(similarity, *(escape(file) for file in row["files"]))
    return table


def table_of_variants(scores: Mapping[str, Sequence[VariantScore]]) -> Table:
    """One row a variant, and for each profile its recall and the median similarity to the reference."""
    table = Table("variant", "what it is", title="Found again, and median similarity", title_justify="left")
    for name in scores:
        table.add_column(name, justify="right")
    for same in zip(*scores.values(), strict=True):
        cells = []
        for score in same:
            middle = f"{statistics.median(score.similarities):.2f}" if score.similarities else "–"
            cells.append(f"{score.found} of {score.clips}  {middle}")
        table.add_row(same[0].name, VARIANTS[same[0].name].what, *cells)
    table.add_section()
    totals = [(sum(s.found for s in of), sum(s.clips for s in of)) for of in scores.values()]
    table.add_row("all", "", *(f"{found} of {clips}  {_percent(found / clips)}" for found, clips in totals))
    return table


def table_of_curves(curves: Mapping[str, Sequence[CurvePoint]], *, at: Sequence[float]) -> Table:
    """Precision and recall of each profile at a few thresholds: at each, the nearest that was tried."""
    table = Table("threshold", title="Precision / recall over pairs", title_justify="left")
    for name in curves:
        table.add_column(name, justify="right")
    for threshold in at:
        nearest = [min(points, key=lambda point: abs(point.threshold - threshold)) for points in curves.values()]
        table.add_row(f"{threshold:.2f}", *(f"{_percent(p.precision)} / {_percent(p.recall)}" for p in nearest))
    return table


def plot_curve(
    points: Sequence[CurvePoint], *, label: str, threshold: float, colour: str, marker: str, ax: Axes
) -> Axes:
    """Precision over recall, with a mark where `threshold` stands."""
    known = [(p.recall, p.precision, p.threshold) for p in points if p.recall is not None and p.precision is not None]
    recalls, precisions = [recall for recall, *_ in known], [precision for _, precision, _ in known]
    ax.plot(recalls, precisions, color=colour, linewidth=1.6, marker=marker, markersize=3, label=label)
    for recall, precision, at in known:
        if at == threshold:
            ax.plot([recall], [precision], color=colour, marker=marker, markersize=10, linestyle="none")
    ax.set_xlabel("recall over pairs")
    ax.set_ylabel("precision over pairs")
    ax.set_xlim(0, 1.02)
    ax.set_ylim(0, 1.04)
    return ax


def plot_recall(
    points: Sequence[CurvePoint], *, label: str, threshold: float, colour: str, marker: str, ax: Axes
) -> Axes:
    """Recall over the threshold, with a mark where `threshold` stands."""
    known = [(p.threshold, p.recall) for p in points if p.recall is not None]
    ax.plot([at for at, _ in known], [recall for _, recall in known], color=colour, linewidth=1.6, label=label)
    for at, recall in known:
        if at == threshold:
            ax.plot([at], [recall], color=colour, marker=marker, markersize=10, linestyle="none")
    ax.set_xlabel("threshold (cosine similarity)")
    ax.set_ylabel("recall over pairs")
    ax.set_ylim(0, 1.04)
    return ax


def figure_curves(curves: Mapping[str, Sequence[CurvePoint]], *, thresholds: Mapping[str, float]) -> Figure:
    """Precision over recall of every profile, one point a threshold; the large mark is the threshold in use."""
    with rc_context(STYLE):
        figure, axes = new_figure(1, 2, width_in=11, height_in=4.2)
        left, right = axes[0]
        colours = [COLOURS[name] for name in ("duplicate", "failed", "kept", "threshold", "invalid", "repeated")]
        for place, (name, points) in enumerate(curves.items()):
            look = {"colour": colours[place % len(colours)], "marker": "os^Dv*"[place % 6]}
            plot_curve(points, label=name, threshold=thresholds[name], ax=left, **look)
            plot_recall(points, label=name, threshold=thresholds[name], ax=right, **look)
        left.set_title("Precision over recall, a point a threshold")
        right.set_title("Recall over the threshold (large mark: in use)")
        left.legend(loc="lower left")
    return figure


@contextmanager
def progress_bar(what: str, total: int) -> Iterator[Callable[[int], object]]:
    """A bar on the terminal, and what moves it on."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)


def compare_by_profile(paths: Sequence[Path], *, profiles: Sequence[Profile], workers: int) -> dict[str, Compared]:
    """The same files under each profile, by its name."""
    compared = {}
    for profile in profiles:
        with progress_bar(f"reading for {profile}", len(paths)) as advance:
            compared[str(profile)] = compare_files(paths, profile=profile, workers=workers, progress=advance)
    return compared


def _parse_variants(context: click.Context, parameter: click.Parameter, text: str) -> list[str]:
    known = [name for name in VARIANTS if name != REFERENCE]
    names = [name.strip() for name in text.split(",") if name.strip()] or known
    unknown = [name for name in names if name not in known]
    if unknown:
        raise click.BadParameter(f"{', '.join(unknown)}: choose from {', '.join(known)}")
    return list(dict.fromkeys(names))


def _common_options(*, profiles: Sequence[str]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The options of every command; `profiles` are measured unless others are named."""
    options = (
        click.option(
            "--corpus",
            "corpus_dir",
            type=click.Path(exists=True, file_okay=False, path_type=Path),
            envvar="VIDEO_CORPUS_DIR",
            required=True,
            help="Folder with labels.csv and videos/ [default: $VIDEO_CORPUS_DIR].",
        ),
        click.option(
            "--profile",
            "profiles",
            multiple=True,
            default=profiles,
            show_default=True,
            metavar="E:N:SPAN[:T]",
            help="Encoder, frames, first or spread, threshold (default: the encoder's). Give several to compare them.",
        ),
        click.option("--model", default="", help="CLIP model or its folder, for profiles with clip."),
        click.option("--workers", default=2, show_default=True, type=click.IntRange(1, 256), help="Processes."),
        click.option(
            "--results",
            "results_dir",
            type=click.Path(file_okay=False, path_type=Path),
            default=ROOT / "benchmarks" / "results",
            show_default="benchmarks/results",
            help="Where accuracy.json goes.",
        ),
    )

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def commands() -> None:
    """Measure how often the pipeline is right.

    \b
    python benchmarks/accuracy.py labels --corpus DIR                  against the labels of a folder of clips
    python benchmarks/accuracy.py variants --corpus DIR --clips 10     on variants made of its unlike clips
    python benchmarks/accuracy.py curves --corpus DIR                  several settings over all thresholds
    python benchmarks/accuracy.py labels --corpus DIR --profile pdq:3:spread --profile pdq:3:spread:0.7

    Tables go to the terminal, and all numbers to benchmarks/results/accuracy.json.
    """


@commands.command()
@_common_options(profiles=("pdq:3:spread",))
def labels(corpus_dir: Path, profiles: Sequence[str], model: str, workers: int, results_dir: Path) -> None:
    """Hold the groups of a folder of labelled clips against its labels.

    Precision and recall count pairs of files within groups. Pairs that touch an odd file or an excerpt are left out
    of them and listed apart.
    """
    known = load_labels(corpus_dir)
    chosen = [Profile.parse(text, model=model) for text in profiles]
    paths = [corpus_dir / "videos" / label.file for label in known]
    compared = compare_by_profile(paths, profiles=chosen, workers=workers)
    scores = {name: score_groups(known, one.groups) for name, one in compared.items()}
    results = {name: describe_score(scores[name], labels=known, compared=compared[name]) for name in scores}
    console.print(table_of_scores(scores))
    for name, result in results.items():
        console.print(table_of_pairs(result["wrong"], title=f"{name}: wrong pairs"))
        console.print(table_of_pairs(result["missed"], title=f"{name}: missed pairs"))
        console.print(table_of_pairs(result["apart"]["found"], title=f"{name}: found, with an excerpt or odd file"))
        console.print(table_of_pairs(result["apart"]["missed"], title=f"{name}: missed, with an excerpt or odd file"))
        for file in result["featureless_matched"]:
            console.print(f"{name}: featureless, and yet matched: {escape(file)}")
        for file, status in result["unread"].items():
            console.print(f"{name}: not read, {status}: {escape(file)}")
    save_results(results_dir / "accuracy.json", section="labels", results=results)


@commands.command()
@_common_options(profiles=("pdq:3:spread",))
@click.option("--clips", type=click.IntRange(1), help="Take so many of the unlike clips [default: all].")
@click.option(
    "--variants", "names", default="", callback=_parse_variants, help="Names, with commas between [default: all]."
)
@click.option(
    "--work",
    "work_dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=ROOT / "outputs" / "accuracy",
    show_default="outputs/accuracy",
    help="Where the variants are kept for the next time.",
)
def variants(
    corpus_dir: Path,
    profiles: Sequence[str],
    model: str,
    workers: int,
    results_dir: Path,
    clips: int | None,
    names: Sequence[str],
    work_dir: Path,
) -> None:
    """Make variants of unlike clips, and see which are found again.

    Each clip of the role distinct becomes a reference (its first 15 s, 480 px) and a variant of each kind. A variant
    is found when it shares a group with its reference.
    """
    chosen = [Profile.parse(text, model=model) for text in profiles]
    sources = choose_sources(load_labels(corpus_dir), videos_dir=corpus_dir / "videos", count=clips)
    with progress_bar("making variants", len(sources)) as advance:
        made = make_all_variants(sources, names=names, work_dir=work_dir, workers=workers, progress=advance)
    files = [
        (source.name, kind, path) for source, paths in zip(sources, made, strict=True) for kind, path in paths.items()
    ]
    known = [Label(file=f"{name} · {kind}", role="copy", group=name) for name, kind, _ in files]
    compared = compare_by_profile([path for *_, path in files], profiles=chosen, workers=workers)
    results: dict[str, dict[str, Any]] = {}
    recalls: dict[str, list[VariantScore]] = {}
    for name, one in compared.items():
        score = score_groups(known, one.groups)
        recalls[name] = score_variants(known, [kind for _, kind, _ in files], one)
        results[name] = {
            "threshold": one.threshold,
            "clips": len(sources),
            "variants": {
                kind.name: {
                    "found": kind.found,
                    "clips": kind.clips,
                    "median_similarity": _rounded(statistics.median(kind.similarities)) if kind.similarities else None,
                }
                for kind in recalls[name]
            },
            "precision": _rounded(score.precision),
            "precision_interval": [_rounded(end) for end in score.precision_interval],
            "wrong": describe_pairs(score.wrong, labels=known, compared=one),
        }
    console.print(table_of_variants(recalls))
    for name, result in results.items():
        console.print(table_of_pairs(result["wrong"], title=f"{name}: false pairs, of {len(files)} files"))
    save_results(results_dir / "accuracy.json", section="variants", results=results)


@commands.command()
@_common_options(profiles=("pdq:1:first", "pdq:3:spread", "pdq:8:spread"))
def curves(corpus_dir: Path, profiles: Sequence[str], model: str, workers: int, results_dir: Path) -> None:
    """Compare several settings side by side, over all thresholds.

    Draws them into benchmarks/results/accuracy.png.
    """
    known = load_labels(corpus_dir)
    chosen = [Profile.parse(text, model=model) for text in profiles]
    paths = [corpus_dir / "videos" / label.file for label in known]
    compared = compare_by_profile(paths, profiles=chosen, workers=workers)
    points = {name: sweep_scores(known, one) for name, one in compared.items()}
    low = min(one.sweep[0] for one in compared.values())
    steps = [round(low + 0.05 * step, 2) for step in range(round((1 - low) / 0.05) + 1)]
    console.print(table_of_scores({name: score_groups(known, one.groups) for name, one in compared.items()}))
    console.print(table_of_curves(points, at=steps))
    results = {
        name: [
            {
                "threshold": point.threshold,
                "precision": _rounded(point.precision),
                "recall": _rounded(point.recall),
                "mean_group_recall": _rounded(point.mean_group_recall),
            }
            for point in of
        ]
        for name, of in points.items()
    }
    save_results(results_dir / "accuracy.json", section="curves", results=results)
    thresholds = {name: one.threshold for name, one in compared.items()}
    figure_curves(points, thresholds=thresholds).savefig(results_dir / "accuracy.png", dpi=130)


def main() -> None:
    """Run the command line; an error meant for people is one line."""
    try:
        commands.main(standalone_mode=False)
    except DedupError as error:
        raise SystemExit(f"error: {error}") from None
    except click.ClickException as error:
        error.show()
        raise SystemExit(error.exit_code) from None
    except click.Abort:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()

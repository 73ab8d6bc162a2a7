"""How often the pipeline is right: on clips with labels, and on variants made of unlike clips.

    python benchmarks/accuracy.py --help

`dedup_lib.evaluate.metrics` and `dedup_lib.steps.calibrate` do the measuring. This module has the commands and their
tables, and writes the files in benchmarks/results. `dedup_lib.evaluate.metrics` describes a folder of labelled clips.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from tqdm import tqdm

from dedup_lib.errors import DedupError, ListError, SettingError
from dedup_lib.evaluate.edits import cut
from dedup_lib.evaluate.metrics import (
    LEFT_OUT_ROLES,
    Compared,
    CurvePoint,
    Label,
    Rows,
    Score,
    VariantScore,
    rank_pairs,
    score_groups,
    score_variants,
    sweep_scores,
)
from dedup_lib.evaluate.threshold import show_percent
from dedup_lib.evaluate.variants import REFERENCE, VARIANTS, Source, load_clip, save_pictures
from dedup_lib.records import KEPT_STATUSES
from dedup_lib.report.plots.evaluation import figure_curves
from dedup_lib.run.files import write_text_atomically
from dedup_lib.steps.calibrate import (
    THRESHOLD_PARAMETERS,
    Profile,
    choose_kinds,
    compare_files,
    make_labelled_variants,
)

ROOT = Path(__file__).resolve().parent.parent

ROLES = ("copy", "distinct", "featureless", "excerpt", "odd")

MIN_TAKE_S = 4.0

console = Console(highlight=False)


def parse_profile(text: str, *, model: str = "") -> Profile:
    """Read a profile from a text: encoder, frames and span, as in `sscd:3:spread`.

    What decides and a threshold may follow: `pdq:1:first:cosine:0.7`. Raises SettingError for anything else.
    """
    encoder, *rest = text.split(":")
    try:
        frames, span, *others = rest
        decide = others.pop(0) if others and others[0] in THRESHOLD_PARAMETERS else "evidence"
        (at,) = map(float, others) if others else (None,)
        profile = Profile(
            encoder=encoder,
            num_frames=int(frames),
            frame_span=span,
            decide=decide,
            threshold=at,
            model=model if encoder == "clip" else "",
        )
    except ValueError:
        raise SettingError(
            "profile", text, "write encoder:frames:span[:evidence|:cosine][:threshold], as in sscd:3:spread"
        ) from None
    profile.extract_settings(run_dir=".", workers=1)
    profile.search_settings(run_dir=".")
    return profile


def load_labels(corpus_dir: Path) -> list[Label]:
    """Loads the labels of a folder of clips. Raises ListError when they are missing, wrong, or name a missing file."""
    path = corpus_dir / "labels.csv"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise ListError(f"{path} cannot be read ({error}): name a folder that holds labels.csv and videos/") from None
    missing = {"file", "role", "group"} - set(rows[0] if rows else ())
    if missing:
        raise ListError(f"{path} has no rows, or lacks the columns {', '.join(sorted(missing))}")
    for row in rows:
        if row["role"] not in ROLES:
            raise ListError(f"{path}: the role {row['role']!r} of {row['file']} must be one of {', '.join(ROLES)}")
        if not (corpus_dir / "videos" / row["file"]).is_file():
            raise ListError(f"{path} names {row['file']}, which is not in {corpus_dir / 'videos'}")
    return [Label(file=row["file"], role=row["role"], group=row["group"]) for row in rows]


def choose_sources(labels: Sequence[Label], *, videos_dir: Path, count: int | None) -> list[Source]:
    """The distinct clips to make variants of: `count` of them, or all. A larger sample contains the smaller ones.

    Each clip borrows its foreign start from the next distinct clip. Raises ListError for fewer than two clips.
    """
    names = [label.file for label in labels if label.role == "distinct"]
    if len(names) < 2:
        raise ListError(f"variants need at least two clips with the role distinct, and there are {len(names)}")
    others = dict(zip(names, [*names[1:], names[0]], strict=True))
    chosen = sorted(sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())[:count])
    return [Source(name=name, path=videos_dir / name, other_path=videos_dir / others[name]) for name in chosen]


def describe_pairs(pairs: Sequence[Rows], *, labels: Sequence[Label], compared: Compared) -> list[dict[str, Any]]:
    """Pairs as rows of a report, the most similar first."""
    return [
        {
            "files": [labels[row].file for row in pair],
            "groups": [labels[row].group for row in pair],
            "similarity": round_share(similarity),
        }
        for pair, similarity in rank_pairs(sorted(pairs, key=lambda pair: [labels[row].file for row in pair]), compared)
    ]


def describe_score(score: Score, *, labels: Sequence[Label], compared: Compared) -> dict[str, Any]:
    """A score as JSON; files are named as in the corpus."""
    return {
        "threshold": compared.threshold,
        "files": len(labels),
        "precision": round_share(score.precision),
        "precision_interval": [round_share(end) for end in score.precision_interval],
        "recall": round_share(score.recall),
        "mean_group_recall": round_share(score.mean_group_recall),
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
            if outcome.status not in KEPT_STATUSES and label.role not in LEFT_OUT_ROLES
        },
    }


def describe_variants(
    score: Score, variants: Sequence[VariantScore], *, labels: Sequence[Label], compared: Compared
) -> dict[str, Any]:
    """The results of variants as JSON."""
    return {
        "threshold": compared.threshold,
        "clips": len({label.group for label in labels}),
        "variants": {
            kind.name: {
                "found": kind.found,
                "clips": kind.clips,
                "median_similarity": round_share(kind.median_similarity),
                "missed": [labels[pair[0]].group for pair in kind.missed],
            }
            for kind in variants
        },
        "precision": round_share(score.precision),
        "precision_interval": [round_share(end) for end in score.precision_interval],
        "wrong": describe_pairs(score.wrong, labels=labels, compared=compared),
    }


def describe_curve(points: Sequence[CurvePoint]) -> list[dict[str, float | None]]:
    """A curve as JSON."""
    return [
        {
            "threshold": point.threshold,
            "precision": round_share(point.precision),
            "recall": round_share(point.recall),
            "mean_group_recall": round_share(point.mean_group_recall),
        }
        for point in points
    ]


def round_share(value: float | None) -> float | None:
    """Rounds to four decimals, which is enough for a report."""
    return None if value is None else round(value, 4)


def save_results(path: Path, *, section: str, results: Mapping[str, Any]) -> None:
    """Write the results of each profile into one section of a JSON file. Its other sections and profiles stay."""
    saved = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    saved[section] = {**saved.get(section, {}), **results}
    write_text_atomically(path, json.dumps(saved, indent=1, ensure_ascii=False, sort_keys=True) + "\n")


def table_of_scores(scores: Mapping[str, Score]) -> Table:
    """One column per profile: the numbers, then the recall of each group."""
    table = Table("", title="Against the labels", title_justify="left")
    for name in scores:
        table.add_column(name, justify="right")
    intervals = [score.precision_interval for score in scores.values()]
    table.add_row("precision", *(show_percent(score.precision) for score in scores.values()))
    table.add_row("  95 % interval", *(f"{show_percent(low)} – {show_percent(high)}" for low, high in intervals))
    table.add_row("recall over pairs", *(show_percent(score.recall) for score in scores.values()))
    table.add_row("recall over groups", *(show_percent(score.mean_group_recall) for score in scores.values()))
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
    """One row per pair, with its similarity."""
    table = Table("similarity", title=f"{title}: {len(described) or 'none'}", title_justify="left")
    for _ in range(2):
        table.add_column("file", overflow="fold")
    for row in described:
        similarity = "–" if row["similarity"] is None else f"{row['similarity']:.3f}"
        table.add_row(similarity, *(escape(file) for file in row["files"]))
    return table


def table_of_variants(scores: Mapping[str, Sequence[VariantScore]]) -> Table:
    """One row per variant: for each profile, its recall and the median similarity to the reference."""
    table = Table("variant", "what it is", title="Found again, and median similarity", title_justify="left")
    for name in scores:
        table.add_column(name, justify="right")
    for same in zip(*scores.values(), strict=True):
        cells = []
        for score in same:
            middle = "–" if score.median_similarity is None else f"{score.median_similarity:.2f}"
            cells.append(f"{score.found} of {score.clips}  {middle}")
        table.add_row(same[0].name, VARIANTS[same[0].name].what, *cells)
    table.add_section()
    totals = [(sum(s.found for s in of), sum(s.clips for s in of)) for of in scores.values()]
    table.add_row("all", "", *(f"{found} of {clips}  {show_percent(found / clips)}" for found, clips in totals))
    return table


def table_of_curves(curves: Mapping[str, Sequence[CurvePoint]], *, at: Sequence[float]) -> Table:
    """Precision and recall of each profile at a few thresholds. Each shows the nearest threshold that was tried."""
    table = Table("threshold", title="Precision / recall over pairs", title_justify="left")
    for name in curves:
        table.add_column(name, justify="right")
    for threshold in at:
        nearest = [min(points, key=lambda point: abs(point.threshold - threshold)) for points in curves.values()]
        table.add_row(f"{threshold:.2f}", *(f"{show_percent(p.precision)} / {show_percent(p.recall)}" for p in nearest))
    return table


@contextmanager
def progress_bar(what: str, total: int) -> Iterator[Callable[[int], object]]:
    """Show a progress bar on the terminal. Yields the function that advances it."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)


def compare_by_profile(
    paths: Sequence[Path], *, profiles: Sequence[Profile], workers: int, folder: Path | None = None
) -> dict[str, Compared]:
    """Compare the same files under each profile. Returns the results by the profile's name. Files whose vectors are in
    `folder` are not read again."""
    compared = {}
    for profile in profiles:
        # tqdm shows no bar where the output is no terminal.
        with tqdm(unit="", leave=False, disable=None) as bar:
            compared[str(profile)] = compare_files(paths, profile=profile, workers=workers, folder=folder, bar=bar)
    return compared


def _parse_variants(context: click.Context, parameter: click.Parameter, text: str) -> list[str]:
    try:
        return choose_kinds([name.strip() for name in text.split(",") if name.strip()])
    except SettingError as error:
        raise click.BadParameter(str(error)) from None


Command = Callable[..., None]
Decorator = Callable[[Command], Command]


def corpus_option(
    *, required: bool, help: str = "Folder with labels.csv and videos/ [default: $VIDEO_CORPUS_DIR]."
) -> Decorator:
    """The option for the folder of labelled clips."""
    return click.option(
        "--corpus",
        "corpus_dir",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        envvar="VIDEO_CORPUS_DIR",
        required=required,
        help=help,
    )


def work_option(folder: str, *, help: str) -> Decorator:
    """The option for the folder that keeps the made files. `folder` is relative to the project's root."""
    return click.option(
        "--work",
        "work_dir",
        type=click.Path(file_okay=False, path_type=Path),
        default=ROOT / folder,
        show_default=folder,
        help=help,
    )


def results_option(*, help: str) -> Decorator:
    """The option for the folder of the results."""
    return click.option(
        "--results",
        "results_dir",
        type=click.Path(file_okay=False, path_type=Path),
        default=ROOT / "benchmarks" / "results",
        show_default="benchmarks/results",
        help=help,
    )


workers_option: Decorator = click.option(
    "--workers", default=2, show_default=True, type=click.IntRange(1, 256), help="Processes."
)


def _common_options(*, profiles: Sequence[str]) -> Decorator:
    """The options of every command. `profiles` are the default profiles."""
    options = (
        corpus_option(required=True),
        click.option(
            "--profile",
            "profiles",
            multiple=True,
            default=profiles,
            show_default=True,
            metavar="E:N:SPAN[:HOW][:T]",
            help="Encoder, frames, first or spread, evidence or cosine, threshold. Give several to compare them.",
        ),
        click.option("--model", default="", help="CLIP model or its folder, for profiles with clip."),
        workers_option,
        results_option(help="Where accuracy.json goes."),
    )

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


_work_option = work_option("outputs/accuracy", help="Where the files that are made are kept for the next time.")


def cut_takes(paths: Sequence[Path], *, work_dir: Path, progress: Callable[[int], object]) -> list[tuple[Path, Path]]:
    """Cut the first and the last 47 % out of each clip that lasts at least `MIN_TAKE_S`, as files."""
    parts = ((0.0, 0.47), (0.53, 1.0))
    made = []
    for path in paths:
        clip = load_clip(path)
        progress(1)
        if clip.duration_s < MIN_TAKE_S:
            continue
        first, last = (work_dir / f"{path.parent.name}-{path.stem}-{start:g}.mp4" for start, _ in parts)
        for target, (start, end) in zip((first, last), parts, strict=True):
            save_pictures(target, cut(start, end)(clip, clip), variant=VARIANTS[REFERENCE])
        made.append((first, last))
    return made


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def commands() -> None:
    """Measure how often the pipeline is right.

    \b
    python benchmarks/accuracy.py labels --corpus DIR                  against the labels of a folder of clips
    python benchmarks/accuracy.py variants --corpus DIR --clips 10     on variants made of its unlike clips
    python benchmarks/accuracy.py takes --corpus DIR                   on two parts of each clip, which are no copies
    python benchmarks/accuracy.py curves --corpus DIR                  several settings over all thresholds
    python benchmarks/accuracy.py labels --corpus DIR --profile pdq:3:spread --profile pdq:3:spread:cosine:0.7

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
    chosen = [parse_profile(text, model=model) for text in profiles]
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
@_work_option
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
    chosen = [parse_profile(text, model=model) for text in profiles]
    sources = choose_sources(load_labels(corpus_dir), videos_dir=corpus_dir / "videos", count=clips)
    with progress_bar("making variants", len(sources)) as advance:
        made = make_labelled_variants(sources, kinds=names, work_dir=work_dir, workers=workers, progress=advance)
    compared = compare_by_profile(made.paths, profiles=chosen, workers=workers)
    recalls = {
        name: score_variants(made.labels, made.kinds, one, reference=REFERENCE) for name, one in compared.items()
    }
    results = {
        name: describe_variants(score_groups(made.labels, one.groups), recalls[name], labels=made.labels, compared=one)
        for name, one in compared.items()
    }
    console.print(table_of_variants(recalls))
    for name, result in results.items():
        console.print(table_of_pairs(result["wrong"], title=f"{name}: false pairs, of {len(made.paths)} files"))
    save_results(results_dir / "accuracy.json", section="variants", results=results)


@commands.command()
@_common_options(profiles=("pdq:8:spread", "pdq:1:first:cosine"))
@_work_option
def takes(
    corpus_dir: Path, profiles: Sequence[str], model: str, workers: int, results_dir: Path, work_dir: Path
) -> None:
    """Cut each unlike clip in two parts that share no picture, and see how many are taken for copies.

    Two parts of one take are the hardest look-alikes: one scene, one light, other moments. A clip that repeats itself
    is found all the same.
    """
    chosen = [parse_profile(text, model=model) for text in profiles]
    known = load_labels(corpus_dir)
    sources = [corpus_dir / "videos" / label.file for label in known if label.role == "distinct"]
    with progress_bar("cutting", len(sources)) as advance:
        halves = cut_takes(sources, work_dir=work_dir / "takes", progress=advance)
    files = [path for pair in halves for path in pair]
    compared = compare_by_profile(files, profiles=chosen, workers=workers)
    named = [Label(file=path.name, role="distinct") for path in files]
    results = {}
    for name, one in compared.items():
        wrong = score_groups(named, one.groups).wrong
        results[name] = {"takes": len(halves), "wrong": describe_pairs(wrong, labels=named, compared=one)}
        console.print(table_of_pairs(results[name]["wrong"], title=f"{name}: false pairs, of {len(halves)} takes"))
    save_results(results_dir / "accuracy.json", section="takes", results=results)


@commands.command()
@_common_options(profiles=("pdq:1:first:cosine", "pdq:3:spread:cosine", "pdq:3:spread"))
def curves(corpus_dir: Path, profiles: Sequence[str], model: str, workers: int, results_dir: Path) -> None:
    """Compare several settings side by side, over all thresholds.

    Draws them into benchmarks/results/accuracy.png.
    """
    known = load_labels(corpus_dir)
    chosen = [parse_profile(text, model=model) for text in profiles]
    paths = [corpus_dir / "videos" / label.file for label in known]
    compared = compare_by_profile(paths, profiles=chosen, workers=workers)
    points = {name: sweep_scores(known, one) for name, one in compared.items()}
    low = min(one.sweep[0] for one in compared.values())
    steps = [round(low + 0.05 * step, 2) for step in range(round((1 - low) / 0.05) + 1)]
    console.print(table_of_scores({name: score_groups(known, one.groups) for name, one in compared.items()}))
    console.print(table_of_curves(points, at=steps))
    results = {name: describe_curve(of) for name, of in points.items()}
    save_results(results_dir / "accuracy.json", section="curves", results=results)
    thresholds = {name: one.threshold for name, one in compared.items()}
    figure_curves(points, thresholds=thresholds).savefig(results_dir / "accuracy.png", dpi=130)


def run_command(command: click.Command) -> None:
    """Run a command line. An error meant for people is printed as one line."""
    try:
        command.main(standalone_mode=False)
    except DedupError as error:
        raise SystemExit(f"error: {error}") from None
    except click.ClickException as error:
        error.show()
        raise SystemExit(error.exit_code) from None
    except click.Abort:
        raise SystemExit(130) from None


if __name__ == "__main__":
    run_command(commands)

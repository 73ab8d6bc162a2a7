"""07: measure the pipeline on variants of sampled videos, and propose a threshold.

Files go the way of a run. The functions of `steps` do the work of 03_extract and 06_search_and_clean, with the
defaults of those notebooks. The vectors go into a separate Milvus Lite file.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from dedup_lib.errors import SettingError
from dedup_lib.evaluate.metrics import Compared, Label
from dedup_lib.evaluate.threshold import ThresholdResult, show_count, show_percent
from dedup_lib.evaluate.variants import REFERENCE, VARIANTS, Source, make_all_variants
from dedup_lib.features.encoders import load_encoder
from dedup_lib.groups.keepers import KeeperPolicy
from dedup_lib.groups.review import find_doubtful
from dedup_lib.lists.tables import load_table
from dedup_lib.run.files import write_text_atomically
from dedup_lib.run.folder import RunFolder
from dedup_lib.run.paths import is_same_place
from dedup_lib.settings import CalibrateSettings, ExtractSettings, SearchSettings
from dedup_lib.steps.bar import Bar, progress_on
from dedup_lib.steps.extract import extract_list, make_recipe
from dedup_lib.steps.extracted_list import ExtractedList
from dedup_lib.steps.inputs import ListSource
from dedup_lib.steps.list_sample import Advance
from dedup_lib.steps.search import search_list

THRESHOLD_PARAMETERS = {"evidence": "min_score", "cosine": "cosine_thresh"}
"""For each value of `decide`, the parameter of 06_search_and_clean that takes the threshold."""

_COLLECTION = "videos"


@dataclass(frozen=True, kw_only=True)
class Profile:
    """The settings of the pipeline to measure. A threshold of None stands for the default."""

    encoder: str
    num_frames: int
    frame_span: str
    decide: str = "evidence"
    threshold: float | None = None
    model: str = ""

    @classmethod
    def of(cls, settings: CalibrateSettings, *, threshold: float | None) -> Profile:
        """The settings that 07_calibrate measures."""
        return cls(
            encoder=settings.encoder,
            model=settings.model,
            num_frames=settings.num_frames,
            frame_span=settings.frame_span,
            decide=settings.decide,
            threshold=threshold,
        )

    def __str__(self) -> str:
        at = "" if self.threshold is None else f" at {self.threshold:g}"
        return f"{self.encoder} {self.num_frames} {self.frame_span} {self.decide}{at}"

    @property
    def threshold_parameter(self) -> str:
        """The parameter of 06_search_and_clean that takes the threshold."""
        return THRESHOLD_PARAMETERS[self.decide]

    @property
    def first_frame(self) -> Profile:
        """The plainest settings with the same encoder: one vector of the first frame, and one threshold."""
        return replace(self, num_frames=1, frame_span="first", decide="cosine", threshold=None)

    def extract_settings(self, *, run_dir: str, workers: int | None) -> ExtractSettings:
        """The settings of 03_extract. What a profile does not say keeps its default."""
        # `ExtractSettings` checks each value and says what is wrong with it.
        values: dict[str, Any] = {
            "run_dir": run_dir,
            "mode": "direct",
            "collection": _COLLECTION,
            "num_frames": self.num_frames,
            "frame_span": self.frame_span,
            "encoder": self.encoder,
            "model": self.model,
            "workers": workers,
            "timeout_s": 300.0,
            "allow_local_paths": True,
        }
        return ExtractSettings(**values)

    def search_settings(self, *, run_dir: str) -> SearchSettings:
        """The settings of 06_search_and_clean. What a profile does not say keeps its default."""
        values: dict[str, Any] = {"run_dir": run_dir, "collection": _COLLECTION, "decide": self.decide}
        if self.threshold is not None:
            values[self.threshold_parameter] = self.threshold
        return SearchSettings(**values)


def compare_files(
    paths: Sequence[Path], *, profile: Profile, workers: int | None, folder: Path | None = None, bar: Bar | None = None
) -> Compared:
    """Extract and search local files as 03 and 06 do.

    With `folder`, the vectors and the storyboards stay in a subfolder of it, one for each recipe. Files that have
    them there are not extracted again. Without `folder` nothing stays. `bar` shows one step after the other.
    """
    urls = [str(path) for path in paths]
    encoder = load_encoder(profile.encoder, model=profile.model)
    recipe = make_recipe(profile.extract_settings(run_dir=".", workers=workers), encoder)
    with ExitStack() as stack:
        stack.enter_context(_without_server())
        kept = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="accuracy-")))
        run = RunFolder(kept / recipe.key)
        settings = profile.extract_settings(run_dir=str(run.path), workers=workers)
        progress = progress_on(bar)("reading videos", len(urls))
        report, _ = extract_list(run, urls, settings=settings, encoder=encoder, progress=progress)
        listed = ExtractedList(
            frame=pd.DataFrame({"url": urls}, dtype=str),
            url_column="url",
            outcomes=report.outcomes,
            list_csv=None,
            list_rows=len(urls),
            text_duplicates=0,
            recipe=None,
        )
        wanted = profile.search_settings(run_dir=str(run.path))
        keeper = KeeperPolicy(name=wanted.keep, traits=listed.traits)
        scored, plan = search_list(run, listed, settings=wanted, keeper=keeper, bar=bar)
    compared = Compared(
        threshold=plan.threshold,
        sweep=tuple(plan.sweep()),
        outcomes=tuple(report.outcomes[url] for url in urls),
        pairs=scored.pairs,
        choose=keeper.knowing(scored.marks).choose,
        thumbnails_dir=run.thumbnails_dir if folder else None,
    )
    doubtful = find_doubtful(scored, rules=plan.rules, groups=compared.groups)
    return replace(compared, doubtful=tuple(doubtful))


@contextmanager
def _without_server() -> Iterator[None]:
    """Clear the variables that name a server: a server for real work must not get the vectors of a measurement."""
    names = ("MILVUS_URI", "MILVUS_TOKEN")
    before = {name: os.environ[name] for name in names if name in os.environ}
    os.environ.update(dict.fromkeys(names, ""))
    try:
        yield
    finally:
        for name in names:
            del os.environ[name]
        os.environ.update(before)


# --- clips and their variants


def choose_kinds(names: Sequence[str]) -> list[str]:
    """The named kinds of variants, each once. Without names, all kinds.

    Raises SettingError for a kind that does not exist.
    """
    known = [name for name in VARIANTS if name != REFERENCE]
    for name in names:
        if name not in known:
            raise SettingError("kinds", name, f"there is no such kind of variant; choose from {', '.join(known)}")
    return list(dict.fromkeys(names)) or known


@dataclass(frozen=True, kw_only=True)
class VariantFiles:
    """Variants of several clips, with their references. Each field has one entry per file."""

    paths: tuple[Path, ...]
    kinds: tuple[str, ...]
    labels: tuple[Label, ...]
    """The group of a label is the clip."""


def make_labelled_variants(
    sources: Sequence[Source],
    *,
    kinds: Sequence[str],
    work_dir: Path,
    workers: int | None,
    progress: Advance = lambda count: None,
) -> VariantFiles:
    """Make variants of each kind of every clip, with labels. Variants that are in `work_dir` are not made again."""
    made = make_all_variants(sources, names=kinds, work_dir=work_dir, workers=workers, progress=progress)
    files = [
        (source.name, kind, path) for source, paths in zip(sources, made, strict=True) for kind, path in paths.items()
    ]
    return VariantFiles(
        paths=tuple(path for *_, path in files),
        kinds=tuple(kind for _, kind, _ in files),
        labels=tuple(Label(file=f"{name} · {kind}", role="copy", group=name) for name, kind, _ in files),
    )


# --- a sample of a list


def load_kept(run: RunFolder, source: ListSource) -> list[str] | None:
    """The URLs of the clean list that 06_search_and_clean made of this list in this run folder, without the copies.

    None where there is no clean list of it, or one without rows. Raises ListError for a clean list that can no longer
    be read.
    """
    searched, extracted = run.read_record(SearchSettings.stage), run.read_record(ExtractSettings.stage)
    if searched is None or extracted is None or not is_same_place(Path(extracted["list"]["csv"]), source.list_csv):
        return None
    path, column = run.recorded_path(searched, "FINAL_RESULT"), extracted["url_column"]
    final = load_table(path) if path.is_file() else pd.DataFrame()
    if source.url_column not in ("", column) or column not in final:
        return None
    return [str(url) for url in final[column]] or None


def find_threshold(run: RunFolder, settings: CalibrateSettings) -> float | None:
    """The threshold that 06_search_and_clean used in this run folder. None where it has not run, or where it decided
    by another measure."""
    searched, extracted = run.read_record(SearchSettings.stage), run.read_record(ExtractSettings.stage)
    if searched is None or searched["settings"].get("decide") != settings.decide:
        return None
    # The cosines of another encoder have another scale.
    if settings.decide == "cosine" and (extracted is None or extracted["recipe"]["encoder"] != settings.encoder):
        return None
    threshold: float | None = searched["settings"].get(THRESHOLD_PARAMETERS[settings.decide])
    return threshold


def describe_choice(chosen: ThresholdResult, *, in_use: float, reported: ThresholdResult) -> str:
    """Say in words which threshold is proposed and what it reaches."""
    if chosen.threshold == in_use:
        change = f"The threshold in use, {in_use:g}, stays. On the half that chose, a stricter one would avoid no false"
        change += " pair. A looser one would find nothing more, would not reach wanted_precision, or would be untested,"
        change += " because too few different videos are that alike."
    else:
        kind = "stricter" if chosen.threshold > in_use else "looser"
        change = f"A {kind} threshold than the one in use ({in_use:g}) is proposed."
    return f"{change} {reported.in_words()}"


# --- the params file


def save_params(
    path: Path,
    *,
    profile: Profile,
    chosen: ThresholdResult,
    reported: ThresholdResult,
    measured_on: str,
    warning: str = "",
) -> Mapping[str, object]:
    """Write a params file with a threshold and the settings of its measurement. Returns the parameters that it sets.

    `reported` is what the chosen threshold reaches on the other half. `measured_on` says in words which videos were
    measured. `warning` says why the result may be unreliable. Raises SettingError when the file exists and sets any
    other parameter.
    """
    values = {
        "decide": profile.decide,
        "encoder": profile.encoder,
        "model": profile.model,
        "num_frames": profile.num_frames,
        "frame_span": profile.frame_span,
        profile.threshold_parameter: chosen.threshold,
    }
    if path.exists():
        others = sorted(_names_in(path) - values.keys())
        if others:
            raise SettingError(
                "params_yaml",
                str(path),
                f"this file exists and holds something else ({', '.join(others)}); name a new one",
            )
    low, high = map(show_percent, reported.precision_interval)
    notes = (
        f"Measured by 07_calibrate on {measured_on}.",
        f"One half of the videos chose {profile.threshold_parameter}. On the other half it finds "
        f"{show_percent(reported.recall)} of the pairs of copies,",
        f"with a precision of {show_percent(reported.precision)} (95 % Wilson interval {low} to {high}): "
        f"{reported.wrong:,} of {reported.unlike:,} pairs of different videos are taken for copies.",
        f"Among {reported.collection_size:,} videos, expect {show_count(reported.false_pairs)} false pairs, "
        f"and at most {show_count(reported.false_pairs_bound)} (95 %).",
        *((f"Warning: {warning}",) if warning else ()),
        "This holds for the settings below and for lists like that one; measure again when either changes.",
    )
    text = "".join(f"# {_one_line(note)}\n" for note in notes) + yaml.safe_dump(values, sort_keys=False)
    write_text_atomically(path, text)
    return values


def _names_in(path: Path) -> set[str]:
    """The names of the parameters that a file sets. For a file that is no params file, words that say so."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {"not YAML"}
    return set(map(str, values)) if isinstance(values, dict) else {"no parameters"}


def _one_line(text: str) -> str:
    """The text on one line and printable, for a YAML comment."""
    return "".join(character if character.isprintable() else "?" for character in " ".join(text.split()))

"""The parameters of every notebook: type, range and default, checked before any work.

A script can use them directly: `SearchSettings(run_dir="outputs/ads", min_score=0.8)`. The parameter cells of the
notebooks repeat the defaults for people to change, and a test checks that both are equal. A notebook's setup cell calls
`…Settings.of(globals())`, which picks the parameters by name.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from sys import float_info
from types import UnionType
from typing import Annotated, Any, ClassVar, Literal, Self, Union, get_args, get_origin, get_type_hints

from dedup_lib.errors import SettingError


@dataclass(frozen=True)
class Range:
    """Allowed values of a number, both ends included; `None` leaves an end open."""

    low: float | None = None
    high: float | None = None

    def allows(self, value: float) -> bool:
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    def __str__(self) -> str:
        if self.high is None:
            return f"of at least {self.low:g}" if self.low is not None else "of any size"
        if self.low is None:
            return f"of at most {self.high:g}"
        return f"from {self.low:g} to {self.high:g}"


Count = Annotated[int, Range(1)]
Cosine = Annotated[float, Range(-1, 1)]
Share = Annotated[float, Range(0.01, 1)]
StoreChoice = Literal["auto", "server"]
EncoderName = Literal["sscd", "clip", "pdq"]
FrameSpan = Literal["spread", "first"]
SchemaName = Literal["video_dedup", "video_frames", "aggregated"]

NLIST, NPROBE = 128, 32
"""Number of lists of an IVF_FLAT index, and of those that a search looks through."""

MAX_TOP_K = 16_384
"""Milvus returns at most this number of neighbours for one vector, and takes at most this number of vectors in one
search."""


@dataclass(frozen=True, kw_only=True)
class IndexTuning:
    """How the index of a collection is built, searched and audited when `search` is ann."""

    index: str = "IVF_FLAT"
    """Type of the index: IVF_FLAT, HNSW, or another type that the server has."""
    build: Mapping[str, int] = field(default_factory=lambda: {"nlist": NLIST})
    search: Mapping[str, int] = field(default_factory=lambda: {"nprobe": NPROBE})
    top_k: int = 50
    """Number of neighbours in the first search. Where all of them match, the next search asks for more."""
    audit_videos: int = 1000
    """Number of random videos that are also compared exactly with all others."""
    min_recall: float = 0.99
    """Recall that the index must reach on the pairs of these videos, from 0 to 1."""

    SEARCH: ClassVar[tuple[str, ...]] = ("nprobe", "ef", "search_list", "reorder_k")
    """Parameters of a search. Every other number is a parameter of the index."""

    @classmethod
    def parse(cls, given: Sequence[str]) -> Self:
        """Read the tuning from texts such as ["index:HNSW", "M:16", "ef:200", "top_k:100"].

        What the texts do not name keeps its default. With another index, the parameters of IVF_FLAT have no default.
        Raises SettingError for anything else.
        """
        texts = {}
        for item in given:
            name, _, value = (part.strip() for part in item.partition(":"))
            if not name.isidentifier() or not value:
                raise SettingError("ann", list(given), f"write {item!r} as name:value, such as nprobe:64")
            texts[name] = value
        index = texts.pop("index", cls.index)
        min_recall = texts.pop("min_recall", str(cls.min_recall))
        numbers = {}
        for name, value in texts.items():
            if not value.isdecimal():
                raise SettingError("ann", list(given), f"{name} takes a whole number, such as {name}:64")
            numbers[name] = int(value)
        try:
            share = float(min_recall)
        except ValueError:
            share = -1.0
        top_k, audit_videos = numbers.pop("top_k", cls.top_k), numbers.pop("audit_videos", cls.audit_videos)
        if not 0 <= share <= 1:
            raise SettingError("ann", list(given), "min_recall takes a share from 0 to 1, such as min_recall:0.95")
        if not 2 <= top_k <= MAX_TOP_K or audit_videos < 1:
            allowed = f"top_k takes a number from 2 to {MAX_TOP_K}, and audit_videos at least 1"
            raise SettingError("ann", list(given), allowed)
        is_default = index == cls.index
        searched = {name: number for name, number in numbers.items() if name in cls.SEARCH}
        return cls(
            index=index,
            build=({"nlist": NLIST} if is_default else {}) | {n: v for n, v in numbers.items() if n not in searched},
            search=({"nprobe": NPROBE} if is_default else {}) | searched,
            top_k=top_k,
            audit_videos=audit_videos,
            min_recall=share,
        )


def describe_type(hint: Any) -> str:
    """Say what a type hint allows, in words for an error message."""
    origin = get_origin(hint)
    if origin is Annotated:
        base, *extras = get_args(hint)
        return f"{describe_type(base)} {' '.join(str(extra) for extra in extras)}"
    if origin is Literal:
        return "one of " + ", ".join(repr(choice) for choice in get_args(hint))
    if origin in (Union, UnionType):
        return " or ".join(describe_type(part) for part in get_args(hint))
    if origin is list:
        return f"a list of {describe_type(get_args(hint)[0])}"
    names = {str: "text", int: "a whole number", float: "a number", bool: "true or false", type(None): "null"}
    return names.get(hint, str(hint))


def is_allowed(value: Any, hint: Any) -> bool:
    """Whether `value` fits `hint`. A bool is no number. A whole number is also a float."""
    origin = get_origin(hint)
    if origin is Annotated:
        base, *extras = get_args(hint)
        return is_allowed(value, base) and all(extra.allows(value) for extra in extras)
    if origin is Literal:
        return any(value == choice and type(value) is type(choice) for choice in get_args(hint))
    if origin in (Union, UnionType):
        return any(is_allowed(value, part) for part in get_args(hint))
    if origin is list:
        return isinstance(value, list) and all(is_allowed(item, get_args(hint)[0]) for item in value)
    if hint is float:
        # The comparison excludes NaN and infinity.
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= float_info.max
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def parameter_types(cls: type[NotebookSettings]) -> dict[str, Any]:
    """Name and type hint of every parameter of a notebook, in order."""
    hints = get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in fields(cls)}


def refuse_unknown(values: Mapping[str, Any], stages: Iterable[str], *, where: str) -> None:
    """Raises SettingError for the first name that is no parameter of these notebooks. The message suggests the nearest
    parameter name. `where` describes the notebooks in words."""
    known = {name for stage in stages for name in parameter_types(SETTINGS[stage])}
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            meant = f"did you mean {near[0]}?" if near else "docs/reference.md lists them all"
            raise SettingError(name, values[name], f"{where} has a parameter of that name; {meant}")


def check_model(encoder: str, model: str) -> None:
    """Raises SettingError for a model that the encoder cannot use."""
    if encoder == "pdq" and model:
        raise SettingError("model", model, "the encoder pdq has no model. Leave model empty, or set encoder: sscd")


def _find_assigned(cells: Sequence[str]) -> Iterator[str]:
    """The names that a notebook's parameters cell assigns, and those of the cell that papermill inserts after it.

    `cells` are the cells that were run, oldest first. Later cells of the notebook may assign any names.
    """
    for source in reversed(cells):
        try:
            statements = ast.parse(source).body
        except SyntaxError:
            continue
        names = [
            target.id
            for statement in statements
            if isinstance(statement, ast.Assign | ast.AnnAssign)
            for target in (statement.targets if isinstance(statement, ast.Assign) else [statement.target])
            if isinstance(target, ast.Name)
        ]
        is_injected = source.startswith("# Parameters\n")
        is_own = not is_injected and "run_dir" in names
        if is_injected or is_own:
            yield from names
        if is_own:
            return


@dataclass(frozen=True, kw_only=True)
class NotebookSettings:
    """The parameters that every notebook has. Raises SettingError at the first value that is not allowed."""

    stage: ClassVar[str] = ""
    """Name of the notebook, which is also the name of its stage record."""

    run_dir: str = "outputs/demo"

    def __post_init__(self) -> None:
        self.check_given(vars(self))
        if not self.run_dir.strip():
            raise SettingError("run_dir", self.run_dir, "name the folder of this run, such as outputs/mylist")
        self.check()

    def check(self) -> None:
        """Check the rules that concern several parameters at once."""

    @classmethod
    def check_given(cls, values: Mapping[str, Any]) -> None:
        """Check each of the given parameters separately. Raises SettingError at the first value that is not allowed."""
        for name, hint in parameter_types(cls).items():
            if name in values and not is_allowed(values[name], hint):
                raise SettingError(name, values[name], f"it must be {describe_type(hint)}")

    @classmethod
    def of(cls, namespace: dict[str, Any]) -> Self:
        """Read the settings from a notebook's `globals()`. Other names there are ignored.

        Raises SettingError when a parameter is missing or has a value that is not allowed. Raises SettingError also
        where the parameters cell, or papermill, sets a name that no notebook has; papermill itself only warns about
        it. Parameters of other notebooks are allowed, because a profile names the parameters of several notebooks.
        """
        assigned = _find_assigned(namespace.get("In", ()))
        refuse_unknown({name: namespace.get(name) for name in assigned}, SETTINGS, where="no notebook")
        values = {}
        for name in parameter_types(cls):
            if name not in namespace:
                raise SettingError(name, None, f"it is missing from the parameters cell of {cls.stage}")
            values[name] = namespace[name]
        return cls(**values)

    def as_record(self) -> dict[str, Any]:
        """The name and value of every parameter, for a stage record."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class DecodeSettings(NotebookSettings):
    stage: ClassVar[str] = "01_decode"

    input_csv: str = ""
    url_column: str = ""
    output_csv: str = ""


@dataclass(frozen=True, kw_only=True)
class DedupeUrlsSettings(NotebookSettings):
    stage: ClassVar[str] = "02_dedupe_urls"

    input_csv: str = ""
    url_column: str = ""
    output_csv: str = ""
    report_csv: str = ""
    ignore_path_case: bool = False
    drop_query_parameters: list[str] = field(default_factory=list)
    existing_runs: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class ExtractSettings(NotebookSettings):
    stage: ClassVar[str] = "03_extract"

    input_csv: str = ""
    url_column: str = ""
    mode: Literal["direct", "batch"] = "direct"
    jobs_dir: str = "batch_outputs"
    store: StoreChoice = "auto"
    collection: str = "videos"
    num_frames: Annotated[int, Range(1, 256)] = 8
    frame_span: FrameSpan = "spread"
    scan_step_s: Annotated[float, Range(0, 10)] = 0.25
    encoder: EncoderName = "sscd"
    model: str = ""
    batch_size: Count = 32
    start: Annotated[int, Range(0)] = 0
    end: Annotated[int, Range(0)] | None = None
    overwrite: bool = False
    engine: Literal["local", "ray"] = "local"
    workers: Annotated[int, Range(1, 256)] | None = None
    most_a_host: Annotated[int, Range(1, 256)] = 6
    retries: Annotated[int, Range(0, 10)] = 2
    retry_failed: bool = True
    timeout_s: Annotated[float, Range(0.1, 86_400)] = 60.0
    max_bytes: Count = 500000000
    allow_private_addresses: bool = False
    allow_local_paths: bool = False
    resolve_pages: bool = False

    def check(self) -> None:
        check_model(self.encoder, self.model)
        if self.end is not None and self.end < self.start:
            raise SettingError("end", self.end, f"it must not be less than start = {self.start}")
        if self.engine == "ray" and self.allow_local_paths:
            raise SettingError(
                "allow_local_paths",
                self.allow_local_paths,
                "the nodes of a cluster cannot read files of this machine: set engine: local, or serve them over HTTP",
            )


@dataclass(frozen=True, kw_only=True)
class CleanJobsSettings(NotebookSettings):
    stage: ClassVar[str] = "04_clean_jobs"

    jobs_dir: str = "batch_outputs"
    dry_run: bool = False


@dataclass(frozen=True, kw_only=True)
class UploadSettings(NotebookSettings):
    stage: ClassVar[str] = "05_upload"

    jobs_dir: str = "batch_outputs"
    store: StoreChoice = "auto"
    collection: str = "videos"
    vectors: Literal["first", "frames", "average", "max"] = "frames"
    overwrite: bool = False


@dataclass(frozen=True, kw_only=True)
class SearchSettings(NotebookSettings):
    stage: ClassVar[str] = "06_search_and_clean"

    decide: Literal["evidence", "cosine"] = "evidence"
    min_score: Share = 0.5
    cosine_thresh: Cosine | None = None
    excerpts: Literal["remove", "keep"] = "remove"
    versions: Literal["review", "remove", "keep"] = "review"
    keep: Literal["best", "first_seen"] = "best"
    store: StoreChoice = "auto"
    collection: str = "videos"
    review_from: Share = 0.03
    against_existing: bool = False
    existing_runs: list[str] = field(default_factory=list)
    search: Literal["auto", "exact", "ann"] = "auto"
    ann: list[str] = field(default_factory=list)
    max_pairs: Count = 5000000
    auto_clean: bool = True
    fail_above: Annotated[float, Range(0, 1)] = 0.9
    decisions_csv: str = ""
    unique_csv: str = ""
    report_csv: str = ""
    invalid_csv: str = ""
    sweep_low: Cosine | None = None

    def check(self) -> None:
        IndexTuning.parse(self.ann)


@dataclass(frozen=True, kw_only=True)
class CalibrateSettings(NotebookSettings):
    stage: ClassVar[str] = "07_calibrate"

    input_csv: str = ""
    url_column: str = ""
    sample_size: Annotated[int, Range(2)] = 12
    seed: Annotated[int, Range(0)] = 0
    leave_out: list[str] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    encoder: EncoderName = "sscd"
    model: str = ""
    num_frames: Annotated[int, Range(1, 256)] = 8
    frame_span: FrameSpan = "spread"
    decide: Literal["evidence", "cosine"] = "evidence"
    wanted_precision: Annotated[float, Range(0, 1)] = 0.995
    collection_size: Count | None = None
    workers: Annotated[int, Range(1, 256)] | None = None
    timeout_s: Annotated[float, Range(0.1, 86_400)] = 60.0
    max_bytes: Count = 500000000
    allow_private_addresses: bool = False
    allow_local_paths: bool = False
    params_yaml: str = ""

    def check(self) -> None:
        check_model(self.encoder, self.model)


@dataclass(frozen=True, kw_only=True)
class CollectionsSettings(NotebookSettings):
    stage: ClassVar[str] = "08_collections"

    action: Literal["ping", "list", "create", "rename", "drop"] = "list"
    store: StoreChoice = "auto"
    collection: str = "videos"
    new_name: str = ""
    schema: SchemaName = "video_frames"
    encoder: EncoderName = "sscd"
    model: str = ""
    num_frames: Annotated[int, Range(1, 256)] = 8
    frame_span: FrameSpan = "spread"

    def check(self) -> None:
        if self.action in ("create", "rename", "drop") and not self.collection:
            raise SettingError("collection", self.collection, f"action: {self.action} needs the name of a collection")
        if self.action == "rename" and not self.new_name:
            raise SettingError("new_name", self.new_name, "action: rename needs the new name of the collection")
        check_model(self.encoder, self.model)


SETTINGS: dict[str, type[NotebookSettings]] = {
    cls.stage: cls
    for cls in (
        DecodeSettings,
        DedupeUrlsSettings,
        ExtractSettings,
        CleanJobsSettings,
        UploadSettings,
        SearchSettings,
        CalibrateSettings,
        CollectionsSettings,
    )
}
"""The settings class of every notebook, by the notebook's name."""

FLOWS = {
    "direct": ("01_decode", "02_dedupe_urls", "03_extract", "06_search_and_clean"),
    "batch": ("01_decode", "02_dedupe_urls", "03_extract", "04_clean_jobs", "05_upload", "06_search_and_clean"),
}
"""The notebooks of each flow, by the parameter `mode`."""

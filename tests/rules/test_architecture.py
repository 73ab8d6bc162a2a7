"""The rules of the house: which module may import which, and how a notebook is built."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, Union, get_args, get_origin

import nbformat
import papermill
import pytest
import reference
from fresh_python import modules_loaded_by

import dedup_lib.report.plots
import dedup_lib.steps
from dedup_lib.settings import SETTINGS, parameter_types

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "dedup_lib"

# --- modules

# The rooms of the house, along the way of the data. A module imports from its own room and from those before it.
ROOMS = ("", *(room for _, rooms in reference.ROOMS for room in rooms))
MAX_MODULE_LINES = 450

# Each of these packages is known to the modules named here and to no other.
OWNERS: dict[str, set[str]] = {
    "av": {"media", "demo", "evaluate.variants"},
    "click": {"cli"},
    "cv2": {"media.frames", "features.fingerprint", "match", "evaluate", "demo"},
    "defusedxml": {"media.dash"},
    "dotenv": {"store"},
    "faiss": set(),
    "grpc": {"store"},
    "huggingface_hub": {"features.clip"},
    "idna": {"lists.urls"},
    "anywidget": {"ui.queue"},
    "ipywidgets": {"ui.explorer"},
    "jinja2": {"report.pages"},
    "jupyter_client": {"flow.kernel"},
    "matplotlib": {"report"},
    "milvus_lite": {"store"},
    "multiprocessing": {"extract.worker_pool", "run.memory"},
    "nbconvert": {"report.notebook_pages"},
    "onnxruntime": {"features.sscd"},
    "papermill": {"flow"},
    "pdqhash": {"media.frames", "features.pdq"},
    "psutil": {"run.resources", "extract.worker_pool"},
    "pymilvus": {"store"},
    "ray": {"extract"},
    "rich": {"ui", "demo", "cli"},
    "scipy": {"match.pair_comparer"},
    "skimage": {"demo"},
    "sqlite3": {"run.ledger"},
    "torch": {"features.clip", "features.sscd", "match.vector_join"},
    "tornado": {"ui.app"},
    "transformers": {"features.clip"},
    "urllib3": {"media.connections"},
    "voila": {"ui.app"},
    "yt_dlp": {"media.page_resolver"},
    "yaml": {"flow.profiles", "steps.calibrate", "steps.chosen"},
}

# Importing one of these loads no heavy package, and importing the package itself loads nothing but Python's own.
PURE = (
    "sanitise",
    "records",
    "errors",
    "settings",
    "run.lock",
    "run.folder",
    "features.vectors",
    "lists.markup",
    "lists.urls",
    "lists.cells",
    "lists.dialects",
    "run.ledger",
    "extract.job_folders",
    "lists.tables",
    "match.vector_join",
    "groups.grouping",
    "groups.decisions",
    "groups.keepers",
    "groups.clean",
    "run.failures",
    "report.comparison",
    "evaluate.metrics",
)
HEAVY = (
    "torch",
    "transformers",
    "cv2",
    "av",
    "pymilvus",
    "milvus_lite",
    "grpc",
    "matplotlib",
    "papermill",
    "nbconvert",
    "ray",
)

UNTELLING_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "misc", "core", "base", "tools"}


def module_name(path: Path) -> str:
    """As it is imported from the package: `media.frames`; empty for the package itself."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").removesuffix(".")


def room_of(module: str) -> int:
    """Its place in ROOMS."""
    room = module.partition(".")[0]
    assert room in ROOMS, f"give {room} its place in ROOMS"
    return ROOMS.index(room)


def imported_names(path: Path) -> Iterator[str]:
    """Full names of everything that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path.name}:{node.lineno}: write the import in full"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


SOURCES = sorted(PACKAGE.rglob("*.py"))


def source_id(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def test_every_room_is_there() -> None:
    assert {room_of(module_name(path)) for path in SOURCES} == set(range(len(ROOMS)))


@pytest.mark.parametrize("path", SOURCES, ids=source_id)
def test_rooms_stand_along_the_way_of_the_data(path: Path) -> None:
    own = room_of(module_name(path)) if path.parent != PACKAGE or path.stem != "__init__" else len(ROOMS)
    for name in imported_names(path):
        package, _, target = name.partition(".")
        if package == "dedup_lib" and not target.startswith("__"):
            assert room_of(target) <= own, f"{source_id(path)} must not import dedup_lib.{target}"


def test_no_two_modules_import_each_other() -> None:
    # A package names what lies in it, and loads it when it is asked for.
    modules = {module_name(path): path for path in SOURCES if path.stem != "__init__"}
    imports = {
        module: {
            target
            for name in imported_names(path)
            for target in (name.removeprefix("dedup_lib."), name.removeprefix("dedup_lib.").rpartition(".")[0])
            if name.startswith("dedup_lib.") and target in modules and target != module
        }
        for module, path in modules.items()
    }
    # Raises CycleError, which names them.
    TopologicalSorter(imports).prepare()


@pytest.mark.parametrize("path", SOURCES, ids=source_id)
def test_private_names_stay_in_their_module(path: Path) -> None:
    imported = {name.rpartition(".")[2] for name in imported_names(path) if name.startswith("dedup_lib.")}
    assert {name for name in imported if name.startswith("_") and not name.startswith("__")} == set()


@pytest.mark.parametrize("path", SOURCES, ids=source_id)
def test_modules_are_read_at_one_sitting(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_MODULE_LINES


@pytest.mark.parametrize("path", SOURCES, ids=source_id)
def test_heavy_packages_have_one_owner(path: Path) -> None:
    for name in imported_names(path):
        package = name.partition(".")[0]
        owners = OWNERS.get(package)
        module = module_name(path)
        assert owners is None or {module, module.partition(".")[0]} & owners, (
            f"{source_id(path)}: {package} belongs to {owners}"
        )


@pytest.mark.parametrize("path", SOURCES, ids=source_id)
def test_names_say_what_is_inside(path: Path) -> None:
    parts = {part.removesuffix(".py") for part in path.relative_to(PACKAGE).parts}
    assert not parts & UNTELLING_NAMES


def test_importing_the_package_loads_nothing_else() -> None:
    brought = modules_loaded_by("import dedup_lib") - modules_loaded_by("pass")
    assert brought - set(sys.stdlib_module_names) == {"dedup_lib"}


@pytest.mark.parametrize("package", [dedup_lib, dedup_lib.steps, dedup_lib.report.plots], ids=lambda one: one.__name__)
def test_what_a_package_names_is_there(package: ModuleType) -> None:
    """For the person who imports it, and for the type checker, which reads another list."""
    named = {name for name in package.__all__ if getattr(package, name) is not None}
    checked = next(
        node
        for node in ast.parse(Path(str(package.__file__)).read_text(encoding="utf-8")).body
        if isinstance(node, ast.If)
    )
    typed = {alias.asname for node in checked.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert named == typed
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        package.nothing  # noqa: B018 - it is asked for on purpose


@pytest.mark.parametrize("module", PURE)
def test_pure_modules_load_nothing_heavy(module: str) -> None:
    loaded = modules_loaded_by(f"import dedup_lib.{module}")
    assert loaded & set(HEAVY) == set()


def test_what_the_command_line_keeps_during_a_run_decodes_nothing() -> None:
    assert not modules_loaded_by("import dedup_lib.flow.preflight") & {"av", "matplotlib", "onnxruntime"}


# --- notebooks

START = ROOT / "notebooks" / "00_start.ipynb"
NOTEBOOKS = sorted(set((ROOT / "notebooks").glob("*.ipynb")) - {START})
STAGES = sorted(SETTINGS)
MAX_LINES = 12
MAX_CELLS = 30

# Named alike in several notebooks, but each notebook reads and writes files of its own.
OWN_FILES = {"input_csv", "output_csv", "report_csv"}


class Notebook:
    """One notebook as the tests look at it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stage = path.stem
        self.node = nbformat.read(path, as_version=nbformat.NO_CONVERT)
        self.cells: list[Any] = self.node.cells

    def __repr__(self) -> str:
        return self.path.name

    @property
    def code(self) -> list[Any]:
        return [cell for cell in self.cells if cell.cell_type == "code"]

    def tags(self, cell: Any) -> list[str]:
        return list(cell.metadata.get("tags", []))

    def tagged(self, tag: str) -> Any:
        """The one cell with this tag."""
        found = [cell for cell in self.cells if tag in self.tags(cell)]
        assert len(found) == 1, f"{self}: {len(found)} cells are tagged {tag}"
        assert found[0].cell_type == "code", f"{self}: the cell tagged {tag} is no code"
        return found[0]

    def tree(self, cell: Any) -> ast.Module:
        """The cell as Python; a shell line or a magic is none."""
        try:
            parsed: ast.Module = ast.parse(cell.source)
            return parsed
        except SyntaxError as error:
            raise AssertionError(f"{self}: no plain Python: {error.text}") from error

    def parameters(self) -> dict[str, tuple[str, Any, str]]:
        """Annotation, default and help of every parameter."""
        found = {}
        helps = papermill_parameters(self.path)
        for statement in self.tree(self.tagged("parameters")).body:
            assert isinstance(statement, ast.AnnAssign), f"{self}: {ast.unparse(statement)}"
            assert isinstance(statement.target, ast.Name)
            assert statement.value is not None, f"{self}: {statement.target.id} needs a default"
            annotation = ast.unparse(statement.annotation)
            name = statement.target.id
            found[name] = (annotation, ast.literal_eval(statement.value), helps[name]["help"])
        return found


def papermill_parameters(path: Path) -> dict[str, Any]:
    """What papermill shows for `--help-notebook`."""
    return dict(papermill.inspect_notebook(str(path)))


def annotation_of(hint: Any) -> str:
    """How a setting's type is written in a parameter cell, where papermill's parser has to read it."""
    origin = get_origin(hint)
    if hasattr(hint, "__metadata__"):
        return annotation_of(get_args(hint)[0])
    if origin is Literal:
        return type(get_args(hint)[0]).__name__
    if origin is list:
        return f"list[{annotation_of(get_args(hint)[0])}]"
    if origin is Union or type(None) in get_args(hint):
        (inner,) = (part for part in get_args(hint) if part is not type(None))
        return annotation_of(inner)
    return str(hint.__name__)


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request: pytest.FixtureRequest) -> Notebook:
    return Notebook(request.param)


def test_every_stage_has_its_notebook() -> None:
    assert [path.stem for path in NOTEBOOKS] == STAGES
    assert [stage[:2] for stage in STAGES] == [f"{number:02}" for number in range(1, 9)]


def test_notebook_is_valid_and_without_results(notebook: Notebook) -> None:
    nbformat.validate(notebook.node)
    assert (notebook.node.nbformat, notebook.node.nbformat_minor) >= (4, 5)
    ids = [cell.get("id") for cell in notebook.cells]
    assert all(ids)
    assert len(set(ids)) == len(ids)
    assert notebook.node.metadata.kernelspec.name == "python3"
    assert "widgets" not in notebook.node.metadata
    for cell in notebook.code:
        assert cell.outputs == []
        assert cell.execution_count is None


def test_first_cell_introduces_the_notebook(notebook: Notebook) -> None:
    first = notebook.cells[0]
    assert first.cell_type == "markdown"
    assert re.match(r"# \S", first.source), "a title"
    assert "?" in first.source, "a question"
    assert re.search(r"^\|\s*reads\s*\|\s*writes\s*\|", first.source, re.MULTILINE), "a table: reads | writes"
    commands = re.findall(r"```.*?```|`[^`]+`", first.source, re.DOTALL)
    assert any(notebook.path.name in command and re.search("papermill|dedup_lib", command) for command in commands), (
        "the command that runs it headless"
    )


def test_cells_stand_in_order(notebook: Notebook) -> None:
    assert len(notebook.cells) <= MAX_CELLS
    assert notebook.cells[1] is notebook.tagged("parameters")
    assert notebook.cells[2] is notebook.tagged("setup")
    summary = [at for at, cell in enumerate(notebook.cells) if cell.source.startswith("## What came out")]
    assert len(summary) == 1, "one section `## What came out`"
    checks, record = (notebook.cells.index(notebook.tagged(tag)) for tag in ("checks", "record"))
    assert summary[0] < checks < record == len(notebook.cells) - 2
    assert any(cell.cell_type == "code" for cell in notebook.cells[summary[0] : checks]), "a sentence made of numbers"
    assert notebook.cells[-1].cell_type == "markdown"


def test_prose_leads_to_every_code_cell(notebook: Notebook) -> None:
    for before, cell in zip(notebook.cells, notebook.cells[1:], strict=False):
        if cell.cell_type == "code" and not {"setup", "checks", "record"} & set(notebook.tags(cell)):
            assert before.cell_type == "markdown", cell.source


def links_of(*cells: Any) -> list[str]:
    """Where the prose of these cells leads to, each of which must be there."""
    links = re.findall(r"\]\(([^)#]+)", "".join(cell.source for cell in cells if cell.cell_type == "markdown"))
    for link in links:
        assert "://" in link or (START.parent / link).exists(), f"a dead link: {link}"
    return links


def test_last_cell_leads_on_and_back(notebook: Notebook) -> None:
    assert links_of(*notebook.cells)
    following = [path.name for path in NOTEBOOKS if path.stem > notebook.stage]
    before = [START.name, *(path.name for path in NOTEBOOKS if path.stem < notebook.stage)]
    linked = set(links_of(notebook.cells[-1]))
    assert not following or linked & set(following), "a link to the next notebook"
    assert linked & set(before), "a link to the notebook before, or to the start page"


def test_start_page_leads_to_every_notebook() -> None:
    start = Notebook(START)
    nbformat.validate(start.node)
    assert start.code == [], "nothing on it is run"
    links_of(*start.cells)
    (table,) = (cell.source for cell in start.cells if "| question |" in cell.source)
    rows = re.findall(r"^\| \[(\w+)\]\((\w+\.ipynb)\) \| (.+) \|$", table, re.MULTILINE)
    assert [(name, link) for name, link, _ in rows] == [(path.stem, path.name) for path in NOTEBOOKS]
    for path, (_, _, question) in zip(NOTEBOOKS, rows, strict=True):
        assert f"**{question}**" in Notebook(path).cells[0].source


def test_make_lab_opens_the_start_page() -> None:
    assert f"/lab/tree/notebooks/{START.name}" in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_code_cells_only_call_the_library(notebook: Notebook) -> None:
    banned = (
        ast.FunctionDef,
        ast.AsyncFunctionDef,
        ast.ClassDef,
        ast.Lambda,
        ast.Try,
        ast.TryStar,
        ast.While,
    )
    for cell in notebook.code:
        tags = notebook.tags(cell)
        lines = [line for line in cell.source.splitlines() if line.strip()]
        assert len(lines) <= MAX_LINES or {"parameters", "setup"} & set(tags), cell.source
        for node in ast.walk(notebook.tree(cell)):
            assert not isinstance(node, banned), f"{type(node).__name__} belongs in dedup_lib: {cell.source}"
            if isinstance(node, ast.Import | ast.ImportFrom):
                assert "setup" in tags, f"import in the setup cell: {cell.source}"
            if isinstance(node, ast.Name):
                assert node.id not in ("print", "get_ipython", "display_html"), f"{node.id}: {cell.source}"
            if isinstance(node, ast.Assert):
                assert "checks" in tags, f"assert in the checks cell: {cell.source}"


def test_setup_checks_the_parameters(notebook: Notebook) -> None:
    source = notebook.tagged("setup").source
    assert f"{SETTINGS[notebook.stage].__name__}.of(globals())" in source
    assert "RunFolder(" in source


def test_checks_say_what_is_wrong(notebook: Notebook) -> None:
    statements = notebook.tree(notebook.tagged("checks")).body
    asserts = [statement for statement in statements if isinstance(statement, ast.Assert)]
    assert asserts
    for statement in asserts:
        assert statement.msg is not None, ast.unparse(statement)


def test_record_is_written(notebook: Notebook) -> None:
    assert "write_record(" in notebook.tagged("record").source


def test_parameters_are_readable_lines(notebook: Notebook) -> None:
    """What papermill's line-wise parser needs, and what a person needs."""
    for line in notebook.tagged("parameters").source.splitlines():
        if line in ("# What people change", "# The rest"):
            continue
        assert re.fullmatch(r"[a-z]\w*: [^=#]+ = [^=#]+  # [^=#]*\w[^=#]*", line), line


def test_parameters_are_the_settings(notebook: Notebook) -> None:
    cls = SETTINGS[notebook.stage]
    parameters = notebook.parameters()
    assert {name: annotation for name, (annotation, _, _) in parameters.items()} == {
        name: annotation_of(hint) for name, hint in parameter_types(cls).items()
    }
    assert {name: default for name, (_, default, _) in parameters.items()} == cls().as_record()


def test_papermill_sees_every_parameter(notebook: Notebook) -> None:
    seen = papermill_parameters(notebook.path)
    assert {
        name: (entry["inferred_type_name"], ast.literal_eval(entry["default"])) for name, entry in seen.items()
    } == {name: (annotation, default) for name, (annotation, default, _) in notebook.parameters().items()}


def test_no_secret_is_a_parameter(notebook: Notebook) -> None:
    """papermill writes parameters into the executed notebook, and so into the report."""
    for name in notebook.parameters():
        assert not re.search(r"token|secret|password|api_?key", name)


def test_shared_parameters_are_alike() -> None:
    first: dict[str, tuple[Notebook, tuple[str, Any, str]]] = {}
    for notebook in map(Notebook, NOTEBOOKS):
        for name, described in notebook.parameters().items():
            other, known = first.setdefault(name, (notebook, described))
            assert name in OWN_FILES or described == known, f"{name} differs between {other} and {notebook}"
    assert first, "no notebooks were found"

"""Pages of executed notebooks, without their code.

Importing nbconvert takes seconds, so what shows other pages does not import this module.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path

import nbformat
from nbconvert import HTMLExporter
from nbconvert.filters import strip_ansi
from nbformat import NotebookNode
from nbformat.v4 import new_output

from dedup_lib.errors import RunFolderError
from dedup_lib.report.pages import render_template, save_page
from dedup_lib.run.folder import Record, RunFolder
from dedup_lib.sanitise import sanitise

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
SHOWN_MIMES = {"text/html", "text/markdown", "text/plain", "image/svg+xml", "image/png", "image/jpeg"}
"""The output types that a page can show without a script."""

INTERACTIVE_NOTE = '<p class="note">This part is interactive: it opens in JupyterLab.</p>'
NOTEBOOK_LINK = re.compile(r'(<a\b[^>]*?)\bhref="(?:\./)?([^":/?#]+)\.ipynb(#[^"]*)?"')
HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*\s*$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A parameter of a notebook, for its page."""

    name: str
    value: str
    help: str
    is_injected: bool


def read_parameters(source: str, *, is_injected: bool) -> dict[str, Parameter]:
    """The assignments in a parameters cell by name, with the help text after `#`; empty when it is not valid Python."""
    try:
        body = ast.parse(source).body
    except SyntaxError:
        return {}
    lines = source.splitlines()
    parameters = {}
    for node in body:
        if isinstance(node, ast.Assign):
            target = node.targets[0]
        elif isinstance(node, ast.AnnAssign):
            target = node.target
        else:
            continue
        if isinstance(target, ast.Name) and node.value is not None and node.end_lineno is not None:
            rest = lines[node.end_lineno - 1].encode()[node.end_col_offset :].decode()
            parameters[target.id] = Parameter(
                name=target.id,
                value=ast.unparse(node.value),
                help=rest.partition("#")[2].strip(),
                is_injected=is_injected,
            )
    return parameters


def merge_parameters(cells: Sequence[NotebookNode]) -> list[Parameter]:
    """The parameters of a notebook in their order; injected values override the defaults."""
    merged: dict[str, Parameter] = {}
    for cell in cells:
        tags = cell.metadata.get("tags", [])
        if "parameters" in tags:
            merged |= read_parameters(cell.source, is_injected=False)
        elif "injected-parameters" in tags:
            for name, given in read_parameters(cell.source, is_injected=True).items():
                default = merged.get(name)
                merged[name] = Parameter(
                    name=name, value=given.value, help=default.help if default else "", is_injected=True
                )
    return list(merged.values())


def html_output(html: str) -> NotebookNode:
    """A notebook output that shows HTML."""
    output: NotebookNode = new_output("display_data", data={"text/html": html})  # type: ignore[no-untyped-call]  # no types
    return output


def without_colours(text: str) -> str:
    """Text that is safe for a page, without terminal colour codes."""
    plain: str = strip_ansi(text)  # type: ignore[no-untyped-call]  # nbconvert has no types
    return sanitise(plain)


def without_bars(text: str) -> str:
    """The text without the lines of progress bars, which begin with a carriage return."""
    return "\n".join(line for line in text.split("\n") if "\r" not in line)


def static_outputs(outputs: Sequence[NotebookNode]) -> list[NotebookNode]:
    """The outputs that a page without scripts can show: no progress bars, and a note in place of widgets.

    Terminal colours are removed: they are made for a dark terminal and are unreadable on paper.
    """
    kept: list[NotebookNode] = []
    has_widget = False
    for output in outputs:
        if output.output_type == "stream" and output.name == "stderr":
            continue
        if WIDGET_VIEW in output.get("data", {}):
            has_widget = True
            continue
        if "data" in output:
            output.data = {mime: data for mime, data in output.data.items() if mime in SHOWN_MIMES}
            if "text/plain" in output.data:
                output.data["text/plain"] = without_colours(output.data["text/plain"])
            if not output.data:
                continue
        elif output.output_type == "error":
            output.traceback = [without_colours(line) for line in output.traceback]
        else:
            output.text = without_colours(without_bars(output.text))
            if not output.text.strip():
                continue
        kept.append(output)
    if has_widget:
        kept.append(html_output(INTERACTIVE_NOTE))
    return kept


def prepare_notebook(notebook: NotebookNode) -> None:
    """Changes an executed notebook in place, so that a static page can show its outputs."""
    notebook.metadata.pop("widgets", None)
    parameters = merge_parameters(notebook.cells)
    heading = ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            headings: list[str] = HEADING.findall(cell.source)
            heading = headings[-1] if headings else heading
        elif cell.cell_type == "code":
            cell.outputs = static_outputs(cell.outputs)
            if heading:
                cell.metadata.setdefault("alt", f"Picture under “{heading}”")
            if parameters and {"parameters", "injected-parameters"} & set(cell.metadata.get("tags", [])):
                cell.outputs.insert(0, html_output(render_template("parameters.html", parameters=parameters)))
                parameters = []


def _link_page(link: re.Match[str]) -> str:
    """Marks a link to a notebook with the name of its page; `link_pages` makes the link. The page of the start notebook
    is the overview."""
    return f'{link[1]}data-page="{"index" if link[2] == "00_start" else link[2]}.html{link[3] or ""}"'


@cache
def _exporter() -> HTMLExporter:
    """The one that renders every notebook: its templates take longer to compile than a page to write."""
    return HTMLExporter(  # type: ignore[no-untyped-call]  # nbconvert has no types
        template_name="basic",
        exclude_input=True,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        exclude_anchor_links=True,
    )


def render_notebook(executed_path: Path, html_path: Path, *, title: str) -> None:
    """Renders an executed notebook as a page of prose, tables and images.

    Leaves out code, prompts, progress bars and widget state. The parameters become a table, a widget becomes a note.
    Links to other notebooks name their pages; `link_pages` makes them work. The traceback of a failed cell stays.

    Raises RunFolderError for a file that holds no whole notebook.
    """
    notebook = _read_executed(executed_path)
    prepare_notebook(notebook)
    cells, _ = _exporter().from_notebook_node(notebook)
    save_page(html_path, "notebook.html", title=title, cells=NOTEBOOK_LINK.sub(_link_page, cells))


def _read_executed(path: Path) -> NotebookNode:
    try:
        notebook: NotebookNode = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]  # nbformat has no types
    except (ValueError, nbformat.ValidationError):
        # A killed run may have left half a file.
        raise RunFolderError(
            f"{path} holds no whole notebook, perhaps because its run was killed: run {path.stem} again, or remove the "
            "file, and the report is made without its page"
        ) from None
    return notebook


def is_superseded(executed_path: Path, record: Record | None) -> bool:
    """Whether the notebook was run again elsewhere after this executed copy."""
    if record is None or "finished" not in record:
        return False
    try:
        notebook = _read_executed(executed_path)
    except RunFolderError:
        return False
    ended = notebook.metadata.get("papermill", {}).get("end_time")
    if not ended:
        return False
    return datetime.fromisoformat(record["finished"]) > datetime.fromisoformat(ended)


def render_pages(run: RunFolder, *, is_all: bool, progress: Callable[[int], object] = lambda count: None) -> None:
    """Renders the executed notebooks of a run. The page of a notebook that was run again elsewhere shows its stage
    record instead; without `is_all`, only such pages are written. Calls `progress` for each notebook."""
    for path in find_executed(run):
        record = run.read_record(path.stem)
        html_path = run.reports_dir / f"{path.stem}.html"
        if record is not None and is_superseded(path, record):
            save_page(
                html_path,
                "superseded.html",
                title=path.stem,
                counts=[(name.replace("_", " "), count) for name, count in record.get("counts", {}).items()],
                settings=list(record.get("settings", {}).items()),
                command=f"python -m dedup_lib run PROFILE --run {shlex.quote(run.path.name)} --only {path.stem[:2]}",
            )
        elif is_all:
            render_notebook(path, html_path, title=path.stem)
        progress(1)


def find_executed(run: RunFolder) -> list[Path]:
    """The executed notebooks of a run, in order."""
    return sorted(run.notebooks_dir.glob("*.ipynb"))

"""HTML pages: executed notebooks without their code, and the frame of every page.

A page is one file. It opens offline and makes no request to anywhere; a content security policy in its head forbids
every load but embedded pictures, and every script but one that a page names by its hash. All text from outside is
escaped, URLs are shown without their credentials, and no control character reaches a page.
"""

from __future__ import annotations

import ast
import base64
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path

import jinja2
import nbformat
from nbconvert import HTMLExporter
from nbconvert.filters import strip_ansi
from nbformat import NotebookNode
from nbformat.v4 import new_output

from dedup_lib.report.comparison import Comparison
from dedup_lib.report.style import COLOURS, DARK_COLOURS, PAGE_COLOURS
from dedup_lib.report.words import short_url
from dedup_lib.run.files import write_text_atomically
from dedup_lib.run.folder import Record, RunFolder, thumbnail_path
from dedup_lib.sanitise import printable, sanitise, sanitise_line

MAX_COMPARED = 50
"""Pairs and videos of each kind that the page of a comparison shows."""

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
SHOWN_MIMES = {"text/html", "text/markdown", "text/plain", "image/svg+xml", "image/png", "image/jpeg"}
"""What a page can show without a script."""

INTERACTIVE_NOTE = '<p class="note">This part is interactive: it opens in JupyterLab.</p>'
NOTEBOOK_LINK = re.compile(r'(<a\b[^>]*?)\bhref="(?:\./)?([^":/?#]+)\.ipynb(#[^"]*)?"')
PAGE_LINK = re.compile(r'data-page="([^"#]+)(#[^"]*)?"(?: href="[^"]*")?')
NOTICE_PLACE = "<!--notice-->"
"""Where a page has room for what is to be said of it later."""
HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*\s*$", re.MULTILINE)


def is_web_url(url: str) -> bool:
    """Whether a URL may become a link: only the web's own schemes, so that no link runs a script."""
    return url.lower().startswith(("http://", "https://"))


def show_value(value: object) -> str:
    """A setting or a count as people read it."""
    if value is None or value == "" or value == []:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.7g}"
    if isinstance(value, list):
        return ", ".join(show_value(item) for item in value)
    return sanitise(str(value))


@cache
def page_templates() -> jinja2.Environment:
    """The templates of all pages; they escape whatever is not marked as safe."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("dedup_lib.report", "templates"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.tests["web_url"] = is_web_url
    environment.filters["short"] = lambda url: short_url(url, most=90)
    environment.filters["shown"] = show_value
    environment.filters["bare"] = sanitise_line
    return environment


def render_template(template: str, /, **values: object) -> str:
    """One template of the package filled in, without characters that a reader would obey unseen."""
    return printable(page_templates().get_template(template).render(values))


def save_page(path: Path, template: str, /, **values: object) -> None:
    """Write a page whole or not at all."""
    light, dark = ({name: both[side] for name, both in PAGE_COLOURS.items()} for side in (0, 1))
    palettes = {"light": COLOURS | light, "dark": COLOURS | DARK_COLOURS | dark}
    write_text_atomically(path, render_template(template, palettes=palettes, **values))


def load_picture(url: str, *, thumbnails_dir: Path) -> str:
    """The strip of a video as a `data:` URI, or nothing where there is none."""
    try:
        picture = thumbnail_path(url, thumbnails_dir=thumbnails_dir).read_bytes()
    except OSError:
        return ""
    return "data:image/jpeg;base64," + base64.b64encode(picture).decode("ascii")


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One parameter of a notebook as its page shows it."""

    name: str
    value: str
    help: str
    is_injected: bool


def read_parameters(source: str, *, is_injected: bool) -> dict[str, Parameter]:
    """The assignments of a parameters cell, by name, with the help text after `#`; empty for other code."""
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
    """The parameters of a notebook in their order; what was injected overrides the default."""
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
    """Text as a page may show it, without the codes that colour it in a terminal."""
    plain: str = strip_ansi(text)  # type: ignore[no-untyped-call]  # nbconvert has no types
    return sanitise(plain)


def static_outputs(outputs: Sequence[NotebookNode]) -> list[NotebookNode]:
    """The outputs that a page without scripts can show: no progress bars, a note in place of widgets.

    Terminal colours are taken away, for they are chosen for a dark terminal and unreadable on paper.
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
            output.text = without_colours(output.text)
        kept.append(output)
    if has_widget:
        kept.append(html_output(INTERACTIVE_NOTE))
    return kept


def prepare_notebook(notebook: NotebookNode) -> None:
    """Turn an executed notebook, in place, into one whose outputs can stand on a static page."""
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
    """The link to a notebook as one to its page, which `link_pages` makes; that of the start page is the overview."""
    return f'{link[1]}data-page="{"index" if link[2] == "00_start" else link[2]}.html{link[3] or ""}"'


def link_pages(reports_dir: Path) -> None:
    """Make the pages of notebooks lead to those that are there: what a flow does not make, or did not yet, is named
    without a link. The overview must be there."""
    pages = {path.name: path for path in reports_dir.glob("*.html")}

    def link(named: re.Match[str]) -> str:
        place = f"{named[1]}{named[2] or ''}"
        return f'data-page="{place}"' + (f' href="{place}"' if named[1] in pages else "")

    for path in pages.values():
        html = path.read_text(encoding="utf-8")
        linked = PAGE_LINK.sub(link, html)
        if linked != html:
            write_text_atomically(path, linked)


def render_notebook(executed_path: Path, html_path: Path, *, title: str) -> None:
    """Render an executed notebook as a page of prose, tables and pictures.

    Code, prompts, progress bars and widget state are left out; the parameters become a table, widgets a note. Links to
    other notebooks name their pages, and lead there from `link_pages` on. The traceback of a failed cell stays.
    """
    notebook = nbformat.read(executed_path, as_version=4)  # type: ignore[no-untyped-call]  # nbformat has no types
    prepare_notebook(notebook)
    exporter = HTMLExporter(  # type: ignore[no-untyped-call]  # nbconvert has no types
        template_name="basic",
        exclude_input=True,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        exclude_anchor_links=True,
    )
    cells, _ = exporter.from_notebook_node(notebook)
    save_page(html_path, "notebook.html", title=title, cells=NOTEBOOK_LINK.sub(_link_page, cells))


def is_superseded(executed_path: Path, record: Record | None) -> bool:
    """Whether the notebook was run again, elsewhere, after this copy of it was."""
    if record is None or "finished" not in record:
        return False
    try:
        notebook = nbformat.read(executed_path, as_version=4)  # type: ignore[no-untyped-call]  # nbformat has no types
    except ValueError:
        # A run that was killed may have left half of it.
        return False
    ended = notebook.metadata.get("papermill", {}).get("end_time")
    if not ended:
        return False
    return datetime.fromisoformat(record["finished"]) > datetime.fromisoformat(ended)


def render_pages(run: RunFolder, *, is_all: bool, progress: Callable[[int], object] = lambda count: None) -> None:
    """Render the executed notebooks of a run, or only those that were run again elsewhere: of these, what they left in
    the run folder. `progress` is told of each notebook."""
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


def mark_outdated(run: RunFolder, *names: str, words: str) -> None:
    """Have these pages of a run, where they are there, say at their top that they are older than the outputs, and why.
    Making them again takes that away."""
    command = f"python -m dedup_lib report {shlex.quote(run.path.name)}"
    notice = render_template("notice.html", words=words, command=command)
    for path in (path for name in names for path in run.reports_dir.glob(name)):
        html = path.read_text(encoding="utf-8")
        write_text_atomically(path, html.replace(NOTICE_PLACE, notice, 1))


def write_comparison(comparison: Comparison, *, before: RunFolder, after: RunFolder) -> Path:
    """Save what changed from one run to another as a page among those of the second, with frames of the pairs that
    only one of them joined; returns its path."""

    def show_pairs(pairs: Sequence[tuple[str, str]]) -> list[list[dict[str, str]]]:
        return [
            [
                {
                    "url": url,
                    "picture": load_picture(url, thumbnails_dir=after.thumbnails_dir)
                    or load_picture(url, thumbnails_dir=before.thumbnails_dir),
                }
                for url in pair
            ]
            for pair in pairs[:MAX_COMPARED]
        ]

    path = after.reports_dir / f"compared_with_{before.path.name}.html"
    save_page(
        path,
        "compare.html",
        comparison=comparison,
        fates=comparison.fates[:MAX_COMPARED],
        keepers=show_pairs(comparison.keepers),
        parted=show_pairs(comparison.joined_before.pairs),
        joined=show_pairs(comparison.joined_after.pairs),
    )
    return path

"""Pages of a run: each executed notebook as HTML without its code, and an overview of all of them.

A page is one file. It opens offline and makes no request to anywhere; a content security policy in its head
forbids scripts and every load but embedded pictures. All text from outside is escaped, URLs are shown without
their credentials, and no control character reaches a page.
"""

from __future__ import annotations

import ast
import base64
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
import nbformat
import pandas as pd
from nbconvert import HTMLExporter
from nbconvert.filters import strip_ansi
from nbformat import NotebookNode
from nbformat.v4 import new_output

from dedup_lib.display import printable, show_line, show_text
from dedup_lib.evidence import Rule, Verdict
from dedup_lib.plots import COLOURS, FlowStep, flow_steps, short_url, status_meaning, thumbnail_path
from dedup_lib.records import Status
from dedup_lib.run_folder import Record, RunFolder, write_text_atomically
from dedup_lib.tables import bare_cell

EVIDENCE_STAGE = "06_search_and_clean"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
SHOWN_MIMES = {"text/html", "text/markdown", "text/plain", "image/svg+xml", "image/png", "image/jpeg"}
"""What a page can show without a script."""

INTERACTIVE_NOTE = '<p class="note">This part is interactive: it opens in JupyterLab.</p>'
NOTEBOOK_LINK = re.compile(r'(<a\b[^>]*?\bhref="(?:\./)?)([^":/?#]+)\.ipynb(?=["#])')
HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*\s*$", re.MULTILINE)

STATUS_WORDS = {
    Status.OK: "read, with usable frames",
    Status.FEATURELESS: "read, but its frames are flat: it cannot be compared and stays on the list",
    Status.IMAGE: "a picture, not a video",
    Status.HTML: "a web page, not a video",
    Status.NOT_VIDEO: "some other kind of file",
    Status.NO_VIDEO_STREAM: "a media file without moving pictures",
    Status.INVALID_URL: "not an address that can be fetched",
    Status.UNREACHABLE: "no server answered",
    Status.HTTP_ERROR: "the server refused or had an error",
    Status.TIMEOUT: "took longer than allowed",
    Status.TOO_LARGE: "needed more bytes than allowed",
    Status.DECODE_ERROR: "damaged, or in a format that cannot be decoded",
    Status.DECODE_CRASH: "brought the decoder down",
    Status.BLOCKED_ADDRESS: "leads to a private address, which is not allowed",
    Status.PENDING: "not tried yet",
}

DECISION_WORDS = {
    "threshold": "similarity from which two videos are copies",
    "num_frames": "frames per video",
    "frame_span": "where the frames are taken",
    "schema": "what is compared",
    "largest_group": "videos in the largest group",
    "measure": "what is compared with the threshold",
    "pairs": "pairs of copies",
    "weighed": "pairs whose pictures were compared",
    "review": "pairs that a person should look at",
    "searched_deeper": "videos searched deeper than top_k",
}

FILE_WORDS = {
    "FINAL_RESULT": "the cleaned list: every video once",
    "duplicates": "copies removed, each with the video kept in its place",
    "review": "pairs of videos that a person should look at, with what is known of them",
    "invalid_urls": "rows that are certainly no video, with the reason",
    "failed_urls": "rows that could not be read, with the reason and whether a retry may help",
    "text_duplicates": "rows whose URL stands above them in another spelling, with the rule",
    "featureless_urls": "videos without usable frames: kept, but not compared",
}

LOSS_WORDS = {
    "text_duplicates": ("repeated URL", "repeated URLs"),
    "duplicates": ("copy of a kept video", "copies of kept videos"),
    "invalid": ("row that is no video", "rows that are no video"),
    "failed": ("row that could not be read", "rows that could not be read"),
}


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
    return show_text(str(value))


@cache
def page_templates() -> jinja2.Environment:
    """The templates of all pages; they escape whatever is not marked as safe."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("dedup_lib", "templates"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.tests["web_url"] = is_web_url
    environment.filters["short"] = lambda url: short_url(url, most=90)
    environment.filters["shown"] = show_value
    environment.filters["bare"] = show_line
    return environment


def render_template(template: str, /, **values: object) -> str:
    """One template of the package filled in, without characters that a reader would obey unseen."""
    return printable(page_templates().get_template(template).render(values))


def save_page(path: Path, template: str, /, **values: object) -> None:
    """Write a page whole or not at all."""
    write_text_atomically(path, render_template(template, colours=COLOURS, **values))


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
    return show_text(plain)


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


def render_notebook(executed_path: Path, html_path: Path, *, title: str) -> None:
    """Render an executed notebook as a page of prose, tables and pictures.

    Code, prompts, progress bars and widget state are left out; the parameters become a table, widgets a note,
    links to other notebooks links to their pages. The traceback of a failed cell stays.
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
    save_page(html_path, "notebook.html", title=title, cells=NOTEBOOK_LINK.sub(r"\1\2.html", cells))


def count_words(count: int, words: tuple[str, str]) -> str:
    """A count with its noun in the singular or plural."""
    return f"{count:,} {words[0] if count == 1 else words[1]}"


def join_words(parts: Sequence[str]) -> str:
    """An enumeration: "a, b and c"."""
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1]))) if parts else ""


def describe_rows(rows: Mapping[str, int], *, is_unaccounted: bool) -> tuple[str, str]:
    """What came of a list, as a headline and the sentence below it."""
    headline = (
        f"{count_words(rows['input'], ('row', 'rows'))} in, {count_words(rows['final'], ('video', 'videos'))} kept"
    )
    losses = [count_words(rows[name], words) for name, words in LOSS_WORDS.items() if rows[name]]
    sentence = f"{join_words(losses)} set aside" if losses else "Nothing was set aside"
    account = "some rows are unaccounted for" if is_unaccounted else "every row is accounted for"
    return headline, f"{sentence}; {account}."


def outcome_tiles(rows: Mapping[str, int]) -> list[dict[str, object]]:
    """One tile an outcome: its rows, words and share of the list."""
    words = {
        "final": ("kept", "videos kept"),
        "duplicates": ("duplicate", "copies of kept videos"),
        "text_duplicates": ("repeated", "repeated URLs"),
        "invalid": ("invalid", "not a video"),
        "failed": ("failed", "could not be read"),
    }
    return [
        {
            "meaning": meaning,
            "rows": rows[name],
            "words": label,
            "share": f"{rows[name] / rows['input']:.1%} of the list" if rows["input"] else "",
        }
        for name, (meaning, label) in words.items()
    ]


def load_rows(path: Path) -> pd.DataFrame:
    """A CSV of the run as text, without rows when there is no such file."""
    if not path.exists():
        return pd.DataFrame()
    rows = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig", encoding_errors="replace")
    return rows.map(bare_cell)


def describe_copy(row: Mapping[Any, object]) -> str:
    """What speaks for a copy, in a line: the rule, how many pictures agree, and by how much they are shifted; `row` is
    one of the duplicates CSV."""
    rule, verdict = (str(row.get(name, "")) for name in ("rule", "verdict"))
    if rule in ("", Rule.PERSON):
        return rule
    words = f"{verdict}: {rule}" if verdict == Verdict.EXCERPT else rule
    if row.get("frames_compared"):
        words += f", {row['frames_agreeing']} of {row['frames_compared']}"
    offset_s = float(str(row.get("offset_s") or 0))
    return (
        f"{words}, {abs(offset_s):.1f} s {'later' if offset_s > 0 else 'earlier'}" if abs(offset_s) >= 0.05 else words
    )


def group_tables(
    copies: pd.DataFrame, *, thumbnails_dir: Path, most_groups: int, most_copies: int
) -> list[dict[str, object]]:
    """The largest groups, each with its kept video and nearest copies; `copies` are rows of the duplicates CSV."""
    if copies.empty:
        return []
    ranked = copies.assign(
        similarity=pd.to_numeric(copies["similarity"]),
        group=pd.to_numeric(copies["group"]),
        size=copies.groupby("group")["url"].transform("size") + 1,
    ).sort_values(["size", "group", "similarity", "url"], ascending=[False, True, False, True])
    tables: list[dict[str, object]] = []
    for number, group in ranked.groupby("group", sort=False):
        if len(tables) == most_groups:
            break
        kept_url = group["duplicate_of"].iloc[0]
        shown = group.head(most_copies)
        tables.append(
            {
                "number": number,
                "size": len(group) + 1,
                "kept": {"url": kept_url, "picture": load_picture(kept_url, thumbnails_dir=thumbnails_dir)},
                "copies": [
                    {
                        "url": row["url"],
                        # Videos that only a person brought together were never compared.
                        "similarity": "–" if math.isnan(row["similarity"]) else f"{row['similarity']:.4f}",
                        "why": describe_copy(row),
                        "picture": load_picture(row["url"], thumbnails_dir=thumbnails_dir),
                    }
                    for row in shown.to_dict("records")
                ],
                "hidden": len(group) - len(shown),
            }
        )
    return tables


def reason_table(set_aside: pd.DataFrame) -> list[dict[str, object]]:
    """How often each reason occurs, the most frequent first; rows of the CSVs of invalid and failed URLs."""
    if set_aside.empty:
        return []
    table = set_aside.groupby(["status", "reason"], as_index=False).agg(count=("url", "size"), example=("url", "first"))
    table = table.sort_values(["count", "status", "reason"], ascending=[False, True, True])
    return [
        {
            "status": status,
            "reason": reason,
            "count": int(count),
            "example": example,
            "meaning": status_meaning(Status(status)),
        }
        for status, reason, count, example in table.itertuples(index=False)
    ]


def list_files(run: RunFolder, *, summary: Record, stages: Mapping[str, Record]) -> list[dict[str, str]]:
    """Files that the run wrote and that are still there, the results first, with links from the overview."""
    named = [(FILE_WORDS.get(key, key), path) for key, path in summary.get("files", {}).items()]
    named += [
        (f"written by {stage}", path)
        for stage, record in stages.items()
        for key, path in record.get("files", {}).items()
        if key != "input_csv"
    ]
    files: dict[Path, dict[str, str]] = {}
    for words, path in named:
        whole = (run.path / path).resolve()
        if path and whole.is_file() and whole not in files:
            inside = whole.is_relative_to(run.path.resolve())
            files[whole] = {
                "name": str(whole.relative_to(run.path.resolve())) if inside else run.shown(whole),
                "href": quote(os.path.relpath(whole, run.reports_dir.resolve()), errors="replace"),
                "words": words,
            }
    return list(files.values())


def load_json(path: Path) -> Record:
    """A JSON object of the run folder."""
    record: Record = json.loads(path.read_text(encoding="utf-8"))
    return record


def describe_flow(flow: Sequence[FlowStep]) -> str:
    """The flow chart in words, for those who do not see it."""
    return "Rows of the list: " + ", ".join(f"{step.words} {step.shown}" for step in flow)


def describe_groups(shown: int, *, all_groups: int, copies: int) -> str:
    """How many groups there are and how many of them the page shows."""
    found = (
        f"{count_words(copies, ('copy', 'copies'))} in {count_words(all_groups, ('group', 'groups'))}, largest first."
    )
    if shown == all_groups:
        return found
    return f"{found} Only the {shown:,} largest groups are shown here; the CSV of duplicates lists all {all_groups:,}."


def describe_progress(stages: Mapping[str, Record], *, pages: Sequence[Mapping[str, str]]) -> dict[str, object]:
    """What the overview says of a run that did not reach its end."""
    stopped = [page for page in pages if page["name"] not in stages]
    finished = join_words(list(stages))
    return {
        "headline": "This run has not reached its end",
        "subline": f"Finished: {finished}. There is no result yet." if finished else "No notebook has finished yet.",
        "stopped": stopped,
        "progress": [
            {
                "name": name,
                "counts": [(key.replace("_", " "), count) for key, count in record.get("counts", {}).items()],
            }
            for name, record in stages.items()
        ],
        **dict.fromkeys(("tiles", "flow", "groups", "statuses", "reasons", "decision"), ()),
        "is_unaccounted": False,
    }


def write_index(run_dir: Path, *, most_groups: int = 50, most_copies: int = 8, most_reasons: int = 25) -> Path:
    """Write `reports/index.html`: what came of the list, the evidence, the files, the settings.

    Works for a run that failed early too: the page then says how far it got. At most `most_groups` groups with
    `most_copies` copies each and `most_reasons` reasons are shown, and the page says what it leaves out.
    """
    run = RunFolder(run_dir)
    summary_path = run.path / "summary.json"
    summary: Record = load_json(summary_path) if summary_path.exists() else {}
    stages = {path.stem: load_json(path) for path in sorted((run.path / "stages").glob("*.json"))}
    pages = [
        {"name": path.stem, "href": quote(path.name)}
        for path in sorted(run.reports_dir.glob("*.html"))
        if path.name != "index.html"
    ]
    values: dict[str, object] = {
        "name": run.path.name,
        "list": summary.get("list", ""),
        "has_summary": bool(summary),
        "pages": pages,
        "evidence": next((page for page in pages if page["name"] == EVIDENCE_STAGE), None),
        "files": list_files(run, summary=summary, stages=stages),
        "settings": [
            {"name": name, "settings": list(record.get("settings", {}).items())} for name, record in stages.items()
        ],
    }
    index_path = run.reports_dir / "index.html"
    if not summary:
        values |= describe_progress(stages, pages=pages)
        save_page(index_path, "index.html", **values)
        return index_path

    def load_output(key: str) -> pd.DataFrame:
        return load_rows(run.path / summary.get("files", {}).get(key, f"{key}.csv"))

    rows = summary["rows"]
    flow = flow_steps(rows)
    is_unaccounted = any(step.name == "unaccounted" for step in flow)
    headline, subline = describe_rows(rows, is_unaccounted=is_unaccounted)
    copies = load_output("duplicates")
    groups = group_tables(copies, thumbnails_dir=run.thumbnails_dir, most_groups=most_groups, most_copies=most_copies)
    all_groups = copies["group"].nunique() if groups else 0
    reasons = reason_table(pd.concat([load_output("failed_urls"), load_output("invalid_urls")], ignore_index=True))
    values |= {
        "headline": headline,
        "subline": subline,
        "stopped": [],
        "progress": [],
        "tiles": outcome_tiles(rows),
        "flow": flow,
        "flow_most": max(1, *(step.high for step in flow)),
        "flow_words": describe_flow(flow),
        "is_unaccounted": is_unaccounted,
        "groups": groups,
        "group_words": describe_groups(len(groups), all_groups=all_groups, copies=len(copies)),
        "reasons": reasons[:most_reasons],
        "hidden_reasons": max(0, len(reasons) - most_reasons),
        "statuses": [
            {
                "name": status.value,
                "count": summary["statuses"][status],
                "words": STATUS_WORDS[status],
                "meaning": status_meaning(status),
            }
            for status in Status
            if summary["statuses"].get(status)
        ],
        "decision": [
            (DECISION_WORDS.get(key, key.replace("_", " ")), value) for key, value in summary["decision"].items()
        ],
    }
    save_page(index_path, "index.html", **values)
    return index_path

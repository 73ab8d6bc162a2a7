"""Write docs/reference.md and docs/architecture.md from the code: parameters, files, columns, statuses and commands;
the rooms of the package and what each module is.

    python tools/reference.py          (make reference)

A test checks that both are current.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import click
import nbformat

from dedup_lib.cli.main import commands
from dedup_lib.records import FAILED_STATUSES, INVALID_STATUSES, Status
from dedup_lib.report.notebook_pages import merge_parameters
from dedup_lib.report.words import FILE_WORDS, STATUS_WORDS
from dedup_lib.settings import SETTINGS, describe_type, parameter_types

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "docs" / "reference.md"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
PACKAGE = ROOT / "dedup_lib"

ROOMS = (
    ("Nouns, beneath everything", ("lazy", "sanitise", "records", "errors", "settings")),
    ("A run and its list", ("run", "lists")),
    ("From a URL to vectors", ("media", "features", "store", "extract")),
    ("From vectors to groups", ("match", "groups", "evaluate")),
    ("What people see and call", ("report", "steps", "flow", "ui", "demo", "cli", "__main__")),
)
"""The rooms in the order in which data passes through them. A module imports only from its own room and from earlier
rooms."""

ARCHITECTURE_HEAD = """\
# Architecture

`make reference` writes this file from the code: each line is the first sentence of a module.

A list comes in as a CSV file and leaves as a clean one. Each notebook is one step on the way. The subpackages of
`dedup_lib`, here called rooms, are in the order of these steps. A room imports only from rooms before it; a test checks
this.

```mermaid
flowchart LR
    list[(list.csv)] --> lists
    subgraph "01, 02"
        lists["lists<br>repair URLs, drop repeats"]
    end
    lists --> media
    subgraph "03, 04, 05"
        media["media<br>fetch, decode, sample"] --> features
        features["features<br>vectors, fingerprint"] --> store[("store<br>Milvus")]
    end
    store --> candidates
    subgraph "06"
        candidates["match<br>candidates"] --> align["match<br>align, verify"]
        align --> score["match<br>score, verdict"] --> groups["groups<br>group, keep one"]
    end
    groups --> final[(FINAL_RESULT.csv)]
    groups --> duplicates[(duplicates.csv)]
    groups --> review[(review.csv)]
    review -- a person decides --> decisions[(decisions.csv)] --> groups
    groups --> report["report<br>index.html"]
```

`extract` runs `media` and `features` for many videos at once. `run` keeps the books of a run: its folder, its lock, and
the ledger with what became of every URL. `evaluate` measures decisions on labelled clips. `steps` is what notebooks
call, `flow` runs the notebooks, `cli` and `ui` are for people.

To find your way, follow one pair: `steps.search.search_list` takes candidates from `match.vector_join` and
`match.visual_words`; `groups.matcher.compare_candidates` has each compared by `match.verify`, which fills an
`match.evidence.Evidence`; its `judge` gives the verdict; `groups.grouping.group_copies` makes the groups;
`groups.clean.clean_list` shares out the rows. The [glossary](glossary.md) explains the words.
"""

HEAD = """\
# Reference

`make reference` writes this file from the code: change the code, not this file. [The guide](guide.md) shows how all of
this is used, [evidence.md](evidence.md) explains verdicts, rules and decisions, and [ledger.md](ledger.md) the ledger.
"""

PARAMETERS_HEAD = """\
## Parameters

Each is set by `--set name=value`, by a line `name: value` in a profile, or in the parameters cell of its notebook.
`None` is written `null` in the first two. The numbers name the notebooks that have the parameter; a name that no
notebook has is refused in all three. A relative path is taken from the project folder, that of an output from the run
folder; `input_csv` is looked for in the working directory first.
"""

ENVIRONMENT = """\
## Environment

These are no parameters, so they get into no notebook and no report. The first two may also be in `.env`.

| variable | holds |
|---|---|
| `MILVUS_URI` | address of a Milvus server or of Zilliz Cloud; empty: Milvus Lite, `milvus.db` in the run folder |
| `MILVUS_TOKEN` | what the server asks for: `user:password`, or an API key |
| `RAY_ADDRESS` | for `engine: ray`: address of the head of the cluster, such as `10.0.0.5:6379` |
"""

COLUMN_WORDS = {
    "<list>.duplicates.csv": {
        "url": "the URL of this row",
        "duplicate_of": "the URL that it repeats, as spelled in its row above or in the earlier list",
        "rule": "how the two spellings differ, such as `identical text`, `scheme case`, `fragment`, `trailing slash`",
        "row": "number of this row in your list, from 1",
        "first_row": "number of the row with that URL; empty where an earlier run has read it",
        "read_by": "the earlier run that has read it, of those in `existing_runs`; empty for a repeat within the list",
    },
    "duplicates.csv": {
        "url": "the copy",
        "duplicate_of": "the video that is kept in its place",
        "score": "how surely they are the same video, 0 to 1, or the cosine; empty: only a person calls them the same",
        "group": "number of the kept video among those that have copies, in list order",
        "kept_because": "why the other one was kept, such as `longer` ([all reasons](evidence.md#why-a-video-is-kept))",
    },
    "review.csv": {
        "first_url": "the video that comes first in the list",
        "second_url": "the other one",
    },
    "invalid_urls.csv": {
        "url": "what the row holds",
        "status": "what it turned out to be, see below",
        "reason": "the same in words",
    },
    "failed_urls.csv": {
        "url": "the URL",
        "status": "how the attempt to read it ended, see below",
        "reason": "the same in words, with what the server or the decoder said",
        "retryable": "whether the next run tries it again",
    },
}
"""The columns before those of the list. In duplicates.csv and review.csv, the columns of the evidence follow them."""


def make_reference() -> str:
    """The whole reference page."""
    parts = [
        HEAD,
        PARAMETERS_HEAD,
        make_table(("parameter", "notebooks", "default", "may be", "is"), list_parameters()),
        ENVIRONMENT,
        "## Files\n\nIn the run folder, beside [the ledger](ledger.md), `reports/` and `notebooks/`.\n",
        make_table(("file", "holds"), ((f"`{name}`", words) for name, words in list_files())),
        "## Columns\n\nThe columns of your list follow these.\n",
        *list_columns(),
        "In `duplicates.csv` and `review.csv`, the columns [of the evidence](evidence.md) come next. `pairs.parquet` "
        "has `first_url`, `second_url`, those columns without `next_score`, and the terms of the score, such as "
        "`term_scenes` ([015](decisions/015-score.md)).\n",
        "## Statuses\n\nEvery URL gets exactly one.\n",
        make_table(("status", "means", "goes to"), list_statuses()),
        "## Commands\n\n`python -m dedup_lib COMMAND --help` has options and examples.\n",
        make_table(("command", "does"), list_commands(commands, ())),
    ]
    return "\n".join(parts)


def make_architecture() -> str:
    """The page about the rooms of the package."""
    parts = [ARCHITECTURE_HEAD]
    for title, names in ROOMS:
        parts.append(f"## {title}\n")
        for name in names:
            folder = PACKAGE / name
            if not folder.is_dir():
                parts.append(f"`{name}.py`: {read_summary(folder.with_suffix('.py'))}\n")
                continue
            parts.append(f"### `{name}/`\n\n{read_summary(folder / '__init__.py')}\n")
            modules = [path for path in sorted(folder.rglob("*.py")) if path != folder / "__init__.py"]
            rows = ((f"`{path.relative_to(folder).as_posix()}`", read_summary(path)) for path in modules)
            parts.append(make_table(("module", "is"), rows))
    return "\n".join(parts)


def read_summary(path: Path) -> str:
    """The first paragraph of a module's docstring."""
    words = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(words.partition("\n\n")[0].split())


def make_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines).replace("| --- |", "|---|").replace(" --- |", "---|")


def list_parameters() -> Iterator[list[str]]:
    """Each parameter once, in the order of the notebooks. A parameter that differs between notebooks has one row per
    variant."""
    found: dict[tuple[str, ...], list[str]] = {}
    for stage, settings in SETTINGS.items():
        notebook = nbformat.read(ROOT / "notebooks" / f"{stage}.ipynb", as_version=4)
        hints = parameter_types(settings)
        for parameter in merge_parameters(notebook.cells):
            allowed = describe_type(hints[parameter.name]).replace("'", "`")
            found.setdefault((parameter.name, parameter.value, allowed, parameter.help), []).append(stage[:2])
    for (name, default, allowed, words), notebooks in found.items():
        yield [f"`{name}`", " ".join(notebooks), f"`{default}`", allowed, words.replace("<", "&lt;")]


def list_files() -> Iterator[tuple[str, str]]:
    """The outputs of a run, with the content of each."""
    for name, words in FILE_WORDS.items():
        yield ("<list>.duplicates.csv" if name == "text_duplicates" else f"{name}.csv"), words
    yield "pairs.parquet", "every pair that was compared, whatever was decided"
    yield "summary.json", "counts, settings and files of the run"


def list_columns() -> Iterator[str]:
    """A table for each file that has columns of this project."""
    for file, words in COLUMN_WORDS.items():
        yield f"### `{file}`\n"
        yield make_table(("column", "says"), ((f"`{name}`", text) for name, text in words.items()))


def list_statuses() -> Iterator[list[str]]:
    """Every status, with its meaning and the output that its rows go to."""
    for status in Status:
        place = "`FINAL_RESULT.csv`"
        if status == Status.OK:
            place += " or `duplicates.csv`"
        elif status in INVALID_STATUSES:
            place = "`invalid_urls.csv`; with `auto_clean: false`, the clean list"
        elif status in FAILED_STATUSES:
            place = "`failed_urls.csv`"
        yield [f"`{status}`", STATUS_WORDS[status], place]


def list_commands(command: click.Command, path: tuple[str, ...]) -> Iterator[list[str]]:
    """Every command, with the first paragraph of its help. Groups of commands are left out."""
    if isinstance(command, click.Group):
        for name, inner in sorted(command.commands.items()):
            yield from list_commands(inner, (*path, name))
        return
    arguments = [
        parameter.make_metavar(click.Context(command))
        for parameter in command.params
        if isinstance(parameter, click.Argument)
    ]
    yield [f"`{' '.join((*path, *arguments))}`", " ".join((command.help or "").partition("\n\n")[0].split())]


if __name__ == "__main__":
    for path, text in ((REFERENCE, make_reference()), (ARCHITECTURE, make_architecture())):
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path.relative_to(ROOT)}")

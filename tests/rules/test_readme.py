"""The README's commands and tables, held against the code."""

from __future__ import annotations

import re
import shlex
import sqlite3
from dataclasses import asdict
from pathlib import Path

import click
import pandas as pd
import pytest
import reference

from dedup_lib.cli.main import commands
from dedup_lib.errors import StoreError
from dedup_lib.flow.profiles import load_profile
from dedup_lib.groups import decisions
from dedup_lib.groups.clean import clean_list
from dedup_lib.groups.columns import COLUMNS
from dedup_lib.lists.tables import REPORT_COLUMNS
from dedup_lib.match.evidence import Criterion, Verdict
from dedup_lib.records import FAILED_STATUSES, INVALID_STATUSES, Group, Outcome, Pooling, Recipe, Status
from dedup_lib.run.ledger import Ledger
from dedup_lib.run.paths import find_project_root
from dedup_lib.settings import SETTINGS, parameter_types
from dedup_lib.store.address import StoreAddress
from dedup_lib.store.store import Store

ROOT = find_project_root(Path(__file__).parent)
README = (ROOT / "README.md").read_text(encoding="utf-8")
LEDGER = (ROOT / "docs" / "ledger.md").read_text(encoding="utf-8")
STORE = (ROOT / "docs" / "store.md").read_text(encoding="utf-8")
EVIDENCE = (ROOT / "docs" / "evidence.md").read_text(encoding="utf-8")
SCRIPTS = (ROOT / "docs" / "scripts.md").read_text(encoding="utf-8")
OUTPUTS = (ROOT / "docs" / "outputs.md").read_text(encoding="utf-8")
GUIDE = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
FIRST_LIST = (ROOT / "docs" / "first_list.md").read_text(encoding="utf-8")
START = (ROOT / "notebooks" / "00_start.ipynb").read_text(encoding="utf-8").replace("\\n", "\n")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
PARAMETERS = {name for cls in SETTINGS.values() for name in parameter_types(cls)}


def table_below(heading: str, *, nth: int = 0, text: str = README) -> list[list[str]]:
    """The cells of a table of a section, without its head."""
    section = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    tables = re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in tables[nth].strip().splitlines()]
    return rows[2:]


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", MAKEFILE, re.MULTILINE))
    assert {"demo", "test", "lab", "run", "check", "clean"} <= targets
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", README + GUIDE + START, re.MULTILINE))
    assert {"demo", "test", "lab", "app"} <= named <= targets


COMMANDS = re.findall(r"python -m dedup_lib ([^`\n\"]+)", README + GUIDE + FIRST_LIST + SCRIPTS + START + STORE)


@pytest.mark.parametrize("line", sorted(set(COMMANDS)))
def test_commands_are_understood(line: str) -> None:
    command: click.Command = commands
    words = shlex.split(line)
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), words.pop(0))
        assert found is not None, line
        command = found
    options = {name for parameter in command.params for name in parameter.opts} | {"--help"}
    for word in words:
        assert not word.startswith("--") or word in options, line
    for name in re.findall(r"--set (\w+)=", line):
        assert name in PARAMETERS, line


def test_some_commands_were_found() -> None:
    assert len(set(COMMANDS)) >= 6


def test_profiles_are_listed() -> None:
    listed = {row[0].strip("`") for row in table_below("The profiles", text=OUTPUTS)}
    assert listed == {path.stem for path in (ROOT / "params").glob("*.yaml")}
    assert all(load_profile(name) for name in listed)


def test_notebooks_are_listed() -> None:
    listed = [row[0].strip("`") for row in table_below("The notebooks", text=OUTPUTS)]
    assert listed == sorted(SETTINGS)


def test_notebooks_ask_the_question_that_is_listed() -> None:
    for name, question, _ in table_below("The notebooks", text=OUTPUTS):
        text = (ROOT / "notebooks" / f"{name.strip('`')}.ipynb").read_text(encoding="utf-8")
        assert f"**{question.removesuffix(' (batch flow)')}**" in text, name


def test_columns_of_the_text_duplicates_are_listed() -> None:
    (row,) = (row for row in table_below("What comes out", text=OUTPUTS) if row[0] == "`<list>.duplicates.csv`")
    assert re.findall(r"`(\w+)`", row[2]) == list(REPORT_COLUMNS)


def test_columns_of_the_duplicates_are_listed() -> None:
    (row,) = (row for row in table_below("What comes out", text=OUTPUTS) if row[0] == "`duplicates.csv`")
    listed = re.findall(r"`(\w+)`", row[2])
    groups = [Group(number=1, kept=0, copies=(1,), similarities=(1.0,))]
    urls = ["a", "b"]
    outcomes = {url: Outcome(url=url, status=Status.OK) for url in urls}
    cleaned = clean_list(
        pd.DataFrame({"link": urls}), url_column="link", outcomes=outcomes, groups=groups, auto_clean=True
    )
    assert list(cleaned.duplicates) == [*listed, "link"]


def test_the_reference_is_current() -> None:
    written = reference.REFERENCE.read_text(encoding="utf-8")
    assert written == reference.make_reference(), "write it anew: make reference"
    assert reference.ARCHITECTURE.read_text(encoding="utf-8") == reference.make_architecture(), "make reference"
    assert {row[0].strip("`") for row in table_below("Parameters", text=written)} == PARAMETERS
    statuses = {row[0].strip("`"): row[2] for row in table_below("Statuses", text=written)}
    assert list(statuses) == [str(status) for status in Status]
    for status in Status:
        assert ("invalid_urls.csv" in statuses[str(status)]) == (status in INVALID_STATUSES), status
        assert ("failed_urls.csv" in statuses[str(status)]) == (status in FAILED_STATUSES), status


def test_the_reference_explains_the_columns_that_are_listed() -> None:
    listed = {row[0].strip("`"): re.findall(r"`(\w+)`", row[2]) for row in table_below("What comes out", text=OUTPUTS)}
    for name, words in reference.COLUMN_WORDS.items():
        assert list(words) == listed[name], name


def test_the_guide_accounts_for_every_row_of_the_demo() -> None:
    came_in, *went = (int(row[0]) for row in table_below("3. What came out", text=GUIDE))
    assert came_in == sum(went)


def test_columns_of_the_evidence_are_explained() -> None:
    assert table_below("Columns", text=EVIDENCE) == [[f"`{name}`", words] for name, words in COLUMNS.items()]


def test_verdicts_rules_and_decisions_are_explained() -> None:
    assert [row[0] for row in table_below("Verdicts", text=EVIDENCE)] == [f"`{verdict}`" for verdict in Verdict]
    assert [row[0] for row in table_below("Criteria", text=EVIDENCE)] == [f"`{rule}`" for rule in Criterion]
    (example,) = re.findall(r"```csv\n(.*?)```", EVIDENCE, re.DOTALL)
    header, *lines = (line.split(",") for line in example.splitlines())
    assert tuple(header) == decisions.COLUMNS
    assert {line[2] for line in lines} == set(decisions.Decision)


def test_tables_of_the_ledger_are_explained(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with Ledger(path, Recipe(encoder="pdq", model="", num_frames=3, frame_span="spread")):
        database = sqlite3.connect(path)
        for heading in ("Outcomes", "Fingerprints", "Extractions"):
            columns = [f"`{row[1]}`" for row in database.execute(f"PRAGMA table_info({heading.lower()})")]
            assert [row[0] for row in table_below(heading, text=LEDGER)] == columns
        database.close()


def test_fields_and_properties_of_a_collection_are_explained(tmp_path: Path) -> None:
    from pymilvus import DataType

    recipe = Recipe(encoder="pdq", model="", num_frames=3, frame_span="spread")
    poolings: dict[str, set[str]] = {}
    with Store(StoreAddress(uri=str(tmp_path / "milvus.db"))) as store:
        for pooling in Pooling:
            made = store.create_collection(pooling, pooling=pooling, recipe=recipe, dimension=256).facts
            poolings.setdefault(str(made.schema), set()).add(pooling)
            described = store._client.milvus.describe_collection(pooling)
            fields = []
            for field in described["fields"]:
                kind, length = DataType(field["type"]).name, field["params"].get("max_length")
                kind += f"({length})" if length else ""
                fields.append([f"`{field['name']}`", kind + (", primary key" if field.get("is_primary") else "")])
            assert [row[:2] for row in table_below("Fields", text=STORE)] == fields
            properties = [name for name in described["properties"] if name.startswith("dedup.")]
            assert {row[0].strip("`") for row in table_below("Properties", text=STORE)} == set(properties)
    assert {row[0].strip("`") for row in table_below("Schemas", text=STORE)} == set(poolings)
    for name, _, filled_by in table_below("Schemas", text=STORE):
        assert set(re.findall(r"`vectors: (\w+)`", filled_by)) == poolings[name.strip("`")]
    assert sorted(row[0].strip("`") for row in table_below("Recipe", text=STORE)) == sorted(asdict(recipe))


def test_a_refused_recipe_looks_as_explained(tmp_path: Path) -> None:
    (shown,) = re.findall(r"```\n(the collection .*?)```", STORE, re.DOTALL)
    lines = shown.splitlines()
    recipes = [Recipe.from_json(line[line.index("{") :]) for line in lines[1:3]]
    with Store(StoreAddress(uri=str(tmp_path / "milvus.db"))) as store:
        store.create_collection("videos", pooling=Pooling.FRAMES, recipe=recipes[0], dimension=256)
        with pytest.raises(StoreError) as caught:
            store.ensure_collection("videos", pooling=Pooling.FIRST, recipe=recipes[1], dimension=512)
    assert str(caught.value).splitlines() == lines


def test_troubles_of_the_store_are_worded_as_explained() -> None:
    files = sorted((ROOT / "dedup_lib" / "store").glob("*.py"))
    code = " ".join(" ".join(path.read_text(encoding="utf-8") for path in files).split())
    for said, _ in table_below("When the store is in trouble", text=STORE):
        assert said.strip("`") in code.replace('" "', ""), said


def test_a_decision_may_be_written_as_explained(tmp_path: Path) -> None:
    (example,) = re.findall(r"```csv\n(.*?)```", EVIDENCE, re.DOTALL)
    (tmp_path / "decisions.csv").write_text(example, encoding="utf-8")
    assert len(decisions.load_decisions(tmp_path / "decisions.csv")) == len(decisions.Decision)


def test_links_lead_somewhere() -> None:
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")):
        links = re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text(encoding="utf-8"))
        assert [link for link in links if "://" not in link and not (path.parent / link).exists()] == []


def test_counterparts_of_the_scripts_exist() -> None:
    rows = table_below("Options", text=SCRIPTS)
    assert len(rows) >= 16
    for _, _, here in rows:
        number = re.match(r"(\d\d)\b", here)
        if number is None:
            continue
        (stage,) = (stage for stage in SETTINGS if stage.startswith(number[1]))
        known = parameter_types(SETTINGS[stage])
        named = [text.partition(":")[0] for text in re.findall(r"`([a-z_]+(?:: \w+)?)`", here)]
        for name in named:
            assert name in known or name in ("max", "top_k"), f"{name} is no parameter of {stage}"


def test_pictures_exist() -> None:
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README)
    assert pictures
    assert all((ROOT / picture).is_file() for picture in pictures)

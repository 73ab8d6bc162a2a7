"""The words of docs/glossary.md are those of the code."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from dedup_lib.run.paths import find_project_root

ROOT = find_project_root(Path(__file__).parent)
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
TERMS = re.findall(r"^\*\*([^*]+)\*\* \(`(\w+)`\): ", GLOSSARY, re.MULTILINE)


def defined_names() -> set[str]:
    """Modules, classes, functions, variables, attributes and arguments that the package defines."""
    names = set()
    for path in (ROOT / "dedup_lib").rglob("*.py"):
        names.add(path.stem)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                names.add(node.name)
            elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
                names.add(node.id if isinstance(node, ast.Name) else node.attr)
            elif isinstance(node, ast.arg):
                names.add(node.arg)
    return names


def test_each_term_is_spelt_as_in_the_code() -> None:
    assert len(TERMS) == GLOSSARY.count("\n**") >= 30
    assert set(re.findall(r"`([^`]+)`", GLOSSARY)) - defined_names() == set()


def test_each_word_means_one_thing() -> None:
    for words in zip(*TERMS, strict=True):
        assert len(set(words)) == len(words)

"""What in a text is no CSV, and what is another way to write one."""

from __future__ import annotations

import json
import re

from dedup_lib.errors import ListError
from dedup_lib.lists.cells import is_no_name


def refuse_other_texts(text: str) -> None:
    """Raises ListError, with the remedy, for a web page and for JSON."""
    head = text[:200].lstrip().lower()
    if head.startswith(("<!--", "<!doctype html", "<html", "<head", "<body", "<table", "<?xml")):
        raise ListError("is a web page or XML and no CSV: download the list itself, or save it as a CSV")
    lines = text.lstrip().split("\n", 3)[:3]
    if head.startswith(("{", "[")) and (_is_json(text, dict, list) or any(_is_json(line, dict) for line in lines)):
        raise ListError("is JSON and no CSV: save the list as a CSV with one video URL per line")


def _is_json(text: str, *kinds: type) -> bool:
    try:
        return isinstance(json.loads(text), kinds)
    except (ValueError, RecursionError):
        return False


def without_backslashes(text: str) -> str:
    """Rewrites `\\"` inside cells to doubled quotes. When the text also doubles its backslashes, they become single."""
    doubles_all = not re.search(r"(?<!\\)\\(?:\\\\)*(?![\\\"])", text)

    def double_quotes(match: re.Match[str]) -> str:
        backslashes = match[1]
        if not match[2]:
            return backslashes[: len(backslashes) // 2] if doubles_all else backslashes
        return backslashes[: len(backslashes) // 2] + '"' * (1 + len(backslashes) % 2)

    return re.sub(r'(\\+)("?)', double_quotes, text)


def without_line_commas(text: str) -> str:
    """Takes the comma, or semicolon, from the end of each line of a list of URLs, as it was copied from a program. The
    last line often has none, so that it is not a second column. A text with any other line is left as it is."""
    if not re.search(r"[,;][ \t]*(?:[\r\n]|$)", text):
        return text
    lines = re.split("(\r\n|\r|\n)", text)
    first = next((at for at, line in enumerate(lines) if is_no_name(line.strip().rstrip(",;"))), len(lines))
    filled = [at for at in range(first, len(lines), 2) if lines[at].strip()]
    for mark in ",;":
        *before, last = [lines[at].rstrip().endswith(mark) for at in filled] or [False]
        if all(before) and (before or last) and all(is_no_name(lines[at].strip().rstrip(mark)) for at in filled):
            for at in filled:
                lines[at] = lines[at].rstrip().removesuffix(mark)
            return "".join(lines)
    return text

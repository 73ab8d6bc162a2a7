"""One cell of a list: whether it holds a URL, and how it is kept from running as a formula."""

from __future__ import annotations

import re

from dedup_lib.lists.urls import decode_url, is_local_path, is_web_url

VIDEO_SUFFIXES = (
    *(".3gp", ".asf", ".avi", ".f4v", ".flv", ".gif", ".m2ts", ".m3u8", ".m4v", ".mkv", ".mov", ".mp4"),
    *(".mpd", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv"),
)
"""Suffixes by which the path of a local video is recognised."""

URL_WORDS = frozenset({"url", "link", "uri", "href", "src"})

# No column is called `https:/host`, `blob:https:…`, `magnet:?…` or `data:video/…`, but `Data: 1` may be one.
_ADDRESS = re.compile(r"www\.|[a-z][a-z0-9+.-]+://|((blob|view-source):)?https?:|magnet:\?|data:[a-z]+/", re.IGNORECASE)

# Signs of a list in a program or a text before a URL: `'https://…',`, `- https://…`, `1. https://…`.
_LISTED_URL = re.compile(r"[\W\d_]*https?://", re.IGNORECASE)

_JSON = re.compile(r"\s*[\[{]\s*(?:[\[{\"]|$)")

# A cell that a spreadsheet may take for a formula when it opens a CSV (OWASP, "CSV Injection"). In some languages Excel
# reads full-width signs as plain ones, so they count too. A byte order mark in front would vanish, so it is skipped.
# Numbers, dates and telephone numbers are safe: they can name no cell, function or program.
_FORMULA = re.compile(r"\ufeff*[=+\-@\t\r\n＝＋－＠]")
_NUMBER = re.compile(r"[+-][0-9+\-.,:/()% ]*([eE][+-]?[0-9]+)?", re.ASCII)


def protect_cell(text: str) -> str:
    """Returns a cell as it is written to a CSV: with an apostrophe in front when a spreadsheet would run it as a
    formula.

    A formula that already has apostrophes in front gets one more, so that `bare_cell` restores every text.
    """
    return f"'{text}" if _is_formula(text.lstrip("'")) else text


def bare_cell(text: str) -> str:
    """Returns a cell of a CSV without the apostrophe that `protect_cell` or a spreadsheet put in front of a formula."""
    return text[1:] if text.startswith("'") and _is_formula(text.lstrip("'")) else text


def describe_guarded(count: int) -> str:
    """A sentence about the cells that got an apostrophe; empty when there are none."""
    if not count:
        return ""
    cells, them = ("1 cell", "it as a formula") if count == 1 else (f"{count:,} cells", "them as formulas")
    return f"{cells} got an apostrophe in front, because a spreadsheet would run {them}."


def _is_formula(text: str) -> bool:
    return bool(_FORMULA.match(text)) and not _NUMBER.fullmatch(text)


def is_no_name(cell: str) -> bool:
    """Whether `cell` must be data and not a column name: a link, a URL behind signs of a list, or JSON."""
    # The cheap ones first.
    return bool(_LISTED_URL.match(cell) or _JSON.match(cell)) or is_link(cell)


def is_link(cell: str) -> bool:
    """Whether `cell` is a link: a URL of any kind, or a local video."""
    decoded = decode_url(cell)
    return bool(_ADDRESS.match(decoded)) or is_web_url(decoded) or is_video_path(cell)


def is_video_path(cell: str) -> bool:
    """Whether `cell` is a local path or a URL that ends like the name of a video file."""
    decoded = decode_url(cell)
    if not decoded.lower().endswith(VIDEO_SUFFIXES):
        return False
    return is_web_url(decoded) or ("://" not in decoded and is_local_path(decoded))


def is_url_name(name: str) -> bool:
    """Whether a column of this name may hold URLs."""
    return not URL_WORDS.isdisjoint(words_of(name))


def words_of(name: str) -> set[str]:
    """The words of a column name such as `videoURLs` or `src_2`, in lower case and singular."""
    words = re.split(r"[\W\d_]+", re.sub("(?<=[a-z0-9])(?=[A-Z])", "_", name))
    return {word.lower().removesuffix("s") for word in words if word}

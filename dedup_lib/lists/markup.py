"""URLs inside of something else: a formula, a link, a JSON array.

Pure functions over text. `urls.decode_url` extracts such a URL; a person must split a cell with several URLs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress

MAX_CHARACTERS = 20_000
"""Characters. Longer cells are left as they are: no URL that can be fetched is as long."""

NO_TEXT = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Characters that no URL has, and that a file of text cannot hold or does not keep."""

_URL = r"(?:https?:)?//[^\s<>\"]+"
_BEGINS_AS_URL = re.compile(r"(?:https?:)?//[^/?#\\\s]|https?(?::|%3A)%2F%2F", re.IGNORECASE)

# =HYPERLINK("url";"text") under any of its localised names (LIEN_HYPERTEXTE, HIPERVINCULO …).
_FORMULA = re.compile(r'[=+@]+\s*[^\W\d][\w.]*\s*\(\s*"((?:[^"]|"")*)"\s*(?:[;,].*)?\)', re.DOTALL)
# [text](url "title"). The text may be an image: [![…](…)](url).
_MARKDOWN = re.compile(
    r"!?\[(?:!\[[^\]]*\]\([^)]*\)|[^\]])*\]\(\s*<?((?:(?!\]\()[^\s<>])+)>?(?:\s+(?:\"[^\"]*\"|'[^']*'))?\s*\)"
)
_FORUM = re.compile(r"\[(\w+)(?:=([^\]]+))?\]([^\[\]]*)\[/\1\]", re.IGNORECASE)
_ATTRIBUTE = re.compile(
    r"<[a-z][^<>]*?\s(href|src)\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s\"'>]+))", re.IGNORECASE | re.DOTALL
)
_LABELLED = re.compile(r"<((?:https?:)?//[^\s<>\"|]+)\|[^<>]*>", re.IGNORECASE)
_BRACKETED = re.compile(rf"\[({_URL}?)(?:\s[^\[\]]*)?\]|\(({_URL})\)|\{{({_URL})\}}", re.IGNORECASE)
_QUOTED_ITEM = re.compile(r"[\[({]\s*(?:'([^']*)'|\"([^\"]*)\")\s*,?\s*[\])}]")

# ASCII characters that web pages write as entities. The semicolon is required: `&copy=1` is a parameter.
_ENTITY = re.compile(r"&(?:(amp|quot|apos|lt|gt)|#0*([0-9]{2,3})|#x0*([0-9a-f]{2}));", re.IGNORECASE)
_NAMED = {"amp": "&", "quot": '"', "apos": "'", "lt": "<", "gt": ">"}
_MAY_HOLD_ENTITIES = re.compile(r"https?[:&]|//|&#", re.IGNORECASE)

_ONE_OF_SEVERAL = re.compile(r"(?<![\w./%?&+~:-])https?://[^\s\"'<>|,;\])}\\]+", re.IGNORECASE)
# A run of blanks is tried from its beginning only, because a hostile cell may hold a million of them.
_BETWEEN_URLS = re.compile(r"(?:(?<!\s)\s*+[,;|]\s*+|(?<!\s)\s++)(?=https?://)", re.IGNORECASE)


def unwrap_url(text: str) -> str:
    """Returns the only URL inside a formula, a link or an array, in its spelling there; any other text unchanged.

    The target of a link counts, not its text. A link counts before what it surrounds.
    """
    if text[:1] not in ("=", "+", "@", "[", "!", "<", "(", "{") or len(text) > MAX_CHARACTERS:
        return text
    inside = [url for url in map(str.strip, _find_inside(text)) if not NO_TEXT.search(url)]
    found = dict.fromkeys(filter(_BEGINS_AS_URL.match, inside))
    return found.popitem()[0] if len(found) == 1 else text


def _find_inside(text: str) -> Iterator[str]:
    """Yields the possible URLs of a text that is one formula, one link or one array."""
    with suppress(ValueError, RecursionError):
        yield from _strings_of(json.loads(text))
        return
    if match := _FORMULA.fullmatch(text):
        yield match[1].replace('""', '"')
    elif match := _MARKDOWN.fullmatch(text) or _LABELLED.fullmatch(text):
        yield match[1]
    elif match := _FORUM.fullmatch(text):
        yield match[2] or match[3]
    elif match := _BRACKETED.fullmatch(text) or _QUOTED_ITEM.fullmatch(text):
        yield next(filter(None, match.groups()), "")
    elif text.startswith("<") and text.endswith(">"):
        attributes = [(kind.lower(), a or b or c) for kind, a, b, c in _ATTRIBUTE.findall(text)]
        links = [url for kind, url in attributes if kind == "href"]
        yield from links or [url for _, url in attributes]


def _strings_of(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings_of(item)


def unescape_url(text: str) -> str:
    """Decodes the entities in a URL (`&amp;` to `&`); returns any other text unchanged."""
    return _ENTITY.sub(_character, text) if "&" in text and _MAY_HOLD_ENTITIES.match(text) else text


def _character(entity: re.Match[str]) -> str:
    name, decimal, hexadecimal = entity.groups()
    character = _NAMED[name.lower()] if name else chr(int(decimal) if decimal else int(hexadecimal, 16))
    return character if "!" <= character <= "~" else entity[0]


def split_urls(text: str) -> list[str]:
    """Returns the URLs of a cell that holds several; `text` itself when it holds one or none.

    A URL with other URLs in its query, as in `?next=https://a,https://b`, counts as one.
    """
    if not re.match("https?://", text, re.IGNORECASE):
        found = _ONE_OF_SEVERAL.findall(text.replace("\\/", "/"))
        return found if len(found) > 1 else [text]
    parts = _BETWEEN_URLS.split(text)
    is_one = parts[0].count("://") > 1 and not re.search(r"\s", text)
    return [text] if is_one else parts

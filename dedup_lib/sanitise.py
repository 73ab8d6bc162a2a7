"""Text from outside made safe to show: no control characters, no credentials."""

from __future__ import annotations

import re

# Control characters of a terminal, invisible line breaks, characters that change the direction of the text after them
# (Unicode TR 36, 3.4), and lone surrogates, which no file can hold. Tabs and line feeds do no harm.
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

# Users and passwords in URLs, behind the scheme and the slashes. JSON escapes slashes, and browsers take backslashes
# for them. First: up to the last @ of the authority. Second: up to the first @, where an unencoded password contains a
# slash or another delimiter, so that the text after the colon is no port. Third: in a URL that is percent-encoded as a
# whole, with its delimiters encoded at the same level. Nothing is left that would count as a user afterwards.
_USER = r"(?:[^/?#\s]*(?:@|%(?:25){0,9}40)|[^/?#\s@:]*:(?![0-9]*(?:[/?#\s]|$))[^\s@]{0,200}@)"
_ENCODED_USER = r"(?:(?!%(?P=level)(?:2F|3F|23))[^/?#\s])*%(?P=level)40"
_CREDENTIALS = re.compile(
    rf"(?P<before>https?:[/\\]++|\\?/\\?/){_USER}(?:[/\\]*+{_USER})*+"
    rf"|(?P<slashes>%(?P<level>(?:25){{0,9}})2F%(?P=level)2F){_ENCODED_USER}(?:(?:%(?P=level)2F)*+{_ENCODED_USER})*+",
    re.IGNORECASE,
)


def printable(text: str) -> str:
    """`text` with an escape such as `\\x1b` in place of each invisible character that a terminal or a reader obeys."""
    return _OBEYED.sub(lambda match: ascii(match[0])[1:-1], text)


def without_credentials(text: str) -> str:
    """`text` without the users and passwords of the URLs in it."""
    return _CREDENTIALS.sub(lambda match: match["before"] or match["slashes"], text)


def sanitise(text: str) -> str:
    """`text` printable and without credentials."""
    return without_credentials(printable(text))


def sanitise_line(text: str) -> str:
    """`text` printable, without credentials, and on one line."""
    return sanitise(text).replace("\t", "\\t").replace("\n", "\\n")

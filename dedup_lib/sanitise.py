"""Text from outside made safe to show: no control characters, no credentials."""

from __future__ import annotations

import re

# What a terminal obeys, what breaks a line unseen, what turns the direction of the text behind it (Unicode TR 36, 3.4),
# and lone surrogates, which no file can hold. Tabs and line feeds do no harm.
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

# Users and passwords in URLs: up to the last @ of the authority; in a URL that is percent-encoded as a whole, with its
# marks at the level at which it is; and up to the first @ where a password that is not encoded holds a slash or another
# mark, so that what follows the host's colon is no port.
_CREDENTIALS = re.compile(
    r"(?<=//)[^/?#\s]*(?:@|%(?:25){0,9}40)"
    r"|(?<=//)[^/?#\s@:]*:(?![0-9]*(?:[/?#\s]|$))[^\s@]{0,200}@"
    r"|(?P<slashes>%(?P<level>(?:25){0,9})2F%(?P=level)2F)(?:(?!%(?P=level)(?:2F|3F|23))[^/?#\s])*%(?P=level)40",
    re.IGNORECASE,
)


def printable(text: str) -> str:
    """`text` with an escape such as `\\x1b` for each character that a terminal or a reader would obey unseen."""
    return _OBEYED.sub(lambda match: ascii(match[0])[1:-1], text)


def without_credentials(text: str) -> str:
    """`text` without the users and passwords of the URLs in it."""
    return _CREDENTIALS.sub(lambda match: match["slashes"] or "", text)


def sanitise(text: str) -> str:
    """`text` printable and without credentials."""
    return printable(without_credentials(text))


def sanitise_line(text: str) -> str:
    """The same on one line."""
    return sanitise(text).replace("\t", "\\t").replace("\n", "\\n")

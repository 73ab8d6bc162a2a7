"""The cookies that a chain of redirects sets and asks for.

A cookie is sent only to the server that set it (host-only, RFC 6265, section 5.3). Each video has its own cookies.
"""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

MAX_COOKIES = 20
MAX_BYTES = 4096
"""Bytes of all cookies in one request; cookies that do not fit are not sent."""

# RFC 6265, section 4.1.1, but spaces and commas, which are common, and bytes beyond ASCII are also accepted.
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\x20-\x3a\x3c-\x7e\x80-\xff]*")
_DEFAULT_PORTS = (80, 443)


@dataclass(frozen=True, kw_only=True)
class _Cookie:
    server: str
    name: str
    path: str
    value: str
    is_secure: bool


class Cookies:
    """The cookies that one chain of redirects has set."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str, str], _Cookie] = {}

    def keep(self, url: str, fields: Iterable[str]) -> None:
        """Applies the Set-Cookie fields of the answer from this URL; keeps at most `MAX_COOKIES` cookies."""
        for field in fields:
            cookie, has_ended = _parse(url, field)
            if cookie is None:
                continue
            key = (cookie.server, cookie.name, cookie.path)
            if has_ended:
                self._kept.pop(key, None)
            elif key in self._kept or len(self._kept) < MAX_COOKIES:
                self._kept[key] = cookie

    def header_for(self, url: str) -> dict[str, str]:
        """Returns the Cookie header for a request to this URL; empty when there is no cookie to send."""
        server, path, is_secure = _place(url)
        fitting = [
            cookie
            for cookie in self._kept.values()
            if cookie.server == server and _is_within(path, cookie.path) and (is_secure or not cookie.is_secure)
        ]
        # Longer paths first (section 5.4).
        fitting.sort(key=lambda cookie: -len(cookie.path))
        text = ""
        for pair in (f"{cookie.name}={cookie.value}" for cookie in fitting):
            if len(text) + len(pair) + 2 <= MAX_BYTES:
                text += f"; {pair}" if text else pair
        return {"Cookie": text} if text else {}


def _place(url: str) -> tuple[str, str, bool]:
    """Returns server, path, and whether the connection is encrypted. A server is a host and a port; ports 80 and 443
    count as one, so that a cookie stays valid from http to https."""
    parts = urlsplit(url)
    is_secure = parts.scheme.lower() == "https"
    port = parts.port or _DEFAULT_PORTS[is_secure]
    host = (parts.hostname or "").rstrip(".")
    return f"{host}:{'' if port in _DEFAULT_PORTS else port}", parts.path or "/", is_secure


def _parse(url: str, field: str) -> tuple[_Cookie | None, bool]:
    """Returns the cookie, or None when the field holds no acceptable one, and whether it has expired (section 5.2)."""
    server, path, over_tls = _place(url)
    pair, *others = field.split(";")
    name, equals, value = (text.strip(" \t") for text in pair.partition("="))
    facts = {key.strip().lower(): text.strip() for key, _, text in (other.partition("=") for other in others)}
    is_secure = "secure" in facts
    domain = facts.get("domain", "").lstrip(".").lower()
    host = server.rpartition(":")[0]
    is_fit = (
        bool(equals and _NAME.fullmatch(name) and _VALUE.fullmatch(value))
        and (not domain or host == domain or host.endswith(f".{domain}"))
        and (over_tls or not is_secure)
    )
    if not is_fit:
        return None, False
    default = path[: path.rindex("/")] or "/"
    wanted = facts.get("path", "")
    cookie = _Cookie(
        server=server,
        name=name,
        path=wanted if wanted.startswith("/") else default,
        value=value,
        is_secure=is_secure,
    )
    return cookie, _has_ended(facts)


def _has_ended(facts: dict[str, str]) -> bool:
    age = facts.get("max-age", "")
    if re.fullmatch("-?[0-9]+", age):
        return age.startswith("-") or not age.strip("0")
    try:
        return email.utils.parsedate_to_datetime(facts.get("expires", "")).timestamp() < time.time()
    except (ValueError, OverflowError):
        return False


def _is_within(path: str, folder: str) -> bool:
    """Path match (section 5.1.4)."""
    return path == folder or path.startswith(folder if folder.endswith("/") else f"{folder}/")

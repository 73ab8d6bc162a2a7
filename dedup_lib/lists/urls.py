"""URLs as text: repair one, make it canonical, find those that are equal, prepare a request.

Pure functions over text. Sources: RFC 3986 (URIs; 6.2: which spellings are equivalent), UTS 46 and RFC 5891 (host
names beyond ASCII).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple
from urllib.parse import quote, unquote

import idna

from dedup_lib.lists.markup import MAX_CHARACTERS, NO_TEXT, unescape_url, unwrap_url

SIGNATURE_MARKS = (
    *("signature", "sig", "hmac", "token", "policy", "expires"),
    *("key-pair-id", "hdnts", "hdnea", "x-amz-", "x-goog-"),
)
"""A parameter with one of these in its name belongs to a signature over the exact bytes of its URL."""

RULES = (
    "no scheme",
    "scheme case",
    "host case",
    "host spelling",
    "default port",
    "trailing slash",
    "fragment",
    "empty query",
    "percent-encoding",
    "path case",
    "query parameters",
)
"""The changes that `normalise_url` may make, in the order in which reports name them."""

_NO_URL = frozenset({"", "-", "--", "#n/a", "\\n", "n/a", "na", "nan", "nil", "none", "null"})
"""What programs write, in any case, where there is no value."""

_BLANKS = "".join(filter(str.isspace, map(chr, range(0x3001))))
_UNSEEN = _BLANKS + "\u180e\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\ufeff"
_QUOTES = frozenset({"''", '""', "“”", "„“", "„”", "«»", "‘’", "``", "<>"})
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_DEFAULT_PORTS = {"http": 80, "https": 443}

_WEB_URL = re.compile(r"(https?)://([^/?#]*)([^?#]*)(\?[^#]*)?(#.*)?", re.ASCII | re.IGNORECASE | re.DOTALL)
_PROTOCOL_RELATIVE = re.compile(r"//(?=[^/?#\\\s])")
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+):", re.ASCII | re.IGNORECASE)
_HOST_PORT = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(:.*)?", re.DOTALL)
_PORT = re.compile(r":[0-9]*")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
_IPV6 = re.compile(r"\[([0-9A-Fa-f:.]+(?:%25[A-Za-z0-9._~-]+)?)\]")

# No list has more than ten levels. Without a limit, a hostile cell could cost a decoding for each of its many levels.
_SLASH = "(?:/|%(?:25){0,9}2F)"
_ENCODED_AS_A_WHOLE = re.compile(
    rf"(?!(?:https?:)?//)(?:https?(?::|%(?:25){{0,9}}3A))?{_SLASH}{_SLASH}(?!{_SLASH})(?=[^?#\\\s])",
    re.ASCII | re.IGNORECASE,
)
_ESCAPE = re.compile("%[0-9A-Fa-f]{2}")
_ESCAPES = re.compile("(?:%[0-9A-Fa-f]{2})+")
_STRAY_PERCENT = re.compile("%(?![0-9A-Fa-f]{2})")
_NOT_FOR_REQUEST = re.compile(r"%(?![0-9A-Fa-f]{2})|[^\x21-\x7e]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_CASED = re.compile(r"(?:%[89A-F][0-9A-F])+|%..|[A-Z]+")


@dataclass(frozen=True)
class NormalisedUrl:
    """The canonical URL, which is the same for equal URLs, and the changes that led to it (see `RULES`)."""

    key: str
    rules: tuple[str, ...]


@dataclass(frozen=True)
class TextCopy:
    """A row (from 0) that repeats the URL of an earlier row, and why the two are the same."""

    row: int
    first_row: int
    rule: str


class _Parts(NamedTuple):
    """The pieces of a web URL. All but scheme, host and path include their own mark (`@`, `:`, `?`, `#`)."""

    scheme: str
    user: str
    host: str
    port: str
    path: str
    query: str
    fragment: str


def decode_url(text: str) -> str:
    """Repairs one URL from a list; applied twice it gives the same as once.

    Removes blanks, invisible characters and quotes around the URL, and the formulas and links that `markup.unwrap_url`
    knows. `&amp;` becomes `&`. A URL that is percent-encoded as a whole is decoded until it is a URL. Escapes inside it
    keep their own level; text after a literal `?` or `#` was not encoded with it and stays. A URL without a scheme
    (`//host/path`, RFC 3986, 4.2) stays without: only fetching shows whether its server uses https or http. In a web
    URL, escapes of unreserved characters (RFC 3986, 2.3) are decoded, unless its bytes are signed or it has a malformed
    escape. Anything else is the path of a local file.
    """
    while (repaired := _repair_step(text)) != text:
        text = repaired
    return text


def _repair_step(text: str) -> str:
    bare = text.strip(_UNSEEN)
    if (inside := unwrap_url(bare)) != bare:
        return inside
    text = unescape_url(_strip(bare))
    if _ENCODED_AS_A_WHOLE.match(text):
        return _unquote_whole(text)
    is_url = _WEB_URL.match(text) or _PROTOCOL_RELATIVE.match(text)
    if "%" in text and is_url and not _STRAY_PERCENT.search(text) and not _is_signed(text):
        return _ESCAPE.sub(lambda match: _unreserved(match[0]) or match[0], text)
    return text


def _strip(text: str) -> str:
    text = text.strip(_UNSEEN)
    while 2 <= len(text) <= MAX_CHARACTERS and text[0] + text[-1] in _QUOTES and not _is_page(text):
        text = text[1:-1].strip(_UNSEEN)
    return text


def _is_page(text: str) -> bool:
    """Whether the angle brackets belong to HTML, and do not just surround a URL."""
    return text[0] == "<" and ("<" in text[1:] or ">" in text[:-1])


def _unquote_whole(text: str) -> str:
    """Decodes `text` by one level. Bytes that are not UTF-8, and control characters in the URL, stay escapes, so that
    the result can be written and requested."""
    head = re.split("[?#]", text, maxsplit=1)[0]
    decoded = _strip(_ESCAPES.sub(_decode_run, head) + text[len(head) :])
    return _CONTROL.sub(lambda match: quote(match[0], safe=""), decoded)


def _decode_run(match: re.Match[str]) -> str:
    decoded = bytes.fromhex(match[0].replace("%", "")).decode("utf-8", "surrogateescape")
    return re.sub("[\udc80-\udcff]", lambda stray: f"%{ord(stray[0]) - 0xDC00:02X}", decoded)


def _unreserved(escape: str) -> str:
    """The character of an escape such as `%7E` if it is unreserved, else ""."""
    character = chr(int(escape[1:], 16))
    return character if character in _UNRESERVED else ""


def _is_signed(url: str) -> bool:
    """Whether a parameter in the query (`sig=…`) or in the path (`hdnts=…`, `/sig/…/`) belongs to a signature."""
    path, _, query = url.partition("#")[0].partition("?")
    tokens = re.split("[/;,~!&]", unquote(path).lower())
    names = [part.partition("=")[0] for part in re.split("[&;]", unquote(query).lower())]
    names += [token.partition("=")[0] for token in tokens if "=" in token]
    return any(mark in name for name in names for mark in SIGNATURE_MARKS) or any(
        token in SIGNATURE_MARKS for token in tokens
    )


def is_web_url(text: str) -> bool:
    """Whether `text` is a URL that names a host and either the scheme http or https or none (`//host/path`)."""
    match = _WEB_URL.match(text if has_scheme(text) else f"https:{text}")
    return bool(match and match[2].rpartition("@")[2].partition(":")[0])


def is_no_value(cell: str) -> bool:
    """Whether a cell is empty, or holds what stands for no value, such as `NULL`, `n/a` or `-`."""
    return cell.strip().casefold() in _NO_URL


def has_scheme(url: str) -> bool:
    """Whether a web URL names its scheme."""
    return not _PROTOCOL_RELATIVE.match(url)


def is_local_path(text: str) -> bool:
    """Whether `text` may be the path of a file: it has no scheme (a drive such as `C:` is none) and no control
    characters."""
    return (
        bool(text.strip())
        and not _SCHEME.match(text)
        and not _PROTOCOL_RELATIVE.match(text)
        and not _CONTROL.search(text)
    )


def url_for_request(url: str) -> str:
    """Returns the ASCII form of a web URL for an HTTP client, without its fragment.

    The host is encoded by UTS 46. Blanks, characters beyond ASCII, and percent signs that start no escape are
    percent-encoded as UTF-8. Everything else stays byte for byte. Raises ValueError with the reason in words.
    """
    parts = _split(url)
    user, path, query = map(_encode, (parts.user, parts.path, parts.query))
    return f"{parts.scheme}://{user}{_ascii_host(parts.host)}{parts.port}{path}{query}"


def _encode(text: str) -> str:
    return _NOT_FOR_REQUEST.sub(lambda match: quote(match[0], safe=""), text)


def _split(url: str) -> _Parts:
    """The pieces of a web URL. Raises ValueError with the reason in words."""
    if not_text := NO_TEXT.search(url):
        raise ValueError(f"the URL holds a control character ({not_text[0]!a})")
    match = _WEB_URL.fullmatch(url)
    if match is None:
        scheme = _SCHEME.match(url)
        if scheme is None:
            raise ValueError("the URL does not start with https:// or http://")
        if scheme[1].lower() not in _DEFAULT_PORTS:
            raise ValueError(f"the scheme {scheme[1]!r} is not supported, only http and https are")
        raise ValueError("the URL names no host")
    scheme_name, authority, path, query, fragment = match.groups(default="")
    user, at, place = authority.rpartition("@")
    host_port = _HOST_PORT.fullmatch(place)
    if host_port is None:
        raise ValueError("what comes before the path cannot be a host name")
    host, port = host_port.groups(default="")
    if not host:
        raise ValueError("the URL names no host")
    if port and not _PORT.fullmatch(port):
        # The error does not show the port, which may be a password.
        raise ValueError("the port is not a number (in a password, write / as %2F, ? as %3F and # as %23)")
    # A long run of digits is out of range anyway, and int() refuses more than 4300 of them.
    if len(port) > 1 and not 1 <= int(port[1:].lstrip("0")[:6] or 0) <= 65535:
        raise ValueError("the port is not between 1 and 65535")
    return _Parts(scheme_name, user + at, host, port, path, query, fragment)


@lru_cache(maxsize=1 << 14)
def _ascii_host(host: str) -> str:
    """The form of `host` for DNS. Raises ValueError when it cannot be a host name."""
    if host.startswith("["):
        address = _IPV6.fullmatch(host)
        try:
            IPv6Address(address[1] if address else "")
        except ValueError:
            raise ValueError(f"{host!r} is not an IPv6 address") from None
        return host
    try:
        name = unquote(host, errors="strict")
        if not name.isascii():
            labels = idna.uts46_remap(name, std3_rules=False, transitional=False).split(".")
            name = ".".join(label if label.isascii() else idna.alabel(label).decode("ascii") for label in labels)
    except UnicodeError as error:
        raise ValueError(f"{host!r} cannot be a host name: {error}") from None
    if len(name.removesuffix(".")) > 253 or not _NAME.fullmatch(name):
        raise ValueError(f"{host!r} cannot be a host name")
    if _NUMBER.fullmatch(name.removesuffix(".").rpartition(".")[2]):
        try:
            IPv4Address(name.removesuffix("."))
        except ValueError:
            raise ValueError(f"{host!r} is neither a host name nor an IPv4 address") from None
    return name


@lru_cache(maxsize=1 << 14)
def _host_key(host: str) -> str:
    """The canonical spelling of a host. Raises ValueError when it cannot be a host name."""
    name = _ascii_host(host).lower()
    return f"[{IPv6Address(name[1:-1])}]" if name.startswith("[") else name


def normalise_url(
    url: str, *, ignore_path_case: bool = False, drop_query_parameters: Collection[str] = ()
) -> NormalisedUrl:
    """Returns the canonical URL by syntax-based and scheme-based normalisation (RFC 3986, 6.2.2-3), without trailing
    slash and without fragment.

    http and https differ; a URL without a scheme counts as https. The case of a path matters unless `ignore_path_case`;
    the case of a query always matters. `drop_query_parameters` are exact names. The key of a local path or of an
    invalid URL is the text itself.
    """
    is_complete = has_scheme(url)
    try:
        parts = _split(url if is_complete else f"https:{url}")
        host = _host_key(parts.host)
    except ValueError:
        return NormalisedUrl(url, ())
    scheme = parts.scheme.lower()
    port = "" if parts.port == ":" or parts.port[1:].lstrip("0") == str(_DEFAULT_PORTS[scheme]) else parts.port
    encoded = user, path, query = tuple(map(_spell_escapes, (parts.user, parts.path, parts.query)))
    bare_path = path.rstrip("/")
    cased_path = _CASED.sub(_lower, bare_path) if ignore_path_case else bare_path
    kept_query = query
    if drop_query_parameters and query:
        pairs = query[1:].split("&")
        kept_query = "?" + "&".join(
            pair for pair in pairs if unquote(pair.partition("=")[0]) not in drop_query_parameters
        )
    changes = (
        not is_complete,
        scheme != parts.scheme,
        parts.host.lower() != parts.host,
        host != parts.host.lower(),
        port != parts.port,
        bare_path != path,
        bool(parts.fragment),
        query == "?",
        encoded != (parts.user, parts.path, parts.query),
        cased_path != bare_path,
        kept_query != query,
    )
    return NormalisedUrl(
        f"{scheme}://{user}{host}{port}{cased_path}{kept_query if kept_query != '?' else ''}",
        tuple(rule for rule, changed in zip(RULES, changes, strict=True) if changed),
    )


def _spell_escapes(text: str) -> str:
    encoded = _encode(text)
    return _ESCAPE.sub(lambda match: _unreserved(match[0]) or match[0].upper(), encoded) if "%" in encoded else encoded


def _lower(match: re.Match[str]) -> str:
    """Lower-cases plain letters, and letters beyond ASCII inside their escapes."""
    text = match[0]
    if not text.startswith("%"):
        return text.lower()
    try:
        return quote(unquote(text, errors="strict").lower(), safe="") if text[1] in "89ABCDEF" else text
    except UnicodeDecodeError:
        return text


def find_text_copies(
    urls: Sequence[str],
    *,
    before: Sequence[str] = (),
    ignore_path_case: bool = False,
    drop_query_parameters: Collection[str] = (),
    progress: Callable[[int], object] = lambda count: None,
) -> list[TextCopy]:
    """Finds every row whose URL equals that of an earlier row, with the first such row. Empty cells, and what stands
    for them (`NULL`, `n/a`, `-`), equal nothing.

    `before` are URLs that precede the list. A row that equals one of them has a negative `first_row`: its index in
    `before`, counted from the end.

    A URL without a scheme (`//host/path`) may mean http or https. It equals the https URL when the list has that one,
    else the http URL; the https and the http URL never equal each other.

    The rule is "identical text", or the changes to either URL that make the two equal.
    """

    def normalise(url: str) -> NormalisedUrl:
        return normalise_url(url, ignore_path_case=ignore_path_case, drop_query_parameters=drop_query_parameters)

    every = [*before, *urls]
    complete = {normalise(url).key for url in every if has_scheme(url)} if not all(map(has_scheme, every)) else set()
    seen: dict[str, tuple[int, tuple[str, ...]]] = {}
    copies = []
    for row, url in enumerate(every, start=-len(before)):
        progress(int(row >= 0))
        if is_no_value(url):
            continue
        normalised = normalise(url)
        key = normalised.key
        if not has_scheme(url) and key not in complete and (by_http := normalise(f"http:{url}").key) in complete:
            key = by_http
        first_row, first_rules = seen.setdefault(key, (row, normalised.rules))
        if first_row == row or row < 0:
            continue
        rules = {*first_rules, *normalised.rules}
        same = url == every[first_row + len(before)]
        copies.append(
            TextCopy(row, first_row, "identical text" if same else ", ".join(rule for rule in RULES if rule in rules))
        )
    return copies

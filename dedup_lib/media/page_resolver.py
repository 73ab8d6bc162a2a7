"""A web page resolved into the URL of its video, by yt-dlp, which reaches the web only through our connections.

yt-dlp has code for some 1,800 sites, and code that looks for a video in any page. It never fetches the video. While it
works, every request goes through `media.connections`, with the rules for addresses, time and bytes, and an audit hook
refuses it other connections, programs and files to write. It gets no cookies of a browser, no configuration,
no plugins and no JavaScript.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import yt_dlp
import yt_dlp.globals
from yt_dlp.networking import Request, RequestHandler, Response
from yt_dlp.networking.exceptions import HTTPError, TransportError, UnsupportedRequest
from yt_dlp.utils import DownloadError, UnsupportedError, UserNotLive

from dedup_lib.errors import VideoTrouble
from dedup_lib.media.answers import read_whole
from dedup_lib.media.connections import Source
from dedup_lib.media.cookies import Cookies
from dedup_lib.media.limits import Deadline, FetchLimits, Meter
from dedup_lib.media.playlists import Rendition, encrypted, live, rank_renditions
from dedup_lib.media.ranges import MAX_REDIRECTS, find_redirect
from dedup_lib.records import Status
from dedup_lib.sanitise import without_credentials

MAX_PAGE_BYTES = 16 * 1024 * 1024
"""Most bytes of one answer to yt-dlp, unpacked: pages of large sites have up to 2 MB."""

MAX_REQUESTS = 40
"""Most requests for one page: those of large sites take up to ten."""

OPTIONS: Mapping[str, Any] = {
    "quiet": True,
    "no_warnings": True,
    "skip_download": True,
    "cachedir": False,
    "noplaylist": True,
    "extract_flat": "in_playlist",
    "ignore_no_formats_error": True,
    "extractor_retries": 0,
    "usenetrc": False,
    "enable_file_urls": False,
    "geo_bypass": False,
    # Empty: the proxies of the environment are not used.
    "proxy": "",
    "js_runtimes": {},
    "remote_components": [],
}

_PROTOCOLS = frozenset({"http", "https", "m3u8", "m3u8_native", "http_dash_segments"})
"""How the video may come: as a file, or by a playlist that can be read here."""

_NOT_PASSED_ON = frozenset({"host", "accept-encoding", "connection", "content-length", "transfer-encoding"})
_OF_THE_VIDEO = ("User-Agent", "Referer", "Origin", "Accept-Language")
"""Headers that the video is then fetched with, because some servers ask for those of the page's visitor."""

_REFUSED_EVENTS = frozenset(
    {
        *("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.bind"),
        *("subprocess.Popen", "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn"),
        *(
            "os.remove",
            "os.rename",
            "os.mkdir",
            "os.rmdir",
            "os.link",
            "os.symlink",
            "os.truncate",
            "os.chmod",
            "os.chown",
        ),
        *("webbrowser.open", "sqlite3.connect", "ctypes.dlopen"),
    }
)
"""What the code for a site may not do (docs.python.org, "Audit events table")."""

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT

# Code that is loaded from elsewhere would be outside of what is checked here.
yt_dlp.globals.plugin_dirs.value = []
yt_dlp.globals.all_plugins_loaded.value = True

_resolving: set[object] = set()
"""One entry for each page that is being resolved. Everything in this process is confined meanwhile, also threads that
the code for a site starts: a worker process does nothing else."""
_exempt = threading.local()


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if not _resolving or getattr(_exempt, "is_ours", False):
        return
    if event in _REFUSED_EVENTS or (event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING):
        raise PermissionError(f"{event} is refused to the code that resolves web pages")


sys.addaudithook(_audit)


@contextlib.contextmanager
def _confined() -> Iterator[None]:
    one = object()
    _resolving.add(one)
    try:
        yield
    finally:
        _resolving.discard(one)


@contextlib.contextmanager
def _our_own() -> Iterator[None]:
    """What this module does itself."""
    _exempt.is_ours = True
    try:
        yield
    finally:
        _exempt.is_ours = False


@dataclass(frozen=True, kw_only=True)
class ResolvedPage:
    """The URL of a page's video, not checked yet, and the headers to fetch it with."""

    url: str
    headers: Mapping[str, str]


def resolve_page(url: str, *, limits: FetchLimits, deadline: Deadline, fetched: Meter) -> ResolvedPage:
    """Finds the URL of the video of a web page. `fetched` counts the bytes.

    Raises VideoTrouble: with the status `html` when yt-dlp finds no video, or several; with that of the request when
    one was refused or failed, above all `blocked_address`.
    """
    requests = _Requests(limits=limits, deadline=deadline, fetched=fetched)
    try:
        with requests.closing, _confined(), _Resolver(requests) as resolver:
            found = resolver.extract_info(url, download=False)
    except VideoTrouble:
        raise
    except Exception as error:  # The code for a site may raise anything.
        raise requests.trouble or _trouble_of(error) from None
    return _choose(found or {})


def _choose(found: Mapping[str, Any]) -> ResolvedPage:
    if found.get("_type", "video") != "video":
        raise VideoTrouble(Status.HTML, "the URL gives a web page with several videos: list the page of each")
    if found.get("live_status") in ("is_live", "is_upcoming") or found.get("is_live"):
        raise live()
    formats = found.get("formats") or [found]
    usable = [_as_rendition(one) for one in formats if _is_usable(one)]
    if not usable:
        if any(one.get("has_drm") for one in formats):
            raise encrypted("DRM")
        raise VideoTrouble(Status.HTML, "the URL gives a web page in which yt-dlp finds no video that can be read")
    best = rank_renditions(usable)[0].link
    headers = {
        name: str(best["http_headers"][name]) for name in _OF_THE_VIDEO if best.get("http_headers", {}).get(name)
    }
    return ResolvedPage(url=_link_of(best), headers=headers)


def _is_usable(one: Mapping[str, Any]) -> bool:
    return (
        one.get("protocol") in _PROTOCOLS
        and one.get("vcodec") != "none"
        and not one.get("has_drm")
        and bool(_link_of(one))
    )


def _link_of(one: Mapping[str, Any]) -> str:
    is_dash = one.get("protocol") == "http_dash_segments"
    return str(one.get("manifest_url" if is_dash else "url") or "")


def _as_rendition(one: Mapping[str, Any]) -> Rendition[Mapping[str, Any]]:
    width_px, height_px, kbits_per_s = (int(one.get(name) or 0) for name in ("width", "height", "tbr"))
    return Rendition(link=one, width_px=width_px, height_px=height_px, bits_per_s=1000 * kbits_per_s)


def _trouble_of(error: Exception) -> VideoTrouble:
    cause = error.exc_info[1] if isinstance(error, DownloadError) and error.exc_info else error
    if isinstance(cause, UserNotLive):
        return live()
    if isinstance(cause, UnsupportedError):
        return VideoTrouble(Status.HTML, "the URL gives a web page in which yt-dlp finds no video")
    said = without_credentials(" ".join(str(getattr(cause, "orig_msg", None) or cause).split()))
    return VideoTrouble(Status.UNREACHABLE, f"yt-dlp cannot resolve the web page: {said[:200]}")


class _Silent:
    """A logger that says nothing: what matters is in the reason of the video."""

    def debug(self, message: str) -> None: ...
    def warning(self, message: str) -> None: ...
    def error(self, message: str) -> None: ...


class _Resolver(yt_dlp.YoutubeDL):  # type: ignore[misc]  # yt-dlp has no types
    """yt-dlp with our requests in place of its own."""

    def __init__(self, requests: _Requests) -> None:
        self._requests = requests
        super().__init__({**OPTIONS, "logger": _Silent()})

    def build_request_director(self, handlers: object, preferences: object = None) -> Any:
        return super().build_request_director([partial(_CheckedRH, requests=self._requests)])


class _CheckedRH(RequestHandler):  # type: ignore[misc]  # yt-dlp has no types
    """Sends what yt-dlp asks for; its kind of handler ends in RH."""

    _SUPPORTED_URL_SCHEMES = ("http", "https")
    _SUPPORTED_PROXY_SCHEMES = None
    _SUPPORTED_FEATURES = None

    def __init__(self, *, requests: _Requests, **options: Any) -> None:
        super().__init__(**options)
        self._requests = requests

    def _check_extensions(self, extensions: dict[str, Any]) -> None:
        super()._check_extensions(extensions)
        for name in ("cookiejar", "timeout", "legacy_ssl", "keep_header_casing"):
            extensions.pop(name, None)

    def _send(self, request: Request) -> Response:
        if not isinstance(request.data, bytes | None):
            raise UnsupportedRequest("only bytes are sent")
        headers = {name: value for name, value in self._get_headers(request).items() if _is_passed_on(name)}
        response = self._requests.send(request.url, request.method, headers, request.data)
        if response.status >= 400:
            raise HTTPError(response)
        return response


def _is_passed_on(name: str) -> bool:
    return name.lower() not in _NOT_PASSED_ON and not name.lower().startswith(("proxy-", "ytdl-"))


class _Requests:
    """The requests for one page: each to a checked address, with the page's own cookies, within the limits.

    `trouble` is the first thing that went wrong by our rules: yt-dlp may say less of it, or go on without. `closing`
    closes the answers that were not read to their end.
    """

    def __init__(self, *, limits: FetchLimits, deadline: Deadline, fetched: Meter) -> None:
        self.trouble: VideoTrouble | None = None
        self.closing = contextlib.ExitStack()
        self._limits = limits
        self._deadline = deadline
        self._fetched = fetched
        self._cookies = Cookies()
        self._left = MAX_REQUESTS

    def send(self, url: str, method: str, headers: Mapping[str, str], body: bytes | None) -> Response:
        """Sends a request and follows its redirects. Raises TransportError for what VideoTrouble would be raised."""
        try:
            with _our_own():
                return self._follow(url, method, dict(headers), body)
        except VideoTrouble as trouble:
            raise self.note(trouble) from None

    def note(self, trouble: VideoTrouble) -> TransportError:
        """Notes what went wrong. Returns the error that yt-dlp understands."""
        self.trouble = self.trouble or trouble
        return TransportError(trouble.reason)

    def _follow(self, url: str, method: str, headers: dict[str, str], body: bytes | None) -> Response:
        for _ in range(MAX_REDIRECTS + 1):
            if not self._left:
                raise VideoTrouble(Status.TOO_LARGE, f"resolving the page takes more than {MAX_REQUESTS} requests")
            self._left -= 1
            source = Source(url, limits=self._limits, deadline=self._deadline, fetched=self._fetched)
            with contextlib.ExitStack() as until_answered:
                until_answered.callback(source.close)
                answer = source.ask(
                    self._cookies.header_for(source.url) | headers, connect_s=math.inf, method=method, body=body
                )
                until_answered.callback(answer.close)
                self._cookies.keep(source.url, answer.fields("Set-Cookie"))
                target = find_redirect(source.url, answer, may_leave_tls=False)
                if not target:
                    pieces = read_whole(answer, self._limits) if method != "HEAD" else iter(())
                    self.closing.push(until_answered.pop_all())
                    body_read = io.BufferedReader(_Body(pieces, self))
                    return Response(body_read, source.url, answer.all_fields(), status=answer.status)
            if answer.status in (301, 302, 303) and method != "HEAD":
                method, body = "GET", None
            url = target
            # Meant for the server before.
            headers = {
                name: value for name, value in headers.items() if name.lower() not in ("authorization", "cookie")
            }
        raise VideoTrouble(Status.HTTP_ERROR, f"more than {MAX_REDIRECTS} redirects in a row")


class _Body(io.RawIOBase):
    """The body of an answer, fetched while it is read."""

    def __init__(self, pieces: Iterator[bytes], requests: _Requests) -> None:
        super().__init__()
        self._pieces = pieces
        self._requests = requests
        self._rest = b""
        self._read_bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        try:
            self._rest = self._rest or next(self._pieces, b"")
            taken = self._rest[: len(buffer)]
            self._read_bytes += len(taken)
            if self._read_bytes > MAX_PAGE_BYTES:
                raise VideoTrouble(Status.TOO_LARGE, f"a part of the web page has more than {MAX_PAGE_BYTES:,} bytes")
        except VideoTrouble as trouble:
            raise self._requests.note(trouble) from None
        buffer[: len(taken)] = taken
        self._rest = self._rest[len(taken) :]
        return len(taken)

"""A site of clips on this machine, for the benchmarks: latency, many hosts, and the faults of real lists."""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import click

from dedup_lib.extract.worker import read_video
from dedup_lib.features.pdq import hash_frame
from dedup_lib.media.limits import FetchLimits
from dedup_lib.records import Recipe, Scan, Status

MAX_CLIP_BYTES = 12_000_000
MAX_FRAME_SIDE_PX = 1920
LIMITS = FetchLimits(timeout_s=60.0, max_bytes=10**9, allow_private_addresses=True, allow_local_paths=True)
NO_SCAN = Scan(step_s=0.0)
SLOW_BYTES_A_S = 100_000
SEND_BUFFER_BYTES = 65536


clips_option = click.option(
    "--clips",
    "clips_dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    envvar="VIDEO_CORPUS_DIR",
    required=True,
    help="Folder with MP4 files [default: $VIDEO_CORPUS_DIR].",
)


class Fault(StrEnum):
    """What is wrong with an address."""

    GONE = "404"
    PAGE = "a web page"
    CUT_OFF = "a file cut off in the middle"
    BUSY = "503 to the first request"
    SILENT = "no answer"
    SLOW = "0.1 MB/s"


SHARES = {
    Fault.GONE: 0.025,
    Fault.PAGE: 0.005,
    Fault.CUT_OFF: 0.005,
    Fault.BUSY: 0.01,
    Fault.SILENT: 0.002,
    Fault.SLOW: 0.01,
}
"""Shares of the addresses of a site with faults. In a list of 600 advertisements, 3.5 % gave no vector."""


@dataclass(frozen=True)
class Site:
    """Clips on a server. The address `/n.mp4` is file n modulo the number of files, with a unique length and end, so
    that no URL counts as the file of another."""

    paths: tuple[Path, ...]
    latency_s: float
    """Median time before each answer."""
    hosts: int = 1
    """Number of addresses of this machine, from 127.0.0.1 on, that serve the clips."""
    has_faults: bool = False
    """Whether addresses have faults, and whether the latency varies."""

    def fault_of(self, number: int) -> Fault | None:
        drawn = random.Random(number).random()
        for fault, share in SHARES.items() if self.has_faults else ():
            if drawn < share:
                return fault
            drawn -= share
        return None

    def draw_latency_s(self) -> float:
        return self.latency_s * (random.lognormvariate(0.0, 0.6) if self.has_faults else 1.0)

    def list_urls(self, count: int, *, port: int) -> list[str]:
        """The first addresses, from one host after the other."""
        return [f"http://127.0.0.{1 + number % self.hosts}:{port}/{number}.mp4" for number in range(count)]


@contextmanager
def serving(site: Site) -> Iterator[int]:
    """Serve the site from a separate process while the block runs. Yields the port."""
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=_run_server, args=(site, theirs), daemon=True)
    server.start()
    try:
        yield ours.recv()
    finally:
        server.kill()
        server.join()


def count_sent(port: int) -> int:
    """Number of bytes of clips that the site has sent so far."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/sent") as answer:
        return int(answer.read())


def find_clips(folder: Path) -> list[Path]:
    """The MP4 files of a folder that can be read without trouble, up to full HD."""
    recipe = Recipe(encoder="pdq", model="", num_frames=3, frame_span="spread")
    read = partial(read_video, recipe=recipe, scan=NO_SCAN, limits=LIMITS, prepare=hash_frame)

    def is_fit(path: Path) -> bool:
        outcome = read((0, str(path))).outcome
        return outcome.status == Status.OK and max(outcome.width_px, outcome.height_px) <= MAX_FRAME_SIDE_PX

    candidates = sorted(path for path in folder.rglob("*.mp4") if path.stat().st_size <= MAX_CLIP_BYTES)
    return [path for path in candidates if is_fit(path)]


def _run_server(site: Site, pipe: Connection) -> None:
    asyncio.run(_Server(site).serve(pipe))


class _Server:
    def __init__(self, site: Site) -> None:
        self._site = site
        self._files = [path.read_bytes() for path in site.paths]
        self._asked: Counter[int] = Counter()
        self._sent = 0

    async def serve(self, pipe: Connection) -> None:
        first = await asyncio.start_server(self._answer_all, "127.0.0.1", 0)
        port = first.sockets[0].getsockname()[1]
        others = [f"127.0.0.{1 + number}" for number in range(1, self._site.hosts)]
        servers = [first, *[await asyncio.start_server(self._answer_all, host, port) for host in others]]
        for sock in (sock for server in servers for sock in server.sockets):
            # Bytes in the send buffer of a broken connection were not fetched, so the buffer (SO_SNDBUF) is small.
            sock.setsockopt(1, 7, SEND_BUFFER_BYTES)
        pipe.send(port)
        await asyncio.gather(*(server.serve_forever() for server in servers))

    async def _answer_all(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while request := await reader.readuntil(b"\r\n\r\n"):
                await self._answer(request.decode("latin-1").split("\r\n"), writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(self, lines: Sequence[str], writer: asyncio.StreamWriter) -> None:
        target, headers = lines[0].split()[1], [line.lower() for line in lines[1:]]
        if target == "/sent":
            return await self._send(writer, "200 OK", str(self._sent).encode())
        await asyncio.sleep(self._site.draw_latency_s())
        number = int(target[1:].partition(".")[0])
        self._asked[number] += 1
        body, fault = self._body_of(number), self._site.fault_of(number)
        match fault:
            case Fault.SILENT:
                await asyncio.sleep(3600)
            case Fault.GONE:
                return await self._send(writer, "404 Not Found", b"")
            case Fault.PAGE:
                return await self._send(writer, "200 OK", b"<html><body>moved</body></html>")
            case Fault.BUSY if self._asked[number] == 1:
                return await self._send(writer, "503 Service Unavailable", b"")
            case Fault.CUT_OFF:
                body = body[: len(body) // 2]
        ranges = [line.partition("bytes=")[2] for line in headers if line.startswith("range:")]
        if not ranges:
            return await self._send(writer, "200 OK", body, fault=fault)
        begin, _, end = ranges[0].partition("-")
        first, last = int(begin), min(int(end or len(body)), len(body) - 1)
        where = f"Content-Range: bytes {first}-{last}/{len(body)}\r\n"
        await self._send(writer, "206 Partial Content", body[first : last + 1], fault=fault, where=where)

    def _body_of(self, number: int) -> bytes:
        rounds, place = divmod(number, len(self._files))
        return self._files[place] + bytes(rounds) + f"{number:08d}".encode()

    async def _send(
        self, writer: asyncio.StreamWriter, status: str, body: bytes, *, fault: Fault | None = None, where: str = ""
    ) -> None:
        kind = "text/html" if body.startswith(b"<") else "video/mp4"
        head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nAccept-Ranges: bytes\r\n{where}"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode("latin-1"))
        for start in range(0, len(body), SEND_BUFFER_BYTES):
            part = body[start : start + SEND_BUFFER_BYTES]
            writer.write(part)
            await writer.drain()
            self._sent += len(part)
            if fault is Fault.SLOW:
                await asyncio.sleep(len(part) / SLOW_BYTES_A_S)

"""Run a Milvus server that only this machine can reach. Linux only.

    python3 tools/milvus_server.py --data outputs/milvus-server --port 19530    (make server)

The server comes from the PyPI package `milvus`, in an environment of its own: .venv-server, made by
`make server-setup`, or the one that MILVUS_SERVER_VENV names. It listens on every interface and cannot be told not to.
So it gets a network of its own, a namespace that holds nothing but a loopback device, and its one door is a socket on
127.0.0.1 that was opened outside. Runs until Ctrl-C, SIGTERM, the end of the server, or, with --until-stdin-ends, the
end of its standard input.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
VENV_VARIABLE = "MILVUS_SERVER_VENV"
INNER_PORT = 19530
"""Port of the server in its own network, where no other process is."""

NAMESPACE = ("unshare", "--net", "--map-root-user", "--")
STOP_S = 5
CHUNK_BYTES = 1 << 18


def server_python() -> Path:
    """The Python of the environment that holds the server."""
    return Path(os.environ.get(VENV_VARIABLE) or ROOT / ".venv-server") / "bin" / "python"


def find_trouble() -> str:
    """The reason why no server can be started here. Empty when one can be started."""
    if not server_python().exists():
        return (
            f"no Milvus server is installed: run make server-setup, or set {VENV_VARIABLE} to the environment that has "
            "one"
        )
    if not shutil.which(NAMESPACE[0]):
        return "the command unshare is missing: install util-linux (there is none outside Linux)"
    tried = subprocess.run([*NAMESPACE, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        return (
            "no server is started: it must not be reachable from outside, and this machine does not let a process have "
            f"a network of its own ({' '.join(tried.stderr.split())})"
        )
    return ""


def enter(arguments: argparse.Namespace) -> None:
    """Open the socket on 127.0.0.1 and continue as the same process, in a separate network."""
    trouble = find_trouble()
    if trouble:
        sys.exit(trouble)
    door = socket.socket()
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        door.bind(("127.0.0.1", arguments.port))
    except OSError as error:
        sys.exit(f"cannot listen on port {arguments.port}: {error.strerror}. Choose another one with --port")
    door.listen(128)
    os.set_inheritable(door.fileno(), True)
    command = [*NAMESPACE, str(server_python()), *sys.argv, "--door", str(door.fileno())]
    os.execvp(command[0], command)


def raise_loopback() -> None:
    """Switch on the loopback device. In a new network it is switched off."""
    set_flags, up = 0x8914, 0x1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, set_flags, struct.pack("16sh14x", b"lo", up))


def start_server(data_dir: Path, config: list[str]) -> Any:
    """Start Milvus as a child process and wait until it reports that it is healthy."""
    import milvus  # of the server's environment

    server = milvus.default_server
    server.set_base_dir(str(data_dir))
    server.config.set("proxy_port", INNER_PORT)
    for pair in config:
        name, _, value = pair.partition("=")
        server.config.set(name, value)
    server.start()
    return server


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Forward bytes until one end closes the connection."""
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
    writer.close()


async def hand_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Connect one client with the server."""
    try:
        answers, requests = await asyncio.open_connection("127.0.0.1", INNER_PORT)
    except OSError:
        writer.close()
        return
    await asyncio.gather(pump(reader, requests), pump(answers, writer))


async def serve(door: socket.socket, process: subprocess.Popen[bytes], *, until_stdin_ends: bool) -> str:
    """Forward connections until there is a reason to stop. Returns the reason."""
    loop = asyncio.get_running_loop()
    reason: asyncio.Future[str] = loop.create_future()

    def stop(why: str) -> None:
        if not reason.done():
            reason.set_result(why)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, "stopped")
    if until_stdin_ends:
        loop.add_reader(sys.stdin.fileno(), lambda: os.read(sys.stdin.fileno(), CHUNK_BYTES) or stop("stopped"))
    loop.run_in_executor(None, process.wait).add_done_callback(
        lambda ended: stop(f"the server ended by itself ({ended.result()})")
    )
    listening = await asyncio.start_server(hand_on, sock=door)
    why = await reason
    listening.close()
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        await loop.run_in_executor(None, lambda: process.wait(STOP_S))
    process.kill()
    return why


def run(arguments: argparse.Namespace) -> None:
    raise_loopback()
    door = socket.socket(fileno=arguments.door)
    data_dir = arguments.data.resolve()
    data_dir.mkdir(parents=True, exist_ok=True)
    try:
        server = start_server(data_dir, arguments.config)
    except (RuntimeError, TimeoutError, KeyboardInterrupt) as error:
        sys.exit(f"the server does not start: {error or 'stopped'}. Its logs are in {data_dir / 'logs'}")
    print(
        f"A Milvus server is ready, for this machine only (process {server.server_proc.pid}, data in {data_dir}).\n"
        "Put this line into .env and run the profile `server`. Press Ctrl-C to stop the server.\n"
        f"MILVUS_URI=http://127.0.0.1:{door.getsockname()[1]}",
        flush=True,
    )
    why = asyncio.run(serve(door, server.server_proc, until_stdin_ends=arguments.until_stdin_ends))
    print(why, flush=True)
    # The data is complete after any end. Skip the exit handlers of the launcher.
    os._exit(0 if why == "stopped" else 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT / "outputs" / "milvus-server", help="folder for its data")
    parser.add_argument("--port", type=int, default=19530, help="port on 127.0.0.1; 0 takes a free one")
    parser.add_argument("--config", action="append", default=[], metavar="KEY=VALUE", help="a setting of Milvus")
    parser.add_argument("--until-stdin-ends", action="store_true", help="stop when standard input ends")
    parser.add_argument("--door", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.door is None:
        enter(arguments)
    run(arguments)


if __name__ == "__main__":
    main()

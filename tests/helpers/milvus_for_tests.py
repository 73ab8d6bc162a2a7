"""A real Milvus server for the tests, started by the project's own tool, with users and passwords switched on."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import psutil

from dedup_lib.store.address import StoreAddress

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools" / "milvus_server.py"
TOKEN = "root:Milvus"
FASTER = {
    "COMMON_SESSION_TTL": "10",
    "PROXY_TIMETICKINTERVAL": "20",
    "QUERYCOORD_CHECKCHANNELINTERVAL": "50",
    "QUERYCOORD_CHECKINTERVAL": "50",
    "QUERYCOORD_CHECKSEGMENTINTERVAL": "50",
    "QUERYCOORD_DISTPULLINTERVAL": "50",
}
"""Settings without which each collection and each call would take seconds longer (milliseconds), and a restart half a
minute (seconds)."""

START_S = 120
STOP_S = 30


def load_tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("milvus_server_tool", TOOL)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class MilvusServer:
    """A server on 127.0.0.1; it ends with this process, however that ends, for then its standard input does.

    The first one unpacks 250 MB into `programs`, and later ones find them there.
    """

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder = folder
        (folder / "data").mkdir()
        (folder / "data" / "bin").symlink_to(programs, target_is_directory=True)
        self.port = 0
        self._tool: subprocess.Popen[bytes] | None = None
        self._server_pid = 0

    @property
    def address(self) -> StoreAddress:
        return StoreAddress(uri=f"http://127.0.0.1:{self.port}", token=TOKEN)

    @property
    def processes(self) -> tuple[psutil.Process, psutil.Process]:
        """The tool's, which has the door to this machine, and the server's."""
        assert self._tool is not None
        return psutil.Process(self._tool.pid), psutil.Process(self._server_pid)

    def start(self) -> None:
        """Start it, again on the port that it had before, and wait until it answers."""
        log_path = self.folder / "server.log"
        with log_path.open("wb") as log:
            self._tool = subprocess.Popen(
                [
                    sys.executable,
                    str(TOOL),
                    f"--data={self.folder / 'data'}",
                    f"--port={self.port}",
                    "--until-stdin-ends",
                    "--config=common.security.authorizationEnabled=true",
                ],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=os.environ | FASTER,
            )
        deadline = time.monotonic() + START_S
        while not (
            found := re.search(r"process (\d+)[^$]*MILVUS_URI=\S+:(\d+)\n", said := log_path.read_text("utf-8"))
        ):
            if self._tool.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"the Milvus server does not start: {said}")
            time.sleep(0.1)
        self._server_pid, self.port = map(int, found.groups())

    def freeze(self) -> None:
        """Have it hang, until `thaw`."""
        _, server = self.processes
        server.suspend()
        while server.status() != psutil.STATUS_STOPPED:
            time.sleep(0.01)

    def thaw(self) -> None:
        self.processes[1].resume()

    def kill(self) -> None:
        """End it as a power cut would."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._server_pid, signal.SIGKILL)
        self.stop()

    def stop(self) -> None:
        if self._tool is None:
            return
        assert self._tool.stdin is not None
        self._tool.stdin.close()
        try:
            self._tool.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._tool.kill()
            self._tool.wait()

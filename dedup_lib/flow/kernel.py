"""The kernel that a notebook runs in: a local socket, a log file for what it prints, and a clean end."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jupyter_client.manager import AsyncKernelManager
from traitlets import Int, List, Unicode
from traitlets.config import Config

_STOP_AT_SIGTERM = (
    "(lambda loop: loop.add_signal_handler(__import__('signal').SIGTERM, loop.stop))"
    "(__import__('tornado.ioloop').ioloop.IOLoop.current().asyncio_loop)"
)
"""What a kernel executes first, without a name in the notebook's variables. At SIGTERM it then ends as a script ends,
once its cell is finished."""

_IDLE_KERNEL_ENDS_WITHIN_S = 1.0
"""A kernel that has not ended by then is still in a cell, and the cell is interrupted. Between cells, kernels ignore
interrupts."""


class LoggedKernelManager(AsyncKernelManager):
    """Starts kernels. Their stderr goes to `log_path` instead of the terminal of the run."""

    log_path = Unicode().tag(config=True)
    inherited = List(Int()).tag(config=True)

    @classmethod
    def config_of(cls, log_path: Path, *, inherited: Sequence[int] = ()) -> Config:
        """The configuration that papermill passes to this manager. The manager writes to that log, and its kernel
        inherits these file descriptors. So the lock of a killed run lasts until its kernel has noticed."""
        return Config({cls.__name__: {"log_path": str(log_path), "inherited": list(inherited)}})

    def __init__(self, **kwargs: Any) -> None:
        # No other user of the machine can listen on a local socket. Windows has none. Each manager has its own folder,
        # because two runs that start in one folder would choose the same names, and a killed run leaves its sockets.
        self._sockets_dir = "" if sys.platform == "win32" else tempfile.mkdtemp(prefix="kernel-")
        local = {"transport": "ipc", "ip": f"{self._sockets_dir}/ipc"} if self._sockets_dir else {}
        super().__init__(**local, **kwargs)

    async def _async_launch_kernel(self, kernel_cmd: list[str], **kwargs: Any) -> None:
        if sys.platform != "win32":
            kernel_cmd = [*kernel_cmd, f"--IPKernelApp.exec_lines={_STOP_AT_SIGTERM}"]
        with Path(self.log_path).open("wb") as log:
            await super()._async_launch_kernel(kernel_cmd, stderr=log, pass_fds=self.inherited, **kwargs)

    async def _async_interrupt_kernel(self) -> None:
        # Each shutdown begins with an interrupt. A kernel that has just finished its last cell would report an error.
        if sys.platform == "win32" or not self.shutting_down:
            await super()._async_interrupt_kernel()

    async def _async_request_shutdown(self, restart: bool = False) -> None:
        # Asked by a message, ipykernel first waits for its child processes. The resource tracker of multiprocessing
        # ignores SIGTERM, so that the kernel is killed after 2.5 s and leaves its temporary files.
        if sys.platform == "win32":
            await super()._async_request_shutdown(restart=restart)
            return
        await self._async_signal_kernel(signal.SIGTERM)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._async_wait(pollinterval=0.05), timeout=_IDLE_KERNEL_ENDS_WITHIN_S)
            return
        await self._async_signal_kernel(signal.SIGINT)

    async def _async_cleanup_resources(self, restart: bool = False) -> None:
        await super()._async_cleanup_resources(restart=restart)
        if not restart and self._sockets_dir:
            shutil.rmtree(self._sockets_dir, ignore_errors=True)

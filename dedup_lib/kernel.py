"""The kernel that a notebook of a run works in: reached over a local socket, its own messages in a log file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from jupyter_client.manager import AsyncKernelManager
from traitlets import Unicode
from traitlets.config import Config


class LoggedKernelManager(AsyncKernelManager):
    """Starts kernels whose stderr goes to `log_path` instead of the terminal of the run."""

    log_path = Unicode().tag(config=True)

    @classmethod
    def config_of(cls, log_path: Path) -> Config:
        """The configuration by which papermill makes this manager write to that log."""
        return Config({cls.__name__: {"log_path": str(log_path)}})

    def __init__(self, **kwargs: Any) -> None:
        # No other user of the machine can listen on a local socket; Windows has none.
        super().__init__(**({} if sys.platform == "win32" else {"transport": "ipc"}), **kwargs)

    async def _async_launch_kernel(self, kernel_cmd: list[str], **kwargs: Any) -> None:
        with Path(self.log_path).open("wb") as log:
            await super()._async_launch_kernel(kernel_cmd, stderr=log, **kwargs)

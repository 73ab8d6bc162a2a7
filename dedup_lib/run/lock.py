"""One run works in a folder at a time: a locked file says who.

The lock belongs to a process and ends with it, however the process ends, so nothing is left to clean up. A notebook
that a run starts works under the lock of the run. Windows has no such lock.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import socket
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType

from dedup_lib.errors import RunFolderError
from dedup_lib.records import utc_now

if sys.platform != "win32":
    import fcntl

ENDING_S = 10.0
"""Seconds to wait for the kernel of a killed run to end; it notices within a second."""

_TRY_AGAIN_S = 0.05

INTERRUPTED = "interrupted"
"""The failure text of a run that a person interrupted."""


@dataclass(frozen=True, kw_only=True)
class LockOwner:
    """The run that works in a run folder, or did last. Times are UTC in ISO format."""

    pid: int
    host: str
    notebooks: tuple[str, ...]
    """The notebooks to run, in order."""
    now: str
    """The current notebook."""
    command: str
    """The command that continues the run; empty for a notebook that was run by hand."""
    began: str
    ended: str = ""
    """When it ended; empty while it works, and for a run that was killed."""
    failure: str = ""
    """Why it ended too early; empty when it did not."""

    @property
    def lives(self) -> bool:
        """Whether it may still be at work: it has not noted its end, and its process is not known to be gone."""
        if self.ended:
            return False
        if not self.is_here:
            return True
        try:
            os.kill(self.pid, 0)
        except OSError as error:
            return not isinstance(error, ProcessLookupError)
        return True

    @property
    def is_parent(self) -> bool:
        """Whether it started this process."""
        return not self.ended and self.is_here and self.pid == os.getppid()

    @property
    def is_here(self) -> bool:
        """Whether it works on this machine."""
        return self.host == socket.gethostname()

    @property
    def process(self) -> str:
        """The process as text, with the machine when that is another one."""
        return f"process {self.pid}" + ("" if self.is_here else f" on {self.host}")

    def __str__(self) -> str:
        return f"{self.process}, at {self.now} since {self.began[:16].replace('T', ' ')} UTC"


def read_holder(path: Path) -> LockOwner | None:
    """Returns who holds the lock in this file, or held it last; None when nobody did, or the file cannot be read."""
    try:
        # The file is rewritten in place, so the end of a longer old entry may follow; raw_decode ignores it.
        found, _ = json.JSONDecoder().raw_decode(path.read_text(encoding="utf-8"))
        return LockOwner(**found | {"notebooks": tuple(found["notebooks"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def is_held(path: Path) -> bool:
    """Whether a process holds the lock in this file."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        # This takes the lock for a moment; a run that starts just then tries again.
        return not _try_lock(descriptor, shared=True)
    except OSError:
        return False
    finally:
        os.close(descriptor)


class RunLock:
    """The lock to write into a run folder. Use it as a context manager.

    Does nothing when the parent of this process holds the lock (the run that started a notebook). Raises RunFolderError
    when another process holds it, or the folder cannot be written.
    """

    def __init__(self, path: Path, *, notebooks: tuple[str, ...], command: str = "") -> None:
        self._path = path
        self._descriptor: int | None = None
        self._holder = LockOwner(
            pid=os.getpid(),
            host=socket.gethostname(),
            notebooks=notebooks,
            now=notebooks[0],
            command=command,
            began=utc_now(),
        )

    def __enter__(self) -> RunLock:
        try:
            # Python opens files so that started programs do not inherit them.
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise self._refused(error) from error
        try:
            if self._take(descriptor):
                self._descriptor = descriptor
                self._write()
        except BaseException:
            self._descriptor = None
            os.close(descriptor)
            raise
        if self._descriptor is None:
            os.close(descriptor)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._descriptor is None:
            return
        failure = ""
        if kind is not None:
            said = " ".join(str(error).split()) or kind.__name__
            failure = INTERRUPTED if issubclass(kind, KeyboardInterrupt) else said
        self._holder = replace(self._holder, ended=utc_now(), failure=failure)
        try:
            # On a full disk the run then looks killed, which is close enough.
            with contextlib.suppress(RunFolderError):
                self._write()
        finally:
            os.close(self._descriptor)
            self._descriptor = None

    @property
    def descriptors(self) -> tuple[int, ...]:
        """File descriptors for a child process to inherit, so that it holds the lock too while it lives."""
        return () if self._descriptor is None else (self._descriptor,)

    @property
    def is_own(self) -> bool:
        """Whether this process holds the lock; otherwise the run that started this notebook does."""
        return self._descriptor is not None

    def go_to(self, notebook: str) -> None:
        """Notes the current notebook in the lock file."""
        self._holder = replace(self._holder, now=notebook)
        if self._descriptor is not None:
            self._write()

    def _take(self, descriptor: int) -> bool:
        """Takes the lock and returns True; returns False when the parent of this process holds it."""
        end_s = time.monotonic() + ENDING_S
        while True:
            try:
                if _try_lock(descriptor, shared=False):
                    return True
            except OSError as error:
                raise self._refused(error) from error
            holder = read_holder(self._path)
            if holder is not None and holder.is_parent:
                return False
            # Otherwise the holder is about to write its name, or it has ended and its kernel is about to end.
            if (holder is not None and holder.lives) or time.monotonic() >= end_s:
                raise RunFolderError(_describe_refusal(self._path.parent, holder))
            time.sleep(_TRY_AGAIN_S)

    def _write(self) -> None:
        assert self._descriptor is not None
        entry = (json.dumps(asdict(self._holder), indent=2) + "\n").encode()
        try:
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            os.write(self._descriptor, entry)
            os.ftruncate(self._descriptor, len(entry))
        except OSError as error:
            raise self._refused(error) from error

    def _refused(self, error: OSError) -> RunFolderError:
        return RunFolderError(
            f"the run folder {self._path.parent} cannot be used ({self._path.name}: {error.strerror}): make it "
            "writable, free space, or set another run_dir"
        )


def _try_lock(descriptor: int, *, shared: bool) -> bool:
    """Tries to lock without waiting; returns whether it worked. Raises OSError when the disk does not support locks."""
    if sys.platform == "win32":
        return True
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _describe_refusal(folder: Path, holder: LockOwner | None) -> str:
    if holder is None or not holder.lives:
        was = f" ({holder})" if holder is not None else ""
        return (
            f"the run folder {folder} is in use by a process that an earlier run{was} left behind: end that process, "
            "or set another run_dir"
        )
    return (
        f"the run folder {folder} is in use by {holder}, and only one run works in it at a time: wait until that one "
        f"ends (`python -m dedup_lib status {shlex.quote(str(folder))} --watch` shows how far it is), stop it (`kill "
        f"{holder.pid}`{'' if holder.is_here else f' on {holder.host}'}), or set another run_dir"
    )

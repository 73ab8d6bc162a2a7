"""One run works in a folder at a time: a locked file says who.

The lock belongs to a process and goes with it, whatever ends that, so that nothing is left to clean up. A notebook
that a run starts works under the lock of the run. There is no such lock on Windows.
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
"""So long a run waits for what a killed one leaves: its kernel, which notices within a second."""

_TRY_AGAIN_S = 0.05

INTERRUPTED = "interrupted"
"""The failure of a run that a person ended."""


@dataclass(frozen=True, kw_only=True)
class LockOwner:
    """Who works on a run folder, or did last. Times are UTC in ISO format."""

    pid: int
    host: str
    notebooks: tuple[str, ...]
    """What it was to run, in order."""
    now: str
    """The notebook that it is at."""
    command: str
    """What a person types to go on with it; empty for a notebook that was run by hand."""
    began: str
    ended: str = ""
    """Empty while it works, and for ever when it was killed."""
    failure: str = ""
    """Why it ended before it was done."""

    @property
    def lives(self) -> bool:
        """Whether it may still be at work: it has not said that it ended, and its process is not known to be gone."""
        if self.ended:
            return False
        if not self.is_here:
            return True
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except OSError:
            return True
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
        """Its process, and its machine where that is another one."""
        return f"process {self.pid}" + ("" if self.is_here else f" on {self.host}")

    def __str__(self) -> str:
        return f"{self.process}, at {self.now} since {self.began[:16].replace('T', ' ')} UTC"


def read_holder(path: Path) -> LockOwner | None:
    """Who works by the lock in that file or did last; None where nobody did, or it cannot be told."""
    try:
        # It is rewritten in place: what a longer entry left behind it is passed over.
        found, _ = json.JSONDecoder().raw_decode(path.read_text(encoding="utf-8"))
        return LockOwner(**found | {"notebooks": tuple(found["notebooks"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def is_held(path: Path) -> bool:
    """Whether a process holds the lock in that file."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        # A run that starts in this very moment tries again.
        return not _try_lock(descriptor, shared=True)
    except OSError:
        return False
    finally:
        os.close(descriptor)


class RunLock:
    """The right to write into a run folder. Use as a context manager.

    Where the parent of this process has it (the run that started a notebook), nothing is done. Raises RunFolderError
    when another process has it, or the folder cannot be written.
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
            # Python opens files such that no program that is started inherits them.
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
            # On a full disk the entry stays as that of a run that was killed, which is near enough.
            with contextlib.suppress(RunFolderError):
                self._write()
        finally:
            os.close(self._descriptor)
            self._descriptor = None

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What a process inherits that shall hold the lock too, for as long as it lives."""
        return () if self._descriptor is None else (self._descriptor,)

    @property
    def is_own(self) -> bool:
        """Whether this process has it; else the run that started this notebook has."""
        return self._descriptor is not None

    def go_to(self, notebook: str) -> None:
        """Say which notebook is worked on now."""
        self._holder = replace(self._holder, now=notebook)
        if self._descriptor is not None:
            self._write()

    def _take(self, descriptor: int) -> bool:
        """Whether this process has the lock now; not where its parent has."""
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
            # Else it is about to write its name, or its process has ended and a kernel of it is about to.
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
    """Raises OSError where the disk knows no locks."""
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

"""Memory that was freed and goes back to the system."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import multiprocessing
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Names of glibc's `mallopt`, in its malloc.h."""

_MOST_KEPT_BYTES = 8_000_000
"""Freed bytes at the end of the heap above which glibc gives them back by itself."""

_LARGE_BYTES = 4_000_000
"""Bytes from which a block goes back as soon as it is freed. Smaller blocks are allocated so often that fetching each
from the system takes noticeable time."""


@functools.cache
def _find_glibc() -> Any:
    """The C library of Linux; None elsewhere."""
    try:
        library = ctypes.CDLL("libc.so.6")
    except OSError:
        return None
    return library if hasattr(library, "malloc_trim") else None


def return_large_blocks() -> None:
    """Makes this process give back each large block of memory as soon as it is freed.

    glibc would keep blocks of up to 32 MB, once one of that size was freed: for each thread as many as it ever had.
    """
    if glibc := _find_glibc():
        glibc.mallopt(_MMAP_THRESHOLD, _LARGE_BYTES)
        glibc.mallopt(_TRIM_THRESHOLD, _MOST_KEPT_BYTES)


def release_memory() -> None:
    """Gives freed memory back to the system. glibc would keep the memory of the largest video, and of every thread."""
    if glibc := _find_glibc():
        glibc.malloc_trim(0)


def run_apart(work: Callable[[], object]) -> None:
    """Runs `work` in a child process where that is safe, so that the modules and data that it loads leave no memory
    behind. Raises what `work` raises."""
    # A fork copies no threads, but the locks that they hold. macOS ends a forked process that uses its libraries.
    if sys.platform != "linux" or threading.active_count() > 1:
        work()
        return
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_tell_outcome, args=(work, theirs))
    with ours, warnings.catch_warnings():
        # Python sees the threads of OpenBLAS, which is ready for a fork.
        warnings.simplefilter("ignore", DeprecationWarning)
        child.start()
        theirs.close()
        error: BaseException | None = None
        is_told = True
        try:
            error = ours.recv()
        except Exception:
            is_told = False
        finally:
            child.terminate()
            child.join()
    if error is not None:
        raise error
    if not is_told:
        # The process was killed, or its error cannot be sent.
        work()


def _tell_outcome(work: Callable[[], object], pipe: Connection) -> None:
    told: BaseException | None = None
    try:
        work()
    except BaseException as error:
        # The traceback itself cannot be sent.
        error.add_note(traceback.format_exc())
        told = error
    with contextlib.suppress(Exception):
        pipe.send(told)

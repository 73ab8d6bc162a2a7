"""Files written whole or not at all, and errors that say where a disk refused."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from dedup_lib.errors import RunFolderError


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns an error of the disk into a RunFolderError that names `path`."""
    try:
        yield
    except (ConnectionError, TimeoutError):
        # These come from a connection, such as that to a kernel, and not from the disk.
        raise
    except OSError as error:
        remedy = (
            "Give the list a shorter name, or name the output"
            if error.errno == errno.ENAMETOOLONG
            else "Free space or make the place writable"
        )
        raise RunFolderError(
            f"cannot write {path}: {error.strerror or error}. {remedy}, then start again: finished work is kept"
        ) from error


def write_text_atomically(path: Path, text: str) -> None:
    """Writes UTF-8 text completely or not at all: a reader never sees half a file. Raises RunFolderError for an error
    of the disk."""
    write_bytes_atomically(path, text.encode("utf-8"))


def write_bytes_atomically(path: Path, content: bytes) -> None:
    """The same for bytes."""
    write_file_atomically(path, lambda scratch: scratch.write_bytes(content))


def write_file_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Calls `write` with a temporary path, then moves the complete file to `path`. Raises RunFolderError for an error
    of the disk."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}.part")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(scratch)
            os.replace(scratch, path)
        finally:
            scratch.unlink(missing_ok=True)


def digest_file(path: Path) -> str:
    """The SHA-256 of a file in hexadecimal; "" when the file cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""

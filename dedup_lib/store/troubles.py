"""What Milvus raises or only logs, as errors that say what to do."""

from __future__ import annotations

import base64
import contextlib
import errno
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from dedup_lib.store.address import StoreAddress

_SIGNS_OF_ABSENCE = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "illegal connection params", "Timeout", "timeout")
"""Texts in the errors of the transport when a server does not answer, or not in time."""

_terminal = threading.Lock()
"""Held by the one thread that has redirected stderr."""


@contextlib.contextmanager
def without_advice() -> Iterator[None]:
    """Hides stderr while Milvus Lite builds an index with FAISS for each of its files: FAISS prints advice against
    small indexes there. The audit measures what an index misses."""
    with _terminal:
        shown, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)
        try:
            yield
        finally:
            os.dup2(shown, 2)
            os.close(shown)


@contextlib.contextmanager
def raise_what_lite_logs() -> Iterator[None]:
    """Adds the error that Milvus Lite only logs to the one it raises: it logs why it cannot open its file."""
    logged: list[BaseException] = []

    class Overhear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.exc_info and record.exc_info[1]:
                logged.append(record.exc_info[1])

    logger, handler = logging.getLogger("milvus_lite.server_manager"), Overhear()
    logger.setLevel(logging.ERROR)
    logger.propagate = False
    logger.addHandler(handler)
    try:
        yield
    except Exception as error:
        raise error from (logged[-1] if logged else error.__cause__)
    finally:
        logger.removeHandler(handler)


def explain_trouble(address: StoreAddress, action: str, error: Exception) -> str:
    """Returns a text that says what went wrong during `action`, and what to do."""
    import grpc

    causes: list[BaseException] = []
    cause: BaseException | None = error
    # pymilvus raises errors from themselves, so their chain may have no end.
    while cause is not None and cause not in causes:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    text = " ".join(f"{type(cause).__name__}: {cause}" for cause in causes)
    if address.is_local and "DataDirLockedError" in text:
        return (
            f"cannot open {address.uri}: another notebook or run has it open, and a Milvus Lite file takes one process "
            "at a time. Shut that kernel down, wait for that run to end, or name a server by MILVUS_URI"
        )
    if address.is_local and Path(address.uri).is_file():
        return (
            f"cannot open {address.uri}: it is a single file of an older Milvus Lite, and this version keeps a folder. "
            "Move it away and run 03_extract or 05_upload again"
        )
    for refusal in (errno.ENOSPC, errno.EROFS, errno.EACCES):
        if address.is_local and os.strerror(refusal) in text:
            remedy = "Free space or make it writable, then start again: finished work is kept"
            return f"cannot {action}: {address} cannot be written ({os.strerror(refusal)}). {remedy}"
    if address.is_local and os.strerror(errno.EEXIST) in text:
        return (
            f"cannot {action}: {address} is damaged, for a collection in it is incomplete. Move it away and start "
            "again; the videos whose vectors it held are then read again"
        )
    if "UNAUTHENTICATED" in text or "auth check failure" in text:
        return f"cannot {action}: {address} refuses the token. Check MILVUS_TOKEN"
    if "PERMISSION_DENIED" in text or "permission deny" in text or "PrivilegeType" in text:
        return (
            f"cannot {action}: {address} does not allow this user to do that. Check MILVUS_TOKEN, or have the right "
            "granted"
        )
    if not address.is_local and any(sign in text for sign in _SIGNS_OF_ABSENCE):
        return (
            f"cannot {action}: {address} does not answer. Check MILVUS_URI, and that the server is running and can be "
            "reached from here, then start again: finished work is kept"
        )
    if address.is_local and action == "connect":
        return f"cannot open {address.uri}: {causes[-1]}"
    # A server may repeat the token, plain or in the base64 form that the transport sends.
    details = (isinstance(error, grpc.Call) and error.details()) or str(error)
    said = details.strip().partition("\n")[0].replace(address.uri, str(address))
    user = urlsplit(address.uri).netloc.rpartition("@")[0]
    for token in (address.token, user):
        for secret in filter(None, (base64.b64encode(token.encode()).decode(), token, token.partition(":")[2])):
            said = said.replace(secret, "…")
    return f"cannot {action} in {address}: {said}"

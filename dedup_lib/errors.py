"""Every exception that this package raises on purpose, as one tree.

Trouble with a single video is never an exception: it is a row with a status and a reason (see `records.Status`). An
exception means that the run cannot continue as requested. Its message says what was found, why that does not work, and
what to change.

    DedupError
    ├── SettingError      a parameter has a value that cannot work
    ├── ListError         a CSV cannot be read, or holds no URL column
    ├── RunFolderError    the run folder lacks what an earlier notebook left, is in use, or takes no more
    ├── EncoderError      a model cannot be loaded
    ├── ClusterError      the Ray cluster is away, or a node of it cannot do the work
    ├── StoreError        the vector store refuses, is away, or holds something else
    ├── AccountingError   rows in and rows out do not add up
    ├── FailedRowsError   the outputs are written, but too many rows could not be read
    └── NotebookError     a notebook of a run failed

`VideoTrouble` is outside the tree: it carries the status of one video from the place where the trouble occurs to the
place where the outcome is recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from dedup_lib.records import Status
from dedup_lib.sanitise import sanitise


class DedupError(Exception):
    """Base of all errors raised on purpose. The user reads its text.

    The text is safe for a terminal, whatever names and values it contains: see `sanitise.sanitise`.
    """

    def __init__(self, message: str) -> None:
        super().__init__(sanitise(message))

    def __reduce__(self) -> tuple[Callable[..., DedupError], tuple[type[DedupError], str, dict[str, Any]]]:
        # By default, pickle makes an error anew from its message alone, which not every kind can be made from.
        return _restore, (type(self), str(self), vars(self))

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows: the message, which says what to do, and not the way through the code to it."""
        return [f"{type(self).__name__}: {self}"]


def _restore(kind: type[DedupError], message: str, held: dict[str, Any]) -> DedupError:
    """An error as it was before it was pickled."""
    error = kind.__new__(kind, message)
    vars(error).update(held)
    return error


class SettingError(DedupError):
    """A parameter has a value that cannot work."""

    def __init__(self, name: str, value: object, allowed: str) -> None:
        self.name = name
        self.value = value
        super().__init__(f"{name} = {value!r} cannot be used: {allowed}")


class ListError(DedupError):
    """A list of URLs cannot be read."""


class RunFolderError(DedupError):
    """The run folder lacks the output of an earlier notebook, another run works in it, or its disk takes no more."""


class EncoderError(DedupError):
    """An encoder's model cannot be loaded or does not fit."""


class ClusterError(DedupError):
    """There is no Ray cluster to work on, or a node of it cannot do the work."""


class StoreError(DedupError):
    """The vector store refuses, cannot be reached, or holds something else than expected."""


class AccountingError(DedupError):
    """Rows in and rows out do not add up: the outputs would lose or double a row."""


class FailedRowsError(DedupError):
    """More rows of a list failed than `fail_above` allows. The outputs are still complete."""


class NotebookError(DedupError):
    """A notebook of a run failed. The error carries the path of its executed copy."""

    def __init__(self, notebook: str, reason: str, executed_path: Path) -> None:
        self.notebook = notebook
        self.reason = reason
        self.executed_path = executed_path
        super().__init__(f"{notebook} failed: {' '.join(reason.split())}\nexecuted notebook: {executed_path}")


class VideoTrouble(Exception):
    """One video cannot be read. It is caught where the outcome is recorded, and never leaves `extract`.

    `retryable` says that the cause may pass. `retry_after_s` is the pause in seconds that the server asks for before
    the next attempt, None where the server names none. `refused_by` is the setting that refused the video, as
    `name=value`.
    """

    def __init__(
        self,
        status: Status,
        reason: str,
        *,
        retryable: bool = False,
        retry_after_s: float | None = None,
        refused_by: str = "",
    ) -> None:
        self.status = status
        self.reason = reason
        self.retryable = retryable
        self.retry_after_s = retry_after_s
        self.refused_by = refused_by
        super().__init__(f"{status}: {reason}")

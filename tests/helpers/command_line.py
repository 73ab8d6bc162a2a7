"""What a command of the command line said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Said:
    """The exit code of a command, and what it printed."""

    code: int
    out: str
    err: str


Say = Callable[..., Said]
"""Runs a command with these arguments."""

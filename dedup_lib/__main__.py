"""`python -m dedup_lib`, and what to type where this Python cannot run it. Python 3.7 reads this module."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import NoReturn

OLDEST = (3, 11)


def explain(trouble: str) -> str:
    """What is wrong with this Python, and what to type."""
    root = Path(__file__).resolve().parent.parent
    if Path(sys.prefix).resolve() == (root / ".venv").resolve():
        return f"error: {trouble}: type make setup in {root}, which completes its .venv"
    activate = Path(".venv", "bin", "activate")
    if Path.cwd() != root:
        activate = root / activate
    return (
        f"error: {trouble}, and {sys.executable} is not the Python of this project: type source "
        f"{shlex.quote(str(activate))} first, or use make run and the other make targets in {root}, which need no "
        "activation (make setup prepares .venv)"
    )


def refuse(trouble: str) -> NoReturn:
    """End with the code of a command that makes no sense."""
    sys.stderr.write(f"{explain(trouble)}\n")
    sys.exit(2)


if sys.version_info[:2] < OLDEST:
    refuse(f"Python {sys.version_info[0]}.{sys.version_info[1]} is too old")
try:
    from dedup_lib.cli.main import main

    main()
except ModuleNotFoundError as error:
    if (error.name or "").startswith("dedup_lib"):
        raise
    refuse(f"the package {error.name} is not installed")

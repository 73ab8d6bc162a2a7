"""Progress bars of notebooks."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeAlias

from tqdm import tqdm

from dedup_lib.records import Progress, no_progress

Bar: TypeAlias = "tqdm[Any]"


def open_bar(*, total: int | None = None, desc: str | None = None, unit: str = "", disable: bool = False) -> Bar:
    """A progress bar for a notebook, with rate and time left; `unit` is the plural of what it counts.

    It goes to the plain output: JupyterLab shows what goes to stderr on red, like an error."""
    return tqdm(total=total, desc=desc, unit=f" {unit}" if unit else "", disable=disable, file=sys.stdout)


def progress_on(bar: Bar | None) -> Progress:
    """Show one step after the other on one bar. Each step has its own pace and time left."""
    if bar is None:
        return no_progress
    known = ""

    def begin(step: str, count: int) -> Callable[[int], object]:
        nonlocal known
        if step == known:
            bar.total = count
        else:
            bar.reset(count)
            bar.set_description(step)
            known = step
        return bar.update

    return begin

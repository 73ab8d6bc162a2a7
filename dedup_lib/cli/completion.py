"""What a shell completes: names of profiles and of runs."""

from __future__ import annotations

import click

from dedup_lib.run.folder import list_runs
from dedup_lib.run.paths import list_profiles


def complete_run(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    """The runs in outputs/ whose names begin so."""
    return [name for name in list_runs() if name.startswith(begun)]


def complete_profile(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    """The profiles in params/ whose names begin so."""
    return [name for name in list_profiles() if name.startswith(begun)]

"""Fixtures that several modules share."""

from live_runs import site

__all__ = ["site"]

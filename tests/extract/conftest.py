"""Fixtures that several modules share."""

from extraction import media, server
from live_runs import site

__all__ = ["media", "server", "site"]

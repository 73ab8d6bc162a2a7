"""Which versions of packages were at work."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform

from dedup_lib import __version__

RECORDED_PACKAGES = (
    *("av", "opencv-python", "pdqhash", "numpy", "torch", "transformers", "Pillow"),
    *("urllib3", "pymilvus", "milvus-lite", "pandas"),
)
"""Packages that may change a result; a stage record notes their versions."""


def find_versions() -> dict[str, str]:
    """Versions of Python, of this project and of `RECORDED_PACKAGES`, by name."""
    found = {"python": platform.python_version(), "dedup_lib": __version__}
    for name in RECORDED_PACKAGES:
        # A package that only an unused encoder needs may be missing.
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found

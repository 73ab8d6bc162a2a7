"""Which versions of packages were at work."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform

from dedup_lib import __version__

RECORDED_PACKAGES = (
    "av",
    "opencv-python",
    "pdqhash",
    "numpy",
    "torch",
    "transformers",
    "Pillow",
    "urllib3",
    "pymilvus",
    "milvus-lite",
    "pandas",
)
"""Those that a result may hang on; a record says which version of each was at work."""


def find_versions() -> dict[str, str]:
    """Version of Python, of this project and of `RECORDED_PACKAGES`, by name."""
    found = {"python": platform.python_version(), "dedup_lib": __version__}
    for name in RECORDED_PACKAGES:
        # The model of an encoder that is not used may be missing.
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found

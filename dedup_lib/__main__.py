"""`python -m dedup_lib`."""

from __future__ import annotations

from dedup_lib.cli import main

main()

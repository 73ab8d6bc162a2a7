"""The names of a package, each loaded at its first use: nobody waits for modules that they do not use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def load_at_use(package: str, homes: Mapping[str, str]) -> tuple[list[str], Callable[[str], Any]]:
    """Returns `__all__` and `__getattr__` (PEP 562) for a package.

    `homes` gives, for each module below the package, the names that it holds, separated by spaces. A module that gives
    its own name stands for itself.
    """
    module_of = {name: module for module, names in homes.items() for name in names.split()}

    def load(name: str) -> Any:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        home = import_module(f"{package}.{module_of[name]}")
        return home if module_of[name].rpartition(".")[2] == name else getattr(home, name)

    return list(module_of), load

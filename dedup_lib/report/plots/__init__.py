"""Every plot of a notebook: drawn from records and arrays, decided and read nowhere here."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dedup_lib.report.plots.evaluation import figure_curves as figure_curves
    from dedup_lib.report.plots.evaluation import figure_likeness as figure_likeness
    from dedup_lib.report.plots.evaluation import figure_recalls as figure_recalls
    from dedup_lib.report.plots.run import figure_flow as figure_flow
    from dedup_lib.report.plots.run import figure_resources as figure_resources
    from dedup_lib.report.plots.run import figure_statuses as figure_statuses
    from dedup_lib.report.plots.run import figure_throughput as figure_throughput
    from dedup_lib.report.plots.strips import figure_groups as figure_groups
    from dedup_lib.report.plots.strips import figure_mistakes as figure_mistakes
    from dedup_lib.report.plots.strips import figure_pairs as figure_pairs
    from dedup_lib.report.plots.thresholds import figure_measured as figure_measured
    from dedup_lib.report.plots.thresholds import figure_similarities as figure_similarities
    from dedup_lib.report.plots.thresholds import figure_sweep as figure_sweep

_HOMES = {
    "figure_curves": "evaluation",
    "figure_likeness": "evaluation",
    "figure_recalls": "evaluation",
    "figure_flow": "run",
    "figure_resources": "run",
    "figure_statuses": "run",
    "figure_throughput": "run",
    "figure_groups": "strips",
    "figure_mistakes": "strips",
    "figure_pairs": "strips",
    "figure_measured": "thresholds",
    "figure_similarities": "thresholds",
    "figure_sweep": "thresholds",
}
"""The module of each plot."""

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    """Load a plot at its first use. While 03_extract reads videos, matplotlib would take memory for nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

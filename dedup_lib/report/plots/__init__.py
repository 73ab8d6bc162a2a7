"""Every plot of a notebook: drawn from records and arrays, decided and read nowhere here."""

from dedup_lib.report.plots.evaluation import figure_curves, figure_likeness, figure_recalls
from dedup_lib.report.plots.run import figure_flow, figure_resources, figure_statuses, figure_throughput
from dedup_lib.report.plots.strips import figure_groups, figure_mistakes, figure_pairs
from dedup_lib.report.plots.thresholds import figure_measured, figure_similarities, figure_sweep

__all__ = [
    "figure_curves",
    "figure_flow",
    "figure_groups",
    "figure_likeness",
    "figure_measured",
    "figure_mistakes",
    "figure_pairs",
    "figure_recalls",
    "figure_resources",
    "figure_similarities",
    "figure_statuses",
    "figure_sweep",
    "figure_throughput",
]

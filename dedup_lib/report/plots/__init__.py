"""Every plot of a notebook: drawn from records and arrays, decided and read nowhere here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dedup_lib.lazy import load_at_use

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

__all__, __getattr__ = load_at_use(
    __name__,
    {
        "evaluation": "figure_curves figure_likeness figure_recalls",
        "run": "figure_flow figure_resources figure_statuses figure_throughput",
        "strips": "figure_groups figure_mistakes figure_pairs",
        "thresholds": "figure_measured figure_similarities figure_sweep",
    },
)

"""Colours and type of plots and pages."""

from __future__ import annotations

from typing import Any

COLOURS = {
    "kept": "#009E73",
    "duplicate": "#0072B2",
    "repeated": "#56B4E9",
    "invalid": "#E69F00",
    "failed": "#D55E00",
    "excerpt": "#CC79A7",
    "review": "#CCBB44",
    "threshold": "#882255",
    "neutral": "#8A9099",
}
"""The colour of each meaning, in every plot and page."""

DARK_COLOURS = {"duplicate": "#3E9BDC", "threshold": "#DD8FBE"}
"""Replacements for colours that are too dark for a dark page; plots are always light."""

PAGE_COLOURS = {
    "page": ("#F6F7F9", "#14171C"),
    "card": ("#FFFFFF", "#1C2027"),
    "ink": ("#20242B", "#E7EAEE"),
    "soft": ("#59616D", "#A4ADBA"),
    "line": ("#DFE2E8", "#333A45"),
    "link": ("#005A94", "#7CC4F5"),
    "bad": ("#FDF0EA", "#33211A"),
    "stream": ("#C9CED6", "#4A525E"),
}
"""The other colours of a page, as (light, dark)."""

INK = "#2B2F36"

PALE = "#ECEEF1"

SERIES_COLOURS = (INK, "#7B62C9", "#A67C1F", COLOURS["neutral"])

SERIES_MARKERS = "os^Dv*"
"""Markers of compared settings, used together with `SERIES_COLOURS`, so that colour alone carries no meaning. Settings
have none of the meanings in `COLOURS`."""

STYLE: dict[Any, Any] = {
    "font.size": 11,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#B4B9C1",
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": PALE,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 10.5,
    "ytick.labelsize": 10.5,
    "legend.edgecolor": "none",
    "legend.framealpha": 0.85,
    "legend.fontsize": 10.5,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
}

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
"""What each colour means, in every picture and page."""

DARK_COLOURS = {"duplicate": "#3E9BDC", "threshold": "#DD8FBE"}
"""In place of those that cannot be seen on a dark page; pictures are always light."""

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
"""What a page is made of besides, on light and on dark."""

INK = "#2B2F36"

PALE = "#ECEEF1"

SERIES_COLOURS = (INK, "#7B62C9", "#A67C1F", COLOURS["neutral"])

SERIES_MARKERS = "os^Dv*"
"""Of settings that are compared, which mean none of `COLOURS`: neither carries a meaning alone."""

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

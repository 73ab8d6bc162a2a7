"""The rows of the demo list: copies and traps, and what must become of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

from dedup_lib.match.evidence import Criterion, Verdict
from dedup_lib.records import FAILED_STATUSES, INVALID_STATUSES, Status

Treatment = Literal["low_bitrate", "webm", "half_size", "letterbox", "pillarbox", "grey", "logo", "square", "teaser"]

Spelling = Literal["plain", "fragment", "escaped_tilde", "wholly_encoded", "doubly_encoded", "https", "empty"]

Output = Literal["final", "text_duplicate", "duplicate", "invalid", "failed"]


@dataclass(frozen=True)
class Copy:
    """One clip that is a copy of the film `of`."""

    name: str
    of: str
    treatment: Treatment


@dataclass(frozen=True)
class Planted:
    """One row of the list, and what must become of it.

    `name` is the file that its URL leads to; the file need not exist. `status` is None for a row that repeats a URL and
    is dropped before anything is fetched. `verdict` and `rule` are the evidence that a copy must have; they are empty
    when several are acceptable.
    """

    id: str
    name: str
    title: str
    brand: str
    year: int
    status: Status | None = Status.OK
    verdict: str = ""
    rule: str = ""
    spelling: Spelling = "plain"

    @property
    def copy_of(self) -> str:
        """The film that its file is a copy of; "" for any other file."""
        return next((copy.of for copy in COPIES if copy.name == self.name), "")

    @property
    def expected(self) -> Output:
        """The output in which a run must put it."""
        if self.status in INVALID_STATUSES:
            return "invalid"
        if self.status in FAILED_STATUSES:
            return "failed"
        return "text_duplicate" if self.status is None else "duplicate" if self.copy_of else "final"

    def url(self, base_url: str) -> str:
        """The URL in the spelling of the list."""
        path = quote(f"/{self.name}")
        plain = base_url + path
        match self.spelling:
            case "plain":
                return plain
            case "fragment":
                return f"{plain}#t=2"
            case "escaped_tilde":
                return base_url.replace("http:", "HTTP:") + path.replace("~", "%7E") + "?"
            case "wholly_encoded":
                return quote(plain, safe="")
            case "doubly_encoded":
                return quote(quote(plain, safe=""), safe="")
            case "https":
                return plain.replace("http:", "https:", 1)
            case "empty":
                return ""


COPIES = (
    Copy("mirror/morning_lq.mp4", "spots/slow-mornings.mp4", "low_bitrate"),
    Copy("mirror/morning_small.mp4", "spots/slow-mornings.mp4", "half_size"),
    Copy("mirror/ride.webm", "spots/night-ride.mp4", "webm"),
    Copy("mirror/liftoff_bw.mp4", "spots/lift-off.mp4", "grey"),
    Copy("mirror/cup_wide.mp4", "tall/second-cup.mp4", "pillarbox"),
    Copy("mirror/cat_4x3.mp4", "spots/whiskers.mp4", "letterbox"),
    Copy("mirror/garage_channel.mp4", "spots/garage-days.mp4", "logo"),
    Copy("mirror/far_square.mp4", "spots/far-away.mp4", "square"),
    Copy("mirror/tower_teaser.mp4", "tall/up-the-tower.mp4", "teaser"),
)

TEASER_FRACTION = 0.4
"""The share of a film, from its start, that its teaser shows."""

BLACK_NAME = "spots/signal-lost.mp4"

IMAGE_NAME = "spots/storyboard.mp4"

HTML_NAME = "spots/press-room.mp4"

TRUNCATED_NAME = "spots/half-a-story.mp4"

PLANTED = (
    Planted("TVC-2041", "spots/lift-off.mp4", "Up, up and away", "Tarnwick Travel", 2009),
    Planted("TVC-0317", "spots/small-change.mp4", "Small change", "Pellbrook Savings", 1998),
    Planted("TVC-1188", "~studio/stone by stone.mp4", "Stone by stone", "Grausel & Sons", 2004),
    Planted("TVC-0952", "spots/slow-mornings.mp4", "Café au matin", "Velmora Coffee", 2012),
    Planted("TVC-1433", HTML_NAME, "Press room special", "Oddlemere TV", 2015, status=Status.HTML),
    Planted("TVC-0664", "spots/night-ride.mp4", "Night ride", "Kettrick Motors", 2007),
    Planted("TVC-2210", "spots/curtain-up.mp4", "Curtain up", "Oddlemere TV", 2011),
    Planted("TVC-0087", "mirror/morning_lq.mp4", "Café au matin (tape transfer)", "Velmora Coffee", 2012),
    Planted("TVC-1719", "spots/clear-sight.mp4", "Clear sight", "Optivane", 2016, spelling="wholly_encoded"),
    Planted("TVC-0526", "tall/second-cup.mp4", "Second cup", "Velmora Coffee", 2018),
    Planted("TVC-1305", "spots/lost-reel.mp4", "The lost reel", "Grausel & Sons", 1996, status=Status.HTTP_ERROR),
    Planted(
        "TVC-1189",
        "~studio/stone by stone.mp4",
        "Stone by stone",
        "Grausel & Sons",
        2004,
        status=None,
        spelling="escaped_tilde",
    ),
    Planted("TVC-0743", "spots/whiskers.mp4", "Whiskers", "Mauzelin", 2010),
    Planted("TVC-1960", "spots/under-the-lens.mp4", "Under the lens", "Labriance", 2014),
    Planted("TVC-2042", "mirror/liftoff_bw.mp4", "Up, up and away (black and white)", "Tarnwick Travel", 2009),
    Planted("TVC-0401", "", "Untitled, no tape", "unknown", 1994, status=Status.INVALID_URL, spelling="empty"),
    Planted("TVC-0875", "spots/far-away.mp4", "Far away is near", "Tarnwick Travel", 2013),
    Planted("TVC-1552", BLACK_NAME, "Signal lost", "Oddlemere TV", 2001, status=Status.FEATURELESS),
    Planted("TVC-0229", "spots/garage-days.mp4", "Garage days", "Kettrick Motors", 2006),
    Planted(
        "TVC-0318",
        "spots/small-change.mp4",
        "Small change",
        "Pellbrook Savings",
        1998,
        status=None,
        spelling="wholly_encoded",
    ),
    Planted("TVC-0665", "mirror/ride.webm", "Night ride, director's cut", "Kettrick Motors", 2008),
    Planted("TVC-1624", "spots/lights-out.mp4", "Lights out", "Kettrick Motors", 2011),
    Planted("TVC-2107", "tall/up-the-tower.mp4", "Up the tower", "Tarnwick Travel", 2019),
    Planted("TVC-1006", TRUNCATED_NAME, "Half a story", "Pellbrook Savings", 2003, status=Status.DECODE_ERROR),
    Planted("TVC-0744", "mirror/cat_4x3.mp4", "Whiskers (4:3)", "Mauzelin", 2010),
    Planted("TVC-1871", "spots/landing-site.mp4", "A quiet place", "Grausel & Sons", 2017, spelling="doubly_encoded"),
    Planted("TVC-0527", "mirror/cup_wide.mp4", "Second cup – wide", "Velmora Coffee", 2018),
    Planted("TVC-1434", IMAGE_NAME, "Storyboard", "Oddlemere TV", 2015, status=Status.IMAGE),
    Planted("TVC-0088", "mirror/morning_small.mp4", "Café au matin (web)", "Velmora Coffee", 2013),
    Planted(
        "TVC-1190",
        "~studio/stone by stone.mp4",
        "Stone by stone (from 0:02)",
        "Grausel & Sons",
        2004,
        status=None,
        spelling="fragment",
    ),
    Planted(
        "TVC-0876",
        "mirror/far_square.mp4",
        "Far away is near (square)",
        "Tarnwick Travel",
        2019,
        verdict=Verdict.DUPLICATE,
        rule=Criterion.REGISTERED,
    ),
    Planted("TVC-2305", "tall/green-weekend.mp4", "Ab ins Grüne", "Mauzelin", 2020),
    Planted(
        "TVC-2108", "mirror/tower_teaser.mp4", "Up the tower (teaser)", "Tarnwick Travel", 2019, verdict=Verdict.EXCERPT
    ),
    Planted("TVC-0230", "mirror/garage_channel.mp4", "Garage days (as aired)", "Kettrick Motors", 2006),
    Planted(
        "TVC-1777",
        "spots/harbour-at-five.mp4",
        "Harbour at five",
        "Optivane",
        2016,
        status=Status.UNREACHABLE,
        spelling="https",
    ),
)
"""Every row of the list, in order. An original always comes before its copies, and no copy is better than it.

One row asks for https, which the demo's server does not support.
"""

HTML_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Press room</title></head>
<body><h1>Press room</h1><p>This film has moved. Please ask the archive for a new link.</p></body>
</html>
"""

"""The films of the demo: what each shot shows."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Window = tuple[float, float, float]
"""Centre x, centre y and width of a view, as fractions of a photograph's width and height."""

Colour = tuple[float, float, float]

Picture = NDArray[np.uint8]

Layer = NDArray[np.float32]

PLAIN: Colour = (1.0, 1.0, 1.0)

WARM: Colour = (1.08, 0.96, 0.78)

COLD: Colour = (0.80, 0.95, 1.10)

MEADOW: Colour = (0.80, 1.06, 0.58)

COPPER: Colour = (1.12, 0.84, 0.60)

DUSK: Colour = (0.92, 0.84, 1.12)


@dataclass(frozen=True)
class Shot:
    """One slow camera move over one photograph."""

    photo: str
    start: Window
    end: Window
    tint: Colour = PLAIN


@dataclass(frozen=True)
class Film:
    """One original clip."""

    name: str
    tagline: str
    size_px: tuple[int, int]
    fps: int
    duration_s: float
    shots: tuple[Shot, ...] = ()
    crossfade_s: float = 0.0
    black_start_s: float = 0.0

    @property
    def frames(self) -> int:
        return round(self.duration_s * self.fps)

    def showing(self, *shots: Shot) -> Film:
        """The film with these shots."""
        return replace(self, shots=shots)


FILMS = (
    Film("spots/slow-mornings.mp4", "slow mornings", (480, 270), 24, 5.0, crossfade_s=0.5).showing(
        Shot("coffee.png", (0.50, 0.50, 1.00), (0.52, 0.48, 0.84)),
        Shot("coffee.png", (0.44, 0.28, 0.52), (0.54, 0.32, 0.46)),
        Shot("chelsea.png", (0.55, 0.42, 0.94), (0.48, 0.45, 0.82), WARM),
    ),
    Film("spots/night-ride.mp4", "ride on", (480, 270), 25, 5.0).showing(
        Shot("motorcycle_left.png", (0.46, 0.60, 0.80), (0.52, 0.58, 0.92)),
        Shot("motorcycle_left.png", (0.20, 0.74, 0.36), (0.28, 0.70, 0.40)),
        Shot("rocket.jpg", (0.30, 0.86, 0.52), (0.45, 0.84, 0.52), WARM),
    ),
    Film("spots/lift-off.mp4", "lift-off", (426, 240), 24, 5.5, crossfade_s=0.6).showing(
        Shot("rocket.jpg", (0.50, 0.55, 1.00), (0.54, 0.52, 0.80)),
        Shot("rocket.jpg", (0.66, 0.38, 0.42), (0.66, 0.62, 0.42)),
        Shot("hubble_deep_field.jpg", (0.30, 0.30, 0.50), (0.40, 0.34, 0.60)),
    ),
    Film("spots/far-away.mp4", "far away is near", (426, 240), 20, 6.0, crossfade_s=0.8).showing(
        Shot("hubble_deep_field.jpg", (0.70, 0.62, 0.46), (0.64, 0.66, 0.34)),
        Shot("moon.png", (0.45, 0.40, 0.90), (0.48, 0.48, 0.74), COLD),
        Shot("hubble_deep_field.jpg", (0.28, 0.76, 0.50), (0.36, 0.70, 0.42), DUSK),
    ),
    Film("spots/whiskers.mp4", "purr.", (400, 224), 25, 4.5).showing(
        Shot("chelsea.png", (0.40, 0.30, 0.62), (0.50, 0.34, 0.58)),
        Shot("grass.png", (0.40, 0.50, 0.70), (0.56, 0.50, 0.62), MEADOW),
        Shot("chelsea.png", (0.56, 0.68, 0.60), (0.60, 0.62, 0.66)),
    ),
    Film("spots/under-the-lens.mp4", "look closer", (360, 240), 15, 5.0, crossfade_s=0.4).showing(
        Shot("ihc.png", (0.40, 0.36, 0.78), (0.50, 0.40, 0.66)),
        Shot("retina.jpg", (0.40, 0.48, 0.48), (0.48, 0.50, 0.52)),
        Shot("ihc.png", (0.60, 0.74, 0.66), (0.54, 0.72, 0.58)),
    ),
    Film("spots/clear-sight.mp4", "clear sight", (360, 240), 25, 4.0).showing(
        Shot("retina.jpg", (0.26, 0.50, 0.36), (0.32, 0.46, 0.42)),
        Shot("chelsea.png", (0.36, 0.30, 0.40), (0.38, 0.30, 0.30)),
        Shot("retina.jpg", (0.62, 0.34, 0.44), (0.56, 0.30, 0.38), WARM),
    ),
    Film("spots/small-change.mp4", "small change", (384, 256), 12, 6.0, crossfade_s=0.5).showing(
        Shot("coins.png", (0.40, 0.36, 0.72), (0.60, 0.40, 0.72), COPPER),
        Shot("coins.png", (0.74, 0.80, 0.50), (0.50, 0.78, 0.50), COPPER),
        Shot("page.png", (0.45, 0.40, 0.66), (0.55, 0.55, 0.66), WARM),
    ),
    Film("spots/garage-days.mp4", "garage days", (480, 270), 20, 5.0).showing(
        Shot("motorcycle_left.png", (0.84, 0.26, 0.32), (0.80, 0.26, 0.36)),
        Shot("gravel.png", (0.40, 0.60, 0.66), (0.46, 0.50, 0.76), COPPER),
        Shot("motorcycle_left.png", (0.80, 0.72, 0.40), (0.74, 0.68, 0.46)),
    ),
    Film("~studio/stone by stone.mp4", "stone by stone", (320, 180), 25, 5.0, crossfade_s=0.5).showing(
        Shot("gravel.png", (0.40, 0.40, 0.50), (0.50, 0.44, 0.62), COLD),
        Shot("coins.png", (0.30, 0.24, 0.56), (0.42, 0.28, 0.50), PLAIN),
        Shot("brick.png", (0.60, 0.70, 0.54), (0.54, 0.60, 0.62), WARM),
    ),
    Film("tall/up-the-tower.mp4", "all the way up", (240, 426), 24, 5.0, crossfade_s=0.4).showing(
        Shot("rocket.jpg", (0.18, 0.55, 0.36), (0.26, 0.52, 0.36)),
        Shot("astronaut.png", (0.84, 0.30, 0.30), (0.84, 0.34, 0.34)),
        Shot("rocket.jpg", (0.62, 0.56, 0.26), (0.66, 0.48, 0.32), DUSK),
    ),
    Film("tall/second-cup.mp4", "one more?", (270, 480), 20, 5.0, crossfade_s=0.5).showing(
        Shot("coffee.png", (0.72, 0.62, 0.30), (0.66, 0.58, 0.34)),
        Shot("chelsea.png", (0.74, 0.50, 0.36), (0.66, 0.50, 0.37)),
        Shot("coffee.png", (0.36, 0.50, 0.36), (0.46, 0.48, 0.37)),
    ),
    Film("tall/green-weekend.mp4", "go outside", (240, 426), 15, 4.5).showing(
        Shot("grass.png", (0.70, 0.50, 0.40), (0.62, 0.52, 0.48), MEADOW),
        Shot("motorcycle_left.png", (0.22, 0.50, 0.34), (0.30, 0.52, 0.36)),
        Shot("gravel.png", (0.66, 0.60, 0.46), (0.56, 0.52, 0.40), WARM),
    ),
    Film("spots/landing-site.mp4", "a quiet place", (384, 216), 25, 5.0, crossfade_s=0.6).showing(
        Shot("moon.png", (0.40, 0.72, 0.62), (0.50, 0.70, 0.54)),
        Shot("astronaut.png", (0.74, 0.82, 0.48), (0.70, 0.80, 0.54)),
        Shot("moon.png", (0.60, 0.26, 0.64), (0.54, 0.28, 0.56), COPPER),
    ),
    Film("spots/curtain-up.mp4", "curtain up", (320, 180), 25, 5.0, black_start_s=1.0).showing(
        Shot("astronaut.png", (0.30, 0.80, 0.50), (0.34, 0.78, 0.52)),
        Shot("ihc.png", (0.30, 0.70, 0.56), (0.36, 0.66, 0.64)),
        Shot("coffee.png", (0.70, 0.60, 0.48), (0.64, 0.64, 0.54)),
    ),
    Film("spots/lights-out.mp4", "lights out", (320, 180), 25, 5.0, black_start_s=1.0).showing(
        Shot("motorcycle_left.png", (0.30, 0.40, 0.50), (0.36, 0.40, 0.56)),
        Shot("rocket.jpg", (0.46, 0.74, 0.64), (0.50, 0.70, 0.72)),
        Shot("moon.png", (0.34, 0.40, 0.70), (0.40, 0.46, 0.80), COLD),
    ),
)
"""The originals. The last two both start with one second of black, and are otherwise different."""

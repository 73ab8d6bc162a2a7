"""Made-up pictures for made-up videos: products, photographs, people, sets, and words in several scripts.

Everything is drawn with a generator of random numbers. The same generator state gives the same image.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]
Box = tuple[int, int, int, int]
"""Left, top, right and bottom of a part of an image, in pixels."""

FONTS = ("DejaVuSans-Bold", "DejaVuSans", "DejaVuSerif-Bold", "DejaVuSansMono-Bold")
"""Fonts that come with matplotlib, with Latin, Greek and Cyrillic letters. The first two also have Arabic letters."""

LANGUAGES: dict[str, tuple[str, str]] = {
    "en": ("Only this week", "Fresh every morning, at your door by nine"),
    "de": ("Nur diese Woche", "Jeden Morgen frisch, um neun vor Ihrer Tür"),
    "fr": ("Cette semaine seulement", "Frais chaque matin, chez vous à neuf heures"),
    "es": ("Solo esta semana", "Fresco cada mañana, en su casa a las nueve"),
    "ru": ("Только на этой неделе", "Свежее каждое утро, у вас дома к девяти"),
    "el": ("Μόνο αυτή την εβδομάδα", "Φρέσκο κάθε πρωί, στην πόρτα σας στις εννέα"),
    "pl": ("Tylko w tym tygodniu", "Świeże każdego ranka, u Państwa o dziewiątej"),
    "ar": ("هذا الأسبوع فقط", "طازج كل صباح، عند بابك في التاسعة"),
}
"""For each language, a headline and a line of text."""

BRANDS = ("NORDLICHT", "casa verde", "Ōki & Co", "ПЕКАРНЯ 24", "Bellmont", "fluxo", "HAUSGUT", "Ταβέρνα")


def pick_colour(generator: np.random.Generator, *, light: tuple[float, float] = (0.3, 1.0)) -> Colour:
    """A random colour whose brightness is in the range `light`, of 0 to 1."""
    hue, saturation, value = generator.uniform(0, 1), generator.uniform(0.35, 0.95), generator.uniform(*light)
    red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(hue, saturation, value))
    return red, green, blue


def ink_on(colour: Colour) -> Colour:
    """Black or white, whichever is readable on a colour."""
    return (15, 15, 20) if np.dot(colour, (0.299, 0.587, 0.114)) > 120 else (250, 250, 250)


def draw_blots(generator: np.random.Generator, size_px: tuple[int, int], *, cells: Sequence[int]) -> np.ndarray:
    """A smooth random field with a deviation of about 1, float32 (H, W). Each layer has one number of `cells` across,
    and later layers are weaker."""
    width, height = size_px
    field = np.zeros((height, width), np.float32)
    for layer, across in enumerate(cells):
        grid = generator.normal(0, 0.6**layer, (max(2, across * height // width), max(2, across))).astype(np.float32)
        field += cv2.resize(grid, size_px, interpolation=cv2.INTER_CUBIC)
    return field


def draw_slope(size_px: tuple[int, int], start: Colour, end: Colour, *, across: bool = False) -> Image.Image:
    """A gradient from one colour to another, downwards or, with `across`, to the right."""
    width, height = size_px
    shares = np.linspace(0, 1, width if across else height)[:, None]
    line = np.asarray(start) * (1 - shares) + np.asarray(end) * shares
    picture = np.broadcast_to(line[None] if across else line[:, None], (height, width, 3))
    return Image.fromarray(np.ascontiguousarray(picture).astype(np.uint8))


def draw_pattern(generator: np.random.Generator, size_px: tuple[int, int]) -> Image.Image:
    """Dots, checks or rings in two colours."""
    first, second = pick_colour(generator, light=(0.6, 1.0)), pick_colour(generator, light=(0.3, 0.8))
    picture = Image.new("RGB", size_px, first)
    pen = ImageDraw.Draw(picture)
    step, kind = int(generator.integers(18, 54)), int(generator.integers(3))
    for row, y in enumerate(range(0, size_px[1] + step, step)):
        for column, x in enumerate(range(0, size_px[0] + step, step)):
            if kind == 0:
                pen.ellipse((x - step // 4, y - step // 4, x + step // 4, y + step // 4), fill=second)
            elif kind == 1 and (row + column) % 2:
                pen.rectangle((x, y, x + step - 1, y + step - 1), fill=second)
            elif kind == 2:
                pen.ellipse((x - step // 3, y - step // 3, x + step // 3, y + step // 3), outline=second, width=3)
    return picture


# --- words


@lru_cache(maxsize=256)
def load_font(name: str, size_px: int) -> ImageFont.FreeTypeFont:
    """One of `FONTS` at a size in pixels."""
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf", size_px)


def draw_words(text: str, size_px: tuple[int, int], *, font: str, height_px: int, ink: Colour) -> Image.Image:
    """Words in a transparent box, broken into lines. They are smaller than `height_px` where the box needs it."""
    width, height = size_px
    for points in range(max(9, height_px), 7, -1):
        chosen = load_font(font, points)
        lines, leading = _break_lines(text, chosen, width), round(points * 1.2)
        if leading * len(lines) <= height and max(chosen.getlength(line) for line in lines) <= width:
            break
    picture = Image.new("RGBA", size_px, (*ink, 0))
    pen = ImageDraw.Draw(picture)
    top = (height - leading * len(lines)) // 2
    for number, line in enumerate(lines):
        pen.text((0, top + number * leading), line, font=chosen, fill=(*ink, 255))
    return picture


def _break_lines(text: str, font: ImageFont.FreeTypeFont, width_px: int) -> list[str]:
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width_px:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def choose_prices(generator: np.random.Generator, count: int) -> list[str]:
    """Different prices in one notation."""
    spelling = ("{},{:02} €", "${}.{:02}", "{}.{:02} zł", "£{}.{:02}", "{},{:02} ₽")[generator.integers(5)]
    highest = int(generator.choice([10, 30, 100]))
    wholes = generator.permutation(np.arange(1, highest))[:count]
    return [spelling.format(whole, int(generator.choice([9, 29, 49, 95, 99]))) for whole in wholes]


# --- products

PRODUCTS = ("bottle", "cup", "shoe", "box", "lamp", "phone", "ball", "jar", "chair", "plant", "watch", "bag")
_SIDE = 480


def draw_product(generator: np.random.Generator, kind: str, size_px: tuple[int, int]) -> Image.Image:
    """One of `PRODUCTS` in a transparent box, with random colours, proportions, texture and label."""
    outline = Image.new("L", (_SIDE, _SIDE), 0)
    _draw_outline(ImageDraw.Draw(outline), kind, generator)
    body = _fill_body(generator)
    picture = Image.new("RGBA", (_SIDE, _SIDE), (0, 0, 0, 0))
    picture.paste(body, (0, 0), outline)
    details = Image.new("RGBA", (_SIDE, _SIDE), (0, 0, 0, 0))
    _draw_details(ImageDraw.Draw(details), kind, generator)
    picture.alpha_composite(details)
    side = min(size_px)
    fitted = Image.new("RGBA", size_px, (0, 0, 0, 0))
    small = picture.resize((side, side), Image.Resampling.LANCZOS)
    fitted.paste(small, ((size_px[0] - side) // 2, (size_px[1] - side) // 2))
    return fitted


def _fill_body(generator: np.random.Generator) -> Image.Image:
    main, second = pick_colour(generator), pick_colour(generator)
    body = np.asarray(draw_slope((_SIDE, _SIDE), main, second, across=bool(generator.integers(2)))).astype(np.float32)
    rows, columns = np.mgrid[:_SIDE, :_SIDE]
    period = int(generator.integers(24, 90))
    texture = (
        draw_blots(generator, (_SIDE, _SIDE), cells=(6, 24)),
        np.sign(np.sin(2 * np.pi * rows / period)),
        np.sign(np.sin(2 * np.pi * (rows + columns) / period)),
        np.sign(np.sin(2 * np.pi * rows / period) * np.sin(2 * np.pi * columns / period)),
        np.zeros((_SIDE, _SIDE)),
    )[generator.integers(5)]
    # The light comes from the left, as on a round body.
    light = 0.75 + 0.45 * np.exp(-(((columns - 0.36 * _SIDE) / (0.25 * _SIDE)) ** 2))
    lit = (body + 28 * np.asarray(texture, np.float32)[..., None]) * light[..., None]
    return Image.fromarray(np.clip(lit, 0, 255).astype(np.uint8))


def _draw_outline(pen: ImageDraw.ImageDraw, kind: str, generator: np.random.Generator) -> None:
    wide, tall = generator.uniform(0.8, 1.15, 2)

    def box(left: float, top: float, right: float, bottom: float) -> tuple[float, float, float, float]:
        """Pixels from shares of the side. The proportions of this product scale them around the middle."""
        x = [_SIDE * (0.5 + (part - 0.5) * wide) for part in (left, right)]
        y = [_SIDE * (0.5 + (part - 0.5) * tall) for part in (top, bottom)]
        return x[0], y[0], x[1], y[1]

    def points(*shares: tuple[float, float]) -> list[tuple[float, float]]:
        return [(box(x, y, x, y)[0], box(x, y, x, y)[1]) for x, y in shares]

    match kind:
        case "bottle":
            pen.rounded_rectangle(box(0.34, 0.35, 0.66, 0.94), 40, fill=255)
            pen.polygon(points((0.34, 0.42), (0.45, 0.24), (0.55, 0.24), (0.66, 0.42)), fill=255)
            pen.rectangle(box(0.45, 0.07, 0.55, 0.3), fill=255)
        case "cup":
            pen.polygon(points((0.2, 0.25), (0.7, 0.25), (0.63, 0.85), (0.27, 0.85)), fill=255)
            pen.ellipse(box(0.6, 0.35, 0.88, 0.68), outline=255, width=34)
        case "shoe":
            pen.polygon(
                points((0.08, 0.35), (0.36, 0.32), (0.55, 0.52), (0.9, 0.6), (0.93, 0.72), (0.07, 0.72)), fill=255
            )
            pen.rounded_rectangle(box(0.06, 0.7, 0.94, 0.8), 16, fill=255)
        case "box":
            pen.polygon(
                points((0.14, 0.3), (0.56, 0.14), (0.88, 0.28), (0.88, 0.72), (0.48, 0.9), (0.14, 0.74)), fill=255
            )
        case "lamp":
            pen.polygon(points((0.36, 0.1), (0.64, 0.1), (0.82, 0.45), (0.18, 0.45)), fill=255)
            pen.rectangle(box(0.47, 0.42, 0.53, 0.88), fill=255)
            pen.ellipse(box(0.3, 0.82, 0.7, 0.94), fill=255)
        case "phone":
            pen.rounded_rectangle(box(0.3, 0.06, 0.7, 0.94), 44, fill=255)
        case "ball":
            pen.ellipse((_SIDE * 0.12, _SIDE * 0.12, _SIDE * 0.88, _SIDE * 0.88), fill=255)
        case "jar":
            pen.rounded_rectangle(box(0.22, 0.26, 0.78, 0.92), 60, fill=255)
            pen.rectangle(box(0.28, 0.12, 0.72, 0.28), fill=255)
        case "chair":
            pen.rounded_rectangle(box(0.26, 0.07, 0.7, 0.55), 30, fill=255)
            pen.rectangle(box(0.2, 0.52, 0.8, 0.63), fill=255)
            for left in (0.22, 0.7):
                pen.rectangle(box(left, 0.6, left + 0.07, 0.95), fill=255)
        case "plant":
            pen.polygon(points((0.3, 0.62), (0.7, 0.62), (0.64, 0.94), (0.36, 0.94)), fill=255)
            for leaf in range(7):
                angle = np.pi * (leaf + 0.5) / 7
                tip = 0.5 - 0.42 * np.cos(angle), 0.6 - 0.5 * np.sin(angle)
                side = 0.06 * np.sin(angle), 0.06 * np.cos(angle)
                middle = (0.5 + tip[0]) / 2, (0.6 + tip[1]) / 2
                pen.polygon(
                    points(
                        (0.5, 0.62),
                        (middle[0] - side[0], middle[1] - side[1]),
                        tip,
                        (middle[0] + side[0], middle[1] + side[1]),
                    ),
                    fill=255,
                )
        case "watch":
            pen.rectangle(box(0.4, 0.04, 0.6, 0.96), fill=255)
            pen.ellipse(box(0.22, 0.24, 0.78, 0.76), fill=255)
        case "bag":
            pen.polygon(points((0.14, 0.4), (0.86, 0.4), (0.94, 0.92), (0.06, 0.92)), fill=255)
            pen.arc(box(0.3, 0.12, 0.7, 0.7), 180, 360, fill=255, width=26)


def _draw_details(pen: ImageDraw.ImageDraw, kind: str, generator: np.random.Generator) -> None:
    colour = pick_colour(generator, light=(0.2, 1.0))
    match kind:
        case "phone":
            pen.rounded_rectangle((165, 60, 315, 420), 20, fill=(18, 20, 30, 255))
            for number in range(12):
                x, y = 178 + 44 * (number % 3), 90 + 70 * (number // 3)
                pen.rounded_rectangle((x, y, x + 32, y + 40), 8, fill=(*pick_colour(generator), 255))
        case "ball":
            for _ in range(3):
                start, turn = generator.uniform(0, 360), generator.uniform(60, 200)
                pen.arc((110, 110, 370, 370), start, start + turn, fill=(*colour, 255), width=16)
        case "watch":
            pen.ellipse((150, 150, 330, 330), fill=(*ink_on(colour), 255))
            for length, angle in zip((80, 55), generator.uniform(0, 2 * np.pi, 2), strict=True):
                pen.line(
                    (240, 240, 240 + length * np.cos(angle), 240 + length * np.sin(angle)),
                    fill=(*colour, 255),
                    width=11,
                )
        case "shoe":
            pen.rounded_rectangle((32, 345, 448, 375), 12, fill=(240, 240, 240, 255))
            for number in range(4):
                x, y = 150 + 36 * number, 190 + 22 * number
                pen.line((x, y, x + 44, y - 26), fill=(*colour, 255), width=9)
        case "lamp" | "chair" | "plant":
            for _ in range(4):
                x, y = generator.uniform(120, 340, 2)
                pen.ellipse((x, y, x + 26, y + 26), fill=(*colour, 200))
        case _:
            top = int(generator.integers(230, 300))
            pen.rounded_rectangle((155, top, 325, top + 110), 14, fill=(*colour, 255))
            name = "".join(generator.choice(list("AEIOKLMNRSTUVXZ"), int(generator.integers(3, 5))))
            pen.text((170, top + 22), name, font=load_font("DejaVuSans-Bold", 52), fill=(*ink_on(colour), 255))


# --- photographs

PHOTOGRAPHS = ("hills", "city", "sea", "room", "portrait", "meal")


def draw_photograph(generator: np.random.Generator, kind: str, size_px: tuple[int, int]) -> Image.Image:
    """An opaque scene with the light, blur and grain of a photograph."""
    width, height = size_px
    picture = draw_slope(size_px, pick_colour(generator, light=(0.5, 1.0)), pick_colour(generator, light=(0.4, 0.9)))
    pen = ImageDraw.Draw(picture)
    match kind:
        case "hills":
            x, y, radius = width * generator.uniform(0.1, 0.9), height * generator.uniform(0.1, 0.35), height * 0.08
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(255, 244, 210))
            for layer in range(4):
                ridge = draw_blots(generator, (width, 4), cells=(4, 11, 40))[0]
                level = height * (0.42 + 0.15 * layer) + ridge * height * 0.07
                colour = pick_colour(generator, light=(0.75 - 0.15 * layer, 0.85 - 0.15 * layer))
                pen.polygon(
                    [(0, height), *((x, float(level[x])) for x in range(0, width, 3)), (width, height)], fill=colour
                )
        case "city":
            left = -10
            while left < width:
                wide, top = int(generator.integers(width // 16, width // 6)), int(height * generator.uniform(0.15, 0.7))
                colour = pick_colour(generator, light=(0.2, 0.6))
                pen.rectangle((left, top, left + wide, height), fill=colour)
                for y in range(top + 8, height, 16):
                    for x in range(left + 6, left + wide - 8, 14):
                        if generator.uniform() < 0.5:
                            pen.rectangle((x, y, x + 6, y + 8), fill=(250, 225, 150))
                left += wide + int(generator.integers(0, 8))
        case "sea":
            shore = int(height * generator.uniform(0.4, 0.6))
            pen.rectangle((0, shore, width, height), fill=pick_colour(generator, light=(0.3, 0.6)))
            for _ in range(160):
                x, y = generator.uniform(0, width), generator.uniform(shore, height)
                pen.line((x, y, x + (y - shore) * 0.4 + 5, y), fill=pick_colour(generator, light=(0.6, 1.0)), width=2)
            for _ in range(int(generator.integers(1, 4))):
                x, size = width * generator.uniform(0.1, 0.9), height * generator.uniform(0.12, 0.3)
                pen.polygon([(x, shore - size), (x + size * 0.6, shore), (x, shore)], fill=(245, 245, 240))
                pen.rectangle((x - size * 0.4, shore, x + size * 0.7, shore + size * 0.2), fill=pick_colour(generator))
        case "room":
            picture = draw_set(generator, size_px)
        case "portrait":
            person = pick_person(generator)
            pose = Pose(left=tuple(generator.uniform(0, 1, 2)), right=tuple(generator.uniform(0, 1, 2)), mouth=0.3)
            side = min(width, height)
            figure = draw_person(person, pose, (side, side))
            picture.paste(figure, (int((width - side) * generator.uniform(0.2, 0.8)), height - side), figure)
        case _:
            pen.rectangle((0, 0, width, height), fill=pick_colour(generator, light=(0.3, 0.6)))
            x, y, radius = width * generator.uniform(0.35, 0.65), height * 0.5, height * generator.uniform(0.32, 0.45)
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(240, 238, 232))
            for _ in range(24):
                angle, away = generator.uniform(0, 2 * np.pi), radius * 0.7 * np.sqrt(generator.uniform())
                size = radius * generator.uniform(0.08, 0.26)
                cx, cy = x + away * np.cos(angle), y + away * np.sin(angle)
                pen.ellipse((cx - size, cy - size * 0.8, cx + size, cy + size * 0.8), fill=pick_colour(generator))
    soft = cv2.GaussianBlur(np.asarray(picture), (0, 0), 1.0).astype(np.float32)
    light = draw_blots(generator, size_px, cells=(3, 8, 60)) * 14 + generator.normal(0, 4, (height, width))
    return Image.fromarray(np.clip(soft + light[..., None], 0, 255).astype(np.uint8))


def draw_set(generator: np.random.Generator, size_px: tuple[int, int]) -> Image.Image:
    """A wall with a few things on it and in front of it."""
    width, height = size_px
    wall = pick_colour(generator, light=(0.55, 0.95))
    picture = draw_slope(size_px, wall, pick_colour(generator, light=(0.4, 0.8)), across=True)
    pen = ImageDraw.Draw(picture)
    for _ in range(int(generator.integers(1, 4))):
        x, y = int(width * generator.uniform(0, 0.85)), int(height * generator.uniform(0.03, 0.3))
        wide, tall = int(width * generator.uniform(0.1, 0.2)), int(height * generator.uniform(0.12, 0.3))
        pen.rectangle((x - 5, y - 5, x + wide + 5, y + tall + 5), fill=pick_colour(generator, light=(0.1, 0.5)))
        picture.paste(draw_pattern(generator, (wide, tall)), (x, y))
    shelf = int(height * generator.uniform(0.5, 0.62))
    left = int(width * generator.choice([0.0, 0.66]))
    pen.rectangle((left, shelf, left + int(width * 0.34), shelf + 8), fill=pick_colour(generator, light=(0.2, 0.6)))
    for x in range(left + 6, left + int(width * 0.32), 13):
        tall = int(generator.integers(height // 14, height // 6))
        pen.rectangle((x, shelf - tall, x + 10, shelf - 1), fill=pick_colour(generator))
    return picture


# --- people


@dataclass(frozen=True, kw_only=True)
class Person:
    """The looks of a person."""

    skin: Colour
    hair: Colour
    shirt: Colour
    long_hair: bool
    wide: float
    striped: bool


@dataclass(frozen=True, kw_only=True)
class Pose:
    """The pose of a person: the place of each hand, x and y from 0 to 1 of its reach, how far the mouth is open, and
    how far the head nods."""

    left: tuple[float, ...] = (0.3, 0.0)
    right: tuple[float, ...] = (0.3, 0.0)
    mouth: float = 0.0
    nod: float = 0.0


def pick_person(generator: np.random.Generator) -> Person:
    """A random person."""
    skin = ((246, 214, 188), (224, 178, 140), (176, 124, 84), (110, 72, 50))[generator.integers(4)]
    hair = ((40, 28, 20), (110, 70, 30), (214, 178, 96), (150, 150, 150), (150, 50, 30))[generator.integers(5)]
    return Person(
        skin=skin,
        hair=hair,
        shirt=pick_colour(generator, light=(0.2, 0.95)),
        long_hair=bool(generator.integers(2)),
        wide=float(generator.uniform(0.85, 1.2)),
        striped=bool(generator.integers(2)),
    )


def draw_person(person: Person, pose: Pose, size_px: tuple[int, int]) -> Image.Image:
    """Draw a person from the waist up, with head, body and arms, in a transparent box."""
    scale = 2
    width, height = size_px[0] * scale, size_px[1] * scale
    unit = min(width, height)
    picture = Image.new("RGBA", (width, height), (*person.shirt, 0))
    pen = ImageDraw.Draw(picture)
    middle, top = width / 2, height - unit

    def at(x: float, y: float) -> tuple[float, float]:
        return middle + x * unit, top + y * unit

    def disc(x: float, y: float, across: float, down: float, fill: Colour) -> None:
        (left, upper), (right, lower) = at(x - across, y - down), at(x + across, y + down)
        pen.ellipse((left, upper, right, lower), fill=(*fill, 255))

    nod = 0.02 * pose.nod
    half = 0.19 * person.wide
    if person.long_hair:
        disc(0, 0.27 + nod, 0.145, 0.2, person.hair)
    pen.polygon([at(-half, 0.5), at(half, 0.5), at(half * 0.9, 1.0), at(-half * 0.9, 1.0)], fill=(*person.shirt, 255))
    disc(0, 0.52, half, 0.08, person.shirt)
    if person.striped:
        for y in np.arange(0.56, 1.0, 0.08):
            pen.line([at(-half * 0.92, y), at(half * 0.92, y)], fill=(*ink_on(person.shirt), 255), width=unit // 60)
    (left, upper), (right, lower) = at(-0.045, 0.35), at(0.045, 0.48)
    pen.rectangle((left, upper, right, lower), fill=(*person.skin, 255))
    disc(0, 0.24 + nod, 0.11, 0.145, person.skin)
    (left, upper), (right, lower) = at(-0.12, 0.07 + nod), at(0.12, 0.3 + nod)
    pen.pieslice((left, upper, right, lower), 185, 355, fill=(*person.hair, 255))
    for side in (-1, 1):
        disc(side * 0.045, 0.23 + nod, 0.014, 0.011, (25, 25, 30))
    disc(0, 0.315 + nod, 0.035, 0.006 + 0.024 * pose.mouth, (150, 40, 45))
    for side, (across, up) in ((-1, pose.left), (1, pose.right)):
        elbow = side * (half + 0.03 + 0.08 * across), 0.78 - 0.12 * up
        hand = side * (half + 0.14 - 0.34 * across), 0.86 - 0.5 * up
        thick = unit // 13
        pen.line([at(side * half * 0.9, 0.53), at(*elbow)], fill=(*person.shirt, 255), width=thick)
        disc(*elbow, 0.037, 0.037, person.shirt)
        pen.line([at(*elbow), at(*hand)], fill=(*person.skin, 255), width=round(thick * 0.7))
        disc(*hand, 0.04, 0.045, person.skin)
    return picture.resize(size_px, Image.Resampling.BOX)

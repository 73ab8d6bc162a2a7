"""Families of videos that look alike and are not the same, picture by picture.

The advertisements of one template differ in only one thing: the product, its variety (another colour, texture and
label), the price, the language, the presenter or the photograph. The takes of one scene share the set and the timing,
but a person moves differently. `Family` says what a family shares, and how its members differ.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import islice
from pathlib import Path

import av
import numpy as np
from drawing import (
    BRANDS,
    FONTS,
    LANGUAGES,
    PHOTOGRAPHS,
    PRODUCTS,
    Box,
    Colour,
    Person,
    Pose,
    choose_prices,
    draw_pattern,
    draw_person,
    draw_photograph,
    draw_product,
    draw_set,
    draw_words,
    ink_on,
    load_font,
    pick_colour,
    pick_person,
)
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from dedup_lib.records import Frames

TEMPLATE, SCENE, TAKE = KINDS = ("template", "scene", "take")
"""Advertisements of one template; drawn takes of one scene; parts of a real clip whose camera stands still."""

LAYOUTS = ("centred", "left", "lower_third", "half", "cover")
DIFFERENCES = ("product", "variety", "price", "language", "presenter", "photograph")
MOVEMENTS = ("nothing", "stripes", "equaliser", "zoom", "presenter", "slide", "ticker", "fade")
SETS = ("drawn_set", "photographed_set")
SCENE_DIFFERENCES = ("arms", "lips", "arms_and_lips")
SCENE_MOVEMENTS = ("small", "large")

Picture = tuple[Frames, list[Box]]
"""A frame, RGB uint8 (H, W, 3), and its boxes. Outside the boxes, every member of the family has the same frame."""


@dataclass(frozen=True, kw_only=True)
class Album:
    """Clips whose frames serve as photographs. Without clips, photographs are drawn."""

    clips: tuple[Path, ...] = ()

    def photograph(self, generator: np.random.Generator, place: int, size_px: tuple[int, int]) -> Image.Image:
        """A photograph of a size in pixels. For the same state of the generator, each `place` gives another one."""
        order = generator.permutation(max(len(self.clips), len(PHOTOGRAPHS)))
        if self.clips:
            return ImageOps.fit(load_photograph(self.clips[order[place] % len(self.clips)]), size_px)
        kind = PHOTOGRAPHS[order[place] % len(PHOTOGRAPHS)]
        return draw_photograph(np.random.default_rng([int(generator.integers(2**31)), place]), kind, size_px)


@lru_cache(maxsize=64)
def load_photograph(path: Path) -> Image.Image:
    """The 25th frame of a clip, or the last frame of a shorter clip."""
    with av.open(str(path)) as container:
        *_, picture = islice(container.decode(video=0), 25)
    return Image.fromarray(picture.to_ndarray(format="rgb24"))


@dataclass(frozen=True, kw_only=True)
class Family:
    """What the members of a family share, and how they differ. The same fields give the same frames."""

    kind: str
    number: int
    seed: int
    layout: str
    differs: str
    moves: str

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.number:03}-{self.layout}-{self.differs}-{self.moves}"

    def random(self, what: str, member: int = 0) -> np.random.Generator:
        """The random numbers for one thing. `member` makes them differ between members."""
        place = KINDS.index(self.kind), self.number, zlib.crc32(what.encode()), member
        return np.random.default_rng([self.seed, *place])

    @cached_property
    def _facts(self) -> dict[str, float]:
        draw = self.random("facts")
        is_short = self.kind == SCENE
        return {
            "members": 2 if self.kind == TAKE else int(draw.integers(3, 5)),
            "duration_s": float(draw.uniform(2.0, 3.0) if is_short else draw.uniform(4.0, 8.0)),
            "fps": int(draw.choice([12, 15, 25] if is_short else [10, 12, 15, 20, 25])),
            "crf": int(draw.integers(20, 31)),
            "shape": int(draw.integers(5)),
        }

    @property
    def members(self) -> int:
        return int(self._facts["members"])

    @property
    def duration_s(self) -> float:
        return self._facts["duration_s"]

    @property
    def fps(self) -> int:
        return int(self._facts["fps"])

    @property
    def crf(self) -> int:
        return int(self._facts["crf"])

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height in pixels. Layouts with parts side by side need a wide frame, so that words are readable."""
        is_wide = self.layout in ("left", "half", "cover") or self.kind != TEMPLATE
        sizes = (
            ((640, 360), (640, 360), (480, 360))
            if is_wide
            else ((640, 360), (640, 360), (480, 360), (360, 360), (360, 640))
        )
        return sizes[int(self._facts["shape"]) % len(sizes)]

    def draw(self, member: int, album: Album) -> Iterator[Picture]:
        """The frames of one member, `fps` per second."""
        return (_draw_scene if self.kind == SCENE else _draw_template)(self, member, album)


def plan_templates(count: int, *, seed: int) -> list[Family]:
    """Plan `count` families of advertisements. A longer plan begins with the shorter one.

    Every 48 families have each movement with each difference. Every 240 have each of these in each layout.
    """
    cells = [(differs, moves) for differs in DIFFERENCES for moves in MOVEMENTS]
    planned = []
    for number in range(count):
        round_, place = divmod(number, len(cells))
        cell = int(np.random.default_rng([seed, round_ // len(LAYOUTS)]).permutation(len(cells))[place])
        differs, moves = cells[cell]
        layout = LAYOUTS[(cell // len(MOVEMENTS) + cell % len(MOVEMENTS) + round_) % len(LAYOUTS)]
        planned.append(Family(kind=TEMPLATE, number=number, seed=seed, layout=layout, differs=differs, moves=moves))
    return planned


def plan_scenes(count: int, *, seed: int) -> list[Family]:
    """Plan `count` families of takes. A longer plan begins with the shorter one."""
    cells = [(where, differs, moves) for differs in SCENE_DIFFERENCES for moves in SCENE_MOVEMENTS for where in SETS]
    planned = []
    for number in range(count):
        where, differs, moves = cells[number % len(cells)]
        planned.append(Family(kind=SCENE, number=number, seed=seed, layout=where, differs=differs, moves=moves))
    return planned


# --- advertisements


@dataclass(frozen=True, kw_only=True)
class _Piece:
    """A part of an advertisement: its image in a box, and how it enters."""

    picture: Image.Image
    left: int
    top: int
    is_own: bool = False
    """Whether each member has a different one."""
    zooms: bool = False
    enters: int = 0
    """Where pieces slide in: from the left (-1), from the right (1), or there from the start (0)."""
    delay_s: float = 0.0
    """Where pieces fade in: the delay in seconds."""


Slots = dict[str, tuple[float, float, float, float]]
"""Left, top, width and height of each piece, as shares of the frame."""


def _place(family: Family) -> Slots:
    draw = family.random("slots")
    shift, size = float(draw.uniform(0, 1)), float(draw.uniform(0, 1))
    width, height = family.size_px
    match family.layout:
        case "centred":
            tall = 0.36 + 0.3 * size
            wide = min(0.9, tall * height / width * 1.2)
            return {
                "picture": (0.42 + 0.16 * shift - wide / 2 if wide < 0.8 else 0.05, 0.5 - tall / 2, wide, tall),
                "headline": (0.05, 0.03, 0.8, 0.13),
                "line": (0.05, 0.16, 0.3, 0.2),
                "price": (0.03, 0.56 + 0.06 * shift, 0.36, 0.24),
                "brand": (0.3, 0.86, 0.4, 0.1),
                "presenter": (0.68, 0.36, 0.3, 0.64),
                "equaliser": (0.64, 0.2, 0.32, 0.14),
            }
        case "left":
            wide = 0.34 + 0.12 * size
            return {
                "picture": (0.03, 0.1 + 0.06 * shift, wide, 0.68),
                "headline": (0.52, 0.12, 0.45, 0.17),
                "line": (0.52, 0.3, 0.45, 0.2),
                "price": (0.52, 0.52, 0.28, 0.26),
                "brand": (0.52, 0.86, 0.4, 0.1),
                "presenter": (0.76, 0.48, 0.24, 0.52),
                "equaliser": (0.03, 0.82, 0.44, 0.1),
            }
        case "lower_third":
            return {
                "picture": (0.0, 0.0, 1.0, 1.0),
                "product": (0.3 + 0.1 * shift, 0.08, 0.4, 0.5),
                "bar": (0.0, 0.6, 1.0, 0.25),
                "headline": (0.03, 0.61, 0.6, 0.12),
                "line": (0.03, 0.73, 0.6, 0.11),
                "price": (0.66, 0.61, 0.32, 0.23),
                "brand": (0.03, 0.04, 0.27, 0.1),
                "presenter": (0.72 if shift < 0.5 else 0.02, 0.14, 0.26, 0.46),
                "equaliser": (0.3, 0.47, 0.4, 0.12),
            }
        case "half":
            return {
                "picture": (0.03, 0.05, 0.66, 0.7 + 0.03 * size),
                "headline": (0.03, 0.79, 0.66, 0.09),
                "line": (0.71, 0.18, 0.27, 0.2),
                "price": (0.71, 0.4, 0.27, 0.22),
                "brand": (0.03, 0.89, 0.4, 0.09),
                "presenter": (0.71, 0.6, 0.27, 0.4),
                "equaliser": (0.71, 0.05, 0.2, 0.12),
            }
        case _:
            side = 0.56 + 0.1 * size
            return {
                "picture": (0.05, 0.08, side * height / width, side),
                "headline": (0.5, 0.1, 0.46, 0.16),
                "line": (0.5, 0.28, 0.46, 0.24),
                "price": (0.5, 0.54, 0.27, 0.22),
                "brand": (0.5, 0.86, 0.4, 0.1),
                "presenter": (0.76, 0.5, 0.24, 0.5),
                "equaliser": (0.05, 0.78, 0.42, 0.14),
            }


def _draw_template(family: Family, member: int, album: Album) -> Iterator[Picture]:
    width, height = family.size_px
    slots = {
        name: (round(left * width), round(top * height), round(wide * width), round(tall * height))
        for name, (left, top, wide, tall) in _place(family).items()
    }
    draw = family.random("colours")
    ground, accent = pick_colour(draw, light=(0.35, 1.0)), pick_colour(draw, light=(0.25, 0.95))
    if family.layout == "half":
        still = draw_pattern(draw, family.size_px)
    else:
        still = Image.new("RGB", family.size_px, ground)
    pieces = _cut_pieces(family, member, album, slots, ground=ground, accent=accent)
    person = pick_person(family.random("presenter", member if family.differs == "presenter" else 0))
    for number in range(round(family.duration_s * family.fps)):
        time_s = number / family.fps
        frame = still.copy()
        if family.moves == "stripes" and family.layout != "lower_third":
            _paint_stripes(frame, (0, 0, width, height), family, accent, time_s)
        boxes = []
        for piece in pieces:
            box = _paint_piece(frame, piece, family, time_s)
            if piece.is_own:
                boxes.append(box)
        if family.moves == "stripes" and family.layout == "lower_third":
            left, top, wide, _ = slots["bar"]
            _paint_stripes(frame, (left, top - 10, left + wide, top), family, accent, time_s)
        if "presenter" in (family.moves, family.differs):
            left, top, wide, tall = slots["presenter"]
            figure = draw_person(person, _gesture(family, time_s), (wide, tall))
            frame.paste(figure, (left, top), figure)
            if family.differs == "presenter":
                boxes.append((left, top, left + wide, top + tall))
        if family.moves == "equaliser":
            _paint_equaliser(frame, slots["equaliser"], family, accent, time_s)
        if family.moves == "ticker":
            _paint_ticker(frame, family, accent, time_s)
        yield np.asarray(frame), boxes


def _cut_pieces(
    family: Family,
    member: int,
    album: Album,
    slots: dict[str, tuple[int, int, int, int]],
    *,
    ground: Colour,
    accent: Colour,
) -> list[_Piece]:
    def own(name: str) -> int:
        return member if family.differs == name else 0

    pieces: list[_Piece] = []

    def add(name: str, picture: Image.Image, *, is_own: bool = False, zooms: bool = False, enters: int = 0) -> None:
        left, top, *_ = slots[name]
        pieces.append(
            _Piece(
                picture=picture,
                left=left,
                top=top,
                is_own=is_own,
                zooms=zooms,
                enters=enters,
                delay_s=0.3 * len(pieces),
            )
        )

    def panel(name: str, colour: Colour) -> None:
        add(name, Image.new("RGBA", slots[name][2:], (*colour, 255)), enters=1)

    draw = family.random("pieces")
    shows_photograph = family.differs == "photograph" or family.layout == "lower_third" or draw.uniform() < 0.4
    differs_in_product = family.differs in ("product", "variety")
    shows_photograph = shows_photograph and not (differs_in_product and family.layout != "lower_third")
    if family.layout in ("half", "cover") and not shows_photograph:
        panel("picture", pick_colour(draw, light=(0.8, 1.0)))
    if shows_photograph:
        photograph = album.photograph(family.random("photograph"), own("photograph"), slots["picture"][2:])
        # A photograph that fills the frame is there from the start.
        enters = 0 if family.layout == "lower_third" else -1
        add("picture", photograph.convert("RGBA"), is_own=family.differs == "photograph", zooms=True, enters=enters)
    if not shows_photograph or differs_in_product:
        kinds = family.random("product").permutation(PRODUCTS)
        slot = "product" if family.layout == "lower_third" else "picture"
        looks = family.random("product", member if differs_in_product else 0)
        product = draw_product(looks, kinds[own("product")], slots[slot][2:])
        add(slot, product, is_own=differs_in_product, zooms=True, enters=-1)
    paper = ground
    if family.layout == "lower_third":
        panel("bar", accent)
        panel("brand", accent)
        paper = accent
    elif family.layout == "half":
        paper = pick_colour(draw, light=(0.85, 1.0))
        for name in ("headline", "line", "brand"):
            panel(name, paper)
    elif shows_photograph and family.layout == "centred":
        for name in ("headline", "line"):
            panel(name, paper)
    language = list(LANGUAGES)[family.random("language").permutation(len(LANGUAGES))[own("language")]]
    headline, line = LANGUAGES[language]
    is_foreign = family.differs == "language"
    font = FONTS[draw.integers(2 if is_foreign else len(FONTS))]
    for name, text, size_px in (
        ("headline", headline, int(draw.integers(24, 46))),
        ("line", line, int(draw.integers(16, 26))),
        ("brand", BRANDS[draw.integers(len(BRANDS))], int(draw.integers(20, 34))),
    ):
        words = draw_words(text, slots[name][2:], font=font, height_px=size_px, ink=ink_on(paper))
        add(name, words, is_own=is_foreign and name != "brand", enters=1)
    if family.differs == "price" or draw.uniform() < 0.6:
        badge = pick_colour(draw, light=(0.3, 1.0))
        if family.layout != "lower_third":
            plate = Image.new("RGBA", slots["price"][2:], (0, 0, 0, 0))
            ImageDraw.Draw(plate).rounded_rectangle((0, 0, plate.width - 1, plate.height - 1), 14, fill=(*badge, 255))
            add("price", plate, enters=1)
        prices = choose_prices(family.random("price"), 8)
        words = draw_words(
            prices[own("price")].replace(" ", "\N{NO-BREAK SPACE}"),
            slots["price"][2:],
            font=FONTS[draw.integers(len(FONTS))],
            height_px=int(draw.integers(24, 91)),
            ink=ink_on(accent if family.layout == "lower_third" else badge),
        )
        add("price", words, is_own=family.differs == "price", enters=1)
    return pieces


def _paint_piece(frame: Image.Image, piece: _Piece, family: Family, time_s: float) -> Box:
    picture, left, top = piece.picture, piece.left, piece.top
    if family.moves == "zoom" and piece.zooms:
        # An image that fills the frame must continue to fill it.
        start, end = (1.0, 1.3) if picture.size == frame.size else (0.7, 1.05)
        scale = start + (end - start) * time_s / family.duration_s
        larger = picture.resize(
            (round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BILINEAR
        )
        left, top = left + (picture.width - larger.width) // 2, top + (picture.height - larger.height) // 2
        picture = larger
    if family.moves == "slide" and piece.enters:
        away = max(0.0, 1 - time_s / 1.2) ** 2
        left += round(piece.enters * away * frame.width)
    mask = picture.getchannel("A")
    if family.moves == "fade":
        light = min((time_s - piece.delay_s) / 0.7, (family.duration_s - time_s) / 0.5)
        mask = mask.point([round(level * min(1.0, max(0.0, light))) for level in range(256)])
    frame.paste(picture, (left, top), mask)
    return left, top, left + picture.width, top + picture.height


def _paint_stripes(frame: Image.Image, box: Box, family: Family, colour: Colour, time_s: float) -> None:
    left, top, right, bottom = box
    draw = family.random("stripes")
    step, pace, slant = int(draw.integers(36, 70)), draw.uniform(15, 45), draw.uniform(0.1, 0.6)
    part = Image.new("L", (right - left, bottom - top), 0)
    pen, tall = ImageDraw.Draw(part), bottom - top
    for x in range(-tall - step, right + step, step):
        start = x + time_s * pace % step
        lower = [(start, tall), (start + step // 2, tall)]
        pen.polygon([*lower, (lower[1][0] + tall * slant, 0), (start + tall * slant, 0)], fill=120)
    frame.paste(colour, (left, top), part)


def _paint_equaliser(
    frame: Image.Image, slot: tuple[int, int, int, int], family: Family, colour: Colour, time_s: float
) -> None:
    left, top, wide, tall = slot
    pen, bars = ImageDraw.Draw(frame), 16
    phases, paces = family.random("equaliser").uniform(0, 1, (2, bars))
    for number in range(bars):
        level = 0.15 + 0.85 * abs(math.sin(2 * math.pi * (phases[number] + time_s * (0.6 + paces[number]))))
        x = left + wide * number // bars
        pen.rectangle((x, top + tall * (1 - level), x + wide // bars - 3, top + tall), fill=colour)


def _paint_ticker(frame: Image.Image, family: Family, colour: Colour, time_s: float) -> None:
    width, height = frame.size
    pen, top = ImageDraw.Draw(frame), height - height // 15
    pen.rectangle((0, top, width, height), fill=colour)
    draw = family.random("ticker")
    text = "  ·  ".join(draw.permutation(BRANDS))
    pen.text(
        (width * 0.6 - draw.uniform(40, 90) * time_s, top + 2),
        text,
        font=load_font(FONTS[0], height // 22),
        fill=ink_on(colour),
    )
    pen.rectangle((0, 0, round(width * time_s / family.duration_s), 6), fill=ink_on(colour))


def _gesture(family: Family, time_s: float) -> Pose:
    """The pose of the presenter, the same in every member. Where nothing moves, the presenter does not gesture."""
    if family.moves == "nothing":
        return Pose()
    return Pose(
        left=_follow(family.random("left hand"), time_s, every_s=0.6),
        right=_follow(family.random("right hand"), time_s, every_s=0.6),
        mouth=_follow(family.random("mouth"), time_s, every_s=0.15)[0],
        nod=_follow(family.random("nod"), time_s, every_s=0.8)[0],
    )


def _follow(generator: np.random.Generator, time_s: float, *, every_s: float) -> tuple[float, ...]:
    """The place of something that moves smoothly to a new place every `every_s` seconds, 0 to 1 in two directions."""
    places = generator.uniform(0, 1, (2 + int(time_s / every_s), 2))
    step, share = divmod(time_s / every_s, 1)
    share = (1 - math.cos(math.pi * share)) / 2
    here = places[int(step)] * (1 - share) + places[int(step) + 1] * share
    return float(here[0]), float(here[1])


# --- takes of one scene


def _draw_scene(family: Family, member: int, album: Album) -> Iterator[Picture]:
    width, height = family.size_px
    if family.layout == "photographed_set":
        still = album.photograph(family.random("set"), 0, family.size_px).filter(ImageFilter.GaussianBlur(2))
    else:
        still = draw_set(family.random("set"), family.size_px)
    person: Person = pick_person(family.random("person"))
    facts = family.random("stance")
    side = round(height * facts.uniform(0.75, 0.98))
    left = round((width - side) * facts.uniform(0.35, 0.65))
    reach = {"small": 0.25, "large": 1.0}[family.moves]
    for number in range(round(family.duration_s * family.fps)):
        time_s = number / family.fps
        # In every take, the hands rise, do something and fall again at the same moments.
        raised = float(np.interp(time_s / family.duration_s, (0, 0.12, 0.3, 0.75, 0.95, 1), (0, 0, 1, 1, 0, 0)))

        def hand(name: str, *, time_s: float = time_s, raised: float = raised) -> tuple[float, ...]:
            of = member if "arms" in family.differs else 0
            across, up = _follow(family.random(name, of), time_s, every_s=0.45)
            return 0.4 + raised * reach * (across - 0.4), raised * (0.35 + reach * (up - 0.35))

        of = member if "lips" in family.differs else 0
        pose = Pose(
            left=hand("left hand"),
            right=hand("right hand"),
            mouth=_follow(family.random("mouth", of), time_s, every_s=0.13)[0],
            nod=reach * _follow(family.random("nod", of), time_s, every_s=0.5)[0],
        )
        figure = draw_person(person, pose, (side, side))
        frame = still.convert("RGB")
        frame.paste(figure, (left, height - side), figure)
        yield np.asarray(frame), [(left, height - side, left + side, height)]


def unlike_photographs(paths: Sequence[Path]) -> list[Path]:
    """The clips whose photographs show something. Each photograph is unlike the earlier ones."""
    chosen: list[Path] = []
    seen: list[np.ndarray] = []
    for path in paths:
        small = np.asarray(ImageOps.fit(load_photograph(path).convert("L"), (16, 16)), np.float32)
        if small.std() < 20:
            continue
        small = (small - small.mean()) / small.std()
        if all(float((small * other).mean()) < 0.6 for other in seen):
            chosen.append(path)
            seen.append(small)
    return chosen

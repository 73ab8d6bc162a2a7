"""The part of the frame that differs throughout: videos of one template, and copies with something laid over them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import cv2
import numpy as np
import pytest
from scenes import STEP_S, add_grain, draw_canvas, draw_clip, draw_take, each, fingerprint

from dedup_lib.evaluate.edits import (
    Clip,
    Edit,
    add_bars,
    add_caption,
    add_logo,
    add_subtitles,
    add_ticker,
    crop,
    put_in_corner,
)
from dedup_lib.evaluate.edits import each as edit_each
from dedup_lib.features.fingerprint import Fingerprint
from dedup_lib.groups.columns import describe_evidence, find_criterion
from dedup_lib.groups.matcher import FingerprintedList, compare_candidates
from dedup_lib.groups.review import find_doubtful
from dedup_lib.groups.scored import Scored
from dedup_lib.match.evidence import Criterion, Evidence, MatchThresholds, Verdict
from dedup_lib.records import Frames, Pair

RULES = MatchThresholds(min_score=0.5, review_from=0.03)
SIZE_PX = 256, 144
COUNT = 32


def compare(
    first: Fingerprint,
    second: Fingerprint,
    *,
    durations_s: tuple[float, float] = (8.0, 8.0),
    rules: MatchThresholds = RULES,
) -> Any:
    """Two videos that something proposed, as 06 weighs them."""
    pairs = (Pair(first=0, second=1, similarity=0.9),)
    return compare_candidates(
        FingerprintedList(fingerprints=[first, second], durations_s=durations_s),
        scored=Scored(pairs=pairs, nearest=np.ones(2), floor=0.5, expanded_queries=0),
        rules=rules,
        keeps_excerpts=False,
        max_candidates=20,
    )


def found_of(compared: Any) -> Evidence:
    evidence = compared.about(0, 1)
    assert isinstance(evidence, Evidence)
    return evidence


def draw_ad(product: int, moves: str, *, price: str = "9.99", count: int = COUNT) -> list[Frames]:
    """An advertisement by one template: words above and below, a product in the middle, a price beside it."""
    canvas = draw_canvas(np.random.default_rng(100 + product), size_px=(120, 120))
    frames = []
    for index in range(count):
        frame: Any = np.full((SIZE_PX[1], SIZE_PX[0], 3), (250, 210, 40), np.uint8)
        if moves == "stripes":
            for x in range(-40, 300, 40):
                start = x + 3 * index % 40
                cv2.line(frame, (start, 0), (start - 30, SIZE_PX[1]), (255, 240, 140), 12)
        if moves == "equaliser":
            for bar in range(8):
                height = 4 + (7 * index + 13 * bar) % 24
                cv2.rectangle(frame, (8 + 8 * bar, 120 - height), (13 + 8 * bar, 120), (60, 20, 160), -1)
        side = 60 + 2 * index if moves == "zoom" else 76
        left, top = (SIZE_PX[0] - side) // 2, (SIZE_PX[1] - min(side, 100)) // 2
        shown = cv2.resize(canvas, (side, min(side, 100)), interpolation=cv2.INTER_AREA)
        frame[top : top + shown.shape[0], left : left + side] = shown
        cv2.putText(frame, "SUPER SALE", (8, 20), cv2.FONT_HERSHEY_DUPLEX, 0.7, (200, 0, 0), 2)
        cv2.putText(frame, "example-shop", (8, 138), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1)
        cv2.putText(frame, price, (186, 80), cv2.FONT_HERSHEY_DUPLEX, 0.8, (0, 0, 120), 2)
        frames.append(np.asarray(frame, np.uint8))
    return frames


@pytest.mark.parametrize("moves", ["nothing", "stripes", "equaliser", "zoom"])
def test_another_product_of_one_template_is_never_a_copy(moves: str) -> None:
    """Whether it is called different or is left to a person."""
    ads = [fingerprint(add_grain(draw_ad(product, moves), seed=product)) for product in range(4)]
    for first in range(4):
        for second in range(first):
            compared = compare(ads[first], ads[second])
            verdict, _ = found_of(compared).judge(RULES)
            assert verdict in (Verdict.REVIEW, Verdict.DIFFERENT), (first, second)
            assert compared.pairs == ()
    again = compare(ads[0], fingerprint(add_grain(draw_ad(0, moves), seed=9)))
    assert found_of(again).judge(RULES)[0] == Verdict.DUPLICATE


def scan_fading(price: str, *, step_s: float) -> Fingerprint:
    """An advertisement of eight seconds that appears out of one flat colour, and vanishes into it."""
    count = int(8 / step_s)
    frames = draw_ad(1, "nothing", price=price, count=count)
    flat = np.full_like(frames[0], (90, 60, 130))
    shown = [min(1.0, (index * step_s + 0.2) / 2.5, (8 - index * step_s) / 1.5) for index in range(count)]
    faded = [cv2.addWeighted(frame, part, flat, 1 - part, 0) for frame, part in zip(frames, shown, strict=True)]
    return fingerprint(add_grain(faded, seed=len(price)), speed=STEP_S / step_s)


@pytest.mark.parametrize("step_s", [0.27, 0.3])
def test_another_price_that_fades_in_goes_to_review(step_s: float) -> None:
    """Every block changes then, and no two stills need be of the same moment. What stills show for longer is compared
    all the same."""
    first = scan_fading("9.99", step_s=STEP_S)
    for price, verdict in (("9.99", Verdict.DUPLICATE), ("24.50", Verdict.REVIEW)):
        found = found_of(compare(first, scan_fading(price, step_s=step_s)))
        assert found.judge(RULES)[0] == verdict
        assert (found.difference is None) == (price == "9.99")


def draw_presenter(seed: int) -> list[Frames]:
    """An advertisement of a product before stripes that move, and at its lower edge somebody who nods, in clothes of
    their own."""
    shirt, face, lines = np.random.default_rng(seed).integers(40, 220, (3, 3)).tolist()
    frames = []
    for index, ad in enumerate(draw_ad(1, "nothing")):
        frame = np.full_like(ad, (210, 225, 130))
        for x in range(-60, 330, 28):
            start = x + 4 * index % 28
            cv2.line(frame, (start, 0), (start - 50, SIZE_PX[1]), (150, 150, 90), 11)
        frame[10:60, 60:150] = ad[44:94, 90:180]
        across = 220 + int(3 * np.sin(index))
        cv2.ellipse(frame, (across, SIZE_PX[1]), (14, 22), 0, 180, 360, shirt, -1)
        for line in range(0, 19, 5 + seed % 3):
            cv2.line(frame, (across - 11, 124 + line), (across + 11, 124 + line), lines, 2)
        cv2.circle(frame, (across, int(112 + 2 * np.cos(index))), 7, face, -1)
        frames.append(frame)
    return frames


@pytest.mark.parametrize(("seed", "other"), [(3, 4), (2, 9), (1, 5)])
def test_another_presenter_before_what_moves_is_no_overlay(seed: int, other: int) -> None:
    """Under an overlay, less is left of the motion of the film than the copy without it shows."""
    first = fingerprint(draw_presenter(seed))
    for frames, verdict in (
        (draw_presenter(seed), Verdict.DUPLICATE),
        (each(add_logo, draw_presenter(seed)), Verdict.DUPLICATE),
        (draw_presenter(other), Verdict.REVIEW),
    ):
        assert found_of(compare(first, fingerprint(add_grain(frames, seed=5)))).judge(RULES)[0] == verdict


def test_an_excerpt_without_a_common_still_differs_nowhere() -> None:
    """A film has stills of a few moments only, and an excerpt may show none of them."""
    film = draw_clip(0, count=160, shots=2)
    whole, is_rare = fingerprint(film), False
    for start in range(3, 150, 7):
        part = fingerprint(add_grain(film[start : start + 6], seed=start))
        apart_s = np.abs(whole.still_times_s[:, None] - (part.still_times_s + start * STEP_S)[None])
        is_rare |= bool((apart_s.min(axis=1) < STEP_S / 2).sum() == 0)
        found = found_of(compare(whole, part, durations_s=(40.0, 1.5)))
        assert found.judge(RULES)[0] == Verdict.EXCERPT, start
        assert found.difference is None
    assert is_rare


def test_an_excerpt_with_another_product_is_none() -> None:
    def place(product: int, frames: list[Frames]) -> list[Frames]:
        card = draw_canvas(np.random.default_rng(500 + product), size_px=(76, 56))
        placed = [frame.copy() for frame in frames]
        for frame in placed:
            frame[40:96, 88:164] = card
        return placed

    film = draw_clip(1, count=160, shots=3, size_px=SIZE_PX)
    whole = fingerprint(place(1, film))
    for start in range(0, 150, 11):
        part = fingerprint(add_grain(place(2, film[start : start + 8]), seed=start))
        verdict, _ = found_of(compare(whole, part, durations_s=(40.0, 2.0))).judge(RULES)
        assert verdict in (Verdict.REVIEW, Verdict.DIFFERENT), start


@pytest.mark.parametrize("moves", ["nothing", "stripes"])
def test_another_price_goes_to_review_and_its_place_is_named(moves: str) -> None:
    ads = [fingerprint(add_grain(draw_ad(1, moves, price=price), seed=0)) for price in ("9.99", "24.50")]
    compared = compare(*ads)
    assert found_of(compared).judge(RULES) == (Verdict.REVIEW, Criterion.DIFFERS)
    assert find_doubtful(compared, rules=RULES, groups=[]) == [(0, 1)]
    row = describe_evidence(compared, kept=0, copy=1, rules=RULES)
    assert str(row["differs"]).startswith("middle right, ")
    assert str(row["rule"]) == str(Criterion.DIFFERS)


def test_a_version_that_is_removed_is_as_near_as_the_score_that_removed_it() -> None:
    ads = [fingerprint(add_grain(draw_ad(1, "stripes", price=price), seed=0)) for price in ("9.99", "24.50")]
    removing = replace(RULES, versions="remove")
    compared = compare(*ads, rules=removing)
    (pair,) = compared.pairs
    row = describe_evidence(compared, kept=0, copy=1, rules=removing)
    assert (row["verdict"], row["rule"]) == (str(Verdict.DUPLICATE), str(Criterion.DIFFERS))
    assert pair.similarity == row["score"] == compared.similarity_of(0, 1) == compared.nearest[0] >= 0.5
    found = find_criterion(compared, kept=0, copy=1, similarity=pair.similarity, rules=removing)
    assert found == Criterion.DIFFERS


PRICE_AT = (202 / 256, 72 / 144)


@pytest.mark.parametrize(
    ("change", "price_at"),
    [
        (lambda frame: frame, PRICE_AT),
        (lambda frame: frame[:, ::-1], (1 - PRICE_AT[0], PRICE_AT[1])),
        (lambda frame: frame[::-1], (PRICE_AT[0], 1 - PRICE_AT[1])),
        (np.rot90, (PRICE_AT[1], 1 - PRICE_AT[0])),
        (lambda frame: np.rot90(frame, 3), (1 - PRICE_AT[1], PRICE_AT[0])),
        # Bars are cut off before anything is compared.
        (partial(add_bars, height=0.2), PRICE_AT),
        (partial(crop, fraction=0.1), tuple((share - 0.05) / 0.9 for share in PRICE_AT)),
    ],
    ids=["as it is", "mirrored", "upside down", "turned left", "turned right", "with bars", "cropped"],
)
def test_the_region_is_known_in_the_frames_of_both_videos(
    change: Callable[[Frames], Any], price_at: tuple[float, float]
) -> None:
    own, other = (add_grain(draw_ad(1, "stripes", price=price), seed=0) for price in ("9.99", "24.50"))
    videos = fingerprint(own), fingerprint(each(change, other))
    for order in ((0, 1), (1, 0)):
        compared = compare(*(videos[place] for place in order))
        assert found_of(compared).judge(RULES) == (Verdict.REVIEW, Criterion.DIFFERS)
        row = describe_evidence(compared, kept=order[0], copy=order[1], rules=RULES)
        for column, (across, down) in (("differs_in_kept", PRICE_AT), ("differs_in_copy", price_at)):
            left, top, right, bottom = map(float, str(row[column]).split())
            assert left < across < right and top < down < bottom, (order, column, row[column])
            assert (right - left) * (bottom - top) < 0.25, (order, column, row[column])


@pytest.mark.parametrize(
    ("prices", "moves"),
    [
        (("9.99", "9.89"), "nothing"),
        (("9.99", "9.89"), "stripes"),
        (("14.95", "19.95"), "nothing"),
        (("14.95", "19.95"), "equaliser"),
    ],
)
def test_one_other_digit_goes_to_review_and_the_same_one_does_not(prices: tuple[str, str], moves: str) -> None:
    own, other, again = (draw_ad(1, moves, price=price) for price in (*prices, prices[0]))
    own, other = add_grain(own, seed=0), add_grain(other, seed=0)
    # Darker, coarser and with other noise.
    again = each(lambda frame: compress(frame * 0.8 + 10, quality=40), add_grain(again, seed=1))
    assert found_of(compare(*map(fingerprint, (own, other)))).judge(RULES) == (Verdict.REVIEW, Criterion.DIFFERS)
    assert found_of(compare(*map(fingerprint, (own, again)))).judge(RULES)[0] == Verdict.DUPLICATE


def compress(frame: Any, *, quality: int) -> Frames:
    _, packed = cv2.imencode(".jpg", np.asarray(frame, np.uint8), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8)


@pytest.mark.parametrize("seeds", [(1, 2), (3, 4), (5, 6)])
def test_noise_of_still_pictures_proves_nothing(seeds: tuple[int, int]) -> None:
    """Two frames that both stand still move alike by their noise alone, if that is the same."""
    noise = add_grain([np.full((144, 256, 3), 128, np.uint8)] * COUNT, seed=0)
    videos = []
    for seed in seeds:
        frame = draw_canvas(np.random.default_rng(seed), size_px=SIZE_PX).astype(np.int16)
        videos.append([np.clip(frame + one.astype(np.int16) - 128, 0, 255).astype(np.uint8) for one in noise])
    found = found_of(compare(*map(fingerprint, videos)))
    assert found.judge(RULES)[0] == Verdict.DIFFERENT
    assert found.motion is None or not found.motion.is_alike


MARKS: dict[str, Callable[[Frames], Frames]] = {"logo": add_logo, "caption": add_caption}


@pytest.mark.parametrize("mark", MARKS)
@pytest.mark.parametrize("draw", [draw_clip, draw_take])
def test_what_was_laid_over_a_copy_is_no_difference(draw: Callable[..., list[Frames]], mark: str) -> None:
    frames = draw(2, count=COUNT)
    plain, marked = fingerprint(add_grain(frames, seed=0)), fingerprint(add_grain(each(MARKS[mark], frames), seed=1))
    assert found_of(compare(plain, marked)).judge(RULES)[0] == Verdict.DUPLICATE
    assert found_of(compare(marked, plain)).judge(RULES)[0] == Verdict.DUPLICATE


def edited(edit: Edit, frames: list[Frames], other: list[Frames]) -> list[Frames]:
    return [frame for _, frame in edit(Clip(frames=tuple(frames)), Clip(frames=tuple(other)))]


@pytest.mark.parametrize("seed", range(3))
def test_a_ticker_over_a_copy_is_no_difference(seed: int) -> None:
    clean = draw_clip(seed)
    marked = edited(add_ticker, clean, clean)
    assert found_of(compare(fingerprint(clean), fingerprint(marked))).judge(RULES)[0] == Verdict.DUPLICATE


CHANGES: dict[str, Callable[[Frames], Any]] = {
    "none": lambda frame: frame,
    "crop": lambda frame: cv2.resize(crop(frame, 0.1), SIZE_PX, interpolation=cv2.INTER_AREA),
    "blur": lambda frame: cv2.GaussianBlur(frame, (0, 0), 2.0),
}


@pytest.mark.parametrize(
    ("change", "mark"),
    [("none", add_subtitles), ("crop", add_subtitles), ("blur", edit_each(add_caption))],
    ids=lambda one: one if isinstance(one, str) else "mark",
)
def test_all_words_of_a_line_over_a_copy_are_one_overlay(change: str, mark: Edit) -> None:
    frames = draw_take(1, count=COUNT)
    marked = edited(mark, each(CHANGES[change], frames), frames)
    found = found_of(compare(fingerprint(add_grain(frames, seed=0)), fingerprint(add_grain(marked, seed=1))))
    assert (found.judge(RULES)[0], found.difference) == (Verdict.DUPLICATE, None)


@pytest.mark.parametrize("seed", range(2))
def test_another_video_in_a_corner_of_a_copy_is_no_difference(seed: int) -> None:
    clean = draw_clip(seed)
    marked = edited(put_in_corner, clean, draw_clip(90 + seed))
    assert found_of(compare(fingerprint(clean), fingerprint(marked))).judge(RULES)[0] == Verdict.DUPLICATE


@pytest.mark.parametrize("seed", range(3))
def test_what_moves_in_both_is_one(seed: int) -> None:
    """As two advertisements of one template, with a window in which each shows its product."""
    clean = draw_clip(seed)
    first, second = (edited(put_in_corner, clean, draw_clip(90 + number)) for number in (0, 1))
    compared = compare(fingerprint(first), fingerprint(second))
    assert found_of(compared).judge(RULES) == (Verdict.REVIEW, Criterion.DIFFERS)


@pytest.mark.parametrize("mark", MARKS)
def test_a_mark_on_a_still_picture_makes_no_other_video(mark: str) -> None:
    """Nothing tells there what is a mark and what is another price: a copy, or for a person to say."""
    frames = [draw_canvas(np.random.default_rng(5), size_px=SIZE_PX)] * COUNT
    found = found_of(compare(fingerprint(frames), fingerprint(each(MARKS[mark], frames))))
    assert found.judge(RULES)[0] in (Verdict.DUPLICATE, Verdict.REVIEW)


def test_a_mirrored_clip_is_asked_both_ways() -> None:
    """A crop that shares more words with the mirrored frame is still asked as it is."""
    frames = draw_clip(7, count=COUNT)
    symmetric = [np.asarray(np.hstack([one, one[:, ::-1]]), np.uint8) for one in frames]
    cropped = [np.ascontiguousarray(one[12:-12, 20:-60]) for one in symmetric]
    found = found_of(compare(fingerprint(symmetric), fingerprint(cropped)))
    assert found.judge(RULES)[0] == Verdict.DUPLICATE
    mirrored = fingerprint([np.ascontiguousarray(one[:, ::-1]) for one in frames])
    assert found_of(compare(fingerprint(frames), mirrored)).judge(RULES)[0] == Verdict.DUPLICATE


def test_one_frame_proves_nothing_of_videos_of_seconds() -> None:
    poster = draw_canvas(np.random.default_rng(1), size_px=SIZE_PX)
    one, other = fingerprint([poster]), fingerprint(add_grain([poster], seed=3))
    assert found_of(compare(one, other, durations_s=(8.0, 12.0))).judge(RULES)[0] == Verdict.DIFFERENT
    assert found_of(compare(one, one, durations_s=(8.0, 12.0))).judge(RULES)[0] == Verdict.DIFFERENT
    # The very same file, of which only one frame is not flat.
    assert found_of(compare(one, one)).judge(RULES) == (Verdict.DUPLICATE, Criterion.EXACT)
    assert found_of(compare(one, other, durations_s=(STEP_S, STEP_S))).judge(RULES)[0] != Verdict.DIFFERENT


@pytest.mark.parametrize("brightness", [20, 250])
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_copy_within_a_frame_is_known(mirrored: bool, brightness: int) -> None:
    """The brightness of its head decides which of the two is compared as the first."""
    frames = draw_clip(4, count=COUNT)
    beside_plots = []
    for frame in (np.ascontiguousarray(one[:, ::-1]) for one in frames) if mirrored else frames:
        page: Any = np.full((200, 540, 3), 230, np.uint8)
        page[:10], page[:10, 300:] = brightness, 90
        page[20 : 20 + frame.shape[0], 10 : 10 + frame.shape[1]] = frame
        cv2.rectangle(page, (390, 30), (520, 90), (20, 20, 20), 2)
        cv2.putText(page, "mean 0.7", (396, 140), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (0, 0, 0), 2)
        beside_plots.append(np.asarray(page, np.uint8))
    compared = compare(fingerprint(frames), fingerprint(beside_plots))
    assert found_of(compared).judge(RULES)[0] == Verdict.DUPLICATE
    assert compared.marks.inset == {1}
    swapped = compare(fingerprint(beside_plots), fingerprint(frames))
    assert swapped.marks.inset == {0}
    # A crop goes on around its part.
    cropped = [np.ascontiguousarray(frame[12:-12, 20:-20]) for frame in frames]
    assert compare(fingerprint(frames), fingerprint(cropped)).marks.inset == frozenset()

"""What speaks for two videos being the same: verdicts of hand-made evidence, whole lists of made-up and real clips."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from measured import FOUND, SHARE, changes, evidence, place, registration, segment
from media import save_clip
from scenes import COPIES, SIZE_PX, STEP_S, add_grain, copy_of, draw_clip, draw_take, each, fingerprint, title_card

from dedup_lib.demo.clips import encode_clip, encode_copy, render_film
from dedup_lib.demo.films import FILMS
from dedup_lib.evaluate.edits import add_logo, crop
from dedup_lib.features.fingerprint import Fingerprint, make_fingerprint, pack_stills
from dedup_lib.groups.columns import COLUMNS, describe_evidence, find_next_score
from dedup_lib.groups.grouping import Choose, group_copies
from dedup_lib.groups.matcher import ComparedPairs, FingerprintedList, compare_candidates
from dedup_lib.groups.review import ask_once, find_doubtful
from dedup_lib.groups.scored import Scored
from dedup_lib.match.evidence import (
    MIN_AGREEING,
    MIN_AGREEMENT,
    MIN_COMMON_SHARE,
    MIN_CONFIRMING_INLIERS,
    MIN_CONTAINED_SHARE,
    MIN_REGISTERED_INLIERS,
    OVERWHELMING_AGREEING,
    Criterion,
    Evidence,
    MatchThresholds,
    Verdict,
)
from dedup_lib.match.moments import SameMoments
from dedup_lib.match.verify import compare_pair
from dedup_lib.media.limits import Deadline, FetchLimits
from dedup_lib.media.sampling import grab_frames
from dedup_lib.media.streams import open_stream
from dedup_lib.records import Group, Marks, Pair, Scan

RULES = MatchThresholds(min_score=0.5, review_from=0.03)
NONE_SCORED = Scored(pairs=(), nearest=np.zeros(0), floor=0.5, expanded_queries=0)


UNLIKE = changes(0.1, weaker_half=0.0)
STATIC = replace(segment(), scenes=1)
FAR = replace(segment(), distance_bits=45.0)
COPY = Verdict.DUPLICATE, Criterion.FRAMES
OTHER_MOMENTS = Verdict.REVIEW, Criterion.MOMENTS


def weigh(
    fingerprints: Sequence[Fingerprint | None],
    *,
    scored: Sequence[Pair] = (),
    rules: MatchThresholds = RULES,
    keeps_excerpts: bool = False,
    max_candidates: int = 20,
    choose: Choose = min,
) -> ComparedPairs:
    """Every video lasts as long as its frames do."""
    return compare_candidates(
        FingerprintedList(
            fingerprints=fingerprints,
            durations_s=[0.0 if one is None else float(one.times_s[-1]) + STEP_S for one in fingerprints],
            cosine_of=lambda *rows: next(
                (pair.similarity for pair in scored if (pair.first, pair.second) == rows), math.nan
            ),
        ),
        scored=replace(NONE_SCORED, pairs=tuple(scored)),
        rules=rules,
        keeps_excerpts=keeps_excerpts,
        max_candidates=max_candidates,
        choose_knowing=lambda marks: choose,
    )


def compare(first: Fingerprint, second: Fingerprint) -> Evidence:
    """Two videos that something proposed."""
    found = weigh([first, second], scored=[Pair(first=0, second=1, similarity=0.9)]).about(0, 1)
    assert found is not None
    return found


def sketch(seed: int, *, count: int = 16) -> Fingerprint:
    """A video of blots with points that look like no other's; cheap, for long lists."""
    generator = np.random.default_rng(seed)
    blots = generator.integers(0, 256, (count, 9, 9), np.uint8)
    return Fingerprint(
        times_s=(np.arange(count) * STEP_S).astype(np.float32),
        weights=np.ones(count, np.float32),
        tiny_frames=np.stack([cv2.resize(one, (64, 64), interpolation=cv2.INTER_CUBIC) for one in blots]).astype(
            np.uint8
        ),
        size_px=(256, 144),
        keypoints=generator.uniform(0, 120, (200, 2)).astype(np.float32),
        descriptors=generator.integers(0, 256, (200, 32), np.uint8),
        keypoint_stills=np.sort(generator.integers(0, 2, 200)).astype(np.int32),
        still_times_s=np.array([0, (count - 1) * STEP_S], np.float32),
        packed_stills=pack_stills(
            [cv2.resize(one, (256, 144), interpolation=cv2.INTER_CUBIC) for one in blots[[0, -1]]]
        ),
    )


def copied(made: Fingerprint, seed: int) -> Fingerprint:
    """The same with some grain, and a third of its points changed."""
    generator = np.random.default_rng(seed)
    grain = generator.normal(0, 6, made.tiny_frames.shape)
    codes = made.descriptors.copy()
    changed = generator.random(len(codes)) < 0.35
    codes[changed] = generator.integers(0, 256, (int(changed.sum()), 32), np.uint8)
    return replace(made, tiny_frames=np.clip(made.tiny_frames + grain, 0, 255).astype(np.uint8), descriptors=codes)


def groups_of(compared: ComparedPairs, threshold: float = RULES.min_score, choose: Choose = min) -> list[set[int]]:
    return [{group.kept, *group.copies} for group in group_copies(compared.pairs, threshold=threshold, choose=choose)]


# --- verdicts of hand-made evidence


@pytest.mark.parametrize(
    ("found", "verdict", "rule"),
    [
        (evidence(), Verdict.DIFFERENT, Criterion.WEAK),
        (evidence(segment()), Verdict.DUPLICATE, Criterion.FRAMES),
        (evidence(segment(), is_exact=True), Verdict.DUPLICATE, Criterion.EXACT),
        (evidence(segment(20, 40)), Verdict.DUPLICATE, Criterion.FRAMES),
        (evidence(segment(16, 40)), Verdict.REVIEW, Criterion.UNCONFIRMED),
        (evidence(segment(16, 40), registration=registration()), Verdict.DUPLICATE, Criterion.CONFIRMED),
        (evidence(segment(16, 40), registration=registration(10, 12)), Verdict.REVIEW, Criterion.UNCONFIRMED),
        (evidence(segment(16, 40), registration=registration(40, 400)), Verdict.REVIEW, Criterion.UNCONFIRMED),
        (evidence(segment(16, 40), registration=registration(share=0.1)), Verdict.REVIEW, Criterion.UNCONFIRMED),
        (evidence(segment(16, 40, first=0.3, second=0.4)), Verdict.DIFFERENT, Criterion.UNCONFIRMED),
        (evidence(segment(2, 2, first=0.05, second=0.05)), Verdict.DIFFERENT, Criterion.WEAK),
        (evidence(registered=segment(), registration=registration()), Verdict.DUPLICATE, Criterion.REGISTERED),
        (evidence(registered=segment(), registration=registration(share=0.1)), Verdict.DIFFERENT, Criterion.WEAK),
        (evidence(registered=segment(), registration=registration(11, 12)), Verdict.DIFFERENT, Criterion.WEAK),
        (evidence(registered=segment(8, 40), registration=registration()), Verdict.REVIEW, Criterion.REGISTERED),
        (evidence(segment(first=0.3)), Verdict.EXCERPT, Criterion.FRAMES),
        (evidence(segment(second=0.3)), Verdict.EXCERPT, Criterion.FRAMES),
        (evidence(segment(first=0.3, second=0.8)), Verdict.DIFFERENT, Criterion.SHORT),
        (evidence(segment(first=0.6, second=0.6)), Verdict.DUPLICATE, Criterion.FRAMES),
        (evidence(segment(first=0.12, second=0.12)), Verdict.DIFFERENT, Criterion.SHORT),
        (evidence(segment(), cosine=0.99), Verdict.DUPLICATE, Criterion.FRAMES),
        (evidence(cosine=0.99), Verdict.DIFFERENT, Criterion.WEAK),
        (evidence(motion=changes()), Verdict.DUPLICATE, Criterion.MOTION),
        (evidence(motion=changes(0.5)), Verdict.DIFFERENT, Criterion.WEAK),
        (evidence(motion=changes(weaker_half=0.3)), Verdict.DIFFERENT, Criterion.WEAK),
        (evidence(motion=changes(compared=7)), Verdict.DIFFERENT, Criterion.WEAK),
        (
            evidence(registered_motion=changes(), registration=registration()),
            Verdict.DUPLICATE,
            Criterion.REGISTERED_MOTION,
        ),
        (
            evidence(registered_motion=changes(), registration=registration(share=0.1)),
            Verdict.DIFFERENT,
            Criterion.WEAK,
        ),
        (evidence(STATIC, motion=UNLIKE), Verdict.REVIEW, Criterion.UNCONFIRMED),
        (evidence(STATIC, motion=changes(0.6)), Verdict.DUPLICATE, Criterion.FRAMES),
        (evidence(STATIC, motion=replace(UNLIKE, energy=1e-4)), Verdict.DUPLICATE, Criterion.FRAMES),
        (evidence(STATIC, motion=UNLIKE, is_exact=True), Verdict.DUPLICATE, Criterion.EXACT),
        (
            evidence(STATIC, motion=UNLIKE, registered_motion=changes(), registration=registration()),
            Verdict.DUPLICATE,
            Criterion.FRAMES,
        ),
        (evidence(segment(), motion=UNLIKE), Verdict.DUPLICATE, Criterion.FRAMES),
        (evidence(FAR, motion=UNLIKE), Verdict.REVIEW, Criterion.UNCONFIRMED),
        (evidence(replace(FAR, correlation=0.2)), Verdict.REVIEW, Criterion.UNCONFIRMED),
        # If many frames do not agree, motion must support the others.
        (evidence(replace(segment(27), correlation=0.6)), Verdict.REVIEW, Criterion.UNCONFIRMED),
        (evidence(replace(segment(27), correlation=0.7)), Verdict.DUPLICATE, Criterion.FRAMES),
        (evidence(replace(segment(27), correlation=0.3), motion=changes(0.7)), Verdict.DUPLICATE, Criterion.FRAMES),
        (evidence(segment(27)), Verdict.DUPLICATE, Criterion.FRAMES),
        # What motion does not support, it does not prove either, unless the frames agree from afar only.
        (
            evidence(replace(segment(27), correlation=0.6), motion=changes(0.6)),
            Verdict.REVIEW,
            Criterion.UNCONFIRMED,
        ),
        (
            evidence(replace(segment(27), correlation=0.6, distance_bits=45.0), motion=changes(0.6)),
            Verdict.DUPLICATE,
            Criterion.MOTION,
        ),
        (evidence(replace(segment(36), correlation=0.3)), Verdict.DUPLICATE, Criterion.FRAMES),
        # Single frames may be damaged; in a copy under a large logo, some frames no longer agree.
        (evidence(segment(), moments=SameMoments(compared=40, unlike=5, distance_bits=4.0)), *OTHER_MOMENTS),
        (evidence(segment(), moments=SameMoments(compared=40, unlike=3, distance_bits=4.0)), *COPY),
        (evidence(segment(), moments=SameMoments(compared=12, unlike=2, distance_bits=4.0)), *COPY),
        (evidence(segment(), moments=SameMoments(compared=40, unlike=5, distance_bits=40.0)), *COPY),
        (evidence(replace(FAR, correlation=0.6), motion=UNLIKE), Verdict.DUPLICATE, Criterion.FRAMES),
        (
            evidence(registered=replace(FAR, correlation=0.2), registration=registration()),
            Verdict.REVIEW,
            Criterion.UNCONFIRMED,
        ),
        (evidence(replace(segment(5, 5), distance_bits=4.0)), Verdict.DUPLICATE, Criterion.FRAMES),
        (evidence(replace(segment(5, 5), distance_bits=30.0)), Verdict.REVIEW, Criterion.UNCONFIRMED),
    ],
)
def test_verdicts(found: Evidence, verdict: Verdict, rule: Criterion) -> None:
    assert found.judge(RULES) == (verdict, rule)


BY_ENCODER = replace(RULES, unlike_below=0.5, alike_from=0.6)


@pytest.mark.parametrize(
    ("found", "verdict", "rule"),
    [
        (evidence(segment(), cosine=0.5), Verdict.DUPLICATE, Criterion.FRAMES),
        (evidence(segment(), cosine=0.49), Verdict.REVIEW, Criterion.UNLIKE),
        (evidence(segment()), Verdict.DUPLICATE, Criterion.FRAMES),
        (evidence(segment(), cosine=0.1, is_exact=True), Verdict.DUPLICATE, Criterion.EXACT),
        (evidence(segment(first=0.3), cosine=0.1), Verdict.EXCERPT, Criterion.FRAMES),
        (evidence(cosine=0.6), Verdict.REVIEW, Criterion.ALIKE),
        (evidence(cosine=0.59), Verdict.DIFFERENT, Criterion.WEAK),
        (evidence(segment(2, 2, first=0.05, second=0.05), cosine=0.6), Verdict.REVIEW, Criterion.ALIKE),
        (evidence(segment(first=0.3, second=0.8), cosine=0.9), Verdict.DIFFERENT, Criterion.SHORT),
    ],
)
def test_what_the_encoder_says_is_heard(found: Evidence, verdict: Verdict, rule: Criterion) -> None:
    """Frames that are unlike keep no copies together unasked, and those that are alike are shown to a person."""
    assert found.judge(BY_ENCODER) == (verdict, rule)


def test_limits_belong_to_the_match() -> None:
    least = evidence(segment(20, 40, first=0.5, second=0.5))
    assert least.judge(replace(RULES, min_score=least.score))[0] == Verdict.DUPLICATE
    more = least.score + 1e-6
    assert least.judge(MatchThresholds(min_score=more, review_from=least.score))[0] == Verdict.REVIEW
    assert least.judge(MatchThresholds(min_score=more, review_from=more))[0] == Verdict.DIFFERENT
    part = evidence(segment(first=0.49, second=0.89))
    assert part.judge(MatchThresholds(min_score=0.0, review_from=0.0)) == (Verdict.DIFFERENT, Criterion.SHORT)
    contained = evidence(segment(first=0.1, second=MIN_CONTAINED_SHARE))
    assert contained.judge(RULES)[0] == Verdict.EXCERPT
    assert evidence(segment(first=0.1, second=MIN_CONTAINED_SHARE - 0.01)).judge(RULES)[0] == Verdict.DIFFERENT


def test_the_stronger_of_two_segments_decides() -> None:
    registered = evidence(segment(20, 40), registered=segment(39, 40), registration=registration())
    assert registered.judge(RULES) == (Verdict.DUPLICATE, Criterion.REGISTERED)
    plain = evidence(segment(39, 40), registered=segment(20, 40), registration=registration())
    assert plain.judge(RULES) == (Verdict.DUPLICATE, Criterion.FRAMES)


def test_few_frames_are_a_proof_only_where_there_are_no_more() -> None:
    assert evidence(segment(2, 2, first=0.05, second=0.05)).judge(RULES)[0] == Verdict.DIFFERENT
    short = evidence(segment(2, 2), registration=registration(), min_frames=2)
    assert short.judge(RULES) == (Verdict.DUPLICATE, Criterion.CONFIRMED)


def test_a_scene_that_hardly_changes_needs_closer_frames() -> None:
    still = replace(segment(), scenes=1)
    assert evidence(replace(still, distance_bits=5.0)).judge(RULES)[0] == Verdict.DUPLICATE
    assert evidence(replace(still, distance_bits=50.0)).judge(RULES) == (Verdict.REVIEW, Criterion.UNCONFIRMED)
    assert evidence(replace(still, distance_bits=50.0)).score < 0.5


@pytest.mark.parametrize(("first", "second", "excerpt"), [(1.0, 0.2, "first"), (0.2, 1.0, "second")])
def test_the_excerpt_is_the_one_that_is_covered(first: float, second: float, excerpt: str) -> None:
    assert evidence(segment(first=first, second=second)).excerpt == excerpt


@given(found=FOUND, scores=st.tuples(SHARE, SHARE), keeps_excerpts=st.booleans())
def test_turning_a_knob_down_never_loses_a_match(
    found: Evidence, scores: tuple[float, float], keeps_excerpts: bool
) -> None:
    def is_copy(min_score: float) -> bool:
        verdict, _ = found.judge(MatchThresholds(min_score=min_score, review_from=0.0))
        return verdict == Verdict.DUPLICATE or (verdict == Verdict.EXCERPT and not keeps_excerpts)

    if is_copy(max(scores)):
        assert is_copy(min(scores))


@given(found=FOUND, min_score=SHARE, review_from=st.floats(0.01, 1))
def test_verdicts_hold_together(found: Evidence, min_score: float, review_from: float) -> None:
    verdict, rule = found.judge(MatchThresholds(min_score=min_score, review_from=review_from))
    assert 0 <= found.score <= 1
    if verdict in (Verdict.DUPLICATE, Verdict.EXCERPT):
        assert found.score >= min_score and found.is_whole and not found.is_version
    if verdict == Verdict.REVIEW:
        assert found.best[1] is not None
        assert found.score >= review_from or rule in (Criterion.DIFFERS, Criterion.SOUND)
    if found.is_version:
        assert verdict not in (Verdict.DUPLICATE, Verdict.EXCERPT)


def test_another_version_of_a_video_is_what_it_is_said_to_be() -> None:
    priced = evidence(segment(), difference=place(0.8, 0.8))
    looked_at, removed, kept = (
        priced.judge(replace(RULES, versions=versions)) for versions in ("review", "remove", "keep")
    )
    assert looked_at == (Verdict.REVIEW, Criterion.DIFFERS)
    assert removed == (Verdict.DUPLICATE, Criterion.DIFFERS)
    assert kept == (Verdict.DIFFERENT, Criterion.DIFFERS)
    assert priced.score < 0.5 <= priced.score_under("remove")
    excerpt = replace(priced, frames=segment(first=0.2))
    assert excerpt.judge(replace(RULES, versions="remove"))[0] == Verdict.EXCERPT


@given(found=FOUND)
def test_the_criteria_are_what_half_a_score_stands_for(found: Evidence) -> None:
    """At the default threshold the criteria decide; the score orders the pairs on either side of it."""
    assume(not (found.is_exact and found.difference))
    assert (found.score >= 0.5) == (found.is_proven and not found.is_version)


@given(found=FOUND, min_score=SHARE, review_from=SHARE)
def test_exchanging_the_videos_keeps_the_verdict(found: Evidence, min_score: float, review_from: float) -> None:
    rules = MatchThresholds(min_score=min_score, review_from=review_from)
    exchanged = found.exchanged()
    assert exchanged.judge(rules) == found.judge(rules)
    assert exchanged.score == found.score
    segment_of = found.best[1]
    if segment_of is not None and segment_of.first_coverage != segment_of.second_coverage:
        assert {exchanged.excerpt, found.excerpt} == {"first", "second"}


# --- made-up clips


@pytest.mark.parametrize("name", [name for name in COPIES if name != "itself"])
def test_copies_are_duplicates(name: str) -> None:
    found = compare(copy_of(1), copy_of(1, name))
    assert found.judge(RULES)[0] == Verdict.DUPLICATE
    assert found.score > 0.8


@pytest.mark.parametrize("name", ["itself", "mirrored", "crop 20 %"])
@pytest.mark.parametrize("seed", [2, 3])
def test_unlike_clips_are_different(seed: int, name: str) -> None:
    found = compare(copy_of(1), copy_of(seed, name))
    assert found.judge(RULES)[0] == Verdict.DIFFERENT
    assert found.score < 0.01


def test_a_mirrored_part_that_vectors_and_words_propose() -> None:
    part = fingerprint(COPIES["mirrored"](COPIES["crop 10 %"](draw_clip(1))))
    videos = [copy_of(1), copy_of(1), copy_of(1, "mirrored"), part]
    compared = weigh(videos, scored=[Pair(first=1, second=3, similarity=0.6)], max_candidates=1)
    found = compared.evidence[1, 3]
    assert found.cosine == 0.6
    assert found.judge(RULES) == (Verdict.DUPLICATE, Criterion.REGISTERED)
    assert groups_of(compared) == [{0, 1, 2, 3}]


@pytest.mark.parametrize("scene", [1, 2])
def test_two_takes_of_one_scene_are_never_copies(scene: int) -> None:
    """One signer before one wall: nearly every pixel is the same, and the video is another."""
    takes = [fingerprint(draw_take(seed, scene=scene)) for seed in range(3)]
    for first, second in combinations(takes, 2):
        assert compare(first, second).judge(RULES)[0] in (Verdict.REVIEW, Verdict.DIFFERENT)


@pytest.mark.parametrize("start", [0, 8])
def test_a_take_and_its_copy(start: int) -> None:
    frames = draw_take(1)
    found = compare(fingerprint(frames), fingerprint(add_grain(frames[start:], seed=0)))
    assert found.judge(RULES)[0] == Verdict.DUPLICATE


def test_copies_of_a_picture_that_stands_still() -> None:
    """Where nothing moves, movement speaks against nothing."""
    still = draw_take(1)[:1] * 40
    found = compare(fingerprint(add_grain(still, seed=0)), fingerprint(add_grain(still, seed=1)))
    assert found.judge(RULES)[0] == Verdict.DUPLICATE


def test_a_copy_too_blurred_for_hashes() -> None:
    frames = draw_clip(1)
    blurred = [np.asarray(cv2.GaussianBlur(frame, (0, 0), 16), np.uint8) for frame in frames]
    found = compare(fingerprint(frames), fingerprint(blurred))
    assert found.judge(RULES) == (Verdict.DUPLICATE, Criterion.MOTION)
    row = describe_evidence(hand_made(r01=found), kept=0, copy=1, rules=RULES)
    assert float(str(row["motion_correlation"])) > 0.8


def test_a_list_of_copies_and_others() -> None:
    others = [copy_of(seed) for seed in (2, 3, 4)]
    copies = [copy_of(1, name) for name in COPIES]
    compared = weigh([others[0], *copies, None, *others[1:], copies[0]])
    assert groups_of(compared) == [{*range(1, len(copies) + 1), len(copies) + 4}]
    assert compared.about(1, len(copies) + 4) is not None
    assert len(compared.nearest) == len(copies) + 5
    assert np.isnan(compared.nearest[len(copies) + 1])
    assert compared.floor == RULES.min_score


def test_of_two_copies_the_one_with_a_logo_is_known() -> None:
    """Whichever comes first in the list, and the choice is made with that."""
    plain, marked = copy_of(1), copy_of(1, "logo")
    for rows, overlaid in (((plain, marked, copy_of(2)), {1}), ((marked, copy_of(2), plain), {0})):
        seen: list[set[int]] = []

        def choose_knowing(known: Marks, seen: list[set[int]] = seen) -> Choose:
            seen.append(set(known.overlaid))
            return min

        compared = compare_candidates(
            FingerprintedList(fingerprints=rows, durations_s=[10.0] * 3),
            scored=NONE_SCORED,
            rules=RULES,
            keeps_excerpts=False,
            max_candidates=20,
            choose_knowing=choose_knowing,
        )
        assert compared.marks.overlaid == overlaid
        assert seen[-1] == overlaid
    assert weigh([plain, plain]).marks.overlaid == frozenset()


def test_identical_frames_are_known_as_such() -> None:
    stored = Fingerprint.from_bytes(copy_of(1).to_bytes())
    again = Fingerprint.from_bytes(copy_of(1).to_bytes())
    found = compare(stored, again)
    assert found.judge(RULES) == (Verdict.DUPLICATE, Criterion.EXACT)
    assert found.score == 1.0
    assert found.judge(MatchThresholds(min_score=1.0, review_from=1.0))[0] == Verdict.DUPLICATE


def test_a_foreign_start_does_not_hide_a_copy() -> None:
    found = compare(copy_of(1), fingerprint(draw_clip(5)[:8] + draw_clip(1)))
    assert found.judge(RULES)[0] == Verdict.DUPLICATE
    _, shared = found.best
    assert shared is not None
    assert shared.offset_s == pytest.approx(2.0, abs=0.5)


@pytest.mark.parametrize("intro", ["a still card", "a moving intro"])
def test_a_shared_intro_makes_no_match(intro: str) -> None:
    start = [title_card()] * 8 if intro == "a still card" else draw_clip(30, count=8, shots=1)
    found = compare(fingerprint(start + draw_clip(1)), fingerprint(start + draw_clip(2)))
    assert found.judge(RULES)[0] == Verdict.DIFFERENT
    assert found.best[1] is not None
    assert found.best[1].first_coverage < 0.3


def test_an_excerpt_is_found_whichever_comes_first() -> None:
    whole, part = copy_of(1), fingerprint(draw_clip(1)[8:20])
    for rows, excerpt in (((whole, part), "second"), ((part, whole), "first")):
        found = compare(*rows)
        assert found.judge(RULES)[0] == Verdict.EXCERPT
        assert found.excerpt == excerpt
        compared = weigh(rows)
        assert [(pair.first, pair.second, pair.excerpt) for pair in compared.pairs] == [(0, 1, excerpt)]
        (group,) = group_copies(compared.pairs, threshold=RULES.min_score)
        assert group.kept == (0 if excerpt == "second" else 1)
        kept = weigh(rows, keeps_excerpts=True)
        assert kept.pairs == ()
        assert find_doubtful(kept, rules=RULES, groups=[]) == [(0, 1)]


def test_two_frames_prove_an_excerpt_where_they_are_all_and_differ() -> None:
    shots, others = (draw_clip(seed, count=8, shots=8) for seed in (1, 2))
    whole = fingerprint(shots)
    assert compare(whole, fingerprint(each(partial(crop, fraction=0.1), shots[3:5]))).judge(RULES)[0] == Verdict.EXCERPT
    for part in ([shots[3], others[4]], [shots[3]] * 2, [shots[4], shots[3]], shots[3:4]):
        assert compare(whole, fingerprint(part)).judge(RULES)[0] == Verdict.DIFFERENT
    # The rest of a longer one is dark.
    dark = compare_pair(whole, fingerprint(shots[3:5]), durations_s=(2.0, 1.5))
    assert dark.judge(RULES)[0] == Verdict.DIFFERENT


@pytest.mark.parametrize("speed", [0.25, 4])
def test_a_copy_far_slower_or_faster_is_a_duplicate(speed: float) -> None:
    shots = draw_clip(1, count=40, shots=10)
    played = [shots[int(index * speed)] for index in range(round(40 / speed))]
    found = compare(fingerprint(shots), fingerprint(played))
    assert found.judge(RULES) == (Verdict.DUPLICATE, Criterion.FRAMES)
    assert describe_evidence(hand_made(r01=found), kept=0, copy=1, rules=RULES)["speed"] == pytest.approx(
        speed, rel=0.02
    )


def test_each_copy_has_its_tempo_beside_the_first() -> None:
    shots = draw_clip(1, count=40, shots=10)
    twice, half = ([shots[int(index * speed)] for index in range(round(40 / speed))] for speed in (2, 0.5))
    tempo = weigh([fingerprint(half), fingerprint(shots), fingerprint(twice), sketch(1)]).marks.tempo
    assert tempo == pytest.approx({0: 1.0, 1: 2.0, 2: 4.0}, rel=0.03)


def test_a_re_cut_copy_is_a_duplicate_with_all_its_parts() -> None:
    shots = draw_clip(1, count=48, shots=6)
    found = compare(fingerprint(shots), fingerprint(each(add_logo, shots[32:] + shots[:16] + shots[16:32])))
    assert found.judge(RULES)[0] == Verdict.DUPLICATE
    told = describe_evidence(hand_made(r01=found), kept=0, copy=1, rules=RULES)
    assert (told["kept_coverage"], told["copy_coverage"]) == (1.0, 1.0)
    assert found.exchanged().exchanged().frames == found.frames


def test_what_movement_says_is_asked_where_frames_leave_something_open() -> None:
    whole = segment(30, 40)
    assert evidence(whole, motion=changes()).best[0] == Criterion.FRAMES
    for open_ in (segment(30, 40, first=0.7), segment(16, 40), replace(whole, distance_bits=36.0)):
        found = evidence(open_, motion=changes(), registration=registration())
        assert found.best[0] == Criterion.MOTION


def test_flat_videos_take_no_part() -> None:
    black = make_fingerprint([np.zeros((144, 256, 3), np.uint8)] * 20, times_s=[0.25 * row for row in range(20)])
    assert black is None
    compared = weigh([black, copy_of(1), black], scored=[Pair(first=0, second=2, similarity=1.0)])
    assert compared.pairs == ()


def test_videos_of_one_frame() -> None:
    one, other = (fingerprint(draw_clip(seed, count=1, shots=1)) for seed in (1, 2))
    assert compare(one, one).judge(RULES)[0] == Verdict.DUPLICATE
    assert compare(one, other).judge(RULES)[0] == Verdict.DIFFERENT


def test_lists_with_nothing_to_weigh() -> None:
    for videos in ([], [None], [copy_of(1)], [None, copy_of(1), None]):
        compared = weigh(videos)
        assert (compared.pairs, compared.evidence) == ((), {})
        assert len(compared.nearest) == len(videos)
        assert np.isnan(compared.nearest).all()
        assert find_doubtful(compared, rules=RULES, groups=[]) == []


def test_the_order_of_the_list_does_not_matter() -> None:
    videos = [copy_of(1), copy_of(2), copy_of(1, "crop 10 %"), copy_of(1, "mirrored"), fingerprint(draw_clip(1)[5:18])]
    plain = weigh(videos)
    order = [3, 1, 4, 0, 2]
    moved = weigh([videos[row] for row in order])
    assert {frozenset((order[pair.first], order[pair.second])): pair.similarity for pair in moved.pairs} == {
        frozenset((pair.first, pair.second)): pair.similarity for pair in plain.pairs
    }


def test_the_score_does_not_depend_on_the_knobs() -> None:
    videos = [copy_of(1), copy_of(1, "logo"), copy_of(1, "crop 20 %"), copy_of(2), fingerprint(draw_clip(1)[:12])]
    loose = weigh(videos, rules=MatchThresholds(min_score=0.05, review_from=0.05))
    strict = weigh(videos, rules=MatchThresholds(min_score=0.95, review_from=0.95), keeps_excerpts=True)
    shared = loose.evidence.keys() & strict.evidence.keys()
    assert shared
    assert [loose.evidence[rows].score for rows in shared] == [strict.evidence[rows].score for rows in shared]
    assert {(pair.first, pair.second) for pair in strict.pairs} <= {(pair.first, pair.second) for pair in loose.pairs}


# --- long lists


def test_many_copies_end_in_one_group() -> None:
    """More than any of them is compared with at first."""
    copies = [copied(sketch(0), seed) for seed in range(30)]
    others = [sketch(seed) for seed in range(1, 40)]
    done: list[int] = []
    begun: dict[str, int] = {}

    def begin(step: str, count: int) -> Callable[[int], object]:
        begun[step] = count
        return done.append if step == "comparing pairs" else lambda count: None

    compared = compare_candidates(
        FingerprintedList(
            fingerprints=[*others[:20], *copies, *others[20:]], durations_s=[4.0] * (len(copies) + len(others))
        ),
        scored=NONE_SCORED,
        rules=RULES,
        keeps_excerpts=False,
        max_candidates=3,
        begin=begin,
    )
    assert groups_of(compared) == [set(range(20, 50))]
    assert {(20, row) for row in range(21, 50)} <= compared.evidence.keys()
    assert len(compared.evidence) < len(copies) * (len(copies) - 1) / 2
    assert sum(done) == begun["comparing pairs"] == len(compared.evidence)
    assert begun["reading fingerprints"] == len(copies) + len(others)


@pytest.mark.parametrize("choose", [min, max])
def test_all_copies_are_compared_with_the_one_that_is_kept(choose: Choose) -> None:
    """Found as a chain of neighbours, each like the next."""
    copies = [replace(copied(sketch(0), seed), descriptors=sketch(seed + 100).descriptors) for seed in range(12)]
    chain = [Pair(first=row, second=row + 1, similarity=0.8) for row in range(11)]
    compared = weigh(copies, scored=chain, choose=choose)
    kept = choose(range(12))
    assert {(min(kept, row), max(kept, row)) for row in range(12) if row != kept} <= compared.evidence.keys()
    assert groups_of(compared, choose=choose) == [set(range(12))]


def test_vectors_propose_what_words_do_not() -> None:
    first, second = (replace(copied(sketch(0), seed), descriptors=sketch(seed).descriptors) for seed in (1, 2))
    assert weigh([first, second, sketch(9)]).pairs == ()
    compared = weigh([first, second, sketch(9)], scored=[Pair(first=0, second=1, similarity=0.77)])
    assert groups_of(compared) == [{0, 1}]
    assert compared.evidence[0, 1].cosine == 0.77


def test_vectors_alone_prove_nothing() -> None:
    unlike = [sketch(0), sketch(1)]
    compared = weigh(unlike, scored=[Pair(first=0, second=1, similarity=1.0)])
    assert compared.pairs == ()
    assert compared.nearest.tolist() == [0.0, 0.0]


# --- what is told of it


def hand_made(**found: Evidence) -> ComparedPairs:
    """A list of six; evidence by rows, written as in `r01`."""
    rows = {(int(name[1]), int(name[2])): one for name, one in found.items()}
    return ComparedPairs(
        pairs=(),
        nearest=np.zeros(6),
        floor=0.1,
        expanded_queries=0,
        evidence={key: replace(one, first=key[0], second=key[1]) for key, one in rows.items()},
    )


TOLD = [name for name in COLUMNS if name != "next_score"]


def test_the_row_of_a_copy_tells_all() -> None:
    shared = segment(30, 40, first=0.75, second=0.5)
    found = evidence(
        shared,
        registered=segment(10, 40),
        registration=registration(50, 60),
        cosine=0.912345,
        duration_ratio=2 / 3,
        moments=SameMoments(compared=30, unlike=2, distance_bits=10.0),
    )
    row = describe_evidence(hand_made(r02=found), kept=0, copy=2, rules=RULES)
    assert list(row) == TOLD
    assert row == {
        "verdict": "duplicate",
        "rule": "frames agree",
        "score": found.score,
        "frames_agreeing": 30,
        "frames_compared": 40,
        "offset_s": 3.0,
        "speed": 1.0,
        "kept_coverage": 0.75,
        "copy_coverage": 0.5,
        "kept_from_s": 2.0,
        "kept_to_s": 12.0,
        "geometric_agreement": 0.25,
        "inliers": 50,
        "transform": None,
        "motion_correlation": None,
        "differs": None,
        "differs_in_kept": None,
        "differs_in_copy": None,
        "frames_unlike": 2,
        "sound_correlation": None,
        "cosine": 0.9123,
        "duration_ratio": 0.6667,
    }


@pytest.mark.parametrize(
    ("degrees", "mirrored", "said"),
    [(0, False, None), (3, False, None), (-90, False, "turned by 90°"), (180, True, "mirrored and turned by 180°")],
)
@pytest.mark.parametrize("pair", [(0, 2), (2, 0)])
def test_how_a_frame_lies_is_said(degrees: int, mirrored: bool, said: str | None, pair: tuple[int, int]) -> None:
    turn = cv2.getRotationMatrix2D((128, 72), degrees, 1.0)
    mapped = replace(registration(50, 60), matrix=turn, mirrored=mirrored)
    found = evidence(segment(30, 40), registered=segment(30, 40), registration=mapped)
    row = describe_evidence(hand_made(r02=found), kept=pair[0], copy=pair[1], rules=RULES)
    assert row["transform"] == said


def test_the_copy_may_come_before_the_kept_one() -> None:
    compared = hand_made(r02=evidence(segment(30, 40, first=0.75, second=0.5)))
    row = describe_evidence(compared, kept=2, copy=0, rules=RULES)
    assert row["offset_s"] == -3.0
    assert (row["kept_coverage"], row["copy_coverage"]) == (0.5, 0.75)
    assert (row["kept_from_s"], row["kept_to_s"]) == (5.0, 15.0)


def test_an_offset_is_told_from_the_side_of_the_copy() -> None:
    """The copy shows everything two seconds later, wherever it stands in the list."""
    original, late = copy_of(1), fingerprint(draw_clip(5)[:8] + draw_clip(1))
    for rows, kept, copy in (((original, late), 0, 1), ((late, original), 1, 0)):
        row = describe_evidence(weigh(rows), kept=kept, copy=copy, rules=RULES)
        assert row["offset_s"] == pytest.approx(2.0, abs=0.5)
        assert row["kept_from_s"] == pytest.approx(0.0, abs=0.5)
        assert row["kept_coverage"] == pytest.approx(1.0, abs=0.05)
        assert row["copy_coverage"] == pytest.approx(40 / 48, abs=0.05)


def test_what_is_not_known_stays_empty() -> None:
    row = describe_evidence(hand_made(r01=evidence()), kept=0, copy=1, rules=RULES)
    assert list(row) == TOLD
    known = {name: value for name, value in row.items() if value is not None}
    assert known == {"verdict": "different", "rule": "too few frames agree", "score": 0.0}


def test_a_pair_that_a_person_joined() -> None:
    row = describe_evidence(hand_made(r01=evidence(segment())), kept=3, copy=4, rules=RULES)
    assert list(row) == TOLD
    assert (row["verdict"], row["rule"]) == ("duplicate", "a person's decision")


def test_a_pair_that_the_cosine_decided() -> None:
    scored = replace(NONE_SCORED, pairs=(Pair(first=0, second=1, similarity=0.93),), nearest=np.array([0.93, 0.93]))
    row = describe_evidence(
        ComparedPairs.by_cosine(scored), kept=1, copy=0, rules=MatchThresholds(min_score=0.9, review_from=0.03)
    )
    assert list(row) == TOLD
    assert (row["verdict"], row["rule"], row["score"]) == ("duplicate", "cosine", 0.93)


def test_the_nearest_video_outside_the_group() -> None:
    near, nearer = evidence(segment(25, 40, first=0.7, second=0.7)), evidence(segment(30, 40))
    compared = hand_made(r01=evidence(segment()), r02=nearer, r13=near, r04=evidence())
    assert find_next_score(compared, row=0, group={0, 1}) == nearer.score > near.score
    assert find_next_score(compared, row=1, group={0, 1}) == near.score
    assert find_next_score(compared, row=0, group={0, 1, 2}) == 0.0
    assert find_next_score(compared, row=2, group={0, 2}) is None
    assert find_next_score(compared, row=5, group=set()) is None


def test_a_shared_intro_is_not_near() -> None:
    compared = hand_made(r01=evidence(segment(first=0.1, second=0.2)), r02=evidence(segment(20, 40, first=0.2)))
    intro, whole = (find_next_score(compared, row=row, group={row}) for row in (1, 2))
    assert intro is not None and intro < 0.1
    assert whole is not None and whole >= 0.5, "all of the other one is in it"


def test_the_nearest_video_by_cosine() -> None:
    pairs = (Pair(first=0, second=1, similarity=0.9), Pair(first=1, second=2, similarity=0.7))
    compared = ComparedPairs.by_cosine(replace(NONE_SCORED, pairs=pairs))
    assert find_next_score(compared, row=1, group={0, 1}) == 0.7
    assert find_next_score(compared, row=0, group={0, 1}) is None


def group(number: int, kept: int, *copies: int) -> Group:
    return Group(number=number, kept=kept, copies=copies, similarities=(1.0,) * len(copies))


def test_doubtful_pairs_come_most_uncertain_first() -> None:
    compared = hand_made(
        r01=evidence(segment(18, 40)),
        r02=evidence(segment(first=0.2)),
        r03=evidence(segment(13, 40)),
        r04=evidence(segment()),
        r05=evidence(),
    )
    assert find_doubtful(compared, rules=RULES, groups=[]) == [(0, 1), (0, 3), (0, 2)]
    # The excerpt was removed, as that of another video.
    assert find_doubtful(compared, rules=RULES, groups=[group(1, 5, 2)]) == [(0, 1), (0, 3)]
    assert find_doubtful(compared, rules=RULES, groups=[group(1, 2, 5)]) == [(0, 1), (0, 3), (0, 2)]


def test_what_is_settled_is_not_doubtful() -> None:
    doubt = evidence(segment(16, 40))
    compared = hand_made(r01=doubt, r02=doubt, r12=doubt, r34=doubt)
    everything = [(0, 1), (0, 2), (1, 2), (3, 4)]
    assert find_doubtful(compared, rules=RULES, groups=[]) == everything
    assert ask_once(everything, groups=[], decided={(0, 2), (3, 4)}) == [(0, 1), (1, 2)]
    assert find_doubtful(compared, rules=RULES, groups=[group(1, 0, 1, 2)]) == [(3, 4)]
    assert find_doubtful(compared, rules=RULES, groups=[group(1, 0, 2), group(2, 1, 3)]) == [(0, 1), (1, 2), (3, 4)]


def test_a_list_by_cosine_has_no_evidence() -> None:
    scored = replace(NONE_SCORED, pairs=(Pair(first=0, second=1, similarity=0.93),))
    assert ComparedPairs.by_cosine(scored).about(0, 1) is None


def test_limits_stand_in_an_order_that_makes_sense() -> None:
    assert MIN_AGREEING <= OVERWHELMING_AGREEING
    assert MIN_REGISTERED_INLIERS <= MIN_CONFIRMING_INLIERS
    assert MIN_AGREEMENT < MIN_COMMON_SHARE < MIN_CONTAINED_SHARE


# --- files


def scan(path: Path, *, dense_s: float = 60.0) -> Fingerprint:
    """The fingerprint of a file, after it was stored."""
    deadline = Deadline(60)
    with open_stream(
        str(path), limits=FetchLimits(timeout_s=60, max_bytes=10**8, allow_local_paths=True), deadline=deadline
    ) as stream:
        asked = Scan(step_s=STEP_S, dense_s=dense_s)
        grabbed = grab_frames(stream, num_frames=3, frame_span="spread", deadline=deadline, scan=asked)
    made = make_fingerprint(grabbed.scanned, times_s=grabbed.scanned_times_s, weights=grabbed.scanned_weights)
    assert made is not None
    return Fingerprint.from_bytes(made.to_bytes())


def test_an_excerpt_is_found_in_the_later_part_of_a_film(tmp_path: Path) -> None:
    """Both through their files; the film is looked at densely for ten of its fifty seconds."""
    frames = draw_clip(31, count=500, shots=25)
    fps: Any = {"fps": 10, "size_px": SIZE_PX}
    whole = scan(save_clip(tmp_path / "film.mp4", frames=frames, key_every=250, **fps), dense_s=10)
    assert 55 < len(whole.times_s) < 90
    part = scan(save_clip(tmp_path / "part.mp4", frames=frames[307:407], **fps))
    other = scan(save_clip(tmp_path / "other.mp4", frames=draw_clip(32, count=100, shots=5), **fps))
    half = scan(save_clip(tmp_path / "half.mp4", frames=[*frames[307:357], *draw_clip(32, count=50, shots=3)], **fps))
    found = compare_pair(whole, part, durations_s=(50.0, 10.0))
    assert found.judge(RULES)[0] == Verdict.EXCERPT and found.excerpt == "second"
    assert found.best[1] is not None and found.best[1].offset_s == pytest.approx(-30.7, abs=0.3)
    for unlike in (other, half):
        assert compare_pair(whole, unlike, durations_s=(50.0, 10.0)).judge(RULES)[0] == Verdict.DIFFERENT
    # A film that goes on otherwise after the dense part is another one.
    ends = draw_clip(33, count=400, shots=20)
    alike = scan(save_clip(tmp_path / "alike.mp4", frames=[*frames[:100], *ends], **fps), dense_s=10)
    assert compare_pair(whole, alike, durations_s=(50.0, 50.0)).judge(RULES)[0] == Verdict.DIFFERENT


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Fingerprint]:
    """Two films of the demo, and copies of the first: coarse, and in bars."""
    folder = tmp_path_factory.mktemp("films")
    film, other = (render_film(FILMS[number], seed=number) for number in (0, 1))
    encode_clip(folder / "film.mp4", film, fps=FILMS[0].fps)
    encode_clip(folder / "other.mp4", other, fps=FILMS[1].fps)
    paths = [folder / "film.mp4", folder / "other.mp4"]
    for treatment in ("low_bitrate", "letterbox"):
        encode_copy(folder / f"{treatment}.mp4", film, fps=FILMS[0].fps, treatment=treatment)
        paths.append(folder / f"{treatment}.mp4")
    return [scan(path) for path in paths]


def test_encoded_copies_are_one_group(files: list[Fingerprint]) -> None:
    compared = weigh(
        files, scored=[Pair(first=first, second=second, similarity=0.6) for first, second in combinations(range(4), 2)]
    )
    assert groups_of(compared) == [{0, 2, 3}]
    for row in (2, 3):
        told = describe_evidence(compared, kept=0, copy=row, rules=RULES)
        assert told["verdict"] == "duplicate"
        assert told["offset_s"] == pytest.approx(0.0, abs=0.25)
        assert math.isclose(float(str(told["duration_ratio"])), 1.0, abs_tol=0.1)


def test_two_groups_are_asked_about_once() -> None:
    groups = [group(1, 0, 1), group(2, 2, 3)]
    pairs = [(1, 2), (0, 2), (0, 4), (1, 3), (1, 4), (4, 5)]
    assert ask_once(pairs, groups=groups) == [(1, 2), (0, 4), (4, 5)]
    assert ask_once(pairs, groups=groups, decided={(0, 3), (1, 4)}) == [(4, 5)]
    assert ask_once(pairs, groups=[]) == pairs
    assert ask_once([], groups=groups) == []


@given(st.data())
def test_each_doubt_is_asked_about(data: st.DataObject) -> None:
    rows = st.integers(0, 11)
    pairs = data.draw(st.lists(st.tuples(rows, rows).filter(lambda pair: pair[0] < pair[1]), unique=True))
    of_row = data.draw(st.lists(st.integers(1, 4), min_size=12, max_size=12))
    members = {number: [row for row in range(12) if of_row[row] == number] for number in set(of_row)}
    groups = [group(number, *found) for number, found in members.items() if len(found) > 1]
    asked = ask_once(pairs, groups=groups)
    between = [frozenset((of_row[first], of_row[second])) for first, second in asked]
    assert len(between) == len(set(between)) and set(asked) <= set(pairs)
    assert set(between) == {frozenset((of_row[first], of_row[second])) for first, second in pairs}

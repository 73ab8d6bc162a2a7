"""Two videos with one picture: other sound tells them apart, changed sound does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from measured import evidence, place, segment
from scenes import copy_of
from sounds import music_print, play_music, print_of, speak

from dedup_lib.features.sound import Sound
from dedup_lib.match.alignment import AlignedSegment
from dedup_lib.match.comparisons import pack_evidence, unpack_evidence
from dedup_lib.match.evidence import Criterion, Evidence, MatchThresholds, Verdict
from dedup_lib.match.sound import MAX_OTHER, SoundMatch, compare_sound
from dedup_lib.match.verify import compare_pair
from dedup_lib.records import SOUND_RATE_HZ, Samples

RULES = MatchThresholds(min_score=0.5, review_from=0.05)

LASTS_S = 12.0

MUSIC = play_music(1, lasts_s=LASTS_S, rate_hz=SOUND_RATE_HZ)

SPEECH = speak(1, lasts_s=LASTS_S, rate_hz=SOUND_RATE_HZ)


def shared_segment(*, offset_s: float = 0.0, lasts_s: float = LASTS_S, speed: float = 1.0) -> AlignedSegment:
    return replace(
        segment(),
        first_start_s=0.0,
        first_end_s=lasts_s,
        second_start_s=offset_s,
        second_end_s=offset_s + lasts_s,
        speed=speed,
    )


def compare(first: Samples, second: Samples, **along: float) -> SoundMatch | None:
    return compare_sound(print_of(first), print_of(second), shared_segment(**along))


def add_noise(samples: Samples, share: float) -> Samples:
    noise = np.random.default_rng(0).normal(0, share * samples.std(), len(samples))
    return np.asarray(samples + noise, np.float32)


def at(samples: Samples, start_s: float) -> Samples:
    return samples[round(start_s * SOUND_RATE_HZ) :]


def lay_over(samples: Samples, other: Samples) -> Samples:
    """Both as loud as each other."""
    return np.asarray(samples + other * samples.std() / other.std(), np.float32)


VOICE_OVER = speak(7, lasts_s=LASTS_S, rate_hz=SOUND_RATE_HZ)

JINGLE = play_music(9, lasts_s=4, rate_hz=SOUND_RATE_HZ)

CHANGED: dict[str, Callable[[Samples], Samples]] = {
    "itself": lambda samples: samples,
    "20 dB quieter": lambda samples: samples * np.float32(0.1),
    "overdriven": lambda samples: np.clip(4 * samples, -0.3, 0.3),
    "with noise": lambda samples: add_noise(samples, 0.5),
    "without its upper half": lambda samples: np.convolve(samples, np.full(4, 0.25, np.float32), "same"),
    "late by 0.2 s": lambda samples: np.append(np.zeros(1200), samples),
    "late by 2 s": lambda samples: np.append(np.zeros(12_000), samples),
    "under a voice": lambda samples: lay_over(samples, VOICE_OVER),
    "with a jingle over a third": lambda samples: np.append(JINGLE, at(samples, 4)),
}


@pytest.mark.parametrize("change", CHANGED.values(), ids=CHANGED.keys())
@pytest.mark.parametrize("samples", [MUSIC, SPEECH], ids=["music", "speech"])
def test_changed_sound_is_no_other(samples: Samples, change: Callable[[Samples], Samples]) -> None:
    found = compare(samples, change(samples).astype(np.float32))
    assert found is not None and not found.is_other
    assert found.compared_s >= 5


@pytest.mark.parametrize("seed", range(2, 10))
def test_other_sound_is_other(seed: int) -> None:
    for own, make in ((MUSIC, play_music), (SPEECH, speak)):
        found = compare(own, make(seed, lasts_s=LASTS_S, rate_hz=SOUND_RATE_HZ))
        assert found is not None and found.is_other and found.correlation > -0.2


def test_what_comes_before_the_common_part_does_not_count() -> None:
    other = np.append(play_music(5, lasts_s=3.1, rate_hz=SOUND_RATE_HZ), MUSIC)
    found = compare(MUSIC, other, offset_s=3.1)
    assert found is not None and found.correlation > 0.4


@pytest.mark.parametrize("lasts_s", [2.0, 2.9])
def test_too_little_sound_is_not_compared(lasts_s: float) -> None:
    assert compare(MUSIC, MUSIC, lasts_s=lasts_s) is None
    assert compare(MUSIC, at(MUSIC, LASTS_S - lasts_s)) is None


def test_a_short_video_needs_less_sound() -> None:
    short = MUSIC[: 5 * SOUND_RATE_HZ]
    found = compare(short, short, lasts_s=5.0)
    assert found is not None and 3 <= found.compared_s < 5
    # The same few seconds are too little of a longer part.
    hushed = np.append(short[: 4 * SOUND_RATE_HZ], np.zeros(len(MUSIC) - 4 * SOUND_RATE_HZ)).astype(np.float32)
    assert compare(MUSIC, hushed) is None


def test_silence_and_another_speed_are_not_compared() -> None:
    assert compare_sound(None, music_print(1), shared_segment()) is None
    assert compare_sound(music_print(1), None, shared_segment()) is None
    assert compare(MUSIC, MUSIC, speed=1.05) is None
    # Beside what is loud, what is hardly heard counts as silence.
    hushed = np.append(play_music(2, lasts_s=2, rate_hz=SOUND_RATE_HZ), 0.001 * at(SPEECH, 2)).astype(np.float32)
    assert compare(SPEECH, hushed) is None


@given(seed=st.integers(0, 1000), lengths=st.tuples(st.integers(60, 120), st.integers(60, 120)), shared=st.floats(0, 1))
def test_the_measure_keeps_its_range_and_both_orders_agree(seed: int, lengths: tuple[int, int], shared: float) -> None:
    generator = np.random.default_rng(seed)
    one, other = (generator.integers(0, 2**32, length, dtype=np.uint32) for length in lengths)
    same = round(shared * min(lengths))
    other[:same] = one[:same]
    prints = [Sound(bits=bits, levels_db=np.full(len(bits), -20, np.int8)) for bits in (one, other)]
    found, exchanged = (
        compare_sound(mine, others, shared_segment(lasts_s=20)) for mine, others in (prints, prints[::-1])
    )
    assert found is not None and exchanged is not None
    assert -1 <= found.correlation <= 1
    assert found.correlation == pytest.approx(exchanged.correlation)


def test_identical_frames_with_other_sound_are_a_version() -> None:
    mine, other, silent = (replace(copy_of(1), sound=sound) for sound in (music_print(1), music_print(2), None))
    found = compare_pair(mine, other, durations_s=(10.0, 10.0))
    assert found.is_exact and found.sound is not None and found.sound.correlation <= MAX_OTHER
    assert 0 < found.score < 0.5
    verdicts = [found.judge(replace(RULES, versions=versions)) for versions in ("review", "remove", "keep")]
    assert verdicts == [
        (Verdict.REVIEW, Criterion.SOUND),
        (Verdict.DUPLICATE, Criterion.SOUND),
        (Verdict.DIFFERENT, Criterion.SOUND),
    ]
    assert found.score_under("remove") == 1.0
    for beside in (silent, mine):
        same = compare_pair(mine, beside, durations_s=(10.0, 10.0))
        assert (same.judge(RULES), same.score) == ((Verdict.DUPLICATE, Criterion.EXACT), 1.0)


def test_nothing_changes_without_sound() -> None:
    plain = compare_pair(copy_of(1), copy_of(1, "logo"), durations_s=(10.0, 10.0))
    half = compare_pair(replace(copy_of(1), sound=music_print(1)), copy_of(1, "logo"), durations_s=(10.0, 10.0))
    assert pack_evidence(half) == pack_evidence(plain)


@given(correlation=st.floats(-1, 1), share=st.none() | st.floats(0.1, 0.9))
def test_sound_only_ever_makes_a_version(correlation: float, share: float | None) -> None:
    found = evidence(
        segment(),
        sound=SoundMatch(correlation=correlation, compared_s=8.0),
        difference=place(share, share) if share is not None else None,
    )
    without = replace(found, sound=None)
    if correlation > MAX_OTHER or share is not None:
        assert (found.score, found.judge(RULES)) == (without.score, without.judge(RULES))
    else:
        assert found.score < 0.5 <= without.score
        assert found.judge(RULES) == (Verdict.REVIEW, Criterion.SOUND)
    assert pack_evidence(unpack_evidence(pack_evidence(found))) == pack_evidence(found)


def test_sound_does_not_judge_what_is_shared_in_part_only() -> None:
    intro: Evidence = evidence(segment(first=0.1, second=0.1), sound=SoundMatch(correlation=0.0, compared_s=8.0))
    assert intro.judge(RULES) == (Verdict.DIFFERENT, Criterion.SHORT)

"""The fingerprint of sound: what changes it and what does not."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scenes import copy_of
from sounds import music_print, play_music, print_of, speak

from dedup_lib.features.fingerprint import Fingerprint
from dedup_lib.features.sound import HOP_S, SILENT_DB, STEP_HOPS, Sound, fingerprint_sound
from dedup_lib.records import SOUND_RATE_HZ, Samples

MUSIC = play_music(1, lasts_s=10, rate_hz=SOUND_RATE_HZ)


def share_alike(one: Sound, other: Sound) -> float:
    """Share of the bits that agree."""
    count = min(len(one.bits), len(other.bits))
    differing = np.bitwise_count(one.bits[STEP_HOPS:count] ^ other.bits[STEP_HOPS:count])
    return float(1 - differing.mean() / 32)


def test_what_is_kept_of_sound() -> None:
    made = print_of(MUSIC)
    assert (made.bits.dtype, made.levels_db.dtype) == (np.uint32, np.int8)
    assert len(made.bits) == len(made.levels_db) == round(10 / HOP_S) - 2
    assert made.pack().nbytes == 5 * len(made.bits)
    assert -40 < np.median(made.levels_db) < 0


def test_other_sound_agrees_as_by_chance() -> None:
    assert all(0.4 < share_alike(music_print(1), music_print(seed)) < 0.6 for seed in range(2, 8))
    languages = (print_of(speak(seed, lasts_s=10, rate_hz=SOUND_RATE_HZ)) for seed in (1, 2))
    assert 0.4 < share_alike(*languages) < 0.6


@given(gain=st.floats(0.05, 1.0))
def test_volume_changes_no_bit_but_the_level(gain: float) -> None:
    loud, quiet = print_of(MUSIC), print_of(MUSIC * np.float32(gain))
    assert share_alike(loud, quiet) > 0.99
    heard = quiet.levels_db > SILENT_DB
    louder_db = loud.levels_db[heard].astype(int) - quiet.levels_db[heard]
    assert np.abs(louder_db + 20 * np.log10(gain)).max() <= 1.01


@given(start=st.integers(0, round(HOP_S * SOUND_RATE_HZ)))
def test_sound_may_begin_between_two_hops(start: int) -> None:
    shifted = print_of(MUSIC[start:])
    ahead = print_of(MUSIC[round(HOP_S * SOUND_RATE_HZ) :])
    assert max(share_alike(print_of(MUSIC), shifted), share_alike(ahead, shifted)) > 0.7


@pytest.mark.parametrize("samples", [np.zeros(60_000), np.full(60_000, 0.3), np.zeros(0), MUSIC[:3000], 1e-5 * MUSIC])
def test_silence_has_no_fingerprint(samples: Samples) -> None:
    assert fingerprint_sound(samples.astype(np.float32)) is None


@given(
    packed=arrays.arrays(np.uint8, st.tuples(st.integers(0, 50), st.just(5)), elements=st.integers(0, 255)),
)
def test_any_packed_sound_comes_back(packed: np.ndarray[tuple[int, int], np.dtype[np.uint8]]) -> None:
    assert np.array_equal(Sound.unpack(packed).pack(), packed)


def test_sound_is_stored_with_its_fingerprint() -> None:
    made = replace(copy_of(1), sound=music_print(1))
    again = Fingerprint.from_bytes(made.to_bytes())
    assert again.sound is not None and made.sound is not None
    assert np.array_equal(again.sound.bits, made.sound.bits)
    assert np.array_equal(again.sound.levels_db, made.sound.levels_db)
    assert len(made.to_bytes()) - len(copy_of(1).to_bytes()) < 1000


def test_a_fingerprint_of_before_has_no_sound() -> None:
    stored = copy_of(1).to_bytes()
    with np.load(io.BytesIO(stored)) as file:
        assert "sound" not in file.files
    assert Fingerprint.from_bytes(stored).sound is None


@pytest.mark.parametrize("damaged", [np.zeros((4, 4), np.uint8), np.zeros(20, np.uint8), np.zeros((4, 5), np.float32)])
def test_a_damaged_fingerprint_of_sound_is_refused(damaged: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
    with np.load(io.BytesIO(copy_of(1).to_bytes())) as file:
        parts = {name: file[name] for name in file.files}
    changed = io.BytesIO()
    np.savez(changed, **parts, sound=damaged)
    with pytest.raises(ValueError, match="are no fingerprint: this is no fingerprint of sound"):
        Fingerprint.from_bytes(changed.getvalue())

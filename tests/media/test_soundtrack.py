"""The sound of a film is heard while its frames pass, and never stops them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from media import save_clip
from scenes import draw_clip
from sounds import RATE_HZ, play_music, print_of, save_film, speak

from dedup_lib.extract.videos_read import ReadVideo
from dedup_lib.extract.worker import read_video
from dedup_lib.features.fingerprint import Fingerprint
from dedup_lib.features.sound import Sound
from dedup_lib.groups.columns import describe_evidence
from dedup_lib.groups.matcher import ComparedPairs, FingerprintedList, compare_candidates
from dedup_lib.groups.review import find_doubtful
from dedup_lib.groups.scored import Scored
from dedup_lib.match.evidence import Criterion, MatchThresholds, Verdict
from dedup_lib.match.verify import compare_pair
from dedup_lib.media import soundtrack
from dedup_lib.media.limits import Deadline, FetchLimits
from dedup_lib.media.sampling import grab_frames
from dedup_lib.media.streams import FileStream
from dedup_lib.records import SOUND_RATE_HZ, Frames, Recipe, Samples, Scan, Status
from dedup_lib.report.evidence_words import explain

LIMITS = FetchLimits(timeout_s=60, max_bytes=50_000_000, allow_local_paths=True)
RECIPE = Recipe(encoder="pdq", model="", num_frames=2, frame_span="spread")
SCAN = Scan(step_s=0.25)
RULES = MatchThresholds(min_score=0.5, review_from=0.05)

FRAMES = draw_clip(1, count=40)
LASTS_S = 10.0
MUSIC = play_music(1, lasts_s=LASTS_S)


def read(path: Path, *, scan: Scan = SCAN) -> ReadVideo:
    return read_video((0, str(path)), recipe=RECIPE, scan=scan, limits=LIMITS, prepare=lambda frame: frame)


def fingerprint_of(path: Path) -> Fingerprint:
    found = read(path)
    assert found.outcome.status == Status.OK and found.fingerprint is not None, found.outcome.reason
    return Fingerprint.from_bytes(found.fingerprint)


def hear(path: Path, *, scan: Scan = SCAN) -> Samples:
    grabbed = grab_frames(FileStream(path), num_frames=1, frame_span="first", deadline=Deadline(60), scan=scan)
    assert grabbed.sound is not None
    return grabbed.sound


def sound_of(path: Path) -> Sound:
    sound = fingerprint_of(path).sound
    assert sound is not None
    return sound


def is_alike(one: Sound, other: Sound) -> bool:
    count = min(len(one.bits), len(other.bits))
    return bool(np.bitwise_count(one.bits[2:count] ^ other.bits[2:count]).mean() < 0.25 * 32)


FILES: dict[str, dict[str, Any]] = {
    "film.mp4": {},
    "film.mkv": {"codec": "flac", "rate_hz": 44_100},
    "opus.mkv": {"codec": "libopus", "rate_hz": 48_000, "bit_rate": 24_000},
    "mp3.avi": {"codec": "libmp3lame", "rate_hz": 44_100, "bit_rate": 48_000, "layout": "mono"},
    "film.ts": {"codec": "mp2", "rate_hz": 32_000},
    "surround.mov": {"codec": "pcm_s16le", "rate_hz": 96_000, "layout": "5.1"},
    "telephone.avi": {"codec": "pcm_mulaw", "rate_hz": 8_000, "layout": "mono"},
}


@pytest.mark.parametrize("later_s", [0, 60, 3600])
def test_the_sound_of_joined_recordings_goes_on_as_their_frames_do(tmp_path: Path, later_s: int) -> None:
    content = b""
    for part, shown in enumerate((FRAMES[:20], FRAMES[20:])):
        music = MUSIC[part * 5 * RATE_HZ : (part + 1) * 5 * RATE_HZ]
        options = {"output_ts_offset": str(later_s * part)}
        content += save_film(tmp_path / f"{part}.ts", shown, music, options=options).read_bytes()
    (tmp_path / "joined.ts").write_bytes(content)
    joined = sound_of(tmp_path / "joined.ts")
    assert is_alike(joined, sound_of(save_film(tmp_path / "film.ts", FRAMES, MUSIC)))
    assert len(joined.bits) == pytest.approx(len(print_of(hear(tmp_path / "film.ts")).bits), abs=3)


@pytest.mark.parametrize("name", FILES)
def test_sound_is_heard_in_every_format(tmp_path: Path, name: str) -> None:
    how = FILES[name]
    rate_hz = how.get("rate_hz", RATE_HZ)
    path = save_film(tmp_path / name, FRAMES, play_music(1, lasts_s=LASTS_S, rate_hz=rate_hz), **how)
    heard = hear(path)
    assert heard.dtype == np.float32 and abs(len(heard) / SOUND_RATE_HZ - LASTS_S) < 0.3
    assert is_alike(sound_of(path), print_of(play_music(1, lasts_s=LASTS_S, rate_hz=SOUND_RATE_HZ)))


@pytest.mark.parametrize("channel", [0, 1])
def test_one_of_two_channels_may_be_missing(tmp_path: Path, channel: int) -> None:
    both = np.zeros((2, len(MUSIC)), np.float32)
    both[channel] = MUSIC
    assert is_alike(
        sound_of(save_film(tmp_path / "one.mp4", FRAMES, both)), sound_of(save_film(tmp_path / "a.mp4", FRAMES, MUSIC))
    )


def test_frames_are_the_same_with_and_without_sound(tmp_path: Path) -> None:
    heard, silent = (
        fingerprint_of(save_film(tmp_path / name, FRAMES, samples))
        for name, samples in (("a.mp4", MUSIC), ("b.mp4", None))
    )
    assert heard.sound is not None and silent.sound is None
    assert replace(heard, sound=None).to_bytes() == silent.to_bytes()


def test_silence_is_no_sound(tmp_path: Path) -> None:
    assert fingerprint_of(save_film(tmp_path / "a.mp4", FRAMES, np.zeros_like(MUSIC))).sound is None
    assert fingerprint_of(save_clip(tmp_path / "b.mp4", sound=True)).sound is None


def test_sound_is_heard_in_the_dense_part_only(tmp_path: Path) -> None:
    path = save_film(tmp_path / "a.mp4", FRAMES, MUSIC)
    assert 4.0 <= len(hear(path, scan=Scan(step_s=0.25, dense_s=4.0))) / SOUND_RATE_HZ <= 4.01
    assert not read(path, scan=Scan(step_s=0.0)).outcome.reason


def test_sound_after_the_film_and_before_it_does_not_shift_it(tmp_path: Path) -> None:
    long = play_music(1, lasts_s=30)
    path = save_film(tmp_path / "a.mp4", FRAMES, long)
    assert len(hear(path)) / SOUND_RATE_HZ <= 31
    assert is_alike(sound_of(path), sound_of(save_film(tmp_path / "b.mp4", FRAMES, MUSIC)))


def test_a_film_is_read_with_no_more_bytes_for_its_sound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_film(tmp_path / "a.mp4", FRAMES, MUSIC)
    heard = read(path)
    monkeypatch.setattr(soundtrack, "MAX_PACKETS", 0)
    deaf = read(path)
    assert heard.outcome.fetched_bytes == deaf.outcome.fetched_bytes
    assert deaf.fingerprint is not None and Fingerprint.from_bytes(deaf.fingerprint).sound is None


# --- hostile sound


def damage(path: Path, change: Callable[[int, bytes], bytes]) -> Path:
    """The same film, in which each packet of sound was changed."""
    target = path.with_name(f"damaged-{path.name}")
    with av.open(str(path)) as source, av.open(str(target), "w") as container:
        streams = {stream.index: container.add_stream_from_template(stream) for stream in source.streams}
        for number, packet in enumerate(source.demux()):
            if not packet.size:
                continue
            copy = packet
            if packet.stream.type == "audio":
                copy = av.Packet(change(number, bytes(packet)))
                copy.pts, copy.dts, copy.duration, copy.time_base = (
                    packet.pts, packet.dts, packet.duration, packet.time_base,
                )  # fmt: skip
            copy.stream = streams[packet.stream.index]
            container.mux(copy)
    return target


GENERATOR = np.random.default_rng(0)

DAMAGES: dict[str, Callable[[int, bytes], bytes]] = {
    "noise": lambda number, data: GENERATOR.bytes(len(data)),
    "one byte each": lambda number, data: data[:1],
    "every other packet cut": lambda number, data: data if number % 2 else data[: len(data) // 2],
    "a huge packet": lambda number, data: data * 200,
}


@pytest.mark.parametrize("name", ["film.mkv", "film.mp4"])
@pytest.mark.parametrize("change", DAMAGES.values(), ids=DAMAGES.keys())
def test_damaged_sound_never_stops_a_film(tmp_path: Path, name: str, change: Callable[[int, bytes], bytes]) -> None:
    path = save_film(tmp_path / name, FRAMES, MUSIC)
    whole, found = fingerprint_of(path), fingerprint_of(damage(path, change))
    assert np.array_equal(found.tiny_frames, whole.tiny_frames)
    assert np.array_equal(found.times_s, whole.times_s)


@pytest.mark.parametrize(
    ("rate_hz", "layout", "is_heard"), [(768_000, "mono", True), (4_000, "mono", False), (384_000, "5.1", False)]
)
def test_absurd_sound_is_not_heard(tmp_path: Path, rate_hz: int, layout: str, is_heard: bool) -> None:
    samples = play_music(1, lasts_s=4, rate_hz=rate_hz)
    path = save_film(tmp_path / "a.mov", FRAMES[:16], samples, codec="pcm_s16le", rate_hz=rate_hz, layout=layout)
    found = fingerprint_of(path)
    assert (found.sound is not None) == is_heard


def test_sound_that_changes_its_format_on_the_way_is_heard(tmp_path: Path) -> None:
    """As where two recordings were joined: MPEG-TS announces nothing."""
    half = len(MUSIC) // 2
    parts = [
        save_film(tmp_path / "a.ts", FRAMES[:20], MUSIC[:half], codec="mp2", layout="stereo"),
        save_film(tmp_path / "b.ts", FRAMES[20:], MUSIC[half:], codec="mp2", layout="mono"),
    ]
    path = tmp_path / "both.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert read(path).outcome.status == Status.OK
    assert len(hear(path)) / SOUND_RATE_HZ > 4


def test_sound_without_end_is_heard_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_film(tmp_path / "a.mp4", FRAMES, MUSIC)
    monkeypatch.setattr(soundtrack, "MAX_PACKETS", 100)
    assert 3 < len(hear(path)) / SOUND_RATE_HZ < 5


# --- what becomes of a pair


def compare(*paths: Path) -> ComparedPairs:
    scored = Scored(pairs=(), nearest=np.full(len(paths), np.nan), floor=0.5, expanded_queries=0, identical=())
    return compare_candidates(
        FingerprintedList(fingerprints=[fingerprint_of(path) for path in paths], durations_s=[LASTS_S] * len(paths)),
        scored=scored,
        rules=RULES,
        keeps_excerpts=False,
        max_candidates=10,
    )


COPIES: dict[str, dict[str, Any]] = {
    "aac.mp4": {"bit_rate": 32_000},
    "mp3.mkv": {"codec": "libmp3lame", "bit_rate": 32_000, "layout": "mono"},
    "opus.mkv": {"codec": "libopus", "rate_hz": 48_000, "bit_rate": 16_000},
}


@pytest.mark.parametrize("make", [play_music, speak])
def test_one_film_with_other_sound_is_a_version_and_its_copies_are_copies(
    tmp_path: Path, make: Callable[..., Samples]
) -> None:
    film = save_film(tmp_path / "a.mp4", FRAMES, make(1, lasts_s=LASTS_S))
    other = save_film(tmp_path / "other.mp4", FRAMES, make(2, lasts_s=LASTS_S))
    copies = [
        save_film(tmp_path / name, FRAMES, 0.3 * make(1, lasts_s=LASTS_S, rate_hz=how.get("rate_hz", RATE_HZ)), **how)
        for name, how in COPIES.items()
    ]
    mute = save_film(tmp_path / "mute.mp4", FRAMES, None)
    compared = compare(film, other, mute, *copies)
    for row in range(2, 3 + len(copies)):
        found = compared.about(0, row)
        assert found is not None and found.judge(RULES)[0] == Verdict.DUPLICATE
        assert (found.sound is None) == (row == 2)
    doubtful = find_doubtful(compared, rules=RULES, groups=[])
    assert (0, 1) in doubtful
    described = describe_evidence(compared, kept=0, copy=1, rules=RULES)
    assert (described["verdict"], described["rule"]) == ("review", str(Criterion.SOUND))
    assert float(str(described["sound_correlation"])) < 0.15
    assert "the sound differs" in explain(described)
    assert "the sound is the same" in explain(describe_evidence(compared, kept=0, copy=3, rules=RULES))
    assert "sound" not in explain(describe_evidence(compared, kept=0, copy=2, rules=RULES))


def test_two_songs_under_one_cover_are_told_apart(tmp_path: Path) -> None:
    cover: list[Frames] = FRAMES[:1] * 40
    first, second, late = (
        save_film(tmp_path / name, cover, samples)
        for name, samples in (
            ("a.mp4", MUSIC),
            ("b.mp4", play_music(2, lasts_s=LASTS_S)),
            # The frames of a still film say nothing about its offset.
            ("late.mp4", np.append(np.zeros(2 * RATE_HZ, np.float32), MUSIC[: -2 * RATE_HZ])),
        )
    )
    compared = compare(first, second, late)
    other, copy = compared.about(0, 1), compared.about(0, 2)
    assert other is not None and other.judge(RULES) == (Verdict.REVIEW, Criterion.SOUND)
    assert copy is not None and copy.judge(RULES)[0] == Verdict.DUPLICATE


@pytest.mark.parametrize("speed", [1.04, 1.1, 1.25])
def test_a_copy_at_another_speed_is_no_other(tmp_path: Path, speed: float) -> None:
    """Its sound is higher too, and is not compared."""
    count = round(len(MUSIC) / speed)
    faster = np.interp(np.arange(count) * speed, np.arange(len(MUSIC)), MUSIC).astype(np.float32)
    film = fingerprint_of(save_film(tmp_path / "a.mp4", FRAMES, MUSIC))
    shown = [FRAMES[int(place * speed)] for place in range(round(40 / speed)) if place * speed < 40]
    copy = fingerprint_of(save_film(tmp_path / "b.mp4", shown, faster))
    assert not compare_pair(film, copy, durations_s=(LASTS_S, LASTS_S / speed)).is_version

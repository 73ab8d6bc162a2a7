"""Sound made by hand, and films that it is laid under."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from dedup_lib.features.sound import Sound, fingerprint_sound
from dedup_lib.records import SOUND_RATE_HZ, Frames, Samples

RATE_HZ = 24_000


def play_music(seed: int, *, lasts_s: float, rate_hz: int = RATE_HZ) -> Samples:
    """Chords of three notes on a beat, each dying away."""
    generator = np.random.default_rng(seed)
    played = np.zeros(round(lasts_s * rate_hz))
    beat = int(generator.choice([0.25, 0.3, 0.4]) * rate_hz)
    for start in range(0, len(played), beat):
        part = played[start : start + 2 * beat]
        at_s = np.arange(len(part)) / rate_hz
        for note in generator.integers(0, 30, 3):
            tones = sum(np.sin(2 * np.pi * 220 * 2 ** (note / 12) * over * at_s) / over for over in (1, 2, 3))
            part += 0.1 * np.exp(-4 * at_s) * tones
    return played.astype(np.float32)


def speak(seed: int, *, lasts_s: float, rate_hz: int = RATE_HZ) -> Samples:
    """Syllables like those of speech: a tone rich in overtones, of which two regions stand out, and pauses."""
    generator = np.random.default_rng(seed)
    spoken = np.zeros(round(lasts_s * rate_hz))
    start = 0
    while start < len(spoken):
        part = spoken[start : start + round(generator.uniform(0.08, 0.3) * rate_hz)]
        start += len(part)
        if generator.uniform() < 0.2:
            continue
        at_s, pitch_hz = np.arange(len(part)) / rate_hz, generator.uniform(90, 220)
        formants_hz = generator.uniform(300, 900), generator.uniform(900, 2300)
        for overtone_hz in np.arange(pitch_hz, 3000, pitch_hz):
            loud = sum(np.exp(-(((overtone_hz - formant_hz) / 150) ** 2)) for formant_hz in formants_hz)
            part += 0.15 * loud * np.sin(2 * np.pi * overtone_hz * at_s)
        part *= np.hanning(len(part))
    return spoken.astype(np.float32)


def print_of(samples: Samples) -> Sound:
    """The fingerprint of sound that is not silent, at the rate at which films are heard."""
    made = fingerprint_sound(samples)
    assert made is not None
    return made


def music_print(seed: int, *, lasts_s: float = 10.0, gain: float = 1.0) -> Sound:
    return print_of(gain * play_music(seed, lasts_s=lasts_s, rate_hz=SOUND_RATE_HZ))


def save_film(
    path: Path,
    frames: Sequence[Frames],
    samples: Samples | None,
    *,
    rate_hz: int = RATE_HZ,
    codec: str = "aac",
    bit_rate: int = 64_000,
    layout: str = "stereo",
    frame_rate: int = 4,
    options: dict[str, str] | None = None,
) -> Path:
    """Frames and their sound, (N,) in all channels or (channels, N), in one file."""
    height, width = frames[0].shape[:2]
    with av.open(str(path), "w", options=options or {}) as container:
        stream: Any = container.add_stream("libx264", rate=frame_rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.thread_count = 1
        voice: Any = container.add_stream(codec, rate=rate_hz, layout=layout) if samples is not None else None
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())
        if samples is not None:
            voice.codec_context.bit_rate = bit_rate
            channels = np.broadcast_to(samples, (voice.codec_context.layout.nb_channels, samples.shape[-1]))
            whole = av.AudioFrame.from_ndarray(np.ascontiguousarray(channels, np.float32), "fltp", layout)
            whole.sample_rate, whole.pts, whole.time_base = rate_hz, 0, Fraction(1, rate_hz)
            resampler = av.AudioResampler(
                format=voice.codec_context.format,
                layout=layout,
                rate=voice.codec_context.sample_rate,
                frame_size=voice.codec_context.frame_size or 1024,
            )
            for part in (*resampler.resample(whole), *resampler.resample(None)):
                container.mux(voice.encode(part))
            container.mux(voice.encode())
    return path

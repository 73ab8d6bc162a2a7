"""The sound of a film, heard while its frames pass: mono, at a low rate, on the time line of the frames."""

from __future__ import annotations

import math

import av
import numpy as np
from av.audio.fifo import AudioFifo
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition

from dedup_lib.media.tracks import is_encrypted
from dedup_lib.records import SOUND_RATE_HZ, Samples

MAX_HEARD_S = 60.0
"""Most seconds of sound that are decoded: the dense part of a scan."""

MAX_SAMPLES_A_SECOND = 8 * 192_000
"""Sound with more samples per second, over all its channels, is not decoded."""

MAX_PACKETS = 20_000
"""Most packets decoded for one video. A minute of AAC has 2,800; packets of a few samples each end here."""

MAX_RUNS = 16
"""Most times that sound may begin anew, after a gap or in another format."""

_BLOCK_S = 2.0
"""Seconds that are resampled at once: each frame by itself would take three times as long as decoding it."""

_MAX_GAP_S = 0.1
"""Seconds by which time stamps may deviate from the number of samples before they count."""

_Format = tuple[int, str, int]


def find_sound(container: InputContainer) -> AudioStream | None:
    """The audio stream that players play, None without one that can be decoded."""
    # The type stub does not know that a stream without a decoder has no context.
    streams = [stream for stream in container.streams.audio if stream.codec_context is not None]
    return next((stream for stream in streams if stream.disposition & Disposition.default), next(iter(streams), None))


class Soundtrack:
    """What is heard of one film from its start on, up to `ends_s`, at most `MAX_HEARD_S`.

    Damaged or absurd sound never raises: it is absent from what is heard, or what is heard is shorter.
    """

    def __init__(self, *, ends_s: float) -> None:
        self._ends_s = min(ends_s, MAX_HEARD_S)
        self._heard = np.zeros(math.ceil(self._ends_s * SOUND_RATE_HZ), np.float32)
        self._place = self._end = 0
        """Where the next sample belongs in `_heard`, and behind the last one."""
        self._packets = self._runs = 0
        self._decoded_s = 0.0
        self._is_over = False
        self._format: _Format | None = None
        self._next_s = 0.0
        """When the next sample is heard, by the number of samples."""
        self._fifo = AudioFifo()
        self._resampler = _make_resampler()

    def hear(self, packet: av.Packet[AudioStream], *, start_s: float) -> None:
        """Decodes a packet; its film starts at `start_s` by the time stamps of the file."""
        self._packets += 1
        if self._is_over or self._packets > MAX_PACKETS or is_encrypted(packet):
            return
        try:
            for frame in packet.decode():
                self._add(frame, start_s)
        except av.InvalidDataError:
            # Only this packet is damaged: later ones may be fine.
            pass
        except Exception:
            # Hostile sound may cause any exception, and must not fail its film.
            self._is_over = True

    def take(self) -> Samples:
        """What was heard, from the first frame of the film on, at `SOUND_RATE_HZ`; 0 where nothing was heard. Empty
        without sound."""
        try:
            self._end_run()
        except Exception:
            # As in `hear`.
            self._is_over = True
        return self._heard[: self._end]

    def _add(self, frame: AudioFrame, start_s: float) -> None:
        rate, channels = frame.sample_rate, frame.layout.nb_channels
        if rate < SOUND_RATE_HZ or rate * channels > MAX_SAMPLES_A_SECOND:
            return
        time_s = self._next_s if frame.time is None else frame.time - start_s
        lasts_s = frame.samples / rate
        self._decoded_s += lasts_s
        own = rate, frame.format.name, channels
        if own != self._format or abs(time_s - self._next_s) > _MAX_GAP_S:
            # A queue must not be given another number of channels: it does not check it.
            self._end_run()
            self._runs += 1
            self._format, self._next_s = own, time_s
            self._place = round(time_s * SOUND_RATE_HZ)
        # Time stamps that stand still must not go on for ever.
        if time_s >= self._ends_s or self._decoded_s > 2 * self._ends_s or self._runs > MAX_RUNS:
            self._is_over = True
            return
        frame.pts = None
        self._fifo.write(frame)
        self._next_s += lasts_s
        if self._fifo.samples >= _BLOCK_S * rate:
            self._resample()

    def _end_run(self) -> None:
        self._resample()
        self._put(self._resampler.resample(None))
        self._fifo, self._resampler = AudioFifo(), _make_resampler()

    def _resample(self) -> None:
        waiting = self._fifo.read()
        if waiting is not None:
            waiting.pts = None
            self._put(self._resampler.resample(waiting))

    def _put(self, frames: list[AudioFrame]) -> None:
        for frame in frames:
            samples = np.nan_to_num(frame.to_ndarray()[0], posinf=0.0, neginf=0.0)
            # Some sound begins before its film.
            first, last = (min(max(0, place), len(self._heard)) for place in (self._place, self._place + len(samples)))
            self._heard[first:last] = samples[first - self._place : last - self._place] if last > first else 0
            self._place += len(samples)
            self._end = max(self._end, last)


def _make_resampler() -> AudioResampler:
    return AudioResampler(format="flt", layout="mono", rate=SOUND_RATE_HZ)

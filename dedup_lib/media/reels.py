"""A stream as open containers: the packets of its film, on one time line, from its start or from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import cast

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.video.stream import VideoStream

from dedup_lib.media.limits import Deadline
from dedup_lib.media.ranges import file_changed
from dedup_lib.media.recordings import Recording
from dedup_lib.media.segments import SegmentedStream
from dedup_lib.media.sniff import HEAD_BYTES, is_transport_stream
from dedup_lib.media.soundtrack import Soundtrack, find_sound
from dedup_lib.media.streams import MediaStream
from dedup_lib.media.timestamps import Joints, is_gif_comment
from dedup_lib.media.tracks import (
    BROKEN_ENDS,
    MAX_PIXELS,
    check_size,
    choose_film,
    count_frames,
    find_films,
    is_edited_away,
    is_joinable,
    open_container,
    read_packets,
    start_s,
)

_AT_ONCE = {"analyzeduration": "1", "probesize": "65536"}
"""Options to open a container without reading ahead: what the first one has told of the film holds for the next."""

_UNEDITED = {"ignore_editlist": "1"}
"""Options to read the pictures of an MP4 file as they come, whatever its edit lists say."""

_MAX_JOINED_BYTES = 64 * 1024 * 1024
"""Of a larger file, whose end belongs to another recording, only the first recording counts, unless reading on meets
the others anyway: their time stamps count anew, so that the file must be read through."""


class Reel:
    """A stream as an open container, its video stream, and the position in it.

    The segments of a playlist are a container for each run, and a new one after each seek. The time stamps of their
    packets are changed so that they all count from the start of the first run.
    """

    def __init__(self, stream: MediaStream, deadline: Deadline, *, demuxer: str | None) -> None:
        self.video: VideoStream
        self.tick_s = self.start_s = self.interval_s = 0.0
        """Seconds: the unit of the time stamps, the time stamp of the first frame, and how long a frame stays by the
        rate that the file states."""
        self.rates: list[float] = []
        """Frames per second, as far as the file tells."""
        self.is_joined = False
        """Whether the file is known to hold several recordings."""
        self._stream = stream
        self._segments = stream if isinstance(stream, SegmentedStream) else None
        self._deadline = deadline
        self._demuxer = demuxer
        self._options = dict[str, str]()
        """Options to open the file with."""
        self._container: InputContainer | None = None
        self._index: int | None = None
        self._time_base = Fraction(0)
        self._parameters: bytes | None = None
        """What the decoder must know before any frame (in H.264, the parameter sets)."""
        self._shift = 0
        """Ticks to add to the time stamps of the open container."""
        self._begins_s: float | None = None
        """When it begins by the playlist; None when `_shift` is known."""
        self._recording: Recording | None = None
        """What the open container reads of a file of MPEG-TS."""
        self._is_at_start = False
        self._soundtrack: Soundtrack | None = None

    @property
    def has_opened(self) -> bool:
        """Whether the content has a known format."""
        return self._container is not None

    @property
    def container(self) -> InputContainer:
        assert self._container is not None
        return self._container

    @property
    def stated_s(self) -> float:
        """Duration that a playlist states, 0 without a playlist."""
        return self._segments.duration_s if self._segments is not None else 0.0

    def rewind(self, soundtrack: Soundtrack | None = None) -> None:
        """Goes to the start by opening the file anew: some formats cannot seek, and others do not find their start.
        From there on, `soundtrack` hears the sound beside the film: of a playlist, that in the segments of its first
        run."""
        self._soundtrack = soundtrack
        if self._is_at_start:
            return
        if self._segments is not None:
            self._segments.begin_at(0.0)
        self._open()
        if self._index is None:
            self._index = self._choose()
        if not self._take(self.container, self._index):
            raise file_changed()
        # A float, because fractions are too slow for every packet.
        self.tick_s = float(self.video.time_base or 0)
        self.start_s = start_s(self.video)
        self.interval_s = 1 / float(self.video.guessed_rate or 25)
        self.rates = [float(rate) for rate in (self.video.guessed_rate, self.video.average_rate) if rate]
        self._time_base, self._shift, self._begins_s = self.video.time_base or Fraction(0), 0, None
        self._parameters = self.video.codec_context.extradata
        self._is_at_start = True

    def close(self) -> None:
        if self._container is not None:
            self._container.close()

    def _open(self) -> None:
        self.close()
        self._stream.seek(0)
        if self._segments is None and is_transport_stream(self._stream.read(HEAD_BYTES)):
            self._recording = Recording(self._stream, 0)
        self._stream.seek(0)
        self._container = open_container(self._recording or self._stream, self._demuxer, self._options)
        if not self._options and is_edited_away(self._container):
            # Edit lists that show nothing are damaged: the pictures are there.
            self._options = _UNEDITED
            self._open()
        if self._recording is not None and (self._stream.size_bytes or 0) <= _MAX_JOINED_BYTES:
            # The end was read too, for the duration.
            self.is_joined = self.is_joined or not self._recording.is_all

    def _choose(self) -> int:
        """Returns the index of the stream that is the film; leaves the container as newly opened."""
        films = find_films(self.container)
        if len(films) == 1:
            return films[0].index
        chosen = choose_film(films, count_frames(self.container, films, self._stream, self._deadline)).index
        self._open()
        return chosen

    def _take(self, container: InputContainer, index: int) -> bool:
        """Takes the video stream with this index, or, where another run has none, its first one. Returns False when
        there is no video, as in segments with the end of the sound."""
        # The type stub does not know that a stream without a decoder has no context.
        films = [film for film in container.streams.video if film.codec_context is not None]
        if not films:
            return False
        self.video = next((film for film in films if film.index == index), films[0])
        width_px, height_px = self.video.codec_context.width, self.video.codec_context.height
        check_size(width_px, height_px)
        self.video.thread_type = "NONE"
        self.video.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
        return True

    def packets(self) -> Iterator[av.Packet[VideoStream]]:
        """Yields the packets of the film from here on. Raises VideoTrouble and the exceptions of PyAV."""
        # After a seek in a file, the gaps before are not known; a playlist says where its segments begin.
        knows_gaps = self._is_at_start or self._segments is not None
        self._is_at_start = False
        soundtrack = self._soundtrack
        sound = find_sound(self.container) if soundtrack is not None else None
        joints = Joints() if knows_gaps and is_joinable(self.container) else None
        is_gif = self.container.format.name == "gif"
        while True:
            # What is not asked for is read all the same, and dropped by PyAV.
            for packet in read_packets(self.container, [self.video, *([sound] if sound is not None else [])]):
                self._deadline.check()
                if soundtrack is not None and packet.stream == sound:
                    heard = cast("av.Packet[AudioStream]", packet)
                    if joints is None or joints.close_beside(heard):
                        soundtrack.hear(heard, start_s=self.start_s)
                    continue
                shown = cast("av.Packet[VideoStream]", packet)
                if joints is not None:
                    joints.close(shown)
                if not (is_gif and is_gif_comment(shown)):
                    yield self._shifted(shown)
            if self._segments is not None:
                if not self._open_next_run():
                    return
                joints = Joints() if is_joinable(self.container) else None
            elif not self._open_following():
                return
            # The time stamps of another run count from elsewhere.
            sound = None

    def _open_next_run(self) -> bool:
        """Opens the next run that has a film; returns False at the end."""
        at_s = self._segments.begin_next_run() if self._segments is not None else None
        while at_s is not None and self._segments is not None:
            # The container before stays open, because packets of it may wait to be decoded.
            if self._open_at(at_s, closes=False):
                return True
            at_s = self._segments.begin_next_run()
        return False

    def _open_following(self) -> bool:
        """Opens the next recording of a file of MPEG-TS; returns False at the end."""
        start = self._recording.following if self._recording is not None else None
        if start is None:
            return False
        self._deadline.check()
        self.is_joined = True
        recording = Recording(self._stream, start)
        try:
            opened = open_container(recording, "mpegts", _AT_ONCE)
        except BROKEN_ENDS:
            if self._stream.trouble:
                raise self._stream.trouble from None
            return False
        if not self._take(opened, self.video.index):
            opened.close()
            return False
        # The container before stays open, as in `_open_next_run`.
        self._container, self._recording = opened, recording
        return True

    def _shifted(self, packet: av.Packet[VideoStream]) -> av.Packet[VideoStream]:
        if self._segments is None:
            return packet
        if packet.time_base != self._time_base and packet.time_base:
            scale = packet.time_base / self._time_base
            packet.duration = round((packet.duration or 0) * scale)
            packet.pts = None if packet.pts is None else round(packet.pts * scale)
            packet.dts = None if packet.dts is None else round(packet.dts * scale)
            packet.time_base = self._time_base
        stamp = packet.dts if packet.pts is None else packet.pts
        if self._begins_s is not None and stamp is not None:
            self._shift = self._find_shift(stamp * self.tick_s - self.start_s, self._begins_s)
            self._begins_s = None
        if self._shift:
            packet.pts = None if packet.pts is None else packet.pts + self._shift
            packet.dts = None if packet.dts is None else packet.dts + self._shift
        return packet

    def _find_shift(self, here_s: float, told_s: float) -> int:
        """The ticks by which time stamps are wrong, when the first frame is at `here_s` by them, and at `told_s` by the
        playlist."""
        assert self._segments is not None
        # Time stamps are more exact than a playlist, whose durations may be rounded, or only those that were asked for.
        # But they hold only in their run, those of MPEG-TS begin again at 0 after a day, and some writers let every
        # segment begin at 0.
        may_be_right = told_s / 2 - 0.5 <= here_s <= told_s * 2 + 0.5
        is_exact = self._segments.continues_first_run and may_be_right
        return 0 if is_exact else round((told_s - here_s) / self.tick_s)

    def seek(self, seek_s: float) -> bool:
        """Goes to a key frame at or before `seek_s`; returns False when that is not possible."""
        if self.video.time_base is None:
            return False
        if self.is_joined:
            # The time stamps of each recording count anew.
            return False
        self._is_at_start, self._soundtrack = False, None
        try:
            if self._segments is not None:
                if not self._open_at(self._segments.begin_at(seek_s)):
                    return False
            else:
                seek_to = round((seek_s + self.start_s) / self.video.time_base)
                self.container.seek(seek_to, stream=self.video, backward=True)
        except (av.FFmpegError, OverflowError):
            if self._stream.trouble:
                raise self._stream.trouble from None
            return False
        self.video.codec_context.flush_buffers()
        return True

    def _open_at(self, at_s: float, *, closes: bool = True) -> bool:
        """Opens the segments anew, from one that begins at `at_s` by the playlist; `closes` the container before.
        Returns False when there is no film."""
        assert self._segments is not None and self._index is not None
        opened = open_container(self._stream, self._demuxer, _AT_ONCE)
        if not self._take(opened, self._index):
            opened.close()
            return False
        if closes:
            self.close()
        self._container = opened
        if self._segments.continues_first_run and not self.video.codec_context.extradata:
            # Some writers put them before the first frame only.
            self.video.codec_context.extradata = self._parameters
        self._begins_s = at_s
        return True

    def is_seeking_shorter(self, here_s: float, target_s: float) -> bool:
        """Whether a key frame lies between the two times; assumed when the file has no full index."""
        if self._segments is not None:
            return self._segments.start_of(target_s) > here_s
        if self.is_joined:
            return False
        entries = self.video.index_entries
        if self.video.time_base is None or not len(entries):
            return True
        target = round((target_s + self.start_s) / self.video.time_base)
        if entries[len(entries) - 1].timestamp < target:
            return True
        found = entries.search_timestamp(target, backward=True)
        return found >= 0 and float(entries[found].timestamp * self.video.time_base) - self.start_s > here_s

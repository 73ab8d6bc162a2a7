"""The nouns of the project as small frozen records.

Conventions that hold everywhere: frames are RGB uint8 of shape (N, H, W, 3); vectors are float32 of
shape (N, D) and unit length; similarity is the cosine of two unit vectors, higher is more alike; sound
is mono, float32 of shape (N,) with full scale 1; time is in seconds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dedup_lib.sanitise import sanitise_line

Frames = NDArray[np.uint8]
Vectors = NDArray[np.float32]
Samples = NDArray[np.float32]

SOUND_RATE_HZ = 6000
"""Samples of sound per second: enough for the bands in which it is compared. From the usual rates, FFmpeg reaches it in
a few steps; from an odd one, the setup alone takes as long as decoding ten seconds."""

Progress = Callable[[str, int], Callable[[int], object]]
"""A function that is called when a step of long work begins, with the words for the step and its number of items. It
returns a function to call with the number of items newly done. A second call for the same step gives a new total."""


def no_progress(step: str, count: int) -> Callable[[int], object]:
    """A `Progress` for when nobody watches."""
    return lambda done: None


FINGERPRINT_VERSION = 6
"""Raised when a change in `features.fingerprint` changes fingerprints: earlier ones are then made again. The oldest
fingerprints of this version have no `sound` and no `packed_chroma`. All else of them is the same, so their videos are
not read again for these two."""

MAX_URL_BYTES = 65_535
"""A longer text is no valid URL. The limit is the longest text that a VARCHAR field of Milvus holds."""


class Status(StrEnum):
    """How the attempt to read one video ended. Each video has exactly one."""

    OK = "ok"
    FEATURELESS = "featureless"
    IMAGE = "image"
    HTML = "html"
    NOT_VIDEO = "not_video"
    NO_VIDEO_STREAM = "no_video_stream"
    INVALID_URL = "invalid_url"
    UNREACHABLE = "unreachable"
    HTTP_ERROR = "http_error"
    TIMEOUT = "timeout"
    TOO_LARGE = "too_large"
    DECODE_ERROR = "decode_error"
    DECODE_CRASH = "decode_crash"
    BLOCKED_ADDRESS = "blocked_address"
    LIVE = "live"
    ENCRYPTED = "encrypted"
    PENDING = "pending"
    """Not attempted yet: the row is outside `start`..`end`, or the run stopped before it."""


KEPT_STATUSES = frozenset({Status.OK, Status.FEATURELESS})
"""The video was read. It stays on the list unless it is a copy of another video."""

INVALID_STATUSES = frozenset({Status.IMAGE, Status.HTML, Status.NOT_VIDEO, Status.NO_VIDEO_STREAM, Status.INVALID_URL})
"""The answer is certainly no video. `auto_clean` moves these rows to invalid_urls.csv."""

FAILED_STATUSES = frozenset(Status) - KEPT_STATUSES - INVALID_STATUSES
"""There may be a video, but it could not be read. These rows go to failed_urls.csv."""


class Schema(StrEnum):
    """What one row of a collection stands for."""

    VIDEO_DEDUP = "video_dedup"
    """One row per video: the vector of its first usable frame."""
    VIDEO_FRAMES = "video_frames"
    """One row per frame."""
    AGGREGATED = "aggregated"
    """One row per video: the vectors of its frames, pooled into one."""


class Pooling(StrEnum):
    """How the vectors of a video's frames become rows of a collection."""

    FIRST = "first"
    FRAMES = "frames"
    AVERAGE = "average"
    MAX = "max"

    @property
    def schema(self) -> Schema:
        """What a row of such a collection stands for."""
        match self:
            case Pooling.FIRST:
                return Schema.VIDEO_DEDUP
            case Pooling.FRAMES:
                return Schema.VIDEO_FRAMES
            case _:
                return Schema.AGGREGATED


def video_key(url: str) -> str:
    """32 hexadecimal digits that identify a URL: its row in the store, its thumbnail, its ledger entry."""
    return hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def json_line(record: Any, **more: object) -> str:
    """A record and `more` values as JSON on one line. Characters outside ASCII are escaped."""
    return json.dumps(asdict(record) | more)


def utc_now() -> str:
    """The current time as files hold it: UTC in ISO format. All times have the same length, so that they sort as
    text."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All settings that change a vector. Vectors of different recipes are never compared or mixed."""

    encoder: str
    model: str
    num_frames: int
    frame_span: str
    preprocessing: int = 1
    """Version of the frame preparation in `frames`. It is raised when a change there changes vectors."""

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        return cls(**json.loads(text))

    @property
    def key(self) -> str:
        """12 hexadecimal digits that identify this recipe."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:12]


@dataclass(frozen=True, kw_only=True)
class Scan:
    """How densely a video is sampled for its fingerprint: one frame every `step_s` seconds in the first `dense_s`
    seconds, then one frame every few seconds. With a step of 0, only the frames for the encoder are used."""

    step_s: float
    dense_s: float = 60.0

    def fingerprint_kind(self, recipe: Recipe) -> str:
        """Name of all settings that change a fingerprint. Fingerprints of different kinds are never compared."""
        looked_at = (
            f"every {self.step_s:g} s to {self.dense_s:g} s"
            if self.step_s
            else f"{recipe.num_frames} {recipe.frame_span}"
        )
        return f"{FINGERPRINT_VERSION}, {looked_at}"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The usable frames of one video, ready for an encoder.

    `frames` is a tuple of RGB uint8 arrays of shape (H, W, 3). Their sizes may differ, because bars are cut off each
    frame separately. `positions` is the number of each frame among the requested frames. `times_s` is its time in
    seconds.
    """

    frames: tuple[Frames, ...]
    positions: tuple[int, ...]
    times_s: tuple[float, ...]

    def __post_init__(self) -> None:
        if not len(self.frames) == len(self.positions) == len(self.times_s):
            raise ValueError("a sample needs one position and one time a frame")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The outcome of one URL: its status, the reason in words, and facts about the video.

    The reason may contain text from servers and decoders. It is therefore made safe to show: see
    `sanitise.sanitise_line`.
    """

    url: str
    status: Status
    reason: str = ""
    retryable: bool = False
    frames: int = 0
    """Number of usable frames taken. Flat frames are not counted."""
    duration_s: float = 0.0
    width_px: int = 0
    height_px: int = 0
    picture_fraction: float = 1.0
    """Share of the frame that is left when bars are cut off, from 0 to 1."""
    codec: str = ""
    size_bytes: int = 0
    """Size of the whole file. 0 where the server does not say."""
    fetched_bytes: int = 0
    elapsed_s: float = 0.0
    started: str = ""
    """When reading began, in UTC. Empty where the process died."""
    content: str = ""
    """Length of the file, and hashes of its beginning and of further parts that were read, where the server gives
    ranges (see `WebStream.content_mark`). Empty for a codec that has only key frames."""
    tag: str = ""
    """The server, and the hash of the whole file that the server names as its strong entity tag."""
    same_file_as: str = ""
    """Earlier URL with a file of this `content` or `tag`. The file was not decoded again."""
    refused_by: str = ""
    """The setting that refused the URL, as `name=value`. With another value the URL is tried again."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", sanitise_line(self.reason))

    @property
    def key(self) -> str:
        return video_key(self.url)


@dataclass(frozen=True, kw_only=True)
class VideoVectors:
    """The stored vectors of one video. `vectors` is float32 (n, D) with unit rows. `positions` has one number per row:
    the frame's number among the requested frames."""

    url: str
    vectors: Vectors
    positions: tuple[int, ...]

    @property
    def key(self) -> str:
        return video_key(self.url)


@dataclass(frozen=True, kw_only=True)
class StoredRows:
    """Some rows of a collection, in the order of their keys.

    Row n has the primary key `keys[n]`. It belongs to the video `videos[n]` (its `video_key`) at `urls[n]`, and is
    number `positions[n]` of its frames. It holds the unit vector `vectors[n]`; `vectors` is float32 (n, D).
    """

    keys: tuple[str, ...]
    videos: tuple[str, ...]
    urls: tuple[str, ...]
    positions: tuple[int, ...]
    vectors: Vectors

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, numbers: Sequence[int]) -> StoredRows:
        """Only the rows with these numbers."""
        return StoredRows(
            keys=tuple(self.keys[n] for n in numbers),
            videos=tuple(self.videos[n] for n in numbers),
            urls=tuple(self.urls[n] for n in numbers),
            positions=tuple(self.positions[n] for n in numbers),
            vectors=self.vectors[list(numbers)],
        )

    def join(self, others: StoredRows) -> StoredRows:
        """These rows, and after them the others."""
        return StoredRows(
            keys=self.keys + others.keys,
            videos=self.videos + others.videos,
            urls=self.urls + others.urls,
            positions=self.positions + others.positions,
            vectors=np.concatenate([self.vectors, others.vectors]),
        )


@dataclass(frozen=True, kw_only=True)
class Hit:
    """One neighbour that a search found: the key of its video, and its cosine to the query vector."""

    video: str
    cosine: float


@dataclass(frozen=True, kw_only=True, order=True)
class Pair:
    """Two videos of the list, by their rows (`first` < `second`), and their similarity."""

    first: int
    second: int
    similarity: float
    excerpt: Literal["", "first", "second"] = ""
    """Which of the two is an excerpt. The other video contains it and more."""

    def __post_init__(self) -> None:
        if self.first >= self.second:
            raise ValueError(f"a pair's first row must come before its second: {self.first}, {self.second}")


@dataclass(frozen=True, kw_only=True)
class Group:
    """A group of copies: one kept video, and the copies that each match it. All are rows of the list."""

    number: int
    kept: int
    copies: tuple[int, ...]
    similarities: tuple[float, ...] = field(repr=False)
    """Similarity of each copy to the kept video, in the order of `copies`. NaN where the two were never compared."""

    @property
    def size(self) -> int:
        return 1 + len(self.copies)


@dataclass(frozen=True, kw_only=True)
class SweepPoint:
    """What one threshold would decide."""

    threshold: float
    kept: int
    duplicates: int
    groups: int
    largest_group: int


@dataclass(frozen=True, kw_only=True)
class Marks:
    """What copies of a row show of it. Rows in `overlaid` bear a logo or similar that the copy lacks. Rows in `inset`
    show the copy as a part of a larger frame that stands still around it. `tempo` says how many times as fast a row
    runs as the first row that it is joined with; rows without one run at the same speed."""

    overlaid: AbstractSet[int] = frozenset()
    inset: AbstractSet[int] = frozenset()
    tempo: Mapping[int, float] = field(default_factory=dict)

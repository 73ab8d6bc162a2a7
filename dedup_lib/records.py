"""The nouns of the project as small frozen records.

Conventions that hold everywhere: frames are RGB uint8 of shape (N, H, W, 3); vectors are float32 of
shape (N, D) and unit length; similarity is the cosine of two unit vectors, higher is more alike; time
is in seconds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dedup_lib.sanitise import sanitise_line

Frames = NDArray[np.uint8]
Vectors = NDArray[np.float32]

Progress = Callable[[str, int], Callable[[int], object]]
"""Is told that a step of long work begins, what it does and of how many things, and gives what is to be told how many
more are done. Told of the same step again, it knows that there are more of them than was thought."""


def no_progress(step: str, count: int) -> Callable[[int], object]:
    """A `Progress` for when nobody watches."""
    return lambda done: None


MAX_URL_BYTES = 65_535
"""A longer URL is none: it is the longest text that a VARCHAR field of Milvus holds."""


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
    PENDING = "pending"
    """Not attempted yet: outside `start`..`end`, or the run stopped before it."""


KEPT_STATUSES = frozenset({Status.OK, Status.FEATURELESS})
"""A video that was read: it stays on the list unless it duplicates another."""

INVALID_STATUSES = frozenset({Status.IMAGE, Status.HTML, Status.NOT_VIDEO, Status.NO_VIDEO_STREAM, Status.INVALID_URL})
"""What answered is certainly no video: `auto_clean` moves these rows to invalid_urls.csv."""

FAILED_STATUSES = frozenset(Status) - KEPT_STATUSES - INVALID_STATUSES
"""There may be a video, but it could not be read: these rows go to failed_urls.csv."""


class Schema(StrEnum):
    """What one row of a collection stands for."""

    VIDEO_DEDUP = "video_dedup"
    """One row a video: the vector of its first usable frame."""
    VIDEO_FRAMES = "video_frames"
    """One row a frame."""
    AGGREGATED = "aggregated"
    """One row a video: the vectors of its frames pooled into one."""


class Pooling(StrEnum):
    """How the vectors of a video's frames go into a collection."""

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
    """32 hexadecimal digits that name a URL: its row in the store, its thumbnail, its ledger entry."""
    return hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def utc_now() -> str:
    """The time as files hold it: UTC in ISO format, always equally long, so that texts sort as times do."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All settings that change a vector. Vectors of different recipes are never compared or mixed."""

    encoder: str
    model: str
    num_frames: int
    frame_span: str
    preprocessing: int = 1
    """Version of the frame preparation in `frames`; raised when a change there changes vectors."""

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        return cls(**json.loads(text))

    @property
    def key(self) -> str:
        """12 hexadecimal digits that name this recipe."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:12]


@dataclass(frozen=True, kw_only=True)
class Scan:
    """How densely a video is looked at for its fingerprint: a frame every `step_s` of its first `dense_s` seconds, and
    one every few seconds of what comes after; with a step of 0 only the frames that are encoded."""

    step_s: float
    dense_s: float = 60.0


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The usable frames of one video, ready for an encoder.

    `frames` is a tuple of RGB uint8 (H, W, 3) pictures (their sizes may differ: bars are cut off each by
    itself); `positions` says which of the asked-for frames each one is; `times_s` when it is shown.
    """

    frames: tuple[Frames, ...]
    positions: tuple[int, ...]
    times_s: tuple[float, ...]

    def __post_init__(self) -> None:
        if not len(self.frames) == len(self.positions) == len(self.times_s):
            raise ValueError("a sample needs one position and one time a frame")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one URL: its status, the reason in words, and what was learned of the video.

    Servers and decoders have their say in the reason, which is therefore kept as it may be shown: see
    `sanitise.sanitise_line`.
    """

    url: str
    status: Status
    reason: str = ""
    retryable: bool = False
    frames: int = 0
    """Usable frames taken (flat ones are not counted)."""
    duration_s: float = 0.0
    width_px: int = 0
    height_px: int = 0
    picture_fraction: float = 1.0
    """Share of that picture which is left when bars are cut off."""
    codec: str = ""
    size_bytes: int = 0
    """Of the whole file; 0 where the server does not say."""
    fetched_bytes: int = 0
    elapsed_s: float = 0.0
    started: str = ""
    """When it was begun to be read, in UTC; empty where its process died."""
    content: str = ""
    """Length of the file and hash of its beginning, where the server gives ranges, and of its end where it was read."""
    tag: str = ""
    """Its server, and the hash of the whole file that this one names as its strong entity tag."""
    same_file_as: str = ""
    """URL under which the file of this `content` was read before; it was not decoded again."""
    refused_by: str = ""
    """The setting that refused it, as `name=value`; with another value it is tried again."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", sanitise_line(self.reason))

    @property
    def key(self) -> str:
        return video_key(self.url)


@dataclass(frozen=True, kw_only=True)
class VideoVectors:
    """The stored vectors of one video: `vectors` float32 (n, D), unit rows; `positions` of each row."""

    url: str
    vectors: Vectors
    positions: tuple[int, ...]

    @property
    def key(self) -> str:
        return video_key(self.url)


@dataclass(frozen=True, kw_only=True)
class StoredRows:
    """Some rows of a collection, in the order of their keys.

    Row n has the primary key `keys[n]`, belongs to the video `videos[n]` (its `video_key`) at `urls[n]`, is number
    `positions[n]` of its frames, and holds the unit vector `vectors[n]`; `vectors` is float32 (n, D).
    """

    keys: tuple[str, ...]
    videos: tuple[str, ...]
    urls: tuple[str, ...]
    positions: tuple[int, ...]
    vectors: Vectors

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, numbers: Sequence[int]) -> StoredRows:
        """These rows alone."""
        return StoredRows(
            keys=tuple(self.keys[n] for n in numbers),
            videos=tuple(self.videos[n] for n in numbers),
            urls=tuple(self.urls[n] for n in numbers),
            positions=tuple(self.positions[n] for n in numbers),
            vectors=self.vectors[list(numbers)],
        )


@dataclass(frozen=True, kw_only=True)
class Hit:
    """One neighbour that a search found: the key of its video, and the cosine to the vector asked for."""

    video: str
    cosine: float


@dataclass(frozen=True, kw_only=True, order=True)
class Pair:
    """Two videos of the list, by their row in it (`first` < `second`), and how alike they are."""

    first: int
    second: int
    similarity: float
    excerpt: Literal["", "first", "second"] = ""
    """Which of the two is an excerpt: the other one holds it and more."""

    def __post_init__(self) -> None:
        if self.first >= self.second:
            raise ValueError(f"a pair's first row must come before its second: {self.first}, {self.second}")


@dataclass(frozen=True, kw_only=True)
class Group:
    """One kept video and the videos that each match it, as rows of the list."""

    number: int
    kept: int
    copies: tuple[int, ...]
    similarities: tuple[float, ...] = field(repr=False)
    """Of each copy to the kept video, in the order of `copies`; NaN where they were never compared."""

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
    """Rows of which one of their copies shows that they are no original: `overlaid` bear a logo or the like that the
    copy lacks, `inset` show it as a part of a larger picture that stands still around it."""

    overlaid: AbstractSet[int] = frozenset()
    inset: AbstractSet[int] = frozenset()

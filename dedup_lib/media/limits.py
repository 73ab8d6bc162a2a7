"""What one video may cost: time and bytes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

from dedup_lib.errors import VideoTrouble
from dedup_lib.records import Status
from dedup_lib.settings import CalibrateSettings, ExtractSettings


@dataclass(frozen=True, kw_only=True)
class FetchLimits:
    """The limits for one video: seconds from its first request on, and bytes fetched (not the size of the file). Also
    says whether addresses in private networks and files of this machine are allowed, and whether a web page is followed
    to its video."""

    timeout_s: float
    max_bytes: int
    allow_private_addresses: bool = False
    allow_local_paths: bool = False
    resolve_pages: bool = False

    @classmethod
    def of(cls, settings: ExtractSettings | CalibrateSettings) -> FetchLimits:
        """The limits in the settings of a notebook."""
        return cls(
            timeout_s=settings.timeout_s,
            max_bytes=settings.max_bytes,
            allow_private_addresses=settings.allow_private_addresses,
            allow_local_paths=settings.allow_local_paths,
            resolve_pages=isinstance(settings, ExtractSettings) and settings.resolve_pages,
        )

    def spell(self, name: str) -> str:
        """One limit as `name=value`."""
        return f"{name}={getattr(self, name)}"


class Deadline:
    """The moment at which reading one video ends with status `timeout`."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._end_s = time.monotonic() + timeout_s
        self._words = f"{timeout_s:g} s (timeout_s)"

    @contextlib.contextmanager
    def halved(self) -> Iterator[None]:
        """Lets what is done in this context take half of the time that is left, so that something else may still be
        tried. Raises VideoTrouble when no time is left."""
        before = self._end_s, self._words
        half_s = self.remaining_s() / 2
        self._end_s, self._words = self._end_s - half_s, f"{half_s:.1f} s, half of the time that was left"
        try:
            yield
        finally:
            self._end_s, self._words = before

    def check(self) -> None:
        """Raises VideoTrouble when no time is left."""
        self.remaining_s()

    def remaining_s(self) -> float:
        """Seconds left. Raises VideoTrouble when no time is left."""
        left = self._end_s - time.monotonic()
        if left <= 0:
            raise VideoTrouble(Status.TIMEOUT, f"not finished within {self._words}", retryable=True)
        return left


class Meter:
    """Counts bytes of one video: those fetched from its servers, or those decompressed from what they sent."""

    def __init__(self, limits: FetchLimits, *, what: str) -> None:
        self.counted_bytes = 0
        self._limits = limits
        self._what = what

    def add(self, size_bytes: int) -> None:
        """Adds `size_bytes` to the count. Raises VideoTrouble when the sum exceeds `max_bytes`."""
        if self.counted_bytes + size_bytes > self._limits.max_bytes:
            raise VideoTrouble(
                Status.TOO_LARGE,
                f"more than {self._limits.max_bytes:,} bytes would have to be {self._what} (max_bytes)",
                refused_by=self._limits.spell("max_bytes"),
            )
        self.counted_bytes += size_bytes

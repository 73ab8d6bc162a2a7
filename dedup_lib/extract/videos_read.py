"""What a worker reads of one URL, and the files that were read before under other addresses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from dedup_lib.errors import RunFolderError
from dedup_lib.extract.worker_pool import call_parent
from dedup_lib.features.encoder import Prepared
from dedup_lib.media.streams import MediaStream
from dedup_lib.records import Outcome, Vectors
from dedup_lib.run.ledger import LedgerView


@dataclass(frozen=True, kw_only=True)
class ReadVideo:
    """The result of a worker: the outcome and, for a video with usable frames, the encoder's input and the position of
    each frame, the storyboard as JPEG, and the fingerprint."""

    outcome: Outcome
    prepared: tuple[Prepared, ...] = ()
    positions: tuple[int, ...] = ()
    vectors: Vectors | None = None
    """Vectors of a video that is already encoded; `prepared` is then empty."""
    storyboard: bytes | None = None
    fingerprint: bytes | None = None
    retry_after_s: float | None = None
    """Pause that the server asks for before a retry."""
    tries: int = 1
    """Number of tries in this run, including this one."""


Alike = list[tuple[Outcome, bytes]]
"""Outcomes of videos that were read without error, each with its fingerprint."""


def look_up_alike(beginning: str, *, ledger_path: Path, recipe: str, kind: str) -> Alike:
    """Finds files with this beginning mark in a ledger: those of the recipe with this key and with fingerprints of this
    kind."""
    if not ledger_path.exists():
        return []
    try:
        with LedgerView(ledger_path) as view:
            return view.find_alike(recipe, beginning, kind)
    except RunFolderError:
        # When the ledger cannot be read just now, the video is decoded once more, and none is lost.
        return []


def ask_for_alike(beginning: str) -> Alike:
    """Like `look_up_alike`, but asks the parent process, which has the ledger."""
    return call_parent(beginning) or []


@dataclass(frozen=True)
class KnownFiles:
    """The files already read: a list often has one file under several addresses."""

    look_up: Callable[[str], Alike]
    """Returns the files with a given beginning mark."""

    def find(self, url: str, stream: MediaStream) -> ReadVideo | None:
        """Returns what was read of the same file under another address, or None. Raises VideoTrouble.

        Files are the same when their length and beginning are equal, and either the same server states the same hash
        for both, or further parts that were read of the first file are equal: decoding them would give the same frames.
        A server without range requests always gives None."""
        if not stream.beginning_mark:
            return None
        alike = [found for found in self.look_up(stream.beginning_mark) if found[0].url != url]
        same = [found for found in alike if stream.tag and found[0].tag == stream.tag]
        if not same:
            same = list(islice((found for found in alike if stream.agrees_with(found[0].content)), 1))
        if not same:
            return None
        outcome, fingerprint = same[0]
        return ReadVideo(
            outcome=replace(outcome, url=url, tag=stream.tag, same_file_as=outcome.url), fingerprint=fingerprint
        )

"""What became of every URL of a run, in an SQLite file that a killed run leaves whole.

The key is the URL and the recipe (the settings that change a vector): a run with another encoder starts anew, a run
with another threshold does not. docs/ledger.md explains the tables.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from dedup_lib.errors import RunFolderError
from dedup_lib.records import KEPT_STATUSES, Outcome, Recipe, Status, utc_now, video_key

_COLUMNS = tuple(field.name for field in fields(Outcome))

_TABLE = f"""
CREATE TABLE IF NOT EXISTS outcomes (
    recipe TEXT NOT NULL,
    key TEXT NOT NULL,
    {", ".join(_COLUMNS)},
    attempts INTEGER NOT NULL DEFAULT 1,
    finished TEXT NOT NULL DEFAULT '',
    stored TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (recipe, key)
) WITHOUT ROWID
"""

_LATER_COLUMNS = ("started", "finished", "stored", "content", "tag", "same_file_as", "refused_by")
"""Columns of `outcomes` that an older ledger may lack."""

# A covering index for the queries that run several times a second during a run: they need not read the table.
_INDEX = """
CREATE INDEX IF NOT EXISTS outcomes_finished ON outcomes (recipe, finished, status, fetched_bytes)
"""

_CONTENTS = "CREATE INDEX IF NOT EXISTS outcomes_content ON outcomes (recipe, content) WHERE content != ''"

_EXTRACTIONS = """
CREATE TABLE IF NOT EXISTS extractions (
    number INTEGER PRIMARY KEY,
    recipe TEXT NOT NULL,
    total INTEGER NOT NULL,
    done_before INTEGER NOT NULL,
    began TEXT NOT NULL,
    heard TEXT NOT NULL,
    ended TEXT NOT NULL DEFAULT ''
)
"""

_FINGERPRINTS = """
CREATE TABLE IF NOT EXISTS fingerprints (
    key TEXT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    data BLOB NOT NULL
)
"""

_COMPARISONS = """
CREATE TABLE IF NOT EXISTS comparisons (
    first TEXT NOT NULL,
    second TEXT NOT NULL,
    method TEXT NOT NULL,
    data TEXT NOT NULL,
    PRIMARY KEY (first, second)
) WITHOUT ROWID
"""
_SEARCHES = """
CREATE TABLE IF NOT EXISTS searches (
    name TEXT NOT NULL PRIMARY KEY,
    data BLOB NOT NULL
)
"""
_COMPARED = "CREATE INDEX IF NOT EXISTS comparisons_second ON comparisons (second)"

_WRITTEN = (*_COLUMNS, "finished", "stored")
_INSERTED = ("recipe", "key", *_WRITTEN, "attempts")

_UPSERT = f"""
INSERT INTO outcomes ({", ".join(_INSERTED)}) VALUES ({", ".join(":" + c for c in _INSERTED)})
ON CONFLICT (recipe, key) DO UPDATE SET
    {", ".join(f"{c} = excluded.{c}" for c in _WRITTEN)}, attempts = attempts + excluded.attempts
"""


class _Reader:
    """Queries that work on any open ledger. Use it as a context manager."""

    path: Path
    _database: sqlite3.Connection

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._database.close()

    def _ask(self, query: str, *values: Any) -> list[Any]:
        with _explained(self.path):
            return self._database.execute(query, values).fetchall()

    def load_outcomes(self, recipe: str) -> dict[str, Outcome]:
        """Every outcome of the recipe with this key, by URL."""
        return {outcome.url: outcome for outcome in self._read_outcomes("recipe = ? ORDER BY key", recipe)}

    def _read_outcomes(self, condition: str, *values: str) -> list[Outcome]:
        # A ledger of an earlier version lacks columns.
        held = {row[1] for row in self._ask("PRAGMA table_info(outcomes)")}
        names = [name for name in _COLUMNS if name in held]
        rows = self._ask(f"SELECT {', '.join(names)} FROM outcomes WHERE {condition}", *values)
        return [_read_outcome(names, row) for row in rows]

    def load_kinds(self) -> dict[str, str]:
        """The kind of each fingerprint, by the key of its video."""
        return dict(self._ask("SELECT key, kind FROM fingerprints"))

    def load_fingerprints(self, urls: Iterable[str]) -> dict[str, tuple[str, bytes]]:
        """Kind and fingerprint, by URL; URLs without a fingerprint are left out."""
        query = "SELECT kind, data FROM fingerprints WHERE key = ?"
        return {url: row for url in urls for row in self._ask(query, video_key(url))}


class Ledger(_Reader):
    """The outcomes of one recipe in one run folder. Use it as a context manager.

    Raises RunFolderError for a file that is damaged, locked by another process, or no ledger of this project, and for
    an error of the disk.
    """

    def __init__(self, path: Path, recipe: Recipe) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._recipe = recipe
        self._extraction: int | None = None
        with _explained(path):
            # One thread opens it and another writes it, never two at the same time.
            self._database = sqlite3.connect(path, check_same_thread=False)
            self._database.execute("PRAGMA journal_mode = WAL")
            with self._database:
                self._database.execute(_TABLE)
                self._upgrade()
                for statement in (_FINGERPRINTS, _EXTRACTIONS, _COMPARISONS, _COMPARED, _SEARCHES, _INDEX, _CONTENTS):
                    self._database.execute(statement)

    def _upgrade(self) -> None:
        """Adds missing columns to a table of an earlier version."""
        found = {row[1] for row in self._database.execute("PRAGMA table_info(outcomes)")}
        # A table without `attempts` belongs to another program.
        if "attempts" in found:
            for name in _LATER_COLUMNS:
                if name not in found:
                    self._database.execute(f"ALTER TABLE outcomes ADD COLUMN {name} TEXT NOT NULL DEFAULT ''")

    def begin_extraction(self, *, total: int, done: int) -> None:
        """Notes the start of an extraction of `total` URLs; `done` of them are already done."""
        now = utc_now()
        with _explained(self.path), self._database:
            begun = self._database.execute(
                "INSERT INTO extractions (recipe, total, done_before, began, heard) VALUES (?, ?, ?, ?, ?)",
                (self._recipe.key, total, done, now, now),
            )
        self._extraction = begun.lastrowid

    def end_extraction(self) -> None:
        """Notes that the extraction is complete."""
        now = utc_now()
        with _explained(self.path), self._database:
            self._database.execute(
                "UPDATE extractions SET heard = ?, ended = ? WHERE number = ?", (now, now, self._extraction)
            )
        self._extraction = None

    def record(
        self,
        outcomes: Iterable[Outcome],
        *,
        fingerprints: Mapping[str, bytes] | None = None,
        kind: str = "",
        stored: Mapping[str, str] | None = None,
        attempts: Mapping[str, int] | None = None,
    ) -> None:
        """Writes outcomes, fingerprints of one `kind` by URL, and where vectors are `stored` by URL, in one
        transaction. Replaces earlier entries of the same URL, but adds `attempts` by URL (default 1) to theirs."""
        now = utc_now()
        rows = [
            asdict(outcome)
            | {"status": str(outcome.status), "recipe": self._recipe.key, "key": outcome.key}
            | {"finished": _finish(outcome) or now, "stored": (stored or {}).get(outcome.url, "")}
            | {"attempts": (attempts or {}).get(outcome.url, 1)}
            for outcome in outcomes
        ]
        prints = [(video_key(url), kind, data) for url, data in (fingerprints or {}).items()]
        with _explained(self.path), self._database:
            self._database.execute("UPDATE extractions SET heard = ? WHERE number = ?", (now, self._extraction))
            self._database.executemany(_UPSERT, rows)
            self._database.executemany("INSERT OR REPLACE INTO fingerprints VALUES (?, ?, ?)", prints)
            if rows:
                self._database.execute("DELETE FROM searches")
            for side in ("first", "second"):
                self._database.executemany(f"DELETE FROM comparisons WHERE {side} = ?", [(key,) for key, *_ in prints])

    def load_comparison(self, first: str, second: str, *, method: str) -> str | None:
        """The text that `record_comparisons` wrote for two video keys, in this order and by this method, or None."""
        query = "SELECT data FROM comparisons WHERE first = ? AND second = ? AND method = ?"
        return next((text for (text,) in self._ask(query, first, second, method)), None)

    def record_comparisons(self, found: Iterable[tuple[str, str, str]], *, method: str) -> None:
        """Writes comparisons in one transaction, each as the keys of two videos and a text. A fingerprint written later
        deletes the comparisons of its video."""
        rows = [(first, second, method, data) for first, second, data in found]
        with _explained(self.path), self._database:
            self._database.executemany("INSERT OR REPLACE INTO comparisons VALUES (?, ?, ?, ?)", rows)

    def load_search(self, name: str) -> bytes | None:
        """What `record_search` wrote under this name, or None."""
        return next((data for (data,) in self._ask("SELECT data FROM searches WHERE name = ?", name)), None)

    def record_search(self, name: str, data: bytes) -> None:
        """Writes what a search of all videos proposed, in place of an earlier one. It is forgotten when a video is
        written."""
        with _explained(self.path), self._database:
            self._database.execute("DELETE FROM searches")
            self._database.execute("INSERT INTO searches VALUES (?, ?)", (name, data))

    def load(self) -> dict[str, Outcome]:
        """Every outcome of this recipe, by URL."""
        return self.load_outcomes(self._recipe.key)

    def forget_contents(self, urls: Iterable[str]) -> None:
        """Hides these URLs from `LedgerView.find_alike`: their vectors are gone, or nobody looked for them."""
        with _explained(self.path), self._database:
            self._database.executemany(
                "UPDATE outcomes SET content = '' WHERE recipe = ? AND key = ?",
                [(self._recipe.key, video_key(url)) for url in urls],
            )


@dataclass(frozen=True, kw_only=True)
class Extraction:
    """One extraction by 03_extract, running or not. Times are UTC in ISO format."""

    recipe: str
    """Key of the recipe."""
    total: int
    """Number of URLs to bring to an outcome."""
    done_before: int
    """How many of them earlier extractions had done."""
    began: str
    heard: str
    """When it last wrote something."""
    ended: str
    """When it was complete; empty until then."""


@dataclass(frozen=True)
class Tally:
    """How many URLs have a status, and the bytes that were fetched for them."""

    urls: int
    fetched_bytes: int


class LedgerView(_Reader):
    """Reads a ledger that another process may be writing; changes nothing and blocks nobody.

    Use it as a context manager, from one thread at a time. Raises RunFolderError for a file that cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # A read-only folder has no room for SQLite's shared-memory file, but also has no writer.
        still = not os.access(path.parent, os.W_OK) and not path.with_name(f"{path.name}-wal").exists()
        with _explained(path):
            self._database = sqlite3.connect(
                f"file:{quote(str(path.absolute()))}?{'immutable=1' if still else 'mode=ro'}",
                uri=True,
                timeout=1,
                check_same_thread=False,
            )

    def load_version(self) -> int:
        """A number that changes whenever another process has written something."""
        ((found,),) = self._ask("PRAGMA data_version")
        return int(found)

    def load_extraction(self) -> Extraction | None:
        """The latest extraction; None when none has begun, or in a ledger of a version that did not note them."""
        found = self._load_extractions("ORDER BY number DESC LIMIT 1")
        return found[0] if found else None

    def load_extractions(self, recipe: str) -> list[Extraction]:
        """The extractions of a recipe, the earliest first; empty in a ledger of a version that did not note them."""
        return self._load_extractions("WHERE recipe = ? ORDER BY number", recipe)

    def _load_extractions(self, condition: str, *values: str) -> list[Extraction]:
        names = [field.name for field in fields(Extraction)]
        if not self._ask("SELECT 1 FROM sqlite_master WHERE name = 'extractions'"):
            return []
        rows = self._ask(f"SELECT {', '.join(names)} FROM extractions {condition}", *values)
        return [Extraction(**dict(zip(names, row, strict=True))) for row in rows]

    def load_finishes(self, recipe: str) -> list[str]:
        """The time of each outcome of a recipe, in UTC, rising."""
        query = "SELECT finished FROM outcomes WHERE recipe = ? AND finished != '' ORDER BY finished"
        return [finished for (finished,) in self._ask(query, recipe)]

    def load_outcome(self, recipe: str, key: str) -> Outcome | None:
        """The outcome of one URL, by its key; None when there is none."""
        return next(iter(self._read_outcomes("recipe = ? AND key = ?", recipe, key)), None)

    def find_alike(self, recipe: str, beginning: str, kind: str) -> list[tuple[Outcome, bytes]]:
        """Videos with status ok whose `content` begins with `beginning`, each with its fingerprint of this kind. Leaves
        out videos that took over the result of the same file."""
        rows = self._ask(
            f"SELECT data, {', '.join(_COLUMNS)} FROM outcomes JOIN fingerprints USING (key) WHERE recipe = ? AND "
            "content >= ? AND content < ? AND content != '' AND kind = ? AND status = ? AND same_file_as = '' "
            "ORDER BY key",
            *(recipe, beginning, f"{beginning}!", kind, Status.OK),
        )
        return [(_read_outcome(_COLUMNS, row[1:]), row[0]) for row in rows]

    def tally(self, recipe: str, *, since: str = "") -> dict[Status, Tally]:
        """The outcomes of a recipe by status, all or those since a moment (UTC, ISO format)."""
        # A ledger of an earlier version notes no such moment.
        condition, values = ("recipe = ? AND finished >= ?", (recipe, since)) if since else ("recipe = ?", (recipe,))
        rows = self._ask(
            f"SELECT status, count(*), sum(fetched_bytes) FROM outcomes WHERE {condition} GROUP BY status", *values
        )
        found = {status: Tally(urls=urls, fetched_bytes=fetched) for status, urls, fetched in rows}
        return {status: found[status] for status in Status if status in found}

    def list_kept(self) -> list[str]:
        """Every URL whose video was read, by any recipe, in the order of their keys."""
        kept = sorted(KEPT_STATUSES)
        condition = f"status IN ({', '.join('?' * len(kept))})"
        return [url for (url,) in self._ask(f"SELECT DISTINCT url FROM outcomes WHERE {condition} ORDER BY key", *kept)]

    def list_troubles(self, recipe: str) -> list[tuple[str, Status, str]]:
        """URL, status and reason of every URL without frames."""
        kept = sorted(KEPT_STATUSES)
        condition = f"recipe = ? AND status NOT IN ({', '.join('?' * len(kept))})"
        rows = self._ask(f"SELECT url, status, reason FROM outcomes WHERE {condition}", recipe, *kept)
        return [(url, Status(status), reason) for url, status, reason in rows]


def _read_outcome(names: Sequence[str], values: Sequence[Any]) -> Outcome:
    row = dict(zip(names, values, strict=True))
    return Outcome(**row | {"status": Status(row["status"]), "retryable": bool(row["retryable"])})


def _finish(outcome: Outcome) -> str:
    """When the outcome was reached, in ISO format; empty when its start is not known."""
    if not outcome.started:
        return ""
    ended = datetime.fromisoformat(outcome.started) + timedelta(seconds=outcome.elapsed_s)
    return ended.isoformat(timespec="milliseconds")


_REMEDIES = {
    sqlite3.SQLITE_FULL: "free space on the disk, then start again: finished work is kept",
    sqlite3.SQLITE_IOERR: "check that the disk works and has space, then start again: finished work is kept",
    sqlite3.SQLITE_READONLY: "make the run folder and everything in it writable, then start again",
    sqlite3.SQLITE_CANTOPEN: "make the run folder and everything in it writable, then start again",
    sqlite3.SQLITE_BUSY: "close whatever else has it open, then start again",
    sqlite3.SQLITE_LOCKED: "close whatever else has it open, then start again",
}


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        # The lower byte is the kind of error; the other bytes are details.
        kind = getattr(error, "sqlite_errorcode", 0) & 0xFF
        remedy = _REMEDIES.get(
            kind, "if the file is damaged, move it away and start again; the videos are then read again"
        )
        raise RunFolderError(f"the ledger {path} cannot be used ({error}): {remedy}") from error

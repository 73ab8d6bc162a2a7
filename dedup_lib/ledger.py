"""What became of every URL of a run, on disk: an SQLite file that a killed run leaves whole.

Keyed by URL and recipe (the settings that change a vector), so that a run with another encoder starts afresh
and one with another threshold does not.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from types import TracebackType

from dedup_lib.errors import RunFolderError
from dedup_lib.records import Outcome, Recipe, Status, video_key

_COLUMNS = tuple(field.name for field in fields(Outcome))

_TABLE = f"""
CREATE TABLE IF NOT EXISTS outcomes (
    recipe TEXT NOT NULL,
    key TEXT NOT NULL,
    {", ".join(_COLUMNS)},
    attempts INTEGER NOT NULL DEFAULT 1,
    PRIMARY KEY (recipe, key)
) WITHOUT ROWID
"""

_FINGERPRINTS = """
CREATE TABLE IF NOT EXISTS fingerprints (
    key TEXT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    data BLOB NOT NULL
)
"""

_UPSERT = f"""
INSERT INTO outcomes (recipe, key, {", ".join(_COLUMNS)}) VALUES (:recipe, :key, {", ".join(":" + c for c in _COLUMNS)})
ON CONFLICT (recipe, key) DO UPDATE SET {", ".join(f"{c} = excluded.{c}" for c in _COLUMNS)}, attempts = attempts + 1
"""


class Ledger:
    """The outcomes of one recipe in one run folder. Use as a context manager.

    Raises RunFolderError for a file that is damaged, held by another process, or no ledger of this project.
    """

    def __init__(self, path: Path, recipe: Recipe) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._recipe = recipe
        with self._explained():
            # Opened by one thread and written by another, never by two at a time.
            self._database = sqlite3.connect(path, check_same_thread=False)
            self._database.execute("PRAGMA journal_mode = WAL")
            with self._database:
                self._database.execute(_TABLE)
                self._database.execute(_FINGERPRINTS)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise RunFolderError(
                f"the ledger {self._path} cannot be used ({error}): end other runs in this folder; if the file is "
                "damaged, move it away, and the videos are read again"
            ) from error

    def record(
        self, outcomes: Iterable[Outcome], *, fingerprints: Mapping[str, bytes] | None = None, kind: str = ""
    ) -> None:
        """Write outcomes, and fingerprints of one kind by URL, all or none of them; earlier ones of the same URL are
        replaced."""
        rows = [asdict(o) | {"status": str(o.status), "recipe": self._recipe.key, "key": o.key} for o in outcomes]
        prints = [(video_key(url), kind, data) for url, data in (fingerprints or {}).items()]
        with self._explained(), self._database:
            self._database.executemany(_UPSERT, rows)
            self._database.executemany("INSERT OR REPLACE INTO fingerprints VALUES (?, ?, ?)", prints)

    def load(self) -> dict[str, Outcome]:
        """Every outcome of this recipe by URL."""
        with self._explained():
            found = self._database.execute(
                f"SELECT {', '.join(_COLUMNS)} FROM outcomes WHERE recipe = ? ORDER BY key", (self._recipe.key,)
            ).fetchall()
        outcomes = (dict(zip(_COLUMNS, row, strict=True)) for row in found)
        return {
            row["url"]: Outcome(**row | {"status": Status(row["status"]), "retryable": bool(row["retryable"])})
            for row in outcomes
        }

    def load_kinds(self) -> dict[str, str]:
        """The kind of each fingerprint by the key of its video."""
        with self._explained():
            return dict(self._database.execute("SELECT key, kind FROM fingerprints"))

    def load_fingerprints(self, urls: Iterable[str]) -> dict[str, tuple[str, bytes]]:
        """Kind and fingerprint by URL, of those that have one."""
        found = {}
        with self._explained():
            for url in urls:
                row = self._database.execute(
                    "SELECT kind, data FROM fingerprints WHERE key = ?", (video_key(url),)
                ).fetchone()
                if row is not None:
                    found[url] = row
        return found

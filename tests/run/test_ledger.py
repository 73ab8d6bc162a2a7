"""The ledger on real SQLite files."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup_lib.errors import RunFolderError
from dedup_lib.records import Outcome, Recipe, Status, utc_now, video_key
from dedup_lib.run.ledger import Ledger, LedgerView, Tally

RECIPE = Recipe(encoder="pdq", model="", num_frames=3, frame_span="spread")
FULL = Outcome(
    url="https://h/'ünï' \"中文\" 🎬\n\r\t\0.mp4",
    status=Status.DECODE_ERROR,
    reason="größer als erlaubt; DROP TABLE outcomes; --\nzweite Zeile",
    retryable=True,
    frames=3,
    duration_s=12.345,
    width_px=1920,
    height_px=1080,
    codec="h264",
    picture_fraction=0.75,
    size_bytes=6_000_000_000,
    fetched_bytes=5_000_000_000,
    elapsed_s=0.125,
    started="2024-02-29T23:59:59.950+00:00",
)

texts = st.text(st.characters(exclude_categories=["Cs"]))
seconds = st.floats(0, 1e9)
outcomes = st.builds(
    Outcome,
    url=texts,
    status=st.sampled_from(Status),
    reason=texts,
    retryable=st.booleans(),
    frames=st.integers(0, 256),
    duration_s=seconds,
    width_px=st.integers(0, 100_000),
    height_px=st.integers(0, 100_000),
    codec=texts,
    picture_fraction=st.floats(0, 1),
    size_bytes=st.integers(0, 2**62),
    fetched_bytes=st.integers(0, 2**62),
    elapsed_s=st.floats(0, 1e6),
    started=st.sampled_from(["", "0001-01-01T00:00:00.000+00:00", "2024-02-29T23:59:59.999+00:00"]),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "ledger.sqlite"


def load(path: Path, recipe: Recipe = RECIPE) -> dict[str, Outcome]:
    with Ledger(path, recipe) as ledger:
        return ledger.load()


def record(path: Path, *given: Outcome, recipe: Recipe = RECIPE) -> None:
    with Ledger(path, recipe) as ledger:
        ledger.record(given)


def test_every_field_comes_back(path: Path) -> None:
    record(path, FULL)
    held = load(path)
    assert held == {FULL.url: FULL}
    assert type(held[FULL.url].retryable) is bool
    assert type(held[FULL.url].status) is Status


@given(given_outcomes=st.lists(outcomes, max_size=20))
def test_any_outcome_comes_back(tmp_path_factory: pytest.TempPathFactory, given_outcomes: list[Outcome]) -> None:
    path = tmp_path_factory.mktemp("ledger") / "ledger.sqlite"
    record(path, *given_outcomes)
    assert load(path) == {outcome.url: outcome for outcome in given_outcomes}


def test_a_new_ledger_is_empty(path: Path) -> None:
    assert load(path) == {}
    record(path)
    assert load(path) == {}


def test_recipes_are_kept_apart(path: Path) -> None:
    other = replace(RECIPE, num_frames=4)
    record(path, FULL)
    record(path, replace(FULL, status=Status.OK), recipe=other)
    assert load(path)[FULL.url].status == Status.DECODE_ERROR
    assert load(path, other)[FULL.url].status == Status.OK
    assert load(path, replace(RECIPE, preprocessing=2)) == {}


def test_a_later_outcome_replaces_every_field(path: Path) -> None:
    later = Outcome(url=FULL.url, status=Status.OK)
    record(path, FULL, later)
    assert load(path) == {FULL.url: later}
    record(path, FULL)
    assert load(path) == {FULL.url: FULL}


def test_order_does_not_depend_on_the_order_of_writing(tmp_path: Path) -> None:
    many = [replace(FULL, url=f"https://h/{n}") for n in range(50)]
    record(tmp_path / "a", *many)
    record(tmp_path / "b", *reversed(many))
    assert list(load(tmp_path / "a")) == list(load(tmp_path / "b"))


def test_all_or_none_are_written(path: Path) -> None:
    record(path, FULL)
    good, bad = replace(FULL, url="https://h/good"), replace(FULL, url="https://h/bad", frames=2**70)

    def failing() -> Iterator[Outcome]:
        yield good
        raise RuntimeError("the run breaks")

    with Ledger(path, RECIPE) as ledger:
        with pytest.raises(OverflowError):
            ledger.record([good, replace(FULL, frames=1), bad])
        with pytest.raises(RuntimeError):
            ledger.record(failing())
        assert ledger.load() == {FULL.url: FULL}
    assert load(path) == {FULL.url: FULL}


# Fingerprints


def load_fingerprints(path: Path, *urls: str, recipe: Recipe = RECIPE) -> dict[str, tuple[str, bytes]]:
    with Ledger(path, recipe) as ledger:
        return ledger.load_fingerprints(urls)


@given(data=st.binary(max_size=3000), url=texts, kind=texts)
def test_any_fingerprint_comes_back(tmp_path_factory: pytest.TempPathFactory, data: bytes, url: str, kind: str) -> None:
    path = tmp_path_factory.mktemp("ledger") / "ledger.sqlite"
    with Ledger(path, RECIPE) as ledger:
        ledger.record([Outcome(url=url, status=Status.OK)], fingerprints={url: data}, kind=kind)
        assert ledger.load_kinds() == {video_key(url): kind}
    assert load_fingerprints(path, url) == {url: (kind, data)}


def test_only_what_is_asked_for_and_known_is_given(path: Path) -> None:
    with Ledger(path, RECIPE) as ledger:
        ledger.record([], fingerprints={"a": b"1", "b": b"2"}, kind="fine")
        assert ledger.load() == {}
    assert load_fingerprints(path) == {}
    assert load_fingerprints(path, "b", "nowhere", "b") == {"b": ("fine", b"2")}


def test_a_later_fingerprint_replaces_one_of_any_kind(path: Path) -> None:
    with Ledger(path, RECIPE) as ledger:
        ledger.record([], fingerprints={"a": b"1", "b": b"2"}, kind="fine")
        ledger.record([FULL])
        ledger.record([], fingerprints={"a": b"3"}, kind="coarse")
        assert ledger.load_kinds() == {video_key("b"): "fine", video_key("a"): "coarse"}
        assert ledger.load_fingerprints(["a", "b"]) == {"a": ("coarse", b"3"), "b": ("fine", b"2")}


def test_a_fingerprint_serves_every_recipe(path: Path) -> None:
    with Ledger(path, RECIPE) as ledger:
        ledger.record([FULL], fingerprints={FULL.url: b"1"}, kind="fine")
    other = replace(RECIPE, num_frames=4)
    assert load_fingerprints(path, FULL.url, recipe=other) == {FULL.url: ("fine", b"1")}
    assert load(path, other) == {}


def test_outcomes_and_fingerprints_are_written_together_or_not_at_all(path: Path) -> None:
    with Ledger(path, RECIPE) as ledger:
        with pytest.raises(OverflowError):
            ledger.record([replace(FULL, frames=2**70)], fingerprints={FULL.url: b"1"}, kind="fine")
        with pytest.raises(RunFolderError, match="cannot be used"):
            ledger.record([FULL], fingerprints={FULL.url: None}, kind="fine")  # type: ignore[dict-item]  # that it fails
        assert (ledger.load(), ledger.load_fingerprints([FULL.url])) == ({}, {})


def test_a_ledger_from_before_fingerprints_takes_them(path: Path) -> None:
    record(path, FULL)
    database = sqlite3.connect(path)
    database.execute("DROP TABLE fingerprints")
    database.close()
    assert load_fingerprints(path, FULL.url) == {}
    with Ledger(path, RECIPE) as ledger:
        ledger.record([], fingerprints={FULL.url: b"1"}, kind="fine")
    assert load_fingerprints(path, FULL.url) == {FULL.url: ("fine", b"1")}
    assert load(path) == {FULL.url: FULL}


# Times, places and extractions


def read_rows(path: Path, what: str = "*", table: str = "outcomes") -> list[tuple[object, ...]]:
    database = sqlite3.connect(path)
    found = database.execute(f"SELECT {what} FROM {table} ORDER BY 1").fetchall()
    database.close()
    return found


def test_when_and_where_is_noted_for_each_url(path: Path) -> None:
    before = utc_now()
    with Ledger(path, RECIPE) as ledger:
        known = replace(FULL, url="a")
        ledger.record([known, Outcome(url="b", status=Status.TIMEOUT)], stored={"a": "videos"})
    (a, b) = read_rows(path, "url, started, finished, stored, attempts")
    assert a == ("a", "2024-02-29T23:59:59.950+00:00", "2024-03-01T00:00:00.075+00:00", "videos", 1)
    assert (b[1], b[3]) == ("", "") and before <= str(b[2]) <= utc_now()
    record(path, known)
    assert read_rows(path, "stored, attempts")[0] == ("", 1)
    assert ("", 2) in read_rows(path, "stored, attempts")


def test_an_extraction_is_noted_from_its_start_to_its_end(path: Path) -> None:
    with Ledger(path, RECIPE) as ledger, LedgerView(path) as view:
        assert view.load_extraction() is None
        ledger.begin_extraction(total=9, done=4)
        begun = view.load_extraction()
        assert begun is not None
        assert (begun.recipe, begun.total, begun.done_before, begun.ended) == (RECIPE.key, 9, 4, "")
        assert begun.began == begun.heard
        version = view.load_version()
        ledger.record([FULL])
        assert view.load_version() != version
        heard = view.load_extraction()
        assert heard is not None and heard.heard >= begun.heard and heard.ended == ""
        ledger.end_extraction()
        ended = view.load_extraction()
        assert ended is not None and ended.ended == ended.heard >= heard.heard
        ledger.record([FULL])
        assert view.load_extraction() == ended
        ledger.begin_extraction(total=3, done=3)
        assert getattr(view.load_extraction(), "total", None) == 3


def test_outcomes_are_counted_by_status_and_from_a_moment_on(path: Path) -> None:
    other = replace(RECIPE, num_frames=4)
    early = replace(FULL, url="early", fetched_bytes=5)
    late = replace(FULL, url="late", started="2030-01-01T00:00:00.000+00:00", fetched_bytes=7)
    fine = Outcome(url="fine", status=Status.OK, fetched_bytes=1)
    record(path, early, late, fine)
    record(path, early, recipe=other)
    with LedgerView(path) as view:
        assert view.tally(RECIPE.key) == {Status.OK: Tally(1, 1), Status.DECODE_ERROR: Tally(2, 12)}
        assert view.tally(RECIPE.key, since="2029") == {Status.DECODE_ERROR: Tally(1, 7)}
        assert view.tally("none") == {}
        assert sorted(view.list_troubles(RECIPE.key)) == [(url, FULL.status, FULL.reason) for url in ("early", "late")]


def test_a_look_changes_nothing(path: Path) -> None:
    record(path, FULL)
    content = path.read_bytes()
    with LedgerView(path) as view:
        view.tally(RECIPE.key)
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            view._database.execute("DELETE FROM outcomes")
        record(path, replace(FULL, url="b"))
        assert view.tally(RECIPE.key) == {FULL.status: Tally(2, 2 * FULL.fetched_bytes)}
    record(path, FULL)
    assert len(load(path)) == 2
    path.unlink()
    with pytest.raises(RunFolderError, match="cannot be used"), LedgerView(path) as view:
        view.load_version()
    assert not path.exists()
    path.write_bytes(content)


OLD_SCHEMA = """
CREATE TABLE outcomes (
    recipe TEXT NOT NULL, key TEXT NOT NULL,
    url, status, reason, retryable, frames, duration_s, width_px, height_px, picture_fraction, codec, size_bytes,
    fetched_bytes, elapsed_s,
    attempts INTEGER NOT NULL DEFAULT 1,
    PRIMARY KEY (recipe, key)
) WITHOUT ROWID;
CREATE TABLE fingerprints (key TEXT NOT NULL PRIMARY KEY, kind TEXT NOT NULL, data BLOB NOT NULL);
"""


def make_old(path: Path) -> None:
    """A ledger as version 0.1.0 wrote it before it noted times, with one outcome that was tried three times."""
    path.parent.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(path)
    database.execute("PRAGMA journal_mode = WAL")
    database.executescript(OLD_SCHEMA)
    values = ("old", "ok", "", 0, 3, 1.5, 16, 9, 1.0, "h264", 100, 50, 0.5)
    database.execute(f"INSERT INTO outcomes VALUES ({', '.join('?' * 16)})", (RECIPE.key, video_key("old"), *values, 3))
    database.execute("INSERT INTO fingerprints VALUES (?, 'fine', ?)", (video_key("old"), b"1"))
    database.commit()
    database.close()


def test_an_older_ledger_is_read_as_it_is(path: Path) -> None:
    make_old(path)
    with LedgerView(path) as view:
        assert view.load_extraction() is None
        assert view.tally(RECIPE.key) == {Status.OK: Tally(1, 50)}
        assert view.list_troubles(RECIPE.key) == []
        old = view.load_outcomes(RECIPE.key)["old"]
        assert (old.status, old.width_px, old.started, old.content) == (Status.OK, 16, "", "")
        assert view.load_outcome(RECIPE.key, video_key("old")) == old
    assert len(read_rows(path)[0]) == 16


def test_an_older_ledger_is_upgraded_in_place(path: Path) -> None:
    make_old(path)
    for _ in range(2):
        old = load(path)["old"]
        assert (old.status, old.width_px, old.elapsed_s, old.started) == (Status.OK, 16, 0.5, "")
        assert load_fingerprints(path, "old") == {"old": ("fine", b"1")}
        assert read_rows(path, "url, attempts, started, finished, stored") == [("old", 3, "", "", "")]
    with Ledger(path, RECIPE) as ledger, LedgerView(path) as view:
        ledger.begin_extraction(total=2, done=1)
        ledger.record([old], stored={"old": "videos"})
        begun = view.load_extraction()
        assert begun is not None
        assert view.tally(RECIPE.key, since=begun.began) == {Status.OK: Tally(1, 50)}
    assert read_rows(path, "url, attempts, stored") == [("old", 4, "videos")]


RECORD_FOR_EVER = """
import sys
from itertools import count
from pathlib import Path
from dedup_lib.run.ledger import Ledger, LedgerView, Tally
from dedup_lib.records import Outcome, Recipe, Status
recipe = Recipe(encoder="pdq", model="", num_frames=3, frame_span="spread")
with Ledger(Path(sys.argv[1]), recipe) as ledger:
    for batch in count():
        urls = [f"{batch}/{n}" for n in range(10)]
        prints = {url: url.encode() * 100 for url in urls}
        ledger.record((Outcome(url=url, status=Status.OK) for url in urls), fingerprints=prints, kind="fine")
        sys.stdout.write(f"{batch}\\n")
        sys.stdout.flush()
"""


def test_a_killed_run_loses_nothing_that_it_recorded(path: Path) -> None:
    recorded = -1
    for _ in range(3):
        writer = subprocess.Popen([sys.executable, "-c", RECORD_FOR_EVER, str(path)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        with writer.stdout:
            for _ in range(40):
                recorded = max(recorded, int(writer.stdout.readline()))
            writer.kill()
            writer.wait()
        held = load(path)
        assert {f"{batch}/{n}" for batch in range(recorded + 1) for n in range(10)} <= set(held)
        assert len(held) % 10 == 0, "a batch is written whole"
        prints = {url: ("fine", url.encode() * 100) for url in held}
        assert load_fingerprints(path, *held) == prints


def test_two_open_ledgers_see_each_other(path: Path) -> None:
    with Ledger(path, RECIPE) as one, Ledger(path, RECIPE) as other:
        one.record([FULL])
        assert other.load() == {FULL.url: FULL}


@pytest.mark.parametrize(
    "content", [b"no database at all, but long enough to be read as one" * 100, b"SQLite format 3\0"]
)
def test_a_damaged_file_is_named_with_what_to_do(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(RunFolderError, match=r"the ledger .*ledger\.sqlite cannot be used .*move it away"):
        load(path)
    assert path.read_bytes() == content, "nothing is deleted"


def test_a_file_damaged_in_the_middle(path: Path) -> None:
    record(path, *(replace(FULL, url=f"https://h/{n}") for n in range(500)))
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(RunFolderError, match="cannot be used"):
        load(path)


def test_a_database_of_something_else(path: Path) -> None:
    path.parent.mkdir()
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE outcomes (recipe, key)")
    database.close()
    with pytest.raises(RunFolderError, match="cannot be used"):
        load(path)
    with pytest.raises(RunFolderError, match="cannot be used"):
        record(path, FULL)


SMALL_FILES = """
import resource, sys
from pathlib import Path
from dedup_lib.errors import RunFolderError
from dedup_lib.run.ledger import Ledger
from dedup_lib.records import Outcome, Recipe, Status
recipe = Recipe(encoder="pdq", model="", num_frames=3, frame_span="spread")
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
with Ledger(Path(sys.argv[1]), recipe) as ledger:
    for number in range(1000):
        try:
            url = str(number)
            ledger.record([Outcome(url=url, status=Status.OK)], fingerprints={url: b"x" * 9000}, kind="fine")
        except RunFolderError as error:
            sys.exit(f"{number} {error}")
"""


def test_a_disk_without_room_is_told_and_loses_nothing(path: Path) -> None:
    refused = subprocess.run(
        [sys.executable, "-c", SMALL_FILES, str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    number, _, said = refused.stderr.partition(" ")
    assert said.startswith(f"the ledger {path} cannot be used"), refused.stderr
    assert "check that the disk works and has space" in said and "start again: finished work is kept" in said
    assert "move it away" not in said
    assert set(load(path)) == {str(done) for done in range(int(number))}
    record(path, FULL)
    assert FULL.url in load(path)


def test_a_ledger_that_is_in_use_is_told(path: Path) -> None:
    record(path, FULL)
    database = sqlite3.connect(path)
    database.execute("BEGIN IMMEDIATE")
    with Ledger(path, RECIPE) as ledger:
        ledger._database.execute("PRAGMA busy_timeout = 0")
        with pytest.raises(RunFolderError, match="close whatever else has it open"):
            ledger.record([FULL])
    database.close()


def test_a_folder_in_its_place(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(RunFolderError, match="cannot be used"):
        load(path)

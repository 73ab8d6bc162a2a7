"""The memory of a person's decisions: what a file says, what is added to it, and what that means for a list."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup_lib.errors import ListError
from dedup_lib.groups.clean import clean_list
from dedup_lib.groups.decisions import (
    COLUMNS,
    Decision,
    DecisionFile,
    Memory,
    RowDecisions,
    TransitiveDecisions,
    decisions_path,
    describe_decisions,
    load_decisions,
    rows_of_decisions,
    spell_as,
)
from dedup_lib.groups.grouping import group_copies
from dedup_lib.lists.tables import load_list, save_table
from dedup_lib.records import Outcome, Pair, Status

SAME, DIFFERENT, VERSION = Decision.SAME, Decision.DIFFERENT, Decision.VERSION
KEEP_FIRST, KEEP_SECOND = Decision.KEEP_FIRST, Decision.KEEP_SECOND
NOTHING = RowDecisions(same=set(), different=set(), kept=set())
HEADER = ",".join(COLUMNS)
A, B, C, D = (f"https://h/{name}.mp4" for name in "abcd")


def memory(*decisions: tuple[str, str, Decision]) -> dict[frozenset[str], Decision]:
    return {
        frozenset((first, second)): decision if first < second else decision.reversed
        for first, second, decision in decisions
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "decisions.csv"


# Reading


def test_it_lies_beside_the_list(tmp_path: Path) -> None:
    assert decisions_path(tmp_path / "my list.csv") == tmp_path / "decisions.csv"


def test_no_file_and_an_empty_one_know_nothing(path: Path) -> None:
    assert load_decisions(path) == {}
    for text in ("", "\n\n", HEADER, f"{HEADER}\n", "\ufefffirst_url,sec"):
        path.write_text(text, encoding="utf-8")
        assert load_decisions(path) == {}, text


def test_the_last_line_about_a_pair_holds_in_any_order(path: Path) -> None:
    path.write_text(f"{HEADER}\n{A},{B},same,\n{C},{A},different,\n{B},{A},different,2024-01-01T00:00:00+00:00\n")
    assert load_decisions(path) == memory((A, B, DIFFERENT), (A, C, DIFFERENT))


def test_what_spreadsheets_make_of_it_is_read(path: Path) -> None:
    lines = [HEADER, "", f'"https://h/a,b ""c""",{B},same,x', ",,,", "  ", f"https://ö/日本,{A},different"]
    path.write_bytes("\r\n".join(lines).encode("utf-8-sig"))
    assert load_decisions(path) == memory(('https://h/a,b "c"', B, SAME), ("https://ö/日本", A, DIFFERENT))


def test_blanks_around_a_cell_do_not_count(path: Path) -> None:
    path.write_text(f"first_url, second_url, decision, decided_at\n{A} ,  {B}, same ,\n{B},{C}\t,keep second\n")
    known = TransitiveDecisions(load_decisions(path))
    assert known.about(A, B) == SAME and known.about(B, C) == KEEP_SECOND
    assert rows_of_decisions(load_decisions(path), [A, B, C]).same == {(0, 1), (0, 2), (1, 2)}
    # A list that was not cleaned has them too.
    assert rows_of_decisions(load_decisions(path), [f"{A} ", f"  {B}"]).same == {(0, 1)}


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_semicolons_and_tabs_are_read_and_written_again(path: Path, delimiter: str) -> None:
    """In many languages Excel saves a CSV with semicolons."""
    lines = [HEADER.replace(",", delimiter), delimiter.join(["https://h/a,b", B, "same", "30.11.2026 10:15"])]
    saved = "\r\n".join([*lines, ""]).encode("utf-8-sig")
    path.write_bytes(saved)
    file = DecisionFile(path)
    file.decide(f"https://h/a{delimiter}b", C, DIFFERENT)
    assert load_decisions(path) == memory(("https://h/a,b", B, SAME), (f"https://h/a{delimiter}b", C, DIFFERENT))
    path.write_bytes(path.read_bytes()[:-9])
    assert load_decisions(path) == file.decisions, "a torn line, but complete up to its decision"
    path.write_bytes(saved + f"{A}{delimiter}{C}{delimiter}diff".encode())
    assert load_decisions(path) == memory(("https://h/a,b", B, SAME))


@pytest.mark.parametrize(
    ("text", "line", "value", "remedy"),
    [
        (f"url,title\n{A},x\n", 1, "url,title", HEADER),
        ("notes without an end", 1, "notes without an end", HEADER),
        (f"{HEADER}\n\n{A},{B},smae,\n", 3, "'smae'", "same, different"),
        (f"{HEADER}\n{A},{B},smae", 2, "'smae'", "same, different"),
        (f"{HEADER}\n{A},{B}\n", 2, "2 cells", "quotes"),
        (f"{HEADER}\nhttps://h/a,b,{B},same,\n", 2, "5 cells", "quotes"),
        (f"{HEADER}\n{A},{A},same,\n", 2, repr(A), "two different URLs"),
        (f"{HEADER}\n{A},,same,\n", 2, "''", "two different URLs"),
        (f'{HEADER}\n{A},{B},same,\n"{A},{B},same,\n', 3, "end of data", "Close the quote"),
    ],
)
def test_a_file_that_cannot_be_understood_says_where_and_why(
    path: Path, text: str, line: int, value: str, remedy: str
) -> None:
    path.write_text(text)
    with pytest.raises(ListError) as caught:
        DecisionFile(path)
    message = str(caught.value)
    assert str(path) in message
    assert f"line {line} " in message
    assert value in message
    assert remedy in message


def test_a_file_in_another_encoding_says_so(path: Path) -> None:
    path.write_bytes(f"{HEADER}\n{A},https://h/\u00fc,same,\n".encode("latin-1"))
    with pytest.raises(ListError, match=r"is not valid UTF-8 \(byte 0xFC on line 2\): save"):
        load_decisions(path)


def test_a_folder_in_its_place(path: Path) -> None:
    path.mkdir()
    with pytest.raises(ListError, match="cannot be read"):
        load_decisions(path)


# Deciding


def test_a_decision_is_on_the_disk_at_once(path: Path) -> None:
    file = DecisionFile(path)
    file.decide(A, B, SAME)
    assert load_decisions(path) == file.decisions == memory((A, B, SAME))
    file.decide(B, A, DIFFERENT)
    file.decide(C, "https://h/ü,\"'\r\n日", SAME)
    assert load_decisions(path) == file.decisions == DecisionFile(path).decisions
    assert file.decisions == memory((A, B, DIFFERENT), (C, "https://h/ü,\"'\r\n日", SAME))
    text = path.read_text(encoding="utf-8")
    assert text.startswith(f"{HEADER}\n{A},{B},same,20")
    assert text.count(HEADER) == 1


urls = st.text(min_size=1, max_size=12).filter(str.strip)


@given(decisions=st.lists(st.tuples(urls, urls, st.sampled_from(Decision)).filter(lambda d: d[0] != d[1]), max_size=6))
def test_every_url_survives(
    decisions: list[tuple[str, str, Decision]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("memory") / "decisions.csv"
    file = DecisionFile(path)
    for n, decision in enumerate(decisions, start=1):
        file.decide(*decision)
        assert load_decisions(path) == file.decisions == memory(*decisions[:n])
    for n in reversed(range(len(decisions))):
        assert file.undo() == frozenset(decisions[n][:2])
        assert load_decisions(path) == file.decisions == memory(*decisions[:n])


@pytest.mark.parametrize("urls", [(A, A), ("", A)])
def test_what_could_not_be_read_back_is_not_written(path: Path, urls: tuple[str, str]) -> None:
    file = DecisionFile(path)
    file.decide(A, B, SAME)
    before = path.read_bytes()
    with pytest.raises(ListError, match="line 3 names"):
        file.decide(*urls, SAME)
    assert path.read_bytes() == before
    assert file.undo() == {A, B}


@pytest.mark.parametrize("cut", range(len(f"{HEADER}\n{A},{B},same,2024\n") + 1))
def test_a_line_cut_off_by_a_crash_never_joins_the_next(path: Path, cut: int) -> None:
    path.write_text(f"{HEADER}\n{A},{B},same,2024\n"[:cut])
    known = load_decisions(path)
    assert known in ({}, memory((A, B, SAME)))
    file = DecisionFile(path)
    file.decide(C, D, DIFFERENT)
    assert load_decisions(path) == file.decisions == {**known, **memory((C, D, DIFFERENT))}


def test_a_hand_written_last_line_without_an_end_is_kept(path: Path) -> None:
    path.write_text(f"{HEADER}\n{A},{B},same")
    DecisionFile(path).decide(C, D, SAME)
    assert load_decisions(path) == memory((A, B, SAME), (C, D, SAME))


# Taking back


def test_undo_restores_what_was_known_before(path: Path) -> None:
    DecisionFile(path).decide(A, B, SAME)
    before = path.read_bytes()
    file = DecisionFile(path)
    assert file.undo() is None, "only its own decisions"
    file.decide(B, A, DIFFERENT)
    file.decide(A, C, SAME)
    assert file.undo() == {A, C}
    assert file.undo() == {A, B}
    assert file.undo() is None
    assert file.decisions == memory((A, B, SAME))
    assert path.read_bytes() == before


def test_undo_leaves_what_others_wrote_since(path: Path) -> None:
    mine, others = DecisionFile(path), DecisionFile(path)
    mine.decide(A, B, SAME)
    others.decide(C, D, SAME)
    mine.decide(A, C, SAME)
    others.decide(A, D, DIFFERENT)
    assert mine.undo() == {A, C}
    assert mine.undo() == {A, B}
    assert load_decisions(path) == mine.decisions == memory((C, D, SAME), (A, D, DIFFERENT))
    assert others.undo() == {A, D}
    assert load_decisions(path) == others.decisions == memory((C, D, SAME))


def test_undo_of_a_line_that_someone_changed_says_so(path: Path) -> None:
    file = DecisionFile(path)
    file.decide(A, B, SAME)
    path.write_text(f"{HEADER}\n{A},{B},different,\n")
    with pytest.raises(ListError, match="changed by someone else"):
        file.undo()
    assert load_decisions(path) == memory((A, B, DIFFERENT))


# Trouble with the disk


@contextmanager
def disk_full_at(size_bytes: int) -> Iterator[None]:
    """No file of this process can grow beyond this size."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("room_bytes", [0, 10])
def test_a_full_disk_changes_nothing(path: Path, room_bytes: int) -> None:
    file = DecisionFile(path)
    file.decide(A, B, SAME)
    before = path.read_bytes()
    with disk_full_at(len(before) + room_bytes), pytest.raises(ListError, match=r"cannot be written .*: free space"):
        file.decide(C, D, SAME)
    assert path.read_bytes() == before
    assert file.decisions == memory((A, B, SAME))
    assert file.undo() == {A, B}


def test_a_place_that_cannot_be_written_to(tmp_path: Path) -> None:
    file = DecisionFile(tmp_path / "gone" / "decisions.csv")
    with pytest.raises(ListError, match=r"decisions.csv cannot be written \(No such file.*: free space"):
        file.decide(A, B, SAME)
    assert file.decisions == {}
    assert file.undo() is None


WRITER = """
import sys
from pathlib import Path
from dedup_lib.groups.decisions import Decision, DecisionFile
file = DecisionFile(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for n in range(150):
    file.decide(f"{sys.argv[2]}-{n}", "https://h/", Decision.SAME)
    if n % 2:
        file.undo()
"""


def test_two_processes_at_once_keep_each_others_lines_whole(path: Path) -> None:
    names = ("one", "two")
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name in names
    ]
    # Both have loaded everything before either begins.
    assert [writer.stdout.readline() for writer in writers if writer.stdout] == ["ready\n", "ready\n"]
    for writer in writers:
        assert writer.stdin
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate()
        assert writer.returncode == 0
    assert load_decisions(path) == memory(
        *((f"{name}-{n}", "https://h/", SAME) for name in names for n in range(0, 150, 2))
    )
    assert path.read_text().count(HEADER) == 1


# What it means for a list


def test_rows_of_urls_that_occur_more_than_once_or_not_at_all() -> None:
    said = memory((A, B, SAME), (D, A, DIFFERENT), (C, "https://h/elsewhere", SAME))
    decided = rows_of_decisions(said, [B, D, None, A, C, B])
    assert decided.same == {(0, 3), (0, 5), (3, 5)}
    assert decided.different == {(0, 1), (1, 3), (1, 5)}
    assert rows_of_decisions(said, []) == rows_of_decisions({}, [A, B, A]) == NOTHING


def test_a_video_that_is_not_in_the_list_still_joins_others() -> None:
    said = memory((A, B, SAME), (B, C, SAME), (B, D, DIFFERENT))
    assert rows_of_decisions(said, [A, C, D]) == replace(NOTHING, same={(0, 1)}, different={(0, 2), (1, 2)})
    assert rows_of_decisions(said, [A, None, C]) == replace(NOTHING, same={(0, 2)})


def test_which_of_two_is_kept_follows_the_order_of_the_line(path: Path) -> None:
    file = DecisionFile(path)
    file.decide(B, A, KEEP_FIRST)
    file.decide(C, D, KEEP_SECOND)
    assert f"{B},{A},keep first," in path.read_text(encoding="utf-8")
    decided = rows_of_decisions(load_decisions(path), [A, B, C, D, B])
    assert decided.same == {(0, 1), (0, 4), (1, 4), (2, 3)} and not decided.different
    assert decided.kept == {(1, 0), (4, 0), (3, 2)}
    assert file.decisions == memory((A, B, KEEP_SECOND), (C, D, KEEP_SECOND))


def test_versions_count_as_the_setting_says() -> None:
    said = memory((A, B, VERSION), (B, C, SAME))
    assert rows_of_decisions(said, [A, B, C]).different == {(0, 1), (0, 2)}
    assert rows_of_decisions(said, [A, B, C], are_versions_same=True).same == {(0, 1), (0, 2), (1, 2)}
    assert TransitiveDecisions(said).about(A, B) is VERSION, "it is answered, and not asked again"


@pytest.mark.parametrize("decision", Decision)
def test_a_decision_cut_off_in_the_middle_does_not_count(path: Path, decision: Decision) -> None:
    path.write_text(f"{HEADER}\n{A},{B},same,\n{C},{D},{decision[:-1]}")
    assert load_decisions(path) == memory((A, B, SAME))


def test_what_people_decided_is_told_in_words() -> None:
    assert describe_decisions({}) == ""
    assert describe_decisions({"same": 1, "different": 0}) == "1 pair decided by people (1 same, 0 different)"
    counts = {"same": 1, "keep first": 2, "different": 3, "version": 1}
    assert describe_decisions(counts) == "7 pairs decided by people (3 same, 3 different, 1 versions)"


@pytest.mark.parametrize(
    "spelling",
    [
        *("HTTPS://h/b.mp4", "https://H/b.mp4", "https://h:443/b.mp4", "https://h/b.mp4#t=3", "https://h/%62.mp4"),
        *("https://h/b.mp4/", "https://h/b.mp4?", "//h/b.mp4", "https%3A%2F%2Fh%2Fb.mp4"),
    ],
)
def test_a_url_may_be_spelled_otherwise_than_in_the_list(spelling: str) -> None:
    for first, second, said in ((spelling, A, KEEP_FIRST), (A, spelling, KEEP_SECOND)):
        assert spell_as(memory((first, second, said)), [A, B, C]) == memory((B, A, KEEP_FIRST))
    assert spell_as(memory((A, B, SAME), (spelling, A, DIFFERENT)), [A, B]) == memory((A, B, SAME)), "as in the list"
    assert spell_as(memory((B, spelling, SAME), (A, D, SAME)), [A, B]) == memory((A, D, SAME))


def test_contradictions_name_the_urls() -> None:
    said = memory((A, B, SAME), (B, C, SAME), (C, D, SAME), (D, A, DIFFERENT))
    with pytest.raises(ListError, match=f"calls {A} and {D} different, but also the same by way of {B}, {C}. Change"):
        rows_of_decisions(said, [D, B])
    assert rows_of_decisions(said, [B]) == NOTHING, "nothing of this list hangs on it"
    said = memory((A, B, SAME), (B, C, SAME), (C, A, VERSION))
    with pytest.raises(ListError, match=f"mine.csv contradicts itself: it calls {A} and {C} versions, but also"):
        rows_of_decisions(said, [A, B, C], place="mine.csv")
    said = memory((A, B, VERSION), (B, C, VERSION), (C, A, DIFFERENT))
    with pytest.raises(ListError, match=rf"of {B} \(with versions: remove, versions count as the same\)\. Change"):
        rows_of_decisions(said, [A, B, C], are_versions_same=True)


def test_conclusions() -> None:
    known = TransitiveDecisions(memory((A, B, SAME), (B, C, SAME), (C, D, DIFFERENT)))
    assert known.about(A, C) is known.about(C, A) is known.about(A, B) is SAME
    assert known.about(A, D) is known.about(D, A) is known.about(D, C) is DIFFERENT
    assert known.about("x", A) is known.about("x", "y") is None


@st.composite
def memories(draw: st.DrawFn) -> Memory:
    """Decisions that follow from which of seven URLs truly show the same: they never contradict each other."""
    truth = draw(st.lists(st.integers(0, 2), min_size=7, max_size=7))
    decided = draw(st.sets(st.sampled_from(list(combinations(range(7), 2)))))
    return memory(*((str(i), str(j), SAME if truth[i] == truth[j] else DIFFERENT) for i, j in sorted(decided)))


@given(said=memories(), listed=st.lists(st.sampled_from("0123456"), max_size=9))
def test_rows_say_what_the_conclusions_say(said: Memory, listed: list[str]) -> None:
    decided = rows_of_decisions(said, listed)
    same, different = decided.same, decided.different
    known = TransitiveDecisions(said)
    for i, j in combinations(range(len(listed)), 2):
        if listed[i] != listed[j]:
            expected = known.about(listed[i], listed[j])
            assert ((i, j) in same, (i, j) in different) == (expected is SAME, expected is DIFFERENT)
    assert all(i < j for i, j in same | different)


def test_from_a_decision_to_an_empty_cell_of_the_duplicates(tmp_path: Path) -> None:
    listed = tmp_path / "list.csv"
    listed.write_text(f"url\n{A}\n{B}\n{C}\n{D}\n")
    file = DecisionFile(decisions_path(listed))
    file.decide(D, A, SAME)
    file.decide(A, B, DIFFERENT)
    frame = load_list(listed)
    found = frame["url"].tolist()
    decided = rows_of_decisions(load_decisions(decisions_path(listed)), found)
    pairs = [Pair(first=0, second=1, similarity=0.99), Pair(first=0, second=2, similarity=0.97)]
    groups = group_copies(pairs, threshold=0.9, same=decided.same, different=decided.different)
    cleaned = clean_list(
        frame,
        url_column="url",
        outcomes={url: Outcome(url=url, status=Status.OK) for url in found},
        groups=groups,
        auto_clean=True,
    )
    save_table(cleaned.duplicates, tmp_path / "duplicates.csv")
    table = load_list(tmp_path / "duplicates.csv")
    assert table[["url", "duplicate_of", "score"]].to_numpy().tolist() == [[C, A, "0.97"], [D, A, ""]]
    assert cleaned.final["url"].tolist() == [A, B]


@pytest.mark.parametrize("url", ["=1+1.mp4", "'=1.mp4", "-x.mp4", "@x.mp4", "+cmd|' /C calc'!A0", "\t=1.mp4", "-5"])
def test_no_decision_is_a_formula_to_a_spreadsheet(path: Path, url: str) -> None:
    file = DecisionFile(path)
    file.decide(url, A, SAME)
    assert load_decisions(path) == file.decisions == memory((url, A, SAME))
    assert load_list(path)["first_url"].tolist() == [url]
    first = path.read_text(encoding="utf-8").splitlines()[1].lstrip('"')
    assert first.startswith("'") or url == "-5"
    assert file.undo() == frozenset((url, A))
    assert load_decisions(path) == {}


def test_what_a_person_wrote_without_an_apostrophe_means_the_same(path: Path) -> None:
    path.write_text(f"{HEADER}\n-x.mp4,{A},same\n'@y.mp4,{B},different,\n", encoding="utf-8")
    assert load_decisions(path) == memory(("-x.mp4", A, SAME), ("@y.mp4", B, DIFFERENT))


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="an administrator may write anywhere")
def test_a_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(ListError, match="Permission denied"):
            DecisionFile(tmp_path / "decisions.csv").decide(A, B, SAME)
    finally:
        tmp_path.chmod(0o700)

"""Lists as tables: what of a real file is read, refused, found, written and split off."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup_lib.errors import ListError, RunFolderError
from dedup_lib.lists.dialects import DELIMITERS, Dialect
from dedup_lib.lists.tables import (
    REPORT_COLUMNS,
    count_guarded,
    decode_list,
    find_url_column,
    free_column_name,
    load_list,
    load_table,
    read_list,
    save_table,
    split_text_copies,
)
from dedup_lib.lists.urls import decode_url

Write = Callable[[str | bytes], Path]
Cells = list[list[str]]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_list(content: str | bytes) -> Path:
        path = tmp_path / "list.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        return path

    return write_list


def table(columns: dict[str, list[str]]) -> pd.DataFrame:
    return pd.DataFrame(columns, dtype="str")


def rows_of(frame: pd.DataFrame) -> Cells:
    return [list(frame.columns), *frame.to_numpy().tolist()]


# load_list: encodings and containers

TEXT = "url,title\nhttps://h/1.mp4,Grüße 中文\nhttps://h/2.mp4,\n"
CELLS = [["url", "title"], ["https://h/1.mp4", "Grüße 中文"], ["https://h/2.mp4", ""]]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(TEXT.encode("utf-8"), id="utf-8"),
        pytest.param(TEXT.encode("utf-8-sig"), id="utf-8 with mark"),
        pytest.param(b"\xff\xfe" + TEXT.encode("utf-16-le"), id="utf-16-le with mark"),
        pytest.param(b"\xfe\xff" + TEXT.encode("utf-16-be"), id="utf-16-be with mark"),
        pytest.param(TEXT.encode("utf-16-le"), id="utf-16-le"),
        pytest.param(TEXT.encode("utf-16-be"), id="utf-16-be"),
        pytest.param(gzip.compress(TEXT.encode("utf-8")), id="gzip"),
        pytest.param(gzip.compress(TEXT.encode("utf-16")), id="gzip of utf-16"),
        pytest.param(TEXT.replace("\n", "\r\n").encode("utf-8"), id="CR LF"),
        pytest.param(TEXT.replace("\n", "\r").encode("utf-8"), id="CR"),
        pytest.param(TEXT.removesuffix("\n").encode("utf-8"), id="no last line end"),
    ],
)
def test_a_list_is_read_whoever_wrote_it(write: Write, content: bytes) -> None:
    frame = load_list(write(content))
    assert rows_of(frame) == CELLS
    assert set(frame.dtypes) == {pd.Series([""], dtype="str").dtype}
    assert frame.index.equals(pd.RangeIndex(2))


# load_list: delimiters and headers


@pytest.mark.parametrize(
    ("text", "cells"),
    [
        ("url;title\nu1;a, b\nu2;c\n", [["url", "title"], ["u1", "a, b"], ["u2", "c"]]),
        ("url\ttitle\nu1\ta, b; c\n", [["url", "title"], ["u1", "a, b; c"]]),
        ("a;b,c\nx;1,5\ny,z;2,5\n", [["a", "b,c"], ["x", "1,5"], ["y,z", "2,5"]]),
        ("url,title\nu1\nu2\n", [["url", "title"], ["u1", ""], ["u2", ""]]),
        ('url,title\nu1,"two\r\nlines, ""quoted"""\n', [["url", "title"], ["u1", 'two\r\nlines, "quoted"']]),
        ("url,title\n\nu1,a\n\r\n,\n\n", [["url", "title"], ["u1", "a"], ["", ""]]),
        ("url, title\n u1 , a \n", [["url", " title"], [" u1 ", " a "]]),
        ("url,n\nu1,NA\nu2,007\nu3,1e5\n", [["url", "n"], ["u1", "NA"], ["u2", "007"], ["u3", "1e5"]]),
    ],
)
def test_columns_are_split_as_the_header_says(write: Write, text: str, cells: Cells) -> None:
    assert rows_of(load_list(write(text))) == cells


@pytest.mark.parametrize(
    ("text", "urls"),
    [
        ("url\nhttps://h/a,b.mp4\nhttps://h/c,d.mp4\n", ["https://h/a,b.mp4", "https://h/c,d.mp4"]),
        ("url\nhttps://h/a;b\thttps\n", ["https://h/a;b\thttps"]),
        ("https://h/w_1,h_2/a\nhttps://h/w_1,h_3/b\n", ["https://h/w_1,h_2/a", "https://h/w_1,h_3/b"]),
        ("https://h/a?x=1,2;3\nhttps://h/b\n", ["https://h/a?x=1,2;3", "https://h/b"]),
        ("https://h/a;v=1\nhttps://h/b;v=2\n", ["https://h/a;v=1", "https://h/b;v=2"]),
        ('"https://h/a,b c"\n', ["https://h/a,b c"]),
        ("https://h/a, 1\nhttps://h/a, 2\nhttps://h/b\n", ["https://h/a, 1", "https://h/a, 2", "https://h/b"]),
        ("//h/a\n", ["//h/a"]),
        ("https%3A%2F%2Fh%2Fa\nx\n", ["https%3A%2F%2Fh%2Fa", "x"]),
        ("www.h.example/a\nhttps://h/b\n", ["www.h.example/a", "https://h/b"]),
        ("ftp://h/a\nhttps://h/b\n", ["ftp://h/a", "https://h/b"]),
        ("videos/a.MP4\nvideos/b.mkv\n", ["videos/a.MP4", "videos/b.mkv"]),
        ('url\n\nu1\n""\n\nu2\n', ["u1", "", "u2"]),
        ("url\n" + "u" * 300_000, ["u" * 300_000]),
    ],
)
def test_a_list_of_one_column_is_never_split(write: Write, text: str, urls: list[str]) -> None:
    frame = load_list(write(text))
    assert list(frame.columns) == ["url"]
    assert frame["url"].tolist() == urls


@pytest.mark.parametrize("count", [2, 3, 30])
@pytest.mark.parametrize("header", ["", "url\n"])
@pytest.mark.parametrize("mark", [",", ";"])
@pytest.mark.parametrize("last", ["", "the mark"])
@pytest.mark.parametrize("quoted", ["{}", '"{}"', "'{}'", '    "{}"', "{}  "])
def test_a_mark_at_the_end_of_each_line_is_no_column(
    write: Write, count: int, header: str, mark: str, last: str, quoted: str
) -> None:
    """Lists that were copied from a program have one, often without one behind the last line."""
    urls = [f"https://h/{number}.mp4" for number in range(count)]
    text = header + f"{mark}\n".join(map(quoted.format, urls)) + (mark if last else "") + "\n"
    frame = load_list(write(text))
    assert list(frame.columns) == ["url"]
    assert [decode_url(url) for url in frame["url"]] == urls


@pytest.mark.parametrize(
    ("text", "cells"),
    [
        ("1,NULL\n2,https://h/b\n", [["column_1", "url"], ["1", "NULL"], ["2", "https://h/b"]]),
        ("a,n/a\nb,https://h/b\n", [["column_1", "url"], ["a", "n/a"], ["b", "https://h/b"]]),
        ("1,\n2,https://h/b\n", [["column_1", "url"], ["1", ""], ["2", "https://h/b"]]),
        ("none\nhttps://h/b\n", [["url"], ["none"], ["https://h/b"]]),
        ('{"url": "https://h/a", "ti\nhttps://h/b\n', [["url"], ['{"url": "https://h/a", "ti'], ["https://h/b"]]),
        # Headers all the same: pandas counts columns without a name, and leaves out the name of the first one.
        (",0\n0,https://h/a\n", [["column_1", "0"], ["0", "https://h/a"]]),
        ("0\nhttps://h/a\n", [["0"], ["https://h/a"]]),
        ("id,\n1,https://h/a\n", [["id", "column_2"], ["1", "https://h/a"]]),
    ],
)
def test_a_row_without_a_url_is_no_header(write: Write, text: str, cells: Cells) -> None:
    assert rows_of(load_list(write(text))) == cells


@pytest.mark.parametrize(
    ("text", "cells"),
    [
        (
            "https://h/1.mp4,one\nhttps://h/2.mp4,two\n",
            [["url", "column_2"], ["https://h/1.mp4", "one"], ["https://h/2.mp4", "two"]],
        ),
        ("1;https://h/a\n2;https://h/b\n", [["column_1", "url"], ["1", "https://h/a"], ["2", "https://h/b"]]),
        ("https://y/x,My title\n", [["url", "column_2"], ["https://y/x", "My title"]]),
        ("https://y/x\tt\n", [["url", "column_2"], ["https://y/x", "t"]]),
        ('"https://y/x","t"\n', [["url", "column_2"], ["https://y/x", "t"]]),
        ("https://y/x,a\nhttps://y/z,\n", [["url", "column_2"], ["https://y/x", "a"], ["https://y/z", ""]]),
        ("https://h/a,https://h/b\n", [["column_1", "column_2"], ["https://h/a", "https://h/b"]]),
        ("1,a.mp4\n2,b.mp4\n", [["column_1", "url"], ["1", "a.mp4"], ["2", "b.mp4"]]),
    ],
)
def test_columns_without_a_header_are_numbered(write: Write, text: str, cells: Cells) -> None:
    assert rows_of(load_list(write(text))) == cells


def test_a_short_row_deep_in_a_list_without_header_is_filled(write: Write) -> None:
    frame = load_list(write("https://h/1.mp4,a b\n" * 30 + "https://h/2.mp4\n"))
    assert frame.shape == (31, 2)
    assert frame.iloc[-1].tolist() == ["https://h/2.mp4", ""]


@pytest.mark.parametrize(
    ("header", "names"),
    [
        ("url,url,url", ["url", "url_2", "url_3"]),
        ("a,a,a_2", ["a", "a_3", "a_2"]),
        (",url, ,url", ["column_1", "url", "column_3", "url_2"]),
        (",column_1", ["column_1_2", "column_1"]),
    ],
)
def test_every_column_has_a_name_of_its_own(write: Write, header: str, names: list[str]) -> None:
    row = ",".join(str(number) for number in range(len(names)))
    frame = load_list(write(f"{header}\n{row}\n"))
    assert rows_of(frame) == [names, row.split(",")]


# load_list: refusals


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["is empty", "one video URL per line"]),
        (b"\xef\xbb\xbf", ["is empty"]),
        (b"\n\r\n\n", ["is empty"]),
        (b"url,title\n", ["a header but no rows", "below its header"]),
        (b"url", ["a header but no rows"]),
        (
            b"url,title\nu,t,x\n",
            ["line 2 has 3 cells, and the list has 2 columns", "quotes around", "delete lines above the header"],
        ),
        (b"a,b\nq,x,y\nr,x,https://h/a\n", ["line 2 has 3 cells, and the list has 2 columns"]),
        (b'url,title\n"a\nb",c\n\nu,t,x,y\n', ["line 5 has 4 cells, and the list has 2 columns"]),
        (b'url,title\nu,t\nu,"t\nu,t\n', ["line 3 opens a quote that is never closed", "Close the quote"]),
        (b'url\n"https://h/a\n', ["line 2 opens a quote that is never closed"]),
        (b'url,title\nu,"Best" ad\n', ["line 2 has text after a closing quote", "double every quote"]),
        ("url\nu\nü\n".encode("latin-1"), ["not valid UTF-8", "byte 0xFC on line 3", "save the list as UTF-8"]),
        ("url\ru\rü\r".encode("latin-1"), ["line 3"]),
        (
            b"\xff\xfe" + "url\nu1".encode("utf-16-le") + b"\x00",
            ["not valid UTF-16", "line 2", "save the list as UTF-8"],
        ),
        (b"url\nu\x001\n", ["NUL character on line 2", "UTF-8"]),
        (b"PK\x03\x04" + bytes(range(256)), ["an Excel workbook or another zip archive", "save the list as CSV UTF-8"]),
        (bytes.fromhex("d0cf11e0a1b11ae1") + bytes(99), ["an old Excel workbook", "save the list as CSV UTF-8"]),
        (b"%PDF-1.7\n", ["a PDF document", "save the list as a CSV"]),
        (bz2.compress(b"url\nu\n"), ["compressed by bzip2", "decompress it first"]),
        (b"\n<!DOCTYPE html>\n<html>", ["a web page", "download the list itself"]),
        (b"<table><tr><td>url</td></tr>\n<tr><td>https://h/a</td></tr></table>\n", ["a web page"]),
        (b'"id","url"\n"1",1,"https://h/a"\n', ["line 2 has 3 cells", "give every column a name in the header"]),
        (b'[{"url": "https://h/a"},\n{"url": "https://h/b"}]\n', ["is JSON", "save the list as a CSV"]),
        (b'{"url": "https://h/a", "ti\n{"url": "https://h/b"}\n', ["is JSON", "save the list as a CSV"]),
        (b'{"url": "https://h/a"}\n{"url": "https://h/b"}\n', ["is JSON", "save the list as a CSV"]),
        (gzip.compress(b"url\nu\n", mtime=0)[:-9], ["damaged gzip", "again"]),
        (b"\x1f\x8bno gzip at all", ["damaged gzip"]),
    ],
)
def test_what_cannot_be_read_is_refused_with_cause_and_remedy(write: Write, content: bytes, words: list[str]) -> None:
    path = write(content)
    with pytest.raises(ListError) as raised:
        load_list(path)
    for word in [str(path), *words]:
        assert word in str(raised.value)


def test_a_file_that_is_not_there_or_is_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ListError, match=r"none\.csv does not exist: check the path"):
        load_list(tmp_path / "none.csv")
    with pytest.raises(ListError, match="is a folder, not a file: name the CSV"):
        load_list(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no named pipes in folders")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ListError, match="is a pipe or a device, not a file: save its content as a file first"):
        load_list(tmp_path / "pipe")


def test_the_limit_of_the_csv_module_is_left_as_it_was(write: Write) -> None:
    before = csv.field_size_limit(1000)
    try:
        load_list(write("url\n" + "u" * 2000))
        assert csv.field_size_limit() == 1000
        with pytest.raises(ListError):
            load_list(write('url\n"'))
        assert csv.field_size_limit() == 1000
    finally:
        csv.field_size_limit(before)


# load_list: lists as people have them

TWO = [["id", "title", "url"], ["1", "eins", "https://h/a.mp4"], ["2", "zwei", "https://h/b.mp4"]]


def lines(delimiter: str, *, before: str = "", after: str = "") -> str:
    return before + "".join(f"{delimiter.join(row)}{after}\n" for row in TWO)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(lines("|"), id="pipes"),
        pytest.param(lines(";", before="sep=;\r\n"), id="sep"),
        pytest.param(lines(",", before='"sep=,"\n'), id="sep in quotes"),
        pytest.param(lines("\t", before="sep=\t\n"), id="sep is a tab"),
        pytest.param(lines("^", before="SEP=^\n"), id="sep is something else"),
        pytest.param(lines(",", before="sep=;,,\n"), id="sep of before it was saved anew"),
        pytest.param(lines(";", after=";"), id="delimiter at every end"),
        pytest.param(lines(";", after=";;;"), id="delimiters at every end"),
        pytest.param("id,title,url\n1,eins,https://h/a.mp4,\n2,zwei,https://h/b.mp4, ,\n", id="delimiter behind rows"),
        pytest.param(lines(",", before="Export of 2024-05-01\n\n"), id="title"),
        pytest.param(lines(";", before="Export, of 2024\nFrom;2024-05-01\n;;\n\n"), id="titles"),
        pytest.param(lines(";", before="Video URL export;;\n;;\n"), id="title with delimiters"),
        pytest.param(lines(",", before="sep=,\nAds, and more\n"), id="sep and title"),
        pytest.param(lines(",", before="# of today\n# by me, at home\n# a, b, c, d\n"), id="remarks"),
        pytest.param("".join(f'"{line}"\n' for line in lines(",").splitlines()), id="lines quoted as a whole"),
        pytest.param('id,title,url\n"1,""eins"",https://h/a.mp4"\n2,zwei,https://h/b.mp4\n', id="some lines quoted"),
        pytest.param(lines(",").replace("\n", "\r\r\n"), id="CR CR LF"),
        pytest.param(lines(",") + "\0" * 512, id="NUL at the end"),
        pytest.param(lines(",") + "\x1a", id="Ctrl-Z at the end"),
        pytest.param(lines(",").rstrip() + "\x1a\0\0", id="both at the end"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
def test_a_list_is_read_as_people_have_it(write: Write, text: str, encoding: str) -> None:
    assert rows_of(load_list(write(text.encode(encoding)))) == TWO


@pytest.mark.parametrize(
    ("text", "cells"),
    [
        ('t,url\n"say \\"hi\\"",https://h/a\n', [["t", "url"], ['say "hi"', "https://h/a"]]),
        ('t,url\n"a \\", b",https://h/a\n', [["t", "url"], ['a ", b', "https://h/a"]]),
        ('t,url\n"\\"C:\\d\\"",https://h/a\n', [["t", "url"], ['"C:\\d"', "https://h/a"]]),
        ('t,url\n"\\"C:\\\\d\\\\",https://h/a\n', [["t", "url"], ['"C:\\d\\', "https://h/a"]]),
        ('t,url\n"C:\\d\\",https://h/a\n', [["t", "url"], ["C:\\d\\", "https://h/a"]]),
        ('t,url\nsay \\"hi\\",https://h/a\n', [["t", "url"], ['say \\"hi\\"', "https://h/a"]]),
        (",url,n\n0,https://h/a,1\n", [["column_1", "url", "n"], ["0", "https://h/a", "1"]]),
        ("id,url\n1,https://h/a\n,\nTotal: 1,\n", [["id", "url"], ["1", "https://h/a"], ["", ""], ["Total: 1", ""]]),
        ("My list\n\nurl\nhttps://h/a,b\n", [["url"], ["https://h/a,b"]]),
        ("#,url\n1,https://h/a\n", [["#", "url"], ["1", "https://h/a"]]),
        ("# id,video url\n1,https://h/a\n", [["# id", "video url"], ["1", "https://h/a"]]),
        ("# id,t,film\nx,y,z\na,b,https://h/a\n", [["# id", "t", "film"], ["x", "y", "z"], ["a", "b", "https://h/a"]]),
        ("https:/h/a\nhttps://h/b\n", [["url"], ["https:/h/a"], ["https://h/b"]]),
        ("1,blob:https://h/1\n2,https://h/b\n", [["column_1", "url"], ["1", "blob:https://h/1"], ["2", "https://h/b"]]),
        ("magnet:?xt=a;b\nhttps://h/b\n", [["url"], ["magnet:?xt=a;b"], ["https://h/b"]]),
        ("data:video/mp4;base64,A\nhttps://h/b\n", [["url"], ["data:video/mp4;base64,A"], ["https://h/b"]]),
        (
            "- https://h/a\n- https://h/b\nhttps://h/c\nhttps://h/d\n",
            [["url"], ["- https://h/a"], ["- https://h/b"], ["https://h/c"], ["https://h/d"]],
        ),
        ("'https://h/a',\n'https://h/b'\n", [["url"], ["'https://h/a'"], ["'https://h/b'"]]),
        ("Data: oggi,url\n1,https://h/a\n", [["Data: oggi", "url"], ["1", "https://h/a"]]),
        ("a,b\nx,\ny,\n", [["a", "b"], ["x", ""], ["y", ""]]),
        ("film\nno link yet\nhttps://h/a\n", [["film"], ["no link yet"], ["https://h/a"]]),
        (",film\n1,no link yet\n2,https://h/a\n", [["column_1", "film"], ["1", "no link yet"], ["2", "https://h/a"]]),
        (
            "name,,\nx,y,z\na,b,https://h/a\n",
            [["name", "column_2", "column_3"], ["x", "y", "z"], ["a", "b", "https://h/a"]],
        ),
        ("Ads,,\n,,\nname,n,clip\na,b,https://h/a\n", [["name", "n", "clip"], ["a", "b", "https://h/a"]]),
        (
            "name,clip\nfirst,none yet\nsecond,https://h/a\n",
            [["name", "clip"], ["first", "none yet"], ["second", "https://h/a"]],
        ),
        (
            "https://h/a.mp4;jsessionid=1\nhttps://h/b.mp4;jsessionid=2\n",
            [["url"], ["https://h/a.mp4;jsessionid=1"], ["https://h/b.mp4;jsessionid=2"]],
        ),
        (
            "https://h/a.mp4;v=1;w=2\nhttps://h/b.mp4;v=1;w=3\n",
            [["url"], ["https://h/a.mp4;v=1;w=2"], ["https://h/b.mp4;v=1;w=3"]],
        ),
        (
            "https://h/a.mp4;one\nhttps://h/b.mp4;two\n",
            [["url", "column_2"], ["https://h/a.mp4", "one"], ["https://h/b.mp4", "two"]],
        ),
        ("https://h/a|b\nhttps://h/c|d\n", [["url"], ["https://h/a|b"], ["https://h/c|d"]]),
    ],
)
def test_nothing_of_an_odd_list_is_lost(write: Write, text: str, cells: Cells) -> None:
    assert rows_of(load_list(write(text))) == cells


def test_what_was_left_out_above_the_list_is_counted(write: Write) -> None:
    assert read_list(write(lines(","))).lines_above == 0
    read = read_list(write(lines(";", before="sep=;\nExport\n\n")))
    assert read.lines_above == 3
    assert str(read) == ("UTF-8, semicolons, lines that end with LF; left out at the top: 3 that hold no rows")


# Dialects

DIALECTS = [
    Dialect(delimiter=delimiter, encoding=encoding, has_mark=has_mark, line_end=line_end)
    for delimiter in ",;\t|"
    for encoding, has_mark in (("utf-8", False), ("utf-8", True), ("utf-16-le", True), ("utf-16-be", True))
    for line_end in ("\n", "\r\n")
]
PLAIN_CELL = st.text(st.sampled_from("aé中 ,;|\t\"'\n\\.=-0"), max_size=8)
WHOLE_TABLES = st.lists(st.tuples(PLAIN_CELL, PLAIN_CELL), min_size=1, max_size=6)


@given(st.sampled_from(DIALECTS), WHOLE_TABLES)
def test_a_dialect_comes_back_with_every_cell(
    tmp_path_factory: pytest.TempPathFactory, dialect: Dialect, cells: list[tuple[str, str]]
) -> None:
    rows = [[f"https://h/{row}", *pair] for row, pair in enumerate(cells)]
    frame = pd.DataFrame(rows, columns=["url", "a,b;c|d", "n"], dtype="str")
    path = tmp_path_factory.mktemp("dialect") / "table.csv"
    save_table(frame, path, dialect=dialect)
    read = read_list(path)
    assert (read.dialect, read.lines_above) == (dialect, 0)
    pd.testing.assert_frame_equal(read.table, frame)
    pd.testing.assert_frame_equal(load_table(path), frame)
    pd.testing.assert_frame_equal(load_list(path), frame)


@st.composite
def foreign_lists(draw: st.DrawFn) -> tuple[bytes, Cells]:
    """A list as some program writes it, and its cells."""
    pairs = draw(WHOLE_TABLES)
    # Single quotes and signs would be those of formulas, which have tests of their own.
    cells = [["id", "url", "title"]] + [
        [f"n{row}", f"https://h/{row}", "x" + "".join(pair)] for row, pair in enumerate(pairs)
    ]
    delimiter = draw(st.sampled_from(",;\t|"))
    line_end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    text = io.StringIO()
    csv.writer(
        text,
        delimiter=delimiter,
        lineterminator=line_end,
        # The csv module leaves a lone line feed bare where lines end with a carriage return.
        quoting=csv.QUOTE_ALL if line_end == "\r" else draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])),
    ).writerows(cells)
    written = text.getvalue()
    match draw(st.sampled_from(["as it is", "line by line", "ends"])):
        case "line by line":
            whole = io.StringIO()
            records = csv.reader(io.StringIO(written, newline=""), delimiter=delimiter)
            for record in records:
                inner = io.StringIO()
                csv.writer(inner, delimiter=delimiter, lineterminator="\r\n").writerow(record)
                csv.writer(whole, delimiter=delimiter, lineterminator=line_end, quoting=csv.QUOTE_ALL).writerow(
                    [inner.getvalue().removesuffix("\r\n")]
                )
            written = whole.getvalue()
        case "ends":
            ended = io.StringIO()
            rows = csv.writer(ended, delimiter=delimiter, lineterminator=line_end, quoting=csv.QUOTE_ALL)
            rows.writerows([*row, ""] for row in cells)
            written = ended.getvalue()
    title = draw(st.sampled_from(["", f"sep={delimiter}", "Export of today", "Ads, all of them; and more"]))
    before = f"{title}{line_end}" if title else ""
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
    after = draw(st.sampled_from(["", "\x1a", "\0\0\0"]))
    return (before + written + after).encode(encoding), cells


@given(foreign_lists())
@settings(max_examples=100)
def test_a_list_of_any_program_keeps_its_cells_and_rows(
    tmp_path_factory: pytest.TempPathFactory, written: tuple[bytes, Cells]
) -> None:
    data, cells = written
    path = tmp_path_factory.mktemp("foreign") / "list.csv"
    path.write_bytes(data)
    assert rows_of(load_list(path)) == cells


@pytest.mark.parametrize(
    ("content", "dialect"),
    [
        (lines(";").replace("\n", "\r\n").encode("utf-8-sig"), Dialect(delimiter=";", has_mark=True, line_end="\r\n")),
        (gzip.compress(lines("\t").encode(), mtime=0), Dialect(delimiter="\t")),
        (lines(",").replace("\n", "\r").encode(), Dialect()),
        (lines("^", before="sep=^\n").encode(), Dialect()),
        (lines(",").replace("\n", "\r\r\n").encode(), Dialect(line_end="\r\n")),
        (lines("|").encode("utf-16-le"), Dialect(delimiter="|", encoding="utf-16-le", has_mark=True)),
        (b'"a\nb";url\r\nx;https://h/a\r\n', Dialect(delimiter=";", line_end="\r\n")),
        (b"url\nhttps://h/a\n", Dialect()),
    ],
)
def test_a_dialect_is_that_of_the_list_as_far_as_programs_know_it(
    write: Write, content: bytes, dialect: Dialect
) -> None:
    assert read_list(write(content)).dialect == dialect


@pytest.mark.parametrize("dialect", DIALECTS, ids=str)
def test_a_table_without_rows_is_read_in_every_dialect(tmp_path: Path, dialect: Dialect) -> None:
    for columns in (["url", "status"], ["url"]):
        save_table(table({name: [] for name in columns}), tmp_path / "table.csv", dialect=dialect)
        assert rows_of(load_table(tmp_path / "table.csv")) == [columns]


def test_cells_with_an_apostrophe_of_ours_are_counted() -> None:
    assert count_guarded(table({"url": ["https://h/a", "b"], "t": ["=1", "-5"], "u": ["+x", "'=1"]})) == 3
    assert count_guarded(pd.DataFrame({"n": [-0.5, 1]})) == 0


# find_url_column


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        ({"link": ["x"], "URL": ["https://h/1"]}, "URL"),
        ({"title": ["x"], " Url ": ["https://h/1"]}, " Url "),
        ({"title": ["https://h/a"], "videoUrl": ["https://h/1"]}, "videoUrl"),
        ({"hourly": ["x"], "curl": ["x"], "source": ["x"], "video_links": ["", "x", "//h/1"]}, "video_links"),
        ({"a": ["x"], "img-src2": ["https://h/1"]}, "img-src2"),
        ({"a": ["x", "y"], "b": ["//h/1", "y"]}, "b"),
        ({"a": ["x", "https://h/1", "", " "], "b": ["x", "y", "", ""]}, "a"),
        ({"a": ["x", "y", "https://h/1"], "b": ["https%3A%2F%2Fh", "", ""]}, "b"),
        ({"thumb_url": ["x"], "video_url": ["https://h/a"]}, "video_url"),
        ({"a": ["x.txt"], "b": ["clips/1.mp4"]}, "b"),
        ({"a": ["clips/1.mp4"], "b": ["https://h/1"]}, "b"),
        ({"video_url": ["https://h/1"], "original_url": ["//h/1"]}, "video_url"),
        ({"original_url": ["https://h/1"]}, "original_url"),
        ({"film": ["https://h/1", "https://h/2"], "original_url": ["", "//h/2"]}, "film"),
        ({"film_link": ["https://h/1"], "preview": ["https://h/1.gif"], "file": ["1.mp4"]}, "film_link"),
        ({"film_link": ["https://h/1.mp4"], "other": ["https://h/2.mp4"]}, "film_link"),
    ],
)
def test_the_url_column_is_found_by_name_then_by_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: dict[str, list[str]], found: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "1.mp4").touch()
    columns = {name: cells + [""] * (max(map(len, columns.values())) - len(cells)) for name, cells in columns.items()}
    assert find_url_column(table(columns)) == found


def test_a_named_url_column_is_taken() -> None:
    frame = table({"url": ["x"], "Video": ["https://h/1"], "a": ["https://h/2"], "A": ["z"]})
    assert find_url_column(frame, url_column="a") == "a"
    assert find_url_column(frame, url_column="video ") == "Video"
    with pytest.raises(ListError, match=r"url_column = 'film' is not a column .* 'url', 'Video', 'a', 'A'"):
        find_url_column(frame, url_column="film")
    with pytest.raises(ListError, match="is not a column"):
        find_url_column(table({"a": ["z"], "A": ["z"]}), url_column=" a")


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"url": ["x"], "URL": ["x"]}, "several .*'url', 'URL'.* set url_column"),
        ({"a_url": ["x"], "b_url": ["x"], "c": ["x"]}, "several .*'a_url', 'b_url'\\).* set url_column"),
        ({"a": ["https://h/1"], "b": ["https://h/1"], "c": ["x"]}, "several .*'a', 'b'\\).* set url_column"),
        ({"thumb_link": ["https://h/1.jpg"], "film": ["https://h/1.mp4"]}, "several .*'thumb_link', 'film'\\)"),
        ({"a": ["x"], "b": [""]}, "no column looks like URLs.* set url_column to one of 'a', 'b'"),
        ({}, "no column looks like URLs.* none"),
    ],
)
def test_no_url_column_is_guessed(columns: dict[str, list[str]], words: str) -> None:
    with pytest.raises(ListError, match=words):
        find_url_column(table(columns))


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (
            {"url": ["Best ad", "x"]},
            "no cell of column 'url' holds .*row 1 holds 'Best ad': give a list .* one of 'url'",
        ),
        ({"url": ["", " "]}, "all its cells are empty"),
        ({"url": ["", "7"], "film": ["https://h/a", ""]}, "row 2 holds '7': set url_column to the .* such as 'film'"),
        ({"url": ["www.h.example/a.mp4"]}, "write https:// in front of every URL"),
        ({"url": ["127.0.0.1:80/a.mp4"]}, "write https:// in front of every URL"),
        ({"url": ["ftp://h/a.mp4"]}, "only http and https can be fetched"),
        ({"url": ["none/a.mp4"]}, "row 1 holds 'none/a.mp4'"),
        ({"url": ["https://h h/a"]}, "row 1 holds 'https://h h/a'"),
        ({"url": ["u" * 300]}, "row 1 holds 'u{79}…'"),
        (
            {"url": ["https://h/a", "https://h/b, https://h/c"]},
            "row 2 of column 'url' holds 2 URLs .* a row of its own",
        ),
        ({"url": ["https://h/a\nhttps://h/a"]}, "row 1 of column 'url' holds 2 URLs"),
        ({"url": ['["https://h/a","https://h/b","https://h/c"]']}, "row 1 of column 'url' holds 3 URLs"),
        ({"url": ["https://h/a https://h/b"] * 9}, "so do the rows 2, 3, 4, 5 and 4 more: give"),
        ({"url": ["https://h/a;https://h/b"]}, "2 URLs .*write the comma, semicolon or blank in it as %2C, %3B, %20"),
        ({"url": ["https://u:secret@h/a https://h/b"]}, "'https://h/a and https://h/b'"),
    ],
)
def test_a_column_without_a_url_or_with_several_in_a_cell_is_refused(columns: dict[str, list[str]], words: str) -> None:
    with pytest.raises(ListError, match=f"(?s){words}"):
        find_url_column(table(columns))


def test_one_usable_url_is_enough() -> None:
    assert find_url_column(table({"url": ["", "x", '=HYPERLINK("https://h/a";"film")']})) == "url"
    assert find_url_column(table({"url": ["https://h/?next=https://a,https://b"]})) == "url"


# save_table

ANY_CELL = st.text(st.characters(codec="utf-8", exclude_characters="\0")) | st.sampled_from(
    ["\r", "\n", "\r\n", '"', '""', ",", ";", "\t", "\ufeff", "https://h/a,b", " ", "\u2028", "\x85", "\x1c", "'", "NA"]
)
FORMULAS = (
    *(
        "=1+1",
        "=cmd|' /C calc'!A0",
        '=HYPERLINK("http://h/?"&A1)',
        "+1+cmd|x!A",
        "-1+A1",
        "- item",
        "@SUM(A1)",
        "@name",
    ),
    *(
        "\t=1",
        "\r=1",
        "\n=1",
        "＝1+1",
        "＋A1",
        "－A1",
        "＠A1",
        "\ufeff=1",
        "=",
        "-2+3+cmd|' /C calc'!D2",
        "+1e5A",
        "-é",
    ),
)
"""Cells that a spreadsheet runs, or may run."""

HARMLESS = (
    *("-5", "+49 30 123456", "+49 (30) 12-34/5", "-1,234.5", "-1.5e-3", "+2E+10", "-12 %", "-", "--", "+", "-07:30"),
    *("a=1", " =1", "'", "'quoted'", "'-5", "''", "https://h/a?b=+c", "5-3", "me@h.example", "clips/-x.mp4", ""),
)
FORMULA_CELL = st.builds("{}{}{}".format, st.text("'", max_size=3), st.sampled_from([*FORMULAS, *HARMLESS]), ANY_CELL)


def raw_cells(path: Path) -> list[str]:
    """Every cell of a file as a spreadsheet sees it."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        return [cell for record in csv.reader(file) for cell in record]


def is_run(cell: str) -> bool:
    """Whether a spreadsheet may run a cell: by its first character, unless it is made of a number's characters."""
    bare = cell.lstrip("\ufeff")
    numeric = set("0123456789+-.,:/()% eE")
    return bare[:1] in set("=+-@\t\r\n＝＋－＠") and bool(bare) and not (bare[0] in "+-" and set(bare) <= numeric)


@given(
    st.integers(2, 4).flatmap(lambda width: st.lists(st.lists(ANY_CELL, min_size=width, max_size=width), min_size=1))
)
def test_what_is_saved_is_loaded(tmp_path_factory: pytest.TempPathFactory, cells: Cells) -> None:
    frame = pd.DataFrame(cells, columns=["url", "title, or; name", 'say "x"', "Länge"][: len(cells[0])], dtype="str")
    path = tmp_path_factory.mktemp("round") / "table.csv"
    save_table(frame, path)
    pd.testing.assert_frame_equal(load_list(path), frame)


@pytest.mark.parametrize(
    "text",
    ["sep=;\r\nurl;title\r\nhttps://h/a;x\r\n", "url;title\n\nhttps://h/a;x;;\n", "url;title\nhttps://h/a;x\n;\n"],
)
def test_a_table_of_ours_that_a_spreadsheet_saved_is_read_too(tmp_path: Path, text: str) -> None:
    (tmp_path / "table.csv").write_text(text, newline="")
    found = load_table(tmp_path / "table.csv", columns=["url", "title"])
    assert found.to_numpy().tolist()[0] == ["https://h/a", "x"]


MISLEADING = st.sampled_from(
    ["https://h/a.mp4", "https://h/b;;", "videos/a.mp4,,", "sep=;", "a;b", "a|b", "# title", "", "7", "x\ty", '"q"']
)
"""Cells, and names of columns, by which another table would be taken for a list with another delimiter or header."""


@given(
    columns=st.lists(MISLEADING.filter(bool), min_size=1, max_size=3, unique=True),
    cells=st.lists(st.lists(MISLEADING, min_size=3, max_size=3)),
    delimiter=st.sampled_from(DELIMITERS),
)
def test_a_table_of_ours_comes_back_whatever_it_holds(
    tmp_path_factory: pytest.TempPathFactory, columns: list[str], cells: Cells, delimiter: str
) -> None:
    frame = pd.DataFrame([row[: len(columns)] for row in cells], columns=columns, dtype="str")
    path = tmp_path_factory.mktemp("ours") / "table.csv"
    save_table(frame, path, dialect=Dialect(delimiter=delimiter))
    pd.testing.assert_frame_equal(load_table(path), frame)


@given(st.lists(st.lists(FORMULA_CELL | ANY_CELL, min_size=3, max_size=3), min_size=1))
def test_no_cell_that_is_saved_runs_and_every_one_is_loaded(
    tmp_path_factory: pytest.TempPathFactory, cells: Cells
) -> None:
    frame = pd.DataFrame(cells, columns=["url", "=title", "'@note"], dtype="str")
    path = tmp_path_factory.mktemp("round") / "table.csv"
    save_table(frame, path)
    assert not list(filter(is_run, raw_cells(path)))
    pd.testing.assert_frame_equal(load_list(path), frame)
    once = path.read_bytes()
    save_table(load_list(path), path)
    assert path.read_bytes() == once


@pytest.mark.parametrize("cell", FORMULAS)
def test_a_formula_gets_an_apostrophe_even_as_a_header(tmp_path: Path, cell: str) -> None:
    save_table(table({cell: [cell], "url": ["https://h/a"]}), tmp_path / "table.csv")
    assert raw_cells(tmp_path / "table.csv") == [f"'{cell}", "url", f"'{cell}", "https://h/a"]
    assert rows_of(load_list(tmp_path / "table.csv")) == [[cell, "url"], [cell, "https://h/a"]]


@pytest.mark.parametrize("cell", HARMLESS)
def test_what_is_no_formula_is_written_as_it_is(tmp_path: Path, cell: str) -> None:
    save_table(table({"title": [cell], "url": ["https://h/a"]}), tmp_path / "table.csv")
    assert raw_cells(tmp_path / "table.csv")[2] == cell
    assert load_list(tmp_path / "table.csv")["title"].tolist() == [cell]


def test_numbers_of_ours_are_no_formulas(tmp_path: Path) -> None:
    save_table(pd.DataFrame({"offset_s": [-0.5, float("nan")], "n": [-1, 2]}), tmp_path / "table.csv")
    assert raw_cells(tmp_path / "table.csv") == ["offset_s", "n", "-0.5", "-1", "", "2"]


@given(st.lists(st.sampled_from([*FORMULAS, "https://h/a", "HTTPS://h/a", "'=1"]), max_size=8))
def test_the_report_on_text_copies_comes_back(tmp_path_factory: pytest.TempPathFactory, urls: list[str]) -> None:
    frame = table({"url": [*urls, *urls, "x"], "=note": [*urls, *reversed(urls), "x"]})
    folder = tmp_path_factory.mktemp("split")
    for name, one in zip("ab", split_text_copies(frame, url_column="url"), strict=True):
        if len(one):
            save_table(one, folder / name)
            assert not list(filter(is_run, raw_cells(folder / name)))
            assert rows_of(load_list(folder / name)) == rows_of(one.astype(str))


def test_a_file_name_that_is_too_long_is_refused_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(
        RunFolderError, match=r"cannot write .*a\.csv: .*Give the list a shorter name, or name the output"
    ):
        save_table(table({"url": ["x"]}), tmp_path / f"{'a' * 260}.csv")
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="make the place writable"):
        save_table(table({"url": ["x"]}), tmp_path / "file" / "a.csv")


def test_quoted_line_ends_do_not_outvote_the_delimiter(tmp_path: Path) -> None:
    frame = table({"url": ['\n\t".mp4'], "a; b": ["\r\t\r;"], "c,d;e\t": [""]})
    save_table(frame, tmp_path / "table.csv")
    pd.testing.assert_frame_equal(load_list(tmp_path / "table.csv"), frame)


def test_a_single_column_with_a_plain_header_is_loaded_too(tmp_path: Path) -> None:
    frame = table({"url": ["https://h/a,b", "", "c;d", 'e "f"', '"', "g\nh"]})
    save_table(frame, tmp_path / "table.csv")
    pd.testing.assert_frame_equal(load_list(tmp_path / "table.csv"), frame)


def test_a_table_is_written_plainly(tmp_path: Path) -> None:
    path = tmp_path / "new" / "table.csv"
    frame = pd.DataFrame(
        {"url": ["ü", "a,b", "c\rd", None], "similarity": [0.95, 1.0, float("nan"), 0.1], "row": [1, 2, 3, 4]}
    )
    save_table(frame, path)
    assert path.read_bytes() == 'url,similarity,row\nü,0.95,1\n"a,b",1.0,2\n"c\rd",,3\n,0.1,4\n'.encode()
    assert [file.name for file in path.parent.iterdir()] == ["table.csv"]


def test_a_table_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    save_table(table({"url": ["old"]}), path)
    with pytest.raises(UnicodeEncodeError):
        save_table(pd.DataFrame({"url": ["new", "\udcff"]}, dtype=object), path)
    assert path.read_text(encoding="utf-8") == "url\nold\n"
    assert list(tmp_path.iterdir()) == [path]


# free_column_name, decode_list, split_text_copies


def test_a_free_column_name_is_found() -> None:
    frame = table({"a": [], "b": [], "b_2": []})
    assert [free_column_name(frame, wanted) for wanted in ("c", "a", "b")] == ["c", "a_2", "b_3"]


def test_a_decoded_list_keeps_what_was_found_where_it_changed() -> None:
    frame = table({"url": ["%2F%2Fh%2Fa", "https://h/b"], "original_url": ["x", "y"]})
    before = frame.copy()
    decoded = decode_list(frame, url_column="url")
    assert rows_of(decoded) == [
        ["url", "original_url", "original_url_2"],
        ["//h/a", "x", "%2F%2Fh%2Fa"],
        ["https://h/b", "y", ""],
    ]
    pd.testing.assert_frame_equal(frame, before)
    assert set(decoded.dtypes) == set(before.dtypes)


def test_a_list_that_needs_no_decoding_stays_as_it_is() -> None:
    frame = table({"title": ["x"], "url": ["https://h/b"]})
    decoded = decode_list(frame, url_column="url")
    pd.testing.assert_frame_equal(decoded, frame)
    assert decoded is not frame


def test_text_copies_are_split_off_with_their_reasons() -> None:
    frame = table(
        {
            "title": ["one", "two", "three", "four", "five", "six"],
            "link": ["http://h/a", "", "HTTP://h/a/", "http://h/b", "", "http://h/a"],
            "row": ["r1", "r2", "r3", "r4", "r5", "r6"],
            "url": ["z"] * 6,
        }
    )
    unique, report = split_text_copies(frame, url_column="link")
    pd.testing.assert_frame_equal(unique, frame.iloc[[0, 1, 3, 4]].reset_index(drop=True))
    assert rows_of(report) == [
        ["url", "duplicate_of", "rule", "row", "first_row", "read_by", "title", "row_2", "url_2"],
        ["HTTP://h/a/", "http://h/a", "scheme case, trailing slash", 3, 1, "", "three", "r3", "z"],
        ["http://h/a", "http://h/a", "identical text", 6, 1, "", "six", "r6", "z"],
    ]


def test_what_an_earlier_run_has_read_is_set_aside_with_its_name() -> None:
    frame = table({"url": ["http://h/new", "HTTP://h/old", "http://h/new/", "http://h/old", "//h/old", ""]})
    unique, report = split_text_copies(frame, url_column="url", before={"http://h/old": "week 47", "http://x": "ads"})
    assert unique["url"].tolist() == ["http://h/new", ""]
    assert report.astype(object).where(report.notna(), "").to_numpy().tolist() == [
        ["HTTP://h/old", "http://h/old", "scheme case", 2, "", "week 47"],
        ["http://h/new/", "http://h/new", "trailing slash", 3, 1, ""],
        ["http://h/old", "http://h/old", "identical text", 4, "", "week 47"],
        ["//h/old", "http://h/old", "no scheme", 5, "", "week 47"],
    ]


def test_the_report_on_many_columns_keeps_each_of_them() -> None:
    names = [f"c{number}" for number in range(5000)]
    frame = table(
        {"url": ["http://h/a"] * 2, "row": ["r1", "r2"], "row_2": ["x", "y"]} | {name: ["", ""] for name in names}
    )
    _, report = split_text_copies(frame, url_column="url")
    assert list(report.columns) == [*REPORT_COLUMNS, "row_3", "row_2", *names]
    assert report[["row", "row_3", "row_2"]].to_numpy().tolist() == [[2, "r2", "y"]]


def test_options_decide_what_is_a_copy() -> None:
    frame = table({"url": ["http://h/A?utm=1", "http://h/a"]})
    assert len(split_text_copies(frame, url_column="url")[1]) == 0
    unique, report = split_text_copies(frame, url_column="url", ignore_path_case=True, drop_query_parameters=["utm"])
    assert unique["url"].tolist() == ["http://h/A?utm=1"]
    assert report["rule"].tolist() == ["path case, query parameters"]


@pytest.mark.parametrize("urls", [[], ["http://h/a"], ["", ""]])
def test_a_list_without_copies_gives_an_empty_report_with_its_columns(urls: list[str]) -> None:
    frame = table({"url": urls, "title": urls})
    unique, report = split_text_copies(frame, url_column="url")
    pd.testing.assert_frame_equal(unique, frame, check_index_type=False)
    assert list(report.columns) == [*REPORT_COLUMNS, "title"]
    assert len(report) == 0
    assert report["row"].dtype == "int64"


@given(st.lists(st.sampled_from(["http://h/a", "http://h/a/", "http://h/b", "HTTP://H/b", "", "x.mp4"]), max_size=15))
def test_no_row_is_lost_or_doubled(urls: list[str]) -> None:
    frame = table({"url": urls, "number": [str(number) for number in range(len(urls))]})
    unique, report = split_text_copies(frame, url_column="url")
    assert sorted([*unique["number"], *report["number"]], key=int) == frame["number"].tolist()
    assert [int(number) + 1 for number in report["number"]] == report["row"].tolist()
    for copy in report.to_dict("records"):
        assert copy["duplicate_of"] == urls[copy["first_row"] - 1]
        assert copy["duplicate_of"] in set(unique["url"])

"""What is shown of text from outside: no character that a terminal obeys, no user and no password."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup_lib.sanitise import printable, sanitise, sanitise_line, without_credentials

HOSTILE = st.text(
    st.sampled_from("\x00\x07\x08\r\x1b[]31m\x7f\x9b\x85\u2028\u202e\u2066\udc9b\n\t:/@?#%2540F aé中") | st.characters()
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("bell\a back\b over\rwritten", "bell\\x07 back\\x08 over\\rwritten"),
        ("\x9b2J \x9d0;title\x9c", "\\x9b2J \\x9d0;title\\x9c"),
        ("a\u202egpj.exe\u2066", "a\\u202egpj.exe\\u2066"),
        ("lone \ud800", "lone \\ud800"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("Grüße 中文 👩\u200d🚀 \u200fשלום \xa0", "Grüße 中文 👩\u200d🚀 \u200fשלום \xa0"),
    ],
)
def test_what_would_be_obeyed_is_spelt_out(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(HOSTILE | st.text("/@:\\\r\x1ba?%"))
def test_nothing_is_left_to_obey(text: str) -> None:
    shown = sanitise(text)
    assert {unicodedata.category(character) for character in shown if character not in "\t\n"}.isdisjoint({"Cc", "Cs"})
    assert sanitise(shown) == shown
    assert len(sanitise_line(text).splitlines()) <= 1
    shown.encode()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://user:pass@host/a.mp4", "https://host/a.mp4"),
        ("https://token@host:8080/a?b=c@d", "https://host:8080/a?b=c@d"),
        ("HTTPS://us%40er:p@ss:w%2Ford@host", "HTTPS://host"),
        ("//user:pass@host/", "//host/"),
        ("cannot read 'ftp://u:p@h/x' or https://u:p@g", "cannot read 'ftp://h/x' or https://g"),
        ("https%3A%2F%2Fuser%3Apass%40host%2Fa", "https%3A%2F%2Fhost%2Fa"),
        ("https%253a%252f%252fuser:pa%25252Fss%2540host%252fx%2540", "https%253a%252f%252fhost%252fx%2540"),
        ("https%3A//user%3Apass%40host/a", "https%3A//host/a"),
        ("https://user:pa/ss@host/a", "https://host/a"),
        (r'{"url": "https:\/\/user:pass@host\/a"}', r'{"url": "https:\/\/host\/a"}'),
        (r"https:\\user:pass@host\a", r"https:\\host\a"),
        ("https:/user:pass@host/a", "https:/host/a"),
        ("//@/user:pass@host/a", "//host/a"),
        ("%2F%2F%40%2Fuser%40host", "%2F%2Fhost"),
        ("https://user:pa#ss@host/a", "https://host/a"),
        ("https://host/@user/a", "https://host/@user/a"),
        ("https://host:8080/@user/a", "https://host:8080/@user/a"),
        ("https://host?mail=a@b", "https://host?mail=a@b"),
        ("a@b.example, not //h x@y", "a@b.example, not //h x@y"),
        ("clips/a@b.mp4", "clips/a@b.mp4"),
        (r"C:\clips\a@b.mp4", r"C:\clips\a@b.mp4"),
    ],
)
def test_a_url_is_shown_without_its_credentials(text: str, shown: str) -> None:
    assert without_credentials(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "//a:b" * 13_000,
        "//" * 30_000,
        "%2F" * 20_000,
        "//" + "@" * 60_000 + "/",
        "//a:" + "%" * 60_000,
        "//" + "@/" * 30_000,
        "https:" + "\\" * 60_000,
    ],
)
def test_no_text_takes_long(text: str) -> None:
    start_s = time.monotonic()
    sanitise(text)
    assert time.monotonic() - start_s < 2

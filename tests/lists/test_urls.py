"""What a URL of a list means: repaired spelling, keys of equal URLs, the form for a request."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dedup_lib.lists.markup import split_urls
from dedup_lib.lists.urls import (
    RULES,
    TextCopy,
    decode_url,
    find_text_copies,
    is_local_path,
    is_web_url,
    normalise_url,
    url_for_request,
)

# Text made of what URLs are made of: plain random text would hardly ever be one.
# fmt: off
PIECES = st.sampled_from([
    "https", "HTTP", "http", ":", "//", "/", "?", "#", "&", "=", "@", ".", "%", "~", "a", "B", "é", "ü", "ß", "İ", "。",
    "%25", "%2F", "%2f", "%3A", "%3F", "%41", "%7e", "%FF", "%C3%BC", "%00", "%0A", "%zz", "%2", ":80", ":443", "[::1]",
    "[", "]", "host", "example.com", "1.2.3.4", "utm_a", "sig=", "token", "\\", '"', "'", "<", ">", "“", "”", "\ufeff",
    "\u200b", "\n", " ", "\udcff", "[", "](", ")", "{", "=HYPERLINK(", "<a href=", "&amp;", "&#38;", "|",
])
# fmt: on
ANY_TEXT = st.text(st.characters(codec=None), max_size=30)
URL_LIKE = st.lists(PIECES | st.characters(codec=None), max_size=12).map("".join)
WEB_URL = URL_LIKE.map("https://h.example/".__add__)
ANYTHING = st.one_of(ANY_TEXT, URL_LIKE, WEB_URL, URL_LIKE.map("HTTP://".__add__))


# split_urls


@pytest.mark.parametrize(
    ("cell", "urls"),
    [
        ("https://h/a\nhttps://h/b", ["https://h/a", "https://h/b"]),
        ("https://h/a , HTTP://h/b;https://h/c", ["https://h/a", "HTTP://h/b", "https://h/c"]),
        ("https://h/a|https://h/b https://h/b", ["https://h/a", "https://h/b", "https://h/b"]),
        ('["https://h/a", "https:\\/\\/h\\/b"]', ["https://h/a", "https://h/b"]),
        ("<a href=https://h/a>a</a><a href=https://h/b>b</a>", ["https://h/a", "https://h/b"]),
        ("[a](https://h/a) [b](https://h/b)", ["https://h/a", "https://h/b"]),
    ],
)
def test_several_urls_in_a_cell_are_told_apart(cell: str, urls: list[str]) -> None:
    assert split_urls(decode_url(cell)) == urls


def test_a_million_blanks_in_a_cell_are_no_hindrance() -> None:
    cell = f"https://h/a{' ' * 1_000_000}b"
    assert split_urls(cell) == [cell]
    assert split_urls(f"{cell}{' ' * 1_000_000}https://h/c") == [cell, "https://h/c"]


@pytest.mark.parametrize(
    "cell",
    [
        "https://h/a,b c;d|e.mp4",
        "https://web.archive.org/web/2020/https://h/a",
        "https://h/?next=https://h/a,https://h/b",
        "<a href='https://h/a'>https://h/b</a>",
        "videos/a.mp4",
        "",
    ],
)
def test_what_is_one_url_stays_one(cell: str) -> None:
    assert split_urls(decode_url(cell)) == [decode_url(cell)]


# decode_url


@pytest.mark.parametrize(
    ("found", "meant"),
    [
        ("https://h/a.mp4", "https://h/a.mp4"),
        ("", ""),
        ("  \t ", ""),
        (" https://h/a\n", "https://h/a"),
        ("\ufeffhttps://h/a\u200b", "https://h/a"),
        ("'https://h/a'", "https://h/a"),
        ('“ "https://h/a" ”', "https://h/a"),
        ("<https://h/a>", "https://h/a"),
        ("`https://h/a`", "https://h/a"),
        ("\"https://h/a'", "\"https://h/a'"),
        ('"', '"'),
        ("//h/a", "//h/a"),
        (" '//h/%7Ea' ", "//h/~a"),
        ("%2F%2Fh%2Fa", "//h/a"),
        ("%252f%252fh%252fa", "//h/a"),
        ("https%3A%2F%2Fh%2Fa", "https://h/a"),
        ("HTTPS%3a%2f%2fh%2fa", "HTTPS://h/a"),
        ("http%253A%252F%252Fh%252Fa%253Fb%253D1", "http://h/a?b=1"),
        ("https:%2F%2Fh%2Fa", "https://h/a"),
        ("https%3A//h/a%2520b", "https://h/a%20b"),
        ('"https%3A%2F%2Fh%2Fa"', "https://h/a"),
        ("%20https%3A%2F%2Fh%2Fa", "%20https%3A%2F%2Fh%2Fa"),
        ("https%3A%2F%2Fh%2Fa%0A", "https://h/a"),
        ("«https://h/a»", "https://h/a"),
        ("\u00a0https://h/a\u00a0\u200b\ufeff", "https://h/a"),
        ("https://h/a?x=1&amp;y=2&amp;amp;z=3", "https://h/a?x=1&y=2&z=3"),
        ("https://h/a?x=1&copy=2&amp", "https://h/a?x=1&copy=2&amp"),
        ("https:&#x2F;&#47;h/a", "https://h/a"),
        ('=HYPERLINK("https://h/a","film")', "https://h/a"),
        ('=hyperlink( "https://h/a" ; "the ""film""" )', "https://h/a"),
        ('=LIEN_HYPERTEXTE("//h/a")', "//h/a"),
        ('=HYPERLINK("https%3A%2F%2Fh%2Fa")', "https://h/a"),
        ('=HYPERLINK(A2,"film")', '=HYPERLINK(A2,"film")'),
        ("[film](https://h/a)", "https://h/a"),
        ('[film](<https://h/a_(1).mp4> "title")', "https://h/a_(1).mp4"),
        ("[![film](https://h/a.jpg)](https://h/a)", "https://h/a"),
        ("<https://h/a|film>", "https://h/a"),
        ('<a class="x" href="https://h/a?b=1&amp;c=2" target=_blank><b>film</b></a>', "https://h/a?b=1&c=2"),
        ("<a href='https://h/a'><img src='https://h/a.jpg'></a>", "https://h/a"),
        ("<video><source src=https://h/a type='video/mp4'></video>", "https://h/a"),
        ("[url=https://h/a]film[/url]", "https://h/a"),
        ("[url]https://h/a[/url]", "https://h/a"),
        ('["https:\\/\\/h\\/a"]', "https://h/a"),
        ("['https://h/a']", "https://h/a"),
        ('{"title": "film", "url": "https://h/a"}', "https://h/a"),
        ("{https://h/a}", "https://h/a"),
        ("[https://h/a the film]", "https://h/a"),
        ('["https://h/\\ud800.mp4"]', '["https://h/\\ud800.mp4"]'),
        ('["https://h/\\u0000.mp4"]', '["https://h/\\u0000.mp4"]'),
        ("<https://h/a|film|b>", "https://h/a"),
        (f"<//a{'|' * 19_000}", f"<//a{'|' * 19_000}"),
        ('"' * 100_000, '"' * 100_000),
        ("[film](a.mp4)", "[film](a.mp4)"),
        ("[" * 10_000, "[" * 10_000),
    ],
)
def test_the_spelling_is_repaired(found: str, meant: str) -> None:
    assert decode_url(found) == meant


def test_escapes_inside_a_url_encoded_as_a_whole_keep_their_level() -> None:
    assert decode_url("https%3A%2F%2Fh%2Fa%2520b%252Fc%3Fq%3D%2526") == "https://h/a%20b%2Fc?q=%26"


def test_what_follows_a_literal_question_mark_was_not_encoded_with_the_rest() -> None:
    assert decode_url("https%3A%2F%2Fh%2Fa?x=b%26c#d%26") == "https://h/a?x=b%26c#d%26"


def test_only_escapes_of_unreserved_characters_are_decoded() -> None:
    assert decode_url("https://h/%7Ea%2D%2e%5F%41%39") == "https://h/~a-._A9"
    for kept in ("https://h/%2F%3F%26%23%25%20%2B%3D%3B", "https://h/%C3%BC%FF%00?q=%26"):
        assert decode_url(kept) == kept


def test_a_malformed_escape_leaves_the_bytes_alone() -> None:
    for kept in ("https://h/100%/%7Ea", "https://h/%zz%7E", "https://h/%7E%", "https://h/%%34%31"):
        assert decode_url(kept) == kept


@pytest.mark.parametrize(
    "url",
    [
        "https://b.s3.amazonaws.com/%7Ea.mp4?X-Amz-Signature=%61b&X-Amz-Credential=k%2Fv",
        "https://storage.googleapis.com/b/%7Ea?x-goog-date=%31",
        "https://d.cloudfront.net/%7Ea?Policy=%61&Key-Pair-Id=K",
        "https://h/%7Ea?x=1&SIG=%61",
        "https://h/%7Ea?x=1;access_token=%61",
        "https://h/%7Ea?Expires=1%30",
        "https://h/%7Ea?vhmac=%61",
        "https://h/hdnts=exp=1~acl=%2a~hmac=%61/a%7E.mp4",
        "https://h/a%7E;hdnea=%61/b.mp4",
        "https://h/videoplayback/sig/%61b%7E/a.mp4",
        "https://h/%7Ea?%73ig=1",
    ],
)
def test_the_bytes_of_a_signed_url_are_kept(url: str) -> None:
    assert decode_url(url) == url


def test_a_signed_url_that_is_encoded_as_a_whole_is_decoded_just_to_its_own_bytes() -> None:
    assert decode_url("https%3A%2F%2Fh%2F%257Ea%3Fsig%3D%252B%2561") == "https://h/%7Ea?sig=%2B%61"


def test_bytes_that_are_not_text_stay_escapes() -> None:
    assert decode_url("https%3A%2F%2Fh%2F%FF%C3%BC%C3%ED%A0%80%00%0D%0Ab") == "https://h/%FFü%C3%ED%A0%80%00%0D%0Ab"


@pytest.mark.parametrize(
    "path", ["a%20b%7E.mp4", "/videos/ü.mp4", "C:\\a%41.mp4", "a/b c.mp4", "///a%41", "%2F%2F%2Fa"]
)
def test_a_local_path_is_only_stripped(path: str) -> None:
    assert decode_url(f" '{path}' ") == path


def test_other_schemes_are_left_alone() -> None:
    assert decode_url(" rtmp://h/%7E ") == "rtmp://h/%7E"


@given(ANYTHING)
@example("http%3A%2F%2F%2541")
@example("%2" + "52" * 40 + "F%2Fhost")
@example("https%3A%2F%2Fh%22")
def test_decoding_twice_is_decoding_once(text: str) -> None:
    decoded = decode_url(text)
    assert decode_url(decoded) == decoded


@given(st.lists(st.sampled_from(["%FF", "%C3", "%BC", "%ED%A0%80", "%25", "%41", "%00", "%2F", "a", "%", "%F0%9F"])))
def test_a_url_encoded_as_a_whole_always_gives_text(pieces: list[str]) -> None:
    decoded = decode_url("https%3A%2F%2Fh%2F" + "".join(pieces))
    assert decoded.startswith("https://h/")
    decoded.encode("utf-8")


@given(st.text("abAB19-._~ /?#&=%ü", max_size=20), st.integers(1, 4))
def test_encoding_as_a_whole_is_undone(rest: str, levels: int) -> None:
    url = encoded = f"https://h/{rest}x"
    for _ in range(levels):
        encoded = quote(encoded, safe="")
    assert decode_url(encoded) == decode_url(url)


# is_web_url, is_local_path


@pytest.mark.parametrize(
    "url",
    ["http://h", "HTTPS://h/a", "https://u:p@h:8080/", "http://[::1]/a", "https://ü.example", "//h/a", "//u:p@h:1"],
)
def test_a_web_url_is_known(url: str) -> None:
    assert is_web_url(url)
    assert not is_local_path(url)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "http://",
        "https:///a",
        "http://u@/a",
        "http://:80/",
        "ftp://h/a",
        "//",
        "//u@/a",
        "///a",
        "h/a",
        "httpſ://h",
    ],
)
def test_anything_else_is_no_web_url(text: str) -> None:
    assert not is_web_url(text)


@pytest.mark.parametrize(
    "path", ["a.mp4", "/a/b.mp4", "C:\\a.mp4", "c:/a.mp4", "../ü b.mp4", "2024:1.mp4", "\\\\nas\\a.mp4"]
)
def test_a_local_path_is_known(path: str) -> None:
    assert is_local_path(path)


@pytest.mark.parametrize("text", ["", "  ", "file:///a", "ftp://h/a", "data:video/mp4,", "a\0.mp4", "a\n.mp4", "//h/a"])
def test_anything_else_is_no_local_path(text: str) -> None:
    assert not is_local_path(text)


# url_for_request


@pytest.mark.parametrize(
    "url",
    [
        "http://h",
        "HTTPS://Host.Example:8443/A/b/?Q=%2f%7e&x=[1]|{2}",
        "https://u:p%40@h/a",
        "http://[2001:DB8::1]:80/a",
        "http://127.0.0.1:1/",
        "http://h:/a",
        "http://h.example./a//b/../c",
        "https://my_bucket.s3.amazonaws.com/a",
        "https://r1---sn-x.example.com/a",
        "http://h?a",
        "https://b.example/?X-Amz-Signature=%61%2B+",
    ],
)
def test_an_ascii_url_is_requested_byte_for_byte_without_its_fragment(url: str) -> None:
    assert url_for_request(url) == url
    assert url_for_request(f"{url}#t=1%#") == url


@pytest.mark.parametrize(
    ("url", "requested"),
    [
        ("https://bücher.example/ü.mp4", "https://xn--bcher-kva.example/%C3%BC.mp4"),
        ("https://BÜCHER。example/", "https://xn--bcher-kva.example/"),
        ("https://b%C3%BCcher.example/", "https://xn--bcher-kva.example/"),
        ("https://my_clips.bücher.example/", "https://my_clips.xn--bcher-kva.example/"),
        ("https://h/a b%20ü%c3%bc?q=ü b&r=%2B", "https://h/a%20b%20%C3%BC%c3%bc?q=%C3%BC%20b&r=%2B"),
        ("https://h/100%/%20", "https://h/100%25/%20"),
        ("https://ü:p@h/", "https://%C3%BC:p@h/"),
        ("https://h/😀", "https://h/%F0%9F%98%80"),
    ],
)
def test_anything_beyond_ascii_is_encoded_once(url: str, requested: str) -> None:
    assert url_for_request(url) == requested
    assert url_for_request(requested) == requested


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "does not start with https://"),
        ("/a/b.mp4", "does not start with https://"),
        ("//h/a", "does not start with https://"),
        ("ftp://h/a", "'ftp' is not supported"),
        ("file:///a", "'file' is not supported"),
        ("http://", "no host"),
        ("http:h/a", "no host"),
        ("https:///a", "no host"),
        ("http://u@:80/", "no host"),
        ("http://h:x/", "the port is not a number"),
        ("http://h:٣/", "is not a number"),
        ("http://user:pa/ss@h/", "in a password, write / as %2F"),
        ("http://h:1:2/", "the port is not a number"),
        ("http://h:0/", "between 1 and 65535"),
        ("http://h:65536/", "between 1 and 65535"),
        pytest.param(f"http://h:{'9' * 5000}/", "between 1 and 65535", id="5000-digits"),
        ("http://a b/", "'a b' cannot be a host name"),
        ("http://a..b/", "cannot be a host name"),
        ("http://a\\b/", "cannot be a host name"),
        ("http://℀.example/", "cannot be a host name"),
        ("http://%FF.example/", "cannot be a host name"),
        ("http://ü\u0378.example/", "cannot be a host name"),
        (f"http://{'a' * 64}.example/", "cannot be a host name"),
        (f"http://{'a.' * 130}example/", "cannot be a host name"),
        ("http://1.2.3.4.5/", "neither a host name nor an IPv4 address"),
        ("http://256.1.1.1/", "neither a host name nor an IPv4 address"),
        ("http://0x7f000001/", "neither a host name nor an IPv4 address"),
        ("http://[::1/", "cannot be a host"),
        ("http://[::g]/", "not an IPv6 address"),
        ("http://[::1]x/", "cannot be a host"),
        ("http://h/a\nb", "control character ('\\n')"),
        ("http://h/\x00", "control character"),
        ("http://h/\udcff", "control character"),
    ],
)
def test_what_cannot_be_requested_is_refused_in_words(url: str, reason: str) -> None:
    with pytest.raises(ValueError) as raised:
        url_for_request(url)
    assert type(raised.value) is ValueError
    assert reason in str(raised.value)


@pytest.mark.parametrize("secret", ["sec/ret", "sec?ret", "sec#ret", "123/456", "999999/9", "se[c/ret", "s:e/c"])
def test_a_refusal_names_no_password_that_is_spelt_wrongly(secret: str) -> None:
    try:
        url_for_request(f"https://user:{secret}@h/")
    except ValueError as error:
        assert secret.partition("/")[0] not in str(error).partition("(")[0]


@given(ANYTHING)
def test_a_request_is_ascii_or_refused_and_stays_what_it_is(text: str) -> None:
    try:
        requested = url_for_request(text)
    except ValueError as error:
        assert type(error) is ValueError
        return
    assert requested.isascii()
    assert requested.isprintable()
    assert " " not in requested
    assert "#" not in requested
    assert url_for_request(requested) == requested


# normalise_url


@pytest.mark.parametrize(
    ("url", "key", "rules"),
    [
        ("https://h/a", "https://h/a", ()),
        ("HTTP://h/a", "http://h/a", ("scheme case",)),
        ("http://H/a", "http://h/a", ("host case",)),
        ("http://bücher.example", "http://xn--bcher-kva.example", ("host spelling",)),
        ("http://[::0001]/a", "http://[::1]/a", ("host spelling",)),
        ("http://[2001:DB8::1]/a", "http://[2001:db8::1]/a", ("host case",)),
        ("http://h:80/a", "http://h/a", ("default port",)),
        ("https://h:443/a", "https://h/a", ("default port",)),
        ("https://h:/a", "https://h/a", ("default port",)),
        ("http://h:443/a", "http://h:443/a", ()),
        ("https://h:8443/a", "https://h:8443/a", ()),
        ("http://h/", "http://h", ("trailing slash",)),
        ("http://h/a//", "http://h/a", ("trailing slash",)),
        ("http://h/a/?b", "http://h/a?b", ("trailing slash",)),
        ("http://h/a#b?", "http://h/a", ("fragment",)),
        ("http://h/a#", "http://h/a", ("fragment",)),
        ("http://h/a?", "http://h/a", ("empty query",)),
        ("//h/a", "https://h/a", ("no scheme",)),
        ("//H:443/a/", "https://h/a", ("no scheme", "host case", "default port", "trailing slash")),
        ("//h:80/a", "https://h:80/a", ("no scheme",)),
        ("//h:x/a", "//h:x/a", ()),
        ("///a", "///a", ()),
        ("http://h/%7Ea", "http://h/~a", ("percent-encoding",)),
        ("http://h/%2fa", "http://h/%2Fa", ("percent-encoding",)),
        ("http://h/ü b", "http://h/%C3%BC%20b", ("percent-encoding",)),
        ("http://h/?q=%3d%41", "http://h?q=%3DA", ("trailing slash", "percent-encoding")),
        ("http://U:p@h/a", "http://U:p@h/a", ()),
        ("/Videos/A.mp4/", "/Videos/A.mp4/", ()),
        ("C:\\A.mp4", "C:\\A.mp4", ()),
        ("HTTP://h:99999/", "HTTP://h:99999/", ()),
        ("FTP://H/", "FTP://H/", ()),
        ("", "", ()),
        ("HTTP://BÜCHER.example:80/%7e/?#", "http://xn--bcher-kva.example/~", RULES[1:9]),
    ],
)
def test_the_key_and_what_was_changed_for_it(url: str, key: str, rules: tuple[str, ...]) -> None:
    normalised = normalise_url(url)
    assert (normalised.key, normalised.rules) == (key, rules)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("HTTP://EXAMPLE.com:80/a/", "http://example.com/a"),
        ("https://bücher.example/ü.mp4", "https://XN--BCHER-KVA.example/%c3%bc.mp4"),
        ("http://h/~a", "http://h/%7Ea"),
        ("http://h", "http://h/"),
    ],
)
def test_equal_urls_meet(one: str, other: str) -> None:
    assert normalise_url(one).key == normalise_url(other).key


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://www.youtube.com/watch?v=AbC", "https://www.youtube.com/watch?v=abc"),
        ("https://b.s3.amazonaws.com/Key.mp4", "https://b.s3.amazonaws.com/key.mp4"),
        ("http://h/a", "https://h/a"),
        ("http://h/a", "http://h:8080/a"),
        ("http://u@h/a", "http://h/a"),
        ("http://u@h/a", "http://U@h/a"),
        ("http://h/a%2Fb", "http://h/a/b"),
        ("http://h/a?b=%26c", "http://h/a?b=&c"),
        ("http://h/a", "http://h/a?b"),
        ("http://www.h.example/a", "http://h.example/a"),
        ("http://h/a+b", "http://h/a%20b"),
        ("http://[::1]/a", "http://[::2]/a"),
    ],
)
def test_urls_that_may_differ_stay_apart(one: str, other: str) -> None:
    assert normalise_url(one).key != normalise_url(other).key


def test_path_case_is_ignored_when_asked_and_nothing_else() -> None:
    normalised = normalise_url("https://U@h/A/%C3%9C%2FB.MP4?v=AbC", ignore_path_case=True)
    assert normalised.key == "https://U@h/a/%C3%BC%2Fb.mp4?v=AbC"
    assert normalised.rules == ("path case",)
    assert normalise_url("https://h/Ü", ignore_path_case=True).key == "https://h/%C3%BC"
    assert normalise_url("https://h/%FFA", ignore_path_case=True).key == "https://h/%FFa"


def test_named_query_parameters_are_dropped_by_their_exact_name() -> None:
    drop = ["utm_source", "utm_medium"]
    normalised = normalise_url(
        "https://h/a?utm_source=x&v=1&utm_medium&UTM_SOURCE=y&utm_sourced=z", drop_query_parameters=drop
    )
    assert normalised.key == "https://h/a?v=1&UTM_SOURCE=y&utm_sourced=z"
    assert normalised.rules == ("query parameters",)
    assert normalise_url("https://h/a?utm%5Fsource=x", drop_query_parameters=drop).key == "https://h/a"
    assert normalise_url("https://h/a?utm_source=x").key == "https://h/a?utm_source=x"


@given(ANYTHING, st.booleans(), st.sampled_from([(), ("utm_a",), ("", "a", "B")]))
@example("http://h/%2%35", False, ())
@example("http://h/İΣ", True, ())
@example("http://h?&a", False, ("a",))
def test_the_key_is_its_own_key_and_every_change_has_its_rule(text: str, ignore: bool, drop: tuple[str, ...]) -> None:
    normalised = normalise_url(text, ignore_path_case=ignore, drop_query_parameters=drop)
    again = normalise_url(normalised.key, ignore_path_case=ignore, drop_query_parameters=drop)
    assert (again.key, again.rules) == (normalised.key, ())
    assert (normalised.rules == ()) == (normalised.key == text)
    assert list(normalised.rules) == sorted(normalised.rules, key=RULES.index)


# find_text_copies


def test_each_copy_names_its_first_row_and_the_rule() -> None:
    urls = [
        "http://h/a/",
        "",
        "http://H/a",
        "http://h/b",
        "http://h/a/",
        "",
        " ",
        "http://h/b#x",
        "http://h:80/a",
        " ",
        "HTTP://h/b?#",
    ]
    assert find_text_copies(urls) == [
        TextCopy(2, 0, "host case, trailing slash"),
        TextCopy(4, 0, "identical text"),
        TextCopy(7, 3, "fragment"),
        TextCopy(8, 0, "default port, trailing slash"),
        TextCopy(10, 3, "scheme case, fragment, empty query"),
    ]


@pytest.mark.parametrize(
    "text", ["", " ", "-", "--", " -- ", "NULL", "null", "NaN", "None", "n/a", "N/A", "#N/A", "\\N"]
)
def test_what_stands_for_no_url_repeats_nothing(text: str) -> None:
    assert find_text_copies([text, "http://h/a", text, "http://h/a"]) == [TextCopy(3, 1, "identical text")]


def test_options_reach_the_keys() -> None:
    urls = ["http://h/A?v=1&utm_a=2", "http://h/a?v=1", "http://h/a?v=1&utm_a=3"]
    assert find_text_copies(urls) == []
    assert find_text_copies(urls, ignore_path_case=True, drop_query_parameters=["utm_a"]) == [
        TextCopy(1, 0, "path case, query parameters"),
        TextCopy(2, 0, "path case, query parameters"),
    ]


def test_local_paths_and_invalid_urls_are_copies_only_as_the_same_text() -> None:
    urls = ["/a.mp4", "/A.mp4", "/a.mp4", "http://h:x/", "HTTP://h:x/", "http://h:x/"]
    assert find_text_copies(urls, ignore_path_case=True) == [
        TextCopy(2, 0, "identical text"),
        TextCopy(5, 3, "identical text"),
    ]


@pytest.mark.parametrize(
    ("urls", "copies"),
    [
        (["//h/a", "//h/a"], [TextCopy(1, 0, "identical text")]),
        (["//h/a", "//H/a"], [TextCopy(1, 0, "no scheme, host case")]),
        (["//h/a", "https://h/a"], [TextCopy(1, 0, "no scheme")]),
        (["http://h/a", "//h/a"], [TextCopy(1, 0, "no scheme")]),
        (["//h/a/", "http://h/a"], [TextCopy(1, 0, "no scheme, trailing slash")]),
        (["http://h:80/a", "//h/a"], [TextCopy(1, 0, "no scheme, default port")]),
        (["http://h/a", "//h/a", "https://h/a"], [TextCopy(2, 1, "no scheme")]),
        (["//h/a", "http://h/a", "https://h/a"], [TextCopy(2, 0, "no scheme")]),
        (["//h/a", "http://h/b", "ftp://h/a", "/h/a", "http://h:443/a"], []),
    ],
)
def test_a_url_without_a_scheme_is_that_of_the_list_by_https_else_by_http(
    urls: list[str], copies: list[TextCopy]
) -> None:
    assert find_text_copies(urls) == copies


def test_no_urls_have_no_copies() -> None:
    assert find_text_copies([]) == []


@given(
    st.lists(
        st.sampled_from(["http://h/a", "http://h/a/", "HTTP://h/a", "http://h/b", "http://h/B", "", "x"]), max_size=12
    )
)
def test_every_row_is_first_or_copy_and_copies_point_at_firsts(urls: list[str]) -> None:
    copies = find_text_copies(urls)
    copied = {copy.row for copy in copies}
    assert len(copied) == len(copies)
    for copy in copies:
        assert copy.first_row < copy.row
        assert copy.first_row not in copied
        assert copy.rule
    firsts = [normalise_url(url).key for row, url in enumerate(urls) if row not in copied and url]
    assert len(firsts) == len(set(firsts))


def test_urls_that_differ_by_a_session_in_the_path_are_no_text_copies() -> None:
    assert find_text_copies(["https://h/a.mp4;jsessionid=1", "https://h/a.mp4;jsessionid=2", "https://h/a.mp4"]) == []

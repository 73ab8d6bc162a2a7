"""Pages as the tests look at them: their tags, their text, and what every page promises."""

from __future__ import annotations

import base64
import hashlib
import json
from html.parser import HTMLParser
from pathlib import Path

VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}


class Page(HTMLParser):
    """All tags of a page with their attributes, its visible text, and whether its tags nest."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.styles = ""
        self.scripts: list[str] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "style":
            self.styles += data
        elif self.open and self.open[-1] == "script":
            self.scripts.append(data)
        else:
            self.text += data

    def links(self) -> dict[str, dict[str, str]]:
        return {attrs["href"]: attrs for tag, attrs in self.tags if tag == "a" and "href" in attrs}


def open_page(path: Path) -> Page:
    """Parse a page and hold it to what every page promises."""
    page = Page(path)
    names = {tag for tag, _ in page.tags}
    assert names.isdisjoint({"link", "iframe", "object", "embed", "base", "form", "video", "audio", "source"})
    for tag, attrs in page.tags:
        assert not [name for name in attrs if name.startswith("on")], f"{tag} runs a script"
        assert "srcset" not in attrs
        assert attrs.get("src", "data:image/").startswith("data:image/")
        assert "url(" not in attrs.get("style", "")
        if tag == "img":
            assert attrs.get("alt"), "a picture needs words"
        if tag == "a":
            href = attrs.get("href", "").lower()
            assert ":" not in href or href.startswith(("http://", "https://"))
            if href.startswith("http"):
                assert {"noreferrer", "noopener"} <= set(attrs["rel"].split())
    assert "url(" not in page.styles
    assert "@import" not in page.styles
    assert ("html", {"lang": "en"}) in page.tags
    policy = next(attrs for tag, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy")["content"]
    assert policy.startswith("default-src 'none'")
    assert "eval" not in policy
    asked = [attrs for tag, attrs in page.tags if tag == "script"]
    assert len(asked) == len(page.scripts), "no script is fetched"
    for attrs, script in zip(asked, page.scripts, strict=True):
        if attrs.get("type") == "application/json":
            json.loads(script)
            assert script.isascii() and not set(script) & set("<>&"), "no text in it can end it"
        else:
            digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
            assert f"script-src 'sha256-{digest}';" in policy, "the only script is the one that the page names"
            assert "innerHTML" not in script and "eval" not in script
    return page

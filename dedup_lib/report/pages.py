"""The frame of every HTML page, and the links between pages.

A page is one file. It opens offline and makes no requests. A content security policy in its head forbids all loads but
embedded images, and all scripts but the one that the page names by its hash. All text from outside is escaped, URLs are
shown without credentials, and no control character reaches a page.
"""

from __future__ import annotations

import re
import shlex
from functools import cache
from pathlib import Path

import jinja2

from dedup_lib.report.style import COLOURS, DARK_COLOURS, PAGE_COLOURS
from dedup_lib.report.words import short_url
from dedup_lib.run.files import write_text_atomically
from dedup_lib.run.folder import RunFolder
from dedup_lib.sanitise import printable, sanitise, sanitise_line

PAGE_LINK = re.compile(r'data-page="([^"#]+)(#[^"]*)?"(?: href="[^"]*")?')
NOTICE_PLACE = "<!--notice-->"
"""The place in a page where `mark_outdated` puts its notice."""


def is_web_url(url: str) -> bool:
    """Whether a URL may become a link: only http and https, so that no link runs a script."""
    return url.lower().startswith(("http://", "https://"))


def show_value(value: object) -> str:
    """A setting or a count as text for people."""
    if value is None or value == "" or value == []:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.7g}"
    if isinstance(value, list):
        return ", ".join(show_value(item) for item in value)
    return sanitise(str(value))


@cache
def page_templates() -> jinja2.Environment:
    """The templates of all pages; they escape all values that are not marked as safe."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("dedup_lib.report", "templates"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.tests["web_url"] = is_web_url
    environment.filters["short"] = lambda url: short_url(url, most=90)
    environment.filters["shown"] = show_value
    environment.filters["bare"] = sanitise_line
    return environment


def render_template(template: str, /, **values: object) -> str:
    """Fills in a template of the package, and removes invisible characters that would change how it reads."""
    return printable(page_templates().get_template(template).render(values))


def save_page(path: Path, template: str, /, **values: object) -> None:
    """Writes a page completely or not at all."""
    light, dark = ({name: both[side] for name, both in PAGE_COLOURS.items()} for side in (0, 1))
    palettes = {"light": COLOURS | light, "dark": COLOURS | DARK_COLOURS | dark}
    write_text_atomically(path, render_template(template, palettes=palettes, **values))


def link_pages(reports_dir: Path) -> None:
    """Links the pages of notebooks to the pages that exist. A page that the flow does not make, or has not made yet, is
    named without a link. The overview must exist."""
    pages = {path.name: path for path in reports_dir.glob("*.html")}

    def link(named: re.Match[str]) -> str:
        place = f"{named[1]}{named[2] or ''}"
        return f'data-page="{place}"' + (f' href="{place}"' if named[1] in pages else "")

    for path in pages.values():
        html = path.read_text(encoding="utf-8")
        linked = PAGE_LINK.sub(link, html)
        if linked != html:
            write_text_atomically(path, linked)


def mark_outdated(run: RunFolder, *names: str, words: str) -> None:
    """Puts a notice at the top of these pages, if they exist: they are older than the outputs, and why. Writing a page
    again removes it."""
    command = f"python -m dedup_lib report {shlex.quote(run.path.name)}"
    notice = render_template("notice.html", words=words, command=command)
    for path in (path for name in names for path in run.reports_dir.glob(name)):
        html = path.read_text(encoding="utf-8")
        write_text_atomically(path, html.replace(NOTICE_PLACE, notice, 1))

"""A list, a server and an environment that mean harm or hold secrets: what may show of them, and where.

Whole flows by the command line, over a list in which every text is hostile and some URLs carry a password; then every
file of the run, every page and every line that was printed is looked at.
"""

from __future__ import annotations

import base64
import codecs
import csv
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import pytest
from fault_server import FaultServer, Request, reply, reply_range
from media import save_clip
from notebook_cells import run_cells
from pages import open_page

from dedup_lib.errors import NotebookError
from dedup_lib.flow.execute import execute_plan
from dedup_lib.flow.plan import plan_run
from dedup_lib.flow.profiles import load_profile
from dedup_lib.lists.tables import load_list
from dedup_lib.report.overview import write_index
from dedup_lib.run.paths import find_project_root

TOKEN = "t0kenOfTheStore"
URI_PASSWORD = "passw0rdOfTheStore"
URL_PASSWORD = "passw0rdOfAUrl"
MARKUP = "<img src=x onerror=alert(1)><script>alert(1)</script>\"'>"
ESCAPES = "\x1b[31m\x9b2J\x1b]0;title\x07\u202e"
FORMULA = "=cmd|' /C calc'!A0"
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

CHOSEN = {"allow_private_addresses": True, "workers": 2, "retries": 0, "encoder": "pdq"}

MAY_HOLD_URLS = {
    "*.csv": "the list's own rows, which nobody wants changed",
    "pairs.parquet": "the two URLs of every compared pair, by which they are asked for",
    "ledger.sqlite*": "what became of every URL, by URL",
    "milvus.db*": "the URL of every vector, for lists that are read from the collection",
    "batch_outputs/url_*/url.txt": "the URL of a job",
    "batch_outputs/url_*/job.json": "the outcome of a job, its URL included",
}
"""Files of a run folder that hold URLs as the list spells them, passwords in them included, and why."""


@dataclass(frozen=True)
class HostileRun:
    """A run, what it printed, and the list that it cleaned."""

    folder: Path
    printed: str
    list_csv: Path


def serve_hostile(clip: bytes, request: Request) -> Iterable[bytes]:
    """A clip, or the trouble that the path names."""
    hostile = f"{MARKUP}\x1b[31m{FORMULA}"
    if "clip" in request.path:
        return [reply_range(request, clip)]
    if "status" in request.path:
        return [reply(f"404 {hostile}")]
    if "range" in request.path:
        return [reply("206 Partial Content", clip, Content_Range=hostile)]
    if "script" in request.path:
        return [reply("302 Found", Location="javascript:alert(1)")]
    if "echo" in request.path:
        return [reply("302 Found", Location=f"https://user:{URL_PASSWORD}@[x")]
    return [reply(f"500 https://user:{URL_PASSWORD}@echo/")]


def run_command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dedup_lib", *arguments],
        cwd=find_project_root(),
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def list_csv(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("hostile")
    clip = save_clip(folder / "clip.mp4", count=50).read_bytes()
    with FaultServer(lambda asked: serve_hostile(clip, asked)) as server:
        secret = server.url("/secret-clip.mp4", user=f"user:{URL_PASSWORD}@")
        urls = [
            secret,
            server.url(f"/clip.mp4?{MARKUP.replace(' ', '')}"),
            server.url("/other-clip.mp4#<b>"),
            secret.upper().replace(URL_PASSWORD.upper(), URL_PASSWORD).replace("CLIP.MP4", "status"),
            secret.replace(":", "%3A").replace("/", "%2F").replace("@", "%40").replace("secret-clip", "encoded-clip"),
            server.url("/status/$x^2$"),
            server.url("/range"),
            server.url("/script"),
            server.url("/echo"),
            server.url("/500", user=f"user:{URL_PASSWORD}@"),
            f"https://user:{URL_PASSWORD}/x@127.0.0.1/",
            f"https://user:{URL_PASSWORD}@/",
            "javascript:alert(1)",
            f"data:text/html,{MARKUP}",
            MARKUP,
            FORMULA,
            f"-{ESCAPES}.mp4",
            f"{server.url('/')}{ESCAPES}",
            "",
        ]
        listed = folder / f"{MARKUP.replace('/', '')}{ESCAPES}=.csv"
        # As Excel writes it where the list separator is a semicolon.
        with listed.open("w", encoding="utf-8-sig", newline="") as file:
            rows = csv.writer(file, delimiter=";", lineterminator="\r\n")
            rows.writerow(["video_url", "=title", MARKUP, f"note{ESCAPES}", "phone"])
            for number, url in enumerate([*urls, urls[0]]):
                rows.writerow([url, f"{FORMULA}{number}", f"{MARKUP}{number}", f"{ESCAPES}\n{number}", f"+49 {number}"])
        yield listed


@pytest.fixture(scope="module")
def batch(list_csv: Path) -> HostileRun:
    """By the command line, in the flow that has most notebooks."""
    folder = list_csv.with_name("batch")
    sets = [f"{name}={value}" for name, value in ({"input_csv": list_csv, "run_dir": folder} | CHOSEN).items()]
    done = run_command("run", "batch", *(word for pair in sets for word in ("--set", pair)), MILVUS_TOKEN=TOKEN)
    assert done.returncode == 0, done.stderr
    listed = run_command("collections", "list", "--run", os.path.relpath(folder), MILVUS_TOKEN=TOKEN)
    assert listed.returncode == 1, "a run is named, not reached by a path"
    made = run_command("report", str(folder))
    return HostileRun(folder, done.stdout + done.stderr + made.stdout + listed.stderr, list_csv)


@pytest.fixture(scope="module")
def direct(list_csv: Path) -> HostileRun:
    """By the same notebooks without kernels and pages, in the flow that saves to the store at once."""
    folder = list_csv.with_name("direct")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MILVUS_TOKEN", TOKEN)
        run_cells(plan_run(load_profile("direct") | {"input_csv": str(list_csv), "run_dir": str(folder)} | CHOSEN))
        write_index(folder)
    return HostileRun(folder, "", list_csv)


@pytest.fixture(params=["direct", "batch"])
def hostile_run(request: pytest.FixtureRequest) -> HostileRun:
    run: HostileRun = request.getfixturevalue(request.param)
    return run


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_no_secret_leaves_its_place(hostile_run: HostileRun) -> None:
    found = dict.fromkeys(MAY_HOLD_URLS, False)
    authorization = base64.b64encode(f"user:{URL_PASSWORD}".encode())
    for path in files_of(hostile_run.folder):
        data, name = path.read_bytes(), path.relative_to(hostile_run.folder).as_posix()
        assert TOKEN.encode() not in data, name
        assert authorization not in data, name
        assert URL_PASSWORD not in name
        if URL_PASSWORD.encode() in data:
            places = [pattern for pattern in MAY_HOLD_URLS if fnmatch(name, pattern)]
            assert places, f"{name} holds the password of a URL"
            found |= dict.fromkeys(places, True)
    has_jobs = (hostile_run.folder / "batch_outputs").exists()
    assert [name for name in found if not found[name]] == ([] if has_jobs else list(MAY_HOLD_URLS)[4:])
    for secret in (TOKEN, URL_PASSWORD):
        assert secret not in hostile_run.printed


def test_pages_show_hostile_text_as_text(hostile_run: HostileRun) -> None:
    pages = sorted((hostile_run.folder / "reports").glob("*.html"))
    assert len(pages) >= (5 if hostile_run.printed else 1)
    for path in pages:
        page = open_page(path)
        assert not CONTROLS.search(path.read_text(encoding="utf-8")), path.name
        assert all("@" not in href.partition("//")[2].partition("/")[0] for href in page.links())
    overview = open_page(pages[-1])
    assert pages[-1].name == "index.html"
    for shown in ("<script>alert(1)</script>", "javascript:alert(1)", FORMULA, "\\x1b[31m", "redirects to javascript:"):
        assert shown in overview.text, shown


def test_nothing_that_is_printed_is_obeyed(batch: HostileRun) -> None:
    assert "rows of" in batch.printed
    assert "onerror=alert(1)" in batch.printed
    assert not CONTROLS.search(batch.printed)
    for path in batch.folder.rglob("*.log"):
        assert not CONTROLS.search(path.read_text(encoding="utf-8")), path.name


def test_reasons_are_plain(hostile_run: HostileRun) -> None:
    reasons = load_list(hostile_run.folder / "failed_urls.csv")["reason"].tolist()
    assert any("404 <img" in reason and "\\x1b[31m" in reason for reason in reasons)
    assert "HTTP 500 https://echo/" in reasons
    assert not [reason for reason in reasons if CONTROLS.search(reason) or "\n" in reason]


def test_every_cell_of_the_list_is_in_one_output_and_none_is_run(hostile_run: HostileRun) -> None:
    listed = load_list(hostile_run.list_csv)
    others = [name for name in listed.columns if name != "video_url"]
    tables = {}
    for path in sorted(hostile_run.folder.glob("*.csv")):
        with path.open(encoding="utf-8-sig", newline="") as file:
            records = list(csv.reader(file, delimiter=";", strict=True))
        assert path.read_bytes().startswith(codecs.BOM_UTF8) and path.read_bytes().endswith(b"\r\n")
        assert len({len(record) for record in records}) == 1 < len(records[0])
        cells = [cell for record in records for cell in record]
        assert not [cell for cell in cells if cell[:1] in set("=+-@\t\r") and not re.fullmatch(r"[+-][0-9 .]+", cell)]
        tables[path.name] = load_list(path) if path.read_text(encoding="utf-8").count("\n") > 1 else None
    stem = hostile_run.list_csv.name.removesuffix(".csv")
    shared_out = ("FINAL_RESULT", f"{stem}.duplicates", "duplicates", "invalid_urls", "failed_urls")
    found = [
        tuple(row)
        for name in shared_out
        if (table := tables[f"{name}.csv"]) is not None
        for row in table[others].to_numpy()
    ]
    assert sorted(found) == sorted(map(tuple, listed[others].to_numpy()))
    before = listed.set_index("=title")["video_url"]
    number_changed = 0
    for name, url_column in (("FINAL_RESULT", "video_url"), ("duplicates", "url"), ("invalid_urls", "url")):
        table = tables[f"{name}.csv"]
        assert table is not None
        changed = table["original_url"] != ""
        number_changed += changed.sum()
        was = table["original_url"].where(changed, table[url_column])
        assert was.tolist() == [before[title] for title in table["=title"]]
        assert not any(changed & (table["original_url"] == table[url_column]))
    assert number_changed == 2, "the URL that is percent-encoded as a whole, and the one with a mark at its end"


def test_how_many_cells_got_an_apostrophe_is_said(batch: HostileRun) -> None:
    summary = json.loads((batch.folder / "summary.json").read_text("utf-8"))
    stem = batch.list_csv.name.removesuffix(".csv")
    guarded = 0
    for name in ("FINAL_RESULT", f"{stem}.duplicates", "duplicates", "invalid_urls", "failed_urls"):
        with (batch.folder / f"{name}.csv").open(encoding="utf-8-sig", newline="") as file:
            next(records := csv.reader(file, delimiter=";"))
            guarded += sum(cell.startswith("'") for record in records for cell in record)
    assert summary["guarded_cells"] == guarded > 20
    sentence = f"{guarded} cells got an apostrophe in front"
    assert sentence in batch.printed
    assert sentence in open_page(batch.folder / "reports" / "06_search_and_clean.html").text


def test_a_store_that_is_away_shows_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = save_clip(tmp_path / "clip.mp4", count=30)
    listed = tmp_path / "list.csv"
    listed.write_text(f"url\n{clip}\n", encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    secrets = {"MILVUS_URI": f"http://root:{URI_PASSWORD}@127.0.0.1:{port}/db?k={URI_PASSWORD}", "MILVUS_TOKEN": TOKEN}
    done = run_command(
        "run", "direct", "--set", f"input_csv={listed}", "--set", f"run_dir={tmp_path / 'run'}", **secrets
    )
    assert done.returncode == 1
    assert f"http://127.0.0.1:{port} does not answer. Check MILVUS_URI" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists(), "nothing was begun"
    # As it is where the store goes away after the start.
    for name, secret in secrets.items():
        monkeypatch.setenv(name, secret)
    chosen = {"input_csv": str(listed), "run_dir": str(tmp_path / "run")}
    with pytest.raises(NotebookError, match=f"http://127.0.0.1:{port} does not answer"):
        execute_plan(plan_run(load_profile("direct") | chosen))
    files = files_of(tmp_path / "run")
    assert {"03_extract.ipynb", "03_extract.html", "index.html", "01_decode.json"} <= {path.name for path in files}
    for text in [done.stdout.encode(), done.stderr.encode(), *(path.read_bytes() for path in files)]:
        assert TOKEN.encode() not in text
        assert URI_PASSWORD.encode() not in text
    assert json.loads((tmp_path / "run" / "stages" / "01_decode.json").read_text("utf-8"))["counts"]["rows"] == 1

"""The notebooks as people run them: whole flows through papermill over the demo's clips, judged by their outputs."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import nbformat
import pytest
import yaml
from browser import Visit
from made_once import shared_folder
from milvus_for_tests import TOKEN, MilvusServer
from notebook_cells import run_cells
from pages import open_page

from dedup_lib.cli.console import show_outcome
from dedup_lib.demo.check import check_outcome
from dedup_lib.demo.clips import make_clips, write_list
from dedup_lib.demo.server import ClipServer
from dedup_lib.errors import FailedRowsError, NotebookError
from dedup_lib.flow.execute import execute_plan
from dedup_lib.flow.plan import RunPlan, plan_run
from dedup_lib.flow.profiles import load_profile
from dedup_lib.run.folder import RunFolder
from dedup_lib.run.paths import find_project_root
from dedup_lib.run.status import read_progress
from dedup_lib.settings import FLOWS

OUTPUTS = (
    "FINAL_RESULT.csv",
    "videos.duplicates.csv",
    "duplicates.csv",
    "invalid_urls.csv",
    "failed_urls.csv",
    "featureless_urls.csv",
    "review.csv",
    "summary.json",
)


@dataclass(frozen=True)
class Site:
    """The demo's list and the server that it names."""

    server: ClipServer
    list_csv: Path


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with shared_folder(tmp_path_factory, "demo-clips") as clips:
        make_clips(clips)
    with ClipServer(clips) as server:
        yield Site(server, write_list(tmp_path_factory.mktemp("site") / "videos.csv", base_url=server.base_url))


def run_flow(
    site: Site,
    run_dir: Path,
    *,
    first: str = "",
    on_done: Callable[[str, float], object] = lambda name, elapsed_s: None,
    **changed: Any,
) -> Path:
    """As the command line runs it."""
    execute_plan(plan_flow(site, run_dir, first=first, **changed), on_done=on_done)
    return run_dir


def run_by_hand(site: Site, run_dir: Path, *, first: str = "", only: str = "", **changed: Any) -> Path:
    """The same notebooks without their kernels and pages."""
    run_cells(plan_flow(site, run_dir, first=first, only=only, **changed))
    return run_dir


def plan_flow(site: Site, run_dir: Path, *, first: str = "", only: str = "", **changed: Any) -> RunPlan:
    profile = load_profile("demo") | {"input_csv": str(site.list_csv), "run_dir": str(run_dir)} | changed
    return plan_run(profile, first=first, only=only)


@pytest.fixture(scope="session")
def direct(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_flow(site, tmp_path_factory.mktemp("direct"))


@pytest.fixture(scope="session")
def batch(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """By one worker, video by video: both are to come to the same. What comes before its own notebooks has no pages."""
    run_dir = tmp_path_factory.mktemp("batch")
    run_by_hand(site, run_dir, only="01")
    run_by_hand(site, run_dir, only="02")
    run_by_hand(site, run_dir, only="03", mode="batch", vectors="frames", workers=1, batch_size=1)
    return run_flow(site, run_dir, first="04", mode="batch", vectors="frames")


@pytest.fixture(params=["direct", "batch"])
def flow(request: pytest.FixtureRequest) -> Path:
    run_dir: Path = request.getfixturevalue(request.param)
    return run_dir


def load_rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def shorten(site: Site, path: Path, *, ids: Collection[str]) -> Path:
    """Writes these rows of the demo's list; returns the path."""
    rows = [row for row in load_rows(site.list_csv) if row["id"] in ids]
    assert len(rows) == len(ids)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


def read_outputs(run_dir: Path, *, but: tuple[str, ...] = ()) -> dict[str, bytes]:
    return {name: (run_dir / name).read_bytes() for name in OUTPUTS if name not in but}


def test_what_was_planted_is_found(site: Site, flow: Path) -> None:
    wrong = [check for check in check_outcome(flow, base_url=site.server.base_url) if not check.holds]
    assert wrong == []


def test_a_server_serves_as_a_file_does(
    site: Site, batch: Path, milvus_server: MilvusServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All notebooks that use the store, the server killed once it holds the vectors."""
    monkeypatch.setenv("MILVUS_URI", milvus_server.address.uri)
    monkeypatch.setenv("MILVUS_TOKEN", milvus_server.address.token)

    def kill_the_server(name: str, elapsed_s: float) -> None:
        if name == "05_upload":
            milvus_server.kill()
            milvus_server.start()

    # As 04 left it, which has the list of 02.
    later = ("milvus.db", "05_*", "06_*", *(name for name in OUTPUTS if name != "videos.duplicates.csv"))
    run_dir = tmp_path / "batch"
    shutil.copytree(batch, run_dir, ignore=shutil.ignore_patterns(*later))
    collection = "pipeline_batch"
    changed = {"mode": "batch", "vectors": "frames", "collection": collection}
    run_flow(site, run_dir, first="05", on_done=kill_the_server, **changed)
    assert [check for check in check_outcome(run_dir, base_url=site.server.base_url) if not check.holds] == []
    summary = ("summary.json",)
    assert read_outputs(run_dir, but=summary) == read_outputs(batch, but=summary)
    decided, on_file = (json.loads((path / summary[0]).read_text("utf-8"))["decision"] for path in (run_dir, batch))
    server = str(milvus_server.address)
    assert decided == on_file | {"store": server, "collection": collection}
    assert read_progress(RunFolder(run_dir)).vectors == f"{server}, collection {collection}"
    assert not (run_dir / "milvus.db").exists()
    assert [path for path in run_dir.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()] == []


def test_the_store_is_named_by_status_pages_and_terminal(flow: Path, capsys: pytest.CaptureFixture[str]) -> None:
    named = "Milvus Lite, milvus.db, collection videos"
    assert read_progress(RunFolder(flow)).vectors == named
    show_outcome(RunFolder(flow))
    assert f"vectors: {named}" in capsys.readouterr().out
    direct, batch = "03_extract", "05_upload"
    for stage in (batch if (flow / "stages" / f"{batch}.json").exists() else direct, "06_search_and_clean"):
        assert f"The vectors are in: {named}." in (flow / "reports" / f"{stage}.html").read_text("utf-8")
    page = (flow / "reports" / "index.html").read_text("utf-8")
    assert re.search(rf">vectors in</th><td[^>]*>{re.escape(named)}<", page)


def check_every_row(list_csv: Path, run_dir: Path) -> None:
    listed = [row["id"] for row in load_rows(list_csv)]
    shared_out = OUTPUTS[:5]
    found = [row["id"] for name in shared_out for row in load_rows(run_dir / name)]
    assert Counter(found) == Counter(listed)
    rows = json.loads((run_dir / "summary.json").read_text("utf-8"))["rows"]
    assert rows["input"] == len(listed) == sum(count for name, count in rows.items() if name != "input")


def test_every_row_of_the_list_is_in_one_output(site: Site, flow: Path) -> None:
    check_every_row(site.list_csv, flow)


def test_the_clean_list_keeps_columns_order_and_targets(site: Site, flow: Path) -> None:
    listed, final = load_rows(site.list_csv), load_rows(flow / "FINAL_RESULT.csv")
    assert list(final[0])[: len(listed[0])] == list(listed[0])
    order = {row["id"]: place for place, row in enumerate(listed)}
    assert [row["id"] for row in final] == sorted((row["id"] for row in final), key=order.__getitem__)
    kept = {row["video_url"] for row in final}
    assert {row["duplicate_of"] for row in load_rows(flow / "duplicates.csv")} <= kept


def test_both_flows_come_to_the_same_by_many_workers_and_by_one(direct: Path, batch: Path) -> None:
    summaries = ("summary.json",)
    assert read_outputs(direct, but=summaries) == read_outputs(batch, but=summaries)


def test_every_notebook_of_the_flow_ran_and_is_rendered(flow: Path) -> None:
    mode = "batch" if "batch" in flow.name else "direct"
    for stage in FLOWS[mode] if mode == "direct" else FLOWS[mode][3:]:
        executed = nbformat.read(flow / "notebooks" / f"{stage}.ipynb", as_version=4)
        assert all(cell.get("execution_count") for cell in executed.cells if cell.cell_type == "code" and cell.source)
        assert json.loads((flow / "stages" / f"{stage}.json").read_text("utf-8"))["stage"] == stage
        assert (flow / "reports" / f"{stage}.html").exists()


def test_job_folders_are_as_documented_and_empty_ones_are_gone(batch: Path) -> None:
    jobs = sorted((batch / "batch_outputs").iterdir())
    assert jobs
    for job in jobs:
        assert re.fullmatch(r"url_\d{4}", job.name)
        assert (job / "url.txt").read_text("utf-8").startswith("http")
        frames = sorted(path.name for path in job.glob("*.npy"))
        assert frames and set(frames) <= {f"frame_{position:02}.npy" for position in range(8)}
    record = json.loads((batch / "stages" / "04_clean_jobs.json").read_text("utf-8"))
    assert record["counts"]["empty"] == record["counts"]["jobs"] - len(jobs) > 0


def test_a_second_run_changes_nothing_and_fetches_nothing(site: Site, batch: Path, tmp_path: Path) -> None:
    # Another copy, so that the other tests keep the first run's records.
    run_dir = tmp_path / "batch"
    shutil.copytree(batch, run_dir)
    before, requests = read_outputs(run_dir), sum(site.server.requests.values())
    run_by_hand(site, run_dir, mode="batch", vectors="frames")
    assert read_outputs(run_dir) == before
    assert sum(site.server.requests.values()) == requests
    counts = json.loads((run_dir / "stages" / "03_extract.json").read_text("utf-8"))["counts"]
    # The copy's job folders and store are the first run's: only the one retryable failure may be tried again.
    assert counts["attempted"] == sum(row["retryable"] == "True" for row in load_rows(run_dir / "failed_urls.csv"))


def test_the_cosine_alone_finds_less_and_fetches_nothing(site: Site, direct: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "strict"
    shutil.copytree(direct, run_dir)
    requests = sum(site.server.requests.values())
    run_by_hand(site, run_dir, only="06", decide="cosine", cosine_thresh=0.95, auto_clean=False)
    assert sum(site.server.requests.values()) == requests
    strict, loose = (json.loads((path / "summary.json").read_text("utf-8")) for path in (run_dir, direct))
    assert (strict["decision"]["measure"], loose["decision"]["measure"]) == ("cosine", "score")
    assert 0 < strict["rows"]["duplicates"] < loose["rows"]["duplicates"]
    assert strict["rows"]["invalid"] == 0
    assert strict["rows"]["final"] > loose["rows"]["final"]
    assert {row["rule"] for row in load_rows(run_dir / "duplicates.csv")} == {"cosine"}


def test_other_rules_fetch_nothing_and_an_excerpt_that_stays_is_for_review(
    site: Site, direct: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "kept"
    shutil.copytree(direct, run_dir)
    (run_dir / "stages" / "06_search_and_clean.json").unlink()
    requests = sum(site.server.requests.values())
    extracted = (run_dir / "stages" / "03_extract.json").read_bytes()
    run_by_hand(site, run_dir, only="06", min_score=0.6, excerpts="keep", keep="first_seen")
    assert sum(site.server.requests.values()) == requests
    assert (run_dir / "stages" / "03_extract.json").read_bytes() == extracted
    assert json.loads((run_dir / "summary.json").read_text("utf-8"))["decision"]["threshold"] == 0.6
    teaser = site.server.url("mirror/tower_teaser.mp4")
    assert teaser in {row["video_url"] for row in load_rows(run_dir / "FINAL_RESULT.csv")}
    assert load_rows(direct / "review.csv") == []
    assert {row["kept_because"] for row in load_rows(run_dir / "duplicates.csv")} == {"first in the list"}
    (row,) = load_rows(run_dir / "review.csv")
    assert (row["first_url"], row["second_url"]) == (site.server.url("tall/up-the-tower.mp4"), teaser)
    assert (row["verdict"], float(row["copy_coverage"])) == ("excerpt", 1.0)


def test_what_a_person_decided_beside_the_list_is_honoured(site: Site, direct: Path, tmp_path: Path) -> None:
    decisions = site.list_csv.with_name("decisions.csv")
    films, copies = ("spots/lights-out.mp4", "spots/landing-site.mp4"), ("spots/whiskers.mp4", "mirror/cat_4x3.mp4")
    run_dir = tmp_path / "run"
    shutil.copytree(direct, run_dir)
    requests = sum(site.server.requests.values())
    try:
        decisions.write_text(
            "first_url,second_url,decision,decided_at\n"
            f"{','.join(map(site.server.url, films))},same,\n"
            f"{','.join(map(site.server.url, copies))},different,\n",
            encoding="utf-8",
        )
        run_by_hand(site, run_dir, only="06")
    finally:
        decisions.unlink()
    assert sum(site.server.requests.values()) == requests
    by_person = [row for row in load_rows(run_dir / "duplicates.csv") if row["rule"] == "a person's decision"]
    assert [{row["url"], row["duplicate_of"]} for row in by_person] == [set(map(site.server.url, films))]
    assert by_person[0]["score"] in ("", "0.0")
    final = {row["video_url"] for row in load_rows(run_dir / "FINAL_RESULT.csv")}
    assert set(map(site.server.url, copies)) <= final
    assert len(final & set(map(site.server.url, films))) == 1
    check_every_row(site.list_csv, run_dir)
    assert "a person decided so" in (run_dir / "reports" / "index.html").read_text("utf-8")

    run_by_hand(site, run_dir, only="06")
    assert read_outputs(run_dir) == read_outputs(direct)


def test_the_best_copy_is_kept(site: Site, direct: Path) -> None:
    rows = {row["url"]: row for row in load_rows(direct / "duplicates.csv")}
    small = rows[site.server.url("mirror/morning_small.mp4")]
    assert (small["duplicate_of"], small["kept_because"]) == (
        site.server.url("spots/slow-mornings.mp4"),
        "larger frame",
    )
    # The bars around a copy make it no larger frame.
    assert "larger frame" not in {
        row["kept_because"] for row in rows.values() if row["duplicate_of"] == site.server.url("mirror/cup_wide.mp4")
    }


def test_first_frames_alone_do_not_join_black_starts(site: Site, tmp_path: Path) -> None:
    black, others = {"TVC-1552", "TVC-1624", "TVC-2210"}, {"TVC-0952", "TVC-0088", "TVC-0526"}
    listed = shorten(site, tmp_path / "videos.csv", ids=black | others)
    run_dir = run_by_hand(site, tmp_path / "first", input_csv=str(listed), num_frames=1, frame_span="first")
    assert {row["id"] for row in load_rows(run_dir / "featureless_urls.csv")} == black
    copies = {row["id"] for row in load_rows(run_dir / "duplicates.csv")}
    assert copies and copies <= {"TVC-0952", "TVC-0088"}


def test_the_flow_with_a_clip_model(site: Site, clip_dir: Path, tmp_path: Path) -> None:
    listed = shorten(site, tmp_path / "videos.csv", ids={"TVC-2041", "TVC-2042", "TVC-0952", "TVC-0088", "TVC-1433"})
    changed = {"input_csv": str(listed), "encoder": "clip", "model": str(clip_dir), "cosine_thresh": 0.999}
    run_dir = run_by_hand(site, tmp_path / "clip", **changed)
    summary = json.loads((run_dir / "summary.json").read_text("utf-8"))
    assert (summary["decision"]["encoder"], summary["decision"]["model"]) == ("clip", str(clip_dir))
    assert (summary["statuses"]["ok"], summary["rows"]["input"]) == (4, 5)


def test_jobs_upload_pooled_too(site: Site, batch: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "average"
    shutil.copytree(batch, run_dir)
    run_by_hand(site, run_dir, mode="batch", first="05", vectors="average", collection="pooled")
    summary = json.loads((run_dir / "summary.json").read_text("utf-8"))
    assert (summary["decision"]["pooling"], summary["decision"]["schema"]) == ("average", "aggregated")
    assert summary["rows"]["duplicates"] > 0


def test_a_list_without_a_single_video_is_accounted_for(site: Site, tmp_path: Path) -> None:
    listed = tmp_path / "videos.csv"
    listed.write_text(f"url\n{site.server.url('nowhere.mp4')}\nnot here.mp4\n", encoding="utf-8")
    with pytest.raises(FailedRowsError, match="1 of 2 videos could not be read, and no row gave a video"):
        run_by_hand(site, tmp_path / "run", input_csv=str(listed), mode="batch")
    run_dir = tmp_path / "run"
    rows = json.loads((run_dir / "summary.json").read_text("utf-8"))["rows"]
    assert rows == {"input": 2, "text_duplicates": 0, "final": 0, "duplicates": 0, "invalid": 1, "failed": 1}


def test_a_notebook_runs_by_plain_papermill(site: Site, tmp_path: Path) -> None:
    params = tmp_path / "x.yaml"
    values = {"run_dir": str(tmp_path / "run"), "input_csv": str(site.list_csv), "mode": "direct"}
    params.write_text(yaml.safe_dump(values), encoding="utf-8")
    notebook = [sys.executable, "-m", "papermill", "notebooks/01_decode.ipynb", str(tmp_path / "out.ipynb")]
    subprocess.run([*notebook, "-f", str(params)], cwd=find_project_root(), check=True, capture_output=True)
    assert len(load_rows(tmp_path / "run" / "videos.decoded.csv")) == len(load_rows(site.list_csv))


def test_a_failing_notebook_stops_the_run_with_its_reason(site: Site, tmp_path: Path) -> None:
    empty = tmp_path / "empty.csv"
    empty.write_text("")
    with pytest.raises(NotebookError, match="empty") as caught:
        run_flow(site, tmp_path / "run", input_csv=str(empty))
    assert caught.value.notebook == "01_decode"
    assert caught.value.executed_path.exists()
    assert "01_decode" in (tmp_path / "run" / "reports" / "index.html").read_text("utf-8")
    assert not (tmp_path / "run" / "stages" / "02_dedupe_urls.json").exists()


def test_the_command_line_says_why_and_where(tmp_path: Path) -> None:
    """A fault that shows only in a notebook: the disk keeps the place of an output."""
    (tmp_path / "ads.csv").write_text("url\nhttps://example.com/a.mp4\n", encoding="utf-8")
    (tmp_path / "taken").mkdir()
    done = subprocess.run(
        [
            *(sys.executable, "-m", "dedup_lib", "run", "direct", "--set", f"run_dir={tmp_path / 'run'}"),
            *("--set", f"input_csv={tmp_path / 'ads.csv'}", "--set", f"output_csv={tmp_path / 'taken'}"),
            *("--only", "01"),
        ],
        cwd=find_project_root(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "taken" in done.stderr
    assert str(tmp_path / "run" / "notebooks" / "01_decode.ipynb") in done.stderr.replace("\n", "")
    assert "Traceback" not in done.stderr


class Loads(HTMLParser):
    """What a page would fetch when it is opened."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            loads = name in ("src", "srcset", "poster", "background", "data") or (name == "href" and tag != "a")
            if loads and value and not value.startswith(("data:", "#")):
                self.found.append(f"<{tag} {name}={value[:80]}>")


def test_reports_load_nothing(flow: Path) -> None:
    pages = sorted((flow / "reports").glob("*.html"))
    assert len(pages) >= 4
    for page in pages:
        html = page.read_text("utf-8")
        assert Loads(html).found == [], page.name
        assert not re.search(r"@import|url\(\s*['\"]?(?!data:|#)", html), page.name
        scripts = open_page(page).scripts
        assert not scripts or page.name == "index.html", page.name


def test_no_link_of_a_page_is_dead(flow: Path) -> None:
    for page in sorted((flow / "reports").glob("*.html")):
        for _, attrs in open_page(page).tags:
            for name in ("href", "src"):
                target, _, part = attrs.get(name, "").partition("#")
                if target.lower().startswith(("data:", "http:", "https:")):
                    continue
                there = page.parent / unquote(target) if target else page
                assert there.exists(), f"{page.name}: {target}"
                if part and there.suffix == ".html":
                    assert part in {found.get("id") for _, found in open_page(there).tags}, f"{page.name}: #{part}"


def test_a_browser_opens_the_report_without_a_request(direct: Path, visit: Visit) -> None:
    for page in sorted((direct / "reports").glob("*.html")):
        visit.page.goto(page.as_uri())
        assert visit.page.locator("h1").count() >= 1, page.name

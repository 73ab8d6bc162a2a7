"""Lists of which much or all could not be read: what is said of them, by a whole run, and when that run fails."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from pages import open_page

from dedup_lib.errors import FailedRowsError
from dedup_lib.records import Outcome, Status
from dedup_lib.report.overview import write_index
from dedup_lib.run.failures import MAX_CAUSES, Cause, Reading, check_failures, find_causes, find_main_cause
from dedup_lib.run.paths import find_project_root

ROOT = find_project_root(Path(__file__).parent)
COLUMNS = {"COLUMNS": "400"}


def outcomes(**counts: int) -> list[Outcome]:
    """So many of each status, every one from a host of its own."""
    return [
        Outcome(url=f"https://{status}{number}.example/{number}.mp4", status=Status(status), reason="why")
        for status, count in counts.items()
        for number in range(count)
    ]


def blocked(count: int) -> list[Outcome]:
    return [
        Outcome(
            url=f"http://HOST{number}.lan:80/a.mp4",
            status=Status.BLOCKED_ADDRESS,
            reason=f"host{number}.lan is at 10.0.0.{number}, a private address",
            refused_by="allow_private_addresses=False",
        )
        for number in range(count)
    ]


@pytest.mark.parametrize(
    ("counts", "share", "headline", "others"),
    [
        ({"timeout": 57, "invalid_url": 1}, 1.0, "57 of 58 videos could not be read", "Another 1 is not a video."),
        ({"html": 3, "http_error": 2}, 1.0, "3 of 5 rows are not videos", "Another 2 could not be read."),
        ({"ok": 1, "timeout": 3, "pending": 90}, 0.75, "3 of 4 videos could not be read", ""),
        ({"featureless": 2, "image": 2}, 0.0, "2 of 4 rows are not videos", ""),
        ({"ok": 3}, 0.0, "0 of 3 videos could not be read", ""),
        ({"pending": 4}, 0.0, "No row was read yet", ""),
        ({}, 0.0, "No row was read yet", ""),
    ],
)
def test_how_a_reading_ended(counts: dict[str, int], share: float, headline: str, others: str) -> None:
    reading = Reading.of(outcomes(**counts))
    assert (reading.failed_share, reading.headline, reading.others) == (share, headline, others)


def test_rows_with_one_cause_are_counted_together() -> None:
    dead = [
        Outcome(
            url=f"https://gone{number}.example/x.mp4",
            status=Status.UNREACHABLE,
            reason=f"the host name 'gone{number}.example' does not resolve",
        )
        for number in range(3)
    ]
    causes = find_causes([*dead, *blocked(5), *outcomes(ok=9, pending=2)])
    assert [(cause.rows, cause.status, cause.remedy) for cause in causes] == [
        (5, "blocked_address", "allow_private_addresses=true"),
        (3, "unreachable", ""),
        (2, "pending", ""),
    ]
    assert causes[0].reason == "… is at 10.0.0.0, a private address"
    assert causes[1].reason == "the host name '…' does not resolve"
    # A host that is part of a word or of another name is not what the reason speaks of.
    alone = Outcome(url="http://it/x", status=Status.HTTP_ERROR, reason="it.example: quit it")
    assert find_causes([alone])[0].reason == "it.example: quit …"
    many = [Outcome(url="x", status=Status.DECODE_ERROR, reason=str(number)) for number in range(MAX_CAUSES + 1)]
    assert len(find_causes(many)) == MAX_CAUSES
    assert find_causes([Outcome(url="http://[", status=Status.INVALID_URL)])[0].reason == ""


def test_the_error_names_what_it_counts() -> None:
    found = outcomes(html=5, timeout=3, ok=1)
    with pytest.raises(FailedRowsError, match=r"3 of 9 videos could not be read, more than fail_above = 0\.1 allows"):
        check_failures(Reading.of(found), find_causes(found), fail_above=0.1)


def test_a_limit_that_refused_is_to_be_raised() -> None:
    cause = Cause(status=Status.TOO_LARGE, reason="more", rows=1, refused_by="max_bytes=5000")
    assert cause.remedy == "max_bytes=50000"


def test_the_main_cause_took_more_than_half_of_what_was_tried() -> None:
    def main(*of: Outcome) -> Cause | None:
        return find_main_cause(Reading.of(of), find_causes(of))

    found = main(*blocked(3), *outcomes(ok=2, pending=50))
    assert found is not None and found.rows == 3
    assert main(*blocked(3), *outcomes(ok=3)) is None
    assert main(*outcomes(pending=9)) is None


@pytest.mark.parametrize(
    ("counts", "passes", "refused"),
    [
        ({"ok": 1, "timeout": 9}, [0.9, 1.0], [0.0, 0.89]),
        ({"timeout": 1}, [1.0], [0.0, 0.9, 0.999]),
        # A login page in place of every video is no success either.
        ({"html": 5}, [1.0], [0.9]),
        ({"html": 5, "ok": 1}, [0.0, 0.9], []),
        ({"ok": 3, "pending": 500}, [0.0], []),
        ({"pending": 5}, [0.0], []),
        ({}, [0.0], []),
    ],
)
def test_how_many_rows_may_fail(counts: dict[str, int], passes: list[float], refused: list[float]) -> None:
    found = outcomes(**counts)
    for fail_above in passes:
        check_failures(Reading.of(found), find_causes(found), fail_above=fail_above)
    for fail_above in refused:
        with pytest.raises(FailedRowsError, match=rf"fail_above = {fail_above:g} .* All outputs are written"):
            check_failures(Reading.of(found), find_causes(found), fail_above=fail_above)


# A whole run


@dataclass(frozen=True)
class Refused:
    """A run over a list of videos at private addresses."""

    folder: Path
    list_csv: Path
    done: subprocess.CompletedProcess[str]

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        return call("run", "direct", "--set", f"run_dir={self.folder}", *words)


def call(*words: str, module: str = "dedup_lib") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *words],
        cwd=ROOT,
        env=os.environ | COLUMNS,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> Refused:
    folder = tmp_path_factory.mktemp("refused")
    urls = [f"http://127.0.0.1:{port}/spot.mp4" for port in (9, 10, 11)]
    (folder / "ads.csv").write_text("id,url\n" + "".join(f"{n},{url}\n" for n, url in enumerate([*urls, ""])))
    given = {"input_csv": folder / "ads.csv", "run_dir": folder / "run", "encoder": "pdq"}
    done = call("run", "direct", "--from", "03", *(f"--set={name}={value}" for name, value in given.items()))
    return Refused(folder / "run", folder / "ads.csv", done)


def test_a_run_that_read_nothing_says_why_and_is_no_success(refused: Refused) -> None:
    done = refused.done
    assert done.returncode == 3
    _, _, below = done.stdout.partition("could not be read")
    _, _, below = below.partition("why rows gave no video\n")
    one, two, warning, *_ = below.splitlines()
    assert one.split()[:2] == ["3", "blocked_address:"] and "a private address" in one
    assert one.rstrip().endswith("→ --set allow_private_addresses=true")
    assert two.split() == ["1", "invalid_url:", "the", "cell", "is", "empty"]
    assert warning.startswith("warning: 3 of 4 rows gave no video for one reason, blocked_address: ")
    (step,) = (line for line in below.splitlines() if "3 rows were refused by a setting" in line)
    assert "if you trust the list: " in step and step.rstrip().endswith("--set allow_private_addresses=true")
    (error,) = done.stderr.splitlines()
    assert error.startswith("error: 3 of 4 videos could not be read, and no row gave a video")
    assert "--set allow_private_addresses=true" in error and "fail_above" in error
    # It is complete all the same.
    assert (refused.folder / "failed_urls.csv").read_text(encoding="utf-8").count("blocked_address") == 3
    assert (refused.folder / "stages" / "06_search_and_clean.json").exists()


def test_its_report_says_so_first_and_draws_nothing_empty(refused: Refused) -> None:
    page = open_page(refused.folder / "reports" / "index.html")
    banner = "3 of 4 videos could not be read, so nothing was compared."
    assert banner in page.text and "Another 1 is not a video." in page.text
    assert "--set allow_private_addresses=true" in page.text
    # The links at the top of the page come before all of it.
    assert page.text.index(banner) < page.text.index("Why rows were set aside") < page.text.rindex("Where every row")
    names = {attrs.get("id", "") for _, attrs in page.tags}
    assert "thresholds" not in names and "sweep" not in names
    for path in (refused.folder / "reports").glob("*.html"):
        assert "in the list has a copy" not in open_page(path).text, path.name
    html = (refused.folder / "reports" / "06_search_and_clean.html").read_text(encoding="utf-8")
    assert "so nothing was compared" in html, "the words of a picture"


def test_bare_papermill_of_06_fails_with_the_reasons(refused: Refused, tmp_path: Path) -> None:
    words = ["notebooks/06_search_and_clean.ipynb", str(tmp_path / "out.ipynb"), "-p", "run_dir", str(refused.folder)]
    done = call(*words, module="papermill")
    assert done.returncode == 1
    assert "FailedRowsError: 3 of 4 videos could not be read" in done.stderr
    assert "--set allow_private_addresses=true" in done.stderr


def test_a_list_that_may_fail_is_a_success_with_a_warning(refused: Refused) -> None:
    done = refused.call("--only", "06", "--set", "fail_above=1", "--no-report")
    assert (done.returncode, done.stderr) == (0, "")
    assert "warning: 3 of 4 rows gave no video" in done.stdout


def test_a_page_of_an_older_run_has_no_banner(refused: Refused) -> None:
    summary = refused.folder / "summary.json"
    text = summary.read_text(encoding="utf-8")
    try:
        summary.write_text(text.replace('"reading"', '"of old"'), encoding="utf-8")
        assert "so nothing was compared." not in open_page(write_index(refused.folder)).text.partition("Where every")[0]
    finally:
        summary.write_text(text, encoding="utf-8")
        write_index(refused.folder)

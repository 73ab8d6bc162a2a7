"""A run as one file for a mail."""

from __future__ import annotations

import zipfile
from pathlib import Path
from urllib.parse import unquote

import pytest
from click.testing import CliRunner
from made_run import make_run
from pages import open_page

from dedup_lib.cli.main import commands
from dedup_lib.errors import RunFolderError
from dedup_lib.report.overview import write_index
from dedup_lib.report.share import START_PAGE, share_run
from dedup_lib.run.folder import RunFolder


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    made = make_run(tmp_path / "my <run> ü", sizes=[2, 3, 1], failed=2)
    write_index(made.run.path)
    return made.run


def test_every_link_of_the_report_works_where_it_is_unpacked(run: RunFolder, tmp_path: Path) -> None:
    names = share_run(run, tmp_path / "mail.zip")
    with zipfile.ZipFile(tmp_path / "mail.zip") as archive:
        assert archive.testzip() is None and sorted(archive.namelist()) == sorted(names)
        archive.extractall(tmp_path / "elsewhere")
    (top,) = (tmp_path / "elsewhere").iterdir()
    assert top.name == run.path.name and (top / START_PAGE).is_file()
    page = open_page(top / "reports" / "index.html")
    links = [attrs["href"] for tag, attrs in page.tags if tag == "a" and attrs.get("href")]
    here = [link for link in links if not link.startswith(("http", "#"))]
    assert any("FINAL_RESULT.csv" in link for link in here)
    for link in here:
        assert (top / "reports" / unquote(link.partition("#")[0])).is_file(), link
    # No vectors, fingerprints, storyboards or code.
    assert {Path(name).suffix for name in names} == {".html", ".csv"}


def test_a_run_without_a_report_says_what_to_do(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.make()
    with pytest.raises(RunFolderError, match="no report to share: finish the run"):
        share_run(run, tmp_path / "mail.zip")
    assert not (tmp_path / "mail.zip").exists()


def test_a_place_that_cannot_be_written_keeps_the_old_file(run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "mail.zip").mkdir()
    with pytest.raises(RunFolderError, match=r"mail\.zip"):
        share_run(run, tmp_path / "mail.zip")
    assert [path.name for path in tmp_path.glob("*.part")] == []


def test_the_command_writes_the_zip_where_one_says(run: RunFolder, tmp_path: Path) -> None:
    result = CliRunner().invoke(commands, ["share", str(run.path), "--to", str(tmp_path / "to.zip")])
    assert result.exit_code == 0 and zipfile.is_zipfile(tmp_path / "to.zip")

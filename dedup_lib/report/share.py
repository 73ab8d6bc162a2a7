"""A run as one file for a mail: its report, the pages of its notebooks, and its CSVs, with links that work."""

from __future__ import annotations

import shlex
import zipfile
from html import escape
from pathlib import Path

from dedup_lib.errors import RunFolderError
from dedup_lib.report.sections import list_files
from dedup_lib.run.files import write_file_atomically
from dedup_lib.run.folder import RunFolder
from dedup_lib.sanitise import sanitise_line

START_PAGE = "open me.html"
"""Leads to the report, which lies in a folder below, as in the run folder."""


def share_run(run: RunFolder, path: Path) -> list[str]:
    """Writes a zip with the report of a run, the pages that it links, and the CSVs. Returns the names inside.

    Vectors, fingerprints, storyboards and executed notebooks stay out. Raises RunFolderError when the run has no report
    yet, or for an error of the disk; an older zip then stays as it was.
    """
    pages = sorted(run.reports_dir.glob("*.html"))
    if run.reports_dir / "index.html" not in pages:
        raise RunFolderError(
            f"{run.shown(run.path)} has no report to share: finish the run, or write the report with "
            f"python -m dedup_lib report {shlex.quote(run.path.name)}"
        )
    listed = list_files(run, summary=run.read_summary() or {}, stages=run.read_records())
    tables = [run.path / file["name"] for file in listed if not Path(file["name"]).is_absolute()]
    inside = {page.relative_to(run.path): page for page in (*pages, *tables) if page.is_file()}
    top = Path(run.path.name)

    def write(scratch: Path) -> None:
        with zipfile.ZipFile(scratch, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(str(top / START_PAGE), _draw_start(run.path.name))
            for name, source in inside.items():
                archive.write(source, str(top / name))

    write_file_atomically(path, write)
    return [str(top / START_PAGE), *(str(top / name) for name in inside)]


def _draw_start(name: str) -> str:
    return (
        '<!DOCTYPE html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url=reports/index.html">'
        f'<title>{escape(sanitise_line(name))}</title><a href="reports/index.html">The report</a>'
    )

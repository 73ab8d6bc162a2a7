"""What the tests of commands share."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from command_line import Said, Say

from dedup_lib.cli.main import main


@pytest.fixture
def say(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    def run(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["dedup_lib", *arguments])
        code = 0
        try:
            main()
        except SystemExit as stopped:
            code = int(stopped.code or 0)
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return run

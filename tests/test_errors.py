"""What people see of an error."""

from __future__ import annotations

import pytest
from IPython.core.interactiveshell import InteractiveShell


def test_a_notebook_shows_the_message_without_the_way_to_it(capsys: pytest.CaptureFixture[str]) -> None:
    shell = InteractiveShell()
    shell.run_cell(
        "from dedup_lib.errors import SettingError\n"
        "def fail():\n    raise SettingError('min_score', 5, 'give 0 to 1\\x1b[2J')\n"
        "fail()"
    )
    assert capsys.readouterr().out == "SettingError: min_score = 5 cannot be used: give 0 to 1\\x1b[2J\n"
    shell.run_cell("raise ValueError('a fault of ours')")
    assert "Traceback" in capsys.readouterr().out

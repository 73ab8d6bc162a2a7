import subprocess
import sys
from pathlib import Path

import pytest

# Small blocks between the large ones: what lies between two of them stays in the heap of glibc.
FREEING = """
import numpy as np
import psutil
from dedup_lib.run.memory import return_large_blocks

return_large_blocks()
np.ones(24_000_000, np.uint8)
blocks = [(np.ones(6_000_000, np.uint8), np.ones(100_000, np.uint8)) for _ in range(20)]
held = psutil.Process().memory_info().rss
blocks = [small for _, small in blocks]
print(held - psutil.Process().memory_info().rss)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc keeps freed blocks")
def test_large_blocks_go_back_to_the_system_when_they_are_freed() -> None:
    freed = subprocess.run([sys.executable, "-c", FREEING], capture_output=True, text=True, check=True)
    assert int(freed.stdout) > 100_000_000


# In a process of its own, which has one thread and has not loaded the module.
APART = """
import sys
from functools import partial
from importlib import import_module
from dedup_lib.errors import SettingError
from dedup_lib.run.memory import run_apart

def refuse():
    raise SettingError("top_k", 0, "it must be positive")

run_apart(partial(import_module, "colorsys"))
print("colorsys" in sys.modules)
try:
    run_apart(refuse)
except SettingError as error:
    print(error, error.name, error.value, sep="|")

class Odd(Exception):
    def __init__(self, one, other):
        super().__init__(one)

def fail(error):
    with open(sys.argv[1], "a") as file:
        file.write(type(error).__name__ + "\\n")
    raise error

for error in (ValueError("no"), Odd("cannot be", "sent")):
    try:
        run_apart(partial(fail, error))
    except (ValueError, Odd) as error:
        print(type(error).__name__, error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the work is done in the process itself")
def test_what_runs_apart_leaves_nothing_but_its_error(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", APART, str(tmp_path / "done")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "False",
        "top_k = 0 cannot be used: it must be positive|top_k|0",
        "ValueError no",
        "Odd cannot be",
    ]
    assert done.stderr == ""
    again = "an error that cannot be sent is raised once more"
    assert (tmp_path / "done").read_text().split() == ["ValueError", "Odd", "Odd"], again

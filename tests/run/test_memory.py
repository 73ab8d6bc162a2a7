import subprocess
import sys

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

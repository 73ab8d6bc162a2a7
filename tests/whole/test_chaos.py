"""A long list full of faults, read by a process that is killed again and again, ends as one that was left in peace."""

from __future__ import annotations

import json
import math
import random
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import psutil
from extraction import load_ledger
from fault_server import Answer, FaultServer, serve
from faults import CONTENTS, FAULTS, redirect
from final_rows import load_rows

from dedup_lib.groups.clean import clean_list
from dedup_lib.records import Outcome, Status

LENGTH = 100
KILLS = 3

CHILD = """
if __name__ == "__main__":
    import json
    import sys
    from pathlib import Path

    import dedup_lib.extract.buffers
    from dedup_lib.media.limits import FetchLimits
    from extraction import run

    folder, urls, store = sys.argv[1:]
    dedup_lib.extract.buffers.SAVE_EVERY_S = 0.2
    limits = FetchLimits(timeout_s=5, max_bytes=3_000_000, allow_private_addresses=True, allow_local_paths=True)
    run(json.loads(Path(urls).read_text()), Path(folder), store=store, limits=limits, workers=4)
"""

# Each lasts until the time is up: few of them, and first in the list, so that the others do not wait for them.
SLOW = ("no answer", "a drip too slow")


def answers() -> dict[str, Answer]:
    """By name, every fault that ends quickly and whose answer does not depend on what was asked before."""
    left_out = re.compile("later|redirects|twice|changes|earlier|20,000")
    kinds = {name: fault.answer for name, fault in FAULTS.items() if fault.status != Status.TIMEOUT}
    kinds |= {name: serve(make()) for name, (make, _, _) in CONTENTS.items() if not left_out.search(name)}
    kinds["a loop"] = lambda request: redirect(request.path)(request)
    return {name: answer for name, answer in kinds.items() if not left_out.search(name)}


def spawn(folder: Path, urls: Path, store: str) -> subprocess.Popen[bytes]:
    script = urls.with_name("child.py")
    script.write_text(CHILD)
    return subprocess.Popen([sys.executable, str(script), str(folder), str(urls), store])


def kill(child: subprocess.Popen[bytes]) -> None:
    """Kill a run, and wait until its workers have followed it."""
    family = psutil.Process(child.pid).children(recursive=True)
    child.kill()
    child.wait()
    psutil.wait_procs(family, timeout=20)


def final_result(urls: Sequence[str], outcomes: dict[str, Outcome]) -> list[str]:
    frame = pd.DataFrame({"url": urls})
    cleaned = clean_list(frame, url_column="url", outcomes=outcomes, groups=[], auto_clean=True)
    return cleaned.final["url"].tolist()


def test_a_run_that_is_killed_again_and_again_ends_as_one_left_in_peace(tmp_path: Path) -> None:
    chance = random.Random(3)
    kinds = answers()
    named = [*SLOW, *(chance.choice(list(kinds)) for _ in range(LENGTH - len(SLOW)))]
    kinds |= {name: FAULTS[name].answer for name in SLOW}

    with FaultServer(lambda request: kinds[named[int(request.path.rpartition("/")[2])]](request)) as server:
        urls = [server.url(f"/{row}") for row in range(LENGTH)]
        (listed := tmp_path / "urls.json").write_text(json.dumps(urls))

        with spawn(tmp_path / "calm", listed, "clips") as child:
            assert child.wait(120) == 0
        calm = load_ledger(tmp_path / "calm")
        before = len(server.requests)

        def count_requests() -> Counter[str]:
            return Counter(server.url(request.path) for request in server.requests[before:])

        spared: list[dict[str, int]] = []
        while True:
            goal = len(server.requests) + chance.randrange(1, 40) if len(spared) < KILLS else math.inf
            with spawn(tmp_path / "chaos", listed, "clips") as child:
                while len(server.requests) < goal and child.poll() is None:
                    time.sleep(0.005)
                time.sleep(chance.uniform(0, 0.3))
                if child.poll() is not None:
                    break
                kill(child)
            finished = [o.url for o in load_ledger(tmp_path / "chaos").values() if not o.retryable]
            spared.append({url: count_requests()[url] for url in finished})
        assert child.returncode == 0
        chaos = load_ledger(tmp_path / "chaos")
        counts = count_requests()

    assert list(chaos) == list(calm) and set(chaos) == set(urls)
    assert {url: (o.status, o.retryable, o.frames) for url, o in chaos.items()} == {
        url: (o.status, o.retryable, o.frames) for url, o in calm.items()
    }
    assert final_result(urls, chaos) == final_result(urls, calm)
    # What was finished and saved before a kill was never asked for again.
    assert len(spared) == KILLS and 0 < len(spared[-1]) < LENGTH
    assert [{url: counts[url] for url in earlier} for earlier in spared] == spared
    rows = load_rows(tmp_path / "chaos", urls)
    assert rows == load_rows(tmp_path / "calm", urls)
    assert rows[0] == sum(outcome.frames for outcome in calm.values())

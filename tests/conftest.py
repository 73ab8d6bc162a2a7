"""What holds for every test: no network, no display, no model hub, no settings of the person who runs them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import loopback_only
import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from browser import Visit
    from milvus_for_tests import MilvusServer
    from playwright.sync_api import Browser

GUARD = Path(loopback_only.__file__).parent
SHARED = (GUARD, GUARD.parent / "helpers")

# Before any test module is imported, and inherited by every child process.
os.environ.update(
    MPLBACKEND="agg",
    HF_HUB_OFFLINE="1",
    TRANSFORMERS_OFFLINE="1",
    PYTHONPATH=os.pathsep.join(filter(None, [*map(str, SHARED), os.environ.get("PYTHONPATH")])),
)
# Empty rather than unset: pymilvus loads a `.env` file for what is unset.
os.environ.update(MILVUS_URI="", MILVUS_TOKEN="")

SLOW = (
    *("cli", "demo", "evaluate", "flow", "store", "whole"),
    *("extract/test_extract.py", "extract/test_faults.py", "extract/test_ray_pool.py", "extract/test_worker_pool.py"),
    *("features/test_encoders.py", "match/test_colours.py", "match/test_difference.py", "match/test_evidence.py"),
    *("match/test_moments.py", "match/test_motion.py", "match/test_pair_comparer.py", "match/test_refine.py"),
    *("match/test_regions.py", "match/test_vector_join.py", "match/test_visual_words.py", "media/test_playlists.py"),
    *("media/test_page_resolver.py", "media/test_sampling.py", "media/test_soundtrack.py", "media/test_streams.py"),
    *("report/test_outlines.py", "report/test_overview.py", "report/test_plots.py"),
    *("report/test_comparison.py", "rules/test_architecture.py", "rules/test_setup.py", "run/test_failures.py"),
    *("run/test_lock.py", "steps"),
)
"""What `make quick` leaves out: it starts servers, kernels, browsers or clusters, or takes more than five seconds."""
QUICK = bool(os.environ.get("QUICK"))
collect_ignore = list(SLOW) if QUICK else []

# What few examples do not find is for `make test`.
settings.register_profile("repeatable", deadline=None, derandomize=True, max_examples=10 if QUICK else 50)
settings.load_profile("repeatable")

_log = tempfile.NamedTemporaryFile(prefix="network-guard-", suffix=".log")  # noqa: SIM115 - lives as long as the tests
os.environ[loopback_only.LOG_VARIABLE] = _log.name
_proxy = loopback_only.RefusingProxy()
_proxy.start()
os.environ.update(grpc_proxy=_proxy.url, no_grpc_proxy="localhost,127.0.0.1,::1")
loopback_only.install()


LONGEST = (
    *("whole/test_flows.py", "extract/test_ray_pool.py", "whole/test_killed_runs.py", "whole/test_hostile.py"),
    *("whole/test_live_run.py", "match/test_evidence.py", "whole/test_jupyter.py", "store/test_store.py"),
    *("store/test_store_server.py", "store/test_transfer.py", "extract/test_extract.py", "report/test_overview.py"),
    *("match/test_regions.py", "extract/test_faults.py", "evaluate", "whole", "steps", "media/test_soundtrack.py"),
    *("media/test_playlists.py", "store", "run/test_failures.py", "demo", "match/test_colours.py", "extract"),
)
"""By the seconds that they take, the longest first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest modules first: with several processes, none of them is left alone at the end."""
    here = Path(__file__).parent

    def place(item: pytest.Item) -> int:
        path = item.path.relative_to(here).as_posix()
        return next((number for number, start in enumerate(LONGEST) if path.startswith(start)), len(LONGEST))

    items.sort(key=place)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Iterator[None]:
    """Fail a test that tried to reach another machine, even where its code swallowed the refusal."""
    yield
    attempts = _log.read().decode("utf-8")
    if attempts:
        pytest.fail(f"reached for the network:\n{attempts}", pytrace=False)


def pytest_unconfigure() -> None:
    _log.close()


@pytest.fixture(scope="session")
def corpus_dir() -> Path:
    """Folder of real clips, named by VIDEO_CORPUS_DIR; without it the test is skipped."""
    named = os.environ.get("VIDEO_CORPUS_DIR")
    if not named:
        pytest.skip("needs real clips: set VIDEO_CORPUS_DIR to their folder")
    if not Path(named).is_dir():
        pytest.fail(f"VIDEO_CORPUS_DIR names no folder: {named}")
    return Path(named)


@pytest.fixture(scope="session")
def clip_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny CLIP model with random weights."""
    # Here, so that this file serves tests elsewhere that have no such module.
    from tiny_clip import save_tiny_clip

    return save_tiny_clip(tmp_path_factory.mktemp("models") / "tiny clip")


# Even without work it takes a fifth of a core, so it does not stay for the tests of other modules.
@pytest.fixture(scope="module")
def milvus_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusServer]:
    """A real Milvus server; where none can be started, the test is skipped."""
    from made_once import shared_folder
    from milvus_for_tests import MilvusServer, load_tool

    trouble = load_tool().find_trouble()
    if trouble:
        pytest.skip(trouble)
    with shared_folder(tmp_path_factory, "milvus-programs") as programs:
        server = MilvusServer(tmp_path_factory.mktemp("milvus-server"), programs)
        server.start()
    yield server
    # To stop in good order takes it five seconds, and nobody needs its data.
    server.kill()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A real browser, one for the tests of a module; without chromium they are skipped."""
    from browser import open_browser

    with open_browser() as opened:
        yield opened


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """An empty page; the test fails when a page in it reports an error or asks for anything on another machine."""
    from browser import open_visit

    with open_visit(browser) as visited:
        yield visited

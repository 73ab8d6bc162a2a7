"""A Ray cluster of this machine's loopback alone, whose nodes come and go."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

import psutil
import pytest

HERE = Path(__file__).parent

# Ray reads them when it is imported, and its processes do when they start: no address but 127.0.0.1, no word to its
# makers, who are told else that they are told nothing, and no question to what serves facts inside clouds.
_CLOSED = "http://127.0.0.1:9"
os.environ.update(
    RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0",
    RAY_USAGE_STATS_ENABLED="0",
    RAY_USAGE_STATS_REPORT_URL=_CLOSED,
    RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0",
    # Processes that nobody has asked for take the time of those that are.
    RAY_prestart_worker_first_driver="0",
    RAY_enable_worker_prestart="0",
    # A process that does not reach the head for a minute is ended by Ray, and this one runs the other tests too.
    RAY_gcs_rpc_server_reconnect_timeout_s="600",
    # At their usual low priority, they wait for whatever else goes on.
    RAY_worker_niceness="0",
)


class RayCluster:
    """Nodes of one core each. Use as a context manager, which has RAY_ADDRESS name the first one."""

    def __enter__(self) -> Self:
        from ray.cluster_utils import Cluster

        # The names of its sockets are too long below a folder of pytest.
        self._folder = tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True)
        self._environment = pytest.MonkeyPatch()
        self._environment.setenv("RAY_TMPDIR", self._folder.name)
        # What stands in for a hostile file is found on the nodes, too.
        self._environment.setenv(
            "PYTHONPATH", os.pathsep.join([str(HERE), str(HERE.parent / "extract"), os.environ["PYTHONPATH"]])
        )
        with pytest.MonkeyPatch.context() as head:
            head.setenv("http_proxy", _CLOSED)
            self._cluster = Cluster(initialize_head=True, head_node_args=self._arguments)
        self._environment.setenv("RAY_ADDRESS", self._cluster.address)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cluster.shutdown()
        self._environment.undo()
        self._folder.cleanup()

    @property
    def _arguments(self) -> dict[str, Any]:
        return {
            "num_cpus": 1,
            "node_ip_address": "127.0.0.1",
            "include_dashboard": False,
            "include_log_monitor": False,
            "no_monitor": True,
            "object_store_memory": 80 * 2**20,
        }

    @property
    def folder(self) -> Path:
        """Where Ray keeps its logs, and what it was sent."""
        return Path(self._folder.name)

    def add_node(self, *, packages: Mapping[str, str] = MappingProxyType({})) -> Any:
        """With these versions of packages in place of its own, as far as it knows."""
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        for name, version in packages.items():
            (folder / f"{name}-{version}.dist-info").mkdir()
            (folder / f"{name}-{version}.dist-info" / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n")
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ["PYTHONPATH"]]))
            for tries_left in (2, 1, 0):
                try:
                    return self._cluster.add_node(**self._arguments)
                except Exception as error:
                    # Ray gives a node 30 seconds to start, which are too few while other tests keep the cores busy.
                    if not tries_left or "timed out during startup" not in str(error):
                        raise
            raise AssertionError

    def remove_node(self, node: Any) -> None:
        """All its processes are killed."""
        self._cluster.remove_node(node, allow_graceful=False)

    def kill_head(self) -> None:
        """What all nodes ask about each other; nothing is to be had of the cluster afterwards."""
        assert self._cluster.head_node is not None
        (head,) = self._cluster.head_node.all_processes["gcs_server"]
        head.process.kill()

    def find_workers(self) -> list[psutil.Process]:
        """The processes that work on the nodes for a run."""
        return [
            child
            for node in self._cluster.list_all_nodes()
            for raylet in node.all_processes["raylet"]
            for child in psutil.Process(raylet.process.pid).children()
            if child.status() != psutil.STATUS_ZOMBIE and child.name().startswith("ray::Node")
        ]

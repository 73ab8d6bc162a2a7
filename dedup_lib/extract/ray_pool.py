"""A worker pool on every node of a Ray cluster.

Each node has one actor, which holds as many processes as a machine by itself would, each to be killed and replaced
there. A task crosses the network, and what is left of it once the node has finished it; what lies between does not.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Generic

from dedup_lib.errors import ClusterError
from dedup_lib.extract.ray_node import Answers, Job, Node, Result, Task
from dedup_lib.extract.worker_pool import WorkerFailure, count_workers
from dedup_lib.run.versions import find_versions

REMEDY = "docs/guide.md shows how to start a cluster"

CONNECT_WITHIN_S = 5.0

NODE_WITHIN_S = 120.0
"""A run ends when for so long no node of the cluster has been ready to work."""

HEAD_WITHIN_S = 30.0
"""A run ends when for so long its head has not answered: after twice that, Ray ends the process."""

FINISH_AHEAD = 16
"""So many tasks of a node wait for its `finish`, or are at it, while all its processes are busy."""

MAX_LOSSES = 4
"""A task whose node was lost so often is given up: it is what takes the nodes down. For from the second time on, which
may happen to any of those that were together on a node, it has one for itself."""

_LOOK_EVERY_S = 0.2

_COUNT_NODES_EVERY_S = 2.0

_HEAR_WITHIN_S = 1.0

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(eq=False)
class _Member:
    """A node that takes part."""

    node_id: str
    name: str
    actor: Any
    workers: int
    is_late: bool
    """It joined when others were at work."""
    starting: Any
    """The reference of its `describe`, None once it is ready."""
    busy: int = 0
    is_reserved: bool = False
    """For the one task that it is busy with."""

    @property
    def slots(self) -> int:
        """Tasks that it holds at a time."""
        return self.workers + FINISH_AHEAD

    @property
    def is_free(self) -> bool:
        return self.starting is None and not self.is_reserved and self.busy < self.slots


class ClusterPool(Generic[Task, Result]):
    """Runs `work` on one task at a time in each of many processes, as `WorkerPool` does, on the nodes of the cluster
    that the environment variable RAY_ADDRESS names: `workers` on each node (None: as many as its cores need).

    What `work` gives is handed on the same node to the function that `make_finish` made there, once a node and for
    many threads. `answer` is called on this machine for what `work` asks by `call_parent`; where it cannot be reached,
    the answer is None. All three can be pickled. A GPU is asked for where `uses_gpu`, and a node has one.

    A node that is lost, or whose actor is, does a task no harm: it is given to another one. Nodes that join take part.
    Use as a context manager. Raises ClusterError when there is no cluster, or a node cannot do the work; and whatever
    `finish` raises.
    """

    def __init__(
        self,
        work: Callable[[Task], Result],
        *,
        make_finish: Callable[[], Callable[[Result], Result]],
        answer: Callable[[Any], object],
        workers: int | None,
        timeout_s: float,
        uses_gpu: bool = False,
    ) -> None:
        self._ray = _import_ray()
        self._job = Job(work=work, make_finish=make_finish, timeout_s=timeout_s)
        self._answer = answer
        self._workers = workers
        self._uses_gpu = uses_gpu
        self._members: dict[str, _Member] = {}
        self._next: deque[tuple[Task, int]] = deque()
        """Tasks to be given to a node before any other, and how often they were lost."""
        self._busy: dict[Any, tuple[_Member, Task, int]] = {}
        self._count_at_s = 0.0
        self._silent_since_s: float | None = None
        self._alone_since_s: float | None = None
        self._last_trouble = ""
        self._has_begun = False
        self._left_out: set[str] = set()
        self._is_stopping = threading.Event()

    def __enter__(self) -> ClusterPool[Task, Result]:
        self._address, self._head = _find_head(self._ray)
        if self._ray.is_initialized():
            raise ClusterError("this process is already connected to Ray: call ray.shutdown() first")
        with contextlib.ExitStack() as left:
            left.enter_context(_silenced(self._ray))
            # With this, what runs on the nodes ends.
            left.callback(self._ray.shutdown)
            try:
                self._connect()
            except Exception as error:
                raise ClusterError(
                    f"the Ray cluster at {self._address} accepts no work from this machine: "
                    f"{' '.join(str(error).split())}. The "
                    f"machine has to be a node of it, with the same versions of Ray and Python; {REMEDY}"
                ) from error
            self._left = left.pop_all()
        return self

    def _connect(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            # The nodes need the packages of requirements.txt, and get the code of the project from here. Without a
            # folder to work in they would look for it first where it lies on this machine, and find what lies there
            # on theirs.
            shutil.copytree(
                Path(__file__).resolve().parents[1],
                Path(folder, "dedup_lib"),
                ignore=shutil.ignore_patterns("__pycache__"),
            )
            self._ray.init(
                address=self._address,
                runtime_env={"working_dir": folder},
                configure_logging=False,
                log_to_driver=False,
            )
        here = self._ray.get_runtime_context().get_node_id()
        self._answers = (
            self._ray.remote(Answers)
            .options(num_cpus=0, max_concurrency=4, scheduling_strategy=self._on_node(here))
            .remote(self._answer)
        )
        self._job_ref = self._ray.put(self._job)

    def __exit__(self, *_: object) -> None:
        self._left.close()

    def stop(self) -> None:
        """Have `run` end soon, with tasks unfinished; may be called by another thread."""
        self._is_stopping.set()

    def run(self, tasks: Iterable[Task | None]) -> Iterator[tuple[Task, Result | WorkerFailure]]:
        """Each task with its result, in the order in which they finish; see `WorkerPool.run`."""
        waiting = iter(tasks)
        while not self._is_stopping.is_set():
            self._count_nodes()
            is_over = self._hand_out(waiting)
            if is_over and not self._busy:
                return
            starting = {member.starting: member for member in self._members.values() if member.starting is not None}
            awaited = [*self._busy, *starting]
            if not awaited:
                self._is_stopping.wait(_LOOK_EVERY_S)
                continue
            done, _ = self._ray.wait(awaited, num_returns=1, timeout=_LOOK_EVERY_S)
            for reference in done:
                if reference in starting:
                    self._welcome(starting[reference])
                else:
                    yield from self._collect(reference)

    def _on_node(self, node_id: str) -> Any:
        return self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node_id, soft=False)

    def _count_nodes(self) -> None:
        """Have every node take part that does not yet, and none that is gone."""
        now_s = time.monotonic()
        if now_s >= self._count_at_s:
            self._count_at_s = now_s + _COUNT_NODES_EVERY_S
            if self._hear_head():
                self._follow({node["NodeID"]: node for node in self._ray.nodes() if node["Alive"]})
        if any(member.starting is None for member in self._members.values()):
            self._alone_since_s = None
        elif self._alone_since_s is None:
            self._alone_since_s = now_s
        elif now_s - self._alone_since_s > NODE_WITHIN_S:
            raise ClusterError(
                f"no node of the Ray cluster at {self._address} has been ready for {NODE_WITHIN_S:g} s"
                f"{f' ({self._last_trouble})' if self._last_trouble else ''}. See that one of them has a core free, "
                "then start again: finished work is kept"
            )

    def _hear_head(self) -> bool:
        """Whether it answers, without which Ray waits. Raises ClusterError when it has not for long."""
        now_s = time.monotonic()
        try:
            socket.create_connection(self._head, timeout=_HEAR_WITHIN_S).close()
        except OSError as error:
            self._silent_since_s = self._silent_since_s or now_s
            if now_s - self._silent_since_s > HEAD_WITHIN_S:
                raise ClusterError(
                    f"the head of the Ray cluster at {self._address} has not answered for {HEAD_WITHIN_S:g} s "
                    f"({error}): start it and its nodes again, then start again: finished work is kept"
                ) from error
            return False
        self._silent_since_s = None
        return True

    def _follow(self, alive: dict[str, dict[str, Any]]) -> None:
        # Of one that was idle nothing else would tell that it is gone.
        self._members = {node_id: member for node_id, member in self._members.items() if node_id in alive}
        for node_id in alive.keys() - self._members.keys() - self._left_out:
            # A node that was started with no cores is not to work.
            if alive[node_id]["Resources"].get("CPU", 0) >= 1:
                self._take_in(alive[node_id])

    def _take_in(self, node: dict[str, Any]) -> None:
        resources = node["Resources"]
        workers = self._workers or count_workers(int(resources["CPU"]))
        actor = (
            self._ray.remote(Node)
            .options(
                num_cpus=1,
                num_gpus=int(self._uses_gpu and resources.get("GPU", 0) >= 1),
                max_concurrency=workers + FINISH_AHEAD,
                scheduling_strategy=self._on_node(node["NodeID"]),
            )
            .remote(self._job_ref, self._answers, workers)
        )
        self._members[node["NodeID"]] = _Member(
            node_id=node["NodeID"],
            name=node["NodeManagerAddress"],
            actor=actor,
            workers=workers,
            is_late=self._has_begun,
            starting=actor.describe.remote(),
        )

    def _welcome(self, member: _Member) -> None:
        """Have a node take tasks, once it is ready. One that would give other results, or none, is left out with a
        warning if it joined while others were at work. Raises ClusterError for any other such node."""
        reference, member.starting = member.starting, None
        try:
            trouble = _compare_versions(self._ray.get(reference))
        except self._ray.exceptions.RayError as error:
            if not getattr(error, "actor_init_failed", False) and not isinstance(
                error, (self._ray.exceptions.RayTaskError, self._ray.exceptions.RuntimeEnvSetupError)
            ):
                self._part_with(member, error)
                return
            trouble = (
                f"cannot take part: {_last_line(error)}. Install requirements.txt and requirements-ray.txt on it with "
                "constraints.txt, or remove it from the cluster"
            )
        if not trouble:
            self._has_begun = True
            return
        refused = ClusterError(f"node {member.name} of the Ray cluster {trouble}")
        if not member.is_late:
            raise refused
        self._left_out.add(member.node_id)
        self._part_with(member, refused)
        warnings.warn(f"{refused}. The others go on without it", stacklevel=1)

    def _part_with(self, member: _Member, error: Exception) -> None:
        """Give a node nothing more; while it lives, it is taken in again, unless it is left out."""
        self._last_trouble = f"node {member.name}: {_last_line(error)}"
        if self._members.get(member.node_id) is member:
            del self._members[member.node_id]
            with contextlib.suppress(self._ray.exceptions.RayError):
                self._ray.kill(member.actor)

    def _hand_out(self, waiting: Iterator[Task | None]) -> bool:
        """Give the nodes tasks while they have room; returns whether there is none left."""
        while True:
            free = [member for member in self._members.values() if member.is_free]
            if not self._next:
                if not free and self._busy:
                    return False
                try:
                    task = next(waiting)
                except StopIteration:
                    return True
                if task is None:
                    return False
                self._next.append((task, 0))
            task, losses = self._next[0]
            is_suspect = losses >= 2
            if is_suspect:
                free = [member for member in free if not member.busy]
            if not free:
                return False
            # So that no process is idle while tasks wait for one on another node.
            member = min(free, key=lambda member: member.busy / member.workers)
            self._next.popleft()
            self._busy[member.actor.run.remote(task)] = (member, task, losses)
            member.busy += 1
            member.is_reserved = is_suspect

    def _collect(self, reference: Any) -> Iterator[tuple[Task, Result | WorkerFailure]]:
        member, task, losses = self._busy.pop(reference)
        member.busy -= 1
        member.is_reserved = False
        try:
            result: Result | WorkerFailure = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            # The task itself cannot raise: it is `finish` that fails.
            raise error.cause from error
        except self._ray.exceptions.RayError as error:
            self._part_with(member, error)
            losses += 1
            if losses < MAX_LOSSES:
                self._next.append((task, losses))
                return
            result = WorkerFailure(f"{losses} nodes of the cluster were lost while they read it", timed_out=True)
        yield task, result


def _import_ray() -> ModuleType:
    """Ray, which few need and which is large. Raises ClusterError where it is missing."""
    # Where something else answers at the address of a cluster, Ray asks it for a quarter of an hour unless told not to.
    os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "1")
    try:
        import ray
        import ray.util.scheduling_strategies
    except ImportError as error:
        raise ClusterError(
            f"engine: ray needs the package Ray, which cannot be imported ({error}): run pip install -r "
            "requirements-ray.txt -c constraints.txt, or set engine: local"
        ) from error
    return ray


@contextlib.contextmanager
def _silenced(ray: ModuleType) -> Iterator[None]:
    """Without what Ray writes into a notebook when a node is lost: pages about its insides. It has no setting against
    that but the one of its debugger."""
    ray._private.worker._worker_logs_enabled = False
    try:
        yield
    finally:
        ray._private.worker._worker_logs_enabled = True


def _find_head(ray: ModuleType) -> tuple[str, tuple[str, int]]:
    """The address of the head of the cluster as it was given, and as host and port, where something answers.

    Raises ClusterError where nothing does.
    """
    address = os.environ.get("RAY_ADDRESS", "").strip()
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    if not host or "/" in host or not port.isdecimal():
        raise ClusterError(
            f"RAY_ADDRESS = {address!r} cannot be used: engine: ray needs the address of the cluster's head in this "
            f"environment variable, such as 10.0.0.5:6379; {REMEDY}"
        )
    # As Ray does, which else waits a quarter of an hour for an answer.
    head = (ray.util.get_node_ip_address() if host in _LOOPBACK else host, int(port))
    try:
        socket.create_connection(head, timeout=CONNECT_WITHIN_S).close()
    except (OSError, OverflowError) as error:
        through = f" (by {head[0]})" if head[0] != host else ""
        raise ClusterError(
            f"no Ray cluster answers at RAY_ADDRESS = {address}{through}: {error}. Check that its head is running and "
            f"can be reached from this machine; {REMEDY}"
        ) from error
    return address, head


def _compare_versions(there: dict[str, str]) -> str:
    """How a node differs from this machine, empty where it does not."""
    here = find_versions()
    for name in sorted(here.keys() & there.keys()):
        # What follows a + is the build, for a GPU or not.
        if here[name].partition("+")[0] != there[name].partition("+")[0]:
            return (
                f"has {name} {there[name]}, and this machine {here[name]}: results would differ. Install the versions "
                "in constraints.txt on every node"
            )
    return ""


def _last_line(error: Exception) -> str:
    """What an error comes down to: Ray's texts begin with what went before."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__

"""A worker pool on every node of a Ray cluster.

Each node has one actor. The actor holds as many worker processes as a single machine would, and kills and replaces
them there. Only tasks and finished results cross the network; nothing in between does.
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
"""Seconds without a ready node after which a run ends."""

HEAD_WITHIN_S = 30.0
"""Seconds without an answer of the cluster's head after which a run ends; after twice that, Ray ends the process."""

FINISH_AHEAD = 16
"""Tasks of a node that may wait for `finish`, or be in it, while all its worker processes are busy."""

MAX_LOSSES = 4
"""A task is given up after this many losses of its node, because it probably causes them. Any task on a lost node may
have caused the loss; so after its second loss, a task gets a node for itself."""

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
    """Whether it joined when other nodes were already at work."""
    starting: Any
    """The Ray reference of its `describe` call; None once it is ready."""
    busy: int = 0
    is_reserved: bool = False
    """Whether it is reserved for its one current task."""

    @property
    def slots(self) -> int:
        """Most tasks that it holds at a time."""
        return self.workers + FINISH_AHEAD

    @property
    def is_free(self) -> bool:
        return self.starting is None and not self.is_reserved and self.busy < self.slots


class ClusterPool(Generic[Task, Result]):
    """Runs `work` in many processes, one task at a time in each, like `WorkerPool`, but on the nodes of the cluster
    that the environment variable RAY_ADDRESS names. Each node has `workers` processes (None: as many as its cores
    need).

    `make_finish` is called once on each node. The function that it returns takes each result of `work` on that node,
    in many threads. `answer` is called on this machine for the questions that `work` asks by `call_parent`; when this
    machine cannot be reached, the answer is None. All three must be picklable. With `uses_gpu`, each node that has a
    GPU reserves one.

    A task on a lost node or actor is given to another node. Nodes that join later take part. Use it as a context
    manager. Raises ClusterError when there is no cluster, or when a node cannot do the work, and what `finish` raises.
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
        """Tasks to hand out before all others, each with the number of times its node was lost."""
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
            # This also ends the actors on the nodes.
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
            # Nodes have the packages of requirements.txt, and get the project's code from here. Without a working
            # directory of its own, a node would first import from this machine's path, and find its own files there.
            shutil.copytree(
                Path(__file__).resolve().parents[1],
                Path(folder, "dedup_lib"),
                ignore=shutil.ignore_patterns("__pycache__"),
            )
            self._ray.init(
                address=self._address, runtime_env={"working_dir": folder}, configure_logging=False, log_to_driver=False
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
        """Makes `run` end soon, with tasks unfinished; another thread may call it."""
        self._is_stopping.set()

    def run(self, tasks: Iterable[Task | None]) -> Iterator[tuple[Task, Result | WorkerFailure]]:
        """Yields each task with its result, in the order in which they finish; see `WorkerPool.run`."""
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
        """Takes in new nodes and forgets nodes that are gone. Raises ClusterError when no node has been ready for
        `NODE_WITHIN_S`."""
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
        """Whether the head answers; without it, calls of Ray would block. Raises ClusterError when it has not answered
        for `HEAD_WITHIN_S`."""
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
        # Nothing else would reveal that an idle node is gone.
        self._members = {node_id: member for node_id, member in self._members.items() if node_id in alive}
        for node_id in alive.keys() - self._members.keys() - self._left_out:
            # A node that was started with 0 cores must get no work.
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
        """Lets a node that is ready take tasks. A node with other versions, or one that cannot work, is left out with a
        warning when it joined while others were at work; otherwise it raises ClusterError."""
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
        """Ends the actor of a node. A living node is taken in again, unless it is left out."""
        self._last_trouble = f"node {member.name}: {_last_line(error)}"
        if self._members.get(member.node_id) is member:
            del self._members[member.node_id]
            with contextlib.suppress(self._ray.exceptions.RayError):
                self._ray.kill(member.actor)

    def _hand_out(self, waiting: Iterator[Task | None]) -> bool:
        """Gives tasks to the nodes while they have room; returns whether no task is left."""
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
            # The least busy node, so that no process is idle while tasks wait on another node.
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
            # `work` cannot raise here, so `finish` has failed.
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
    """Imports Ray, which is large and needed by few. Raises ClusterError when it is missing."""
    # When something else answers at the address of a cluster, Ray asks it for a quarter of an hour by default.
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
    """Silences Ray, which writes pages about its internals into a notebook when a node is lost. Only this flag of its
    debugger turns that off."""
    ray._private.worker._worker_logs_enabled = False
    try:
        yield
    finally:
        ray._private.worker._worker_logs_enabled = True


def _find_head(ray: ModuleType) -> tuple[str, tuple[str, int]]:
    """Returns the address of the cluster's head as RAY_ADDRESS gives it, and as (host, port).

    Raises ClusterError when nothing answers there.
    """
    address = os.environ.get("RAY_ADDRESS", "").strip()
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    if not host or "/" in host or not port.isdecimal():
        raise ClusterError(
            f"RAY_ADDRESS = {address!r} cannot be used: engine: ray needs the address of the cluster's head in this "
            f"environment variable, such as 10.0.0.5:6379; {REMEDY}"
        )
    # Ray resolves the host in the same way. It would wait a quarter of an hour for an answer, so check first.
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
    """Says how the versions of a node differ from those of this machine; "" when they do not."""
    here = find_versions()
    for name in sorted(here.keys() & there.keys()):
        # The part after + is the build, for a GPU or not.
        if here[name].partition("+")[0] != there[name].partition("+")[0]:
            return (
                f"has {name} {there[name]}, and this machine {here[name]}: results would differ. Install the versions "
                "in constraints.txt on every node"
            )
    return ""


def _last_line(error: Exception) -> str:
    """The last line of an error, which names its cause: Ray's texts begin with the history."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__

"""Work on the machines of a Ray cluster: on each of them one actor, which has the processes that may die.

It stands in for `workers.WorkerPool`, by whose code a task is done and judged there too. A machine that is lost is not
the fault of a task.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import platform
import queue
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from dedup_lib import __version__
from dedup_lib.errors import ClusterError
from dedup_lib.workers import MOST_WORKERS, Died, WorkerPool, count_workers

ADDRESS_VARIABLE = "RAY_ADDRESS"

MOST_LOSSES = 3
"""A task whose machine was lost so often is given up: it may be what it dies of."""

_LOOK_EVERY_S = 0.2
_LOOK_FOR_NODES_EVERY_S = 5.0
_CONNECT_S = 10.0
_ALONE_S = 300.0
"""So long it is waited for a machine that works: to load a model takes its time, and to start a machine anew."""

Task = TypeVar("Task")
Result = TypeVar("Result")
Finish = Callable[[Result], Result]


class _Node(Generic[Task, Result]):
    """The actor of one machine. Tasks wait here, so that no process is idle until the next one has come over the
    network."""

    def __init__(
        self,
        work: Callable[[Task], Result],
        *,
        workers: int | None,
        timeout_s: float,
        make_finish: Callable[[], Finish[Result]],
    ) -> None:
        # Else each process of the pool would run the script again by which Ray started this one.
        vars(sys.modules["__main__"]).pop("__file__", None)
        self._finish = make_finish()
        self._workers = workers or count_workers()
        self._pool = WorkerPool(work, workers=self._workers, timeout_s=timeout_s)
        self._waiting: queue.SimpleQueue[tuple[Task, Future[Result | Died]]] = queue.SimpleQueue()
        self._promised: dict[Task, Future[Result | Died]] = {}
        threading.Thread(target=self._run, daemon=True).start()

    def say(self) -> tuple[str, str, int]:
        """Name of the machine, version of the project there, and how many processes it has."""
        return platform.node(), __version__, self._workers

    def do(self, task: Task) -> Result | Died:
        """One task, from its wait for a process to what the machine adds to the result."""
        promise: Future[Result | Died] = Future()
        self._waiting.put((task, promise))
        result = promise.result()
        return result if isinstance(result, Died) else self._finish(result)

    def _run(self) -> None:
        try:
            with self._pool:
                for task, result in self._pool.run(self._take()):
                    self._promised.pop(task).set_result(result)
        finally:
            # Whoever waits for a promise would wait for ever: a machine that is lost is noticed.
            os._exit(1)

    def _take(self) -> Iterator[Task | None]:
        while True:
            try:
                task, promise = self._waiting.get_nowait()
            except queue.Empty:
                yield None
                continue
            self._promised[task] = promise
            yield task


@dataclass(eq=False)
class _Member:
    """A machine as the driver knows it."""

    actor: Any
    most: int
    """Tasks that it is given at a time."""
    busy: set[Any] = field(default_factory=set)

    @property
    def idle(self) -> int:
        """So many more it takes."""
        return self.most - len(self.busy)


class ClusterPool(Generic[Task, Result]):
    """Runs `work` on every machine of the cluster that `RAY_ADDRESS` names, in `workers` processes on each (None: as
    many as keep its cores busy). `make_finish` is called once on each machine, and what it gives is applied to every
    result there.

    Machines that join later are used too, and the tasks of one that is lost go to the others. Use as a context manager.
    Raises ClusterError when there is no cluster, or nobody is left in it, or it has another version of the project.
    """

    def __init__(
        self,
        work: Callable[[Task], Result],
        *,
        workers: int | None,
        timeout_s: float,
        make_finish: Callable[[], Finish[Result]],
    ) -> None:
        self._work = work
        self._workers = workers
        self._options: dict[str, Any] = {"workers": workers, "timeout_s": timeout_s, "make_finish": make_finish}
        self._members: dict[str, _Member] = {}
        self._lost: Counter[Task] = Counter()
        self._again: list[Task] = []
        self._given: dict[Any, tuple[Task, str, _Member]] = {}
        self._starting: dict[str, tuple[Any, Any]] = {}
        """Actors that get ready, and the promise that they will say so."""
        self._looked_s = -math.inf
        self._alone_s = time.monotonic()
        self._is_stopping = threading.Event()

    def __enter__(self) -> ClusterPool[Task, Result]:
        self._ray = _import_ray()
        self._is_own = not self._ray.is_initialized()
        if self._is_own:
            _connect(self._ray)
        return self

    def __exit__(self, *_: object) -> None:
        for actor in [
            *(member.actor for member in self._members.values()),
            *(one for one, _ in self._starting.values()),
        ]:
            with contextlib.suppress(Exception):
                self._ray.kill(actor)
        if self._is_own:
            self._ray.shutdown()

    def stop(self) -> None:
        """Have `run` end soon, with tasks unfinished; may be called by another thread."""
        self._is_stopping.set()

    def run(self, tasks: Iterable[Task | None]) -> Iterator[tuple[Task, Result | Died]]:
        """Each task with its result, in the order in which they finish; see `WorkerPool.run`."""
        waiting = iter(tasks)
        while not self._is_stopping.is_set():
            self._look_for_nodes()
            is_over = self._hand_out(waiting)
            if not self._given:
                if is_over:
                    return
                self._is_stopping.wait(_LOOK_EVERY_S)
                continue
            ready, _ = self._ray.wait(list(self._given), num_returns=1, timeout=_LOOK_EVERY_S)
            for promise in ready:
                task, node, member = self._given.pop(promise)
                result = self._collect(promise, task, node, member)
                if result is not None:
                    yield task, result

    def _hand_out(self, waiting: Iterator[Task | None]) -> bool:
        """Give tasks to the machines, the next one always to where most processes are idle; returns whether there is
        none left."""
        while True:
            node = max(self._members, key=lambda name: self._members[name].idle, default=None)
            if node is not None and self._members[node].idle <= 0:
                return False
            try:
                task = self._again.pop() if self._again else next(waiting)
            except StopIteration:
                return True
            if task is None:
                return False
            if node is None:
                self._again.append(task)
                return False
            member = self._members[node]
            promise = member.actor.do.remote(task)
            member.busy.add(promise)
            self._given[promise] = task, node, member

    def _collect(self, promise: Any, task: Task, node: str, member: _Member) -> Result | Died | None:
        """The result of a task; None where its machine was lost, and it is given to another. Raises what `finish` does:
        that is no trouble of a task."""
        member.busy.discard(promise)
        try:
            result: Result | Died = self._ray.get(promise)
        except self._ray.exceptions.RayTaskError:
            raise
        except self._ray.exceptions.RayError:
            # Its node may have another actor already.
            if self._members.get(node) is member:
                del self._members[node]
            self._lost[task] += 1
            if self._lost[task] >= MOST_LOSSES:
                # As one that took too long: another run may try it again.
                return Died(f"the machine that read it was lost, {MOST_LOSSES} times", timed_out=True)
            self._again.append(task)
            return None
        return result

    def _look_for_nodes(self) -> None:
        """Have machines that joined get ready, and take in those that are."""
        now_s = time.monotonic()
        if now_s - self._looked_s >= _LOOK_FOR_NODES_EVERY_S:
            self._looked_s = now_s
            for node in self._ray.nodes():
                name = node["NodeID"]
                if _takes_part(node) and name not in self._members and name not in self._starting:
                    self._starting[name] = self._start(node)
        for name in list(self._starting):
            actor, said = self._starting[name]
            if self._ray.wait([said], timeout=0)[0]:
                del self._starting[name]
                member = self._welcome(actor, said)
                if member is not None:
                    self._members[name] = member
        if self._members:
            self._alone_s = now_s
        elif now_s - self._alone_s > _ALONE_S:
            raise ClusterError(
                f"no machine of the cluster at {_address()} works or gets ready within {_ALONE_S:.0f} s: start one "
                "(ray start), and the same command goes on"
            )

    def _start(self, node: dict[str, Any]) -> tuple[Any, Any]:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        actor = (
            self._ray.remote(_Node)
            .options(
                num_cpus=0,
                num_gpus=1 if node["Resources"].get("GPU") else 0,
                max_concurrency=2 * (self._workers or MOST_WORKERS),
                scheduling_strategy=NodeAffinitySchedulingStrategy(node_id=node["NodeID"], soft=False),
            )
            .remote(self._work, **self._options)
        )
        return actor, actor.say.remote()

    def _welcome(self, actor: Any, said: Any) -> _Member | None:
        """A machine that is ready; None for one that was lost before it was."""
        try:
            name, version, workers = self._ray.get(said)
        except self._ray.exceptions.RayActorError as error:
            if error.actor_init_failed:
                raise ClusterError(f"a machine of the cluster cannot take part: {_last_line(error)}") from None
            return None
        except self._ray.exceptions.RayError:
            return None
        if version != __version__:
            raise ClusterError(
                f"the machine {name} has version {version} of this project, and this machine {__version__}: install "
                "the same one on all machines"
            )
        # A few more than it has processes: they need not wait for the way there and back.
        return _Member(actor, workers + max(1, workers // 4))


def _import_ray() -> Any:
    # Ray reports its use to its makers unless told otherwise, and asks a cluster that does not answer for a long time.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "1")
    try:
        import ray
    except ImportError:
        raise ClusterError(
            "engine: ray needs Ray, which is not installed: pip install -r requirements-ray.txt -c constraints.txt, or "
            "set engine: local"
        ) from None
    return ray


def _address() -> str:
    return os.environ.get(ADDRESS_VARIABLE) or "auto"


def _connect(ray: Any) -> None:
    host, _, port = _address().removeprefix("ray://").rpartition(":")
    try:
        if host and port.isdecimal():
            # Ray takes minutes to find out that nobody is there.
            socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()
        ray.init(address=_address(), log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:
        # Of many kinds: ConnectionError, RuntimeError, ValueError.
        raise ClusterError(
            f"there is no Ray cluster at {_address()} ({_first_line(error)}): start one on this machine with "
            f"`ray start --head`, or set {ADDRESS_VARIABLE} to the address of one, or set engine: local"
        ) from None


def _takes_part(node: dict[str, Any]) -> bool:
    """Whether a machine is there and gives its cores: a head often does not."""
    return bool(node["Alive"] and node["Resources"].get("CPU"))


def _last_line(error: Exception) -> str:
    """What an actor failed to start of, without Ray's account of where."""
    return str(error).strip().rpartition("\n")[2].strip()


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]

"""The order of tasks: hosts that are not crowded, failures that are tried again, and none lost."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup_lib.extract import scheduler
from dedup_lib.extract.scheduler import Schedule, Task


def tasks_of(*urls: str) -> list[Task]:
    return list(enumerate(urls))


def drain(plan: Schedule) -> list[Task]:
    """All that may start now."""
    started = []
    for task in plan:
        if task is None:
            break
        started.append(task)
    return started


def test_a_list_that_is_sorted_by_host_holds_up_no_other_host() -> None:
    tasks = tasks_of(*["http://large/a.mp4"] * 5000, *(f"http://small{number}/a.mp4" for number in range(50)))
    assert len(drain(Schedule(tasks, most_a_host=6, retries=0))) == 6 + 50


def test_tasks_come_in_the_order_of_the_list() -> None:
    tasks = tasks_of("http://a/1", "http://b/1", "/c.mp4", "http://a/2")
    plan = Schedule(tasks, most_a_host=9, retries=0)
    started = []
    for task in plan:
        assert task is not None
        started.append(task)
        assert plan.finish(task)
    assert started == tasks
    assert list(plan) == []


def test_a_crowded_host_waits_and_the_others_do_not() -> None:
    tasks = tasks_of("http://a/1", "http://user@A/2", "http://a/3", "http://b/1", "file.mp4", "file2.mp4", "file3.mp4")
    plan = Schedule(tasks, most_a_host=2, retries=0)
    assert drain(plan) == [tasks[0], tasks[1], tasks[3], tasks[4], tasks[5], tasks[6]]
    plan.finish(tasks[3])
    assert drain(plan) == []
    plan.finish(tasks[0])
    assert drain(plan) == [tasks[2]]


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "FIRST_PAUSE_S", 0.0)


@pytest.mark.usefixtures("no_pause")
def test_what_may_pass_is_tried_again_so_many_times() -> None:
    (task,) = tasks_of("http://a/1")
    plan = Schedule([task], most_a_host=1, retries=2)
    for _ in range(2):
        assert drain(plan) == [task]
        assert not plan.finish(task, may_pass=True)
    assert drain(plan) == [task]
    assert plan.finish(task, may_pass=True)
    assert list(plan) == []


@pytest.mark.usefixtures("no_pause")
def test_what_will_not_pass_is_not_tried_again() -> None:
    (task,) = tasks_of("http://a/1")
    plan = Schedule([task], most_a_host=1, retries=2)
    drain(plan)
    assert plan.finish(task)


def test_a_pause_is_kept() -> None:
    (task,) = tasks_of("http://a/1")
    plan = Schedule([task], most_a_host=1, retries=1)
    drain(plan)
    assert not plan.finish(task, may_pass=True, pause_s=60)
    assert next(iter(plan)) is None, "not before its time"


def test_a_server_that_asks_for_an_hour_is_left_for_the_next_run() -> None:
    (task,) = tasks_of("http://a/1")
    plan = Schedule([task], most_a_host=1, retries=3)
    drain(plan)
    assert plan.finish(task, may_pass=True, pause_s=3600)


@given(
    hosts=st.lists(st.sampled_from(["http://a/", "http://b/", "https://c:8/", "", "http://[broken"]), max_size=60),
    most=st.integers(1, 4),
    choices=st.randoms(use_true_random=False),
)
def test_every_task_is_finished_once_and_no_host_is_crowded(hosts: list[str], most: int, choices: object) -> None:
    tasks = [(row, f"{host}{row}") for row, host in enumerate(hosts)]
    plan = Schedule(tasks, most_a_host=most, retries=0)
    running: list[Task] = []
    finished: list[Task] = []
    for task in plan:
        if task is not None:
            running.append(task)
            busy = Counter(url[:8] for _, url in running if url.startswith(("http://a", "http://b", "https://")))
            assert max(busy.values(), default=0) <= most
        if task is None or len(running) > 5:
            assert running, "something must be running while others wait"
            ended = running.pop(choices.randrange(len(running)))  # type: ignore[attr-defined]
            plan.finish(ended)
            finished.append(ended)
        if task is None and not running:
            continue
    for ended in running:
        plan.finish(ended)
    assert Counter(finished) + Counter(running) == Counter(tasks)


def test_tasks_of_one_host_keep_their_order() -> None:
    tasks = tasks_of(*(f"http://a/{row}" for row in range(20)))
    plan = Schedule(tasks, most_a_host=3, retries=0)
    started: list[Task] = []
    for task in plan:
        if task is None:
            plan.finish(started[len(started) - 3])
            if len(started) == len(tasks):
                break
        else:
            started.append(task)
    assert all(first < second for first, second in pairwise(started))

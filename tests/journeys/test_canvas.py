"""Celery's own notation through a real controller and real workers; nothing keeps a slot afterwards."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dj_database_url
import pytest
from celery import Celery, chain, chord, group
from celery.exceptions import ChordError
from celery.result import AsyncResult
from django.db import connection

from a2a_site import env
from a2a_site.celery import app
from a2a_site.chaos.campaign import fresh_database
from a2a_site.chaos.stack import Stack
from coordination import errors, observed, runs, start
from coordination.models import Run, StepRun
from routing import registry
from routing.backend import AgentTaskFailed
from routing.models import Agent, Attempt, Task, TaskState
from routing.tasks import run_agent_task
from tests.journeys.canvas_agents import SKILLS, SLOTS, broken, price, shop_total, slow, unsteady, vault_open
from tests.private_redis import using_redis, wait_until

pytestmark = pytest.mark.journey

task: Any = run_agent_task  # its stubs lack signatures with keywords


@pytest.fixture(scope="module")
def stack(django_db_blocker: Any) -> Iterator[Stack]:
    """Yield a controller and two workers, whose Redis and database this process uses as well."""
    server = os.environ.get("DATABASE_URL", "")
    # pytest's own directories are too deep for a socket
    with (
        TemporaryDirectory(prefix="a2a-canvas-", ignore_cleanup_errors=True) as home,
        fresh_database(server if server.startswith("postgres") else "") as url,
    ):
        running = Stack(Path(home), workers=2, threads=4, database_url=url)
        running.environment["A2A_AGENT_MODULES"] += ",tests.journeys.canvas_agents"
        running.environment["A2A_CELERY_TASKS"] = "shop.*"
        redis_url = running.environment["REDIS_URL"]
        name = dj_database_url.parse(url)["NAME"] if url else f"{home}/db.sqlite3"
        with django_db_blocker.unblock(), using_redis(redis_url), using_database(str(name)), running:
            register()
            yield running
    registry.forget()


@contextmanager
def using_database(name: str) -> Iterator[None]:
    """While inside, this process uses the database of that name on its server."""
    before = connection.settings_dict["NAME"]
    connection.close()
    connection.settings_dict["NAME"] = name
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict["NAME"] = before


def register() -> None:
    """Register an agent with a few slots for each skill."""
    registry.ensure_tenant()
    for name in SKILLS:
        registry.ensure_agent(name, skills=[registry.ensure_skill(name)], capacity=SLOTS)
    registry.forget()


@pytest.fixture(autouse=True)
def nothing_is_left(stack: Stack) -> Iterator[None]:
    """Every test ends without a task under way and without a slot taken."""
    for table in (Task, Attempt, Run):
        table._default_manager.all().delete()
    yield
    wait_until(lambda: is_idle(stack), "all slots to be free")
    assert not Attempt.objects.filter(state__in=["assigned", "working"]).exists()


def is_idle(stack: Stack) -> bool:
    snapshot = stack.snapshot()
    under_way = sum(snapshot["counters"][name] for name in ("working", "waiting", "delayed"))
    return under_way == 0 and all(agent["running"] == 0 for agent in snapshot["fleet"])


def add(value: Any = None) -> Any:
    """Return the signature of a step that adds the numbers in its input and those of the step before."""
    return task.s(skill="canvas-add", input=value)


def outcome(result: Any) -> Any:
    """Return what came of it, or raise it."""
    return result.get(timeout=60, interval=0.02)


class TestTask:
    def test_gives_its_output(self) -> None:
        assert outcome(task.delay(skill="canvas-add", input=[1, 2])) == 3

    def test_calls_its_link_with_its_output(self) -> None:
        task.apply_async(kwargs={"skill": "canvas-add", "input": [1, 2]}, link=add({"n": 10}))

        wait_until(lambda: Task.objects.filter(output=13).exists(), "the link")

    def test_fails_with_the_agents_words(self) -> None:
        with pytest.raises(AgentTaskFailed, match="out of paper"):
            outcome(task.delay(skill="canvas-fail"))

    def test_calls_its_error_link(self) -> None:
        task.apply_async(
            kwargs={"skill": "canvas-fail"}, link_error=task.si(skill="canvas-keep", input={"clean": "up"})
        )

        wait_until(lambda: Task.objects.filter(output__clean="up").exists(), "the error link")

    def test_that_retries_twice_is_one_task_with_three_attempts(self) -> None:
        result = task.delay(skill="canvas-again")

        assert outcome(result) == {"retries": 2, "attempt": 3}
        row = Task.objects.get()
        assert list(Attempt.objects.filter(task=row).order_by("number").values_list("state", flat=True)) == [
            "returned", "returned", "completed",
        ]  # fmt: skip

    def test_that_waits_for_its_time_waits(self) -> None:
        result = task.apply_async(kwargs={"skill": "canvas-add", "input": 1}, countdown=1)

        assert outcome(result) == 1
        row = Task.objects.get()
        assert row.started_at is not None
        assert row.not_before is not None
        assert row.started_at >= row.not_before

    def test_comes_from_an_application_without_our_code(self, stack: Stack) -> None:
        with Celery("foreign", broker=env.kombu_url(stack.environment["REDIS_URL"]), set_as_current=False) as foreign:
            sent = foreign.send_task("routing.run_agent_task", kwargs={"skill": "canvas-add", "input": [4, 5]},
                                     queue="intake")  # fmt: skip

        assert outcome(AsyncResult(sent.id, app=app)) == 9
        assert Task.objects.get().origin == "intake"

    def test_that_is_refused_at_the_queue_says_why(self, stack: Stack) -> None:
        with Celery("foreign", broker=env.kombu_url(stack.environment["REDIS_URL"]), set_as_current=False) as foreign:
            sent = foreign.send_task("routing.run_agent_task", kwargs={"skill": "nobody"}, queue="intake")

        with pytest.raises(Exception, match="nobody"):
            outcome(AsyncResult(sent.id, app=app))
        assert not Task.objects.exists()


class TestChain:
    def test_hands_each_output_on(self) -> None:
        result = chain(add([1]), *[add({"n": 1})] * 4).apply_async()

        assert outcome(result) == 5
        assert Task.objects.count() == 5

    def test_ends_at_the_step_that_fails(self) -> None:
        result = chain(add([1]), task.si(skill="canvas-fail"), add({"n": 1})).apply_async()

        with pytest.raises(AgentTaskFailed, match="out of paper"):
            outcome(result)
        assert sorted(Task.objects.values_list("state", flat=True)) == [TaskState.COMPLETED, TaskState.FAILED]

    def test_goes_through_a_group(self) -> None:
        result = chain(add([1]), group(add({"n": 1}), add({"n": 2})), add()).apply_async()

        assert outcome(result) == 5


class TestGroup:
    def test_gives_all_outputs_in_order(self) -> None:
        assert outcome(group(add([n]) for n in range(5)).apply_async()) == [0, 1, 2, 3, 4]


class TestChord:
    def test_joins_more_members_than_there_are_slots(self) -> None:
        result = chord([add([n]) for n in range(20)], add()).apply_async()

        assert outcome(result) == sum(range(20))
        assert busiest("canvas-add") <= SLOTS

    def test_takes_chains_as_members(self) -> None:
        members = [chain(add([n]), add({"n": 10})) for n in range(3)]

        assert outcome(chord(members, add()).apply_async()) == 33

    def test_takes_chords_as_members(self) -> None:
        inner = chord([add([1]), add([2])], add())

        assert outcome(chord([inner, add([3])], add()).apply_async()) == 6

    def test_hands_on_the_outputs_in_the_order_of_the_members(self) -> None:
        members = [task.s(skill="canvas-keep", input=[n]) for n in range(6)]

        assert outcome(chord(members, task.s(skill="canvas-keep")).apply_async()) == [[n] for n in range(6)]

    def test_fails_when_a_member_fails(self) -> None:
        result = chord([add([1]), task.s(skill="canvas-fail"), add([2])], add()).apply_async()

        with pytest.raises(ChordError, match="out of paper"):
            outcome(AsyncResult(result.id, app=app))
        wait_until(lambda: Task.objects.filter(finished_at__isnull=False).count() == 3, "the others to end")

    def test_calls_the_error_link_of_its_body_when_a_member_fails(self) -> None:
        body = add().on_error(task.si(skill="canvas-keep", input={"clean": "up"}))

        chord([add([1]), task.s(skill="canvas-fail")], body).apply_async()

        wait_until(lambda: Task.objects.filter(output__clean="up").exists(), "the error link")


def busiest(agent: str) -> int:
    """Return how many attempts the agent had at once at most, from assignment to end."""
    steps: list[tuple[Any, int]] = []
    for assigned_at, finished_at in Attempt.objects.filter(agent=agent).values_list("assigned_at", "finished_at"):
        steps += [(assigned_at, 1), (finished_at, -1)]
    most = now = 0
    for _, step in sorted(steps):  # an end before a beginning at the same instant
        now += step
        most = max(most, now)
    return most


def ended(run: Run) -> Run:
    """Return the run once it has ended."""
    wait_until(lambda: Run.objects.filter(pk=run.pk, ended_at__isnull=False).exists(), f"{run} to end", patience_s=60)
    return Run.objects.get(pk=run.pk)


class TestOwnTasks:
    """A project's own Celery tasks as steps of durable runs, on real workers."""

    def test_are_announced_by_the_workers_for_the_patterns_they_were_given(self) -> None:
        agent = Agent.objects.get(name="celery-tasks")

        assert (agent.executor, agent.options) == ("celery", {"tasks": ["shop.*"]})

    def test_run_in_a_chain_with_a_chord_and_agents_between_them(self) -> None:
        canvas = chain(group(price.s("pear"), price.s("fig", times=2)), shop_total.s(tip=5), add({"n": 100}))

        run = ended(start(canvas, name="shop"))

        assert (run.state, run.output) == ("completed", 115)
        assert {task.skill for task in Task.objects.all()} == {"celery", "canvas-add"}

    def test_run_in_a_map(self) -> None:
        run = ended(start(chord(price.chunks([("a",), ("bb",), ("ccc",)], 2).group(), shop_total.si([1, 2]))))

        assert (run.state, run.output) == ("completed", 3)

    def test_are_tried_again_when_they_ask_for_it(self) -> None:
        run = ended(start(unsteady.s("x")))

        assert run.output == {"value": "x", "retries": 2}
        assert Attempt.objects.count() == 3

    def test_fail_with_their_own_words(self) -> None:
        run = ended(start(chain(broken.si(), price.si("never"))))

        assert run.state == "failed"
        assert "out of stock" in str(run.error)
        assert not Task.objects.filter(input__task="shop.price").exists()

    def test_are_not_run_unless_a_pattern_names_them(self) -> None:
        run = ended(start(vault_open.s()))

        assert run.state == "failed"
        assert "does not run vault.open" in str(run.error)

    def test_end_with_a_canceled_run(self) -> None:
        run = start(chain(slow.si(1.0), price.si("never")))
        wait_until(lambda: StepRun.objects.filter(run_id=run.pk, state="running").exists(), "the step to run")
        runs.ask(run, runs.Kind.CANCEL, by="ann", reason="enough")

        assert ended(run).state == "canceled"
        assert not Task.objects.filter(input__task="shop.price").exists()

    def test_that_nobody_knows_are_refused_at_the_door(self) -> None:
        with pytest.raises(errors.BadWorkflow, match=r"shop\.nope"):
            start(app.signature("shop.nope"))

        assert not Run.objects.exists()


class TestObserved:
    """Celery's own canvases, as the pages show them: one context, one tree."""

    def observed(self, count: int) -> list[tuple[int, Task]]:
        context = Task.objects.exclude(context=None).values_list("context", flat=True).first()
        assert context is not None
        wait_until(lambda: len(observed.tasks(context)) == count, f"{count} tasks of the canvas")
        return observed.tree(observed.tasks(context))

    def test_a_chord_is_one_of_them_with_its_body(self) -> None:
        outcome(chord([add(1), add(2)])(add()))

        placed = self.observed(3)

        assert len({row.context for _, row in placed}) == 1
        assert [row.skill for _, row in placed] == ["canvas-add"] * 3

    def test_a_chain_with_a_chord_in_it_is_a_tree(self) -> None:
        outcome(chain(add(1), group(add({"n": 1}), add({"n": 2})), add()).apply_async())

        placed = self.observed(4)

        assert placed[0][0] == 0
        assert max(depth for depth, _ in placed) > 0
        assert observed.together([row.state for _, row in placed]) == "completed"
        assert (observed.times(placed) or "").startswith("<svg")
        assert [one["tasks"] for one in observed.newest()] == [4]

    def test_a_single_task_is_none(self) -> None:
        outcome(task.delay(skill="canvas-add", input=1))

        assert Task.objects.get().context is None
        assert observed.newest() == []

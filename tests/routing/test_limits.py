import json
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from routing.limit_rules import LimitKey, LimitSpec
from routing.limits import Holder, Limits
from routing.matching import Match
from tests.routing.subjects import Subject

TASK = Subject()


def limits(*specs: LimitSpec, now: float = 0.0) -> Limits[Any]:
    """Return limits with these rules and nothing in flight."""
    made = Limits[Any]()
    made.configure(specs, now)
    return made


def task(id: str, **changes: str) -> Subject:
    """Return a task of that id."""
    return replace(TASK, id=id, **changes)  # type: ignore[arg-type]


def words(made: Limits[Any], subject: Subject, agent: str | None = None, now: float = 0.0) -> str | None:
    """Return in words what blocks the task."""
    blocked = made.blocks(subject, agent, now)
    return None if blocked is None else blocked.words


class TestBlocks:
    def test_is_none_without_limits(self) -> None:
        assert words(limits(), TASK) is None

    def test_says_how_many_run(self) -> None:
        made = limits(LimitSpec(name="crawl", max_running=2))
        made.take(task("a"), 1, "jules", 0.0)
        assert words(made, TASK) is None
        made.take(task("b"), 1, "jules", 0.0)

        blocked = made.blocks(TASK, None, 0.0)

        assert blocked is not None
        assert (blocked.words, blocked.ready_at) == ("limit crawl: 2 of 2 running", None)
        assert (blocked.key, blocked.on_full) == (LimitKey("crawl"), "queue")

    def test_says_when_a_rate_lets_the_next_begin(self) -> None:
        made = limits(LimitSpec(name="api", rate_per_s=5, burst=2))
        made.take(task("a"), 1, "jules", 100.0)
        made.take(task("b"), 1, "jules", 100.0)

        blocked = made.blocks(TASK, None, 100.0)

        assert blocked is not None
        assert blocked.words == "limit api: 5 per second"
        assert blocked.ready_at == pytest.approx(100.2)
        assert blocked.ready_at is not None
        assert made.blocks(TASK, None, blocked.ready_at) is None

    def test_speaks_only_of_the_tasks_that_match(self) -> None:
        made = limits(LimitSpec(name="crawl", max_running=1, match=Match(skill="crawl")))
        made.take(task("a", skill="lint"), 1, "jules", 0.0)
        assert words(made, TASK) is None
        made.take(task("b"), 1, "jules", 0.0)

        assert words(made, task("c", skill="lint")) is None
        assert words(made, TASK) is not None

    def test_counts_apart_what_the_limit_is_per(self) -> None:
        made = limits(LimitSpec(name="db", max_running=1, per="key"))
        made.take(task("a", concurrency_key="one"), 1, "jules", 0.0)

        assert words(made, task("b", concurrency_key="one")) == "limit db for key acme/one: 1 of 1 running"
        assert words(made, task("b", concurrency_key="two")) is None
        assert words(made, task("b", concurrency_key="one", tenant="other")) is None
        assert words(made, task("b")) is None

    def test_decides_what_depends_on_the_agent_for_each_candidate(self) -> None:
        made = limits(LimitSpec(name="one", max_running=1, per="agent"))
        made.take(task("a"), 1, "jules", 0.0)

        assert made.is_per_agent(TASK)
        assert words(made, TASK) is None
        assert words(made, TASK, "jules") == "limit one for agent jules: 1 of 1 running"
        assert words(made, TASK, "codex") is None

    def test_counts_the_agents_that_a_limit_names_together(self) -> None:
        made = limits(LimitSpec(name="gpu", max_running=2, match=Match(agent="gpu-*")))
        for id, agent in (("a", "gpu-1"), ("b", "gpu-2"), ("c", "cpu")):
            made.take(task(id), 1, agent, 0.0)

        assert words(made, TASK, "gpu-3") == "limit gpu: 2 of 2 running"
        assert words(made, TASK, "cpu") is None

    def test_asks_the_others_once_for_the_lane(self) -> None:
        made = limits(LimitSpec(name="all", max_running=1))
        made.take(task("a"), 1, "jules", 0.0)

        assert not made.is_per_agent(TASK)
        assert words(made, TASK, "jules") is None

    def test_names_what_rejects_first_and_what_cancels_last(self) -> None:
        specs = [
            LimitSpec(name="a", max_running=1, on_full="cancel_oldest"),
            LimitSpec(name="b", max_running=2, on_full="queue"),
            LimitSpec(name="c", max_running=3, on_full="reject"),
        ]
        made = limits(*specs)
        order = []
        for id in "xyz":
            made.take(task(id), 1, "jules", 0.0)
            blocked = made.blocks(TASK, None, 0.0)
            order.append(blocked and blocked.on_full)

        assert order == ["cancel_oldest", "queue", "reject"]


class TestRelease:
    def test_frees_every_place(self) -> None:
        made = limits(LimitSpec(name="all", max_running=1), LimitSpec(name="one", max_running=1, per="agent"))
        made.take(task("a"), 1, "jules", 0.0)
        made.release("a", 1)

        assert words(made, TASK) is None
        assert words(made, TASK, "jules") is None

    def test_gives_no_token_back(self) -> None:
        made = limits(LimitSpec(name="api", rate_per_s=1))
        made.take(task("a"), 1, "jules", 0.0)
        made.release("a", 1)

        assert words(made, TASK) == "limit api: 1 per second"

    def test_does_nothing_the_second_time_nor_for_a_stranger(self) -> None:
        made = limits(LimitSpec(name="all", max_running=2))
        for id in "ab":
            made.take(task(id), 1, "jules", 0.0)
        for _ in range(3):
            made.release("a", 1)
            made.release("stranger", 1)

        assert made.running(LimitKey("all")) == 1

    def test_tells_two_attempts_of_a_task_apart(self) -> None:
        made = limits(LimitSpec(name="all", max_running=2))
        made.take(task("a"), 1, "jules", 0.0)
        made.take(task("a"), 2, "codex", 0.0)
        made.release("a", 1)

        assert made.running(LimitKey("all")) == 1


class TestTake:
    def test_counts_an_attempt_once(self) -> None:
        made = limits(LimitSpec(name="all", max_running=2, rate_per_s=1, burst=2))
        made.take(TASK, 1, "jules", 0.0)
        made.take(TASK, 1, "jules", 0.0)

        assert words(made, task("b")) is None


class TestOldestRunning:
    def test_is_the_first_that_took_a_place_until_it_is_released(self) -> None:
        made = limits(LimitSpec(name="k", max_running=2, per="key", on_full="cancel_oldest"))
        key = LimitKey("k", "acme/db")
        for id in "ab":
            made.take(task(id, concurrency_key="db"), 1, "jules", 0.0)

        assert made.oldest_running(key) == "a"
        made.release("a", 1)
        assert made.oldest_running(key) == "b"
        made.release("b", 1)
        assert made.oldest_running(key) is None


class TestNext:
    def test_calls_as_many_as_find_room_the_first_first(self) -> None:
        made = limits(LimitSpec(name="all", max_running=1))
        made.take(task("a"), 1, "jules", 0.0)
        blocked = made.blocks(TASK, None, 0.0)
        assert blocked is not None
        for who, order in (("slow lane", 2.0), ("fast lane", 1.0)):
            made.wait(who, (order,), [blocked])
        assert made.opened(0.0) == []
        made.release("a", 1)

        [key] = made.opened(0.0)
        assert made.next(key, 0.0) == "fast lane"
        made.take(task("b"), 1, "jules", 0.0)

        assert made.next(key, 0.0) is None
        assert made.opened(0.0) == []

    def test_calls_the_next_when_the_first_was_turned_away_for_another_reason(self) -> None:
        made = limits(LimitSpec(name="all", max_running=1))
        made.take(task("a"), 1, "jules", 0.0)
        blocked = made.blocks(TASK, None, 0.0)
        assert blocked is not None
        for order, who in enumerate("xy"):
            made.wait(who, (float(order),), [blocked])
        made.release("a", 1)

        assert [made.next(blocked.key, 0.0) for _ in range(3)] == ["x", "y", None]

    def test_calls_one_after_the_other_as_a_rate_allows(self) -> None:
        made = limits(LimitSpec(name="api", rate_per_s=1))
        made.take(task("a"), 1, "jules", 0.0)
        blocked = made.blocks(TASK, None, 0.0)
        assert blocked is not None
        for order, lane in enumerate("xy"):
            made.wait(lane, (float(order),), [blocked])

        times: list[tuple[object, float]] = []
        while (at := made.next_opening()) is not None:
            for key in made.opened(at):
                while (who := made.next(key, at)) is not None:
                    made.take(task(str(who)), 1, "jules", at)
                    times.append((who, at))

        assert times == [("x", 1.0), ("y", 2.0)]

    def test_calls_nobody_who_stopped_waiting(self) -> None:
        made = limits(LimitSpec(name="all", max_running=1))
        made.take(task("a"), 1, "jules", 0.0)
        blocked = made.blocks(TASK, None, 0.0)
        assert blocked is not None
        made.wait("x", (1.0,), [blocked])
        made.stop_waiting("x")
        made.release("a", 1)

        assert made.next(blocked.key, 0.0) is None


class TestConfigure:
    def test_counts_what_runs_under_the_new_rules(self) -> None:
        made = limits(LimitSpec(name="old", max_running=5))
        made.take(task("a"), 1, "jules", 0.0)
        made.configure([LimitSpec(name="new", max_running=1, per="tenant")], 0.0)

        assert words(made, TASK) == "limit new for tenant acme: 1 of 1 running"
        made.release("a", 1)
        assert words(made, TASK) is None

    def test_lets_a_smaller_limit_drain(self) -> None:
        made = limits(LimitSpec(name="all", max_running=3))
        for id in "abc":
            made.take(task(id), 1, "jules", 0.0)
        made.configure([LimitSpec(name="all", max_running=1)], 0.0)

        assert words(made, TASK) == "limit all: 3 of 1 running"

    def test_gives_no_new_burst_for_a_changed_rate(self) -> None:
        made = limits(LimitSpec(name="api", rate_per_s=1, burst=2))
        for id in "ab":
            made.take(task(id), 1, "jules", 0.0)
        made.configure([LimitSpec(name="api", rate_per_s=10, burst=2)], 0.0)

        blocked = made.blocks(TASK, None, 0.0)

        assert blocked is not None
        assert blocked.ready_at == pytest.approx(0.1)

    def test_begins_with_a_full_bucket_where_a_rate_is_new(self) -> None:
        made = limits(LimitSpec(name="api", max_running=9))
        made.take(task("a"), 1, "jules", 0.0)
        made.configure([LimitSpec(name="api", rate_per_s=1)], 0.0)

        assert words(made, TASK) is None


class TestRestore:
    def test_keeps_rates_and_counts_what_the_ledger_knows(self) -> None:
        specs = [LimitSpec(name="api", rate_per_s=1, burst=2), LimitSpec(name="all", max_running=2)]
        before = limits(*specs)
        for id in "ab":
            before.take(task(id), 1, "jules", 100.0)
        rows = json.loads(json.dumps(before.snapshot(100.0)))

        after = limits(*specs, now=100.5)
        after.restore(rows, 100.5)
        after.rebuild([Holder(task("a"), 1, "jules")])

        assert after.running(LimitKey("all")) == 1
        assert words(after, TASK, now=100.5) == "limit api: 1 per second"
        assert words(after, TASK, now=101.0) is None

    def test_leaves_out_limits_that_are_no_more(self) -> None:
        made = limits(LimitSpec(name="all", max_running=1))
        made.restore([["gone", "", 900.0]], 100.0)

        assert made.snapshot(100.0) == []


class TestChanged:
    def test_tells_the_ledger_which_buckets_to_keep(self) -> None:
        made = limits(LimitSpec(name="api", rate_per_s=1, per="tenant"), LimitSpec(name="all", max_running=9))
        made.take(TASK, 1, "jules", 100.0)

        assert made.changed() == [("api", "acme", 101.0)]
        assert made.changed() == []


class LimitsMachine(RuleBasedStateMachine):
    """Attempts come and go at random, as the fleet would let them; a plain count decides what is right."""

    SPECS = (
        LimitSpec(name="all", max_running=5),
        LimitSpec(name="tenant", max_running=3, per="tenant"),
        LimitSpec(name="key", max_running=1, per="key"),
        LimitSpec(name="agent", max_running=2, per="agent", match=Match(agent="j*")),
    )

    def __init__(self) -> None:
        super().__init__()
        self.made = limits(*self.SPECS)
        self.running: dict[str, tuple[Subject, str]] = {}
        self.count = 0
        self.waiting: set[Subject] = set()

    @rule(tenant=st.sampled_from("tu"), key=st.sampled_from(["", "k", "l"]))
    def submit(self, tenant: str, key: str) -> None:
        self.count += 1
        self.attempt(task(f"{self.count}", tenant=tenant, concurrency_key=key))

    def attempt(self, subject: Subject) -> None:
        blocked = self.made.blocks(subject, None, 0.0)
        candidates = {agent: self.made.blocks(subject, agent, 0.0) for agent in ("jim", "joe", "kim")}
        free = [agent for agent, why in candidates.items() if why is None]
        if blocked is None:
            self.made.take(subject, 1, free[int(subject.id) % len(free)], 0.0)
            self.running[subject.id] = (subject, free[int(subject.id) % len(free)])
            self.waiting.discard(subject)
        else:
            self.waiting.add(subject)
            self.made.wait(subject, (float(subject.id),), [blocked])

    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        if self.running:
            id = data.draw(st.sampled_from(sorted(self.running)))
            del self.running[id]
            self.made.release(id, 1)
            for key in self.made.opened(0.0):
                while (who := self.made.next(key, 0.0)) is not None:
                    self.attempt(who)

    @rule()
    def restart(self) -> None:
        self.made = limits(*self.SPECS)
        self.made.rebuild(Holder(subject, 1, agent) for subject, agent in self.running.values())
        waiting, self.waiting = sorted(self.waiting, key=lambda subject: int(subject.id)), set()
        for subject in waiting:
            self.attempt(subject)

    @invariant()
    def no_limit_is_exceeded(self) -> None:
        tenants = Counter(subject.tenant for subject, _ in self.running.values())
        keys = Counter((s.tenant, s.concurrency_key) for s, _ in self.running.values() if s.concurrency_key)
        agents = Counter(agent for _, agent in self.running.values() if agent.startswith("j"))
        assert len(self.running) == self.made.running(LimitKey("all")) <= 5
        assert max(tenants.values(), default=0) <= 3
        assert max(keys.values(), default=0) <= 1
        assert max(agents.values(), default=0) <= 2

    @invariant()
    def nobody_waits_who_could_run(self) -> None:
        assert all(self.made.blocks(subject, None, 0.0) for subject in self.waiting)


TestLimitsMachine = LimitsMachine.TestCase
TestLimitsMachine.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)

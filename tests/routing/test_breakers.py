from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from routing import breakers as module
from routing.breaker import WHOLE, BreakerRule, Row, Skill
from routing.breakers import Breakers

LINT, WRITE = ("lint", "1"), ("write", "1")
LATER = 1_000.0  # when every breaker that opened at 0 is half-open


def fail(breakers: Breakers, agent: str = "a", skill: Skill = LINT, *, times: int = 3, kind: str = "agent") -> None:
    """Let attempts that are no probes fail at 0."""
    for n in range(times):
        breakers.failed(agent, skill, 0.0, kind, task=f"old{n}")


def broken(*agents: str) -> Breakers:
    """Return breakers of which those of the agents opened at 0 for ``lint``."""
    breakers = Breakers()
    for agent in agents:
        fail(breakers, agent)
    return breakers


def restored(breakers: Breakers) -> Breakers:
    """Return a copy that went through JSON."""
    copy = Breakers(breakers.rule)
    copy.restore(json.loads(json.dumps(breakers.snapshot())))
    return copy


class TestFailed:
    def test_tells_when_a_breaker_opens(self) -> None:
        breakers = Breakers()

        answers = [breakers.failed("a", LINT, 0.0, "agent", task=f"x{n}") for n in range(4)]

        assert answers == [False, False, True, False]

    def test_opens_for_the_skill_alone(self) -> None:
        breakers = broken("a")

        assert "3 failures in a row at lint" in (breakers.verdict("a", LINT, 1.0) or "")
        assert breakers.verdict("a", WRITE, 1.0) is None
        assert breakers.verdict("b", LINT, 1.0) is None

    def test_opens_for_the_whole_agent_when_skills_fail_in_turn(self) -> None:
        breakers = Breakers()
        for skill in (LINT, WRITE, LINT):
            fail(breakers, skill=skill, times=1)

        assert "across skills" in (breakers.verdict("a", ("test", "1"), 1.0) or "")

    def test_never_opens_for_what_is_not_the_agents_fault(self) -> None:
        breakers = Breakers()
        for kind in BreakerRule().blameless:
            fail(breakers, times=9, kind=kind)

        assert breakers.is_closed("a", LINT)

    def test_makes_the_time_no_longer_when_old_attempts_end(self) -> None:
        breakers = broken("a")
        before = breakers.opens_until("a", LINT, 1.0)
        fail(breakers, times=9)

        assert before is not None
        assert breakers.opens_until("a", LINT, 1.0) == before

    def test_opens_again_when_the_probe_fails(self) -> None:
        breakers = broken("a")
        breakers.probing("a", LINT, "x", LATER)

        assert breakers.failed("a", LINT, LATER, "timeout", task="x")
        assert (breakers.opens_until("a", LINT, LATER) or 0) >= LATER + 15
        assert "its probe failed (timeout)" in (breakers.verdict("a", LINT, LATER) or "")

    def test_frees_the_place_of_a_probe_that_tells_nothing(self) -> None:
        breakers = broken("a")
        breakers.probing("a", LINT, "x", LATER)
        breakers.failed("a", LINT, LATER, "lost", task="x")

        assert breakers.verdict("a", LINT, LATER) is None
        assert not breakers.is_closed("a", LINT)


class TestSucceeded:
    def test_closes_when_it_was_the_probe(self) -> None:
        breakers = broken("a")
        breakers.probing("a", LINT, "x", LATER)

        assert breakers.succeeded("a", LINT, LATER, task="x")
        assert breakers.is_closed("a", LINT)

    def test_closes_nothing_when_it_began_before(self) -> None:
        breakers = broken("a")

        assert not breakers.succeeded("a", LINT, 1.0, task="old")
        assert not breakers.succeeded("a", LINT, LATER, task="")
        assert not breakers.is_closed("a", LINT)

    def test_closes_both_breakers_that_the_probe_tried(self) -> None:
        breakers = broken("a")
        fail(breakers, skill=WRITE, times=1)  # the fourth in a row, and of another skill: the agent's opens too
        assert not breakers.is_closed("a", WRITE)
        breakers.probing("a", LINT, "x", LATER)
        breakers.succeeded("a", LINT, LATER, task="x")

        assert breakers.is_closed("a", LINT)
        assert breakers.is_closed("a", WRITE)

    def test_ends_all_trouble_also_after_probes_that_failed(self) -> None:
        breakers = broken("a")
        for now in (LATER, 2 * LATER):
            breakers.probing("a", LINT, "x", now)
            breakers.failed("a", LINT, now, "agent", task="x")
        breakers.probing("a", LINT, "x", 3 * LATER)
        breakers.succeeded("a", LINT, 3 * LATER, task="x")

        assert breakers._troubled == {}


class TestProbing:
    def test_is_nothing_special_while_closed_or_open(self) -> None:
        breakers = broken("a")

        assert not breakers.probing("b", LINT, "x", 1.0)
        assert not breakers.probing("a", LINT, "x", 1.0)

    def test_takes_the_one_place(self) -> None:
        breakers = broken("a")

        assert breakers.probing("a", LINT, "x", LATER)
        assert not breakers.probing("a", LINT, "y", LATER)
        assert breakers.verdict("a", LINT, LATER) == "breaker half-open, one probe under way"

    def test_takes_the_agents_place_for_all_its_skills(self) -> None:
        breakers = Breakers()
        for skill in (LINT, WRITE, LINT):
            fail(breakers, skill=skill, times=1)
        breakers.probing("a", LINT, "x", LATER)

        assert breakers.verdict("a", WRITE, LATER) == "breaker half-open, one probe under way"


class TestProbeOver:
    def test_lets_another_one_try(self) -> None:
        breakers = broken("a")
        breakers.probing("a", LINT, "x", LATER)

        assert not breakers.probe_over("a", LINT, "y")
        assert breakers.probe_over("a", LINT, "x")
        assert breakers.probing("a", LINT, "y", LATER)

    def test_is_nothing_for_an_agent_without_trouble(self) -> None:
        assert not Breakers().probe_over("a", LINT, "x")


class TestKeepProbes:
    def test_frees_the_places_of_tasks_that_are_gone(self) -> None:
        breakers = broken("a", "b")
        breakers.probing("a", LINT, "x", LATER)
        breakers.probing("b", LINT, "y", LATER)
        breakers.keep_probes({"y"})

        assert breakers.verdict("a", LINT, LATER) is None
        assert breakers.verdict("b", LINT, LATER) is not None


class TestEject:
    def test_opens_with_the_reason(self) -> None:
        breakers = Breakers()

        assert breakers.eject("a", LINT, 0.0, "61 % success, peers 97 %")
        assert (breakers.verdict("a", LINT, 1.0) or "").endswith("UTC: 61 % success, peers 97 %")

    def test_leaves_an_open_breaker_as_it_is(self) -> None:
        breakers = broken("a")

        assert not breakers.eject("a", LINT, 0.0, "slow")
        assert "slow" not in (breakers.verdict("a", LINT, 1.0) or "")


class TestAdmitted:
    def test_is_everybody_when_nobody_has_trouble(self) -> None:
        admission = Breakers().admitted(frozenset({"a", "b"}), LINT, 1.0)

        assert (set(admission.admitted), admission.excluded, admission.ignored) == ({"a", "b"}, {}, False)
        assert not admission.is_shut

    def test_leaves_out_who_is_open_with_the_reason(self) -> None:
        admission = broken("a", "z").admitted(frozenset({"a", "b"}), LINT, 1.0)

        assert admission.admitted == {"b"}
        assert list(admission.excluded) == ["a"]
        assert admission.excluded["a"].startswith("breaker open until ")

    def test_ignores_breakers_when_fewer_than_half_would_remain(self) -> None:
        admission = broken("a", "b").admitted(frozenset({"a", "b", "c"}), LINT, 1.0)

        assert (set(admission.admitted), admission.excluded, admission.ignored) == ({"a", "b", "c"}, {}, True)

    def test_does_not_ignore_them_when_just_half_would_remain(self) -> None:
        assert broken("a", "b").admitted(frozenset({"a", "b", "c", "d"}), LINT, 1.0).admitted == {"c", "d"}

    def test_is_shut_when_all_are_open(self) -> None:
        for agents in ("a", "ab", "abc"):
            admission = broken(*agents).admitted(frozenset(agents), LINT, 1.0)

            assert admission.is_shut
            assert not admission.ignored

    def test_is_not_shut_when_nobody_is_able(self) -> None:
        assert not broken("a").admitted(frozenset(), LINT, 1.0).is_shut

    def test_lets_one_probe_through_when_all_are_half_open(self) -> None:
        breakers = broken("a")

        assert breakers.admitted(frozenset({"a"}), LINT, LATER).admitted == {"a"}
        breakers.probing("a", LINT, "x", LATER)
        assert breakers.admitted(frozenset({"a"}), LINT, LATER).is_shut

    def test_does_not_ignore_the_others_for_one_that_is_half_open(self) -> None:
        breakers = broken("a", "b", "c")
        first = min("abc", key=lambda name: breakers.opens_until(name, LINT, 0.0) or 0.0)
        now = breakers.opens_until(first, LINT, 0.0) or 0.0

        admission = breakers.admitted(frozenset({"a", "b", "c"}), LINT, now)

        assert admission.admitted == {first}
        assert not admission.ignored

    def test_goes_on_excluding_others_while_a_probe_is_under_way(self) -> None:
        breakers = broken("a", "b")
        first = min("ab", key=lambda name: breakers.opens_until(name, LINT, 0.0) or 0.0)
        now = breakers.opens_until(first, LINT, 0.0) or 0.0
        breakers.probing(first, LINT, "x", now)

        admission = breakers.admitted(frozenset({"a", "b", "c"}), LINT, now)

        assert admission.admitted == {"c"}
        assert set(admission.excluded) == {"a", "b"}

    def test_follows_the_clock_and_every_change(self) -> None:
        breakers, able = broken("a"), frozenset({"a", "b"})
        end = breakers.opens_until("a", LINT, 0.0) or 0.0

        assert breakers.admitted(able, LINT, 1.0).admitted == {"b"}
        assert breakers.admitted(able, LINT, end - 0.001).admitted == {"b"}
        assert breakers.admitted(able, LINT, end).admitted == {"a", "b"}
        breakers.probing("a", LINT, "x", end)
        assert breakers.admitted(able, LINT, end).admitted == {"b"}
        breakers.succeeded("a", LINT, end, task="x")
        assert breakers.admitted(able, LINT, end).admitted == {"a", "b"}
        fail(breakers, "b")
        assert breakers.admitted(able, LINT, 1.0).admitted == {"a"}
        breakers.keep({"a"})
        assert breakers.admitted(able, LINT, 1.0).admitted == {"a", "b"}

    def test_does_not_mind_a_clock_that_goes_back(self) -> None:
        breakers, able = broken("a"), frozenset({"a", "b"})

        assert breakers.admitted(able, LINT, LATER).admitted == {"a", "b"}
        assert breakers.admitted(able, LINT, 1.0).admitted == {"b"}

    def test_keeps_few_answers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "KEPT_ANSWERS", 10)
        breakers = broken("a")
        for n in range(100):
            breakers.admitted(frozenset({"a", f"b{n}"}), LINT, 1.0)

        assert len(breakers._answers) <= 10


class TestDue:
    def test_names_each_agent_once_when_it_becomes_half_open(self) -> None:
        breakers = broken("a", "b")
        ends = {name: breakers.opens_until(name, LINT, 0.0) or 0.0 for name in "ab"}
        first, last = sorted(ends, key=lambda name: ends[name])

        assert breakers.next_due() == ends[first]
        assert breakers.due(ends[first] - 0.001) == set()
        assert breakers.due(ends[first]) == {first}
        assert breakers.next_due() == ends[last]
        assert breakers.due(LATER) == {last}
        assert breakers.due(LATER) == set()
        assert breakers.next_due() is None

    def test_says_nothing_of_agents_that_are_forgotten(self) -> None:
        breakers = broken("a", "b")
        breakers.keep({"b"})

        assert breakers.due(LATER) == {"b"}

    def test_does_not_let_its_timers_grow(self) -> None:
        breakers = Breakers()
        for n in range(5_000):
            fail(breakers)
            breakers.probing("a", LINT, f"x{n}", LATER)
            breakers.succeeded("a", LINT, LATER, task=f"x{n}")

        assert len(breakers._timers) <= module.KEPT_LOOKS + 3


class TestKeep:
    def test_forgets_the_others(self) -> None:
        breakers = broken("a", "b")
        breakers.keep({"b"})

        assert breakers.is_closed("a", LINT)
        assert not breakers.is_closed("b", LINT)
        assert {row["agent"] for row in breakers.snapshot()} == {"b"}


class TestChanged:
    def test_tells_of_nothing_but_changes(self) -> None:
        breakers = Breakers()
        fail(breakers, times=2)

        assert breakers.changed() == []
        fail(breakers, times=1)
        [row] = breakers.changed()
        assert (row["agent"], row["skill"], row["version"], row["opens"]) == ("a", "lint", "1", 1)
        assert breakers.changed() == []

    def test_tells_of_probes_and_of_closing(self) -> None:
        breakers = broken("a")
        breakers.changed()
        breakers.probing("a", LINT, "x", LATER)

        assert [row["probe"] for row in breakers.changed()] == ["x"]
        breakers.succeeded("a", LINT, LATER, task="x")
        assert [row["until"] for row in breakers.changed()] == [None]

    def test_tells_of_a_forgotten_one_by_a_blank_row(self) -> None:
        breakers = broken("a")
        breakers.changed()
        breakers.keep(set())

        assert [(row["agent"], row["skill"], row["until"], row["opens"]) for row in breakers.changed()] == [
            ("a", "lint", None, 0)
        ]


class TestRestore:
    def test_keeps_the_time_to_live(self) -> None:
        breakers = broken("a")
        copy = restored(breakers)

        assert copy.verdict("a", LINT, 1.0) == breakers.verdict("a", LINT, 1.0)
        assert copy.next_due() == breakers.next_due()
        assert copy.due(LATER) == {"a"}


class TestBounds:
    def test_keep_the_skills_of_one_agent_with_those_that_are_open(self) -> None:
        breakers = broken("a")
        for n in range(2 * module.KEPT_SKILLS):
            breakers.succeeded("a", (f"s{n}", "1"), 0.0, task="x")

        assert len(breakers.snapshot()) == module.KEPT_SKILLS
        assert not breakers.is_closed("a", LINT)


# ---- whatever happens, in whatever order --------------------------------------------------------------------------

AGENTS = ("a", "b", "c")
SKILLS = (LINT, WRITE)
PICK = st.integers(0, 99)


class BreakersMachine(RuleBasedStateMachine):
    """Gives tasks as a fleet would, and drives beside it a copy that was restored, and one made of the rows kept."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000.0
        self.breakers, self.copy = Breakers(), Breakers()
        self.kept: dict[tuple[str, str, str], Row] = {}
        self.tasks = 0
        self.in_flight: dict[str, tuple[str, Skill]] = {}
        self.trials: dict[str, set[tuple[str, Skill]]] = {}  # task → breakers that were not closed as it was admitted

    def both(self) -> tuple[Breakers, Breakers]:
        return self.breakers, self.copy

    def take(self, pick: int) -> tuple[str, str, Skill] | None:
        """Take one of the tasks in flight out of it."""
        if not self.in_flight:
            return None
        task = sorted(self.in_flight)[pick % len(self.in_flight)]
        self.trials.pop(task, None)
        return (task, *self.in_flight.pop(task))

    @rule(agent=st.sampled_from(AGENTS), skill=st.sampled_from(SKILLS))
    def give(self, agent: str, skill: Skill) -> None:
        admission = self.breakers.admitted(frozenset(AGENTS), skill, self.now)
        if agent not in admission.admitted:
            assert not admission.ignored
            return
        self.tasks += 1
        task = f"x{self.tasks}"
        if not admission.ignored:
            rows = [r for r in self.breakers.snapshot() if r["agent"] == agent and r["until"] is not None]
            keys = {(r["skill"], r["version"]) for r in rows} & {WHOLE, skill}
            self.trials[task] = {(agent, key) for key in keys}
        self.in_flight[task] = (agent, skill)
        assert len({each.probing(agent, skill, task, self.now) for each in self.both()}) == 1

    @rule(pick=PICK)
    def succeed(self, pick: int) -> None:
        if taken := self.take(pick):
            task, agent, skill = taken
            assert len({each.succeeded(agent, skill, self.now, task=task) for each in self.both()}) == 1

    @rule(pick=PICK, kind=st.sampled_from(("agent", "agent", "agent", "timeout", "lost", "canceled")))
    def fail(self, pick: int, kind: str) -> None:
        if taken := self.take(pick):
            task, agent, skill = taken
            has_opened = [each.failed(agent, skill, self.now, kind, task=task) for each in self.both()]
            assert has_opened[0] == has_opened[1]
            if has_opened[0]:
                until = self.breakers.opens_until(agent, skill, self.now)
                assert until is not None
                assert 7.5 <= until - self.now <= 75.0

    @rule(agent=st.sampled_from(AGENTS), skill=st.sampled_from(SKILLS))
    def black_hole(self, agent: str, skill: Skill) -> None:
        for each in self.both():
            fail_now(each, agent, skill, self.now)

    @rule(agent=st.sampled_from(AGENTS), skill=st.sampled_from(SKILLS))
    def try_again(self, agent: str, skill: Skill) -> None:
        self.black_hole(agent, skill)
        self.wait(100.0)
        self.give(agent, skill)

    @rule(pick=PICK)
    def hand_back(self, pick: int) -> None:
        if taken := self.take(pick):
            task, agent, skill = taken
            assert len({each.probe_over(agent, skill, task) for each in self.both()}) == 1

    @rule(agent=st.sampled_from(AGENTS), skill=st.sampled_from(SKILLS))
    def eject(self, agent: str, skill: Skill) -> None:
        assert len({each.eject(agent, skill, self.now, "slow") for each in self.both()}) == 1

    @rule(seconds=st.sampled_from((0.1, 5.0, 20.0, 100.0, 1_000.0)))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        expected = {name for name in AGENTS for skill in SKILLS if self.became_half_open(name, skill, seconds)}
        assert expected <= self.breakers.due(self.now)

    def became_half_open(self, agent: str, skill: Skill, seconds: float) -> bool:
        until = self.breakers.opens_until(agent, skill, self.now - seconds)
        return until is not None and until <= self.now

    @rule()
    def restart(self) -> None:
        self.copy = restored(self.breakers)
        self.copy.keep_probes(self.in_flight)

    @invariant()
    def no_breaker_has_two_probes(self) -> None:
        tried = [key for keys in self.trials.values() for key in keys]

        assert len(tried) == len(set(tried))

    @invariant()
    def probes_are_in_flight(self) -> None:
        assert all(row["probe"] in {"", *self.in_flight} for row in self.breakers.snapshot())

    @invariant()
    def kept_answers_are_right(self) -> None:
        anew = restored(self.breakers)

        for skill in SKILLS:
            assert self.breakers.admitted(frozenset(AGENTS), skill, self.now) == anew.admitted(
                frozenset(AGENTS), skill, self.now
            )

    @invariant()
    def trouble_is_counted_right(self) -> None:
        open_ones = [row["agent"] for row in self.breakers.snapshot() if row["until"] is not None]

        assert self.breakers._troubled == Counter(open_ones)
        assert self.breakers._not_closed == len(open_ones)

    @invariant()
    def a_restored_one_does_the_same(self) -> None:
        def in_order(each: Breakers) -> list[Row]:
            return sorted(each.snapshot(), key=lambda row: (row["agent"], row["skill"]))

        assert in_order(self.breakers) == in_order(self.copy)

    @invariant()
    def rows_that_changed_are_enough_for_the_verdicts(self) -> None:
        self.kept |= {(row["agent"], row["skill"], row["version"]): row for row in self.breakers.changed()}
        made = Breakers()
        made.restore(self.kept.values())

        for agent in AGENTS:
            for skill in SKILLS:
                for now in (self.now, self.now + 30.0):
                    assert made.verdict(agent, skill, now) == self.breakers.verdict(agent, skill, now)

    @invariant()
    def somebody_is_admitted_sooner_or_later(self) -> None:
        admission = self.breakers.admitted(frozenset(AGENTS), LINT, self.now + 1_000.0)

        assert admission.admitted or self.in_flight


def fail_now(breakers: Breakers, agent: str, skill: Skill, now: float) -> None:
    """Let three attempts fail that are no probes."""
    for n in range(3):
        breakers.failed(agent, skill, now, "agent", task=f"old{n}")


TestBreakersMachine = BreakersMachine.TestCase
TestBreakersMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)

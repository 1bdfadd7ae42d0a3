from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, cast

import pytest

from routing import containment as module
from routing.containment import Containment, Containments, Scope
from routing.events import TaskSpec
from routing.lanes import LaneKey

SINCE = 1_800_000_000.0  # 2027-01-15 08:00:00 UTC
NOW = SINCE + 60.0
TASK = TaskSpec(id="x", tenant="acme", skill="pay.refund")


def switch(name: str = "s", scope: Scope = "everything", value: str = "", **fields: Any) -> Containment:
    """Return a switch that is enforced."""
    plain = Containment(
        name=name, scope=scope, value=value, mode="enforce", reason="wrong sums", by="anna", since=SINCE
    )
    return replace(plain, **fields)


def thrown(*switches: Containment) -> Containments:
    """Return containments with these switches thrown."""
    containments = Containments()
    containments.replace(switches)
    return containments


class TestProblems:
    @pytest.mark.parametrize(
        "good",
        [switch(), switch(scope="skill", value="pay.*"), switch(release_at=NOW + 1, cancel_running=True)],
    )
    def test_has_none(self, good: Containment) -> None:
        assert good.problems(NOW) == []

    @pytest.mark.parametrize(
        ("fields", "words"),
        [
            ({"name": " "}, "name must not be empty"),
            ({"scope": cast("Scope", "galaxy"), "value": "m31"}, "scope must be one of agent, skill, "),
            ({"mode": "off"}, "mode must be one of observe, enforce"),
            ({"value": "a"}, "value must be empty"),
            ({"scope": "agent"}, "value must say which agent"),
            ({"reason": ""}, "reason must not be empty"),
            ({"by": ""}, "by must say"),
            ({"release_at": NOW}, "release_at lies in the past"),
            ({"release_at": float("inf")}, "release_at must be a moment"),
            ({"release_at": float("nan")}, "release_at must be a moment"),
            ({"release_at": 1e20}, "release_at must be a moment"),
            ({"mode": "observe", "cancel_running": True}, "cancel_running needs the mode enforce"),
        ],
    )
    def test_names_what_is_wrong(self, fields: dict[str, Any], words: str) -> None:
        [problem] = switch(**fields).problems(NOW)

        assert problem.startswith(words)


class TestWords:
    def test_tell_since_when_by_whom_and_why(self) -> None:
        words = switch(scope="skill", value="pay.*").words()

        assert words == "skill pay.* contained since 2027-01-15 08:00:00 UTC by anna: wrong sums"

    def test_tell_until_when(self) -> None:
        words = switch(release_at=SINCE + 3_600).words()

        assert words == (
            "all work contained since 2027-01-15 08:00:00 UTC by anna, until 2027-01-15 09:00:00 UTC: wrong sums"
        )

    def test_can_be_given_for_every_moment_that_has_no_problem(self) -> None:
        last = switch(release_at=module.END_OF_TIME - 1)

        assert last.problems(NOW) == []
        assert "9999" in last.words()


class TestRefusal:
    def test_tells_what_to_do(self) -> None:
        refusal = switch(scope="tenant", value="acme", reason="wrong sums.").refusal()

        assert refusal == (
            "Not accepted: tenant acme contained since 2027-01-15 08:00:00 UTC by anna: wrong sums. "
            "Try again when it is released."
        )
        assert switch(release_at=NOW).refusal().endswith("Try again after 2027-01-15 08:01:00 UTC.")


class TestDenies:
    @pytest.mark.parametrize(
        ("scope", "value"),
        [
            ("everything", ""), ("tenant", "acme"), ("agent", "codex"), ("skill", "pay.refund"), ("skill", "pay.*"),
            ("skill", "*"), ("skill", "pay.[rs]efun?"),
        ],
    )  # fmt: skip
    def test_names_the_switch_that_holds_the_work(self, scope: Scope, value: str) -> None:
        thrown_one = switch(scope=scope, value=value)

        assert thrown(thrown_one).denies(TASK, "codex", NOW) == thrown_one

    @pytest.mark.parametrize(
        ("scope", "value"),
        [("tenant", "ac*"), ("agent", "code"), ("skill", "pay"), ("skill", "PAY.*"), ("skill", "refund")],
    )
    def test_is_none_for_other_work(self, scope: Scope, value: str) -> None:
        assert thrown(switch(scope=scope, value=value)).denies(TASK, "codex", NOW) is None

    def test_asks_about_a_lane_as_well(self) -> None:
        assert thrown(switch()).denies(LaneKey.of(TASK), "", NOW) == switch()

    def test_holds_no_lane_for_one_agent(self) -> None:
        containments = thrown(switch(scope="agent", value="codex"))

        assert containments.denies(TASK, "", NOW) is None
        assert containments.denies(TASK, "claude", NOW) is None

    def test_is_none_in_observe_mode(self) -> None:
        assert thrown(switch(mode="observe")).denies(TASK, "codex", NOW) is None

    def test_looks_behind_one_that_only_observes(self) -> None:
        containments = thrown(switch("a", mode="observe"), switch("b"))

        assert containments.denies(TASK, "codex", NOW) == switch("b")

    def test_ends_at_the_release_even_if_nobody_looked(self) -> None:
        containments = thrown(switch(release_at=NOW))

        assert containments.denies(TASK, "codex", NOW - 1) is not None
        assert containments.denies(TASK, "codex", NOW) is None

    def test_follows_a_change_of_patterns(self) -> None:
        containments = thrown(switch(scope="skill", value="pay.*"))
        containments.denies(TASK, "codex", NOW)
        containments.replace([switch(scope="skill", value="lint")])

        assert containments.denies(TASK, "codex", NOW) is None

    def test_does_not_remember_skills_without_bound(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "KEPT_SKILLS", 10)
        containments = thrown(switch(scope="skill", value="pay.*"))
        for n in range(100):
            containments.denies(replace(TASK, skill=f"s{n}"), "codex", NOW)

        assert len(containments._of_skill) <= 10
        assert containments.denies(TASK, "codex", NOW) is not None


class TestCancels:
    def test_is_the_switch_that_asks_for_it(self) -> None:
        assert thrown(switch("a"), switch("b", cancel_running=True)).cancels(TASK, "codex", NOW) == switch(
            "b", cancel_running=True
        )

    def test_is_none_without_the_wish_or_in_observe_mode(self) -> None:
        containments = thrown(switch("a"), switch("b", mode="observe", cancel_running=True))

        assert containments.cancels(TASK, "codex", NOW) is None


class TestObserve:
    def test_counts_each_task_once_for_each_switch(self) -> None:
        containments = thrown(
            switch("a", mode="observe"), switch("b", scope="agent", value="codex", mode="observe"), switch("c")
        )
        for task, agent in (("x", "codex"), ("x", "claude"), ("y", "claude")):
            containments.observe(TASK, task, agent, NOW)

        assert [containments.observed(name) for name in "abc"] == [2, 1, 0]

    def test_says_so_in_words(self) -> None:
        containments = thrown(switch("a", mode="observe"))

        assert containments.observed_words("a") == "would have held 0 tasks"
        containments.observe(TASK, "x", "codex", NOW)
        assert containments.observed_words("a") == "would have held 1 task"

    def test_counts_nothing_after_the_release(self) -> None:
        containments = thrown(switch("a", mode="observe", release_at=NOW))
        containments.observe(TASK, "x", "codex", NOW)

        assert containments.observed("a") == 0

    def test_keeps_few_of_many_tasks(self) -> None:
        containments = thrown(switch("a", mode="observe"))
        for n in range(3 * module.KEPT_TASKS):
            containments.observe(TASK, f"x{n}", "codex", NOW)

        assert containments.observed("a") == 3 * module.KEPT_TASKS
        assert len(containments.snapshot()["a"]["latest"]) == module.KEPT_TASKS


class TestReplace:
    def test_returns_what_is_new_or_changed(self) -> None:
        containments = thrown(switch("a"), switch("b"))

        assert containments.replace([switch("a"), switch("b", reason="other"), switch("c")]) == [
            switch("b", reason="other"), switch("c"),
        ]  # fmt: skip

    def test_forgets_the_counts_of_what_is_gone(self) -> None:
        containments = thrown(switch("a", mode="observe"), switch("b", mode="observe"))
        containments.observe(TASK, "x", "codex", NOW)
        containments.replace([switch("b", mode="observe")])

        assert containments.observed("a") == 0
        assert containments.observed("b") == 1


class TestDue:
    def test_releases_each_at_its_time(self) -> None:
        late, early = switch("late", release_at=NOW + 9), switch("early", release_at=NOW + 1)
        containments = thrown(late, early, switch("forever", mode="observe"))

        assert containments.next_due() == NOW + 1
        assert containments.due(NOW) == []
        assert containments.due(NOW + 5) == [early]
        assert containments.next_due() == NOW + 9
        assert containments.due(NOW + 9) == [late]
        assert containments.next_due() is None
        assert containments.denies(TASK, "codex", NOW) is None


class TestRestore:
    def test_goes_on_counting(self) -> None:
        containments, copy = thrown(switch("a", mode="observe")), thrown(switch("a", mode="observe"))
        containments.observe(TASK, "x", "codex", NOW)
        copy.restore(json.loads(json.dumps(containments.snapshot())))
        for task in ("x", "y"):
            copy.observe(TASK, task, "codex", NOW)

        assert copy.observed("a") == 2

    def test_leaves_out_what_is_thrown_no_more(self) -> None:
        containments = thrown(switch("b"))
        containments.restore({"a": {"tasks": 1, "latest": ["x"]}})

        assert containments.snapshot() == {}

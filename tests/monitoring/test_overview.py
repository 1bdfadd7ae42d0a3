"""monitoring.overview"""

from typing import Any

from monitoring import overview


def snapshot(**parts: Any) -> dict[str, Any]:
    """Return a snapshot of a small site that is well."""
    fleet = [{"agent": "a", "running": 1, "capacity": 4, "state": "busy"}]
    return {"fleet": fleet, "workers": [{"worker": "w1"}], "lanes": [], **parts}


class TestHealth:
    def test_is_bad_without_a_controller(self) -> None:
        state = overview.health(None)

        assert state["level"] == "bad"
        assert "No controller" in state["text"]

    def test_is_bad_without_a_worker(self) -> None:
        state = overview.health(snapshot(workers=[]))

        assert (state["level"], "No worker" in state["text"]) == ("bad", True)

    def test_warns_of_what_nobody_can_take_with_the_longest_lane_first(self) -> None:
        lanes = [
            {"skill": "x", "waiting": 1, "reason": "no agent has the skill x"},
            {"skill": "y", "waiting": 9, "reason": "all disabled"},
            {"skill": "z", "waiting": 5, "reason": None},
        ]

        state = overview.health(snapshot(lanes=lanes))

        assert state["level"] == "warn"
        assert [state["text"], *state["more"]] == [
            "9 tasks for y: all disabled.",
            "1 task for x: no agent has the skill x.",
        ]

    def test_warns_first_of_what_waits_in_vain_since_a_while(self) -> None:
        reason = "no agent has the skill x with the label gpu=yes"
        lanes = [{"skill": "x", "waiting": 3, "reason": reason}, {"skill": "y", "waiting": 9, "reason": "all disabled"}]
        stuck = {"lanes": 1, "tasks": 4, "reasons": [{"reason": reason, "tasks": 3}]}

        state = overview.health(snapshot(lanes=lanes, stuck=stuck))

        assert state["level"] == "warn"
        assert [state["text"], *state["more"]] == [
            f"3 tasks wait that nobody can serve: {reason}.",
            "1 task waits in vain for other reasons.",
            "9 tasks for y: all disabled.",
        ]

    def test_warns_of_agents_that_are_left_alone_or_contained(self) -> None:
        shut, held = {"state": "open"}, {"state": "enforce", "switch": "storm"}
        observed = {"state": "observe", "switch": "rehearsal"}
        fleet = [
            {"agent": "a", "state": "idle", "breaker": shut, "contained": observed},
            {"agent": "b", "state": "idle", "breaker": None, "contained": held},
            {"agent": "c", "state": "idle", "breaker": {"state": "half-open"}, "contained": held},
        ]

        state = overview.health(snapshot(fleet=fleet))

        assert [state["text"], *state["more"]] == [
            "1 agent left alone for a while after failures: a.",
            "The containment storm holds work back from 2 agents.",
        ]

    def test_is_good_otherwise_and_counts(self) -> None:
        state = overview.health(snapshot(lanes=[{"skill": "z", "waiting": 5, "reason": None}]))

        assert state == {"level": "good", "text": "All well: 1 agent on 1 worker, 5 tasks waiting.", "more": []}


class TestFleetRows:
    def test_puts_live_figures_over_the_registry(self) -> None:
        known: dict[str, overview.Known] = {
            "a": {"tenant": "default", "skills": ["s"], "capacity": 4, "state": "silent"},
            "b": {"tenant": "default", "skills": [], "capacity": 2, "state": "disabled"},
        }

        rows = overview.fleet_rows(known, snapshot())

        assert [(row["agent"], row["state"], row["running"], row["skills"]) for row in rows] == [
            ("a", "busy", 1, ["s"]),
            ("b", "disabled", 0, []),
        ]

    def test_shows_the_registry_alone_without_a_snapshot(self) -> None:
        known: dict[str, overview.Known] = {"a": {"tenant": "t", "skills": [], "capacity": 4, "state": "silent"}}

        assert [row["state"] for row in overview.fleet_rows(known, None)] == ["silent"]

    def test_of_very_many_show_those_that_need_attention(self) -> None:
        fleet: list[dict[str, object]] = [{"agent": f"a{n:03}", "state": "idle"} for n in range(300)]
        fleet += [
            {"agent": "x", "state": "silent"},
            {"agent": "y", "state": "idle", "contained": {"brief": "contained by z"}},
        ]

        rows = [row["agent"] for row in overview.fleet_rows({}, {"fleet": fleet})]

        assert len(rows) == overview.MOST_AGENTS
        assert (rows[0], rows[-2:]) == ("a000", ["x", "y"])

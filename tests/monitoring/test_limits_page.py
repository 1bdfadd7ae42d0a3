"""monitoring.limits_page"""

from __future__ import annotations

from typing import Any

from monitoring import limits_page


def limit(running: int = 0, tokens: float | None = None, **fields: Any) -> dict[str, Any]:
    """Return a limit of ten attempts at once as a snapshot tells it."""
    row = {"limit": "crawl", "per": "all", "max_running": 10, "rate_per_s": None, "burst": 1, "on_full": "queue"}
    return {**row, "values": [{"value": "", "running": running, "tokens": tokens}], "more": 0, **fields}


def budget(spent: float = 0.0, reserved: float = 0.0, **fields: Any) -> dict[str, Any]:
    """Return a budget of five dollars as a snapshot tells it."""
    left, over = max(0.0, 5.0 - spent - reserved), max(0.0, spent + reserved - 5.0)
    value = {"value": "", "spent": spent, "reserved": reserved, "left": left, "overshoot": over}
    row = {"budget": "day", "unit": "usd", "scope": "all", "amount": 5.0, "hard": True, "until": None}
    return {**row, "values": [value], "more": 0, **fields}


class TestLimit:
    def test_says_in_a_word_how_much_room_there_is(self) -> None:
        told = [limits_page.limit(limit(running))[0]["word"] for running in (0, 7, 8, 10)]

        assert told == ["room", "room", "nearly full", "full"]

    def test_is_full_without_a_token(self) -> None:
        [line] = limits_page.limit(limit(0, 0.7, max_running=None, rate_per_s=0.5, burst=3))

        assert (line["word"], line["rate"], line["ready"]) == ("full", "30 per minute", "0 of 3 at once")

    def test_names_whom_each_line_counts(self) -> None:
        values = [{"value": name, "running": 1, "tokens": None} for name in ("jules", "codex")]

        lines = limits_page.limit(limit(per="agent", values=values, more=3))

        assert [(line["whom"], line["more"]) for line in lines] == [("agent jules", 0), ("agent codex", 3)]

    def test_has_a_line_when_nothing_runs(self) -> None:
        [line] = limits_page.limit(limit(per="key", values=[]))

        assert (line["word"], line["whom"]) == ("not in use", "for each concurrency key: nothing runs")


class TestBudget:
    def test_says_in_a_word_how_much_is_left(self) -> None:
        told = [limits_page.budget(budget(*used))[0]["word"] for used in ((0, 0), (3, 1), (3, 2), (5, 1))]

        assert told == ["room", "nearly used up", "used up", "overspent"]

    def test_tells_amounts_in_the_unit(self) -> None:
        [line] = limits_page.budget(budget(1.5, 0.25))

        assert (line["spent"], line["reserved"], line["left"], line["amount"]) == ("$1.50", "$0.25", "$3.25", "$5.00")

    def test_has_a_line_when_nothing_is_spent(self) -> None:
        [line] = limits_page.budget(budget(scope="tenant", values=[]))

        assert (line["word"], line["hard"]) == ("not in use", True)


class TestContainment:
    def test_tells_what_it_holds_and_what_it_would_have_held(self) -> None:
        row = {"containment": "stop", "target": "skill x"}

        told = [
            limits_page.containment({**row, "mode": mode, "tasks": tasks})
            for mode, tasks in (("enforce", 1), ("observe", 4), ("enforce", None))
        ]

        assert [(line["word"], line["effect"]) for line in told] == [
            ("holds", "holds 1 waiting task"),
            ("only observed", "would have held 4 tasks"),
            ("holds", "gets nothing new"),
        ]


class TestContext:
    def test_is_empty_without_rules(self) -> None:
        assert limits_page.context({}) == {"containments": [], "limits": [], "budgets": []}

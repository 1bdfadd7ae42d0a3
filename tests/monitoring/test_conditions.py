from pathlib import Path
from typing import Any

from monitoring.conditions import KINDS, OVER_AFTER_S, Condition, Watch, found

ROOT = Path(__file__).resolve().parents[2]
WORKER = {"worker": "w1@h", "threads": 8}


def snapshot(**parts: Any) -> dict[str, Any]:
    return {"workers": [WORKER], "fleet": [], "stuck": {"reasons": []}, **parts}


def condition(hold_s: float = 0.0, title: str = "t") -> Condition:
    return Condition(kind="k", key="x", severity="warning", title=title, hold_s=hold_s)


class TestFound:
    def test_is_nothing_where_all_is_well(self) -> None:
        assert list(found(snapshot(fleet=[{"agent": "a", "state": "idle", "breaker": None}]))) == []

    def test_tells_of_tasks_that_nobody_can_do_for_each_reason(self) -> None:
        reasons = [{"reason": "no agent has skill x", "tasks": 3}, {"reason": "no budget", "tasks": 1}]

        told = list(found(snapshot(stuck={"reasons": reasons})))

        assert [(each.kind, each.key) for each in told] == [
            ("task-nobody-can-do", "no agent has skill x"),
            ("task-nobody-can-do", "no budget"),
        ]
        assert told[0].title == "3 tasks wait that nobody can do: no agent has skill x."

    def test_tells_of_workers_and_agents(self) -> None:
        fleet = [{"agent": "a", "state": "silent"}, {"agent": "b", "state": "idle", "breaker": {"state": "open"}}]

        with_workers = {each.kind for each in found(snapshot(fleet=fleet))}
        without = {each.kind for each in found(snapshot(fleet=fleet, workers=[]))}

        assert with_workers == {"agent-unserved", "agent-breaker-open"}
        assert without == {"no-worker", "agent-breaker-open"}

    def test_has_a_page_of_operations_for_each_kind(self) -> None:
        for kind in KINDS:
            page = (ROOT / "docs" / "operations" / f"{kind}.md").read_text()
            for heading in ("What it means", "How to see it", "What to do", "How to know it is over"):
                assert f"**{heading}.**" in page


class TestWatch:
    def test_raises_a_condition_once_it_has_held_long_enough(self) -> None:
        watch = Watch()

        raised = [len(watch.look(iter([condition(hold_s=10)]), now)[0]) for now in (0.0, 5.0, 10.0, 11.0)]

        assert raised == [0, 0, 1, 0]

    def test_raises_it_again_when_it_reads_differently(self) -> None:
        watch = Watch()

        raised = [watch.look(iter([condition(title=title)]), 0.0)[0] for title in ("1 task", "1 task", "2 tasks")]

        assert [len(each) for each in raised] == [1, 0, 1]

    def test_ends_it_when_it_has_not_been_seen_for_a_while(self) -> None:
        watch = Watch()
        watch.look(iter([condition()]), 0.0)

        flickers = watch.look(iter([]), OVER_AFTER_S)
        again = watch.look(iter([condition()]), OVER_AFTER_S + 1)
        over = watch.look(iter([]), 2 * OVER_AFTER_S + 2)

        assert (flickers, again) == (([], []), ([], []))
        assert over == ([], [("k", "x")])

    def test_forgets_what_never_became_an_alert(self) -> None:
        watch = Watch()
        watch.look(iter([condition(hold_s=100)]), 0.0)

        assert watch.look(iter([]), OVER_AFTER_S + 1) == ([], [])
        assert watch.look(iter([condition(hold_s=100)]), OVER_AFTER_S + 2)[0] == []

    def test_ends_what_an_earlier_watch_had_opened(self) -> None:
        watch = Watch()
        watch.adopt(("k", "x"), 0.0)

        assert watch.look(iter([]), OVER_AFTER_S + 1) == ([], [("k", "x")])

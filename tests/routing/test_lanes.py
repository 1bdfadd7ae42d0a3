from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from routing import lanes
from routing.events import TaskSpec
from routing.lanes import Lane, LaneKey

TASK = TaskSpec(id="x", tenant="t", skill="lint")


def lane(**tasks: dict[str, Any]) -> Lane:
    """Return a lane with the named tasks, added in this order at 0, 1, 2 … s."""
    made = Lane(LaneKey.of(TASK))
    for now, (name, changes) in enumerate(tasks.items()):
        made.add(replace(TASK, id=name, **changes), float(now))
    return made


def order(made: Lane) -> list[str]:
    """Empty the lane, and return its tasks as they came up."""
    names = []
    while head := made.head(usual):
        names.append(head.task)
        made.remove(head.task)
    return names


def usual(bucket: int) -> float:
    """Return the expected seconds of a task in a size bucket."""
    return 2.0**bucket


class TestOf:
    def test_is_the_same_for_tasks_that_ask_for_the_same(self) -> None:
        assert LaneKey.of(TASK) == LaneKey.of(replace(TASK, id="y", priority=9, deadline=1.0))

    def test_differs_with_the_wishes(self) -> None:
        wishes: list[dict[str, Any]] = [
            {"tenant": "u"}, {"version": "2"}, {"labels": (("gpu", "yes"),)}, {"pinned": "a"}, {"excluded": ("a",)},
        ]  # fmt: skip

        assert len({LaneKey.of(replace(TASK, **wish)) for wish in [{}, *wishes]}) == 6


class TestStr:
    def test_names_all_wishes(self) -> None:
        task = replace(TASK, version="2", labels=(("gpu", "yes"),), pinned="a", excluded=("b",))

        assert str(LaneKey.of(task)) == "lint@2 gpu=yes →a -b"


class TestHead:
    def test_is_none_when_nobody_waits(self) -> None:
        assert lane().head(usual) is None

    def test_comes_by_priority_then_age_then_arrival(self) -> None:
        made = lane(
            young={"created_at": 2.0},
            old={"created_at": 1.0},
            urgent={"priority": 9, "created_at": 3.0},
            last={"priority": 0},
            late={"created_at": 2.0},
        )

        assert order(made) == ["urgent", "old", "young", "late", "last"]

    def test_prefers_the_earliest_deadline_and_any_to_none(self) -> None:
        made = lane(none={}, late={"deadline": 90.0}, soon={"deadline": 40.0})

        assert order(made) == ["soon", "late", "none"]

    def test_prefers_the_shorter_one_until_the_longer_has_waited_long(self) -> None:
        made = Lane(LaneKey.of(TASK))
        made.add(replace(TASK, id="long", created_at=0.0), 0.0, bucket=3)
        for second in (10.0, 20.0, 40.0):
            made.add(replace(TASK, id=f"short at {second:g}", created_at=second), second, bucket=1)

        assert order(made) == ["short at 10", "short at 20", "long", "short at 40"]

    def test_passes_over_a_key_in_use_until_it_is_free(self) -> None:
        made = lane(x={"concurrency_key": "one"}, y={"concurrency_key": "one"}, z={"concurrency_key": "two"})
        made.park("one")

        assert order(made) == ["z"]
        assert made.unpark("one")
        assert order(made) == ["x", "y"]

    @given(
        st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2), st.integers(0, 3), st.booleans()), max_size=40)
    )
    def test_is_the_first_of_all_that_may_go(self, tasks: list[tuple[str, int, int, bool]]) -> None:
        made, places = Lane(LaneKey.of(TASK)), {}
        for n, (key, priority, bucket, urgent) in enumerate(tasks):
            deadline = 50.0 - n if urgent else None
            made.add(
                replace(
                    TASK, id=str(n), concurrency_key=key, priority=priority, created_at=float(n), deadline=deadline
                ),
                0.0,
                bucket=bucket,
            )
            value = deadline if deadline is not None else usual(bucket) + lanes.AGEING * n
            places[str(n)] = (-priority, deadline is None, value, n)
        made.park("b")
        may_go = [name for name in places if tasks[int(name)][0] != "b"]

        assert order(made) == sorted(may_go, key=places.__getitem__)

    def test_stays_until_it_is_removed(self) -> None:
        made = lane(x={}, y={})

        assert made.head(usual) == made.head(usual)

    def test_keeps_its_age_when_it_comes_back(self) -> None:
        made = lane(x={"created_at": 1.0}, y={"created_at": 2.0})
        made.remove("x")
        made.add(replace(TASK, id="x", created_at=1.0), 9.0)

        assert order(made) == ["x", "y"]


class TestRemove:
    def test_takes_out_what_stands_in_the_middle(self) -> None:
        made = lane(x={}, y={}, z={})
        made.remove("y")

        assert len(made) == 2
        assert order(made) == ["x", "z"]

    def test_does_not_mind_what_is_not_there(self) -> None:
        made = lane(x={})
        made.remove("y")

        assert len(made) == 1

    def test_does_not_let_the_heap_grow_behind_a_head_that_stays(self) -> None:
        made = lane(head={"priority": 9})
        for n in range(1000):
            made.add(replace(TASK, id=f"x{n}"), 0.0)
            made.remove(f"x{n}")

        assert sum(len(s.heap) for shelves in made._shelves.values() for s in shelves.values()) <= lanes.KEPT_PLACES + 3
        assert order(made) == ["head"]


class TestOldest:
    def test_is_when_the_longest_waiting_came(self) -> None:
        made = lane(x={}, urgent={"priority": 9})

        assert made.oldest() == 0.0
        made.remove("x")
        assert made.oldest() == 1.0
        assert made.since("urgent") == 1.0

    def test_is_none_when_nobody_waits(self) -> None:
        assert lane().oldest() is None

from routing import waiters
from routing.waiters import Waiters


def emptied(made: Waiters[str, str], key: str) -> list[str]:
    """Return everybody whom the key calls, in order."""
    called = []
    while (who := made.next(key)) is not None:
        called.append(who)
    return called


class TestNext:
    def test_comes_by_order_then_arrival(self) -> None:
        made: Waiters[str, str] = Waiters()
        for who, order in (("late", 2.0), ("early", 1.0), ("also late", 2.0)):
            made.wait(who, (order,), [("k", None)])

        assert emptied(made, "k") == ["early", "late", "also late"]

    def test_calls_nobody_twice_who_waits_for_several(self) -> None:
        made: Waiters[str, str] = Waiters()
        made.wait("x", (1.0,), [("k", None), ("l", None)])

        assert emptied(made, "k") == ["x"]
        assert emptied(made, "l") == []

    def test_knows_only_the_last_wish(self) -> None:
        made: Waiters[str, str] = Waiters()
        made.wait("x", (1.0,), [("k", None)])
        made.wait("y", (2.0,), [("k", None)])
        made.wait("x", (3.0,), [("k", None)])

        assert emptied(made, "k") == ["y", "x"]

    def test_leaves_out_who_waits_no_more(self) -> None:
        made: Waiters[str, str] = Waiters()
        made.wait("x", (1.0,), [("k", None)])
        made.forget("x")

        assert "x" not in made
        assert emptied(made, "k") == []


class TestOpened:
    def test_names_what_is_waited_for_until_nobody_is_left(self) -> None:
        made: Waiters[str, str] = Waiters()
        made.wait("x", (1.0,), [("k", None)])
        made.open("k")

        assert made.opened(0.0) == made.opened(0.0) == ["k"]
        assert emptied(made, "k") == ["x"]
        assert made.opened(0.0) == []

    def test_names_nothing_that_nobody_waits_for(self) -> None:
        made: Waiters[str, str] = Waiters()
        made.open("k")
        made.wait("x", (1.0,), [("l", None)])

        assert made.opened(0.0) == []

    def test_names_what_opens_by_itself_once_it_is_time(self) -> None:
        made: Waiters[str, str] = Waiters()
        made.wait("x", (1.0,), [("k", 5.0), ("l", 3.0)])

        assert made.next_opening() == 3.0
        assert made.opened(2.9) == []
        assert made.opened(3.0) == ["l"]
        assert made.next_opening() == 5.0
        assert made.opened(5.0) == ["l", "k"]
        assert made.next_opening() is None

    def test_keeps_the_earlier_time(self) -> None:
        made: Waiters[str, str] = Waiters()
        made.wait("x", (1.0,), [("k", 5.0)])
        made.open_at("k", 4.0)
        made.open_at("k", 9.0)

        assert made.next_opening() == 4.0

    def test_stays_closed_until_it_opens_again(self) -> None:
        made: Waiters[str, str] = Waiters()
        made.wait("x", (1.0,), [("k", None)])
        made.open("k")
        made.close("k")

        assert made.opened(0.0) == []
        made.open("k")
        assert made.opened(0.0) == ["k"]


class TestClear:
    def test_forgets_everybody(self) -> None:
        made: Waiters[str, str] = Waiters()
        made.wait("x", (1.0,), [("k", 5.0)])
        made.clear()

        assert (len(made), made.opened(9.0), made.next_opening(), emptied(made, "k")) == (0, [], None, [])


class TestWait:
    def test_does_not_grow_with_wishes_that_are_renewed(self) -> None:
        made: Waiters[str, str] = Waiters()
        for _ in range(1_000):
            made.wait("x", (1.0,), [("k", 5.0), ("l", None)])

        assert max(len(queue) for queue in made._queues.values()) <= waiters.KEPT_PLACES + 3
        assert len(made._timers) == 1

    def test_does_not_gather_timers_of_what_opens_early_again_and_again(self) -> None:
        made: Waiters[str, str] = Waiters()
        for _ in range(1_000):
            made.wait("x", (1.0,), [("k", 5.0)])
            made.open("k")
            emptied(made, "k")

        assert len(made._timers) == 1

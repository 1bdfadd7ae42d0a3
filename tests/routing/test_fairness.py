"""Which tenant is next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from routing.fairness import KEPT_TENANTS, FairShare
from tests.routing.fleets import World, agent


def served(turns: int, **weights: float) -> Counter[str]:
    """Return how often each of the tenants is served when all have always somebody waiting, with equal tasks."""
    share = FairShare()
    share.weights = weights
    counts: Counter[str] = Counter()
    for _ in range(turns):
        tenant = min(weights, key=share.start_tag)
        share.serve(tenant, 1.0)
        counts[tenant] += 1
    return counts


class TestServe:
    def test_gives_to_each_by_its_weight(self) -> None:
        assert served(300, a=2.0, b=1.0) == {"a": 200, "b": 100}

    def test_counts_seconds_and_not_tasks(self) -> None:
        share = FairShare()
        share.serve("long", 10.0)
        share.serve("short", 1.0)

        assert share.start_tag("short") < share.start_tag("long")

    def test_one_that_had_nothing_to_do_has_not_saved_up(self) -> None:
        share = FairShare()
        for _ in range(100):
            share.serve("busy", 1.0)

        assert share.start_tag("idle") == share.start_tag("busy") - 1.0

    def test_forgets_tenants_that_begin_at_the_present_anyway(self) -> None:
        share = FairShare()
        for n in range(3 * KEPT_TENANTS):
            share.serve(f"t{n}", 1.0)
            share.serve("late", 2.0)

        assert len(share._finish) <= KEPT_TENANTS + 1


class TestFleet:
    """Through the fleet's doors."""

    def world(self, weights: Mapping[str, float], threads: int = 1) -> World:
        agents = [agent(f"{tenant}-agent", tenant=tenant, capacity=100) for tenant in ("big", "small")]
        return World(*agents, threads=threads, weights=weights)

    def run_out(self, world: World, turns: int) -> list[str]:
        """Let so many attempts end one after the other, and return the tenants in the order served."""
        for _ in range(turns):
            [running] = [t for t in world.fleet.tasks.values() if t.flights]
            world.run(running.spec.id, 1.0, running.attempt)
        return [name.split("-")[0] for name in world.order()]

    def test_ten_thousand_waiting_tasks_do_not_delay_another_tenants_first(self) -> None:
        world = self.world({})
        for n in range(10_000):
            world.submit(f"big-{n}", tenant="big")
        self.run_out(world, 5)
        world.submit("small-0", tenant="small")

        order = self.run_out(world, 2)

        assert "small" in order[6:8]

    def test_a_weight_of_two_gets_twice_as_much(self) -> None:
        world = self.world({"big": 2.0})
        for n in range(100):
            world.submit(f"big-{n}", tenant="big")
            world.submit(f"small-{n}", tenant="small")

        counts = Counter(self.run_out(world, 60))

        assert abs(counts["big"] - 2 * counts["small"]) <= 3

    def test_priority_comes_before_fairness(self) -> None:
        world = self.world({})
        world.submit("big-0", tenant="big")
        for n in range(1, 5):
            world.submit(f"small-{n}", tenant="small", priority=4)
            world.submit(f"big-{n}", tenant="big")

        assert self.run_out(world, 4) == ["big"] * 5

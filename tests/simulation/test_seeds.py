"""The fleet keeps its promises in thousands of small worlds where everything goes wrong.

Replay one with ``python -m tests.simulation.test_seeds SEED``.
"""

from __future__ import annotations

import sys

import pytest

from tests.simulation.scenarios import broken_promises, records, scenario
from tests.simulation.world import simulate

CHUNKS, SEEDS_EACH = 20, 105


def failing(seed: int) -> str:
    """Return what went wrong in the world of ``seed``, empty if nothing did."""
    world = scenario(seed)
    found = broken_promises(world, simulate(world))
    how = f"replay: python -m tests.simulation.test_seeds {seed}"
    return "\n  ".join([f"seed {seed} ({how})", *found[:10]]) if found else ""


class TestSimulate:
    @pytest.mark.parametrize("chunk", range(CHUNKS))
    def test_every_promise_is_kept_whatever_goes_wrong(self, chunk: int) -> None:
        seeds = range(chunk * SEEDS_EACH, (chunk + 1) * SEEDS_EACH)

        found = [words for seed in seeds if (words := failing(seed))]

        assert not found, "\n".join(found)

    def test_the_same_seed_gives_the_same_history(self) -> None:
        assert simulate(scenario(7)).lines == simulate(scenario(7)).lines


if __name__ == "__main__":
    seed = int(sys.argv[1])
    for record in records(simulate(scenario(seed))):
        print(
            f"{record.at:9.3f} {record.task:>8} {record.seq:3} {record.kind:16} {record.attempt or ''} {record.agent}"
        )
    print(failing(seed) or "every promise was kept")

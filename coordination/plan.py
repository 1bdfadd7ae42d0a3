"""What follows what in a graph, by number.  Pure."""

from __future__ import annotations

from collections.abc import Iterable

from coordination.graph import Graph


class Plan:
    """A graph as the engine walks it: steps have the numbers of their places. Runs of one graph share it."""

    __slots__ = (
        "_above",
        "after",
        "compensates",
        "counts",
        "first",
        "graph",
        "index",
        "next",
        "picks",
        "runs",
        "sinks",
    )

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.runs = 0  # that use it
        self.index = {step.name: number for number, step in enumerate(graph.steps)}
        self.picks: dict[int, list[int]] = {}  # step → the choices that name it
        for number, step in enumerate(graph.steps):
            for name in dict.fromkeys(name for case in step.cases for name in case.then):
                self.picks.setdefault(self.index[name], []).append(number)
        self.after = [self._before(number) for number in range(len(graph.steps))]
        following: list[list[int]] = [[] for _ in graph.steps]
        for number, before in enumerate(self.after):
            for other in before:
                following[other].append(number)
        self.next = [tuple(numbers) for numbers in following]
        self.counts = [len(before) for before in self.after]
        self.first = [number for number, count in enumerate(self.counts) if not count]
        self.sinks = [number for number, after in enumerate(self.next) if not after]
        self.compensates = [number for number, step in enumerate(graph.steps) if step.kind == "compensate"]
        self._above: dict[int, frozenset[int]] = {}

    def _before(self, number: int) -> tuple[int, ...]:
        """Return what has to end before the step; a choice that names it does too, whether it says so or not."""
        named = (self.index[name] for name in self.graph.steps[number].after)
        return tuple(dict.fromkeys([*named, *self.picks.get(number, ())]))

    def above(self, number: int) -> frozenset[int]:
        """Return all steps that come before the step, directly or through others."""
        if number not in self._above:
            self._above[number] = frozenset(_reached(self.after[number], self.after))
        return self._above[number]

    def onward(self, numbers: Iterable[int]) -> set[int]:
        """Return these steps and all that follow them, directly or through others."""
        return _reached(numbers, self.next)


def _reached(numbers: Iterable[int], ways: list[tuple[int, ...]]) -> set[int]:
    found, waiting = set(numbers), list(numbers)
    while waiting:
        fresh = [other for other in ways[waiting.pop()] if other not in found]
        found.update(fresh)
        waiting += fresh
    return found

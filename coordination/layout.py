"""Where the steps of a graph are drawn: in layers from left to right, by what comes before what.  Pure.

Layers by the longest path, order within them by barycentres (Sugiyama, Tagawa & Toda 1981, IEEE SMC 11:109), heights by
least displacement at a least distance (pool adjacent violators: Ayer et al. 1955, Ann. Math. Stat. 26:641).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from coordination import dependencies
from coordination.graph import Graph

SWEEPS = 12
MAX_BENDS = 20_000  # of all edges together; beyond, long edges are drawn straight
BEND_SHARE = 0.5  # the height of a bend as a share of a step's

Edge = tuple[str, str]
Cell = str | tuple[str, str, int]  # a step, or the bend of an edge in a layer


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Columns count from 0 at the left; heights are in rows, 0 at the top, and may lie between two rows."""

    column: Mapping[str, int]
    row: Mapping[str, float]
    bends: Mapping[Edge, tuple[float, ...]]  # the rows at which an edge crosses the columns on its way
    columns: int
    rows: float


def layout(graph: Graph) -> Layout:
    """Return where the steps of a graph without cycles stand, and which way the edges of ``shown_edges`` take."""
    edges = shown_edges(graph)
    column = _columns(graph, edges)
    layers, links = _layers(column, edges)
    _order(layers, links)
    row = _rows(layers, links)
    top = min(row.values(), default=0.0)
    bends = {
        (a, b): tuple(row[a, b, at] - top for at in range(column[a] + 1, column[b]) if (a, b, at) in row)
        for a, b in edges
    }
    return Layout(
        column=column,
        row={name: row[name] - top for name in column},
        bends=bends,
        columns=len(layers),
        rows=max(row.values(), default=0.0) - top + 1,
    )


def shown_edges(graph: Graph) -> list[Edge]:
    """Return the edges without those that others imply; those from a choice to its cases stay."""
    before = dependencies.ancestors(graph)
    place = {step.name: number for number, step in enumerate(graph.steps)}
    chosen = {(step.name, name) for step in graph.steps for case in step.cases for name in case.then}
    edges = []
    for step in graph.steps:
        earlier = [name for name in step.after if name in place]
        edges += [
            (name, step.name)
            for name in earlier
            if (name, step.name) in chosen or not any(before[other] >> place[name] & 1 for other in earlier)
        ]
    return edges


def _columns(graph: Graph, edges: Iterable[Edge]) -> dict[str, int]:
    sources = defaultdict(list)
    for a, b in edges:
        sources[b].append(a)
    column: dict[str, int] = {}
    for name in dependencies.order(graph):
        column[name] = max((column[earlier] + 1 for earlier in sources[name]), default=0)
    return {step.name: column[step.name] for step in graph.steps}


def _layers(column: Mapping[str, int], edges: Sequence[Edge]) -> tuple[list[list[Cell]], dict[Cell, list[Cell]]]:
    """Return the cells of each column, bends among them, and each cell's neighbours in the columns beside it."""
    layers: list[list[Cell]] = [[] for _ in range(max(column.values(), default=-1) + 1)]
    for name, at in column.items():
        layers[at].append(name)
    with_bends = sum(column[b] - column[a] - 1 for a, b in edges) <= MAX_BENDS
    links: dict[Cell, list[Cell]] = defaultdict(list)
    for a, b in edges:
        between: list[Cell] = [(a, b, at) for at in range(column[a] + 1, column[b])] if with_bends else []
        for bend, at in zip(between, range(column[a] + 1, column[b]), strict=False):
            layers[at].append(bend)
        for left, right in pairwise([a, *between, b]):
            links[left].append(right)
            links[right].append(left)
    return layers, links


def _order(layers: list[list[Cell]], links: Mapping[Cell, list[Cell]]) -> None:
    """Sort each layer by the mean place of its neighbours, forth and back."""
    place = {cell: float(number) for layer in layers for number, cell in enumerate(layer)}
    level = {cell: number for number, layer in enumerate(layers) for cell in layer}
    for sweep in range(SWEEPS):
        step = 1 if sweep % 2 == 0 else -1
        for number in range(len(layers))[::step]:
            layer = layers[number]
            wish = {cell: _mean([place[o] for o in links.get(cell, ()) if (level[o] - number) * step < 0],
                                place[cell]) for cell in layer}  # fmt: skip
            layer.sort(key=wish.__getitem__)
            place.update((cell, float(at)) for at, cell in enumerate(layer))


def _rows(layers: list[list[Cell]], links: Mapping[Cell, list[Cell]]) -> dict[Cell, float]:
    """Return each cell's row: near the mean of its neighbours, its layer's order and least distances kept."""
    row = {cell: at for layer in layers for cell, at in zip(layer, _offsets(layer), strict=True)}
    for sweep in range(SWEEPS):
        for layer in layers if sweep % 2 == 0 else reversed(layers):
            wish = [_mean([row[other] for other in links.get(cell, ())], row[cell]) for cell in layer]
            row.update(zip(layer, _spread(wish, _offsets(layer)), strict=True))
    return row


def _offsets(layer: Sequence[Cell]) -> list[float]:
    """Return the rows of the cells when they stand as close as they may."""
    rows, at = [], 0.0
    for number, cell in enumerate(layer):
        if number:
            at += (_height(layer[number - 1]) + _height(cell)) / 2
        rows.append(at)
    return rows


def _height(cell: Cell) -> float:
    return 1.0 if isinstance(cell, str) else BEND_SHARE


def _spread(wish: Sequence[float], offsets: Sequence[float]) -> list[float]:
    """Return the rows nearest to the wishes (least squares) that are as far apart as the offsets at least."""
    blocks: list[tuple[float, int]] = []  # mean, count
    for wanted, offset in zip(wish, offsets, strict=True):
        mean, count = wanted - offset, 1
        while blocks and blocks[-1][0] > mean:
            other, size = blocks.pop()
            mean, count = (mean * count + other * size) / (count + size), count + size
        blocks.append((mean, count))
    placed = [mean for mean, count in blocks for _ in range(count)]
    return [mean + offset for mean, offset in zip(placed, offsets, strict=True)]


def _mean(numbers: Sequence[float], otherwise: float) -> float:
    return sum(numbers) / len(numbers) if numbers else otherwise

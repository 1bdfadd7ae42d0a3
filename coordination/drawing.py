"""A workflow as a picture: SVG for pages, Mermaid for texts.  Pure.

The SVG is text without script or style attributes: ``static/coordination/graph.css`` colours it by classes and
``data-state``, so that a page can follow a run by changing these alone. Without that sheet it is legible, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from html import escape

from coordination import dependencies
from coordination.durations import written
from coordination.graph import Ask, Graph, Kind, Pause, Step
from coordination.layout import Edge, Layout, layout, shown_edges

WIDTH = 216  # of a step, in px
HEIGHT, STATE_HEIGHT = 46, 16  # of its name and kind, and of the line that its state adds
GAP_X, GAP_Y = 64, 18
MARGIN = 16
NAME_CHARS, LINE_CHARS = 23, 29

ICONS: Mapping[Kind, str] = {  # strokes in a square of 16 px
    "task": "M8 2l5 3v6l-5 3-5-3V5zM3 5l5 3 5-3M8 8v6",
    "map": "M2 4h8v8H2zM5 4V2h9v8h-4",
    "choice": "M8 2l6 6-6 6-6-6zM8 5.500v3M8 10.300v.4",
    "approval": "M8 8a2.700 2.700 0 1 0 0-5.400A2.700 2.700 0 0 0 8 8zM3 14c0-3 2-4.500 5-4.500s5 1.500 5 4.500",
    "workflow": "M2 3h5v4H2zM9 9h5v4H9zM4.500 7v4H9",
    "wait": "M8 14A6 6 0 1 0 8 2a6 6 0 0 0 0 12zM8 4.500V8l2.500 1.700",
    "compensate": "M6 3L2.500 6.500 6 10M3 6.500h6.500a3.700 3.700 0 0 1 0 7.400H6",
}
STATE_ICONS: Mapping[str, str] = {  # what is not here has a ring
    "completed": "M2.500 8.500l3.500 3.500 7.500-8", "working": "M4 2.500v11l9.500-5.500z",
    "running": "M4 2.500v11l9.500-5.500z",
    "failed": "M3.500 3.500l9 9M12.500 3.500l-9 9", "canceled": "M14 8A6 6 0 1 1 2 8a6 6 0 0 1 12 0zM4 12l8-8",
    "skipped": "M3 4l5 4-5 4zM9 4l5 4-5 4z", "added": "M8 3v10M3 8h10", "removed": "M3 8h10",
    "changed": "M3 11.500L11 3.500l2 2-8 8H3z", "compensated": ICONS["compensate"],
    "undoing": ICONS["compensate"], "undone": ICONS["compensate"], "waiting": ICONS["wait"], "ready": ICONS["wait"],
}  # fmt: skip
RING = "M13.500 8A5.500 5.500 0 1 1 2.500 8a5.500 5.500 0 0 1 11 0z"
_SHAPES: Mapping[Kind, tuple[str, str]] = {
    "task": ("[", "]"), "map": ("[[", "]]"), "choice": ("{", "}"), "approval": ("([", "])"),
    "workflow": ("[/", "/]"), "wait": ("((", "))"), "compensate": ("[\\", "\\]"),
}  # fmt: skip


def svg(
    graph: Graph,
    states: Mapping[str, str] | None = None,
    *,
    ident: str = "graph",
    href: Callable[[str], str] | None = None,
) -> str:
    """Return the picture of a graph without cycles as an ``svg`` element.

    ``states`` are words per step, such as "working", with room for those to come; None is a picture without states.
    ``ident`` begins the ids, one per page; ``href`` gives the address that a step links to.
    """
    sheet = _Sheet(layout(graph), HEIGHT + (0 if states is None else STATE_HEIGHT))
    width, height = sheet.size()
    role = "group" if href else "img"
    box = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    named = f'role="{role}" aria-labelledby="{ident}-title {ident}-desc"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="graph" {box} {named}>',
        f'<title id="{ident}-title">Workflow {escape(graph.name)}</title>',
        f'<desc id="{ident}-desc">{escape(in_words(graph, states))}</desc>',
        '<g class="graph-edges" fill="none" stroke="#8a8f98">',
        *_edges(graph, sheet),
        "</g>",
    ]
    for number, step in enumerate(graph.steps):
        node = _node(step, sheet, (states or {}).get(step.name), f"{ident}-{number}")
        parts.append(f'<a href="{escape(href(step.name))}">{node}</a>' if href else node)
    return "\n".join([*parts, "</svg>"])


def mermaid(graph: Graph) -> str:
    """Return the graph as a Mermaid flow chart."""
    ids = {step.name: f"s{number}" for number, step in enumerate(graph.steps)}
    lines = ["flowchart LR"]
    for step in graph.steps:
        left, right = _SHAPES[step.kind]
        label = f"{_quoted(step.name)}<br/>{_quoted(detail(step))}"
        lines.append(f'    {ids[step.name]}{left}"{label}"{right}')
    labels = _case_labels(graph)
    for a, b in shown_edges(graph):
        label = f'|"{_quoted(labels[a, b])}"|' if (a, b) in labels else ""
        lines.append(f"    {ids[a]} -->{label} {ids[b]}")
    return "\n".join(lines) + "\n"


def detail(step: Step) -> str:
    """Return what the step does in a few words, its kind first."""
    if step.ask:
        return f"{step.kind} · {_asked(step.ask)}"
    if step.child:
        return f"{step.kind} · {step.child.workflow}"
    if step.form:
        return f"{step.kind} · {', '.join(step.form.who) or 'any operator'}"
    if step.pause:
        return f"{step.kind} · {_awaited(step.pause)}"
    if step.cases:
        return f"{step.kind} · {len(step.cases)} cases"
    return f"{step.kind} · undo what is done"


def in_words(graph: Graph, states: Mapping[str, str] | None = None) -> str:
    """Return the picture for those who do not see it: each step, what it does, its state, and what it follows."""
    states = states or {}
    by_name = {step.name: step for step in graph.steps}
    told = []
    for name in dependencies.order(graph):
        step = by_name[name]
        state = f", {states[name]}" if name in states else ""
        after = f", after {', '.join(step.after)}" if step.after else ""
        told.append(f"{name} ({detail(step)}{state}){after}.")
    return f"{len(told)} steps. " + " ".join(told)


def _asked(ask: Ask) -> str:
    return ask.skill if ask.call is None else str(ask.call.get("task", "a Celery task"))


def _awaited(pause: Pause) -> str:
    if pause.seconds is not None:
        span = written(pause.seconds)
        return span if isinstance(span, str) else f"{span:g}s"
    return f"signal {pause.signal}" if pause.signal else f"until {pause.until}"


class _Sheet:
    """Where everything lies on the sheet, in px."""

    def __init__(self, where: Layout, height: int) -> None:
        self.where = where
        self.height = height  # of a step

    def size(self) -> tuple[int, int]:
        """Return width and height of the whole."""
        width = self.where.columns * (WIDTH + GAP_X) - GAP_X + 2 * MARGIN
        return max(width, 2 * MARGIN), round(self.where.rows * (self.height + GAP_Y) - GAP_Y + 2 * MARGIN)

    def left(self, column: int) -> int:
        """Return the left edge of a column."""
        return MARGIN + column * (WIDTH + GAP_X)

    def top(self, row: float) -> float:
        """Return the upper edge of a row."""
        return round(MARGIN + row * (self.height + GAP_Y), 1)

    def port(self, row: float) -> float:
        """Return the height at which edges meet a step of the row."""
        return round(self.top(row) + self.height / 2, 1)

    def way(self, edge: Edge) -> str:
        """Return the path of an edge: level across columns, curved between them."""
        a, b = edge
        column, row = self.where.column, self.where.row
        x, y = self.left(column[a]) + WIDTH, self.port(row[a])
        text = f"M{x} {y:g}"
        bends = [(self.left(column[a] + n), self.port(at), WIDTH) for n, at in enumerate(self.where.bends[edge], 1)]
        for left, height, width in [*bends, (self.left(column[b]), self.port(row[b]), 0)]:
            half = min((left - x) / 2, GAP_X / 2)
            text += f"C{x + half:g} {y:g} {left - half:g} {height:g} {left} {height:g}"
            text += f"H{left + width}" if width else ""
            x, y = left + width, height
        return text


def _edges(graph: Graph, sheet: _Sheet) -> Iterator[str]:
    labels = _case_labels(graph)
    for a, b in sheet.where.bends:
        x, y = sheet.left(sheet.where.column[b]), sheet.port(sheet.where.row[b])
        yield f'<path class="edge" data-from="{escape(a)}" data-to="{escape(b)}" d="{sheet.way((a, b))}"/>'
        yield f'<path class="edge-end" d="M{x - 6} {y - 3.5:g}L{x} {y:g}L{x - 6} {y + 3.5:g}"/>'
        if (a, b) in labels:
            place = f'x="{x - 12}" y="{y - 5:g}" text-anchor="end" font-size="11" fill="#5a6069" stroke="none"'
            yield f'<text class="edge-label" {place}>{escape(labels[a, b])}</text>'


def _node(step: Step, sheet: _Sheet, state: str | None, ident: str) -> str:
    x, y = sheet.left(sheet.where.column[step.name]), sheet.top(sheet.where.row[step.name])
    data = f'data-step="{escape(step.name)}" data-kind="{step.kind}"'
    data += f' data-state="{escape(state)}"' if state else ""
    name, what = _cut(step.name, NAME_CHARS), _cut(detail(step), LINE_CHARS)
    return "".join(
        [
            f'<g class="step" id="{escape(ident)}" {data} transform="translate({x} {y:g})">',
            f"<title>{escape(_tip(step, state))}</title>",
            f'<rect class="step-box" width="{WIDTH}" height="{sheet.height}" rx="6" fill="#fff" stroke="#8a8f98"/>',
            _icon("step-icon", ICONS[step.kind], 10, 7),
            f'<text class="step-name" x="34" y="19" font-size="13" font-weight="600">{name}</text>',
            f'<text class="step-detail" x="34" y="36" font-size="11" fill="#5a6069">{what}</text>',
            _icon("step-undo", ICONS["compensate"], WIDTH - 22, 7) if step.undo else "",
            *(_state(state) if state else ()),
            "</g>",
        ]
    )


def _state(state: str) -> Iterator[str]:
    yield _icon("step-state-icon", STATE_ICONS.get(state, RING), 10, 40)
    yield f'<text class="step-state" x="34" y="52" font-size="11" font-weight="600">{_cut(state, LINE_CHARS)}</text>'


def _icon(name: str, path: str, x: int, y: int) -> str:
    place = f'transform="translate({x} {y}) scale(.88)"'
    return f'<path class="{name}" {place} d="{path}" fill="none" stroke="#33383f" stroke-width="1.6"/>'


def _tip(step: Step, state: str | None) -> str:
    """Return everything that the small box has no room for."""
    told = [step.name, detail(step)]
    told += [f"state: {state}"] if state else []
    told += [f"if {step.when}"] if step.when else []
    told += [f"{'if ' + case.when if case.when else 'otherwise'}: {', '.join(case.then)}" for case in step.cases]
    told += [f"undone by {_asked(step.undo)}"] if step.undo else []
    told += [f"on error: {step.on_error}"] if step.on_error != "fail" else []
    return "\n".join(told)


def _case_labels(graph: Graph) -> dict[Edge, str]:
    labels: dict[Edge, str] = {}
    for step in graph.steps:
        for number, case in enumerate(step.cases, 1):
            for name in case.then:
                word = f"case {number}" if case.when else "otherwise"
                told = labels.get((step.name, name))
                labels[step.name, name] = f"{told}, {word.removeprefix('case ')}" if told else word
    return labels


def _cut(text: str, most: int) -> str:
    return escape(text if len(text) <= most else f"{text[: most - 1].rstrip()}…")


def _quoted(text: str) -> str:
    """Return the text as it may stand within a Mermaid label."""
    safe = {"#": "#35;", '"': "#quot;", "<": "#lt;", ">": "#gt;", "&": "#amp;", "`": "#96;", "\n": " "}
    return "".join(safe.get(char, char) for char in text)

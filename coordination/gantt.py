"""When the steps of a run waited and worked, as a picture: SVG for the run's page.  Pure.

A thin dashed bar is waiting, a thick one an attempt; one that failed ends in a cross, one that goes on has no right
end. So it reads without colour; ``static/coordination/graph.css`` adds that by classes and ``data-state``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

LABELS, PLOT, MARGIN = 190, 720, 12  # px
ROW, HEAD = 22, 26
TICKS = 5
NAME_CHARS = 26
LOST = frozenset({"failed", "lost", "canceled", "returned"})  # attempts that came to nothing
STEPS_S = (0.001, 0.01, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400, 604800)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A stretch of time, in seconds since the epoch."""

    kind: Literal["wait", "work"]
    begin: float
    end: float | None  # None: it goes on
    state: str
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One step, and what became of it."""

    name: str
    state: str
    bars: Sequence[Bar]


def svg(
    lines: Sequence[Line], *, now: float, ident: str = "gantt", href: Callable[[str], str] | None = None
) -> str | None:
    """Return the picture as an ``svg`` element, None if nothing has begun. ``href`` is where a step's name leads."""
    bars = [bar for line in lines for bar in line.bars]
    if not bars:
        return None
    scale = _Scale(min(bar.begin for bar in bars), max(now if bar.end is None else bar.end for bar in bars))
    height = HEAD + ROW * len(lines) + MARGIN
    width = LABELS + PLOT + MARGIN
    box = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    role = f'role="{"group" if href else "img"}" aria-labelledby="{ident}-title {ident}-desc"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="gantt" {box} {role}>',
        f'<title id="{ident}-title">Times of the steps</title>',
        f'<desc id="{ident}-desc">{escape(in_words(lines, now))}</desc>',
        *_ticks(scale, height),
    ]
    for number, line in enumerate(lines):
        parts += _row(line, HEAD + ROW * number, scale, now, href)
    return "\n".join([*parts, "</svg>"])


def in_words(lines: Sequence[Line], now: float) -> str:
    """Return the picture for those who do not see it."""
    told = []
    for line in lines:
        spans = [f"{bar.words} {seconds((now if bar.end is None else bar.end) - bar.begin)}" for bar in line.bars]
        told.append(f"{line.name}, {line.state}: {', '.join(spans) or 'not begun'}.")
    return " ".join(told)


def seconds(span: float) -> str:
    """Return a span in the unit that suits it."""
    if span < 1:
        return f"{max(0.0, span) * 1000:.0f} ms"
    if span < 90:
        return f"{span:.1f} s"
    return f"{span / 60:.1f} min" if span < 5400 else f"{span / 3600:.1f} h"


class _Scale:
    def __init__(self, begin: float, end: float) -> None:
        self.begin = begin
        self.span = max(end - begin, 0.001)

    def x(self, at: float) -> float:
        return round(LABELS + PLOT * (at - self.begin) / self.span, 1)


def _ticks(scale: _Scale, height: int) -> Iterator[str]:
    step = next((each for each in STEPS_S if scale.span / each <= TICKS), STEPS_S[-1])
    for number in range(int(scale.span / step) + 1):
        x = scale.x(scale.begin + number * step)
        yield f'<path class="tick" d="M{x:g} {HEAD - 6}V{height - MARGIN}" stroke="#d5d8dd" fill="none"/>'
        label = f"+{seconds(number * step)}" if number else "0"
        yield f'<text class="tick-label" x="{x:g}" y="{HEAD - 10}" font-size="11" fill="#5a6069">{label}</text>'


def _row(line: Line, top: int, scale: _Scale, now: float, href: Callable[[str], str] | None) -> Iterator[str]:
    name = line.name if len(line.name) <= NAME_CHARS else f"{line.name[: NAME_CHARS - 1]}…"
    label = f'<text class="gantt-name" x="4" y="{top + 15}" font-size="12">{escape(name)}</text>'
    yield f'<a href="{escape(href(line.name))}">{label}</a>' if href else label
    for bar in line.bars:
        yield _bar(bar, top, scale, now)


def _bar(bar: Bar, top: int, scale: _Scale, now: float) -> str:
    left = scale.x(bar.begin)
    right = scale.x(now if bar.end is None else bar.end)
    width = max(2.0, round(right - left, 1))
    tip = f"<title>{escape(f'{bar.words}: {seconds((now if bar.end is None else bar.end) - bar.begin)}')}</title>"
    if bar.kind == "wait":
        line = f'<path class="gantt-wait" d="M{left:g} {top + 11}h{width:g}" stroke="#8a8f98" stroke-width="3"'
        return f'{line} stroke-dasharray="3 3" fill="none">{tip}</path>'
    y, state = top + 5, escape(bar.state)
    shape = f"M{left + width:g} {y}H{left:g}v12H{left + width:g}" + ("" if bar.end is None else "z")
    cross = f'<path d="M{left + width - 9:g} {y + 3}l6 6m0-6l-6 6"/>' if bar.state in LOST and width > 12 else ""
    path = f'<path d="{shape}" fill="#e8eaee" stroke="#33383f"/>'
    return f'<g class="gantt-work" data-state="{state}">{path}{cross}{tip}</g>'

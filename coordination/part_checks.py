"""Are the parts of a step the right ones, and within their limits?  Pure."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from coordination.graph import MAX_ITEMS, Ask, Form, Graph, Kind, Over, Pause, Step
from coordination.notation import MAX_NAME
from coordination.problems import Path, Problem
from coordination.templates import OPEN
from routing import payloads, selectors

MAX_SPAN_S = 366 * 86_400.0
_PARTS: dict[Kind, frozenset[str]] = {
    "task": frozenset(("ask",)), "map": frozenset(("ask", "over")), "choice": frozenset(("cases",)),
    "approval": frozenset(("form",)), "workflow": frozenset(("child",)), "wait": frozenset(("pause",)),
    "compensate": frozenset(),
}  # fmt: skip
UNDOABLE: tuple[Kind, ...] = ("task", "map", "workflow")

Flaw = tuple[bool, Path, str]  # whether it is there, where, in words


def of_graph(graph: Graph) -> Iterator[Problem]:
    """Yield what is wrong with the workflow apart from its steps."""
    yield from _found(
        (not 0 < len(graph.name) <= MAX_NAME, ("name",), f"A name has 1 to {MAX_NAME} characters."),
        (not 0 <= graph.priority <= 9, ("priority",), "A priority lies between 0 and 9."),
        (_is_no_span(graph.total_s), ("timeout",), "The run's time lies above 0 and at most at 366 days."),
        ((graph.max_active_runs or 1) < 1, ("max_active_runs",), "At least one run has to be active."),
    )
    yield from _schema_problems(graph.input_schema, ("input_schema",))


def of_step(step: Step) -> Iterator[Problem]:
    """Yield what is wrong with the step by itself; paths begin within it."""
    given = {name for name in ("ask", "over", "form", "pause", "child") if getattr(step, name) is not None}
    given |= {"cases"} if step.cases else set()
    wanted = _PARTS[step.kind]
    is_plain = step.name.isprintable() and '"' not in step.name and "\\" not in step.name
    yield from _found(
        (not 0 < len(step.name) <= MAX_NAME, (), f"A step's name has 1 to {MAX_NAME} characters."),
        (not is_plain, (), "A step's name has no quotes, backslashes or control characters."),
        (given != wanted, (), f"A {step.kind} has exactly these parts: {', '.join(sorted(wanted)) or 'none'}."),
        (step.name in step.after, ("after",), f"These steps wait for one another: {step.name} → {step.name}."),
        (bool(step.undo) and step.kind not in UNDOABLE, ("undo",), f"A {step.kind} does nothing that can be undone."),
        (len(set(step.after)) < len(step.after), ("after",), "A step is named twice."),
    )
    if step.ask:
        yield from _of_ask(step.ask, ())
    if step.undo:
        yield from _of_ask(step.undo, ("undo",))
    if step.over:
        yield from _of_over(step.over)
    if step.form:
        yield from _of_form(step.form)
    if step.pause:
        yield from _of_pause(step.pause)


def _of_ask(ask: Ask, at: Path) -> Iterator[Problem]:
    spans = {"wait": ask.wait_s, "attempt": ask.timeout_s, "total": ask.total_s}
    yield from _found(
        (not ask.skill and ask.call is None, at, "It needs the task that is asked for."),
        (not 0 <= (ask.priority or 0) <= 9, (*at, "priority"), "A priority lies between 0 and 9."),
        (not 1 <= (ask.max_attempts or 1) <= 100, (*at, "attempts"), "Attempts lie between 1 and 100."),
        (bool(ask.skill) and ask.fallback == ask.skill, (*at, "fallback"), "The fallback is the skill itself."),
        *((_is_no_span(span), (*at, "timeouts", name), "A time-out lies above 0 and at most at 366 days.")
          for name, span in spans.items()),
    )  # fmt: skip
    for words in ask.retries.problems() if ask.retries else ():
        yield Problem(words=words[:1].upper() + words[1:], path=(*at, "retry"))
    if ask.requires and OPEN not in ask.requires:
        try:
            selectors.parse(ask.requires)
        except selectors.SelectorError as error:
            yield Problem(words=f"This is no selector: {error}.", path=(*at, "requires"))


def _of_over(over: Over) -> Iterator[Problem]:
    is_number = isinstance(over.items, str) and OPEN not in over.items
    too_many = isinstance(over.items, list | dict) and len(over.items) > MAX_ITEMS
    yield from _found(
        (is_number or over.items is None, ("map",), "A map goes over a list, an object, or the template of one."),
        (too_many, ("map",), f"A map goes over at most {MAX_ITEMS:,} items."),
        (not 1 <= (over.max_parallel or 1) <= MAX_ITEMS, ("max_parallel",), f"It lies between 1 and {MAX_ITEMS:,}."),
        (not 0 <= over.min_success <= 1, ("min_success",), "A share lies between 0 and 1."),
    )


def _of_form(form: Form) -> Iterator[Problem]:
    late = [span for span in (form.remind_s, form.expires_s) if span is not None]
    yield from _found(
        (not form.title, ("approval",), "It says nothing about what is asked."),
        (_is_no_span(form.remind_s), ("remind",), "It lies above 0 and at most at 366 days."),
        (_is_no_span(form.expires_s), ("expires",), "It lies above 0 and at most at 366 days."),
        (any(a >= b for a, b in pairwise(late)), ("remind",), "The reminder would come when the question has expired."),
        (form.on_expiry != "fail" and form.expires_s is None, ("on_expiry",), "The question never expires."),
        (any(who == "group:" for who in form.who), ("who",), "A group has a name: group:editors."),
    )
    yield from _schema_problems(form.schema, ("form",))


def _of_pause(pause: Pause) -> Iterator[Problem]:
    ways = [pause.seconds is not None, bool(pause.until), bool(pause.signal)]
    yield from _found(
        (sum(ways) != 1, ("wait",), "A wait is for one thing: for, until or signal."),
        (_is_no_span(pause.seconds), ("wait",), "It lies above 0 and at most at 366 days."),
        (_is_no_span(pause.timeout_s), ("wait", "timeout"), "It lies above 0 and at most at 366 days."),
        (pause.timeout_s is not None and not pause.signal, ("wait",), "Only waiting for a signal can take too long."),
    )


def _schema_problems(schema: object, path: Path) -> Iterator[Problem]:
    yield from (Problem(words=words, path=path) for words in (payloads.problems(schema) if schema else ()))


def _is_no_span(span_s: float | None) -> bool:
    return span_s is not None and not 0 < span_s <= MAX_SPAN_S


def _found(*flaws: Flaw) -> Iterator[Problem]:
    yield from (Problem(words=words, path=path) for is_there, path, words in flaws if is_there)

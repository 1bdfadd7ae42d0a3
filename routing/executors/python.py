"""The ``python`` executor: an agent that is a function.

    @handler("greeter", skills=("greet",))
    def greet(input, ctx):
        ctx.progress(0.5, "thinking")
        return {"text": f"Hello, {input['name']}"}

Options of the agent: ``handler`` (its name; the agent's own unless given), ``isolated`` (run in a child process that
can be killed), and for isolated ones ``limits`` and ``grace_s`` as for commands.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from routing.executors import options as checks
from routing.executors.contract import (
    AgentFailed,
    Canceled,
    Context,
    ExecutorError,
    Job,
    TimedOut,
    Unavailable,
    executor,
)
from routing.executors.conversation import clean
from routing.executors.output import as_json

KNOWN = ("handler", "isolated", "limits", "grace_s")
FRAMES = 8
TRACE_CHARS = 4000
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    """A function that is an agent."""

    name: str
    skills: tuple[str, ...]
    capacity: int  # attempts it may hold at once, > 0
    isolated: bool  # runs in a child process
    description: str
    function: Callable[..., Any]
    wants_context: bool  # takes (input, ctx), not only (input)

    @property
    def module(self) -> str:
        return self.function.__module__


_HANDLERS: dict[str, Handler] = {}
_LOADED: list[str] = []  # modules, so that a child process can load the same


def handler(
    name: str, *, skills: Iterable[str] = (), capacity: int = 4, isolated: bool = False, description: str = ""
) -> Callable[[F], F]:
    """Return a decorator that makes a function the agent ``name``; its skills are ``(name,)`` unless given.

    Raises ValueError if another function has the name, TypeError if it takes neither (input) nor (input, ctx).
    """
    if isinstance(skills, str):
        raise TypeError(f"skills must be a tuple of names, such as ({skills!r},).")
    if capacity < 1:
        raise ValueError(f"The capacity of {name!r} must be at least 1, not {capacity}.")

    def register(function: F) -> F:
        _claim(name, function)
        _HANDLERS[name] = Handler(
            name=name,
            skills=tuple(skills) or (name,),
            capacity=capacity,
            isolated=isolated,
            description=description or (inspect.getdoc(function) or "").partition("\n")[0],
            function=function,
            wants_context=_wants_context(function),
        )
        return function

    return register


def _claim(name: str, function: Callable[..., Any]) -> None:
    there = _HANDLERS.get(name)
    if there and (there.module, there.function.__qualname__) != (function.__module__, function.__qualname__):
        raise ValueError(f"The handler name {name!r} is taken by {there.module}.{there.function.__qualname__}.")


def _wants_context(function: Callable[..., Any]) -> bool:
    signature = inspect.signature(function)
    for count in (2, 1):
        with suppress(TypeError):
            signature.bind(*range(count))
            return count == 2
    raise TypeError(f"The handler {function.__qualname__} must take (input, ctx) or (input).")


def handlers() -> list[Handler]:
    """Return all handlers, sorted by name."""
    return sorted(_HANDLERS.values(), key=lambda known: known.name)


def load(modules: Iterable[str]) -> None:
    """Import ``modules``, so that their handlers are known. Raises Unavailable, naming the first that fails."""
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:
            raise Unavailable(
                f"The agent module {module!r} cannot be imported: {type(error).__name__}: {error}. "
                "Correct the module, or A2A_AGENT_MODULES.",
                retryable=False,
            ) from error
        if module not in _LOADED:
            _LOADED.append(module)


def loaded() -> tuple[str, ...]:
    """Return the modules loaded so far, in order."""
    return tuple(_LOADED)


def find(name: str) -> Handler:
    """Return the handler ``name``. Raises Unavailable, which says what is known and what to do."""
    try:
        return _HANDLERS[name]
    except KeyError:
        known = ", ".join(sorted(_HANDLERS)) or "none"
        raise Unavailable(
            f"No handler is called {name!r} on this worker. Known: {known}. "
            "Add the module that defines it to A2A_AGENT_MODULES and restart the workers."
        ) from None


@executor("python")
class Python:
    """Calls a handler in the worker's own thread, or in a child process when it is isolated."""

    name: str

    def problems(self, options: Mapping[str, Any]) -> list[str]:
        """Return in words what is wrong. A handler's name is checked only where handlers have been loaded."""
        found = [*checks.unknown(options, KNOWN)]
        wanted, isolated = options.get("handler"), options.get("isolated")
        if wanted is not None and not isinstance(wanted, str):
            found.append("handler must be the name of a handler.")
        elif wanted is not None and _HANDLERS and wanted not in _HANDLERS:
            found.append(f"No handler is called {wanted!r}; known are {', '.join(sorted(_HANDLERS))}.")
        if isolated is not None and not isinstance(isolated, bool):
            found.append("isolated must be true or false.")
        return [*found, *checks.limit_problems(options.get("limits")), *checks.grace_problems(options.get("grace_s"))]

    def run(self, job: Job, context: Context) -> Any:
        """Return what the handler returns. A handler that is not isolated cannot be stopped from here."""
        checks.require(self.problems({name: value for name, value in job.options.items() if name != "handler"}))
        found = find(job.options.get("handler") or job.agent)
        if context.cancelled:
            raise Canceled("The task was cancelled before the handler started.")
        isolated = job.options.get("isolated")
        if found.isolated if isolated is None else isolated:
            from routing.executors.isolated import run_isolated  # it needs this module

            return run_isolated(found, job, context)
        return call(found, context, timeout_s=job.timeout_s)


def call(found: Handler, context: Context, *, timeout_s: float) -> Any:
    """Return the handler's output as JSON. ``timeout_s`` holds for async handlers, which can be interrupted.

    Raises ExecutorError: the handler's own, or AgentFailed for any other exception.
    """
    try:
        given = (context.input, context) if found.wants_context else (context.input,)
        output = found.function(*given)
        if inspect.iscoroutine(output):
            output = asyncio.run(_attend(output, context, timeout_s))
    except ExecutorError:
        raise
    except BaseException as error:  # whatever an agent raises ends its attempt, and nothing more
        raise failure(error) from error
    return as_json(output)


async def _attend(coroutine: Coroutine[Any, Any, Any], context: Context, timeout_s: float) -> Any:
    """Await ``coroutine``; a cancel or the time-out interrupts it where it awaits."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def interrupt() -> None:
        with suppress(RuntimeError):  # the loop has closed: too late to cancel
            loop.call_soon_threadsafe(task.cancel)  # type: ignore[union-attr]

    context.on_cancel(interrupt)
    try:
        async with asyncio.timeout(timeout_s) as patience:
            return await coroutine
    except asyncio.CancelledError:
        if context.cancelled:
            raise Canceled("The handler was interrupted because the task was cancelled.") from None
        raise
    except TimeoutError:
        if patience.expired():
            raise TimedOut(f"The handler was interrupted: it ran longer than {timeout_s:g} s.") from None
        raise


def failure(error: BaseException) -> AgentFailed:
    """Return how an attempt ends whose function raised ``error``: its text, its type, and the end of its traceback."""
    told = traceback.TracebackException.from_exception(error, limit=-FRAMES)
    _shorten(told)
    message = clean(next(iter(told.format_exception_only())).strip()[:1000])
    trace = clean("".join(told.format())[-TRACE_CHARS:])
    return AgentFailed(message, detail={"type": type(error).__qualname__, "traceback": trace})


def _shorten(told: traceback.TracebackException | None) -> None:
    """Make the file names relative to where they are imported from, in the whole chain of causes."""
    seen: set[int] = set()
    while told is not None and id(told) not in seen:
        seen.add(id(told))
        for frame in told.stack:
            frame.filename = _relative(frame.filename)
        told = told.__cause__ or told.__context__


def _relative(filename: str) -> str:
    path = Path(filename)
    roots = [Path(entry) for entry in sys.path if entry and path.is_relative_to(entry)]
    return str(path.relative_to(max(roots, key=lambda root: len(root.parts)))) if roots else path.name

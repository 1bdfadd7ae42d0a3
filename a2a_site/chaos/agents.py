"""The agents that are hurt. Workers of a chaos stack load this module by A2A_AGENT_MODULES."""

import os
import signal
import time
from typing import Any

from routing.executors import Context, handler

EFFECTS = "A2A_CHAOS_EFFECTS"  # names the file where every execution leaves a line, so that they can be counted


class Unforeseen(BaseException):
    """Not an ``Exception``: what code written for exceptions forgets."""


@handler("chaos-work")
def work(value: Any, ctx: Context) -> Any:
    """Leave a trace, take ``seconds``, and say which attempt this was."""
    _leave_trace(ctx)
    _sleep(float(_field(value, "seconds", 0.05)), ctx)
    return {"task": ctx.task_id, "attempt": ctx.attempt}


@handler("chaos-sum")
def add(value: Any, ctx: Context) -> Any:
    """Leave a trace, take ``seconds``, and return the sum of all numbers below ``of``: the same whoever does it."""
    _leave_trace(ctx)
    _sleep(float(_field(value, "seconds", 0.05)), ctx)
    return _total(_field(value, "of", 0))


def _total(value: Any) -> int:
    if isinstance(value, list | dict):
        return sum(map(_total, value.values() if isinstance(value, dict) else value))
    return int(value or 0)


@handler("chaos-stubborn")
def stubborn(value: Any, ctx: Context) -> Any:
    """As ``work``, but never look whether somebody wants it to stop: it ends, and reports, late."""
    _leave_trace(ctx)
    time.sleep(float(_field(value, "seconds", 0.05)))
    return {"task": ctx.task_id, "attempt": ctx.attempt}


@handler("chaos-chatty")
def chatty(value: Any, ctx: Context) -> Any:
    """Say a lot: progress, lines (some with characters that no database holds), files."""
    _leave_trace(ctx)
    for step in range(10):
        ctx.progress(step / 10, f"step {step}\0\ud800")
        ctx.log(f"line {step} \0 \ud800 end", level="in\0fo")
        time.sleep(0.02)
    ctx.artifact("trace.txt", f"{ctx.task_id}\n")
    return {"task": ctx.task_id, "attempt": ctx.attempt}


@handler("chaos-raise")
def fail(value: Any, ctx: Context) -> Any:
    """Raise ``ValueError``, or for ``how`` "unforeseen" something that is no ``Exception``."""
    _leave_trace(ctx)
    if _field(value, "how", "") == "unforeseen":
        raise Unforeseen("broke \0 \ud800")
    raise ValueError("broke \0 \ud800")


@handler("chaos-poison")
def poison(value: Any, ctx: Context) -> Any:
    """Kill the worker process."""
    _leave_trace(ctx)
    time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGKILL)


def _sleep(seconds: float, ctx: Context) -> None:
    until = time.monotonic() + seconds
    while not ctx.cancelled and (left := until - time.monotonic()) > 0:
        time.sleep(min(left, 0.1))


def _field(value: Any, name: str, otherwise: Any) -> Any:
    return value.get(name, otherwise) if isinstance(value, dict) else otherwise


def _leave_trace(ctx: Context) -> None:
    descriptor = os.open(os.environ[EFFECTS], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, f"{ctx.task_id} {ctx.attempt} {os.getpid()}\n".encode())  # one write: lines never mix
    finally:
        os.close(descriptor)

"""Why did a program fail?  Pure."""

from __future__ import annotations

import re
import signal
from typing import Any

from routing.executors.contract import AgentFailed, Canceled, ExecutorError, LimitExceeded, TimedOut
from routing.executors.program import Ended, Program, Stop

# What programs print when an allocation fails: Python, the C library, C++, V8, Java, Go, Rust, glibc's own abort.
_MEMORY = re.compile(
    r"MemoryError|Cannot allocate memory|std::bad_alloc|heap out of memory|OutOfMemoryError|cannot allocate|"
    r"memory allocation of|failed to map segment|[Oo]ut of memory"
)
_FILES = re.compile(r"Too many open files|EMFILE")
_SIZE = re.compile(r"File too large|EFBIG")


def failure(ended: Ended, program: Program, tail: str) -> ExecutorError | None:
    """Return what went wrong by the way the program ended, None if it ended well; ``tail`` is its standard error."""
    detail: dict[str, Any] = {"stderr": tail} if tail else {}
    if ended.stopped is Stop.CANCELED:
        return Canceled("The program was stopped because the task was cancelled.", detail=detail)
    if ended.stopped is Stop.TIMEOUT:
        return TimedOut(f"The program was stopped: it ran longer than {program.timeout_s:g} s.", detail=detail)
    if ended.stopped is Stop.OUTPUT:
        return over_limit(program, "output_bytes", "it wrote more to its standard output", detail)
    if ended.returncode == 0:
        return None
    return _by_limit(ended, program, tail, detail) or _by_code(ended, program, tail, detail)


def _by_limit(ended: Ended, program: Program, tail: str, detail: dict[str, Any]) -> ExecutorError | None:
    limits, code = program.limits, ended.returncode
    hard_kill = code == -signal.SIGKILL and limits.cpu_s is not None and ended.cpu_s >= limits.cpu_s
    if limits.cpu_s is not None and (hard_kill or _is(code, signal.SIGXCPU)):
        return over_limit(program, "cpu_s", "it used more processor time", detail)
    if limits.file_mb is not None and (_is(code, signal.SIGXFSZ) or _SIZE.search(tail)):
        return over_limit(program, "file_mb", "it wrote a larger file", detail)
    if limits.memory_mb is not None and _MEMORY.search(tail):
        return over_limit(program, "memory_mb", "it asked for more memory", detail)
    if limits.open_files is not None and _FILES.search(tail):
        return over_limit(program, "open_files", "it opened more files", detail)
    return None


def _by_code(ended: Ended, program: Program, tail: str, detail: dict[str, Any]) -> ExecutorError:
    last = tail.splitlines()[-1][:500] if tail else "it wrote nothing to standard error"
    if ended.returncode > 0:
        message = f"The program ended with exit code {ended.returncode}: {last}"
        return AgentFailed(message, detail={"exit_code": ended.returncode, **detail})
    name = _signal_name(-ended.returncode)
    hint = ""
    if program.limits.memory_mb is not None:
        hint = f" Perhaps limits.memory_mb = {program.limits.memory_mb} is too little for it."
    elif ended.returncode == -signal.SIGKILL:
        hint = " Perhaps the machine ran out of memory."
    return AgentFailed(f"The program was killed by {name}: {last}.{hint}", detail={"signal": name, **detail})


def over_limit(program: Program, name: str, what: str, detail: dict[str, Any]) -> LimitExceeded:
    """Return the error that names the limit ``name``; ``what`` goes on a sentence, such as "it opened more files"."""
    value = getattr(program.limits, name)
    message = (
        f"The program hit limits.{name} = {value}: {what}. Raise the limit in the agent's options if it needs more."
    )
    return LimitExceeded(message, detail={"limit": name, "value": value, **detail})


def _is(code: int, number: signal.Signals) -> bool:
    return code in (-number, 128 + number)  # a shell says 128 + n of its child


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"

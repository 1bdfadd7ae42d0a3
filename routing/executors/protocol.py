"""What a program may say on its standard output, one JSON object a line.  Pure.

    {"type": "progress", "fraction": 0.5, "message": "half way"}     fraction 0..1 or null
    {"type": "log", "level": "info", "message": "..."}
    {"type": "usage", "usd": 0.02, "tokens": 1500}                   added up; both 0 or more, either may be missing
    {"type": "artifact", "name": "report.md", "path": "out/report.md", "media_type": "text/markdown"}
    {"type": "result", "output": {...}}                              at most once
    {"type": "error", "message": "...", "retryable": false}

Every other line is plain text.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MOST = 1e15  # dollars or tokens of one attempt
LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    fraction: float | None  # 0..1
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    level: str  # one of LEVELS
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    usd: float  # >= 0
    tokens: float  # >= 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    name: str
    path: str
    media_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    output: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    message: str
    retryable: bool
    kind: str  # believed only from our own child processes
    detail: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Malformed:
    """A line of a known type that breaks the protocol."""

    type: str
    why: str


Message = Progress | Log | Usage | Artifact | Result | Failure | Malformed


def parse(line: bytes) -> Message | None:
    """Return what the line says, None if it is plain text."""
    if not line.lstrip().startswith(b"{"):
        return None
    try:
        said = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    read = _READERS.get(said["type"]) if isinstance(said.get("type"), str) else None
    if read is None:
        return None
    try:
        return read(said)
    except _Wrong as wrong:
        return Malformed(type=said["type"], why=str(wrong))


class _Wrong(Exception):
    pass


def _string(said: dict[str, Any], field: str, default: str | None = None) -> str:
    value = said.get(field, default)
    if not isinstance(value, str):
        raise _Wrong(f'"{field}" must be a string')
    return value


def _progress(said: dict[str, Any]) -> Progress:
    fraction = said.get("fraction")
    if fraction is None:
        return Progress(fraction=None, message=_string(said, "message", ""))
    if isinstance(fraction, bool) or not isinstance(fraction, int | float) or not 0 <= fraction <= 1:
        raise _Wrong('"fraction" must be a number from 0 to 1, or null')
    return Progress(fraction=float(fraction), message=_string(said, "message", ""))


def _log(said: dict[str, Any]) -> Log:
    level = _string(said, "level", "info").lower()
    return Log(level=level if level in LEVELS else "info", message=_string(said, "message"))


def _usage(said: dict[str, Any]) -> Usage:
    return Usage(usd=_amount(said, "usd"), tokens=_amount(said, "tokens"))


def _amount(said: dict[str, Any], field: str) -> float:
    value = said.get(field, 0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < MOST:
        raise _Wrong(f'"{field}" must be a number, 0 or more')
    return float(value)


def _artifact(said: dict[str, Any]) -> Artifact:
    return Artifact(name=_string(said, "name"), path=_string(said, "path"), media_type=_string(said, "media_type", ""))


def _result(said: dict[str, Any]) -> Result:
    if "output" not in said:
        raise _Wrong('"output" is missing')
    return Result(output=said["output"])


def _error(said: dict[str, Any]) -> Failure:
    retryable, detail = said.get("retryable", False), said.get("detail", {})
    if not isinstance(retryable, bool):
        raise _Wrong('"retryable" must be true or false')
    if not isinstance(detail, dict):
        raise _Wrong('"detail" must be an object')
    kind = _string(said, "kind", "agent")
    return Failure(message=_string(said, "message"), retryable=retryable, kind=kind, detail=detail)


_READERS: dict[str, Callable[[dict[str, Any]], Message]] = {
    "progress": _progress,
    "log": _log,
    "usage": _usage,
    "artifact": _artifact,
    "result": _result,
    "error": _error,
}


class Lines:
    """Cuts a stream of bytes into lines, whatever the sizes of the pieces it comes in."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that ``data`` completes, without their newlines."""
        head, newline, tail = data.partition(b"\n")
        self._parts.append(head)
        if not newline:
            return []
        first = b"".join(self._parts)
        *middle, rest = tail.split(b"\n")
        self._parts = [rest]
        return [first, *middle]

    def rest(self) -> bytes:
        """Return what came after the last newline."""
        return b"".join(self._parts)

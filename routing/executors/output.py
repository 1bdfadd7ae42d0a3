"""Is this value JSON that every part of the product can keep?  Pure."""

from __future__ import annotations

import math
import re
from typing import Any

from routing.executors.contract import BadOutput

MAX_DEPTH = 64
_UNKEEPABLE = re.compile("[\x00\ud800-\udfff]")  # PostgreSQL keeps no NUL in jsonb; a lone surrogate has no UTF-8


def as_json(value: Any, path: str = "$", depth: int = 0) -> Any:
    """Return ``value`` as plain JSON (tuples become lists). Raises BadOutput with the JSON path of the bad value."""
    if depth > MAX_DEPTH:
        raise BadOutput(f"The output is nested more than {MAX_DEPTH} deep at {path[:200]}. Make it flatter.")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value, path)
    if isinstance(value, int | float):
        return _number(value, path)
    if isinstance(value, list | tuple):
        return [as_json(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(value)]
    if isinstance(value, dict):
        return {_key(key, path): as_json(item, f"{path}.{key}", depth + 1) for key, item in value.items()}
    raise _bad(path, f"is a {type(value).__name__}, which JSON does not have")


def _key(key: Any, path: str) -> str:
    if not isinstance(key, str):
        raise _bad(path, f"has the key {key!r}, a {type(key).__name__}; keys must be strings")
    return _text(key, f"{path}.{key}")


def _text(value: str, path: str) -> str:
    found = _UNKEEPABLE.search(value)
    if found:
        raise _bad(path, f"holds the character U+{ord(found[0]):04X}, which cannot be stored")
    return str.__str__(value)


def _number(value: float, path: str) -> float:
    if isinstance(value, int):
        if not -(2**63) <= value < 2**64:
            raise _bad(path, "is an integer that does not fit 64 bits; send it as a string")
        return int(value)
    if not math.isfinite(value):
        raise _bad(path, f"is {value}, which JSON does not have; send null instead")
    return float(value)


def _bad(path: str, why: str) -> BadOutput:
    shown = path.encode("utf-8", "replace").decode().replace("\x00", "?")[:200]
    return BadOutput(f"The output is not JSON: {shown} {why}.", detail={"path": shown})

"""Checks an agent's options in words.  Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from typing import Any

from routing.executors.contract import Unavailable
from routing.executors.program import Limits

SMALLEST = {"cpu_s": 1, "memory_mb": 16, "output_bytes": 1, "open_files": 8, "file_mb": 1}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def require(problems: list[str]) -> None:
    """Raise Unavailable if there are problems: the agent was saved before they were checked, or by other means."""
    if problems:
        raise Unavailable(f"The agent's options are wrong: {' '.join(problems)}", retryable=False)


def unknown(options: Mapping[str, Any], known: Collection[str]) -> list[str]:
    """Return a problem for every option that is not ``known``."""
    wrong = sorted(set(options) - set(known), key=str)
    return [f"The option {name!r} is unknown; known are {', '.join(known)}." for name in wrong]


def limit_problems(limits: Any) -> list[str]:
    """Return what is wrong with ``options["limits"]``."""
    if limits is None:
        return []
    if not isinstance(limits, Mapping):
        return ["limits must be an object."]
    found = [f"limits.{name} is unknown; known are {', '.join(SMALLEST)}." for name in limits if name not in SMALLEST]
    for name, least in SMALLEST.items():
        value = limits.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
            found.append(f"limits.{name} must be a whole number of at least {least}.")
    return found


def limits(options: Mapping[str, Any], *, output_bytes: int) -> Limits:
    """Return the limits of checked ``options``; ``output_bytes`` unless they say otherwise."""
    given = {name: value for name, value in (options.get("limits") or {}).items() if value is not None}
    return Limits(**{"output_bytes": output_bytes, **given})


def grace_problems(grace_s: Any) -> list[str]:
    """Return what is wrong with ``options["grace_s"]``."""
    if grace_s is None:
        return []
    if isinstance(grace_s, bool) or not isinstance(grace_s, int | float) or not 0 <= grace_s <= 60:
        return ["grace_s must be a number of seconds from 0 to 60."]
    return [] if math.isfinite(grace_s) else ["grace_s must be finite."]


def env_problems(env: Any, env_pass: Any) -> list[str]:
    """Return what is wrong with ``options["env"]`` and ``options["env_pass"]``."""
    found = []
    if env is not None and not (isinstance(env, Mapping) and all(_is_variable(*pair) for pair in env.items())):
        found.append("env must be an object of variable names and their values, all strings.")
    if env_pass is not None and not (isinstance(env_pass, list | tuple) and all(_is_name(name) for name in env_pass)):
        found.append("env_pass must be a list of names of environment variables.")
    return found


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and bool(_NAME.fullmatch(name))


def _is_variable(name: Any, value: Any) -> bool:
    return _is_name(name) and isinstance(value, str) and "\x00" not in value


def number_problems(options: Mapping[str, Any], bounds: Mapping[str, tuple[float, float]]) -> list[str]:
    """Return a problem for every option that is given and is no number within its bounds, both inclusive."""
    found = []
    for name, (low, high) in bounds.items():
        value = options.get(name)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (is_number and low <= value <= high):
            found.append(f"{name} must be a number from {low:g} to {high:g}.")
    return found

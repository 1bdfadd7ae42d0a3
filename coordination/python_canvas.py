"""How a canvas in its JSON form is written in Python.  Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from coordination.signatures import AGENT_TASK

WIDTH = 100
_MAPS = {"celery.map": "xmap", "celery.starmap": "xstarmap"}


def code(canvas: Mapping[str, Any]) -> str:
    """Return the imports, and the canvas as the expression behind them."""
    body = _written(canvas)
    plain = [name for name in ("chain", "chord", "group", "signature") if f"{name}(" in body]
    maps = [name for name in ("xmap", "xstarmap") if f"{name}(" in body]
    lines = [f"from celery import {', '.join(plain)}"] if plain else []
    lines += [f"from celery.canvas import {', '.join(maps)}"] if maps else []
    lines += ["from routing.tasks import run_agent_task"] if "run_agent_task." in body else []
    return "\n".join([*lines, "", body, ""])


def _written(canvas: Mapping[str, Any]) -> str:
    task, kwargs = canvas["task"], canvas["kwargs"]
    if task in ("celery.chain", "celery.group"):
        tasks = [_written(part) for part in kwargs["tasks"]]
        return _call(task.removeprefix("celery."), tasks if len(tasks) > 1 else [f"[{', '.join(tasks)}]"]) + _set(
            canvas
        )
    if task == "celery.chord":
        header = _bracketed("[", [_written(part) for part in kwargs["header"]], "]")
        return _call("chord", [header, _written(kwargs["body"])]) + _set(canvas)
    if task in _MAPS:
        return _call(_MAPS[task], [_written(kwargs["task"]), repr(kwargs["it"])]) + _set(canvas)
    if task == AGENT_TASK:
        method = "si" if canvas["immutable"] else "s"
        return _call(f"run_agent_task.{method}", [f"{name}={value!r}" for name, value in kwargs.items()]) + _set(canvas)
    parts = [repr(task)]
    parts += [f"args={tuple(canvas['args'])!r}"] if canvas["args"] else []
    parts += [f"kwargs={kwargs!r}"] if kwargs else []
    parts += ["immutable=True"] if canvas["immutable"] else []
    return _call("signature", parts) + _set(canvas)


def _set(canvas: Mapping[str, Any]) -> str:
    """Return the options as a call of ``set``, "" for none."""
    parts = [f"{name}={_option(value)}" for name, value in canvas["options"].items()]
    return _call(".set", parts) if parts else ""


def _option(value: Any) -> str:
    return _bracketed("[", [_written(each) for each in value], "]") if isinstance(value, list) else repr(value)


def _call(function: str, arguments: Sequence[str]) -> str:
    return _bracketed(f"{function}(", arguments, ")")


def _bracketed(opened: str, parts: Sequence[str], closed: str) -> str:
    """Return the parts in one line if they fit, else one below the other."""
    line = f"{opened}{', '.join(parts)}{closed}"
    if len(line) <= WIDTH and "\n" not in line:
        return line
    inner = "".join(f"    {line}\n" for part in parts for line in f"{part},".split("\n"))
    return f"{opened}\n{inner}{closed}"

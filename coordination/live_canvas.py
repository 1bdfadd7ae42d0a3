"""A canvas as Celery's objects: what is read of it, and which tasks there are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import celery
from kombu.exceptions import EncodeError
from kombu.utils import json as kombu_json

from coordination import canvas, errors
from coordination.graph import Graph
from coordination.signatures import BadCanvas


def graph(signature: Any, *, name: str) -> Graph:
    """Return the graph of a live signature, whose tasks this process has to know. Raises ``BadCanvas``."""
    return canvas.compile(as_json(signature), name=name, known=task_names())


def checked(signature: Any, *, name: str) -> Graph:
    """Return the graph of a live signature or of one in its JSON form. Raises ``BadWorkflow`` in words."""
    try:
        return graph(signature, name=name)
    except BadCanvas as error:
        raise errors.BadWorkflow(why=str(error), pointer="/canvas") from None


def as_json(signature: Any) -> Any:
    """Return a live signature, or one in its JSON form, as plain JSON. Raises ``BadCanvas``.

    Values that JSON does not have (moments, UUIDs, decimals) stay tagged as kombu tags them, and the worker that runs
    the task gets them as they were.
    """
    if not isinstance(signature, Mapping):
        raise BadCanvas(f"A {type(signature).__name__} is no canvas. Pass a signature: add.s(1, 2), not add(1, 2).")
    try:
        return json.loads(kombu_json.dumps(signature))
    except RecursionError:
        raise BadCanvas("The canvas links back to itself, or is nested too deep.") from None
    except (ValueError, TypeError, EncodeError) as error:
        why = "links back to itself" if "ircular" in str(error) else f"cannot be written as JSON: {error}"
        raise BadCanvas(f"The canvas {why}.") from None


def task_names(app: Any = None) -> frozenset[str]:
    """Return the names of all tasks of the app, of the current one unless given."""
    return frozenset((app or celery.current_app).tasks)

"""The oracle's tasks as a project's own, on a stack's workers: slower, so that one can be killed in them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import celery

from tests.coordination.canvases import FUNCTIONS

TAKES_S = 0.25


def slowed(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function with a pause before it."""

    def later(*args: Any, **kwargs: Any) -> Any:
        time.sleep(TAKES_S)
        return function(*args, **kwargs)

    return later


for name, function in FUNCTIONS.items():
    celery.shared_task(name=name)(slowed(function))

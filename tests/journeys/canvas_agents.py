"""The agents of the canvas journeys. The workers load this module by A2A_AGENT_MODULES."""

from __future__ import annotations

import time
from typing import Any

import celery

from routing.executors import AgentFailed, Context, handler

SLOTS = 3
SKILLS = ("canvas-add", "canvas-keep", "canvas-fail", "canvas-again")


@handler("canvas-add", capacity=SLOTS)
def add(value: Any) -> Any:
    """Return the sum of all numbers in the input, however deep they stand."""
    time.sleep(0.02)
    return total(value)


@handler("canvas-keep", capacity=SLOTS)
def keep(value: Any) -> Any:
    """Return the input."""
    return value


@handler("canvas-fail", capacity=SLOTS)
def fail(value: Any) -> Any:
    """Never succeed."""
    raise AgentFailed("out of paper")


@handler("canvas-again", capacity=SLOTS)
def again(value: Any, ctx: Context) -> Any:
    """Ask twice to be tried again, by Celery's own means."""
    current: Any = celery.current_task
    if current.request.retries < 2:
        raise current.retry(countdown=0.1, max_retries=5)
    return {"retries": current.request.retries, "attempt": ctx.attempt}


def total(value: Any) -> int:
    """Return the sum of all numbers in the value."""
    if isinstance(value, dict):
        return sum(map(total, value.values()))
    if isinstance(value, list):
        return sum(map(total, value))
    return int(value or 0)


# ---- a project's own Celery tasks: steps of workflows, once A2A_CELERY_TASKS names them ----------------------------


@celery.shared_task(name="shop.price")
def price(item: str, times: int = 1) -> int:
    """Return what it costs."""
    return len(item) * times


@celery.shared_task(name="shop.total")
def shop_total(prices: list[int], tip: int = 0) -> int:
    """Return the sum."""
    return sum(prices) + tip


@celery.shared_task(name="shop.unsteady", bind=True, max_retries=3)
def unsteady(self: Any, value: Any) -> Any:
    """Ask twice to be tried again."""
    if self.request.retries < 2:
        raise self.retry(countdown=0.1)
    return {"value": value, "retries": self.request.retries}


@celery.shared_task(name="shop.broken")
def broken() -> None:
    """Never succeed."""
    raise ValueError("out of stock")


@celery.shared_task(name="shop.slow")
def slow(seconds: float) -> float:
    """Take its time."""
    time.sleep(seconds)
    return seconds


@celery.shared_task(name="vault.open")
def vault_open() -> str:
    """Must not be run: no pattern names it."""
    return "open"

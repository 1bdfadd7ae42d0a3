"""Bare Celery, as one would set it up for speed: the same pool and broker, no events, results only where asked for."""

import logging
import os
from typing import Any

from celery import Celery

from tests.bench.body import note_start

QUEUE = "bare"
RESULTS = "A2A_BENCH_RESULTS"  # environment: URL of the result backend; unset: none

app = Celery("bare", set_as_current=False)  # ours may live in the same process
app.conf.update(
    broker_url=os.environ.get("BROKER_URL", "memory://"),
    result_backend=os.environ.get(RESULTS) or None,
    task_ignore_result=RESULTS not in os.environ,
    task_serializer="json",
    result_serializer="json",
    accept_content=["json"],
    task_default_queue=QUEUE,
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=True,
    worker_send_task_events=False,
    task_send_sent_event=False,
    worker_pool="routing.pool:ThreadPool",
    worker_log_format="%(levelname)s %(name)s: %(message)s",
    enable_utc=True,
    timezone="UTC",
)
for name in ("celery.app.trace", "celery.worker.strategy"):
    logging.getLogger(name).setLevel(logging.WARNING)  # no lines for every task: as in our settings


@app.task(name="bare.noop")
def noop(input: Any) -> Any:
    """Do nothing."""
    return None


@app.task(name="bare.stamp")
def stamp(input: Any) -> Any:
    """Note how long ago the task was sent."""
    note_start(input["sent"])


@app.task(name="bare.step")
def step(previous: Any = None, input: Any = None) -> Any:
    """Do nothing, as a step of a chain or a chord."""
    return None

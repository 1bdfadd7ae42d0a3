"""Executors run one attempt of a task: a Python function, a program. No Django here: callers pass what is needed.

A new kind of executor is one module with one class under ``@executor("name")``, imported below.
"""

from routing.executors import celery_task, command, openai, pull, python
from routing.executors.contract import (
    AgentFailed,
    BadInput,
    BadOutput,
    Canceled,
    Context,
    Executor,
    ExecutorError,
    Job,
    LimitExceeded,
    NeedsAuth,
    NeedsInput,
    Rejected,
    TimedOut,
    Unavailable,
    error_from,
    executor,
    get,
    names,
)
from routing.executors.python import handler, handlers, load

__all__ = [
    "AgentFailed",
    "BadInput",
    "BadOutput",
    "Canceled",
    "Context",
    "Executor",
    "ExecutorError",
    "Job",
    "LimitExceeded",
    "NeedsAuth",
    "NeedsInput",
    "Rejected",
    "TimedOut",
    "Unavailable",
    "celery_task",
    "command",
    "error_from",
    "executor",
    "get",
    "handler",
    "handlers",
    "load",
    "names",
    "openai",
    "pull",
    "python",
]

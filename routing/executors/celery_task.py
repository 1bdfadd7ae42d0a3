"""The ``celery`` executor: a project's own Celery tasks, run by name as steps of a workflow.

The input is ``{"task": name, "args": [...], "kwargs": {...}}``; for an error link also ``failed``, what it is called
for. The output is the task's result. The task runs in the worker's thread as Celery itself would run it, with its
hooks and signals and with ``self.request`` (its ``id`` is the step's task, ``retries`` the attempts before this one);
its result is stored nowhere but in the ledger. ``self.retry()`` is another attempt, after the countdown that it names.

Options of the agent: ``tasks``, patterns of the names that may be run (``["shop.*"]``); none unless given, for whoever
may start a run could run any task of the project otherwise. Celery's own tasks and those of this product are never run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from routing.executors import options as checks
from routing.executors.contract import Canceled, Context, Job, executor

KNOWN = ("tasks",)


@executor("celery")
class Celery:
    """Calls a registered task in the worker's own thread, where nothing can stop it from outside."""

    name: str

    def problems(self, options: Mapping[str, Any]) -> list[str]:
        """Return in words what is wrong."""
        tasks = options.get("tasks")
        is_list = tasks is None or (isinstance(tasks, list | tuple) and all(isinstance(name, str) for name in tasks))
        found = [] if is_list else ["tasks must be a list of names or patterns, such as ['shop.*']."]
        return [*checks.unknown(options, KNOWN), *found]

    def run(self, job: Job, context: Context) -> Any:
        """Return the task's result as JSON. Raises ExecutorError."""
        checks.require(self.problems(job.options))
        if context.cancelled:
            raise Canceled("The task was cancelled before it started.")
        from routing.executors import celery_call  # Celery takes long to import, and isolated handlers do without

        return celery_call.run(job)

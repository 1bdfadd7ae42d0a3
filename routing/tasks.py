"""The Celery tasks of routing. Each makes one call."""

from __future__ import annotations

from typing import Any

from celery import shared_task

from routing.celery_task import NAME, AgentTask


class _RunAgentTask(AgentTask):
    abstract = True

    def after_return(self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Report the attempt's success, after everything that follows from it has been submitted."""
        from routing.worker import runtime

        runtime().returned(self.request, status, retval)


@shared_task(bind=True, base=_RunAgentTask, name=NAME)
def run_agent_task(self: Any, previous: Any = None, /, *rest: Any, **call: Any) -> Any:
    """Have an agent with ``skill`` work on ``input`` and return its output.

    Keywords: ``skill`` (name), ``input`` (JSON), and optionally ``tenant``, ``version``, ``priority`` (0..9),
    ``labels``, ``agent``, ``exclude``, ``timeout_s``, ``max_attempts``, ``idempotency_key``, ``context``,
    ``deadline``. As a step of a chain it gets the result of the step before: see ``routing.celery_task.bind``.
    """
    from routing.worker import runtime

    return runtime().execute(self.request)


@shared_task(name="routing.settle_call", ignore_result=True)
def settle_call(command_id: str) -> None:
    """Tell a failed task's canvas (chord, chain, error links) of its end."""
    from routing import backend

    backend.settle(command_id)


@shared_task(name="routing.push_updates", ignore_result=True)
def push_updates(task_id: str, config_id: str) -> None:
    """Tell an A2A client the updates that it has not been told yet."""
    from routing.a2a import delivery

    delivery.tell(task_id, config_id)


@shared_task(name="routing.delete_old", ignore_result=True)
def delete_old() -> None:
    """Delete what is older than the retention time."""
    from routing import retention

    retention.delete_old()

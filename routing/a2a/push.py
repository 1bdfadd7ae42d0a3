"""Where clients want to be told of their tasks. The only writer of ``PushConfig``."""

from __future__ import annotations

from uuid import uuid4

from a2a.types import a2a_pb2 as pb
from a2a.utils.errors import InvalidParamsError, TaskNotFoundError
from django.utils import timezone

from routing import outbound, secrets
from routing.models import PushConfig, Task

MOST = 20  # configurations of one task


def keep(task: Task, wanted: pb.TaskPushNotificationConfig) -> pb.TaskPushNotificationConfig:
    """Return the configuration as it is kept now, in place of one with the same id. Raises ``InvalidParamsError``."""
    _check(task, wanted)
    row, _ = PushConfig.objects.update_or_create(
        task_id=task.pk,
        config_id=wanted.id or str(uuid4()),
        defaults={
            "url": wanted.url,
            "token": secrets.seal(wanted.token),
            "scheme": wanted.authentication.scheme,
            "credentials": secrets.seal(wanted.authentication.credentials),
            "due_at": timezone.now(),
            "failures": 0,
            "dead_at": None,
        },
    )
    return _shown(row)


def get(task: Task, config_id: str) -> pb.TaskPushNotificationConfig:
    """Return the configuration. Raises ``TaskNotFoundError``."""
    row = PushConfig.objects.filter(task_id=task.pk, config_id=config_id).first()
    if row is None:
        raise TaskNotFoundError("The task has no such push configuration.")
    return _shown(row)


def page(task: Task) -> pb.ListTaskPushNotificationConfigsResponse:
    """Return all configurations of the task, the oldest first."""
    rows = PushConfig.objects.filter(task_id=task.pk).order_by("created_at", "config_id")
    return pb.ListTaskPushNotificationConfigsResponse(configs=[_shown(row) for row in rows])


def delete(task: Task, config_id: str) -> None:
    """Delete the configuration if it is there."""
    PushConfig.objects.filter(task_id=task.pk, config_id=config_id).delete()


def _shown(row: PushConfig) -> pb.TaskPushNotificationConfig:
    """Return what is told of it: no secret."""
    made = pb.TaskPushNotificationConfig(task_id=str(row.task_id), id=row.config_id, url=row.url)
    if row.scheme:
        made.authentication.scheme = row.scheme
    return made


def _check(task: Task, wanted: pb.TaskPushNotificationConfig) -> None:
    try:
        outbound.check(wanted.url)
    except outbound.Refused as error:
        raise InvalidParamsError(str(error)) from None
    if len(wanted.id) > 200 or len(wanted.authentication.scheme) > 64:
        raise InvalidParamsError("id has at most 200 characters, the scheme at most 64.")
    if any(ord(sign) < 32 for sign in wanted.token + wanted.authentication.scheme + wanted.authentication.credentials):
        raise InvalidParamsError("A token has no control characters.")
    others = PushConfig.objects.filter(task_id=task.pk).exclude(config_id=wanted.id)
    if others.count() >= MOST:
        raise InvalidParamsError(f"A task has at most {MOST} push configurations.")

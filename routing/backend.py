"""Celery's result backend on the ledger: results, chords and groups survive whatever the ledger survives.

Routed tasks store nothing here: their rows are their results. For a project's own Celery tasks the backend keeps a
small key-value table. A chord's header is counted by a table whose rows are unique, so that a member which ran twice
counts once.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import celery
from celery import states
from celery.app.task import Context
from celery.backends.base import KeyValueStoreBackend
from celery.canvas import maybe_signature
from celery.exceptions import ChordError, TaskRevokedError
from celery.result import GroupResult
from django.db import transaction
from django.utils import timezone
from kombu.utils import json as kombu_json

from routing.celery_task import SubmissionRefused, task_uuid
from routing.models import CeleryState, ChordPart, Command, Task, TaskState
from routing.prepared import direct, insert

log = logging.getLogger(__name__)

KEEP = timedelta(days=1)
CELERY_STATES = {
    TaskState.SUBMITTED: states.PENDING,
    TaskState.WORKING: states.STARTED,
    TaskState.INPUT_REQUIRED: states.STARTED,
    TaskState.AUTH_REQUIRED: states.STARTED,
    TaskState.COMPLETED: states.SUCCESS,
    TaskState.FAILED: states.FAILURE,
    TaskState.CANCELED: states.REVOKED,
    TaskState.REJECTED: states.FAILURE,
}


_Store: Any = KeyValueStoreBackend  # its stubs lack what a backend overrides


class AgentTaskFailed(Exception):
    """What ``AsyncResult.get`` raises for a routed task that failed; its text is the error's message."""


class LedgerBackend(_Store):  # type: ignore[misc]
    """Result backend ``routing.backend.LedgerBackend``."""

    supports_autoexpire = True

    # ---- routed tasks read from the ledger ----------------------------------------------------------------------

    def _get_task_meta_for(self, task_id: str) -> dict[str, Any]:
        task = Task.objects.filter(id=task_uuid(task_id)).only("state", "output", "error").first()
        return super()._get_task_meta_for(task_id) if task is None else meta(task, task_id)

    def _store_result(
        self, task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None, **kwargs: Any
    ) -> Any:
        if request is not None and request.get("a2a") is not None:
            return result  # the controller writes it
        return super()._store_result(task_id, result, state, traceback=traceback, request=request, **kwargs)

    def mark_as_failure(self, task_id: str, exc: Any, *args: Any, request: Any = None, **kwargs: Any) -> None:
        """Leave an attempt's failure to the controller; everything else as Celery does it.

        Celery calls this when the database fails while a member of a chord is counted. The attempt is made again, and
        a member that has failed once would keep the body from ever starting. Tasks that failed for good come here by
        ``settle``, without an attempt.
        """
        if request is None or "attempt" not in (request.get("a2a") or {}):
            super().mark_as_failure(task_id, exc, *args, request=request, **kwargs)

    # ---- keys and values ----------------------------------------------------------------------------------------

    def get(self, key: Any) -> Any:
        return CeleryState.objects.filter(key=_text(key)).values_list("value", flat=True).first()

    def mget(self, keys: Iterable[Any]) -> Sequence[Any]:
        names = [_text(key) for key in keys]
        known = dict(CeleryState.objects.filter(key__in=names).values_list("key", "value"))
        return [known.get(name) for name in names]

    def set(self, key: Any, value: Any) -> None:
        fields = {"value": _text(value), "expires_at": timezone.now() + KEEP}
        CeleryState.objects.update_or_create(key=_text(key), defaults=fields)

    def delete(self, key: Any) -> None:
        CeleryState.objects.filter(key=_text(key)).delete()

    # ---- chords -------------------------------------------------------------------------------------------------

    def apply_chord(self, header_result_args: Any, body: Any, **kwargs: Any) -> None:
        """Keep the header's shape where it is not flat, so that the body gets its results in that shape."""
        self.ensure_chords_allowed()
        group_id, results = header_result_args
        if any(isinstance(result, GroupResult) for result in results):
            self._set_chord(group_id, shape=GroupResult(group_id, results).as_tuple())

    def set_chord_size(self, group_id: str, chord_size: int) -> None:
        """Keep how many members the header has. Celery calls this before it sends the last one."""
        self._set_chord(group_id, size=chord_size)

    def _set_chord(self, group_id: str, **facts: Any) -> None:
        self.set(f"chord-{group_id}", kombu_json.dumps({**self._chord(group_id), **facts}))

    def _chord(self, group_id: str) -> dict[str, Any]:
        known = self.get(f"chord-{group_id}")
        return dict(kombu_json.loads(known)) if known else {}

    def on_chord_part_return(self, request: Any, state: str, result: Any, **kwargs: Any) -> None:
        """Count a member of the header; the one that completes it submits the body.

        A member's end is reported after this, so one that does not get to its end is run, and counted, again.
        """
        group_id, task_id = request.group, request.id
        if not group_id or not task_id:
            return
        ok = state == states.SUCCESS
        value = kombu_json.loads(kombu_json.dumps(result)) if ok else str(result)
        part = ChordPart(group_id=group_id, task_id=task_id, index=request.group_index, ok=ok, result=value)
        if not ok:
            self._count_bad(request, part)
            return
        insert(part, only_if_missing=True)
        # Without a lock: of members that end at once, the last to be inserted sees all of them.
        if _is_header_complete(group_id):
            self._submit_body(request)

    def _submit_body(self, request: Any) -> None:
        """Submit the body once, with the note that it was."""
        with transaction.atomic():
            chord = self._locked_chord(request.group)
            if chord.get("is_complete"):
                return
            parts = ChordPart.objects.filter(group_id=request.group).order_by("index", "created_at")
            self._body(request).delay(_header_results(parts, chord.get("shape")))
            self._set_chord(request.group, is_complete=True)

    def _count_bad(self, request: Any, part: ChordPart) -> None:
        """Count a member that failed; the first one fails the chord."""
        with transaction.atomic():
            self._locked_chord(request.group)
            ChordPart.objects.bulk_create([part], ignore_conflicts=True)
            bad = ChordPart.objects.filter(group_id=request.group, ok=False).order_by("created_at")
            if bad.values_list("task_id", flat=True).first() == request.id:
                self._fail_chord(self._body(request), ChordError(f"Dependency {request.id} raised {part.result}"))

    def _body(self, request: Any) -> Any:
        return maybe_signature(request.chord, app=self.app)

    def _fail_chord(self, body: Any, error: ChordError) -> None:
        try:
            raise error  # Celery takes the traceback of the exception at hand
        except ChordError as raised:
            self.chord_error_from_stack(body, raised)

    def _locked_chord(self, group_id: str) -> dict[str, Any]:
        """Return what is kept of a chord, and let its members count one after the other."""
        key = f"chord-{group_id}"
        locked = CeleryState.objects.select_for_update().filter(key=key).values_list("value", flat=True)
        value = locked.first()
        if value is None:
            CeleryState.objects.get_or_create(key=key, defaults={"value": "{}", "expires_at": timezone.now() + KEEP})
            value = locked.get()
        return dict(kombu_json.loads(value))


def _is_header_complete(group_id: str) -> bool:
    """Return True if as many members of the chord's header have succeeded as it has."""
    with direct() as cursor:
        cursor.execute(_COUNTED, (group_id, f"chord-{group_id}"))
        members, chord = cursor.fetchone()
    return bool(chord) and members == kombu_json.loads(chord).get("size")


_COUNTED = (
    f'SELECT (SELECT COUNT(*) FROM "{ChordPart._meta.db_table}" WHERE "group_id" = %s AND "ok"), '
    f'(SELECT "value" FROM "{CeleryState._meta.db_table}" WHERE "key" = %s)'
)  # for every member of every chord: the ORM takes ten times as long


def _header_results(parts: Iterable[ChordPart], shape: Any) -> list[Any]:
    """Return the header's results in order, nested as its groups are."""
    if shape is None:
        return [part.result for part in parts]
    by_id = {part.task_id: part.result for part in parts}

    def build(node: Any) -> Any:
        (node_id, _), children = node if isinstance(node[0], (list, tuple)) else (node, None)
        return by_id.get(node_id) if children is None else [build(child) for child in children]

    return list(build(shape))


def meta(task: Task, task_id: str) -> dict[str, Any]:
    """Return a routed task as Celery describes results."""
    state = CELERY_STATES[TaskState(task.state)]
    result: Any = task.output
    if state == states.FAILURE:
        result = AgentTaskFailed((task.error or {}).get("message", "failed"))
    elif state == states.REVOKED:
        result = TaskRevokedError("canceled")
    return {"status": state, "result": result, "task_id": task_id, "traceback": None, "children": []}


def settle(command_id: str) -> None:
    """Tell the canvas of a failed or canceled task of its end: its chord, the rest of its chain, its error links.

    Done once; asked again it does nothing.
    """
    with transaction.atomic():
        commands = Command.objects.select_for_update().filter(id=UUID(command_id), done_at__isnull=True)
        command = commands.select_related("task").first()
        if command is None:
            return
        task, call = command.task, command.task.call
        if call is None:
            return
        args, kwargs, embed = call["body"]
        headers = {**call["headers"], "a2a": {"task": str(task.id)}}  # so that its own end is not stored again
        request: Any = Context(headers, args=args, kwargs=kwargs, delivery_info={}, **embed)
        exception = meta(task, request.id)["result"]
        try:
            celery.current_app.backend.mark_as_failure(request.id, exception, request=request)
        except SubmissionRefused as error:  # asking again would not help
            log.warning("an error link of task %s was not submitted: %s", task.id, error)
        Command.objects.filter(id=command.id).update(done_at=timezone.now())


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)

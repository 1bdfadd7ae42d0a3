"""What the page of one task shows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.utils import timezone

from coordination import forms
from coordination.models import StepTask
from coordination.reducer import ORIGIN
from monitoring import queries, words
from routing import explanation, life, messages, waiting
from routing.artifacts import ArtifactError, Store
from routing.explanation import Choice
from routing.models import TERMINAL, Artifact, Attempt, Task, TaskEvent, TaskState

SHOWN_JSON = 64 * 1024  # characters; the rest is in the file to download
OPEN_JSON = 2_000  # characters; longer ones are folded
SHOWN_EVENTS = 300
SHOWN_LOGS = 500
PREVIEWS = 5
PREVIEW_BYTES = 32 * 1024
TEXT_TYPES = ("text/", "application/json", "application/x-ndjson", "application/yaml")
TEXT_NAMES = (".md", ".txt", ".json", ".log", ".csv", ".yaml", ".yml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A JSON value, pretty-printed."""

    text: str
    is_long: bool
    is_cut: bool


def context(task: Task) -> dict[str, Any]:
    """Return everything the page shows, read from the ledger."""
    events = TaskEvent.objects.filter(task_id=task.id)
    story = events.exclude(kind__in=("log", "progress"))
    logs = events.filter(kind="log")
    shown_logs = [queries.event_row(event) for event in reversed(logs.order_by("-seq")[:SHOWN_LOGS])]
    last = events.filter(kind="progress").order_by("-seq").first()
    return {
        "task": task,
        "detail": waiting.detail(task),
        "question": question(task),
        "helps": life.present(task, timezone.now())[1] if task.state == TaskState.SUBMITTED else [],
        "step": StepTask.objects.filter(task=task.id).first() if task.origin == ORIGIN else None,
        "ended": task.state in TERMINAL,
        "durations": durations(task, timezone.now()),
        "progress_message": str(last.data.get("message") or "") if last else "",
        "story": [queries.event_row(event) for event in story.order_by("seq")[:SHOWN_EVENTS]],
        "logs": shown_logs,
        "logs_left_out": max(logs.count() - len(shown_logs), 0) if len(shown_logs) == SHOWN_LOGS else 0,
        "attempts": attempts(task),
        "artifacts": artifacts(task),
        "input": shown(task.input),
        "output": shown(task.output) if task.output is not None or task.state == "completed" else None,
        "error_detail": shown(detail) if (detail := (task.error or {}).get("detail")) else None,
    }


def question(task: Task) -> dict[str, Any] | None:
    """Return what the task's agent asks, with a form for the answer; None if it asks nothing."""
    asked = messages.question(task) if task.state in messages.ASKING else None
    if asked is None:
        return None
    schema = answer_schema(asked)
    return {"text": asked.data["message"], "form": forms.form(schema), "schema": json.dumps(schema, indent=2)}


def answer_schema(asked: TaskEvent) -> dict[str, Any]:
    """Return the JSON Schema of the answer to a question: text where it says nothing of it."""
    return dict((asked.data.get("detail") or {}).get("schema") or {"type": "string", "title": "Answer"})


def durations(task: Task, now: datetime) -> list[dict[str, Any]]:
    """Return how long the task waited, worked and took; a running one counts ``since`` its beginning."""
    begin, end = task.started_at, task.finished_at
    spans = [("Waited", task.created_at, begin or end), ("Worked", begin, end), ("Total", task.created_at, end)]
    return [
        {"name": name, "text": words.duration(((to or now) - since).total_seconds()), "since": None if to else since}
        for name, since, to in spans
        if since is not None
    ]


def attempts(task: Task) -> list[dict[str, Any]]:
    """Return the attempts, newest first, each with the decision behind it in words."""
    choices = life.choices(task.id)
    rows = Attempt.objects.filter(task_id=task.id).order_by("-number")[:50]
    return [{"attempt": row, "took": _took(row), "decision": _decision(choices.get(row.number))} for row in rows]


def _took(attempt: Attempt) -> str:
    if attempt.started_at is None or attempt.finished_at is None:
        return ""
    return words.duration((attempt.finished_at - attempt.started_at).total_seconds())


def _decision(choice: Choice | None) -> dict[str, Any] | None:
    if choice is None:
        return None
    told = explanation.explain(choice)
    return {
        "sentence": told.summary,
        "around": [line for line in (told.waited, told.hedge, told.shadow) if line],
        "agents": told.agents,
        "more": choice.more,
    }


def artifacts(task: Task) -> list[dict[str, Any]]:
    """Return the artifacts with a preview of the first few that are short texts."""
    rows = list(Artifact.objects.filter(task_id=task.id).order_by("seq")[:200])
    return [
        {"artifact": row, "size": words.size(row.size), "preview": preview(row) if number < PREVIEWS else None}
        for number, row in enumerate(rows)
    ]


def preview(artifact: Artifact) -> str | None:
    """Return the text of a short text file, None for anything else. It is shown escaped, never as HTML."""
    is_text = artifact.media_type.startswith(TEXT_TYPES) or artifact.name.lower().endswith(TEXT_NAMES)
    if not is_text or artifact.size > PREVIEW_BYTES or artifact.media_type == "text/html":
        return None
    try:
        with store().open(artifact.sha256) as file:
            return file.read(PREVIEW_BYTES).decode("utf-8", "replace")
    except (OSError, ArtifactError):
        return None


def store() -> Store:
    """Return where the artifacts' bytes are."""
    return Store(settings.A2A_ARTIFACTS_DIR)


def shown(value: Any) -> Shown:
    """Return ``value`` as indented JSON, cut where it is too long to be read on a page."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return Shown(text=text[:SHOWN_JSON], is_long=len(text) > OPEN_JSON, is_cut=len(text) > SHOWN_JSON)

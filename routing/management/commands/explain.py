"""`manage.py explain TASK`: the life of a task in words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from routing import explanation, life
from routing.life import AttemptTold, Life
from routing.models import Task


class Command(BaseCommand):
    help = "Say why a task went where it went, what its attempts came to, and what it waits for."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("task", help="its id")
        parser.add_argument("--attempt", type=int, metavar="N", help="only this attempt")
        parser.add_argument("--why-not", metavar="AGENT", help="also say why this agent did not get it")
        parser.add_argument("--json", action="store_true", help="one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the story."""
        told = life.told(_task(options["task"]))
        chosen = _chosen(told, options["attempt"])
        if options["json"]:
            wanted = {**told.as_dict(), "attempts": [attempt.as_dict() for attempt in chosen]}
            self.stdout.write(json.dumps(wanted, ensure_ascii=False))
            return
        for line in _lines(told, chosen, options["why_not"]):
            self.stdout.write(line)


def _task(text: str) -> Task:
    try:
        task = Task.objects.filter(id=UUID(text)).first()
    except ValueError:
        raise CommandError(
            f"{text!r} is no task id. An id looks like 01890a5d-ac96-774b-bcce-b302099a8057; "
            "`submit` returned it, and the task's page and its address show it."
        ) from None
    if task is None:
        days = settings.A2A_RETENTION_DAYS
        raise CommandError(f"There is no task {text}. Tasks are deleted {days} days after their end.")
    return task


def _chosen(told: Life, number: int | None) -> list[AttemptTold]:
    chosen = [attempt for attempt in told.attempts if number in (None, attempt.number)]
    if number is not None and not chosen:
        known = ", ".join(str(attempt.number) for attempt in told.attempts) or "none yet"
        raise CommandError(f"The task has no attempt {number}. Its attempts: {known}.")
    return chosen


def _lines(told: Life, chosen: list[AttemptTold], why_not: str | None) -> Iterator[str]:
    yield f"Task {told.id}"
    yield f"  {told.headline}"
    yield f"  governed by {told.governed}"
    for attempt in chosen:
        yield f"Attempt {attempt.number} on {attempt.agent}: {attempt.words}"
        if attempt.explanation is not None:
            yield from (f"  {line}" for line in attempt.explanation.lines())
        if why_not and attempt.choice is not None:
            yield f"  {explanation.why_not(attempt.choice, why_not)}"
    if told.now:
        yield f"Now: {told.now}"
    if told.helps:
        yield "What would help:"
        yield from (f"  {line}" for line in told.helps)

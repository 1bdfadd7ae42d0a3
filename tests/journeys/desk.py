"""The registry's side of a site: `python -m tests.journeys.desk` obeys lines of JSON until its standard input ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from types import TracebackType
from typing import Any, Self

import django

from tests.journeys.site import ROOT, Site


class Desk:
    """A process with the product's code in the site's state directory. Use it in a ``with``."""

    def __init__(self, site: Site) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.journeys.desk"],
            cwd=ROOT,
            env=site.environment(DJANGO_SETTINGS_MODULE="a2a_site.settings"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()

    def key(self, *scopes: str) -> str:
        """Return a new key."""
        key: str = self._ask("key", scopes=scopes)
        return key

    def agent(self, name: str, **changes: Any) -> None:
        """Change an agent's row, or make it. ``skills`` are names; one that is new may work for 60 s and try twice."""
        self._ask("agent", name=name, **changes)

    def fleet(self) -> None:
        """Register the demonstration fleet."""
        self._ask("fleet")

    def celery(self, *inputs: Any, skill: str) -> list[Any]:
        """Return the results of a Celery group."""
        results: list[Any] = self._ask("celery", skill=skill, inputs=inputs)
        return results

    def _ask(self, what: str, **arguments: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([what, arguments]) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


def main() -> None:
    """Obey until the end of the input. An error ends the process with its traceback."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        what, arguments = json.loads(line)
        answers.write(json.dumps(DOES[what](**arguments)) + "\n")
        answers.flush()


def make_key(scopes: list[str]) -> str:
    """Return a new key of the default tenant."""
    from routing import registry

    return registry.create_key("default", "tests", scopes)[1]


def save_agent(name: str, skills: list[str] | None = None, **changes: Any) -> None:
    """Save the agent with these changes."""
    from routing import registry
    from routing.models import Agent

    agent = Agent.objects.filter(name=name).first() or Agent(name=name)
    for field, value in changes.items():
        setattr(agent, field, value)
    if skills is None:
        registry.save_agent(agent, list(agent.skills.all()))
    else:
        registry.save_agent(agent, [registry.ensure_skill(each, timeout_s=60, max_attempts=2) for each in skills])


def ensure_fleet() -> None:
    """Register the demonstration fleet."""
    from coordination.review import run

    run.ensure_fleet()


def call_celery(skill: str, inputs: list[Any]) -> list[Any]:
    """Return the results of a group of calls."""
    from celery import group

    from routing.tasks import run_agent_task

    calls = group(run_agent_task.s(skill=skill, input=value) for value in inputs)
    return list(calls.apply_async().get(timeout=60))


DOES: dict[str, Any] = {"key": make_key, "agent": save_agent, "fleet": ensure_fleet, "celery": call_celery}

if __name__ == "__main__":
    django.setup()
    main()

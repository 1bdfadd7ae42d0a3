"""The side of a chaos stack that wants work done: a process with its own connection and its own memory."""

import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import orjson

from a2a_site.chaos.part import ROOT


class Refused(Exception):
    """The customer's process could not do what it was asked to."""


class Customer:
    """Speaks with the process ``a2a_site.chaos.desk``, one line of JSON there and one back."""

    def __init__(self, environment: Mapping[str, str], home: Path) -> None:
        self._environment = environment
        self._home = home
        self._process: subprocess.Popen[bytes] | None = None
        self._turn = threading.Lock()

    def start(self) -> None:
        """Start the process, and register the agents."""
        with (self._home / "logs" / "customer.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "a2a_site.chaos.desk"],
                cwd=ROOT,
                env=dict(self._environment),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        self._ask("prepare")

    def close(self) -> None:
        """End the process."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait(5)
        for pipe in self._pipes():
            pipe.close()
        self._process = None

    def submit(self, skill: str, value: Any = None, *, count: int = 1, door: str = "submit", **more: Any) -> list[str]:
        """Return the ids of ``count`` tasks, accepted. ``door`` is submit or celery; ``more`` are its keywords."""
        ids: list[str] = self._ask("submit", skill=skill, input=value, count=count, door=door, more=more)
        return ids

    def chain(self, length: int, *, seconds: float) -> list[str]:
        """Return the ids of a Celery chain's steps, first to last."""
        ids: list[str] = self._ask("chain", length=length, seconds=seconds)
        return ids

    def chord(self, width: int, *, seconds: float) -> list[str]:
        """Return the ids of a Celery chord's header and, as the last one, its body."""
        ids: list[str] = self._ask("chord", width=width, seconds=seconds)
        return ids

    def begin(self, workflow: str, source: str = "") -> str:
        """Return the id of a run of the workflow, after saving its source if one is given."""
        run: str = self._ask("begin", workflow=workflow, source=source)
        return run

    def begin_graph(self, graph: Mapping[str, Any]) -> str:
        """Return the id of a run of a graph of its own, in its JSON form."""
        run: str = self._ask("begin_graph", graph=graph)
        return run

    def run(self, id: str) -> dict[str, Any]:
        """Return what the ledger says of a run: state, output, steps, events, and what was done for its steps."""
        found: dict[str, Any] = self._ask("run", id=id)
        return found

    def load(self, per_s: float, *, seed: int, canvases: bool = True) -> None:
        """Begin to submit about ``per_s`` calls a second, single tasks and canvases."""
        self._ask("load", per_s=per_s, seed=seed, canvases=canvases)

    def rest(self) -> int:
        """End the load and return how many tasks it had accepted."""
        count: int = self._ask("rest")
        return count

    def duplicate(self, on: bool) -> int:
        """Send every message a second time from now on, or no more; return how many were sent twice so far."""
        count: int = self._ask("duplicate", on=on)
        return count

    def tasks(self, ids: list[str]) -> dict[str, dict[str, Any]]:
        """Return what the ledger says of each task: state, attempt, agent, output, error, events."""
        found: dict[str, dict[str, Any]] = self._ask("tasks", ids=ids)
        return found

    def task(self, task: str) -> dict[str, Any]:
        """Return what the ledger says of a task; empty if it knows none."""
        return self.tasks([task]).get(task, {})

    def unended(self) -> int:
        """Return how many accepted tasks have not ended, or are not in the ledger."""
        count: int = self._ask("unended")
        return count

    def history(self, *, since: float = 0.0) -> dict[str, Any]:
        """Return everything: what was accepted ``since``, what was told of it, and what the ledger holds."""
        file = Path(self._ask("history", file=str(self._home / "history.json"), since=since))
        history: dict[str, Any] = orjson.loads(file.read_bytes())
        return history

    def _ask(self, what: str, **arguments: Any) -> Any:
        with self._turn:
            ask, answer = self._pipes()
            ask.write(orjson.dumps({"do": what, **arguments}) + b"\n")
            ask.flush()
            line = answer.readline()
        if not line:
            raise Refused("The customer's process has ended; see customer.log.")
        said = orjson.loads(line)
        if "error" in said:
            raise Refused(said["error"])
        return said["ok"]

    def _pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        return self._process.stdin, self._process.stdout

"""What a pull agent sends.  Pure. Each may be sent again: the server does it once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from pydantic import Field

from a2a_client.calls import BASE, Call
from a2a_client.models import Model

ANSWER_S = 15.0  # for an answer, beyond what the server waits on purpose
Key = tuple[str, int]  # task, attempt


class Claim(Model):
    """An attempt that is ours."""

    task: str
    attempt: int
    skill: str
    version: str = ""
    input: Any = None
    timeout_s: float
    idempotency_key: str
    context: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)


class Stop(Model):
    """An attempt to stop: ``canceled``, or ``stale`` when it is somebody else's or over."""

    task: str
    attempt: int
    reason: str


class Turn(Model):
    """What the server says when it is asked or beaten to."""

    lease_s: float = 10.0
    stop: list[Stop] = Field(default_factory=list)
    claims: list[Claim] = Field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Me:
    """Who calls: one process of an agent."""

    agent: str
    session: str
    slots: int  # attempts at once

    def register(self, description: Mapping[str, Any]) -> Call[None]:
        """Register, or change the registration to be exactly so."""
        return Call(method="PUT", path=self._path("pull"), read=_nothing, body=dict(description))

    def claim(self, holds: Sequence[Key], *, most: int, wait_s: float) -> Call[Turn]:
        """Fetch up to ``most`` attempts, waiting for them."""
        body = {**self._all(holds), "max": most, "wait_s": wait_s}
        return Call(
            method="POST",
            path=self._path("claims"),
            read=Turn.model_validate,
            body=body,
            timeout_s=wait_s + ANSWER_S,
        )

    def renew(self, holds: Sequence[Key], *, draining: bool) -> Call[Turn]:
        """Say that we live."""
        return self._post("renew", {**self._all(holds), "draining": draining}, Turn.model_validate)

    def notes(self, key: Key, notes: Sequence[Mapping[str, Any]]) -> Call[None]:
        """Report progress and log lines."""
        return self._post("progress", {**self._one(key), "notes": list(notes)})

    def complete(self, key: Key, output: Any, usage: Mapping[str, float]) -> Call[None]:
        """Report an output."""
        return self._post("complete", {**self._one(key), "output": output, "usage": dict(usage)})

    def fail(
        self, key: Key, error: Mapping[str, Any], usage: Mapping[str, float], retry_in_s: float | None
    ) -> Call[None]:
        """Report why there is no output."""
        again = {} if retry_in_s is None else {"retry_in_s": retry_in_s}
        return self._post("fail", {**self._one(key), "error": dict(error), "usage": dict(usage), **again})

    def leave(self, holds: Sequence[Key]) -> Call[None]:
        """End the session, and give back what is held."""
        return self._post("leave", {"session": self.session, "holds": _holds(holds)})

    def artifacts(self, key: Key, name: str) -> tuple[str, dict[str, Any]]:
        """Return the address that a file is posted to, and its parameters."""
        params = {"session": self.session, "task": key[0], "attempt": key[1], "file_name": name}
        return self._path("artifacts"), params

    def _path(self, last: str) -> str:
        return f"{BASE}/agents/{quote(self.agent, safe='')}/{last}"

    def _post(self, last: str, body: Mapping[str, Any], read: Any = None) -> Call[Any]:
        return Call(method="POST", path=self._path(last), read=read or _nothing, body=body)

    def _all(self, holds: Sequence[Key]) -> dict[str, Any]:
        return {"session": self.session, "slots": self.slots, "holds": _holds(holds)}

    def _one(self, key: Key) -> dict[str, Any]:
        return {"session": self.session, "task": key[0], "attempt": key[1]}


def _holds(keys: Sequence[Key]) -> list[dict[str, Any]]:
    return [{"task": task, "attempt": attempt} for task, attempt in keys]


def _nothing(answer: Any) -> None:
    return None

"""What can go wrong at a door. A class's docstring is its message; ``{}`` fields are filled from keywords."""

from __future__ import annotations

from typing import Any


class RoutingError(Exception):
    """Something went wrong."""

    kind = "error"  # the last part of the problem's type URI
    status = 400  # HTTP status a door answers with

    def __init__(self, *, pointer: str = "", **fields: Any) -> None:
        self.pointer = pointer  # JSON Pointer (RFC 6901) into the request, "" for the whole
        self.fields = fields
        super().__init__((type(self).__doc__ or "").format(**fields))


class BadInput(RoutingError):
    """{why}"""

    kind, status = "bad-input", 422


class Malformed(RoutingError):
    """The body is not acceptable JSON: {why}"""

    kind, status = "malformed", 400


class TooLarge(RoutingError):
    """The input has {size} bytes; at most {limit} are accepted. Put large data in a file and pass its address."""

    kind, status = "too-large", 413


class UnknownSkill(RoutingError):
    """No skill {skill!r} is registered for tenant {tenant!r}. Known: {known}."""

    kind, status = "unknown-skill", 422


class UnknownAgent(RoutingError):
    """No agent {agent!r} is registered for tenant {tenant!r}."""

    kind, status = "unknown-agent", 422


class SchemaMismatch(RoutingError):
    """The input does not fit the schema of skill {skill!r}: at {pointer_text}, {why}"""

    kind, status = "schema-mismatch", 422


class KeyReused(RoutingError):
    """The idempotency key {key!r} was used before with another request. Use a new key for new work."""

    kind, status = "idempotency-key-reused", 422


class IdReused(RoutingError):
    """A task with id {id} exists already with another request. Leave the id out, or use a new one."""

    kind, status = "task-id-reused", 409


class NoSuchTask(RoutingError):
    """No task {id}."""

    kind, status = "no-such-task", 404


class AlreadyEnded(RoutingError):
    """The task has ended already ({state}), so it cannot be canceled."""

    kind, status = "already-ended", 409


class BadRegistration(RoutingError):
    """{why}"""

    kind, status = "bad-registration", 422

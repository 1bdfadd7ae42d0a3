"""What can go wrong when talking to Mission Control."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class MissionControlError(Exception):
    """The root of everything this package raises on purpose."""


class Unreachable(MissionControlError):
    """Nobody answered at the address, or the answer broke off, as often as it was tried."""


class NotOurs(MissionControlError):
    """What answered does not speak this API; the address may be of something else."""


class TaskTimeout(MissionControlError, TimeoutError):
    """The task or run had not ended when the caller's patience did. It goes on."""


class TaskFailed(MissionControlError):
    """The task ended without an output: failed, canceled or rejected. ``task`` is the whole of it."""

    def __init__(self, message: str, task: Any) -> None:
        super().__init__(message)
        self.task = task


class Problem(MissionControlError):
    """A refusal by the server (RFC 9457). Its words are the server's.

    ``status`` is the HTTP status, ``kind`` the last part of the stable type (such as ``no-such-task``), ``pointer``
    a JSON Pointer into the body or "", ``request_id`` what to quote to an operator, ``document`` all of it.
    """

    statuses: ClassVar[tuple[int, ...]] = ()

    def __init__(self, status: int, document: Mapping[str, Any]) -> None:
        self.status = status
        self.document = dict(document)
        self.kind = str(document.get("type", "")).rpartition("/")[2]
        self.pointer = str(document.get("pointer") or "")
        self.request_id = str(document.get("request_id") or "")
        super().__init__(str(document.get("detail") or document.get("title") or f"HTTP {status}"))


class BadRequest(Problem):
    """What was sent is not what the API takes."""

    statuses = (400, 413, 415, 422)


class NotAuthenticated(Problem):
    """No key, or one that is unknown, expired or revoked."""

    statuses = (401,)


class NotAllowed(Problem):
    """The key lacks the scope."""

    statuses = (403,)


class NotFound(Problem):
    """There is no such thing, or it is another tenant's."""

    statuses = (404,)


class Conflict(Problem):
    """It is no longer, or not yet, in the state that this needs."""

    statuses = (409, 412)


class TooMany(Problem):
    """A limit of the server; it says when to try again."""

    statuses = (429,)


class ServerTrouble(Problem):
    """The server could not do it now."""

    statuses = (500, 502, 503, 504)


KINDS = (BadRequest, NotAuthenticated, NotAllowed, NotFound, Conflict, TooMany, ServerTrouble)


def problem(status: int, document: Mapping[str, Any]) -> Problem:
    """Return the error for an answer with this status, of the fitting class."""
    kind = next((kind for kind in KINDS if status in kind.statuses), Problem)
    return kind(status, document)

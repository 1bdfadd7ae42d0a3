"""What can go wrong at a door. A class's docstring is its message; ``{}`` fields are filled from keywords."""

from __future__ import annotations

from typing import Any


class RoutingError(Exception):
    """Something went wrong."""

    kind = "error"  # the last part of the problem's type URI
    status = 400  # HTTP status a door answers with
    tells: tuple[str, ...] = ()  # fields that a problem's document holds as they are

    def __init__(self, *, pointer: str = "", **fields: Any) -> None:
        self.pointer = pointer  # JSON Pointer (RFC 6901) into the request, "" for the whole
        self.fields = fields
        super().__init__((type(self).__doc__ or "").format(**fields))


class BadInput(RoutingError):
    """{why}"""

    kind, status = "bad-input", 422


class Malformed(RoutingError):
    """This is not acceptable JSON: {why}"""

    kind, status = "malformed", 400


class TooLarge(RoutingError):
    """It has {size} bytes; at most {limit} are accepted. Put large data in a file and pass its address."""

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


class NothingAsked(RoutingError):
    """The task asks for nothing (it is {state}), so there is nothing to answer."""

    kind, status = "nothing-asked", 409


class AnswerMisfits(RoutingError):
    """The answer does not fit what was asked for: at {where}, {why}"""

    kind, status = "answer-misfits", 422


class SingletonLives(RoutingError):
    """Task {id} with the singleton key {key!r} has not ended. A Celery call cannot stand for it: wait for that one."""

    kind, status = "singleton-lives", 409


class Throttled(RoutingError):
    """{limit} tasks with the throttle key {key!r} came within {period} s. Try again in {wait} s."""

    kind, status = "throttled", 429


class Contained(RoutingError):
    """{why}"""

    kind, status = "contained", 503


class NotCompleted(RoutingError):
    """Only the output of a completed task can be judged; this one is {state}."""

    kind, status = "not-completed", 409


class NoSuchAgent(RoutingError):
    """No agent {name!r}."""

    kind, status = "no-such-agent", 404


class NameTaken(RoutingError):
    """The name {name!r} is taken by an agent that is not yours. Choose another one."""

    kind, status = "name-taken", 409


class BadRegistration(RoutingError):
    """{why}"""

    kind, status = "bad-registration", 422


class NotPull(RoutingError):
    """{name!r} is not a pull agent: its executor is {executor}. Register it by PUT /agents/{name}/pull first."""

    kind, status = "not-pull", 409


class NotYours(RoutingError):
    """Attempt {attempt} of task {task} is not this session's (any more): {why}. Stop it; its result is not wanted."""

    kind, status = "not-yours", 409


class BadResult(RoutingError):
    """{why} Report a failure of the kind bad_output instead, or send another output."""

    kind, status = "bad-result", 422


class BusAway(RoutingError):
    """Redis does not answer at the moment. Try again in a few seconds."""

    kind, status = "unavailable", 503


class NotAuthenticated(RoutingError):
    """Say who you are: Authorization: Bearer a2a_… with a key that is neither expired nor revoked, or sign in."""

    kind, status = "not-authenticated", 401


class MissingScope(RoutingError):
    """{who} may not do this: the scope {scope} is missing."""

    kind, status = "missing-scope", 403


class ForgedRequest(RoutingError):
    """The CSRF token is missing or wrong. Programs use an API key; pages send X-CSRFToken with the session's token."""

    kind, status = "csrf", 403


class NoSuchPlace(RoutingError):
    """There is nothing at {path}."""

    kind, status = "not-found", 404


class NoSuchArtifact(RoutingError):
    """Task {id} has no artifact {seq}."""

    kind, status = "no-such-artifact", 404


class MethodNotAllowed(RoutingError):
    """{method} does not work here. Allowed: {allowed}."""

    kind, status = "method-not-allowed", 405


class NotAcceptable(RoutingError):
    """This is a stream: ask for it with Accept: text/event-stream."""

    kind, status = "not-acceptable", 406


class UnsupportedMediaType(RoutingError):
    """The body is {found}; send application/json."""

    kind, status = "unsupported-media-type", 415


class BadCursor(RoutingError):
    """The cursor is not one that this server gave out for this list. Start again without it."""

    kind, status = "bad-cursor", 422


class Unavailable(RoutingError):
    """The database does not answer at the moment. Try again in a few seconds; nothing was changed."""

    kind, status = "unavailable", 503

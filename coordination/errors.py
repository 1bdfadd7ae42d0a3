"""What can go wrong at a door of coordination. As in ``routing.errors``, a class's docstring is its message."""

from __future__ import annotations

from routing.errors import RoutingError


class BadWorkflow(RoutingError):
    """The workflow cannot be used: {why}"""

    kind, status = "bad-workflow", 422


class NoSuchWorkflow(RoutingError):
    """There is no workflow {name!r}{version}. Known: {known}."""

    kind, status = "no-such-workflow", 404


class WorkflowDisabled(RoutingError):
    """The workflow {name!r} is disabled: no new run begins. Enable it, or ask who disabled it."""

    kind, status = "workflow-disabled", 409


class StaleVersion(RoutingError):
    """The workflow {name!r} is at version {newest} by now, not {seen}. Look at what changed, and save again."""

    kind, status = "stale-version", 409


class NoSuchRun(RoutingError):
    """There is no run {id}."""

    kind, status = "no-such-run", 404


class RunOver(RoutingError):
    """The run is {state} already, so it cannot be asked to {verb}."""

    kind, status = "run-over", 409


class RunKeyReused(RoutingError):
    """The idempotency key {key!r} was used for another run. Use a new key for new work."""

    kind, status = "idempotency-key-reused", 422


class NoSuchStep(RoutingError):
    """The run has no step {step!r}. Its steps: {known}."""

    kind, status = "no-such-step", 422


class NoSuchApproval(RoutingError):
    """There is no approval {id}."""

    kind, status = "no-such-approval", 404


class ApprovalClosed(RoutingError):
    """The approval is {state} already{by}."""

    kind, status = "approval-closed", 409


class MayNotAnswer(RoutingError):
    """{who} may not answer this approval. It is for {allowed}."""

    kind, status = "may-not-answer", 403


class AnswerMismatch(RoutingError):
    """The answer does not suit the form: at {where}, {why}"""

    kind, status = "answer-mismatch", 422


class BadSchedule(RoutingError):
    """The schedule cannot be kept: {why}"""

    kind, status = "bad-schedule", 422


class NoSuchSchedule(RoutingError):
    """There is no schedule {name!r}. Known: {known}."""

    kind, status = "no-such-schedule", 404


class BadBackfill(RoutingError):
    """No backfill: {why}"""

    kind, status = "bad-backfill", 422


class NoSuchKey(RoutingError):
    """The context {context} has nothing under {key!r}."""

    kind, status = "no-such-key", 404


class Conflict(RoutingError):
    """{key!r} is at version {version}, {base}, and its rule is to reject. Read it again, or write with its version."""

    kind, status = "state-conflict", 409
    tells = ("theirs", "yours", "version")


class UnfitValue(RoutingError):
    """{key!r} cannot be written so: {why}"""

    kind, status = "unfit-value", 422


class TooManyKeys(RoutingError):
    """The context {context} has {most:,} keys already. Remove some, or keep several values under one key."""

    kind, status = "too-many-keys", 422


class LockTaken(RoutingError):
    """{key!r} is held by {holder} until {until:%H:%M:%S}Z, unless that is renewed."""

    kind, status = "lock-taken", 409


class LockLost(RoutingError):
    """{key!r} is not held with token {token}: it ran out or was let go, and may be somebody else's."""

    kind, status = "lock-lost", 409


class BadBulk(RoutingError):
    """Nothing was asked: {why}"""

    kind, status = "bad-bulk", 422

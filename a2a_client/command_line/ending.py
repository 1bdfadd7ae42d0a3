"""How the program ends: one exit code for each kind of outcome."""

from __future__ import annotations

from enum import IntEnum

from a2a_client import errors


class Exit(IntEnum):
    """The exit codes, as ``a2amc --help`` and the documentation list them."""

    DONE = 0
    FAILED = 1  # the task or run ended without an output
    USAGE = 2  # the command line is wrong
    UNREACHABLE = 3  # nobody answers, or somebody else does
    NOT_ALLOWED = 4  # no key, a bad key, or one without the scope
    NOT_FOUND = 5  # no such task, run, agent or workflow
    TIMEOUT = 6  # --timeout is over; the task goes on
    REFUSED = 7  # the server refused it in words
    INTERRUPTED = 130  # Ctrl-C; what was submitted goes on


TABLE: tuple[tuple[type[BaseException], Exit], ...] = (
    (errors.TaskFailed, Exit.FAILED),
    (errors.TaskTimeout, Exit.TIMEOUT),
    (errors.Unreachable, Exit.UNREACHABLE),
    (errors.NotOurs, Exit.UNREACHABLE),
    (errors.NotAuthenticated, Exit.NOT_ALLOWED),
    (errors.NotAllowed, Exit.NOT_ALLOWED),
    (errors.NotFound, Exit.NOT_FOUND),
    (errors.MissionControlError, Exit.REFUSED),
    (KeyboardInterrupt, Exit.INTERRUPTED),
)


def code(error: BaseException) -> Exit | None:
    """Return the exit code for an error, or None for one that is a defect of ours."""
    return next((found for kind, found in TABLE if isinstance(error, kind)), None)

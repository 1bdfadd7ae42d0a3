"""What an executor is: the job it gets, the context it talks to, the errors it ends with, and the registry. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One attempt at a task, as an executor gets it."""

    task_id: str
    attempt: int  # 1 for the first try
    agent: str
    skill: str
    input: Any  # JSON
    options: Mapping[str, Any]  # the agent row's executor options
    timeout_s: float  # > 0
    idempotency_key: str  # the same for every attempt; pass it on to whatever has effects
    work_dir: Path  # private to this attempt; the executor makes it when it needs it and removes it


class Context(Protocol):
    """What a running attempt may say and ask. Every method may be called from any thread."""

    @property
    def task_id(self) -> str: ...
    @property
    def attempt(self) -> int: ...
    @property
    def idempotency_key(self) -> str: ...
    @property
    def input(self) -> Any: ...
    @property
    def cancelled(self) -> bool:
        """True once somebody asked for this task to be cancelled."""

    def progress(self, fraction: float | None, message: str = "") -> None:
        """Tell how far it is: ``fraction`` in 0..1, None when unknown."""

    def log(self, message: str, level: str = "info") -> None:
        """Add a line to the task's log; ``level`` is debug, info, warning or error."""

    def usage(self, *, usd: float = 0.0, tokens: float = 0.0) -> None:
        """Add to what this attempt has used: dollars and tokens, 0 or more. Budgets count it in place of estimates."""

    def artifact(self, name: str, data: bytes | str | Path, media_type: str = "") -> dict[str, Any]:
        """Keep ``data`` (a str is text, a Path a file) and return its name, sha256, size and media_type."""

    @property
    def answers(self) -> Sequence[Any]:
        """Return what was said to the task since it was submitted, in order: JSON values, () at first."""

    def ask(self, question: str, schema: Mapping[str, Any] | None = None) -> Any:
        """Return the answer to a question: the first call gets the first of ``answers``, the next the second.

        Where there is none yet it raises ``NeedsInput``, which ends the attempt: let it through. What was done before
        is done again when the task goes on.
        """

    # Where the context is a worker's there are ``state`` and ``lock`` too: see ``routing.executors.sharing``.

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` at most once, from another thread when cancel is asked, or at once if it already was."""


class ExecutorError(Exception):
    """An attempt that ended without an output. ``error`` is what the ledger keeps of it."""

    kind: ClassVar[str] = "agent"
    retryable: ClassVar[bool] = False  # unless the raiser says otherwise

    def __init_subclass__(cls, *, kind: str, retryable: bool = False) -> None:
        cls.kind, cls.retryable = kind, retryable
        _ERRORS[kind] = cls

    def __init__(
        self,
        message: str,
        *,
        retryable: bool | None = None,
        detail: Mapping[str, Any] | None = None,
        retry_in_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.retry_in_s = retry_in_s  # the agent itself asks for another attempt after so long; None asks for nothing
        self.error: dict[str, Any] = {
            "kind": self.kind,
            "message": message,
            "retryable": self.retryable if retryable is None else retryable,
        }
        if detail:
            self.error["detail"] = dict(detail)


_ERRORS: dict[str, type[ExecutorError]] = {}


class AgentFailed(ExecutorError, kind="agent"):
    """The agent ran, and broke or said that it could not do the task."""


class TimedOut(ExecutorError, kind="timeout"):
    """The agent took longer than the attempt may take."""


class Canceled(ExecutorError, kind="canceled"):
    """The agent stopped because somebody cancelled the task."""


class BadInput(ExecutorError, kind="bad_input"):
    """The agent cannot work with this input."""


class BadOutput(ExecutorError, kind="bad_output"):
    """The agent's answer is not what an answer must be."""


class LimitExceeded(ExecutorError, kind="limit"):
    """The agent hit one of the limits it runs under."""


class NeedsInput(ExecutorError, kind="input_required"):
    """The agent cannot go on without an answer: the message is its question. The task waits for one.

    ``detail`` may have "schema", the JSON Schema of the answer. With the answer the task begins anew, on the same agent
    if that is free, and ``ctx.answers`` has what was said so far.
    """


class NeedsAuth(ExecutorError, kind="auth_required"):
    """The agent cannot go on before somebody gives it access to what the message names. The task waits for that."""


class Rejected(ExecutorError, kind="rejected"):
    """The agent does not take this task, and no other one should be asked: the task ends as rejected."""


class Unavailable(ExecutorError, kind="unavailable", retryable=True):
    """The agent cannot be run here at the moment."""


def error_from(error: Mapping[str, Any]) -> ExecutorError:
    """Return the exception whose ``error`` equals ``error``, as it was before it crossed a process boundary."""
    made = _ERRORS.get(error["kind"], AgentFailed)
    return made(error["message"], retryable=error["retryable"], detail=error.get("detail"))


class Executor(Protocol):
    """Runs one kind of agent. One instance serves many threads at once, so it keeps nothing between runs."""

    name: str

    def problems(self, options: Mapping[str, Any]) -> list[str]:
        """Return in words what is wrong with an agent's ``options``; asked when the agent is saved."""

    def run(self, job: Job, context: Context) -> Any:
        """Return the output, a JSON value. Raises ExecutorError."""


_EXECUTORS: dict[str, Executor] = {}
E = TypeVar("E", bound=Executor)


def executor(name: str) -> Callable[[type[E]], type[E]]:
    """Return a class decorator that makes the class known as ``name``. Raises ValueError if the name is taken."""

    def register(cls: type[E]) -> type[E]:
        if name in _EXECUTORS:
            raise ValueError(f"There is an executor {name!r} already: {type(_EXECUTORS[name]).__qualname__}.")
        cls.name = name
        _EXECUTORS[name] = cls()
        return cls

    return register


def get(name: str) -> Executor:
    """Return the executor called ``name``. Raises Unavailable, naming the known ones."""
    try:
        return _EXECUTORS[name]
    except KeyError:
        known = ", ".join(names())
        raise Unavailable(f"No executor is called {name!r}. Known: {known}.", retryable=False) from None


def names() -> list[str]:
    """Return the names of all executors, sorted."""
    return sorted(_EXECUTORS)

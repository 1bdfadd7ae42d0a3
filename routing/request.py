"""What a caller asks for when it submits a task, and what no task could ever hold."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NoReturn, get_args
from uuid import UUID

import orjson
from django.conf import settings
from django.utils import timezone

from routing import errors, payloads, rulespecs, selectors
from routing.amounts import MOST, Unit
from routing.matching import is_number
from routing.models import DEFAULT_TENANT
from routing.throttle import throttle_problems

MAX_LABELS = 32
MAX_WORDS_BYTES = 65_536  # of everything that is not the input
MAX_TIMEOUT_S = 7 * 24 * 3600.0
MAX_DEBOUNCE_S = 24 * 3600.0
MAX_THROTTLE_S = 31 * 24 * 3600.0
MAX_THROTTLE = 100_000  # tasks per period
MAX_KEY = 200  # characters
EXTRAS = (
    "requires",
    "size",
    "concurrency_key",
    "affinity",
    "singleton",
    "debounce_s",
    "debounce_key",
    "throttle",
    "budget",
    "wait_s",
    "retries",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Throttle:
    """At most ``limit`` submissions with the same key within any ``period_s`` seconds; one more is refused."""

    limit: int
    period_s: float
    key: str = ""  # "": the skill's name


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a caller asks for."""

    skill: str
    input: Any = None  # JSON
    tenant: str = DEFAULT_TENANT
    version: str = ""  # "" accepts any
    priority: int = 5  # 0..9, higher goes first
    labels: Mapping[str, str] = field(default_factory=dict)  # what the agent must carry
    requires: str = ""  # a selector over the agent's labels, such as "region in (eu, us), !spot"
    agent: str = ""  # pinned; "" leaves the choice to the router
    exclude: Sequence[str] = ()  # agents that must not get it
    not_before: datetime | None = None
    deadline: datetime | None = None
    timeout_s: float | None = None  # None: the skill's
    max_attempts: int | None = None  # None: the skill's
    wait_s: float | None = None  # it may wait so long for an agent; None: as its policy says
    retries: Mapping[str, Any] | None = None  # kind of error → rule, as in a policy; None: as its policy says
    idempotency_key: str | None = None
    id: UUID | None = None  # None: a new one
    parent: UUID | None = None
    context: UUID | None = None
    origin: str = ""  # the door
    owner: str = ""  # who alone may see it by A2A; "" is nobody by A2A
    call: Mapping[str, Any] | None = None  # the Celery message to publish unchanged
    size: float | None = None  # how much work it is, >= 0; None: the bytes of the input
    concurrency_key: str = ""  # limits per key count the tasks with the same one
    affinity: str = ""  # tasks with the same one like the same agent
    singleton: str | None = None  # while a task with this key lives, it is the answer
    debounce_s: float | None = None  # it waits so long, and a later one with the same key takes its place
    debounce_key: str | None = None
    throttle: Throttle | None = None
    budget: Mapping[str, float] | None = None  # its own caps, by unit: usd, tokens, wall_s, attempts


def check_form(request: Request) -> int:
    """Return the bytes of the input. Raises a ``RoutingError`` that points at what no task could ever hold."""
    size = payloads.check(request.input, max_bytes=settings.A2A_MAX_INPUT_BYTES, at="/input")
    words: dict[str, Any] = {
        "version": request.version,
        "labels": dict(request.labels),
        "exclude": list(request.exclude),
    }
    words |= {"agent": request.agent, "idempotency_key": request.idempotency_key}
    payloads.check(words, max_bytes=MAX_WORDS_BYTES)
    _check_numbers(request)
    _check_names(request)
    _check_extras(request)
    return size


def _check_numbers(request: Request) -> None:
    if not isinstance(request.priority, int) or isinstance(request.priority, bool) or not 0 <= request.priority <= 9:
        refuse("/priority", f"The priority is {request.priority!r}; it has to be a whole number from 0 to 9.")
    if request.timeout_s is not None and not 0 < request.timeout_s <= MAX_TIMEOUT_S:
        refuse("/timeout_s", f"The time-out is {request.timeout_s!r} s; it has to be above 0 and at most 7 days.")
    if request.max_attempts is not None and not 1 <= request.max_attempts <= 100:
        refuse("/max_attempts", f"max_attempts is {request.max_attempts!r}; it has to be from 1 to 100.")
    for name, moment in (("not_before", request.not_before), ("deadline", request.deadline)):
        if moment is not None and timezone.is_naive(moment):
            refuse(f"/{name}", f"{name} has no time zone. Write it with one, as 2026-01-31T12:00:00Z.")
    if request.deadline and request.not_before and request.deadline <= request.not_before:
        refuse("/deadline", "The deadline is not after not_before, so the task could never begin.")


def _check_names(request: Request) -> None:
    if request.idempotency_key is not None and not 1 <= len(request.idempotency_key) <= 200:
        refuse("/idempotency_key", "An idempotency key has 1 to 200 characters.")
    if request.parent is not None and request.parent == request.id:
        refuse("/parent", "A task cannot be its own parent.")
    if request.agent and request.agent in request.exclude:
        refuse("/exclude", f"The agent {request.agent!r} is both asked for and excluded.")
    if len(request.labels) > MAX_LABELS:
        refuse("/labels", f"There are {len(request.labels)} labels; at most {MAX_LABELS} are accepted.")
    for label, value in request.labels.items():
        if not isinstance(label, str) or not isinstance(value, str) or not 1 <= len(label) <= 64 or len(value) > 200:
            refuse("/labels", f"The label {label!r} is not a short text with a short text as its value.")


def requirement(request: Request) -> str:
    """Return ``requires`` in its canonical form. Raises ``BadInput`` where it is no selector."""
    try:
        selector = selectors.parse(request.requires)
    except selectors.SelectorError as error:
        refuse("/requires", f"{request.requires!r:.200} is no label selector: {error}.")
    if label := selector.contradiction():
        refuse("/requires", f"No agent can meet all that is asked of the label {label} in {str(selector)!r}.")
    return str(selector)


def _check_extras(request: Request) -> None:
    if request.size is not None and not (is_number(request.size) and 0 <= request.size <= MOST):
        refuse("/size", f"The size is {request.size!r}; it has to be a number, 0 or more.")
    if request.requires:
        requirement(request)
    if request.wait_s is not None and not (is_number(request.wait_s) and 0 < request.wait_s <= MAX_TIMEOUT_S):
        refuse("/wait_s", f"wait_s is {request.wait_s!r}; it has to be above 0 and at most 7 days.")
    for words in () if request.retries is None else rulespecs.retry_problems(request.retries):
        refuse("/retries", words)
    _check_keys(request)
    _check_debounce(request)
    if request.throttle is not None:
        _check_throttle(request.throttle)
    for unit, amount in (request.budget or {}).items():
        if unit not in get_args(Unit):
            refuse("/budget", f"No budget is counted in {unit!r}. Known: {', '.join(get_args(Unit))}.")
        if not is_number(amount) or not 0 < amount <= MOST:
            refuse(f"/budget/{unit}", f"The task's budget is {amount!r}; it has to be a number above 0.")


def _check_keys(request: Request) -> None:
    for name in ("concurrency_key", "affinity", "singleton", "debounce_key"):
        key = getattr(request, name)
        if key is None or (key == "" and name in ("concurrency_key", "affinity")):
            continue
        if not isinstance(key, str) or not 1 <= len(key) <= MAX_KEY:
            refuse(f"/{name}", f"{name} has 1 to {MAX_KEY} characters.")
        payloads.check(key, max_bytes=MAX_WORDS_BYTES, at=f"/{name}")


def _check_debounce(request: Request) -> None:
    if (request.debounce_s is None) != (request.debounce_key is None):
        missing = "debounce_s" if request.debounce_s is None else "debounce_key"
        refuse(f"/{missing}", "Give debounce_s and debounce_key together: how long to wait, and for whose successors.")
    if request.debounce_s is not None and not (
        is_number(request.debounce_s) and 0 < request.debounce_s <= MAX_DEBOUNCE_S
    ):
        refuse("/debounce_s", f"debounce_s is {request.debounce_s!r}; it has to be above 0 and at most a day.")


def _check_throttle(throttle: Throttle) -> None:
    for words in throttle_problems(throttle.limit, throttle.period_s):
        field, _, why = words.partition(": ")
        refuse(f"/throttle/{field}", f"{field}: {why}.")
    if throttle.limit > MAX_THROTTLE or throttle.period_s > MAX_THROTTLE_S:
        refuse("/throttle", f"A throttle has at most {MAX_THROTTLE:,} tasks in at most 31 days.")
    if not isinstance(throttle.key, str) or len(throttle.key) > MAX_KEY:
        refuse("/throttle/key", f"A throttle's key has at most {MAX_KEY} characters.")
    payloads.check(throttle.key, max_bytes=MAX_WORDS_BYTES, at="/throttle/key")


def refuse(pointer: str, why: str) -> NoReturn:
    """Raise ``BadInput`` with these words."""
    raise errors.BadInput(why=why, pointer=pointer)


def digest_of(request: Request) -> str:
    """Return the SHA-256 of everything that makes two requests the same work."""
    material = [
        request.skill,
        request.version,
        request.input,
        request.priority,
        dict(request.labels),
        request.agent,
        sorted(set(request.exclude)),
        str(request.not_before),
        str(request.deadline),
        request.timeout_s,
        request.max_attempts,
        str(request.parent),
        str(request.context),
    ]
    extras = {name: value for name in EXTRAS if (value := getattr(request, name)) not in (None, "")}
    if extras:
        material.append(extras)
    return hashlib.sha256(orjson.dumps(material, option=orjson.OPT_SORT_KEYS)).hexdigest()

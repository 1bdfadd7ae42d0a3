"""The agents of *incident response*: the service is an agent of this fleet, and what they do to it is real."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

from django.utils import timezone

from routing import registration, registry
from routing.errors import RoutingError
from routing.executors import AgentFailed, BadInput, handler
from routing.models import DEFAULT_TENANT, Agent, Attempt, AttemptState

RECENT = 20  # attempts
SURE_FROM = 3  # attempts that are enough for a judgement
BAD = (AttemptState.FAILED, AttemptState.LOST)
SINCE = timedelta(minutes=10)


@handler("incident.triage")
def triage(input: dict[str, Any], ctx: Any) -> dict[str, Any]:
    """Judge by the service's last attempts how bad it is, and what they failed of."""
    agent = _agent(input["service"])
    last = list(_attempts(agent)[:RECENT])
    bad = [attempt for attempt in last if attempt.state in BAD]
    share = len(bad) / len(last) if last else 0.0
    causes = Counter(str((attempt.error or {}).get("kind", attempt.state)) for attempt in bad)
    severity = "high" if share >= 0.5 else "low"
    summary = f"{input['alert']}: {len(bad)} of the last {len(last)} attempts of {agent.name} failed."
    return {
        "severity": severity,
        "confidence": min(1.0, len(last) / SURE_FROM),
        "summary": summary,
        "causes": [cause for cause, _ in causes.most_common()],
    }


@handler("incident.note")
def note(input: dict[str, Any], ctx: Any) -> dict[str, Any]:
    """Keep it in the incident's record."""
    return _recorded(ctx, "noted", input["summary"])


@handler("incident.page")
def page(input: dict[str, Any], ctx: Any) -> dict[str, Any]:
    """Call somebody: a line in the record, and in the task's log as a warning."""
    ctx.log(f"{input['service']}: {input['summary']}", level="warning")
    return _recorded(ctx, "paged", input["summary"])


@handler("incident.isolate")
def isolate(input: dict[str, Any], ctx: Any) -> dict[str, Any]:
    """Drain the service: it takes nothing new and finishes what it has."""
    registry.set_state(_agent(input["service"]), draining=True)
    return _recorded(ctx, "isolated", input["service"])


@handler("incident.reconnect")
def reconnect(input: dict[str, Any], ctx: Any) -> dict[str, Any]:
    """Let the service take tasks again."""
    registry.set_state(_agent(input["service"]), draining=False)
    return _recorded(ctx, "reconnected", input["service"])


@handler("incident.mend")
def mend(input: dict[str, Any], ctx: Any) -> dict[str, Any]:
    """Relieve the service: half its capacity; and let it take tasks again, so that one sees whether that helps."""
    agent = _agent(input["service"])
    known = ctx.state.get("change")  # a second attempt must not halve it again
    change = known or {"service": agent.name, "capacity": agent.capacity, "at": timezone.now().isoformat()}
    ctx.state.put("change", change, rule="last_write")
    _set_capacity(agent, max(1, change["capacity"] // 2))
    registry.set_state(agent, draining=False)
    _recorded(ctx, "mended", f"{agent.name} holds {max(1, change['capacity'] // 2)} attempts instead of more")
    return {"change": change}


@handler("incident.restore")
def restore(input: dict[str, Any], ctx: Any) -> dict[str, Any]:
    """Put back what was changed."""
    change = input["change"]
    _set_capacity(_agent(change["service"]), int(change["capacity"]))
    return _recorded(ctx, "restored", change["service"])


@handler("incident.verify")
def verify(input: dict[str, Any], ctx: Any) -> dict[str, Any]:
    """See whether the service's attempts since the change went well; without any it is not known to be healthy."""
    agent = _agent(input["service"])
    change = ctx.state.get("change") or {}
    since = change.get("at") or (timezone.now() - SINCE).isoformat()
    ended = _attempts(agent).filter(assigned_at__gte=since)
    good, bad = (sum(a.state in states for a in ended) for states in ((AttemptState.COMPLETED,), BAD))
    _recorded(ctx, "verified", f"{good} attempts went well since the change, {bad} did not")
    return {"healthy": good > 0 and bad == 0, "good": good, "bad": bad}


@handler("incident.close")
def close(input: dict[str, Any], ctx: Any) -> dict[str, Any]:
    """Close the record."""
    return _recorded(ctx, "closed", input["summary"])


def _agent(name: str) -> Agent:
    try:
        return registration.find(DEFAULT_TENANT, name)
    except RoutingError as error:
        raise BadInput(f"{error} The service of an incident is an agent of this fleet.") from None


def _attempts(agent: Agent) -> Any:
    ended = Attempt.objects.filter(agent=agent.name, finished_at__isnull=False)
    return ended.order_by("-assigned_at")


def _set_capacity(agent: Agent, capacity: int) -> None:
    agent.capacity = capacity
    try:
        registry.save_agent(agent, list(agent.skills.all()))
    except RoutingError as error:
        raise AgentFailed(str(error)) from None


def _recorded(ctx: Any, what: str, words: str) -> dict[str, Any]:
    """Add a line to the incident's record, which its tasks share; asked again by another attempt it adds none."""
    line = {"key": ctx.idempotency_key, "what": what, "words": words, "at": timezone.now().isoformat()}
    if all(known["key"] != line["key"] for known in ctx.state.get("incident", [])):
        ctx.state.put("incident", [line], rule="append")
    return {"done": what}

"""REST for alert rules. Every view validates, makes one call, and returns."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from django.http import HttpRequest
from ninja import Field, Router, Schema, Status
from pydantic import ConfigDict

from monitoring import rulebook
from monitoring.models import Rule, Severity
from routing.access import Needs
from routing.models import Scope
from routing.schemas import Problem

router = Router()
REFUSALS = {frozenset({400, 401, 403, 404, 413, 415, 422, 503}): Problem}
reads, writes = Needs(Scope.AGENTS_READ), Needs(Scope.AGENTS_WRITE)


class RuleIn(Schema):
    """When an alert is due."""

    model_config = ConfigDict(extra="forbid")

    severity: Severity = Severity.WARNING
    title: Annotated[str, Field(max_length=200, description="What is wrong; {skill} stands for the label's value.")]
    condition: dict[str, Any]
    hold_s: float = Field(0.0, description="It is an alert once it has held for so many seconds.")
    enabled: bool = True
    runbook: Annotated[str, Field(max_length=300)] = ""


class RuleOut(RuleIn):
    """A rule."""

    name: str
    updated_at: datetime


class RuleList(Schema):
    """All rules, by name."""

    rules: list[RuleOut]


class FiringOut(Schema):
    """When it would have fired."""

    key: str
    at: datetime


class PreviewOut(Schema):
    """What a rule would have done within the last 24 h, looked at by the minute."""

    times: int
    words: str
    firings: list[FiringOut] = Field(description="The newest 50.")


@router.get("/rules", auth=reads, response={200: RuleList, **REFUSALS})
def list_rules(request: HttpRequest) -> RuleList:
    """List the alert rules."""
    return RuleList(rules=[_shape(row) for row in Rule.objects.all()])


@router.post("/rules:preview", auth=reads, response={200: PreviewOut, **REFUSALS})
def preview_rule(request: HttpRequest, wanted: RuleIn) -> PreviewOut:
    """Tell how often the rule would have fired within the last 24 h; nothing is saved."""
    rule = Rule(name="preview", **wanted.dict())
    rulebook.check(rule)
    found = rulebook.preview(rule)
    firings = [FiringOut(key=key, at=at) for key, at in found.firings]
    return PreviewOut(times=found.times, words=found.words, firings=firings)


@router.get("/rules/{name}", auth=reads, response={200: RuleOut, **REFUSALS})
def get_rule(request: HttpRequest, name: str) -> RuleOut:
    """Return one rule."""
    return _shape(rulebook.find(name))


@router.put("/rules/{name}", auth=writes, response={200: RuleOut, **REFUSALS})
def put_rule(request: HttpRequest, name: str, wanted: RuleIn) -> RuleOut:
    """Make the rule, or make it so."""
    rule = Rule.objects.filter(name=name).first() or Rule(name=name)
    for field, value in wanted.dict().items():
        setattr(rule, field, value)
    return _shape(rulebook.save(rule))


@router.delete("/rules/{name}", auth=writes, response={204: None, **REFUSALS})
def delete_rule(request: HttpRequest, name: str) -> Status[None]:
    """Delete the rule; its open alerts end by themselves."""
    rulebook.delete(name)
    return Status(204, None)


def _shape(row: Rule) -> RuleOut:
    return RuleOut(**{name: getattr(row, name) for name in RuleOut.model_fields})

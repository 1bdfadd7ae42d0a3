"""Tables of routing: who can do what (registry), by which rules (rules), and what happened (ledger, bus)."""

from routing.models.bus import CeleryState, ChordPart, Controller, FleetMemory
from routing.models.ledger import (
    TERMINAL,
    Artifact,
    Attempt,
    AttemptState,
    Command,
    Decision,
    Feedback,
    Task,
    TaskEvent,
    TaskMessage,
    TaskState,
)
from routing.models.names import DEFAULT_TENANT, NAME_PATTERN, NAME_RULE, new_id, valid_name
from routing.models.push import PushConfig
from routing.models.registry import Agent, ApiKey, Revision, Scope, Skill, Tenant
from routing.models.rules import Budget, Containment, Limit, Policy, Rule

__all__ = [
    "DEFAULT_TENANT",
    "NAME_PATTERN",
    "NAME_RULE",
    "TERMINAL",
    "Agent",
    "ApiKey",
    "Artifact",
    "Attempt",
    "AttemptState",
    "Budget",
    "CeleryState",
    "ChordPart",
    "Command",
    "Containment",
    "Controller",
    "Decision",
    "Feedback",
    "FleetMemory",
    "Limit",
    "Policy",
    "PushConfig",
    "Revision",
    "Rule",
    "Scope",
    "Skill",
    "Task",
    "TaskEvent",
    "TaskMessage",
    "TaskState",
    "Tenant",
    "new_id",
    "valid_name",
]

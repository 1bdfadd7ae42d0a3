"""Submit tasks to A2A Mission Control, follow them, and work for it."""

from a2a_client.asynchronous import AsyncClient
from a2a_client.calls import Options, Page, TaskRequest
from a2a_client.client import Client
from a2a_client.errors import (
    BadRequest,
    Conflict,
    MissionControlError,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    NotOurs,
    Problem,
    ServerTrouble,
    TaskFailed,
    TaskTimeout,
    TooMany,
    Unreachable,
)
from a2a_client.models import Agent, Artifact, Attempt, Event, Run, Skill, Step, Task, Workflow
from a2a_client.retrying import Retrying
from a2a_client.serving import serve, serve_async
from a2a_client.working import Canceled, Context, Handler, HandlerError, handler

__all__ = [
    "Agent", "Artifact", "AsyncClient", "Attempt", "BadRequest", "Canceled", "Client", "Conflict", "Context", "Event",
    "Handler", "HandlerError", "MissionControlError",
    "NotAllowed", "NotAuthenticated", "NotFound", "NotOurs", "Options", "Page", "Problem", "Retrying", "Run",
    "ServerTrouble", "Skill", "Step", "Task", "TaskFailed", "TaskRequest", "TaskTimeout", "TooMany", "Unreachable",
    "Workflow", "handler", "serve", "serve_async",
]  # fmt: skip

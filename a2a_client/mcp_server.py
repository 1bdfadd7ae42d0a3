"""Mission Control as tools of an assistant: a Model Context Protocol server on standard input and output.

What the key may do is what the tools may do: with the scopes tasks:read and agents:read they only look. The server's
refusals are passed on in its own words.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from mcp.server.fastmcp import Context, FastMCP
from mcp.server.fastmcp.exceptions import ToolError
from mcp.types import ToolAnnotations
from pydantic import BaseModel

from a2a_client import errors, following
from a2a_client.asynchronous import AsyncClient
from a2a_client.calls import BASE, Call

ABOUT = """A2A Mission Control gives tasks to a fleet of agents. A task asks for a skill (list_skills) with a JSON
input; submit_task answers with its id, wait_task with its output.
explain_task says why a task went where, or why it waits."""
READS = ToolAnnotations(readOnlyHint=True, openWorldHint=False)
WRITES = ToolAnnotations(readOnlyHint=False, destructiveHint=False, openWorldHint=False)
CANCELS = ToolAnnotations(readOnlyHint=False, destructiveHint=True, idempotentHint=True, openWorldHint=False)
MOST_WAIT_S = 600.0
Session = Context[Any, Any, Any]


class Tools:
    """The tools. Each is one call or a few."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def list_skills(self) -> list[dict[str, Any]]:
        """List what can be asked for: skills with the JSON Schemas of their input and output, and who has them."""
        return [_told(each) for each in await _asked(self._client.skills())]

    async def list_agents(self) -> list[dict[str, Any]]:
        """List the agents with their skills, and whether they are enabled or draining."""
        return [_told(each) for each in await _asked(self._client.agents())]

    async def list_tasks(
        self, state: str | None = None, skill: str | None = None, agent: str | None = None, limit: int = 20
    ) -> list[dict[str, Any]]:
        """List tasks, newest first, without input and output. States: submitted, working, completed, failed, canceled,
        rejected."""
        filters = {"state": state, "skill": skill, "agent": agent, "limit": limit}
        given: Any = {name: value for name, value in filters.items() if value is not None}
        return [_told(each) for each in (await _asked(self._client.tasks(**given))).items]

    async def explain_task(self, task: str) -> dict[str, Any]:
        """Tell all about a task: input, output, attempts, events, and why each attempt went to its agent."""
        found, why = await _asked(self._client.task(task)), await _asked(self._client.decision(task))
        return {**_told(found), "decisions": [_told(each) for each in why]}

    async def list_workflows(self) -> list[dict[str, Any]]:
        """List the workflows that can be started."""
        return [_told(each) for each in await _asked(self._client.workflows())]

    async def list_runs(self, state: str | None = None, workflow: str | None = None) -> list[dict[str, Any]]:
        """List runs of workflows, newest first, without their steps."""
        filters: Any = {name: value for name, value in (("state", state), ("workflow", workflow)) if value is not None}
        return [_told(each) for each in (await _asked(self._client.runs(**filters))).items]

    async def explain_run(self, run: str) -> dict[str, Any]:
        """Tell all about a run: its steps, their outputs and errors."""
        return _told(await _asked(self._client.run(run)))

    async def list_alerts(self, state: str | None = None) -> list[dict[str, Any]]:
        """List alerts: what is wrong now, and what was."""
        params = {} if state is None else {"state": state}
        call: Call[Any] = Call(method="GET", path=f"{BASE}/alerts", read=lambda answer: answer["alerts"], params=params)
        return list(await _asked(self._client.send(call)))

    async def submit_task(
        self, skill: str, input: Any = None, priority: int = 5, agent: str | None = None, idempotency_key: str = ""
    ) -> dict[str, Any]:
        """Submit a task and return it at once with its id; the same idempotency_key never makes a second one."""
        options: Any = {"priority": priority, **({} if agent is None else {"agent": agent})}
        made = self._client.submit(skill, input, idempotency_key=idempotency_key, **options)
        return _told(await _asked(made))

    async def start_run(self, workflow: str, input: Any = None, idempotency_key: str = "") -> dict[str, Any]:
        """Start a run of a workflow and return it at once with its id."""
        return _told(await _asked(self._client.start(workflow, input, idempotency_key=idempotency_key)))

    async def wait_task(self, task: str, session: Session, timeout_s: float = 60.0) -> dict[str, Any]:
        """Wait until a task has ended, telling its progress meanwhile, and return it. After timeout_s (600 at most)
        it is returned as it is, and goes on."""
        try:
            found = await _asked(self._client.task(task))
            last = following.before_the_end(found.events)
            if not found.has_ended:
                async for event in self._client.events(task, after=last, timeout_s=min(timeout_s, MOST_WAIT_S)):
                    if event.kind == "progress":
                        share = event.data.get("fraction")
                        await session.report_progress(share or 0.0, 1.0, str(event.data.get("message") or ""))
        except errors.TaskTimeout:
            pass
        except errors.MissionControlError as error:
            raise ToolError(str(error)) from None
        return _told(await _asked(self._client.task(task)))

    async def cancel_task(self, task: str, confirm: bool = False, reason: str = "") -> dict[str, Any]:
        """Cancel a task. Without confirm it only shows what would be canceled: ask the person, then call again with
        confirm true."""
        if not confirm:
            found = await _asked(self._client.task(task))
            return {"canceled": False, "confirm": "Call again with confirm=true to cancel it.", "task": _told(found)}
        return {"canceled": True, "task": _told(await _asked(self._client.cancel(task, reason=reason)))}


def server(url: str | None, key: str | None) -> FastMCP[Any]:
    """Return the server for a Mission Control; ``A2A_URL`` and ``A2A_KEY`` are used for what is None."""
    client = AsyncClient(url, key)

    @asynccontextmanager
    async def life(_: FastMCP[Any]) -> AsyncIterator[None]:
        async with client:
            yield

    made: FastMCP[Any] = FastMCP("a2a-mission-control", instructions=ABOUT, lifespan=life, log_level="WARNING")
    tools = Tools(client)
    reading: tuple[Callable[..., Any], ...] = (
        tools.list_skills, tools.list_agents, tools.list_tasks, tools.explain_task, tools.wait_task,
        tools.list_workflows, tools.list_runs, tools.explain_run, tools.list_alerts,
    )  # fmt: skip
    for tool in reading:
        made.tool(annotations=READS)(tool)
    for tool in (tools.submit_task, tools.start_run):
        made.tool(annotations=WRITES)(tool)
    made.tool(annotations=CANCELS)(tools.cancel_task)
    return made


async def _asked(answer: Awaitable[Any]) -> Any:
    """Return the answer. Raises ``ToolError`` in the server's words."""
    try:
        return await answer
    except errors.MissionControlError as error:
        raise ToolError(str(error)) from None


def _told(value: BaseModel) -> dict[str, Any]:
    return value.model_dump(mode="json", exclude_defaults=True)

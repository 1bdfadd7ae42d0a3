"""An agent on the SDK's own server, as its documentation has it: `python -m tests.bench.sdk_agent PORT`."""

from __future__ import annotations

import sys

import uvicorn
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types import a2a_pb2 as pb
from starlette.applications import Starlette


class Done(AgentExecutor):
    """Completes at once."""

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        """Complete."""
        assert context.message is not None
        task = pb.Task(id=context.task_id, context_id=context.context_id, history=[context.message])
        task.status.state = pb.TASK_STATE_SUBMITTED
        await event_queue.enqueue_event(task)
        updater = TaskUpdater(event_queue, task.id, task.context_id)
        await updater.start_work()
        await updater.add_artifact([pb.Part(text="Done.")])
        await updater.complete()

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        """There is nothing to cancel."""


def main() -> None:
    """Serve."""
    port = int(sys.argv[1])
    card = pb.AgentCard(
        name="done", description="Completes.", version="1", default_input_modes=["text/plain"],
        default_output_modes=["text/plain"], capabilities=pb.AgentCapabilities(streaming=True),
    )  # fmt: skip
    card.skills.add(id="done", name="done", description="Completes.", tags=["done"])
    card.supported_interfaces.add(url=f"http://127.0.0.1:{port}/", protocol_binding="JSONRPC", protocol_version="1.0")
    handler = DefaultRequestHandler(agent_executor=Done(), task_store=InMemoryTaskStore(), agent_card=card)
    routes = [*create_agent_card_routes(card), *create_jsonrpc_routes(handler, "/")]
    uvicorn.run(Starlette(routes=routes), host="127.0.0.1", port=port, log_level="error")


if __name__ == "__main__":
    main()

"""A2A over gRPC: the same handler, in a process of its own (``manage.py a2a_grpc``)."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from contextvars import ContextVar
from typing import Any

import grpc
from a2a.compat.v0_3 import a2a_v0_3_pb2_grpc
from a2a.compat.v0_3.grpc_handler import CompatGrpcHandler
from a2a.server.context import ServerCallContext
from a2a.server.request_handlers.grpc_handler import GrpcHandler, GrpcServerCallContextBuilder
from a2a.types import a2a_pb2_grpc
from django.conf import settings

from routing.a2a import guard
from routing.a2a.handler import Handler
from routing.a2a.reading import Viewer

GRACE_S = 5.0
_VIEWER: ContextVar[Viewer] = ContextVar("a2a_viewer")


class Contexts(GrpcServerCallContextBuilder):
    """Builds what the handler gets of a call."""

    def build(self, context: Any) -> ServerCallContext:
        """Return the caller, as the interceptor has found, and the metadata."""
        told = {name: value for name, value in context.invocation_metadata() or () if isinstance(value, str)}
        asked = {each.strip() for each in told.get(guard.EXTENSIONS, "").split(",") if each.strip()}
        return ServerCallContext(state={"viewer": _VIEWER.get(), "headers": told}, requested_extensions=asked)


class KeyCheck(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Lets calls with a key pass."""

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        """Return the method, or what refuses the call."""
        told = {name: value for name, value in details.invocation_metadata or () if isinstance(value, str)}
        viewer = await guard.viewer_of(told.get("authorization", ""), base=settings.A2A_URL)
        if viewer is None:
            return grpc.unary_unary_rpc_method_handler(_refuse)
        _VIEWER.set(viewer)
        return await continuation(details)


async def _refuse(request: Any, context: Any) -> Any:
    await context.abort(
        grpc.StatusCode.UNAUTHENTICATED, "Send an API key in the metadata: authorization: Bearer a2a_…."
    )


async def serve(host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT. Raises ``OSError`` where the port is taken."""
    server = grpc.aio.server(interceptors=[KeyCheck()], options=[("grpc.so_reuseport", 0)])
    handler, contexts = Handler(), Contexts()
    current: Any = a2a_pb2_grpc  # generated, and not typed
    old: Any = a2a_v0_3_pb2_grpc
    current.add_A2AServiceServicer_to_server(GrpcHandler(handler, contexts), server)
    old.add_A2AServiceServicer_to_server(CompatGrpcHandler(handler, contexts), server)
    try:
        server.add_insecure_port(f"{host}:{port}")
    except RuntimeError as error:
        raise OSError(f"Port {port} on {host} cannot be used: {error}") from None
    await server.start()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError):
            asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    print(f"gRPC on {host}:{port} is ready.", flush=True)
    await stopping.wait()
    await server.stop(GRACE_S)

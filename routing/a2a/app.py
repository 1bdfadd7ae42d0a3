"""The ASGI application of A2A, beside Django: cards, JSON-RPC and HTTP+JSON, for the fleet and for each agent."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from email.utils import format_datetime
from typing import Any

from a2a.server.request_handlers.response_helpers import agent_card_to_dict
from a2a.server.routes import create_jsonrpc_routes, create_rest_routes
from a2a.utils.constants import AGENT_CARD_WELL_KNOWN_PATH as CARD
from sse_starlette.sse import EventSourceResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from routing import registry
from routing.a2a import cards, conformance
from routing.a2a.database import ask
from routing.a2a.guard import Contexts, Guard, base_of
from routing.a2a.handler import Handler
from routing.models import DEFAULT_TENANT

COMMENT_S = 3  # clients give up after 5 seconds of silence
CARD_FRESH = "public, max-age=60"

EventSourceResponse.DEFAULT_PING_INTERVAL = COMMENT_S


def serves(path: str) -> bool:
    """Return whether a path is A2A's."""
    return path == CARD or path == cards.ROOT or path.startswith(cards.ROOT + "/")


def application() -> ASGIApp:
    """Return the application. Raises ``conformance.NotOnLoopback``."""
    conformance.is_on()
    paths = (CARD, cards.ROOT + CARD, cards.ROOT + "/{agent}" + CARD)
    shown: ASGIApp = Starlette(routes=[Route(path, card) for path in paths])
    spoken: ASGIApp = Guard(_protocol())

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].endswith(CARD):
            await shown(scope, receive, send)
        else:  # a mount of Starlette's would send the client on, from the path without a slash to that with one
            await spoken({**scope, "path": scope["path"].removeprefix(cards.ROOT) or "/"}, receive, send)

    return serve


def _protocol() -> ASGIApp:
    handler, contexts = Handler(), Contexts()
    rest = create_rest_routes(handler, contexts, enable_v0_3_compat=True)
    routes = [*_rpc(handler, contexts, "/"), *_rpc(handler, contexts, "/{agent}/"), *rest]
    return Starlette(routes=[*routes, *_rpc(handler, contexts, "/{agent}")])  # last: it would match /message:send


def _rpc(handler: Handler, contexts: Contexts, path: str) -> Sequence[BaseRoute]:
    return create_jsonrpc_routes(handler, path, contexts, enable_v0_3_compat=True)


async def card(request: Request) -> Response:
    """Answer with the card of the fleet, or of the agent in the path; 304 where the client has it."""
    offered = await ask(cards.offer, await _tenant(request), request.path_params.get("agent", ""))
    if offered is None:
        return JSONResponse({"detail": "There is no such agent."}, status_code=404)
    made = await ask(cards.card, offered, base_of(request))
    told: dict[str, Any] = agent_card_to_dict(made)
    tag = f'"{hashlib.sha256(made.SerializeToString(deterministic=True)).hexdigest()[:32]}"'
    headers = {
        "ETag": tag,
        "Cache-Control": CARD_FRESH,
        "Last-Modified": format_datetime(offered.changed_at.replace(microsecond=0), usegmt=True),
        "Vary": "Authorization",
    }
    if tag in [each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")]:
        return Response(status_code=304, headers=headers)
    signed = cards.signed(made)
    if signed.signatures:
        told["signatures"] = agent_card_to_dict(signed)["signatures"]
    return JSONResponse(told, headers=headers)


async def _tenant(request: Request) -> str:
    """Return whose card is asked for: that of the key's tenant, without one the default's."""
    scheme, _, plaintext = request.headers.get("authorization", "").partition(" ")
    key = await ask(registry.authenticate, plaintext.strip()) if scheme.lower() == "bearer" else None
    return str(key.tenant_id) if key is not None else DEFAULT_TENANT

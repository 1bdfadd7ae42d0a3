"""Who may in, and with what: ASGI middleware before the SDK's routes, where Django's does not run.

It finds the caller by the key, refuses bodies that are too large, too deep or no JSON, other media types and versions
of the protocol, and says so in the words of the binding (JSON-RPC or HTTP+JSON) that was spoken.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import replace
from typing import Any, cast
from uuid import uuid4

from a2a.server.context import ServerCallContext
from a2a.server.jsonrpc_models import JSONParseError, JSONRPCError
from a2a.server.request_handlers.response_helpers import build_error_response
from a2a.server.routes.common import ServerCallContextBuilder
from a2a.utils.error_handlers import build_rest_error_payload
from a2a.utils.errors import (
    A2AError,
    ContentTypeNotSupportedError,
    InvalidRequestError,
    VersionNotSupportedError,
)
from django.conf import settings
from starlette.requests import Request
from starlette.responses import JSONResponse

from routing import errors, payloads, registry
from routing.a2a import cards, conformance, wire
from routing.a2a.database import ask
from routing.a2a.reading import Viewer
from routing.models import DEFAULT_TENANT, Scope

App = Callable[[MutableMapping[str, Any], Any, Any], Awaitable[None]]

ENVELOPE_BYTES = 65_536  # of a request around what becomes the input
MAX_DEPTH = payloads.MAX_DEPTH + 8
MEDIA_TYPES = ("application/json", "application/a2a+json")
VERSIONS = (cards.VERSION, cards.OLD_VERSION)
VERSION, EXTENSIONS = "a2a-version", "a2a-extensions"
EVERYTHING = frozenset({Scope.TASKS_READ.value, Scope.TASKS_WRITE.value})


class Refused(Exception):
    """A request that goes no further."""

    def __init__(self, status: int, error: A2AError | JSONRPCError, headers: dict[str, str] | None = None) -> None:
        super().__init__(str(error))
        self.status, self.error, self.headers = status, error, headers or {}


class Guard:
    """Lets through what may pass, with the caller in the scope's state."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        """Answer, or hand on."""
        request = Request(scope, receive)
        number = uuid4().hex[:12]
        body: Any = None
        try:
            headers = _with_version(scope, request)
            viewer = await _viewer(request)
            if request.method == "POST":
                data = await _body(request)
                body = _checked(data, is_rest=_is_rest(scope))
                receive = _again(data, receive)
        except Refused as refused:
            identity = body.get("id") if isinstance(body, dict) else None
            response = _refusal(refused, is_rest=_is_rest(scope), identity=identity)
            response.headers["X-Request-Id"] = number
            await response(scope, receive, send)
            return
        inner = {**scope, "headers": headers, "a2a.viewer": viewer}
        await self._app(inner, receive, _telling(send, request, number))


class Contexts(ServerCallContextBuilder):
    """Builds what the handler gets of a request."""

    def build(self, request: Request) -> ServerCallContext:
        """Return the caller and the headers."""
        viewer: Viewer = request.scope["a2a.viewer"]
        if (agent := request.path_params.get("agent")) is not None:
            viewer = replace(viewer, agent=agent)
        state = {"viewer": viewer, "headers": dict(request.headers)}
        asked = {each.strip() for each in request.headers.get(EXTENSIONS, "").split(",") if each.strip()}
        return ServerCallContext(state=state, requested_extensions=asked)


def base_of(request: Request) -> str:
    """Return the site's address as others reach it."""
    return settings.A2A_URL or f"{request.url.scheme}://{request.url.netloc}"


def _with_version(scope: MutableMapping[str, Any], request: Request) -> list[tuple[bytes, bytes]]:
    """Return the headers with the version that was asked for, which may stand in the query. Raises ``Refused``."""
    asked = request.headers.get(VERSION) or request.query_params.get("A2A-Version") or ""
    if asked and asked not in VERSIONS:
        error = VersionNotSupportedError(f"Version {asked[:20]!r} is not spoken here, but {' and '.join(VERSIONS)}.")
        raise Refused(200, error)
    others = [(name, value) for name, value in scope["headers"] if name != VERSION.encode()]
    return [*others, (VERSION.encode(), asked.encode())] if asked else others


async def viewer_of(authorization: str, *, base: str) -> Viewer | None:
    """Return who calls with this header, None for a key that is none."""
    if conformance.is_on():
        return Viewer(tenant=DEFAULT_TENANT, owner="anyone", base=base, scopes=EVERYTHING)
    scheme, _, plaintext = authorization.partition(" ")
    key = await ask(registry.authenticate, plaintext.strip()) if scheme.lower() == "bearer" else None
    if key is None:
        return None
    return Viewer(tenant=str(key.tenant_id), owner=f"key {key.name}", base=base, scopes=frozenset(key.scopes))


async def _viewer(request: Request) -> Viewer:
    """Return who calls. Raises ``Refused`` with 401."""
    viewer = await viewer_of(request.headers.get("authorization", ""), base=base_of(request))
    if viewer is None:
        told = InvalidRequestError("Send an API key: Authorization: Bearer a2a_….")
        raise Refused(401, told, {"WWW-Authenticate": 'Bearer realm="A2A Mission Control"'})
    return viewer


async def _body(request: Request) -> bytes:
    """Return the body. Raises ``Refused`` for another media type, or one that is too large."""
    limit = settings.A2A_MAX_INPUT_BYTES + ENVELOPE_BYTES
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise Refused(413, InvalidRequestError(f"The body has more than {limit:,} bytes."))
        parts.append(part)
    if size and media_type not in MEDIA_TYPES:
        found = media_type or "of no stated type"
        raise Refused(415, ContentTypeNotSupportedError(f"The body is {found[:80]}; send {MEDIA_TYPES[0]}."))
    return b"".join(parts)


def _checked(data: bytes, *, is_rest: bool) -> Any:
    """Return the body's value. Raises ``Refused`` for what is no JSON, or is too deep."""
    if not data and is_rest:
        return None
    try:
        return payloads.loads(data, max_bytes=len(data) + 1, max_depth=MAX_DEPTH)
    except errors.RoutingError as error:
        words = str(error)
        raise Refused(200, InvalidRequestError(words) if is_rest else JSONParseError(message=words)) from None


def _again(data: bytes, receive: Any) -> Any:
    """Return what gives the body once more, and then whatever comes: that the client went away."""
    left = [{"type": "http.request", "body": data, "more_body": False}]

    async def next_message() -> Any:
        return left.pop() if left else await receive()

    return next_message


def _is_rest(scope: MutableMapping[str, Any]) -> bool:
    """Return whether the address is one of HTTP+JSON: those have more than the root and an agent's name."""
    path = scope["path"].strip("/")
    return ":" in path or "/" in path or path in ("tasks", "extendedAgentCard")


def _refusal(refused: Refused, *, is_rest: bool, identity: Any) -> JSONResponse:
    if not is_rest:
        known = identity if isinstance(identity, str | int) and not isinstance(identity, bool) else None
        told: Any = build_error_response(known, refused.error)
        return JSONResponse(told, status_code=refused.status, headers=refused.headers)
    told = build_rest_error_payload(cast("A2AError", refused.error))
    status = told["error"]["code"] if refused.status == 200 else refused.status
    return JSONResponse(told, status_code=status, headers=refused.headers)


def _telling(send: Any, request: Request, number: str) -> Any:
    """Return a ``send`` that adds the request's number, and which extension is in force."""
    asked = {each.strip() for each in request.headers.get(EXTENSIONS, "").split(",")}

    async def tell(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            headers = [*message.get("headers", ()), (b"x-request-id", number.encode())]
            if wire.EXTENSION in asked:
                headers.append((EXTENSIONS.encode(), wire.EXTENSION.encode()))
            message = {**message, "headers": headers}
        await send(message)

    return tell

"""The ASGI application: static files, A2A, Django's pages, and WebSockets."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "a2a_site.settings")

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.conf import settings
from django.core.asgi import get_asgi_application
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response
from starlette.staticfiles import StaticFiles

django = get_asgi_application()  # sets Django up: what follows imports models

from a2a_site import flower_proxy  # noqa: E402
from monitoring.urls import websocket_urlpatterns  # noqa: E402
from routing.a2a import app as a2a  # noqa: E402

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
STATIC = settings.STATIC_URL.rstrip("/")  # "/static"


class Static(StaticFiles):
    """Files of STATIC_ROOT. A browser asks each time whether they have changed, so an update is seen at once."""

    async def get_response(self, path: str, scope: Any) -> Response:
        """Return the file, or say that there is none."""
        try:
            return await super().get_response(path, scope)
        except HTTPException as refused:  # nobody above us would answer it
            return PlainTextResponse(refused.detail, status_code=refused.status_code)

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """Return the file, or 304."""
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "no-cache"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response


protocol: Any = a2a.application()
static = Static(directory=settings.STATIC_ROOT, check_dir=False)
routed: Any = ProtocolTypeRouter(
    {
        "http": django,
        "websocket": AllowedHostsOriginValidator(AuthMiddlewareStack(URLRouter(websocket_urlpatterns))),
    }
)


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Hand static files and A2A to Starlette, everything else to Django or Channels."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "http" and scope["path"].startswith(STATIC + "/"):
        await static({**scope, "root_path": STATIC}, receive, send)
    elif scope["type"] == "http" and a2a.serves(scope["path"]):
        await protocol(scope, receive, send)
    else:
        await routed(scope, receive, send)


async def lifespan(receive: Receive, send: Send) -> None:
    """Answer the server's start and stop; close what is open at the stop."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.shutdown":
            await flower_proxy.close()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return

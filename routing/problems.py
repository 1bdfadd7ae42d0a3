"""Every error of the API as RFC 9457 ``application/problem+json``, with a stable type and a request id."""

from __future__ import annotations

import logging
import math
import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import pydantic
import redis
from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.http.request import UnreadablePostError
from django.urls import URLPattern, URLResolver
from ninja import NinjaAPI
from ninja.errors import HttpError, ValidationError
from pydantic_core import ErrorDetails

from routing import errors, payloads

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
REQUEST_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
MAX_ERRORS = 20  # told at once
MAX_CHARS = 500  # of one message

Handler = Callable[[HttpRequest, Any], HttpResponse]


def install(api: NinjaAPI) -> None:
    """Let every error of the API end as a problem."""
    handlers: dict[type[Exception], Handler] = {
        errors.RoutingError: of_routing,
        ValidationError: of_validation,
        HttpError: of_ninja,
        RequestDataTooBig: of_flood,
        UnreadablePostError: lambda request, error: of_routing(request, errors.Malformed(why="it ended early.")),
        OperationalError: of_database,
        InterfaceError: of_database,
        redis.RedisError: of_bus,
        Exception: of_surprise,
    }
    for kind, handler in handlers.items():
        api.add_exception_handler(kind, handler)


def cover(patterns: Iterable[URLPattern | URLResolver]) -> list[URLPattern | URLResolver]:
    """Return the patterns; where a method is not allowed, their views answer with a problem."""
    covered = list(patterns)
    for pattern in covered:
        if isinstance(pattern, URLPattern):
            pattern.callback = _covered(pattern.callback)
    return covered


def not_found(request: HttpRequest, path: str = "") -> HttpResponse:
    """Return 404 for any address below the API that nothing else knows."""
    return of_routing(request, errors.NoSuchPlace(path=request.path))


not_found.csrf_exempt = True  # type: ignore[attr-defined]  # there is nothing to protect


def request_id(request: HttpRequest) -> str:
    """Return the caller's own id of this request (``X-Request-Id``) if it is harmless, else a new one."""
    known = getattr(request, "a2a_request_id", None)
    if known is None:
        given = request.headers.get("X-Request-Id", "")
        known = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        request.a2a_request_id = known  # type: ignore[attr-defined]
    return str(known)


def document(error: errors.RoutingError) -> dict[str, Any]:
    """Return what a problem says of the error itself, without the request it came from."""
    told: dict[str, Any] = {
        "type": f"/problems/{error.kind}",
        "title": re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(error).__name__).capitalize(),
        "status": error.status,
        "detail": _short(str(error)),
    }
    if error.pointer:
        told["pointer"] = error.pointer
    return told | {name: error.fields[name] for name in error.tells}


def of_validation_errors(found: Iterable[Mapping[str, Any] | ErrorDetails]) -> dict[str, Any]:
    """Return the document for pydantic's errors; each names the place as a JSON Pointer."""
    listed = [{"pointer": payloads.join(error["loc"]), "detail": _short(_words(error))} for error in found]
    listed = listed[:MAX_ERRORS]
    why = " ".join(f"{error['pointer'] or 'The body'}: {error['detail']}." for error in listed)
    return {**document(errors.BadInput(why=why, pointer=listed[0]["pointer"])), "errors": listed}


def of_pydantic(error: pydantic.ValidationError) -> dict[str, Any]:
    """Return the document for one item of a batch that does not fit."""
    return of_validation_errors(error.errors(include_url=False, include_input=False, include_context=False))


def respond(request: HttpRequest, told: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> HttpResponse:
    """Return the problem as a response."""
    known = request_id(request)
    body = {**told, "instance": request.path, "request_id": known}
    sent = {**(headers or {}), "X-Request-Id": known, "Cache-Control": "no-store"}
    return JsonResponse(body, status=told["status"], content_type=MEDIA_TYPE, headers=sent)


def of_routing(request: HttpRequest, error: errors.RoutingError) -> HttpResponse:
    """Return the response for one of our own errors."""
    headers: dict[str, str] = {}
    if error.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="a2a"'
    elif isinstance(error, errors.MissingScope):
        headers["WWW-Authenticate"] = f'Bearer error="insufficient_scope", scope="{error.fields["scope"]}"'
    elif error.status in (429, 503):
        headers["Retry-After"] = str(math.ceil(error.fields.get("retry_after_s", 2)))
    elif isinstance(error, errors.MethodNotAllowed):
        headers["Allow"] = error.fields["allowed"]
    return respond(request, document(error), headers)


def of_validation(request: HttpRequest, error: ValidationError) -> HttpResponse:
    """Return the response for parameters or a body that do not fit. A body's pointers start at the body."""
    found = []
    for each in error.errors:
        source, *place = each["loc"]
        found.append({**each, "loc": place[1:] if source == "body" else place})
    told = of_validation_errors(found)
    if error.errors[0]["loc"][0] != "body":
        told["parameter"] = told.pop("pointer", "").removeprefix("/")
    return respond(request, told)


def of_ninja(request: HttpRequest, error: HttpError) -> HttpResponse:
    """Return the response for what ninja raises; it wraps whatever the body's parser raised."""
    if isinstance(error.__cause__, errors.RoutingError):
        return of_routing(request, error.__cause__)
    if error.status_code == 401:
        return of_routing(request, errors.NotAuthenticated())
    if error.__cause__ is not None:
        return of_surprise(request, error.__cause__)
    told = {"type": "about:blank", "title": "Refused", "status": error.status_code, "detail": _short(str(error))}
    return respond(request, told)


def of_flood(request: HttpRequest, error: RequestDataTooBig) -> HttpResponse:
    """Return 413 for a body that Django has not even read."""
    limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    return of_routing(request, errors.TooLarge(size=f"more than {limit}", limit=limit))


def of_database(request: HttpRequest, error: Exception) -> HttpResponse:
    """Return 503: the database is locked or away, which passes."""
    log.warning("%s %s: the database: %s (request %s)", request.method, request.path, error, request_id(request))
    return of_routing(request, errors.Unavailable())


def of_bus(request: HttpRequest, error: Exception) -> HttpResponse:
    """Return 503: Redis is away, which passes."""
    log.warning("%s %s: Redis: %s (request %s)", request.method, request.path, error, request_id(request))
    return of_routing(request, errors.BusAway())


def of_surprise(request: HttpRequest, error: BaseException) -> HttpResponse:
    """Return 500 without a word of what is inside; the log has it under the request's id."""
    known = request_id(request)
    log.error("%s %s failed (request %s)", request.method, request.path, known, exc_info=error)
    detail = f"Something went wrong on our side. The log has it under request id {known}."
    return respond(request, {"type": "/problems/internal", "title": "Internal error", "status": 500, "detail": detail})


def _covered(view: Callable[..., Any]) -> Callable[..., Any]:
    """Return the view with a problem in place of its bare 405."""

    async def later(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        return _worded(request, await view(request, *args, **kwargs))

    def now(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        return _worded(request, view(request, *args, **kwargs))

    covered: Any = later if iscoroutinefunction(view) else now
    covered.csrf_exempt = True  # routing.access checks the token where a session is used
    return cast(Callable[..., Any], covered)


def _worded(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    if response.status_code != 405:
        return response
    return of_routing(request, errors.MethodNotAllowed(method=request.method, allowed=response.headers["Allow"]))


def _words(error: Mapping[str, Any] | ErrorDetails) -> str:
    if error["type"] == "extra_forbidden":
        return "there is no such field"
    return str(error["msg"]).removeprefix("Value error, ")


def _short(text: str) -> str:
    return text if len(text) <= MAX_CHARS else text[:MAX_CHARS] + " …"

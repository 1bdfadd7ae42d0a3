"""Flower behind our login: reading only.

Flower listens on loopback with a password that only this proxy knows. Whoever may see it (``routing.view_flower``) sees
its pages; whatever changes something there is a POST to ``/api/…``, and none of those gets through. Our own audited API
is the place to act.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from http.cookiejar import CookieJar, DefaultCookiePolicy
from urllib.parse import quote, urlsplit
from weakref import WeakKeyDictionary

import httpx
from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import render
from django.views.decorators.csrf import csrf_exempt

PERMISSION = "routing.view_flower"
DATATABLE = "tasks/datatable"
# Asked by pages for reading. Everything else under api/, metrics, log-in and log-out stays inside.
READABLE_APIS = frozenset({"api/workers", "api/tasks", "api/task/types", "api/queues/length"})
READABLE_PREFIXES = ("api/task/info/",)
HIDDEN = ("api", "metrics", "login", "logout", "healthcheck")
SENT_ON = ("accept", "accept-language", "accept-encoding", "if-none-match", "if-modified-since", "range")
SENT_BACK = (
    "content-type", "content-encoding", "content-length", "content-range", "accept-ranges", "cache-control", "etag",
    "last-modified", "vary",
)  # fmt: skip
# Flower's pages and its libraries (DataTables, Bootstrap) write style attributes. One script of theirs is inline, in
# the list of workers ("var autorefresh = 1"): it is allowed by its hash alone, because its pages share our origin.
INLINE_SCRIPT = "sha256-A0YIP5A+DKoseGAUTHRoMPDkKPK5cKzfYH3mjcCKtj8="
POLICY = (
    f"default-src 'none'; script-src 'self' '{INLINE_SCRIPT}'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self'; connect-src 'self'; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'self'"
)
KEPT_AS_IT_IS = "/@:!$&'()*+,;=~"  # in a path, RFC 3986
LONGEST_FORM = 64 * 1024  # bytes; the datatable's question has about 3,000

_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient] = WeakKeyDictionary()


@csrf_exempt  # the only POST that is answered reads, and is passed on as a GET
async def proxy(request: HttpRequest, path: str = "") -> HttpResponseBase:
    """Answer with Flower's page, or say why not."""
    user = await request.auser()
    if not user.is_authenticated:
        return redirect_to_login(request.get_full_path())
    if not await user.ahas_perm(PERMISSION):
        return await _sorry(request, 403, "You may not see Flower", "An administrator can give you the permission.")
    if not settings.A2A_FLOWER_URL:
        advice = "It was switched off (A2A_FLOWER=0) or could not be started. Set A2A_FLOWER=1 and start again."
        return await _sorry(request, 503, "Flower is not running", advice)
    query = _query(request, path)
    if query is None or not is_readable(path):
        return await _sorry(request, 403, "Flower is read-only here", "To act on tasks, use Mission Control's pages.")
    return await _fetch(request, path, query)


def is_readable(path: str) -> bool:
    """Return whether a path under /flower/ only reads and belongs to the pages."""
    if ".." in path.split("/") or "\\" in path:
        return False
    top = path.split("/")[0]
    return top not in HIDDEN or path in READABLE_APIS or path.startswith(READABLE_PREFIXES)


def _query(request: HttpRequest, path: str) -> str | None:
    """Return the query to pass on, None for a request that may not pass."""
    if request.method in {"GET", "HEAD"}:
        return str(request.META["QUERY_STRING"])
    if request.method == "POST" and path == DATATABLE:
        # DataTables asks by POST because the question is long; Flower answers a GET just the same.
        length = int(request.META.get("CONTENT_LENGTH") or 0)
        return request.body.decode("latin-1") if 0 < length <= LONGEST_FORM else None
    return None


async def _fetch(request: HttpRequest, path: str, query: str) -> HttpResponseBase:
    headers = {name: value for name in SENT_ON if (value := request.headers.get(name))}
    try:
        outgoing = _client().build_request("GET", _address(path, query), headers=headers | _authorization())
        answer = await _client().send(outgoing, stream=True)
    except httpx.InvalidURL:
        return await _sorry(request, 400, "That is no address of Flower", "Go back and follow a link.")
    except httpx.HTTPError:
        advice = "It is starting, or has stopped: “python3 manage.py status” says which. Try again in a few seconds."
        return await _sorry(request, 502, "Flower does not answer", advice)
    response = StreamingHttpResponse(_body(answer), status=answer.status_code)
    for name in SENT_BACK:
        if name in answer.headers:
            response[name] = answer.headers[name]
    if location := answer.headers.get("location"):
        response["Location"] = _inside(location)
    response["Content-Security-Policy"] = POLICY
    return response


async def _body(answer: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for chunk in answer.aiter_raw():
            yield chunk
    finally:
        await answer.aclose()


def _address(path: str, query: str) -> httpx.URL:
    """Return the address at Flower, without user and password."""
    base = httpx.URL(settings.A2A_FLOWER_URL)
    whole = httpx.URL(f"{base.scheme}://{base.netloc.decode()}/flower/{quote(path, safe=KEPT_AS_IT_IS)}")
    return whole.copy_with(query=query.encode()) if query else whole


def _authorization() -> dict[str, str]:
    base = urlsplit(settings.A2A_FLOWER_URL)
    credentials = base64.b64encode(f"{base.username or ''}:{base.password or ''}".encode()).decode()
    return {"Authorization": f"Basic {credentials}"}


def _inside(location: str) -> str:
    """Return a redirect's target as a path on this site under /flower/."""
    parts = urlsplit(location)
    path = parts.path if parts.path.startswith("/flower") else "/flower/"
    return f"{path}?{parts.query}" if parts.query else path


def _client() -> httpx.AsyncClient:
    loop = asyncio.get_running_loop()
    if loop not in _clients:
        _clients[loop] = httpx.AsyncClient(
            timeout=httpx.Timeout(10.0, connect=2.0),
            limits=httpx.Limits(max_connections=20, max_keepalive_connections=5),
            follow_redirects=False,
            trust_env=False,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # one for all users: it keeps none
        )
    return _clients[loop]


async def close() -> None:
    """Close the connections to Flower."""
    if client := _clients.pop(asyncio.get_running_loop(), None):
        await client.aclose()


async def _sorry(request: HttpRequest, status: int, title: str, advice: str) -> HttpResponse:
    # The page asks for the user and his permissions, which may need the database.
    page = sync_to_async(render)
    return await page(request, "flower_absent.html", {"title": title, "advice": advice}, status=status)

"""Calls to the addresses of agents that work elsewhere.

https only, no redirect is followed, no proxy asked, and a name that leads to a private, loopback, link-local or other
special address is refused. The address that was looked at is the one connected to, so a name cannot change in between.
``A2A_OUTBOUND_ALLOW`` names what is let through all the same, plain http too: hosts, addresses and networks, as in
``localhost, 10.1.0.0/16``.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from urllib.parse import urlsplit

import httpx

from routing.addresses import Address, parse, refusal
from routing.executors.contract import Unavailable


class Refused(Unavailable, kind="refused_address", retryable=False):
    """The address may not be called from here."""


def url_problems(url: object, name: str = "url") -> list[str]:
    """Return in words what is wrong with an address somebody named; where it leads is seen at the call."""
    if not isinstance(url, str) or len(url) > 2000 or any(ord(sign) <= 32 for sign in url):
        return [f"{name} must be an address such as https://agent.example.com."]
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError as error:
        return [f"{name}: {error}."]
    if parts.scheme not in ("http", "https") or not host or port == 0:
        return [f"{name} must begin with https:// and name a host."]
    if parts.username is not None or parts.fragment:
        return [f"{name} must hold neither a user's name nor a fragment."]
    return []


def origin(url: str) -> tuple[str, str, int]:
    """Return (scheme, host, port), of which credentials are bound to all three. Raises ValueError for no address."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower().rstrip(".")
    return parts.scheme, host, parts.port or (443 if parts.scheme == "https" else 80)


def client(*, connect_s: float, answer_s: float, headers: dict[str, str] | None = None) -> httpx.AsyncClient:
    """Return a client for guarded calls. It raises ``Refused`` where an address must not be called."""
    return httpx.AsyncClient(
        transport=Guarded(),
        headers=headers,
        timeout=httpx.Timeout(answer_s, connect=connect_s),
        follow_redirects=False,
        trust_env=False,
    )


class Guarded(httpx.AsyncBaseTransport):
    """Looks where a name leads, and connects to exactly that."""

    def __init__(self) -> None:
        self._real = httpx.AsyncHTTPTransport(trust_env=False, limits=httpx.Limits(max_keepalive_connections=2))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request to an address that was looked at. Raises ``Refused``, and httpx's errors."""
        host = request.url.host
        address = await _resolve(request.url)
        pinned = request.url.copy_with(host=str(address))
        extensions = {**request.extensions, "sni_hostname": host}
        sent = httpx.Request(
            request.method, pinned, headers=request.headers, stream=request.stream, extensions=extensions
        )
        response = await self._real.handle_async_request(sent)
        if response.is_redirect:
            await response.aclose()
            raise Refused(
                f"{_shown(request.url)} answers with a redirect, which is not followed. Name the new address."
            )
        return response

    async def aclose(self) -> None:
        await self._real.aclose()


async def _resolve(url: httpx.URL) -> Address:
    """Return the first address of the URL's host, once all of them may be called."""
    port = url.port or (443 if url.scheme == "https" else 80)
    try:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(url.host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise httpx.ConnectError(f"{url.host} has no address: {error}") from error
    addresses = [parse(str(sockaddr[0])) for *_, sockaddr in found]
    if not addresses:
        raise httpx.ConnectError(f"{url.host} has no address")
    why = refusal(url.scheme, url.host, addresses, _allowed())
    if why:
        raise Refused(f"{_shown(url)} is not called: {why}. A2A_OUTBOUND_ALLOW can allow it.")
    return addresses[0]


def _allowed() -> Sequence[str]:
    return [each.strip().lower() for each in os.environ.get("A2A_OUTBOUND_ALLOW", "").split(",") if each.strip()]


def _shown(url: httpx.URL) -> str:
    return f"{url.scheme}://{url.netloc.decode('ascii', 'replace')}"

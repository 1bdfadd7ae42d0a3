"""Calls to addresses that others have named. Nothing else in here calls those."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from urllib.parse import SplitResult, urlsplit

import httpx
from django.conf import settings

from routing import addresses

TIMEOUT = httpx.Timeout(10.0, connect=5.0)
MAX_URL = 2_000


class Refused(Exception):
    """The address {url} is not called: {why}"""

    def __init__(self, url: str, why: str) -> None:
        super().__init__((type(self).__doc__ or "").format(url=url[:200], why=why))


def check(url: str) -> SplitResult:
    """Return the parts of an address that may be named. Raises ``Refused``. Names are not looked up yet."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise Refused(url, f"{error}.") from None
    if len(url) > MAX_URL or not parts.hostname or parts.username is not None or port == 0:
        raise Refused(url, "write it as https://example.com/path, without a password.")
    if parts.scheme != "https" and not (parts.scheme == "http" and (settings.DEBUG or _allowed())):
        raise Refused(url, "it has to begin with https://.")
    try:
        address = addresses.parse(parts.hostname)
    except ValueError:
        return parts  # a name
    if not addresses.is_public(address, _allowed()):
        raise Refused(url, "it is not a public one.")
    return parts


def post(url: str, body: bytes, headers: Mapping[str, str]) -> int:
    """Return the status that the address answers with; redirects are not followed.

    Raises ``Refused``, and ``httpx.HTTPError`` where nobody answers.
    """
    parts = check(url)
    host = parts.hostname or ""
    address = _resolved(url, host, parts.port or (443 if parts.scheme == "https" else 80))
    pinned = httpx.URL(url).copy_with(host=address)
    sent = {**headers, "Host": parts.netloc.rpartition("@")[2]}
    extensions = {"sni_hostname": host} if parts.scheme == "https" else {}
    with httpx.Client(timeout=TIMEOUT, follow_redirects=False, trust_env=False) as client:
        request = client.build_request("POST", pinned, content=body, headers=sent, extensions=extensions)
        answer = client.send(request, stream=True)  # what it says beyond its status is not read
        answer.close()
        return answer.status_code


def _resolved(url: str, host: str, port: int) -> str:
    """Return the address to connect to. Raises ``Refused`` unless all of the name's are public."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Refused(url, f"its name cannot be looked up ({error}).") from None
    known = [str(each[4][0]) for each in found]
    allowed = _allowed()
    if known and host.lower() in settings.A2A_OUTBOUND_ALLOW:
        return known[0].partition("%")[0]
    if not known or not all(addresses.is_public(addresses.parse(each), allowed) for each in known):
        raise Refused(url, "its name leads to an address that is not public.")
    return known[0].partition("%")[0]


def _allowed() -> tuple[addresses.Network, ...]:
    """Return the networks that may be called although they are not public: A2A_OUTBOUND_ALLOW."""
    local = ["127.0.0.0/8", "::1/128"] if settings.A2A_CONFORMANCE else []
    return addresses.networks([*settings.A2A_OUTBOUND_ALLOW, *local])

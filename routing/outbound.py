"""Calls to addresses that others have named. Nothing else in here calls those."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
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
    if parts.scheme not in ("https", "http") or (parts.scheme == "http" and not _allowed()):
        raise Refused(url, "it has to begin with https://.")
    try:
        address = addresses.parse(parts.hostname)
    except ValueError:
        return parts  # a name
    _refuse(url, parts, [address])
    return parts


def post(url: str, body: bytes, headers: Mapping[str, str]) -> int:
    """Return the status that the address answers with; redirects are not followed.

    Raises ``Refused``, and ``httpx.HTTPError`` where nobody answers.
    """
    parts = check(url)
    host = parts.hostname or ""
    address = _resolved(url, parts)
    pinned = httpx.URL(url).copy_with(host=address)
    sent = {**headers, "Host": parts.netloc.rpartition("@")[2]}
    extensions = {"sni_hostname": host} if parts.scheme == "https" else {}
    with httpx.Client(timeout=TIMEOUT, follow_redirects=False, trust_env=False) as client:
        request = client.build_request("POST", pinned, content=body, headers=sent, extensions=extensions)
        answer = client.send(request, stream=True)  # what it says beyond its status is not read
        answer.close()
        return answer.status_code


def _resolved(url: str, parts: SplitResult) -> str:
    """Return the address to connect to. Raises ``Refused`` unless all of the name's may be called."""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Refused(url, f"its name cannot be looked up ({error}).") from None
    known = [addresses.parse(str(each[4][0])) for each in found]
    _refuse(url, parts, known)
    return str(known[0])


def _refuse(url: str, parts: SplitResult, found: Sequence[addresses.Address]) -> None:
    why = addresses.refusal(parts.scheme, parts.hostname or "", found, _allowed())
    if why:
        raise Refused(url, f"{why}. A2A_OUTBOUND_ALLOW can allow it.")


def _allowed() -> list[str]:
    """Return the hosts and networks that may be called although they are not public: A2A_OUTBOUND_ALLOW."""
    local = ["127.0.0.0/8", "::1"] if settings.A2A_CONFORMANCE else []
    return [*(each.lower() for each in settings.A2A_OUTBOUND_ALLOW), *local]

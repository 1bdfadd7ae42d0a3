"""Secrets that an agent's options name. The options say where a secret is, never what it is."""

from __future__ import annotations

import re
from typing import Any

from routing.executors.contract import Unavailable

RULE = "says where the secret is: env:NAME for a variable of the worker's, or file:/path."
_REFERENCE = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*|file:/[^\x00]+|sealed:[A-Za-z0-9_=-]+")


def problems(reference: Any, name: str) -> list[str]:
    """Return what is wrong with a reference; None is none."""
    if reference is None or (isinstance(reference, str) and _REFERENCE.fullmatch(reference)):
        return []
    return [f"{name} {RULE}"]


def read(reference: str) -> str:
    """Return the secret. Raises Unavailable, saying what is missing on this worker."""
    from routing import secrets  # it needs Django's settings; the executors do not

    try:
        secret = secrets.unseal(reference)
    except secrets.Unreadable as error:
        raise Unavailable(f"The agent's secret: {error}") from None
    if not secret or any(ord(sign) < 32 or ord(sign) > 126 for sign in secret):
        raise Unavailable(f"The agent's secret at {reference} is empty, or no plain line of ASCII.", retryable=False)
    return secret

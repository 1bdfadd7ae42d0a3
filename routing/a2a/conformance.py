"""The switch for conformance runs: no credential, and a test agent that does what a message's first words say."""

from __future__ import annotations

import ipaddress

from django.conf import settings

from routing import registry
from routing.models import DEFAULT_TENANT

SKILL = AGENT = "conformance"
MODES = ("*/*",)
WHOLE = {"x-a2a-input": "message"}  # the agent gets the message as it came


class NotOnLoopback(Exception):
    """A2A_CONFORMANCE=1 lets anybody in, so it is for loopback alone: leave it out, or use --host 127.0.0.1."""

    def __init__(self) -> None:
        super().__init__(type(self).__doc__)


def is_on() -> bool:
    """Return whether this is a conformance run. Raises ``NotOnLoopback`` where others could reach it."""
    if settings.A2A_CONFORMANCE and not _is_loopback(settings.A2A_HOST):
        raise NotOnLoopback
    return bool(settings.A2A_CONFORMANCE)


def register() -> None:
    """Register the test agent and its skill."""
    registry.ensure_tenant()
    skill = registry.ensure_skill(
        SKILL, description="Does what the first words of a message say.", input_schema=WHOLE, max_attempts=1
    )
    registry.ensure_agent(AGENT, tenant=DEFAULT_TENANT, skills=[skill], capacity=64, executor="python")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"

"""The A2A SDK, as far as the commands need it. Importing this fails where the SDK is not installed."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
from a2a.client import ClientConfig, ClientFactory
from a2a.client.card_resolver import A2ACardResolver
from a2a.types.a2a_pb2 import Message, Part, Role, SendMessageRequest
from a2a.utils.constants import TransportProtocol
from google.protobuf.json_format import MessageToDict

BINDINGS = [TransportProtocol.JSONRPC, TransportProtocol.HTTP_JSON]


async def card(http: httpx.AsyncClient, url: str) -> dict[str, Any]:
    """Return the agent's card."""
    return as_dict(await A2ACardResolver(http, url).get_agent_card())


async def answers(http: httpx.AsyncClient, url: str, text: str, *, streaming: bool) -> AsyncIterator[dict[str, Any]]:
    """Yield what the agent answers to a message: one answer, or each event of its stream."""
    found = await A2ACardResolver(http, url).get_agent_card()
    config = ClientConfig(httpx_client=http, streaming=streaming, supported_protocol_bindings=list(BINDINGS))
    client = ClientFactory(config).create(found)
    message = Message(message_id=uuid.uuid4().hex, role=Role.ROLE_USER, parts=[Part(text=text)])
    async for answer in client.send_message(SendMessageRequest(message=message)):
        yield as_dict(answer)


def as_dict(message: Any) -> dict[str, Any]:
    """Return a message of the SDK as JSON."""
    told: dict[str, Any] = MessageToDict(message)
    return told

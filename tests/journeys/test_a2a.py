"""The fleet as an A2A agent: driven by the SDK's own client over each binding, in a conformance run."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import grpc
import httpx
import pytest
from a2a.client import Client, ClientConfig, ClientFactory
from a2a.types import a2a_pb2 as pb

from tests.journeys.site import Site
from tests.monitoring.serving import wait_until
from tests.routing.listening import listening

pytestmark = pytest.mark.journey

BINDINGS = ["JSONRPC", "HTTP+JSON", "GRPC"]
V1 = {"A2A-Version": "1.0"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Yield a site that lets anybody in, with the test agent."""
    running = Site(tmp_path_factory.mktemp("a"))
    code, output, errors = running.up("--no-flower", "--grpc", A2A_CONFORMANCE="1")
    assert code == 0, output + errors
    yield running
    running.manage("down")


@asynccontextmanager
async def client(site: Site, binding: str, *, streaming: bool) -> AsyncIterator[Client]:
    async with httpx.AsyncClient(timeout=30) as http:
        config = ClientConfig(
            httpx_client=http,
            supported_protocol_bindings=[binding],
            streaming=streaming,
            grpc_channel_factory=grpc.aio.insecure_channel,
        )
        async with await ClientFactory(config).create_from_url(site.url) as made:
            yield made


def message(text: str, **fields: Any) -> pb.SendMessageRequest:
    said = pb.Message(message_id=str(uuid4()), role=pb.ROLE_USER, parts=[pb.Part(text=text)], **fields)
    return pb.SendMessageRequest(message=said)


async def told(made: Client, request: pb.SendMessageRequest) -> list[Any]:
    """Return the payloads that a client gets."""
    answers = [answer async for answer in made.send_message(request)]
    return [getattr(answer, answer.WhichOneof("payload")) for answer in answers]


async def ended(made: Client, text: str, **fields: Any) -> pb.Task:
    [task] = await told(made, message(text, **fields))
    return task  # type: ignore[no-any-return]


@pytest.mark.parametrize("binding", BINDINGS)
class TestEveryBinding:
    async def test_does_what_is_asked(self, site: Site, binding: str) -> None:
        async with client(site, binding, streaming=False) as made:
            names = ("tck-complete-task", "tck-reject-task", "tck-task-failure", "tck-artifact-file-url")
            done = [await ended(made, name) for name in names]
            [answer] = await told(made, message("tck-message-response"))

        states = [task.status.state for task in done]
        assert states == [
            pb.TASK_STATE_COMPLETED,
            pb.TASK_STATE_REJECTED,
            pb.TASK_STATE_FAILED,
            pb.TASK_STATE_COMPLETED,
        ]
        assert done[0].artifacts[0].parts[0].text == "Done."
        assert done[2].status.message.parts[0].text == "I could not do this."
        assert done[3].artifacts[0].parts[0].url.startswith("https://")
        assert isinstance(answer, pb.Message)

    async def test_streams_numbered_updates(self, site: Site, binding: str) -> None:
        async with client(site, binding, streaming=True) as made:
            first, working, one, two, completed = await told(made, message("tck-stream-artifact-chunked"))

        assert isinstance(first, pb.Task)
        assert working.status.state == pb.TASK_STATE_WORKING
        assert [(each.append, each.last_chunk) for each in (one, two)] == [(False, False), (True, True)]
        assert completed.status.state == pb.TASK_STATE_COMPLETED
        assert [each.metadata["generation"] for each in (working, one, two, completed)] == [1, 2, 3, 4]

    async def test_talks_in_turns(self, site: Site, binding: str) -> None:
        async with client(site, binding, streaming=False) as made:
            task = await ended(made, "tck-multi-turn")
            more = await ended(made, "more", task_id=task.id)
            done = await ended(made, "done", task_id=task.id, context_id=task.context_id)
            short = await made.get_task(pb.GetTaskRequest(id=task.id, history_length=1))

        assert task.status.state == more.status.state == pb.TASK_STATE_INPUT_REQUIRED
        assert done.status.state == pb.TASK_STATE_COMPLETED
        assert [said.role for said in done.history] == [pb.ROLE_USER, pb.ROLE_AGENT] * 2 + [pb.ROLE_USER]
        assert [said.parts[0].text for said in short.history] == ["done"]

    async def test_cancels_what_runs(self, site: Site, binding: str) -> None:
        async with client(site, binding, streaming=True) as made:
            answers = made.send_message(message("tck-cancel"))
            task = (await anext(answers)).task
            await anext(answers)  # working
            canceled = await made.cancel_task(pb.CancelTaskRequest(id=task.id))
            last = [answer async for answer in answers][-1]

        assert canceled.status.state == last.status_update.status.state == pb.TASK_STATE_CANCELED


class TestPush:
    def test_tells_a_client_of_every_update(self, site: Site) -> None:
        said = {"messageId": str(uuid4()), "role": "ROLE_USER", "parts": [{"text": "tck-stream-001"}]}
        with listening() as listener:
            wanted = {"taskPushNotificationConfig": {"url": listener.url, "token": "t"}, "returnImmediately": True}
            body = {"message": said, "configuration": wanted}
            httpx.post(f"{site.url}/a2a/message:send", json=body, headers=V1, timeout=20).raise_for_status()
            wait_until(lambda: len(listener.got) == 3, "three updates")

        kinds = [next(iter(each)) for each in listener.bodies]
        assert kinds == ["statusUpdate", "artifactUpdate", "statusUpdate"]
        assert listener.bodies[-1]["statusUpdate"]["status"]["state"] == "TASK_STATE_COMPLETED"
        assert listener.got[0][1]["x-a2a-notification-token"] == "t"


class TestTheCard:
    def test_is_the_fleets_and_each_agents(self, site: Site) -> None:
        fleet = httpx.get(f"{site.url}/.well-known/agent-card.json")
        agent = httpx.get(f"{site.url}/a2a/conformance/.well-known/agent-card.json").json()
        again = httpx.get(fleet.url, headers={"If-None-Match": fleet.headers["ETag"]})

        assert [skill["id"] for skill in fleet.json()["skills"]] == ["conformance"]
        assert {each.get("tenant") for each in agent["supportedInterfaces"]} == {"conformance"}
        assert fleet.headers["Last-Modified"].endswith("GMT")
        assert (again.status_code, again.content) == (304, b"")
        assert httpx.get(f"{site.url}/a2a/nobody/.well-known/agent-card.json").status_code == 404


class TestAKilledWebProcess:
    def test_costs_a_subscriber_nothing(self, site: Site) -> None:
        text = "test-resubscribe-message-id"
        sent = {"message": {"messageId": str(uuid4()), "role": "ROLE_USER", "parts": [{"text": text}]}}
        seen = []
        with httpx.stream("POST", f"{site.url}/a2a/message:stream", json=sent, headers=V1, timeout=20) as stream:
            for line in stream.iter_lines():
                if line.startswith("data:"):
                    seen.append(json.loads(line[5:]))
                if len(seen) == 2:
                    break
        task = seen[0]["task"]["id"]
        web = site.recorded("web")["pid"]
        assert web is not None
        os.kill(web, signal.SIGKILL)

        resumed = list(resubscribed(site, task, last=1))

        assert seen[1]["statusUpdate"]["metadata"]["generation"] == 1
        assert [next(iter(each.values()))["metadata"]["generation"] for each in resumed[1:]] == [2, 3]
        assert resumed[-1]["statusUpdate"]["status"]["state"] == "TASK_STATE_COMPLETED"


def resubscribed(site: Site, task: str, *, last: int) -> Iterator[Any]:
    """Yield what a subscriber gets that comes back, as soon as it is let in again."""
    headers = {**V1, "Last-Event-ID": str(last)}
    for _ in range(200):
        try:
            with httpx.stream("GET", f"{site.url}/a2a/tasks/{task}:subscribe", headers=headers, timeout=20) as stream:
                yield from (json.loads(line[5:]) for line in stream.iter_lines() if line.startswith("data:"))
            return
        except httpx.ConnectError:
            signal.sigtimedwait([], 0.1)
    raise AssertionError("the web process did not come back")


class TestOldClients:
    def test_are_served_at_the_same_address(self, site: Site) -> None:
        said = {"messageId": "m", "role": "user", "kind": "message", "parts": [{"kind": "text", "text": "hello"}]}
        body = {"jsonrpc": "2.0", "id": 7, "method": "message/send", "params": {"message": said}}

        answer = httpx.post(f"{site.url}/a2a", json=body, timeout=20).json()

        assert (answer["id"], answer["result"]["status"]["state"]) == (7, "completed")


def call(**fields: Any) -> bytes:
    said = {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "x"}], **fields}
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": {"message": said}}).encode()


class TestBadInput:
    @pytest.mark.parametrize(
        ("body", "code"),
        [
            (b"{nope", -32700),
            (b'{"jsonrpc":"2.0","id":1,"method":"GetTask","params":{"id":NaN}}', -32700),
            (b'{"params":' + b"[" * 5000 + b"]" * 5000 + b"}", -32700),
            (b"[1]", -32600),
            (b'{"jsonrpc":"2.0","id":1,"method":"Nope"}', -32601),
            (call(parts=[]), -32602),
            (call(messageId=""), -32602),
            (call(role="ROLE_NOPE"), -32602),
            (call(parts=[{}]), -32602),
            (call(parts=[{"raw": "aGk=", "filename": "../../etc/passwd"}]), -32602),
            (call(taskId=str(uuid4())), -32001),
            (call(metadata={"urn:a2a-mission-control:routing:1": {"skill": "nobody's"}}), -32602),
            (call(metadata={"urn:a2a-mission-control:routing:1": {"sudo": True}}), -32602),
        ],
    )
    def test_gets_the_error_of_the_specification(self, site: Site, body: bytes, code: int) -> None:
        headers = {**V1, "Content-Type": "application/json"}

        answer = httpx.post(f"{site.url}/a2a", content=body, headers=headers, timeout=20)

        assert answer.json()["error"]["code"] == code
        assert answer.headers["X-Request-Id"]
        assert "Traceback" not in answer.text

    def test_of_twenty_megabytes_is_refused(self, site: Site) -> None:
        headers = {**V1, "Content-Type": "application/json"}

        answer = httpx.post(f"{site.url}/a2a", content=b'"' + b"x" * 20_000_000 + b'"', headers=headers, timeout=20)

        assert answer.status_code == 413

    @pytest.mark.parametrize(("version", "code"), [("1.1", -32009), ("2.0", -32009), ("", -32009)])
    def test_of_another_version_is_refused(self, site: Site, version: str, code: int) -> None:
        answer = httpx.post(f"{site.url}/a2a", json=json.loads(call()), headers={"A2A-Version": version}, timeout=20)

        assert answer.json()["error"]["code"] == code

    def test_with_the_version_in_the_query_is_fine(self, site: Site) -> None:
        answer = httpx.post(f"{site.url}/a2a/?A2A-Version=1.0", json=json.loads(call()), timeout=20)

        assert "result" in answer.json()

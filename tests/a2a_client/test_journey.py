"""The client and the command line against a running site."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

from a2a_client import AsyncClient, Client, NotFound, TaskFailed, TaskRequest, TaskTimeout
from a2a_client.command_line.ending import Exit
from tests.journeys.site import ROOT
from tests.journeys.test_spine import Spine, gate, kinds, opened, spine
from tests.private_redis import wait_until

pytestmark = pytest.mark.journey

__all__ = ["gate", "spine"]
Start = Callable[[], subprocess.Popen[str]]


@pytest.fixture
def key(spine: Spine) -> str:
    return spine.desk.key("tasks:read", "tasks:write", "agents:read")


@pytest.fixture
def client(spine: Spine, key: str) -> Any:
    with Client(spine.site.url, key) as made:
        yield made


class TestClient:
    def test_submits_waits_and_downloads(self, client: Client, tmp_path: Path) -> None:
        task = client.submit("say", {"n": 1}, priority=7)

        done = client.wait(task.id, timeout_s=60)
        file = client.download(done.artifacts[0], tmp_path)

        assert done.output == {"said": {"n": 1}}
        assert file.read_text() == "{'n': 1}\n"
        kinds = [event.kind for event in client.events(task.id)]
        assert kinds == ["submitted", "assigned", "working", "progress", "log", "artifact", "completed"]

    def test_does_once_what_is_sent_twice(self, client: Client) -> None:
        first, again = (client.submit("say", 1, idempotency_key="sdk-1") for _ in range(2))

        assert first.id == again.id

    def test_takes_many_at_once_and_lists_them_page_after_page(self, client: Client) -> None:
        made = client.submit_many([TaskRequest(skill="say", input=n) for n in range(3)] + [TaskRequest(skill="nope")])

        assert [getattr(each, "kind", "task") for each in made] == ["task", "task", "task", "unknown-skill"]
        assert len([task for task, _ in zip(client.each_task(limit=1), range(3), strict=False)]) == 3

    def test_tells_what_went_wrong(self, client: Client, gate: dict[str, str]) -> None:
        with pytest.raises(NotFound):
            client.task("01890a5d-ac96-774b-bcce-b302099a8057")
        with pytest.raises(TaskTimeout):
            client.wait(client.submit("wait", gate).id, timeout_s=1)
        broken = client.submit("broken", max_attempts=1)
        with pytest.raises(TaskFailed, match="broken") as caught:
            client.wait(broken.id, timeout_s=60)
        assert caught.value.task.state == "failed"

    async def test_can_be_awaited(self, spine: Spine, key: str) -> None:
        async with AsyncClient(spine.site.url, key) as client:
            task = await client.submit("say", 2)
            done = await client.wait(task.id, timeout_s=60)

            assert done.output == {"said": 2}
            assert await anext(each.id async for each in client.each_task(limit=1)) == task.id


class TestCommandLine:
    @pytest.fixture
    def a2amc(self, spine: Spine, key: str, tmp_path: Path) -> Any:
        environment = os.environ | {
            "A2A_URL": spine.site.url, "A2A_KEY": key, "A2AMC_CONFIG": str(tmp_path / "c.json")
        }  # fmt: skip

        def run(*arguments: str) -> subprocess.CompletedProcess[str]:
            command = [sys.executable, "-m", "a2a_client.command_line.main", *arguments]
            return subprocess.run(
                command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=120
            )

        return run

    def test_waits_for_what_it_submits(self, a2amc: Any) -> None:
        done = a2amc("submit", "say", '{"n": 1}', "--wait", "--timeout", "60", "--json")

        assert done.returncode == Exit.DONE, done.stderr
        assert json.loads(done.stdout)["output"] == {"said": {"n": 1}}

    def test_ends_with_a_code_for_each_kind_of_outcome(self, a2amc: Any) -> None:
        codes = [
            a2amc(*arguments).returncode
            for arguments in (
                ("submit", "broken", "--wait", "--timeout", "120"),
                ("submit", "say", "{bad"),
                ("--url", "http://127.0.0.1:1", "tasks"),
                ("show", "01890a5d-ac96-774b-bcce-b302099a8057"),
                ("submit", "nope"),
                ("agents", "drain", "journey-say"),
            )
        ]

        assert codes == [Exit.FAILED, Exit.USAGE, Exit.UNREACHABLE, Exit.NOT_FOUND, Exit.REFUSED, Exit.NOT_ALLOWED]

    def test_tails_and_lists(self, a2amc: Any) -> None:
        id = a2amc("submit", "say", "1").stdout.strip()

        tail = a2amc("tail", id, "--json")
        listed = a2amc("tasks", "--skill", "say", "--limit", "1", "--json")

        assert json.loads(tail.stdout.splitlines()[-1])["kind"] == "completed"
        assert json.loads(listed.stdout)["id"] == id


@pytest.fixture(scope="module")
def start(spine: Spine) -> Iterator[Start]:
    """Yield a function that starts the agent."""
    key = spine.desk.key("agents:work")
    environment = os.environ | {"A2A_URL": spine.site.url, "A2A_KEY": key}
    command = [sys.executable, "-m", "a2a_client.command_line.main", "serve", "tests/journeys/pull_agent.py"]
    started: list[subprocess.Popen[str]] = []

    def begin() -> subprocess.Popen[str]:
        started.append(subprocess.Popen(command, cwd=ROOT, env=environment, text=True))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.wait()


class TestServe:
    def test_does_the_tasks_of_its_skills(self, spine: Spine, start: Start, gate: dict[str, str]) -> None:
        first = start()
        wait_until(lambda: spine.post(skill="pull-odd").status_code == 201, "the agent to register")

        said = spine.completed(spine.submit("pull-say", {"n": 1}))
        refused = spine.until(spine.submit("pull-nap"), "failed")
        odd = spine.until(spine.submit("pull-odd"), "failed")
        stopped = spine.submit("pull-wait", gate)
        spine.until(stopped, "working")
        spine.cancel(stopped)
        spine.until(stopped, "canceled")

        assert said["output"] == {"said": {"n": 1}}
        assert kinds(said) == ["submitted", "assigned", "working", "artifact", "log", "completed"]
        assert (refused["error"]["kind"], odd["error"]["kind"]) == ("bad_input", "bad_output")
        wait_until(lambda: Path(gate["seen"]).exists(), "the handler to see the cancel")
        assert Path(gate["seen"]).read_text() == "canceled"
        first.kill()

    def test_loses_its_leases_when_it_is_killed_and_drains_when_it_is_asked_to_end(
        self, spine: Spine, start: Start, gate: dict[str, str]
    ) -> None:
        first = start()
        task = spine.submit("pull-wait", gate)
        spine.until(task, "working")

        first.kill()
        second = start()
        wait_until(lambda: spine.task(task)["attempts"][-1]["number"] > 1, "another attempt", patience_s=40)
        spine.until(task, "working")
        second.send_signal(signal.SIGTERM)
        opened(gate)

        done: dict[str, Any] = spine.completed(task)
        assert done["output"]["attempt"] > 1
        assert second.wait(timeout=30) == 0
        assert done["attempts"][0]["state"] == "lost"

    def test_takes_part_in_a_celery_group(self, spine: Spine, start: Start) -> None:
        start()

        assert spine.desk.celery(1, 2, skill="pull-say") == [{"said": 1}, {"said": 2}]

    def test_does_what_the_example_in_the_documents_says(self, spine: Spine) -> None:
        environment = os.environ | {"A2A_URL": spine.site.url, "A2A_KEY": spine.desk.key("agents:work")}
        command = [sys.executable, "-m", "a2a_client.command_line.main", "serve", "docs/examples/pull_agent.py"]
        with subprocess.Popen([*command, "--name", "words"], cwd=ROOT, env=environment) as agent:
            try:
                wait_until(lambda: spine.post(skill="words.count", input={"text": "a"}).status_code == 201, "the agent")
                done = spine.completed(spine.submit("words.count", {"text": "to be or not to be"}))
            finally:
                agent.terminate()

        assert done["output"]["words"] == 6
        assert agent.returncode == 0


class TestMcp:
    async def test_gives_an_assistant_what_the_key_may_do(self, spine: Spine, key: str) -> None:
        program = StdioServerParameters(
            command=sys.executable,
            args=["manage.py", "mcp", "--url", spine.site.url],
            env=spine.site.environment(A2A_KEY=key),
            cwd=ROOT,
        )
        async with stdio_client(program) as (reads, writes), ClientSession(reads, writes) as session:
            await session.initialize()
            tools = {tool.name for tool in (await session.list_tools()).tools}

            made = await session.call_tool("submit_task", {"skill": "say", "input": {"n": 1}})
            id = json.loads(made.content[0].text)["id"]  # type: ignore[union-attr]
            done = await session.call_tool("wait_task", {"task": id})
            asked = await session.call_tool("cancel_task", {"task": id})
            refused = await session.call_tool("submit_task", {"skill": "nope"})

        assert {"list_agents", "explain_task", "list_runs", "list_alerts", "cancel_task"} <= tools
        assert json.loads(done.content[0].text)["output"] == {"said": {"n": 1}}  # type: ignore[union-attr]
        assert not json.loads(asked.content[0].text)["canceled"]  # type: ignore[union-attr]
        assert refused.isError
        assert "No skill 'nope'" in refused.content[0].text  # type: ignore[union-attr]

"""The life of a task through real processes: REST and Celery in, a worker, the ledger, the live pages."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.journeys.agents import ARGV
from tests.journeys.desk import Desk
from tests.journeys.site import Site
from tests.private_redis import wait_until

pytestmark = pytest.mark.journey

PATIENCE_S = 60.0
SETTLED_S = 1.5  # in which something that must not happen would have happened


class Spine:
    """A running site as its callers see it."""

    def __init__(self, site: Site, desk: Desk) -> None:
        self.site = site
        self.desk = desk
        key = desk.key("tasks:read", "tasks:write")
        self.http = httpx.Client(base_url=f"{site.url}/api/v1", headers={"Authorization": f"Bearer {key}"}, timeout=30)

    def post(self, **task: Any) -> httpx.Response:
        """Submit a task."""
        return self.http.post("/tasks", json=task)

    def submit(self, skill: str, value: Any = None, **more: Any) -> str:
        """Return the id of an accepted task."""
        answer = self.post(skill=skill, input=value, **more)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def task(self, task: str) -> dict[str, Any]:
        """Return a task with everything that happened to it."""
        found: dict[str, Any] = self.http.get(f"/tasks/{task}").json()
        return found

    def until(self, task: str, *states: str) -> dict[str, Any]:
        """Return the task as soon as it is in one of the states."""
        wait_until(lambda: self.task(task)["state"] in states, f"{task} to be {states}", patience_s=PATIENCE_S)
        return self.task(task)

    def completed(self, task: str) -> dict[str, Any]:
        """Return the task, which completes."""
        found = self.until(task, "completed", "failed", "canceled", "rejected")
        assert found["state"] == "completed", found
        return found

    def cancel(self, task: str) -> httpx.Response:
        """Ask for the task's end."""
        return self.http.post(f"/tasks/{task}:cancel", json={"reason": "enough"})

    def count(self) -> int:
        """Return how many tasks there are."""
        return len(self.http.get("/tasks", params={"limit": 200}).json()["tasks"])

    def working(self, tasks: list[str]) -> int:
        """Return how many of the tasks are at work."""
        return sum(self.task(task)["state"] == "working" for task in tasks)

    def signed_in(self) -> dict[str, str]:
        """Return the headers of somebody who has signed in."""
        password = (self.site.home / "admin-password").read_text().strip()
        with httpx.Client(base_url=self.site.url) as browser:
            browser.get("/login/")
            form = {"username": "admin", "password": password, "csrfmiddlewaretoken": browser.cookies["csrftoken"]}
            assert browser.post("/login/", data=form, headers={"Referer": self.site.url}).status_code == 302
            return {"Cookie": f"sessionid={browser.cookies['sessionid']}", "Origin": self.site.url}

    @contextmanager
    def listening(self, path: str, headers: dict[str, str]) -> Iterator[ClientConnection]:
        """While inside, a WebSocket."""
        address = self.site.url.replace("http", "ws", 1) + path
        with connect(address, additional_headers=headers, open_timeout=30) as socket:
            yield socket


@pytest.fixture(scope="module")
def spine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spine]:
    """Yield a running site with the journeys' agents and a program."""
    site = Site(tmp_path_factory.mktemp("spine") / "home")
    code, output, errors = site.up("--no-flower", A2A_AGENT_MODULES="tests.journeys.agents")
    assert code == 0, output + errors
    with Desk(site) as desk:
        desk.agent("journey-program", skills=["run"], executor="command", options={"argv": ARGV, "grace_s": 1})
        spine = Spine(site, desk)
        yield spine
        spine.http.close()
    site.manage("down")


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Yield the input of ``wait``; its tasks are let go at the end."""
    yield {"gate": str(tmp_path / "gate"), "seen": str(tmp_path / "seen")}
    (tmp_path / "gate").touch()


def opened(gate: dict[str, str]) -> None:
    """Let the tasks go that wait at the gate."""
    Path(gate["gate"]).touch()


def kinds(task: dict[str, Any]) -> list[str]:
    """Return the kinds of the task's events, whose numbers have no gaps."""
    assert [event["seq"] for event in task["events"]] == list(range(1, len(task["events"]) + 1))
    return [event["kind"] for event in task["events"]]


def pids(file: Path) -> list[int]:
    """Return the process ids in the file as soon as it is there."""
    wait_until(lambda: file.exists() and file.read_text(), f"{file.name} to be written", patience_s=PATIENCE_S)
    return [int(word) for word in file.read_text().split()]


def gone(numbers: list[int]) -> Callable[[], bool]:
    """Return a question whether none of the processes lives."""
    return lambda: not any(psutil.pid_exists(number) for number in numbers)


class TestSubmit:
    def test_leads_to_a_result_and_a_history_without_gaps(self, spine: Spine) -> None:
        task = spine.completed(spine.submit("say", {"text": "hello"}))

        assert task["output"] == {"said": {"text": "hello"}}
        assert kinds(task) == ["submitted", "assigned", "working", "progress", "log", "artifact", "completed"]
        assert [(attempt["number"], attempt["state"]) for attempt in task["attempts"]] == [(1, "completed")]
        assert task["decision"]["agent"] == task["agent"] == "journey-say"
        assert task["decision"]["candidates"][0]["agent"] == "journey-say"

    def test_with_the_same_key_gives_the_same_task(self, spine: Spine) -> None:
        first = spine.post(skill="say", input=1, idempotency_key="order-17")
        again = spine.post(skill="say", input=1, idempotency_key="order-17")
        other = spine.post(skill="say", input=2, idempotency_key="order-17")

        assert (first.status_code, again.status_code, other.status_code) == (201, 200, 422)
        assert first.json()["id"] == again.json()["id"]
        assert len(kinds(spine.completed(first.json()["id"]))) == 7

    def test_takes_a_batch_item_by_item(self, spine: Spine) -> None:
        items = [{"skill": "say", "input": n} for n in range(20)]

        answer = spine.http.post("/tasks:batch", json={"tasks": [*items, {"skill": "nonsense"}]})

        results = answer.json()["results"]
        assert [result["status"] for result in results] == [201] * 20 + [422]
        assert [spine.completed(r["task"]["id"])["output"]["said"] for r in results[:20]] == list(range(20))

    def test_is_open_to_celery(self, spine: Spine) -> None:
        assert spine.desk.celery(1, 2, 3, skill="say") == [{"said": 1}, {"said": 2}, {"said": 3}]

    @pytest.mark.parametrize(
        ("task", "status", "pointer"),
        [
            ({"skill": "nonsense"}, 422, "/skill"),
            ({"skill": "say", "agent": "nobody"}, 422, "/agent"),
            ({"skill": "say", "priority": 10}, 422, "/priority"),
            ({"skill": "say", "input": "\0"}, 400, "/input"),
            ({"skill": "say", "input": "x" * 1_100_000}, 413, "/input"),
            ({"skill": "say", "surprise": 1}, 422, "/surprise"),
            ({"skill": "say", "deadline": "2020-01-01T00:00:00Z"}, 422, "/deadline"),
        ],
        ids=["skill", "agent", "priority", "nul", "size", "field", "deadline"],
    )
    def test_refuses_with_a_problem_and_stores_nothing(
        self, spine: Spine, task: dict[str, Any], status: int, pointer: str
    ) -> None:
        before = spine.count()

        answer = spine.post(**task)

        assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/problem+json")
        assert answer.json()["pointer"] == pointer
        assert answer.json()["detail"]
        assert spine.count() == before

    def test_needs_a_key(self, spine: Spine) -> None:
        assert httpx.post(f"{spine.site.url}/api/v1/tasks", json={"skill": "say"}).status_code == 401


class TestArtifacts:
    def test_are_downloaded_as_they_were_made(self, spine: Spine) -> None:
        task = spine.completed(spine.submit("say", "a file"))
        (artifact,) = task["artifacts"]

        answer = spine.http.get(f"{spine.site.url}{artifact['href']}")

        assert (answer.status_code, answer.content) == (200, b"a file\n")
        assert artifact["sha256"] == hashlib.sha256(answer.content).hexdigest()
        assert answer.headers["Content-Disposition"] == 'attachment; filename="said.txt"'


class TestCancel:
    def test_reaches_a_function_at_work(self, spine: Spine, gate: dict[str, str]) -> None:
        task = spine.submit("wait", gate)
        spine.until(task, "working")

        answer = spine.cancel(task)

        assert answer.status_code in (200, 202)
        assert kinds(spine.until(task, "canceled"))[-2:] == ["cancel_requested", "canceled"]
        assert Path(gate["seen"]).read_text() == "cancelled"

    def test_ends_a_program_and_what_it_started(self, spine: Spine, tmp_path: Path) -> None:
        task = spine.submit("run", {"pids": str(tmp_path / "pids")})
        started = pids(tmp_path / "pids")

        spine.cancel(task)

        spine.until(task, "canceled")
        wait_until(gone(started), "the program and its child to end")

    def test_ends_one_that_waits(self, spine: Spine, gate: dict[str, str]) -> None:
        task = spine.submit("wait", gate, labels={"nobody": "has it"})

        spine.cancel(task)

        assert kinds(spine.until(task, "canceled")) == ["submitted", "cancel_requested", "canceled"]

    def test_of_one_that_has_ended_is_refused(self, spine: Spine) -> None:
        task = spine.submit("say", 1)
        spine.completed(task)

        assert spine.cancel(task).status_code == 409


class TestRegistry:
    def test_is_followed_live(self, spine: Spine, gate: dict[str, str]) -> None:
        spine.desk.agent("journey-wait", capacity=1)
        tasks = [spine.submit("wait", gate) for _ in range(4)]
        wait_until(lambda: spine.working(tasks) == 1, "one to begin")
        time.sleep(SETTLED_S)
        assert spine.working(tasks) == 1

        spine.desk.agent("journey-wait", capacity=3)
        wait_until(lambda: spine.working(tasks) == 3, "two more to begin")

        spine.desk.agent("journey-wait", capacity=4, draining=True)
        time.sleep(SETTLED_S)
        assert spine.working(tasks) == 3

        spine.desk.agent("journey-wait", draining=False, enabled=False)
        time.sleep(SETTLED_S)
        assert spine.working(tasks) == 3

        spine.desk.agent("journey-wait", enabled=True)
        wait_until(lambda: spine.working(tasks) == 4, "the last one to begin")
        opened(gate)
        assert [spine.completed(task)["agent"] for task in tasks] == ["journey-wait"] * 4

    def test_of_a_new_agent_is_served_by_workers_that_run(self, spine: Spine) -> None:
        spine.desk.agent("journey-newcomer", skills=["repeat"], options={"handler": "journey-say"})

        wait_until(lambda: spine.post(skill="repeat", input=0).status_code == 201, "the door to know the skill")
        task = spine.completed(spine.submit("repeat", 5))

        assert (task["agent"], task["output"]) == ("journey-newcomer", {"said": 5})


class TestLivePages:
    def test_get_a_snapshot_and_then_what_changes(self, spine: Spine) -> None:
        with spine.listening("/ws/live", spine.signed_in()) as socket:
            snapshot = heard(socket, "snapshot")
            task = spine.submit("say", "live")
            deltas = [heard(socket, "delta")]
            while not ends_of(deltas, task):
                deltas.append(heard(socket, "delta"))

        numbers = [delta["seq"] for delta in deltas]
        assert "journey-say" in [agent["agent"] for agent in snapshot["fleet"]]
        assert numbers == sorted(numbers)
        assert snapshot["seq"] <= numbers[0]
        assert ends_of(deltas, task) == ["completed"]

    def test_of_a_task_get_every_event_in_order(self, spine: Spine, gate: dict[str, str]) -> None:
        task = spine.submit("wait", gate)
        with spine.listening(f"/ws/tasks/{task}", spine.signed_in()) as socket:
            events = heard(socket, "events")["events"]
            opened(gate)
            while events[-1]["kind"] != "completed":
                events += heard(socket, "events")["events"]

        assert kinds({"events": events}) == ["submitted", "assigned", "working", "completed"]

    def test_get_progress_and_log_lines(self, spine: Spine) -> None:
        task = spine.submit("say", "words")
        with spine.listening(f"/ws/tasks/{task}", spine.signed_in()) as socket:
            events = heard(socket, "events")["events"]
            while events[-1]["kind"] != "completed":
                events += heard(socket, "events")["events"]

        told = {event["kind"]: event for event in events}
        assert told["progress"]["fraction"] == 0.5
        assert told["log"]["level"] == "info"
        details = [str(told[kind]["detail"]) for kind in ("progress", "log", "artifact")]
        assert all(map(str.__contains__, details, ("half way", "on it", "said.txt")))

    @pytest.mark.parametrize("path", ["/ws/live", "/ws/tasks/01a209da-12ab-7500-8000-000000000000"])
    def test_are_for_people_who_have_signed_in(self, spine: Spine, path: str) -> None:
        with spine.listening(path, {"Origin": spine.site.url}) as socket, pytest.raises(ConnectionClosed) as closed:
            socket.recv(30)

        assert closed.value.rcvd
        assert closed.value.rcvd.code == 4401


class TestTimeOut:
    def test_kills_an_isolated_function_and_leaves_the_worker(self, spine: Spine, tmp_path: Path) -> None:
        worker = spine.site.recorded("w1")
        # The time-out includes the start of its process, which takes seconds on a busy machine.
        task = spine.submit("stick-apart", {"pid": str(tmp_path / "pid")}, timeout_s=12, max_attempts=1)
        started = pids(tmp_path / "pid")

        found = spine.until(task, "failed")

        assert (found["error"]["kind"], started != [worker["pid"]]) == ("timeout", True)
        wait_until(gone(started), "its process to end")
        assert spine.completed(spine.submit("say", "still here"))["attempts"][0]["state"] == "completed"
        assert spine.site.recorded("w1")["pid"] == worker["pid"]

    def test_kills_a_program_and_what_it_started(self, spine: Spine, tmp_path: Path) -> None:
        task = spine.submit("run", {"pids": str(tmp_path / "pids")}, timeout_s=6, max_attempts=1)
        started = pids(tmp_path / "pids")

        found = spine.until(task, "failed")

        assert found["error"]["kind"] == "timeout"
        wait_until(gone(started), "the program and its child to end")

    def test_of_a_function_that_never_returns_restarts_its_worker(
        self, spine: Spine, gate: dict[str, str], tmp_path: Path
    ) -> None:
        before = spine.site.recorded("w1")
        stuck = spine.submit("stick", {"pid": str(tmp_path / "pid")}, timeout_s=0.5, max_attempts=1)
        beside = spine.submit("wait", gate)
        spine.until(beside, "working")

        found = spine.until(stuck, "failed")
        opened(gate)

        assert found["error"]["kind"] == "timeout"
        assert spine.completed(beside)["attempts"][-1]["state"] == "completed"
        assert spine.completed(spine.submit("say", "after"))["output"] == {"said": "after"}
        wait_until(lambda: spine.site.recorded("w1")["pid"] not in (None, before["pid"]), "the worker to be restarted")
        assert spine.site.status()["children"]["w1"]["restarts"] == before["restarts"] + 1


def heard(socket: ClientConnection, kind: str) -> dict[str, Any]:
    """Return the next message of that type."""
    while True:
        message: dict[str, Any] = json.loads(socket.recv(PATIENCE_S))
        if message["type"] == kind:
            return message


def ends_of(deltas: list[dict[str, Any]], task: str) -> list[str]:
    """Return how the task has ended, by the deltas."""
    events = [event for delta in deltas for event in delta["events"] if event["task"] == task]
    return [event["kind"] for event in events if event["kind"] in ("completed", "failed", "canceled")]

"""REST, through Django's own client and the real database."""

import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.db import OperationalError, connection
from django.test import Client
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pytest_django import Settings

from routing import api as rest
from routing import artifacts, listing, registry, rulebook, schemas
from routing.models import (
    Artifact,
    Attempt,
    AttemptState,
    Command,
    Containment,
    Decision,
    Scope,
    Task,
    TaskEvent,
    TaskMessage,
    TaskState,
)

pytestmark = pytest.mark.django_db

TASKS = "/api/v1/tasks"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20) | st.uuids().map(str),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
ECHO_SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}


@pytest.fixture(autouse=True)
def fleet(db: None) -> Iterator[None]:
    """Two tenants, each with a skill ``echo`` and an agent."""
    for tenant in ("default", "other"):
        registry.ensure_tenant(tenant)
        echo = registry.ensure_skill("echo", tenant=tenant, input_schema=ECHO_SCHEMA)
        registry.ensure_agent(f"{tenant}-agent", tenant=tenant, skills=[echo], options={"isolated": True})
    registry.ensure_skill("any")
    yield
    registry.forget()


class Program:
    """A caller with a key."""

    def __init__(self, tenant: str = "default", scopes: tuple[str, ...] = tuple(Scope.values)) -> None:
        self.key, plaintext = registry.create_key(tenant, "bot", scopes)
        self.headers = {"Authorization": f"Bearer {plaintext}"}
        self.client = Client()

    def get(self, path: str, **query: Any) -> Any:
        return self.client.get(path, query, headers=self.headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.client.post(path, data, "application/json", headers={**self.headers, **headers})

    def submit(self, **fields: Any) -> Any:
        response = self.post(TASKS, {"skill": "echo", "input": {"text": "hi"}, **fields})
        assert response.status_code in (200, 201), response.content
        return response.json()


@pytest.fixture
def bot() -> Program:
    return Program()


def problem(response: Any, status: int, kind: str) -> dict[str, Any]:
    """Return the problem, known to be well formed."""
    assert response.status_code == status, response.content
    assert response.headers["Content-Type"] == "application/problem+json"
    told: dict[str, Any] = json.loads(response.content)
    assert told["type"] == f"/problems/{kind}"
    assert told["status"] == status
    assert told["title"]
    assert told["detail"]
    assert told["request_id"] == response.headers["X-Request-Id"]
    return told


class TestSubmitTask:
    def test_answers_201_with_the_task_and_its_address(self, bot: Program) -> None:
        response = bot.post(TASKS, {"skill": "echo", "input": {"text": "hi"}, "priority": 7, "labels": {"gpu": "yes"}})

        told = response.json()
        assert response.status_code == 201
        assert response.headers["Location"] == f"{TASKS}/{told['id']}" == told["links"]["self"]
        assert (told["state"], told["skill"], told["tenant"]) == ("submitted", "echo", "default")
        assert (told["input"], told["priority"], told["labels"]) == ({"text": "hi"}, 7, {"gpu": "yes"})
        assert (told["timeout_s"], told["max_attempts"]) == (300, 3)
        assert Task.objects.get().origin == "rest"

    @pytest.mark.parametrize("value", [None, 0, "text", [1, "ä😀", 2**64 - 1, -0.5], {"": {}}])
    def test_keeps_any_json_as_it_is(self, bot: Program, value: Any) -> None:
        told = bot.submit(skill="any", input=value)

        assert bot.get(told["links"]["self"]).json()["input"] == value

    def test_the_same_key_with_the_same_request_gives_the_same_task(self, bot: Program) -> None:
        body = {"skill": "echo", "input": {"text": "hi"}}

        first = bot.post(TASKS, body, **{"Idempotency-Key": "k1"})
        again = bot.post(TASKS, {**body, "idempotency_key": "k1"})

        assert (first.status_code, again.status_code) == (201, 200)
        assert first.json() == again.json()
        assert again.headers["Location"] == first.headers["Location"]
        assert Task.objects.count() == 1

    def test_the_same_key_with_another_request_is_refused(self, bot: Program) -> None:
        bot.submit(idempotency_key="k1")

        response = bot.post(TASKS, {"skill": "echo", "input": {"text": "other"}, "idempotency_key": "k1"})

        told = problem(response, 422, "idempotency-key-reused")
        assert told["pointer"] == "/idempotency_key"
        assert Task.objects.count() == 1

    def test_the_same_key_of_two_tenants_makes_two_tasks(self, bot: Program) -> None:
        bot.submit(idempotency_key="k1")
        Program("other").submit(idempotency_key="k1")

        assert Task.objects.count() == 2

    def test_the_same_id_of_another_tenant_is_refused_without_showing_the_task(self, bot: Program) -> None:
        told = bot.submit()

        response = Program("other").post(TASKS, {"skill": "echo", "input": {"text": "hi"}, "id": told["id"]})

        problem(response, 409, "task-id-reused")
        assert Task.objects.count() == 1

    def test_header_and_body_must_not_name_different_keys(self, bot: Program) -> None:
        response = bot.post(TASKS, {"skill": "any", "idempotency_key": "a"}, **{"Idempotency-Key": "b"})

        assert problem(response, 422, "bad-input")["pointer"] == "/idempotency_key"


def echo(**fields: Any) -> dict[str, Any]:
    return {"skill": "echo", "input": {"text": "hi"}, **fields}


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


BAD: list[tuple[str, Any, int, str, str | None]] = [
    ("no skill", {"input": 1}, 422, "bad-input", "/skill"),
    ("unknown skill", {"skill": "nope", "input": 1}, 422, "unknown-skill", "/skill"),
    ("unknown version", echo(version="9"), 422, "unknown-skill", "/skill"),
    ("skill is a number", {"skill": 5}, 422, "bad-input", "/skill"),
    ("skill with NUL", b'{"skill": "a\\u0000"}', 400, "malformed", "/skill"),
    ("skill with a line break", {"skill": "a\n"}, 422, "bad-input", "/skill"),
    ("breaks the schema", {"skill": "echo", "input": {"text": 5}}, 422, "schema-mismatch", "/input/text"),
    ("breaks the schema at the top", {"skill": "echo", "input": []}, 422, "schema-mismatch", "/input"),
    ("too large", {"skill": "any", "input": "x" * (1024 * 1024)}, 413, "too-large", "/input"),
    ("far too large", b'{"skill": "any", "input": "' + b"x" * 2_000_000 + b'"}', 413, "too-large", None),
    ("raw NUL", b'{"skill": "any", "input": "\x00"}', 400, "malformed", None),
    ("escaped NUL", b'{"skill": "any", "input": ["\\u0000"]}', 400, "malformed", "/input/0"),
    ("half a surrogate pair", b'{"skill": "any", "input": {"a": "\\ud800"}}', 400, "malformed", "/input/a"),
    ("nesting over 64", {"skill": "any", "input": deep(65)}, 400, "malformed", "/input"),
    ("nesting without end", b'{"skill": "any", "input": ' + b"[" * 500_000, 400, "malformed", None),
    ("NaN", b'{"skill": "any", "input": NaN}', 400, "malformed", None),
    ("a key twice", b'{"skill": "any", "skill": "echo"}', 400, "malformed", None),
    ("65 bits", b'{"skill": "any", "input": 36893488147419103232}', 400, "malformed", None),
    ("no JSON", b"skill=echo", 400, "malformed", None),
    ("not UTF-8", b'{"skill": "\xff"}', 400, "malformed", None),
    ("an array", [echo()], 422, "bad-input", None),
    ("null", None, 422, "bad-input", None),
    ("nothing", b"", 422, "bad-input", None),
    ("unknown field", echo(prioritty=1), 422, "bad-input", "/prioritty"),
    ("priority too high", echo(priority=10), 422, "bad-input", "/priority"),
    ("priority too low", echo(priority=-1), 422, "bad-input", "/priority"),
    ("priority is text", echo(priority="5"), 422, "bad-input", "/priority"),
    ("priority is true", echo(priority=True), 422, "bad-input", "/priority"),
    ("priority is huge", echo(priority=2**63), 422, "bad-input", "/priority"),
    ("labels are a list", echo(labels=["gpu"]), 422, "bad-input", "/labels"),
    ("a label is a number", echo(labels={"gpu": 1}), 422, "bad-input", "/labels/gpu"),
    ("unknown agent pinned", echo(agent="nobody"), 422, "unknown-agent", "/agent"),
    ("agent of another tenant pinned", echo(agent="other-agent"), 422, "unknown-agent", "/agent"),
    ("odd agent name", echo(agent="../../etc/passwd\0"), 400, "malformed", "/agent"),
    ("long agent name", echo(agent="x" * 65), 422, "bad-input", "/agent"),
    ("pinned and excluded", echo(agent="default-agent", exclude=["default-agent"]), 422, "bad-input", "/exclude"),
    ("no time zone", echo(deadline="2999-01-01T00:00:00"), 422, "bad-input", "/deadline"),
    ("time as a number", echo(not_before=5), 422, "bad-input", "/not_before"),
    ("time beyond time", echo(not_before="9999-12-31T23:59:59-12:00"), 422, "bad-input", "/not_before"),
    ("time before time", echo(not_before="0001-01-01T00:00:00+12:00"), 422, "bad-input", "/not_before"),
    ("deadline past", echo(deadline="2020-01-01T00:00:00Z"), 422, "bad-input", "/deadline"),
    ("timeout 0", echo(timeout_s=0), 422, "bad-input", "/timeout_s"),
    ("timeout is text", echo(timeout_s="1"), 422, "bad-input", "/timeout_s"),
    ("timeout too long", echo(timeout_s=1e300), 422, "bad-input", "/timeout_s"),
    ("attempts 0", echo(max_attempts=0), 422, "bad-input", "/max_attempts"),
    ("attempts too many", echo(max_attempts=10**9), 422, "bad-input", "/max_attempts"),
    ("empty idempotency key", echo(idempotency_key=""), 422, "bad-input", "/idempotency_key"),
    ("long idempotency key", echo(idempotency_key="k" * 201), 422, "bad-input", "/idempotency_key"),
    ("odd idempotency key", echo(idempotency_key="a\nb"), 422, "bad-input", "/idempotency_key"),
    ("id is no UUID", echo(id="5"), 422, "bad-input", "/id"),
    ("parent is no UUID", echo(parent=5), 422, "bad-input", "/parent"),
]


class TestBadInput:
    @pytest.mark.parametrize(("body", "status", "kind", "pointer"), [case[1:] for case in BAD], ids=[c[0] for c in BAD])
    def test_is_refused_and_nothing_is_stored(
        self, bot: Program, body: Any, status: int, kind: str, pointer: str | None
    ) -> None:
        told = problem(bot.post(TASKS, body), status, kind)

        assert told.get("pointer") == pointer
        assert len(told["detail"]) < 1000
        assert Task.objects.count() == 0

    @pytest.mark.parametrize(
        "media_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""]
    )
    def test_of_another_media_type_is_refused(self, bot: Program, media_type: str) -> None:
        response = bot.client.post(TASKS, json.dumps(echo()), media_type, headers=bot.headers)

        problem(response, 415, "unsupported-media-type")
        assert Task.objects.count() == 0

    @settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.dictionaries(st.sampled_from(sorted(schemas.TaskIn.model_fields)), JSON))
    def test_of_any_kind_is_never_our_own_failure(self, bot: Program, body: dict[str, Any]) -> None:
        assert bot.post(TASKS, {"skill": "any", "input": 1, **body}).status_code in (201, 400, 413, 422)

    def test_beyond_what_is_read_at_all_is_refused(self, bot: Program, settings: Settings) -> None:
        settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000

        problem(bot.post(f"{TASKS}:batch", {"tasks": ["x" * 1000]}), 413, "too-large")

    def test_tells_several_at_once(self, bot: Program) -> None:
        told = problem(bot.post(TASKS, echo(priority=11, nonsense=1)), 422, "bad-input")

        assert {error["pointer"] for error in told["errors"]} == {"/priority", "/nonsense"}


class TestSubmitBatch:
    def test_gives_each_its_own_result_in_order(self, bot: Program) -> None:
        bot.submit(idempotency_key="there")
        items = [
            echo(),
            {"skill": "nope"},
            echo(priority=10),
            echo(idempotency_key="there"),
            echo(idempotency_key="there", priority=1),
            "nonsense",
            {"skill": "echo", "input": {}},
            echo(idempotency_key="new"),
        ]

        response = bot.post(f"{TASKS}:batch", {"tasks": items})

        results = response.json()["results"]
        assert response.status_code == 200
        assert [result["status"] for result in results] == [201, 422, 422, 200, 422, 422, 422, 201]
        kinds = [result["problem"] and result["problem"]["type"].rpartition("/")[2] for result in results]
        assert kinds == [
            None, "unknown-skill", "bad-input", None, "idempotency-key-reused", "bad-input", "schema-mismatch", None,
        ]  # fmt: skip
        assert results[2]["problem"]["pointer"] == "/priority"
        assert results[6]["problem"]["pointer"] == "/input"
        assert Task.objects.count() == 3

    @pytest.mark.django_db(transaction=True)  # else each of them reads the registry that this transaction has changed
    def test_takes_a_thousand(self, bot: Program) -> None:
        response = bot.post(f"{TASKS}:batch", {"tasks": [echo()] * 1000})

        assert {result["status"] for result in response.json()["results"]} == {201}
        assert Task.objects.count() == 1000

    @pytest.mark.parametrize(
        ("body", "pointer"),
        [({"tasks": [1] * 1001}, "/tasks"), ({"tasks": []}, "/tasks"), ({}, "/tasks"), ({"tasks": {}}, "/tasks")],
    )
    def test_refuses_another_number(self, bot: Program, body: Any, pointer: str) -> None:
        told = problem(bot.post(f"{TASKS}:batch", body), 422, "bad-input")

        assert told["pointer"] == pointer
        assert Task.objects.count() == 0


class TestGetTask:
    def test_tells_everything_that_happened(self, bot: Program) -> None:
        task = Task.objects.get(id=bot.submit()["id"])
        now = timezone.now()
        for number, state in ((1, AttemptState.LOST), (2, AttemptState.WORKING)):
            Attempt.objects.create(task=task, number=number, agent=f"a{number}", state=state, assigned_at=now)
            Decision.objects.create(
                task=task, attempt=number, strategy="balanced", agent=f"a{number}", at=now,
                candidates=[{"agent": f"a{number}", "score": 1.0, "terms": {}}], exclusions={"x": "draining"},
            )  # fmt: skip
        for seq in (2, 1, 3):
            TaskEvent.objects.create(task=task, seq=seq, kind="log", at=now, data={"message": str(seq)})
        Artifact.objects.create(task=task, seq=3, attempt=2, name="a.txt", sha256="0" * 64, size=1, at=now)

        told = bot.get(f"{TASKS}/{task.id}").json()

        assert [attempt["decision"]["agent"] for attempt in told["attempts"]] == ["a1", "a2"]
        assert (told["decision"]["agent"], told["decision"]["exclusions"]) == ("a2", {"x": "draining"})
        assert [event["seq"] for event in told["events"]] == [1, 2, 3]
        assert told["artifacts"][0]["href"] == f"{TASKS}/{task.id}/artifacts/3"

    def test_knows_no_task_of_another_tenant(self, bot: Program) -> None:
        foreign = Program("other").submit()["id"]

        there, nowhere = bot.get(f"{TASKS}/{foreign}"), bot.get(f"{TASKS}/{uuid4()}")

        told = problem(there, 404, "no-such-task")
        assert told["detail"] == f"No task {foreign}."
        problem(nowhere, 404, "no-such-task")

    def test_never_shows_the_end_among_its_events_of_a_task_that_has_not_ended(self, bot: Program) -> None:
        read = Task.objects.get(pk=bot.submit()["id"])
        TaskEvent.objects.create(task=read, seq=2, kind="canceled", at=timezone.now())
        Task.objects.filter(pk=read.pk).update(state=TaskState.CANCELED, finished_at=timezone.now())

        shown = listing.task_detail(read)

        assert shown.state == shown.events[-1].kind == TaskState.CANCELED


class TestListEvents:
    def test_goes_on_after_the_last_one_seen(self, bot: Program) -> None:
        task = Task.objects.get(id=bot.submit()["id"])
        for seq in range(1, 6):
            TaskEvent.objects.create(task=task, seq=seq, kind="log", at=timezone.now())

        first = bot.get(f"{TASKS}/{task.id}/events", limit=3).json()
        second = bot.get(first["next"]).json()

        assert [event["seq"] for event in first["events"]] == [1, 2, 3]
        assert ([event["seq"] for event in second["events"]], second["next"]) == ([4, 5], None)


def walk(bot: Program, between: Callable[[], None] = lambda: None, **query: Any) -> list[str]:
    """Return the ids on all pages, following the Link header; ``between`` is called between pages."""
    ids: list[str] = []
    response = bot.get(TASKS, **query)
    while True:
        ids += [task["id"] for task in response.json()["tasks"]]
        link = response.headers.get("Link")
        if link is None:
            return ids
        assert link == f'<{response.json()["next"]}>; rel="next"'
        between()
        response = bot.get(response.json()["next"])


class TestListTasks:
    def test_shows_each_task_once_while_others_come_in(self, bot: Program) -> None:
        ids = [bot.submit()["id"] for _ in range(25)]

        seen = walk(bot, between=lambda: bot.submit() and None, limit=4)

        assert seen == ids[::-1]

    def test_shows_each_task_once_when_all_were_made_at_the_same_instant(self, bot: Program) -> None:
        ids = {bot.submit()["id"] for _ in range(10)}
        Task.objects.update(created_at=timezone.now())

        seen = walk(bot, limit=3)

        assert len(seen) == 10
        assert set(seen) == ids

    def test_filters(self, bot: Program) -> None:
        parent = str(uuid4())
        one = bot.submit(parent=parent)["id"]
        two = bot.submit(skill="any", input=1)["id"]
        Task.objects.filter(id=two).update(state=TaskState.WORKING, agent="default-agent")
        middle = Task.objects.get(id=two).created_at.isoformat()

        assert walk(bot, parent=parent) == walk(bot, skill="echo") == walk(bot, until=middle) == [one]
        assert walk(bot, state="working") == walk(bot, agent="default-agent") == walk(bot, since=middle) == [two]

    def test_keeps_its_filters_over_pages(self, bot: Program) -> None:
        wanted = [bot.submit(skill="any", input=1)["id"] for _ in range(5) if bot.submit()]

        assert walk(bot, skill="any", limit=2, since="2000-01-01T00:00:00Z") == wanted[::-1]

    def test_shows_no_task_of_another_tenant(self, bot: Program) -> None:
        Program("other").submit()

        assert walk(bot) == []

    def test_refuses_the_cursor_of_another_tenant(self, bot: Program) -> None:
        for _ in range(2):
            bot.submit()
        following = bot.get(TASKS, limit=1).json()["next"]

        problem(Program("other").get(following), 422, "bad-cursor")

    def test_leaves_out_input_and_output(self, bot: Program) -> None:
        bot.submit()

        (line,) = bot.get(TASKS).json()["tasks"]

        assert not {"input", "output"} & line.keys()

    @pytest.mark.parametrize(
        ("query", "kind"),
        [
            ({"cursor": "nonsense"}, "bad-cursor"),
            ({"cursor": "WzFd:1abc:AAAA"}, "bad-cursor"),
            ({"cursor": "x" * 1000}, "bad-input"),
            ({"limit": 0}, "bad-input"),
            ({"limit": 201}, "bad-input"),
            ({"limit": "many"}, "bad-input"),
            ({"limit": "9" * 5000}, "bad-input"),
            ({"state": "done"}, "bad-input"),
            ({"skill": "\0"}, "bad-input"),
            ({"parent": "5"}, "bad-input"),
            ({"since": "yesterday"}, "bad-input"),
            ({"since": "0001-01-01T00:00:00+12:00"}, "bad-input"),
            ({"stat": "working"}, "bad-input"),
        ],
    )
    def test_refuses_odd_parameters(self, bot: Program, query: dict[str, Any], kind: str) -> None:
        told = problem(bot.get(TASKS, **query), 422, kind)

        if kind == "bad-input" and "stat" not in query:
            assert told["parameter"] == next(iter(query))


class TestCancelTask:
    @pytest.fixture(autouse=True)
    def hurry(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(rest, "CANCEL_WAIT_S", 0.3)

    def test_answers_202_when_the_controller_is_silent(self, bot: Program) -> None:
        told = bot.submit()

        response = bot.post(told["links"]["cancel"], {"reason": "no longer needed"})

        assert (response.status_code, response.json()["state"]) == (202, "submitted")
        command = Command.objects.get()
        assert (str(command.task_id), command.reason, command.by) == (told["id"], "no longer needed", "key bot")

    def test_needs_no_body(self, bot: Program) -> None:
        told = bot.submit()

        response = bot.client.generic("POST", told["links"]["cancel"], headers=bot.headers)

        assert response.status_code == 202

    @pytest.mark.django_db(transaction=True)
    def test_answers_200_once_the_end_is_committed(self, bot: Program, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(rest, "CANCEL_WAIT_S", 20)
        told = bot.submit()
        controller = threading.Thread(target=cancel_when_asked)
        controller.start()

        response = bot.post(told["links"]["cancel"], {})

        controller.join()
        assert (response.status_code, response.json()["state"]) == (200, "canceled")

    def test_answers_202_at_once_when_a_running_task_is_being_stopped(
        self, bot: Program, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(rest, "CANCEL_WAIT_S", 60)
        told = bot.submit()
        Task.objects.update(state=TaskState.WORKING, cancel_requested_at=timezone.now())

        response = bot.post(told["links"]["cancel"], {})

        assert (response.status_code, response.json()["state"]) == (202, "working")

    def test_is_content_with_a_task_that_is_canceled_already(self, bot: Program) -> None:
        told = bot.submit()
        Task.objects.update(state=TaskState.CANCELED, finished_at=timezone.now())

        response = bot.post(told["links"]["cancel"], {})

        assert (response.status_code, response.json()["state"]) == (200, "canceled")

    def test_refuses_a_task_that_has_ended_otherwise(self, bot: Program) -> None:
        told = bot.submit()
        Task.objects.update(state=TaskState.COMPLETED, finished_at=timezone.now())

        problem(bot.post(told["links"]["cancel"], {}), 409, "already-ended")
        assert Command.objects.count() == 0

    def test_knows_no_task_of_another_tenant(self, bot: Program) -> None:
        told = Program("other").submit()

        problem(bot.post(told["links"]["cancel"], {}), 404, "no-such-task")
        assert Command.objects.count() == 0

    @pytest.mark.parametrize("body", [{"reason": 5}, {"why": "x"}, [], {"reason": "x" * 301}])
    def test_refuses_an_odd_body(self, bot: Program, body: Any) -> None:
        told = bot.submit()

        problem(bot.post(told["links"]["cancel"], body), 422, "bad-input")
        assert Command.objects.count() == 0


class TestAnswer:
    def asking(self, bot: Program) -> str:
        """Return where to answer a task that asks."""
        told = bot.submit()
        asked = TaskEvent(task_id=told["id"], seq=4, kind="input-required", at=timezone.now(), data={"message": "How?"})
        asked.save(force_insert=True)
        Task.objects.update(state=TaskState.INPUT_REQUIRED, seq=4)
        return f"{TASKS}/{told['id']}:answer"

    def test_is_kept_once_for_each_message_id(self, bot: Program) -> None:
        where = self.asking(bot)

        responses = [bot.post(where, {"input": {"by": "train"}, "message_id": "m"}) for _ in range(2)]

        assert [response.status_code for response in responses] == [202, 202]
        assert [(row.input, row.by) for row in TaskMessage.objects.all()] == [({"by": "train"}, "key bot")]

    def test_is_refused_where_nothing_was_asked(self, bot: Program) -> None:
        told = bot.submit()

        problem(bot.post(f"{TASKS}/{told['id']}:answer", {"input": 1}), 409, "nothing-asked")

    @pytest.mark.parametrize("body", [{}, {"input": 1, "more": 2}, {"input": 1, "message_id": 5}, []])
    def test_refuses_an_odd_body(self, bot: Program, body: Any) -> None:
        problem(bot.post(self.asking(bot), body), 422, "bad-input")
        assert not TaskMessage.objects.exists()

    def test_knows_no_task_of_another_tenant(self, bot: Program) -> None:
        problem(Program("other").post(self.asking(bot), {"input": 1}), 404, "no-such-task")


def cancel_when_asked() -> None:
    """Do what the controller does with a waiting task."""
    until = time.monotonic() + 20
    while not Command.objects.exists() and time.monotonic() < until:
        time.sleep(0.02)
    Task.objects.update(state=TaskState.CANCELED, finished_at=timezone.now())
    connection.close()


async def collect(chunks: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in chunks])


class TestGetArtifact:
    @pytest.fixture
    def artifact(self, bot: Program, settings: Settings, tmp_path: Any) -> Artifact:
        settings.A2A_ARTIFACTS_DIR = tmp_path
        kept = artifacts.Store(tmp_path).put(b"<script>alert(1)</script>" * 100_000)
        return Artifact.objects.create(
            task_id=bot.submit()["id"], seq=3, attempt=1, name='Grüße "1".html', sha256=kept.sha256, size=kept.size,
            media_type="text/html", at=timezone.now(),
        )  # fmt: skip

    def test_comes_as_a_download_that_a_browser_will_not_run(self, bot: Program, artifact: Artifact) -> None:
        response = bot.get(f"{TASKS}/{artifact.task_id}/artifacts/3")

        assert async_to_sync(collect)(response.streaming_content) == b"<script>alert(1)</script>" * 100_000
        assert response.headers["Content-Disposition"].startswith("attachment; filename")
        assert response.headers["Content-Type"] == "application/octet-stream"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"

    @pytest.mark.parametrize("seq", ["4", "99999999999999999999", "9" * 5000])
    def test_is_404_where_there_is_none(self, bot: Program, artifact: Artifact, seq: str) -> None:
        assert bot.get(f"{TASKS}/{artifact.task_id}/artifacts/{seq}").status_code == 404

    def test_is_404_for_another_tenant(self, artifact: Artifact) -> None:
        problem(Program("other").get(f"{TASKS}/{artifact.task_id}/artifacts/3"), 404, "no-such-task")

    def test_is_404_when_the_file_is_gone(self, bot: Program, artifact: Artifact, settings: Settings) -> None:
        artifacts.Store(settings.A2A_ARTIFACTS_DIR).delete(artifact.sha256)

        problem(bot.get(f"{TASKS}/{artifact.task_id}/artifacts/3"), 404, "no-such-artifact")


class TestRegistryLists:
    def test_show_the_callers_own_tenant(self, bot: Program) -> None:
        agents, skills = bot.get("/api/v1/agents").json()["agents"], bot.get("/api/v1/skills").json()["skills"]

        assert [agent["name"] for agent in agents] == ["default-agent"]
        assert [(skill["name"], skill["agents"]) for skill in skills] == [("any", []), ("echo", ["default-agent"])]
        assert skills[1]["input_schema"] == ECHO_SCHEMA

    def test_keep_executor_options_inside(self, bot: Program) -> None:
        assert b"isolated" not in bot.get("/api/v1/agents").content


class TestAccess:
    EVERY = [
        ("GET", TASKS, Scope.TASKS_READ),
        ("POST", TASKS, Scope.TASKS_WRITE),
        ("POST", f"{TASKS}:batch", Scope.TASKS_WRITE),
        ("GET", f"{TASKS}/{uuid4()}", Scope.TASKS_READ),
        ("GET", f"{TASKS}/{uuid4()}/events", Scope.TASKS_READ),
        ("GET", f"{TASKS}/{uuid4()}/artifacts/1", Scope.TASKS_READ),
        ("POST", f"{TASKS}/{uuid4()}:cancel", Scope.TASKS_WRITE),
        ("POST", f"{TASKS}/{uuid4()}:answer", Scope.TASKS_WRITE),
        ("GET", "/api/v1/agents", Scope.AGENTS_READ),
        ("GET", "/api/v1/skills", Scope.AGENTS_READ),
    ]

    @pytest.mark.parametrize(("method", "path", "scope"), EVERY)
    @pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer a2a_x_y", "Basic YTpi", "Bearer \x00", "ä"])
    def test_needs_a_genuine_key(self, method: str, path: str, scope: Scope, header: str | None) -> None:
        headers = {} if header is None else {"Authorization": header}

        response = Client().generic(method, path, b"{}", "application/json", headers=headers)

        problem(response, 401, "not-authenticated")
        assert response.headers["WWW-Authenticate"].startswith("Bearer")

    @pytest.mark.parametrize(("method", "path", "scope"), EVERY)
    def test_names_the_scope_that_is_missing(self, method: str, path: str, scope: Scope) -> None:
        others = Program(scopes=tuple(set(Scope.values) - {scope.value}))

        response = others.client.generic(method, path, b"{}", "application/json", headers=others.headers)

        assert scope.value in problem(response, 403, "missing-scope")["detail"]
        assert f'scope="{scope.value}"' in response.headers["WWW-Authenticate"]

    def test_a_revoked_key_opens_nothing(self, bot: Program) -> None:
        registry.revoke_key(bot.key)

        problem(bot.get(TASKS), 401, "not-authenticated")

    def test_every_operation_asks_who_calls(self) -> None:
        routers = [router for _, router in rest.api._routers]
        paths = [view for router in routers for view in router.path_operations.values()]
        views = [operation for view in paths for operation in view.operations]

        assert len(views) >= len(self.EVERY)
        assert all(operation.auth_callbacks for operation in views)


class TestSession:
    @pytest.fixture
    def browser(self) -> Client:
        client = Client(enforce_csrf_checks=True)
        client.force_login(User.objects.create_user("anna", is_staff=True))
        return client

    def test_reads_the_default_tenant(self, browser: Client, bot: Program) -> None:
        told = bot.submit()
        Program("other").submit()

        assert [task["id"] for task in browser.get(TASKS).json()["tasks"]] == [told["id"]]

    def test_does_not_write_without_the_csrf_token(self, browser: Client) -> None:
        response = browser.post(TASKS, json.dumps(echo()), "application/json")

        problem(response, 403, "csrf")
        assert Task.objects.count() == 0

    def test_writes_with_the_csrf_token(self, browser: Client) -> None:
        browser.get("/admin/")
        browser.cookies["csrftoken"] = token = "a" * 32

        response = browser.post(TASKS, json.dumps(echo()), "application/json", headers={"X-CSRFToken": token})

        assert response.status_code == 201
        assert Task.objects.get().origin == "web"

    def test_does_nothing_for_a_person_without_permission(self) -> None:
        client = Client()
        client.force_login(User.objects.create_user("bob"))

        problem(client.get(TASKS), 403, "missing-scope")

    def test_a_wrong_key_is_not_made_good_by_a_session(self, browser: Client) -> None:
        problem(browser.get(TASKS, headers={"Authorization": "Bearer a2a_x"}), 401, "not-authenticated")


class TestProblems:
    @pytest.mark.parametrize("path", ["", "nowhere", "tasks/", "tasks/5", "tasks/5:cancel", "docs"])
    def test_404_for_what_is_not_there(self, bot: Program, path: str) -> None:
        problem(bot.get(f"/api/v1/{path}"), 404, "not-found")
        problem(bot.post(f"/api/v1/{path}", {}), 404, "not-found")

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("DELETE", TASKS),
            ("PUT", f"{TASKS}/{uuid4()}"),
            ("GET", f"{TASKS}:batch"),
            ("GET", f"{TASKS}/{uuid4()}:cancel"),
        ],
    )
    def test_405_says_what_works(self, bot: Program, method: str, path: str) -> None:
        response = bot.client.generic(method, path, headers=bot.headers)

        told = problem(response, 405, "method-not-allowed")
        assert response.headers["Allow"] in told["detail"]

    def test_500_tells_nothing_but_the_request_id(self, bot: Program, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(listing, "agent_list", lambda tenant: 1 / 0)

        response = bot.client.get("/api/v1/agents", headers={**bot.headers, "X-Request-Id": "abc-1"})

        told = problem(response, 500, "internal")
        assert told["request_id"] == "abc-1"
        assert b"ZeroDivision" not in response.content

    def test_503_while_the_database_is_locked(self, bot: Program, monkeypatch: pytest.MonkeyPatch) -> None:
        def locked(tenant: str) -> None:
            raise OperationalError("database is locked")

        monkeypatch.setattr(listing, "agent_list", locked)

        response = bot.get("/api/v1/agents")

        problem(response, 503, "unavailable")
        assert response.headers["Retry-After"] == "2"

    def test_an_odd_request_id_is_replaced(self, bot: Program) -> None:
        response = bot.client.get("/api/v1/nowhere", headers={"X-Request-Id": "<script>"})

        assert "script" not in problem(response, 404, "not-found")["request_id"]


class TestOpenApi:
    def test_describes_the_operations_and_loads_nothing_from_elsewhere(self) -> None:
        described = Client().get("/api/v1/openapi.json").json()

        assert {TASKS, f"{TASKS}:batch", "/api/v1/agents"} <= described["paths"].keys()
        assert "TaskIn" in described["components"]["schemas"]


class TestSubmitWithMore:
    MORE = {
        "size": 2.5,
        "concurrency_key": "repo-1",
        "affinity": "ann",
        "singleton": "nightly",
        "debounce_s": 5,
        "debounce_key": "save",
        "throttle": {"limit": 3, "period_s": 60},
        "budget": {"usd": 0.5},
    }

    def test_keeps_what_was_asked_for(self, bot: Program) -> None:
        told = bot.submit(**self.MORE)

        assert (told["size"], told["concurrency_key"], told["affinity"]) == (2.5, "repo-1", "ann")
        assert (told["singleton_key"], told["debounce_key"], told["budget"]) == ("nightly", "save", {"usd": 0.5})
        assert told["not_before"] is not None
        assert Task.objects.get().throttle_key == "echo"

    def test_answers_200_with_the_singleton_that_lives(self, bot: Program) -> None:
        first = bot.submit(singleton="nightly")

        again = bot.post(TASKS, {"skill": "any", "singleton": "nightly"})

        assert again.status_code == 200
        assert again.json()["id"] == first["id"]

    def test_one_too_many_is_told_when_to_come_again(self, bot: Program) -> None:
        body = {"skill": "any", "throttle": {"limit": 1, "period_s": 60, "key": "k"}}
        bot.post(TASKS, body)

        response = bot.post(TASKS, body)

        problem(response, 429, "throttled")
        assert 0 < int(response.headers["Retry-After"]) <= 60

    def test_contained_work_is_told_why(self, bot: Program) -> None:
        switch = {"scope": "everything", "mode": "enforce", "reason": "Keys leak.", "by": "ann"}
        rulebook.save_containment(Containment(name="stop", **switch))

        response = bot.post(TASKS, {"skill": "any"})

        assert "by ann: Keys leak." in problem(response, 503, "contained")["detail"]
        assert response.headers["Retry-After"] == "60"

    @pytest.mark.parametrize(
        ("fields", "pointer"),
        [
            ({"size": -1}, "/size"),
            ({"size": "1"}, "/size"),
            ({"singleton": ""}, "/singleton"),
            ({"debounce_s": 5}, "/debounce_key"),
            ({"throttle": {"limit": 0, "period_s": 1}}, "/throttle/limit"),
            ({"throttle": {"limit": 1}}, "/throttle/period_s"),
            ({"throttle": {"limit": 1, "period_s": 1, "x": 1}}, "/throttle/x"),
            ({"budget": {"gold": 1}}, "/budget"),
        ],
    )
    def test_points_at_what_is_wrong(self, bot: Program, fields: dict[str, Any], pointer: str) -> None:
        told = problem(bot.post(TASKS, {"skill": "any", **fields}), 422, "bad-input")

        assert told["pointer"] == pointer


class TestGiveFeedback:
    @pytest.fixture
    def done(self, bot: Program) -> str:
        told = bot.submit()
        Task.objects.update(state=TaskState.COMPLETED, finished_at=timezone.now(), agent="default-agent")
        return f"{told['links']['self']}/feedback"

    def test_keeps_it_under_the_callers_name(self, bot: Program, done: str) -> None:
        response = bot.post(done, {"score": 0.5, "comment": "So so."})

        told = response.json()
        assert response.status_code == 200
        assert (told["score"], told["comment"], told["by"]) == (0.5, "So so.", "key bot")
        assert Command.objects.get().kind == "rate"

    @pytest.mark.parametrize("score", [7, -1, "0.5", True, None])
    def test_refuses_a_score_that_is_none(self, bot: Program, done: str, score: Any) -> None:
        told = problem(bot.post(done, {"score": score}), 422, "bad-input")

        assert told["pointer"] == "/score"

    def test_of_a_task_that_is_not_completed_is_refused(self, bot: Program) -> None:
        told = bot.submit()

        problem(bot.post(f"{told['links']['self']}/feedback", {"score": 1}), 409, "not-completed")

    def test_of_another_tenants_task_is_404(self, done: str) -> None:
        problem(Program("other").post(done, {"score": 1}), 404, "no-such-task")


class TestGetDecision:
    def test_tells_why_each_attempt_went_to_its_agent(self, bot: Program) -> None:
        told, now = bot.submit(), timezone.now()
        task = Task.objects.get()
        for number in (1, 2):
            Attempt.objects.create(task=task, number=number, agent=f"a{number}", assigned_at=now, hedge=number == 2)
        Decision.objects.create(
            task=task, attempt=1, policy="cheap", revision=7, strategy="cheapest", agent="a1", at=now, more=2,
            candidates=[{"agent": "a1", "score": 1.0}], exclusions={"a3": "full"}, waited_for="limit x",
            shadow={"strategy": "fastest", "agent": "a2"},
        )  # fmt: skip

        answer = bot.get(f"{told['links']['self']}/decision").json()

        first, second = answer["attempts"]
        assert (answer["task"], answer["state"]) == (told["id"], "submitted")
        assert (first["decision"]["policy"], first["decision"]["revision"], first["decision"]["more"]) == (
            "cheap",
            7,
            2,
        )
        assert first["decision"]["shadow"] == {"strategy": "fastest", "agent": "a2"}
        assert first["decision"]["waited_for"] == "limit x"
        assert first["decision"]["explanation"] == [
            "a1, by cheapest of policy cheap (revision 7): the only able agent with a free slot, expected price $1.00.",
            "Left out: a3: full; 2 more that are not listed.",
            "A shadow fastest would have taken a2.",
        ]
        assert (second["hedge"], second["decision"]) == (True, None)

    def test_of_another_tenants_task_is_404(self, bot: Program) -> None:
        told = bot.submit()

        problem(Program("other").get(f"{told['links']['self']}/decision"), 404, "no-such-task")

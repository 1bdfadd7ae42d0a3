"""Workflows, runs and approvals over REST, with real rows; the controller is not needed for what a door does."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from django.test import Client

from coordination import runs, workflows
from coordination.models import Approval, Run, RunCommand
from routing import registry
from tests.coordination.test_runs import CHAIN, FAN

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("bus")]


class Program:
    """A caller with a key."""

    def __init__(self, tenant: str = "default") -> None:
        registry.ensure_tenant(tenant)
        _, self.key = registry.create_key(tenant, "tests", ["tasks:read", "tasks:write"])
        self.client = Client()

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        headers |= {"HTTP_AUTHORIZATION": f"Bearer {self.key}"}
        more = {} if body is None else {"data": body, "content_type": "application/json"}
        return getattr(self.client, method)(f"/api/v1{path}", **more, **headers)


@pytest.fixture
def bot() -> Program:
    made = Program()
    registry.ensure_agent(
        "any-1", skills=[registry.ensure_skill("any")], executor="command", options={"argv": ["true"]}
    )
    return made


class TestWorkflows:
    def test_makes_a_version_for_each_change_only(self, bot: Program) -> None:
        first = bot.send("post", "/workflows", {"source": CHAIN})
        again = bot.send("post", "/workflows", {"source": CHAIN})
        second = bot.send("post", "/workflows", {"source": CHAIN.replace("second:", "last:")})

        assert (first.status_code, again.status_code, second.status_code) == (201, 200, 201)
        assert second.json()["version"] == 2
        assert bot.send("get", "/workflows").json()["workflows"][0]["version"] == 2
        assert bot.send("get", "/workflows/pair?version=1").json()["version"] == 1

    def test_tells_the_line_of_each_problem(self, bot: Program) -> None:
        answer = bot.send("post", "/workflows", {"source": "name: x\nsteps:\n  a: {task: any, after: b}\n"})

        assert answer.status_code == 422
        assert "line 3" in answer.json()["detail"]

    def test_refuses_to_save_over_somebody_elses_version(self, bot: Program) -> None:
        bot.send("post", "/workflows", {"source": CHAIN})
        bot.send("post", "/workflows", {"source": CHAIN.replace("second:", "last:")})

        answer = bot.send("post", "/workflows", {"source": CHAIN, "seen": 1})

        assert answer.status_code == 409


class TestRuns:
    def test_starts_one_and_shows_it(self, bot: Program) -> None:
        bot.send("post", "/workflows", {"source": CHAIN})
        made = bot.send("post", "/runs", {"workflow": "pair", "input": {"n": 1}})

        shown = bot.send("get", f"/runs/{made.json()['id']}")

        assert made.status_code == 201
        assert made["Location"] == f"/api/v1/runs/{made.json()['id']}"
        assert (shown.json()["state"], shown.json()["steps"]) == ("pending", [])

    def test_starts_a_definition_of_its_own(self, bot: Program) -> None:
        assert bot.send("post", "/runs", {"definition": FAN, "input": {"items": []}}).status_code == 201

    def test_lists_pages_that_follow_on_one_another(self, bot: Program) -> None:
        bot.send("post", "/workflows", {"source": CHAIN})
        for n in range(5):
            bot.send("post", "/runs", {"workflow": "pair", "input": {"n": n}})

        seen, address = [], "/runs?limit=2"
        while address:
            page = bot.send("get", address).json()
            seen += [run["id"] for run in page["runs"]]
            address = (page["next"] or "").removeprefix("/api/v1")

        assert len(seen) == len(set(seen)) == 5

    def test_hides_another_tenants(self, bot: Program) -> None:
        bot.send("post", "/workflows", {"source": CHAIN})
        made = bot.send("post", "/runs", {"workflow": "pair", "input": {"n": 1}}).json()["id"]
        stranger = Program("other")

        assert stranger.send("get", f"/runs/{made}").status_code == 404
        assert stranger.send("post", f"/runs/{made}:cancel", {}).status_code == 404
        assert stranger.send("get", "/runs").json()["runs"] == []

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            ({"workflow": "unheard-of"}, 404),
            ({"definition": "steps: ["}, 422),
            ({"workflow": "pair", "priority": 12}, 422),
            ({"workflow": "pair", "extra": 1}, 422),
        ],
    )
    def test_refuses_what_cannot_be_in_words(self, bot: Program, body: dict[str, Any], status: int) -> None:
        bot.send("post", "/workflows", {"source": CHAIN})

        answer = bot.send("post", "/runs", body)

        assert (answer.status_code, Run.objects.count()) == (status, 0)
        assert answer.json()["detail"]

    @pytest.mark.parametrize(
        ("verb", "body"),
        [
            ("pause", {}), ("resume", {}), ("cancel", {"reason": "enough"}), ("retry", {}),
            ("skip", {"step": "first", "output": 3}), ("rerun", {"step": "second", "input": {"n": 2}}),
        ],
    )  # fmt: skip
    def test_keeps_what_is_asked(self, bot: Program, verb: str, body: dict[str, Any]) -> None:
        bot.send("post", "/workflows", {"source": CHAIN})
        run = bot.send("post", "/runs", {"workflow": "pair", "input": {"n": 1}}).json()["id"]

        answer = bot.send("post", f"/runs/{run}:{verb}", body)

        assert answer.status_code == 202
        assert RunCommand.objects.get().kind == verb

    def test_names_the_steps_there_are(self, bot: Program) -> None:
        bot.send("post", "/workflows", {"source": CHAIN})
        run = bot.send("post", "/runs", {"workflow": "pair", "input": {"n": 1}}).json()["id"]

        answer = bot.send("post", f"/runs/{run}:skip", {"step": "third"})

        assert answer.status_code == 422
        assert "first, second" in answer.json()["detail"]


class TestApprovals:
    def test_are_answered_once_and_as_the_form_asks(self, bot: Program) -> None:
        bot.send("post", "/workflows", {"source": CHAIN})
        run = bot.send("post", "/runs", {"workflow": "pair", "input": {"n": 1}}).json()["id"]
        row = Approval.objects.create(tenant_id="default", run_id=run, step="first", round=1, title="May it?")
        listed = bot.send("get", "/approvals").json()["approvals"]

        wrong = bot.send("post", f"/approvals/{row.id}:answer", {"answer": "perhaps"})
        right = bot.send("post", f"/approvals/{row.id}:answer", {"answer": True})
        again = bot.send("post", f"/approvals/{row.id}:answer", {"answer": False})

        assert [approval["title"] for approval in listed] == ["May it?"]
        assert (wrong.status_code, right.status_code, again.status_code) == (422, 202, 409)
        assert RunCommand.objects.get().kind == runs.Kind.ANSWER

    def test_of_nobody_is_not_found(self, bot: Program) -> None:
        assert bot.send("post", f"/approvals/{uuid4()}:answer", {"answer": True}).status_code == 404


class TestCanvas:
    def test_starts_a_run_of_a_canvas_in_its_json_form(self, bot: Program) -> None:
        step = {"task": "routing.run_agent_task", "args": [], "kwargs": {"skill": "any"}, "options": {}}
        canvas = {"task": "celery.chain", "args": [], "kwargs": {"tasks": [step, step]}, "options": {},
                  "subtask_type": "chain", "immutable": False}  # fmt: skip

        answer = bot.send("post", "/runs", {"canvas": canvas})

        assert answer.status_code == 201, answer.content
        assert len(workflows.graph_of(Run.objects.get().definition).steps) == 2

    @pytest.mark.parametrize(
        "body",
        [
            {"canvas": {"task": "nobody.knows", "args": [], "kwargs": {}, "options": {}}},
            {"canvas": {"task": 7}},
            {"canvas": {}},
            {"canvas": {"task": "celery.chain"}, "workflow": "pair"},
            {},
        ],
    )
    def test_refuses_what_is_none(self, bot: Program, body: dict[str, Any]) -> None:
        answer = bot.send("post", "/runs", body)

        assert answer.status_code == 422
        assert not Run.objects.exists()

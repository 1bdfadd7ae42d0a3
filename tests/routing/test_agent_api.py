"""Agents registered by programs, through Django's own client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client

from routing import registry
from routing.models import Agent, Scope, Skill

pytestmark = pytest.mark.django_db

AGENTS = "/api/v1/agents"
PROGRAM = {"executor": "command", "options": {"argv": ["codex"]}, "capacity": 2, "labels": {"kind": "cli"}}


@pytest.fixture(autouse=True)
def fleet(db: None) -> Iterator[None]:
    """Two tenants; the other one has an agent."""
    registry.forget()
    registry.ensure_tenant()
    registry.ensure_tenant("other")
    registry.ensure_skill("code", description="Writes code.")
    registry.ensure_agent("theirs", tenant="other", skills=[])
    yield
    registry.forget()


class Program:
    """A caller with a key."""

    def __init__(self, *scopes: str) -> None:
        _, plaintext = registry.create_key("default", "bot", scopes or tuple(Scope.values))
        self.headers = {"Authorization": f"Bearer {plaintext}"}

    def __call__(self, method: str, path: str = "", body: Any = None) -> Any:
        data = "" if body is None else json.dumps(body)
        return Client().generic(method, AGENTS + path, data, "application/json", headers=self.headers)


@pytest.fixture
def bot() -> Program:
    return Program()


def told(response: Any, status: int) -> Any:
    assert response.status_code == status, response.content
    return response.json()


class TestPutAgent:
    def test_registers_an_agent_with_a_skill_that_is_there(self, bot: Program) -> None:
        agent = told(bot("PUT", "/codex", {**PROGRAM, "skills": ["code"], "cost_usd": 0.25}), 201)

        assert (agent["executor"], agent["capacity"], agent["cost_usd"]) == ("command", 2, 0.25)
        assert agent["skills"] == [{"name": "code", "version": "1"}]
        assert "options" not in agent
        assert Agent.objects.get(name="codex").options == {"argv": ["codex"]}

    def test_makes_a_skill_that_is_described(self, bot: Program) -> None:
        skill = {"name": "draw", "description": "Draws.", "version": "2", "timeout_s": 60}

        agent = told(bot("PUT", "/codex", {**PROGRAM, "skills": [skill]}), 201)

        assert agent["skills"] == [{"name": "draw", "version": "2"}]
        assert Skill.objects.get(name="draw").timeout_s == 60

    def test_changes_it_to_be_exactly_so_when_sent_again(self, bot: Program) -> None:
        bot("PUT", "/codex", {**PROGRAM, "skills": ["code"]})

        agent = told(bot("PUT", "/codex", {"executor": "command", "options": {"argv": ["x"]}}), 200)

        assert (agent["capacity"], agent["labels"], agent["skills"]) == (4, {}, [])

    @pytest.mark.parametrize(
        ("body", "pointer", "words"),
        [
            ({"skills": ["nobody"]}, "/skills/0", "No skill is called 'nobody'; known: code."),
            ({"skills": [{"name": "draw"}]}, "/skills/0", "To make it, give it a description."),
            ({"skills": [{"name": "code", "version": "9"}]}, "/skills/0", "No skill is called 'code v9'"),
            ({"skills": [{"name": "draw", "description": "", "timeout_s": 0}]}, "/skills/0/timeout_s", "above 0"),
            ({"capacity": 0}, "/capacity", "from 1 to 10000"),
            ({"executor": "magic"}, "/executor", "No executor is called 'magic'"),
            ({"executor": "command", "options": {}}, "/options", "argv"),
            ({"labels": {"gpu": ""}}, "/labels", "words with words"),
            ({"cost_usd": -1}, "/cost_usd", "0 or more"),
        ],
    )
    def test_refuses_in_words_and_makes_nothing(self, bot: Program, body: Any, pointer: str, words: str) -> None:
        problem = told(bot("PUT", "/codex", body), 422)

        assert words in problem["detail"]
        assert problem["pointer"] == pointer
        assert not Agent.objects.filter(name="codex").exists()
        assert Skill.objects.count() == 1

    def test_refuses_a_name_of_another_tenant(self, bot: Program) -> None:
        problem = told(bot("PUT", "/theirs", PROGRAM), 409)

        assert problem["type"] == "/problems/name-taken"
        assert Agent.objects.get(name="theirs").executor == "python"

    def test_refuses_a_field_that_is_not_there(self, bot: Program) -> None:
        assert told(bot("PUT", "/codex", {"capacty": 3}), 422)["pointer"] == "/capacty"

    def test_needs_its_scope(self) -> None:
        program = Program(Scope.AGENTS_READ, Scope.TASKS_WRITE)

        assert told(program("PUT", "/codex", PROGRAM), 403)["type"] == "/problems/missing-scope"


class TestPatchAgent:
    def test_changes_only_what_is_given(self, bot: Program) -> None:
        bot("PUT", "/codex", {**PROGRAM, "skills": ["code"]})

        agent = told(bot("PATCH", "/codex", {"capacity": 9}), 200)

        assert (agent["capacity"], agent["labels"]) == (9, {"kind": "cli"})
        assert [skill["name"] for skill in agent["skills"]] == ["code"]

    @pytest.mark.parametrize("name", ["nobody", "theirs"])
    def test_of_an_agent_that_is_not_ones_own_is_404(self, bot: Program, name: str) -> None:
        assert told(bot("PATCH", f"/{name}", {"capacity": 9}), 404)["detail"] == f"No agent '{name}'."


class TestDeleteAgent:
    def test_removes_it(self, bot: Program) -> None:
        bot("PUT", "/codex", PROGRAM)

        assert bot("DELETE", "/codex").status_code == 204
        assert told(bot("GET", "/codex"), 404)["type"] == "/problems/no-such-agent"

    def test_of_another_tenants_agent_is_404(self, bot: Program) -> None:
        told(bot("DELETE", "/theirs"), 404)

        assert Agent.objects.filter(name="theirs").exists()


class TestDrainAgent:
    def test_drains_and_resumes(self, bot: Program) -> None:
        bot("PUT", "/codex", PROGRAM)

        drained = told(bot("POST", "/codex:drain"), 200)
        resumed = told(bot("POST", "/codex:resume"), 200)

        assert (drained["draining"], resumed["draining"]) == (True, False)

    def test_of_another_tenants_agent_is_404(self, bot: Program) -> None:
        told(bot("POST", "/theirs:drain"), 404)

        assert not Agent.objects.get(name="theirs").draining


class TestScorecard:
    def test_tells_each_skill(self, bot: Program) -> None:
        bot("PUT", "/codex", {**PROGRAM, "skills": ["code"], "cost_usd": 0.25})

        told_ = told(bot("GET", "/codex/scorecard"), 200)

        [card] = told_["cards"]
        assert (told_["agent"], card["skill"], card["learned"]["samples"]) == ("codex", "code", 0)
        assert (card["learned"]["cost_usd"], card["counted"]["failed"]) == (0.25, {})
        assert (card["breaker"]["state"], card["feedback"]["mean"]) == ("closed", None)

    @pytest.mark.parametrize("name", ["theirs", "nobody"])
    def test_knows_nothing_of_another_tenants_agent(self, bot: Program, name: str) -> None:
        answer = told(bot("GET", f"/{name}/scorecard"), 404)

        assert answer["status"] == 404

    def test_is_not_for_keys_that_may_not_read_agents(self) -> None:
        told(Program("tasks:read")("GET", "/theirs/scorecard"), 403)

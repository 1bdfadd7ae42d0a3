"""The only writer of tenants, keys, skills and agents."""

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings
from pytest_django.fixtures import DjangoCaptureOnCommitCallbacks

from routing import executors, registry
from routing.errors import BadRegistration
from routing.models import Agent, ApiKey, Controller, Revision, Skill, Tenant

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def nothing_remembered() -> Iterator[None]:
    registry.forget()
    yield
    registry.forget()


def skill(name: str = "echo", **fields: Any) -> Skill:
    return registry.save_skill(Skill(name=name, **fields))


def agent(name: str = "one", *skills: Skill, **fields: Any) -> Agent:
    return registry.save_agent(Agent(name=name, **fields), skills)


class TestMigrations:
    def test_make_the_rows_that_every_installation_has(self) -> None:
        assert Tenant.objects.filter(name="default").exists()
        assert Controller.objects.filter(id=1).exists()
        assert Revision.objects.filter(id=1).exists()


class TestSaveAgent:
    def test_saves_the_agent_with_exactly_these_skills(self) -> None:
        echo, lint = skill("echo"), skill("lint")

        saved = agent("one", echo, lint, labels={"gpu": "yes"}, cost_usd=Decimal("0.5"))
        registry.save_agent(saved, [lint])

        (spec,) = registry.agent_specs()
        assert spec.skills == {("lint", "1")}
        assert (spec.labels, spec.cost_usd) == ((("gpu", "yes"),), 0.5)

    def test_counts_as_one_change(self) -> None:
        before = registry.revision()

        agent("one", skill())

        assert registry.revision() == before + 2  # the skill, and the agent with its skills

    def test_rings_the_controller_on_commit(
        self, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
    ) -> None:
        with django_capture_on_commit_callbacks() as callbacks:
            agent("one")

        assert callbacks == [registry._announce]

    @pytest.mark.parametrize(
        ("fields", "pointer", "words"),
        [
            ({"name": "Odd Name!"}, "/name", "Use 1 to 64 of a-z"),
            ({"name": "../../etc"}, "/name", "Use 1 to 64"),
            ({"name": "x\0"}, "/name", "Use 1 to 64"),
            ({"name": "x\n"}, "/name", "Use 1 to 64"),
            ({"name": ""}, "/name", "Use 1 to 64"),
            ({"name": "x" * 65}, "/name", "Use 1 to 64"),
            ({"capacity": 0}, "/capacity", "from 1 to 10000"),
            ({"capacity": 10_001}, "/capacity", "from 1 to 10000"),
            ({"capacity": 1.5}, "/capacity", "whole number"),
            ({"executor": "magic"}, "/executor", "No executor is called 'magic'. Known: "),
            ({"options": []}, "/options", "JSON object"),
            ({"executor": "command", "options": {"comand": ["x"]}}, "/options", "comand"),
            ({"options": {"handler": float("nan")}}, "/options", "handler"),
            ({"labels": {"gpu": 1}}, "/labels", "words with words"),
            ({"labels": ["gpu"]}, "/labels", "words with words"),
            ({"labels": {"": "x"}}, "/labels", "words with words"),
            ({"cost_usd": -1}, "/cost_usd", "0 or more"),
            ({"cost_usd": Decimal("NaN")}, "/cost_usd", "0 or more"),
            ({"cost_usd": "much"}, "/cost_usd", "0 or more"),
            ({"tenant_id": "nobody"}, "/tenant", "'nobody' is not a valid choice"),
        ],
    )
    def test_refuses_in_words(self, fields: dict[str, Any], pointer: str, words: str) -> None:
        before = registry.revision()

        with pytest.raises(BadRegistration) as caught:
            registry.save_agent(Agent(**{"name": "one", **fields}), [])

        assert words in str(caught.value)
        assert caught.value.pointer == pointer
        assert Agent.objects.count() == 0
        assert registry.revision() == before

    def test_tells_all_problems_at_once(self) -> None:
        with pytest.raises(BadRegistration) as caught:
            registry.save_agent(Agent(name="Bad", capacity=0, executor="magic"), [])

        assert all(word in str(caught.value) for word in ("capacity:", "executor:", "name:"))

    def test_refuses_a_name_that_is_taken(self) -> None:
        agent("one")

        with pytest.raises(BadRegistration, match="already exists"):
            agent("one")

    def test_refuses_the_skill_of_another_tenant(self) -> None:
        registry.save_tenant("other")

        with pytest.raises(BadRegistration, match=r"echo v1: of another tenant"):
            agent("one", skill(tenant_id="other"))


class TestSetState:
    def test_changes_only_what_is_given(self) -> None:
        one = agent("one")

        registry.set_state(one, draining=True)

        (spec,) = registry.agent_specs()
        assert (spec.enabled, spec.draining) == (True, True)
        assert (one.enabled, one.draining) == (True, True)


class TestRemoveAgent:
    def test_removes_it_and_counts_a_change(self) -> None:
        one = agent("one", skill())
        before = registry.revision()

        registry.remove_agent(one)

        assert registry.agent_specs() == ()
        assert registry.revision() == before + 1


class TestSaveSkill:
    @pytest.mark.parametrize(
        ("fields", "pointer", "words"),
        [
            ({"name": "a b"}, "/name", "Use 1 to 64"),
            ({"version": ""}, "/version", "1 to 32 letters"),
            ({"version": "1\0"}, "/version", "1 to 32 letters"),
            ({"input_schema": {"type": "objekt"}}, "/input_schema", "'objekt'"),
            ({"output_schema": {"$ref": "http://example.com/"}}, "/output_schema", "leads out"),
            ({"input_schema": []}, "/input_schema", "JSON object"),
            ({"timeout_s": 0}, "/timeout_s", "above 0 and at most 604800"),
            ({"timeout_s": float("inf")}, "/timeout_s", "above 0"),
            ({"timeout_s": None}, "/timeout_s", "above 0"),
            ({"max_attempts": 0}, "/max_attempts", "from 1 to 100"),
            ({"description": "\0"}, "/description", "NUL"),
        ],
    )
    def test_refuses_in_words(self, fields: dict[str, Any], pointer: str, words: str) -> None:
        with pytest.raises(BadRegistration) as caught:
            registry.save_skill(Skill(**{"name": "echo", **fields}))

        assert words in str(caught.value)
        assert caught.value.pointer == pointer
        assert Skill.objects.count() == 0


class TestRemoveSkill:
    def test_refuses_while_an_agent_has_it(self) -> None:
        echo = skill()
        agent("one", echo)

        with pytest.raises(BadRegistration, match="a skill of one"):
            registry.remove_skill(echo)

        assert Skill.objects.count() == 1


class TestKnownSkill:
    def test_gives_the_newest_version_as_people_count(self) -> None:
        for version in ("1.10", "1.9", "1.2"):
            skill(version=version)

        newest = registry.known_skill("default", "echo")

        assert newest is not None
        assert newest.version == "1.10"
        assert registry.known_skill("default", "echo", "1.9") is not None
        assert registry.known_skill("default", "echo", "2") is None

    def test_keeps_tenants_apart(self) -> None:
        registry.save_tenant("other")
        skill(tenant_id="other")

        assert registry.known_skill("default", "echo") is None
        assert registry.skill_names("other") == ["echo"]

    @pytest.mark.django_db(transaction=True)
    def test_costs_no_query_while_fresh(self) -> None:
        registry.known()

        with CaptureQueriesContext(connection) as queries:
            for _ in range(100):
                registry.known_skill("default", "echo")

        assert len(queries) == 0

    @pytest.mark.django_db(transaction=True)
    def test_sees_a_change_at_once_in_the_process_that_made_it(self) -> None:
        registry.ensure_tenant()
        assert registry.known_skill("default", "echo") is None

        skill()

        assert registry.known_skill("default", "echo") is not None

    @pytest.mark.django_db(transaction=True)
    def test_sees_the_change_of_another_process_once_it_is_no_longer_fresh(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        registry.ensure_tenant()
        registry.known()
        Skill.objects.create(name="echo")
        Revision.raise_number()

        assert registry.known_skill("default", "echo") is None
        monkeypatch.setattr(registry, "FRESH_S", 0)
        assert registry.known_skill("default", "echo") is not None

    @pytest.mark.django_db(transaction=True)
    def test_a_change_that_was_rolled_back_is_not_remembered(self) -> None:
        registry.ensure_tenant()
        with transaction.atomic():
            skill()
            assert registry.known_skill("default", "echo") is not None
            transaction.set_rollback(True)

        assert registry.known_skill("default", "echo") is None


class TestExecutorOf:
    def test_returns_the_executor_with_its_options(self) -> None:
        agent("one", options={"isolated": True}, executor="python")

        assert registry.executor_of("one") == ("python", {"isolated": True})
        assert registry.agent_names() == ["one"]

    def test_raises_unavailable_for_an_agent_that_is_gone(self) -> None:
        with pytest.raises(executors.Unavailable, match="not registered any more"):
            registry.executor_of("one")


class TestEnsure:
    def test_a_second_call_changes_nothing(self) -> None:
        for _ in range(2):
            echo = registry.ensure_skill("echo", description="Says it again.")
            registry.ensure_agent("one", skills=[echo], executor="python", options={}, cost_usd=0.1)
            number = registry.revision()

        assert registry.revision() == number
        assert (Skill.objects.count(), Agent.objects.count()) == (1, 1)

    def test_follows_the_code_and_leaves_the_operators_settings(self) -> None:
        echo = registry.ensure_skill("echo", timeout_s=10, description="old")
        one = registry.ensure_agent("one", skills=[echo], executor="python", capacity=2)
        one.capacity = 9
        registry.save_agent(one, [echo])

        again = registry.ensure_skill("echo", timeout_s=20, description="new")
        registry.ensure_agent("one", skills=[echo], executor="python", capacity=2, description="d")

        assert (again.timeout_s, again.description) == (10, "new")
        assert (Agent.objects.get().capacity, Agent.objects.get().description) == (9, "d")

    def test_handlers_get_a_row_where_there_is_none(self, settings: Settings) -> None:
        settings.A2A_AGENT_MODULES = ["tests.routing.agents"]

        registry.ensure_handlers()
        once = registry.revision()
        registry.ensure_handlers()

        greeter = Agent.objects.get(name="registry-greeter")
        assert [known.name for known in greeter.skills.all()] == ["greet"]
        assert (greeter.capacity, greeter.executor) == (7, "python")
        assert registry.revision() == once


class TestCreateKey:
    def test_keeps_only_a_digest(self) -> None:
        key, plaintext = registry.create_key("default", "bot", ["tasks:read"])

        assert plaintext.startswith(f"a2a_{key.prefix}_")
        assert plaintext.split("_", 2)[2] not in str(ApiKey.objects.values().get())

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ({"scopes": ["tasks:all"]}, "No scope is called tasks:all. Known: tasks:read"),
            ({"scopes": []}, "at least one"),
            ({"name": ""}, "blank"),
            ({"tenant": "nobody"}, "'nobody' is not a valid choice"),
            ({"expires_at": timezone.now() - timedelta(days=1)}, "past already"),
        ],
    )
    def test_refuses_in_words(self, arguments: dict[str, Any], words: str) -> None:
        with pytest.raises(BadRegistration, match=words):
            registry.create_key(**{"tenant": "default", "name": "bot", "scopes": ["tasks:read"], **arguments})

        assert ApiKey.objects.count() == 0


class TestAuthenticate:
    def test_knows_a_genuine_key(self) -> None:
        key, plaintext = registry.create_key("default", "bot", ["tasks:read"])

        assert registry.authenticate(plaintext) == key

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda text: text[:-1] + ("A" if text[-1] != "A" else "B"),
            lambda text: text + "x",
            lambda text: text + "\n",
            lambda text: text.replace("a2a_", "b2b_"),
            lambda text: "a2a_" + "0" * 12 + "_" + text.split("_", 2)[2],
            lambda text: "",
            lambda text: "\0" * 60,
            lambda text: "ä" * 60,
        ],
    )
    def test_refuses_any_other(self, spoil: Any) -> None:
        _, plaintext = registry.create_key("default", "bot", ["tasks:read"])

        assert registry.authenticate(spoil(plaintext)) is None

    def test_refuses_a_revoked_key(self) -> None:
        key, plaintext = registry.create_key("default", "bot", ["tasks:read"])

        registry.revoke_key(key)

        assert key.revoked_at is not None
        assert registry.authenticate(plaintext) is None

    def test_refuses_an_expired_key(self) -> None:
        _, plaintext = registry.create_key("default", "bot", ["tasks:read"])
        ApiKey.objects.update(expires_at=timezone.now() - timedelta(seconds=1))

        assert registry.authenticate(plaintext) is None

    def test_notes_the_last_use_once_a_minute(self) -> None:
        key, plaintext = registry.create_key("default", "bot", ["tasks:read"])
        registry.authenticate(plaintext)
        key.refresh_from_db()
        first = key.last_used_at

        with CaptureQueriesContext(connection) as queries:
            registry.authenticate(plaintext)

        assert first is not None
        assert len(queries) == 1

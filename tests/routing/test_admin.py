"""The admin's pages, through Django's own client."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from routing import lifecycle, registry
from routing.models import Agent, ApiKey, PushConfig, Skill, Task, TaskState, Tenant

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def nothing_remembered() -> Iterator[None]:
    yield
    registry.forget()


@pytest.fixture
def admin() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    return client


def agent_form(**fields: Any) -> dict[str, Any]:
    return {
        "tenant": "default",
        "name": "one",
        "executor": "python",
        "options": "{}",
        "capacity": "4",
        "labels": "{}",
        "cost_usd": "0",
        "enabled": "on",
        **fields,
    }


def skill_form(**fields: Any) -> dict[str, Any]:
    return {
        "tenant": "default",
        "name": "echo",
        "version": "1",
        "input_schema": "{}",
        "output_schema": "{}",
        "timeout_s": "300",
        "max_attempts": "3",
        **fields,
    }


class TestAgents:
    ADD = "/admin/routing/agent/add/"

    def test_saving_one_with_its_skills_is_one_change(self, admin: Client) -> None:
        echo = registry.ensure_skill("echo")
        before = registry.revision()

        response = admin.post(self.ADD, agent_form(skills=[echo.pk], labels='{"gpu": "yes"}'))

        assert response.status_code == 302
        (spec,) = registry.agent_specs()
        assert spec.skills == {("echo", "1")}
        assert spec.labels == (("gpu", "yes"),)
        assert registry.revision() == before + 1

    def test_changing_one_moves_its_skills(self, admin: Client) -> None:
        echo, lint = registry.ensure_skill("echo"), registry.ensure_skill("lint")
        one = registry.ensure_agent("one", skills=[echo])
        path = f"/admin/routing/agent/{one.pk}/change/"

        page = admin.get(path)
        response = admin.post(path, agent_form(skills=[lint.pk], capacity="9"))

        assert page.status_code == 200
        assert response.status_code == 302
        (spec,) = registry.agent_specs()
        assert spec.skills == {("lint", "1")}
        assert spec.capacity == 9

    @pytest.mark.parametrize(
        ("fields", "field", "words"),
        [
            ({"name": "Odd Name"}, "name", "Use 1 to 64 of a-z"),
            ({"name": "one\0"}, "name", "Null characters"),
            ({"capacity": "0"}, "capacity", "from 1 to 10000"),
            ({"capacity": "x"}, "capacity", "whole number"),
            ({"cost_usd": "-1"}, "cost_usd", "0 or more"),
            ({"labels": '{"gpu": 1}'}, "labels", "words with words"),
            ({"labels": '{"a": "1", "a": "2"}'}, "labels", "stands twice"),
            ({"options": '{"handler": NaN}'}, "options", "NaN is not a JSON number"),
            ({"options": "[" * 50_000}, "options", "64 deep"),
            ({"options": "[]"}, "options", "JSON object"),
            ({"options": '{"handlr": "x"}'}, "options", "handlr"),
            ({"executor": "magic"}, "executor", "valid choice"),
        ],
    )
    def test_says_what_is_wrong_at_the_field(self, admin: Client, fields: Any, field: str, words: str) -> None:
        response = admin.post(self.ADD, agent_form(**fields))

        assert response.status_code == 200
        errors = response.context["adminform"].form.errors
        assert words.lower() in " ".join(errors[field]).lower(), errors
        assert Agent.objects.count() == 0

    def test_refuses_the_skill_of_another_tenant(self, admin: Client) -> None:
        registry.save_tenant("other")
        foreign = registry.ensure_skill("echo", tenant="other")

        response = admin.post(self.ADD, agent_form(skills=[foreign.pk]))

        assert "of another tenant" in str(response.context["adminform"].form.errors["skills"])

    def test_deleting_one_counts_as_a_change(self, admin: Client) -> None:
        one = registry.ensure_agent("one", skills=[])
        before = registry.revision()

        admin.post(f"/admin/routing/agent/{one.pk}/delete/", {"post": "yes"})

        assert Agent.objects.count() == 0
        assert registry.revision() == before + 1

    @pytest.mark.parametrize(
        ("action", "enabled", "draining"),
        [("drain", True, True), ("resume", True, False), ("enable", True, False), ("disable", False, False)],
    )
    def test_actions_set_its_state(self, admin: Client, action: str, enabled: bool, draining: bool) -> None:
        one = registry.ensure_agent("one", skills=[])
        before = registry.revision()

        response = admin.post("/admin/routing/agent/", {"action": action, "_selected_action": [one.pk]}, follow=True)

        one.refresh_from_db()
        assert (one.enabled, one.draining) == (enabled, draining)
        assert b": one." in response.content
        assert registry.revision() == before + 1


class TestSkills:
    def test_saving_one_counts_as_a_change(self, admin: Client) -> None:
        before = registry.revision()

        response = admin.post(
            "/admin/routing/skill/add/", skill_form(input_schema='{"type": "object"}', output_schema="")
        )

        assert response.status_code == 302
        assert registry.revision() == before + 1
        assert (Skill.objects.get().input_schema, Skill.objects.get().output_schema) == ({"type": "object"}, {})

    def test_shows_what_is_wrong_with_a_schema(self, admin: Client) -> None:
        response = admin.post("/admin/routing/skill/add/", skill_form(input_schema='{"type": "objekt"}'))

        assert "objekt" in str(response.context["adminform"].form.errors["input_schema"])
        assert Skill.objects.count() == 0

    @pytest.mark.parametrize(
        ("fields", "field"),
        [
            ({"timeout_s": "0"}, "timeout_s"),
            ({"timeout_s": "nan"}, "timeout_s"),
            ({"max_attempts": "0"}, "max_attempts"),
            ({"version": "a b"}, "version"),
        ],
    )
    def test_shows_a_number_out_of_range_at_its_field(self, admin: Client, fields: Any, field: str) -> None:
        response = admin.post("/admin/routing/skill/add/", skill_form(**fields))

        assert list(response.context["adminform"].form.errors) == [field]

    def test_is_not_deleted_while_an_agent_has_it(self, admin: Client) -> None:
        echo = registry.ensure_skill("echo")
        registry.ensure_agent("one", skills=[echo])

        page = admin.get(f"/admin/routing/skill/{echo.pk}/delete/")
        admin.post(f"/admin/routing/skill/{echo.pk}/delete/", {"post": "yes"})

        assert b"Agent: one" in page.content
        assert Skill.objects.count() == 1

    def test_is_deleted_when_nobody_has_it(self, admin: Client) -> None:
        echo = registry.ensure_skill("echo")

        admin.post(f"/admin/routing/skill/{echo.pk}/delete/", {"post": "yes"})

        assert Skill.objects.count() == 0


class TestTenants:
    def test_are_made_but_not_renamed_or_deleted(self, admin: Client) -> None:
        admin.post("/admin/routing/tenant/add/", {"name": "lab", "description": "d", "weight": "2"})
        admin.post("/admin/routing/tenant/lab/change/", {"name": "other", "description": "e", "weight": "3"})

        lab = Tenant.objects.get(name="lab")
        assert (lab.description, lab.weight) == ("e", 3)
        assert not Tenant.objects.filter(name="other").exists()
        assert admin.post("/admin/routing/tenant/lab/delete/", {"post": "yes"}).status_code == 403


class TestKeys:
    FORM = {"tenant": "default", "name": "bot", "scopes": ["tasks:read", "tasks:write"]}

    def test_making_one_shows_it_once(self, admin: Client) -> None:
        response = admin.post("/admin/routing/apikey/add/", self.FORM, follow=True)

        shown = re.search(r"a2a_[0-9a-f]{12}_[A-Za-z0-9_-]{43}", response.content.decode())
        assert shown is not None
        key = registry.authenticate(shown[0])
        assert key is not None
        assert key.scopes == ["tasks:read", "tasks:write"]
        assert shown[0] not in admin.get("/admin/routing/apikey/").content.decode()

    def test_a_new_ones_form_names_the_only_tenant(self, admin: Client) -> None:
        assert admin.get("/admin/routing/apikey/add/").context["adminform"].form.initial == {"tenant": "default"}

    def test_a_new_ones_form_leaves_the_choice_where_there_are_more(self, admin: Client) -> None:
        registry.ensure_tenant("other")

        assert admin.get("/admin/routing/apikey/add/").context["adminform"].form.initial == {}

    def test_the_page_of_one_shows_no_digest_and_takes_no_change(self, admin: Client) -> None:
        key, _ = registry.create_key("default", "bot", ["tasks:read"])
        path = f"/admin/routing/apikey/{key.pk}/change/"

        assert key.digest not in admin.get(path).content.decode()
        assert admin.post(path, {**self.FORM, "name": "x"}).status_code == 403

    @pytest.mark.parametrize(
        ("fields", "field"),
        [
            ({"scopes": []}, "scopes"),
            ({"scopes": ["all"]}, "scopes"),
            ({"name": ""}, "name"),
            ({"tenant": "x"}, "tenant"),
        ],
    )
    def test_says_what_is_wrong(self, admin: Client, fields: Any, field: str) -> None:
        response = admin.post("/admin/routing/apikey/add/", {**self.FORM, **fields})

        assert field in response.context["adminform"].form.errors
        assert ApiKey.objects.count() == 0

    def test_are_revoked_for_good(self, admin: Client) -> None:
        key, plaintext = registry.create_key("default", "bot", ["tasks:read"])

        admin.post("/admin/routing/apikey/", {"action": "revoke", "_selected_action": [key.pk]})

        assert registry.authenticate(plaintext) is None


class TestTasks:
    @pytest.fixture
    def task(self) -> Task:
        registry.ensure_skill("echo")
        registry.ensure_skill("lint")
        lifecycle.submit(lifecycle.Request(skill="lint", input={}))
        return lifecycle.submit(lifecycle.Request(skill="echo", input={"text": "<b>"})).task

    @pytest.mark.parametrize("query", ["?q={id}", "?q={hex}", "?q=echo", "?skill=echo", "?state__exact=working"])
    def test_are_found(self, admin: Client, task: Task, query: str) -> None:
        Task.objects.filter(id=task.id).update(state=TaskState.WORKING)

        page = admin.get("/admin/routing/task/" + query.format(id=task.id, hex=task.id.hex))

        assert [row.pk for row in page.context["cl"].result_list] == [task.id]
        assert f'href="/tasks/{task.id}"' in page.content.decode()

    @pytest.mark.parametrize("query", ["?q=nothing", "?q=01a2", "?skill=%00"])
    def test_an_odd_search_finds_nothing(self, admin: Client, task: Task, query: str) -> None:
        assert list(admin.get("/admin/routing/task/" + query).context["cl"].result_list) == []

    def test_are_for_reading(self, admin: Client, task: Task) -> None:
        path = f"/admin/routing/task/{task.id}"

        assert admin.get(f"{path}/change/").status_code == 200
        assert admin.post(f"{path}/change/", {"priority": 9}).status_code == 403
        assert admin.post(f"{path}/delete/", {"post": "yes"}).status_code == 403
        assert admin.get("/admin/routing/task/add/").status_code == 403


class TestPushConfigs:
    def test_given_up_are_tried_again(self, admin: Client) -> None:
        registry.ensure_skill("echo")
        task = lifecycle.submit(lifecycle.Request(skill="echo", input={})).task
        now = timezone.now()
        row = PushConfig.objects.create(task=task, config_id="c", url="https://example.com/", token="s", dead_at=now)
        chosen = {"action": "send_again", ACTION_CHECKBOX_NAME: [row.pk]}

        page = admin.get("/admin/routing/pushconfig/").content.decode()
        admin.post("/admin/routing/pushconfig/", chosen)

        row.refresh_from_db()
        assert "https://example.com/" in page
        assert row.dead_at is None


class TestCommands:
    def test_are_for_reading(self, admin: Client) -> None:
        registry.ensure_skill("echo")
        task = lifecycle.submit(lifecycle.Request(skill="echo", input={})).task
        command = lifecycle.cancel(task.pk, tenant="default", by="root", reason="why not")

        assert b"why not" in admin.get("/admin/routing/command/").content
        assert admin.get(f"/admin/routing/command/{command.pk}/change/").status_code == 200
        assert admin.get("/admin/routing/command/add/").status_code == 403

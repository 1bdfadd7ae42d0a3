"""The admin's pages of rules, through Django's own client."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from routing import registry, rulebook
from routing.models import Agent, Budget, Containment, Limit, Policy, Skill

pytestmark = pytest.mark.django_db

MATCH = {"skill": "*", "tenant": "", "labels": "", "priority_low": "0", "priority_high": "9"}
POLICY = {
    **MATCH, "name": "cheap", "enabled": "on", "position": "100", "strategy": "cheapest", "weights": "{}",
    "order": "[]", "retries": "{}", "when_shut": "wait", "hedge_share": "0.05", "hedge_busy": "0.8",
}  # fmt: skip
LIMIT = {**MATCH, "name": "few", "enabled": "on", "agent": "*", "per": "all", "burst": "1", "on_full": "queue"}
BUDGET = {**MATCH, "name": "day", "enabled": "on", "agent": "*", "unit": "usd", "amount": "5", "scope": "all"}
SWITCH = {
    "name": "stop", "enabled": "on", "scope": "skill", "value": "code.*", "mode": "observe", "reason": "It leaks.",
}  # fmt: skip


@pytest.fixture(autouse=True)
def fleet(db: None) -> Iterator[None]:
    registry.forget()
    registry.ensure_tenant()
    registry.ensure_agent("codex", skills=[registry.ensure_skill("code.review")])
    yield
    registry.forget()


@pytest.fixture
def admin() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    return client


def errors(response: Any) -> dict[str, str]:
    """Return the words at each field of the form that came back."""
    assert response.status_code == 200
    return {field: " ".join(map(str, found)) for field, found in response.context["adminform"].form.errors.items()}


class TestPages:
    @pytest.mark.parametrize(
        ("kind", "form", "model"),
        [
            ("policy", POLICY, Policy),
            ("limit", {**LIMIT, "max_running": "2"}, Limit),
            ("budget", BUDGET, Budget),
            ("containment", SWITCH, Containment),
        ],
    )
    def test_add_change_list_and_delete_a_rule(self, admin: Client, kind: str, form: Any, model: Any) -> None:
        at = f"/admin/routing/{kind}/"
        before = registry.revision()

        added = admin.post(f"{at}add/", form)
        row = model.objects.get()
        page = admin.get(f"{at}{row.pk}/change/")
        changed = admin.post(f"{at}{row.pk}/change/", {**form, "note": "Kept."})
        listed = admin.get(at)
        deleted = admin.post(f"{at}{row.pk}/delete/", {"post": "yes"})

        assert [answer.status_code for answer in (added, page, changed, listed, deleted)] == [302, 200, 302, 200, 302]
        assert form["name"] in listed.content.decode()
        assert model.objects.count() == 0
        assert registry.revision() == before + 3

    def test_lists_say_what_a_rule_does(self, admin: Client) -> None:
        admin.post("/admin/routing/policy/add/", {**POLICY, "skill": "code.*", "timeout_s": "60"})

        page = admin.get("/admin/routing/policy/").content.decode()

        assert "tasks of code.*: cheapest, 60 s for each attempt" in page

    def test_lists_say_which_rule_is_left_out(self, admin: Client) -> None:
        admin.post("/admin/routing/policy/add/", POLICY)
        Policy.objects.update(labels="gpu=")

        assert "cannot be read: labels: Column 5" in admin.get("/admin/routing/policy/").content.decode()


class TestErrors:
    @pytest.mark.parametrize(
        ("kind", "form", "field", "words"),
        [
            ("policy", {**POLICY, "labels": "gpu="}, "labels", "Column 5: expected a value"),
            ("policy", {**POLICY, "skill": "nobody"}, "skill", "No skill is called"),
            ("policy", {**POLICY, "strategy": "luck"}, "strategy", "valid choice"),
            ("policy", {**POLICY, "strategy": "ordered"}, "order", "Name the agents"),
            ("policy", {**POLICY, "strategy": "ordered", "order": '["hal"]'}, "order", "No agent is called"),
            ("policy", {**POLICY, "order": "{}"}, "order", "list of agents"),
            ("policy", {**POLICY, "weights": '{"a": 1, "a": 2}'}, "weights", "stands twice"),
            ("policy", {**POLICY, "weights": '{"luck": 1}'}, "weights", "no weight"),
            ("policy", {**POLICY, "retries": '{"timeout": {"factor": 0}}'}, "retries", "factor must lie"),
            ("policy", {**POLICY, "priority_low": "8", "priority_high": "3"}, "priority_low", "8 to 3 is empty"),
            ("policy", {**POLICY, "hedge_share": "2"}, "hedge_share", "at most 0.5"),
            ("limit", LIMIT, "__all__", "It limits nothing"),
            ("limit", {**LIMIT, "max_running": "0"}, "max_running", "disable the agents"),
            ("budget", {**BUDGET, "amount": "-1"}, "amount", "from 0"),
            ("containment", {**SWITCH, "value": "x*"}, "value", "No skill fits"),
            ("containment", {**SWITCH, "scope": "everything"}, "value", "must be empty"),
            ("containment", {**SWITCH, "cancel_running": "on"}, "cancel_running", "needs the mode enforce"),
            ("containment", {**SWITCH, "reason": ""}, "reason", "required"),
        ],
    )
    def test_stand_at_their_field(self, admin: Client, kind: str, form: Any, field: str, words: str) -> None:
        found = errors(admin.post(f"/admin/routing/{kind}/add/", form))

        assert words in found[field], found
        assert list(found) == [field]
        assert not any(model.objects.exists() for model in (Policy, Limit, Budget, Containment))


class TestContainment:
    def throw(self, admin: Client, **fields: str) -> Containment:
        admin.post("/admin/routing/containment/add/", {**SWITCH, **fields})
        return Containment.objects.get()

    def act(self, admin: Client, action: str, row: Containment) -> str:
        asked = {"action": action, "_selected_action": [row.pk]}
        return admin.post("/admin/routing/containment/", asked, follow=True).content.decode()

    def test_says_who_threw_it(self, admin: Client) -> None:
        row = self.throw(admin)

        assert (row.by, row.mode) == ("user root", "observe")

    def test_is_enforced_by_an_action(self, admin: Client) -> None:
        row = self.throw(admin)

        page = self.act(admin, "enforce", row)

        assert "Now enforced: stop." in page
        held = rulebook.containment_of("default", "code.review")
        assert held is not None
        assert "by user root: It leaks." in held.refusal()

    def test_is_released_by_an_action(self, admin: Client) -> None:
        row = self.throw(admin, mode="enforce")

        page = self.act(admin, "release", row)

        assert "Now released: stop." in page
        assert rulebook.containment_of("default", "code.review") is None

    def test_that_cannot_be_enforced_says_why(self, admin: Client) -> None:
        row = self.throw(admin)
        registry.remove_agent(Agent.objects.get(name="codex"))
        registry.remove_skill(Skill.objects.get(name="code.review"))

        page = self.act(admin, "enforce", row)

        assert "Stop: value: No skill fits" in page  # the page begins each message with a capital
        assert Containment.objects.get().mode == "observe"


class TestTenants:
    def test_get_their_weight(self, admin: Client) -> None:
        admin.post("/admin/routing/tenant/add/", {"name": "lab", "weight": "2.5"})

        assert rulebook.rules().weights == {"lab": 2.5}

    @pytest.mark.parametrize("weight", ["0", "-1", "5000", "nan"])
    def test_refuse_a_weight_out_of_range(self, admin: Client, weight: str) -> None:
        response = admin.post("/admin/routing/tenant/add/", {"name": "lab", "weight": weight})

        assert list(errors(response)) == ["weight"]

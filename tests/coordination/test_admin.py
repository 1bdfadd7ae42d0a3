"""coordination.admin"""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone

from coordination import runs, workflows
from coordination.models import Approval, Run, RunCommand, StepRun, Workflow, WorkflowVersion
from routing import registry

pytestmark = pytest.mark.django_db

SOURCE = "name: pair\nsteps:\n  first: {task: any}\n"
UNTOUCHED = {"versions-TOTAL_FORMS": "0", "versions-INITIAL_FORMS": "0"}
ADD = "/admin/coordination/workflow/add/"


@pytest.fixture(autouse=True)
def skill() -> None:
    """Register a skill to ask for."""
    registry.ensure_tenant()
    registry.ensure_skill("any")


@pytest.fixture
def browser(client: Client) -> Client:
    """Return a client that is logged in as a superuser."""
    client.force_login(User.objects.create_superuser("ada"))
    return client


def edit(workflow: Workflow) -> str:
    """Return the address of the workflow's form."""
    return f"/admin/coordination/workflow/{workflow.pk}/change/"


class TestWorkflowAdmin:
    def test_adds_a_workflow_under_the_name_in_its_source(self, browser: Client) -> None:
        answer = browser.post(ADD, {"tenant": "default", "description": "Two.", "source": SOURCE, "note": "n"})

        version = WorkflowVersion.objects.get()
        assert answer.status_code == 302
        assert (version.workflow.name, version.workflow.description, version.number) == ("pair", "Two.", 1)
        assert (version.author, version.note) == ("ada", "n")

    def test_puts_each_problem_with_its_line_at_the_source(self, browser: Client) -> None:
        source = "name: pair\nsteps:\n  first: {task: none}\n  second: {task: any, after: nobody}\n"

        answer = browser.post(ADD, {"tenant": "default", "source": source})

        told = answer.context["adminform"].form.errors["source"]
        assert [words.split(",")[0] for words in told] == ["line 3", "line 4"]
        assert not Workflow.objects.exists()

    def test_saving_a_changed_source_makes_the_next_version(self, browser: Client) -> None:
        row = workflows.save(SOURCE).workflow
        changed = SOURCE + "  second: {task: any}\n"

        browser.post(edit(row), {**UNTOUCHED, "enabled": "on", "source": changed, "seen": "1"})
        browser.post(edit(row), {**UNTOUCHED, "enabled": "", "source": changed, "seen": "2"})

        row.refresh_from_db()
        assert [version.number for version in row.versions.all()] == [2, 1]
        assert not row.enabled

    def test_refuses_another_name_and_what_somebody_has_saved_meanwhile(self, browser: Client) -> None:
        row = workflows.save(SOURCE).workflow
        workflows.save(SOURCE + "  second: {task: any}\n")

        answer = browser.post(edit(row), {**UNTOUCHED, "source": SOURCE.replace("pair", "other"), "seen": "1"})

        told = "\n".join(answer.context["adminform"].form.errors["source"])
        assert "Another name is another workflow." in told
        assert "at version 2 by now, not 1" in told
        assert row.versions.count() == 2

    def test_does_not_add_one_twice(self, browser: Client) -> None:
        workflows.save(SOURCE)

        answer = browser.post(ADD, {"tenant": "default", "source": SOURCE})

        assert "called 'pair' already" in answer.context["adminform"].form.errors["source"][0]

    def test_shows_what_changed_between_versions(self, browser: Client) -> None:
        row = workflows.save(SOURCE).workflow
        workflows.save(SOURCE + "  second: {task: any}\n")

        assert "difference?from=1&amp;to=2" in browser.get(edit(row)).content.decode()
        html = browser.get(f"/admin/coordination/workflow/{row.pk}/difference?from=1&to=2").content.decode()

        assert "+  second:" in html
        assert "is new." in html
        assert browser.get(f"/admin/coordination/workflow/{row.pk}/difference?from=1&to=7").status_code == 404


class TestReadOnly:
    @pytest.mark.parametrize("table", ["run", "approval", "workflow"])
    def test_lists_are_shown(self, browser: Client, table: str) -> None:
        version = workflows.save(SOURCE)
        Run.objects.create(tenant_id="default", workflow="pair", definition=version.definition)

        assert browser.get(f"/admin/coordination/{table}/").status_code == 200

    def test_a_run_cannot_be_edited(self, browser: Client) -> None:
        run = Run.objects.create(tenant_id="default", workflow="pair", definition=workflows.save(SOURCE).definition)

        assert browser.post(f"/admin/coordination/run/{run.pk}/change/", {"state": "failed"}).status_code == 403
        assert browser.get("/admin/coordination/run/add/").status_code == 403


@pytest.fixture
def run() -> Run:
    """Return a run under way whose first step has failed; it waits for a signal, and for an answer."""
    waits = "name: waits\nsteps:\n  first: {task: any}\n  news: {wait: {signal: news}}\n  may: {approval: Go on}\n"
    workflows.save(waits)
    made = runs.start(runs.Request(workflow="waits", by="ada")).run
    now = timezone.now()
    Run.objects.filter(id=made.id).update(state="running", accepted_at=now, started_at=now)
    StepRun.objects.create(run=made, step="first", state="failed", round=1, started_at=now, ended_at=now)
    made.refresh_from_db()
    return made


class TestRunAdmin:
    def asking(self, run: Run, verb: str) -> str:
        return f"/admin/coordination/run/{run.pk}/ask/{verb}"

    def test_offers_what_can_be_asked_as_the_run_stands(self, browser: Client, run: Run) -> None:
        html = browser.get(f"/admin/coordination/run/{run.pk}/change/").content.decode()

        offered = re.findall(r"/ask/(\w+)", html)
        assert offered == ["pause", "cancel", "retry", "rerun", "skip", "fork", "signal"]

    @pytest.mark.parametrize(
        ("verb", "typed", "data"),
        [
            ("pause", {}, {}),
            ("cancel", {"compensate": "on"}, {"compensate": True}),
            ("retry", {}, {}),
            ("rerun", {"step": "first", "input": '{"n": 1}'}, {"step": "first", "input": {"n": 1}}),
            ("skip", {"step": "first"}, {"step": "first"}),
            ("signal", {"name": "news", "payload": "[1]"}, {"name": "news", "payload": [1]}),
        ],
    )
    def test_asks_it_with_a_reason(
        self, browser: Client, run: Run, verb: str, typed: dict[str, str], data: dict[str, Any]
    ) -> None:
        answer = browser.post(self.asking(run, verb), {**typed, "reason": "enough"})

        command = RunCommand.objects.get()
        assert answer.status_code == 302
        assert (command.kind, command.data, command.by, command.reason) == (verb, data, "ada", "enough")

    def test_forks_and_shows_the_new_run(self, browser: Client, run: Run) -> None:
        answer = browser.post(self.asking(run, "fork"), {"step": "first", "input": "7"})

        made = Run.objects.exclude(pk=run.pk).get()
        assert answer.headers["Location"] == f"/admin/coordination/run/{made.pk}/change/"
        assert (made.forked_from, made.overrides) == (run.pk, {"first": 7})

    def test_says_on_the_form_what_is_refused(self, browser: Client, run: Run) -> None:
        wrong = browser.post(self.asking(run, "rerun"), {"step": "first", "input": "{n"})
        no_reason = browser.post(self.asking(run, "cancel"), {})

        assert "errorlist nonfield" in wrong.content.decode()
        assert "This field is required" in no_reason.content.decode()
        assert not RunCommand.objects.exists()

    def test_is_for_those_who_may(self, client: Client, run: Run) -> None:
        reader = User.objects.create_user("eve", is_staff=True)
        reader.user_permissions.add(Permission.objects.get(codename="view_run"))
        client.force_login(reader)

        assert "/ask/" not in client.get(f"/admin/coordination/run/{run.pk}/change/").content.decode()
        assert client.post(self.asking(run, "pause"), {}).status_code == 403
        assert client.get(self.asking(run, "nothing")).status_code == 404


class TestApprovalAdmin:
    def test_answers_where_it_is_shown(self, browser: Client, run: Run) -> None:
        row = Approval.objects.create(tenant_id=run.tenant_id, run=run, step="may", title="Go on?", schema={}, round=1)
        page = f"/admin/coordination/approval/{row.pk}/change/"

        html = browser.get(page).content.decode()
        answer = browser.post(f"/approvals/{row.pk}", {"answer": "true", "next": page})

        assert f'action="/approvals/{row.pk}"' in html
        assert f'value="{page}"' in html
        assert answer.headers["Location"] == page
        assert RunCommand.objects.get().kind == "answer"

"""coordination.admin"""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client

from coordination import workflows
from coordination.models import Run, Workflow, WorkflowVersion
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

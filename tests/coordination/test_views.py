"""coordination.views"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.utils import timezone
from pytest_django.fixtures import Settings

from coordination import runs, workflows
from coordination.models import Approval, Run, RunCommand, RunEvent, StepRun, StepTask, WorkflowVersion
from routing import broker, registry
from tests.monitoring.fakes import new_task

pytestmark = pytest.mark.django_db

SOURCE = """
name: pair
steps:
  first: {task: any, input: "{{ run.input }}"}
  news: {wait: {signal: news}}
  may: {approval: "May it go on?"}
  last: {task: any, after: [news, may]}
"""
FLAT = {
    "type": "object",
    "required": ["verdict"],
    "properties": {
        "verdict": {"enum": ["publish", "drop"]},
        "remarks": {"type": "string"},
        "copies": {"type": "integer"},
        "urgent": {"type": "boolean"},
    },
}
PAGES = ["/workflows", "/workflows/pair", "/runs", "/approvals"]


@pytest.fixture(autouse=True)
def without_redis(settings: Settings) -> Iterator[None]:
    """Point at a Redis that is not there: pages work without it."""
    settings.A2A_REDIS_URL = "unix:///nonexistent/redis.sock"
    broker.client.cache_clear()
    yield
    broker.client.cache_clear()


@pytest.fixture
def browser(client: Client) -> Client:
    """Return a client that is logged in as a superuser."""
    client.force_login(User.objects.create_superuser("ada"))
    return client


@pytest.fixture
def viewer() -> Client:
    """Return a client of somebody who may do nothing."""
    made = Client()
    made.force_login(User.objects.create_user("eve"))
    return made


@pytest.fixture
def version() -> WorkflowVersion:
    """Return a workflow's first version."""
    registry.ensure_tenant()
    registry.ensure_skill("any")
    return workflows.save(SOURCE)


@pytest.fixture
def run(version: WorkflowVersion) -> Run:
    """Return a run under way: its first step has failed, its approval is open."""
    made = runs.start(runs.Request(workflow="pair", input={"n": "</script><script>"}, by="ada")).run
    now = timezone.now()
    Run.objects.filter(id=made.id).update(state="running", accepted_at=now, started_at=now)
    error = {"kind": "agent", "message": "<b>out of paper</b>", "agent": "any-1", "attempt": 2}
    StepRun.objects.create(
        run=made, step="first", state="failed", round=1, error=error, agent="any-1", attempt=2, started_at=now,
        ended_at=now,
    )  # fmt: skip
    RunEvent.objects.create(run=made, seq=1, kind="step_failed", step="first", round=1, at=now, data={"error": error})
    made.refresh_from_db()
    return made


def asked(run: Run, schema: dict[str, Any], **fields: Any) -> Approval:
    """Return an open approval of the run."""
    return Approval.objects.create(
        tenant_id=run.tenant_id, run=run, step="may", title="May it go on?", schema=schema, **({"round": 1} | fields)
    )


def text(client: Client, path: str, status: int = 200) -> str:
    """Return the page."""
    answer = client.get(path)
    assert answer.status_code == status
    return answer.content.decode()


class TestEveryPage:
    @pytest.mark.parametrize("path", [*PAGES, f"/runs/{uuid.uuid4()}"])
    def test_asks_a_stranger_to_log_in(self, client: Client, path: str) -> None:
        answer = client.get(path)

        assert (answer.status_code, answer.headers["Location"]) == (302, f"/login/?next={path}")

    @pytest.mark.parametrize("path", [*PAGES, "run"])
    def test_has_a_strict_policy_and_nothing_inline(self, browser: Client, run: Run, path: str) -> None:
        asked(run, FLAT)

        answer = browser.get(f"/runs/{run.id}" if path == "run" else path)

        assert answer.status_code == 200
        assert "unsafe" not in answer.headers["Content-Security-Policy"]
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", answer.content.decode())

    @pytest.mark.parametrize(
        ("path", "words"),
        [("/workflows", "No workflows yet."), ("/runs", "No runs yet."), ("/approvals", "Nothing waits for you.")],
    )
    def test_says_what_to_do_when_there_is_nothing(self, browser: Client, path: str, words: str) -> None:
        assert words in text(browser, path)

    @pytest.mark.parametrize("path", ["/workflows/none", f"/runs/{uuid.uuid4()}", "/workflows/pair?tenant=other"])
    def test_answers_404_for_what_is_not_there(self, browser: Client, version: WorkflowVersion, path: str) -> None:
        text(browser, path, 404)


class TestWorkflowList:
    def test_counts_the_runs_that_are_active_and_recent(self, browser: Client, run: Run) -> None:
        old = runs.start(runs.Request(workflow="pair")).run
        Run.objects.filter(id=old.id).update(state="completed", created_at=timezone.now() - timedelta(days=2))

        html = text(browser, "/workflows")

        assert re.search(r">v1</td>\s*<td class=\"num\">1</td>\s*<td class=\"num\">1</td>", html)


class TestWorkflow:
    def test_shows_an_older_version(self, browser: Client, version: WorkflowVersion) -> None:
        workflows.save(SOURCE.replace("May it go on?", "Really?"))

        assert "Really?" in text(browser, "/workflows/pair")
        assert "May it go on?" in text(browser, "/workflows/pair?version=1")

    def test_starts_a_run_once_however_often_the_form_is_sent(self, browser: Client, version: WorkflowVersion) -> None:
        posted = {"input": '{"n": 1}', "key": "k"}

        first, second = browser.post("/workflows/pair", posted), browser.post("/workflows/pair", posted)

        made = Run.objects.get()
        assert (made.input, made.by) == ({"n": 1}, "ada")
        assert first.headers["Location"] == second.headers["Location"] == f"/runs/{made.id}"

    def test_keeps_what_was_typed_when_it_is_no_json(self, browser: Client, version: WorkflowVersion) -> None:
        answer = browser.post("/workflows/pair", {"input": "{n: 1"})

        assert answer.status_code == 400
        assert "{n: 1" in answer.content.decode()
        assert "not acceptable JSON" in answer.content.decode()
        assert not Run.objects.exists()

    def test_lets_nobody_start_it_who_may_not(self, viewer: Client, version: WorkflowVersion) -> None:
        assert "Start a run" not in text(viewer, "/workflows/pair")
        assert viewer.post("/workflows/pair", {"input": "{}"}).status_code == 403
        assert not Run.objects.exists()


class TestRunList:
    def test_filters_by_state_and_workflow(self, browser: Client, run: Run) -> None:
        assert str(run.id) in text(browser, "/runs?state=running&workflow=pair")
        assert str(run.id) not in text(browser, "/runs?state=failed")
        assert "No run fits these filters." in text(browser, "/runs?workflow=x%00")

    def test_pages_hold_every_run_once(self, browser: Client, version: WorkflowVersion) -> None:
        made = {str(runs.start(runs.Request(workflow="pair")).run.id) for _ in range(60)}
        Run.objects.update(created_at=timezone.now())

        first = text(browser, "/runs")
        older = re.search(r'rel="next" href="([^"]+)"', first)

        assert older is not None
        found = [re.findall(r'<a href="/runs/([0-9a-f-]{36})"', html) for html in (first, text(browser, older[1]))]
        assert [len(page) for page in found] == [50, 10]
        assert {*found[0], *found[1]} == made


class TestRun:
    def test_shows_steps_in_order_with_state_agent_and_trouble(self, browser: Client, run: Run) -> None:
        html = text(browser, f"/runs/{run.id}")

        names = re.findall(r"<td><a [^>]*><b>(\w+)</b>", html)
        assert names == ["first", "news", "may", "last"]
        assert "agent any-1, attempt 2: &lt;b&gt;out of paper&lt;/b&gt;" in html
        assert html.count("not begun") == 3
        assert "<b>out of paper" not in html

    def test_draws_its_graph_with_the_states(self, browser: Client, run: Run) -> None:
        html = text(browser, f"/runs/{run.id}")

        assert re.search(r'<g class="step"[^>]* data-step="first"[^>]* data-state="failed"', html)
        assert f'href="/runs/{run.id}/steps/last"' in html

    def test_links_its_tasks_and_they_link_back(self, browser: Client, run: Run) -> None:
        task = new_task("any", origin="workflow")
        StepTask.objects.create(task=task.id, run=run, step="first", round=1, use="step")

        assert f'href="/tasks/{task.id}"' in text(browser, f"/runs/{run.id}")
        assert f'href="/runs/{run.id}"' in text(browser, f"/tasks/{task.id}")

    def test_offers_nothing_to_somebody_who_may_do_nothing(self, viewer: Client, run: Run) -> None:
        assert "Cancel the run" not in text(viewer, f"/runs/{run.id}")

    def test_tells_why_something_asked_was_not_done(self, browser: Client, run: Run) -> None:
        command = runs.ask(run, runs.Kind.PAUSE, by="ada")
        RunCommand.objects.filter(id=command.id).update(done_at=timezone.now(), refusal="It has not begun.")

        assert "not done: It has not begun." in text(browser, f"/runs/{run.id}")


class TestAsk:
    @pytest.mark.parametrize(
        ("verb", "posted", "data"),
        [
            ("pause", {}, {}),
            ("resume", {}, {}),
            ("retry", {}, {}),
            ("cancel", {"compensate": "yes"}, {"compensate": True}),
            ("skip", {"step": "first"}, {"step": "first"}),
            ("rerun", {"step": "first"}, {"step": "first"}),
            ("rerun", {"step": "first", "input": "null"}, {"step": "first", "input": None}),
            ("signal", {"name": "news", "payload": "[1]"}, {"name": "news", "payload": [1]}),
        ],
    )
    def test_puts_it_into_the_ledger(
        self, browser: Client, run: Run, verb: str, posted: dict[str, str], data: dict[str, Any]
    ) -> None:
        answer = browser.post(f"/runs/{run.id}/{verb}", {**posted, "reason": "because"})

        assert answer.headers["Location"] == f"/runs/{run.id}"
        command = RunCommand.objects.get()
        assert (command.kind, command.data, command.by, command.reason) == (verb, data, "ada", "because")

    @pytest.mark.parametrize(
        ("verb", "posted", "words"),
        [
            ("rerun", {"step": "none"}, "no step &#x27;none&#x27;"),
            ("rerun", {"step": "first", "input": "{"}, "not acceptable JSON"),
            ("pause", {"reason": "\0"}, "not acceptable JSON"),
        ],
    )
    def test_says_in_words_what_is_refused(
        self, browser: Client, run: Run, verb: str, posted: dict[str, str], words: str
    ) -> None:
        answer = browser.post(f"/runs/{run.id}/{verb}", posted, follow=True)

        assert words in answer.content.decode()
        assert not RunCommand.objects.exists()

    def test_refuses_what_is_over(self, browser: Client, run: Run) -> None:
        Run.objects.filter(id=run.id).update(state="completed")

        answer = browser.post(f"/runs/{run.id}/pause", follow=True)

        assert "The run is completed already" in answer.content.decode()

    def test_is_for_those_who_may_and_by_post_with_a_token(self, browser: Client, viewer: Client, run: Run) -> None:
        strict = Client(enforce_csrf_checks=True)
        strict.force_login(User.objects.get(username="ada"))

        assert viewer.post(f"/runs/{run.id}/pause").status_code == 403
        assert browser.get(f"/runs/{run.id}/pause").status_code == 405
        assert strict.post(f"/runs/{run.id}/pause").status_code == 403
        assert browser.post(f"/runs/{run.id}/answer").status_code == 404
        assert not RunCommand.objects.exists()


class TestFork:
    def test_shows_the_new_run(self, browser: Client, run: Run) -> None:
        answer = browser.post(f"/runs/{run.id}/fork", {"step": "last", "input": '{"edited": true}'})

        made = Run.objects.get(forked_from=run.id)
        assert answer.headers["Location"] == f"/runs/{made.id}"
        assert made.overrides == {"last": {"edited": True}}
        assert str(made.id) in text(browser, f"/runs/{run.id}")


class TestAnswer:
    def test_takes_yes_by_a_button(self, browser: Client, run: Run) -> None:
        row = asked(run, {})

        answer = browser.post(f"/approvals/{row.id}", {"answer": "true", "next": f"/runs/{run.id}"})

        row.refresh_from_db()
        assert (row.state, row.answer, row.answered_by) == ("answered", True, "ada")
        assert answer.headers["Location"] == f"/runs/{run.id}"

    def test_makes_an_object_of_fields(self, browser: Client, run: Run) -> None:
        row = asked(run, FLAT)

        browser.post(
            f"/approvals/{row.id}",
            {"field.verdict": '"drop"', "field.copies": "3", "field.urgent": "false", "field.remarks": ""},
        )

        row.refresh_from_db()
        assert row.answer == {"verdict": "drop", "copies": 3, "urgent": False}

    def test_keeps_what_was_typed_when_it_is_refused(self, browser: Client, run: Run) -> None:
        row = asked(run, FLAT)

        answer = browser.post(f"/approvals/{row.id}", {"field.remarks": "fine by me"})

        assert answer.status_code == 422
        assert "does not suit the form" in answer.content.decode()
        assert "fine by me" in answer.content.decode()
        row.refresh_from_db()
        assert row.state == "open"

    def test_takes_json_where_fields_do_not_do(self, browser: Client, run: Run) -> None:
        row = asked(run, {"type": "array", "items": {"type": "integer"}})

        assert "Answer, as JSON" in text(browser, "/approvals")
        browser.post(f"/approvals/{row.id}", {"answer": "[1, 2]"})

        row.refresh_from_db()
        assert row.answer == [1, 2]

    def test_says_who_has_answered_before(self, browser: Client, run: Run) -> None:
        row = asked(run, {})
        browser.post(f"/approvals/{row.id}", {"answer": "true"})

        answer = browser.post(f"/approvals/{row.id}", {"answer": "false"})

        assert answer.status_code == 409
        assert "answered already, by ada" in answer.content.decode()

    def test_is_for_those_who_are_named(self, browser: Client, viewer: Client, run: Run) -> None:
        named = asked(run, {}, who=["group:editors"])
        anybody = asked(run, {}, round=2)

        assert viewer.post(f"/approvals/{anybody.id}", {"answer": "true"}).status_code == 403
        assert browser.post(f"/approvals/{named.id}", {"answer": "true"}).status_code == 403
        User.objects.get(username="eve").groups.add(Group.objects.create(name="editors"))
        assert viewer.post(f"/approvals/{named.id}", {"answer": "true"}).status_code == 302

    def test_does_not_lead_away_from_the_site(self, browser: Client, run: Run) -> None:
        row = asked(run, {})

        answer = browser.post(f"/approvals/{row.id}", {"answer": "true", "next": "https://example.org/"})

        assert answer.headers["Location"] == "/approvals"


class TestObserved:
    def test_shows_the_tasks_of_a_canvas_below_those_that_submitted_them(self, browser: Client) -> None:
        root = uuid.uuid4()
        first = new_task(context=root, origin="celery")
        new_task(context=root, origin="celery", parent=first.id)

        listed = browser.get("/runs").content.decode()
        page = browser.get(f"/runs/observed/{root}").content.decode()

        assert f"/runs/observed/{root}" in listed
        assert page.count("/tasks/") >= 2
        assert "level 1" in page
        assert browser.get(f"/runs/observed/{uuid.uuid4()}").status_code == 404

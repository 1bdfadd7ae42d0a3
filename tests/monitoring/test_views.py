"""monitoring.views"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone
from pytest_django.fixtures import Settings

from monitoring import queries
from routing import broker
from routing.artifacts import Store
from routing.models import Agent, Artifact, Command, Decision, Task, TaskMessage
from tests.monitoring.fakes import new_attempt, new_task, record

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def without_redis(settings: Settings) -> Iterator[None]:
    """Point at a Redis that is not there: pages work without it."""
    settings.A2A_REDIS_URL = "unix:///nonexistent/redis.sock"
    broker.client.cache_clear()
    yield
    broker.client.cache_clear()


@pytest.fixture
def browser(admin: User, client: Client) -> Client:
    """Return a client that is logged in as a superuser."""
    client.force_login(admin)
    return client


@pytest.fixture
def task(fleet: None) -> Task:
    """Return a task that an agent works at."""
    task = new_task("code.lint", input={"path": "</script><script>alert(1)</script>"})
    record(task, "submitted")
    record(task, "assigned", agent="ruff-swift", attempt=1, waited_s=0.04)
    record(task, "working", attempt=1)
    record(task, "log", attempt=1, level="warning", message="<img src=x onerror=alert(1)>")
    new_attempt(task, 1, "ruff-swift")
    return task


class TestEveryPage:
    @pytest.mark.parametrize("path", ["/", "/tasks/", f"/tasks/{uuid.uuid4()}", "/agents/codex", "/limits", "/flower/"])
    def test_asks_a_stranger_to_log_in(self, client: Client, path: str) -> None:
        answer = client.get(path)

        assert (answer.status_code, answer.headers["Location"]) == (302, f"/login/?next={path}")

    @pytest.mark.parametrize("path", ["/", "/tasks/", "/agents/ruff-swift", "/limits", "/login/"])
    def test_has_a_strict_policy_and_nothing_inline(self, browser: Client, task: Task, path: str) -> None:
        if path == "/login/":
            browser.logout()
        answer = browser.get(path)
        html = answer.content.decode()

        assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
        assert "unsafe" not in answer.headers["Content-Security-Policy"]
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", html)


class TestOverview:
    def test_shows_agents_and_tasks_from_the_database_when_redis_is_gone(self, browser: Client, task: Task) -> None:
        html = browser.get("/").content.decode()

        assert "Redis cannot be reached" in html
        assert 'data-live="stale"' in html
        assert "ruff-steady" in html
        assert f"/tasks/{task.id}" in html

    def test_says_what_to_do_when_there_is_nothing(self, browser: Client) -> None:
        html = browser.get("/").content.decode()

        assert "No agents yet." in html
        assert "manage.py review PATH" in html

    def test_takes_few_queries(self, browser: Client, task: Task, django_assert_max_num_queries: object) -> None:
        with django_assert_max_num_queries(8):  # type: ignore[operator]
            browser.get("/")


class TestTaskList:
    def test_filters_by_state_and_skill(self, browser: Client, task: Task) -> None:
        other = new_task("echo")

        assert str(other.id) not in browser.get("/tasks/?state=working").content.decode()
        assert str(task.id) not in browser.get("/tasks/?skill=echo").content.decode()

    def test_pages_hold_every_task_once(self, browser: Client, fleet: None) -> None:
        at = timezone.now() - timedelta(hours=1)
        for _ in range(120):
            new_task("echo")
        Task.objects.update(created_at=at)  # all at the same moment
        seen: list[str] = []
        address = "/tasks/"
        while address:
            html = browser.get(address).content.decode()
            seen += re.findall(r'href="/tasks/([0-9a-f-]{36})"', html)
            older = re.search(r'rel="next" href="([^"]+)"', html)
            address = older[1].replace("&amp;", "&") if older else ""

        assert (len(seen), len(set(seen))) == (120, 120)

    @pytest.mark.parametrize("before", ["x", "2026-01-01_y", "2026-01-01T00:00:00_" + str(uuid.uuid4()), "%00"])
    def test_shows_the_newest_for_a_position_that_was_tampered_with(
        self, browser: Client, task: Task, before: str
    ) -> None:
        assert str(task.id) in browser.get("/tasks/", {"before": before}).content.decode()


class TestTask:
    def test_tells_the_whole_story_escaped(self, browser: Client, task: Task) -> None:
        html = browser.get(f"/tasks/{task.id}").content.decode()

        assert "after waiting 40 ms" in html
        assert "ruff-swift, by balanced: expected 312 ms, 1.6 s sooner than ruff-slow." in html
        assert "&lt;img src=x onerror=alert(1)&gt;" in html
        assert "<script>alert" not in html
        assert "<img src=x" not in html

    def test_says_why_this_agent_in_a_table(self, browser: Client, task: Task) -> None:
        waiting = "limit few: 3 of 3 running"
        shadow = {"strategy": "adaptive", "agent": "ruff-slow"}
        Decision.objects.update(policy="default", revision=12, more=2, waited_for=waiting, shadow=shadow)

        html = browser.get(f"/tasks/{task.id}").content.decode()

        assert "by balanced of policy default (revision 12)" in html
        assert "expected 1.9 s, 1.6 s later (expected time to a good answer 1.9 s against 300 ms)" in html
        assert "expected time to a good answer <b>300 ms</b>" in html
        assert "left out: all 2 slots in use" in html
        assert "A shadow adaptive would have taken ruff-slow." in html
        assert "2 more agents are not listed." in html

    def test_says_what_would_help_a_task_that_waits(self, browser: Client, fleet: None) -> None:
        waiting = new_task("code.lint", detail="no agent has the skill code.lint with the label gpu=yes")

        html = browser.get(f"/tasks/{waiting.id}").content.decode()

        assert "with the label gpu=yes" in html
        assert "python3 manage.py doctor says what is wrong." in html

    def test_shows_a_decision_of_an_earlier_release(self, browser: Client, task: Task) -> None:
        Decision.objects.update(candidates=[], strategy="forgotten")

        assert "ruff-swift, by forgotten." in browser.get(f"/tasks/{task.id}").content.decode()

    def test_shows_why_it_failed(self, browser: Client, task: Task) -> None:
        record(
            task, "failed", error={"kind": "timeout", "message": "No answer within 60 s.", "detail": {"after_s": 60}}
        )

        html = browser.get(f"/tasks/{task.id}").content.decode()

        assert "No answer within 60 s." in html
        assert "after_s" in html
        assert "Cancel the task" not in html

    def test_folds_and_cuts_what_is_very_long(self, browser: Client, fleet: None) -> None:
        task = new_task("code.lint", input={"text": "x" * 200_000})

        answer = browser.get(f"/tasks/{task.id}")

        assert len(answer.content) < 120_000
        assert "The rest is in the file to download." in answer.content.decode()
        assert len(browser.get(f"/tasks/{task.id}/input.json").content) > 200_000

    def test_answers_404_in_words(self, browser: Client) -> None:
        answer = browser.get(f"/tasks/{uuid.uuid4()}")

        assert answer.status_code == 404
        assert "There is no task" in answer.content.decode()


class TestArtifact:
    def test_downloads_and_never_shows_as_a_page(
        self, browser: Client, task: Task, settings: Settings, tmp_path: object
    ) -> None:
        settings.A2A_ARTIFACTS_DIR = tmp_path
        body = b"<script>alert(2)</script>"
        ref = Store(settings.A2A_ARTIFACTS_DIR).put(body)
        common = {"task": task, "attempt": 1, "sha256": ref.sha256, "size": ref.size, "at": timezone.now()}
        Artifact.objects.create(seq=5, name="report.md", media_type="text/markdown", **common)
        Artifact.objects.create(seq=6, name="page.html", media_type="text/html", **common)

        page = browser.get(f"/tasks/{task.id}").content.decode()
        answer = browser.get(f"/tasks/{task.id}/artifacts/6")

        assert page.count("&lt;script&gt;alert(2)&lt;/script&gt;") == 1  # the preview of the Markdown file, as text
        assert b"".join(answer.streaming_content) == body  # type: ignore[attr-defined]
        answer.close()
        assert answer.headers["Content-Disposition"] == 'attachment; filename="page.html"'
        assert answer.headers["Content-Type"] == "application/octet-stream"
        assert "sandbox" in answer.headers["Content-Security-Policy"]

    def test_says_that_a_file_is_gone(self, browser: Client, task: Task) -> None:
        Artifact.objects.create(
            task=task,
            seq=5,
            attempt=1,
            name="a.txt",
            sha256="0" * 64,
            size=1,
            at=timezone.now(),
            media_type="text/plain",
        )

        assert browser.get(f"/tasks/{task.id}").status_code == 200
        assert browser.get(f"/tasks/{task.id}/artifacts/5").status_code == 404


class TestAnswer:
    @pytest.fixture
    def asking(self, task: Task) -> Task:
        """Return a task whose agent asks."""
        record(task, "input-required", attempt=1, message="Which <city>?")
        return task

    def test_is_asked_for_on_the_page(self, browser: Client, asking: Task) -> None:
        page = browser.get(f"/tasks/{asking.id}").content.decode()

        assert "Which &lt;city&gt;?" in page
        assert f'action="/tasks/{asking.id}/answer"' in page

    def test_is_kept_and_told(self, browser: Client, asking: Task) -> None:
        answer = browser.post(f"/tasks/{asking.id}/answer", {"answer": "Rome"}, follow=True)

        said = TaskMessage.objects.get()
        assert "The task goes on with it" in answer.content.decode()
        assert (said.input, said.by, Command.objects.get().kind) == ("Rome", "admin", "answer")

    def test_says_that_nothing_was_asked(self, browser: Client, task: Task) -> None:
        answer = browser.post(f"/tasks/{task.id}/answer", {"answer": '"Rome"'}, follow=True)

        assert "asks for nothing" in answer.content.decode()

    def test_needs_the_permission(self, client: Client, asking: Task) -> None:
        client.force_login(User.objects.create_user("viewer"))

        assert client.post(f"/tasks/{asking.id}/answer", {"answer": "Rome"}).status_code == 403
        assert f"/tasks/{asking.id}/answer" not in client.get(f"/tasks/{asking.id}").content.decode()


class TestCancel:
    def test_asks_the_controller(self, browser: Client, task: Task) -> None:
        answer = browser.post(f"/tasks/{task.id}/cancel", follow=True)

        assert "Cancel asked for" in answer.content.decode()
        assert Command.objects.get().by == "admin"

    def test_says_that_it_has_ended(self, browser: Client, task: Task) -> None:
        record(task, "completed")

        answer = browser.post(f"/tasks/{task.id}/cancel", follow=True)

        assert "has ended already" in answer.content.decode()

    def test_needs_the_permission(self, client: Client, task: Task) -> None:
        viewer = User.objects.create_user("viewer")
        client.force_login(viewer)
        refused = client.post(f"/tasks/{task.id}/cancel")
        viewer.user_permissions.add(Permission.objects.get(codename="change_task"))

        assert refused.status_code == 403
        assert client.post(f"/tasks/{task.id}/cancel").status_code == 302

    def test_needs_a_csrf_token(self, admin: User, task: Task) -> None:
        client = Client(enforce_csrf_checks=True)
        client.force_login(admin)

        assert client.post(f"/tasks/{task.id}/cancel").status_code == 403

    def test_cannot_be_got(self, browser: Client, task: Task) -> None:
        assert browser.get(f"/tasks/{task.id}/cancel").status_code == 405


class TestAgent:
    def test_shows_what_it_did_without_redis(self, browser: Client, task: Task) -> None:
        failed = new_task("code.lint")
        new_attempt(failed, 1, "ruff-swift", state="failed", error={"kind": "agent", "message": "<b>no</b>"})

        html = browser.get("/agents/ruff-swift").content.decode()

        assert "Redis cannot be reached" in html
        assert f"/tasks/{task.id}" in html
        assert "agent: &lt;b&gt;no&lt;/b&gt;" in html
        assert "1 agent</td>" in html  # of the last day's failures, by kind

    def test_says_what_to_do_when_it_has_neither_skills_nor_attempts(self, browser: Client, fleet: None) -> None:
        Agent.objects.get(name="ruff-steady").skills.clear()

        html = browser.get("/agents/ruff-steady").content.decode()

        assert "It has no skills." in html
        assert "It has done nothing yet." in html

    def test_answers_404_in_words(self, browser: Client) -> None:
        answer = browser.get("/agents/nobody")

        assert answer.status_code == 404
        assert "There is no agent called nobody" in answer.content.decode()

    def test_takes_few_queries(self, browser: Client, task: Task, django_assert_max_num_queries: object) -> None:
        for _ in range(5):
            new_attempt(new_task("code.lint"), 1, "ruff-swift", state="completed")

        with django_assert_max_num_queries(14):  # type: ignore[operator]
            browser.get("/agents/ruff-swift")


class TestActOnAgent:
    @pytest.mark.parametrize(
        ("act", "state"),
        [
            ("drain", (True, True)),
            ("resume", (True, False)),
            ("disable", (False, False)),
            ("enable", (True, False)),
        ],
    )
    def test_changes_the_agent_and_notes_who_did_it(
        self, browser: Client, fleet: None, act: str, state: tuple[bool, bool]
    ) -> None:
        answer = browser.post(f"/agents/ruff-swift/{act}", follow=True)

        agent = Agent.objects.get(name="ruff-swift")
        assert (agent.enabled, agent.draining) == state
        assert f"Done: {act} ruff-swift." in answer.content.decode()
        entry = LogEntry.objects.get()
        assert (entry.user.get_username(), entry.object_id) == ("admin", str(agent.pk))
        assert act in entry.change_message

    def test_needs_the_permission_and_a_member_of_the_staff(self, client: Client, fleet: None) -> None:
        viewer = User.objects.create_user("viewer", is_staff=True)
        client.force_login(viewer)
        without = client.post("/agents/ruff-swift/drain").status_code
        shown = b"Drain" in client.get("/agents/ruff-swift").content
        viewer.user_permissions.add(Permission.objects.get(codename="change_agent"))
        User.objects.update(is_staff=False)
        outside = client.post("/agents/ruff-swift/drain").status_code
        User.objects.update(is_staff=True)

        assert (without, shown, outside) == (403, False, 403)
        assert client.post("/agents/ruff-swift/drain").status_code == 302

    def test_needs_a_csrf_token(self, admin: User, fleet: None) -> None:
        client = Client(enforce_csrf_checks=True)
        client.force_login(admin)

        assert client.post("/agents/ruff-swift/drain").status_code == 403

    def test_cannot_be_got_and_does_nothing_unknown(self, browser: Client, fleet: None) -> None:
        assert browser.get("/agents/ruff-swift/drain").status_code == 405
        assert browser.post("/agents/ruff-swift/explode").status_code == 404
        assert not LogEntry.objects.exists()


class TestLimits:
    def test_says_that_nothing_is_known_without_redis(self, browser: Client) -> None:
        html = browser.get("/limits").content.decode()

        assert "Redis cannot be reached" in html
        assert "Not known without a controller." in html


class TestProbes:
    def test_healthz_needs_nothing(self, client: Client) -> None:
        assert client.get("/healthz").content == b"ok\n"

    def test_readyz_says_what_is_missing(self, client: Client) -> None:
        answer = client.get("/readyz")

        assert answer.status_code == 503
        assert answer.json()["checks"]["database"] == "ok"
        assert "Redis does not answer" in answer.json()["checks"]["redis"]


class TestCursor:
    def test_comes_back(self, fleet: None) -> None:
        new_task("echo")
        row = queries.recent_tasks()[0]

        assert queries.parse_cursor(queries.cursor(row)) == (row["created_at"], uuid.UUID(row["id"]))

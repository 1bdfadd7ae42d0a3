"""The live page in a real browser: what changes is seen, what would be old is not shown, nothing breaks the policy."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Browser, Page, expect, sync_playwright

from coordination import runs, workflows
from coordination.models import StepRun
from tests.monitoring.fakes import FakeController, iso, new_attempt, new_task, record
from tests.monitoring.serving import PASSWORD, Site

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
SCREENSHOTS = Path(__file__).parents[2] / ".screenshots"
LOOKS = [("light", 1440), ("light", 360), ("dark", 1440), ("dark", 360)]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"{CHROMIUM} is missing: apt install chromium"),
]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Yield Debian's Chromium."""
    # Playwright's loop runs in this thread: Django would refuse the database to what looks like asynchronous code.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    expect.set_options(timeout=20_000)  # the machine may be busy with other things
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield browser
        browser.close()
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.fixture
def page(chromium: Browser, site: Site, admin: User, fleet: None, controller: FakeController) -> Iterator[Page]:
    """Yield a page that is logged in; afterwards nothing may have been complained of on its console."""
    context = chromium.new_context(viewport={"width": 1440, "height": 900}, timezone_id="Europe/Berlin")
    opened = context.new_page()
    complaints: list[str] = []
    opened.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    with controller.beating():
        log_in(opened, site)
        yield opened
    context.close()
    assert complaints == []


def log_in(page: Page, site: Site) -> None:
    """Log in by the form."""
    page.goto(site.url)
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(site.url + "/")


class TestLivePage:
    def test_shows_what_happens_while_it_happens(self, page: Page, site: Site, controller: FakeController) -> None:
        expect(page.locator("#live")).to_have_text("Live")
        task = new_task("code.lint")
        row = page.locator(f'#tasks tr[data-key="{task.id}"]')

        controller.commit(
            record(task, "submitted"), lanes=[controller.lane("code.lint", 1, oldest_at=iso(task.created_at))]
        )
        expect(row).to_contain_text("submitted")
        expect(page.locator("#lanes")).to_contain_text("code.lint")

        events = [record(task, "assigned", agent="ruff-swift", attempt=1), record(task, "working", attempt=1)]
        agent = controller.agent("ruff-swift", running=3, state="busy")
        controller.commit(*events, fleet=[agent], lanes=[controller.lane("code.lint", 0)])
        expect(row).to_contain_text("ruff-swift")
        expect(row.locator("[data-state]")).to_have_attribute("data-state", "working")
        expect(page.locator('#fleet tr[data-key="ruff-swift"]')).to_contain_text("3 of 4")
        expect(page.locator('[data-empty="lanes"]')).to_be_visible()

        controller.commit(record(task, "progress", fraction=0.5))
        expect(row.locator("progress")).to_have_js_property("value", 0.5)

        controller.commit(record(task, "completed"))
        expect(row).to_contain_text("completed")

    def test_keeps_its_rows_in_place_and_holds_new_ones_while_somebody_points_at_them(
        self, page: Page, controller: FakeController
    ) -> None:
        expect(page.locator("#live")).to_have_text("Live")
        tasks = [new_task("code.lint") for _ in range(2)]
        controller.commit(record(tasks[0], "submitted"))
        first = page.locator("#tasks tbody tr").first
        first.hover()

        controller.commit(record(tasks[1], "submitted"))
        expect(page.locator("#held")).to_have_text("1 new")
        expect(page.locator("#tasks tbody tr")).to_have_count(1)

        page.locator("h2").first.hover()
        expect(page.locator("#tasks tbody tr")).to_have_count(2)
        expect(page.locator("#tasks tbody tr").first).to_have_attribute("data-key", str(tasks[1].id))

    def test_shows_no_old_number_when_redis_is_gone_and_comes_back(
        self, page: Page, site: Site, controller: FakeController
    ) -> None:
        slots = page.locator('#fleet tr[data-key="ruff-swift"] .v').nth(1)
        expect(slots).to_be_visible()

        site.kill_redis()
        expect(page.locator("#live")).to_have_text("Reconnecting…")
        expect(slots).to_be_hidden()
        expect(page.locator("#health")).to_contain_text("Redis cannot be reached")
        page.screenshot(path=SCREENSHOTS / "live-reconnecting.png", full_page=True)

        site.start_redis()
        controller.agent("ruff-swift", running=2)
        controller.publish_snapshot()
        expect(page.locator("#live")).to_have_text("Live")
        expect(slots).to_have_text("2 of 4")

    def test_says_that_no_controller_reports(self, page: Page, controller: FakeController) -> None:
        expect(page.locator("#live")).to_have_text("Live")
        controller.is_silent = True
        controller.bus.delete("a2a:snapshot")

        expect(page.locator("#live")).to_have_text("No controller")
        expect(page.locator("#health")).to_contain_text("No controller is reporting")

    @pytest.mark.parametrize(("theme", "width"), LOOKS)
    def test_fits(self, page: Page, site: Site, controller: FakeController, theme: str, width: int) -> None:
        fill(controller)
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme="dark" if theme == "dark" else "light")
        page.goto(site.url)
        expect(page.locator("#live")).to_have_text("Live")
        page.screenshot(path=SCREENSHOTS / f"live-{theme}-{width}.png", full_page=True)

        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    def test_keeps_the_theme_for_the_admin_too(self, page: Page, site: Site) -> None:
        page.get_by_role("button", name="Theme").click()

        expect(page.locator("html")).to_have_attribute("data-theme", "dark")
        page.goto(site.url + "/admin/")
        expect(page.locator("html")).to_have_attribute("data-theme", "dark")


class TestTaskPage:
    @pytest.mark.parametrize(("theme", "width"), LOOKS)
    def test_follows_the_task_to_its_end(
        self, page: Page, site: Site, controller: FakeController, theme: str, width: int
    ) -> None:
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme="dark" if theme == "dark" else "light")
        task = new_task("code.lint", input={"path": "src"})
        controller.commit(record(task, "submitted"))
        page.goto(f"{site.url}/tasks/{task.id}")
        expect(page.locator("#live")).to_have_text("Live")

        attempt = new_attempt(task, 1, "ruff-swift")
        events = [
            record(task, "assigned", agent="ruff-swift", attempt=1, waited_s=0.04),
            record(task, "working", attempt=1),
        ]
        controller.commit(*events)
        expect(page.locator('[data-part="story"]')).to_contain_text("Started")
        expect(page.locator('[data-part="attempts"]')).to_contain_text("expected 312 ms, 1.6 s sooner than ruff-slow")

        log = record(task, "log", level="info", message="<b>reading</b> 12 files")
        controller.commit(log, record(task, "progress", fraction=0.25, message="3 of 12 files"))
        expect(page.locator("#log")).to_contain_text("<b>reading</b> 12 files")
        expect(page.locator("[data-progress]")).to_contain_text("25 % · 3 of 12 files")

        attempt.state = "failed"
        attempt.finished_at = attempt.started_at
        attempt.save()
        error = {"kind": "timeout", "message": "No answer within 60 s.", "retryable": False}
        controller.commit(record(task, "failed", error=error))
        expect(page.locator('[data-part="head"]')).to_contain_text("No answer within 60 s.")
        page.screenshot(path=SCREENSHOTS / f"task-{theme}-{width}.png", full_page=True)

        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    def test_tells_why_the_task_waits_also_when_that_changes(
        self, page: Page, site: Site, controller: FakeController
    ) -> None:
        task = new_task("code.lint")
        controller.commit(record(task, "submitted"))
        page.goto(f"{site.url}/tasks/{task.id}")
        expect(page.locator("#live")).to_have_text("Live")

        controller.lane("code.lint", 1, reason="all its agents are draining")

        expect(page.locator('[data-part="head"]')).to_contain_text("all its agents are draining", timeout=20_000)


class TestStepInspector:
    def test_opens_beside_the_run_and_gives_the_focus_back(self, page: Page, site: Site) -> None:
        workflows.save("name: pair\nsteps:\n  first: {task: code.lint}\n  last: {task: code.lint, after: [first]}\n")
        run = runs.start(runs.Request(workflow="pair")).run
        StepRun.objects.create(run=run, step="first", state="completed", round=1, output={"kept": 7})
        page.goto(f"{site.url}/runs/{run.id}")
        link = page.get_by_role("link", name="first", exact=True).last

        link.press("Enter")
        drawer = page.get_by_role("dialog")
        expect(drawer).to_contain_text('"kept": 7')
        page.reload()  # the address brings it back
        expect(drawer).to_contain_text('"kept": 7')
        page.keyboard.press("Escape")

        expect(drawer).to_be_hidden()
        expect(link).to_be_focused()
        assert page.url == f"{site.url}/runs/{run.id}"


class TestAgentPage:
    @pytest.mark.parametrize(("theme", "width"), LOOKS)
    def test_is_reached_from_the_fleet_and_follows_what_is_held_against_the_agent(
        self, page: Page, site: Site, controller: FakeController, theme: str, width: int
    ) -> None:
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme="dark" if theme == "dark" else "light")
        task = new_task("code.lint")
        error = {"kind": "timeout", "message": "No answer within 60 s."}
        new_attempt(task, 1, "ruff-swift", state="failed", error=error)
        shut = {"state": "open", "skill": "", "text": "breaker open until 14:02:03 UTC after 3 failures", "more": 0}
        controller.agent("ruff-swift", running=1, state="busy", breaker=shut, contained=None)
        controller.publish_snapshot()
        row = page.locator('#fleet tr[data-key="ruff-swift"]')
        expect(row).to_contain_text("breaker open until 14:02:03 UTC")

        row.get_by_role("link").click()
        expect(page.locator("#live")).to_have_text("Live")
        expect(page.locator('[data-part="head"]')).to_contain_text("1 of 4")
        expect(page.locator('[data-part="counted"]')).to_contain_text("1 timeout")
        controller.rules = rules_to_look_at()
        held = {"state": "observe", "switch": "rehearsal", "brief": "", "more": 0}
        controller.agent("ruff-swift", running=2, contained=held)
        expect(page.locator('[data-part="head"]')).to_contain_text("2 of 4")
        expect(page.locator('[data-part="head"]')).to_contain_text("Only observed: all work, by admin")
        page.screenshot(path=SCREENSHOTS / f"agent-{theme}-{width}.png", full_page=True)

        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    def test_drains_the_agent(self, page: Page, site: Site) -> None:
        page.goto(site.url + "/agents/ruff-swift")
        page.get_by_role("button", name="Drain").click()

        expect(page.get_by_role("button", name="Resume")).to_be_visible()
        expect(page.locator(".note").first).to_contain_text("Done: drain ruff-swift.")


class TestLimitsPage:
    @pytest.mark.parametrize(("theme", "width"), LOOKS)
    def test_follows_how_the_rules_stand(
        self, page: Page, site: Site, controller: FakeController, theme: str, width: int
    ) -> None:
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme="dark" if theme == "dark" else "light")
        page.goto(site.url + "/limits")
        expect(page.locator('[data-part="limits"]')).to_contain_text("No limits.")

        controller.rules = rules_to_look_at()
        expect(page.locator('[data-part="limits"]')).to_contain_text("2 of 2")
        expect(page.locator('[data-part="budgets"]')).to_contain_text("$1.25 of $5.00")
        expect(page.locator('[data-part="containments"]')).to_contain_text("would have held 7 tasks")
        page.screenshot(path=SCREENSHOTS / f"limits-{theme}-{width}.png", full_page=True)

        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def rules_to_look_at() -> dict[str, list[dict[str, object]]]:
    """Return a limit that is full, a budget that is not used up, and a switch that is only tried."""
    limit = {"limit": "crawling", "per": "agent", "max_running": 2, "rate_per_s": 0.5, "burst": 10, "on_full": "queue"}
    budget = {"budget": "a-day", "unit": "usd", "scope": "all", "amount": 5.0, "hard": True}
    switch = {"containment": "rehearsal", "target": "all work", "mode": "observe", "cancel_running": False, "tasks": 7}
    moments = {"since": "2026-01-31T12:00:00.000Z", "until": "2026-02-01T00:00:00.000Z"}
    spent = {"value": "", "spent": 3.0, "reserved": 0.75, "left": 1.25, "overshoot": 0.0}
    return {
        "limits": [{**limit, "values": [{"value": "ruff-swift", "running": 2, "tokens": 8.0}], "more": 0}],
        "budgets": [{**budget, "until": moments["until"], "values": [spent], "more": 0}],
        "containments": [{**switch, **moments, "reason": "before the release", "by": "admin"}],
    }


def fill(controller: FakeController) -> None:
    """Make something to look at."""
    states = ["submitted", "working", "completed", "completed", "failed", "canceled", "completed", "working"]
    for number, state in enumerate(states):
        task = new_task("code.lint", age_s=5.0 * number)
        record(task, "submitted")
        if state != "submitted":
            record(task, "working", agent="ruff-swift", attempt=1)
        if state == "working":
            record(task, "progress", fraction=0.6)
        elif state != "submitted":
            record(task, state, error={"kind": "agent", "message": "no"} if state == "failed" else None)
    controller.agent("ruff-swift", running=2, state="busy", skills=["code.lint"])
    controller.agent("ruff-steady", capacity=2, state="draining", skills=["code.lint"])
    controller.worker("w1@main", busy=2)
    controller.lane("code.lint", 12, oldest_at=iso(task.created_at))
    controller.lane("deps.audit", 3, oldest_at=iso(task.created_at), reason="no agent has the skill deps.audit")
    controller.counters = {"waiting": 15, "working": 2, "completed": 1204, "failed": 7, "retried": 3, "canceled": 1}
    controller.rates = {"completed_per_s": 12.4}
    controller.publish_snapshot()

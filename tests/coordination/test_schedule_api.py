"""Schedules over REST and on their pages."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone

from coordination import schedules, workflows
from coordination.models import Run, Schedule
from tests.coordination.test_run_api import Program, bot
from tests.coordination.test_schedules import SOURCE, made

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("bus")]
HOURLY = {"workflow": "report", "cron": "0 * * * *"}

__all__ = ["bot"]


@pytest.fixture(autouse=True)
def workflow(bot: Program) -> None:
    """Save the workflow."""
    workflows.save(SOURCE)


class TestApi:
    def test_makes_changes_shows_and_removes(self, bot: Program) -> None:
        new = bot.send("put", "/schedules/hourly", HOURLY)
        changed = bot.send("put", "/schedules/hourly", HOURLY | {"zone": "Asia/Tokyo"})
        shown = bot.send("get", "/schedules/hourly")
        gone = bot.send("delete", "/schedules/hourly")

        assert [answer.status_code for answer in (new, changed, shown, gone)] == [201, 200, 200, 204]
        assert (shown.json()["zone"], len(shown.json()["next"])) == ("Asia/Tokyo", 5)
        assert bot.send("get", "/schedules").json() == {"schedules": []}

    def test_turns_runs_and_fills(self, bot: Program) -> None:
        bot.send("put", "/schedules/hourly", HOURLY)
        now = timezone.now()
        span: dict[str, Any] = {"since": (now - timedelta(hours=5)).isoformat(), "until": now.isoformat()}

        paused = bot.send("post", "/schedules/hourly:pause")
        run = [bot.send("post", "/schedules/hourly:run", HTTP_IDEMPOTENCY_KEY="k") for _ in range(2)]
        counted = bot.send("post", "/schedules/hourly:backfill", span | {"dry_run": True})
        filled = bot.send("post", "/schedules/hourly:backfill", span)

        assert (paused.json()["enabled"], paused.json()["next"]) == (False, [])
        assert run[0].json()["id"] == run[1].json()["id"]
        assert (len(counted.json()["fresh"]), counted.json()["runs"]) == (5, [])
        assert len(filled.json()["runs"]) == 5
        assert Run.objects.count() == 6
        assert len(bot.send("get", "/schedules/hourly/times").json()["times"]) == 6

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            ({"workflow": "nope", "cron": "0 * * * *"}, 422),
            (HOURLY | {"every_s": 60}, 422),
            (HOURLY | {"overlap": "maybe"}, 422),
            (HOURLY | {"surprise": 1}, 422),
            ({"workflow": "report"}, 422),
        ],
    )
    def test_refuses_in_words(self, bot: Program, body: dict[str, Any], status: int) -> None:
        answer = bot.send("put", "/schedules/bad", body)

        assert answer.status_code == status
        assert answer["Content-Type"] == "application/problem+json"
        assert not Schedule.objects.exists()

    def test_hides_those_of_another_tenant(self, bot: Program) -> None:
        made()
        other = Program("other")

        assert other.send("get", "/schedules/s").status_code == 404
        assert other.send("delete", "/schedules/s").status_code == 404
        assert other.send("get", "/schedules").json() == {"schedules": []}


class TestPages:
    @pytest.fixture
    def browser(self, client: Client) -> Client:
        """Return a client that is logged in as a superuser."""
        client.force_login(User.objects.create_superuser("ada"))
        return client

    def test_show_schedules_with_their_next_times(self, browser: Client) -> None:
        row = made()

        assert "Every hour" in browser.get("/schedules").content.decode()
        assert "Every hour" in browser.get(f"/schedules/{row.pk}").content.decode()

    def test_turn_and_run(self, browser: Client) -> None:
        row = made()

        browser.post(f"/schedules/{row.pk}", {"verb": "pause"})
        assert not Schedule.objects.get().enabled
        answer = browser.post(f"/schedules/{row.pk}", {"verb": "run", "key": "k"})

        assert answer.headers["Location"] == f"/runs/{Run.objects.get().pk}"

    def test_count_a_backfill_before_it_begins(self, browser: Client) -> None:
        row = made(cron="0 * * * *", every_s=None)
        now = timezone.now()
        span = {"since": f"{now - timedelta(hours=3):%FT%R}", "until": f"{now:%FT%R}"}

        counted = browser.post(f"/schedules/{row.pk}", span | {"verb": "count"})
        assert "3 runs would begin" in counted.content.decode()
        assert not Run.objects.exists()
        browser.post(f"/schedules/{row.pk}", span | {"verb": "backfill"})

        assert Run.objects.count() == 3

    @pytest.mark.parametrize("data", [{"verb": "count", "since": "x", "until": "y"}, {"verb": "count"}])
    def test_say_what_is_wrong_with_a_range(self, browser: Client, data: dict[str, str]) -> None:
        row = made()

        answer = browser.post(f"/schedules/{row.pk}", data, follow=True)

        assert "is no time" in answer.content.decode()

    def test_let_nobody_turn_who_may_only_look(self, client: Client) -> None:
        row = made()
        user = User.objects.create_user("eve")
        user.user_permissions.add(Permission.objects.get(codename="view_run"))
        client.force_login(user)

        assert client.post(f"/schedules/{row.pk}", {"verb": "pause"}).status_code == 403
        assert Schedule.objects.get().enabled


class TestAdmin:
    def test_adds_one_and_puts_trouble_at_its_field(self, client: Client) -> None:
        client.force_login(User.objects.create_superuser("ada"))
        fields = {
            "tenant": "default", "name": "hourly", "workflow": "report", "cron": "0 * * * *", "zone": "UTC",
            "overlap": "skip", "catch_up": "latest", "catch_up_s": "60", "enabled": "on", "input": "null",
        }  # fmt: skip

        bad = client.post("/admin/coordination/schedule/add/", fields | {"cron": "0 * * *"})
        good = client.post("/admin/coordination/schedule/add/", fields)

        assert "no cron expression" in bad.content.decode()
        assert good.status_code == 302
        assert schedules.upcoming(Schedule.objects.get())
        assert client.get(f"/admin/coordination/schedule/{Schedule.objects.get().pk}/change/").status_code == 200
        assert client.get("/admin/coordination/schedule/").status_code == 200

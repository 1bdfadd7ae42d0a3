"""One verb for many runs: the operation, REST and the pages; and views of the list that are kept."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from coordination import bulk, errors, runs, workflows
from coordination.bulk import Filter
from coordination.models import Run, RunCommand, RunView
from routing import registry
from tests.coordination.test_run_api import Program, bot

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("bus")]
SOURCE = "name: {}\nsteps:\n  a: {{task: any}}\n"

__all__ = ["bot"]


@pytest.fixture(autouse=True)
def many() -> None:
    """Start five runs of two workflows; two run, one is paused, one failed, one completed."""
    registry.ensure_tenant()
    registry.ensure_skill("any")
    for name in ("one", "two"):
        workflows.save(SOURCE.format(name))
    for number, state in enumerate(["running", "running", "paused", "failed", "completed"]):
        run = runs.start(runs.Request(workflow="one" if number else "two")).run
        Run.objects.filter(pk=run.pk).update(state=state)


class TestAsk:
    @pytest.mark.parametrize(("verb", "count"), [("pause", 2), ("resume", 1), ("cancel", 3), ("retry", 1)])
    def test_reaches_the_runs_that_the_verb_suits(self, verb: str, count: int) -> None:
        done = bulk.ask(Filter(), runs.Kind(verb), by="ann", reason="storm")

        assert (done.matched, done.suited, done.asked) == (5, count, count)
        assert RunCommand.objects.filter(kind=verb, by="ann", reason="storm").count() == count

    def test_counts_first(self) -> None:
        done = bulk.ask(Filter(workflow="one"), runs.Kind.CANCEL, by="ann", dry_run=True)

        assert (done.matched, done.suited, done.asked) == (4, 2, 0)
        assert not RunCommand.objects.exists()

    def test_leaves_other_tenants_alone(self) -> None:
        assert bulk.ask(Filter(tenant="other"), runs.Kind.CANCEL, by="eve").matched == 0

    def test_refuses_what_is_asked_of_one_run_at_a_time(self) -> None:
        with pytest.raises(errors.BadBulk, match="one run at a time"):
            bulk.ask(Filter(), runs.Kind.SKIP, by="ann")

    def test_refuses_too_many(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bulk, "MOST", 2)

        with pytest.raises(errors.BadBulk, match="Narrow"):
            bulk.ask(Filter(), runs.Kind.CANCEL, by="ann")
        assert not RunCommand.objects.exists()


class TestApi:
    def test_counts_and_asks(self, bot: Program) -> None:
        body: dict[str, Any] = {"verb": "cancel", "state": "running", "reason": "storm"}

        counted = bot.send("post", "/runs:bulk", body | {"dry_run": True}).json()
        done = bot.send("post", "/runs:bulk", body).json()

        assert (counted["suited"], counted["asked"]) == (2, 0)
        assert done["asked"] == 2

    @pytest.mark.parametrize(
        "body", [{"verb": "skip"}, {}, {"verb": "cancel", "state": "odd"}, {"verb": "cancel", "x": 1}]
    )
    def test_refuses_in_words(self, bot: Program, body: dict[str, Any]) -> None:
        assert bot.send("post", "/runs:bulk", body).status_code == 422


class TestPages:
    @pytest.fixture
    def browser(self, client: Client) -> Client:
        """Return a client that is logged in as a superuser."""
        client.force_login(User.objects.create_superuser("ada"))
        return client

    def test_ask_only_after_the_count_is_confirmed(self, browser: Client) -> None:
        wish = {"verb": "cancel", "state": "running", "reason": "storm"}

        counted = browser.post("/runs/many", wish)
        before = RunCommand.objects.count()
        done = browser.post("/runs/many", wish | {"sure": "yes"}, follow=True)

        assert "2 runs would be asked to cancel" in counted.content.decode()
        assert before == 0
        assert "2 runs were asked to cancel." in done.content.decode()

    @pytest.mark.parametrize("wish", [{"verb": "skip"}, {"verb": "odd"}, {}])
    def test_say_what_cannot_be_asked(self, browser: Client, wish: dict[str, str]) -> None:
        assert browser.post("/runs/many", wish, follow=True).status_code == 200
        assert not RunCommand.objects.exists()

    def test_keep_share_and_forget_views(self, browser: Client) -> None:
        browser.post("/runs/views", {"name": "broken", "state": "failed", "shared": "yes"})
        other = Client()
        eve = User.objects.create_user("eve")
        eve.user_permissions.add(Permission.objects.get(codename="view_run"))
        other.force_login(eve)

        view = RunView.objects.get()
        assert "?state=failed" in other.get("/runs").content.decode()
        other.post("/runs/views", {"forget": str(view.pk)})
        assert RunView.objects.exists()
        browser.post("/runs/views", {"forget": str(view.pk)})

        assert not RunView.objects.exists()

    def test_let_nobody_ask_who_may_only_look(self, client: Client) -> None:
        client.force_login(User.objects.create_user("eve"))

        assert client.post("/runs/many", {"verb": "cancel"}).status_code == 403


class TestAdmin:
    def test_asks_the_chosen_runs_that_the_verb_suits(self, client: Client) -> None:
        client.force_login(User.objects.create_superuser("ada"))
        chosen = [str(pk) for pk in Run.objects.values_list("pk", flat=True)]

        answer = client.post("/admin/coordination/run/", {"action": "cancel", "_selected_action": chosen}, follow=True)

        assert "3 of 5 runs were asked to cancel" in answer.content.decode()
        assert RunCommand.objects.filter(kind="cancel", by="ada").count() == 3

    def test_offers_nothing_to_who_may_only_look(self, client: Client) -> None:
        eve = User.objects.create_user("eve", is_staff=True)
        eve.user_permissions.add(Permission.objects.get(codename="view_run"))
        client.force_login(eve)

        client.post(
            "/admin/coordination/run/", {"action": "cancel", "_selected_action": [str(Run.objects.all()[0].pk)]}
        )

        assert not RunCommand.objects.exists()

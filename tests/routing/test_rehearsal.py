"""The past under other rules: replayed, read from the ledger, and drafted."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from routing import events as e
from routing import past, registry
from routing.estimates import Estimates
from routing.models import Agent, Attempt, Policy, Task
from routing.policies import PolicySpec
from routing.rehearsal import NotEnough, Past, PastTask, Rehearsal, Replayed, Try, rehearse

SKILL = ("work", "")
FAILED: e.Error = {"kind": "agent", "message": "no", "retryable": True}


def agent(name: str, **fields: Any) -> e.AgentSpec:
    return e.AgentSpec(name=name, tenant="t", skills=frozenset({("work", "1")}), **{"capacity": 4, **fields})


def rules(*agents: e.AgentSpec, **policy: Any) -> e.RegistryChanged:
    """Return a registry of these agents with one policy."""
    return e.RegistryChanged(agents=agents, policies=(PolicySpec(name="p", **policy),))


def task(number: int, *tries: Try, every_s: float = 10.0, took_s: float | None = None, **fields: Any) -> PastTask:
    """Return the task that came ``every_s`` after the one before, and was done by the last try."""
    at = 1000.0 + number * every_s
    spec = e.TaskSpec(id=f"t{number:03}", tenant="t", skill="work", created_at=at, timeout_s=60.0, **fields)
    done = bool(tries) and tries[-1].error is None
    took_s = sum(each.seconds for each in tries) if took_s is None else took_s
    return PastTask(spec=spec, ended_at=at + took_s, completed=done, agent=tries[-1].agent if done else "", tries=tries)


def past_of(*tasks: PastTask) -> Past:
    return Past(tasks=tasks, since=1000.0, until=4600.0, left_out={"canceled": 2})


def quick(count: int = 40, **fields: Any) -> Past:
    """Return tasks that quick did in 2 s each."""
    return past_of(*(task(n, Try(agent="quick", seconds=2.0), **fields) for n in range(count)))


def learned(**slowness: float) -> list[tuple[str, str, Any]]:
    """Return what a controller remembers of agents that need so many times as long as usual."""
    known = Estimates()
    for _ in range(60):
        for name, times in slowness.items():
            known.succeeded(name, SKILL, seconds=2.0 * times, size=1.0)
    return [("estimate", name, data) for name, data in known.snapshot().items()]


class TestRehearse:
    def test_gives_what_happened_under_the_rules_as_they_are(self) -> None:
        now = rules(agent("quick"))

        found = rehearse(quick(), now, now)

        assert (found.before.completed, found.moved) == (40, 0)
        assert found.before.total.mean == pytest.approx(2.0)
        assert found.before == found.after
        assert found.summary() == "None of 40 tasks would go to another agent."
        assert not any(row.differs for row in [*found.figures(), *found.agents()])

    def test_a_task_takes_another_agent_as_much_longer_as_that_one_is_slower(self) -> None:
        agents = (agent("quick"), agent("slow"))
        kept = learned(quick=1.0, slow=3.0)

        found = rehearse(quick(), rules(*agents), rules(*agents, strategy="ordered", order=("slow", "quick")), kept)

        assert found.moved == 40
        assert found.summary() == "40 of 40 tasks would go to another agent."
        assert found.after.total.mean == pytest.approx(6.0, rel=0.1)
        assert [(row.label, row.before, row.after) for row in found.agents()] == [
            ("quick", "40", "0"),
            ("slow", "0", "40"),
        ]

    def test_what_failed_on_an_agent_fails_there_again_and_not_elsewhere(self) -> None:
        tries = (Try(agent="quick", seconds=1.0, error=FAILED), Try(agent="slow", seconds=3.0))
        many = [task(n, Try(agent="quick", seconds=2.0)) for n in range(39)]
        agents = (agent("quick"), agent("slow"))
        past = past_of(*many, task(39, *tries))

        found = rehearse(
            past,
            rules(*agents, strategy="ordered", order=("quick",)),
            rules(*agents, strategy="ordered", order=("slow",)),
        )

        assert (found.before.retries, found.after.retries) == (1, 0)

    def test_a_task_that_nobody_could_do_fails_everywhere(self) -> None:
        fault: e.Error = {"kind": "bad_input", "message": "no such file", "retryable": False}
        bad = task(39, Try(agent="quick", seconds=1.0, error=fault))
        past = past_of(*quick(39).tasks, bad)
        agents = (agent("quick"), agent("slow"))

        found = rehearse(past, rules(*agents), rules(*agents, strategy="ordered", order=("slow",)))

        assert (found.before.failed, found.after.failed) == (1, 1)

    def test_labels_deadlines_and_priorities_count(self) -> None:
        gpu = (("gpu", "yes"),)
        agents = (agent("quick"), agent("gpu", labels=gpu))
        past = past_of(*(task(n, Try(agent="gpu", seconds=2.0), labels=gpu) for n in range(20)))
        late = past_of(*(replace(t, spec=replace(t.spec, deadline=t.spec.created_at + 1)) for t in past.tasks))

        assert set(rehearse(past, rules(*agents), rules(*agents)).before.given.values()) == {"gpu"}
        assert rehearse(late, rules(*agents), rules(*agents)).before.missed == 20

    def test_a_time_out_of_the_draft_holds_from_the_door_on(self) -> None:
        now = rules(agent("quick"))

        found = rehearse(quick(), now, rules(agent("quick"), timeout_s=1.0, max_attempts=1))

        assert (found.before.failed, found.after.failed) == (0, 40)

    def test_agents_of_the_draft_count(self) -> None:
        past = quick(every_s=0.5)

        found = rehearse(past, rules(agent("quick", capacity=1)), rules(agent("quick", capacity=8)))

        assert found.before.wait.mean > 1 > found.after.wait.mean

    def test_costs_are_those_that_attempts_really_had(self) -> None:
        past = past_of(*(task(n, Try(agent="quick", seconds=2.0, cost_usd=0.5)) for n in range(20)))

        found = rehearse(past, rules(agent("quick", cost_usd=0.1)), rules(agent("quick")))

        assert found.before.cost_usd == pytest.approx(10.0)

    def test_refuses_too_little_history(self) -> None:
        with pytest.raises(NotEnough, match="Not enough history: 19 tasks ended in this time, and 20 are needed"):
            rehearse(quick(19), rules(agent("quick")), rules(agent("quick")))

    def test_refuses_a_registry_without_agents(self) -> None:
        with pytest.raises(NotEnough, match="There are no agents"):
            rehearse(quick(), rules(agent("quick")), rules())


class TestReplayed:
    def test_an_agent_fails_new_tasks_as_often_as_it_failed(self) -> None:
        bad = [
            task(n, Try(agent="bad", seconds=1.0, error=FAILED), Try(agent="quick", seconds=1.0)) for n in range(200)
        ]
        good = [task(n + 200, Try(agent="bad", seconds=1.0)) for n in range(200)]
        new = [task(n + 400, Try(agent="quick", seconds=1.0)) for n in range(400)]
        replayed = Replayed([*bad, *good, *new], Estimates())

        failed = sum(replayed.next(each.spec.id, "bad").error is not None for each in new)

        assert 150 < failed < 250

    def test_a_repeated_attempt_goes_on_after_what_is_recorded(self) -> None:
        past = task(0, Try(agent="a", seconds=1.0, error=FAILED), Try(agent="b", seconds=4.0))
        replayed = Replayed([past], Estimates())

        first, second, third = (replayed.next("t000", name) for name in ("a", "b", "b"))

        assert (first.seconds, first.error) == (1.0, FAILED)
        assert (second.seconds, second.error) == (4.0, None)
        assert (third.seconds, third.error) == (4.0, None)


class TestCalibration:
    def test_says_how_near_it_comes(self) -> None:
        said = rehearsal(quick()).calibration()

        assert said == (
            "With the rules as they are it comes to a mean of 2.0 s where 2.0 s really passed, "
            "and 100 % of the tasks go to the agent that did them."
        )

    def test_warns_of_figures_that_are_far_off(self) -> None:
        waited = past_of(*(replace(t, ended_at=t.ended_at + 30) for t in quick().tasks))

        assert "trust the direction, not the figures" in rehearsal(waited).calibration()

    def test_stands_in_the_json(self) -> None:
        told = json.loads(json.dumps(rehearsal(quick()).as_dict()))

        assert told["calibration"]["mean_s"] == 2.0
        assert told["left_out"] == {"canceled": 2}
        assert told["agents"] == {"quick": ["40", "40"]}


def rehearsal(past: Past) -> Rehearsal:
    return rehearse(past, rules(agent("quick")), rules(agent("quick")))


# ---- from the ledger --------------------------------------------------------------------------------------------


def record(number: int, *, agent: str = "any-1", state: str = "completed", age_s: float = 600.0, **fields: Any) -> Task:
    """Return a task that came so long ago and took the agent 2 s."""
    at = timezone.now() - timedelta(seconds=age_s - 10 * number)
    row = Task.objects.create(
        tenant_id="default", skill="any", timeout_s=60, max_attempts=3, request_digest="x", state=state, agent=agent,
        created_at=at, accepted_at=at, started_at=at, size=1.0,
        finished_at=None if state == "working" else at + timedelta(seconds=2), **fields,
    )  # fmt: skip
    if state in ("completed", "failed"):
        Attempt.objects.create(
            task=row, number=1, agent=agent, state=state, assigned_at=at, started_at=at,
            finished_at=at + timedelta(seconds=2), usage={"usd": 0.25},
            error=dict(FAILED) if state == "failed" else None,
        )  # fmt: skip
    return row


@pytest.fixture
def history(echo: None) -> None:
    """Record 30 tasks that any-1 did, beside an agent any-2 that had nothing to do."""
    any_2 = Agent.objects.create(name="any-2", capacity=2)
    any_2.skills.add(*Agent.objects.get(name="any-1").skills.all())
    for number in range(30):
        record(number)
    registry.forget()


@pytest.mark.django_db
@pytest.mark.usefixtures("history")
class TestRead:
    def read(self, **fields: Any) -> Past:
        until = timezone.now()
        return past.read(until - timedelta(hours=1), until, **fields)

    def test_returns_what_ended_in_the_order_it_came(self) -> None:
        record(0, state="failed")
        found = self.read().tasks

        assert len(found) == 31
        assert [t.spec.created_at for t in found] == sorted(t.spec.created_at for t in found)
        assert found[-1].tries == (Try(agent="any-1", seconds=2.0, cost_usd=0.25),)
        assert [t.tries[0].error for t in found if not t.completed] == [FAILED]

    def test_says_what_is_left_out(self) -> None:
        record(0, state="canceled")
        record(0, state="working")
        record(0, age_s=7200)

        assert self.read(most=25).left_out == {
            "canceled": 1,
            "not ended yet": 1,
            "older than the newest that fit": 5,
        }

    def test_keeps_the_newest(self) -> None:
        newest = Task.objects.order_by("-created_at")[:3]

        assert {t.spec.id for t in self.read(most=3).tasks} == {str(row.id) for row in newest}

    def test_takes_few_queries_and_no_payloads(self, django_assert_max_num_queries: Any) -> None:
        with django_assert_max_num_queries(8) as seen:
            self.read()

        assert not any('"routing_task"."input"' in query["sql"] for query in seen.captured_queries)


DRAFT = "policies:\n- name: turn\n  strategy: ordered\n  order: [any-2, any-1]\n"


@pytest.mark.django_db
class TestRehearseCommand:
    @pytest.fixture(autouse=True)
    def _draft(self, tmp_path: Path) -> None:
        self.draft = tmp_path / "draft.yaml"
        self.draft.write_text(DRAFT)

    def said(self, **options: Any) -> str:
        """Return what the command prints."""
        out = StringIO()
        call_command("rehearse", policy=self.draft, stdout=out, **options)
        return out.getvalue()

    @pytest.mark.usefixtures("history")
    def test_says_who_would_have_got_what(self) -> None:
        said = self.said(since="1h")

        assert "30 of 30 tasks would go to another agent." in said
        assert "Replayed: 30 tasks of the last 1 h." in said
        assert "Calibration: With the rules as they are it comes to a mean of 2.0 s where 2.0 s" in said
        assert "any-2" in said

    @pytest.mark.usefixtures("history")
    def test_keeps_nothing_of_the_draft(self) -> None:
        before = registry.revision()
        self.said()

        assert not Policy.objects.exists()
        assert registry.revision() == before

    @pytest.mark.usefixtures("history")
    def test_prints_json(self) -> None:
        told = json.loads(self.said(json=True))

        assert (told["tasks"], told["moved"]) == (30, 30)
        assert {"total_p95_s", "cost_usd", "missed"} <= told["after"].keys()

    @pytest.mark.usefixtures("echo")
    def test_says_that_there_is_not_enough_history(self) -> None:
        self.draft.write_text("")

        with pytest.raises(CommandError, match="Not enough history: 0 tasks"):
            self.said()

    @pytest.mark.usefixtures("history")
    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("policies:\n- name: p\n  strategy: luck\n", r"draft\.yaml:3: strategy: .*luck"),
            (
                "policies:\n- name: p\n  strategy: ordered\n  order: [hal]\n",
                r"draft\.yaml:4: .*No agent is called 'hal'",
            ),
            ("policies: [", r"draft\.yaml:1: "),
            ("polices: []\n", r"draft\.yaml:1: .*there is no such field"),
        ],
    )
    def test_names_the_line_of_what_is_wrong(self, text: str, why: str) -> None:
        self.draft.write_text(text)

        with pytest.raises(CommandError, match=why):
            self.said()

    @pytest.mark.parametrize("since", ["yesterday", "0h", "8d", "-1h", "24"])
    def test_refuses_a_time_that_is_none(self, since: str) -> None:
        with pytest.raises(CommandError, match="--since is a time such as"):
            self.said(since=since)

    def test_refuses_a_number_of_tasks_out_of_range(self) -> None:
        with pytest.raises(CommandError, match="--most is a number from 1 to 20,000"):
            self.said(most=20_001)

    def test_says_that_a_file_is_not_there(self) -> None:
        self.draft.unlink()

        with pytest.raises(CommandError, match="cannot be read"):
            self.said()


@pytest.mark.django_db
class TestDryRun:
    def act(self, *rows: Policy) -> str:
        client = Client()
        client.force_login(User.objects.create_superuser("root"))
        asked = {"action": "dry_run", "_selected_action": [row.pk for row in rows]}
        answer = client.post("/admin/routing/policy/", asked, follow=True)
        assert answer.status_code == 200
        return answer.content.decode()

    @pytest.mark.usefixtures("history")
    def test_shows_what_a_disabled_policy_would_have_done(self) -> None:
        row = Policy.objects.create(name="turn", strategy="ordered", order=["any-2"], enabled=False)

        page = self.act(row)

        assert "Dry run: turn enabled" in page
        assert "30 of 30 tasks would go to another agent." in page
        assert not Policy.objects.get().enabled

    @pytest.mark.usefixtures("history")
    def test_shows_what_the_rules_would_be_without_an_enabled_one(self) -> None:
        row = Policy.objects.create(name="turn", strategy="ordered", order=["any-2"])

        page = self.act(row)

        assert "Dry run: turn disabled" in page
        assert "30 of 30 tasks would go to another agent." in page

    @pytest.mark.usefixtures("echo")
    def test_says_why_there_is_nothing_to_show(self) -> None:
        assert "Not enough history" in self.act(Policy.objects.create(name="turn", enabled=False))

    @pytest.mark.usefixtures("history")
    def test_says_why_a_policy_cannot_be_enabled(self) -> None:
        assert "No skill" in self.act(Policy.objects.create(name="turn", skill="nobody", enabled=False))

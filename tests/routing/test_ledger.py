"""What the fleet says becomes rows, all of it or nothing, and the rows become the fleet again."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from routing import events as e
from routing import ledger, lifecycle, registry, rulebook
from routing.fleet import Fleet
from routing.flights import Restored
from routing.models import (
    Artifact,
    Attempt,
    CeleryState,
    ChordPart,
    Command,
    Controller,
    Decision,
    Skill,
    Task,
    TaskEvent,
    TaskState,
    Tenant,
)
from tests.routing.desk import START, Desk

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("echo")]

LOST: e.Error = {"kind": "agent", "message": "no", "retryable": True}
FINAL: e.Error = {"kind": "agent", "message": "no", "retryable": False}
FILE = {"name": "a.txt", "sha256": "0" * 64, "size": 3, "media_type": "text/plain"}
CALL = {"body": [[], {}, {}], "headers": {"id": "x"}}


@pytest.fixture
def desk(echo: None) -> Desk:
    return Desk()


def at(seconds: float) -> datetime:
    """Return the moment so many seconds after the desk's clock began."""
    return datetime.fromtimestamp(START + seconds, UTC)


def history(task: Task) -> list[tuple[int, str]]:
    """Return (number, kind) of all events of a task."""
    return list(TaskEvent.objects.filter(task=task).order_by("seq").values_list("seq", "kind"))


class TestCommit:
    def test_keeps_rows_and_position_together(self, desk: Desk) -> None:
        task = desk.submit()

        row = ledger.controller_row()
        assert (row.position, row.commit_seq) == (f"{desk.commits}-0", desk.commits)
        assert history(task) == [(1, "submitted"), (2, "assigned")]

    def test_of_a_deposed_controller_writes_nothing(self, desk: Desk) -> None:
        task = desk.submit()
        before = ledger.controller_row()
        Controller.objects.update(epoch=before.epoch + 1)

        with pytest.raises(ledger.Deposed):
            desk.tell(desk.started(task))

        assert len(history(task)) == 2
        assert ledger.controller_row().position == before.position

    def test_that_cannot_be_written_whole_leaves_the_position(self, desk: Desk) -> None:
        desk.submit()
        before = ledger.controller_row()

        with pytest.raises(Exception, match=r"UNIQUE|unique|duplicate"):
            desk.commit(list(desk.said))  # the same events again

        assert ledger.controller_row().position == before.position

    def test_closes_the_requests_it_has_acted_on(self, desk: Desk) -> None:
        command = Command.objects.create(tenant_id="default", kind="cancel", task=desk.submit(), by="ann")

        ledger.commit([], epoch=desk.epoch, position="9-0", commit_seq=9, done=[command.id])

        assert ledger.open_commands() == []


class TestTakeLead:
    def test_goes_to_one_of_two_who_saw_the_same(self) -> None:
        seen = ledger.controller_row()

        assert ledger.take_lead(seen, "one") == seen.epoch + 1
        assert ledger.take_lead(seen, "two") is None
        assert ledger.controller_row().holder == "one"

    def test_fails_when_the_leader_has_shown_that_it_lives(self, desk: Desk) -> None:
        seen = ledger.controller_row()
        desk.tell()

        assert ledger.take_lead(seen, "two") is None

    def test_is_open_to_all_after_the_leader_gave_up(self, desk: Desk) -> None:
        ledger.give_up_lead(desk.epoch)

        assert ledger.controller_row().holder == ""

    def test_cannot_be_given_up_by_somebody_else(self, desk: Desk) -> None:
        ledger.give_up_lead(desk.epoch - 1)

        assert ledger.controller_row().holder == "desk"


class TestLimitIdleness:
    def test_holds_for_the_session(self) -> None:
        if connection.vendor != "postgresql":
            pytest.skip("SQLite knows no such limit")

        ledger.limit_idleness(connection)

        with connection.cursor() as cursor:
            cursor.execute("SHOW idle_in_transaction_session_timeout")
            assert cursor.fetchone() == ("5s",)
            cursor.execute("RESET idle_in_transaction_session_timeout")


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor != "sqlite", reason="SQLite alone has such a log")
class TestCheckpoint:
    def test_brings_what_was_committed_into_the_file(self, tmp_path: Path) -> None:
        Tenant.objects.create(name="kept")

        ledger.checkpoint()

        copy = tmp_path / "copy"
        shutil.copy(connection.settings_dict["NAME"], copy)  # without the log
        with closing(sqlite3.connect(copy)) as there:
            assert there.execute("SELECT name FROM routing_tenant WHERE name = 'kept'").fetchone() == ("kept",)


class TestRows:
    def test_submitted(self, desk: Desk) -> None:
        task = desk.submit(skill="echo", input={"text": ""}, labels={"gpu": "yes"})

        task.refresh_from_db()
        assert (task.accepted_at, task.seq, task.state) == (at(0), 1, TaskState.SUBMITTED)
        assert task.detail == "no agent has the skill echo with the label gpu=yes"

    def test_assigned(self, desk: Desk) -> None:
        task = desk.submit()

        task.refresh_from_db()
        attempt = Attempt.objects.get()
        assert (task.seq, task.attempt, task.agent, task.state) == (2, 1, "any-1", TaskState.SUBMITTED)
        assert (attempt.number, attempt.agent, attempt.state, attempt.assigned_at) == (1, "any-1", "assigned", at(0))

    def test_assigned_keeps_the_decision(self, desk: Desk) -> None:
        desk.submit()

        decision = Decision.objects.get()
        assert (decision.attempt, decision.agent, decision.strategy) == (1, "any-1", "balanced")
        assert [candidate["agent"] for candidate in decision.candidates] == ["any-1"]

    def test_working(self, desk: Desk) -> None:
        task = desk.submit()
        desk.now += 2

        desk.tell(desk.started(task))

        task.refresh_from_db()
        attempt = Attempt.objects.get()
        assert (task.state, task.started_at) == (TaskState.WORKING, at(2))
        assert (attempt.state, attempt.worker, attempt.started_at) == ("working", "w", at(2))

    def test_progress(self, desk: Desk) -> None:
        task = desk.submit()

        desk.tell(desk.started(task), desk.noted(task, "progress", {"fraction": 0.5, "message": "half"}))
        desk.tell(desk.noted(task, "progress", {"fraction": None, "message": "who knows"}))

        task.refresh_from_db()
        assert task.progress == 0.5
        assert TaskEvent.objects.get(task=task, seq=5).data["message"] == "who knows"

    def test_log(self, desk: Desk) -> None:
        task = desk.submit()

        desk.tell(desk.started(task), desk.noted(task, "log", {"level": "info", "message": "ß"}))

        assert TaskEvent.objects.get(task=task, kind="log").data == {"level": "info", "message": "ß"}

    def test_artifact(self, desk: Desk) -> None:
        task = desk.submit()

        desk.tell(desk.started(task), desk.noted(task, "artifact", FILE))

        kept = Artifact.objects.get()
        assert (kept.seq, kept.attempt, kept.name, kept.sha256, kept.size) == (4, 1, "a.txt", "0" * 64, 3)

    def test_completed(self, desk: Desk) -> None:
        task = desk.submit()
        desk.tell(desk.started(task))
        desk.now += 3

        desk.tell(desk.finished(task, output={"n": [1, None, "ß"]}))

        task.refresh_from_db()
        attempt = Attempt.objects.get()
        assert (task.state, task.output, task.finished_at) == (TaskState.COMPLETED, {"n": [1, None, "ß"]}, at(3))
        assert (attempt.state, attempt.finished_at, attempt.error) == ("completed", at(3), None)

    def test_completed_with_null(self, desk: Desk) -> None:
        task = desk.submit()

        desk.tell(desk.started(task), desk.finished(task, output=None))

        task.refresh_from_db()
        assert (task.state, task.output) == (TaskState.COMPLETED, None)

    def test_requeued(self, desk: Desk) -> None:
        task = desk.submit()

        desk.tell(desk.started(task), desk.finished(task, error=LOST))

        task.refresh_from_db()
        attempt = Attempt.objects.get()
        assert (task.state, task.agent, task.tries, task.finished_at) == (TaskState.SUBMITTED, "", 1, None)
        assert (attempt.state, attempt.error) == ("failed", LOST)

    def test_requeued_with_another_call(self, desk: Desk) -> None:
        task = desk.submit(call=CALL)

        desk.tell(desk.started(task), desk.finished(task, error=LOST, retry_in_s=1, call={**CALL, "again": 1}))

        task.refresh_from_db()
        assert (task.call, task.tries) == ({**CALL, "again": 1}, 0)
        assert Attempt.objects.get().state == "returned"

    def test_never_begun(self, desk: Desk) -> None:
        desk.submit()
        desk.now += 10

        desk.tell(e.Beat(worker="w", incarnation="1", threads=16))

        assert [a.state for a in Attempt.objects.order_by("number")] == ["lost", "assigned"]

    def test_failed(self, desk: Desk) -> None:
        task = desk.submit()

        desk.tell(desk.started(task), desk.finished(task, error=FINAL))

        task.refresh_from_db()
        assert (task.state, task.error, task.agent) == (TaskState.FAILED, FINAL, "any-1")
        assert Attempt.objects.get().state == "failed"

    def test_canceled_while_it_works(self, desk: Desk) -> None:
        task = desk.submit()
        desk.tell(desk.started(task), e.CancelAsked(task=str(task.id), by="ann"))

        desk.tell(desk.finished(task, error={"kind": "canceled", "message": "stopped", "retryable": False}))

        task.refresh_from_db()
        assert (task.state, task.cancel_requested_at) == (TaskState.CANCELED, at(0))
        assert Attempt.objects.get().state == "canceled"

    def test_canceled_while_it_waits(self, desk: Desk) -> None:
        task = desk.submit(labels={"gpu": "yes"})

        desk.tell(e.CancelAsked(task=str(task.id), by="ann"))

        task.refresh_from_db()
        assert (task.state, Attempt.objects.count()) == (TaskState.CANCELED, 0)

    def test_of_a_whole_life_in_one_commit(self, desk: Desk) -> None:
        task = desk.submit()

        desk.tell(
            desk.started(task),
            desk.noted(task, "progress", {"fraction": 0.1, "message": ""}),
            desk.noted(task, "progress", {"fraction": 0.9, "message": ""}),
            desk.finished(task, output=5),
        )

        task.refresh_from_db()
        assert (task.state, task.progress, task.output, task.seq) == (TaskState.COMPLETED, 0.9, 5, 6)
        assert [seq for seq, _ in history(task)] == [1, 2, 3, 4, 5, 6]

    def test_of_two_attempts_in_one_commit(self, desk: Desk) -> None:
        task = desk.submit()

        desk.tell(desk.started(task), e.HandedBack(task=str(task.id), attempt=1))  # and assigned anew

        task.refresh_from_db()
        assert (task.state, task.attempt, task.agent) == (TaskState.SUBMITTED, 2, "any-1")
        assert [a.state for a in Attempt.objects.order_by("number")] == ["returned", "assigned"]


class TestSettlements:
    def test_wait_for_whoever_settles_a_canvas(self, desk: Desk) -> None:
        task = desk.submit(call=CALL)

        desk.tell(desk.started(task), desk.finished(task, error=FINAL))

        [command] = ledger.open_commands()
        assert (command.kind, command.task_id) == ("settle", task.id)

    @pytest.mark.parametrize("call", [None, {"headers": {}}])
    def test_are_not_needed_without_a_canvas(self, desk: Desk, call: Any) -> None:
        task = desk.submit(call=call)

        desk.tell(desk.started(task), desk.finished(task, error=FINAL))

        assert ledger.open_commands() == []

    def test_are_not_needed_after_a_good_end(self, desk: Desk) -> None:
        task = desk.submit(call=CALL)

        desk.tell(desk.started(task), desk.finished(task))

        assert ledger.open_commands() == []


class TestUnaccepted:
    def test_are_the_oldest_that_no_controller_knows(self, desk: Desk) -> None:
        desk.submit()
        new = [Task.objects.create(tenant_id="default", skill="any", input=n, timeout_s=1, max_attempts=1,
                                   request_digest="") for n in range(3)]  # fmt: skip

        assert [task.id for task in ledger.unaccepted(2)] == [task.id for task in new[:2]]
        assert ledger.is_unaccepted(new[0].id)


def seen(fleet: Fleet) -> dict[str, tuple[Any, ...]]:
    """Return of each live task what a restart must not change."""
    return {
        task.spec.id: (
            task.spec,
            task.seq,
            task.attempt,
            task.tries,
            task.cancel_asked_at is not None,
            task.phase if task.phase in ("assigned", "working") else "waiting",
            [(f.attempt, f.agent, f.phase, f.began_at if f.phase == "working" else None) for f in task.flights],
        )
        for task in fleet.tasks.values()
    }


class TestLive:
    @pytest.mark.parametrize("seed", range(8))
    def test_gives_back_the_fleet_as_it_was(self, desk: Desk, seed: int) -> None:
        _live_a_little(desk, Random(seed))

        restarted = Fleet()
        restarted.apply(rulebook.fact(), desk.now)
        for restored in ledger.live():
            restarted.restore(restored, desk.now)

        assert seen(restarted) == seen(desk.fleet)
        assert {n: set(a.running) for n, a in restarted.roster.agents.items()} == {
            n: set(a.running) for n, a in desk.fleet.roster.agents.items()
        }

    def test_leaves_out_what_has_ended_or_is_not_accepted(self, desk: Desk) -> None:
        ended = desk.submit()
        desk.tell(desk.started(ended), desk.finished(ended))
        desk.submit()
        Task.objects.filter(accepted_at__isnull=False).exclude(id=ended.id).update(accepted_at=None)

        assert list(ledger.live()) == []

    def test_knows_which_start_of_which_worker_is_at_work(self, desk: Desk) -> None:
        task = desk.submit()
        desk.tell(replace(desk.started(task), incarnation="1"))

        [restored] = ledger.live()

        assert (restored.flights[0].worker, restored.flights[0].incarnation) == ("w", "1")

    def test_keeps_everything_that_routing_needs(self, desk: Desk) -> None:
        moment = at(3600)
        desk.submit(version="1", labels={"b": "2", "a": "1"}, exclude=["x"], priority=1, not_before=moment,
                    deadline=moment + timedelta(hours=1), timeout_s=5, max_attempts=2)  # fmt: skip

        [restored] = ledger.live()

        assert isinstance(restored, Restored)
        spec = restored.spec
        assert (spec.version, spec.labels, spec.excluded) == ("1", (("a", "1"), ("b", "2")), ("x",))
        assert (spec.priority, spec.not_before, spec.timeout_s) == (1, moment.timestamp(), 5)


def _live_a_little(desk: Desk, random: Random) -> None:
    """Submit some tasks, and let random things happen to them."""
    tasks = [desk.submit(max_attempts=5) for _ in range(6)]
    for _ in range(25):
        desk.now += random.randint(0, 3)
        task = random.choice(tasks)
        attempt = desk.fleet.tasks[str(task.id)].attempt if str(task.id) in desk.fleet.tasks else 1
        facts: list[e.Fact] = [
            desk.started(task, attempt),
            desk.noted(task, "progress", {"fraction": 0.5, "message": ""}, attempt),
            desk.finished(task, attempt, output=1),
            desk.finished(task, attempt, error=LOST),
            desk.finished(task, attempt, error=LOST, retry_in_s=1.0),
            e.HandedBack(task=str(task.id), attempt=attempt),
            e.CancelAsked(task=str(task.id), by="ann"),
            e.Beat(worker="w", incarnation="1", threads=16),
        ]
        desk.tell(random.choice(facts))


class TestDeleteOld:
    def test_deletes_a_task_with_all_that_belongs_to_it(self, desk: Desk) -> None:
        task = desk.submit(call=CALL)
        desk.tell(desk.started(task), desk.noted(task, "artifact", FILE), desk.finished(task, error=FINAL))
        Task.objects.update(finished_at=timezone.now() - timedelta(days=31))

        assert ledger.delete_old() == 1

        assert not any(model.objects.exists() for model in (Task, TaskEvent, Attempt, Decision, Artifact, Command))

    def test_keeps_what_is_young_or_has_not_ended(self, desk: Desk) -> None:
        young, _ = desk.submit(), desk.submit()
        desk.tell(desk.started(young), desk.finished(young))
        Task.objects.update(created_at=timezone.now() - timedelta(days=90))
        Task.objects.filter(id=young.id).update(finished_at=timezone.now() - timedelta(days=29))

        assert ledger.delete_old() == 0
        assert Task.objects.count() == 2

    def test_goes_in_slices(self) -> None:
        old = timezone.now() - timedelta(days=31)
        Task.objects.bulk_create(
            [Task(tenant_id="default", skill="any", input=1, timeout_s=1, max_attempts=1, request_digest="",
                  state=TaskState.COMPLETED, finished_at=old) for _ in range(ledger.SLICE + 1)],
            batch_size=200,
        )  # fmt: skip

        with CaptureQueriesContext(connection) as queries:
            assert ledger.delete_old() == ledger.SLICE + 1

        deletes = [q for q in queries if q["sql"].startswith('DELETE FROM "routing_task" ')]
        assert len(deletes) >= 2
        assert not Task.objects.exists()

    def test_forgets_what_celery_need_not_keep(self) -> None:
        CeleryState.objects.create(key="old", value="", expires_at=timezone.now() - timedelta(seconds=1))
        CeleryState.objects.create(key="new", value="", expires_at=timezone.now() + timedelta(days=1))
        ChordPart.objects.create(group_id="g", task_id="t", ok=True, created_at=timezone.now() - timedelta(days=31))

        ledger.delete_old()

        assert [state.key for state in CeleryState.objects.all()] == ["new"]
        assert not ChordPart.objects.exists()


class TestMemory:
    def remember(self, desk: Desk, *learned: tuple[str, str, Any]) -> None:
        desk.commit([e.Remembered(kind=kind, name=name, data=data) for kind, name, data in learned])

    def test_is_empty_at_first(self) -> None:
        assert list(ledger.memory()) == []

    def test_keeps_what_was_said_last(self, desk: Desk) -> None:
        self.remember(desk, ("spent", "month", [1]), ("breaker", "any-1", {"a": 1}), ("spent", "month", [2]))
        self.remember(desk, ("breaker", "any-1", {"a": 2}))

        kept = {(kind, name): data for kind, name, data in ledger.memory() if kind != "estimate"}
        assert kept == {("spent", "month"): [2], ("breaker", "any-1"): {"a": 2}}

    def test_forgets_what_is_none(self, desk: Desk) -> None:
        self.remember(desk, ("rate", "x", [1]), ("rate", "y", [1]))
        self.remember(desk, ("rate", "x", None), ("rate", "z", None))

        assert list(ledger.memory()) == [("rate", "y", [1])]

    def test_of_a_deposed_controller_is_not_kept(self, desk: Desk) -> None:
        Controller.objects.update(epoch=desk.epoch + 1)

        with pytest.raises(ledger.Deposed):
            self.remember(desk, ("rate", "x", [1]))

        assert list(ledger.memory()) == []

    def test_takes_as_many_statements_for_many_as_for_one(self, desk: Desk) -> None:
        with CaptureQueriesContext(connection) as one:
            self.remember(desk, ("rate", "0", 0))
        with CaptureQueriesContext(connection) as many:
            self.remember(desk, *(("rate", str(n), n) for n in range(50)))

        assert len(many) == len(one)


class TestRowsOfDecisionsAndAttempts:
    def record(self, desk: Desk, task: Task, **fields: Any) -> None:
        seq = TaskEvent.objects.filter(task=task).count() + 1
        given: dict[str, Any] = {"task": str(task.id), "tenant": "default", "skill": "any", "seq": seq, "at": desk.now}
        desk.commit([e.Recorded(**given | fields)])

    def test_keep_all_that_was_decided(self, desk: Desk) -> None:
        task = desk.submit(skill="echo", input={"text": ""}, labels={"gpu": "yes"})
        decision = e.DecisionMade(
            policy="cheap", revision=7, strategy="cheapest", candidates=(), exclusions={"a": "full"}, more=3,
            waited_for="limit x", shadow={"strategy": "fastest", "agent": "b"},
        )  # fmt: skip

        self.record(desk, task, kind="assigned", attempt=1, agent="echo-1", decision=decision)

        row = Decision.objects.get(task=task)
        assert (row.policy, row.revision, row.strategy, row.more) == ("cheap", 7, "cheapest", 3)
        assert (row.waited_for, row.shadow) == ("limit x", {"strategy": "fastest", "agent": "b"})

    def test_tell_a_hedge_from_the_attempt_it_flies_beside(self, desk: Desk) -> None:
        task = desk.submit()

        self.record(desk, task, kind="hedged", attempt=2, agent="echo-1", data={"beside": 1})

        assert list(Attempt.objects.order_by("number").values_list("number", "hedge")) == [(1, False), (2, True)]

    @pytest.mark.parametrize(
        ("kind", "data"),
        [
            ("completed", {}),
            ("failed", {"error": FINAL}),
            ("requeued", {"outcome": "failed", "tries": 1}),
            ("dropped", {"outcome": "canceled", "tries": 0, "goes_on": "any-1"}),
        ],
    )
    def test_keep_what_was_used(self, desk: Desk, kind: str, data: dict[str, Any]) -> None:
        task = desk.submit()

        self.record(desk, task, kind=kind, attempt=1, agent="any-1", data={**data, "usage": {"usd": 0.5}})

        assert Attempt.objects.get().usage == {"usd": 0.5}

    def test_know_no_usage_where_none_was_told(self, desk: Desk) -> None:
        task = desk.submit()

        desk.tell(desk.started(task), desk.finished(task, output=1))

        assert Attempt.objects.get().usage is None


class TestSpecOf:
    def test_says_what_limits_and_strategies_ask_for(self) -> None:
        context = uuid4()
        asked: dict[str, Any] = {"size": 3, "concurrency_key": "repo", "affinity": "ann", "context": context}
        lifecycle.submit(lifecycle.Request(skill="any", input=1, **asked))

        for task in (ledger.unaccepted(1)[0], Task.objects.get()):
            spec = ledger.spec_of(task)
            assert (spec.size, spec.concurrency_key, spec.affinity) == (3, "repo", "ann")
            assert (spec.context, spec.idempotent) == (str(context), False)

    def test_is_idempotent_if_the_skill_is(self) -> None:
        Skill.objects.filter(name="any").update(idempotent=True)
        registry.forget()
        task = lifecycle.submit(lifecycle.Request(skill="any", input=1)).task

        assert ledger.spec_of(task).idempotent
        assert ledger.spec_of(task).context == ""

    def test_is_not_idempotent_if_the_skill_is_gone(self) -> None:
        task = lifecycle.submit(lifecycle.Request(skill="any", input=1)).task
        task.skill = "gone"

        assert not ledger.spec_of(task).idempotent

"""Schedules from the door to the run, met by a real controller on a real database."""

from __future__ import annotations

import datetime as dt
import threading
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from coordination import errors, runs, schedules, workflows
from coordination.models import Run, RunCommand, Schedule, ScheduleTime, StepRun
from routing import registry
from routing.models import Task
from tests.private_redis import wait_until
from tests.routing.test_controller import running

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("bus")]

SOURCE = """
name: report
steps:
  first:
    task: any
    input: {due: "{{ run.due }}"}
"""
DAY = dt.timedelta(days=1)


@pytest.fixture(autouse=True)
def workflow() -> None:
    """Save a workflow of one step, for which no agent is there."""
    registry.ensure_tenant()
    registry.ensure_skill("any")
    workflows.save(SOURCE)


def made(**changes: Any) -> Schedule:
    return schedules.save(Schedule(**{"name": "s", "workflow": "report", "every_s": 3600.0, **changes}), by="ann")


def late(schedule: Schedule, by: dt.timedelta) -> None:
    """Put the schedule back in time, as after an outage."""
    then = timezone.now() - by
    Schedule.objects.filter(pk=schedule.pk).update(after=then, next_at=then, created_at=then)


class TestSave:
    def test_keeps_when_it_comes_next(self) -> None:
        schedule = made(cron="0 6 * * *", every_s=None, zone="Europe/Berlin")

        assert schedule.next_at is not None
        assert schedules.upcoming(schedule)[0] == schedule.next_at
        assert len(schedules.upcoming(schedule)) == 5

    @pytest.mark.parametrize(
        ("changes", "why"),
        [
            ({"workflow": "nope"}, "no workflow 'nope'"),
            ({"cron": "x", "every_s": None}, "no cron expression"),
            ({"zone": "Nowhere"}, "No time zone"),
            ({"name": "with space"}, "name"),
            ({"priority": 11}, "0 to 9"),
            ({"catch_up_s": -1.0}, "catch_up_s"),
            ({"overlap": "maybe"}, "overlap"),
            ({"input": {"a": "\0"}}, "input"),
        ],
    )
    def test_refuses_in_words(self, changes: dict[str, Any], why: str) -> None:
        with pytest.raises(errors.BadSchedule, match=why):
            made(**changes)

        assert not Schedule.objects.exists()

    def test_refuses_a_name_that_is_taken(self) -> None:
        made()

        with pytest.raises(errors.BadSchedule, match="called 's' already"):
            made()


class TestFireDue:
    def test_begins_one_run_for_a_time(self) -> None:
        schedule = made()
        late(schedule, dt.timedelta(seconds=3605))
        now = timezone.now()

        schedules.fire_due(now)
        schedules.fire_due(now)

        run = Run.objects.get()
        assert (run.schedule, run.by) == (schedule.pk, "schedule s")
        assert ScheduleTime.objects.get().run == run.pk

    def test_begins_none_twice_when_the_position_was_lost(self) -> None:
        schedule = made()
        late(schedule, dt.timedelta(seconds=3605))
        before = Schedule.objects.filter(pk=schedule.pk).values("after", "next_at")[0]

        schedules.fire_due(timezone.now())
        Schedule.objects.filter(pk=schedule.pk).update(**before)
        Run.objects.update(state="completed")
        schedules.fire_due(timezone.now())

        assert Run.objects.count() == 1

    def test_tells_what_is_refused_and_goes_on(self) -> None:
        schedule = made()
        other = made(name="other")
        workflows.set_enabled(workflows.look_up("default", "report").workflow, enabled=False)
        late(schedule, dt.timedelta(seconds=3605))
        late(other, dt.timedelta(seconds=3605))

        schedules.fire_due(timezone.now())

        assert [time.outcome for time in ScheduleTime.objects.all()] == ["refused", "refused"]
        assert "disabled" in ScheduleTime.objects.all()[0].why

    def test_skips_while_its_last_run_goes_on(self) -> None:
        schedule = made()
        schedules.run_now(schedule, by="ann")
        late(schedule, dt.timedelta(seconds=3605))

        schedules.fire_due(timezone.now())

        assert Run.objects.count() == 1
        assert ScheduleTime.objects.get(cause="time").outcome == "skipped"

    def test_lets_a_time_wait_for_the_last_run(self) -> None:
        schedule = made(overlap="queue")
        first = schedules.run_now(schedule, by="ann")
        late(schedule, dt.timedelta(seconds=3605))

        schedules.fire_due(timezone.now())
        waiting = Schedule.objects.get()
        Run.objects.filter(pk=first.pk).update(state="completed")
        schedules.fire_due(timezone.now() + dt.timedelta(seconds=2))

        assert waiting.held is not None
        assert Run.objects.count() == 2
        assert Schedule.objects.get().held is None

    def test_makes_up_for_an_outage_as_it_says(self) -> None:
        schedule = made(overlap="allow", catch_up="all")
        late(schedule, dt.timedelta(hours=5, minutes=30))

        schedules.fire_due(timezone.now())

        assert Run.objects.count() == 5

    def test_leaves_alone_what_is_off(self) -> None:
        schedule = made()
        late(schedule, dt.timedelta(hours=5))
        schedules.set_enabled(Schedule.objects.get(), enabled=False, by="ann")

        schedules.fire_due(timezone.now())
        schedules.set_enabled(Schedule.objects.get(), enabled=True, by="ann")
        schedules.fire_due(timezone.now())

        assert not Run.objects.exists()


class TestRunNow:
    def test_gives_the_same_run_for_the_same_key(self) -> None:
        schedule = made()

        runs = {schedules.run_now(schedule, by="ann", key="k").pk for _ in range(2)}

        assert len(runs) == 1


class TestBackfill:
    def test_counts_before_it_begins_anything(self) -> None:
        now = timezone.now()
        schedule = made(cron="0 * * * *", every_s=None)

        counted = schedules.backfill(schedule, now - DAY, now, by="ann", dry_run=True)
        begun = Run.objects.count()
        done = schedules.backfill(schedule, now - DAY, now, by="ann")
        again = schedules.backfill(schedule, now - DAY, now, by="ann")

        assert begun == 0
        assert len(counted.fresh) == len(done.made) == Run.objects.count() == 24
        assert (len(again.fresh), len(again.known)) == (0, 24)

    @pytest.mark.parametrize(("days", "until"), [(-1, 0), (1, 1), (1000, 0)])
    def test_refuses_a_range_that_makes_no_sense(self, days: int, until: int) -> None:
        now = timezone.now()
        schedule = made(cron="* * * * *", every_s=None)

        with pytest.raises(errors.BadBackfill):
            schedules.backfill(schedule, now - days * DAY, now + until * DAY, by="ann")

        assert not Run.objects.exists()


class TestClock:
    """With a real controller, that is ended and begun again."""

    def test_meets_times_across_a_restart_once_each(self) -> None:
        registry.ensure_agent("any-1", skills=[registry.ensure_skill("any")], executor="command",
                              options={"argv": ["true"]}, capacity=50)  # fmt: skip
        schedule = made(every_s=1.0, overlap="allow", catch_up="all")
        for _ in range(2):
            with running():
                count = Run.objects.count()
                wait_until(lambda count=count: Run.objects.count() >= count + 2, "two more runs")  # type: ignore[misc]

        begun = [run.due for run in Run.objects.all() if run.due is not None]
        assert len(begun) == len(set(begun))
        assert begun == schedules.table(schedule).between(min(begun), max(begun) + dt.timedelta(seconds=1))

    def test_tells_the_workflow_which_time_it_is_for(self) -> None:
        registry.ensure_agent("any-1", skills=[registry.ensure_skill("any")], executor="command",
                              options={"argv": ["true"]}, capacity=50)  # fmt: skip
        schedule = made()
        with running():
            run = schedules.run_now(schedule, by="ann")
            wait_until(lambda: StepRun.objects.filter(run_id=run.pk).exists(), "the step to begin")

        assert run.due is not None
        assert Task.objects.get().input == {"due": run.due.isoformat()}

    def test_is_met_once_by_two_at_the_same_moment(self) -> None:
        if connection.vendor == "sqlite":
            pytest.skip("SQLite has one writer")
        schedule = made()
        late(schedule, dt.timedelta(seconds=3605))

        def fire() -> None:
            schedules.fire_due(timezone.now())
            connection.close()

        threads = [threading.Thread(target=fire) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert Run.objects.count() == 1


class TestFork:
    def test_keeps_why_it_was_made(self) -> None:
        old = runs.start(runs.Request(workflow="report")).run

        made = runs.fork(old, step="first", by="ann", reason="the input was wrong")

        assert (made.reason, made.forked_from) == ("the input was wrong", old.pk)
        asked = RunCommand.objects.get(run_id=old.pk)
        assert (asked.kind, asked.reason, asked.data["made"]) == ("fork", "the input was wrong", str(made.pk))

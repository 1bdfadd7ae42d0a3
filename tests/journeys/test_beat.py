"""A project's own schedules of django-celery-beat go on working: their calls come into the ledger like any others."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.journeys.desk import Desk
from tests.journeys.site import Site
from tests.private_redis import wait_until

pytestmark = pytest.mark.journey

EVERY_SECOND = """
import json
from django_celery_beat.models import IntervalSchedule, PeriodicTask
second, _ = IntervalSchedule.objects.get_or_create(every=1, period="seconds")
kwargs = json.dumps({"skill": "echo", "input": {"by": "beat"}})
PeriodicTask.objects.create(name="tick", task="routing.run_agent_task", interval=second, kwargs=kwargs)
"""
COUNT = 'from routing.models import Task; print("done", Task.objects.filter(skill="echo", state="completed").count())'


@pytest.fixture
def site(home: Path) -> Iterator[Site]:
    """Return a running site that found a schedule of django-celery-beat when it started."""
    made = Site(home)
    for command in (("migrate", "--verbosity", "0"), ("shell", "-v", "0", "-c", EVERY_SECOND)):
        code, _, errors = made.manage(*command)
        assert code == 0, errors
    code, output, errors = made.up()
    assert code == 0, output + errors
    yield made
    made.manage("down")


class TestBeat:
    def test_has_its_tasks_done_by_the_fleet(self, site: Site) -> None:
        with Desk(site) as desk:
            desk.fleet()

        def done() -> int:
            return int(site.manage("shell", "-v", "0", "-c", COUNT)[1].split("done ")[-1])

        wait_until(lambda: done() >= 2, "two calls of beat to be completed", patience_s=60.0)
        assert site.recorded("beat")

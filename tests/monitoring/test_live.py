"""monitoring.live"""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from monitoring import live
from tests.monitoring.fakes import FakeController
from tests.monitoring.serving import Site


def delta(seq: int, *events: Any, **rows: Any) -> dict[str, Any]:
    """Return one commit."""
    return {"seq": seq, "at": "2026-01-01T00:00:00Z", "events": list(events), **rows}


class TestMailbox:
    def test_keeps_the_newest_row_of_each_name(self) -> None:
        box = live.Mailbox()
        for seq in (1, 2, 3):
            box.push(delta(seq, fleet=[{"agent": "a", "running": seq}], lanes=[{"lane": "l", "waiting": seq}]))

        taken = box.take()

        assert taken["seq"] == 3
        assert taken["fleet"] == [{"agent": "a", "running": 3}]
        assert taken["lanes"] == [{"lane": "l", "waiting": 3}]

    def test_keeps_the_newest_events_and_counts_the_others(self) -> None:
        box = live.Mailbox()
        for seq in range(1, 251):
            box.push(delta(seq, {"task": "t", "seq": seq}))

        taken = box.take()

        assert (len(taken["events"]), taken["more"]) == (live.EVENTS_KEPT, 50)
        assert taken["events"][-1]["seq"] == 250

    def test_takes_a_commit_once(self) -> None:
        box = live.Mailbox()
        box.push(delta(5, {"task": "t", "seq": 1}))
        box.push(delta(5, {"task": "t", "seq": 1}))

        assert len(box.take()["events"]) == 1

    def test_asks_for_a_snapshot_when_it_would_grow_too_large(self) -> None:
        box = live.Mailbox()
        box.push(delta(1, fleet=[{"agent": str(number)} for number in range(live.NAMES_KEPT + 1)]))

        assert box.resync
        assert box.take()["fleet"] == []

    def test_asks_for_a_snapshot_after_an_outage(self) -> None:
        box = live.Mailbox()
        box.tell(live.NO_REDIS)
        before = box.take_status()
        box.tell(live.OK)

        assert (before, box.take_status(), box.take_status(), box.resync) == (live.NO_REDIS, live.OK, None, True)

    async def test_of_a_task_hears_only_of_that_task(self) -> None:
        box = live.Mailbox(task="mine")
        box.push(delta(1, {"task": "other"}))
        box.push_state({"counters": {}}, {})
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(box.wait(), 0.01)

        box.push(delta(2, {"task": "mine"}))

        await asyncio.wait_for(box.wait(), 1)


@pytest.fixture
async def reader(site: Site, controller: FakeController) -> live.Reader:
    """Return a reader of the site's Redis."""
    return live.Reader(site.redis_url)


async def until(box: live.Mailbox, key: str) -> dict[str, Any]:
    """Return the first delta that has something under ``key``."""
    async with asyncio.timeout(10):
        while True:
            await box.wait()
            if (taken := box.take()).get(key):
                return taken


async def becomes(is_so: Callable[[], bool]) -> None:
    """Return when ``is_so`` says yes."""
    async with asyncio.timeout(10):
        while not is_so():  # noqa: ASYNC110  (nothing tells of it)
            await asyncio.sleep(0.01)


class TestReader:
    async def test_fans_a_commit_out_to_everyone(self, reader: live.Reader, controller: FakeController) -> None:
        async with reader.mailbox() as one, reader.mailbox() as two:
            number = controller.commit({"task": "t", "seq": 1})

            for box in (one, two):
                taken = await until(box, "events")
                assert (taken["seq"], taken["events"]) == (number, [{"task": "t", "seq": 1}])

    async def test_sends_counters_from_the_snapshot(self, reader: live.Reader, controller: FakeController) -> None:
        async with reader.mailbox() as box:
            controller.counters["completed"] = 7
            controller.publish_snapshot()

            async with asyncio.timeout(10):
                while (await until(box, "vitals"))["vitals"]["counters"]["completed"] != 7:
                    pass

    async def test_sees_changes_that_came_without_a_commit(
        self, reader: live.Reader, controller: FakeController
    ) -> None:
        async with reader.mailbox() as box:
            await until(box, "vitals")
            controller.worker("w2@main", busy=3)
            del controller.workers["w1@main"]
            controller.publish_snapshot()

            taken = await until(box, "workers")

        assert {row["worker"]: row.get("gone", False) for row in taken["workers"]} == {
            "w1@main": True,
            "w2@main": False,
        }

    async def test_asks_for_a_snapshot_after_a_gap(self, reader: live.Reader, controller: FakeController) -> None:
        async with reader.mailbox() as box:
            controller.seq += 5
            controller.commit({"task": "t", "seq": 1})

            await becomes(lambda: box.resync)

    async def test_asks_for_a_snapshot_when_a_new_controller_leads(
        self, reader: live.Reader, controller: FakeController
    ) -> None:
        async with reader.mailbox() as box:
            controller.commit(reset=True)

            await becomes(lambda: box.resync)

    async def test_says_that_the_controller_is_silent(self, reader: live.Reader, controller: FakeController) -> None:
        async with reader.mailbox() as box:
            controller.bus.delete("a2a:snapshot")

            await becomes(lambda: box.status == live.SILENT)

    async def test_says_that_redis_is_gone_and_comes_back(
        self, site: Site, reader: live.Reader, controller: FakeController
    ) -> None:
        async with reader.mailbox() as box:
            site.kill_redis()
            await becomes(lambda: box.status == live.NO_REDIS)

            site.start_redis()
            controller.publish_snapshot()
            await becomes(lambda: box.status == live.OK)

        assert box.resync

    async def test_replays_what_was_missed(self, reader: live.Reader, controller: FakeController) -> None:
        first = controller.seq
        for number in range(3):
            controller.commit({"task": "t", "seq": number})

        missed = await reader.between(first, controller.seq)

        assert missed is not None
        assert [delta["seq"] for delta in missed] == [first + 1, first + 2, first + 3]

    async def test_replays_nothing_if_a_commit_is_missing(
        self, reader: live.Reader, controller: FakeController
    ) -> None:
        first = controller.seq
        controller.commit()
        controller.bus.xdel("a2a:committed", f"{controller.seq}-0")
        controller.commit()

        assert await reader.between(first, controller.seq) is None

    async def test_stops_reading_when_the_last_one_leaves(self, reader: live.Reader) -> None:
        async with reader.mailbox():
            pass

        assert not [task for task in asyncio.all_tasks() if task.get_name() == "live-reader" and not task.cancelling()]

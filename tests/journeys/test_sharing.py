"""What tasks of one context share, by real workers, one of which is killed."""

import os
import signal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.journeys.test_spine import Spine, pids, spine

pytestmark = pytest.mark.journey

__all__ = ["spine"]


class TestState:
    def test_loses_no_write_of_agents_beside_one_another(self, spine: Spine) -> None:
        context = str(uuid4())
        skills = ["share", "share", "share", "share-apart"]

        tasks = [spine.submit(skill, {"times": 5}, context=context) for skill in skills]
        done = [spine.completed(task) for task in tasks]

        tokens: list[int] = [token for task in done for token in task["output"]["tokens"]]
        assert value(spine, context, "count") == 20
        assert len(value(spine, context, "seen")) == 20
        assert sorted(tokens) == list(range(1, 21))
        writes = spine.http.get(f"/contexts/{context}/state/count/writes").json()["writes"]
        assert {write["task"] for write in writes} == set(tasks)


class TestLock:
    def test_of_a_killed_holder_goes_to_the_next_with_a_larger_token(
        self,
        spine: Spine,
        tmp_path: Path,
    ) -> None:
        context = str(uuid4())
        task = spine.submit("keep", {"pid": str(tmp_path / "pid")}, context=context)
        holder = pids(tmp_path / "pid")[0]
        before = spine.http.get(f"/contexts/{context}").json()["locks"]

        os.kill(holder, signal.SIGKILL)
        done = spine.completed(task)

        assert [lock["token"] for lock in before] == [1]
        assert done["output"] == {"token": 2}
        assert done["attempt"] == 2


def value(spine: Spine, context: str, key: str) -> Any:
    """Return what stands in the context under the key."""
    return spine.http.get(f"/contexts/{context}/state/{key}").json()["value"]

"""Controllers that die where it matters, and one that comes back deposed."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from a2a_site.chaos import faults
from a2a_site.chaos.part import Part
from a2a_site.chaos.stack import Stack
from a2a_site.chaos.verdict import Fault
from routing import failpoints
from tests.faults.trial import Trial


class TestALeaderThatDies:
    @pytest.mark.parametrize("failpoint", failpoints.NAMES)
    def test_leaves_nothing_half_done(self, trial: Trial, failpoint: str) -> None:
        with trial.load(before_s=0.7, after_s=1):
            trial.cause(lambda stack, _: faults.crash_at(stack, failpoint))

        assert not (trial.stack.failpoints / failpoint).exists()
        trial.assert_kept()

    def test_is_followed_by_the_standby(self, trial: Trial) -> None:
        with trial.load():
            leader = _leader(trial.stack)
            trial.cause(faults.kill_leader)
            trial.figures["takeover_s"] = _await_another(trial.stack, leader)

        trial.assert_kept()


class TestALeaderThatWasAway:
    def test_writes_nothing_after_it_was_deposed(self, trial: Trial) -> None:
        with trial.load():
            leader = _leader(trial.stack)
            _freeze_between_commits(trial.stack, leader)
            trial.faults.append(Fault(name="freeze leader", at=time.time(), over_at=time.time()))
            trial.figures["takeover_s"] = _await_another(trial.stack, leader)
            leader.thaw()

        trial.assert_kept()
        assert "another one leads now" in leader.log.read_text()


class TestALeaderStoppedInACommit:
    def test_is_ended_by_the_standby_which_takes_over(self, trial: Trial) -> None:
        with trial.load():
            leader = _leader(trial.stack)
            starts = leader.starts
            trial.cause(faults.stop_leader)
            task = trial.customer.submit("work", {"seconds": 0.1})[0]
            trial.stack.until(lambda: trial.state(task) == "completed", "the next leader serves")

        trial.assert_kept()
        assert trial.stack.leader() not in (None, leader)
        assert trial.stack.database_url or leader.starts > starts, "on SQLite it had to be killed"


def _leader(stack: Stack) -> Part:
    leader = stack.until(stack.leader, "somebody leads")
    assert leader is not None
    return leader


def _freeze_between_commits(stack: Stack, leader: Part) -> None:
    """Stop the leader where it does not hold SQLite's one write lock: with that nobody could follow it."""
    for _ in range(100):
        leader.freeze()
        if stack.database_url or _is_writable(stack.home / "db.sqlite3"):
            return
        leader.thaw()
        time.sleep(0.05)
    raise AssertionError("the leader was caught in a commit a hundred times")


def _is_writable(database: Path) -> bool:
    with closing(sqlite3.connect(database, timeout=0.5, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
        connection.execute("ROLLBACK")
        return True


def _await_another(stack: Stack, leader: Part) -> float:
    """Return how many seconds it took until somebody else leads."""
    began = time.monotonic()
    stack.until(lambda: stack.leader() not in (None, leader), "the standby leads")
    return round(time.monotonic() - began, 2)

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from a2a_site import run_state
from a2a_site.run_state import AlreadyRunning, ChildRecord, Record

SLEEPER = [sys.executable, "-I", "-S", "-c", "import signal; signal.pause()"]


def child(pid: int | None, created_at: float | None) -> ChildRecord:
    """Return the record of one process."""
    return {"pid": pid, "created_at": created_at, "state": "ready", "since": 0.0, "restarts": 0}


def record(home: Path, **children: ChildRecord) -> Record:
    """Write and return the record of a supervisor, which is this process."""
    pid, created_at = run_state.own_process()
    written: Record = {
        "pid": pid,
        "created_at": created_at,
        "started_at": "2026-01-01T00:00:00+00:00",
        "ready": True,
        "port": 8000,
        "url": "http://127.0.0.1:8000",
        "flower": False,
        "made_admin": False,
        "children": children,
    }
    run_state.write(home, written)
    return written


@pytest.fixture
def home(home: Path) -> Path:
    """Return a state directory in which something has run."""
    with run_state.only_one(home):
        return home


class TestOnlyOne:
    def test_keeps_a_second_one_out(self, home: Path) -> None:
        with run_state.only_one(home), pytest.raises(AlreadyRunning), run_state.only_one(home):
            pass

    def test_lets_the_next_one_in(self, home: Path) -> None:
        with run_state.only_one(home):
            pass

        with run_state.only_one(home):
            pass

    def test_is_not_inherited_by_children(self, home: Path) -> None:
        with run_state.only_one(home):
            sleeper = subprocess.Popen(SLEEPER)

        with run_state.only_one(home):
            sleeper.kill()
            sleeper.wait()


class TestRunning:
    def test_is_what_was_written(self, home: Path) -> None:
        written = record(home)

        assert run_state.running(home) == written

    def test_is_nothing_without_a_record(self, home: Path) -> None:
        assert run_state.running(home) is None

    def test_is_nothing_when_the_record_is_damaged(self, home: Path) -> None:
        run_state.record_path(home).write_text("{")

        assert run_state.running(home) is None

    def test_is_not_another_process_with_a_reused_id(self, home: Path) -> None:
        written = record(home)
        run_state.record_path(home).write_text(json.dumps({**written, "created_at": written["created_at"] - 60}))

        assert run_state.running(home) is None

    def test_is_not_one_that_has_ended(self, home: Path) -> None:
        with subprocess.Popen(SLEEPER) as sleeper:
            created_at = run_state.created_at(sleeper.pid)
            sleeper.kill()
            os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)  # a zombie now

            assert run_state.process(sleeper.pid, created_at) is None


class TestKillLeftovers:
    def test_kills_the_recorded_ones_and_names_them(self, home: Path) -> None:
        with subprocess.Popen(SLEEPER) as sleeper:
            written = record(home, w1=child(sleeper.pid, run_state.created_at(sleeper.pid)), web=child(None, None))

            assert run_state.kill_leftovers(written) == ["w1"]

    def test_spares_another_process_with_a_reused_id(self, home: Path) -> None:
        with subprocess.Popen(SLEEPER) as sleeper:
            written = record(home, w1=child(sleeper.pid, 1.0))

            assert run_state.kill_leftovers(written) == []
            assert sleeper.poll() is None
            sleeper.kill()

"""A process that stands still with SQLite locked: who it is, and when it is ended."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import psutil
import pytest
from django.db import OperationalError, connection

from routing import ledger
from routing.models import Tenant
from routing.write_lock import Watch, holder_of
from tests.private_redis import wait_until

LOCKS = """\
1: POSIX  ADVISORY  READ 11 fe:00:77 123 123
2: POSIX  ADVISORY  WRITE 12 fe:00:77 121 121
2: -> POSIX  ADVISORY  WRITE 13 fe:00:77 120 120
3: FLOCK  ADVISORY  WRITE 14 fe:00:77 0 EOF
4: POSIX  ADVISORY  WRITE 15 fe:00:177 120 120
"""
HOLDS = """
import os, signal, sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("BEGIN IMMEDIATE")
os.kill(os.getpid(), signal.SIGSTOP)
"""

Process = subprocess.Popen[bytes]
Hold = Callable[[str], Process]


class TestHolderOf:
    def test_finds_nobody_among_readers_waiters_and_other_files(self) -> None:
        assert holder_of(77, LOCKS) is None

    @pytest.mark.parametrize("span", ["120 120", "120 121", "0 EOF"])
    def test_finds_who_has_locked_the_byte(self, span: str) -> None:
        assert holder_of(77, f"{LOCKS}5: POSIX  ADVISORY  WRITE 16 fe:00:77 {span}\n") == 16


@pytest.fixture
def held() -> Iterator[Hold]:
    """Return what starts a process, with this word on its command line, that stops with the database locked."""
    if connection.vendor != "sqlite":
        pytest.skip("only SQLite has one lock for all")
    Tenant.objects.count()  # opens the database
    started: list[Process] = []

    def hold(word: str) -> Process:
        command = [sys.executable, "-c", HOLDS, str(connection.settings_dict["NAME"]), word]
        process = subprocess.Popen(command)
        started.append(process)
        wait_until(lambda: is_stopped(process), "it to stand still")
        return process

    yield hold
    for process in started:
        process.kill()
        process.wait()


def is_stopped(process: Process) -> bool:
    return psutil.Process(process.pid).status() == psutil.STATUS_STOPPED


def name(process: Process) -> str:
    return f"{socket.gethostname()}:{process.pid}"


@pytest.mark.django_db(transaction=True)
class TestWatch:
    def test_ends_a_leader_that_stood_still_for_long(self, held: Hold) -> None:
        leader, watch = held("controller"), Watch()
        with pytest.raises(OperationalError, match="locked"):
            ledger.take_lead(ledger.controller_row(), "standby")

        watch.look()
        assert not watch.end(name(leader), after_s=0.2), "it was only just seen"
        time.sleep(0.3)
        watch.look()
        assert watch.end(name(leader), after_s=0.2)

        assert leader.wait(10) == -signal.SIGKILL
        assert ledger.take_lead(ledger.controller_row(), "standby") is not None

    @pytest.mark.parametrize(("word", "is_leader"), [("controller", False), ("shell", True)])
    def test_leaves_others_alone(self, held: Hold, word: str, is_leader: bool) -> None:
        process, watch = held(word), Watch()

        watch.look()

        assert not watch.end(name(process) if is_leader else "host:1", after_s=0)
        assert is_stopped(process)

    def test_leaves_one_alone_that_went_on(self, held: Hold) -> None:
        leader, watch = held("controller"), Watch()
        watch.look()

        leader.send_signal(signal.SIGCONT)
        assert leader.wait(10) == 0

        assert not watch.end(name(leader), after_s=0)

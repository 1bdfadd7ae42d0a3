"""What is left when the supervisor is killed without a chance to stop anything: nothing."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from a2a_site import env, run_state
from a2a_site.up import GUARD

SUPERVISOR = """
import sys
from pathlib import Path
from a2a_site import env, processes, run_state, up
from a2a_site.child import Spec
from a2a_site.console import Console
from a2a_site.supervisor import Supervisor

home = Path(sys.argv[1])
codes = enumerate(sys.argv[2:])
specs = [Spec(name=f'c{n}', command=(sys.executable, '-c', code), ready_line='up') for n, code in codes]

def record():
    children = {child.spec.name: run_state.child_record(child) for child in supervisor.children}
    run_state.write(home, {'pid': run_state.own_process()[0], 'children': children})

supervisor = Supervisor([[processes.embedded_redis(home)], specs], console=Console(home / 'logs'), on_change=record)
with up.guarded(home, 1):
    supervisor.run(prepare=lambda: None, on_ready=lambda: print('ready', flush=True))
"""
OBEDIENT = "import signal; print('up', flush=True); signal.pause()"
STUBBORN = "import signal; signal.signal(15, signal.SIG_IGN); print('up', flush=True)\nwhile True: signal.pause()"


@contextmanager
def supervising(home: Path, children: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """Yield a supervisor that has an embedded Redis and these children ready."""
    command = [sys.executable, "-c", SUPERVISOR, str(home), *children]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert any(line == "ready\n" for line in process.stdout)
        try:
            yield process
        finally:
            process.kill()


class TestAKilledSupervisor:
    @pytest.mark.parametrize("children", [[OBEDIENT], [OBEDIENT, STUBBORN]], ids=["obedient", "stubborn"])
    def test_leaves_no_process_and_no_socket(self, home: Path, children: list[str]) -> None:
        with supervising(home, children) as supervisor:
            family = psutil.Process(supervisor.pid).children(recursive=True)
            supervisor.kill()
            gone, alive = psutil.wait_procs(family, timeout=60)

        assert len(gone) == len(children) + 2  # Redis and the guard
        assert alive == []
        assert not env.redis_socket(home).exists()
        assert run_state.read(home) is None

    def test_is_no_obstacle_to_the_next(self, home: Path) -> None:
        with supervising(home, [STUBBORN]) as supervisor:
            supervisor.kill()
            supervisor.wait()
            record = run_state.read(home)
            assert record is not None

            killed = run_state.kill_leftovers(record)

        assert "c0" in killed


class TestTheGuard:
    def test_does_nothing_after_an_ordinary_stop(self, home: Path) -> None:
        socket = home / "socket"
        socket.touch()

        code = subprocess.run([sys.executable, GUARD, home / "no-record", "0", socket], stdin=subprocess.DEVNULL)

        assert code.returncode == 0
        assert socket.exists()

    def test_leaves_the_record_of_the_next_supervisor_alone(self, home: Path) -> None:
        record = home / "record"
        record.write_text('{"pid": 1, "children": {}}')

        subprocess.run([sys.executable, GUARD, record, "0"], stdin=subprocess.DEVNULL, check=True)

        assert record.exists()

    def test_cannot_be_stopped_by_a_signal_to_everyone(self, home: Path) -> None:
        command = [sys.executable, str(GUARD), str(home / "no-record"), "0"]
        with subprocess.Popen(command, stdin=subprocess.PIPE) as guard:
            while not is_ignored(guard.pid, signal.SIGTERM):
                assert guard.poll() is None
            os.kill(guard.pid, signal.SIGTERM)

            assert guard.communicate()[0] is None

        assert guard.returncode == 0


def is_ignored(pid: int, number: signal.Signals) -> bool:
    """Return True if the process ignores the signal."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    mask = next(int(line.split()[1], 16) for line in lines if line.startswith("SigIgn"))
    return bool(mask >> (number - 1) & 1)

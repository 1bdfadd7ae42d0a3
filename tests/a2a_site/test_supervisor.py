"""Real processes, real signals. What a test waits for is an event, never a time."""

import io
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from a2a_site.child import Child, Spec
from a2a_site.console import Console
from a2a_site.supervisor import Supervisor

FOREVER = "import signal; print('up', flush=True); signal.pause()"
STUBBORN = """
import os, signal
for number in (signal.SIGTERM, signal.SIGQUIT):
    signal.signal(number, lambda number, frame: os.write(1, f'got {signal.Signals(number).name}\\n'.encode()))
print('up', flush=True)
while True:
    signal.pause()
"""
WITH_A_CHILD_OF_ITS_OWN = """
import subprocess, signal, sys
sleeper = subprocess.Popen([sys.executable, '-I', '-S', '-c', 'import signal; signal.pause()'], start_new_session=True)
print('sleeper', sleeper.pid, flush=True)
signal.pause()
"""


def spec(name: str, code: str = FOREVER, **options: object) -> Spec:
    """Return a process that runs some Python and is ready when it has said "up"."""
    command = (sys.executable, "-I", "-S", "-c", code)
    return Spec(name=name, command=command, **{"ready_line": "^up$", **options})  # type: ignore[arg-type]


class Scene:
    """A supervisor of stand-ins, and what it wrote."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.screen = io.StringIO()
        self.supervisor: Supervisor
        self.on_change: Callable[[], None] = lambda: None

    def run(
        self,
        *stages: list[Spec],
        prepare: Callable[[], None] = lambda: None,
        on_ready: Callable[[], None] = lambda: None,
        **options: float,
    ) -> int:
        """Return the exit code of a whole run."""
        console = Console(self.home / "logs", self.screen)
        options = {"grace_s": 30, "start_timeout_s": 60, **options}
        self.supervisor = Supervisor(stages, console=console, on_change=lambda: self.on_change(), **options)  # type: ignore[arg-type]
        try:
            return self.supervisor.run(prepare=prepare, on_ready=on_ready)
        finally:
            console.close()

    def child(self, name: str) -> Child:
        """Return a child by its name."""
        return next(child for child in self.supervisor.children if child.spec.name == name)

    def said(self, name: str) -> list[str]:
        """Return the lines one process wrote."""
        lines = (line.partition(" │ ") for line in self.screen.getvalue().splitlines())
        return [text for process, _, text in lines if process.strip() == name]


def stop() -> None:
    """Ask for an orderly stop, as Ctrl-C does."""
    os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def scene(home: Path) -> Iterator[Scene]:
    """Yield the scene; afterwards no process may be left."""
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    yield Scene(home)
    left = [process for process in psutil.Process().children(recursive=True) if process.pid not in before]
    assert left == []


class TestRun:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_ends_with_0_when_a_signal_asks_for_it(self, scene: Scene, number: signal.Signals) -> None:
        code = scene.run([spec("one")], on_ready=lambda: os.kill(os.getpid(), number))

        assert code == 0
        assert scene.child("one").pid is None

    def test_puts_the_signal_handlers_back(self, scene: Scene) -> None:
        before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGCHLD)

        scene.run([spec("one")], on_ready=stop)

        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGCHLD)) == before

    def test_awaits_the_first_stage_before_the_others_start(self, scene: Scene) -> None:
        seen: list[tuple[str, str]] = []
        scene.on_change = lambda: seen.append((scene.child("one").state, scene.child("two").state))

        scene.run([spec("one")], [spec("two")], on_ready=stop)

        assert seen[:3] == [("starting", "ended"), ("ready", "ended"), ("ready", "starting")]

    def test_stops_in_reverse_order(self, scene: Scene) -> None:
        scene.run([spec("one")], [spec("two"), spec("three")], [spec("four")], on_ready=stop)

        ends = [line.split()[0] for line in scene.said("supervisor")]
        assert ends[0] == "four"
        assert ends[-1] == "one"

    def test_leaves_nothing_when_preparing_fails(self, scene: Scene) -> None:
        def fail() -> None:
            raise RuntimeError("no database")

        with pytest.raises(RuntimeError, match="no database"):
            scene.run([spec("one")], prepare=fail)

        assert scene.child("one").pid is None

    def test_leaves_out_the_rest_when_the_first_stage_cannot_start(self, scene: Scene) -> None:
        code = scene.run([spec("one", "print('no such thing'); raise SystemExit(7)")], [spec("two")], restart_limit=2)

        assert code == 1
        assert scene.said("two") == []
        assert "one ended 2 times within a minute (exit code 7). Its last lines:" in scene.said("supervisor")
        assert "    no such thing" in scene.said("supervisor")

    def test_names_a_program_that_does_not_exist(self, scene: Scene) -> None:
        code = scene.run([Spec(name="one", command=("/nowhere/redis",), ready_line="up")], restart_limit=1)

        assert code == 1
        assert "    Cannot start /nowhere/redis: No such file or directory." in scene.said("supervisor")

    def test_gives_up_on_what_is_never_ready(self, scene: Scene) -> None:
        code = scene.run([spec("one", ready_line="never")], start_timeout_s=0)

        assert code == 1
        assert scene.supervisor.failure == "one was not ready within 0 s"


class TestRestart:
    def test_a_killed_process_comes_back_as_another_one(self, scene: Scene) -> None:
        first: list[int | None] = []

        def kill() -> None:
            first.append(scene.child("one").pid)
            os.kill(first[0] or 0, signal.SIGKILL)

        scene.on_change = lambda: (
            stop() if scene.child("one").restarts and scene.child("one").state == "ready" else None
        )
        code = scene.run([spec("one")], on_ready=kill)

        assert code == 0
        assert scene.child("one").restarts == 1
        assert "up" in scene.said("one")[1:]
        assert scene.said("supervisor")[0].startswith(
            "one ended unexpectedly (killed by SIGKILL). Starting it again in"
        )

    def test_one_that_ends_again_and_again_stops_everything(self, scene: Scene) -> None:
        code = scene.run([spec("one")], [spec("two", "print('up', flush=True); raise SystemExit(3)")])

        assert code == 1
        assert scene.supervisor.failure == "two ended 5 times within a minute (exit code 3)"
        assert scene.child("one").state == "ended"

    def test_one_that_others_can_do_without_is_left_out(self, scene: Scene) -> None:
        scene.on_change = lambda: stop() if scene.child("two").state == "failed" else None

        code = scene.run([spec("one")], [spec("two", "raise SystemExit(3)", essential=False)], restart_limit=2)

        assert code == 0
        assert "Going on without two." in scene.said("supervisor")

    def test_a_job_is_not_started_again(self, scene: Scene) -> None:
        scene.on_change = lambda: stop() if scene.supervisor.children[-1].spec.once and not alive("job") else None

        def alive(name: str) -> bool:
            return scene.child(name).state != "ended"

        code = scene.run(
            [spec("one")], on_ready=lambda: scene.supervisor.add(spec("job", "print('done')", once=True, ready_line=""))
        )

        assert code == 0
        assert scene.said("job") == ["done"]
        assert scene.child("job").restarts == 0


class TestStop:
    def test_goes_through_the_signals_and_kills_what_stays(self, scene: Scene) -> None:
        stubborn = spec("one", STUBBORN, stop_signals=(signal.SIGTERM, signal.SIGQUIT))

        code = scene.run([stubborn], on_ready=stop, grace_s=0.5)

        assert code == 0
        assert scene.said("one") == ["up", "got SIGTERM", "got SIGQUIT"]
        assert scene.said("supervisor") == [
            "one did not stop in time: killed.",
            "one ended (killed by SIGKILL).",
        ]

    def test_a_second_signal_kills_at_once(self, scene: Scene) -> None:
        def stop_twice() -> None:
            stop()
            stop()

        scene.run([spec("one", STUBBORN)], on_ready=stop_twice, grace_s=10_000)

        assert scene.child("one").pid is None

    def test_reaches_what_a_child_had_started(self, scene: Scene) -> None:
        scene.run([spec("one", WITH_A_CHILD_OF_ITS_OWN, ready_line="^sleeper")], on_ready=stop)

        sleeper = int(scene.said("one")[0].split()[1])
        assert not psutil.pid_exists(sleeper)

    def test_of_one_child_by_force_reaches_what_it_had_started(self, scene: Scene) -> None:
        one = spec("one", WITH_A_CHILD_OF_ITS_OWN, ready_line="^sleeper")
        scene.on_change = lambda: stop() if scene.child("one").state == "waiting" else None

        scene.run([one], on_ready=lambda: os.kill(scene.child("one").pid or 0, signal.SIGKILL))

        sleepers = [int(line.split()[1]) for line in scene.said("one")]
        assert [pid for pid in sleepers if psutil.pid_exists(pid)] == []


class TestOutput:
    def test_is_complete_even_right_before_the_end(self, scene: Scene) -> None:
        talk = "print('\\n'.join(map(str, range(20_000)))); print('no newline', end='')"
        job = spec("job", talk, once=True, ready_line="")
        scene.on_change = lambda: stop() if scene.supervisor.children[-1].state == "ended" else None

        scene.run([], [job], grace_s=60)

        assert scene.said("job") == [*map(str, range(20_000)), "no newline"]

    def test_may_be_anything(self, scene: Scene) -> None:
        talk = "import os; os.write(1, b'\\xff\\xfe\\r\\n' + b'x' * 200_000 + b'\\nlast\\n')"

        scene.run([], [spec("job", talk, once=True, ready_line="^last$")], on_ready=stop, grace_s=60)

        lines = scene.said("job")
        assert lines[0] == "\ufffd\ufffd"
        assert "".join(lines[1:-1]) == "x" * 200_000
        assert lines[-1] == "last"

"""The processes that are measured: an embedded Redis, our controller and worker, a bare Celery worker.

They share one state directory (``A2A_HOME``, empty at first) that nobody else uses, and are started with the command
lines that `manage.py up` uses.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil
from django.conf import settings
from django.core.management import call_command

from a2a_site import env, processes
from a2a_site.child import Spec
from routing import registry
from tests.bench import bare, body

AGENTS = 4  # that share a skill
SLOTS = 16  # of each
START_S = 60.0
ROOT = Path(__file__).resolve().parents[2]


class DidNotStart(Exception):
    """A process that should be measured ended, or was not ready in time."""


class Plant:
    """The running processes by name: redis, controller, worker, bare worker."""

    def __init__(self) -> None:
        self.home: Path = settings.A2A_HOME
        self.redis_url = env.redis_url(self.home)
        bare.app.conf.update(broker_url=settings.A2A_BROKER_URL)
        self.starts = self.home / "starts"
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Start everything. Raises ``DidNotStart``."""
        site = processes.Site(root=ROOT, home=self.home, host="127.0.0.1", port=1, workers=1)
        (self.home / "logs").mkdir(exist_ok=True)
        redis = processes.embedded_redis(self.home)
        self._start("redis", redis)
        self._wait("redis", lambda: redis.is_ready(self._running["redis"].pid))
        call_command("migrate", interactive=False, verbosity=0)
        register()
        environment = processes.environment_of(site)
        self._start("controller", processes.controller(site, environment, is_only_one=True))
        self._start("worker", processes.worker(site, environment, 1))
        self._start("bare worker", bare_worker(environment))
        self._wait("controller", lambda: bool(processes.snapshot(self.redis_url).get("workers")))

    def cpu_s(self) -> dict[str, float]:
        """Return the CPU seconds (user and system) that each process has used so far; "producer" is this one."""
        found = {name: psutil.Process(child.pid).cpu_times() for name, child in self._running.items()}
        return {"producer": time.process_time()} | {name: t.user + t.system for name, t in found.items()}

    def memory_bytes(self) -> dict[str, int]:
        """Return the resident bytes of each process."""
        return {name: psutil.Process(child.pid).memory_info().rss for name, child in self._running.items()}

    def stop(self) -> None:
        """End everything, Redis last: workers do not end well without it."""
        others = [child for name, child in self._running.items() if name != "redis"]
        for child in others:
            child.terminate()
        for child in others:
            _await_end(child)
        if "redis" in self._running:
            self._running["redis"].terminate()
            _await_end(self._running["redis"])

    def _start(self, name: str, spec: Spec) -> None:
        with self._log(name).open("wb") as log:
            self._running[name] = subprocess.Popen(
                spec.command,
                cwd=spec.directory,
                env={**os.environ, **spec.environment, body.STARTS: str(self.starts)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _log(self, name: str) -> Path:
        return self.home / "logs" / f"{name}.log"

    def _wait(self, name: str, is_ready: Callable[[], bool]) -> None:
        give_up = time.monotonic() + START_S
        while not is_ready():
            ended = [n for n, child in self._running.items() if child.poll() is not None]
            if ended or time.monotonic() > give_up:
                name = ended[0] if ended else name
                raise DidNotStart(f"{name} did not start:\n{self._log(name).read_text(errors='replace')[-2000:]}")
            time.sleep(0.1)


def _await_end(child: subprocess.Popen[bytes]) -> None:
    try:
        child.wait(20)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


@contextmanager
def running() -> Iterator[Plant]:
    """Yield the started plant; nothing of it is left afterwards."""
    plant = Plant()
    try:
        plant.start()
        yield plant
    finally:
        plant.stop()


def register() -> None:
    """Register the skills that are measured, each with a few agents."""
    registry.ensure_tenant()
    for name in ("bench.noop", "bench.stamp"):
        skill = registry.ensure_skill(name, idempotent=True)
        for number in range(AGENTS):
            options = {"handler": name}
            registry.ensure_agent(
                f"{name}-{number}", skills=[skill], capacity=SLOTS, executor="python", options=options
            )


def bare_worker(environment: Mapping[str, str]) -> Spec:
    """Return a worker of bare Celery, started as ours is."""
    command = (sys.executable, "-m", "celery", "--quiet", "-A", "tests.bench.bare", "worker")
    options = ("--concurrency", str(settings.A2A_THREADS), "-n", "bare@%h", "--without-gossip", "--without-mingle")
    return Spec(
        name="bare worker",
        command=(*command, *options, "-l", "INFO"),
        # Without Django, which Celery would take up with every task.
        environment={**environment, "BROKER_URL": settings.A2A_BROKER_URL, "DJANGO_SETTINGS_MODULE": ""},
        directory=ROOT,
    )

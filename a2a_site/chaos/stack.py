"""A whole installation in a directory of its own: Redis, controllers and workers, kept running until it is closed."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import orjson
import redis

from a2a_site import redis_server
from a2a_site.chaos.agents import EFFECTS
from a2a_site.chaos.customer import Customer
from a2a_site.chaos.part import ROOT, Part

OURS = ("A2A_", "REDIS_URL", "BROKER_URL", "DATABASE_URL", "DJANGO_")
START_S = 90.0
T = TypeVar("T")


class NotInTime(Exception):
    """What was waited for did not come about."""


class Stack:
    """One installation. Use it in a ``with``: whatever happens inside, no process is left."""

    def __init__(
        self, home: Path, *, controllers: int = 1, workers: int = 2, threads: int = 8, database_url: str = ""
    ) -> None:
        self.home = home
        self.database_url = database_url
        self.effects = home / "effects"
        self.failpoints = home / "failpoints"
        self._stopping = threading.Event()
        for directory in (home, home / "logs", self.failpoints):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        configuration, socket = redis_server.prepare(home)
        self.environment = self._environment(f"unix://{socket}", threads)
        self.redis = Part(
            "redis",
            (redis_server.program(), str(configuration)),
            self.environment,
            home / "logs" / "redis.log",
        )
        self.controllers = [self._part(f"c{n}", _manage("controller")) for n in range(1, controllers + 1)]
        self.workers = [self._part(f"w{n}", _worker(n, threads)) for n in range(1, workers + 1)]
        self.bus: redis.Redis = redis.Redis.from_url(f"unix://{socket}", socket_timeout=3)
        self.customer = Customer(self.environment, home)
        self._keeper = threading.Thread(target=self._keep, name="chaos-keeper", daemon=True)

    def _environment(self, redis_url: str, threads: int) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        database = {"DATABASE_URL": self.database_url} if self.database_url else {}
        return kept | database | {
            "A2A_HOME": str(self.home),
            "A2A_THREADS": str(threads),
            "A2A_MAX_THREADS": str(threads),
            "A2A_AGENT_MODULES": "a2a_site.chaos.agents",
            "A2A_FAILPOINTS": str(self.failpoints),
            EFFECTS: str(self.effects),
            "REDIS_URL": redis_url,
            "DJANGO_SETTINGS_MODULE": "a2a_site.settings",
            "PYTHONUNBUFFERED": "1",
            "PYTHONWARNINGS": "ignore",
        }  # fmt: skip

    def _part(self, name: str, command: tuple[str, ...]) -> Part:
        return Part(name, command, self.environment, self.home / "logs" / f"{name}.log")

    @property
    def parts(self) -> list[Part]:
        """Every process of the installation, in order of start."""
        return [self.redis, *self.controllers, *self.workers]

    # ---- start and end ------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self) -> None:
        migrate = subprocess.run(
            [*_manage("migrate"), "--verbosity", "0"], cwd=ROOT, env=self.environment, capture_output=True, text=True
        )
        if migrate.returncode:
            raise NotInTime(f"The database could not be prepared:\n{migrate.stdout}{migrate.stderr}")
        self._keeper.start()
        self.customer.start()
        self.until(self.is_ready, "controller and workers are ready", timeout_s=START_S)

    def recover(self) -> None:
        """Return when everything runs that should, whatever was done to it."""
        for part in self.parts:
            part.thaw()
        for file in self.failpoints.iterdir():
            file.unlink(missing_ok=True)
        self.until(lambda: self.is_ready() and self._is_complete(), "all is whole", timeout_s=START_S)

    def _is_complete(self) -> bool:
        """Return True if everything runs, and every controller leads or stands by."""
        at_work = all(c.has_said("standing by;") or c.has_said("leading, epoch") for c in self.controllers)
        return at_work and all(part.pid for part in self.parts)

    def close(self) -> None:
        """End every process."""
        self._stopping.set()
        if self._keeper.is_alive():
            self._keeper.join(5)
        for part in reversed(self.parts):
            part.end()
        self.customer.close()
        self.bus.close()
        redis_server.clean_up(self.home)

    def _keep(self) -> None:
        # One thread starts everything: the kernel ends a child with the thread that started it (launch.py).
        while not self._stopping.wait(0.05):
            for part in self.parts:
                if not self._stopping.is_set():
                    part.keep()

    # ---- looking ------------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """Return what the leader last wrote about the fleet; empty if there is nothing or Redis is away."""
        try:
            value = self.bus.get("a2a:snapshot")
        except redis.RedisError:
            return {}
        return dict(orjson.loads(value)) if isinstance(value, bytes) else {}

    def is_ready(self) -> bool:
        """Return True if a controller leads and every worker has been heard of."""
        seen = {worker["worker"].partition("@")[0] for worker in self.snapshot().get("workers", ())}
        return self.leader() is not None and seen >= {part.name for part in self.workers if part.wanted}

    def leader(self) -> Part | None:
        """Return the controller that leads, as it says itself."""
        holder = str(self.snapshot().get("controller", {}).get("holder", ""))
        pid = int(holder.rpartition(":")[2] or 0)
        return next((part for part in self.controllers if pid and part.pid == pid), None)

    def worker(self, node: str) -> Part:
        """Return the worker with this Celery node name."""
        return next(part for part in self.workers if part.name == node.partition("@")[0])

    def executions(self, task: str) -> list[int]:
        """Return the attempt number of every execution of the task that really took place, in order."""
        lines = self.effects.read_text().split("\n") if self.effects.exists() else []
        return [int(line.split(" ")[1]) for line in lines if line.startswith(task)]

    def until(self, look: Callable[[], T], what: str, *, timeout_s: float = 60.0) -> T:
        """Return the first true answer of ``look``. Raises ``NotInTime``, with what the logs say."""
        give_up = time.monotonic() + timeout_s
        while time.monotonic() < give_up:
            answer = look()
            if answer:
                return answer
            time.sleep(0.05)
        raise NotInTime(f"Not within {timeout_s:g} s: {what}.\n{self.last_lines()}")

    def last_lines(self, count: int = 15) -> str:
        """Return the end of every log."""
        return "\n".join(
            f"── {part.name}\n" + "\n".join(part.log.read_text(errors="replace").splitlines()[-count:])
            for part in self.parts
            if part.log.exists()
        )


def _manage(command: str) -> tuple[str, ...]:
    return sys.executable, str(ROOT / "manage.py"), command


def _worker(number: int, threads: int) -> tuple[str, ...]:
    options = ("--concurrency", str(threads), "-n", f"w{number}@%h", "--without-gossip", "--without-mingle")
    return sys.executable, "-m", "celery", "--quiet", "-A", "a2a_site", "worker", *options, "-l", "INFO"

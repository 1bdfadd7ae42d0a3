"""A whole site on a port and in a state directory of its own, driven as a person does: by `manage.py`."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

from a2a_site import env, ports, run_state

ROOT = Path(__file__).resolve().parents[2]
LOOPBACK = "127.0.0.1"
OPTIONS = ("--bare", "--workers", "1")


class Site:
    """One site on a port of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port = ports.any_free(LOOPBACK)
        self.url = f"http://{LOOPBACK}:{self.port}"

    def start(self, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
        """Start `manage.py` with these arguments."""
        return subprocess.Popen(
            [sys.executable, str(ROOT / "manage.py"), *arguments],
            env=self.environment(**environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def environment(self, **more: str) -> dict[str, str]:
        """Return what a process of this site finds in its environment."""
        dropped = ("A2A_", "REDIS_URL", "BROKER_URL", "DATABASE_URL")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
        return {**kept, "A2A_HOME": str(self.home), **more}

    def manage(self, *arguments: str, **environment: str) -> tuple[int, str, str]:
        """Return (exit code, output, errors) of a command."""
        with self.start(*arguments, **environment) as process:
            output, errors = process.communicate()
        return process.returncode, output, errors

    def up(self, *options: str, **environment: str) -> tuple[int, str, str]:
        """Start everything in the background."""
        return self.manage("up", "--detach", "--port", str(self.port), *OPTIONS, *options, **environment)

    def status(self) -> dict[str, Any]:
        """Return what `status --json` says."""
        state: dict[str, Any] = json.loads(self.manage("status", "--json")[1])
        return state

    def recorded(self, name: str) -> run_state.ChildRecord:
        """Return what the supervisor has noted about one process."""
        record = run_state.read(self.home)
        assert record is not None
        return record["children"][name]

    def family(self) -> list[psutil.Process]:
        """Return the supervisor and everything below it."""
        record = run_state.running(self.home)
        assert record is not None
        supervisor = psutil.Process(record["pid"])
        return [supervisor, *supervisor.children(recursive=True)]

    def assert_nothing_left(self, family: list[psutil.Process]) -> None:
        """Fail if a process lives, a socket is there or the record says that something runs."""
        _, alive = psutil.wait_procs(family, timeout=120)
        assert alive == []
        assert not env.redis_socket(self.home).exists()
        assert run_state.read(self.home) is None
        assert ports.is_free(LOOPBACK, self.port)
        assert self.manage("status")[0] == 3

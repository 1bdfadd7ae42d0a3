"""What `manage.py up` takes: seconds until it is ready, and memory of its processes at rest."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from django.conf import settings

from a2a_site import ports, run_state
from tests.bench.figures import Figure
from tests.bench.plant import ROOT, running

REST_S = 5.0
READY_AIM_S = 10.0


class CannotStart(Exception):
    """`up` did not get ready."""


def start() -> Iterator[Figure]:
    """Yield the seconds from `up` to ready: the very first start, and one with everything in place."""
    seconds = []
    for _ in range(3):
        with site() as took_s:
            seconds.append(took_s)
    yield Figure(name="first start", value=seconds[0], unit="s", note="makes the database")
    warm = min(seconds[1:])
    yield Figure(name="warm start", value=warm, unit="s", aim=f"≤ {READY_AIM_S:g}")
    yield Figure(name="warm start ÷ aim", value=warm / READY_AIM_S, unit="×", aim="≤ 1", is_ratio=True)


def memory() -> Iterator[Figure]:
    """Yield the resident megabytes of each process some seconds after the start."""
    with site():
        time.sleep(REST_S)
        found = resident_bytes(settings.A2A_HOME)
    for name, value in found.items():
        yield Figure(name=name, value=value / 1e6, unit="MB")
    yield Figure(name="all", value=sum(found.values()) / 1e6, unit="MB")
    with running() as plant:
        time.sleep(REST_S)
        rss = plant.memory_bytes()
    yield Figure(name="bare worker", value=rss["bare worker"] / 1e6, unit="MB", note="Celery alone, without Django")
    ratio = rss["worker"] / rss["bare worker"]
    yield Figure(name="our worker ÷ bare worker", value=ratio, unit="×", is_ratio=True)


def resident_bytes(home: Path) -> dict[str, int]:
    """Return the resident bytes of the supervisor and of each process it started."""
    record = run_state.read(home)
    if record is None:
        raise CannotStart("`up` said that it was ready and left no record")
    pids = {"supervisor": record["pid"]} | {name: child["pid"] for name, child in record["children"].items()}
    return {name: psutil.Process(pid).memory_info().rss for name, pid in pids.items() if pid}


@contextmanager
def site(*options: str, port: int | None = None, **environment: str) -> Iterator[float]:
    """Yield the seconds that `up` took to get ready; it is stopped afterwards. Raises ``CannotStart``."""
    began = time.perf_counter()
    try:
        place = str(port or ports.any_free("127.0.0.1"))
        ready = _manage("up", "--detach", "--bare", "--port", place, *options, **environment)
        took_s = time.perf_counter() - began
        if ready.returncode != 0:
            raise CannotStart("`up` did not get ready: " + (ready.stdout + ready.stderr).strip()[-500:])
        yield took_s
    finally:
        _manage("down")


def _manage(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "manage.py"), *arguments]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )

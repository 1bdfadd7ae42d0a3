"""A Redis of the tests' own, to be killed, paused and started again."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
from django.test import override_settings

from a2a_site import env, redis_server
from a2a_site.celery import app
from routing import broker


class PrivateRedis:
    """A real server on a socket in ``home``, configured as the embedded one: what it holds survives a kill."""

    def __init__(self, home: Path) -> None:
        self._configuration, socket = redis_server.prepare(home)
        self.url = f"unix://{socket}"
        self.kombu_url = env.kombu_url(self.url)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it where it does not run, and return when it answers."""
        if self._process is None:
            command = [redis_server.program(), str(self._configuration)]
            self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(lambda: redis_server.is_ready(self.url), "Redis to answer")

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """While inside, it is stopped: connections are accepted by the kernel, and nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def client(self) -> redis.Redis:
        """Return a client of the test's own."""
        return redis.Redis.from_url(self.url)


def wait_until(is_so: Callable[[], Any], what: str, *, patience_s: float = 30.0) -> None:
    """Return when ``is_so`` says yes. Raises AssertionError, saying what was waited for."""
    deadline = time.monotonic() + patience_s
    while not is_so():
        assert time.monotonic() < deadline, f"waited {patience_s} s for {what}"
        time.sleep(0.02)


@contextmanager
def using_redis(url: str) -> Iterator[None]:
    """While inside, everything in this process uses the Redis of that URL as its bus and broker."""
    before = app.conf.broker_url
    with override_settings(A2A_REDIS_URL=url):
        _reconnect(env.kombu_url(url))
        yield
    _reconnect(before)


def _reconnect(broker_url: str) -> None:
    celery: Any = app
    celery.conf.broker_url = broker_url
    celery.amqp._producer_pool = celery._pool = None
    broker.client.cache_clear()

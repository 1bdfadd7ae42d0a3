"""A real web process and a real Redis for tests of pages; the ledger is the test's own database."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import redis
from django.conf import settings
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client

from a2a_site import redis_server
from a2a_site.ports import any_free
from routing.models import Agent, Skill, Tenant
from tests.monitoring.fakes import FakeController

ROOT = Path(__file__).parents[2]
PASSWORD = "correct horse"


@dataclass
class Site:
    """The address of the web process, and its Redis to stop and start."""

    home: Path
    port: int
    redis_process: subprocess.Popen[bytes] | None = None
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where a browser finds it."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def redis_url(self) -> str:
        """The bus."""
        return f"unix://{self.home / 'redis.sock'}"

    def start_redis(self) -> None:
        """Start Redis and return when it answers."""
        options = ["--port", "0", "--unixsocket", str(self.home / "redis.sock"), "--dir", str(self.home), "--save", ""]
        self.redis_process = subprocess.Popen(
            [redis_server.program(), *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_until(lambda: redis_server.is_ready(self.redis_url), "Redis to answer")

    def kill_redis(self) -> None:
        """Kill Redis; all it held is lost."""
        if self.redis_process is not None:
            self.redis_process.kill()
            self.redis_process.wait()
            self.redis_process = None

    def start_web(self, **environment: str) -> None:
        """Start uvicorn and return when it answers."""
        command = [sys.executable, "-m", "uvicorn", "a2a_site.asgi:application", "--port", str(self.port)]
        self._run_django("collectstatic", "--noinput", "--verbosity=0")
        with (self.home / "web.log").open("ab") as log:
            web = subprocess.Popen(
                command, cwd=ROOT, env=self.environment() | environment, stdout=log, stderr=subprocess.STDOUT
            )
        self.processes.append(web)
        wait_until(lambda: answers(self.url + "/healthz"), "the web process to answer")

    def environment(self) -> dict[str, str]:
        """Return what a process of this site finds in its environment."""
        ours = {"A2A_HOME": str(self.home), "REDIS_URL": self.redis_url, "DATABASE_URL": database_url()}
        ours["A2A_SECRET_KEY"] = settings.SECRET_KEY  # the same, so that a session made by a test counts there
        return {**os.environ, **ours, "DJANGO_SETTINGS_MODULE": "a2a_site.settings"}

    def _run_django(self, *arguments: str) -> None:
        subprocess.run([sys.executable, "-m", "django", *arguments], cwd=ROOT, env=self.environment(), check=True)

    def stop(self) -> None:
        """End what was started."""
        for process in self.processes:
            process.terminate()
            process.wait(10)
        self.kill_redis()


def database_url() -> str:
    """Return the address of the test's database for another process."""
    database = connection.settings_dict
    if database["ENGINE"].endswith("sqlite3"):
        return f"sqlite:///{database['NAME']}"
    options = database["OPTIONS"]  # what stood behind the question mark of DATABASE_URL
    user = quote(database["USER"] or options.get("user", ""))
    user += f":{quote(database['PASSWORD'])}" if database["PASSWORD"] else ""
    host, port = str(database["HOST"] or options.get("host", "")), database["PORT"]
    if host.startswith("/"):
        return f"postgres://{user}@/{database['NAME']}?host={host}" + (f"&port={port}" if port else "")
    return f"postgres://{user}@{host}:{port or 5432}/{database['NAME']}"


def answers(url: str) -> bool:
    """Return whether the address answers 200."""
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def wait_until(is_so: Callable[[], Any], what: str, *, patience_s: float = 20.0) -> None:
    """Return when ``is_so`` says yes. Raises AssertionError, saying what was waited for."""
    deadline = time.monotonic() + patience_s
    while not is_so():
        assert time.monotonic() < deadline, f"waited {patience_s} s for {what}"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, django_db_setup: None, django_db_blocker: Any) -> Iterator[Site]:
    """Yield a running web process with its Redis; no controller."""
    running = Site(home=tmp_path_factory.mktemp("s"), port=any_free("127.0.0.1"))
    try:
        running.start_redis()
        with django_db_blocker.unblock():
            running.start_web()
        yield running
    finally:
        running.stop()


@pytest.fixture
def controller(site: Site) -> Iterator[FakeController]:
    """Yield a fake controller with two agents and a worker, that has written its first snapshot."""
    if site.redis_process is None:
        site.start_redis()
    fake = FakeController(site.redis_url, seq=int(time.time() * 10))
    fake.bus.delete("a2a:committed")
    fake.agent("ruff-swift", capacity=4)
    fake.agent("ruff-steady", capacity=2)
    fake.worker("w1@main")
    fake.commit(reset=True)
    fake.publish_snapshot()
    yield fake
    try:
        fake.bus.delete("a2a:snapshot")
    except redis.RedisError:
        pass
    fake.bus.close()


@pytest.fixture
def admin(db: None) -> User:
    """Return a superuser whose password is ``PASSWORD``."""
    password = PBKDF2PasswordHasher().encode(PASSWORD, "salt", iterations=1)  # the usual million takes a second
    return User.objects.create(username="admin", password=password, is_staff=True, is_superuser=True)


@pytest.fixture
def fleet(db: None) -> None:
    """Register two agents for ``code.lint``."""
    tenant, _ = Tenant.objects.get_or_create(name="default")
    skill = Skill.objects.create(tenant=tenant, name="code.lint")
    for name, capacity in (("ruff-swift", 4), ("ruff-steady", 2)):
        Agent.objects.create(tenant=tenant, name=name, capacity=capacity).skills.set([skill])


def session_cookie(user: User) -> str:
    """Return the name and value of the cookie of a new session."""
    client = Client()
    client.force_login(user)
    return f"sessionid={client.cookies['sessionid'].value}"

"""monitoring.meters, samplers and /metrics, with a real controller, Redis and database."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from django.test import Client

from monitoring import catalogue, meters, samplers, store
from monitoring.metrics import Sample
from routing import lifecycle, registry
from tests.private_redis import wait_until
from tests.routing.conftest import bus, private_redis, use_redis
from tests.routing.test_controller import running

pytestmark = pytest.mark.django_db(transaction=True)
__all__ = ["bus", "private_redis", "use_redis"]


class TestTicker:
    @pytest.mark.usefixtures("bus")
    def test_writes_figures_of_all_parts_that_prometheus_can_read(
        self, monkeypatch: pytest.MonkeyPatch, client: Client
    ) -> None:
        monkeypatch.setattr(meters, "FIRST_S", 0.6)
        monkeypatch.setattr(meters, "TICK_S", 0.6)
        _, key = registry.create_key(registry.ensure_tenant(), "prometheus", ["agents:read"])
        registry.ensure_skill("rare")
        lifecycle.submit(lifecycle.Request(skill="rare"))

        with running():
            wait_until(lambda: store.latest("a2a_tasks_submitted_total"), "a tick")
            wait_until(lambda: store.latest("a2a_lane_waiting"), "a tick with lanes")

        headers: Any = {"HTTP_AUTHORIZATION": f"Bearer {key}"}
        text = client.get("/metrics", **headers).content.decode()
        assert client.get("/metrics").status_code == 401
        assert 'a2a_tasks_submitted_total{skill="rare"} 1.0' in text
        assert "a2a_redis_up 1.0" in text
        for part in ("host_cpu_ratio", "process_memory_bytes", "database_bytes", "queue_messages", "workers"):
            assert f"a2a_{part}" in text
        assert store.names().keys() <= catalogue.METRICS.keys()


class TestApart:
    @pytest.fixture
    def released(self) -> Iterator[threading.Event]:
        """Return what a hanging sampler waits for."""
        event = threading.Event()
        yield event
        event.set()

    def test_is_not_waited_for_when_it_hangs(self, released: threading.Event) -> None:
        def hang(snapshot: Mapping[str, Any]) -> list[Sample]:
            released.wait(30)
            return []

        sampler = meters.Apart("slow", hang)
        sampler.start({})
        told = {sample.name: sample.value for sample in sampler.result(0.0)}
        sampler.start({})

        assert told == {"a2a_sampler_up": 0.0, "a2a_sampler_failures_total": 1}
        assert sum(thread.name == "sampler-slow" for thread in threading.enumerate()) == 1

    def test_that_breaks_says_so(self) -> None:
        def fail(snapshot: Mapping[str, Any]) -> list[Sample]:
            raise OSError("no /proc here")

        sampler = meters.Apart("broken", fail)
        sampler.start({})

        assert [sample.value for sample in sampler.result(time.monotonic() + 30)] == [0.0, 1]


class TestRole:
    @pytest.mark.parametrize(
        ("command", "name"),
        [
            (["python", "/x/manage.py", "controller"], "controller"),
            (["python", "-m", "celery", "--quiet", "-A", "a2a_site", "worker", "-n", "w2@%h"], "w2"),
            (["python", "-m", "uvicorn", "a2a_site.asgi:application"], "web"),
            (["/opt/redis-server *:0"], ""),
            (["bash"], ""),
        ],
    )
    def test_is_told_by_the_command_line(self, command: list[str], name: str) -> None:
        assert samplers.role(command) == name

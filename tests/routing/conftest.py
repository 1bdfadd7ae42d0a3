"""Fixtures of routing's tests: a real Redis, and a registry with a few agents."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
import redis

from routing import registry
from routing.models import Agent, Revision, Skill, Tenant
from tests.private_redis import PrivateRedis, using_redis

ECHO_SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
Use = Callable[[str], None]


@pytest.fixture(scope="session")
def private_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateRedis]:
    """Yield a Redis for the whole session, not started yet."""
    server = PrivateRedis(tmp_path_factory.mktemp("redis"))
    yield server
    server.kill()


@pytest.fixture
def use_redis() -> Iterator[Use]:
    """Yield a function that lets everything in this process use the Redis of that URL as its bus and broker."""
    with ExitStack() as stack:
        yield lambda url: stack.enter_context(using_redis(url))


@pytest.fixture
def bus(private_redis: PrivateRedis, use_redis: Use) -> Iterator[redis.Redis]:
    """Yield a client of an empty Redis that the code under test uses."""
    private_redis.start()
    use_redis(private_redis.url)
    with private_redis.client() as client:
        client.flushall()
        yield client


@pytest.fixture
def echo(db: None) -> Iterator[None]:
    """Register the skill ``echo``, which takes {"text"}, and ``any``; each with an agent of two slots."""
    Tenant.objects.get_or_create(name="default")
    for name, schema in (("echo", ECHO_SCHEMA), ("any", {})):
        skill = Skill.objects.create(name=name, input_schema=schema)
        Agent.objects.create(name=f"{name}-1", capacity=2).skills.add(skill)
    Revision.raise_number()
    registry.forget()
    yield
    registry.forget()

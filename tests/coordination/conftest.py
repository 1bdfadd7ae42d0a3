"""Fixtures of coordination's tests."""

from tests.routing.conftest import bus, private_redis, use_redis

__all__ = ["bus", "private_redis", "use_redis"]

"""A line speaks as redis-py's client does, and stays in step with Redis whatever happens."""

from __future__ import annotations

import pytest
import redis

from routing import broker
from routing.line import Line
from tests.private_redis import PrivateRedis


class TestAsk:
    def test_answers_as_redis_does(self, bus: redis.Redis) -> None:
        line = broker.line()

        answers = line.ask_all([("SET", "a", "1"), ("GET", "a"), ("LLEN", "none")])

        assert answers == [b"OK", b"1", 0]
        assert line.ask("GET", "a") == b"1"

    def test_keeps_in_step_after_a_command_that_is_refused(self, bus: redis.Redis) -> None:
        line = broker.line()

        with pytest.raises(redis.ResponseError):
            line.ask_all([("SET", "a", "1"), ("LPUSH", "a", "1"), ("GET", "a")])

        assert line.ask("GET", "a") == b"1"

    def test_speaks_again_after_its_connection_was_closed(self, bus: redis.Redis) -> None:
        line = broker.line()
        line.ask("PING")
        bus.client_kill_filter(_type="normal", skipme=True)

        assert line.ask("PING") == b"PONG"

    def test_gives_up_on_a_redis_that_hangs_and_does_not_take_its_late_answer(
        self, bus: redis.Redis, private_redis: PrivateRedis
    ) -> None:
        line = Line(broker.client(0.2).connection_pool)
        line.ask("SET", "a", "1")

        with private_redis.paused(), pytest.raises(redis.TimeoutError):
            line.ask("GET", "a")

        assert line.ask("PING") == b"PONG"

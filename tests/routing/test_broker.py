"""The bus: nothing waits for it, nothing is lost on it, and what kombu does not do well by itself."""

from __future__ import annotations

import importlib.util
import inspect
import json
import socket
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from types import ModuleType, SimpleNamespace
from typing import Any

import kombu
import pytest
import redis
from celery.worker.consumer import Consumer as StockConsumer
from kombu.exceptions import OperationalError
from kombu.transport import redis as kombu_redis

from a2a_site.celery import app as typed_app
from routing import broker
from routing.broker import FACTS, Message, Publisher, Reporter, encode
from routing.line import Line
from routing.worker import Consumer
from tests.private_redis import PrivateRedis, wait_until
from tests.routing.conftest import Use

MANY = 200
app: Any = typed_app  # the stubs of celery and kombu lack much of what is looked at here
Channel: Any = kombu_redis.Channel


def told(bus: redis.Redis) -> list[list[Any]]:
    """Return the facts on the stream, entry by entry."""
    entries: Any = bus.xrange(FACTS)
    return [json.loads(fields[b"e"]) for _, fields in entries]


def in_order(entries: list[list[Any]]) -> list[int]:
    """Return the numbers of the facts, each where it came first."""
    return list(dict.fromkeys(fact["n"] for entry in entries for fact in entry))


class TestLine:
    def test_is_each_threads_own(self, bus: redis.Redis) -> None:
        lines: list[Line] = []
        thread = threading.Thread(target=lambda: lines.append(broker.line()))

        thread.start()
        thread.join()

        assert broker.line() is broker.line()
        assert broker.line() is not lines[0]


class TestRing:
    def test_makes_few_entries_of_many_rings(self, bus: redis.Redis) -> None:
        for _ in range(10_000):
            broker.ring()

        wait_until(lambda: bus.xlen(FACTS), "the ring")
        assert bus.xlen(FACTS) < 1000
        assert told(bus)[0] == [{"k": "ring"}]

    def test_says_when_there_are_only_tasks(self, bus: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(broker, "_bell", None)  # the one of earlier tests may still have to ring for them
        broker.ring_for_tasks()

        wait_until(lambda: [{"k": "ring", "w": "tasks"}] in told(bus), "the ring")

    def test_does_not_lose_other_news_among_many_tasks(self, bus: redis.Redis) -> None:
        for _ in range(100):
            broker.ring_for_tasks()
        broker.ring()

        wait_until(lambda: [{"k": "ring"}] in told(bus), "the ring for everything")

    def test_neither_waits_nor_raises_while_redis_hangs(self, bus: redis.Redis, private_redis: PrivateRedis) -> None:
        with private_redis.paused():
            began = time.monotonic()
            for _ in range(1000):
                broker.ring()
            took_s = time.monotonic() - began

        assert took_s < 1
        wait_until(lambda: bus.xlen(FACTS), "the ring")

    def test_neither_waits_nor_raises_without_redis(self, use_redis: Use) -> None:
        use_redis("unix:///nowhere/redis.sock")

        broker.ring()


@pytest.fixture
def reporter(bus: redis.Redis) -> Reporter:
    return Reporter()


class TestReporter:
    def test_has_it_written_when_it_returns(self, bus: redis.Redis, reporter: Reporter) -> None:
        assert reporter.tell_and_wait({"n": 1})

        assert told(bus) == [[{"n": 1}]]

    def test_writes_together_what_comes_meanwhile(
        self, bus: redis.Redis, reporter: Reporter, private_redis: PrivateRedis
    ) -> None:
        with private_redis.paused():
            for n in range(MANY):
                reporter.tell({"n": n})

        assert reporter.tell_and_wait({"n": MANY})
        entries = told(bus)
        assert in_order(entries) == list(range(MANY + 1))
        assert len(entries) < 10

    def test_loses_nothing_in_an_outage_and_keeps_the_order(
        self, bus: redis.Redis, reporter: Reporter, private_redis: PrivateRedis
    ) -> None:
        assert reporter.tell_and_wait({"n": 0})
        time.sleep(1.1)  # until the append-only file has it

        private_redis.kill()
        for n in range(1, MANY):
            reporter.tell({"n": n})
        private_redis.start()

        assert reporter.tell_and_wait({"n": MANY})
        assert in_order(told(bus)) == list(range(MANY + 1))

    def test_keeps_the_order_of_each_thread(self, bus: redis.Redis, reporter: Reporter) -> None:
        def tell(thread: int) -> None:
            for n in range(100):
                reporter.tell({"thread": thread, "n": n})

        threads = [threading.Thread(target=tell, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert reporter.tell_and_wait({"thread": -1, "n": 0})
        facts = [fact for entry in told(bus) for fact in entry]
        for number in range(4):
            assert [fact["n"] for fact in facts if fact["thread"] == number] == list(range(100))

    def test_says_when_it_could_not_write_in_time(self, bus: redis.Redis, private_redis: PrivateRedis) -> None:
        impatient = Reporter(patience_s=0.2)

        with private_redis.paused():
            assert impatient.tell_and_wait({"n": 1}) is False

    def test_speaks_on_after_something_unspeakable(self, bus: redis.Redis, reporter: Reporter) -> None:
        for odd in ("\ud800", "a\0b", b"\xff", {1, 2}, 2**70, float("nan"), object()):
            reporter.tell({"n": odd})

        assert reporter.tell_and_wait({"n": 1})


class TestEncode:
    @pytest.mark.parametrize(
        ("fact", "said"),
        [
            ({"a": [1, 1.5, None, True, "ß"]}, {"a": [1, 1.5, None, True, "ß"]}),
            ({"a": "x\0y"}, {"a": "x\N{REPLACEMENT CHARACTER}y"}),
            ({"a\0": 1}, {"a\N{REPLACEMENT CHARACTER}": 1}),
            ({"a": float("inf")}, {"a": None}),
            ({"a": 2**64}, {"a": str(2**64)}),
            ({"a": ("x", {"b": "\0"})}, {"a": ["x", {"b": "\N{REPLACEMENT CHARACTER}"}]}),
        ],
    )
    def test_says_what_every_reader_can_hold(self, fact: Any, said: Any) -> None:
        assert json.loads(encode(fact)) == said

    def test_leaves_an_escaped_backslash_alone(self) -> None:
        assert json.loads(encode({"a": "\\u0000"})) == {"a": "\\u0000"}

    def test_takes_half_a_character(self) -> None:
        assert b"\\u" not in encode({"a": "x\ud800y"})


def message(n: int, queue: str = "agent.a") -> Message:
    """Return a message with an attempt."""
    headers = {"task": "t", "id": str(n), "lang": "py", "a2a": {"attempt": n}}
    return Message(queue=queue, headers=headers, properties={"correlation_id": str(n)}, body=[[n], {}, {}])


def received(queue: str = "agent.a") -> list[Any]:
    """Return all messages that kombu finds in the queue, first to last."""
    with app.connection_for_read() as connection:
        channel = connection.channel()
        return list(iter(lambda: channel.basic_get(queue, no_ack=True), None))


class TestPublish:
    def test_is_read_by_kombu_in_the_same_order(self, bus: redis.Redis) -> None:
        Publisher(app).publish([message(n) for n in range(5)])

        messages = received()
        assert [m.payload[0] for m in messages] == [[n] for n in range(5)]
        assert [m.headers["a2a"]["attempt"] for m in messages] == list(range(5))
        assert messages[3].properties["correlation_id"] == "3"

    def test_is_what_kombu_would_have_sent(self, bus: redis.Redis) -> None:
        sent = message(1)
        Publisher(app).publish([sent])
        with app.connection_for_write() as connection:
            producer = connection.Producer(auto_declare=False)
            producer.publish(
                sent.body, routing_key="stock", serializer="json", headers=dict(sent.headers), **sent.properties
            )

        ours, stock = (popped(queue, bus) for queue in ("agent.a", "stock"))

        assert ours["headers"] == stock["headers"]
        assert ours["content-type"] == stock["content-type"]
        assert set(ours["properties"]) | {"body_encoding"} == set(stock["properties"])
        assert received_body(ours) == received_body(stock) == [[1], {}, {}]

    def test_sends_a_thousand_in_a_few_commands(self, bus: redis.Redis) -> None:
        publisher = Publisher(app)
        publisher.publish([message(0, "agent.b")])
        bus.config_resetstat()

        publisher.publish([message(n, f"agent.{n % 3}") for n in range(1000)])

        commands: Any = bus.info("commandstats")
        assert commands["cmdstat_lpush"]["calls"] == 3
        assert [bus.llen(f"agent.{n}") for n in range(3)] == [334, 333, 333]

    def test_works_again_after_an_outage(self, bus: redis.Redis, private_redis: PrivateRedis) -> None:
        publisher = Publisher(app)
        publisher.publish([message(0)])
        private_redis.kill()

        with pytest.raises(OperationalError):
            publisher.publish([message(1)])
        private_redis.start()
        publisher.publish([message(2, "agent.new")])

        assert bus.llen("agent.new") == 1


def popped(queue: str, bus: redis.Redis) -> dict[str, Any]:
    """Return the message at the end of a queue's list."""
    raw: Any = bus.rpop(queue)
    return dict(json.loads(raw))


def received_body(message: dict[str, Any]) -> Any:
    """Return what kombu's reader makes of a message in Redis."""
    with app.connection_for_read() as connection:
        return Channel.Message(message, channel=connection.default_channel).decode()


@pytest.fixture
def mute_server() -> Iterator[str]:
    """Yield the URL of a server that takes connections and never answers, as after a power cut behind a switch."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as server:
        yield f"redis://127.0.0.1:{server.getsockname()[1]}/0"


class TestHalfOpenConnection:
    """With Celery's stock settings a publisher stood still for 55 s."""

    def test_is_given_up_soon_by_the_publisher(self, mute_server: str, use_redis: Use) -> None:
        use_redis(mute_server)
        began = time.monotonic()

        with pytest.raises(OperationalError):
            Publisher(app).publish([message(1)])

        assert time.monotonic() - began < 15

    def test_is_given_up_soon_by_the_bus(self, mute_server: str, use_redis: Use) -> None:
        use_redis(mute_server)
        began = time.monotonic()

        with pytest.raises(redis.RedisError):
            broker.client().ping()

        assert time.monotonic() - began < 10

    def test_stock_settings_set_no_limit(self) -> None:
        assert (Channel.socket_timeout, Channel.socket_connect_timeout) == (None, None)


def unguarded() -> ModuleType:
    """Return kombu's Redis transport as it comes from upstream."""
    spec = importlib.util.find_spec("kombu.transport.redis")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class TestGuardClosedChannels:
    closed = SimpleNamespace(connection=SimpleNamespace(client=None))  # a channel whose connection is being torn down

    def test_raises_what_workers_survive(self) -> None:
        with pytest.raises(redis.ConnectionError) as caught:
            Channel._connparams(self.closed)

        assert isinstance(caught.value, app.connection_for_read().connection_errors)

    def test_lets_a_closed_channel_reconnect_into_that_error(self, bus: redis.Redis) -> None:
        connection = app.connection_for_read()
        channel = connection.channel()
        connection.transport.client = None  # what closing does first

        with pytest.raises(redis.ConnectionError):
            channel._create_client()

    def test_can_be_thrown_away_once_upstream_is_mended(self) -> None:
        """This fails when kombu has mended it: then delete ``_guard_closed_channels`` and this class."""
        with pytest.raises(AttributeError, match="hostname") as caught:
            unguarded().Channel._connparams(self.closed)

        assert not isinstance(caught.value, app.connection_for_read().connection_errors)  # so it ends the worker

    def test_leaves_living_channels_alone(self, bus: redis.Redis, private_redis: PrivateRedis) -> None:
        with app.connection_for_read() as connection:
            assert connection.channel()._connparams()["path"] == private_redis.url.removeprefix("unix://")


class TestGuardAcknowledgements:
    def test_asks_nothing_of_redis_for_what_needs_none(self, bus: redis.Redis) -> None:
        assert commands_of(kombu_redis.QoS.ack, bus) == 0

    def test_can_be_thrown_away_once_upstream_is_mended(self, bus: redis.Redis) -> None:
        """This fails when kombu has mended it: then delete ``_guard_acknowledgements`` and this class."""
        assert commands_of(unguarded().QoS.ack, bus) > 0


def commands_of(ack: Any, bus: redis.Redis) -> int:
    """Return how many commands Redis gets when a message that nobody has to acknowledge is acknowledged."""
    with app.connection_for_read() as connection:
        channel = connection.channel()
        channel.client.ping()
        bus.config_resetstat()
        try:
            ack(channel.qos, "tag")
        except TypeError:  # the fresh module's ``super()`` does not know our channel: Redis was asked before that
            pass
        commands: Any = bus.info("commandstats")
        return sum(commands.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("zrem", "hdel"))


class Recording(kombu.Connection):
    """A connection that notes how it would be tried again."""

    asked: dict[str, Any]

    def ensure_connection(self, *args: Any, **kwargs: Any) -> Any:
        stock = inspect.signature(kombu.Connection._ensure_connection)
        bound = stock.bind(self, *args, **kwargs)
        bound.apply_defaults()
        self.asked = bound.arguments
        return self


def pauses(consumer: type[Any]) -> list[float]:
    """Return the first pauses in seconds between the attempts of a Celery consumer to connect."""
    worker = object.__new__(consumer)
    worker.app, worker.first_connection_attempt, worker.broker_connection_retry_attempt = app, True, 0
    connection = Recording("redis://")
    worker.ensure_connected(connection)
    start, step, most = (connection.asked[f"interval_{name}"] for name in ("start", "step", "max"))
    return [min(start + step * n, most) for n in range(20)]


class TestReconnecting:
    def test_is_tried_every_second_at_least(self) -> None:
        assert max(pauses(Consumer)) <= 1.0
        assert all(before <= after for before, after in pairwise(pauses(Consumer)))

    def test_is_slow_in_stock_celery(self) -> None:
        """This fails when Celery has mended it: then ``routing.worker.Consumer`` can be thrown away."""
        assert max(pauses(StockConsumer)) == 30.0


class TestSettings:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("task_acks_late", False),
            ("worker_prefetch_multiplier", 1),
            ("worker_disable_prefetch", True),
            ("broker_connection_max_retries", None),
            ("broker_pool_acquire_timeout", 2),
        ],
    )
    def test_of_the_application(self, name: str, value: Any) -> None:
        assert app.conf[name] == value

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("socket_timeout", 2),
            ("socket_connect_timeout", 1),
            ("health_check_interval", 5),
            ("socket_keepalive", True),
            ("unacked_restore_interval", 5),
            ("unacked_mutex_expire", 15),
        ],
    )
    def test_reach_the_transport(self, bus: redis.Redis, name: str, value: Any) -> None:
        with app.connection_for_read() as connection:
            assert getattr(connection.channel(), name) == value

"""What is measured of the machine, our processes, Redis, queues and the database."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import redis
from django.conf import settings
from django.db import connection

from monitoring.metrics import Sample
from routing import broker

STREAMS = (broker.FACTS, broker.COMMITTED)
BUS_S = 0.5  # Redis has to answer within
UNACKNOWLEDGED = "unacked"  # kombu's hash

Sampler = Callable[[Mapping[str, Any]], Iterable[Sample]]


def host(snapshot: Mapping[str, Any]) -> Iterator[Sample]:
    """Yield how the machine is. The first processor figures count from the start of this process."""
    for core, percent in enumerate(psutil.cpu_percent(percpu=True)):
        yield Sample(name="a2a_host_cpu_ratio", value=percent / 100, labels={"core": str(core)})
    yield Sample(name="a2a_host_load", value=os.getloadavg()[0] / (os.cpu_count() or 1))
    memory, swap, disk = psutil.virtual_memory(), psutil.swap_memory(), psutil.disk_usage(str(settings.A2A_HOME))
    yield Sample(name="a2a_host_memory_ratio", value=memory.percent / 100)
    yield Sample(name="a2a_host_memory_available_bytes", value=memory.available)
    yield Sample(name="a2a_host_swap_ratio", value=swap.percent / 100)
    yield Sample(name="a2a_host_disk_ratio", value=disk.percent / 100)
    yield Sample(name="a2a_host_disk_free_bytes", value=disk.free)
    if (disks := psutil.disk_io_counters()) is not None:  # containers may have none
        yield Sample(name="a2a_host_disk_read_bytes_total", value=disks.read_bytes)
        yield Sample(name="a2a_host_disk_written_bytes_total", value=disks.write_bytes)
    if (network := psutil.net_io_counters()) is not None:
        yield Sample(name="a2a_host_network_received_bytes_total", value=network.bytes_recv)
        yield Sample(name="a2a_host_network_sent_bytes_total", value=network.bytes_sent)


def processes(snapshot: Mapping[str, Any]) -> Iterator[Sample]:
    """Yield the figures of the processes that were started beside this one, and of this one."""
    for name, process in ours().items():
        with suppress(psutil.Error):  # it may end while it is looked at
            yield from _process(process, {"process": name})


def ours() -> dict[str, psutil.Process]:
    """Return our processes on this machine by their names: controller, w1, w2, …, web, redis, flower."""
    me = psutil.Process()
    parent = me.parent()
    siblings = parent.children() if parent is not None else [me]
    found: dict[str, psutil.Process] = {}
    for process in siblings:
        with suppress(psutil.Error):
            if name := role(process.cmdline()):
                found.setdefault(name, process)
    if me.pid not in {process.pid for process in found.values()}:
        found["controller"] = me
    return found


def role(command: Sequence[str]) -> str:
    """Return what a process of that command line is to us, "" if it is not ours."""
    words = {Path(word).name for word in command[:6]}
    if "worker" in command and "celery" in words and "-n" in command[:-1]:
        return command[command.index("-n") + 1].partition("@")[0]
    known = {"controller": "controller", "uvicorn": "web", "redis-server": "redis", "flower": "flower", "beat": "beat"}
    return next((name for word, name in known.items() if word in words), "")


def _process(process: psutil.Process, labels: Mapping[str, str]) -> Iterator[Sample]:
    with process.oneshot():
        times = process.cpu_times()
        yield Sample(name="a2a_process_cpu_seconds_total", value=times.user + times.system, labels=labels)
        yield Sample(name="a2a_process_memory_bytes", value=process.memory_info().rss, labels=labels)
        yield Sample(name="a2a_process_open_files", value=process.num_fds(), labels=labels)
        yield Sample(name="a2a_process_threads", value=process.num_threads(), labels=labels)
        yield Sample(name="a2a_process_uptime_seconds", value=time.time() - process.create_time(), labels=labels)


def redis_server(snapshot: Mapping[str, Any]) -> Iterator[Sample]:
    """Yield how Redis is; of one that does not answer, that."""
    bus = broker.client(BUS_S)
    begin = time.perf_counter()
    try:
        info: Mapping[str, Any] = bus.info()
        yield Sample(name="a2a_redis_ping_seconds", value=time.perf_counter() - begin)
        slow = int(bus.slowlog_len())
        lengths = {name: int(bus.xlen(name)) for name in STREAMS}
    except redis.RedisError:
        yield Sample(name="a2a_redis_up", value=0.0)
        return
    yield Sample(name="a2a_redis_up", value=1.0)
    yield Sample(name="a2a_redis_memory_bytes", value=info["used_memory"])
    yield Sample(name="a2a_redis_clients", value=info["connected_clients"])
    yield Sample(name="a2a_redis_slow_commands", value=slow)
    yield Sample(name="a2a_redis_append_only_ok", value=float(info.get("aof_last_write_status", "ok") == "ok"))
    yield Sample(name="a2a_redis_evicted_keys_total", value=info["evicted_keys"])
    yield Sample(name="a2a_redis_commands_total", value=info["total_commands_processed"])
    for name, length in lengths.items():
        yield Sample(name="a2a_redis_stream_entries", value=length, labels={"stream": name})


def queues(snapshot: Mapping[str, Any]) -> Iterator[Sample]:
    """Yield how many messages are in the broker's queues, where the broker is our Redis."""
    if not settings.A2A_BROKER_IS_OUR_REDIS:
        return
    names = ["intake", "control", "push", *(f"agent.{row['agent']}" for row in snapshot.get("fleet", ()))]
    pipe = broker.client(BUS_S).pipeline(transaction=False)
    for name in names:
        pipe.llen(name)
    pipe.hlen(UNACKNOWLEDGED)
    *lengths, unacknowledged = pipe.execute()
    for name, length in zip(names, lengths, strict=True):
        yield Sample(name="a2a_queue_messages", value=length, labels={"queue": name})
    yield Sample(name="a2a_queue_unacknowledged", value=unacknowledged)


def database(snapshot: Mapping[str, Any]) -> Iterator[Sample]:
    """Yield how the database is. Raises ``DatabaseError``."""
    begin = time.perf_counter()
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        yield Sample(name="a2a_database_ping_seconds", value=time.perf_counter() - begin)
        yield from _postgres(cursor) if connection.vendor == "postgresql" else _sqlite()


def _postgres(cursor: Any) -> Iterator[Sample]:
    cursor.execute(
        "SELECT pg_database_size(current_database()), count(*), count(*) FILTER (WHERE wait_event_type = 'Lock'), "
        "COALESCE(EXTRACT(EPOCH FROM max(now() - query_start) FILTER (WHERE state = 'active')), 0) "
        "FROM pg_stat_activity WHERE datname = current_database()"
    )
    size, connections, blocked, longest = cursor.fetchone()
    yield Sample(name="a2a_database_bytes", value=float(size))
    yield Sample(name="a2a_database_connections", value=float(connections))
    yield Sample(name="a2a_database_blocked", value=float(blocked))
    yield Sample(name="a2a_database_longest_query_seconds", value=max(0.0, float(longest)))


def _sqlite() -> Iterator[Sample]:
    path = Path(str(connection.settings_dict["NAME"]))
    for name, file in (("a2a_database_bytes", path), ("a2a_database_log_bytes", Path(f"{path}-wal"))):
        with suppress(OSError):
            yield Sample(name=name, value=float(file.stat().st_size))


# Those that may hang run in threads of their own. The database is asked where the samples are written.
APART: dict[str, Sampler] = {"host": host, "processes": processes, "redis": redis_server, "queues": queues}

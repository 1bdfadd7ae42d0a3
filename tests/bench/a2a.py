"""A2A: round trips beside the SDK's own server with its agent inside, and many subscribers of one task."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from uuid import uuid4

import httpx
import orjson
import psutil
from django.conf import settings

from a2a_site import ports, run_state
from tests.bench.figures import Figure
from tests.bench.plant import ROOT
from tests.bench.site import CannotStart, site

V1 = {"A2A-Version": "1.0"}
SUBSCRIBERS = 200
START_S = 30.0


def measure(*, calls: int) -> Iterator[Figure]:
    """Yield the figures of so many round trips on each side, and of 200 subscribers."""
    port = ports.any_free("127.0.0.1")
    with site("--no-flower", port=port, A2A_CONFORMANCE="1"), sdk_server() as other:
        ours = f"http://127.0.0.1:{port}/a2a"
        found = round_trips({"ours": ours, "SDK": other}, calls)
        for side, values in found.items():
            ordered = sorted(values)
            p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
            yield Figure(name=f"SendMessage, {side}, p50", value=statistics.median(values), unit="ms")
            yield Figure(name=f"SendMessage, {side}, p99", value=p99, unit="ms")
        yield from asyncio.run(subscribers(ours))
        ratio = statistics.median(found["ours"]) / statistics.median(found["SDK"])
    yield Figure(
        name="SendMessage p50, ours ÷ SDK", value=ratio, unit="×", is_ratio=True, note="theirs keeps nothing on disk"
    )


def round_trips(urls: dict[str, str], calls: int) -> dict[str, list[float]]:
    """Return the milliseconds of blocking calls, one side after the other each time."""
    found: dict[str, list[float]] = {side: [] for side in urls}
    with httpx.Client(timeout=30, headers=V1) as http:
        for number in range(calls + 5):
            for side, url in urls.items():
                began = time.perf_counter()
                answer = http.post(url, json=call("SendMessage", "bench"))
                took = (time.perf_counter() - began) * 1000
                assert answer.json()["result"]["task"]["status"]["state"] == "TASK_STATE_COMPLETED", answer.text
                if number >= 5:  # the first ones warm up
                    found[side].append(took)
    return found


def call(method: str, text: str, **configuration: Any) -> dict[str, Any]:
    """Return a JSON-RPC request with a message."""
    message = {"messageId": str(uuid4()), "role": "ROLE_USER", "parts": [{"text": text}]}
    params = {"message": message, "configuration": configuration}
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


async def subscribers(url: str) -> list[Figure]:
    """Return how late 200 subscribers hear of a committed event, and what they cost the web process."""
    web = web_process()
    before = web.num_threads(), web.memory_info().rss
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=60, headers=V1, limits=limits) as http:
        answer = await http.post(url, json=call("SendMessage", "tck-cancel", returnImmediately=True))
        task = answer.json()["result"]["task"]["id"]
        opened = asyncio.Semaphore(0)
        work = [asyncio.create_task(_follow(http, url, task, opened)) for _ in range(SUBSCRIBERS)]
        for _ in work:
            await opened.acquire()
        threads, memory = web.num_threads(), web.memory_info().rss
        await http.post(f"{url}/tasks/{task}:cancel")
        late = sorted(await asyncio.gather(*work))
    return [
        Figure(name=f"{SUBSCRIBERS} subscribers, commit to client, p50", value=statistics.median(late), unit="ms"),
        Figure(name=f"{SUBSCRIBERS} subscribers, commit to client, p99", value=late[int(len(late) * 0.99)], unit="ms"),
        Figure(name="threads more with them", value=threads - before[0], unit="threads", note=f"{before[0]} before"),
        Figure(name="memory more with them", value=(memory - before[1]) / 1e6, unit="MB"),
    ]


async def _follow(http: httpx.AsyncClient, url: str, task: str, opened: asyncio.Semaphore) -> float:
    """Return how many milliseconds after its commit the task's end was heard of."""
    async with http.stream("POST", f"{url}/tasks/{task}:subscribe") as stream:
        lines = (line async for line in stream.aiter_lines() if line.startswith("data:"))
        await anext(lines)
        opened.release()
        async for line in lines:
            status = orjson.loads(line[5:]).get("statusUpdate", {}).get("status", {})
            if status.get("state") == "TASK_STATE_CANCELED":
                return (time.time() - _seconds(status["timestamp"])) * 1000
    raise CannotStart("a subscriber did not hear of the end")


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def web_process() -> psutil.Process:
    """Return the web process of the site."""
    record = run_state.read(settings.A2A_HOME)
    pid = record["children"]["web"]["pid"] if record is not None else None
    if pid is None:
        raise CannotStart("there is no web process")
    return psutil.Process(pid)


@contextmanager
def sdk_server() -> Iterator[str]:
    """Yield the address of the SDK's own server, with its agent in the same process and its tasks in memory."""
    port = ports.any_free("127.0.0.1")
    command = [sys.executable, "-m", "tests.bench.sdk_agent", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        give_up = time.monotonic() + START_S
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{port}/.well-known/agent-card.json", timeout=1).raise_for_status()
                break
            except httpx.HTTPError:
                if time.monotonic() > give_up or process.poll() is not None:
                    raise CannotStart("the SDK's server did not start") from None
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.wait()

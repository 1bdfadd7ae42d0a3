"""Agents of the journeys' site. Its workers load this module by A2A_AGENT_MODULES."""

import os
import sys
import time
from pathlib import Path
from typing import Any

from routing.executors import Canceled, Context, handler


@handler("journey-say", skills=("say",), capacity=8)
def say(value: Any, ctx: Context) -> Any:
    """Tell how it goes, leave a file, and return the input."""
    ctx.progress(0.5, "half way")
    ctx.log("on it")
    ctx.artifact("said.txt", f"{value}\n", "text/plain")
    return {"said": value}


@handler("journey-wait", skills=("wait",))
def wait(value: Any, ctx: Context) -> Any:
    """Wait until the file ``gate`` is there; once cancelled, write the file ``seen`` and end."""
    while not Path(value["gate"]).exists():
        if ctx.cancelled:
            Path(value["seen"]).write_text("cancelled")
            raise Canceled("It was told to stop.")
        time.sleep(0.02)
    return {"attempt": ctx.attempt}


@handler("journey-stick", skills=("stick",))
def stick(value: Any, ctx: Context) -> Any:
    """Write who runs it into the file ``pid`` and never return, whatever anybody says."""
    Path(value["pid"]).write_text(str(os.getpid()))
    while True:
        time.sleep(60)


@handler("journey-stick-apart", skills=("stick-apart",), isolated=True)
def stick_apart(value: Any, ctx: Context) -> Any:
    """As ``stick``, in a process of its own."""
    return stick(value, ctx)


# A program that starts another one, writes both process ids into the file ``pids``, and never ends.
PROGRAM = """
import json, os, pathlib, subprocess, sys
asked = json.load(sys.stdin)["input"]
child = subprocess.Popen(["sleep", "600"])
new = pathlib.Path(asked["pids"] + ".new")
new.write_text(f"{os.getpid()} {child.pid}")
new.rename(asked["pids"])
child.wait()
"""
ARGV = [sys.executable, "-c", PROGRAM]


@handler("journey-share", skills=("share",), capacity=4)
def share(value: Any, ctx: Any) -> Any:
    """Raise the context's ``count`` as often as told, without and with the lock, and tell the lock's tokens."""
    tokens = []
    for _ in range(value["times"]):
        ctx.state.put("seen", ctx.attempt, rule="append")
        with ctx.lock("count") as lock:
            tokens.append(lock.token)
            ctx.state.put("count", ctx.state.get("count", 0) + 1, rule="last_write", lock=lock)
    return {"tokens": tokens}


@handler("journey-share-apart", skills=("share-apart",), isolated=True)
def share_apart(value: Any, ctx: Any) -> Any:
    """As ``share``, in a process of its own."""
    return share(value, ctx)


@handler("journey-keep", skills=("keep",))
def keep(value: Any, ctx: Any) -> Any:
    """Hold the lock until killed, as ``stick``; a second attempt tells its token."""
    with ctx.lock("kept", lease_s=3.0, wait_s=30.0) as lock:
        if ctx.attempt == 1:
            stick(value, ctx)
        return {"token": lock.token}


@handler("journey-broken", skills=("broken",))
def broken(value: Any, ctx: Context) -> Any:
    """Never succeed."""
    raise ValueError("it is broken")

"""The child process of ``isolated``: reads one order from standard input, runs the handler, answers in ``protocol``."""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO

from routing.executors import python
from routing.executors.asking import Asks
from routing.executors.contract import ExecutorError
from routing.executors.sharing import Shares


class Wire:
    """The two pipes to the worker."""

    def __init__(self, reader: BinaryIO, writer: int) -> None:
        self._reader, self._writer = reader, writer
        self._writing = threading.Lock()
        self._replies: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def order(self) -> dict[str, Any]:
        """Return what to do; after that, keep reading replies on a thread."""
        line = self._reader.readline()
        if not line:
            os._exit(1)
        order: dict[str, Any] = json.loads(line)
        threading.Thread(target=self._listen, daemon=True, name="wire").start()
        return order

    def _listen(self) -> None:
        for line in self._reader:
            self._replies.put(json.loads(line))

    def say(self, **message: Any) -> None:
        line = memoryview(json.dumps(message).encode() + b"\n")
        with self._writing:
            while line:
                line = line[os.write(self._writer, line) :]

    def reply(self) -> Any:
        return self._replies.get()


class ChildContext(Shares, Asks):
    """The ``Context`` a handler sees in the child process."""

    def __init__(self, wire: Wire, order: dict[str, Any]) -> None:
        self.task_id: str = order["task_id"]
        self.attempt: int = order["attempt"]
        self.idempotency_key: str = order["idempotency_key"]
        self.input: Any = order["input"]
        self._answers: list[Any] = order["answers"]
        self._wire = wire
        self._lock = threading.Lock()
        self._one_artifact = threading.Lock()
        self._cancelled = False
        self._callbacks: list[Callable[[], None]] = []

    @property
    def answers(self) -> list[Any]:
        return self._answers

    @property
    def cancelled(self) -> bool:
        return self._cancelled

    def progress(self, fraction: float | None, message: str = "") -> None:
        self._wire.say(type="progress", fraction=fraction, message=message)

    def log(self, message: str, level: str = "info") -> None:
        self._wire.say(type="log", level=level, message=message)

    def usage(self, *, usd: float = 0.0, tokens: float = 0.0) -> None:
        self._wire.say(type="usage", usd=usd, tokens=tokens)

    def artifact(self, name: str, data: bytes | str | Path, media_type: str = "") -> dict[str, Any]:
        """Return the reference the worker gives for it."""
        if isinstance(data, Path):
            return self._publish(name, data.absolute(), media_type)
        with tempfile.NamedTemporaryFile(dir=".", prefix=".artifact-") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            return self._publish(name, Path(file.name).absolute(), media_type)

    def _publish(self, name: str, path: Path, media_type: str) -> dict[str, Any]:
        with self._one_artifact:
            self._wire.say(type="artifact", name=name, path=str(path), media_type=media_type)
            ref: dict[str, Any] = self._wire.reply()
            return ref

    def on_cancel(self, callback: Callable[[], None]) -> None:
        with self._lock:
            if not self._cancelled:
                self._callbacks.append(callback)
                return
        callback()

    def cancel(self) -> None:
        """Let the handler know; it has the grace period to end by itself."""
        with self._lock:
            if self._cancelled:
                return
            self._cancelled = True
        for callback in self._callbacks:
            callback()


def main() -> None:
    """Carry out one order and leave, whatever threads the handler may have left."""
    wire = _take_over_pipes()
    order = wire.order()
    context = ChildContext(wire, order)

    def canceled(number: int, frame: FrameType | None) -> None:
        threading.Thread(target=context.cancel, daemon=True).start()  # a signal handler must take no lock

    signal.signal(signal.SIGTERM, canceled)
    try:
        _load(order)
        output = python.call(python.find(order["handler"]), context, timeout_s=threading.TIMEOUT_MAX)
        wire.say(type="result", output=output)
    except ExecutorError as error:
        wire.say(type="error", **error.error)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _take_over_pipes() -> Wire:
    """Keep the pipes to ourselves: what the handler prints goes to standard error, and it has no input."""
    reader, writer = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    os.close(nothing)
    return Wire(os.fdopen(reader, "rb"), writer)


def _load(order: dict[str, Any]) -> None:
    """Import what defines the handler, with Django ready where there is one."""
    if os.environ.get("DJANGO_SETTINGS_MODULE"):
        import django

        django.setup()
    for module in order["modules"]:
        if not any(known.name == order["handler"] for known in python.handlers()):
            python.load([module])


if __name__ == "__main__":
    main()

"""A context for trying a handler without a fleet, in a test or at a prompt."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from routing.executors.asking import Asks


class Recording(Asks):
    """A ``Context`` that keeps what it is told."""

    def __init__(
        self, input: Any = None, *, task_id: str = "task", attempt: int = 1, answers: Sequence[Any] = ()
    ) -> None:
        self.input = input
        self._answers = answers
        self.task_id = task_id
        self.attempt = attempt
        self.idempotency_key = f"{task_id}-key"
        self.progressed: list[tuple[float | None, str]] = []
        self.logged: list[tuple[str, str]] = []  # (level, message)
        self.used = {"usd": 0.0, "tokens": 0.0}
        self.artifacts: dict[str, bytes] = {}
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], None]] = []
        self._cancelled = False

    @property
    def answers(self) -> Sequence[Any]:
        return self._answers

    @property
    def cancelled(self) -> bool:
        return self._cancelled

    def progress(self, fraction: float | None, message: str = "") -> None:
        self.progressed.append((fraction, message))

    def log(self, message: str, level: str = "info") -> None:
        self.logged.append((level, message))

    def usage(self, *, usd: float = 0.0, tokens: float = 0.0) -> None:
        self.used = {"usd": self.used["usd"] + usd, "tokens": self.used["tokens"] + tokens}

    def artifact(self, name: str, data: bytes | str | Path, media_type: str = "") -> dict[str, Any]:
        content = data.read_bytes() if isinstance(data, Path) else data.encode() if isinstance(data, str) else data
        self.artifacts[name] = content
        digest = hashlib.sha256(content).hexdigest()
        return {"name": name, "sha256": digest, "size": len(content), "media_type": media_type}

    def on_cancel(self, callback: Callable[[], None]) -> None:
        with self._lock:
            if not self._cancelled:
                self._callbacks.append(callback)
                return
        callback()

    def cancel(self) -> None:
        """Ask for the cancel, as an operator would."""
        with self._lock:
            self._cancelled = True
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

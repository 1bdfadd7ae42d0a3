"""One process of a chaos stack: started, hurt, and seen to its end."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from a2a_site import child
from a2a_site.child import LAUNCH

ROOT = Path(__file__).resolve().parents[2]
RESTART_AFTER_S = 0.25


@dataclass(slots=True)
class Part:
    """A process in a group of its own. While ``wanted``, the stack starts it again whenever it ends."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    log: Path
    wanted: bool = True
    starts: int = 0
    log_from: int = 0  # where in its log the last start is
    ended_at: float = 0.0  # monotonic; 0 while it runs
    process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)

    @property
    def pid(self) -> int:
        """The process id, 0 if it does not run."""
        return self.process.pid if self.process is not None and self.process.poll() is None else 0

    def keep(self) -> None:
        """Start the process if it should run and does not; called again and again."""
        if self.pid:
            return
        if self.process is not None and not self.ended_at:
            self.ended_at = time.monotonic()
            self._signal_group(signal.SIGKILL)  # what it left behind
        if self.wanted and time.monotonic() - self.ended_at >= RESTART_AFTER_S:
            self._start()

    def has_said(self, words: str) -> bool:
        """Return True if the words stand in its log since its last start."""
        with self.log.open("rb") as log:
            log.seek(self.log_from)
            return words.encode() in log.read()

    def _start(self) -> None:
        self.log_from = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(LAUNCH), str(os.getpid()), *self.command],
                cwd=ROOT,
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.starts += 1
        self.ended_at = 0.0

    def kill(self) -> None:
        """Kill the whole process group, as a machine's end would."""
        self._signal_group(signal.SIGKILL)

    def freeze(self) -> None:
        """Stop the whole group without ending it."""
        self._signal_group(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen group go on."""
        self._signal_group(signal.SIGCONT)

    def terminate(self) -> None:
        """Ask the process to end, as an orderly restart does."""
        if self.process is not None and self.pid:
            self.process.terminate()

    def wait(self, timeout_s: float) -> bool:
        """Return True when this process has ended, False if it has not in time."""
        if self.process is None:
            return True
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def end(self) -> None:
        """Kill the process and all that descends from it, for good."""
        self.wanted = False
        if not self.pid:
            return
        try:
            descendants = psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            descendants = []
        self._signal_group(signal.SIGKILL)
        for process in descendants:
            child.kill(process)
        self.wait(5)

    def _signal_group(self, number: signal.Signals) -> None:
        if self.process is None:
            return
        try:
            os.killpg(self.process.pid, number)
        except (ProcessLookupError, PermissionError):
            pass

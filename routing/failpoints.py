"""Named places where a process ends or stops itself when told to, so that tests can cause it exactly there."""

from __future__ import annotations

import os
import signal
from pathlib import Path

NAMES = ("after_read", "before_commit", "in_commit", "after_commit", "after_publish")
STOP = "stop"  # in an armed file: stand still instead of ending

_directory = os.environ.get("A2A_FAILPOINTS")  # a directory: a file named as a failpoint arms it once


def failpoint(name: str) -> None:
    """Kill this process with SIGKILL, or stop it, if the failpoint is armed; that disarms it."""
    if _directory is None:
        return
    armed = Path(_directory) / name
    try:
        wish = armed.read_text()
        armed.unlink()
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGSTOP if wish == STOP else signal.SIGKILL)

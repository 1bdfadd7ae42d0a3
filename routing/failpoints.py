"""Named places where a process ends itself when told to, so that tests can cause a crash exactly there."""

from __future__ import annotations

import os
import signal
from pathlib import Path

NAMES = ("after_read", "before_commit", "after_commit", "after_publish")

_directory = os.environ.get("A2A_FAILPOINTS")  # a directory: a file named as a failpoint arms it once


def failpoint(name: str) -> None:
    """Kill this process with SIGKILL if the failpoint is armed; the crash disarms it."""
    if _directory is None:
        return
    armed = Path(_directory) / name
    try:
        armed.unlink()
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)

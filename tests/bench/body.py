"""What a measured task does, with us and in bare Celery alike.  No Django here."""

import os
import time
from functools import cache
from pathlib import Path

STARTS = "A2A_BENCH_STARTS"  # environment: the file with one line a start


@cache
def _file() -> int:
    return os.open(os.environ[STARTS], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def note_start(sent: float) -> None:
    """Add a line with the milliseconds since ``sent`` (seconds since the epoch, this machine's clock)."""
    now = time.time()
    os.write(_file(), f"{(now - sent) * 1000:.3f}\n".encode())


def starts(path: Path) -> list[float]:
    """Return the milliseconds noted so far."""
    return [float(line) for line in path.read_text().split()] if path.exists() else []

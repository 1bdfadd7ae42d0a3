"""A program to start, the limits it runs under, and how it ended.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a program may use; None means what the machine allows. All but output_bytes hold for each process alone."""

    cpu_s: int | None = None
    memory_mb: int | None = None  # address space
    open_files: int | None = None
    file_mb: int | None = None  # size of one file it writes
    output_bytes: int = 8 * MIB  # on standard output

    def for_launcher(self) -> str:
        """Return the limits in the words of launcher.py."""
        wanted = {
            "CORE": 0,
            "CPU": self.cpu_s,
            "NOFILE": self.open_files,
            "FSIZE": self.file_mb and self.file_mb * MIB,
            "AS": self.memory_mb and self.memory_mb * MIB,  # last: it may leave the launcher little room
        }
        return ",".join(f"{name}={value}" for name, value in wanted.items() if value is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What to start, and how long it may take."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path
    limits: Limits
    timeout_s: float
    grace_s: float  # between SIGTERM and SIGKILL


class Stop(Enum):
    """Why we ended a program that had not ended by itself."""

    CANCELED = "canceled"
    TIMEOUT = "timeout"
    OUTPUT = "output"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a program ended."""

    returncode: int  # negative: the signal that killed it
    stopped: Stop | None
    cpu_s: float

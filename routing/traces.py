"""Recorded or made-up arrivals of tasks, read from CSV.  Pure.

The first line names the columns, in any order: ``time`` (seconds, from any zero) and ``size`` (units of work) are
needed; ``skill``, ``tenant``, ``priority`` (0..9, higher goes first) and ``deadline`` (seconds after ``time``) may be
left out, or left empty in a row.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

NEEDED = frozenset({"time", "size"})
COLUMNS = NEEDED | {"skill", "tenant", "priority", "deadline"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A task as the trace tells it."""

    id: str
    at: float  # seconds, from any zero
    size: float  # units of work, > 0
    skill: str = "work"
    tenant: str = "default"
    priority: int = 5  # 0..9, higher goes first
    deadline_s: float | None = None  # after it arrived


class BadTrace(ValueError):
    """A line of a trace cannot be used; the message names it and says why."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(f"line {line}: {why}")
        self.line = line  # from 1, the header


def read(lines: Iterable[str]) -> list[Job]:
    """Return the jobs in the order of their times, named ``t1``, ``t2``, … by their rows. Raises ``BadTrace``."""
    rows = csv.DictReader(lines)
    _check_header(rows.fieldnames or ())
    jobs: list[Job] = []
    for row in rows:
        if None in row or None in row.values():
            raise BadTrace(rows.line_num, "does not have as many values as the header has names")
        jobs.append(_job(f"t{len(jobs) + 1}", row, rows.line_num))
    if not jobs:
        raise BadTrace(1, "nothing follows the header")
    return sorted(jobs, key=lambda job: job.at)


def _check_header(names: Iterable[str]) -> None:
    known = list(names)
    if missing := sorted(NEEDED - set(known)):
        raise BadTrace(1, f"the header lacks {', '.join(missing)}; it names the columns, such as time,size,skill")
    if unknown := sorted(set(known) - COLUMNS):
        raise BadTrace(1, f"unknown column {', '.join(unknown)}; known are {', '.join(sorted(COLUMNS))}")
    if len(set(known)) < len(known):
        raise BadTrace(1, "a column is named twice")


def _job(name: str, row: Mapping[str, str], line: int) -> Job:
    priority = _number(row, "priority", line) if row.get("priority") else 5.0
    if priority not in range(10):
        raise BadTrace(line, f"priority is a whole number from 0 to 9, not {row['priority']!r}")
    size = _number(row, "size", line)
    if size <= 0:
        raise BadTrace(line, f"size is more than 0, not {row['size']!r}")
    deadline = _number(row, "deadline", line) if row.get("deadline") else None
    if deadline is not None and deadline <= 0:
        raise BadTrace(line, f"deadline is so many seconds after the arrival, more than 0, not {row['deadline']!r}")
    return Job(
        id=name,
        at=_number(row, "time", line),
        size=size,
        skill=row.get("skill") or "work",
        tenant=row.get("tenant") or "default",
        priority=int(priority),
        deadline_s=deadline,
    )


def _number(row: Mapping[str, str], column: str, line: int) -> float:
    try:
        value = float(row[column])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise BadTrace(line, f"{column} is a number, not {row[column]!r}")
    return value

"""Recorded or made-up arrivals of tasks, read from CSV.  Pure.

The first line names the columns, in any order: ``time`` (seconds, from any zero) and ``size`` (units of work) are
needed; ``skill``, ``tenant``, ``priority`` (0..9, higher goes first), ``deadline`` (seconds after ``time``) and
``work`` (seconds that it truly takes an agent of speed 1, where the size is but a hint) may be left out, or left empty
in a row.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from routing.events import TaskSpec

NEEDED = frozenset({"time", "size"})
COLUMNS = NEEDED | {"skill", "tenant", "priority", "deadline", "work"}


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
    work_s: float | None = None  # what it truly takes an agent of speed 1; None: by its size and noise
    task: TaskSpec | None = None  # what the fleet is told of it, where that is more than stands above


class BadTrace(ValueError):
    """A line of a trace cannot be used; the message names it and says why."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(f"line {line}: {why}")
        self.line = line  # from 1, the header


def read(lines: Iterable[str]) -> list[Job]:
    """Return the jobs in the order of their times, named ``t1``, ``t2``, … by their rows. Raises ``BadTrace``."""
    rows = csv.DictReader(lines)
    try:
        _check_header(rows.fieldnames or ())
        jobs = [_job(f"t{number}", row, rows.line_num) for number, row in enumerate(rows, 1)]
    except csv.Error as error:
        raise BadTrace(rows.reader.line_num, f"is not CSV: {error}") from None
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
    if None in row or None in row.values():
        raise BadTrace(line, "does not have as many values as the header has names")
    priority = _number(row, "priority", line) if row.get("priority") else 5.0
    if priority not in range(10):
        raise BadTrace(line, f"priority is a whole number from 0 to 9, not {row['priority']!r}")
    return Job(
        id=name,
        at=_number(row, "time", line),
        size=_positive(row, "size", line),
        skill=row.get("skill") or "work",
        tenant=row.get("tenant") or "default",
        priority=int(priority),
        deadline_s=_positive(row, "deadline", line) if row.get("deadline") else None,
        work_s=_positive(row, "work", line) if row.get("work") else None,
    )


def _positive(row: Mapping[str, str], column: str, line: int) -> float:
    value = _number(row, column, line)
    if value <= 0:
        raise BadTrace(line, f"{column} is more than 0, not {row[column]!r}")
    return value


def _number(row: Mapping[str, str], column: str, line: int) -> float:
    try:
        value = float(row[column])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise BadTrace(line, f"{column} is a number, not {row[column]!r}")
    return value

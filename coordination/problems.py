"""What is wrong with a definition, and where.  Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing to mend. ``words`` are a sentence that says what is wrong and what would be right."""

    words: str
    path: Path = ()  # ("steps", "research", "input"); () is the whole
    line: int | None = None  # of the source, from 1; None where there is no source
    column: int | None = None  # from 1

    def __str__(self) -> str:
        where = f"line {self.line}" if self.line else ""
        what = shown(self.path)
        head = ", ".join(part for part in (where, what) if part)
        return f"{head}: {self.words}" if head else self.words


class BadDefinition(ValueError):
    """The text is no workflow that could run; ``problems`` say why, in the order of their lines."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = sorted(problems, key=lambda problem: (problem.line or 0, problem.column or 0))
        super().__init__("\n".join(map(str, self.problems)))


def shown(path: Path) -> str:
    """Return the path as people write it: ``steps.checks.input.files[0]``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def listed(names: Iterable[str], most: int = 12) -> str:
    """Return names in quotes for a sentence, the first few of many; "nothing" for none."""
    found = [f"'{name}'" for name in names]
    more = f" and {len(found) - most} more" if len(found) > most else ""
    return (", ".join(found[:most]) + more) or "nothing"

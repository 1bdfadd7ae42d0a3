"""``code.duplication``: the same statements in two places."""

from __future__ import annotations

import io
import tokenize
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from coordination.review import source
from coordination.review.findings import Finding, Outcome

MIN_STATEMENTS = 6
MIN_TOKENS = 60
LARGE_TOKENS = 150  # from here on a repeat is a warning, not a note
_CANDIDATES = 8  # earlier places that are compared; more would cost time in generated code and say nothing new

_LAYOUT = {tokenize.COMMENT, tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING, tokenize.ENDMARKER}


@dataclass(frozen=True, slots=True)
class Statement:
    """One logical line without layout and comments."""

    code: str
    first: int
    last: int
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """``length`` statements at ``at`` that were seen before at ``earlier``; both are positions in the index."""

    at: int
    earlier: int
    length: int


@dataclass(slots=True)
class Index:
    """All statements of all files, one after the other; equal code has an equal number."""

    numbers: array[int] = field(default_factory=lambda: array("q"))
    first: array[int] = field(default_factory=lambda: array("q"))
    last: array[int] = field(default_factory=lambda: array("q"))
    tokens: array[int] = field(default_factory=lambda: array("q"))
    paths: list[str] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)  # position of each path's first statement
    known: dict[str, int] = field(default_factory=dict)

    def add(self, path: str, statements: Iterable[Statement]) -> None:
        """Append a file, and a number of its own after it, so that no repeat runs over its end."""
        self.paths.append(path)
        self.starts.append(len(self.numbers))
        for statement in statements:
            self._append(self.known.setdefault(statement.code, len(self.known)), statement)
        self._append(-len(self.paths), Statement("", 0, 0, 0))

    def path_at(self, position: int) -> str:
        """Return the file that holds the statement."""
        return self.paths[bisect_right(self.starts, position) - 1]

    def _append(self, number: int, statement: Statement) -> None:
        self.numbers.append(number)
        self.first.append(statement.first)
        self.last.append(statement.last)
        self.tokens.append(statement.tokens)


def duplication(root: Path, files: Iterable[str]) -> Outcome:
    """Return a finding for each run of ``MIN_STATEMENTS`` statements or more that stands in an earlier place too.

    Comments, docstrings, layout and imports do not count; names and values do. Each repeat is reported once, at the
    later place in the order of the files. The whole tree has to be looked at in one call.
    """
    index, looked_at, skipped = Index(), 0, 0
    for path in files:
        looked_at += 1
        text = source.text(root, path)
        try:
            found = list(statements(text or ""))
        except (tokenize.TokenError, SyntaxError):
            text, found = None, []
        skipped += text is None
        index.add(path, found)
    findings = [_finding(index, repeat) for repeat in repeats(index)]
    return Outcome(findings=findings, files=looked_at, skipped=skipped)


def statements(text: str) -> Iterator[Statement]:
    """Yield the logical lines of the text; SyntaxError or tokenize.TokenError if it is no Python."""
    words: list[str] = []
    first = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.NEWLINE:
            if _counts(words):
                yield Statement(" ".join(words), first, token.start[0], len(words))
            words = []
        elif token.type not in _LAYOUT:
            first = first if words else token.start[0]
            words.append(token.string)


def repeats(index: Index) -> Iterator[Repeat]:
    """Yield the longest repeats from first to last, none inside another; time is near linear in the statements."""
    windows: dict[int, list[int]] = {}
    numbers, position, done = index.numbers, 0, 0
    while position + MIN_STATEMENTS <= len(numbers):
        window = hash(numbers[position : position + MIN_STATEMENTS].tobytes())
        seen = windows.setdefault(window, [])
        if position >= done and (best := _longest(index, position, seen)) is not None:
            yield best
            done = position + best.length
        if len(seen) < _CANDIDATES:
            seen.append(position)
        position += 1


def _longest(index: Index, position: int, seen: list[int]) -> Repeat | None:
    """Return the longest run at ``position`` that one of the places in ``seen`` begins too, if it is long enough."""
    found = [Repeat(at=position, earlier=earlier, length=_equal(index, earlier, position)) for earlier in seen]
    best = max(found, key=lambda repeat: repeat.length, default=None)
    if best is None or best.length < MIN_STATEMENTS or _tokens(index, best) < MIN_TOKENS:
        return None
    return best


def _equal(index: Index, earlier: int, later: int) -> int:
    """Return how many statements are equal from the two places on, without running into each other."""
    numbers, length = index.numbers, 0
    most = min(later - earlier, len(numbers) - later)
    while length < most and numbers[earlier + length] == numbers[later + length]:
        length += 1
    return length


def _tokens(index: Index, repeat: Repeat) -> int:
    return sum(index.tokens[repeat.at : repeat.at + repeat.length])


def _counts(words: list[str]) -> bool:
    """Say whether a logical line is a statement that means something when repeated: no import, no docstring."""
    if not words or words[0] in {"import", "from"}:
        return False
    return len(words) > 1 or words[0][-1] not in "\"'"


def _finding(index: Index, repeat: Repeat) -> Finding:
    path, tokens = index.path_at(repeat.at), _tokens(index, repeat)
    end, earlier_end = repeat.at + repeat.length - 1, repeat.earlier + repeat.length - 1
    where = f"`{index.path_at(repeat.earlier)}:{index.first[repeat.earlier]}-{index.last[earlier_end]}`"
    first, last = index.first[repeat.at], index.last[end]
    return Finding(
        path=path,
        line=first,
        rule="duplicate-code",
        severity="warning" if tokens >= LARGE_TOKENS and not source.is_test(path) else "info",
        message=f"lines {first}-{last} repeat {where} ({repeat.length} statements, {tokens} tokens)",
    )

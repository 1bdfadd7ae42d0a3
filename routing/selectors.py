"""Which labels does somebody ask for, and which tasks does a rule speak of?  Pure.

A selector is written as in Kubernetes, joined by commas, all of which must hold::

    gpu=yes   gpu!=no   region in (eu, us)   region notin (eu)   region in eu   gpu   !gpu

``!=`` and ``notin`` also hold where there is no such label. A label or value with other characters than letters, digits
and ``._/:@+-`` stands in double quotes, with ``\\"`` and ``\\\\`` inside.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from routing.events import Labels

MAX_TEXT = 2_000  # characters of one selector
_TOKEN = re.compile(r'\s*(?:(!=|==|[!=(),])|([\w./:@+-]+)|"((?:[^"\\]|\\["\\])*)")')
_PLAIN = re.compile(r"[\w./:@+-]+")

Operator = Literal["in", "notin", "exists", "absent"]
_LISTED: tuple[Operator, ...] = ("in", "notin")


class SelectorError(ValueError):
    """The text is no selector. ``column`` counts characters from 1; ``expected`` says what should stand there."""

    def __init__(self, *, column: int, expected: str, found: str) -> None:
        super().__init__(f"column {column}: expected {expected}, found {found}")
        self.column = column
        self.expected = expected


@dataclass(frozen=True, slots=True)
class Requirement:
    """What one label must be like. ``values`` are sorted and there is at least one for ``in`` and ``notin``."""

    label: str
    operator: Operator
    values: tuple[str, ...] = ()

    def is_met(self, labels: Mapping[str, str]) -> bool:
        """Return whether the labels satisfy it."""
        held = labels.get(self.label)
        if self.operator == "in":
            return held in self.values
        if self.operator == "notin":
            return held not in self.values
        return (held is not None) == (self.operator == "exists")

    def __str__(self) -> str:
        label = _quoted(self.label)
        if self.operator == "exists":
            return label
        if self.operator == "absent":
            return f"!{label}"
        values = [_quoted(value) for value in self.values]
        if len(values) == 1:
            return f"{label}{'=' if self.operator == 'in' else '!='}{values[0]}"
        return f"{label} {self.operator} ({', '.join(values)})"


@dataclass(frozen=True, slots=True)
class Selector:
    """Requirements that must all be met; none at all are met by everything. As text it parses to itself."""

    requirements: tuple[Requirement, ...] = ()

    @classmethod
    def of(cls, labels: Labels) -> Selector:
        """Return the selector that asks for exactly these values."""
        return cls(tuple(Requirement(label, "in", (value,)) for label, value in labels))

    def matches(self, labels: Mapping[str, str] | Labels) -> bool:
        """Return whether the labels meet all requirements."""
        return self._unmet(labels) is None

    def missing(self, labels: Mapping[str, str] | Labels) -> str | None:
        """Return the first requirement that the labels do not meet, as "region in (eu, us)", or None."""
        unmet = self._unmet(labels)
        return None if unmet is None else str(unmet)

    def _unmet(self, labels: Mapping[str, str] | Labels) -> Requirement | None:
        if not self.requirements:
            return None
        held = labels if isinstance(labels, Mapping) else dict(labels)
        return next((r for r in self.requirements if not r.is_met(held)), None)

    def contradiction(self) -> str | None:
        """Return the label whose requirements no value can meet together, or None."""
        labels = dict.fromkeys(r.label for r in self.requirements)
        return next((label for label in labels if not self._can_be_met(label)), None)

    def _can_be_met(self, label: str) -> bool:
        """Return whether some value of the label, or its absence, meets everything that is required of it."""
        wanted = [r for r in self.requirements if r.label == label]
        named = {value for r in wanted for value in r.values}
        worlds: list[dict[str, str]] = [{}, {label: _unlike(named)}, *({label: value} for value in named)]
        return any(all(r.is_met(world) for r in wanted) for world in worlds)

    def __str__(self) -> str:
        return ", ".join(map(str, self.requirements))


def parse(text: str) -> Selector:
    """Return the selector that the text describes; "" asks for nothing. Raises ``SelectorError``."""
    if len(text) > MAX_TEXT:
        raise SelectorError(column=MAX_TEXT + 1, expected="the end", found="more text")
    return _Parser(text).selector()


class _Token(NamedTuple):
    kind: Literal["sign", "word", "quoted", "end"]
    text: str
    column: int

    @property
    def is_name(self) -> bool:
        return self.kind in ("word", "quoted") and self.text != ""

    def __str__(self) -> str:
        return "the end" if self.kind == "end" else repr(self.text)


class _Parser:
    """Reads requirements from left to right, one token ahead."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._next = self._read()

    def selector(self) -> Selector:
        if self._is_at_end():
            return Selector()
        requirements = [self._requirement()]
        while not self._is_at_end():
            self._take(",", expected="a comma or the end")
            requirements.append(self._requirement())
        return Selector(tuple(dict.fromkeys(requirements)))

    def _requirement(self) -> Requirement:
        if self._is_sign("!"):
            self._advance()
            return Requirement(self._name("a label after !"), "absent")
        label = self._name("a label")
        if self._is_sign("=", "==", "!="):
            sign = self._advance().text
            return Requirement(label, "notin" if sign == "!=" else "in", (self._name(f"a value after {sign}"),))
        for operator in _LISTED:
            if self._next.kind == "word" and self._next.text == operator:
                self._advance()
                return Requirement(label, operator, self._values())
        if self._is_at_end() or self._is_sign(","):
            return Requirement(label, "exists")
        raise self._error("=, !=, in, notin, a comma or the end")

    def _values(self) -> tuple[str, ...]:
        if not self._is_sign("("):
            return (self._name("a value or a list such as (eu, us)"),)
        self._advance()
        values = {self._name("a value")}
        while not self._is_sign(")"):
            self._take(",", expected="a comma or )")
            values.add(self._name("a value"))
        self._advance()
        return tuple(sorted(values))

    def _name(self, expected: str) -> str:
        if not self._next.is_name:
            raise self._error(expected)
        return self._advance().text

    def _take(self, sign: str, *, expected: str) -> None:
        if not self._is_sign(sign):
            raise self._error(expected)
        self._advance()

    def _is_at_end(self) -> bool:
        return self._next.kind == "end"

    def _is_sign(self, *signs: str) -> bool:
        return self._next.kind == "sign" and self._next.text in signs

    def _advance(self) -> _Token:
        token, self._next = self._next, self._read()
        return token

    def _read(self) -> _Token:
        found = _TOKEN.match(self._text, self._at)
        if found is None:
            rest = self._text[self._at :].lstrip()
            column = len(self._text) - len(rest) + 1
            if rest:
                expected = "a closing quote" if rest[0] == '"' else "a label, a value or a sign"
                raise SelectorError(column=column, expected=expected, found=repr(rest[:20]))
            return _Token("end", "", column)
        self._at = found.end()
        sign, word, quoted = found.groups()
        column = found.start(found.lastindex or 0) + 1
        if sign is not None:
            return _Token("sign", sign, column)
        if word is not None:
            return _Token("word", word, column)
        return _Token("quoted", re.sub(r"\\(.)", r"\1", quoted), column - 1)

    def _error(self, expected: str) -> SelectorError:
        return SelectorError(column=self._next.column, expected=expected, found=str(self._next))


def _quoted(text: str) -> str:
    """Return the label or value as a selector writes it."""
    if _PLAIN.fullmatch(text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _unlike(texts: Iterable[str]) -> str:
    """Return a text that is none of these."""
    return "x" + max(texts, key=len, default="")

"""Templates: where values of a run come from, ``{{ steps.research.output.links[0] }}``.  Pure.

A template begins with one of the ``ROOTS``; then names follow after dots, places in brackets, and names with other
characters in brackets and quotes: ``{{ steps["load 2"].output.rows[0] }}``. ``{{ "{{" }}`` stands for two braces. There
are no functions and no attributes, only members of JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from coordination.problems import Path, listed

ROOTS = ("steps", "run", "item")
STEP_PARTS = ("output", "state", "error")  # what a template sees of a step
RUN_PARTS = ("input", "id", "context", "due")  # and of the run
MAX_CHARS = 500  # of one template
MAX_FILLED = 4_000_000  # characters that the templates of one text may give
OPEN = "{{"

_TEMPLATE = re.compile(r"\{\{((?:[^{}\"]|\"(?:[^\"\\]|\\.)*\"|\}(?!\}))*)\}\}")
_PART = re.compile(r"\.([^\W\d][\w-]*)|\[(-?\d{1,6})\]|\[(\"(?:[^\"\\]|\\.)*\")\]")
_ROOT = re.compile(r"[a-z]+")


class BadTemplate(ValueError):
    """The text is no template; the message says why."""


class MissingPath(LookupError):
    """A template points to something that is not there; the message names the path and what there is."""

    def __init__(self, path: Path, at: int, found: Any) -> None:
        self.path = path
        super().__init__(f"{written(path)}: {_absence(path[at], found)}")


@dataclass(frozen=True, slots=True)
class Reference:
    """What one template points to: ``path`` begins with a root, and then has names and places."""

    path: Path

    @property
    def step(self) -> str | None:
        """Return the step it speaks of, or None."""
        return str(self.path[1]) if self.path[0] == "steps" and len(self.path) > 1 else None

    def __str__(self) -> str:
        return written(self.path)


Piece = str | Reference  # of a text: as it stands, or to be filled in


def fill(value: Any, scope: Mapping[str, Any]) -> Any:
    """Return the JSON value with its templates filled in from ``scope``, which holds the roots.

    A text that is exactly one template becomes the value it points to, of whatever type; within other text, a value
    stands as text, and everything but text as JSON. Raises ``MissingPath`` or ``BadTemplate``.
    """
    if isinstance(value, str):
        return _filled(value, scope) if OPEN in value else value
    if isinstance(value, Mapping):
        return {key: fill(inner, scope) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [fill(inner, scope) for inner in value]
    return value


def references(value: Any) -> list[Reference]:
    """Return what the templates of the JSON value point to, each once, in order. Raises ``BadTemplate``."""
    return list(dict.fromkeys(reference for _, reference in located(value)))


def located(value: Any, path: Path = ()) -> Iterator[tuple[Path, Reference]]:
    """Yield every reference with the path of the text that it stands in, below ``path``. Raises ``BadTemplate``."""
    for at, text in texts(value, path):
        yield from ((at, piece) for piece in pieces(text) if isinstance(piece, Reference))


def texts(value: Any, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Yield the texts of the JSON value that hold templates, with their paths below ``path``."""
    if isinstance(value, str):
        if OPEN in value:
            yield path, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from texts(inner, (*path, key))
    elif isinstance(value, list | tuple):
        for place, inner in enumerate(value):
            yield from texts(inner, (*path, place))


def only_template(text: str) -> Reference | None:
    """Return the reference if the text is exactly one template, else None. Raises ``BadTemplate``."""
    found = pieces(text)
    return found[0] if len(found) == 1 and isinstance(found[0], Reference) else None


@lru_cache(maxsize=20_000)
def pieces(text: str) -> tuple[Piece, ...]:
    """Return the text cut into what stands as it is and what is filled in. Raises ``BadTemplate``."""
    cut: list[Piece] = []
    at = 0
    for found in _TEMPLATE.finditer(text):
        cut += [_plain(text[at : found.start()]), _parsed(found[1])]
        at = found.end()
    cut.append(_plain(text[at:]))
    return tuple(piece for piece in cut if piece != "")


def literal(value: Any) -> Any:
    """Return the JSON value so that ``fill`` gives it back as it is, whatever braces its texts hold."""
    if isinstance(value, str):
        return value.replace(OPEN, '{{ "{{" }}')
    if isinstance(value, Mapping):
        return {key: literal(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [literal(inner) for inner in value]
    return value


def written(path: Path) -> str:
    """Return a path as a template writes it."""
    text = str(path[0])
    for part in path[1:]:
        if isinstance(part, int):
            text += f"[{part}]"
        elif re.fullmatch(r"[^\W\d][\w-]*", part):
            text += f".{part}"
        else:
            text += f"[{json.dumps(part, ensure_ascii=False)}]"
    return text


def template(path: Path) -> str:
    """Return the template that points to the path."""
    return f"{{{{ {written(path)} }}}}"


def look_up(path: Path, scope: Mapping[str, Any]) -> Any:
    """Return what the path leads to. Raises ``MissingPath``."""
    here: Any = scope
    for at, part in enumerate(path):
        if not _has(here, part):
            raise MissingPath(path, at, here)
        here = here[part]
    return here


def _has(value: Any, part: str | int) -> bool:
    if isinstance(part, str):
        return isinstance(value, Mapping) and part in value
    return isinstance(value, list | tuple) and -len(value) <= part < len(value)


def _filled(text: str, scope: Mapping[str, Any]) -> Any:
    cut = pieces(text)
    if len(cut) == 1 and isinstance(cut[0], Reference):
        return look_up(cut[0].path, scope)
    made = [piece if isinstance(piece, str) else _as_text(look_up(piece.path, scope)) for piece in cut]
    if sum(map(len, made)) > MAX_FILLED:
        raise BadTemplate(f"The text would have more than {MAX_FILLED:,} characters.")
    return "".join(made)


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _plain(text: str) -> str:
    if OPEN in text:
        start = text.index(OPEN)
        raise BadTemplate(f"{text[start : start + 40]!r} is no template: it begins with {{{{ and has no end.")
    return text


def _parsed(inside: str) -> Piece:
    body = inside.strip()
    if len(body) > MAX_CHARS:
        raise BadTemplate(f"A template has at most {MAX_CHARS} characters.")
    if body.startswith('"'):
        return _unquoted(body)
    root = _ROOT.match(body)
    if root is None or root[0] not in ROOTS:
        raise BadTemplate(f"'{{{{ {body} }}}}' is no template: it begins with steps, run or item.")
    return Reference((root[0], *_parts(body, root.end())))


def _parts(body: str, at: int) -> Iterator[str | int]:
    while at < len(body):
        found = _PART.match(body, at)
        if found is None:
            raise BadTemplate(
                f"'{{{{ {body} }}}}' is no template: after {body[:at]!r} there can be .name, [0] or [\"a name\"]."
            )
        name, place, quoted = found.groups()
        yield name or (int(place) if place else _unquoted(quoted))
        at = found.end()


def _unquoted(text: str) -> str:
    try:
        value = json.loads(text)
    except ValueError:
        raise BadTemplate(f"{text} is no text in double quotes.") from None
    return str(value)


def _absence(part: str | int, found: Any) -> str:
    """Return in words why there is no ``part`` in what was found."""
    if isinstance(part, int):
        if isinstance(found, Sequence) and not isinstance(found, str):
            return f"there is no place {part}; the list has {len(found)} items"
        return f"there is no place {part}; it is {_kind(found)}, not a list"
    if isinstance(found, Mapping):
        return (
            f"there is no '{part}'; there are {listed(map(str, found))}"
            if found
            else f"there is no '{part}'; it is empty"
        )
    return f"there is no '{part}'; it is {_kind(found)}, not an object"


def _kind(value: Any) -> str:
    """Return the JSON type of the value with its article."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    names = {str: "text", int: "a number", float: "a number", list: "a list", tuple: "a list", dict: "an object"}
    return names.get(type(value), f"a {type(value).__name__}")

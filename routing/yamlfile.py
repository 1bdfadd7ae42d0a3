"""YAML with the line of every value, read as people mean it.  Pure.

Of YAML 1.1's surprises none is left: ``yes`` and ``on`` are text, so are ``1:30``, ``010`` and dates, and a key that
stands twice is an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

MAX_CHARS = 5_000_000
MAX_VALUES = 200_000  # what aliases may unfold to
MAX_DEPTH = 64

Path = tuple[str | int, ...]
_PREFIX = "tag:yaml.org,2002:"
_WORDS: tuple[tuple[str, str, str], ...] = (  # tag, what it looks like, how it may begin
    ("null", r"~|null|Null|NULL|", "~nN"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
)
_TAGS = frozenset(_PREFIX + name for name in ("str", "null", "bool", "int", "float"))


class BadYaml(ValueError):
    """The text cannot be read; ``line`` and ``column`` count from 1."""

    def __init__(self, line: int, why: str, column: int = 1) -> None:
        super().__init__(why)
        self.line = line
        self.column = column


@dataclass(frozen=True, slots=True)
class Document:
    """What a file says, and where."""

    value: Any  # dicts with text as keys, lists, text, numbers, True, False, None
    lines: Mapping[Path, int]
    columns: Mapping[Path, int]  # from 1, of the same places

    def line(self, path: Path) -> int:
        """Return the line of the value at the path, or of the nearest one around it."""
        while path not in self.lines and path:
            path = path[:-1]
        return self.lines.get(path, 1)

    def column(self, path: Path) -> int:
        """Return the column of the value at the path, or of the nearest one around it."""
        while path not in self.columns and path:
            path = path[:-1]
        return self.columns.get(path, 1)


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}


class _Dumper(yaml.SafeDumper):
    """Puts into quotes what this reader or any other would take for something else than text."""

    yaml_implicit_resolvers = {first: list(found) for first, found in yaml.SafeDumper.yaml_implicit_resolvers.items()}

    def ignore_aliases(self, data: Any) -> bool:
        """Return True: everything stands where it belongs."""
        return True


for _tag, _look, _first in _WORDS:
    for _class in (_Loader, _Dumper):
        _starts = [*_first, ""] if _tag == "null" else [*_first]  # "" stands for empty text
        _class.add_implicit_resolver(_PREFIX + _tag, re.compile(rf"(?:{_look})\Z"), _starts)


def read(text: str) -> Document:
    """Return the one document in the text; empty text is None. Raises ``BadYaml``."""
    if len(text) > MAX_CHARS:
        raise BadYaml(1, f"The file has more than {MAX_CHARS:,} characters.")
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        reader = _Reader(loader)
        return Document(None if node is None else reader.value(node, (), 0), reader.lines, reader.columns)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        why = ", ".join(words for words in (error.context, error.problem) if words)
        raise BadYaml(mark.line + 1 if mark else 1, f"{why}.", mark.column + 1 if mark else 1) from None
    except yaml.YAMLError as error:
        raise BadYaml(1, f"It cannot be read: {error}.") from None
    except RecursionError:
        raise BadYaml(1, "It is nested too deep.") from None


def write(value: Any) -> str:
    """Return the value as YAML that ``read`` reads back."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
    return text


class _Reader:
    """Walks the nodes and notes their lines."""

    def __init__(self, loader: _Loader) -> None:
        self.lines: dict[Path, int] = {}
        self.columns: dict[Path, int] = {}
        self._loader = loader
        self._seen = 0

    def value(self, node: yaml.Node, path: Path, depth: int) -> Any:
        self.lines.setdefault(path, node.start_mark.line + 1)
        self.columns.setdefault(path, node.start_mark.column + 1)
        self._seen += 1
        if depth > MAX_DEPTH or self._seen > MAX_VALUES:
            raise _at(node, "It is nested too deep, or unfolds to too much.")
        if isinstance(node, yaml.MappingNode) and node.tag == f"{_PREFIX}map":
            return self._mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{_PREFIX}seq":
            return [self.value(item, (*path, place), depth + 1) for place, item in enumerate(node.value)]
        if not isinstance(node, yaml.ScalarNode) or node.tag not in _TAGS:
            raise _at(node, f"The tag {node.tag.removeprefix(_PREFIX)!r} is not understood; leave it out.")
        return self._loader.construct_object(node)

    def _mapping(self, node: yaml.MappingNode, path: Path, depth: int) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for key_node, item in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise _at(key_node, "A key is text.")
            key = str(key_node.value)
            if key in made:
                raise _at(key_node, f"The key {key!r} stands twice.")
            self.lines[(*path, key)] = key_node.start_mark.line + 1
            self.columns[(*path, key)] = key_node.start_mark.column + 1
            made[key] = self.value(item, (*path, key), depth + 1)
        return made


def _at(node: yaml.Node, why: str) -> BadYaml:
    return BadYaml(node.start_mark.line + 1, why, node.start_mark.column + 1)

"""A workflow as text, YAML or JSON, and back.  Pure.

``read`` refuses with the line and column of everything that is wrong with the shape of the text; whether the workflow
could run, with the skills there are, is what ``validation`` says.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from coordination import reading, writing
from coordination.graph import Graph
from coordination.problems import BadDefinition, Path, Problem
from routing import payloads, yamlfile
from routing.errors import RoutingError

MAX_CHARS = 2_000_000

__all__ = ["BadDefinition", "Problem", "Source", "as_json", "checksum", "from_json", "read", "source", "write"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A text that could be read, and where in it everything stands."""

    graph: Graph
    document: yamlfile.Document

    def located(self, problem: Problem) -> Problem:
        """Return the problem with line and column of its path, or of the nearest thing around it."""
        return _located(problem, self.document)


def read(text: str) -> Graph:
    """Return the graph that the YAML or JSON describes. Raises ``BadDefinition`` with every problem of its shape."""
    return source(text).graph


def source(text: str) -> Source:
    """Return the graph of the text, and where its parts stand. Raises ``BadDefinition``."""
    document = _document(text)
    problems = [_located(problem, document) for problem in reading.shape_problems(document.value)]
    if problems:
        raise BadDefinition(problems)
    return Source(graph=reading.graph(document.value, document.lines), document=document)


def write(graph: Graph) -> str:
    """Return the graph as YAML that reads back to an equal graph."""
    return yamlfile.write(writing.document(graph))


def as_json(graph: Graph) -> dict[str, Any]:
    """Return the graph as JSON with nothing left to be inferred: what a run pins."""
    return writing.document(graph, is_brief=False)


def from_json(value: Mapping[str, Any]) -> Graph:
    """Return the graph of what ``as_json`` returned, or of a JSON definition. Raises ``BadDefinition``."""
    problems = list(reading.shape_problems(value))
    if problems:
        raise BadDefinition(problems)
    return reading.graph(value)


def checksum(graph: Graph) -> str:
    """Return the SHA-256 of what the graph says, in hex: the same however its text was laid out."""
    said = as_json(graph)
    said["steps"] = list(said["steps"].items())  # their order is part of it, that of other keys is not
    compact = json.dumps(said, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(compact.encode()).hexdigest()


def _document(text: str) -> yamlfile.Document:
    if len(text) > MAX_CHARS:
        words = f"The text has {len(text):,} characters; at most {MAX_CHARS:,} are read."
        raise BadDefinition([Problem(line=1, column=1, words=words)])
    try:
        document = _json(text) if text.lstrip().startswith("{") else yamlfile.read(text)
        payloads.check(document.value, max_bytes=4 * MAX_CHARS)
    except yamlfile.BadYaml as error:
        raise BadDefinition([_unreadable(error, text)]) from None
    except RoutingError as error:
        raise BadDefinition([Problem(line=1, column=1, words=str(error))]) from None
    return document


def _json(text: str) -> yamlfile.Document:
    """Return the document of a JSON text, or of YAML that begins with a brace."""
    try:
        value = payloads.loads(text, max_bytes=4 * MAX_CHARS)
    except RoutingError:
        return yamlfile.read(text)
    # As YAML it has lines, too. A raw tab never stands within JSON's strings, and YAML does not like them.
    return replace(yamlfile.read(text.replace("\t", " ")), value=value)


def _unreadable(error: yamlfile.BadYaml, text: str) -> Problem:
    words = str(error)[:1].upper() + str(error)[1:]
    lines = text.splitlines()
    if error.line <= len(lines) and "{{" in lines[error.line - 1]:
        words += ' A value that begins with a template stands in quotes: "{{ steps.research.output }}".'
    return Problem(line=error.line, column=error.column, words=words)


def _located(problem: Problem, document: yamlfile.Document) -> Problem:
    path: Path = problem.path
    return replace(problem, line=document.line(path), column=document.column(path))

"""Does the data fit: what steps look at against what skills give, what they ask against what skills take?  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from coordination import shapes, templates
from coordination.graph import Ask, Form, Graph, Step
from coordination.problems import Path, Problem
from coordination.templates import OPEN, BadTemplate, Reference
from routing.payloads import Misfit, misfits

Schema = Mapping[str, Any]
_NOT_BELOW = frozenset(("anyOf", "oneOf", "allOf", "not", "if", "$ref", "$dynamicRef", "contains", "uniqueItems"))
YES_OR_NO: Schema = {"type": "boolean"}
ANSWERED: Schema = {  # what an approval comes to; the form's schema is that of the answer
    "type": "object",
    "properties": {"approved": {"type": "boolean"}, "answer": {}, "by": {"type": "string"}},
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SkillShape:
    """One version of a skill, as far as its data goes."""

    version: str = "1"
    input_schema: Schema = field(default_factory=dict)
    output_schema: Schema = field(default_factory=dict)


Skills = Mapping[str, tuple[SkillShape, ...]]


def unknown_skill(skills: Skills, name: str, version: str, path: Path) -> Iterator[Problem]:
    """Yield that there is no such skill, or no such version of it."""
    if name not in skills:
        yield Problem(words=f"There is no skill '{name}'{near(name, skills)}.", path=path)
    elif version and OPEN not in version and not any(shape.version == version for shape in skills[name]):
        known = ", ".join(shape.version for shape in skills[name])
        words = f"Skill '{name}' has no version {version}; there are {known}."
        yield Problem(words=words, path=(*path[:-1], "version"))


def near(name: str, known: Iterable[str]) -> str:
    """Return "; perhaps 'x' is meant" if something known is called almost so, else ""."""
    found = get_close_matches(name, list(known)[:1_000], n=1)
    return f"; perhaps '{found[0]}' is meant" if found else ""


class Types:
    """What is known of the data that flows between a workflow's steps."""

    def __init__(self, graph: Graph, skills: Skills) -> None:
        self._steps = {step.name: step for step in graph.steps}
        self._input = graph.input_schema
        self._skills = skills

    def absence(self, reference: Reference) -> str | None:
        """Return in words why nothing can ever stand where the reference leads, or None."""
        known = self._schema(reference)
        why = shapes.absence(*known) if known else None
        return f"{reference}: {why}." if why else None

    def problems(self, step: Step) -> Iterator[Problem]:
        """Yield where the step's data clashes with what it is given to, or is taken from."""
        if step.over and isinstance(step.over.items, str):
            yield from self._list_problems(step.over.items)
        for path, ask in (((), step.ask), (("undo",), step.undo)):
            shape = self._shape(ask) if ask else None
            if ask and shape and shape.input_schema and ask.input is not None:
                found = self._input_problems(ask, shape.input_schema)
                yield from (Problem(words=words, path=(*path, "input", *at)) for at, words in found)

    def _list_problems(self, items: str) -> Iterator[Problem]:
        kinds = self._types(items)
        if not kinds & {"array", "object"}:
            words = f"A map goes over a list or an object; this is {shapes.in_words(kinds)}."
            yield Problem(words=words, path=("map",))

    def _input_problems(self, ask: Ask, schema: Schema) -> Iterator[tuple[Path, str]]:
        """Yield what is wrong with the input whatever its templates will give."""
        filled = dict(templates.texts(ask.input))
        for misfit in misfits(schema, ask.input):
            if not _depends(misfit, filled):
                yield misfit.path, f"Skill '{ask.skill}' would refuse it: {misfit.words}."
        for path, text in filled.items():
            given, taken = self._types(text), shapes.types(schema, path)
            if not given & taken:
                words = f"Skill '{ask.skill}' wants {shapes.in_words(taken)} here"
                yield path, f"{words}, and '{text}' is {shapes.in_words(given)}."

    def _types(self, text: str) -> frozenset[str]:
        """Return the types that a text with templates can have once it is filled in."""
        try:
            reference = templates.only_template(text)
        except BadTemplate:
            return shapes.TYPES
        if reference is None:
            return frozenset(("string",))
        known = self._schema(reference)
        return shapes.types(*known) if known else shapes.TYPES

    def _schema(self, reference: Reference) -> tuple[Schema, Path] | None:
        """Return the schema of what the reference leads into, and the way within; None if it is not known."""
        match reference.path:
            case ("run", "input", *way):
                return self._input, tuple(way)
            case ("steps", str(name), "output", *way) if name in self._steps:
                step = self._steps[name]
                if step.form is not None:
                    return _of_answer(step.form, tuple(way))
                shape = self._shape(step.ask) if step.ask and step.kind == "task" else None
                return (shape.output_schema, tuple(way)) if shape else None
            case _:
                return None

    def _shape(self, ask: Ask) -> SkillShape | None:
        """Return the version of the skill that is asked for; None if it is not known, or another may answer."""
        if ask.call is not None or ask.fallback:
            return None
        shapes_known = self._skills.get(ask.skill, ())
        return next((shape for shape in shapes_known if ask.version in ("", shape.version)), None)


def _of_answer(form: Form, way: Path) -> tuple[Schema, Path]:
    """Return the schema of what an approval comes to, and the way within."""
    if way[:1] != ("answer",):
        return ANSWERED, way
    schema = form.schema or YES_OR_NO
    if form.schema and form.on_expiry in ("approve", "reject"):  # nobody filled the form in
        named = {keyword: form.schema[keyword] for keyword in ("$defs", "definitions") if keyword in form.schema}
        schema = {**named, "anyOf": [form.schema, YES_OR_NO]}
    return schema, way[1:]


def _depends(misfit: Misfit, filled: Iterable[Path]) -> bool:
    """Return whether the misfit may vanish once the templates at these paths are filled in."""
    if misfit.keyword == "additionalProperties":  # its path is that of the key, which stays
        return False
    depth = len(misfit.path)
    within = [path for path in filled if path[:depth] == misfit.path]
    return any(len(path) == depth or misfit.keyword in _NOT_BELOW for path in within)

"""How two versions of a workflow differ, in words.  Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from coordination import writing
from coordination.graph import Graph

Mark = Literal["added", "removed", "changed"]
MAX_CHARS = 60  # of a value within a sentence
_MISSING = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One difference. ``step`` is "" for the workflow itself."""

    step: str
    mark: Mark
    words: str


def difference(old: Graph, new: Graph) -> list[Change]:
    """Return what changed from the old to the new: the workflow itself first, then step by step as the new has them."""
    before, after = writing.document(old, is_brief=False), writing.document(new, is_brief=False)
    earlier, later = before.pop("steps"), after.pop("steps")
    return [
        *(Change(step="", mark="changed", words=words) for words in _changes(before, after, "")),
        *_of_steps(earlier, later),
        *_moved(list(earlier), list(later)),
    ]


def marks(changes: list[Change]) -> dict[str, str]:
    """Return a word for each step that changed: the states with which ``drawing.svg`` marks them."""
    return {change.step: change.mark for change in changes if change.step}


def _of_steps(earlier: Mapping[str, Any], later: Mapping[str, Any]) -> Iterator[Change]:
    for name, step in later.items():
        if name not in earlier:
            yield Change(step=name, mark="added", words=f"Step '{name}' is new.")
        else:
            found = _changes(earlier[name], step, f"'{name}' ")
            yield from (Change(step=name, mark="changed", words=words) for words in found)
    for name in earlier:
        if name not in later:
            yield Change(step=name, mark="removed", words=f"Step '{name}' is gone.")


def _moved(earlier: list[str], later: list[str]) -> Iterator[Change]:
    kept = [name for name in later if name in set(earlier)]
    if kept != [name for name in earlier if name in set(later)]:
        yield Change(step="", mark="changed", words="The steps are written in another order.")


def _changes(old: Any, new: Any, at: str) -> Iterator[str]:
    """Yield a sentence per member that differs, as deep as both are objects."""
    for key in {**old, **new}:
        before, after = old.get(key, _MISSING), new.get(key, _MISSING)
        where = f"{at}{key}"
        if before == after and type(before) is type(after):
            continue
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from _changes(before, after, f"{where}.")
        elif before is _MISSING:
            yield f"{where} is now {_brief(after)}."
        elif after is _MISSING:
            yield f"{where} was {_brief(before)} and is no longer given."
        else:
            yield f"{where}: {_brief(before)} → {_brief(after)}."


def _brief(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_CHARS else f"{text[: MAX_CHARS - 1]}…"

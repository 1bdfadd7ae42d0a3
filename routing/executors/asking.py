"""How an agent asks, and gets the answer when its task goes on.  Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from routing.executors.contract import NeedsInput


class Asks:
    """The part of a context that asks. Questions are told apart by their order: an agent asks the same ones again."""

    _asked = 0

    @property
    def answers(self) -> Sequence[Any]:
        """Return what was said to the task since it was submitted, in order."""
        raise NotImplementedError

    def ask(self, question: str, schema: Mapping[str, Any] | None = None) -> Any:
        """Return the answer to a question. Raises ``NeedsInput`` where there is none yet."""
        number, self._asked = self._asked, self._asked + 1
        answers = self.answers
        if number < len(answers):
            return answers[number]
        raise NeedsInput(question, detail={"schema": dict(schema)} if schema else None)

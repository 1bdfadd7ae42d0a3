"""Agents that ask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from routing.executors import Context, NeedsInput, get, handler
from routing.executors.recording import Recording
from tests.routing.running import job


@handler("asks-twice")
def asks_twice(input: Any, ctx: Context) -> Any:
    """Ask for two cities."""
    return [input, ctx.ask("From where?"), ctx.ask("Where to?", {"type": "string"})]


@handler("asks-twice-apart", isolated=True)
def asks_twice_apart(input: Any, ctx: Context) -> Any:
    """Do the same in a process of its own."""
    return asks_twice(input, ctx)


class TestAsk:
    def test_ends_the_attempt_with_the_question(self) -> None:
        with pytest.raises(NeedsInput, match=r"Where to\?") as caught:
            asks_twice(1, Recording(answers=["Rome"]))

        assert caught.value.error["kind"] == "input_required"
        assert caught.value.error["detail"] == {"schema": {"type": "string"}}

    @pytest.mark.parametrize("name", ["asks-twice", "asks-twice-apart"])
    def test_gives_the_answers_in_their_order(self, name: str, tmp_path: Path) -> None:
        context = Recording(1, answers=["Rome", "Oslo"])

        assert get("python").run(job(tmp_path, agent=name, input=1), context) == [1, "Rome", "Oslo"]

    @pytest.mark.parametrize("name", ["asks-twice", "asks-twice-apart"])
    def test_passes_the_question_on(self, name: str, tmp_path: Path) -> None:
        with pytest.raises(NeedsInput, match=r"From where\?"):
            get("python").run(job(tmp_path, agent=name, input=1), Recording(1))

"""a2a_client.working"""

from __future__ import annotations

from typing import Any

import pytest

from a2a_client.pull_calls import Claim
from a2a_client.working import Context, by_skill, handler


class Desk:
    """Takes what a context says."""

    agent = "tester"

    def __init__(self) -> None:
        self.said: list[Any] = []

    def note(self, key: Any, note: Any) -> None:
        self.said.append(note)

    def keep(self, key: Any, name: str, data: bytes, media_type: str) -> Any:
        raise NotImplementedError

    def call(self, work: Any) -> Any:
        raise NotImplementedError


@pytest.fixture
def context() -> Context:
    claim = Claim(task="t", attempt=1, skill="say", timeout_s=1.0, idempotency_key="k")
    return Context(claim, Desk())


class TestStop:
    def test_calls_all_callbacks_once_though_one_of_them_fails(
        self, context: Context, caplog: pytest.LogCaptureFixture
    ) -> None:
        called: list[str] = []

        def fail() -> None:
            raise OSError("no such program")

        context.on_cancel(fail)
        context.on_cancel(lambda: called.append("before"))
        context.stop("canceled")
        context.stop("stale")
        context.on_cancel(lambda: called.append("after"))

        assert (called, context.stop_reason) == (["before", "after"], "canceled")
        assert "no such program" in caplog.text


class TestBySkill:
    def test_refuses_none_and_two_for_one_skill(self) -> None:
        twice = handler("say")(len)

        with pytest.raises(ValueError, match="one for each skill"):
            by_skill([])
        with pytest.raises(ValueError, match="one for each skill"):
            by_skill([twice, twice])

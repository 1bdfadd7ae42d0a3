"""What a caller may ask for, and what makes two requests the same work."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.utils import timezone

from routing import errors
from routing.request import Request, Throttle, check_form, digest_of, requirement

SOON = timezone.now() + timedelta(hours=1)


def request(**changes: Any) -> Request:
    """Return an acceptable request."""
    return replace(Request(skill="echo", input={"text": "hi"}), **changes)


class TestCheckForm:
    def test_returns_the_bytes_of_the_input(self) -> None:
        assert check_form(request(input={"a": "ä"})) == len('{"a":"ä"}'.encode())

    def test_accepts_all_that_can_be_asked_for(self) -> None:
        check_form(
            request(
                size=0,
                concurrency_key="repo-1",
                affinity="repo-1",
                singleton="nightly",
                debounce_s=5,
                debounce_key="k",
                throttle=Throttle(limit=2, period_s=0.5),
                budget={"usd": 0.5, "attempts": 2},
            )
        )

    @pytest.mark.parametrize(
        ("changes", "pointer", "words"),
        [
            ({"size": -1}, "/size", "0 or more"),
            ({"size": float("nan")}, "/size", "0 or more"),
            ({"size": "big"}, "/size", "0 or more"),
            ({"concurrency_key": "x" * 201}, "/concurrency_key", "1 to 200 characters"),
            ({"affinity": 5}, "/affinity", "1 to 200 characters"),
            ({"singleton": ""}, "/singleton", "1 to 200 characters"),
            ({"singleton": "a\0"}, "/singleton", "NUL"),
            ({"debounce_s": 5}, "/debounce_key", "together"),
            ({"debounce_key": "k"}, "/debounce_s", "together"),
            ({"debounce_s": 0, "debounce_key": "k"}, "/debounce_s", "above 0"),
            ({"debounce_s": 1e9, "debounce_key": "k"}, "/debounce_s", "at most a day"),
            ({"throttle": Throttle(limit=0, period_s=1)}, "/throttle/limit", "1 or more"),
            ({"throttle": Throttle(limit=1, period_s=0)}, "/throttle/period_s", "above 0"),
            ({"throttle": Throttle(limit=1, period_s=1e9)}, "/throttle", "at most 31 days"),
            ({"throttle": Throttle(limit=1, period_s=1, key="x" * 201)}, "/throttle/key", "at most 200"),
            ({"budget": {"gold": 1}}, "/budget", "Known: usd, tokens, wall_s, attempts"),
            ({"budget": {"usd": -1}}, "/budget/usd", "above 0"),
            ({"budget": {"usd": float("inf")}}, "/budget/usd", "above 0"),
        ],
    )
    def test_refuses_in_words_at_its_place(self, changes: dict[str, Any], pointer: str, words: str) -> None:
        with pytest.raises(errors.RoutingError) as caught:
            check_form(request(**changes))

        assert words in str(caught.value)
        assert caught.value.pointer == pointer


class TestDigest:
    @pytest.mark.parametrize(
        "changes",
        [
            {"input": {"text": "other"}},
            {"priority": 6},
            {"labels": {"a": "b"}},
            {"agent": "echo-1"},
            {"exclude": ["x"]},
            {"deadline": SOON},
            {"not_before": SOON},
            {"timeout_s": 1.0},
            {"max_attempts": 1},
            {"parent": uuid4()},
            {"context": uuid4()},
            {"size": 0},
            {"concurrency_key": "k"},
            {"affinity": "k"},
            {"singleton": "k"},
            {"debounce_s": 1, "debounce_key": "k"},
            {"throttle": Throttle(limit=1, period_s=1)},
            {"budget": {"usd": 1}},
        ],
        ids=lambda changes: next(iter(changes)),
    )
    def test_differs_with_the_work(self, changes: dict[str, Any]) -> None:
        assert digest_of(request(**changes)) != digest_of(request())

    def test_does_not_depend_on_order_nor_on_the_door(self) -> None:
        one = request(input={"text": "hi", "n": 1}, exclude=["a", "b"], origin="rest", idempotency_key="k")
        two = request(input={"n": 1, "text": "hi"}, exclude=["b", "a", "a"], origin="celery", id=uuid4())

        assert digest_of(one) == digest_of(two)

    def test_of_a_plain_request_is_what_it_was_before_there_was_more_to_ask_for(self) -> None:
        known = "55d0666e43354460b28e16129763d2e1c0d586880a7ee3c3d7ad277ef14062fe"

        assert digest_of(request()) == known


class TestRequirement:
    def test_is_canonical(self) -> None:
        assert requirement(request(requires=" region in (us,eu) ,!spot")) == "region in (eu, us), !spot"

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("region in", "column 10: expected a value"),
            ("gpu, !gpu", "No agent can meet all that is asked of the label gpu"),
        ],
    )
    def test_refuses_what_cannot_be_met_in_words(self, text: str, words: str) -> None:
        with pytest.raises(errors.BadInput) as refused:
            check_form(request(requires=text))

        assert words in str(refused.value)
        assert refused.value.pointer == "/requires"

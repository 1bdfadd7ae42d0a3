"""monitoring.words"""

import pytest

from monitoring import words


class TestDuration:
    @pytest.mark.parametrize(
        ("seconds", "text"),
        [
            (None, "–"), (-1, "0 ms"), (0, "0 ms"), (0.2401, "240 ms"), (0.9996, "1.0 s"), (3.21, "3.2 s"),
            (9.96, "10 s"), (59.4, "59 s"), (59.6, "1 min"), (245, "4 min 5 s"), (7800, "2 h 10 min"), (3600, "1 h"),
            (273600, "3 d 4 h"),
        ],
    )  # fmt: skip
    def test_says_it_as_a_person_would(self, seconds: float | None, text: str) -> None:
        assert words.duration(seconds) == text


class TestSize:
    @pytest.mark.parametrize(
        ("count", "text"),
        [(0, "0 bytes"), (1, "1 byte"), (1023, "1023 bytes"), (1434, "1.4 KiB"), (5 * 2**30, "5.0 GiB")],
    )
    def test_has_a_unit(self, count: int, text: str) -> None:
        assert words.size(count) == text


class TestDetail:
    def test_names_agent_and_waiting_time_of_an_assignment(self) -> None:
        data = {"agent": "ruff-swift", "attempt": 2, "waited_s": 0.04}

        assert words.detail("assigned", data) == "to ruff-swift, attempt 2, after waiting 40 ms"

    def test_says_why_it_failed_and_when_it_is_tried_again(self) -> None:
        data = {"error": {"kind": "timeout", "message": "No answer within 60 s."}, "retry_in_s": 2.0}

        assert words.detail("attempt_failed", data) == "No answer within 60 s. · trying again in 2.0 s"

    def test_says_how_far_it_is(self) -> None:
        assert words.detail("progress", {"fraction": 0.5, "message": "60 of 120 files"}) == "50 % · 60 of 120 files"

    def test_says_which_attempt_went_on(self) -> None:
        assert (
            words.detail("dropped", {"detail": "codex answered first", "outcome": "canceled"}) == "codex answered first"
        )

    def test_says_nothing_of_a_kind_it_does_not_know(self) -> None:
        assert words.detail("born", {"x": 1}) == ""

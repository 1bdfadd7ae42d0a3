import json

import pytest

from a2a_client import errors
from a2a_client.following import Following, before_the_end
from a2a_client.models import Event


def following(after: int = 0, timeout_s: float | None = None) -> Following:
    return Following(after=after, timeout_s=timeout_s, began=100.0)


def event(seq: int, kind: str = "progress") -> str:
    return json.dumps({"seq": seq, "kind": kind, "at": "2026-01-31T12:00:00Z", "attempt": 1, "data": {}})


class TestTake:
    def test_gives_each_event_once(self) -> None:
        follow = following(after=2)

        taken = [follow.take("", event(seq)) for seq in (1, 2, 3, 3, 4)]

        assert [found.seq for found in taken if found] == [3, 4]
        assert follow.options()["headers"]["Last-Event-ID"] == "4"

    def test_ends_with_the_terminal_event(self) -> None:
        follow = following()

        follow.take("", event(1, "working"))
        assert not follow.has_ended
        follow.take("", event(2, "canceled"))
        assert follow.has_ended

    @pytest.mark.parametrize("data", ["", "no json", "{}", '{"seq": "x"}'])
    def test_passes_over_what_is_no_event(self, data: str) -> None:
        assert following().take("resync", data) is None


class TestBeforeTheEnd:
    @pytest.mark.parametrize(
        ("kinds", "after"), [([], 0), (["submitted", "working"], 2), (["submitted", "working", "completed"], 2)]
    )
    def test_leaves_the_end_to_come(self, kinds: list[str], after: int) -> None:
        seen = [Event.model_validate_json(event(seq, kind)) for seq, kind in enumerate(kinds, start=1)]

        assert before_the_end(seen) == after


class TestCheck:
    def test_raises_when_patience_is_over(self) -> None:
        with pytest.raises(errors.TaskTimeout, match="goes on"):
            following(timeout_s=5.0).check(106.0)

    def test_waits_for_ever_unless_told(self) -> None:
        following().check(1e9)


class TestPauseS:
    def test_grows_until_an_event_comes(self) -> None:
        follow = following()

        pauses = [follow.pause_s() for _ in range(7)]
        follow.take("", event(1))

        assert pauses == sorted(pauses)
        assert follow.pause_s() == pauses[0]

"""Rows of the ledger as A2A's messages, and the other way round."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from a2a.types import a2a_pb2 as pb
from google.protobuf.json_format import ParseDict
from hypothesis import given
from hypothesis import strategies as st

from routing.a2a import wire

TASK = "01a21aa9-6b2b-703a-b650-389e1983c6de"
START = datetime(2026, 1, 31, 12, tzinfo=UTC)


def event(seq: int, kind: str, **data: Any) -> wire.Event:
    return wire.Event(seq=seq, kind=kind, at=START + timedelta(seconds=seq), data=data)


def story(*events: wire.Event, output: Any = None, said: Any = ()) -> wire.Story:
    return wire.Story(
        id=TASK,
        context="c",
        created_at=START,
        output=output,
        events=events,
        said=said or (wire.Said(seq=0, message=None, input="hello"),),
        content=lambda data, seq: pb.Part(text=f"{data['name']} at {seq}"),
    )


def states(told: list[tuple[int, wire.Update]]) -> list[Any]:
    """Return the states of status updates, and the artifacts' names."""
    return [
        wire.NAMES[update.status.state] if isinstance(update, pb.TaskStatusUpdateEvent) else update.artifact.name
        for _, update in told
    ]


WORKING = event(3, "working")


class TestUpdates:
    def test_follow_the_tasks_life(self) -> None:
        told = wire.updates(story(WORKING, event(4, "completed"), output="done"))

        assert states(told) == ["working", "output", "completed"]
        assert [update.metadata["generation"] for _, update in told] == [1, 2, 3]

    def test_tell_another_attempt_no_second_time(self) -> None:
        again = (WORKING, event(6, "working"), event(7, "completed"))

        assert states(wire.updates(story(*again))) == ["working", "completed"]

    def test_tell_that_it_works_again_after_an_answer(self) -> None:
        asked = event(4, "input-required", message="Which city?")
        answered = (event(5, "answered"), event(7, "working"), event(8, "completed"))

        told = wire.updates(story(WORKING, asked, *answered))

        assert states(told) == ["working", "input-required", "working", "completed"]
        question: Any = told[1][1]
        assert question.status.message.parts[0].text == "Which city?"

    def test_join_pieces_of_the_same_name(self) -> None:
        pieces = [event(4, "artifact", name="a", last=False), event(5, "artifact", name="a", last=True)]

        one, two = [update for _, update in wire.updates(story(WORKING, *pieces))[1:]]

        assert isinstance(one, pb.TaskArtifactUpdateEvent)
        assert isinstance(two, pb.TaskArtifactUpdateEvent)
        assert (one.append, one.last_chunk, two.append, two.last_chunk) == (False, False, True, True)
        [whole] = wire.task(story(WORKING, *pieces)).artifacts
        assert [part.text for part in whole.parts] == ["a at 4", "a at 5"]

    def test_keep_files_of_one_name_apart(self) -> None:
        files = [event(4, "artifact", name="a"), event(5, "artifact", name="a")]

        assert len(wire.task(story(WORKING, *files)).artifacts) == 2

    @given(st.lists(st.sampled_from(["working", "progress", "artifact", "input-required", "answered"]), max_size=12))
    def test_have_the_same_numbers_whenever_they_are_told(self, kinds: list[str]) -> None:
        events = [event(seq, kind, name="a", message="m") for seq, kind in enumerate(kinds, 1)]

        whole = wire.updates(story(*events))

        for upto in range(len(events)):
            part = wire.updates(story(*events[:upto]))
            assert part == whole[: len(part)]


class TestBefore:
    def test_is_what_stood_there_then(self) -> None:
        done = story(WORKING, event(4, "completed"), output="done")

        then = wire.before(done, 3)

        assert states(wire.updates(then)) == ["working"]
        assert wire.before(done, 4) == done
        assert wire.task(wire.before(done, 0)).status.state == pb.TASK_STATE_SUBMITTED


class TestTask:
    def test_begins_as_submitted(self) -> None:
        told = wire.task(story())

        assert (told.id, told.context_id, told.status.state) == (TASK, "c", pb.TASK_STATE_SUBMITTED)
        assert [part.text for part in told.history[0].parts] == ["hello"]

    def test_puts_questions_between_what_was_said(self) -> None:
        said = (wire.Said(seq=0, message=None, input="one"), wire.Said(seq=4, message=None, input={"two": 2}))
        told = wire.task(story(WORKING, event(4, "input-required", message="And?"), event(5, "answered"), said=said))

        assert [message.role for message in told.history] == [pb.ROLE_USER, pb.ROLE_AGENT, pb.ROLE_USER]

    @pytest.mark.parametrize(("wanted", "count"), [(None, 3), (0, 0), (1, 1), (2, 2), (9, 3)])
    def test_shows_as_much_history_as_is_wanted(self, wanted: int | None, count: int) -> None:
        said = tuple(wire.Said(seq=number, message=None, input=str(number)) for number in range(3))

        told = wire.task(story(said=said), history=wanted)

        assert len(told.history) == count
        if count:
            assert told.history[-1].parts[0].text == "2"

    def test_leaves_artifacts_out_where_nobody_wants_them(self) -> None:
        done = story(WORKING, event(4, "completed"), output=[1])

        assert wire.task(done, with_artifacts=False).artifacts == pb.Task().artifacts
        assert len(wire.task(done).artifacts) == 1

    def test_says_why_it_failed(self) -> None:
        told = wire.task(story(WORKING, event(4, "failed", error={"kind": "agent", "message": "no"})))

        assert told.status.message.parts[0].text == "no"


class TestDirect:
    def test_is_a_message_in_place_of_a_task(self) -> None:
        told = wire.direct(story(output={wire.DIRECT: "hi"}))

        assert told is not None
        assert (told.role, told.parts[0].text) == (pb.ROLE_AGENT, "hi")
        assert wire.direct(story(output={"a": 1})) is None
        assert wire.direct(story(output="hi")) is None


def message(**fields: Any) -> pb.Message:
    made = pb.Message()
    ParseDict({"messageId": "m", "role": "ROLE_USER", **fields}, made)
    return made


class TestValueOf:
    @pytest.mark.parametrize(
        ("parts", "expected"),
        [
            ([{"text": "hi"}], "hi"),
            ([{"data": {"n": 1}}], {"n": 1}),
            ([{"data": None}], None),
            ([{"text": "a"}, {"text": "b"}], {"parts": [{"text": "a"}, {"text": "b"}]}),
            (
                [{"raw": "aGk=", "filename": "a.txt", "mediaType": "text/plain"}],
                {"parts": [{"raw": "aGk=", "media_type": "text/plain", "filename": "a.txt"}]},
            ),
            ([{"url": "https://example.com/a"}], {"parts": [{"url": "https://example.com/a"}]}),
        ],
    )
    def test_is_what_the_agent_gets(self, parts: Any, expected: Any) -> None:
        assert wire.value_of(message(parts=parts)) == expected

    def test_may_be_the_whole_message(self) -> None:
        assert wire.value_of(message(parts=[{"text": "hi"}]), whole=True)["messageId"] == "m"


class TestRoutingOf:
    def test_is_what_the_extension_says(self) -> None:
        said = message(parts=[{"text": "x"}], metadata={wire.EXTENSION: {"skill": "lint", "priority": 7}})

        assert wire.routing_of([message().metadata, said.metadata]) == {"skill": "lint", "priority": 7}

    def test_is_nothing_without_it(self) -> None:
        assert wire.routing_of([message(metadata={"skill": "lint"}).metadata]) == {}

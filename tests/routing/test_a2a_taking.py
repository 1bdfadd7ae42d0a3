"""Messages that come by A2A, and who may see what they become."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from a2a.types import a2a_pb2 as pb
from a2a.utils.errors import A2AError, ContentTypeNotSupportedError, InvalidParamsError, TaskNotFoundError
from google.protobuf.json_format import ParseDict
from pytest_django import Settings

from routing import errors
from routing.a2a import wire
from routing.a2a.reading import Viewer, find, page
from routing.a2a.taking import take
from routing.models import Task, TaskMessage

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("echo")]

ANN = Viewer(tenant="default", owner="key ann")
BOB = Viewer(tenant="default", owner="key bob")
ELSEWHERE = Viewer(tenant="other", owner="key ann")


def request(text: str = "hi", *, skill: str = "any", **fields: Any) -> pb.SendMessageRequest:
    routed = {"metadata": {wire.EXTENSION: {"skill": skill}}} if skill else {}
    said = {"messageId": str(uuid4()), "role": "ROLE_USER", "parts": [{"text": text}], **routed, **fields}
    made = pb.SendMessageRequest()
    ParseDict({"message": said}, made)
    return made


def begin(viewer: Viewer = ANN, **fields: Any) -> Task:
    return Task.objects.get(id=take(viewer, request(**fields))[0])


class TestTake:
    def test_makes_a_task_of_the_skill_that_is_named(self) -> None:
        task = begin()

        assert (task.skill, task.input, task.origin, task.owner) == ("any", "hi", "a2a", "key ann")
        kept = TaskMessage.objects.get().message
        assert kept is not None
        assert kept["parts"] == [{"text": "hi"}]

    def test_makes_one_task_of_a_message_however_often_it_comes(self) -> None:
        said = request()

        assert take(ANN, said) == take(ANN, said)
        assert take(ANN, said) != take(BOB, said)
        assert Task.objects.count() == 2

    def test_needs_a_skill_unless_one_is_the_default(self, settings: Settings) -> None:
        with pytest.raises(InvalidParamsError, match="Say which skill"):
            begin(skill="")

        settings.A2A_DEFAULT_SKILL = "any"
        assert begin(skill="").skill == "any"

    def test_at_an_agents_address_is_for_that_agent(self) -> None:
        task = begin(Viewer(tenant="default", owner="key ann", agent="any-1"), skill="")

        assert (task.skill, task.agent_pinned) == ("any", "any-1")

    @pytest.mark.parametrize("name", ["mine", str(uuid4())])
    def test_keeps_tasks_of_one_context_together(self, name: str) -> None:
        one, two = begin(contextId=name), begin(contextId=name)

        assert one.context == two.context is not None
        told = page(ANN, pb.ListTasksRequest(context_id=name)).tasks
        assert {task.context_id for task in told} == {name}
        assert len(told) == 2

    def test_refuses_a_context_of_somebody_elses(self) -> None:
        theirs = begin()

        with pytest.raises(InvalidParamsError, match="no such context"):
            begin(BOB, contextId=str(theirs.context))
        assert Task.objects.count() == 1

    def test_refuses_another_context_than_the_tasks(self) -> None:
        task = begin(contextId="mine")

        with pytest.raises(InvalidParamsError, match="another context"):
            take(ANN, request(taskId=str(task.pk), contextId="yours"))

    @pytest.mark.parametrize(
        ("fields", "error"),
        [
            ({"skill": "echo"}, errors.SchemaMismatch),  # wants an object
            ({"skill": "nothing"}, errors.UnknownSkill),
            ({"role": "ROLE_AGENT"}, InvalidParamsError),
            ({"contextId": "c" * 201}, InvalidParamsError),
            ({"parts": [{"url": "https://example.com/a.png", "mediaType": "image/png"}]}, ContentTypeNotSupportedError),
            ({"parts": [{"text": "x", "filename": "..\\..\\boot.ini"}]}, InvalidParamsError),
        ],
    )
    def test_stores_nothing_of_what_it_refuses(self, fields: dict[str, Any], error: type[Exception]) -> None:
        with pytest.raises(error):
            begin(**fields)

        assert not Task.objects.exists()
        assert not TaskMessage.objects.exists()


class TestFind:
    def test_knows_nothing_of_what_is_somebody_elses(self) -> None:
        task = begin()

        assert find(ANN, str(task.pk)) == task
        told = [message_of(viewer, str(task.pk)) for viewer in (BOB, ELSEWHERE)]
        assert told == [message_of(ANN, str(uuid4()))] * 2  # as for a task that is none

    def test_knows_of_one_agent_at_its_address(self) -> None:
        task = begin()

        with pytest.raises(TaskNotFoundError):
            find(Viewer(tenant="default", owner="key ann", agent="any-1"), str(task.pk))


def message_of(viewer: Viewer, task: str) -> str:
    with pytest.raises(A2AError) as refused:
        find(viewer, task)
    return repr(refused.value)


class TestPage:
    def test_leads_through_all_tasks_once_the_newest_status_first(self) -> None:
        made = [begin() for _ in range(5)]
        begin(BOB)

        seen, token = [], ""
        while True:
            told = page(ANN, pb.ListTasksRequest(page_size=2, page_token=token))
            seen += [task.id for task in told.tasks]
            token = told.next_page_token
            if not token:
                break

        assert seen == [str(task.pk) for task in reversed(made)]
        assert told.total_size == 5

    @pytest.mark.parametrize(
        "fields", [{"page_size": 0}, {"page_size": 101}, {"page_token": "x"}, {"history_length": -1}]
    )
    def test_refuses_odd_wishes(self, fields: dict[str, Any]) -> None:
        with pytest.raises(InvalidParamsError):
            page(ANN, pb.ListTasksRequest(**fields))

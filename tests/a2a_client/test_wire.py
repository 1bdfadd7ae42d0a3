import math
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from a2a_client import calls, errors, models, wire
from a2a_client.wire import Place

ID = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
TASK = {"id": str(ID), "skill": "echo", "state": "completed", "some": "field of a newer server"}


class TestPlace:
    def test_comes_from_the_environment_when_nothing_is_given(self) -> None:
        place = Place.of(None, None, {"A2A_URL": "https://mc.example/", "A2A_KEY": "k"})

        assert place == Place(url="https://mc.example", key="k")

    def test_prefers_what_is_given(self) -> None:
        place = Place.of("http://127.0.0.1:1", "", {"A2A_URL": "https://mc.example", "A2A_KEY": "k"})

        assert place == Place(url="http://127.0.0.1:1", key="")

    @pytest.mark.parametrize("url", ["localhost:8000", "ftp://a", "http://", "nonsense"])
    def test_refuses_what_is_no_address(self, url: str) -> None:
        with pytest.raises(ValueError, match="has to look like"):
            Place.of(url, None, {})


class TestContent:
    def test_writes_ids_as_text(self) -> None:
        body = wire.content(calls.submit("echo", {"id": ID}))

        assert body is not None
        assert str(ID).encode() in body

    @pytest.mark.parametrize("value", [math.nan, math.inf, object(), {1, 2}])
    def test_refuses_what_is_not_json(self, value: Any) -> None:
        with pytest.raises((TypeError, ValueError)):
            wire.content(calls.submit("echo", value))


class TestAnswer:
    def test_reads_what_it_knows(self) -> None:
        task = wire.answer(calls.task(ID), 200, models.Task.model_validate(TASK).model_dump_json().encode())

        assert task.id == ID
        assert task.has_ended

    @pytest.mark.parametrize(
        ("status", "kind"),
        [
            (401, errors.NotAuthenticated),
            (403, errors.NotAllowed),
            (404, errors.NotFound),
            (409, errors.Conflict),
            (422, errors.BadRequest),
            (429, errors.TooMany),
            (503, errors.ServerTrouble),
        ],
    )
    def test_raises_a_refusal_in_the_words_of_the_server(self, status: int, kind: type[errors.Problem]) -> None:
        told = b'{"type": "/problems/no-such-task", "detail": "No task.", "request_id": "r1", "pointer": "/id"}'

        with pytest.raises(kind, match="No task") as caught:
            wire.answer(calls.task(ID), status, told)

        assert (caught.value.kind, caught.value.request_id, caught.value.pointer) == ("no-such-task", "r1", "/id")

    @pytest.mark.parametrize("text", [b"<html>hello</html>", b"[]", b"{}", b'{"id": 7}'])
    def test_says_so_when_something_else_answers(self, text: bytes) -> None:
        with pytest.raises(errors.NotOurs):
            wire.answer(calls.task(ID), 200, text)


class TestTarget:
    @pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a\\..\\passwd", "x/./passwd"])
    def test_stays_in_the_folder(self, name: str, tmp_path: Path) -> None:
        artifact = models.Artifact(seq=1, name=name, size=1)

        assert wire.target(artifact, tmp_path) == tmp_path / "passwd"

    @pytest.mark.parametrize("name", ["", "..", "a/..", "."])
    def test_finds_a_name_where_there_is_none(self, name: str, tmp_path: Path) -> None:
        artifact = models.Artifact(seq=3, name=name, size=1)

        assert wire.target(artifact, tmp_path) == tmp_path / "artifact-3"

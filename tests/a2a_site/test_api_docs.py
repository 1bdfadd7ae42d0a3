"""The API's document and its page."""

import json
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import Client

from a2a_site.api_docs import document
from a2a_site.management.commands.openapi import text

COMMITTED = Path(settings.BASE_DIR) / "docs" / "openapi.json"


class TestDocument:
    def test_is_the_committed_one(self) -> None:
        assert json.loads(COMMITTED.read_text()) == json.loads(text()), "run `manage.py openapi` and commit the change"

    def test_has_an_id_of_its_own_for_every_operation(self) -> None:
        ids = [operation["operationId"] for methods in document()["paths"].values() for operation in methods.values()]

        assert len(ids) == len(set(ids))

    def test_says_that_errors_are_problems(self) -> None:
        answers: dict[str, Any] = document()["paths"]["/api/v1/tasks"]["post"]["responses"]

        assert list(answers["422"]["content"]) == ["application/problem+json"]


@pytest.mark.django_db
class TestPage:
    def test_shows_every_operation_and_loads_nothing_from_elsewhere(self) -> None:
        shown = Client().get("/docs/api").content.decode()

        assert all(path in shown for path in document()["paths"])
        assert 'src="http' not in shown
        assert "<style" not in shown

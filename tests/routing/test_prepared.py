"""Prepared statements do what the ORM does."""

from uuid import uuid4

import pytest
from django.db import IntegrityError, transaction

from routing.models import Revision, Task, Tenant, new_id
from routing.prepared import Prepared, exists, insert

pytestmark = pytest.mark.django_db


@pytest.fixture
def task() -> Task:
    """Return a row that is not saved, with every kind of column filled."""
    Tenant.objects.create(name="t")
    return Task(
        id=new_id(),
        tenant_id="t",
        skill="s",
        input={"text": "ü", "list": [1, None, 2.5]},
        labels={"gpu": "yes"},
        timeout_s=1.5,
        max_attempts=2,
        request_digest="d",
        call=None,
    )


class TestInsert:
    def test_stores_what_save_would_store(self, task: Task) -> None:
        insert(task)

        stored = Task.objects.values().get(id=task.id)
        task.id = new_id()
        task.save(force_insert=True)
        assert stored | {"id": task.id} == Task.objects.values().get(id=task.id)

    def test_leaves_a_row_that_can_be_saved_again(self, task: Task) -> None:
        insert(task)

        task.detail = "changed"
        task.save()
        assert Task.objects.get().detail == "changed"

    def test_refuses_a_key_that_is_there(self, task: Task) -> None:
        insert(task)

        with pytest.raises(IntegrityError), transaction.atomic():
            insert(task)


class TestExists:
    def test_knows_the_rows_that_are_there(self, task: Task) -> None:
        insert(task)

        assert exists(Task, task.id)
        assert not exists(Task, uuid4())


class TestRows:
    def test_reads_values_as_the_orm_does(self, task: Task) -> None:
        insert(task)
        fields = ("id", "input", "labels", "created_at", "call", "not_before")
        query = Prepared(lambda: Task.objects.values_list(*fields))

        assert [tuple(row) for row in query.rows()] == list(Task.objects.values_list(*fields))

    def test_asks_the_database_every_time(self) -> None:
        query = Prepared(lambda: Revision.objects.filter(id=1).values_list("number"))
        Revision.raise_number()
        [(before,)] = query.rows()

        Revision.raise_number()

        assert [tuple(row) for row in query.rows()] == [(before + 1,)]

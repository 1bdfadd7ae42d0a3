"""Prepared statements do what the ORM does."""

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from routing.models import Revision, Task, TaskEvent, Tenant, new_id
from routing.prepared import Prepared, Table, direct, insert, insert_many, is_there

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

    def test_leaves_a_row_that_is_there_as_it_is_where_it_may(self, task: Task) -> None:
        insert(task)
        task.detail = "changed"

        insert(task, only_if_missing=True)

        assert Task.objects.get().detail == ""


class TestInsertMany:
    def test_stores_what_save_would_store(self, task: Task) -> None:
        other = Task(**{**{f.attname: getattr(task, f.attname) for f in Task._meta.concrete_fields}, "id": new_id()})

        insert_many([task, other])

        one, two = Task.objects.values()
        assert one | {"id": None} == two | {"id": None}
        assert {one["id"], two["id"]} == {task.id, other.id}
        assert one["input"] == {"text": "ü", "list": [1, None, 2.5]}

    def test_does_nothing_without_rows(self) -> None:
        insert_many([])


class TestTable:
    EVENTS = Table(TaskEvent, ("task_id", "seq", "kind", "attempt", "at", "data"))

    def event(self, task: Task, seq: int, kind: str = "log", data: object = None) -> tuple[object, ...]:
        return task.id, seq, kind, 1, task.created_at, data

    def test_inserts_what_the_orm_reads_again(self, task: Task) -> None:
        insert(task)

        self.EVENTS.insert([self.event(task, 1, data={"line": 2**70}), self.event(task, 2, data=[])])

        kept = list(TaskEvent.objects.order_by("seq").values_list("task_id", "seq", "kind", "attempt", "at", "data"))
        assert kept == [self.event(task, 1, data={"line": 2**70}), self.event(task, 2, data=[])]

    def test_refuses_a_row_that_is_there_unless_it_may_be(self, task: Task) -> None:
        insert(task)
        self.EVENTS.insert([self.event(task, 1, data={})])

        self.EVENTS.insert([self.event(task, 1, "progress", data={})], only_if_missing=True)
        with pytest.raises(IntegrityError), transaction.atomic():
            self.EVENTS.insert([self.event(task, 1, data={})])

        assert TaskEvent.objects.get().kind == "log"

    def test_puts_rows_in_place_of_those_with_the_same_key(self, task: Task) -> None:
        insert(task)
        self.EVENTS.insert([self.event(task, 1, data={})])

        rows = [self.event(task, 1, "progress", {"fraction": 1}), self.event(task, 2, data={})]
        self.EVENTS.upsert(rows, ("task_id", "seq"))

        kept = TaskEvent.objects.order_by("seq").values_list("kind", "data")
        assert list(kept) == [("progress", {"fraction": 1}), ("log", {})]

    def test_updates_the_rows_with_the_key_and_no_others(self, task: Task) -> None:
        insert(task)
        other = new_id()

        Table(Task, ("detail", "labels", "id")).update([("new", {"a": "b"}, task.id), ("no", {}, other)], "id")

        assert list(Task.objects.values_list("detail", "labels")) == [("new", {"a": "b"})]


class TestIsThere:
    def test_knows_whether_there_is_a_row_with_the_key(self, task: Task) -> None:
        insert(task)

        assert is_there(Task, task.id)
        assert not is_there(Task, new_id())


class TestDirect:
    def test_reports_the_databases_errors_as_django_does(self) -> None:
        with pytest.raises(DatabaseError), transaction.atomic(), direct() as cursor:
            cursor.execute("SELECT nothing FROM nowhere")

    def test_writes_in_the_transaction_at_hand(self, task: Task) -> None:
        with transaction.atomic():
            with direct() as cursor:
                cursor.executemany("UPDATE routing_tenant SET description = %s WHERE name = %s", [("changed", "t")])
                assert cursor.rowcount == 1
            transaction.set_rollback(True)

        assert Tenant.objects.get(name="t").description == ""

    def test_refuses_a_transaction_that_is_broken(self, task: Task) -> None:
        with transaction.atomic():
            transaction.set_rollback(True)
            with pytest.raises(transaction.TransactionManagementError), direct():
                pass

    def test_lets_statements_be_recorded(self) -> None:
        with CaptureQueriesContext(connection) as queries, direct() as cursor:
            cursor.execute("SELECT %s", ["x"])

        assert len(queries) == 1


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

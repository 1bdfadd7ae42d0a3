"""Statements whose SQL is written once.

For the few that run for every task: the ORM takes longer to write them than the database to run them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import cache, lru_cache
from typing import Any

from django.db import connection
from django.db.models import Field, Model, QuerySet

NUMBERS = frozenset({"FloatField", "PositiveIntegerField", "PositiveSmallIntegerField"})


@contextmanager
def direct() -> Iterator[Any]:
    """Yield the driver's own cursor in the transaction at hand, whose placeholders are Django's (%s) all the same.

    Django's cursor adds as much time to a small statement as SQLite needs to run it. Errors are Django's. Where
    somebody records or wraps the statements, it is Django's cursor.
    """
    if connection.queries_logged or connection.execute_wrappers:
        with connection.cursor() as cursor:
            yield cursor
        return
    if connection.in_atomic_block:
        connection.validate_no_broken_transaction()
    connection.close_if_health_check_failed()
    connection.ensure_connection()
    with connection.wrap_database_errors, closing(connection.connection.cursor()) as raw:
        yield _QuestionMarks(raw) if connection.vendor == "sqlite" else raw


class _QuestionMarks:
    """SQLite's cursor for statements with %s."""

    __slots__ = ("_raw", "fetchall", "fetchone")

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self.fetchall, self.fetchone = raw.fetchall, raw.fetchone

    @property
    def rowcount(self) -> int:
        """Return how many rows the last statement changed."""
        return int(self._raw.rowcount)

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        """Run a statement."""
        self._raw.execute(_with_question_marks(sql), parameters)

    def executemany(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run a statement once for each row."""
        self._raw.executemany(_with_question_marks(sql), rows)


@lru_cache(maxsize=512)
def _with_question_marks(sql: str) -> str:
    return sql.replace("%s", "?").replace("%%", "%")


class Prepared:
    """A ``values_list`` query without parameters that change. ``rows`` runs it."""

    def __init__(self, queryset: Callable[[], QuerySet[Any, Any]]) -> None:
        self._queryset = queryset
        self._compiled: tuple[str, tuple[Any, ...], Any, Any] | None = None

    def rows(self) -> list[Sequence[Any]]:
        """Return the rows as the ORM would, as tuples or lists."""
        if self._compiled is None:
            compiler = self._queryset().query.get_compiler(connection=connection)
            sql, parameters = compiler.as_sql()
            converters = compiler.get_converters([column for column, *_ in compiler.select])
            self._compiled = sql, tuple(parameters), compiler, converters
        sql, parameters, compiler, converters = self._compiled
        with direct() as cursor:
            cursor.execute(sql, parameters)
            found = cursor.fetchall()
        return list(compiler.apply_converters(found, converters)) if found and converters else found


def insert(row: Model, *, only_if_missing: bool = False) -> None:
    """Insert a new row as ``save(force_insert=True)`` does, without signals.

    Raises ``IntegrityError``, also for a row that is there already unless ``only_if_missing``.
    """
    sql, columns = _insertion(type(row))
    values = [prepare(getattr(row, name)) for name, prepare in columns]
    with direct() as cursor:
        cursor.execute(f"{sql} ON CONFLICT DO NOTHING" if only_if_missing else sql, values)
    row._state.adding, row._state.db = False, connection.alias


@cache
def _insertion(model: type[Model]) -> tuple[str, Sequence[tuple[str, Callable[[Any], Any]]]]:
    """Return the statement, and for each column the attribute and what makes the driver's value of it."""
    fields = model._meta.local_concrete_fields
    names = ", ".join(connection.ops.quote_name(str(field.column)) for field in fields)
    marks = ", ".join(["%s"] * len(fields))
    columns = tuple((field.attname, _preparation(field)) for field in fields)
    return f"INSERT INTO {connection.ops.quote_name(model._meta.db_table)} ({names}) VALUES ({marks})", columns


def _preparation(field: Field[Any, Any]) -> Callable[[Any], Any]:
    """Return what the ORM does to a value of the field, without the part of it that does nothing."""
    kind = field.get_internal_type()
    if kind in NUMBERS:
        return lambda value: value
    if kind == "CharField":
        return lambda value: value if value is None else str(value)
    return lambda value: value if value is None else field.get_db_prep_save(value, connection)

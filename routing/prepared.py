"""Statements whose SQL is written once.

For the few that run for every task: the ORM takes longer to write them than the database to run them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import cache, cached_property, lru_cache
from typing import Any

import orjson
from django.db import DEFAULT_DB_ALIAS, connection, connections
from django.db.models import Field, ForeignKey, Model, QuerySet

NUMBERS = frozenset({"FloatField", "PositiveIntegerField", "PositiveSmallIntegerField"})


@contextmanager
def direct() -> Iterator[Any]:
    """Yield the driver's own cursor in the transaction at hand, whose placeholders are Django's (%s) all the same.

    Django's cursor adds as much time to a small statement as SQLite needs to run it. Errors are Django's. Where
    somebody records or wraps the statements, it is Django's cursor.
    """
    own = connections[DEFAULT_DB_ALIAS]  # looked up once: ``connection`` does so for each attribute
    if own.queries_logged or own.execute_wrappers:
        with own.cursor() as cursor:
            yield cursor
        return
    if own.in_atomic_block:
        own.validate_no_broken_transaction()
    else:
        own.close_if_health_check_failed()
        own.ensure_connection()
    with own.wrap_database_errors, closing(own.connection.cursor()) as raw:
        yield _QuestionMarks(raw) if own.vendor == "sqlite" else raw


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


class Table:
    """Writes many rows of one table at once: tuples of the values of ``columns``, which are attributes of the model."""

    def __init__(self, model: type[Model], columns: Sequence[str]) -> None:
        self._model = model
        self._columns = tuple(columns)
        self._statements: dict[tuple[str, ...], str] = {}

    def insert(self, rows: Sequence[Sequence[Any]], *, only_if_missing: bool = False) -> None:
        """Insert rows. Raises ``IntegrityError``, also for one that is there already unless ``only_if_missing``."""
        end = " ON CONFLICT DO NOTHING" if only_if_missing else ""
        self._run(("insert", end), lambda: self._insertion() + end, rows)

    def upsert(self, rows: Sequence[Sequence[Any]], key: Sequence[str]) -> None:
        """Insert rows, in place of those with the same ``key``."""
        self._run(("upsert", *key), lambda: self._insertion() + self._replacement(key), rows)

    def update(self, rows: Sequence[Sequence[Any]], key: str) -> None:
        """Give the other columns of the rows with these ``key``s, which is the last column, their values."""
        assert self._columns[-1] == key
        self._run(("update", key), self._change, rows)

    def _run(self, kind: tuple[str, ...], write: Callable[[], str], rows: Sequence[Sequence[Any]]) -> None:
        if not rows:
            return
        sql = self._statements.get(kind)
        if sql is None:
            sql = self._statements[kind] = write()
        prepared = [[prepare(value) for prepare, value in zip(self._prepare, row, strict=True)] for row in rows]
        with direct() as cursor:
            cursor.executemany(sql, prepared)

    @cached_property
    def _fields(self) -> list[Field[Any, Any]]:
        known = {field.attname: field for field in self._model._meta.local_concrete_fields}
        return [known[name] for name in self._columns]

    @cached_property
    def _prepare(self) -> list[Callable[[Any], Any]]:
        return [_preparation(field) for field in self._fields]

    def _insertion(self) -> str:
        names = ", ".join(_quoted(field) for field in self._fields)
        marks = ", ".join(["%s"] * len(self._fields))
        return f"INSERT INTO {connection.ops.quote_name(self._model._meta.db_table)} ({names}) VALUES ({marks})"

    def _replacement(self, key: Sequence[str]) -> str:
        own = [_quoted(field) for field in self._fields if field.attname not in key]
        of_key = ", ".join(_quoted(field) for field in self._fields if field.attname in key)
        return f" ON CONFLICT ({of_key}) DO UPDATE SET " + ", ".join(f"{name} = excluded.{name}" for name in own)

    def _change(self) -> str:
        *own, key = map(_quoted, self._fields)
        sets = ", ".join(f"{name} = %s" for name in own)
        return f"UPDATE {connection.ops.quote_name(self._model._meta.db_table)} SET {sets} WHERE {key} = %s"


def is_there(model: type[Model], key: Any) -> bool:
    """Return whether the table has a row with this primary key."""
    field = model._meta.pk
    with direct() as cursor:
        cursor.execute(_presence(model), (_preparation(field)(key),))
        return cursor.fetchone() is not None


@cache
def _presence(model: type[Model]) -> str:
    return f"SELECT 1 FROM {connection.ops.quote_name(model._meta.db_table)} WHERE {_quoted(model._meta.pk)} = %s"


def _quoted(field: Field[Any, Any]) -> str:
    return connection.ops.quote_name(str(field.column))


def insert(row: Model, *, only_if_missing: bool = False) -> None:
    """Insert a new row as ``save(force_insert=True)`` does, without signals.

    Raises ``IntegrityError``, also for a row that is there already unless ``only_if_missing``.
    """
    sql, columns = _insertion(type(row))
    values = [prepare(getattr(row, name)) for name, prepare in columns]
    with direct() as cursor:
        cursor.execute(f"{sql} ON CONFLICT DO NOTHING" if only_if_missing else sql, values)
    row._state.adding, row._state.db = False, connection.alias


def insert_many(rows: Sequence[Model]) -> None:
    """Insert new rows of one table as ``bulk_create`` does."""
    if rows:
        sql, columns = _insertion(type(rows[0]))
        with direct() as cursor:
            cursor.executemany(sql, [[prepare(getattr(row, name)) for name, prepare in columns] for row in rows])
        for row in rows:
            row._state.adding, row._state.db = False, connection.alias


@cache
def _insertion(model: type[Model]) -> tuple[str, Sequence[tuple[str, Callable[[Any], Any]]]]:
    """Return the statement, and for each column the attribute and what makes the driver's value of it."""
    fields = model._meta.local_concrete_fields
    names = ", ".join(map(_quoted, fields))
    marks = ", ".join(["%s"] * len(fields))
    columns = tuple((field.attname, _preparation(field)) for field in fields)
    return f"INSERT INTO {connection.ops.quote_name(model._meta.db_table)} ({names}) VALUES ({marks})", columns


def _preparation(field: Field[Any, Any]) -> Callable[[Any], Any]:
    """Return what the ORM does to a value of the field, without the part of it that does nothing."""
    kind = field.get_internal_type()
    if isinstance(field, ForeignKey):
        return _preparation(field.target_field)
    if kind in NUMBERS:
        return lambda value: value
    if kind == "CharField":
        return lambda value: value if value is None else str(value)
    if kind == "JSONField":
        return lambda value: value if value is None else json_text(value)
    if kind == "DateTimeField":
        return lambda value: value if value is None else connection.ops.adapt_datetimefield_value(value)
    return lambda value: value if value is None else field.get_db_prep_save(value, connection)


def json_text(value: Any) -> str:
    """Return the value as JSON in its shortest form."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # an integer beyond 64 bits, say
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)

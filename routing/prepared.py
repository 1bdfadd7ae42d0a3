"""Statements whose SQL is written once.

For the few that run for every task: the ORM takes longer to write them than the database to run them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from django.db import connection
from django.db.models import Model, QuerySet


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
        with connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            found = cursor.fetchall()
        return list(compiler.apply_converters(found, converters)) if found and converters else found


def exists(model: type[Model], key: Any) -> bool:
    """Return True if there is a row with this primary key."""
    field: Any = model._meta.pk
    quote = connection.ops.quote_name
    with connection.cursor() as cursor:
        sql = f"SELECT 1 FROM {quote(model._meta.db_table)} WHERE {quote(field.column)} = %s"
        cursor.execute(sql, [field.get_db_prep_value(key, connection)])
        return cursor.fetchone() is not None


def insert(row: Model) -> None:
    """Insert a new row as ``save(force_insert=True)`` does, without signals. Raises ``IntegrityError``."""
    sql, fields = _insertion(type(row))
    values = [field.get_db_prep_save(getattr(row, field.attname), connection) for field in fields]
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
    row._state.adding, row._state.db = False, connection.alias


@cache
def _insertion(model: type[Model]) -> tuple[str, Sequence[Any]]:
    fields = model._meta.local_concrete_fields
    names = ", ".join(connection.ops.quote_name(str(field.column)) for field in fields)
    marks = ", ".join(["%s"] * len(fields))
    return f"INSERT INTO {connection.ops.quote_name(model._meta.db_table)} ({names}) VALUES ({marks})", fields

"""Fixtures and marks for every test."""

import signal
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import TransactionTestCase

DATABASE = {"db", "transactional_db"}  # fixtures; who asks for one of them, or has the mark, touches the database

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Whoever starts us in the background may have Ctrl-C ignored, and so would every program that a test interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)

KEPT = {"django_migrations", "django_content_type", "auth_permission"}  # tables that no test changes


def empty_tables(self: Any) -> None:
    """Empty the tables that a test has written to, after one whose transactions were real.

    Django's way empties all, some ninety, and has every app make its permissions anew: half a second for each test.
    """
    with connection.cursor() as cursor:
        tables = [table for table in connection.introspection.table_names(cursor) if table not in KEPT]
        quoted = {table: connection.ops.quote_name(table) for table in tables}
        asked = " UNION ALL ".join(f"SELECT '{t}' WHERE EXISTS (SELECT 1 FROM {q})" for t, q in quoted.items())
        cursor.execute(asked)
        written = [quoted[table] for (table,) in cursor.fetchall()]
        if not written:
            return
        if connection.vendor == "postgresql":
            cursor.execute(f"TRUNCATE {', '.join(written)} CASCADE")
            return
        with connection.constraint_checks_disabled():
            for table in written:
                cursor.execute(f"DELETE FROM {table}")


TransactionTestCase._fixture_teardown = empty_tables  # type: ignore[attr-defined]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what touches the database: it runs on PostgreSQL as well."""
    for item in items:
        if item.get_closest_marker("django_db") or DATABASE.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.database)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a state directory of the test's own."""
    directory = tmp_path / "home"
    directory.mkdir(mode=0o700)
    return directory

"""Fixtures and marks for every test."""

import signal
from pathlib import Path

import pytest

DATABASE = {"db", "transactional_db"}  # fixtures; who asks for one of them, or has the mark, touches the database

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Whoever starts us in the background may have Ctrl-C ignored, and so would every program that a test interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)


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

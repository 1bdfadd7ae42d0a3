"""Fixtures for every test."""

from pathlib import Path

import pytest


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a state directory of the test's own."""
    directory = tmp_path / "home"
    directory.mkdir(mode=0o700)
    return directory

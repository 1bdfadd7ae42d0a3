"""Secrets at rest."""

from __future__ import annotations

from pathlib import Path

import pytest
from pytest_django import Settings

from routing import secrets


class TestSeal:
    def test_is_opened_again_and_tells_nothing(self) -> None:
        stored = secrets.seal("hunter2")

        assert "hunter2" not in stored
        assert secrets.unseal(stored) == "hunter2"

    def test_leaves_nothing_as_it_is(self) -> None:
        assert secrets.seal("") == secrets.unseal("") == ""

    def test_seals_what_looks_like_a_reference(self) -> None:
        assert secrets.unseal(secrets.seal("env:PATH")) == "env:PATH"

    def test_is_opened_by_an_older_key_until_that_is_taken_away(self, settings: Settings) -> None:
        stored = secrets.seal("hunter2")
        old, settings.SECRET_KEY = settings.SECRET_KEY, "another key"

        settings.SECRET_KEY_FALLBACKS = [old]
        assert secrets.unseal(stored) == "hunter2"
        settings.SECRET_KEY_FALLBACKS = []
        with pytest.raises(secrets.Unreadable, match="A2A_OLD_SECRET_KEYS"):
            secrets.unseal(stored)


class TestReferences:
    def test_are_looked_up(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "token").write_text("from a file\n")
        monkeypatch.setenv("A_TOKEN", "from the environment")

        assert secrets.unseal(f"file:{tmp_path / 'token'}") == "from a file"
        assert secrets.unseal("env:A_TOKEN") == "from the environment"

    def test_that_lead_nowhere_are_told(self, tmp_path: Path) -> None:
        with pytest.raises(secrets.Unreadable, match="no variable"):
            secrets.unseal("env:NO_SUCH_VARIABLE")
        with pytest.raises(secrets.Unreadable, match="No such file"):
            secrets.unseal(f"file:{tmp_path / 'nothing'}")

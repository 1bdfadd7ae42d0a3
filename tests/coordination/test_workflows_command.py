"""coordination.management.commands.workflows"""

from __future__ import annotations

from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from coordination.models import WorkflowVersion
from routing import registry

pytestmark = pytest.mark.django_db


class TestApply:
    def test_saves_what_is_right_and_says_what_is_wrong_by_line(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        registry.ensure_tenant()
        registry.ensure_skill("any")
        good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
        good.write_text("name: good\nsteps:\n  first: {task: any}\n")
        bad.write_text("name: bad\nsteps:\n  first: {task: none}\n")

        with pytest.raises(CommandError, match="Not saved"):
            call_command("workflows", "apply", str(bad), str(good))

        told = capsys.readouterr()
        assert "line 3" in told.err
        assert "good v1" in told.out
        assert [str(version) for version in WorkflowVersion.objects.all()] == ["good v1"]

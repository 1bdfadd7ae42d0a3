"""`manage.py test`, on a test of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from a2a_site.management.commands.test import Command, Step, environment

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str) -> tuple[int, str]:
    """Return (exit code, output) of `manage.py test`."""
    command = [sys.executable, "manage.py", "test", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


class TestTest:
    def test_hands_its_arguments_to_pytest_alone(self) -> None:
        code, output = run("tests/a2a_site/test_restarts.py", "-q", "-k", "first_restart")

        assert code == 0
        assert "1 passed" in output
        assert "mypy" not in output

    def test_has_the_exit_code_of_the_step_that_failed(self, tmp_path: Path) -> None:
        code, output = run(str(tmp_path / "nothing_here.py"))

        assert code == 4  # pytest's word for bad usage
        assert "── pytest: FAILED in" in output

    def test_explains_itself(self) -> None:
        code, output = run("--help")

        assert code == 0
        assert "With arguments: pytest alone" in output


def step(name: str, code: str) -> Step:
    """Return a step that runs this Python."""
    return Step(name=name, command=(sys.executable, "-c", code))


class TestRunSideBySide:
    def test_runs_the_tracks_at_the_same_time(self, tmp_path: Path) -> None:
        """Each waits for what the other one does."""
        meet = "from pathlib import Path as P\nP('{0}').touch()\nwhile not P('{1}').exists(): pass"
        one, two = tmp_path / "one", tmp_path / "two"
        tracks = [[step("a", meet.format(one, two))], [step("b", meet.format(two, one))]]

        assert Command().run_side_by_side(tracks, tmp_path) == 0

    def test_ends_a_track_at_the_step_that_fails_and_shows_what_it_said(
        self, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        tracks = [[step("a", "print('from a')")], [step("b", "print('from b'); exit(3)"), step("c", "print('from c')")]]

        code = Command().run_side_by_side(tracks, tmp_path)

        output = capfd.readouterr().out
        assert code == 3
        assert output.index("── a: passed") < output.index("from b") < output.index("── b: FAILED")
        assert "── Not run: c" in output
        assert "from c" not in output


class TestEnvironment:
    def test_leads_nowhere_near_somebodys_real_state(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("A2A_HOME", "A2A_PORT", "REDIS_URL", "DATABASE_URL", "BROKER_URL"):
            monkeypatch.setenv(name, "real")

        made = environment(home)

        assert "real" not in made.values()
        assert made["A2A_HOME"] == str(home)
        assert made["PATH"] == os.environ["PATH"]

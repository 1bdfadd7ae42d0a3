import os
from pathlib import Path

import pytest

from a2a_site import doctor


class TestPython:
    def test_is_fine_here(self) -> None:
        assert doctor.python().is_fine

    def test_knows_the_locked_versions(self) -> None:
        locked = doctor.locked_versions()

        assert locked["django"].startswith("5.2.")
        assert len(locked) > 50


class TestPermissions:
    @pytest.mark.parametrize("mode", [0o755, 0o710, 0o704])
    def test_dislikes_a_directory_others_may_enter_or_read(self, home: Path, mode: int) -> None:
        home.chmod(mode)

        finding = doctor.permissions(home)

        assert not finding.is_fine
        assert finding.advice == f"chmod 700 {home}"

    def test_is_fine_with_one_for_its_owner(self, home: Path) -> None:
        assert doctor.permissions(home).is_fine


class TestJudgeRedis:
    def test_dislikes_an_old_one(self) -> None:
        assert "too old" in doctor.judge_redis("5.0.14", "noeviction").message

    def test_dislikes_one_that_throws_keys_away(self) -> None:
        assert "allkeys-lru" in doctor.judge_redis("7.2.4", "allkeys-lru").message

    def test_is_fine_with_one_that_keeps_everything(self) -> None:
        assert doctor.judge_redis("6.2.14", "noeviction").is_fine


class TestClock:
    def test_dislikes_files_from_the_future(self, home: Path) -> None:
        (home / "later").touch()
        os.utime(home / "later", (2**33, 2**33))

        finding = doctor.clock(home)

        assert not finding.is_fine
        assert "behind files written earlier" in finding.message


class TestDisk:
    def test_says_how_much_is_free(self, home: Path) -> None:
        assert "GiB free" in doctor.disk(home).message

"""a2a_site.backup: what is backed up comes back, while the site writes; what is damaged changes nothing."""

import sqlite3
import tarfile
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connection

from a2a_site import backup
from a2a_site.backup import BadArchive, Place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Return a site with a database in use, an artifact and a key."""
    home = tmp_path / "home"
    (home / "artifacts" / "ab").mkdir(parents=True)
    (home / "artifacts" / "ab" / "cd").write_bytes(b"report")
    (home / "secret_key").write_text("key of then")
    (home / "redis").mkdir()
    found = Place(home=home, database=home / "db.sqlite3", artifacts=home / "artifacts")
    run(found, "PRAGMA journal_mode=WAL", "CREATE TABLE task (id INTEGER)", "INSERT INTO task VALUES (1), (2)")
    return found


def run(place: Place, *statements: str) -> None:
    database = sqlite3.connect(str(place.database))
    for statement in statements:
        database.execute(statement)
    database.commit()
    database.close()


def tasks(database: Path | None) -> list[int]:
    reader = sqlite3.connect(str(database))
    found = [row[0] for row in reader.execute("SELECT id FROM task ORDER BY id")]
    reader.close()
    return found


class TestRestore:
    def test_brings_everything_back_and_keeps_what_was_there(self, place: Place, tmp_path: Path) -> None:
        writer = sqlite3.connect(str(place.database))  # somebody has it open, in the middle of a transaction
        writer.execute("INSERT INTO task VALUES (3)")
        assert backup.write(place, tmp_path / "b.tar.gz") == 3
        writer.commit()
        writer.close()
        (place.home / "secret_key").write_text("key of now")
        (place.artifacts / "ab" / "cd").unlink()

        before = backup.restore(place, tmp_path / "b.tar.gz")

        assert (tasks(place.database), tasks(before / "db.sqlite3")) == ([1, 2], [1, 2, 3])
        assert (place.home / "secret_key").read_text() == "key of then"
        assert (place.artifacts / "ab" / "cd").read_bytes() == b"report"
        assert not (place.home / "redis").exists()
        assert (tmp_path / "b.tar.gz").stat().st_mode & 0o077 == 0

    @pytest.mark.parametrize("harm", ["cut", "other", "changed"])
    def test_touches_nothing_if_the_archive_is_damaged(self, place: Place, tmp_path: Path, harm: str) -> None:
        file = tmp_path / "b.tar.gz"
        backup.write(place, file)
        if harm == "cut":
            file.write_bytes(file.read_bytes()[:-200])
        elif harm == "other":
            file.write_text("not an archive")
        else:
            with tarfile.open(file) as archive:
                archive.extractall(tmp_path / "x", filter="data")
            (tmp_path / "x" / "secret_key").write_text("forged")
            with tarfile.open(file, "w:gz") as archive:
                archive.add(tmp_path / "x", arcname=".")

        with pytest.raises(BadArchive, match="damaged"):
            backup.restore(place, file)

        assert tasks(place.database) == [1, 2]
        assert sorted(path.name for path in place.home.iterdir() if "re" in path.name[:3]) == ["redis"]


@pytest.mark.django_db(transaction=True)
def test_the_command_backs_up_the_database_of_this_site(tmp_path: Path) -> None:
    call_command("backup", str(tmp_path / "b.tar.gz"), verbosity=0)

    with tarfile.open(tmp_path / "b.tar.gz") as archive:
        assert ("db.sqlite3" in archive.getnames()) is (connection.vendor == "sqlite")
        assert "manifest.json" in archive.getnames()

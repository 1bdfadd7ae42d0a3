"""One archive with what cannot be made again: database, artifacts, keys. And its way back."""

import hashlib
import json
import os
import shutil
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from a2a_site import auth, run_state

MANIFEST = "manifest.json"
DATABASE = "db.sqlite3"
ARTIFACTS = "artifacts"
FORMAT = 1
MEMORIES = ("redis",)  # directories of what other processes remembered: of another time than the database


class BadArchive(Exception):
    """The archive cannot be restored; the message says why. Nothing was changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a site keeps what is backed up."""

    home: Path  # A2A_HOME
    database: Path | None  # of SQLite; None: it is elsewhere, and so is its backup
    artifacts: Path

    @property
    def keys(self) -> list[Path]:
        """Files without which the database is of no use."""
        return [self.home / "secret_key", auth.password_file(self.home)]


def write(place: Place, target: Path) -> int:
    """Write the archive, readable for its owner alone, and return how many files it holds. The site may run."""
    with tempfile.TemporaryDirectory(dir=place.home, prefix="backup-") as folder:
        copy = Path(folder) / DATABASE
        if place.database is not None:
            copy_database(place.database, copy)
        unfinished = target.with_name(f"{target.name}.unfinished")
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            count = _pack(file, dict(_contents(place, copy)), Path(folder))
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(target)
    return count


def copy_database(source: Path, target: Path) -> None:
    """Copy an SQLite database as it is at one moment, while others write to it."""
    with sqlite3.connect(source) as live, sqlite3.connect(target) as copy:
        live.backup(copy)
    live.close()
    copy.close()


def _contents(place: Place, database: Path) -> Iterator[tuple[str, Path]]:
    if database.exists():
        yield DATABASE, database
    for key in place.keys:
        if key.is_file():
            yield key.name, key
    for file in sorted(place.artifacts.rglob("*")):
        if file.is_file():
            yield f"{ARTIFACTS}/{file.relative_to(place.artifacts).as_posix()}", file


def _pack(file: object, contents: dict[str, Path], folder: Path) -> int:
    digests: dict[str, str] = {}
    with tarfile.open(fileobj=file, mode="w:gz", compresslevel=6) as archive:  # type: ignore[call-overload]
        for name, path in contents.items():
            try:
                digests[name] = digest(path)
                archive.add(path, arcname=name, recursive=False)
            except FileNotFoundError:  # an artifact that was deleted for its age meanwhile
                digests.pop(name, None)
        manifest = folder / MANIFEST
        told = {"format": FORMAT, "made_at": datetime.now(UTC).isoformat(), "files": digests}
        manifest.write_text(json.dumps(told, indent=1))
        archive.add(manifest, arcname=MANIFEST)
    return len(digests)


def digest(path: Path) -> str:
    """Return the file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def restore(place: Place, source: Path) -> Path:
    """Put the archive's files in place and return where those that were there are now.

    Everything is unpacked and checked before anything is touched. Raises ``BadArchive``.
    """
    if run_state.running(place.home) is not None:
        raise BadArchive("This site is running. Stop it first: python3 manage.py down")
    with tempfile.TemporaryDirectory(dir=place.home, prefix="restore-") as folder:
        unpacked = Path(folder)
        _unpack(source, unpacked)
        if place.database is None and (unpacked / DATABASE).exists():
            raise BadArchive("It holds an SQLite database, and DATABASE_URL names another one. Unset it to restore.")
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        before = place.home / f"before-restore-{stamp}"
        before.mkdir(mode=0o700)
        _put_away(place, before)
        _put_in(place, unpacked)
    return before


def _unpack(source: Path, folder: Path) -> None:
    try:
        with tarfile.open(source, "r:gz") as archive:
            archive.extractall(folder, filter="data")
        told = json.loads((folder / MANIFEST).read_text())
        files: dict[str, str] = told["files"]
        made = int(told["format"])
    except (OSError, EOFError, tarfile.TarError, ValueError, KeyError, TypeError) as error:
        raise BadArchive(f"It is no backup of ours, or it is damaged: {error}") from error
    if made > FORMAT:
        raise BadArchive("A newer version made it. Restore it with that one.")
    for name, expected in files.items():
        path = folder / name
        if not path.is_file() or digest(path) != expected:
            raise BadArchive(f"It is damaged: {name} is not what was backed up.")


def _put_away(place: Place, before: Path) -> None:
    databases = [Path(f"{place.database}{end}") for end in ("", "-wal", "-shm")] if place.database else []
    memories = [place.home / name for name in MEMORIES]
    for path in [*databases, *place.keys, *memories]:
        if path.exists():
            shutil.move(path, before / path.name)
    if place.artifacts.exists():
        shutil.move(place.artifacts, before / ARTIFACTS)


def _put_in(place: Place, unpacked: Path) -> None:
    if place.database is not None and (unpacked / DATABASE).exists():
        shutil.move(unpacked / DATABASE, place.database)
    for key in place.keys:
        if (unpacked / key.name).exists():
            shutil.move(unpacked / key.name, key)
            key.chmod(0o600)
    if (unpacked / ARTIFACTS).exists():
        shutil.move(unpacked / ARTIFACTS, place.artifacts)

"""A PostgreSQL of the tests' own: on a Unix socket in a directory that is gone afterwards.

`python -m tests.postgres COMMAND...` runs a command with DATABASE_URL naming it.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import psycopg

START_S = 60.0
USER = "a2a"  # in the database
FAST = ("-c", "listen_addresses=", "-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off")


class NoPostgres(Exception):
    """There is no PostgreSQL to start."""


class DidNotStart(Exception):
    """PostgreSQL was started and does not answer."""


def programs() -> Path:
    """Return the directory of the newest PostgreSQL's programs. Raises ``NoPostgres``."""
    found = [file.parent for file in Path("/usr/lib/postgresql").glob("*/bin/postgres")]
    if not found and (on_path := shutil.which("postgres")):
        found = [Path(on_path).parent]
    if not found:
        raise NoPostgres("There is no PostgreSQL on this machine (Debian: apt install postgresql).")
    return max(found, key=lambda directory: [int(part) for part in directory.parent.name.split(".") if part.isdigit()])


@contextmanager
def running() -> Iterator[str]:
    """Yield the URL of a database on a server that lives as long as this. Raises ``NoPostgres``, ``DidNotStart``."""
    binaries = programs()
    directory = Path(tempfile.mkdtemp(prefix="a2a-pg-"))
    owner = _owner(directory)
    try:
        initdb: list[str | Path] = [
            binaries / "initdb",
            "-D",
            directory / "data",
            "-A",
            "trust",
            "-U",
            USER,
            "-N",
            "--no-locale",
        ]
        made = subprocess.run([*initdb, "-E", "UTF8"], cwd=directory, capture_output=True, text=True, **owner)
        if made.returncode:
            raise DidNotStart(made.stdout + made.stderr)
        with _server([binaries / "postgres", "-D", directory / "data", "-k", directory, *FAST], directory, owner):
            yield f"postgresql:///{USER}?host={directory}&user={USER}"
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _owner(directory: Path) -> dict[str, Any]:
    """Return whom to run as: PostgreSQL refuses to run as root. The directory is theirs."""
    if os.geteuid() != 0:
        return {}
    names = {entry.pw_name for entry in pwd.getpwall()}
    user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    os.chown(directory, user.pw_uid, user.pw_gid)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


@contextmanager
def _server(command: Sequence[str | Path], directory: Path, owner: dict[str, Any]) -> Iterator[None]:
    log = directory / "log"
    with log.open("wb") as output:
        server = subprocess.Popen(command, cwd=directory, stdout=output, stderr=subprocess.STDOUT, **owner)
    try:
        _make_database(directory, server, log)
        yield
    finally:
        server.send_signal(signal.SIGINT)  # "fast": does not wait for those who are connected
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _make_database(directory: Path, server: subprocess.Popen[bytes], log: Path) -> None:
    """Make the database as soon as the server answers. Raises ``DidNotStart``."""
    give_up = time.monotonic() + START_S
    while True:
        try:
            with psycopg.connect(host=str(directory), user=USER, dbname="postgres", autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE {USER}")
                return
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > give_up:
                raise DidNotStart(log.read_text(errors="replace")[-2000:]) from None
            time.sleep(0.1)


def main(command: Sequence[str]) -> int:
    """Run the command on a PostgreSQL and return its exit code; 0 with a sentence where there is none."""
    signal.signal(signal.SIGTERM, _leave)  # so that the server ends as well
    try:
        with running() as url:
            return subprocess.call(command, env={**os.environ, "DATABASE_URL": url})
    except NoPostgres as error:
        print(f"Skipped: {error}")
        return 0


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

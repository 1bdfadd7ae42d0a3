"""What is wrong with this installation, in words: one function for each thing that can be."""

import os
import re
import shutil
import stat
import sys
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import redis
from django.conf import settings
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor

from a2a_site import env, ports, redis_server, run_state

LEAST_DISK_BYTES = 500 * 1024**2
LARGEST_CLOCK_SKEW_S = 2.0
LEAST_REDIS = (6, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What was seen of one thing, and what to do about it if it is not fine."""

    about: str
    is_fine: bool
    message: str
    advice: str = ""


def examine() -> list[Finding]:
    """Return a finding for each thing, in the order a person would look."""
    home: Path = settings.A2A_HOME
    return [
        python(),
        permissions(home),
        disk(home),
        redis_bus(home),
        database(),
        migrations(),
        clock(home),
        port(home),
    ]


def fine(about: str, message: str) -> Finding:
    """Return a finding with nothing to do."""
    return Finding(about=about, is_fine=True, message=message)


def wrong(about: str, message: str, advice: str) -> Finding:
    """Return a finding with something to do."""
    return Finding(about=about, is_fine=False, message=message, advice=advice)


def python() -> Finding:
    """Look at the interpreter and at the packages it has, against those that are locked."""
    version = ".".join(map(str, sys.version_info[:3]))
    different = [name for name, locked in locked_versions().items() if installed_version(name) != locked]
    if different:
        message = f"{len(different)} packages are not in the version of requirements.txt: {', '.join(different[:5])}."
        return wrong("Python", message, "Remove .venv and start manage.py again, or install requirements.txt.")
    return fine("Python", f"{version} in {sys.prefix}, all packages as locked.")


def locked_versions() -> dict[str, str]:
    """Return name -> version of requirements.txt, without what only some systems need."""
    text = (settings.BASE_DIR / "requirements.txt").read_text()
    return dict(re.findall(r"^([\w.-]+)(?:\[[^]]*\])?==(\S+) \\$", text, re.MULTILINE))


def installed_version(name: str) -> str | None:
    """Return the version of an installed package; None if it is missing."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def permissions(home: Path) -> Finding:
    """Look at the owner and the mode of the state directory, which holds secrets."""
    state = home.stat()
    if not os.access(home, os.R_OK | os.W_OK | os.X_OK):
        return wrong("State", f"{home} cannot be written by this user.", f"chown -R {os.geteuid()} {home}")
    if state.st_uid != os.geteuid():
        return wrong("State", f"{home} belongs to another user.", f"chown -R {os.geteuid()} {home}")
    mode = stat.S_IMODE(state.st_mode)
    if mode & 0o077:
        return wrong("State", f"{home} is open to others (mode {mode:04o}); it holds secrets.", f"chmod 700 {home}")
    return fine("State", f"{home}, for this user only.")


def disk(home: Path) -> Finding:
    """Look at the free space where the state is."""
    free = shutil.disk_usage(home).free
    message = f"{free / 1024**3:.1f} GiB free in {home}."
    if free < LEAST_DISK_BYTES:
        return wrong("Disk", message, f"Free some space: below {LEAST_DISK_BYTES // 1024**2} MiB writes may fail soon.")
    return fine("Disk", message)


def redis_bus(home: Path) -> Finding:
    """Look at the Redis in use, or at the one that would be started."""
    if not env.text("REDIS_URL") and run_state.running(home) is None:
        return embedded_redis()
    try:
        redis_server.ping(settings.A2A_REDIS_URL)
        with redis.Redis.from_url(settings.A2A_REDIS_URL) as client:
            version = str(client.info("server")["redis_version"])
            policy = str(client.info("memory").get("maxmemory_policy", "noeviction"))
    except (redis_server.NoRedis, redis.RedisError) as error:
        return wrong("Redis", str(error), "Look into its log: A2A_HOME/logs/redis.log for the embedded one.")
    return judge_redis(version, policy)


def embedded_redis() -> Finding:
    """Look for the program of the embedded Redis."""
    try:
        return fine("Redis", f"{redis_server.program()} will be started.")
    except redis_server.NoRedis as error:
        return wrong("Redis", str(error), "apt install redis-server, or set REDIS_URL.")


def judge_redis(version: str, policy: str) -> Finding:
    """Judge the version and what the server does when its memory is full."""
    if tuple(int(part) for part in version.split(".")[:2]) < LEAST_REDIS:
        return wrong("Redis", f"Version {version} is too old.", "Redis 6.2 or newer, or any Valkey, is needed.")
    if policy != "noeviction":
        advice = "redis-cli config set maxmemory-policy noeviction, and the same in its configuration."
        return wrong(
            "Redis", f"It throws keys away when its memory is full ({policy}): tasks would be delayed.", advice
        )
    return fine("Redis", f"version {version} answers.")


def database() -> Finding:
    """Look whether the database answers and, for SQLite, whether its file is whole."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA quick_check(1)" if connection.vendor == "sqlite" else "SELECT 'ok'")
            row = cursor.fetchone()
    except DatabaseError as error:
        return wrong("Database", f"{connection.vendor} does not answer: {error}", "Check DATABASE_URL and the server.")
    if row is None or row[0] != "ok":
        return wrong("Database", f"The file is damaged: {row}", "Stop everything and put back a backup of db.sqlite3.")
    return fine("Database", f"{connection.vendor} answers.")


def migrations() -> Finding:
    """Look whether the tables are those this version expects."""
    try:
        executor = MigrationExecutor(connection)
        missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except DatabaseError as error:
        return wrong("Migrations", f"They cannot be read: {error}", "Mend the database first.")
    if missing:
        return wrong(
            "Migrations", f"{len(missing)} are not applied.", "`manage.py up` applies them; or: manage.py migrate"
        )
    return fine("Migrations", "all applied.")


def clock(home: Path) -> Finding:
    """Compare our clock with Redis's, and with files that cannot have been written in the future."""
    advice = "Set the clock, and keep it right: apt install systemd-timesyncd"
    newest = max((path.stat().st_mtime for path in home.iterdir()), default=0.0)
    if newest - time.time() > LARGEST_CLOCK_SKEW_S:
        return wrong("Clock", f"It is {newest - time.time():.0f} s behind files written earlier.", advice)
    try:
        with redis.Redis.from_url(settings.A2A_REDIS_URL, socket_timeout=2) as client:
            seconds, microseconds = client.time()
    except redis.RedisError:
        return fine("Clock", "no sign that it is wrong.")
    skew_s = abs(time.time() - (seconds + microseconds / 1e6))
    if skew_s > LARGEST_CLOCK_SKEW_S:
        return wrong("Clock", f"Redis's clock and ours are {skew_s:.1f} s apart.", advice)
    return fine("Clock", "agrees with Redis's.")


def port(home: Path) -> Finding:
    """Look whether the web server could listen, or already does."""
    record = run_state.running(home)
    if record is not None:
        return fine("Port", f"{record['port']}, in use by what runs here: {record['url']}/")
    host, number = settings.A2A_HOST, settings.A2A_PORT
    if not ports.is_free(host, number):
        message = f"{number} on {host} is taken by {ports.owner(number)}."
        return wrong("Port", message, "Stop that, or choose another: manage.py up --port N")
    return fine("Port", f"{number} on {host} is free.")

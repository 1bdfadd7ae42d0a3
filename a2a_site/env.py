"""Typed reading of environment variables."""

import os
import secrets
from pathlib import Path


class BadSetting(SystemExit):
    """An environment variable has a value that cannot be used: the process ends with one sentence, not a traceback."""


def text(name: str, default: str = "") -> str:
    """Return the variable, or ``default`` when it is unset or empty."""
    return os.environ.get(name, "").strip() or default


def flag(name: str, *, default: bool = False) -> bool:
    """Return True for 1/true/yes/on, False for 0/false/no/off, in any case.

    Raises ``BadSetting`` for anything else.
    """
    value = text(name).lower()
    if not value:
        return default
    if value in {"1", "true", "yes", "on"}:
        return True
    if value in {"0", "false", "no", "off"}:
        return False
    raise BadSetting(f"{name}={value!r} is not a yes or a no. Set it to 1 or 0.")


def number(name: str, default: int, *, low: int = 0, high: int = 2**31) -> int:
    """Return the variable as an integer in ``low..high``. Raises ``BadSetting``."""
    value = text(name)
    if not value:
        return default
    try:
        parsed = int(value)
    except ValueError:
        raise BadSetting(f"{name}={value!r} is not a whole number.") from None
    if not low <= parsed <= high:
        raise BadSetting(f"{name}={parsed} is outside {low} to {high}.")
    return parsed


def names(name: str, default: str = "") -> list[str]:
    """Return a comma-separated variable as a list without empty entries."""
    return [part.strip() for part in text(name, default).split(",") if part.strip()]


def state_directory(default: Path) -> Path:
    """Return the directory of all state (``A2A_HOME``), made with mode 0700 if missing. Raises ``BadSetting``."""
    home = Path(text("A2A_HOME", str(default))).expanduser().resolve()
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise BadSetting(f"The state directory {home} cannot be made: {error.strerror}. Set A2A_HOME.") from None
    if not os.access(home, os.W_OK | os.X_OK):
        raise BadSetting(f"The state directory {home} cannot be written. Change its owner, or set A2A_HOME.")
    return home


def secret(path: Path) -> str:
    """Return the secret kept in ``path`` (mode 0600); it is made on first use.

    Several processes may ask at once: the first one to create the file wins.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text().strip()
    value = secrets.token_urlsafe(50)
    with os.fdopen(descriptor, "w") as file:
        file.write(value)
    return value


def redis_url(home: Path) -> str:
    """Return the redis-py URL of the bus: ``REDIS_URL``, else the embedded server's Unix socket."""
    return text("REDIS_URL") or f"unix://{redis_socket(home)}"


def redis_socket(home: Path) -> Path:
    """Return where the embedded Redis listens.

    A Unix socket's path is limited to 107 bytes; where ``home`` is deeper or odd in a URL, ``run/redis-socket`` names
    another place.
    """
    pointer = home / "run" / "redis-socket"
    return Path(pointer.read_text().strip()) if pointer.exists() else home / "redis" / "redis.sock"


def kombu_url(redis_py_url: str) -> str:
    """Return the same server in kombu's spelling: ``unix:///path`` becomes ``redis+socket:///path``."""
    if redis_py_url.startswith("unix://"):
        return "redis+socket://" + redis_py_url.removeprefix("unix://")
    return redis_py_url

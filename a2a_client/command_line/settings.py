"""Named servers with their keys, in one file that only its owner can read."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

FILE = "a2amc.json"


class BadSettings(Exception):
    """The file of settings cannot be read as one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Where a server is and the key for it; "" leaves either to ``A2A_URL``, ``A2A_KEY`` or the default."""

    url: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every server that is known by a name, and which one is meant when none is named."""

    used: str = "default"
    servers: dict[str, Server] = field(default_factory=dict)

    def server(self, name: str = "") -> Server:
        """Return the server with this name, or the one in use."""
        return self.servers.get(name or self.used, Server())

    def having(self, name: str, server: Server) -> Settings:
        """Return the settings with this server in them."""
        return replace(self, servers={**self.servers, name: server})

    def without(self, name: str) -> Settings:
        """Return the settings without this server."""
        return replace(self, servers={each: known for each, known in self.servers.items() if each != name})


def path() -> Path:
    """Return the file: ``A2AMC_CONFIG``, else one in the user's folder of configuration."""
    given = os.environ.get("A2AMC_CONFIG")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / FILE


def read() -> Settings:
    """Return what the file says; nothing if there is none. Raises ``BadSettings``."""
    try:
        told = json.loads(path().read_text())
        servers = {name: Server(**server) for name, server in told["servers"].items()}
        return Settings(used=told["used"], servers=servers)
    except FileNotFoundError:
        return Settings()
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise BadSettings(f"{path()} cannot be read ({error}). Mend it, or delete it and begin anew.") from None


def write(settings: Settings) -> None:
    """Put the settings into the file, at once or not at all."""
    target = path()
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        json.dump(asdict(settings), file, indent=2)
    fresh.replace(target)

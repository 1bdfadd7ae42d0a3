"""`up --detach`: the supervisor in a session of its own, and the wait until it is ready."""

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from django.core.management.base import CommandError

from a2a_site import run_state, up

POLL_S = 0.1
TAIL_LINES = 20


class Output(Protocol):
    """Where sentences go."""

    def write(self, msg: str) -> object:
        """Write one line."""


def start(home: Path, arguments: Sequence[str], output: Output) -> None:
    """Start `up` again without ``--detach`` in the background; return when it is ready, else raise ``CommandError``."""
    (home / "logs").mkdir(mode=0o700, exist_ok=True)
    log = home / "logs" / "up.log"
    command = [sys.executable, *(each for each in arguments if each != "--detach"), "--detached"]
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
    while process.poll() is None:
        record = run_state.read(home)
        if record and record["pid"] == process.pid and record["ready"]:
            output.write("\n".join(up.announcement(home, record)))
            output.write(
                f"  It runs in the background (process {process.pid}). Logs: {log.parent}. Stop: manage.py down"
            )
            process.returncode = 0  # it lives on; subprocess would warn about a child left behind
            return
        time.sleep(POLL_S)
    raise CommandError(
        "It could not be started:\n" + "\n".join(log.read_text(errors="replace").splitlines()[-TAIL_LINES:])
    )

"""The merged log: every line of every process, on the terminal and in A2A_HOME/logs/<process>.log."""

import json
import logging
import re
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TextIO

COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)  # ANSI foreground codes, one a process in order of appearance
MAX_FILE_BYTES = 5_000_000
OLD_FILES = 3
_LEVEL = re.compile(r"\b(DEBUG|INFO|WARNING|ERROR|CRITICAL)\b")


def level_of(line: str) -> str:
    """Return a guess at the line's level, "debug" to "critical"; "info" when it says nothing."""
    if line.startswith("Traceback "):
        return "error"
    found = _LEVEL.search(line[:80])
    return found[1].lower() if found else "info"


class Console:
    """Writes lines, prefixed by the name of their process, to ``stream`` and to a file a process, rotated by size."""

    def __init__(self, directory: Path, stream: TextIO = sys.stdout, *, colour: bool = False, as_json: bool = False):
        directory.mkdir(mode=0o700, exist_ok=True)
        self._directory = directory
        self._stream: TextIO | None = stream
        self._colour = colour
        self._as_json = as_json
        self._files: dict[str, RotatingFileHandler] = {}

    def line(self, process: str, message: str) -> None:
        """Write one line of one process."""
        at = datetime.now(UTC)
        self._file(process).emit(logging.makeLogRecord({"msg": f"{at:%Y-%m-%dT%H:%M:%S.%fZ} {message}"}))
        self._print(self._render(at, process, message))

    def announce(self, lines: Iterable[str]) -> None:
        """Write lines to the terminal only: they may hold a secret, which is not for a file."""
        for line in lines:
            if not self._as_json:
                self._print(line)
            elif line:
                self._print(self._render(datetime.now(UTC), "supervisor", line.strip()))

    def _print(self, message: str) -> None:
        if self._stream is None:
            return
        try:
            print(message, file=self._stream, flush=True)
        except OSError:  # the terminal or the pipe is gone; the files go on
            self._stream = None

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()
        self._files.clear()

    def _render(self, at: datetime, process: str, message: str) -> str:
        if self._as_json:
            entry = {"at": at.isoformat(), "process": process, "level": level_of(message), "message": message}
            return json.dumps(entry, ensure_ascii=False)
        name = f"{process:<10} │"
        if self._colour:
            name = f"\x1b[{COLOURS[list(self._files).index(process) % len(COLOURS)]}m{name}\x1b[0m"
        return f"{name} {message}"

    def _file(self, process: str) -> RotatingFileHandler:
        if process not in self._files:
            path = self._directory / f"{process}.log"
            self._files[process] = RotatingFileHandler(path, maxBytes=MAX_FILE_BYTES, backupCount=OLD_FILES)
        return self._files[process]

"""A private directory for one attempt, and files inside a directory that cannot lead out of it."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from routing.executors.contract import BadOutput


@contextmanager
def workspace(path: Path) -> Iterator[Path]:
    """Make ``path`` an empty directory of mode 0700 and remove it, with all that is in it, at the end."""
    _remove(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(mode=0o700)
    try:
        yield path
    finally:
        _remove(path)


def _remove(path: Path) -> None:
    if not path.exists():
        return
    shutil.rmtree(path, ignore_errors=True)
    if path.exists():  # a program can take away its own directories' write permission
        for directory, _, _ in os.walk(path):
            os.chmod(directory, 0o700)
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def opened_inside(root: Path, relative: str) -> Iterator[Path]:
    """Give a path to the file ``relative`` under ``root``, one that stays that file whatever happens to its name.

    Each part is opened without following links, so neither ``..``, a symbolic link nor a link put there a moment later
    leads outside. Raises BadOutput, saying why.
    """
    parts = PurePosixPath(relative).parts
    if not parts or relative.startswith("/") or ".." in parts or "\x00" in relative:
        raise _refused(relative, "it must be relative to the working directory and stay inside it")
    try:
        descriptor = _descend(root, parts)
    except OSError as error:
        raise _refused(relative, f"{os.strerror(error.errno or 0)} (symbolic links are not followed)") from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _refused(relative, "it is not a regular file")
        yield Path(f"/dev/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _descend(root: Path, parts: tuple[str, ...]) -> int:
    directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in parts[:-1]:
            below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)
            os.close(directory)
            directory = below
        # NONBLOCK: opening a FIFO would wait for a writer.
        return os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
    finally:
        os.close(directory)


def _refused(relative: str, why: str) -> BadOutput:
    return BadOutput(f"The artifact's path {relative[:200]!r} is refused: {why}.")

"""A snapshot of a project: what it may hold, and how it is written file by file."""

import os
import stat
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from coordination.review.source import is_python

_TOOL_FOLDERS = [".git", ".hg", ".svn", ".venv", ".tox", ".nox", ".eggs", ".a2a", "node_modules"]
_CACHE_FOLDERS = ["__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis"]
SKIPPED_FOLDERS = frozenset([*_TOOL_FOLDERS, *_CACHE_FOLDERS])
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much one project may hold; what is over is refused, except single large files of a directory: skipped."""

    total_bytes: int = 512 * _MIB
    file_bytes: int = 32 * _MIB
    files: int = 50_000
    ratio: float = 100.0  # uncompressed ÷ compressed bytes of a zip, looked at above ratio_floor_bytes
    ratio_floor_bytes: int = 8 * _MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A snapshot: ``files`` are the names of regular files under ``root``, relative, with forward slashes, sorted."""

    root: Path
    name: str  # the project's, for titles
    kind: str  # "directory", "git", "bare git", "zip"
    files: tuple[str, ...]
    size_bytes: int
    skipped: Mapping[str, int]  # why -> how many

    @property
    def python_files(self) -> tuple[str, ...]:
        """The files that hold Python source."""
        return tuple(path for path in self.files if is_python(path))


class Refused(Exception):
    """The project cannot be reviewed."""

    def __init__(self, **facts: object) -> None:
        super().__init__(" ".join((type(self).__doc__ or "").split()).format(**facts))


class NotFound(Refused):
    """There is nothing at {source}. Give the path of a directory, a git repository or a .zip file."""


class NotAProject(Refused):
    """{source} is neither a directory, a git repository nor a .zip file. Give the path of one of these."""


class NotEmpty(Refused):
    """The snapshot directory {into} already holds something. Give the name of a new or an empty directory."""


class TooManyFiles(Refused):
    """{source} holds more than {limit} files (limit: number of files). Review a part of it, or raise the limit."""


class TooLarge(Refused):
    """{source} holds more than {limit} bytes (limit: total uncompressed bytes). Review a part of it, or raise the
    limit."""


class FileTooLarge(Refused):
    """{path} in {source} is larger than {limit} bytes (limit: single file size). Leave it out, or raise the limit."""


class ZipBomb(Refused):
    """{source} unpacks to {ratio:.0f} times its size, more than {limit:.0f} (limit: compression ratio), as zip bombs
    do. Nothing was unpacked; give the directory itself if it is a real project."""


class UnsafeName(Refused):
    """{source} holds the name {path!r}, which would be written outside the snapshot. Make the archive
    again with relative names."""


class LinkInArchive(Refused):
    """{source} holds {path!r}, a symbolic link, which archives from elsewhere may not have. Make the archive without
    links."""


class BrokenArchive(Refused):
    """{source} cannot be unpacked ({why}). Make the archive again, without a password."""


class NoCommit(Refused):
    """{source} is a git repository without a commit at HEAD, or git is not installed. Commit something, install git,
    or give a directory."""


class NoPython(Refused):
    """{source} holds no Python file ({files} files were looked at), so there is nothing to review. Give the path of
    a Python project."""


@dataclass(slots=True, kw_only=True)
class Store:
    """Writes a snapshot file by file, and holds the limits while doing so."""

    source: Path
    into: Path
    limits: Limits
    files: list[str] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    size_bytes: int = 0

    def skip(self, why: str) -> None:
        """Count something that is left out."""
        self.skipped[why] += 1

    def wants(self, path: str) -> bool:
        """Say whether the name is one to keep; one that is not is counted."""
        # Names that are not UTF-8 arrive with backslashes for the odd bytes; such names fit neither JSON nor Markdown.
        if not path.isprintable() or "\\" in path:
            self.skip("unprintable name")
            return False
        if not SKIPPED_FOLDERS.isdisjoint(PurePosixPath(path).parts[:-1]):
            self.skip("folder of tools or caches")
            return False
        return True

    def add(self, path: str, blocks: Iterable[bytes]) -> None:
        """Write one file; the limits hold for the bytes that really come, whatever was announced."""
        path = PurePosixPath(path).as_posix()
        if len(self.files) >= self.limits.files:
            raise TooManyFiles(source=self.source, limit=self.limits.files)
        target = self.into / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            for block in blocks:
                self.size_bytes += len(block)
                if self.size_bytes > self.limits.total_bytes:
                    raise TooLarge(source=self.source, limit=self.limits.total_bytes)
                file.write(block)
                if file.tell() > self.limits.file_bytes:
                    raise FileTooLarge(path=path, source=self.source, limit=self.limits.file_bytes)
        self.files.append(path)

    def add_from_disk(self, path: str) -> None:
        """Copy one file of the source directory, or count why it is left out."""
        reason = self._against(path)
        if reason:
            self.skip(reason)
            return
        try:
            handle = os.open(self.source / path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            self.skip("deleted or unreadable")
            return
        with os.fdopen(handle, "rb") as file:
            self.add(path, iter(lambda: file.read(_MIB), b""))

    def _against(self, path: str) -> str:
        """Return why the file is left out, or "" if it is not."""
        try:
            about = os.lstat(self.source / path)
        except OSError:
            return "deleted or unreadable"
        if stat.S_ISLNK(about.st_mode):
            return "symbolic link"
        if stat.S_ISDIR(about.st_mode):
            return "git submodule"
        if not stat.S_ISREG(about.st_mode):
            return "not a regular file"
        return f"larger than {self.limits.file_bytes} bytes" if about.st_size > self.limits.file_bytes else ""

    def tree(self, kind: str, root: Path | None = None) -> Tree:
        """Return what was taken; with a ``root`` below ``into``, names are relative to that."""
        root = root or self.into
        base = root.relative_to(self.into)
        files = tuple(sorted(PurePosixPath(path).relative_to(base).as_posix() for path in self.files))
        if not any(is_python(path) for path in files):
            raise NoPython(source=self.source, files=len(files))
        name = self.source.name.removesuffix(".zip").removesuffix(".git") or self.source.parent.name
        return Tree(
            root=root, name=name, kind=kind, files=files, size_bytes=self.size_bytes, skipped=dict(self.skipped)
        )

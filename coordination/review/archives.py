"""Unpacking zips and bare git repositories, as if each were hostile."""

import errno
import stat
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

from coordination.review import git
from coordination.review.snapshot import (
    BrokenArchive,
    FileTooLarge,
    LinkInArchive,
    NoCommit,
    Store,
    TooLarge,
    TooManyFiles,
    Tree,
    UnsafeName,
    ZipBomb,
)

_BLOCK = 1024 * 1024
# Damaged data, an unknown method of compression, or a password; OSError too, from names that exclude each other.
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)


def is_zip(path: Path) -> bool:
    """Say whether the file is a zip, or is called one (its error then says what is wrong)."""
    return path.is_file() and (zipfile.is_zipfile(path) or path.suffix.lower() == ".zip")


def take_zip(store: Store) -> Tree:
    """Return the unpacked zip; every name and every announced size is looked at before the first byte is written."""
    try:
        with zipfile.ZipFile(store.source) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            _look_at(members, store)
            for member in members:
                if store.wants(member.filename):
                    store.add(member.filename, _blocks(archive, member))
    except _BROKEN as error:
        raise BrokenArchive(source=store.source, why=error) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise BrokenArchive(source=store.source, why=error.strerror) from error
    return store.tree("zip", store.into / _wrapper(store.files))


def take_bare_git(store: Store) -> Tree:
    """Return the files of the repository's HEAD."""
    entries = git.entries(store.source)
    if entries is None:
        raise NoCommit(source=store.source)
    wanted = [entry for entry in entries if _wants(store, entry)]
    for entry, content in zip(wanted, git.contents(store.source, wanted), strict=True):
        store.add(entry.path, [content])
    return store.tree("bare git")


def _wants(store: Store, entry: git.Entry) -> bool:
    if not _is_safe(entry.path):
        raise UnsafeName(source=store.source, path=entry.path)
    if not entry.is_file:
        store.skip("git submodule" if entry.is_submodule else "symbolic link")
        return False
    if entry.size_bytes > store.limits.file_bytes:
        store.skip(f"larger than {store.limits.file_bytes} bytes")
        return False
    return store.wants(entry.path)


def _look_at(members: list[zipfile.ZipInfo], store: Store) -> None:
    """Raise for the first limit that the zip's own table of contents breaks."""
    limits, source = store.limits, store.source
    if len(members) > limits.files:
        raise TooManyFiles(source=source, limit=limits.files)
    for member in members:
        if not _is_safe(member.filename):
            raise UnsafeName(source=source, path=member.filename)
        if stat.S_ISLNK(member.external_attr >> 16):
            raise LinkInArchive(source=source, path=member.filename)
    total = sum(member.file_size for member in members)
    ratio = total / max(source.stat().st_size, 1)
    if ratio > limits.ratio and total > limits.ratio_floor_bytes:
        raise ZipBomb(source=source, ratio=ratio, limit=limits.ratio)
    if total > limits.total_bytes:
        raise TooLarge(source=source, limit=limits.total_bytes)
    for member in members:
        if member.file_size > limits.file_bytes:
            raise FileTooLarge(path=member.filename, source=source, limit=limits.file_bytes)


def _is_safe(name: str) -> bool:
    """Say whether the name stays below the directory it is unpacked into, on any system."""
    windows = PureWindowsPath(name)
    return bool(windows.parts) and not windows.anchor and ".." not in windows.parts and "\0" not in name


def _wrapper(files: list[str]) -> str:
    """Return the one folder that holds everything, as archives of releases have it, or "."; a package is none."""
    tops = {PurePosixPath(path).parts[0] for path in files}
    top = next(iter(tops), ".")
    alone = len(tops) == 1 and top not in files and f"{top}/__init__.py" not in files
    return top if alone else "."


def _blocks(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Iterator[bytes]:
    with archive.open(member) as content:
        yield from _read(content)


def _read(content: IO[bytes]) -> Iterator[bytes]:
    while block := content.read(_BLOCK):
        yield block

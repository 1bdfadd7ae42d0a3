"""Keeps files by what is in them: one directory, each file under its SHA-256. No Django: the root is an argument."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import tempfile
import time
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

MIB = 1024 * 1024
MAX_BYTES = 256 * MIB
MAX_NAME_BYTES = 200
_DIGEST = re.compile(r"[0-9a-f]{64}")
_MEDIA_TYPE = re.compile(r"[\w.+-]+/[\w.+*-]+(?:; ?[\w.+-]+=[\w.+-]+)*", re.ASCII)


class ArtifactError(ValueError):
    """An artifact that is refused; the message says why."""


class TooLarge(ArtifactError):
    """It has more bytes than the store takes."""


class UnsafeName(ArtifactError):
    """Its name could do harm where it is shown or saved."""


class BadDigest(ArtifactError):
    """Not a SHA-256 in lower-case hexadecimal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ref:
    """Where an artifact is, and what it is."""

    sha256: str
    size: int  # bytes
    media_type: str  # "" when unknown


class Store:
    """A content-addressed store in the directory ``root``, safe to use from many threads and processes."""

    def __init__(self, root: Path, *, max_bytes: int = MAX_BYTES) -> None:
        self.root = root
        self.max_bytes = max_bytes

    def put(self, data: bytes | Path | BinaryIO, *, media_type: str = "") -> Ref:
        """Keep ``data`` and return where: on disk when this returns, complete or not at all.

        Raises TooLarge over ``max_bytes``, ArtifactError for a media type or file that cannot be kept.
        """
        check_media_type(media_type)
        incoming = self.root / "incoming"
        incoming.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _reading(data) as source, tempfile.NamedTemporaryFile(dir=incoming, delete=False) as file:
            try:
                digest, size = self._copy(source, file)
                os.fsync(file.fileno())
                self._settle(Path(file.name), digest)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
        return Ref(sha256=digest, size=size, media_type=media_type)

    def _copy(self, source: BinaryIO, target: tempfile._TemporaryFileWrapper[bytes]) -> tuple[str, int]:
        digest, size = hashlib.sha256(), 0
        while chunk := source.read(MIB):
            size += len(chunk)
            if size > self.max_bytes:
                raise TooLarge(f"The artifact is larger than the {self.max_bytes} bytes the store takes.")
            digest.update(chunk)
            target.write(chunk)
        target.flush()
        return digest.hexdigest(), size

    def _settle(self, file: Path, sha256: str) -> None:
        """Give ``file`` its final name, also if it is there already: that makes it young again for ``delete``."""
        place = self.path(sha256)
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.replace(file, place)
        _sync_directory(place.parent)

    def path(self, sha256: str) -> Path:
        """Return where the file is or would be. Raises BadDigest."""
        if not _DIGEST.fullmatch(sha256):
            raise BadDigest(f"{sha256[:80]!r} is not a SHA-256: 64 digits of 0-9 and a-f are expected.")
        return self.root / sha256[:2] / sha256[2:4] / sha256

    def has(self, sha256: str) -> bool:
        """Return whether the file is there. Raises BadDigest."""
        return self.path(sha256).is_file()

    def open(self, sha256: str) -> BinaryIO:
        """Return the file, open for reading. Raises FileNotFoundError, BadDigest."""
        return self.path(sha256).open("rb")

    def delete(self, sha256: str, *, idle_s: float = 0.0) -> bool:
        """Return whether the file was there and is gone now.

        With ``idle_s`` a file put within the last so many seconds stays: whoever deletes what no row names must leave
        time for the row of a file just put. Raises BadDigest.
        """
        path = self.path(sha256)
        try:
            if idle_s and time.time() - path.stat().st_mtime < idle_s:
                return False
            path.unlink()
        except FileNotFoundError:
            return False
        return True

    def sweep(self, *, idle_s: float = 3600.0) -> int:
        """Return how many files were removed that a killed ``put`` left unfinished more than ``idle_s`` ago."""
        removed = 0
        for file in (self.root / "incoming").glob("*"):
            with suppress(FileNotFoundError):
                if time.time() - file.stat().st_mtime >= idle_s:
                    file.unlink()
                    removed += 1
        return removed


def safe_name(name: str) -> str:
    """Return ``name`` if it is fit to be shown and saved under. Raises UnsafeName, saying why not."""
    if not name or name.isspace():
        raise UnsafeName("An artifact's name must not be empty.")
    if len(name.encode("utf-8", "replace")) > MAX_NAME_BYTES:
        raise UnsafeName(f"An artifact's name may have at most {MAX_NAME_BYTES} bytes: {name[:40]!r}...")
    if "/" in name or "\\" in name or name in {".", ".."}:
        raise UnsafeName(f"An artifact's name is one file name, without slashes: {name!r}.")
    hidden = next((character for character in name if unicodedata.category(character)[0] == "C"), None)
    if hidden is not None:
        raise UnsafeName(f"An artifact's name must not hold the invisible character U+{ord(hidden):04X}: {name!r}.")
    if name != name.strip():
        raise UnsafeName(f"An artifact's name must not begin or end with a space: {name!r}.")
    return name


def check_media_type(media_type: str) -> None:
    """Raise ArtifactError unless ``media_type`` is "" or looks like ``type/subtype``."""
    if media_type and not (len(media_type) <= 200 and _MEDIA_TYPE.fullmatch(media_type)):
        raise ArtifactError(f"{media_type[:80]!r} is not a media type such as text/plain.")


@contextmanager
def _reading(data: bytes | Path | BinaryIO) -> Iterator[BinaryIO]:
    if isinstance(data, bytes):
        yield BytesIO(data)
    elif isinstance(data, Path):
        with _open_regular(data) as file:
            yield file
    else:
        yield data


def _open_regular(path: Path) -> BinaryIO:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # NONBLOCK: a FIFO would wait for a writer
    except OSError as error:
        raise ArtifactError(f"The artifact's file {path.name!r} cannot be read: {error.strerror}.") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ArtifactError(f"The artifact's file {path.name!r} is not a regular file.")
    return os.fdopen(descriptor, "rb")


def _sync_directory(directory: Path) -> None:
    """Make a rename inside ``directory`` survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

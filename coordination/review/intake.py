"""Taking a project in: a snapshot of a directory, a git repository or a zip, that no later change can reach."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings

from coordination.review import archives, git
from coordination.review.snapshot import (
    SKIPPED_FOLDERS,
    Limits,
    NotAProject,
    NotEmpty,
    NotFound,
    Refused,
    Store,
    Tree,
)

__all__ = ["Limits", "Refused", "Tree", "snapshots", "take"]


def snapshots() -> Path:
    """Return the directory that holds the snapshots of all reviews, each below a name of its own."""
    return Path(settings.A2A_HOME) / "reviews"


def take(source: Path, into: Path, limits: Limits | None = None) -> Tree:
    """Return a snapshot of ``source`` made in ``into``, a new or empty directory; raise Refused and leave nothing.

    A directory is copied, a git working directory without what it ignores, a bare git directory as of its HEAD, a
    zip unpacked. Symbolic links are never followed. Nothing of the project is executed, not even git hooks or filters.
    """
    source, into = _absolute(source), _absolute(into)
    if not source.exists():
        raise NotFound(source=source)
    if into.exists() and any(into.iterdir()):
        raise NotEmpty(into=into)
    into.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        return _take(Store(source=source, into=into, limits=limits or Limits()))
    except BaseException:
        shutil.rmtree(into, ignore_errors=True)
        raise


def _absolute(path: Path) -> Path:
    return path.expanduser().resolve()


def _take(store: Store) -> Tree:
    if git.is_bare(store.source):
        return archives.take_bare_git(store)
    if store.source.is_dir():
        return _take_directory(store)
    if archives.is_zip(store.source):
        return archives.take_zip(store)
    raise NotAProject(source=store.source)


def _take_directory(store: Store) -> Tree:
    names = git.files(store.source) if git.is_work_tree(store.source) else None
    kind = "directory" if names is None else "git"
    for path in _walk(store) if names is None else names:
        # A snapshot made below the project must not take itself in.
        if not (store.source / path).is_relative_to(store.into) and store.wants(path):
            store.add_from_disk(path)
    return store.tree(kind)


def _walk(store: Store) -> Iterator[str]:
    """Yield the relative names of all files; links and folders of tools are counted, not entered."""
    for folder, folders, names in os.walk(store.source, followlinks=False):
        here = Path(folder)
        folders[:] = sorted(name for name in folders if _enters(store, here / name))
        for name in sorted(names):
            yield os.fsencode((here / name).relative_to(store.source).as_posix()).decode("utf-8", "backslashreplace")


def _enters(store: Store, folder: Path) -> bool:
    if folder.is_symlink():
        store.skip("symbolic link")
        return False
    if folder.name in SKIPPED_FOLDERS or (folder / "pyvenv.cfg").is_file():
        store.skip("folder of tools or caches")
        return False
    return True

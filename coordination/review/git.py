"""Asking git for a project's files, without running anything the project's own configuration names."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_SAFE = ("-c", "safe.directory=*", "-c", "core.fsmonitor=false", "-c", "protocol.allow=never")
_TIMEOUT_S = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One name in a commit."""

    path: str
    mode: str  # git's: 100644 and 100755 are files, 120000 links, 160000 submodules
    sha: str
    size_bytes: int

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return self.mode.startswith("100")

    @property
    def is_submodule(self) -> bool:
        """Whether it stands for another repository."""
        return self.mode == "160000"


def is_bare(path: Path) -> bool:
    """Say whether ``path`` is a git directory itself: a bare repository or somebody's ``.git``."""
    return (path / "HEAD").is_file() and (path / "objects").is_dir() and (path / "refs").is_dir()


def is_work_tree(path: Path) -> bool:
    """Say whether ``path`` is the top of a git working directory (a worktree's ``.git`` is a file)."""
    return (path / ".git").exists()


def files(work_tree: Path) -> list[str] | None:
    """Return the tracked and the untracked but not ignored names, or None if git is missing or cannot say."""
    listing = _run("-C", str(work_tree), "ls-files", "--cached", "--others", "--exclude-standard", "-z")
    if listing is None:
        return None
    return sorted({name.decode("utf-8", "backslashreplace") for name in listing.split(b"\0") if name})


def entries(git_dir: Path) -> list[Entry] | None:
    """Return what the commit at HEAD holds, or None if there is no commit, or no git."""
    listing = _run("--git-dir", str(git_dir), "ls-tree", "-r", "-l", "-z", "--full-tree", "HEAD")
    if listing is None:
        return None
    return [_entry(line) for line in listing.split(b"\0") if line]


def contents(git_dir: Path, wanted: list[Entry]) -> Iterator[bytes]:
    """Yield the bytes of each entry in order, as committed: no filters, no changed line endings."""
    call = ["git", *_SAFE, "--git-dir", str(git_dir), "cat-file", "--batch"]
    pipe = subprocess.PIPE
    with subprocess.Popen(call, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=_environment()) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for entry in wanted:
            process.stdin.write(entry.sha.encode() + b"\n")
            process.stdin.flush()
            process.stdout.readline()  # "<sha> blob <size>"
            content = process.stdout.read(entry.size_bytes + 1)
            yield content[:-1]


def _entry(line: bytes) -> Entry:
    about, _, name = line.partition(b"\t")
    mode, _, sha, size = about.decode().split()
    path = name.decode("utf-8", "backslashreplace")
    return Entry(path=path, mode=mode, sha=sha, size_bytes=0 if size == "-" else int(size))


def _run(*arguments: str) -> bytes | None:
    """Return what git prints, or None if it is missing, fails, or takes longer than two minutes."""
    if shutil.which("git") is None:
        return None
    call = ["git", *_SAFE, *arguments]
    try:
        done = subprocess.run(call, capture_output=True, env=_environment(), timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _environment() -> dict[str, str]:
    """Return ours without GIT_* (a hook that calls us sets them) and without locks on the reviewed repository."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return kept | {"GIT_CONFIG_NOSYSTEM": "1", "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}

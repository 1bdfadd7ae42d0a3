"""The virtual environment that `manage.py` makes for itself on first use.

Only the standard library, and nothing that Python 3.7 cannot read: an old Python has to get as far as the sentence
that says it is too old. One stamp file says that the installation is whole; it is removed before anything is changed
and written last, so an interrupted installation is always done again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

OLDEST = (3, 11)


def ensure(directory: Path) -> None:
    """Return when everything we need can be imported; else install it and start the same command again inside `.venv`.

    Exits with status 1, and says why, where that cannot be done.
    """
    root = str(directory)
    _refuse_old_python()
    if _inside(root):
        if _read_stamp(root) == _stamp(root):
            return
    elif _usable(root):
        _start_again(root)
    elif _importable(root):
        return
    with _alone(root):
        if not _usable(root) or (_inside(root) and _read_stamp(root) != _stamp(root)):
            _install(root)
    _start_again(root)


def _refuse_old_python() -> None:
    if sys.version_info >= OLDEST:
        return
    newer = next((name for name in ("python3.11", "python3.12", "python3.13") if shutil.which(name)), None)
    advice = "Run it as: {} {}".format(newer, " ".join(sys.argv)) if newer else "Install Python 3.11 or newer."
    _fail("This is Python {}.{}; A2A Mission Control needs 3.11 or newer. {}".format(*sys.version_info[:2], advice))


def _inside(root: str) -> bool:
    return os.path.realpath(sys.prefix) == os.path.realpath(os.path.join(root, ".venv"))


def _python(root: str) -> str:
    return os.path.join(root, ".venv", "bin", "python")


def _usable(root: str) -> bool:
    """Return True if `.venv` was installed completely from the requirements as they are now."""
    whole = os.path.exists(_python(root)) and os.path.exists(os.path.join(root, ".venv", "pyvenv.cfg"))
    return whole and _read_stamp(root)[:1] == _stamp(root)[:1]


def _stamp(root: str) -> list[str]:
    """Return [hash of the requirements, version of the running Python]."""
    with open(os.path.join(root, "requirements.txt"), "rb") as file:
        return [hashlib.sha256(file.read()).hexdigest(), "{}.{}".format(*sys.version_info[:2])]


def _read_stamp(root: str) -> list[str]:
    try:
        with open(os.path.join(root, ".venv", ".stamp")) as file:
            return file.read().split()
    except OSError:
        return []


def _importable(root: str) -> bool:
    """Return True if this Python already has every package of requirements.in, whatever its version: a container."""
    if importlib.util.find_spec("django") is None:
        return False
    from importlib import metadata

    with open(os.path.join(root, "requirements.in")) as file:
        lines = [line.split("#")[0].strip() for line in file]
    names = [re.split(r"[\[<>=~! ]", line)[0] for line in lines if line and ";" not in line]
    try:
        return all(metadata.version(name) for name in names)
    except metadata.PackageNotFoundError:
        return False


@contextlib.contextmanager
def _alone(root: str) -> Iterator[None]:
    """Hold a lock on the checkout itself, so that two first starts do not install over each other."""
    descriptor = os.open(root, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("Another process is installing the packages. Waiting for it.")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _install(root: str) -> None:
    target = os.path.join(root, ".venv")
    if not os.access(root, os.W_OK):
        _fail(f"Cannot write to {root}, where .venv has to go. Change its owner or copy the project.")
    with contextlib.suppress(FileNotFoundError):
        os.remove(os.path.join(target, ".stamp"))
    if not _has_pip(root):
        _need_ensurepip()
        _say(f"Making the virtual environment {target} (once).")
        # The base Python: `.venv` cannot rebuild itself with its own.
        base = getattr(sys, "_base_executable", None) or sys.executable
        _run([base, "-m", "venv", "--clear", target], "The virtual environment could not be made.")
    _say("Installing the packages of requirements.txt. One to three minutes, only when they change.")
    command = [_python(root), "-m", "pip", "install", "-qq", "--no-input", "--disable-pip-version-check"]
    command += ["--require-hashes", "-r", os.path.join(root, "requirements.txt")]
    _run(command, "pip could not install the packages (see above). Is the network, or a package index, in reach?")
    _write_stamp(root)


def _has_pip(root: str) -> bool:
    """Return True if `.venv` works with the Python that made it; an interrupted or outdated one does not."""
    check = f"import sys, pip; sys.exit(sys.version_info[:2] != {tuple(sys.version_info[:2])})"
    try:
        return subprocess.call([_python(root), "-c", check], stderr=subprocess.DEVNULL) == 0
    except OSError:
        return False


def _need_ensurepip() -> None:
    """Install Debian's package that holds `ensurepip` if we may, else say which one is missing and exit."""
    if _has_ensurepip():
        return
    package = "python{}.{}-venv".format(*sys.version_info[:2])
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        _fail(f"Python's ensurepip is missing. On Debian and Ubuntu: sudo apt install {package}")
    _say(f"Python's ensurepip is missing. Installing Debian's package {package}.")
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    install = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", package]
    if subprocess.call(install, env=environment, stdout=subprocess.DEVNULL) != 0:
        subprocess.call(["apt-get", "update", "--quiet"], env=environment, stdout=subprocess.DEVNULL)
        _run(install, f"apt could not install {package}. Install it by hand and try again.")


def _has_ensurepip() -> bool:
    base = getattr(sys, "_base_executable", None) or sys.executable
    return subprocess.call([base, "-c", "import ensurepip"], stderr=subprocess.DEVNULL) == 0


def _write_stamp(root: str) -> None:
    version = subprocess.check_output([_python(root), "-c", "import sys; print('%d.%d' % sys.version_info[:2])"])
    path = os.path.join(root, ".venv", ".stamp")
    with open(path + ".new", "w") as file:
        file.write(f"{_stamp(root)[0]}\n{version.decode().strip()}\n")
    os.replace(path + ".new", path)


def _start_again(root: str) -> NoReturn:
    """Replace this process by the same command under `.venv`'s Python; the lock and the memory go with it."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(_python(root), [_python(root), *sys.orig_argv[1:]])


def _run(command: list[str], complaint: str) -> None:
    if subprocess.call(command) != 0:
        _fail(complaint)


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def _fail(sentence: str) -> NoReturn:
    _say(sentence)
    sys.exit(1)

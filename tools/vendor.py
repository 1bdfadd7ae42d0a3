"""Fetches the browser libraries we ship from npm into versioned folders, for developers: `python tools/vendor.py`.

Each folder holds the files, their licence and `checksums.txt` (SHA-256), which a test compares. Nothing is fetched when
the product runs, and no page asks another host for anything.
"""

from __future__ import annotations

import hashlib
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ROOT / "a2a_site" / "static" / "vendor"
FOR_TESTS = ROOT / "tests" / "browser" / "vendor"
CHECKSUMS = "checksums.txt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """A package of npm, at one version, and which of its files we keep."""

    package: str
    version: str
    files: tuple[str, ...]
    into: Path

    @property
    def folder(self) -> Path:
        """Where the files are; the version is part of the name, so that no cache holds an old one."""
        return self.into / f"{self.package}-{self.version}"


LIBRARIES = (
    Library(package="htmx.org", version="4.0.1", files=("dist/htmx.min.js", "LICENSE"), into=SHIPPED),
    Library(
        package="uplot", version="1.6.32", files=("dist/uPlot.iife.min.js", "dist/uPlot.min.css", "LICENSE"),
        into=SHIPPED,
    ),
    Library(package="tinykeys", version="3.1.0", files=("dist/tinykeys.module.js", "LICENSE"), into=SHIPPED),
    Library(package="axe-core", version="4.14.1", files=("axe.min.js", "LICENSE"), into=FOR_TESTS),
)  # fmt: skip


def main() -> None:
    """Fetch every library anew."""
    for library in LIBRARIES:
        fetch(library)
        print(f"{library.package} {library.version} → {library.folder.relative_to(ROOT)}")


def fetch(library: Library) -> None:
    """Write the library's files, their licence and their checksums into its folder."""
    library.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        command = ["npm", "pack", "--silent", "--ignore-scripts", f"{library.package}@{library.version}"]
        packed = subprocess.run(command, cwd=directory, check=True, capture_output=True, text=True).stdout.strip()
        with tarfile.open(Path(directory) / packed.splitlines()[-1]) as archive:
            for name in library.files:
                member = archive.extractfile(f"package/{name}")
                if member is None:
                    raise SystemExit(f"{library.package} {library.version} has no file {name}.")
                (library.folder / Path(name).name).write_bytes(member.read())
    (library.folder / CHECKSUMS).write_text("".join(f"{sum}  {name}\n" for name, sum in checksums(library).items()))


def checksums(library: Library) -> dict[str, str]:
    """Return the SHA-256 of each file that is there, by name."""
    names = sorted(Path(name).name for name in library.files)
    return {name: hashlib.sha256((library.folder / name).read_bytes()).hexdigest() for name in names}


if __name__ == "__main__":
    main()

"""Snapshots of directories, git repositories and zips."""

import os
import shutil
import stat
import zipfile
from pathlib import Path

import pytest

from coordination.review.intake import Limits, Refused, take
from coordination.review.snapshot import (
    BrokenArchive,
    FileTooLarge,
    LinkInArchive,
    NoCommit,
    NoPython,
    NotAProject,
    NotEmpty,
    NotFound,
    TooLarge,
    TooManyFiles,
    UnsafeName,
    ZipBomb,
)
from tests.coordination.projects import git, pack, write

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


@pytest.fixture
def into(tmp_path: Path) -> Path:
    """Return a directory for the snapshot that does not exist yet."""
    return tmp_path / "into"


class TestTake:
    def test_copies_a_directory(self, tmp_path: Path, into: Path) -> None:
        source = write(tmp_path / "shop", {"a.py": "A = 1\n", "pkg/b.py": "B = 2\n", "notes.md": "# Notes\n"})

        tree = take(source, into)

        assert (tree.name, tree.kind, tree.files) == ("shop", "directory", ("a.py", "notes.md", "pkg/b.py"))
        assert tree.python_files == ("a.py", "pkg/b.py")
        assert (tree.root / "pkg/b.py").read_text() == "B = 2\n"
        assert tree.size_bytes == 20

    def test_is_a_snapshot_that_later_changes_do_not_reach(self, tmp_path: Path, into: Path) -> None:
        source = write(tmp_path / "shop", {"a.py": "A = 1\n"})
        tree = take(source, into)

        (source / "a.py").write_text("changed")

        assert (tree.root / "a.py").read_text() == "A = 1\n"

    def test_leaves_out_caches_tools_and_virtual_environments(self, tmp_path: Path, into: Path) -> None:
        files = {f"{folder}/x.py": "" for folder in (".git", ".venv", "node_modules", "pkg/__pycache__")}
        source = write(tmp_path / "shop", {"a.py": "", "env/pyvenv.cfg": "", "env/lib/x.py": "", **files})
        shutil.rmtree(source / ".git")

        tree = take(source, into)

        assert tree.files == ("a.py",)
        assert tree.skipped == {"folder of tools or caches": 4}

    def test_does_not_follow_links_so_that_loops_and_secrets_stay_out(self, tmp_path: Path, into: Path) -> None:
        secret = write(tmp_path / "elsewhere", {"secret.py": "KEY = 1\n"})
        source = write(tmp_path / "shop", {"pkg/a.py": ""})
        (source / "pkg/loop").symlink_to(source)
        (source / "self").symlink_to(source / "self")
        (source / "secret.py").symlink_to(secret / "secret.py")

        tree = take(source, into)

        assert tree.files == ("pkg/a.py",)
        assert tree.skipped == {"symbolic link": 3}

    def test_counts_what_is_no_regular_file_or_has_an_odd_name(self, tmp_path: Path, into: Path) -> None:
        source = write(tmp_path / "shop", {"a.py": "", "new\nline.py": "", "big.py": "x" * 100})
        os.mkfifo(source / "pipe.py")
        (source / os.fsdecode(b"caf\xe9.py")).touch()

        tree = take(source, into, Limits(file_bytes=99))

        assert tree.files == ("a.py",)
        assert tree.skipped == {"unprintable name": 2, "not a regular file": 1, "larger than 99 bytes": 1}

    def test_does_not_take_the_snapshot_into_itself(self, tmp_path: Path) -> None:
        source = write(tmp_path / "shop", {"a.py": "", "b.py": ""})

        tree = take(source, source / "snapshot")

        assert tree.files == ("a.py", "b.py")

    @pytest.mark.parametrize(
        ("limits", "error", "named"),
        [
            (Limits(files=2), TooManyFiles, "number of files"),
            (Limits(total_bytes=10), TooLarge, "total uncompressed bytes"),
        ],
    )
    def test_names_the_limit_a_directory_breaks(
        self, tmp_path: Path, into: Path, limits: Limits, error: type[Refused], named: str
    ) -> None:
        source = write(tmp_path / "shop", {f"{n}.py": "A = 1\n" for n in range(3)})

        with pytest.raises(error, match=named):
            take(source, into, limits)

        assert not into.exists()

    def test_says_what_is_wrong_with_the_source(self, tmp_path: Path, into: Path) -> None:
        write(tmp_path, {"text.txt": "hello", "docs/readme.md": "hello", "bad.zip": "no zip"})

        for name, error in {
            "nothing": NotFound,
            "text.txt": NotAProject,
            "docs": NoPython,
            "bad.zip": BrokenArchive,
        }.items():
            with pytest.raises(error):
                take(tmp_path / name, into)

    def test_refuses_a_directory_that_holds_something(self, tmp_path: Path, into: Path) -> None:
        write(into, {"mine.txt": "keep me"})

        with pytest.raises(NotEmpty):
            take(write(tmp_path / "shop", {"a.py": ""}), into)

        assert (into / "mine.txt").exists()


@needs_git
class TestTakeGit:
    def test_respects_gitignore_and_takes_untracked_files(self, tmp_path: Path, into: Path) -> None:
        files = {".gitignore": "build/\n", "a.py": "", "b.py": "", "gone.py": "", "build/c.py": ""}
        source = write(tmp_path / "shop", files)
        git(source, "init")
        git(source, "add", "a.py", "gone.py")
        (source / "gone.py").unlink()

        tree = take(source, into)

        assert (tree.kind, tree.files) == ("git", (".gitignore", "a.py", "b.py"))
        assert tree.skipped == {"deleted or unreadable": 1}

    def test_takes_the_head_of_a_bare_repository(self, tmp_path: Path, into: Path) -> None:
        source = write(tmp_path / "shop", {"a.py": "A = 1\n", "pkg/b.py": b"\0\xff\r\n", "c.txt": "x" * 50})
        write(source, {".gitattributes": "a.py export-ignore\n"})
        (source / "link.py").symlink_to("/etc/passwd")
        git(source, "init")
        git(source, "add", ".")
        git(source, "commit", "-m", "x")
        git(tmp_path, "clone", "--bare", "shop", "shop.git")

        tree = take(tmp_path / "shop.git", into, Limits(file_bytes=49))

        assert (tree.name, tree.kind, tree.files) == ("shop", "bare git", (".gitattributes", "a.py", "pkg/b.py"))
        assert (tree.root / "pkg/b.py").read_bytes() == b"\0\xff\r\n"
        assert tree.skipped == {"symbolic link": 1, "larger than 49 bytes": 1}

    def test_runs_nothing_that_the_repository_configures(self, tmp_path: Path, into: Path) -> None:
        source = write(tmp_path / "shop", {"a.py": "A = 1\n", ".gitattributes": "*.py filter=evil\n"})
        git(source, "init")
        git(source, "add", ".")
        git(source, "commit", "-m", "x")
        evil = f"touch {tmp_path / 'ran'}"
        git(source, "config", "filter.evil.smudge", evil)
        git(source, "config", "core.fsmonitor", evil)

        take(source, into)
        take(source / ".git", tmp_path / "bare")

        assert not (tmp_path / "ran").exists()

    def test_says_that_a_repository_has_no_commit(self, tmp_path: Path, into: Path) -> None:
        git(tmp_path, "init", "--bare", "empty.git")

        with pytest.raises(NoCommit, match=r"empty\.git"):
            take(tmp_path / "empty.git", into)


class TestTakeZip:
    def test_unpacks_and_steps_into_the_one_folder(self, tmp_path: Path, into: Path) -> None:
        archive = pack(tmp_path / "shop-1.0.zip", {"shop-1.0/a.py": "A = 1\n", "shop-1.0/pkg/b.py": ""})

        tree = take(archive, into)

        assert (tree.name, tree.kind, tree.files) == ("shop-1.0", "zip", ("a.py", "pkg/b.py"))
        assert (tree.root / "a.py").read_text() == "A = 1\n"

    def test_keeps_the_one_folder_if_it_is_a_package(self, tmp_path: Path, into: Path) -> None:
        tree = take(pack(tmp_path / "a.zip", {"shop/__init__.py": "", "shop/b.py": ""}), into)

        assert tree.files == ("shop/__init__.py", "shop/b.py")

    @pytest.mark.parametrize("name", ["../evil.py", "/etc/evil.py", "a/../../evil.py", "..\\evil.py", "C:\\evil.py"])
    def test_refuses_names_that_lead_out(self, tmp_path: Path, into: Path, name: str) -> None:
        archive = pack(tmp_path / "a.zip", {"good.py": "", name: "EVIL = 1\n"})

        with pytest.raises(UnsafeName, match="outside the snapshot"):
            take(archive, into)

        assert not into.exists()
        assert not list(tmp_path.rglob("evil.py"))

    def test_refuses_links(self, tmp_path: Path, into: Path) -> None:
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            link = zipfile.ZipInfo("link.py")
            link.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(link, "/etc/passwd")

        with pytest.raises(LinkInArchive, match=r"link\.py"):
            take(tmp_path / "a.zip", into)

    @pytest.mark.parametrize(
        ("limits", "error", "named"),
        [
            (Limits(ratio_floor_bytes=1_000_000), ZipBomb, r"limit: compression ratio"),
            (Limits(total_bytes=4_000_000), TooLarge, "4000000 bytes .limit: total uncompressed bytes"),
            (Limits(file_bytes=1_000_000), FileTooLarge, "1000000 bytes .limit: single file size"),
            (Limits(files=2), TooManyFiles, "2 files .limit: number of files"),
        ],
    )
    def test_refuses_a_bomb_and_names_the_limit(
        self, tmp_path: Path, into: Path, limits: Limits, error: type[Refused], named: str
    ) -> None:
        archive = pack(tmp_path / "bomb.zip", {f"{n}.py": b"0" * 2_000_000 for n in range(3)})

        with pytest.raises(error, match=named):
            take(archive, into, limits)

        assert not into.exists()

    def test_does_not_believe_the_sizes_a_zip_announces(self, tmp_path: Path, into: Path) -> None:
        archive = pack(tmp_path / "liar.zip", {"a.py": b"0" * 5_000_000})
        data = archive.read_bytes()
        archive.write_bytes(data.replace((5_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little")))

        with pytest.raises(BrokenArchive, match="CRC"):
            take(archive, into)

    def test_says_that_a_zip_is_damaged(self, tmp_path: Path, into: Path) -> None:
        archive = pack(tmp_path / "a.zip", {"a.py": os.urandom(1000)})
        data = bytearray(archive.read_bytes())
        data[200:300] = b"\0" * 100
        archive.write_bytes(data)

        with pytest.raises(BrokenArchive, match="cannot be unpacked"):
            take(archive, into)

    def test_refuses_one_name_twice(self, tmp_path: Path, into: Path) -> None:
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.writestr("a", "")
            archive.writestr("a/b.py", "")

        with pytest.raises(BrokenArchive):
            take(tmp_path / "a.zip", into)

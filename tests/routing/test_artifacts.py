"""The content-addressed store."""

import hashlib
import io
import os
import threading
from pathlib import Path

import pytest

from routing.artifacts import ArtifactError, BadDigest, Store, TooLarge, UnsafeName, safe_name

DIGEST = hashlib.sha256(b"hello").hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "artifacts", max_bytes=1000)


def left_over(store: Store) -> list[Path]:
    return list((store.root / "incoming").glob("*"))


class TestPut:
    def test_returns_digest_size_and_media_type(self, store: Store) -> None:
        ref = store.put(b"hello", media_type="text/plain; charset=utf-8")

        assert (ref.sha256, ref.size, ref.media_type) == (DIGEST, 5, "text/plain; charset=utf-8")

    def test_takes_bytes_files_and_streams_alike(self, store: Store, tmp_path: Path) -> None:
        file = tmp_path / "file"
        file.write_bytes(b"hello")

        refs = [store.put(data) for data in (b"hello", file, io.BytesIO(b"hello"))]

        assert [ref.sha256 for ref in refs] == [DIGEST] * 3
        with store.open(DIGEST) as kept:
            assert kept.read() == b"hello"
        assert file.read_bytes() == b"hello"

    def test_keeps_the_file_two_directories_down_and_private(self, store: Store) -> None:
        store.put(b"hello")

        path = store.root / DIGEST[:2] / DIGEST[2:4] / DIGEST
        assert path.read_bytes() == b"hello"
        assert path.stat().st_mode & 0o077 == 0

    def test_leaves_nothing_unfinished_behind(self, store: Store) -> None:
        store.put(b"hello")

        assert left_over(store) == []

    def test_refuses_what_is_too_large_and_keeps_nothing(self, store: Store) -> None:
        with pytest.raises(TooLarge, match="1000 bytes"):
            store.put(b"x" * 1001)

        assert left_over(store) == []
        assert not store.has(hashlib.sha256(b"x" * 1001).hexdigest())

    def test_takes_exactly_the_largest_size(self, store: Store) -> None:
        assert store.put(b"x" * 1000).size == 1000

    def test_keeps_nothing_when_the_source_breaks(self, store: Store) -> None:
        class Broken(io.BytesIO):
            def read(self, size: int | None = -1) -> bytes:
                raise OSError("the disk is gone")

        with pytest.raises(OSError, match="the disk is gone"):
            store.put(Broken())

        assert left_over(store) == []

    @pytest.mark.parametrize("media_type", ["text", "text/plain\r\nX: 1", "text/<b>", "/", "a" * 300 + "/b"])
    def test_refuses_what_is_no_media_type(self, store: Store, media_type: str) -> None:
        with pytest.raises(ArtifactError, match="not a media type"):
            store.put(b"hello", media_type=media_type)

    def test_refuses_a_fifo_without_waiting_for_a_writer(self, store: Store, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "fifo")

        with pytest.raises(ArtifactError, match="not a regular file"):
            store.put(tmp_path / "fifo")

    def test_says_which_file_is_missing(self, store: Store, tmp_path: Path) -> None:
        with pytest.raises(ArtifactError, match=r"'gone.txt' cannot be read"):
            store.put(tmp_path / "gone.txt")

    def test_the_same_content_from_many_threads_is_one_file(self, store: Store) -> None:
        threads = [threading.Thread(target=store.put, args=(b"hello",)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert [path.name for path in store.root.rglob("*") if path.is_file()] == [DIGEST]


class TestPath:
    @pytest.mark.parametrize("digest", ["", "../../etc/passwd", DIGEST.upper(), DIGEST[:-1], DIGEST + "\n", "g" * 64])
    def test_refuses_what_is_no_digest(self, store: Store, digest: str) -> None:
        for ask in (store.path, store.has, store.open, store.delete):
            with pytest.raises(BadDigest, match="not a SHA-256"):
                ask(digest)


class TestOpen:
    def test_of_an_unknown_digest_raises(self, store: Store) -> None:
        with pytest.raises(FileNotFoundError):
            store.open(DIGEST)


class TestDelete:
    def test_says_whether_it_was_there(self, store: Store) -> None:
        store.put(b"hello")

        assert [store.delete(DIGEST), store.delete(DIGEST)] == [True, False]
        assert not store.has(DIGEST)

    def test_spares_a_young_file_when_asked(self, store: Store) -> None:
        store.put(b"hello")

        assert not store.delete(DIGEST, idle_s=3600)
        assert store.has(DIGEST)

    def test_putting_a_file_again_makes_it_young(self, store: Store) -> None:
        store.put(b"hello")
        os.utime(store.path(DIGEST), (0, 0))
        store.put(b"hello")

        assert not store.delete(DIGEST, idle_s=3600)


class TestSweep:
    def test_removes_only_old_unfinished_files(self, store: Store) -> None:
        store.put(b"hello")
        for name in ("old", "young"):
            (store.root / "incoming" / name).touch()
        os.utime(store.root / "incoming" / "old", (0, 0))

        assert store.sweep() == 1
        assert [path.name for path in left_over(store)] == ["young"]
        assert store.has(DIGEST)


class TestSafeName:
    @pytest.mark.parametrize("name", ["review.md", "Übersicht 2.txt", ".hidden", "a" * 200, "日本.json"])
    def test_takes_ordinary_names(self, name: str) -> None:
        assert safe_name(name) == name

    @pytest.mark.parametrize(
        ("name", "why"),
        [
            ("", "empty"),
            ("   ", "empty"),
            ("..", "slashes"),
            (".", "slashes"),
            ("../x", "slashes"),
            ("/etc/passwd", "slashes"),
            ("a\\b", "slashes"),
            ("a\nb", r"U\+000A"),
            ("a\x00b", r"U\+0000"),
            ("txt\u202eexe", r"U\+202E"),
            ("a\ud800", r"U\+D800"),
            (" a", "space"),
            ("ä" * 101, "200 bytes"),
        ],
    )
    def test_refuses_the_others_and_says_why(self, name: str, why: str) -> None:
        with pytest.raises(UnsafeName, match=why):
            safe_name(name)

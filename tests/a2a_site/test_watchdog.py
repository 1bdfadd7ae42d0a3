"""a2a_site.watchdog: the silence of the controller is told once, by itself."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from a2a_site import watchdog
from a2a_site.watchdog import SILENT_S, Watch, Watchdog


class TestWatch:
    def test_tells_once_that_it_is_silent_and_once_that_it_is_back(self) -> None:
        watch = Watch(heard_at=0.0)

        told = [
            watch.look(mark, now) for mark, now in (("a", 1), ("b", 2), ("b", 11), ("b", 12.5), ("", 30), ("c", 40))
        ]

        assert [bool(words) for words in told] == [False, False, False, True, False, True]
        assert "back after 38 s" in told[-1]

    def test_needs_no_snapshot_at_all_to_be_worried(self) -> None:
        assert Watch(heard_at=0.0).look("", SILENT_S)

    def test_takes_no_notice_of_a_clock_that_was_set_back(self) -> None:
        watch = Watch(heard_at=0.0, mark="2026-11-27T10:00")

        assert watch.look("2026-11-27T09:00", 5.0) == ""
        assert watch.look("2026-11-27T09:00", 5.0 + SILENT_S - 0.1) == ""


class TestWatchdog:
    @pytest.fixture
    def hook(self) -> Iterator[Any]:
        """Yield a server that keeps what is posted to it, and fails the first time."""
        posted: list[Any] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(500 if len(posted) == 1 else 200)
                self.end_headers()
                arrived.set() if len(posted) > 1 else None

            def log_message(self, *args: Any) -> None:
                """Say nothing."""

        arrived = threading.Event()
        with HTTPServer(("127.0.0.1", 0), Handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield f"http://127.0.0.1:{server.server_port}/", posted, arrived
            server.shutdown()

    def test_calls_its_web_hook_again_if_that_failed(self, hook: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(watchdog, "LOOK_S", 0.01)
        monkeypatch.setattr(watchdog, "SILENT_S", 0.05)
        address, posted, arrived = hook
        said: list[str] = []

        dog = Watchdog(lambda: "", said.append, hook=address, name="test")
        dog.start()
        assert arrived.wait(10)
        dog.close()
        dog.join(10)

        assert len(said) == 1
        assert [body["text"].startswith("Mission Control test: The controller has been") for body in posted] == [
            True
        ] * 2

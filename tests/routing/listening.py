"""An HTTP server in this process that keeps what it gets."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson


@dataclass
class Listener:
    """What came, and what is answered."""

    url: str
    got: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)  # (path, headers, JSON)
    answers: list[int] = field(default_factory=list)  # the next ones; then 200

    @property
    def bodies(self) -> list[Any]:
        """Return the JSON of everything that came."""
        return [body for *_, body in self.got]


@contextmanager
def listening() -> Iterator[Listener]:
    """While inside, a server on loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            listener.got.append((self.path, {k.lower(): v for k, v in self.headers.items()}, orjson.loads(body)))
            self.send_response(listener.answers.pop(0) if listener.answers else 200)
            self.send_header("Location", "http://127.0.0.1:1/")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listener = Listener(url=f"http://127.0.0.1:{server.server_port}/hook")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield listener
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

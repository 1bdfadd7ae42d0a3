"""A small HTTP server for tests of what calls out: real sockets, answers made by the test."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Endpoint:
    """What was asked, and how the next request is answered: a function that gets the handler."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str], Any]] = []  # path, headers (lower case), JSON
        self.answer: Callable[[BaseHTTPRequestHandler], None] = says({})
        self.url = ""
        self.heard = threading.Event()  # that a request came
        self.closed = threading.Event()  # that the other side hung up while it was waited with


def says(body: Any, *, status: int = 200, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    """Return an answer in JSON."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        handler.send_response(status)
        for name, value in {"content-type": "application/json", **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("content-length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    return answer


def streams(*chunks: Any, done: bool = True) -> Callable[[BaseHTTPRequestHandler], None]:
    """Return an answer as server-sent events, then [DONE] or a broken connection."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("content-type", "text/event-stream")
        handler.end_headers()
        for chunk in chunks:
            handler.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\r\n\r\n")
        if done:
            handler.wfile.write(b"data: [DONE]\n\n")

    return answer


@contextmanager
def endpoint() -> Iterator[Endpoint]:
    """Serve on a free port of this machine."""
    served = Endpoint()

    class Handler(BaseHTTPRequestHandler):
        def _take(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            body = self.rfile.read(length)
            headers = {name.lower(): value for name, value in self.headers.items()}
            served.asked.append((self.path, headers, json.loads(body) if body else None))
            served.heard.set()
            served.answer(self)

        do_GET = do_POST = _take  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    served.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()


def hangs(served: Endpoint) -> Callable[[BaseHTTPRequestHandler], None]:
    """Return an answer that begins, says nothing more, and notes that the other side hung up."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("content-type", "text/event-stream")
        handler.end_headers()
        try:
            for _ in range(3000):
                handler.wfile.write(b": still here\n\n")
                time.sleep(0.01)
        except OSError:
            served.closed.set()

    return answer

"""a2a_site.flower_proxy"""

from __future__ import annotations

import base64
import hashlib
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import flower
import pytest
from django.contrib.auth.models import User
from django.test import AsyncClient, Client
from pytest_django.fixtures import Settings
from tornado.template import filter_whitespace

from a2a_site import flower_proxy

pytestmark = pytest.mark.django_db


class Upstream(ThreadingHTTPServer):
    """A stand-in for Flower that remembers what it was asked."""

    asked: list[tuple[str, str, dict[str, str]]]


class Answer(BaseHTTPRequestHandler):
    """Answers every request with a page, a cookie and a redirect's address."""

    server: Upstream

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.asked.append((self.command, self.path, headers))
        self.send_response(200)
        for name, value in {"Content-Type": "text/html", "Set-Cookie": "_xsrf=1", "X-Secret": "1"}.items():
            self.send_header(name, value)
        self.send_header("Location", "http://127.0.0.1:5555/flower/workers?x=1")
        self.end_headers()
        self.wfile.write(b"page")

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet."""


@pytest.fixture
def upstream(settings: Settings) -> Iterator[Upstream]:
    """Yield a Flower that runs."""
    server = Upstream(("127.0.0.1", 0), Answer)
    server.asked = []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    settings.A2A_FLOWER_URL = f"http://a2a:secret@127.0.0.1:{server.server_address[1]}/flower"
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def browser(client: Client) -> Client:
    """Return a client that is logged in as a superuser."""
    client.force_login(User.objects.create(username="admin", is_superuser=True))
    return client


class TestProxy:
    def test_needs_the_permission(self, client: Client, upstream: Upstream) -> None:
        client.force_login(User.objects.create(username="viewer"))

        assert client.get("/flower/").status_code == 403
        assert upstream.asked == []

    def test_says_that_flower_is_off(self, browser: Client, settings: Settings) -> None:
        settings.A2A_FLOWER_URL = ""

        answer = browser.get("/flower/")

        assert (answer.status_code, "Flower is not running" in answer.content.decode()) == (503, True)

    def test_says_that_flower_does_not_answer(self, browser: Client, settings: Settings) -> None:
        settings.A2A_FLOWER_URL = "http://a2a:secret@127.0.0.1:1/flower"

        answer = browser.get("/flower/")

        assert (answer.status_code, "Flower does not answer" in answer.content.decode()) == (502, True)
        assert "secret" not in answer.content.decode()

    @pytest.mark.django_db(transaction=True)
    async def test_passes_a_page_on_without_cookies_and_with_flowers_password(
        self, async_client: AsyncClient, upstream: Upstream
    ) -> None:
        await async_client.aforce_login(await User.objects.acreate(username="admin", is_superuser=True))

        answer = await async_client.get("/flower/task/a%3Fb?x=1&y=2", headers={"Authorization": "mine", "X-Own": "1"})
        body = b"".join([chunk async for chunk in answer])  # type: ignore[attr-defined]

        method, path, headers = upstream.asked[0]
        assert (method, path) == ("GET", "/flower/task/a%3Fb?x=1&y=2")
        assert headers["authorization"] == "Basic YTJhOnNlY3JldA=="
        assert not {"cookie", "x-own", "origin"} & headers.keys()
        assert body == b"page"
        assert "Set-Cookie" not in answer.headers
        assert "_xsrf" not in answer.cookies
        assert "X-Secret" not in answer.headers
        assert answer.headers["Location"] == "/flower/workers?x=1"
        assert answer.headers["Content-Security-Policy"] == flower_proxy.POLICY
        await flower_proxy.close()

    @pytest.mark.django_db(transaction=True)
    async def test_turns_the_tables_question_into_a_get(self, async_client: AsyncClient, upstream: Upstream) -> None:
        await async_client.aforce_login(await User.objects.acreate(username="admin", is_superuser=True))

        answer = await async_client.post("/flower/tasks/datatable", "draw=1&start=0", content_type="text/plain")
        async for _ in answer:  # type: ignore[attr-defined]
            pass

        assert upstream.asked[0][:2] == ("GET", "/flower/tasks/datatable?draw=1&start=0")
        await flower_proxy.close()

    @pytest.mark.parametrize("method", ["post", "put", "delete", "patch", "options"])
    def test_lets_nothing_through_that_changes_something(
        self, browser: Client, upstream: Upstream, method: str
    ) -> None:
        for path in ("api/task/revoke/1", "api/worker/shutdown/w", "tasks", ""):
            assert getattr(browser, method)(f"/flower/{path}").status_code == 403

        assert upstream.asked == []


class TestPolicy:
    def test_allows_exactly_the_inline_scripts_of_the_installed_flower(self) -> None:
        templates = Path(flower.__file__).parent / "templates"
        pages = "".join(file.read_text() for file in templates.glob("*.html"))
        scripts = re.findall(r"<script(?![^>]*src)[^>]*>(.*?)</script>", pages, re.DOTALL)
        rendered = [filter_whitespace("single", script.replace("{{ autorefresh }}", "1")) for script in scripts]
        digests = {base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in rendered}

        assert {f"sha256-{digest}" for digest in digests} == {flower_proxy.INLINE_SCRIPT}


class TestIsReadable:
    @pytest.mark.parametrize(
        "path",
        ["", "workers", "worker/celery@w1", "tasks", "task/1", "static/js/flower.js", "api/workers", "api/task/info/1"],
    )
    def test_is_true_for_pages_and_what_they_ask(self, path: str) -> None:
        assert flower_proxy.is_readable(path)

    @pytest.mark.parametrize(
        "path",
        [
            "api/task/revoke/1",
            "api/task/result/1",
            "api",
            "metrics",
            "login",
            "static/../api/x",
            "a\\..\\api",
            "logout",
        ],
    )
    def test_is_false_for_everything_else(self, path: str) -> None:
        assert not flower_proxy.is_readable(path)

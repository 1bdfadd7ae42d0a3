"""a2a_site.asgi"""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from a2a_site import asgi


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> httpx.AsyncClient:
    """Return a client of the application, with one static file."""
    (tmp_path / "a.js").write_text("1")
    (tmp_path.parent / "secret").write_text("2")
    monkeypatch.setattr(asgi, "static", asgi.Static(directory=tmp_path))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=asgi.application), base_url="http://127.0.0.1")


class TestApplication:
    async def test_serves_static_files_that_are_checked_for_news(self, client: httpx.AsyncClient) -> None:
        answer = await client.get("/static/a.js")

        assert (answer.text, answer.headers["cache-control"]) == ("1", "no-cache")
        assert answer.headers["x-content-type-options"] == "nosniff"
        again = await client.get("/static/a.js", headers={"If-None-Match": answer.headers["etag"]})
        assert again.status_code == 304

    @pytest.mark.parametrize("path", ["/static/", "/static/b.js", "/static/../secret", "/static/%2e%2e/secret"])
    async def test_answers_404_for_everything_else_there(self, client: httpx.AsyncClient, path: str) -> None:
        assert (await client.get(path)).status_code == 404

    async def test_hands_other_addresses_to_django(self, client: httpx.AsyncClient) -> None:
        assert (await client.get("/healthz")).text == "ok\n"

"""Calls to addresses that others have named."""

from __future__ import annotations

import pytest
from pytest_django import Settings

from routing import outbound
from tests.routing.listening import listening


class TestCheck:
    @pytest.mark.parametrize(
        "url",
        [
            *("http://example.com/", "ftp://example.com/", "file:///etc/passwd", "https://", "https:///x", "nonsense"),
            *("https://user:secret@example.com/", "https://127.0.0.1/", "https://[::1]/", "https://169.254.169.254/"),
            *("https://example.com:0/", "https://example.com:99999/", "https://[::ffff:127.0.0.1]/", "https://[bad/"),
            "https://example.com/" + "x" * 2000,
        ],
    )
    def test_refuses(self, url: str) -> None:
        with pytest.raises(outbound.Refused):
            outbound.check(url)

    @pytest.mark.parametrize("url", ["https://example.com/hook?x=1", "https://8.8.8.8:8443/"])
    def test_lets_pass(self, url: str) -> None:
        assert outbound.check(url).scheme == "https"


class TestPost:
    def test_follows_no_name_to_where_only_we_can_go(self) -> None:
        with pytest.raises(outbound.Refused, match="not public"):
            outbound.post("https://localhost/", b"{}", {})

    def test_says_that_a_name_is_unknown(self) -> None:
        with pytest.raises(outbound.Refused, match="cannot be looked up"):
            outbound.post("https://no-such-name.invalid/", b"{}", {})

    def test_calls_by_http_what_the_operator_allows_alone(self, settings: Settings) -> None:
        settings.A2A_OUTBOUND_ALLOW = ["192.0.2.0/24"]

        with pytest.raises(outbound.Refused, match="not https"):
            outbound.post("http://8.8.8.8/", b"{}", {})

    def test_reaches_what_the_operator_allows(self, settings: Settings) -> None:
        settings.A2A_OUTBOUND_ALLOW = ["127.0.0.0/8"]
        with listening() as listener:
            named = listener.url.replace("127.0.0.1", "localhost")

            status = outbound.post(named, b'{"a": 1}', {"X-One": "1"})

        [(path, headers, body)] = listener.got
        assert (status, path, body) == (200, "/hook", {"a": 1})
        assert headers["host"].startswith("localhost:")
        assert headers["x-one"] == "1"

    def test_follows_no_redirect(self, settings: Settings) -> None:
        settings.A2A_OUTBOUND_ALLOW = ["127.0.0.0/8"]
        with listening() as listener:
            listener.answers = [302]

            assert outbound.post(listener.url, b"{}", {}) == 302

"""The openai executor, against a small server on this machine."""

import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from routing.executors import AgentFailed, BadInput, BadOutput, Canceled, ExecutorError, TimedOut, Unavailable, get
from routing.executors.recording import Recording
from tests.routing.endpoints import Endpoint, endpoint, hangs, says, streams
from tests.routing.running import job

Run = Callable[..., Any]
HELLO = (
    {"model": "m-1", "choices": [{"delta": {"role": "assistant", "content": "Hel"}}]},
    {"model": "m-1", "choices": [{"delta": {"content": "lo\u2028"}, "finish_reason": None}]},
    {"model": "m-1", "choices": [{"delta": {}, "finish_reason": "stop"}]},
    {"model": "m-1", "choices": [], "usage": {"prompt_tokens": 1000, "completion_tokens": 500}},
)


def whole(**message: Any) -> dict[str, Any]:
    finish = message.pop("finish", "stop")
    return {"model": "m", "choices": [{"message": message, "finish_reason": finish}]}


@pytest.fixture(scope="module")
def server() -> Iterator[Endpoint]:
    with endpoint() as served:
        yield served


@pytest.fixture
def context() -> Recording:
    return Recording()


@pytest.fixture
def run(server: Endpoint, context: Recording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Asks the server's model."""
    monkeypatch.setenv("A2A_OUTBOUND_ALLOW", "127.0.0.1")
    server.asked.clear()
    server.heard.clear()

    def ask(input: Any = "Hi", *, timeout_s: float = 30, **options: Any) -> Any:
        options = {"base_url": server.url + "/v1", "model": "m", **options}
        return get("openai").run(job(tmp_path, input=input, timeout_s=timeout_s, **options), context)

    return ask


class TestRun:
    def test_a_stream_becomes_text_progress_and_what_it_cost(
        self, run: Run, server: Endpoint, context: Recording
    ) -> None:
        server.answer = streams(*HELLO)

        output = run(usd_per_million_in=2, usd_per_million_out=8)

        assert output == {
            "text": "Hello\u2028",
            "model": "m-1",
            "finish_reason": "stop",
            "usage": {"prompt_tokens": 1000, "completion_tokens": 500},
        }
        assert context.progressed[-1] == (None, "Hello\u2028")
        assert context.used == {"usd": pytest.approx(0.006), "tokens": 1500}

    def test_asks_with_the_key_the_system_message_and_no_tools(
        self, run: Run, server: Endpoint, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MODEL_KEY", "sk-1")
        server.answer = says(whole(content="ok"))

        run({"text": "Hi"}, key="env:MODEL_KEY", system="Be brief.", stream=False, max_tokens=7)

        path, headers, asked = server.asked[0]
        assert path == "/v1/chat/completions"
        assert (headers["authorization"], headers["idempotency-key"]) == ("Bearer sk-1", "k")
        assert asked == {
            "model": "m",
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
            "max_tokens": 7,
        }

    @pytest.mark.parametrize(
        ("input", "messages"),
        [
            ({"messages": [{"role": "assistant", "content": "a"}]}, [{"role": "assistant", "content": "a"}]),
            ({"a": [1]}, [{"role": "user", "content": '{"a": [1]}'}]),
        ],
    )
    def test_turns_the_input_into_messages(self, run: Run, server: Endpoint, input: Any, messages: Any) -> None:
        server.answer = says(whole(content="ok"))

        run(input)

        assert server.asked[0][2]["messages"] == messages

    def test_json_is_the_output_itself(self, run: Run, server: Endpoint) -> None:
        server.answer = says(whole(content='{"n": 1}'))

        assert run(json=True) == {"n": 1}
        assert server.asked[0][2]["response_format"] == {"type": "json_object"}

    def test_a_cancel_hangs_up(self, run: Run, server: Endpoint, context: Recording) -> None:
        server.answer = hangs(server)

        def cancel() -> None:
            server.heard.wait(20)
            context.cancel()

        threading.Thread(target=cancel).start()

        with pytest.raises(Canceled):
            run()

        assert server.closed.wait(20)

    def test_the_attempts_time_hangs_up(self, run: Run, server: Endpoint) -> None:
        server.answer = hangs(server)

        with pytest.raises(TimedOut, match=r"longer than 0\.2 s"):
            run(timeout_s=0.2)

    def test_silence_has_a_time_of_its_own(self, run: Run, server: Endpoint) -> None:
        server.answer = lambda handler: time.sleep(1)

        with pytest.raises(TimedOut, match="silence_s"):
            run(silence_s=0.1)


WRONG: list[tuple[Callable[[BaseHTTPRequestHandler], None], type[ExecutorError], bool, str]] = [
    (says({"error": {"message": "no such key"}}, status=401), Unavailable, False, "401: no such key"),
    (says({"error": {"message": "too long"}}, status=400), BadInput, False, "too long"),
    (says(b"<html>", status=502), Unavailable, True, "502"),
    (says({}, status=307, location="http://169.254.169.254/"), Unavailable, False, "redirect"),
    (says(b"nonsense"), BadOutput, True, "no JSON"),
    (says([1]), BadOutput, False, "no JSON object"),
    (says(whole(content=None, tool_calls=[{"id": "1"}])), BadOutput, False, "none was offered"),
    (says(whole(content="", finish="content_filter")), AgentFailed, False, "filter"),
    (streams(*HELLO[:2]), Unavailable, True, "broke off"),
    (streams(*HELLO[:2], {"error": {"message": "overloaded"}}), AgentFailed, True, "overloaded"),
]


class TestTrouble:
    @pytest.mark.parametrize(("answer", "error", "retryable", "words"), WRONG)
    def test_is_told_in_words(
        self,
        run: Run,
        server: Endpoint,
        answer: Callable[[BaseHTTPRequestHandler], None],
        error: type[ExecutorError],
        retryable: bool,
        words: str,
    ) -> None:
        server.answer = answer

        with pytest.raises(error, match=words) as caught:
            run()

        assert caught.value.error["retryable"] is retryable

    def test_heeds_how_long_to_wait(self, run: Run, server: Endpoint) -> None:
        server.answer = says({}, status=429, retry_after="7")

        with pytest.raises(Unavailable) as caught:
            run()

        assert caught.value.retry_in_s == 7

    def test_json_that_was_cut_off_is_no_output(self, run: Run, server: Endpoint) -> None:
        server.answer = says(whole(content='{"n":', finish="length"))

        with pytest.raises(BadOutput, match="max_tokens"):
            run(json=True)

    def test_what_was_used_before_it_broke_off_counts(self, run: Run, server: Endpoint, context: Recording) -> None:
        server.answer = streams(HELLO[3], HELLO[0])

        with pytest.raises(Unavailable):
            run()

        assert context.used["tokens"] == 1500

    def test_private_addresses_are_refused(self, run: Run, monkeypatch: pytest.MonkeyPatch, server: Endpoint) -> None:
        monkeypatch.setenv("A2A_OUTBOUND_ALLOW", "")

        with pytest.raises(Unavailable, match="not https"):
            run()
        with pytest.raises(Unavailable, match="not public"):
            run(base_url=server.url.replace("http:", "https:"))
        assert server.asked == []


class TestProblems:
    def test_are_found_when_the_agent_is_saved(self) -> None:
        options = {"base_url": "ftp://x", "model": "", "key": "sk-secret", "temperature": 3, "tools": [], "stream": 1.5}

        assert len(get("openai").problems(options)) == 6

    def test_a_plain_agent_has_none(self) -> None:
        assert get("openai").problems({"base_url": "https://api.openai.com/v1", "model": "m", "key": "env:K"}) == []


class TestTryOut:
    def test_says_whether_the_model_is_there(self, run: Run, server: Endpoint) -> None:
        server.answer = says({"data": [{"id": "m"}]})
        executor: Any = get("openai")

        assert "offers m" in executor.try_out({"base_url": server.url, "model": "m"})
        assert "does not list x; it lists m" in executor.try_out({"base_url": server.url, "model": "x"})

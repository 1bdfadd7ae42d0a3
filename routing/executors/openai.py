"""The ``openai`` executor: an agent that is a model behind an endpoint for chat completions, of whatever vendor.

The input is text, ``{"messages": [{"role", "content"}]}``, or JSON, which is sent as it stands. Tools are off. Options:

    base_url            such as https://api.openai.com/v1; what A2A_OUTBOUND_ALLOW names may be plain http. Required
    model               Required
    key                 where the key is: env:NAME or file:/path; none for endpoints that want none
    system              the system message
    json                true: the answer has to be JSON, and is the output
    stream              false for endpoints that cannot; true unless given
    temperature, max_tokens
    usd_per_million_in, usd_per_million_out   prices of tokens; what was used is told to the budgets
    connect_s, silence_s                      5 and 60 unless given: to be connected, and without a byte
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx

from routing.executors import chat, credentials, outgoing
from routing.executors import options as checks
from routing.executors.contract import (
    BadInput,
    BadOutput,
    Canceled,
    Context,
    ExecutorError,
    Job,
    TimedOut,
    Unavailable,
    executor,
)
from routing.executors.conversation import clean
from routing.executors.interruptible import Interruptible
from routing.executors.output import as_json

KNOWN = (
    *("base_url", "model", "key", "system", "json", "stream", "temperature", "max_tokens"),
    *("usd_per_million_in", "usd_per_million_out", "connect_s", "silence_s"),
)
NUMBERS = {
    "temperature": (0, 2),
    "max_tokens": (1, 10_000_000),
    "usd_per_million_in": (0, 100_000),
    "usd_per_million_out": (0, 100_000),
    "connect_s": (0.1, 60),
    "silence_s": (0.1, 3600),
}
CONNECT_S, SILENCE_S = 5.0, 60.0
BODY_BYTES = 32_000_000  # of an answer that is not streamed, and of one line of one that is
TAIL_CHARS = 200  # of the text so far, shown as progress
MAX_WAIT_S = 300.0  # the longest Retry-After that is heeded


@executor("openai")
class OpenAI:
    """Asks a model."""

    name: str

    def problems(self, options: Mapping[str, Any]) -> list[str]:
        """Return in words what is wrong."""
        found = [*checks.unknown(options, KNOWN), *outgoing.url_problems(options.get("base_url"), "base_url")]
        if not isinstance(options.get("model"), str) or not options["model"]:
            found.append("model must be the name of a model.")
        if not isinstance(options.get("system", ""), str):
            found.append("system must be text.")
        found += [
            f"{name} must be true or false."
            for name in ("json", "stream")
            if options.get(name) not in (None, True, False)
        ]
        found += credentials.problems(options.get("key"), "key")
        return [*found, *checks.number_problems(options, NUMBERS)]

    def run(self, job: Job, context: Context) -> Any:
        """Return ``{"text", "model", "finish_reason", "usage"}``, or the JSON asked for. Raises ExecutorError."""
        checks.require(self.problems(job.options))
        if context.cancelled:
            raise Canceled("The task was cancelled before the model was asked.")
        asked = chat.body(job.options, job.input)
        answer = chat.Answer()
        try:
            with Interruptible(context, timeout_s=job.timeout_s) as running:
                running.wait(_ask(job, asked, answer, context))
        finally:  # what was used before it broke off has to be paid as well
            tokens = answer.prompt_tokens + answer.completion_tokens
            context.usage(usd=answer.usd(job.options), tokens=tokens)
        return as_json(answer.output(is_json=bool(job.options.get("json"))))

    def try_out(self, options: Mapping[str, Any]) -> str:
        """Return in words what the endpoint says when asked for its models. Raises ExecutorError."""
        checks.require(self.problems(options))
        from routing.executors.recording import Recording

        with Interruptible(Recording(), timeout_s=15) as running:
            return running.wait(_models(options))


def _client(options: Mapping[str, Any], headers: dict[str, str]) -> httpx.AsyncClient:
    if options.get("key"):
        headers = {**headers, "Authorization": f"Bearer {credentials.read(options['key'])}"}
    connect_s, silence_s = options.get("connect_s") or CONNECT_S, options.get("silence_s") or SILENCE_S
    return outgoing.client(connect_s=connect_s, answer_s=silence_s, headers=headers)


async def _ask(job: Job, asked: dict[str, Any], answer: chat.Answer, context: Context) -> None:
    url = job.options["base_url"].rstrip("/") + "/chat/completions"
    headers = {"Idempotency-Key": job.idempotency_key}
    try:
        async with _client(job.options, headers) as client, client.stream("POST", url, json=asked) as response:
            await _refuse(response)
            if "text/event-stream" in response.headers.get("content-type", ""):
                await _listen(response, answer, context)
            else:
                answer.hear(_loads(await _read(response)))
                answer.finish = answer.finish or "stop"
    except httpx.HTTPError as error:
        raise _broken(error) from error


async def _listen(response: httpx.Response, answer: chat.Answer, context: Context) -> None:
    tail = ""
    async for line in _lines(response):
        if not line.startswith("data:"):
            continue
        data = line[5:].strip()
        if data == "[DONE]":
            break
        added = answer.hear(_loads(data))
        if added:
            tail = (tail + added)[-TAIL_CHARS:]
            context.progress(None, clean(tail))
    if not answer.finish:
        raise Unavailable("The endpoint's stream broke off before the answer was whole.")


async def _lines(response: httpx.Response) -> AsyncIterator[str]:
    """Yield the lines of a stream; httpx would split at more than line feeds, and without bound."""
    waiting = b""
    async for data in response.aiter_bytes():
        *whole, waiting = (waiting + data).split(b"\n")
        for line in whole:
            yield line.decode("utf-8", "replace").rstrip("\r")
        if len(waiting) > BODY_BYTES:
            raise BadOutput(f"A line of the endpoint's stream is longer than {BODY_BYTES} bytes.")
    yield waiting.decode("utf-8", "replace")


async def _read(response: httpx.Response) -> str:
    body = b""
    async for data in response.aiter_bytes():
        body += data
        if len(body) > BODY_BYTES:
            raise BadOutput(f"The endpoint's answer is longer than {BODY_BYTES} bytes.")
    return body.decode("utf-8", "replace")


def _loads(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadOutput(f"The endpoint's answer is no JSON: {error}.", retryable=True) from error


async def _refuse(response: httpx.Response) -> None:
    """Raise what a status other than 200 means."""
    code = response.status_code
    if code == 200:
        return
    try:
        said = json.loads(await _read(response))
    except (ValueError, RecursionError, ExecutorError):
        said = None
    words = clean(f"The endpoint answers {code}: {chat.error_text(said)}")
    if code in (400, 413, 422):
        raise BadInput(words)
    if code == 429 or code >= 500:
        raise Unavailable(words, retry_in_s=_retry_after(response))
    raise Unavailable(words, retryable=False)


def _retry_after(response: httpx.Response) -> float | None:
    try:
        asked = float(response.headers.get("retry-after", ""))
    except ValueError:  # a date, or nothing: the policy's own back-off counts
        return None
    return min(asked, MAX_WAIT_S) if asked > 0 else None


def _broken(error: httpx.HTTPError) -> ExecutorError:
    if isinstance(error, httpx.ConnectTimeout):
        return Unavailable("The endpoint could not be connected to in time (connect_s).")
    if isinstance(error, httpx.TimeoutException):
        return TimedOut("The endpoint said nothing for too long (silence_s).", retryable=True)
    return Unavailable(clean(f"The endpoint cannot be reached: {error or type(error).__name__}"))


async def _models(options: Mapping[str, Any]) -> str:
    try:
        async with _client(options, {}) as client:
            response = await client.get(options["base_url"].rstrip("/") + "/models")
            await _refuse(response)
            said = _loads(response.text)
    except httpx.HTTPError as error:
        raise _broken(error) from error
    listed = said.get("data") if isinstance(said, Mapping) else None
    names = [str(each["id"]) for each in listed or () if isinstance(each, Mapping) and "id" in each]
    if options["model"] in names:
        return f"The endpoint answers, and offers {options['model']}."
    return f"The endpoint answers, and does not list {options['model']}; it lists {', '.join(names[:10]) or 'nothing'}."

"""Chat completions: what is asked, and what the answer's pieces come to.  Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from routing.executors.contract import AgentFailed, BadInput, BadOutput, LimitExceeded

OUTPUT_CHARS = 4_000_000
ROLES = ("system", "developer", "user", "assistant")


def body(options: Mapping[str, Any], value: Any) -> dict[str, Any]:
    """Return the request's body: tools are never offered. Raises BadInput."""
    system = [{"role": "system", "content": options["system"]}] if options.get("system") else []
    asked: dict[str, Any] = {"model": options["model"], "messages": [*system, *_messages(value)]}
    for name in ("temperature", "max_tokens"):
        if options.get(name) is not None:
            asked[name] = options[name]
    if options.get("json"):
        asked["response_format"] = {"type": "json_object"}
    if options.get("stream", True):
        asked |= {"stream": True, "stream_options": {"include_usage": True}}
    return asked


def _messages(value: Any) -> list[dict[str, str]]:
    """Return the turns of a talk; text, ``{"text": …}`` or ``{"prompt": …}`` is one, other JSON is one as it stands."""
    if isinstance(value, Mapping) and isinstance(value.get("messages"), list):
        return [_message(each) for each in value["messages"]]
    if isinstance(value, Mapping) and len(value) == 1:
        (only,) = value.items()
        value = only[1] if only[0] in ("text", "prompt") and isinstance(only[1], str) else value
    return [{"role": "user", "content": value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}]


def _message(each: Any) -> dict[str, str]:
    if not isinstance(each, Mapping) or each.get("role") not in ROLES or not isinstance(each.get("content"), str):
        raise BadInput(f'A message is {{"role": one of {", ".join(ROLES)}, "content": text}}.')
    return {"role": each["role"], "content": each["content"]}


@dataclass(slots=True)
class Answer:
    """What has come of an answer so far."""

    model: str = ""
    finish: str = ""  # finish_reason, once told
    prompt_tokens: int = 0
    completion_tokens: int = 0
    _pieces: list[str] = field(default_factory=list)
    _length: int = 0

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    def hear(self, said: Any) -> str:
        """Take one chunk, or the whole answer, and return the text it adds. Raises ExecutorError."""
        if not isinstance(said, Mapping):
            raise BadOutput("The endpoint's answer is no JSON object.")
        if said.get("error"):
            raise AgentFailed(f"The endpoint broke off: {error_text(said)}", retryable=True)
        self._count(said.get("usage"))
        self.model = said["model"] if isinstance(said.get("model"), str) else self.model
        choices = said.get("choices")
        if not isinstance(choices, list) or not choices:
            return ""
        return self._choose(choices[0])

    def _choose(self, choice: Any) -> str:
        turn = (choice.get("delta") or choice.get("message") or {}) if isinstance(choice, Mapping) else None
        if not isinstance(turn, Mapping):
            raise BadOutput("The endpoint's answer has no message.")
        if turn.get("tool_calls") or turn.get("function_call"):
            raise BadOutput("The model calls a tool, and none was offered.")
        if turn.get("refusal"):
            raise AgentFailed(f"The model refuses: {str(turn['refusal'])[:1000]}")
        self.finish = choice.get("finish_reason") or self.finish
        text = turn.get("content") or ""
        if not isinstance(text, str):
            raise BadOutput("The endpoint's answer is no text.")
        self._length += len(text)
        if self._length > OUTPUT_CHARS:
            raise LimitExceeded(f"The answer is longer than {OUTPUT_CHARS} characters.")
        self._pieces.append(text)
        return text

    def _count(self, usage: Any) -> None:
        """Keep the usage told last: a stream may tell it more than once, each time of the whole."""
        if not isinstance(usage, Mapping):
            return
        self.prompt_tokens = _amount(usage.get("prompt_tokens"))
        self.completion_tokens = _amount(usage.get("completion_tokens"))

    def usd(self, options: Mapping[str, Any]) -> float:
        """Return what the tokens cost by the options' prices, dollars per million."""
        millionths = self.prompt_tokens * (options.get("usd_per_million_in") or 0)
        return float(millionths + self.completion_tokens * (options.get("usd_per_million_out") or 0)) / 1e6

    def output(self, *, is_json: bool) -> Any:
        """Return the agent's output. Raises ExecutorError where the answer is not whole."""
        if self.finish == "content_filter":
            raise AgentFailed("The endpoint's filter held the answer back.")
        if is_json:
            return self._as_json()
        counted = {"prompt_tokens": self.prompt_tokens, "completion_tokens": self.completion_tokens}
        return {"text": self.text, "model": self.model, "finish_reason": self.finish, "usage": counted}

    def _as_json(self) -> Any:
        if self.finish == "length":
            raise BadOutput("The answer was cut off at max_tokens, so it is no JSON. Raise max_tokens.")
        try:
            return json.loads(self.text)
        except (ValueError, RecursionError) as error:
            raise BadOutput(
                f"The model was asked for JSON and said something else: {error}.", retryable=True
            ) from error


def _amount(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**12 else 0


def error_text(said: Any) -> str:
    """Return the words of an error's body, at most 500 characters."""
    error = said.get("error") if isinstance(said, Mapping) else None
    words = error.get("message") if isinstance(error, Mapping) else error
    return str(words or "it says nothing")[:500]

"""Where a follower of events stands.  Pure: both clients feed it what the stream sends."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

from a2a_client import errors
from a2a_client.models import TERMINAL, Event

SILENCE_S = 20.0  # the server sends a comment every few seconds; after so long the connection is dead
POLL_S = 0.25  # where events come by pages
RECONNECTS_S = (0.1, 0.5, 1.0, 2.0, 5.0)


class Request(TypedDict):
    """What a stream is asked for with."""

    headers: dict[str, str]
    params: dict[str, int]
    timeout: float  # seconds


def before_the_end(events: Sequence[Event]) -> int:
    """Return the seq to follow a task from that had not ended when it was read, though its events may say it has."""
    seen = events[-1].seq if events else 0
    return next((event.seq - 1 for event in events if event.kind in TERMINAL), seen)


@dataclass(slots=True, kw_only=True)
class Following:
    """What has been seen of one task's events."""

    after: int  # seq of the last event seen
    timeout_s: float | None
    began: float  # monotonic seconds
    has_ended: bool = False
    failures: int = 0  # in a row

    def options(self) -> Request:
        """Return how to ask for the events after the last one; so many seconds of silence end the connection."""
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(self.after), "Cache-Control": "no-store"}
        timeout = SILENCE_S if self.timeout_s is None else min(SILENCE_S, self.timeout_s)
        return {"headers": headers, "params": {"after": self.after}, "timeout": timeout}

    def pause_s(self) -> float:
        """Return how long to wait before the next connection."""
        self.failures += 1
        return RECONNECTS_S[min(self.failures, len(RECONNECTS_S)) - 1]

    def take(self, kind: str, data: str) -> Event | None:
        """Return the event, or None for what is none or was seen before."""
        try:
            event = Event.model_validate(json.loads(data))
        except ValueError:
            return None
        self.failures = 0
        if event.seq <= self.after:
            return None
        self.after = event.seq
        self.has_ended = event.kind in TERMINAL
        return event

    def take_page(self, text: bytes) -> list[Event]:
        """Return what is new in a page of events: the answer of a server that does not stream."""
        found = [self.take("", json.dumps(event)) for event in json.loads(text)["events"]]
        return [event for event in found if event is not None]

    def check(self, now: float) -> None:
        """Raise ``TaskTimeout`` when the caller's patience is at its end."""
        if self.timeout_s is not None and not self.has_ended and now - self.began > self.timeout_s:
            raise errors.TaskTimeout(f"The task has not ended after {self.timeout_s:g} s. It goes on.")

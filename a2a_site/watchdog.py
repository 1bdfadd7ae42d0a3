"""Notices that no controller leads any more, and tells of it without one: by a line in the log and a web hook.

The alerts come from the leading controller itself; what follows when there is none only somebody else can say.
"""

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass

LOOK_S = 2.0
SILENT_S = 10.0  # with LOOK_S and the snapshot's own second it is told within 15
HOOK_S = 5.0
TRIES = 3


@dataclass(slots=True)
class Watch:
    """When the controller was last heard of, on a clock that nobody sets."""

    heard_at: float
    mark: str = ""  # of the last snapshot: its own time
    is_silent: bool = False

    def look(self, mark: str, now: float) -> str:
        """Return what is to be told now, "" for nothing: once when it falls silent, and once when it is back."""
        if mark and mark != self.mark:
            silent_s, was_silent = now - self.heard_at, self.is_silent
            self.mark, self.heard_at, self.is_silent = mark, now, False
            return f"The controller is back after {silent_s:.0f} s." if was_silent else ""
        if not self.is_silent and now - self.heard_at >= SILENT_S:
            self.is_silent = True
            return f"The controller has been silent for {now - self.heard_at:.0f} s: nothing is given out meanwhile."
        return ""


class Watchdog(threading.Thread):
    """Looks until ``close``. ``mark`` returns the time in the last snapshot, "" if there is none."""

    def __init__(self, mark: Callable[[], str], say: Callable[[str], None], *, hook: str = "", name: str = "") -> None:
        super().__init__(name="watchdog", daemon=True)
        self._mark = mark
        self._say = say
        self._hook = hook
        self._site = name
        self._ended = threading.Event()

    def run(self) -> None:
        """Look, and tell."""
        watch = Watch(heard_at=time.monotonic())
        while not self._ended.wait(LOOK_S):
            told = watch.look(self._mark(), time.monotonic())
            if told:
                self._say(told)
                self._call(told)

    def close(self) -> None:
        """Stop looking: the site is being stopped."""
        self._ended.set()

    def _call(self, told: str) -> None:
        if not self._hook:
            return
        body = json.dumps({"text": f"Mission Control {self._site}: {told}"}).encode()
        request = urllib.request.Request(self._hook, data=body, headers={"Content-Type": "application/json"})
        for _ in range(TRIES):
            try:
                with urllib.request.urlopen(request, timeout=HOOK_S):
                    return
            except (OSError, ValueError, urllib.error.URLError) as error:
                why = str(error)
                self._ended.wait(LOOK_S)
        self._say(f"The watchdog's web hook could not be called: {why}")

"""Turns what a program writes on its pipes into progress, log lines, artifacts and, in the end, a result."""

from __future__ import annotations

import time
from collections.abc import Callable

from routing.artifacts import ArtifactError, TooLarge
from routing.executors import protocol
from routing.executors.contract import BadOutput, Context, LimitExceeded

TAIL_BYTES = 4096
LINE_CHARS = 4096
LOG_BURST = 200
LOG_RATE = 20.0  # lines a second after the burst


class Conversation:
    """A ``process.Listener`` that understands ``protocol``."""

    def __init__(self, context: Context, *, publish: Callable[[protocol.Artifact], None]) -> None:
        self.result: protocol.Result | None = None
        self.failure: protocol.Failure | None = None
        self._context = context
        self._publish = publish
        self._log = LimitedLog(context)
        self._output, self._errors = protocol.Lines(), protocol.Lines()
        self._plain: list[bytes] = []
        self._tail = b""

    @property
    def text(self) -> str:
        """The plain lines of the output, as they were printed; bytes that are not UTF-8 become U+FFFD."""
        return readable(b"".join(self._plain))

    @property
    def tail(self) -> str:
        """The last few KiB of standard error."""
        return readable(self._tail).strip()

    def hear_output(self, data: bytes) -> None:
        """Act on every line completed. Raises BadOutput for a line nobody can act on."""
        for line in self._output.feed(data):
            self._heed(line, b"\n")

    def hear_errors(self, data: bytes) -> None:
        self._tail = (self._tail + data)[-TAIL_BYTES:]
        for line in self._errors.feed(data):
            self._warn(line)

    def finish(self) -> None:
        """Act on last lines that have no newline."""
        self._heed(self._output.rest(), b"")
        self._warn(self._errors.rest())
        if self.result and self.text.strip():
            self._log(f"Beside its result it printed: {self.text[-LINE_CHARS:].strip()}", "info")
        self._log.finish()

    def _warn(self, line: bytes) -> None:
        if line.strip():
            self._log(readable(line[: 2 * LINE_CHARS]), "warning")

    def _heed(self, line: bytes, newline: bytes) -> None:
        match protocol.parse(line):
            case None:
                self._plain.append(line + newline)
            case protocol.Progress(fraction=fraction, message=message):
                self._context.progress(fraction, clean(message[:LINE_CHARS]))
            case protocol.Log(level=level, message=message):
                self._log(message, level)
            case protocol.Usage(usd=usd, tokens=tokens):
                self._context.usage(usd=usd, tokens=tokens)
            case protocol.Artifact() as artifact:
                self._keep(artifact)
            case protocol.Result() as result:
                if self.result:
                    raise BadOutput("The program gave a second result. It must print exactly one.")
                self.result = result
            case protocol.Failure() as failure:
                self.failure = failure
            case protocol.Malformed(type="progress" | "log" | "usage" as kind, why=why):
                self._log(f"Ignored a {kind!r} line: {why}.", "warning")
            case protocol.Malformed(type=kind, why=why):
                raise BadOutput(f"The program printed a {kind!r} line that breaks the protocol: {why}.")

    def _keep(self, artifact: protocol.Artifact) -> None:
        try:
            self._publish(artifact)
        except TooLarge as error:
            raise LimitExceeded(str(error), detail={"artifact": clean(artifact.name[:200])}) from error
        except ArtifactError as error:
            raise BadOutput(str(error), detail={"artifact": clean(artifact.name[:200])}) from error


class LimitedLog:
    """Writes to the context's log, a burst at first and then so many lines a second; says how many it dropped."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._allowance = float(LOG_BURST)
        self._asked_at = time.monotonic()
        self._dropped = 0

    def __call__(self, message: str, level: str) -> None:
        now = time.monotonic()
        self._allowance = min(self._allowance + (now - self._asked_at) * LOG_RATE, LOG_BURST)
        self._asked_at = now
        if self._allowance < 1:
            self._dropped += 1
            return
        self._allowance -= 1
        self._context.log(clean(message[:LINE_CHARS]), level)

    def finish(self) -> None:
        if self._dropped:
            rule = f"at most {LOG_BURST} at once and {LOG_RATE:.0f} a second are kept"
            self._context.log(f"{self._dropped} log lines were dropped: {rule}.", "warning")


def readable(data: bytes) -> str:
    """Return ``data`` as text that any database can keep."""
    return clean(data.decode("utf-8", "replace"))


def clean(text: str) -> str:
    """Return ``text`` without what a database or UTF-8 cannot hold: NUL and lone surrogates become U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\x00", "\ufffd")

import contextlib
import io
import json
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TextIO

import pytest

from a2a_site import console
from a2a_site.console import Console, level_of


@pytest.fixture
def screen() -> io.StringIO:
    """Return what stands for the terminal."""
    return io.StringIO()


@pytest.fixture
def hung_up() -> Iterator[TextIO]:
    """Yield the writing end of a pipe that nobody reads any more."""
    reading, writing = os.pipe()
    os.close(reading)
    stream = os.fdopen(writing, "w")
    yield stream
    with contextlib.suppress(BrokenPipeError):
        stream.close()


class TestLevelOf:
    @pytest.mark.parametrize(
        ("line", "level"),
        [
            ("INFO celery.apps.worker: ready.", "info"),
            ("WARNING django.request: Not Found", "warning"),
            ("[2026-01-01 10:00:00,000: ERROR/MainProcess] oh", "error"),
            ("Traceback (most recent call last):", "error"),
            ("an ERRORLESS run", "info"),
            ("", "info"),
        ],
    )
    def test_guesses_from_the_line(self, line: str, level: str) -> None:
        assert level_of(line) == level


class TestLine:
    def test_is_prefixed_by_the_process(self, home: Path, screen: io.StringIO) -> None:
        with closing(Console(home / "logs", screen)) as merged:
            merged.line("web", "hello")

        assert screen.getvalue() == "web        │ hello\n"

    def test_has_a_colour_a_process_on_a_terminal(self, home: Path, screen: io.StringIO) -> None:
        with closing(Console(home / "logs", screen, colour=True)) as merged:
            merged.line("web", "hello")
            merged.line("w1", "hello")
            merged.line("web", "again")

        colours = [line.partition("m")[0] for line in screen.getvalue().splitlines()]
        assert colours[0] == colours[2] != colours[1]

    def test_is_one_json_object_where_that_is_asked_for(self, home: Path, screen: io.StringIO) -> None:
        with closing(Console(home / "logs", screen, as_json=True)) as merged:
            merged.line("w1", 'WARNING "x"\t✓')

        entry = json.loads(screen.getvalue())
        assert (entry["process"], entry["level"], entry["message"]) == ("w1", "warning", 'WARNING "x"\t✓')
        assert entry["at"].endswith("+00:00")

    def test_is_kept_in_a_file_a_process(self, home: Path, screen: io.StringIO) -> None:
        with closing(Console(home / "logs", screen)) as merged:
            merged.line("w1", "one")
            merged.line("web", "two")

        assert (home / "logs" / "w1.log").read_text().endswith("Z one\n")
        assert (home / "logs" / "web.log").read_text().endswith("Z two\n")

    def test_moves_a_full_file_aside(self, home: Path, screen: io.StringIO) -> None:
        with closing(Console(home / "logs", screen)) as merged:
            for _ in range(6):
                merged.line("w1", "x" * (console.MAX_FILE_BYTES // 2))

        files = sorted(path.name for path in (home / "logs").iterdir())
        assert files == ["w1.log", "w1.log.1", "w1.log.2", "w1.log.3"]

    def test_goes_on_in_the_file_when_the_terminal_is_gone(self, home: Path, hung_up: TextIO) -> None:
        with closing(Console(home / "logs", hung_up)) as merged:
            merged.line("w1", "one")
            merged.line("w1", "two")

        assert (home / "logs" / "w1.log").read_text().count("\n") == 2

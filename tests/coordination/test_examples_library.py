from pathlib import Path

import pytest

from coordination.examples import writers
from coordination.examples.library import best, passages, words
from routing.executors import BadInput
from routing.executors.recording import Recording

TEXT = "# Title\n\nFirst line\nsecond line.\n\n```\ncode\n```\n\n| a | b |\n\nLast, about leases.\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.md").write_text(TEXT)
    (tmp_path / "b.bin").write_bytes(b"leases")
    return tmp_path


class TestPassages:
    def test_are_paragraphs_with_the_line_they_begin_at(self, folder: Path) -> None:
        assert [(each.place, each.text) for each in passages(folder)] == [
            ("a.md:3", "First line second line."),
            ("a.md:7", "code"),
            ("a.md:12", "Last, about leases."),
        ]


class TestBest:
    def test_puts_first_what_has_the_rare_words(self, folder: Path) -> None:
        assert [passage.line for _, passage in best(passages(folder), "What is a lease?")] == [12]

    def test_finds_nothing_where_nothing_is_said(self, folder: Path) -> None:
        assert best(passages(folder), "zebras") == []
        assert best([], "zebras") == []


class TestWords:
    def test_leave_out_what_says_nothing(self) -> None:
        assert words("What are the Leases of it?") == ["lease", "of", "it"]


class TestCheckFacts:
    def test_doubts_what_does_not_stand_where_it_says(self, folder: Path) -> None:
        text = "# T\n\nLast, about leases. [a.md:12]\n\nLeases are free. [a.md:12]\n\nNo place at all.\n"

        found = writers.check_facts({"text": text, "request": {"sources": str(folder)}}, Recording())

        assert found == {"doubts": ["Leases are free.", "No place at all."]}


class TestRevise:
    def test_drops_sections_and_keeps_other_remarks(self) -> None:
        text = "# T\n\n## One\n\na\n\n## Two\n\nb\n"

        found = writers.revise({"text": text, "remarks": {"remarks": "drop: One\nShorter, please."}}, Recording())

        assert found["text"] == "# T\n\n## Two\n\nb\n\n> Shorter, please.\n"


class TestFolder:
    def test_has_to_be_one(self) -> None:
        with pytest.raises(BadInput, match="no folder"):
            writers.folder({"sources": "/nowhere/at/all"})

"""Passages of a folder of texts, and which of them answer a question.  Pure but for reading the folder.

Ranked by BM25 (Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework"), k1 = 1.2, b = .75.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

SUFFIXES = (".md", ".txt", ".rst")
MAX_FILES, MAX_BYTES = 500, 1_000_000
K1, B = 1.2, 0.75
WORD = re.compile(r"[^\W_]{2,}")
COMMON = frozenset(
    re.findall(
        r"\w+",
        "the and for are that this with from not but its has have was were who what which when where how why does can "
        "may will one all any each into than then they them their there here you your our out also only more most",
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A paragraph: its file, the line it begins at, and its text on one line."""

    path: str  # relative to the folder
    line: int
    text: str

    @property
    def place(self) -> str:
        """Return where it stands, as ``path:line``."""
        return f"{self.path}:{self.line}"


def passages(folder: Path) -> list[Passage]:
    """Return the paragraphs of the folder's texts. Raises ``OSError`` where it cannot be read."""
    found: list[Passage] = []
    files = sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES and path.is_file())
    for path in files[:MAX_FILES]:
        if path.stat().st_size <= MAX_BYTES:
            text = path.read_text(encoding="utf-8", errors="replace")
            found += _paragraphs(str(path.relative_to(folder)), text)
    return found


def _paragraphs(path: str, text: str) -> Iterator[Passage]:
    begun, lines = 0, list[str]()
    for number, line in enumerate([*text.splitlines(), ""], 1):
        if line.strip() and not line.startswith(("#", "```", "|")):
            begun, lines = begun or number, [*lines, line.strip()]
        elif lines:
            yield Passage(path=path, line=begun, text=" ".join(lines))
            begun, lines = 0, []


def words(text: str) -> list[str]:
    """Return the words that matter, in lower case and without a plural's s."""
    return [word.removesuffix("s") for word in map(str.lower, WORD.findall(text)) if word not in COMMON]


def best(known: Sequence[Passage], question: str, count: int = 3) -> list[tuple[float, Passage]]:
    """Return up to ``count`` passages that have something of the question in them, the best first, with scores > 0."""
    bags = [Counter(words(passage.text)) for passage in known]
    usual = sum(bag.total() for bag in bags) / max(1, len(bags)) or 1.0
    asked = set(words(question))
    having = {word: sum(word in bag for bag in bags) for word in asked}
    scored = []
    for passage, bag in zip(known, bags, strict=True):
        score = 0.0
        for word in asked & bag.keys():
            rarity = math.log(1 + (len(bags) - having[word] + 0.5) / (having[word] + 0.5))
            score += rarity * bag[word] * (K1 + 1) / (bag[word] + K1 * (1 - B + B * bag.total() / usual))
        scored.append((score, passage))
    scored.sort(key=lambda each: (-each[0], each[1].path, each[1].line))
    return [(score, passage) for score, passage in scored[:count] if score > 0]

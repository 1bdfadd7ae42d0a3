"""How a project is split into pieces that agents can check side by side.  Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from pathlib import PurePosixPath


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Some files that are checked together; neighbours in the tree, so that packages stay whole where possible."""

    name: str  # for people: the folder, or the first and the last one
    files: tuple[str, ...]


def plan(files: Iterable[str], *, max_chunk_files: int = 25, max_chunks: int = 24) -> tuple[Chunk, ...]:
    """Return the files in chunks of about equal length, at most ``max_chunks`` of them; none for no files.

    A chunk has at most about ``max_chunk_files`` files, unless that would make too many chunks. The cuts lie between
    packages where one is near (within a quarter of a chunk).
    """
    ordered = sorted(set(files), key=lambda path: PurePosixPath(path).parts)
    if not ordered:
        return ()
    count = min(max_chunks, ceil(len(ordered) / max_chunk_files))
    cuts = [0, *_cuts(ordered, count), len(ordered)]
    pieces = (tuple(ordered[start:end]) for start, end in pairwise(cuts))
    return tuple(Chunk(name=_name(piece), files=piece) for piece in pieces if piece)


def _cuts(ordered: list[str], count: int) -> list[int]:
    """Return ``count - 1`` rising positions, each the best cut near its ideal place."""
    length = len(ordered) / count
    slack = int(length / 4)
    cuts = []
    for n in range(1, count):
        ideal = round(n * length)
        near = range(max(1, ideal - slack), min(len(ordered) - 1, ideal + slack) + 1)
        cuts.append(min(near, key=lambda at: (-_boundary(ordered, at), abs(at - ideal)), default=ideal))
    return cuts


def _boundary(ordered: list[str], at: int) -> int:
    """Return how clean a cut before position ``at`` is: 2 between top-level packages, 1 between folders, else 0."""
    before, after = PurePosixPath(ordered[at - 1]).parent, PurePosixPath(ordered[at]).parent
    if before.parts[:1] != after.parts[:1]:
        return 2
    return int(before != after)


def _name(piece: tuple[str, ...]) -> str:
    first, last = str(PurePosixPath(piece[0]).parent), str(PurePosixPath(piece[-1]).parent)
    return first if first == last else f"{first} … {last}"

"""What a check found, and how much of it fits into a task's output.  Pure."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

Severity = Literal["error", "warning", "info"]
RANK: dict[str, int] = {"error": 0, "warning": 1, "info": 2}

# The composer's input, at most 1 MiB, holds the outputs of up to 24 chunks by 3 skills and of 4 whole-tree skills.
OUTPUT_BYTES = 10_000


class Finding(TypedDict):
    """One remark about one line; ``path`` is relative to the project, with forward slashes; ``line`` starts at 1."""

    path: str
    line: int
    rule: str
    severity: Severity
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one check says about the files it was given."""

    findings: list[Finding]
    files: int  # looked at
    skipped: int = 0  # could not be read or parsed; the lint check says why


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings without exact repeats, by path, line, rule and message."""
    unique = {(f["path"], f["line"], f["rule"], f["message"]): f for f in findings}
    return [unique[key] for key in sorted(unique)]


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings with errors before warnings before notes, otherwise in order."""
    return sorted(in_order(findings), key=lambda f: RANK[f["severity"]])


def by_severity(findings: Iterable[Finding]) -> dict[str, int]:
    """Return how many findings there are of each severity; every severity is present."""
    counts = Counter(f["severity"] for f in findings)
    return {severity: counts[severity] for severity in ("error", "warning", "info")}


def as_json(findings: list[Finding]) -> bytes:
    """Return the findings as UTF-8 JSON, one per line, so that two reports can be compared line by line."""
    return b"[\n" + b",\n".join(json.dumps(f, ensure_ascii=False).encode() for f in findings) + b"\n]\n"


def fitting(findings: list[Finding], budget_bytes: int = OUTPUT_BYTES) -> list[Finding]:
    """Return as many findings, worst first, as fit into ``budget_bytes`` of JSON."""
    kept: list[Finding] = []
    for finding in worst_first(findings):
        budget_bytes -= len(json.dumps(finding).encode()) + 2
        if budget_bytes < 0:
            break
        kept.append(finding)
    return in_order(kept)


def output(skill: str, outcome: Outcome, elapsed_s: float) -> tuple[dict[str, Any], bytes | None]:
    """Return the task's output, and all findings as JSON when the output could not hold them (else None).

    ``total`` and ``counts`` are true even when ``findings`` was cut; ``findings_sha256`` then names the whole list,
    which the caller keeps as the artifact ``findings.json``.
    """
    everything = in_order(outcome.findings)
    kept = fitting(everything)
    answer: dict[str, Any] = {
        "skill": skill,
        "findings": kept,
        "total": len(everything),
        "counts": by_severity(everything),
        "files": outcome.files,
        "skipped": outcome.skipped,
        "elapsed_s": round(elapsed_s, 3),
    }
    if len(kept) == len(everything):
        return answer, None
    whole = as_json(everything)
    return answer | {"findings_sha256": hashlib.sha256(whole).hexdigest()}, whole

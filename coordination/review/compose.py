"""Joining what the checks found into ``review.md``.  Pure."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from coordination.review.findings import RANK, Finding, by_severity, in_order, worst_first

PER_RULE = 20  # findings of one rule that the text shows; the appendix has the places of the rest
FIRST = 10
WORST_FILES = 10
APPENDIX = 5_000  # places; findings.json has all
_WORDS = {"error": ("error", "errors"), "warning": ("warning", "warnings"), "info": ("note", "notes")}

_SKILLS = {
    "code.inventory": "Inventory",
    "code.lint": "Lint (ruff)",
    "code.complexity": "Complexity (mccabe)",
    "code.security": "Security (bandit)",
    "code.duplication": "Duplicate code",
    "deps.audit": "Dependencies",
    "tests.map": "Tests",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What one skill did, over all its tasks."""

    skill: str
    findings: tuple[Finding, ...]
    unseen: int  # found, but in no list that reached us
    files: int
    skipped: int
    failures: tuple[str, ...]  # why tasks of this skill have no output
    elapsed_s: float  # of all its tasks together


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """Everything the report says."""

    title: str
    inventory: Mapping[str, Any]
    summaries: tuple[Summary, ...]
    findings: tuple[Finding, ...]

    @property
    def totals(self) -> dict[str, int]:
        """Counts by severity, of the findings and of the files that have any."""
        return by_severity(self.findings) | {
            "findings": len(self.findings),
            "files": len({finding["path"] for finding in self.findings}),
            "unseen": sum(summary.unseen for summary in self.summaries),
            "failed_checks": sum(len(summary.failures) for summary in self.summaries),
        }


def compose(
    title: str,
    inventory: Mapping[str, Any],
    results: Sequence[Any],
    whole: Callable[[str], Iterable[Finding] | None] = lambda sha256: None,
) -> Review:
    """Return the review of ``results``: outputs of checks, or ``{"skill", "output", "error"}`` around them.

    ``whole`` returns the full list of findings behind an output's ``findings_sha256``, None if it is out of reach.
    """
    grouped: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for result in results:
        if isinstance(result, Mapping) and _is_of_interest(result):
            grouped[_skill(result)].append(result)
    order = [*_SKILLS, *sorted(grouped.keys() - _SKILLS.keys())]
    summaries = tuple(_summary(skill, grouped[skill], whole) for skill in order if skill in grouped)
    findings = in_order(finding for summary in summaries for finding in summary.findings)
    return Review(title=title, inventory=inventory, summaries=summaries, findings=tuple(findings))


def _is_of_interest(result: Mapping[str, Any]) -> bool:
    """Say whether it is the result of a check, or that of a count which failed."""
    skill = _skill(result)
    return bool(result.get("error")) if skill == "code.inventory" else skill not in ("", "echo")


def _skill(result: Mapping[str, Any]) -> str:
    output = result.get("output")
    return str(result.get("skill") or (output.get("skill") if isinstance(output, Mapping) else None) or "")


def _summary(skill: str, results: list[Mapping[str, Any]], whole: Callable[[str], Iterable[Finding] | None]) -> Summary:
    findings: list[Finding] = []
    failures: list[str] = []
    unseen = files = skipped = 0
    elapsed_s = 0.0
    for result in results:
        output = result.get("output", result)
        if not isinstance(output, Mapping) or "findings" not in output:
            failures.append(_why(result.get("error")) + _where(result))
            continue
        full = whole(output["findings_sha256"]) if "findings_sha256" in output else None
        listed = list(output["findings"] if full is None else full)
        unseen += max(output.get("total", 0) - len(listed), 0)
        findings += listed
        files += output.get("files", 0)
        skipped += output.get("skipped", 0)
        elapsed_s += output.get("elapsed_s", 0.0)
    return Summary(
        skill=skill,
        findings=tuple(in_order(findings)),
        unseen=unseen,
        files=files,
        skipped=skipped,
        failures=tuple(failures),
        elapsed_s=elapsed_s,
    )


def _where(result: Mapping[str, Any]) -> str:
    """Return what the check was about and which task it was, as far as that is known."""
    error = result.get("error")
    cause = error.get("cause") if isinstance(error, Mapping) else None
    task = cause.get("task") if isinstance(cause, Mapping) else None
    told = [str(result["what"])] if result.get("what") else []
    told += [f"task {task}"] if task else []
    return f" ({'; '.join(told)})" if told else ""


def _why(error: Any) -> str:
    message = error.get("message") if isinstance(error, Mapping) else error
    return str(message or "it has no output")


def markdown(review: Review) -> str:
    """Return the report: what was read, the totals, where to begin, then the findings file by file."""
    shown, left_out = _shown(review.findings)
    parts = [
        f"# Review of {_text(review.title)}",
        _opening(review),
        _checks(review.summaries),
        _gaps(review.summaries),
        _worst_files(review.findings),
        _first(review.findings),
        _by_file(shown, left_out),
        _appendix(left_out),
        _contents(review.inventory),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _opening(review: Review) -> str:
    have, totals = review.inventory, review.totals
    python = have.get("python_files", 0)
    read = f"Read {_many(have.get('files', 0), 'file')} ({python:,} Python; {have.get('lines', 0):,} lines in all)."
    read = read if have else "How much there is to read could not be counted."
    if not totals["findings"]:
        where = " in what was checked" if totals["failed_checks"] else ""
        return f"{read} **Nothing was found{where}.**"
    return f"{read} Found **{_counts(totals)}** in {_many(totals['files'], 'file')}."


def _counts(counts: Mapping[str, int]) -> str:
    said = [f"{counts[s]:,} {_WORDS[s][counts[s] != 1]}" for s in ("error", "warning", "info") if counts[s]]
    return ", ".join(said[:-1]) + " and " + said[-1] if len(said) > 1 else "".join(said)


def _checks(summaries: Sequence[Summary]) -> str:
    rows = ["| Check | Files | Errors | Warnings | Notes | Work |", "|---|--:|--:|--:|--:|--:|"]
    for summary in summaries:
        counts = by_severity(summary.findings)
        numbers = " | ".join(f"{counts[severity]:,}" for severity in RANK)
        name = _cell(_SKILLS.get(summary.skill, summary.skill))
        rows.append(f"| {name} | {summary.files:,} | {numbers} | {summary.elapsed_s:.1f} s |")
    return "## Checks\n\n" + "\n".join(rows)


def _gaps(summaries: Sequence[Summary]) -> str:
    """Return what the reader must not take for checked."""
    lines = []
    for summary in summaries:
        name = _SKILLS.get(summary.skill, summary.skill)
        lines += [f"- {_text(name)}: a part was not checked: {_text(why)}" for why in summary.failures]
        if summary.skipped:
            lines.append(f"- {_text(name)}: {_many(summary.skipped, 'file')} could not be read as Python.")
        if summary.unseen:
            lines.append(f"- {_text(name)}: {summary.unseen:,} more found than fit into the report.")
    return "**Not covered**\n\n" + "\n".join(lines) if lines else ""


def _worst_files(findings: Sequence[Finding]) -> str:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for finding in findings:
        counts[finding["path"]][finding["severity"]] += 1
    ranked = sorted(counts, key=lambda path: ([-counts[path][s] for s in RANK], path))[:WORST_FILES]
    if len(counts) < 2:
        return ""
    rows = [f"| {_cell(_code(path))} | " + " | ".join(str(counts[path][s]) for s in RANK) + " |" for path in ranked]
    return "## Files with most to do\n\n| File | Errors | Warnings | Notes |\n|---|--:|--:|--:|\n" + "\n".join(rows)


def _first(findings: Sequence[Finding]) -> str:
    """Return the worst findings; nothing if that is no choice."""
    errors = [finding for finding in worst_first(findings) if finding["severity"] == "error"]
    if not errors or len(findings) <= FIRST:
        return ""
    more = len(errors) - FIRST
    lines = [_line(finding) for finding in errors[:FIRST]] + ([f"- and {more:,} more errors below"] if more > 0 else [])
    return "## Errors first\n\n" + "\n".join(lines)


def _shown(findings: Sequence[Finding]) -> tuple[list[Finding], dict[str, list[Finding]]]:
    """Return what the text shows, and by rule what it leaves out: everything after the first ``PER_RULE`` of a rule."""
    seen: Counter[str] = Counter()
    shown: list[Finding] = []
    left_out: dict[str, list[Finding]] = defaultdict(list)
    for finding in worst_first(findings):
        seen[finding["rule"]] += 1
        if seen[finding["rule"]] <= PER_RULE:
            shown.append(finding)
        else:
            left_out[finding["rule"]].append(finding)
    return in_order(shown), dict(left_out)


def _by_file(shown: list[Finding], left_out: Mapping[str, Sequence[Finding]]) -> str:
    files: dict[str, list[Finding]] = defaultdict(list)
    for finding in shown:
        files[finding["path"]].append(finding)
    parts = [f"### {_code(path)}\n\n" + "\n".join(map(_line, files[path])) for path in files]
    more = ", ".join(f"{_code(rule)} and {len(rest):,} more" for rule, rest in sorted(left_out.items()))
    note = f"The first {PER_RULE} of each rule are shown; of {more}: see the appendix." if more else ""
    return "\n\n".join(["## Findings by file", *([note] if note else []), *parts]) if parts else ""


def _line(finding: Finding) -> str:
    word = _WORDS[finding["severity"]][0]
    return f"- {_place(finding)} **{word}** {_text(finding['message'])} ({_code(finding['rule'])})"


def _place(finding: Finding) -> str:
    return _code(f"{finding['path']}:{finding['line']}")


def _appendix(left_out: Mapping[str, Sequence[Finding]]) -> str:
    parts, room = [], APPENDIX
    for rule, rest in sorted(left_out.items()):
        places = [f"- {_place(finding)}" for finding in in_order(rest)[: max(room, 0)]]
        room -= len(places)
        missing = len(rest) - len(places)
        places += [f"- and {missing:,} more, in findings.json"] if missing else []
        parts.append(f"### {_code(rule)}\n\n" + "\n".join(places))
    return "\n\n".join(["## Appendix: the other places", *parts]) if parts else ""


def _contents(inventory: Mapping[str, Any]) -> str:
    rows = [
        f"| {_cell(row['language'])} | {row['files']:,} | {row['lines']:,} | {row['size_bytes']:,} |"
        for row in inventory.get("languages", [])
    ]
    table = "| Language | Files | Lines | Bytes |\n|---|--:|--:|--:|\n" + "\n".join(rows)
    return f"## What the project consists of\n\n{table}" if rows else ""


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _code(text: str) -> str:
    """Return the text as a Markdown code span, whatever backticks and line breaks it holds."""
    text = " ".join(text.split()) if text.split() else " "
    fence = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    return f"{fence}{text}{fence}" if "`" not in text else f"{fence} {text} {fence}"


def _text(text: str) -> str:
    """Return the text as one line of Markdown in which only code spans mean anything."""
    pieces = re.split(r"(`[^`]*`)", " ".join(text.split()))
    return "".join(piece if piece[:1] == "`" and n % 2 else _escaped(piece) for n, piece in enumerate(pieces))


def _escaped(text: str) -> str:
    # An underscore inside a word is no emphasis.
    return re.sub(r"([\\`*\[\]<>#~]|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", text)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")

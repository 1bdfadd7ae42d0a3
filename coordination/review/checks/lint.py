"""``code.lint``: ruff, as a program of its own: ``python -m coordination.review.checks.lint``.

It reads one JSON object on stdin, ``{"input": {"root": "/dir", "files": ["a.py"]}}`` (or only the inner object), and
writes one JSON object per line: progress while it works, at last the result.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, TypedDict

from ruff import find_ruff_bin  # type: ignore[import-untyped]

from coordination.review import source
from coordination.review.findings import Finding, Outcome, Severity, output

SKILL = "code.lint"
BATCH_FILES = 20

# What is wrong rather than unusual: programs that do not parse, names that do not exist, format strings that fail,
# leftovers, and bugbear's and pylint's traps. No rule of taste.
RULES = ["E9", "F", "PLE", "W605", "T100", "B002", "B003", "B004", "B005", "B006", "B012", "B014", "B015", "B016"]
RULES += ["B017", "B019", "B020", "B021", "B022", "B023", "B025", "B026", "B029", "B030", "B031", "B032"]
RULES += ["B033", "B034", "B035", "B039"]
# Star imports make names that ruff cannot see, as computed `__all__`s do; a pointless f-string harms nobody; logging is
# often wrapped; functions called in handlers may raise bare; bandit reports trojan source already.
IGNORED = ["F403", "F405", "F541", "PLE0604", "PLE0605", "PLE0704", "PLE1205", "PLE1206", "PLE2502"]
_REEXPORTING = {"__init__.py": {"F401"}, "conftest.py": {"F401", "F811"}}
_FINE_IN_TESTS = {"B015", "B017", "F811"}  # comparing for effect, expecting broad errors, importing fixtures
TARGET = "py313"  # with the newest names and syntax fewest files are wrongly called broken

_NOTES = {"F401", "F841", "B019", "B020"}
_WARNINGS = {"F811", "F601", "W605", "T100"}


class _Place(TypedDict):
    row: int


class _Remark(TypedDict):
    """The part of ruff's JSON that is used."""

    code: str | None
    filename: str
    location: _Place
    message: str


@dataclass(slots=True, kw_only=True)
class _Batch:
    """Files that ruff can read as they are, files in other encodings, and findings about what nobody can read."""

    plain: dict[Path, str] = field(default_factory=dict)
    transcoded: dict[str, str] = field(default_factory=dict)  # path -> text
    findings: list[Finding] = field(default_factory=list)
    skipped: int = 0


def lint(root: Path, files: Iterable[str]) -> Outcome:
    """Return ruff's findings, with one ``syntax-error`` at most per file and ``encoding`` for undecodable files."""
    paths = list(files)
    batch = _read(root, paths)
    with tempfile.TemporaryDirectory() as scratch:
        names = batch.plain | _write(Path(scratch), batch.transcoded)
        remarks = [(names[Path(remark["filename"])], remark) for remark in _ruff(list(names))]
    found = [_finding(path, remark) for path, remark in remarks if _counts(path, remark)]
    return Outcome(findings=batch.findings + _once(found), files=len(paths), skipped=batch.skipped)


def _read(root: Path, paths: list[str]) -> _Batch:
    batch = _Batch()
    for path in paths:
        try:
            data = source.read(root, path)
            text = source.decode(data)
        except source.Undecodable as error:
            batch.findings.append(
                Finding(path=path, line=error.line, rule="encoding", severity="error", message=error.why)
            )
        except OSError:
            batch.skipped += 1
        else:
            if _is_utf8(data):
                batch.plain[(root / path).resolve()] = path
            else:
                batch.transcoded[path] = text
    return batch


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _write(scratch: Path, transcoded: dict[str, str]) -> dict[Path, str]:
    """Write UTF-8 copies under the same relative names, return their paths."""
    names = {}
    for path, text in transcoded.items():
        copy = scratch.resolve() / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(text, encoding="utf-8")
        names[copy] = path
    return names


def _ruff(paths: list[Path]) -> list[_Remark]:
    """Return ruff's remarks; a file that makes ruff itself fail is found by halving, and reported."""
    if not paths:
        return []
    done = subprocess.run(_command(paths), capture_output=True, check=False)
    if done.returncode in (0, 1):
        remarks: list[_Remark] = json.loads(done.stdout)
        return remarks
    if len(paths) == 1:
        said = done.stderr.decode(errors="replace").splitlines()
        why = next((line for line in said if "error" in line), f"exit code {done.returncode}")
        message = f"ruff cannot check this file: {why}"
        return [_Remark(code="unchecked", filename=str(paths[0]), location={"row": 1}, message=message)]
    middle = len(paths) // 2
    return _ruff(paths[:middle]) + _ruff(paths[middle:])


def _command(paths: list[Path]) -> list[str]:
    call = [find_ruff_bin(), "check", "--isolated", "--no-cache", "--quiet", "--output-format=json"]
    call += [f"--target-version={TARGET}", f"--select={','.join(RULES)}", f"--ignore={','.join(IGNORED)}"]
    return [*call, "--", *map(str, paths)]


def _counts(path: str, remark: _Remark) -> bool:
    code = remark["code"]
    if code == "F401" and "find_spec" in remark["message"]:
        return False  # an import in `try` that only asks whether a package is there is used by that
    if code == "T100" and remark["message"].startswith("Import"):
        return False  # importing a debugger stops nobody; calling it does
    if code in _FINE_IN_TESTS and source.is_test(path):
        return False
    return code not in _REEXPORTING.get(PurePosixPath(path).name, set())


def _finding(path: str, remark: _Remark) -> Finding:
    rule = remark["code"] or "invalid-syntax"
    rule = "syntax-error" if rule in ("invalid-syntax", "E999") else rule
    line = max(remark["location"]["row"], 1)
    return Finding(path=path, line=line, rule=rule, severity=_severity(rule), message=remark["message"])


def _severity(rule: str) -> Severity:
    if rule in _NOTES:
        return "info"
    return "warning" if rule in _WARNINGS or rule.startswith("B") or rule == "unchecked" else "error"


def _once(findings: list[Finding]) -> list[Finding]:
    """Return the findings without a file's second and later syntax errors, which follow from the first."""
    broken: set[str] = set()
    kept = []
    for finding in sorted(findings, key=lambda f: (f["path"], f["line"])):
        if finding["rule"] != "syntax-error":
            kept.append(finding)
        elif finding["path"] not in broken:
            broken.add(finding["path"])
            kept.append(finding)
    return kept


def _say(**line: Any) -> None:
    print(json.dumps(line), flush=True)


def _batches(files: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(files), BATCH_FILES):
        yield files[start : start + BATCH_FILES]


def main(argv: list[str] | None = None) -> int:
    """Answer the request on stdin; return the exit code, 0 unless the request is no good."""
    options = argparse.ArgumentParser(description="Lint Python files as the skill code.lint.")
    options.add_argument("--pace", type=float, default=0.0, help="seconds to wait per file, to be a slower agent")
    options.add_argument("--below", type=Path, default=Path("/"), help="read nothing outside this directory (/)")
    asked = options.parse_args(argv)
    try:
        request = json.load(sys.stdin)
        wanted = request.get("input", request)
        root = Path(wanted["root"])
        if not source.is_inside(root, asked.below):
            raise ValueError(f"there is no directory {root} below {asked.below}")
        files = list(filter(source.is_python, wanted["files"] if "files" in wanted else source.files_below(root)))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        message = f'The request cannot be used ({error!r}). Send {{"root": "/directory", "files": ["name.py"]}}.'
        _say(type="error", message=message, retryable=False)
        return 2
    _answer(root, files, asked.pace)
    return 0


def _answer(root: Path, files: list[str], pace: float) -> None:
    started, outcome = time.monotonic(), Outcome(findings=[], files=0)
    for batch in _batches(files):
        time.sleep(pace * len(batch))
        part = lint(root, batch)
        outcome = Outcome(
            findings=outcome.findings + part.findings,
            files=outcome.files + part.files,
            skipped=outcome.skipped + part.skipped,
        )
        _say(type="progress", fraction=outcome.files / len(files), message=f"{outcome.files} of {len(files)} files")
    answer, whole = output(SKILL, outcome, time.monotonic() - started)
    if whole is not None:
        Path("findings.json").write_bytes(whole)
        _say(type="artifact", name="findings.json", path="findings.json", media_type="application/json")
    _say(type="result", output=answer)


if __name__ == "__main__":
    sys.exit(main())

"""The demonstration fleet's Python agents: each takes a task's input, runs one check, and reports on the way."""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from django.conf import settings

from coordination.examples import responders, writers  # noqa: F401  (their handlers)
from coordination.review import compose, source
from coordination.review.checks.complexity import complexity
from coordination.review.checks.deps import audit
from coordination.review.checks.duplication import duplication
from coordination.review.checks.inventory import inventory
from coordination.review.checks.security import security
from coordination.review.checks.tests_map import map_tests
from coordination.review.findings import Finding, Outcome, as_json, output
from coordination.review.intake import snapshots
from coordination.review.plan import plan
from routing.artifacts import Store
from routing.executors import BadInput, Canceled, Context, handler

PROGRESS_EVERY_S = 0.5
MAX_SLEEP_S = 60.0

Check = Callable[[Path, Iterable[str]], Outcome]


@handler("code.plan")
def run_plan(input: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Split the project's Python files into pieces that agents can check side by side."""
    _, files = _project(input)
    chunks = plan(filter(source.is_python, files))
    for chunk in chunks:
        ctx.log(f"{chunk.name}: {len(chunk.files)} files")
    pieces = [{"name": chunk.name, "files": len(chunk.files), "paths": list(chunk.files)} for chunk in chunks]
    return {"skill": "code.plan", "files": len(files), "chunks": pieces}


@handler("code.inventory")
def run_inventory(input: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Count files, bytes, lines and languages."""
    root, files = _project(input)
    started = time.monotonic()
    counted = inventory(root, _told(files, ctx))
    return {"skill": "code.inventory", **counted, "elapsed_s": round(time.monotonic() - started, 3)}


@handler("code.complexity")
def run_complexity(input: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Find functions with many ways through them."""
    return _run("code.complexity", complexity, input, ctx)


@handler("code.security")
def run_security(input: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Find security holes."""
    return _run("code.security", security, input, ctx)


@handler("code.duplication")
def run_duplication(input: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Find code that stands in two places."""
    return _run("code.duplication", duplication, input, ctx)


@handler("deps.audit")
def run_audit(input: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Find unpinned, unused and undeclared dependencies."""
    name = input.get("name", "")
    return _run("deps.audit", lambda root, files: audit(root, files, name=name), input, ctx, only_python=False)


@handler("tests.map")
def run_tests_map(input: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Find modules and functions that no test knows of."""
    return _run("tests.map", map_tests, input, ctx)


@handler("report.compose")
def run_compose(input: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Write ``review.md`` and ``findings.json``."""
    title = input.get("title") or Path(input.get("root", "")).name or "a project"
    results = input.get("results", input.get("previous"))  # the checks before it in a chord come as ``previous``
    if not isinstance(results, list):
        raise BadInput("There are no results to compose. Give them as a list under results, or as a chord's header.")
    results = list(_results(results))
    outputs = (r.get("output", r) for r in results if isinstance(r, dict) and r.get("skill") == "code.inventory")
    counted = (output for output in outputs if isinstance(output, dict) and "files" in output)
    review = compose.compose(title, input.get("inventory") or next(counted, {}), results, _kept)
    ctx.progress(0.5, f"{len(review.findings)} findings")
    ctx.artifact("findings.json", as_json(list(review.findings)), "application/json")
    ref = ctx.artifact("review.md", compose.markdown(review), "text/markdown")
    return {
        "skill": "report.compose",
        "artifact": ref,
        "markdown_sha256": ref["sha256"],
        "totals": review.totals,
        "skills": {summary.skill: len(summary.findings) for summary in review.summaries},
    }


def _results(told: Any) -> Iterator[Any]:
    """Yield the checks' results from lists of them, and from what maps give; an item that failed gave nothing."""
    if isinstance(told, list) or (isinstance(told, dict) and told and not told.keys() & {"skill", "error", "files"}):
        for inner in told.values() if isinstance(told, dict) else told:
            yield from _results(inner)
    elif told is not None:
        yield told


@handler("echo")
def run_echo(input: Any, ctx: Context) -> dict[str, Any]:
    """Repeat the input, after ``sleep_s`` seconds if it asks for that."""
    wanted = input.get("sleep_s", 0) if isinstance(input, dict) else 0
    sleep_s = min(max(wanted, 0.0), MAX_SLEEP_S) if isinstance(wanted, int | float) else 0.0
    end = time.monotonic() + sleep_s
    while (left := end - time.monotonic()) > 0:
        if ctx.cancelled:
            raise Canceled("The echo was cancelled while it waited.")
        ctx.progress(1 - left / sleep_s, "waiting")
        time.sleep(min(left, 0.2))
    return {"echo": input}


def _run(skill: str, check: Check, input: dict[str, Any], ctx: Context, *, only_python: bool = True) -> dict[str, Any]:
    root, files = _project(input)
    if only_python:
        files = list(filter(source.is_python, files))
    started = time.monotonic()
    outcome = check(root, _told(files, ctx))
    answer, whole = output(skill, outcome, time.monotonic() - started)
    if whole is not None:
        ctx.log(
            f"{answer['total']} findings, of which the output holds {len(answer['findings'])}; all in findings.json"
        )
        ctx.artifact("findings.json", whole, "application/json")
    return answer


def _project(input: dict[str, Any]) -> tuple[Path, list[str]]:
    """Return the snapshot and the names of its files. What lies elsewhere on this machine is nobody's to review."""
    root, kept = Path(input["root"]), snapshots()
    if not source.is_inside(root, kept):
        raise BadInput(f"There is no snapshot {str(root)!r}. Give the absolute path of a snapshot below {kept}.")
    files = input.get("files")
    return root, source.files_below(root) if files is None else list(files)


def _told(files: list[str], ctx: Context) -> Iterator[str]:
    """Yield the files, telling how far it is; raise Canceled between two of them once somebody asked for it."""
    told = time.monotonic()
    for number, path in enumerate(files):
        if ctx.cancelled:
            raise Canceled(f"Cancelled after {number} of {len(files)} files.")
        if time.monotonic() - told >= PROGRESS_EVERY_S:
            told = time.monotonic()
            ctx.progress(number / len(files), path)
        yield path


def _kept(sha256: str) -> list[Finding] | None:
    """Return the findings of a check that had more than its output could hold, None if they are not in the store."""
    try:
        with Store(settings.A2A_ARTIFACTS_DIR).open(sha256) as file:
            findings: list[Finding] = json.load(file)
    except (OSError, ValueError):  # ArtifactError is a ValueError
        return None
    return findings

"""The demonstration fleet as data: its skills and its agents.  Pure."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

_REPOSITORY = str(Path(__file__).resolve().parents[2])
_SCHEMA = "https://json-schema.org/draft/2020-12/schema"


@dataclass(frozen=True, slots=True, kw_only=True)
class SkillDef:
    """One thing the fleet can do, with JSON Schemas (2020-12) of input and output."""

    name: str
    description: str
    input_schema: dict[str, Any]
    output_schema: dict[str, Any]
    timeout_s: float = 300.0
    idempotent: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentDef:
    """One member of the fleet, as the registry wants it."""

    name: str
    description: str
    skills: tuple[str, ...]
    executor: str = "python"
    options: dict[str, Any] = field(default_factory=dict)
    capacity: int = 2  # attempts at once
    labels: dict[str, str] = field(default_factory=dict)
    cost_usd: float = 0.0


def confined(agent: AgentDef, folder: Path) -> AgentDef:
    """Return the agent so that it reads snapshots below ``folder`` only; Python ones do so by themselves."""
    if agent.executor != "command":
        return agent
    argv = [*agent.options["argv"], "--below", str(folder)]
    return replace(agent, options={**agent.options, "argv": argv})


def _object(required: tuple[str, ...], **properties: Any) -> dict[str, Any]:
    return {"$schema": _SCHEMA, "type": "object", "properties": properties, "required": list(required)}


_TEXT = {"type": "string", "minLength": 1}
_COUNT = {"type": "integer", "minimum": 0}
_FILES = {
    "type": "array",
    "items": {"type": "string", "minLength": 1},
    "description": "Relative names below root; all unless given.",
}
_ROOT = {"type": "string", "pattern": "^/", "description": "Absolute path of the project's snapshot."}
_FINDING = {
    "type": "object",
    "required": ["path", "line", "rule", "severity", "message"],
    "properties": {
        "path": _TEXT,
        "line": {"type": "integer", "minimum": 1},
        "rule": _TEXT,
        "severity": {"enum": ["error", "warning", "info"]},
        "message": {"type": "string"},
    },
}
_CHECK_INPUT = _object(("root",), root=_ROOT, files=_FILES, name={"type": "string"})
_CHECK_OUTPUT = _object(
    ("skill", "findings", "total", "files", "skipped", "elapsed_s"),
    skill=_TEXT,
    findings={"type": "array", "items": _FINDING},
    total={**_COUNT, "description": "True number of findings, also where the list was cut."},
    counts={"type": "object"},
    files=_COUNT,
    skipped=_COUNT,
    elapsed_s={"type": "number", "minimum": 0},
    findings_sha256={"type": "string", "description": "The whole list, kept as the artifact findings.json."},
)
_INVENTORY_OUTPUT = _object(
    ("files", "size_bytes", "lines", "python_files", "languages"),
    files=_COUNT,
    size_bytes=_COUNT,
    lines=_COUNT,
    python_files=_COUNT,
    languages={"type": "array", "items": {"type": "object"}},
)
_PLAN_OUTPUT = _object(("chunks",), chunks={"type": "array", "items": {"type": "object"}})
_REPORT_INPUT = _object(
    (),
    root={"type": "string"},
    title={"type": "string"},
    inventory={"type": ["object", "null"]},
    results={"type": "array"},
    previous={"type": "array", "description": "Results, where the task is the body of a chord."},
)
_REPORT_OUTPUT = _object(
    ("markdown_sha256", "artifact", "totals"),
    markdown_sha256=_TEXT,
    artifact={"type": "object"},
    totals={"type": "object"},
)


def _check(name: str, description: str) -> SkillDef:
    return SkillDef(name=name, description=description, input_schema=_CHECK_INPUT, output_schema=_CHECK_OUTPUT)


SKILLS = (
    SkillDef(
        name="code.plan",
        description="Splits a project's Python files into pieces that can be checked side by side.",
        input_schema=_CHECK_INPUT,
        output_schema=_PLAN_OUTPUT,
    ),
    SkillDef(
        name="code.inventory",
        description="Counts files, bytes, lines and languages of a project.",
        input_schema=_CHECK_INPUT,
        output_schema=_INVENTORY_OUTPUT,
    ),
    _check("code.lint", "Finds syntax errors, names that do not exist and known traps in Python files."),
    _check("code.complexity", "Finds functions with a cyclomatic complexity over 10."),
    _check("code.security", "Finds security holes in Python files."),
    _check("code.duplication", "Finds code that stands in two places; wants a whole project at once."),
    _check("deps.audit", "Finds unpinned, unused and undeclared dependencies; wants a whole project at once."),
    _check("tests.map", "Finds modules and functions that no test knows of; wants a whole project at once."),
    SkillDef(
        name="report.compose",
        description="Joins the checks' findings into review.md.",
        input_schema=_REPORT_INPUT,
        output_schema=_REPORT_OUTPUT,
    ),
    SkillDef(
        name="echo",
        description='Returns its input as {"echo": input}; {"sleep_s": n} makes it wait before, at most 60 s.',
        input_schema={"$schema": _SCHEMA},
        output_schema=_object(("echo",), echo={}),
    ),
)


def _ruff(name: str, description: str, pace: float, **rest: Any) -> AgentDef:
    argv = ["{python}", "-m", "coordination.review.checks.lint", "--pace", str(pace)]
    options = {"argv": argv, "env": {"PYTHONPATH": _REPOSITORY}}
    return AgentDef(
        name=name, description=description, skills=("code.lint",), executor="command", options=options, **rest
    )


def _python(name: str, description: str, skill: str, *, isolated: bool = False, **rest: Any) -> AgentDef:
    options: dict[str, Any] = {"handler": skill}
    if isolated:
        options["isolated"] = True
    return AgentDef(name=name, description=description, skills=(skill,), options=options, **rest)


AGENTS = (
    _python("planner", "Splits a project into pieces.", "code.plan"),
    _python("surveyor", "Counts what a project consists of.", "code.inventory"),
    _ruff("ruff-swift", "Runs ruff, as fast as it goes.", 0.0, capacity=2, labels={"speed": "fast"}, cost_usd=0.002),
    _ruff(
        "ruff-steady",
        "Runs ruff too, but waits 0.02 s per file on purpose, to show the fleet a slower and cheaper agent.",
        0.02,
        capacity=2,
        labels={"speed": "medium"},
        cost_usd=0.001,
    ),
    _ruff(
        "ruff-patient",
        "Runs ruff too, but waits 0.05 s per file on purpose, to show the slowest agent, which costs nothing.",
        0.05,
        capacity=1,
        labels={"speed": "slow"},
    ),
    _python("pathfinder", "Measures cyclomatic complexity, two pieces at once.", "code.complexity", capacity=2),
    _python("wayfarer", "Measures cyclomatic complexity, one piece at a time.", "code.complexity", capacity=1),
    _python("sentinel", "Runs bandit in a process of its own.", "code.security", isolated=True, capacity=2),
    _python("watchman", "Runs bandit inside the worker, one piece at a time.", "code.security", capacity=1),
    _python("twin-finder", "Looks for code that stands in two places.", "code.duplication", isolated=True, capacity=1),
    _python("quartermaster", "Audits dependencies.", "deps.audit", capacity=1),
    _python("cartographer", "Maps what has no test.", "tests.map", capacity=1),
    _python("editor", "Writes review.md.", "report.compose", capacity=2),
    _python("parrot", "Repeats what it is told.", "echo", capacity=8),
)

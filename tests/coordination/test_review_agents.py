"""The fleet's handlers, from a project to its report."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from coordination import agents
from coordination.review.fleet import SKILLS
from coordination.review.intake import Tree, take
from coordination.review.plan import plan
from routing.artifacts import Store
from routing.executors import BadInput, Canceled
from routing.executors.recording import Recording
from tests.coordination.projects import CLEAN, PLANTED, Files, write

SCHEMAS = {skill.name: skill for skill in SKILLS}


class Desk(Recording):
    """A context that keeps artifacts in a store, too; it is cancelled after being asked so many times whether it is."""

    def __init__(self, store: Path, cancelled_after: float = float("inf")) -> None:
        super().__init__()
        self.store = Store(store)
        self.asked = 0
        self.cancelled_after = cancelled_after

    @property
    def cancelled(self) -> bool:
        self.asked += 1
        return self.asked > self.cancelled_after

    def artifact(self, name: str, data: bytes | str | Path, media_type: str = "") -> dict[str, Any]:
        ref = super().artifact(name, data, media_type)
        self.store.put(self.artifacts[name])
        return ref


@pytest.fixture
def desk(tmp_path: Path, settings: Any) -> Desk:
    """Return a context whose artifacts the handlers find again; snapshots are below ``tmp_path / "reviews"``."""
    settings.A2A_HOME = tmp_path
    settings.A2A_ARTIFACTS_DIR = tmp_path / "artifacts"
    return Desk(tmp_path / "artifacts")


CHECKS = {
    "code.complexity": agents.run_complexity,
    "code.security": agents.run_security,
    "code.duplication": agents.run_duplication,
    "deps.audit": agents.run_audit,
    "tests.map": agents.run_tests_map,
}
CHUNKED = {"code.complexity", "code.security"}


def reviewed(tree: Tree, desk: Desk) -> tuple[dict[str, Any], str]:
    """Return the composer's output and the report, of all checks but the lint program."""
    inventory = call("code.inventory", agents.run_inventory, {"root": str(tree.root), "files": list(tree.files)}, desk)
    results = []
    for skill, run in CHECKS.items():
        pieces = [chunk.files for chunk in plan(tree.python_files)] if skill in CHUNKED else [tree.files]
        for files in pieces:
            sent = {"root": str(tree.root), "files": list(files), "name": tree.name}
            results.append({"skill": skill, "output": call(skill, run, sent, desk)})
    assert len(json.dumps(results)) < 1_000_000
    joined = {"root": str(tree.root), "inventory": inventory, "results": results, "title": tree.name}
    answer = call("report.compose", agents.run_compose, joined, desk)
    return answer, desk.artifacts["review.md"].decode()


def call(skill: str, run: Callable[..., dict[str, Any]], input: dict[str, Any], desk: Desk) -> dict[str, Any]:
    """Return the handler's output; input and output fit the skill's schemas."""
    jsonschema.validate(input, SCHEMAS[skill].input_schema)
    answer = run(input, desk)
    jsonschema.validate(answer, SCHEMAS[skill].output_schema)
    return answer


class TestHandlers:
    def test_review_the_planted_project_and_find_exactly_that(self, tmp_path: Path, desk: Desk) -> None:
        tree = take(write(tmp_path / "shop", PLANTED), tmp_path / "reviews" / "into")

        answer, report = reviewed(tree, desk)

        found = json.loads(desk.artifacts["findings.json"])
        assert [(f["path"], f["line"], f["rule"]) for f in found] == [
            ("requirements.txt", 1, "unpinned"),
            ("requirements.txt", 2, "unused-requirement"),
            ("requirements.txt", 3, "unused-requirement"),
            ("shop/bill.py", 4, "untested-function"),
            ("shop/branches.py", 1, "complex-function"),
            ("shop/branches.py", 1, "untested-module"),
            ("shop/cart.py", 5, "duplicate-code"),
            ("shop/run.py", 4, "undeclared-import"),
            ("shop/run.py", 9, "B602"),
        ]
        assert all(f"`{f['path']}:{f['line']}`" in report for f in found)
        assert answer["totals"]["findings"] == 9
        assert answer["markdown_sha256"] == hashlib.sha256(report.encode()).hexdigest()

    def test_find_nothing_in_a_clean_project(self, tmp_path: Path, desk: Desk) -> None:
        answer, report = reviewed(take(write(tmp_path / "tidy", CLEAN), tmp_path / "reviews" / "into"), desk)

        assert answer["totals"]["findings"] == 0
        assert "**Nothing was found.**" in report

    def test_manage_a_tree_of_2000_files_and_lose_no_finding(self, tmp_path: Path, desk: Desk) -> None:
        tree = take(write(tmp_path / "large", large(2_000)), tmp_path / "reviews" / "into")

        answer, report = reviewed(tree, desk)

        rules = [finding["rule"] for finding in json.loads(desk.artifacts["findings.json"])]
        assert len(tree.python_files) == 2_001
        assert (rules.count("B307"), rules.count("untested-module"), rules.count("duplicate-code")) == (2_000, 1_999, 0)
        assert answer["totals"]["unseen"] == 0
        assert len(report) < 250_000

    @pytest.mark.parametrize("skill", sorted(CHECKS))
    def test_stop_when_cancelled(self, skill: str, tmp_path: Path, desk: Desk) -> None:
        root = write(tmp_path / "reviews" / "shop", PLANTED)
        desk.cancelled_after = 2

        with pytest.raises(Canceled, match="after 2 of"):
            CHECKS[skill]({"root": str(root)}, desk)

    @pytest.mark.parametrize("root", ["relative", "/does/not/exist", "", "/etc\0"])
    def test_refuse_a_root_that_is_none(self, root: str, desk: Desk) -> None:
        with pytest.raises(BadInput, match="absolute path of a snapshot"):
            agents.run_complexity({"root": root, "files": []}, desk)

    @pytest.mark.parametrize("root", ["secrets", "reviews", "reviews/../secrets", "reviews/link", "reviews/1/../.."])
    @pytest.mark.parametrize("skill", sorted({*CHECKS, "code.inventory", "code.plan"}))
    def test_refuse_to_read_anything_but_a_snapshot(self, skill: str, root: str, tmp_path: Path, desk: Desk) -> None:
        run = CHECKS | {"code.inventory": agents.run_inventory, "code.plan": agents.run_plan}
        write(tmp_path, {"secrets/key.py": "KEY = 1\n", "reviews/1/a.py": ""})
        (tmp_path / "reviews" / "link").symlink_to(tmp_path / "secrets")

        with pytest.raises(BadInput, match="absolute path of a snapshot"):
            run[skill]({"root": str(tmp_path / root)}, desk)


class TestRunEcho:
    @pytest.mark.parametrize("input", [None, 1, "x", [1], {"a": 1}, {"sleep_s": "long"}, {"sleep_s": -1}])
    def test_repeats_anything(self, input: Any, desk: Desk) -> None:
        assert agents.run_echo(input, desk) == {"echo": input}

    def test_waits_when_asked_until_it_is_cancelled(self, tmp_path: Path) -> None:
        desk = Desk(tmp_path, cancelled_after=1)

        with pytest.raises(Canceled):
            agents.run_echo({"sleep_s": 30}, desk)

        assert len(desk.progressed) == 1


def large(count: int) -> Files:
    """Return a project of ``count`` modules, each with one hole, of which only the first is tested."""
    files = {
        f"large/part{n % 40}/m{n}.py": f"def work_{n}(text):\n    value = {n}\n    return eval(text) + value\n"
        for n in range(count)
    }
    files["tests/test_m0.py"] = (
        "from large.part0.m0 import work_0\n\n\ndef test_work_0():\n    assert work_0('0') == 0\n"
    )
    return files

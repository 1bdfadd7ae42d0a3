"""The checks that look at one file after the other, and the one that compares them all."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from coordination.review.checks.complexity import complexity
from coordination.review.checks.duplication import duplication
from coordination.review.checks.inventory import inventory
from coordination.review.checks.lint import lint
from coordination.review.checks.security import security
from coordination.review.intake import take
from tests.coordination.projects import CLEAN, PLANTED, Files, places, write

REPOSITORY = Path(__file__).resolve().parents[2]
BRANCHES = "".join(f"    if a == {n}:\n        a += 1\n" for n in range(10))


class TestLint:
    def test_finds_exactly_the_planted_defects(self, tmp_path: Path) -> None:
        root = write(tmp_path, PLANTED)

        outcome = lint(root, sorted(path for path in PLANTED if path.endswith(".py")))

        assert places(outcome) == [
            ("shop/broken.py", 5, "syntax-error"),
            ("shop/bytes.py", 2, "encoding"),
            ("shop/latin.py", 3, "F821"),
            ("shop/names.py", 1, "F401"),
            ("shop/names.py", 5, "F821"),
            ("shop/run.py", 4, "F401"),
            ("tests/test_cart.py", 2, "F401"),
            ("tests/test_cart.py", 2, "F401"),
            ("tests/test_cart.py", 2, "F401"),
        ]

    @pytest.mark.parametrize(
        ("data", "expected"),
        [
            (b"\xef\xbb\xbfA = 1\n", []),
            (b"# coding: latin-1\nA = '\xe9'\n", []),
            ("# coding: utf-8\nA = 'é'\n".encode(), []),
            (b"A = 1\r\nB = 2\r\n\r\nprint(C)\r\n", [("a.py", 4, "F821")]),
            (b"#!/usr/bin/python\n# coding: klingon\nA = 1\n", [("a.py", 2, "encoding")]),
            (b"# coding: rot13\nA = 1\n", [("a.py", 1, "encoding")]),
            (b"A = 1\nB = '\xe9'\n", [("a.py", 2, "encoding")]),
            ("A = 1\n".encode("utf-16"), [("a.py", 1, "encoding")]),
            (b"A = 1\x00\n", [("a.py", 1, "syntax-error")]),
            (b"", []),
            (b"def f(:\n  x(\n]\n", [("a.py", 1, "syntax-error")]),
            (b"print 'hello'\n", [("a.py", 1, "syntax-error")]),
            (b"import os  # noqa: F401\n", []),
            (b"try:\n    import lxml\nexcept ImportError:\n    HAS = False\nelse:\n    HAS = True\n", []),
        ],
    )
    def test_reads_source_as_python_does(
        self, tmp_path: Path, data: bytes, expected: list[tuple[str, int, str]]
    ) -> None:
        assert places(lint(write(tmp_path, {"a.py": data}), ["a.py"])) == expected

    def test_lets_packages_reexport_and_tests_compare_for_effect(self, tmp_path: Path) -> None:
        odd = "import os\n\n\ndef test(a):\n    a == 1\n"
        root = write(tmp_path, {"pkg/__init__.py": "import os\n", "tests/test_a.py": odd, "a.py": odd})

        outcome = lint(root, ["pkg/__init__.py", "tests/test_a.py", "a.py"])

        assert places(outcome) == [("a.py", 1, "F401"), ("a.py", 5, "B015"), ("tests/test_a.py", 1, "F401")]

    def test_is_not_configured_by_the_project(self, tmp_path: Path) -> None:
        root = write(tmp_path, {"ruff.toml": 'exclude = ["*"]\nlint.select = []\n', "a.py": "import os\n"})

        assert places(lint(root, ["a.py"])) == [("a.py", 1, "F401")]

    def test_does_not_read_outside_the_project(self, tmp_path: Path) -> None:
        root = write(tmp_path / "shop", {"a.py": "A = 1\n"})
        write(tmp_path, {"secret.py": "import os\n"})
        (root / "link.py").symlink_to(tmp_path / "secret.py")

        outcome = lint(root, ["../secret.py", "link.py", str(tmp_path / "secret.py"), "gone.py"])

        assert (outcome.findings, outcome.skipped) == ([], 4)

    def test_survives_a_file_that_ruff_cannot_check(self, tmp_path: Path) -> None:
        root = write(tmp_path, {"deep.py": "[" * 300_000 + "]" * 300_000, "a.py": "import os\n"})

        outcome = lint(root, ["a.py", "deep.py"])

        assert places(outcome) == [("a.py", 1, "F401"), ("deep.py", 1, "unchecked")]
        assert "stack overflow" in outcome.findings[-1]["message"]


class TestLintProgram:
    def run(self, cwd: Path, request: Any, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
        """Run the program as the command executor does; return its exit code and what it says."""
        cwd.mkdir(exist_ok=True)
        call = [sys.executable, "-m", "coordination.review.checks.lint", *arguments]
        environment = {"PATH": os.defpath, "LANG": "C.UTF-8", "HOME": str(cwd), "PYTHONPATH": str(REPOSITORY)}
        done = subprocess.run(
            call, input=json.dumps(request), capture_output=True, text=True, cwd=cwd, env=environment, check=False
        )
        assert done.stderr == ""
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]

    def test_reports_progress_and_its_result(self, tmp_path: Path) -> None:
        root = write(tmp_path / "shop", {f"m{n}.py": "import os\n" for n in range(30)})
        request = {"task": "t", "input": {"root": str(root), "files": [f"m{n}.py" for n in range(30)]}}

        code, lines = self.run(tmp_path / "cwd", request)

        assert code == 0
        assert [line["type"] for line in lines] == ["progress", "progress", "result"]
        assert lines[1] == {"type": "progress", "fraction": 1.0, "message": "30 of 30 files"}
        output = lines[2]["output"]
        assert (output["skill"], output["total"], output["files"], output["skipped"]) == ("code.lint", 30, 30, 0)
        assert output["findings"][0]["path"] == "m0.py"

    def test_keeps_many_findings_as_an_artifact(self, tmp_path: Path) -> None:
        root = write(tmp_path / "shop", {"a.py": "".join(f"import a{n}\n" for n in range(500))})

        code, lines = self.run(tmp_path / "cwd", {"root": str(root)})

        artifact, result = lines[-2:]
        assert (code, artifact["type"], artifact["path"]) == (0, "artifact", "findings.json")
        assert len(json.loads((tmp_path / "cwd" / "findings.json").read_text())) == 500
        assert result["output"]["total"] == 500 > len(result["output"]["findings"])
        assert len(json.dumps(result["output"])) < 11_000

    @pytest.mark.parametrize("request_", [[], {}, {"root": "/does/not/exist"}, {"input": {"files": []}}, "x"])
    def test_says_that_a_request_is_no_good(self, tmp_path: Path, request_: Any) -> None:
        code, lines = self.run(tmp_path / "cwd", request_)

        assert code == 2
        assert [(line["type"], line["retryable"]) for line in lines] == [("error", False)]

    def test_takes_its_time_when_told_to(self, tmp_path: Path) -> None:
        root = write(tmp_path / "shop", {"a.py": ""})

        _, lines = self.run(tmp_path / "cwd", {"root": str(root)}, "--pace", "0.3")

        assert lines[-1]["output"]["elapsed_s"] >= 0.3


class TestComplexity:
    def test_finds_the_planted_function(self, tmp_path: Path) -> None:
        outcome = complexity(write(tmp_path, PLANTED), [path for path in PLANTED if path.endswith(".py")])

        assert places(outcome) == [("shop/branches.py", 1, "complex-function")]
        assert outcome.findings[0]["message"] == "`choose` has a cyclomatic complexity of 12 (limit 10)"
        assert outcome.skipped == 2  # broken.py and bytes.py

    @pytest.mark.parametrize(
        ("source", "value"),
        [
            (f"def f(a):\n{BRANCHES}", 11),
            (f"async def f(a):\n{BRANCHES}", 11),
            (f"if True:\n  class A:\n    @property\n    def f(self, a=0):\n{BRANCHES.replace('    ', '      ')}", 11),
            ("def f(a):\n    match a:\n" + "".join(f"        case {n}:\n            a()\n" for n in range(10)), 11),
            (
                "def f(a):\n    match a:\n"
                + "".join(f"        case {n}:\n            a()\n" for n in range(10))
                + "        case _:\n            a()\n",
                11,
            ),
            ("def f(a):\n    try:\n        a()\n" + "    except* OSError:\n        a()\n" * 10, 12),
        ],
    )
    def test_counts_ways_through_a_function(self, tmp_path: Path, source: str, value: int) -> None:
        (finding,) = complexity(write(tmp_path, {"a.py": source}), ["a.py"]).findings

        assert f"complexity of {value} " in finding["message"]

    def test_keeps_functions_of_one_name_apart(self, tmp_path: Path) -> None:
        source = f"def f(a):\n{BRANCHES}\n\ndef f(a):\n    return a\n"

        assert places(complexity(write(tmp_path, {"a.py": source}), ["a.py"])) == [("a.py", 1, "complex-function")]

    def test_survives_very_long_chains(self, tmp_path: Path) -> None:
        chain = "def f(a):\n    if a:\n        a()\n" + "    elif a:\n        a()\n" * 3_000
        sums = f"A = {'+'.join('1' * 20_000)}\n"

        outcome = complexity(write(tmp_path, {"a.py": chain, "b.py": sums}), ["a.py", "b.py"])

        assert outcome.files == 2


class TestSecurity:
    def test_finds_the_planted_hole(self, tmp_path: Path) -> None:
        outcome = security(write(tmp_path, PLANTED), [path for path in PLANTED if path.endswith(".py")])

        assert places(outcome) == [("shop/run.py", 9, "B602")]
        assert (outcome.findings[0]["severity"], outcome.skipped) == ("error", 2)

    def test_respects_nosec_and_is_milder_with_tests(self, tmp_path: Path) -> None:
        secret = "password = 'hunter2'\n"
        files = {"a.py": f"eval('1')  # nosec\n{secret}", "tests/test_a.py": f"assert True\n{secret}eval('1')\n"}

        outcome = security(write(tmp_path, files), list(files))

        assert places(outcome) == [("a.py", 2, "B105"), ("tests/test_a.py", 3, "B307")]

    def test_reads_other_encodings(self, tmp_path: Path) -> None:
        root = write(tmp_path, {"a.py": b"# coding: latin-1\nA = eval('\xe9')\n"})

        assert places(security(root, ["a.py"])) == [("a.py", 2, "B307")]


class TestDuplication:
    def test_finds_the_planted_twin(self, tmp_path: Path) -> None:
        outcome = duplication(write(tmp_path, PLANTED), sorted(path for path in PLANTED if path.endswith(".py")))

        # From the body on: the function's names differ.
        assert [f for f in places(outcome) if f[0] != "shop/branches.py"] == [("shop/cart.py", 5, "duplicate-code")]
        assert "repeat `shop/bill.py:5-13`" in outcome.findings[-1]["message"]

    def test_sees_through_layout_comments_and_docstrings(self, tmp_path: Path) -> None:
        body = [f"value_{n} = compute(first={n}, second=[{n}, {n + 1}], third='x')" for n in range(6)]
        spread = [line.replace(", ", ",\n      ") + "  # here" for line in body]
        files = {"a.py": "\n".join(body), "b.py": "'''Doc.'''\nimport os\n\n" + "\n\n".join(spread)}

        (finding,) = duplication(write(tmp_path, files), ["a.py", "b.py"]).findings

        assert (finding["path"], finding["line"]) == ("b.py", 4)
        assert finding["message"].startswith("lines 4-")
        assert "repeat `a.py:1-6` (6 statements," in finding["message"]

    @pytest.mark.parametrize(
        "source",
        [
            "".join(f"value_{n} = compute(first={n}, second={n})\n" for n in range(5)) * 2,  # too few statements
            "a = 1\n" * 10 + "b = 2\n" * 10,  # too few words
            "".join(f"from package.part{n} import first, second, third, fourth, fifth\n" for n in range(9)) * 2,
            "".join(f"value_{n} = compute(first={n}, second={n})\n" for n in range(50)),  # alike, not equal
        ],
    )
    def test_leaves_what_is_small_or_only_alike(self, tmp_path: Path, source: str) -> None:
        assert duplication(write(tmp_path, {"a.py": source}), ["a.py"]).findings == []

    def test_reports_the_longest_repeat_once(self, tmp_path: Path) -> None:
        lines = [f"value_{n} = compute(first={n}, second=[{n}, {n}], third='x')\n" for n in range(12)]
        files: Files = {"a.py": "".join(lines[:7]), "b.py": "".join(lines), "c.py": "".join(lines)}

        outcome = duplication(write(tmp_path, files), list(files))

        assert [(f["path"], f["message"].split(" (")[0]) for f in outcome.findings] == [
            ("b.py", "lines 1-7 repeat `a.py:1-7`"),
            ("c.py", "lines 1-12 repeat `b.py:1-12`"),
        ]

    def test_skips_what_is_no_python(self, tmp_path: Path) -> None:
        root = write(tmp_path, {"a.py": "x = '''never closed\n", "b.py": b"\xff\xfe"})

        outcome = duplication(root, ["a.py", "b.py"])

        assert (outcome.findings, outcome.files, outcome.skipped) == ([], 2, 2)


class TestInventory:
    def test_counts_files_lines_and_languages(self, tmp_path: Path) -> None:
        files: Files = {
            "a.py": "A = 1\nB = 2\n",
            "tool": "#!/usr/bin/env python3\nprint()",
            "x.md": "# X\n",
            "y": b"\0",
        }

        counted = inventory(write(tmp_path, files), [*files, "gone.py"])

        assert (counted["files"], counted["python_files"], counted["lines"], counted["skipped"]) == (4, 2, 5, 1)
        assert [(row["language"], row["files"], row["lines"]) for row in counted["languages"]] == [
            ("Python", 2, 4),
            ("Markdown", 1, 1),
            ("Binary", 1, 0),
        ]
        assert counted["largest"][0] == {"path": "tool", "size_bytes": 30}


class TestAllChecks:
    def test_find_nothing_in_a_clean_project(self, tmp_path: Path) -> None:
        tree = take(write(tmp_path / "tidy", CLEAN), tmp_path / "into")

        for check in (lint, complexity, security, duplication):
            assert places(check(tree.root, list(tree.python_files))) == []

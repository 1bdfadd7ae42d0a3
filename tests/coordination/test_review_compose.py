"""Joining the findings into a report."""

from typing import Any

from markdown_it import MarkdownIt

from coordination.review.compose import PER_RULE, compose, markdown
from coordination.review.findings import Finding, Outcome, Severity, output

INVENTORY: dict[str, Any] = {
    "files": 1,
    "python_files": 1,
    "lines": 1_234,
    "languages": [{"language": "Python", "files": 1, "lines": 1_234, "size_bytes": 5_678}],
}


def finding(path: str, line: int, severity: Severity = "info", **rest: str) -> Finding:
    """Return some finding."""
    return Finding(
        path=path, line=line, rule=rest.get("rule", "R1"), severity=severity, message=rest.get("message", "It is odd.")
    )


def result(skill: str, *findings: Finding) -> dict[str, Any]:
    """Return what a check's task puts out."""
    return {"skill": skill, "output": output(skill, Outcome(findings=list(findings), files=2), 1.0)[0]}


class TestCompose:
    def test_joins_the_outputs_of_a_skill(self) -> None:
        same = finding("b.py", 1)
        results = [
            result("code.lint", same),
            result("tests.map"),
            result("code.lint", finding("a.py", 2, "error"), same),
        ]

        review = compose("shop", INVENTORY, results)

        assert [(s.skill, len(s.findings), s.files, s.elapsed_s) for s in review.summaries] == [
            ("code.lint", 2, 4, 2.0),
            ("tests.map", 0, 2, 1.0),
        ]
        assert review.totals == {
            "error": 1,
            "warning": 0,
            "info": 1,
            "findings": 2,
            "files": 2,
            "unseen": 0,
            "failed_checks": 0,
        }

    def test_takes_bare_outputs_too(self) -> None:
        review = compose("shop", {}, [result("code.lint", finding("a.py", 1))["output"], {"skill": "echo", "echo": 1}])

        assert [summary.skill for summary in review.summaries] == ["code.lint"]

    def test_asks_for_the_list_that_did_not_fit(self) -> None:
        many = [finding("a.py", n) for n in range(500)]
        cut = result("code.lint", *many)
        sha256 = cut["output"]["findings_sha256"]

        whole = compose("shop", {}, [cut], {sha256: many}.get)
        part = compose("shop", {}, [cut])

        assert (whole.totals["findings"], whole.totals["unseen"]) == (500, 0)
        assert part.totals["findings"] + part.totals["unseen"] == 500
        assert f"{part.totals['unseen']} more found than fit" in markdown(part)

    def test_says_which_check_has_failed(self) -> None:
        failed = {"skill": "code.security", "output": None, "error": {"kind": "timeout", "message": "It took 300 s."}}

        review = compose("shop", {}, [failed])

        assert review.totals["failed_checks"] == 1
        assert "- Security (bandit): a part was not checked: It took 300 s." in markdown(review)
        assert "**Nothing was found in what was checked.**" in markdown(review)

    def test_does_not_call_a_project_empty_whose_files_could_not_be_counted(self) -> None:
        failed = {"skill": "code.inventory", "error": {"kind": "timeout", "message": "It took 300 s."}}

        text = markdown(compose("shop", {}, [failed, result("code.lint")]))

        assert "How much there is to read could not be counted." in text
        assert "- Inventory: a part was not checked: It took 300 s." in text


class TestMarkdown:
    def test_says_that_nothing_was_found(self) -> None:
        text = markdown(compose("shop", INVENTORY, [result("code.lint")]))

        assert text.startswith(
            "# Review of shop\n\nRead 1 file (1 Python; 1,234 lines in all). **Nothing was found.**\n"
        )
        assert "## Findings" not in text

    def test_names_every_finding_with_its_place(self) -> None:
        found = [finding("a.py", 3, "error", message="`x` is undefined"), finding("pkg/b.py", 7, "warning")]

        text = markdown(compose("shop", INVENTORY, [result("code.lint", *found)]))

        assert "Found **1 error and 1 warning** in 2 files." in text
        assert "| Lint (ruff) | 2 | 1 | 1 | 0 | 1.0 s |" in text
        assert "### `a.py`\n\n- `a.py:3` **error** `x` is undefined (`R1`)\n" in text
        assert "- `pkg/b.py:7` **warning** It is odd. (`R1`)" in text
        assert "| Python | 1 | 1,234 | 5,678 |" in text

    def test_moves_what_is_much_of_one_rule_to_the_appendix(self) -> None:
        many = [finding(f"m{n:03}.py", 1) for n in range(PER_RULE + 30)]

        text = markdown(compose("shop", INVENTORY, [result("code.lint", *many)]))

        body, _, appendix = text.partition("## Appendix")
        assert body.count("**note**") == PER_RULE
        assert "`R1` and 30 more: see the appendix" in body
        assert all(f"- `m{n:03}.py:1`" in appendix for n in range(PER_RULE, PER_RULE + 30))

    def test_lets_no_name_or_message_break_the_page(self) -> None:
        evil = [
            finding("a|b`c.py", 1, message="<script>alert(1)</script> | *x* [y](z)\n# Heading"),
            finding("b.py", 1, message="one ` tick, __init__ and snake_case"),
        ]

        html = (
            MarkdownIt("commonmark", {"html": True})
            .enable("table")
            .render(markdown(compose("<b>shop</b>", {}, [result("code.lint", *evil)])))
        )

        assert "<script>" not in html
        assert "<b>shop" not in html
        assert "<code>a|b`c.py:1</code>" in html
        assert "<h1>Heading" not in html
        assert "one ` tick, __init__ and snake_case" in html
        assert html.count("<table>") == 2

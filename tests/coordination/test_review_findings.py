"""What fits into an output, and what is kept beside it."""

import hashlib
import json

from coordination.review.findings import OUTPUT_BYTES, Finding, Outcome, Severity, in_order, output, worst_first


def finding(line: int, severity: Severity = "info", path: str = "a.py") -> Finding:
    """Return some finding."""
    return Finding(path=path, line=line, rule="R1", severity=severity, message=f"Line {line} is odd.")


class TestInOrder:
    def test_sorts_and_drops_repeats(self) -> None:
        found = [finding(10), finding(2), finding(1, path="b.py"), finding(2)]

        assert in_order(found) == [finding(2), finding(10), finding(1, path="b.py")]


class TestWorstFirst:
    def test_puts_errors_before_warnings_before_notes(self) -> None:
        found = [finding(1), finding(2, "warning"), finding(3, "error"), finding(0)]

        assert [one["line"] for one in worst_first(found)] == [3, 2, 0, 1]


class TestOutput:
    def test_holds_all_findings_if_they_fit(self) -> None:
        answer, whole = output("code.lint", Outcome(findings=[finding(1, "error")], files=3, skipped=1), 0.5)

        assert whole is None
        assert answer == {
            "skill": "code.lint",
            "findings": [finding(1, "error")],
            "total": 1,
            "counts": {"error": 1, "warning": 0, "info": 0},
            "files": 3,
            "skipped": 1,
            "elapsed_s": 0.5,
        }

    def test_keeps_the_worst_and_the_true_counts_if_they_do_not_fit(self) -> None:
        found = [finding(n) for n in range(1000)] + [finding(5000, "error")]

        answer, whole = output("code.lint", Outcome(findings=found, files=3), 0.5)

        assert whole is not None
        assert len(json.loads(whole)) == answer["total"] == 1001
        assert answer["counts"] == {"error": 1, "warning": 0, "info": 1000}
        assert finding(5000, "error") in answer["findings"]
        assert answer["findings_sha256"] == hashlib.sha256(whole).hexdigest()
        assert len(json.dumps(answer)) < OUTPUT_BYTES + 500

"""``code.security``: bandit, without the rules that speak of habits rather than of holes."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bandit.core.config import BanditConfig
from bandit.core.manager import BanditManager

from coordination.review import source
from coordination.review.findings import Finding, Outcome, Severity

# assert; imports of pickle, subprocess, xml and the like by themselves; subprocess without a shell, with a short name;
# except-pass and except-continue; random, which is no hole until it makes secrets.
_HABITS = ["B101", "B110", "B112", "B311", "B401", "B402", "B403", "B404", "B405", "B406", "B407", "B408", "B409"]
_HABITS += ["B410", "B411", "B412", "B413", "B415", "B603", "B606", "B607"]
_SEVERITY: dict[str, Severity] = {"HIGH": "error", "MEDIUM": "warning", "LOW": "info"}


def security(root: Path, files: Iterable[str]) -> Outcome:
    """Return bandit's findings; ``# nosec`` is respected, and tests are only reported from medium severity on."""
    findings: list[Finding] = []
    looked_at = skipped = 0
    config = BanditConfig()
    for path in files:
        looked_at += 1
        # Bandit itself would report what it cannot read to the log, file by file.
        if source.parse(source.text(root, path)) is None:
            skipped += 1
            continue
        manager = BanditManager(config, "file", quiet=True, profile={"exclude": _HABITS})
        manager.files_list = [str(root / path)]
        manager.run_tests()
        skipped += len(manager.get_skipped())
        findings += [_finding(path, issue) for issue in manager.get_issue_list() if _counts(path, issue)]
    return Outcome(findings=findings, files=looked_at, skipped=skipped)


def _counts(path: str, issue: Any) -> bool:
    return issue.severity != "LOW" or not source.is_test(path)


def _finding(path: str, issue: Any) -> Finding:
    # What bandit only suspects is worth a look, not a warning: "0.0.0.0" in a comparison, SQL made of constants.
    severity = _SEVERITY.get(issue.severity, "info")
    suspected = severity == "warning" and issue.confidence != "HIGH"
    return Finding(
        path=path,
        line=max(issue.lineno, 1),
        rule=issue.test_id,
        severity="info" if suspected else severity,
        message=issue.text.strip(),
    )

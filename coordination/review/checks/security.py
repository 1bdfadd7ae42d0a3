"""``code.security``: bandit, without the rules that speak of habits rather than of holes."""

import logging
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from coordination.review import source
from coordination.review.findings import Finding, Outcome, Severity

# assert; imports of pickle, subprocess, xml and the like by themselves; subprocess without a shell, with a short name;
# except-pass and except-continue; random, until it makes secrets; mark_safe by itself (B703 looks closer).
_HABITS = ["B101", "B110", "B112", "B311", "B401", "B402", "B403", "B404", "B405", "B406", "B407", "B408", "B409"]
_HABITS += ["B308", "B410", "B411", "B412", "B413", "B415", "B603", "B606", "B607"]
_PASSWORDS = {"B105", "B106", "B107"}
_SEVERITY: dict[str, Severity] = {"HIGH": "error", "MEDIUM": "warning", "LOW": "info"}


def security(root: Path, files: Iterable[str]) -> Outcome:
    """Return bandit's findings; ``# nosec`` is respected, and tests are only reported from medium severity on."""
    findings: list[Finding] = []
    looked_at = skipped = 0
    bandit = _bandit()
    for path in files:
        looked_at += 1
        # Bandit itself would report what it cannot read to the log, file by file.
        if source.parse(source.text(root, path)) is None:
            skipped += 1
            continue
        manager = bandit()
        manager.files_list = [str(root / path)]
        manager.run_tests()
        skipped += len(manager.get_skipped())
        findings += [_finding(path, issue) for issue in manager.get_issue_list() if _counts(path, issue)]
    return Outcome(findings=findings, files=looked_at, skipped=skipped)


def _bandit() -> Callable[[], Any]:
    """Return what makes a bandit with our rules; it is imported here, as that takes 0.3 s that not everybody needs."""
    # Its plug-in loader uses a deprecated argument, and it compiles the reviewed code, whose warnings are not ours.
    warnings.filterwarnings("ignore", message="The verify_requirements argument")
    warnings.filterwarnings("ignore", module="<unknown>")
    # It says in the worker's log which of its report formats it cannot load; we use none.
    logging.getLogger("stevedore.extension").setLevel(logging.CRITICAL)
    from bandit.core.config import BanditConfig
    from bandit.core.manager import BanditManager

    return partial(BanditManager, BanditConfig(), "file", quiet=True, profile={"exclude": _HABITS})


def _counts(path: str, issue: Any) -> bool:
    if issue.severity == "LOW" and source.is_test(path):
        return False
    return not (issue.test_id in _PASSWORDS and issue.text.endswith("''"))  # an empty one is a default, not a secret


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

"""``code.complexity``: functions with many ways through them."""

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

from mccabe import PathGraphingAstVisitor, PathNode

from coordination.review import source
from coordination.review.findings import Finding, Outcome

LIMIT = 10  # McCabe 1976, IEEE TSE SE-2(4):308, which proposes ten as a reasonable upper bound
HARD = 20  # above it a function is a warning, not a note

Function = ast.FunctionDef | ast.AsyncFunctionDef


class _Visitor(PathGraphingAstVisitor):  # type: ignore[misc]  # mccabe has no types
    """mccabe's counting, with the two statements that are younger than mccabe."""

    def visitMatch(self, node: ast.Match) -> None:  # noqa: N802  # mccabe's naming
        """Count each case as one more way."""
        start = self.appendPathNode(f"Match {node.lineno}")
        ends = [] if _catches_all(node.cases[-1]) else [start]
        for case in node.cases:
            self.tail = start
            self.dispatch_list(case.body)
            ends.append(self.tail)
        self.tail = PathNode("", look="point")
        for end in ends:
            self.graph.connect(end, self.tail)

    def visitTryStar(self, node: ast.TryStar) -> None:  # noqa: N802
        """Count ``except*`` like ``except``."""
        self._subgraph(node, f"TryExcept {node.lineno}", extra_blocks=node.handlers)


def complexity(root: Path, files: Iterable[str]) -> Outcome:
    """Return a finding for every function or method whose cyclomatic complexity is over ``LIMIT``."""
    findings: list[Finding] = []
    looked_at = skipped = 0
    for path in files:
        tree = source.parse(source.text(root, path))
        try:
            found = [] if tree is None else list(_complex(path, tree))
        except RecursionError:
            tree, found = None, []
        skipped += tree is None
        looked_at += 1
        findings += found
    return Outcome(findings=findings, files=looked_at, skipped=skipped)


def measure(function: Function) -> int:
    """Return the cyclomatic complexity; inner functions count towards the one that holds them."""
    visitor = _Visitor()
    visitor.preorder(function, visitor)
    return max((graph.complexity() for graph in visitor.graphs.values()), default=1)


def _complex(path: str, tree: ast.Module) -> Iterator[Finding]:
    for name, function in functions(tree):
        value = measure(function)
        if value > LIMIT:
            yield Finding(
                path=path,
                line=function.lineno,
                rule="complex-function",
                severity="warning" if value > HARD else "info",
                message=f"`{name}` has a cyclomatic complexity of {value} (limit {LIMIT})",
            )


def functions(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, Function]]:
    """Yield each outermost function below ``node`` with its name, dotted for methods."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function):
            yield prefix + child.name, child
        elif isinstance(child, ast.ClassDef):
            yield from functions(child, f"{prefix}{child.name}.")
        elif isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case):
            yield from functions(child, prefix)


def _catches_all(case: ast.match_case) -> bool:
    return case.guard is None and isinstance(case.pattern, ast.MatchAs) and case.pattern.pattern is None

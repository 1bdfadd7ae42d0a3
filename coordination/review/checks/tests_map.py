"""``tests.map``: which modules and public functions no test knows of."""

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from coordination.review import source
from coordination.review.checks.complexity import Function
from coordination.review.checks.imports import imports, module_name
from coordination.review.findings import Finding, Outcome

# Not what one writes unit tests for: packaging, documentation, examples, generated schema changes, start files.
_ASIDE = {"docs", "doc", "examples", "example", "samples", "migrations", "benchmarks", "bench", "vendor", "_vendor"}
_START_FILES = {
    "setup.py",
    "manage.py",
    "conftest.py",
    "noxfile.py",
    "fabfile.py",
    "asgi.py",
    "wsgi.py",
    "apps.py",
    "__main__.py",
}
_TEST_FUNCTION = re.compile(r"^\s*(async )?def (test|runTest)", re.MULTILINE)
_MIN_STATEMENTS = 2  # a function of one statement is tested by whoever calls it


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """A file that tests could be about."""

    path: str
    functions: tuple[tuple[str, int], ...]  # public, top level, undecorated, more than one statement: name, line
    names: frozenset[str]  # everything public it defines


@dataclass(frozen=True, slots=True, kw_only=True)
class Tests:
    """What all test files together say."""

    any: bool  # whether there is a test function at all
    words: frozenset[str]
    text: str
    imported: frozenset[str]  # dotted names, also of what is taken from modules


def map_tests(root: Path, files: Iterable[str]) -> Outcome:
    """Return a finding per module that no test imports or names, and per public function no test names.

    A name in a test counts as a test, wherever it stands; so what is reported is what tests surely never mention.
    Functions behind decorators (views, tasks, fixtures, commands) are called by others than tests and are left out.
    """
    modules: list[Module] = []
    test_texts: list[str] = []
    paths: set[str] = set()
    skipped = 0
    for path in filter(source.is_python, files):
        paths.add(path)
        text = source.text(root, path)
        if source.is_test(path):
            test_texts.append(text or "")
        elif _is_subject(path):
            tree = source.parse(text)
            skipped += tree is None
            modules += [] if tree is None else [_module(path, tree)]
    findings = list(_findings(modules, _tests(test_texts), frozenset(paths)))
    return Outcome(findings=findings, files=len(paths), skipped=skipped)


def _findings(modules: list[Module], tests: Tests, paths: frozenset[str]) -> Iterator[Finding]:
    subjects = [module for module in modules if module.functions or module.names]
    if not subjects:
        return
    if not tests.any:
        yield _no_tests(subjects)
        return
    for module in subjects:
        name = module_name(module.path, paths)
        if not _is_known(module, name, tests):
            yield _untested_module(module.path, name or module.path)
        else:
            yield from (_untested_function(module, *f) for f in module.functions if f[0] not in tests.words)


def _is_known(module: Module, name: str, tests: Tests) -> bool:
    """Say whether any test imports the module, or names it or something it defines."""
    if not module.names.isdisjoint(tests.words) or name in tests.imported:
        return True
    # A dotted name in a string (`-m package.module`, a patch) is a mention; a bare word may mean anything, unless it is
    # the quoted name of a Django command.
    if "management.commands." in name and f'"{name.rpartition(".")[2]}"' in tests.text.replace("'", '"'):
        return True
    return "." in name and name in tests.text


def _is_subject(path: str) -> bool:
    place = PurePosixPath(path)
    return place.name not in _START_FILES and _ASIDE.isdisjoint(place.parts[:-1])


def _module(path: str, tree: ast.Module) -> Module:
    functions, names = [], set()
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        names.add(node.name)
        if isinstance(node, Function) and not node.decorator_list and _statements(node) >= _MIN_STATEMENTS:
            functions.append((node.name, node.lineno))
    return Module(path=path, functions=tuple(functions), names=frozenset(names))


def _statements(function: Function) -> int:
    """Return how many statements the body has, at any depth, without the docstring."""
    inside = sum(isinstance(node, ast.stmt) for node in ast.walk(function)) - 1
    return inside - (ast.get_docstring(function, clean=False) is not None)


def _tests(texts: list[str]) -> Tests:
    imported: set[str] = set()
    for text in texts:
        tree = source.parse(text)
        for found in imports(tree) if tree is not None else []:
            imported |= {found.module, *(f"{found.module}.{name}" for name in found.names)}
    whole = "\n".join(texts)
    words = frozenset(re.findall(r"[A-Za-z_]\w*", whole))
    return Tests(any=_TEST_FUNCTION.search(whole) is not None, words=words, text=whole, imported=frozenset(imported))


def _no_tests(modules: list[Module]) -> Finding:
    first = max(modules, key=lambda module: (len(module.functions), module.path))
    count = len(modules)
    return Finding(
        path=first.path,
        line=1,
        rule="no-tests",
        severity="warning",
        message=f"the project has no test files for its {count} modules; this one, with the most functions, is a start",
    )


def _untested_module(path: str, name: str) -> Finding:
    return Finding(
        path=path,
        line=1,
        rule="untested-module",
        severity="warning",
        message=f"no test imports `{name}` or names anything it defines",
    )


def _untested_function(module: Module, name: str, line: int) -> Finding:
    return Finding(
        path=module.path,
        line=line,
        rule="untested-function",
        severity="info",
        message=f"no test names `{name}`",
    )

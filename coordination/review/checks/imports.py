"""Which modules a project's files import, and which of them are its own."""

import ast
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

# Gone from the standard library; old code that still asks for them does not miss a package.
_FORMER = {"distutils", "imp", "asyncore", "asynchat", "smtpd", "binhex", "formatter", "parser", "symbol", "macpath"}
STANDARD = sys.stdlib_module_names | _FORMER | {"_typeshed", "__main__"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """One absolute import; ``module`` is the dotted name as written, ``names`` what is taken from it."""

    module: str
    names: tuple[str, ...]
    line: int
    optional: bool  # in a `try` or an `if` (TYPE_CHECKING, platform, version): the file does without
    lazy: bool  # in a function

    @property
    def top(self) -> str:
        """The first part of the module's name."""
        return self.module.partition(".")[0]


def imports(tree: ast.Module) -> list[Import]:
    """Return all absolute imports of a file, by line."""
    found: list[Import] = []
    todo: list[tuple[ast.AST, bool, bool]] = [(tree, False, False)]  # a stack: long `elif` chains nest deeply
    while todo:
        node, optional, lazy = todo.pop()
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import | ast.ImportFrom):
                found += _imports(child, optional=optional, lazy=lazy)
            elif isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case):
                todo.append((child, optional or _is_guard(child), lazy or _is_function(child)))
    return sorted(found, key=lambda one: (one.line, one.module))


def _imports(node: ast.Import | ast.ImportFrom, *, optional: bool, lazy: bool) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield Import(module=alias.name, names=(), line=node.lineno, optional=optional, lazy=lazy)
    elif node.level == 0 and node.module:
        names = tuple(alias.name for alias in node.names)
        yield Import(module=node.module, names=names, line=node.lineno, optional=optional, lazy=lazy)


def _is_guard(node: ast.AST) -> bool:
    # `with suppress(ImportError)` and `with pytest.raises(…)` guard too.
    return isinstance(node, ast.If | ast.Try | ast.TryStar | ast.With | ast.Match)


def _is_function(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


def own_names(files: Iterable[str]) -> frozenset[str]:
    """Return every name under which a file of the project could be imported at top level: generous on purpose.

    Folders and modules at any depth count, as scripts and tests put all sorts of folders onto ``sys.path``.
    """
    names: set[str] = set()
    for path in files:
        parts = PurePosixPath(path).with_suffix("").parts
        names.update(parts)
    return frozenset(names - {"__init__"})


def module_name(path: str, files: frozenset[str]) -> str:
    """Return the dotted name a file has inside its outermost package; a package's own file has the package's name."""
    place = PurePosixPath(path)
    parts = [] if place.name == "__init__.py" else [place.stem]
    folder = place.parent
    while folder.name and (folder / "__init__.py").as_posix() in files:
        parts.insert(0, folder.name)
        folder = folder.parent
    return ".".join(parts)

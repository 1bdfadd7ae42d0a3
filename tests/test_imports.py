"""The order of the apps holds: each imports only those below it, and pure modules stay pure."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
APPS = ("a2a_site", "analytics", "monitoring", "coordination", "routing")  # from top to bottom
IMPURE = {
    "asgiref", "celery", "channels", "django", "httpx", "kombu", "ninja", "psutil", "redis", "requests", "starlette",
    "tornado", "uvicorn", "websockets", "asyncio", "ftplib", "http", "multiprocessing", "selectors", "smtplib",
    "socket", "socketserver", "sqlite3", "ssl", "subprocess", "threading", "urllib",
}  # fmt: skip
HARMLESS = {"urllib.parse", "http.HTTPStatus", "http"}


def modules(*folders: str) -> list[Path]:
    """Return every Python file of the folders, relative to the project."""
    files = (path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return sorted(path.relative_to(ROOT) for path in files)


def imported(source: str, path: Path) -> Iterator[str]:
    """Yield the dotted name of each import in ``source``, whose place is ``path``; relative ones made absolute."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = path.parts[: len(path.parts) - node.level] if node.level else ()
            base = ".".join([*package, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def upward(source: str, path: Path) -> list[str]:
    """Return the imports of apps above the one that ``path`` belongs to."""
    above = APPS[: APPS.index(path.parts[0])]
    return [name for name in imported(source, path) if name.split(".")[0] in above]


def claims_purity(source: str) -> bool:
    """Return True if the first line of the module's docstring ends with "Pure."."""
    docstring = ast.get_docstring(ast.parse(source)) or ""
    return docstring.partition("\n")[0].endswith("Pure.")


def impurities(source: str, path: Path) -> list[str]:
    """Return the imports that a pure module may not have."""
    names = [name for name in imported(source, path) if name.rpartition(".")[0] not in HARMLESS]
    return [name for name in names if name.split(".")[0] in IMPURE]


def pure_modules() -> list[Path]:
    """Return the modules of the apps that say they are pure."""
    return [path for path in modules(*APPS) if claims_purity((ROOT / path).read_text())]


class TestApps:
    @pytest.mark.parametrize("path", modules(*APPS), ids=str)
    def test_import_only_what_is_below_them(self, path: Path) -> None:
        assert upward((ROOT / path).read_text(), path) == []


class TestPureModules:
    @pytest.mark.parametrize("path", pure_modules(), ids=str)
    def test_import_no_framework_and_no_network(self, path: Path) -> None:
        assert impurities((ROOT / path).read_text(), path) == []

    @pytest.mark.parametrize("path", pure_modules(), ids=str)
    def test_do_not_get_them_through_another_module_either(self, path: Path) -> None:
        behind = {file: impurities((ROOT / file).read_text(), file) for file in reached(path)}

        assert {str(file): names for file, names in behind.items() if names} == {}


def reached(path: Path) -> set[Path]:
    """Return the modules of ours that ``path`` imports, directly or through others."""
    found: set[Path] = set()
    waiting = [path]
    while waiting:
        current = waiting.pop()
        ours = (name for name in imported((ROOT / current).read_text(), current) if name.split(".")[0] in APPS)
        new = {file for name in ours if (file := file_of(name))} - found
        found |= new
        waiting.extend(new)
    return found


def file_of(name: str) -> Path | None:
    """Return the module an imported name is, or is in; None for a package."""
    parts = name.split(".")
    for candidate in (Path(*parts), Path(*parts[:-1])):
        file = candidate.with_suffix(".py")
        if (ROOT / file).is_file():
            return file
    return None


class TestTheRules:
    """The rules themselves notice what they are for."""

    def test_an_upward_import_is_seen(self) -> None:
        assert upward("from monitoring.live import Feed", Path("routing/fleet.py")) == ["monitoring.live.Feed"]

    def test_an_upward_import_inside_a_function_is_seen(self) -> None:
        assert upward("def f():\n    import a2a_site.env", Path("analytics/tuner.py")) == ["a2a_site.env"]

    def test_a_downward_and_a_sideways_import_are_allowed(self) -> None:
        assert upward("import routing.fleet\nfrom . import rules", Path("monitoring/live.py")) == []

    def test_a_relative_import_out_of_the_app_is_seen(self) -> None:
        assert upward("from ...a2a_site import env", Path("routing/executors/python.py")) == ["a2a_site.env"]

    def test_a_pure_module_may_parse_addresses_but_not_open_them(self) -> None:
        source = "from urllib.parse import urlsplit\nfrom urllib.request import urlopen\nfrom http import HTTPStatus"

        assert impurities(source, Path("routing/policy.py")) == ["urllib.request.urlopen"]

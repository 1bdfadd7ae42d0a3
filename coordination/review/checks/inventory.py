"""``code.inventory``: what the project consists of."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from coordination.review import source

_LANGUAGES = {
    "Python": ".py .pyw .pyi",
    "JavaScript": ".js .mjs .cjs .jsx",
    "TypeScript": ".ts .tsx",
    "C": ".c .h",
    "C++": ".cc .cpp .cxx .hpp",
    "Cython": ".pyx .pxd",
    "Rust": ".rs",
    "Go": ".go",
    "Java": ".java",
    "Shell": ".sh .bash",
    "SQL": ".sql",
    "HTML": ".html .htm .jinja .j2",
    "CSS": ".css .scss",
    "Markdown": ".md",
    "reStructuredText": ".rst",
    "Text": ".txt",
    "JSON": ".json",
    "YAML": ".yml .yaml",
    "TOML": ".toml",
    "INI": ".ini .cfg",
    "XML": ".xml",
    "Translations": ".po .pot",
    "Notebook": ".ipynb",
}
_BY_SUFFIX = {suffix: language for language, suffixes in _LANGUAGES.items() for suffix in suffixes.split()}
_LARGEST = 10


@dataclass(slots=True)
class _Sums:
    files: Counter[str] = field(default_factory=Counter)
    size_bytes: Counter[str] = field(default_factory=Counter)
    lines: Counter[str] = field(default_factory=Counter)


def language(path: str, data: bytes) -> str:
    """Return the language by the name's suffix or the first line; "Binary" for bytes that are no text."""
    if b"\0" in data[:8192]:
        return "Binary"
    if data.startswith(b"#!") and b"python" in data[:80].split(b"\n")[0]:
        return "Python"
    return _BY_SUFFIX.get(PurePosixPath(path).suffix.lower(), "Other")


def inventory(root: Path, files: Iterable[str]) -> dict[str, Any]:
    """Return counts of files, bytes and lines, in all and by language (most lines first), and the largest files."""
    sums, sizes, skipped = _Sums(), dict[str, int](), 0
    for path in files:
        try:
            data = source.read(root, path)
        except OSError:
            skipped += 1
            continue
        sizes[path] = len(data)
        _add(sums, language(path, data), data)
    return {
        "files": len(sizes),
        "size_bytes": sum(sizes.values()),
        "lines": sum(sums.lines.values()),
        "python_files": sums.files["Python"],
        "languages": _rows(sums),
        "largest": [{"path": path, "size_bytes": sizes[path]} for path in sorted(sizes, key=lambda p: (-sizes[p], p))][
            :_LARGEST
        ],
        "skipped": skipped,
    }


def _add(sums: _Sums, language: str, data: bytes) -> None:
    sums.files[language] += 1
    sums.size_bytes[language] += len(data)
    if language != "Binary":
        sums.lines[language] += data.count(b"\n") + (not data.endswith(b"\n") and data != b"")


def _rows(sums: _Sums) -> list[dict[str, Any]]:
    names = sorted(sums.files, key=lambda name: (-sums.lines[name], name))
    return [
        {
            "language": name,
            "files": sums.files[name],
            "size_bytes": sums.size_bytes[name],
            "lines": sums.lines[name],
        }
        for name in names
    ]

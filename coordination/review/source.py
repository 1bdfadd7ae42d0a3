"""Reading Python source as Python does: declared encodings, byte order marks, newlines."""

import ast
import io
import os
import tokenize
import warnings
from pathlib import Path, PurePosixPath

PYTHON_SUFFIXES = frozenset({".py", ".pyw"})
MAX_SOURCE_BYTES = 2 * 1024 * 1024  # larger files are generated data; only the lint check looks at them

# What compile() raises for text that is no program, or for one that is nested too deeply.
_NO_PROGRAM = (SyntaxError, ValueError, RecursionError, MemoryError)


class Undecodable(Exception):
    """The file's bytes are not the text they claim to be; ``line`` is where (from 1), ``why`` is a sentence."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(why)
        self.line = line
        self.why = why


def is_python(path: str) -> bool:
    """Say whether the name is that of a Python source file."""
    return PurePosixPath(path).suffix.lower() in PYTHON_SUFFIXES


def is_test(path: str) -> bool:
    """Say whether the file belongs to the tests, by pytest's, unittest's and Django's habits of naming."""
    *folders, name = PurePosixPath(path).parts
    named = name.startswith("test_") or name.endswith("_test.py") or name in {"tests.py", "conftest.py"}
    return named or "tests" in folders


def is_inside(root: Path, folder: Path) -> bool:
    """Say whether ``root`` is a directory somewhere below ``folder``, whatever links and ``..`` are in its name."""
    # is_dir() first: it says no to names that resolve() cannot take.
    return root.is_absolute() and root.is_dir() and folder.resolve() in root.resolve().parents


def files_below(root: Path) -> list[str]:
    """Return the names of all regular files below ``root``, relative, with forward slashes; links are not followed."""
    found = []
    for folder, _, names in os.walk(root, followlinks=False):
        paths = (Path(folder, name) for name in names)
        found += [path.relative_to(root).as_posix() for path in paths if path.is_file() and not path.is_symlink()]
    return sorted(found)


def read(root: Path, path: str) -> bytes:
    """Return the file's bytes; OSError if there is no such file inside ``root`` (links that lead out included)."""
    full = (root / path).resolve()
    if not full.is_relative_to(root.resolve()):
        raise FileNotFoundError(f"{path} lies outside the project")
    return full.read_bytes()


def decode(data: bytes) -> str:
    r"""Return the text by PEP 263's rules with newlines as ``\n``, or raise Undecodable."""
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise Undecodable(data.count(b"\n", 0, error.start) + 1, _bad_byte(error)) from error
    except (SyntaxError, LookupError, UnicodeError) as error:
        raise _undeclared(data) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def text(root: Path, path: str) -> str | None:
    """Return the file's text, or None if it cannot be read, decoded, or is larger than ``MAX_SOURCE_BYTES``."""
    try:
        data = read(root, path)
        return decode(data) if len(data) <= MAX_SOURCE_BYTES else None
    except (OSError, Undecodable):
        return None


def parse(text: str | None) -> ast.Module | None:
    """Return the syntax tree, or None if there is no text or it is not a program for this Python."""
    if text is None:
        return None
    # Reviewed code may hold invalid escapes; its warnings are not ours. Set anew each time, as test runners reset it.
    warnings.filterwarnings("ignore", module="<reviewed>")
    try:
        return ast.parse(text, filename="<reviewed>")
    except _NO_PROGRAM:
        return None


def _undeclared(data: bytes) -> Undecodable:
    """Return the reason why detect_encoding refused: bytes that are not UTF-8, or an encoding nobody knows."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        return Undecodable(data.count(b"\n", 0, error.start) + 1, _bad_byte(error))
    line = next((n for n, head in enumerate(data.split(b"\n")[:2], 1) if b"coding" in head), 1)
    return Undecodable(line, "the file declares an encoding that Python does not know; declare utf-8")


def _bad_byte(error: UnicodeDecodeError) -> str:
    byte = error.object[error.start]
    return f"byte 0x{byte:02x} is not {error.encoding}; save the file as UTF-8 or declare its encoding in line 1"

"""Small projects for the review to read: one with known defects, one without any."""

import subprocess
import zipfile
from collections.abc import Mapping
from pathlib import Path

from coordination.review.findings import Finding, Outcome

Files = Mapping[str, str | bytes]


def write(root: Path, files: Files) -> Path:
    """Write the files below ``root`` and return it."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def pack(archive: Path, files: Files) -> Path:
    """Write a zip of the files and return its path."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in files.items():
            target.writestr(name, content)
    return archive


def git(folder: Path, *arguments: str) -> None:
    """Run git there, as somebody."""
    somebody = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main"]
    subprocess.run(["git", *somebody, "-C", str(folder), *arguments], check=True, capture_output=True)


def places(findings: Outcome | list[Finding]) -> list[tuple[str, int, str]]:
    """Return path, line and rule of each finding, sorted."""
    listed = findings.findings if isinstance(findings, Outcome) else findings
    return sorted((finding["path"], finding["line"], finding["rule"]) for finding in listed)


_TWIN = """
    total = 0
    for item in items:
        if item.price > 10 and item.count > 0:
            total += item.price * item.count
        elif item.price < 0:
            raise ValueError(f"{item.name} has a negative price of {item.price}")
        else:
            total += max(item.price, 1) * max(item.count, 1) + item.extra
    return round(total, 2)
"""

_BRANCHES = "\n".join(f"    if value == {n}:\n        return {n}" for n in range(11))

PLANTED: Files = {
    "requirements.txt": "requests\nflask==3.0.0\nleftpad==1.0\n",
    "shop/__init__.py": "",
    "shop/cart.py": f'"""A cart."""\n\n\ndef total(items):{_TWIN}',
    "shop/bill.py": f'"""A bill."""\n\n\ndef amount(items):  # the same again{_TWIN}',
    "shop/names.py": "import os\n\n\ndef name(user):\n    return usr.name\n",
    "shop/broken.py": "def fine():\n    pass\n\n\ndef broken(:\n    pass\n",
    "shop/latin.py": b'# -*- coding: latin-1 -*-\nCITY = "Z\xfcrich"\nprint(town)\n',
    "shop/bytes.py": b'A = 1\nCITY = "Z\xfcrich"\n',
    "shop/run.py": "import subprocess\n\nimport requests\nimport yaml\n\n\ndef run(line, flask):\n"
    "    requests.get(line, timeout=3)\n    return subprocess.call(line, shell=True)\n",
    "shop/branches.py": f"def choose(value):\n{_BRANCHES}\n    return None\n",
    "tests/test_cart.py": "from shop.cart import total\nfrom shop import bill, names, run\n\n\n"
    "def test_total():\n    assert total([]) == 0\n",
}

CLEAN: Files = {
    "pyproject.toml": '[project]\nname = "tidy"\nversion = "1"\ndependencies = ["httpx>=0.27"]\n',
    "README.md": "# Tidy\n",
    "tidy/__init__.py": '"""Tidy."""\n\nfrom tidy.fetch import fetch\n\n__all__ = ["fetch"]\n',
    "tidy/fetch.py": '''"""Fetching."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx

try:
    import orjson as json
except ImportError:
    import json

if TYPE_CHECKING:
    from rich.console import Console


def fetch(url: str, console: Console | None = None) -> object:
    """Return the document."""
    answer = httpx.get(url, timeout=5)
    if console:
        console.print(url)
    return json.loads(answer.text)
''',
    "tidy/__main__.py": "import sys\n\nfrom tidy import fetch\n\nprint(fetch(sys.argv[1]))\n",
    "tests/test_fetch.py": "from tidy.fetch import fetch\n\n\ndef test_fetch_needs_a_url():\n"
    "    try:\n        fetch('')\n    except Exception as error:\n        assert str(error)\n",
}

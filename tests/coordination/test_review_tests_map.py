"""Which modules and functions no test knows of."""

from pathlib import Path

import pytest

from coordination.review.checks.tests_map import map_tests
from tests.coordination.projects import CLEAN, PLANTED, Files, places, write

LONG = "    first = 1\n    return first\n"


def mapped(root: Path, files: Files) -> list[tuple[str, int, str]]:
    """Return what the map says about a project of these files."""
    return places(map_tests(write(root, files), list(files)))


class TestMapTests:
    def test_finds_exactly_the_planted_gaps(self, tmp_path: Path) -> None:
        assert mapped(tmp_path, PLANTED) == [
            ("shop/bill.py", 4, "untested-function"),
            ("shop/branches.py", 1, "untested-module"),
        ]

    def test_finds_nothing_in_a_clean_project(self, tmp_path: Path) -> None:
        assert mapped(tmp_path, CLEAN) == []

    def test_says_once_that_there_are_no_tests(self, tmp_path: Path) -> None:
        files = {"a.py": f"def f():\n{LONG}", "b.py": f"def g():\n{LONG}def h():\n{LONG}", "tests/__init__.py": ""}

        assert mapped(tmp_path, files) == [("b.py", 1, "no-tests")]

    @pytest.mark.parametrize(
        "test",
        [
            "from src.pkg.part import Other",
            "import pkg.part",
            "from pkg import part",
            "from pkg import work",
            "RUN = 'python -m pkg.part'",
            "MOCK = 'pkg.part.other'",
            "def test():\n    thing.work()",
        ],
    )
    def test_counts_an_import_or_a_name_as_known(self, tmp_path: Path, test: str) -> None:
        files = {"src/pkg/__init__.py": "", "src/pkg/part.py": f"def work():\n{LONG}"}
        files["tests/test_all.py"] = f"{test}\n\n\ndef test_it():\n    pass\n"

        assert "untested-module" not in {rule for _, _, rule in mapped(tmp_path, files)}

    def test_leaves_out_what_tests_do_not_call(self, tmp_path: Path) -> None:
        files = {
            "app/views.py": f"@route('/')\ndef page():\n{LONG}\n\n"
            f"def _private():\n{LONG}\n\ndef short():\n    return 1\n",
            "app/migrations/0001_initial.py": "class Migration:\n    pass\n",
            "manage.py": f"def main():\n{LONG}",
            "app/constants.py": "A = 1\n",
            "tests/test_app.py": "import app.views\n\n\ndef test_app():\n    app.views.page()\n",
        }

        assert mapped(tmp_path, files) == []

    def test_counts_a_command_called_by_name(self, tmp_path: Path) -> None:
        command = f"class Command:\n    def handle(self):\n    {LONG.replace('    return', '        return')}"
        files = {f"app/{folder}__init__.py": "" for folder in ("", "management/", "management/commands/")}
        files |= {f"app/management/commands/{name}.py": command for name in ("grow", "shrink")}
        files["tests/test_app.py"] = "def test_app():\n    call_command('grow')\n"

        assert mapped(tmp_path, files) == [("app/management/commands/shrink.py", 1, "untested-module")]

"""Requirements that float, that nobody imports, and imports that nobody declares."""

from pathlib import Path

import pytest

from coordination.review.checks.deps import audit
from coordination.review.checks.manifests import manifests
from tests.coordination.projects import CLEAN, PLANTED, Files, places, write


def audited(root: Path, files: Files) -> list[tuple[str, int, str]]:
    """Return what the audit says about a project of these files."""
    return places(audit(write(root, files), list(files)))


class TestAudit:
    def test_finds_exactly_the_planted_defects(self, tmp_path: Path) -> None:
        assert audited(tmp_path, PLANTED) == [
            ("requirements.txt", 1, "unpinned"),
            ("requirements.txt", 2, "unused-requirement"),
            ("requirements.txt", 3, "unused-requirement"),
            ("shop/run.py", 4, "undeclared-import"),
        ]

    def test_finds_nothing_in_a_clean_project(self, tmp_path: Path) -> None:
        assert audited(tmp_path, CLEAN) == []

    @pytest.mark.parametrize(
        ("requirement", "code"),
        [
            ("PyYAML==6.0", "import yaml"),
            ("beautifulsoup4==4.12", "from bs4 import BeautifulSoup"),
            ("Pillow==10.0", "def show():\n    from PIL import Image"),
            ("google-cloud-storage==2.0", "from google.cloud import storage"),
            ("zope.interface==6.0", "import zope.interface"),
            ("python-frobnicate==1.0", "import frobnicate"),
            ("ruamel.yaml==0.18", "import ruamel.yaml"),
            ("whatever_plugin==1.0", "PLUGINS = ['whatever_plugin.main']"),
        ],
    )
    def test_knows_which_package_brings_a_module(self, tmp_path: Path, requirement: str, code: str) -> None:
        assert audited(tmp_path, {"requirements.txt": requirement, "a.py": code + "\n"}) == []

    @pytest.mark.parametrize(
        "code",
        [
            "import os, sys, tomllib, distutils\nfrom __future__ import annotations",
            "try:\n    import nowhere\nexcept ImportError:\n    nowhere = None",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from nowhere import Thing",
            "from contextlib import suppress\nwith suppress(ImportError):\n    import nowhere",
            "import sibling\nimport pkg.part\nfrom pkg import part",
            "from . import nowhere\nfrom .nowhere import x",
        ],
    )
    def test_knows_the_standard_library_options_and_the_project_itself(self, tmp_path: Path, code: str) -> None:
        files = {"a.py": code + "\n", "sibling.py": "", "src/pkg/part.py": "", "requirements.txt": ""}

        assert audited(tmp_path, files) == []

    def test_reports_an_undeclared_import_once_at_its_worst_place(self, tmp_path: Path) -> None:
        lazy = "def f():\n    import nowhere\n"
        files = {"requirements.txt": "", "a.py": lazy, "b.py": "\nimport nowhere.part\n", "tests/test_a.py": lazy}

        outcome = audit(write(tmp_path, files), list(files))

        assert places(outcome) == [("b.py", 2, "undeclared-import")]
        assert outcome.findings[0]["severity"] == "warning"
        assert "`nowhere` (2 more files do)" in outcome.findings[0]["message"]

    def test_pins_by_a_lock_file(self, tmp_path: Path) -> None:
        locked = "flask==3.0 --hash=sha256:00\n    # via -r requirements.in\nwerkzeug==3.0 --hash=sha256:00\n"
        files = {"requirements.in": "flask\n", "requirements.txt": locked, "a.py": "import flask, werkzeug\n"}

        assert audited(tmp_path, files) == []

    def test_calls_nothing_undeclared_where_requirements_are_computed(self, tmp_path: Path) -> None:
        files = {
            "setup.py": "from setuptools import setup\nsetup(install_requires=read())\n",
            "a.py": "import nowhere\n",
        }

        assert audited(tmp_path, files) == []

    def test_leaves_tools_and_drivers_alone(self, tmp_path: Path) -> None:
        files = {
            "pyproject.toml": "[project]\ndependencies = ['gunicorn~=22.0']\n"
            "[dependency-groups]\ndev = ['anything~=1.0']\n",
            "requirements-dev.txt": "something==1.0\n",
            "a.py": "",
        }

        assert audited(tmp_path, files) == []

    def test_survives_broken_files(self, tmp_path: Path) -> None:
        files: Files = {
            "pyproject.toml": "[project",
            "setup.cfg": "no section",
            "requirements.txt": b"\xff",
            "a.py": "(",
        }

        outcome = audit(write(tmp_path, files), list(files))

        assert (outcome.findings, outcome.skipped) == ([], 1)


class TestManifests:
    def test_reads_every_kind_of_file_with_its_lines(self, tmp_path: Path) -> None:
        files = {
            "requirements/base.txt": "# Base\n-r other.txt\nalpha==1.0  # why\nbeta \\\n  >=2\n\ngit+https://x.org/c.git#egg=gamma\n",
            "pyproject.toml": "[project]\ndependencies = [\n  \"delta[extra]>=1; python_version > '3'\",\n]\n"
            '[tool.poetry.dependencies]\npython = "^3.11"\nepsilon = "^1.2"\n',
            "setup.cfg": "[options]\ninstall_requires =\n    zeta>=1\n    eta\n",
            "setup.py": "import setuptools\nsetuptools.setup(\n    install_requires=[\n        'theta',\n    ],\n)\n",
            "Pipfile": '[packages]\niota = "*"\n',
            "examples/requirements.txt": "ignored\n",
        }

        found = manifests(write(tmp_path, files), list(files))

        assert found.complete
        assert sorted((d.path, d.line, d.name, d.constrained, d.exact) for d in found.declared) == [
            ("Pipfile", 2, "iota", False, False),
            ("pyproject.toml", 3, "delta", True, False),
            ("pyproject.toml", 7, "epsilon", True, False),
            ("requirements/base.txt", 3, "alpha", True, True),
            ("requirements/base.txt", 4, "beta", True, False),
            ("requirements/base.txt", 7, "gamma", True, True),
            ("setup.cfg", 3, "zeta", True, False),
            ("setup.cfg", 4, "eta", False, False),
            ("setup.py", 4, "theta", False, False),
        ]

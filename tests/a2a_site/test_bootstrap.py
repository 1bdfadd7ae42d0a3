"""A small project with one package of its own, installed by the real pip from a folder, without a network."""

import ast
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BASE: str = getattr(sys, "_base_executable", sys.executable)  # not ours: it has no package `tiny`
BOOTSTRAP = ROOT / "a2a_site" / "bootstrap.py"
MANAGE = """
import runpy, sys
from pathlib import Path

events = []
sys.addaudithook(lambda event, _: events.append(event) if event in ("subprocess.Popen", "os.exec") else None)
root = Path(__file__).resolve().parent
runpy.run_path(str(root / "a2a_site" / "bootstrap.py"))["ensure"](root)

import tiny
print(tiny.VERSION, *sys.argv[1:], *events)
"""


def make_wheel(folder: Path, version: str) -> str:
    """Write the wheel of the package `tiny`; return its line for requirements.txt."""
    info = f"tiny-{version}.dist-info"
    files = {
        "tiny.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: tiny\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    wheel = folder / f"tiny-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, contents in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(name, contents)
    return f"tiny=={version} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"


class Project:
    """A checkout with `manage.py`, as a new user has it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def make(self) -> "Project":
        """Write the files."""
        (self.root / "a2a_site").mkdir(parents=True)
        shutil.copy(BOOTSTRAP, self.root / "a2a_site")
        (self.root / "manage.py").write_text(MANAGE)
        (self.root / "requirements.in").write_text("tiny\n")
        self.require("1.0")
        return self

    def require(self, version: str, *, hash_of: str | None = None) -> None:
        """Lock another version of the package."""
        line = make_wheel(self.root, version)
        (self.root / "requirements.txt").write_text(f"--no-index\n--find-links {self.root}\n{hash_of or line}")

    def start(self, *arguments: str, python: str = BASE, **environment: str) -> "subprocess.Popen[str]":
        """Start `manage.py` in an almost empty environment."""
        command = [python, "manage.py", *arguments]
        return subprocess.Popen(
            command,
            cwd=self.root,
            env=self.environment(environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def environment(self, more: Mapping[str, str]) -> dict[str, str]:
        """Return what a fresh shell has."""
        return {"HOME": str(self.root), "PATH": "/usr/bin:/bin", **more}

    def run(self, *arguments: str, python: str = BASE, **environment: str) -> tuple[int, str, str]:
        """Return (exit code, output, errors) of `manage.py`."""
        with self.start(*arguments, python=python, **environment) as process:
            output, errors = process.communicate()
        return process.returncode, output, errors

    @property
    def own_python(self) -> str:
        """The interpreter of its virtual environment."""
        return str(self.root / ".venv" / "bin" / "python")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkout after its first start."""
    project = Project(tmp_path_factory.mktemp("bootstrap") / "installed").make()
    code, output, errors = project.run("up", "--port", "1")
    assert (code, output) == (0, "1.0 up --port 1\n")
    (project.root / "said").write_text(errors)
    return project.root


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Return a fresh checkout."""
    return Project(tmp_path / "project").make()


@pytest.fixture
def started_once(installed: Path, tmp_path: Path) -> Project:
    """Return a checkout whose packages are installed."""
    shutil.copytree(installed, tmp_path / "project", symlinks=True)
    return Project(tmp_path / "project")


class TestFirstStart:
    def test_says_what_it_does(self, installed: Path) -> None:
        assert (installed / "said").read_text().splitlines() == [
            f"Making the virtual environment {installed}/.venv (once).",
            "Installing the packages of requirements.txt. One to three minutes, only when they change.",
        ]

    def test_is_done_by_one_of_two_at_once(self, project: Project) -> None:
        with project.start("one") as one, project.start("two") as two:
            outputs = [one.communicate(), two.communicate()]

        assert [output for output, _ in outputs] == ["1.0 one\n", "1.0 two\n"]
        assert "".join(errors for _, errors in outputs).count("Installing the packages") == 1

    def test_may_be_killed_at_any_time(self, project: Project) -> None:
        with project.start() as process:
            while not Path(project.own_python).exists():
                assert process.poll() is None
            os.killpg(process.pid, signal.SIGKILL)

        assert not (project.root / ".venv" / ".stamp").exists()
        assert project.run()[:2] == (0, "1.0\n")


class TestSecondStart:
    def test_goes_straight_to_the_environments_python(self, started_once: Project) -> None:
        assert started_once.run("up") == (0, "1.0 up\n", "")

    def test_inside_the_environment_starts_nothing(self, started_once: Project) -> None:
        assert started_once.run("up", python=started_once.own_python) == (0, "1.0 up\n", "")


class TestALaterStart:
    def test_fails_in_words_when_a_package_is_not_what_was_locked(self, started_once: Project) -> None:
        started_once.require("2.0", hash_of="tiny==2.0 --hash=sha256:" + "0" * 64)

        code, output, errors = started_once.run()

        assert (code, output) == (1, "")
        assert "pip could not install the packages" in errors
        assert not (started_once.root / ".venv" / ".stamp").exists()

    def test_installs_changed_requirements(self, started_once: Project) -> None:
        started_once.require("2.0")

        code, output, errors = started_once.run()

        assert (code, output) == (0, "2.0\n")
        assert "Making" not in errors

    def test_installs_changed_requirements_from_inside_the_environment(self, started_once: Project) -> None:
        started_once.require("2.0")

        code, output, _ = started_once.run(python=started_once.own_python)

        assert (code, output) == (0, "2.0\n")

    def test_mends_an_environment_whose_python_is_gone(self, started_once: Project) -> None:
        Path(started_once.own_python).unlink()

        assert started_once.run()[:2] == (0, "1.0\n")

    def test_mends_one_of_another_python(self, started_once: Project) -> None:
        stamp = started_once.root / ".venv" / ".stamp"
        stamp.write_text(stamp.read_text().splitlines()[0] + "\n3.9\n")

        assert started_once.run(python=started_once.own_python)[:2] == (0, "1.0\n")
        assert stamp.read_text().split()[1] == "{}.{}".format(*sys.version_info[:2])


class TestWithoutEnsurepip:
    @pytest.fixture
    def without_ensurepip(self, tmp_path: Path) -> str:
        """Return a folder for PYTHONPATH that hides ensurepip, as Debian does."""
        (tmp_path / "hide").mkdir()
        (tmp_path / "hide" / "ensurepip.py").write_text("raise ModuleNotFoundError('ensurepip')\n")
        return str(tmp_path / "hide")

    def test_says_which_package_to_install(self, project: Project, without_ensurepip: str) -> None:
        code, _, errors = project.run(PYTHONPATH=without_ensurepip, PATH="/nowhere")

        package = "python{}.{}-venv".format(*sys.version_info[:2])
        assert code == 1
        assert errors == f"Python's ensurepip is missing. On Debian and Ubuntu: sudo apt install {package}\n"

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root may install a package of the system")
    def test_root_installs_it(self, project: Project, without_ensurepip: str, tmp_path: Path) -> None:
        apt = tmp_path / "apt-get"
        apt.write_text(f"#!/bin/sh\necho $* >> {tmp_path}/called\n/bin/rm {without_ensurepip}/ensurepip.py\n")
        apt.chmod(0o755)

        code, output, _ = project.run(PYTHONPATH=without_ensurepip, PATH=str(tmp_path))

        assert (code, output) == (0, "1.0\n")
        assert "install --yes" in (tmp_path / "called").read_text()


class TestAnotherEnvironment:
    def test_is_used_as_it_is_when_it_has_everything(self, project: Project, tmp_path: Path) -> None:
        complete = tmp_path / "complete"
        complete.mkdir()
        with zipfile.ZipFile(project.root / "tiny-1.0-py3-none-any.whl") as wheel:
            wheel.extractall(complete)
        (complete / "django.py").touch()

        assert project.run("up", PYTHONPATH=str(complete)) == (0, "1.0 up\n", "")
        assert not (project.root / ".venv").exists()


class TestAnOldPython:
    @pytest.mark.parametrize("path", [BOOTSTRAP, ROOT / "manage.py"], ids=lambda path: path.name)
    def test_can_read_what_tells_it_so(self, path: Path) -> None:
        ast.parse(path.read_text(), feature_version=(3, 7))

    def test_is_told_so(self, project: Project) -> None:
        old = next(filter(works, ("python3.10", "python3.9", "python3.8", "python3.7")), None)
        if old is None:
            pytest.skip("no Python older than 3.11 on this machine")

        code, _, errors = project.run(python=old, PATH=os.environ["PATH"])

        assert code == 1
        assert "A2A Mission Control needs 3.11 or newer" in errors


def works(python: str) -> bool:
    """Return True if there is such an interpreter (a pyenv shim may be there without one)."""
    found = shutil.which(python)
    return found is not None and subprocess.run([found, "-V"], capture_output=True).returncode == 0

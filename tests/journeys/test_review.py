"""`manage.py review`: the fleet of a running site reviews projects, whatever happens meanwhile."""

import os
import re
import signal
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from a2a_site import env
from tests.coordination.projects import PLANTED, Files, git, pack, write
from tests.journeys.desk import Desk
from tests.journeys.site import Site
from tests.private_redis import wait_until

pytestmark = pytest.mark.journey

FOUND = [
    ("requirements.txt:1", "unpinned"),
    ("requirements.txt:2", "unused-requirement"),
    ("requirements.txt:3", "unused-requirement"),
    ("shop/bill.py:4", "untested-function"),
    ("shop/branches.py:1", "complex-function"),
    ("shop/branches.py:1", "untested-module"),
    ("shop/broken.py:5", "syntax-error"),
    ("shop/bytes.py:2", "encoding"),
    ("shop/cart.py:5", "duplicate-code"),
    ("shop/latin.py:3", "F821"),
    ("shop/names.py:1", "F401"),
    ("shop/names.py:5", "F821"),
    ("shop/run.py:4", "F401"),
    ("shop/run.py:4", "undeclared-import"),
    ("shop/run.py:9", "B602"),
    ("tests/test_cart.py:2", "F401"),
    ("tests/test_cart.py:2", "F401"),
    ("tests/test_cart.py:2", "F401"),
]
LINE = re.compile(r"^- `(\S+:\d+)` \*\*(?:error|warning|note)\*\* (.+) \(`(\S+)`\)$", re.MULTILINE)
HELD = "twin-finder"  # the only agent that looks for duplicates: without it no review can end


class Reviews:
    """A running site that reviews."""

    def __init__(self, site: Site, desk: Desk) -> None:
        self.site = site
        self.desk = desk
        key = desk.key("tasks:read", "tasks:write")
        self.http = httpx.Client(base_url=f"{site.url}/api/v1", headers={"Authorization": f"Bearer {key}"}, timeout=30)

    def run(self, source: Path, output: Path) -> tuple[int, str, str]:
        """Return (exit code, output, errors) of a review."""
        return self.site.manage("review", str(source), "--output", str(output))

    def report(self, source: Path, output: Path) -> str:
        """Return the report of a review that ends well."""
        code, said, errors = self.run(source, output)
        assert code == 0, said + errors
        return output.read_text()

    @contextmanager
    def under_way(self, source: Path, output: Path) -> Iterator["subprocess.Popen[str]"]:
        """While inside, a review of which some tasks have ended and one cannot; afterwards all of them can."""
        self.desk.agent(HELD, enabled=False)
        before = self.context()
        with self.site.start("review", str(source), "--output", str(output)) as process:
            try:
                wait_until(lambda: self.context() != before and self.ended() >= 3, "some checks to end")
                yield process
            finally:
                self.desk.agent(HELD, enabled=True)
                output_and_errors = process.communicate(timeout=200)
                self.said = "".join(output_and_errors)

    def tasks(self, **query: Any) -> list[dict[str, Any]]:
        """Return tasks, newest first."""
        answer = self.http.get("/tasks", params={"limit": 200, **query})
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["tasks"]
        return found

    def newest(self) -> list[dict[str, Any]]:
        """Return the tasks of the newest review, none if there was none."""
        tasks = self.tasks()
        return [task for task in tasks if task["context"] == tasks[0]["context"]]

    def context(self) -> str:
        """Return what tells the newest review from others, "" if there was none."""
        return next((task["context"] for task in self.newest()), "")

    def ended(self) -> int:
        """Return how many tasks of the newest review have ended."""
        return sum(task["finished_at"] is not None for task in self.newest())

    def snapshots(self) -> list[Path]:
        """Return the snapshots that are kept."""
        return list((self.site.home / "reviews").glob("*"))


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reviews]:
    """Yield a running site."""
    site = Site(tmp_path_factory.mktemp("review") / "home")
    code, output, errors = site.up("--no-flower")
    assert code == 0, output + errors
    with Desk(site) as desk:
        desk.fleet()
        reviews = Reviews(site, desk)
        yield reviews
        reviews.http.close()
    site.manage("down")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project with known defects, and links that lead in circles and nowhere."""
    root = write(tmp_path_factory.mktemp("projects") / "shop", PLANTED)
    (root / "shop" / "again").symlink_to(root)
    (root / "shop" / "gone.py").symlink_to("nowhere.py")
    return root


@pytest.fixture(scope="module")
def undisturbed(reviews: Reviews, shop: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the report of a review that nothing happens to."""
    return reviews.report(shop, tmp_path_factory.mktemp("undisturbed") / "review.md")


def places(report: str) -> list[tuple[str, str]]:
    """Return (place, rule) of each finding, as the report lists them file by file."""
    listed = report.partition("## Findings by file")[2]
    return sorted((place, rule) for place, _, rule in LINE.findall(listed))


class TestReview:
    def test_finds_exactly_what_was_planted(self, reviews: Reviews, undisturbed: str) -> None:
        assert places(undisturbed) == FOUND
        assert undisturbed.startswith("# Review of shop\n\nRead 11 files (10 Python;")
        assert reviews.snapshots() == []

    def test_takes_a_bare_git_repository(self, reviews: Reviews, tmp_path: Path) -> None:
        shop = write(tmp_path / "shop", PLANTED)
        git(shop, "init")
        git(shop, "add", ".")
        git(shop, "commit", "-m", "all")
        git(tmp_path, "clone", "--bare", str(shop), str(tmp_path / "shop.git"))

        report = reviews.report(tmp_path / "shop.git", tmp_path / "review.md")

        assert places(report) == FOUND

    def test_takes_a_zip_with_everything_in_one_folder(self, reviews: Reviews, tmp_path: Path) -> None:
        archive = pack(tmp_path / "shop.zip", {f"shop-1.0/{name}": content for name, content in PLANTED.items()})

        report = reviews.report(archive, tmp_path / "review.md")

        assert places(report) == FOUND
        assert reviews.snapshots() == []

    def test_manages_2000_files(self, reviews: Reviews, tmp_path: Path) -> None:
        source = write(tmp_path / "large", large(2_000))

        report = reviews.report(source, tmp_path / "review.md")

        assert "Read 2,000 files (2,000 Python;" in report
        assert "Found **2,000 errors and 1 warning** in 2,000 files." in report
        assert "Not covered" not in report


class TestRefusal:
    def test_names_the_limit_that_a_zip_bomb_breaks(self, reviews: Reviews, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as bomb:
            bomb.writestr("a.py", b"#" * 30_000_000)

        code, errors = self.refused(reviews, tmp_path / "bomb.zip", tmp_path / "review.md")

        assert code == 1
        assert "(limit: compression ratio)" in errors

    def test_says_that_there_is_nothing(self, reviews: Reviews, tmp_path: Path) -> None:
        code, errors = self.refused(reviews, tmp_path / "nothing", tmp_path / "review.md")

        assert code == 1
        assert f"There is nothing at {tmp_path / 'nothing'}." in errors

    def test_says_that_a_report_is_a_file(self, reviews: Reviews, shop: Path, tmp_path: Path) -> None:
        code, errors = self.refused(reviews, shop, tmp_path)

        assert code == 1
        assert "Give the name of a file with --output." in errors

    def test_says_what_to_start_when_nothing_runs(self, shop: Path, home: Path) -> None:
        code, _, errors = Site(home).manage("review", str(shop), "--output", str(home / "review.md"))

        assert code == 1
        assert "Start it first: python3 manage.py up" in errors

    def refused(self, reviews: Reviews, source: Path, output: Path) -> tuple[int, str]:
        """Return exit code and errors of a review of which nothing may remain."""
        before = reviews.context()
        code, _, errors = reviews.run(source, output)
        assert reviews.context() == before
        assert reviews.snapshots() == []
        assert not output.is_file()
        return code, errors


class TestFaults:
    @pytest.mark.parametrize("fault", ["worker", "redis"])
    def test_change_nothing_about_the_findings(
        self, fault: str, reviews: Reviews, shop: Path, tmp_path: Path, undisturbed: str
    ) -> None:
        happens: Callable[[Site], None] = {"worker": kill_worker, "redis": flush_redis}[fault]

        with reviews.under_way(shop, tmp_path / "review.md") as process:
            happens(reviews.site)

        assert process.returncode == 0, reviews.said
        assert LINE.findall((tmp_path / "review.md").read_text()) == LINE.findall(undisturbed)
        assert reviews.snapshots() == []

    def test_of_one_check_leave_a_report_that_names_it(self, reviews: Reviews, shop: Path, tmp_path: Path) -> None:
        with reviews.under_way(shop, tmp_path / "review.md") as process:
            check = reviews.tasks(skill="code.duplication", state="submitted")[0]["id"]
            assert reviews.http.post(f"/tasks/{check}:cancel", json={}).status_code in (200, 202)

        report = (tmp_path / "review.md").read_text()
        assert process.returncode == 1
        assert f"See /tasks/{check} on the dashboard." in reviews.said
        assert "- Duplicate code: a part was not checked: " in report
        assert check in report
        assert places(report) == [found for found in FOUND if found[1] != "duplicate-code"]

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_of_patience_cancel_what_is_left(
        self, number: signal.Signals, reviews: Reviews, shop: Path, tmp_path: Path
    ) -> None:
        with reviews.under_way(shop, tmp_path / "review.md") as process:
            process.send_signal(number)
            process.wait(60)
            states = {task["state"] for task in reviews.newest()}

        assert process.returncode == 130
        assert re.search(r"Stopped. Its (last task was|\d+ remaining tasks were) cancelled.", reviews.said)
        assert states == {"completed", "canceled"}
        assert reviews.snapshots() == []
        assert not (tmp_path / "review.md").exists()

    def test_of_time_cancel_what_is_left(self, reviews: Reviews, shop: Path, tmp_path: Path) -> None:
        output = tmp_path / "review.md"

        code, _, errors = reviews.site.manage("review", str(shop), "--output", str(output), "--timeout", "0")

        assert code == 1
        assert "The review did not end within 0 s. Give it more time with --timeout." in errors
        assert {task["state"] for task in reviews.newest()} <= {"completed", "canceled"}
        assert reviews.snapshots() == []


def kill_worker(site: Site) -> None:
    """Kill the only worker's whole process group."""
    pid = site.recorded("w1")["pid"]
    assert pid
    os.killpg(pid, signal.SIGKILL)


def flush_redis(site: Site) -> None:
    """Empty the site's Redis."""
    with redis.Redis.from_url(env.redis_url(site.home)) as bus:
        bus.flushall()


def large(count: int) -> Files:
    """Return a project of ``count`` modules with one defect each; the project has no tests."""
    return {
        f"large/part{n % 40}/m{n}.py": f"def work_{n}(text):\n    value = {n}\n    return txet + value\n"
        for n in range(count)
    }

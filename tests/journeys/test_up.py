"""`up`, `status`, `doctor`, `down`: the real processes of a site, in a state directory of their own."""

import json
import os
import signal
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from a2a_site import ports, run_state
from tests.journeys.site import LOOPBACK, OPTIONS, Site

pytestmark = pytest.mark.journey


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, str]]:
    """Yield a running site and what its start said."""
    site = Site(tmp_path_factory.mktemp("up") / "home")
    code, output, errors = site.up("--no-flower")
    assert code == 0, output + errors
    yield site, output
    site.manage("down")


@pytest.fixture
def site(running: tuple[Site, str]) -> Site:
    """Return the running site."""
    return running[0]


@pytest.fixture
def fresh(home: Path) -> Iterator[Site]:
    """Yield a site that has never run."""
    site = Site(home)
    yield site
    site.manage("down")


class TestUp:
    def test_says_where_everything_is(self, running: tuple[Site, str]) -> None:
        site, output = running

        assert f"{site.url}/\n" in output
        assert f"{site.url}/admin/" in output
        assert "Flower" not in output

    def test_is_ready_when_it_says_so(self, site: Site) -> None:
        assert httpx.get(f"{site.url}/healthz").status_code == 200
        assert httpx.get(f"{site.url}/readyz").status_code == 200

    def test_makes_an_administrator_who_can_sign_in(self, running: tuple[Site, str]) -> None:
        site, output = running
        file = site.home / "admin-password"
        password = file.read_text().strip()

        with httpx.Client(base_url=site.url) as browser:
            browser.get("/admin/login/")
            form = {"username": "admin", "password": password, "csrfmiddlewaretoken": browser.cookies["csrftoken"]}
            answer = browser.post("/admin/login/", data=form, headers={"Referer": site.url})

        assert answer.status_code == 302
        assert f"admin / {password}" in output
        assert stat.S_IMODE(file.stat().st_mode) == 0o600

    def test_keeps_the_password_out_of_the_logs_and_the_record(self, site: Site) -> None:
        password = (site.home / "admin-password").read_text().strip()
        files = [run_state.record_path(site.home), *(site.home / "logs").iterdir()]

        assert [file for file in files if password in file.read_text()] == []

    def test_a_second_one_says_that_it_already_runs(self, site: Site) -> None:
        code, _, errors = site.manage("up", "--port", str(ports.any_free(LOOPBACK)))

        assert code == 1
        assert f"It already runs: {site.url}/ (process {site.status()['pid']})" in errors

    def test_brings_a_killed_worker_back(self, site: Site) -> None:
        before = site.recorded("w1")
        os.kill(before["pid"] or 0, signal.SIGKILL)

        while (after := site.recorded("w1"))["state"] != "ready" or after["pid"] == before["pid"]:
            time.sleep(0.1)

        assert after["restarts"] == before["restarts"] + 1

    def test_refuses_a_port_that_is_taken(self, site: Site, fresh: Site) -> None:
        code, _, errors = fresh.manage("up", "--port", str(site.port), *OPTIONS)

        assert code == 1
        assert f"Port {site.port} on {LOOPBACK} is taken by" in errors
        assert "Choose another with --port" in errors

    def test_refuses_a_redis_that_does_not_answer(self, fresh: Site) -> None:
        code, _, errors = fresh.manage("up", "--port", str(fresh.port), REDIS_URL="redis://127.0.0.1:1")

        assert code == 1
        assert "Redis does not answer" in errors

    def test_with_json_logs_writes_nothing_but_objects(self, fresh: Site) -> None:
        options = ("--port", str(fresh.port), "--json-logs", "--no-flower", *OPTIONS)
        with fresh.start("up", *options) as process:
            assert process.stdout is not None
            entries = []
            for line in process.stdout:
                entries.append(json.loads(line))
                if entries[-1]["message"].startswith("Sign in"):
                    family = fresh.family()
                    process.send_signal(signal.SIGINT)

        assert process.returncode == 0
        assert {entry["process"] for entry in entries} >= {"redis", "controller", "w1", "web", "supervisor"}
        fresh.assert_nothing_left(family)


class TestStatus:
    def test_has_a_line_for_every_process(self, site: Site) -> None:
        code, output, _ = site.manage("status")

        lines = [line.split() for line in output.splitlines()]
        assert code == 0
        assert [line[0] for line in lines[1:6]] == ["supervisor", "redis", "controller", "w1", "web"]
        assert {line[2] for line in lines[1:6]} == {"ready"}

    def test_tells_programs_the_same(self, site: Site) -> None:
        state = site.status()

        assert state["running"]
        assert state["url"] == site.url
        assert all(child["memory_bytes"] > 0 for child in state["children"].values())

    def test_of_nothing_has_an_exit_code_of_its_own(self, fresh: Site) -> None:
        code, output, _ = fresh.manage("status")

        assert code == 3
        assert output.startswith("Nothing runs in")


class TestDoctor:
    def test_finds_nothing_wrong_with_a_running_site(self, site: Site) -> None:
        code, output, _ = site.manage("doctor")

        assert code == 0, output
        assert "✗" not in output

    def test_says_what_is_wrong_and_what_to_do(self, site: Site, fresh: Site) -> None:
        fresh.home.chmod(0o755)

        code, output, _ = fresh.manage("doctor", A2A_PORT=str(site.port), REDIS_URL="redis://127.0.0.1:1")

        assert code == 1
        wrong = [line.split(":")[0] for line in output.splitlines() if line.startswith("✗")]
        assert wrong == ["✗ State", "✗ Redis", "✗ Migrations", "✗ Port"]
        assert f"chmod 700 {fresh.home}" in output


class TestDown:
    def test_leaves_no_process_and_no_socket(self, fresh: Site) -> None:
        assert fresh.up()[0] == 0
        family = fresh.family()

        code, output, _ = fresh.manage("down")

        assert code == 0
        assert output.endswith("Stopped.\n")
        fresh.assert_nothing_left(family)

    def test_of_nothing_says_so(self, fresh: Site) -> None:
        code, output, _ = fresh.manage("down")

        assert (code, output) == (0, f"Nothing was running in {fresh.home}.\n")


class TestAKilledSupervisor:
    def test_leaves_no_process_and_no_socket(self, fresh: Site) -> None:
        assert fresh.up()[0] == 0
        family = fresh.family()

        family[0].kill()

        fresh.assert_nothing_left(family)

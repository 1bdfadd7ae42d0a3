"""Everything behind `manage.py up`: one supervisor for one state directory, from its first line to its last."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from django.apps import apps
from django.conf import settings
from django.core.management import call_command, get_commands
from django.db import connections

from a2a_site import auth, env, processes, redis_server, run_state
from a2a_site.child import Spec
from a2a_site.console import Console
from a2a_site.processes import Site
from a2a_site.supervisor import Supervisor
from a2a_site.watchdog import Watchdog

GUARD = Path(__file__).with_name("guard.py")


class Up:
    """Runs one site until it is asked to stop."""

    def __init__(self, site: Site, console: Console, *, bare: bool, announce: bool) -> None:
        self._site = site
        self._console = console
        self._bare = bare
        self._announce = announce
        self._started_at = datetime.now(UTC)
        self._ready = False
        self._made_admin = False
        self._is_empty = False
        self._supervisor: Supervisor
        self._watchdog: Watchdog | None = None

    def run(self) -> int:
        """Return the exit code after the stop. Raises ``AlreadyRunning`` and ``NoRedis`` before anything is started."""
        home = self._site.home
        with run_state.only_one(home):
            self._clear_leftovers()
            self._supervisor = Supervisor(
                processes.stages(self._site),
                console=self._console,
                on_change=self._record,
                grace_s=grace_s(),
                restart_limit=env.number("A2A_RESTART_LIMIT", 5, low=1),
            )
            try:
                with guarded(home, grace_s()):
                    return self._supervisor.run(prepare=self._prepare, on_ready=self._on_ready)
            finally:
                if self._watchdog is not None:
                    self._watchdog.close()
                redis_server.clean_up(home)
                self._console.close()

    def _clear_leftovers(self) -> None:
        record = run_state.read(self._site.home)
        if record is None:
            return
        names = run_state.kill_leftovers(record)
        run_state.remove(self._site.home)
        if names:
            self._console.line("supervisor", f"Killed what an earlier start had left running: {', '.join(names)}.")

    def _prepare(self) -> None:
        from routing import registry  # its models need Django to be set up
        from routing.a2a import conformance

        self._supervisor.say("Preparing the database.")
        call_command("migrate", interactive=False, verbosity=0)
        call_command("collectstatic", interactive=False, verbosity=0)
        self._made_admin = auth.make_first_admin(self._site.home)
        self._is_empty = is_empty()
        registry.ensure_handlers()
        if settings.A2A_CONFORMANCE:
            conformance.register()
        connections.close_all()

    def _on_ready(self) -> None:
        self._ready = True
        self._watch()
        if self._is_empty and not self._bare and "review" in get_commands():
            self._supervisor.add(first_look(self._site))
        self._record()
        if self._announce:
            self._console.announce(announcement(self._site.home, self._current()))

    def _watch(self) -> None:
        url = env.redis_url(self._site.home)
        self._watchdog = Watchdog(
            lambda: str(processes.snapshot(url).get("at", "")),
            lambda words: self._console.line("watchdog", words),
            hook=env.text("A2A_WATCHDOG_URL"),
            name=self._site.url,
        )
        self._watchdog.start()

    def _record(self) -> None:
        # A full disk must not end the supervisor; the record is for those who look.
        with contextlib.suppress(OSError):
            run_state.write(self._site.home, self._current())

    def _current(self) -> run_state.Record:
        own = run_state.own_process()
        return {
            "pid": own[0],
            "created_at": own[1],
            "started_at": self._started_at.isoformat(),
            "ready": self._ready,
            "port": self._site.port,
            "url": self._site.url,
            "flower": self._site.flower_port is not None,
            "made_admin": self._made_admin,
            "children": {child.spec.name: run_state.child_record(child) for child in self._supervisor.children},
        }


def grace_s() -> int:
    """Return how many seconds a process has to stop by itself."""
    return env.number("A2A_STOP_GRACE_S", 15, low=0, high=3600)


def is_empty() -> bool:
    """Return True if the database has neither an agent nor a task."""
    return not any(apps.get_model("routing", name).objects.exists() for name in ("Agent", "Task"))


def first_look(site: Site) -> Spec:
    """Return the job that shows the fleet at work on an empty database: it reviews this product's own source."""
    return Spec(
        name="review",
        command=processes.manage(site, "review", str(site.root), "--first-look"),
        environment=processes.environment_of(site),
        directory=site.root,
        once=True,
        essential=False,
    )


def announcement(home: Path, record: run_state.Record) -> list[str]:
    """Return what a person wants to know when everything is ready."""
    url = record["url"]
    lines = [
        "",
        f"  Mission Control   {url}/",
        f"  Admin             {url}/admin/",
        f"  API               {url}/api/v1/openapi.json",
    ]
    if record["flower"]:
        lines.append(f"  Flower            {url}/flower/")
    file = auth.password_file(home)
    if record["made_admin"]:
        lines.append(f"  Sign in           {auth.NAME} / {file.read_text().strip()}   (kept in {file})")
    elif file.exists():
        lines.append(f"  Sign in           as {auth.NAME}; the first password is in {file}")
    return [*lines, ""]


@contextlib.contextmanager
def guarded(home: Path, grace: int) -> Iterator[None]:
    """While inside, guard.py waits to clean up if we are killed. Without Redis waiting longer helps no worker."""
    grace = min(grace, 5)
    command = [sys.executable, "-I", "-S", str(GUARD), str(run_state.record_path(home)), str(grace)]
    command.append(str(env.redis_socket(home)))
    guard = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    try:
        yield
    finally:
        run_state.remove(home)
        assert guard.stdin is not None
        guard.stdin.close()
        guard.wait()

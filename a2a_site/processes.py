"""The processes of one site: their commands, their environment, and how one sees that they are ready."""

import dataclasses
import http.client
import json
import secrets
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis
from django.conf import settings
from django.db import DatabaseError

from a2a_site import env, ports, redis_server
from a2a_site.child import Spec

PROBE_TIMEOUT_S = 1.0
SNAPSHOT_KEY = "a2a:snapshot"  # written by the leading controller, which calls itself "host:pid"


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What `up` was asked to run."""

    root: Path  # the checkout
    home: Path  # A2A_HOME
    host: str
    port: int
    workers: int
    standby: bool = False
    grpc_port: int | None = None  # of A2A over gRPC; None: no gRPC
    flower_port: int | None = None  # on loopback; None: no Flower
    flower_password: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)

    @property
    def url(self) -> str:
        """Where a browser on this machine finds it."""
        host = reachable(self.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


def reachable(host: str) -> str:
    """Return the address to reach a server on this machine that listens on ``host``."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


def stages(site: Site) -> list[list[Spec]]:
    """Return the processes in the order they start; the embedded Redis is configured. Raises ``NoRedis``."""
    external = env.text("REDIS_URL")
    if external:
        redis_server.ping(external)
    first = [] if external else [embedded_redis(site.home)]
    environment = environment_of(site)
    controllers = [controller(site, environment, is_only_one=not external)]
    if site.standby:
        controllers.append(ours(site, environment, name="standby", command=manage(site, "controller")))
    workers = [worker(site, environment, number) for number in range(1, site.workers + 1)]
    servers = [web(site, environment), *grpc(site, environment)]
    return [first, controllers, workers, servers, *flower(site, environment), *beat(site, environment)]


def environment_of(site: Site) -> dict[str, str]:
    """Return what our processes find in their environment."""
    return {
        "DJANGO_SETTINGS_MODULE": "a2a_site.settings",
        "PYTHONUNBUFFERED": "1",
        # Six lines a worker; `up` says the same in one sentence.
        "PYTHONWARNINGS": "ignore:You're running the worker with superuser privileges",
        "A2A_HOME": str(site.home),
        "A2A_HOST": site.host,
        "A2A_PORT": str(site.port),
        "A2A_GRPC_PORT": str(site.grpc_port or 0),
        "A2A_FLOWER_URL": flower_url(site),
        "REDIS_URL": env.redis_url(site.home),
    }


def ours(site: Site, environment: Mapping[str, str], *, name: str, command: tuple[str, ...]) -> Spec:
    """Return a process of this project as it is without anything special."""
    return Spec(name=name, command=command, environment=environment, directory=site.root)


def manage(site: Site, *arguments: str) -> tuple[str, ...]:
    """Return the command line of `manage.py`."""
    return sys.executable, str(site.root / "manage.py"), *arguments


def embedded_redis(home: Path) -> Spec:
    """Return the embedded Redis, its directory and configuration made. Raises ``NoRedis``."""
    program = redis_server.program()
    configuration, socket = redis_server.prepare(home)
    return Spec(
        name="redis",
        command=(program, str(configuration)),
        is_ready=lambda pid: socket.exists() and redis_server.is_ready(f"unix://{socket}"),
    )


def controller(site: Site, environment: Mapping[str, str], *, is_only_one: bool) -> Spec:
    """Return the controller; where others may share our Redis, one of those may lead as well."""
    url = environment["REDIS_URL"]
    return Spec(
        name="controller",
        command=manage(site, "controller"),
        environment=environment,
        directory=site.root,
        is_ready=lambda pid: leader(url) == pid if is_only_one and not site.standby else leader(url) is not None,
    )


def leader(redis_url: str) -> int | None:
    """Return the process id of the leading controller; None if none leads or Redis does not answer."""
    holder = str(snapshot(redis_url).get("controller", {}).get("holder", ""))
    return int(holder.rpartition(":")[2]) if holder else None


def snapshot(redis_url: str) -> dict[str, Any]:
    """Return what the leading controller last wrote about itself and the fleet; empty if there is nothing."""
    try:
        with redis.Redis.from_url(redis_url, socket_timeout=PROBE_TIMEOUT_S) as client:
            value = client.get(SNAPSHOT_KEY)
        return dict(json.loads(value)) if isinstance(value, bytes) else {}
    except (redis.RedisError, ValueError):
        return {}


def worker(site: Site, environment: Mapping[str, str], number: int) -> Spec:
    """Return one Celery worker: SIGTERM lets it finish its tasks, SIGQUIT hands them back."""
    options = ["--concurrency", str(settings.A2A_THREADS), "-n", f"w{number}@%h"]
    return Spec(
        name=f"w{number}",
        command=celery("worker", *options, "--without-gossip", "--without-mingle", "-l", "INFO"),
        environment=environment,
        directory=site.root,
        ready_line=r" ready\.$",
        stop_signals=(signal.SIGTERM, signal.SIGQUIT),
    )


def celery(*arguments: str) -> tuple[str, ...]:
    """Return a Celery command line for our application."""
    return sys.executable, "-m", "celery", "--quiet", "-A", "a2a_site", *arguments


def web(site: Site, environment: Mapping[str, str]) -> Spec:
    """Return the web server."""
    options = ["--host", site.host, "--port", str(site.port), "--no-access-log", "--timeout-graceful-shutdown", "5"]
    return Spec(
        name="web",
        command=(sys.executable, "-m", "uvicorn", "a2a_site.asgi:application", *options),
        environment=environment,
        directory=site.root,
        is_ready=lambda pid: serves(site, environment["REDIS_URL"]),
    )


def grpc(site: Site, environment: Mapping[str, str]) -> list[Spec]:
    """Return the server of A2A over gRPC, or nothing."""
    if site.grpc_port is None:
        return []
    command = manage(site, "a2a_grpc", "--host", site.host, "--port", str(site.grpc_port))
    return [dataclasses.replace(ours(site, environment, name="grpc", command=command), ready_line=r" is ready\.$")]


def serves(site: Site, redis_url: str) -> bool:
    """Return True if the web server says tasks can be taken and done.

    It is not asked before a worker has reported to the controller: it would fill its log with refusals.
    """
    if not snapshot(redis_url).get("workers"):
        return False
    return all(status(site.host, site.port, path, allowed_host()) == 200 for path in ("/healthz", "/readyz"))


def status(host: str, port: int, path: str, host_header: str = "127.0.0.1") -> int | None:
    """Return the HTTP status of a GET; None if nothing answers in time."""
    connection = http.client.HTTPConnection(reachable(host), port, timeout=PROBE_TIMEOUT_S)
    try:
        connection.request("GET", path, headers={"Host": host_header})
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def allowed_host() -> str:
    """Return a host name that Django accepts in a request."""
    if "*" in settings.ALLOWED_HOSTS or "127.0.0.1" in settings.ALLOWED_HOSTS:
        return "127.0.0.1"
    first: str = settings.ALLOWED_HOSTS[0]
    return first.lstrip(".")


def flower(site: Site, environment: Mapping[str, str]) -> list[list[Spec]]:
    """Return Flower as a stage of its own, or nothing. The rest can do without it."""
    port = site.flower_port
    if port is None:
        return []
    options = ["--address=127.0.0.1", f"--port={port}", "--url_prefix=flower", "--read_only", "--max_tasks=5000"]
    spec = Spec(
        name="flower",
        command=celery("flower", *options),
        # In the environment, not on the command line: everyone on the machine can read that.
        environment={**environment, "FLOWER_BASIC_AUTH": f"a2a:{site.flower_password}"},
        directory=site.root,
        is_ready=lambda pid: status("127.0.0.1", port, "/flower/healthcheck") is not None,
        essential=False,
    )
    return [[spec]]


def beat(site: Site, environment: Mapping[str, str]) -> list[list[Spec]]:
    """Return Celery's beat as a stage of its own where a project has schedules for it, else nothing.

    Schedules of workflows do not need it: the controller meets them.
    """
    if not has_periodic_tasks():
        return []
    command = celery(
        "beat", "--scheduler", "django_celery_beat.schedulers:DatabaseScheduler", "--pidfile=", "-l", "INFO"
    )
    return [[dataclasses.replace(ours(site, environment, name="beat", command=command), essential=False)]]


def has_periodic_tasks() -> bool:
    """Return True if a schedule of django-celery-beat is enabled, but for the one that beat makes for itself."""
    from django_celery_beat.models import PeriodicTask

    try:
        return bool(PeriodicTask.objects.filter(enabled=True).exclude(name="celery.backend_cleanup").exists())
    except DatabaseError:  # a new database: its tables are made while the first processes start
        return False


def flower_url(site: Site) -> str:
    """Return Flower's address with user and password for the proxy in the web process; empty without Flower."""
    if site.flower_port is None:
        return ""
    return f"http://a2a:{site.flower_password}@127.0.0.1:{site.flower_port}/flower"


def choose_flower_port() -> int | None:
    """Return a free port on loopback, or None if Flower is switched off (``A2A_FLOWER=0``)."""
    return ports.any_free("127.0.0.1") if settings.A2A_FLOWER else None

"""The live page, the tasks' pages, and the probes. Whole without JavaScript; with it they stay current."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.decorators import login_required, permission_required
from django.core.exceptions import PermissionDenied
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe
from prometheus_client import CONTENT_TYPE_LATEST
from redis.exceptions import RedisError

from coordination import forms
from coordination.models import Run
from monitoring import agent_page, alerts, health, limits_page, prometheus, queries, step_page, task_page
from monitoring import overview as live_page
from monitoring.models import Alert, AlertState
from routing import errors, lifecycle, registry
from routing import messages as task_messages
from routing.access import Needs
from routing.artifacts import ArtifactError
from routing.models import Agent, Artifact, Scope, Task, TaskState

# A stored file is somebody else's: should a browser ever show it, then without scripts and without our origin.
FILE_POLICY = "default-src 'none'; sandbox"

ACTS: dict[str, tuple[dict[str, bool], str]] = {
    "drain": ({"draining": True}, "It takes nothing new and finishes what it has."),
    "resume": ({"draining": False}, "It takes tasks again."),
    "enable": ({"enabled": True}, "It takes tasks again."),
    "disable": ({"enabled": False}, "It takes nothing new. What runs on it goes on."),
}


@require_safe
@never_cache
def healthz(request: HttpRequest) -> HttpResponse:
    """Answer 200 while the process lives."""
    return HttpResponse("ok\n", content_type="text/plain")


@require_safe
@never_cache
def readyz(request: HttpRequest) -> JsonResponse:
    """Answer 200 when tasks can be taken and done, else 503; with a word per part."""
    ready, words = health.readiness()
    status = {"status": "ready" if ready else "not ready", "checks": words}
    return JsonResponse(status, status=200 if ready else 503, json_dumps_params={"indent": 2, "ensure_ascii": False})


@require_safe
@never_cache
def metrics(request: HttpRequest) -> HttpResponse:
    """Answer Prometheus, which sends an API key with the scope agents:read; people see it with their session."""
    try:
        Needs(Scope.AGENTS_READ)(request)
    except errors.RoutingError as error:
        return HttpResponse(f"{error}\n", status=error.status, content_type="text/plain; charset=utf-8")
    return HttpResponse(prometheus.text(), content_type=CONTENT_TYPE_LATEST)


@require_safe
@login_required
@never_cache
def overview(request: HttpRequest) -> HttpResponse:
    """The live page."""
    snapshot, state = _snapshot()
    counters = (snapshot or {}).get("counters", {})
    context: dict[str, Any] = {
        "now": timezone.now(),
        "snapshot": snapshot or {},
        "is_live": snapshot is not None,
        "health": state,
        "counters": [(key, label, counters.get(key)) for key, label in live_page.COUNTERS],
        "fleet": live_page.fleet_rows(known := queries.known_agents(), snapshot),
        "agents": len(known),
        "tasks": queries.recent_tasks(),
        "blank": {"finished_at": None},  # of the row templates, which the page's script fills
    }
    return render(request, "monitoring/overview.html", context)


def _snapshot() -> tuple[dict[str, Any] | None, live_page.Health]:
    """Return the controller's snapshot, None if there is none, and how things stand."""
    try:
        snapshot = health.snapshot()
    except RedisError:
        return None, live_page.no_redis()
    return snapshot, live_page.health(snapshot)


@require_safe
@login_required
@never_cache
def agent(request: HttpRequest, name: str) -> HttpResponse:
    """One agent: what it does, what it has shown, what is held against it."""
    snapshot, state = _snapshot()
    context = agent_page.context(_agent(name), snapshot)
    return render(request, "monitoring/agent.html", context | {"health": state})


def _agent(name: str) -> Agent:
    found = Agent.objects.filter(name=name).first()
    if found is None:
        raise Http404(f"There is no agent called {name}. It may have been removed.")
    return found


@require_POST
@login_required
@permission_required("routing.change_agent", raise_exception=True)
def act_on_agent(request: HttpRequest, name: str, act: str) -> HttpResponse:
    """Drain, resume, enable or disable the agent, note in the admin's log who did it, and show its page again."""
    if not request.user.is_staff:
        raise PermissionDenied
    row = _agent(name)
    if act not in ACTS:
        raise Http404(f"Nothing called {act} can be done to an agent.")
    change, words = ACTS[act]
    registry.set_state(row, **change)
    said = f"{act}, on the agent's page"
    LogEntry.objects.log_actions(request.user.pk, [row], CHANGE, change_message=said, single_object=True)
    messages.success(request, f"Done: {act} {name}. {words}")
    return redirect("agent", name)


@require_safe
@login_required
@never_cache
def places(request: HttpRequest) -> JsonResponse:
    """Answer the palette: what can be gone to by name, besides the pages."""
    return JsonResponse({"places": queries.places()})


@require_safe
@login_required
@never_cache
def limits(request: HttpRequest) -> HttpResponse:
    """Containments, limits and budgets, and how each stands."""
    snapshot, state = _snapshot()
    context = limits_page.context(snapshot or {}) | {"is_live": snapshot is not None, "health": state}
    return render(request, "monitoring/limits.html", context | {"at": (snapshot or {}).get("at")})


@require_safe
@login_required
@never_cache
def task_list(request: HttpRequest) -> HttpResponse:
    """All tasks, newest first, 50 a page; ``state``, ``skill`` and ``before`` in the address."""
    state, skill = request.GET.get("state", ""), request.GET.get("skill", "")
    before = queries.parse_cursor(request.GET.get("before", ""))
    rows, is_more = queries.page_of_tasks(state=state, skill=skill, before=before)
    filters = {key: value for key, value in (("state", state), ("skill", skill)) if value}
    context = {
        "tasks": rows,
        "states": TaskState.choices,
        "skills": queries.skill_names(),
        "filters": filters,
        "first": urlencode(filters),
        "is_first": before is None,
        "older": urlencode({**filters, "before": queries.cursor(rows[-1])}) if is_more else "",
    }
    return render(request, "monitoring/tasks.html", context)


@require_safe
@login_required
@never_cache
def task(request: HttpRequest, task_id: UUID) -> HttpResponse:
    """One task with everything that happened to it."""
    return render(request, "monitoring/task.html", task_page.context(_task(task_id)))


def _task(task_id: UUID) -> Task:
    try:
        return Task.objects.get(id=task_id)
    except Task.DoesNotExist:
        raise Http404(f"There is no task {task_id}. Tasks are deleted some time after their end.") from None


@require_safe
@login_required
@never_cache
def step(request: HttpRequest, run_id: UUID, name: str) -> HttpResponse:
    """One step of a run with everything about it; ``task`` in the address picks one of its tasks."""
    run = Run.objects.filter(id=run_id).select_related("definition").first()
    context = step_page.context(run, name, request.GET.get("task", "")) if run else None
    if context is None:
        raise Http404(f"There is no step {name} of a run {run_id}. Runs are deleted some time after their end.")
    return render(request, "monitoring/step.html", context)


@require_POST
@login_required
@permission_required("routing.change_task", raise_exception=True)
def cancel(request: HttpRequest, task_id: UUID) -> HttpResponse:
    """Ask the controller to cancel the task, and show its page again."""
    try:
        lifecycle.cancel(task_id, tenant=_task(task_id).tenant_id, by=request.user.get_username())
        messages.success(request, "Cancel asked for. A task that waits ends at once, a running one is being stopped.")
    except errors.RoutingError as error:
        messages.error(request, str(error))
    return redirect("task", task_id)


@require_POST
@login_required
@permission_required("routing.change_task", raise_exception=True)
def answer(request: HttpRequest, task_id: UUID) -> HttpResponse:
    """Answer what the task's agent asks, and show its page again."""
    task = _task(task_id)
    asked = task_messages.question(task)
    schema = task_page.answer_schema(asked) if asked is not None else {}
    posted = {key: str(value) for key, value in request.POST.items()}
    try:
        said = forms.answer(schema, posted, max_bytes=settings.A2A_MAX_INPUT_BYTES)
        task_messages.answer(task_id, tenant=task.tenant_id, by=request.user.get_username(), input=said)
        messages.success(request, "Answered. The task goes on with it.")
    except errors.RoutingError as error:
        messages.error(request, str(error))
    return redirect("task", task_id)


@require_safe
@login_required
def artifact(request: HttpRequest, task_id: UUID, seq: int) -> FileResponse:
    """Download a file that an attempt produced."""
    row = get_object_or_404(Artifact, task_id=task_id, seq=seq)
    try:
        file = task_page.store().open(row.sha256)
    except (OSError, ArtifactError):
        raise Http404(f"The file {row.name} is not in the store any more.") from None
    response = FileResponse(file, as_attachment=True, filename=row.name, content_type="application/octet-stream")
    response["Content-Security-Policy"] = FILE_POLICY
    return response


@require_safe
@login_required
@never_cache
def value(request: HttpRequest, task_id: UUID, which: str) -> JsonResponse:
    """Download the whole input or output as JSON."""
    row = _task(task_id)
    body = row.input if which == "input" else row.output
    response = JsonResponse(body, safe=False, json_dumps_params={"indent": 2, "ensure_ascii": False})
    response["Content-Disposition"] = f'attachment; filename="{which}-{task_id}.json"'
    response["Content-Security-Policy"] = FILE_POLICY
    return response


@require_safe
@login_required
@never_cache
def alert_list(request: HttpRequest) -> HttpResponse:
    """What needs somebody now, and what did."""
    rows = Alert.objects.order_by("-opened_at", "-id")
    now = sorted(rows.exclude(state=AlertState.RESOLVED)[:200], key=lambda row: (row.state, row.severity != "critical"))
    context = {"open": sorted(now, key=lambda row: row.state != AlertState.OPEN),
               "closed": rows.filter(state=AlertState.RESOLVED)[:50]}  # fmt: skip
    return render(request, "monitoring/alerts.html", context)


@require_POST
@login_required
@permission_required("monitoring.change_alert", raise_exception=True)
def acknowledge(request: HttpRequest, pk: int) -> HttpResponse:
    """Note that this person looks after the alert."""
    try:
        alerts.acknowledge(alerts.find(pk), by=request.user.get_username(), note=request.POST.get("note", "").strip())
    except errors.RoutingError as error:
        messages.error(request, str(error))
    return redirect("alerts")

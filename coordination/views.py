"""The pages of workflows, runs and approvals, whole without JavaScript. They act through ``coordination.runs``."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required, permission_required
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.safestring import mark_safe
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from coordination import (
    bulk,
    drawing,
    forms,
    observed,
    queries,
    run_page,
    runs,
    schedules,
    verb_forms,
    words,
    workflows,
)
from coordination.models import Approval, Run, RunState, RunView, Schedule, Workflow
from coordination.verb_forms import VERBS
from routing import payloads
from routing.errors import RoutingError
from routing.models import DEFAULT_TENANT, new_id

CHANGE = "coordination.change_run"
MAX_VERSIONS = 100


# ---- workflows ----------------------------------------------------------------------------------------------------


@require_safe
@login_required
@never_cache
def workflow_list(request: HttpRequest) -> HttpResponse:
    """All workflows, with how much they run."""
    return render(request, "coordination/workflows.html", {"rows": queries.workflow_rows()})


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
@never_cache
def workflow(request: HttpRequest, name: str) -> HttpResponse:
    """One workflow and its versions; a POST starts a run of it and shows that."""
    row = _workflow(request, name)
    if request.method == "POST":
        return _start(request, row)
    return _workflow_page(request, row)


def _workflow(request: HttpRequest, name: str) -> Workflow:
    tenant = request.GET.get("tenant", DEFAULT_TENANT)
    found = None if "\0" in name + tenant else Workflow.objects.filter(tenant_id=tenant, name=name).first()
    if found is None:
        raise Http404(f"There is no workflow called {name}. It may have another name by now.")
    return found


@permission_required(CHANGE, raise_exception=True)
def _start(request: HttpRequest, row: Workflow) -> HttpResponse:
    typed = request.POST.get("input", "")
    try:
        started = runs.start(
            runs.Request(
                workflow=row.name,
                tenant=row.tenant_id or DEFAULT_TENANT,
                input=verb_forms.json_of(typed),
                idempotency_key=request.POST.get("key") or None,
                by=request.user.get_username(),
            )
        )
    except RoutingError as error:
        return _workflow_page(request, row, typed=typed, trouble=str(error), status=error.status)
    return redirect("run", started.run.id)


def _workflow_page(
    request: HttpRequest, row: Workflow, *, typed: str | None = None, trouble: str = "", status: int = 200
) -> HttpResponse:
    versions = list(row.versions.select_related("definition")[:MAX_VERSIONS])
    asked = request.GET.get("version", "")
    picked = next((version for version in versions if str(version.number) == asked), None)
    version = picked or (versions[0] if versions else None)
    graph = workflows.graph_of(version.definition) if version else None
    context = {
        "workflow": row,
        "picture": run_page.picture(graph) if graph else None,
        "source": workflows.source_of(version.definition) if version else "",
        "mermaid": drawing.mermaid(graph) if graph else "",
        "versions": versions,
        "version": version,
        "recent": queries.page_of_runs(workflow=row.name, tenant=row.tenant_id or "")[0][:10],
        "typed": "{}" if typed is None else typed,
        "key": new_id(),  # sent twice, the form still starts one run
        "trouble": trouble,
    }
    return render(request, "coordination/workflow.html", context, status=status)


# ---- runs ---------------------------------------------------------------------------------------------------------


@require_safe
@login_required
@never_cache
def run_list(request: HttpRequest) -> HttpResponse:
    """All runs, newest first, 50 a page; ``state``, ``workflow`` and ``before`` in the address."""
    state, name = request.GET.get("state", ""), request.GET.get("workflow", "")
    before = queries.parse_cursor(request.GET.get("before", ""))
    rows, is_more = queries.page_of_runs(state=state, workflow=name, before=before)
    filters = {key: value for key, value in (("state", state), ("workflow", name)) if value}
    context = {
        "views": RunView.objects.filter(Q(owner=request.user.pk) | Q(is_shared=True)).select_related("owner"),
        "observed": observed.newest() if before is None and not filters else [],
        "verbs": [kind.value for kind in bulk.CAN],
        "runs": rows,
        "states": RunState.values,
        "workflows": sorted(set(Workflow.objects.values_list("name", flat=True)) | ({name} if name else set())),
        "filters": filters,
        "first": urlencode(filters),
        "is_first": before is None,
        "older": urlencode({**filters, "before": queries.cursor(rows[-1])}) if is_more else "",
    }
    return render(request, "coordination/runs.html", context)


@require_safe
@login_required
@never_cache
def observed_canvas(request: HttpRequest, root: UUID) -> HttpResponse:
    """A canvas that Celery itself runs: its tasks as a tree."""
    rows = observed.tasks(root)
    if not rows:
        raise Http404(f"There is no canvas {root}. Tasks are deleted some time after their end.")
    placed = observed.tree(rows)
    drawn = observed.times(placed)
    context = {
        "root": root, "placed": placed, "state": observed.together([row.state for row in rows]),
        "gantt": mark_safe(drawn) if drawn else None, "is_led": queries.is_led(),
    }  # fmt: skip
    return render(request, "coordination/observed.html", context)


@require_POST
@login_required
@permission_required(CHANGE, raise_exception=True)
def ask_many(request: HttpRequest) -> HttpResponse:
    """Count the runs that a verb would be asked of, and ask it of them when the count is confirmed."""
    posted = request.POST
    filters = {key: posted[key] for key in ("state", "workflow") if posted.get(key)}
    back = f"{reverse('runs')}?{urlencode(filters)}"
    try:
        payloads.check(dict(posted.items()), max_bytes=10_000)
        kind, is_sure = runs.Kind(posted.get("verb", "")), posted.get("sure") == "yes"
        by, reason = request.user.get_username(), posted.get("reason", "").strip()
        done = bulk.ask(
            bulk.Filter(state=filters.get("state"), workflow=filters.get("workflow")),
            kind,
            by=by,
            reason=reason,
            dry_run=not is_sure,
        )
    except (RoutingError, ValueError) as error:
        messages.error(request, str(error))
        return redirect(back)
    if not is_sure:
        context = {"filters": filters, "verb": kind.value, "reason": reason, "count": done, "back": back}
        return render(request, "coordination/bulk.html", context)
    refused = f" {len(done.refused)} had ended meanwhile." if done.refused else ""
    messages.success(request, f"{done.asked} runs were asked to {kind.value}.{refused}")
    return redirect(back)


@require_POST
@login_required
def keep_view(request: HttpRequest) -> HttpResponse:
    """Keep the filters under a name, in place of one's own view of that name; without a name, forget a view."""
    name, forget = request.POST.get("name", "").strip(), request.POST.get("forget", "")
    filters = {key: request.POST[key] for key in ("state", "workflow") if request.POST.get(key)}
    if forget:
        RunView.objects.filter(owner=request.user.pk, pk=int(forget) if forget.isdecimal() else 0).delete()
    elif not name or len(name) > 60 or not name.isprintable():
        messages.error(request, "A view has a name of 1 to 60 characters.")
    else:
        told = {"query": urlencode(filters)[:500], "is_shared": request.POST.get("shared") == "yes"}
        RunView.objects.update_or_create(owner_id=request.user.pk, name=name, defaults=told)
    return redirect(f"{reverse('runs')}?{urlencode(filters)}")


@require_safe
@login_required
@never_cache
def run(request: HttpRequest, run_id: UUID) -> HttpResponse:
    """One run with its steps, and what can be asked of it."""
    return render(request, "coordination/run.html", run_page.context(_run(run_id)))


def _run(run_id: UUID) -> Run:
    found = Run.objects.filter(id=run_id).select_related("definition").first()
    if found is None:
        raise Http404(f"There is no run {run_id}. Runs are deleted some time after their end.")
    return found


@require_POST
@login_required
@permission_required(CHANGE, raise_exception=True)
def ask(request: HttpRequest, run_id: UUID, verb: str) -> HttpResponse:
    """Ask the controller for something about the run and show its page again; of a fork that of the new run."""
    if verb not in VERBS:
        raise Http404(f"Nothing called {verb} can be asked of a run.")
    row = _run(run_id)
    try:
        row = verb_forms.act(row, verb, request.POST, by=request.user.get_username())
        messages.success(request, VERBS[verb].done)
    except RoutingError as error:
        messages.error(request, str(error))
    return redirect("run", row.id)


# ---- schedules ----------------------------------------------------------------------------------------------------


@require_safe
@login_required
@never_cache
def schedule_list(request: HttpRequest) -> HttpResponse:
    """All schedules, with when they come next."""
    rows = [
        {
            "schedule": row,
            "words": schedules.table(row).in_words(),
            "next": next(iter(schedules.upcoming(row, 1)), None),
        }
        for row in Schedule.objects.order_by("name", "tenant")
    ]
    return render(request, "coordination/schedules.html", {"rows": rows})


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
@never_cache
def schedule(request: HttpRequest, pk: int) -> HttpResponse:
    """One schedule, its next times, and what became of those before; a POST turns it, runs it, or fills a range."""
    row = Schedule.objects.filter(pk=pk).first()
    if row is None:
        raise Http404("There is no such schedule. It may have been removed.")
    if request.method == "POST":
        return _turn_schedule(request, row)
    return _schedule_page(request, row)


@permission_required("coordination.change_schedule", raise_exception=True)
def _turn_schedule(request: HttpRequest, row: Schedule) -> HttpResponse:
    by, verb = request.user.get_username(), request.POST.get("verb", "")
    try:
        if verb in ("pause", "resume"):
            schedules.set_enabled(row, enabled=verb == "resume", by=by)
            messages.success(
                request, "It begins runs again." if row.enabled else "It begins nothing until it is resumed."
            )
        elif verb == "run":
            return redirect("run", schedules.run_now(row, by=by, key=request.POST.get("key", "")).pk)
        else:
            return _backfill(request, row, by)
    except RoutingError as error:
        messages.error(request, str(error))
    return redirect("schedule", row.pk)


def _backfill(request: HttpRequest, row: Schedule, by: str) -> HttpResponse:
    """Count first; begin the runs when the counted range is sent again."""
    since, until = (forms.moment(request.POST.get(end, "")) for end in ("since", "until"))
    is_sure = request.POST.get("verb") == "backfill"
    done = schedules.backfill(row, since, until, by=by, dry_run=not is_sure)
    if is_sure:
        messages.success(request, f"{len(done.made)} runs begin.")
        return redirect("schedule", row.pk)
    return _schedule_page(request, row, plan={"since": since, "until": until, "times": done})


def _schedule_page(request: HttpRequest, row: Schedule, *, plan: dict[str, Any] | None = None) -> HttpResponse:
    context = {
        "schedule": row,
        "words": schedules.table(row).in_words(),
        "upcoming": schedules.upcoming(row, 10),
        "times": row.times.order_by("-at", "-pk")[:50],
        "workflow_address": queries.address(row.tenant_id or "", row.workflow),
        "input": run_page.shown(row.input),
        "plan": plan,
        "key": f"schedule:{row.pk}:hand:{new_id()}",
    }
    return render(request, "coordination/schedule.html", context)


# ---- approvals ----------------------------------------------------------------------------------------------------


@require_safe
@login_required
@never_cache
def approval_list(request: HttpRequest) -> HttpResponse:
    """What people are asked, and what they answered."""
    return _inbox(request)


def _inbox(request: HttpRequest, *, typed: dict[UUID, dict[str, str]] | None = None, status: int = 200) -> HttpResponse:
    context = {
        "questions": run_page.questions(queries.approvals(is_open=True), typed),
        "closed": [(row, words.brief(row.answer)) for row in queries.approvals(is_open=False)],
    }
    return render(request, "coordination/approvals.html", context, status=status)


@require_POST
@login_required
@never_cache
def answer(request: HttpRequest, approval_id: UUID) -> HttpResponse:
    """Answer, and show the page that the answer was given on; the inbox with what was typed if it is refused."""
    row = Approval.objects.filter(id=approval_id).first()
    if row is None:
        raise Http404(f"There is no approval {approval_id}.")
    typed = {key: str(value) for key, value in request.POST.items()}
    try:
        value = forms.answer(row.schema, typed, max_bytes=settings.A2A_MAX_INPUT_BYTES)
        runs.answer(
            row,
            value,
            by=request.user.get_username(),
            groups=list(request.user.groups.values_list("name", flat=True)),
            is_operator=request.user.has_perm(CHANGE),
        )
    except RoutingError as error:
        messages.error(request, f"{row.title}: {error}")
        return _inbox(request, typed={row.id: typed}, status=error.status)
    messages.success(request, f"Answered: {row.title}")
    to = request.POST.get("next", "")
    return redirect(to if url_has_allowed_host_and_scheme(to, {request.get_host()}) else "approvals")

"""Admin pages of runs and approvals. Every write is a call to ``coordination.runs``."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import path
from django.utils.html import format_html
from django.utils.safestring import SafeString

from coordination import bulk, run_page, runs, verb_forms, workflows
from coordination.models import Approval, Run
from coordination.verb_forms import VERBS
from routing.admin.forms import ReadOnly
from routing.admin.ledger import BoundedPaginator
from routing.errors import RoutingError


class AskForm(forms.Form):
    """What a verb needs to know about one run."""

    step = forms.ChoiceField()
    name = forms.ChoiceField(label="Signal")
    input = forms.CharField(widget=forms.Textarea(attrs={"rows": 4, "spellcheck": "false"}), required=False)
    payload = forms.CharField(widget=forms.Textarea(attrs={"rows": 4, "spellcheck": "false"}), required=False)
    compensate = forms.BooleanField(required=False, label="Undo what was done, where the workflow says how")
    reason = forms.CharField(max_length=300, required=False, label="Because")

    def __init__(self, data: Any, *, run: Run, verb: str) -> None:
        super().__init__(data)
        for name in ("input", "payload"):
            self.fields[name].help_text = "As JSON. May be left out."
        graph = workflows.graph_of(run.definition)
        choices = {"step": [step.name for step in graph.steps], "name": verb_forms.signals(graph)}
        for name, values in choices.items():
            self.fields[name].choices = [(value, value) for value in values]  # type: ignore[attr-defined]
        for name in set(self.fields) - {*VERBS[verb].fields, "reason"}:
            del self.fields[name]
        self.fields["reason"].required = verb == "cancel"


@admin.register(Run)
class RunAdmin(ReadOnly):
    list_display = ["id", "page", "workflow", "version", "state", "by", "tenant", "created_at", "ended_at"]
    list_filter = ["state", "tenant"]
    list_select_related = False
    ordering = ["-created_at", "-id"]
    paginator = BoundedPaginator
    search_fields = ["workflow__exact"]
    search_help_text = "A workflow's whole name."
    actions = ["pause", "resume", "cancel", "retry"]
    change_form_template = "coordination/admin_run.html"

    @admin.display(description="page")
    def page(self, run: Run) -> SafeString:
        """Return the link to the run's own page."""
        return format_html('<a href="/runs/{}">open</a>', run.pk)

    def get_urls(self) -> Any:
        """Return the addresses, with that of asking something of one run before the others."""
        view = self.admin_site.admin_view(self.ask_one)
        return [path("<uuid:pk>/ask/<str:verb>", view, name="coordination_run_ask"), *super().get_urls()]

    def change_view(self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None) -> Any:
        """Show the run, with what can be asked of it."""
        run = self.get_object(request, object_id)
        may = run is not None and self.has_intervene_permission(request)
        verbs = [(verb, VERBS[verb].label) for verb in verb_forms.fitting(run)] if may and run else []
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), "verbs": verbs})

    def ask_one(self, request: HttpRequest, pk: UUID, verb: str) -> HttpResponse:
        """Ask a verb of one run, with what it needs to know; what is refused stands on the form."""
        run = Run.objects.filter(pk=pk).select_related("definition").first()
        if run is None or verb not in VERBS:
            raise Http404(f"There is no run {pk}, or nothing called {verb} can be asked of it.")
        if not self.has_intervene_permission(request):
            raise PermissionDenied
        form = AskForm(request.POST if request.method == "POST" else None, run=run, verb=verb)
        if request.method == "POST" and form.is_valid():
            try:
                made = verb_forms.act(run, verb, form.cleaned_data, by=request.user.get_username())
                self.message_user(request, VERBS[verb].done)
                return redirect("admin:coordination_run_change", made.pk)
            except RoutingError as error:
                form.add_error(None, str(error))
        context = {
            **self.admin_site.each_context(request),
            "title": f"{VERBS[verb].label}: {run.workflow}",
            "opts": self.model._meta,
            "run": run,
            "form": form,
            "verb": VERBS[verb],
        }
        return TemplateResponse(request, "coordination/admin_ask.html", context)

    @admin.action(description="Pause: let nothing new begin", permissions=["intervene"])
    def pause(self, request: HttpRequest, queryset: Any) -> None:
        self._ask(request, queryset, runs.Kind.PAUSE)

    @admin.action(description="Resume: let paused runs go on", permissions=["intervene"])
    def resume(self, request: HttpRequest, queryset: Any) -> None:
        self._ask(request, queryset, runs.Kind.RESUME)

    @admin.action(description="Cancel: end them, with all that runs for them", permissions=["intervene"])
    def cancel(self, request: HttpRequest, queryset: Any) -> None:
        self._ask(request, queryset, runs.Kind.CANCEL)

    @admin.action(description="Retry what failed", permissions=["intervene"])
    def retry(self, request: HttpRequest, queryset: Any) -> None:
        self._ask(request, queryset, runs.Kind.RETRY)

    def has_intervene_permission(self, request: HttpRequest) -> bool:
        """Return whether this person may ask something of runs; the rows themselves nobody edits."""
        return bool(request.user.has_perm("coordination.change_run"))

    def _ask(self, request: HttpRequest, queryset: Any, kind: runs.Kind) -> None:
        asked = 0
        for run in queryset:
            if run.state not in bulk.CAN[kind]:
                continue
            try:
                runs.ask(run, kind, by=request.user.get_username(), reason="in the admin")
                asked += 1
            except RoutingError as error:
                self.message_user(request, f"{run}: {error}", level="error")
        self.message_user(request, f"{asked} of {len(queryset)} runs were asked to {kind.value}; it suits no others.")


@admin.register(Approval)
class ApprovalAdmin(ReadOnly):
    list_display = ["title", "page", "state", "asked_at", "answered_by", "answered_at", "tenant"]
    list_filter = ["state", "tenant"]
    ordering = ["-asked_at"]
    paginator = BoundedPaginator
    change_form_template = "coordination/admin_approval.html"

    def change_view(self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None) -> Any:
        """Show the approval, with the form to answer it while it is open."""
        row = self.get_object(request, object_id)
        is_open = row is not None and row.state == Approval.State.OPEN
        asked = run_page.questions([row]) if is_open and row else []
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), "questions": asked})

    @admin.display(description="run")
    def page(self, approval: Approval) -> SafeString:
        """Return the link to the run that asks."""
        return format_html('<a href="/runs/{}">open</a>', approval.run_id)

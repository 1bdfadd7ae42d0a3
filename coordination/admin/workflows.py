"""Admin pages of workflows. Every write is a call to ``coordination.workflows``."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from coordination import errors, workflows
from coordination.difference import difference
from coordination.models import Workflow, WorkflowVersion, newest
from routing.admin.forms import RowForm, Rows
from routing.models import DEFAULT_TENANT

if TYPE_CHECKING:  # Django's own class takes no type arguments when the program runs
    VersionRows = admin.TabularInline[WorkflowVersion, Workflow]
else:
    VersionRows = admin.TabularInline

EXAMPLE = """name: hello
steps:
  first:
    task: echo
    input: "{{ run.input }}"
"""


class WorkflowForm(RowForm):
    """A workflow with the source of its next version."""

    source = forms.CharField(
        widget=forms.Textarea(attrs={"rows": 30, "cols": 100, "spellcheck": "false", "class": "vLargeTextField"}),
        strip=False,
        help_text="YAML or JSON. Saving it changed makes a new version; runs under way keep theirs.",
    )
    note = forms.CharField(max_length=300, required=False, help_text="What is new in this version.")
    seen = forms.IntegerField(required=False, widget=forms.HiddenInput)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        last = newest(self.instance) if self.instance.pk else None
        self.initial.setdefault("source", workflows.source_of(last.definition) if last else EXAMPLE)
        self.initial.setdefault("seen", last.number if last else None)

    def clean(self) -> dict[str, Any]:
        """Put what is wrong with the source at its field, a sentence for each line."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        for words in self._problems(cleaned) if "source" in cleaned else ():
            self.add_error("source", words)
        return cleaned

    def _problems(self, cleaned: dict[str, Any]) -> Iterator[str]:
        tenant = self.instance.tenant_id or DEFAULT_TENANT
        if not self.instance.pk and cleaned.get("tenant"):
            tenant = cleaned["tenant"].pk
        try:
            graph = workflows.checked(cleaned["source"], tenant)
        except errors.BadWorkflow as error:
            yield from str(error.fields["why"]).splitlines()
            return
        if self.instance.pk:
            yield from self._clashes(graph.name, cleaned.get("seen"))
        elif Workflow.objects.filter(tenant_id=tenant, name=graph.name).exists():
            yield f"There is a workflow called {graph.name!r} already. Edit that one, or give this one another name."

    def _clashes(self, name: str, seen: int | None) -> Iterator[str]:
        """Yield why the source cannot be the next version of this workflow."""
        if name != self.instance.name:
            own = self.instance.name
            yield f"name: it is {name!r}, but this workflow is called {own!r}. Another name is another workflow."
        last = newest(self.instance)
        if last is not None and seen is not None and last.number != seen:
            yield str(errors.StaleVersion(name=name, newest=last.number, seen=seen))


class Versions(VersionRows):
    """The versions of a workflow, for reading."""

    model = WorkflowVersion
    fields = readonly_fields = ("number", "author", "note", "created_at", "difference")
    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @admin.display(description="what changed")
    def difference(self, version: WorkflowVersion) -> SafeString | str:
        """Return the link to what is different from the version before."""
        if version.number == 1:
            return "the first"
        address = reverse("admin:coordination_workflow_difference", args=[version.workflow_id])
        words = '<a href="{}?from={}&amp;to={}">since v{}</a>'
        return format_html(words, address, version.number - 1, version.number, version.number - 1)


@admin.register(Workflow)
class WorkflowAdmin(Rows):
    form = WorkflowForm
    list_display = ["name", "newest", "description", "enabled", "tenant", "page"]
    list_filter = ["enabled", "tenant"]
    search_fields = ["name", "description"]
    inlines = [Versions]
    actions = ["enable", "disable"]

    def get_fields(self, request: HttpRequest, obj: Workflow | None = None) -> Any:
        head = ["name", "tenant", "enabled", "description"] if obj else ["tenant", "description"]
        return [*head, "source", "note", "seen"]

    def get_readonly_fields(self, request: HttpRequest, obj: Workflow | None = None) -> list[str]:
        return ["name", "tenant"] if obj else []

    def get_inlines(self, request: HttpRequest, obj: Workflow | None) -> Any:
        return self.inlines if obj else []

    def get_urls(self) -> Any:
        """Return the addresses, with that of the difference of two versions before the others."""
        view = self.admin_site.admin_view(self.compare)
        own = [path("<int:pk>/difference", view, name="coordination_workflow_difference")]
        return [*own, *super().get_urls()]

    def has_delete_permission(self, request: HttpRequest, obj: Workflow | None = None) -> bool:
        return False  # runs name it; it can be disabled

    @admin.display(description="version")
    def newest(self, row: Workflow) -> str:
        """Return the number of the newest version."""
        last = newest(row)
        return f"v{last.number}" if last else "none yet"

    @admin.display(description="page")
    def page(self, row: Workflow) -> SafeString:
        """Return the link to the workflow's own page."""
        return format_html('<a href="/workflows/{}?tenant={}">open</a>', row.name, row.tenant_id)

    def save_model(self, request: HttpRequest, obj: Workflow, form: Any, change: bool) -> None:
        """Make the next version, if there is anything new in the source."""
        version = workflows.save(
            form.cleaned_data["source"],
            tenant=obj.tenant_id or DEFAULT_TENANT,
            author=request.user.get_username(),
            note=form.cleaned_data["note"],
            seen=form.cleaned_data["seen"],
            description=obj.description,
        )
        obj.pk, obj.name = version.workflow.pk, version.workflow.name
        if change:
            workflows.set_enabled(obj, enabled=obj.enabled)

    def compare(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Show what is different between two versions, ``from`` and ``to`` in the address."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        old, new = (_version(pk, request.GET.get(end, "")) for end in ("from", "to"))
        context = {
            **self.admin_site.each_context(request),
            "title": f"{new.workflow.name}: from v{old.number} to v{new.number}",
            "opts": self.model._meta,
            "workflow": new.workflow,
            "changes": difference(*(workflows.graph_of(version.definition) for version in (old, new))),
            "lines": source_lines(old, new),
        }
        return TemplateResponse(request, "coordination/difference.html", context)

    @admin.action(description="Enable: let new runs begin", permissions=["change"])
    def enable(self, request: HttpRequest, queryset: Any) -> None:
        for row in queryset:
            workflows.set_enabled(row, enabled=True)

    @admin.action(description="Disable: no new run begins, runs under way go on", permissions=["change"])
    def disable(self, request: HttpRequest, queryset: Any) -> None:
        for row in queryset:
            workflows.set_enabled(row, enabled=False)


def _version(workflow: int, number: str) -> WorkflowVersion:
    rows = WorkflowVersion.objects.select_related("workflow", "definition").filter(workflow_id=workflow)
    found = (
        rows.filter(number=int(number)).first() if number.isascii() and number.isdigit() and len(number) < 9 else None
    )
    if found is None:
        raise Http404(f"There is no version {number or '(none named)'} of this workflow.")
    return found


def source_lines(old: WorkflowVersion, new: WorkflowVersion) -> list[str]:
    """Return the unified diff of two versions' sources, [] if they say the same."""
    before, after = (workflows.source_of(version.definition).splitlines() for version in (old, new))
    return list(difflib.unified_diff(before, after, f"v{old.number}", f"v{new.number}", lineterm=""))

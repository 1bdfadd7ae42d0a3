"""Admin pages of monitoring: alerts for reading, and their rules."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest

from monitoring import rulebook
from monitoring.models import Alert, Rule
from routing.admin.forms import ReadOnly, RegistryForm, Rows, StrictJson
from routing.admin.ledger import BoundedPaginator


@admin.register(Alert)
class AlertAdmin(ReadOnly):
    list_display = ["title", "severity", "state", "opened_at", "acknowledged_by", "resolved_at"]
    list_filter = ["state", "severity", "kind"]
    ordering = ["-opened_at"]
    paginator = BoundedPaginator


class RuleForm(RegistryForm):
    """A rule, with what it would have done within the last day."""

    condition = StrictJson(widget=forms.Textarea(attrs={"rows": 12, "cols": 80}))
    only_try = forms.BooleanField(
        required=False, label="Only try", help_text="Say how often it would have fired within 24 h, and save nothing."
    )

    class Meta:
        model = Rule
        fields = ["name", "enabled", "severity", "title", "condition", "hold_s", "runbook"]

    def problems(self) -> Iterable[tuple[str, str]]:
        """Return what is wrong, or if it is only tried what it would have done."""
        found = list(rulebook.problems(self.instance))
        if not found and self.cleaned_data.get("only_try"):
            found = [("only_try", rulebook.preview(self.instance).words)]
        return found


@admin.register(Rule)
class RuleAdmin(Rows):
    list_display = ["name", "enabled", "severity", "title", "hold_s", "updated_at"]
    list_filter = ["enabled", "severity"]
    search_fields = ["name", "title"]
    form = RuleForm

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Save it, and say what it would have done."""
        rulebook.save(obj)
        messages.info(request, rulebook.preview(obj).words)

"""Admin pages of the rules by which tasks are routed. Every write is a call to ``routing.rulebook``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.db import models
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone

from routing import drafts, past, registry, rule_words, rulebook, rulespecs, strategies
from routing.admin.forms import RegistryForm, Rows, StrictJson
from routing.errors import BadRegistration
from routing.models import Budget, Containment, Limit, Policy
from routing.rehearsal import NotEnough

DRY_RUN = timedelta(hours=1)
DRY_RUN_TASKS = 3_000  # a page does not wait for more
MATCH = ("skill", "tenant", "labels", ("priority_low", "priority_high"))
WHOM = "Which tasks it speaks of. As it stands, of all."
NOTE: Any = (None, {"fields": ["note"]})


class ListJson(StrictJson):
    """A JSON field whose empty value is []."""

    def to_python(self, value: Any) -> Any:
        """Return the value. Raises ``ValidationError`` in words."""
        return [] if value is None or (isinstance(value, str) and not value.strip()) else super().to_python(value)


class PolicyForm(RegistryForm):
    """A policy; its strategies are those that the product has."""

    strategy = forms.ChoiceField(choices=lambda: [(name, name) for name in sorted(strategies.STRATEGIES)])
    shadow = forms.ChoiceField(
        choices=lambda: [("", "none"), *((name, name) for name in sorted(strategies.STRATEGIES))],
        required=False,
        help_text=Policy._meta.get_field("shadow").help_text,
    )
    order = ListJson(required=False, help_text=Policy._meta.get_field("order").help_text)

    def problems(self) -> Iterable[registry.Problem]:
        """Return what is wrong with the policy."""
        return rulebook.policy_problems(self.instance)


class LimitForm(RegistryForm):
    """A limit."""

    def problems(self) -> Iterable[registry.Problem]:
        """Return what is wrong with the limit."""
        return rulebook.limit_problems(self.instance)


class BudgetForm(RegistryForm):
    """A budget."""

    def problems(self) -> Iterable[registry.Problem]:
        """Return what is wrong with the budget."""
        return rulebook.budget_problems(self.instance)


class ContainmentForm(RegistryForm):
    """A switch; who throws it is filled in."""

    by = "somebody"  # set by the page to whoever is signed in

    def problems(self) -> Iterable[registry.Problem]:
        """Return what is wrong with the switch."""
        self.instance.by = self.by
        return rulebook.containment_problems(self.instance)


class RuleAdmin(Rows):
    """Pages of one kind of rule."""

    formfield_overrides = {models.JSONField: {"form_class": StrictJson}}
    list_filter = ["enabled", "tenant"]
    search_fields = ["name", "note"]
    save: ClassVar[Callable[[Any], Any]]
    read: ClassVar[Callable[[Any], Any]]
    tell: ClassVar[Callable[[Any], str]]

    @admin.display(description="what it does")
    def words(self, row: Any) -> str:
        """Return the rule in words, or why it cannot be read."""
        try:
            return type(self).tell(type(self).read(row))
        except rulespecs.Unreadable as error:
            return f"is left out, because it cannot be read: {error}"

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        type(self).save(obj)

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        rulebook.remove(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        for row in queryset:
            rulebook.remove(row)


@admin.register(Policy)
class PolicyAdmin(RuleAdmin):
    form = PolicyForm
    save, read, tell = rulebook.save_policy, rulespecs.policy, rule_words.policy
    list_display = ["name", "words", "position", "enabled"]
    actions = ["dry_run"]
    fieldsets = [
        (None, {"fields": ["name", "enabled", "position"]}),
        ("Whom", {"fields": MATCH, "description": f"{WHOM} The first policy that speaks of a task governs it."}),
        ("How an agent is chosen", {"fields": ["strategy", "weights", "order", "shadow"]}),
        ("How long, how often", {"fields": ["timeout_s", "wait_s", "max_attempts", "retries", "when_shut"]}),
        ("Hedging", {"fields": ["hedge", "hedge_share", "hedge_busy"], "classes": ["collapse"]}),
        NOTE,
    ]

    @admin.action(description="Dry run on the last hour: what if they were switched over?", permissions=["view"])
    def dry_run(self, request: HttpRequest, queryset: QuerySet[Policy]) -> HttpResponse | None:
        """Show what the last hour's tasks would have come to with the policies enabled, or without those that are."""
        rows, until = list(queryset.order_by("position", "name")), timezone.now()
        asked = [f"{row.name} {'disabled' if row.enabled else 'enabled'}" for row in rows]
        try:
            draft = drafts.of_toggled(rows)
            found = past.rehearsed(past.read(until - DRY_RUN, until, most=DRY_RUN_TASKS), draft)
        except (BadRegistration, NotEnough) as error:
            self.message_user(request, str(error), messages.WARNING)
            return None
        context = {
            **self.admin_site.each_context(request),
            "title": f"Dry run: {', '.join(asked)}",
            "opts": self.model._meta,
            "found": found,
        }
        return TemplateResponse(request, "routing/rehearsal.html", context)


@admin.register(Limit)
class LimitAdmin(RuleAdmin):
    form = LimitForm
    save, read, tell = rulebook.save_limit, rulespecs.limit, rule_words.limit
    list_display = ["name", "words", "enabled"]
    fieldsets = [
        (None, {"fields": ["name", "enabled"]}),
        ("Whom", {"fields": [*MATCH, "agent"], "description": WHOM}),
        (
            "How many",
            {
                "fields": ["max_running", "rate_per_s", "burst", "per", "on_full"],
                "description": "At once, per second, or both. Two at once for each repository: max_running 2, per each "
                "concurrency key, and tasks submitted with the repository as their concurrency_key.",
            },
        ),
        NOTE,
    ]


@admin.register(Budget)
class BudgetAdmin(RuleAdmin):
    form = BudgetForm
    save, read, tell = rulebook.save_budget, rulespecs.budget, rule_words.budget
    list_display = ["name", "words", "enabled"]
    fieldsets = [
        (None, {"fields": ["name", "enabled"]}),
        ("Whom", {"fields": [*MATCH, "agent"], "description": WHOM}),
        (
            "How much",
            {
                "fields": ["amount", "unit", "period_s", "scope", "hard"],
                "description": "Twenty dollars a day for each tenant: amount 20, US dollars, period_s 86400, each "
                "tenant. What an attempt may cost is held before it begins, and settled when it ends.",
            },
        ),
        NOTE,
    ]


@admin.register(Containment)
class ContainmentAdmin(RuleAdmin):
    form = ContainmentForm
    save, read = rulebook.save_containment, rulespecs.containment
    list_display = ["name", "words", "mode", "enabled", "by", "since"]
    list_filter = ["enabled", "mode", "scope"]
    readonly_fields = ["by", "since"]
    actions = ["enforce", "release"]
    fieldsets = [
        (None, {"fields": ["name", "enabled"]}),
        ("What", {"fields": ["scope", "value"]}),
        (
            "How",
            {
                "fields": ["mode", "cancel_running", "release_at"],
                "description": "Throw a switch in the mode observe first: it holds nothing and counts what it would. "
                "The action “Enforce” of the list then makes it hold.",
            },
        ),
        ("Why", {"fields": ["reason", "note", "by", "since"]}),
    ]

    def words(self, row: Containment) -> str:
        """Return the switch in words."""
        if not row.enabled:
            return "released"
        try:
            return rule_words.containment(rulespecs.containment(row), timezone.now().timestamp())
        except rulespecs.Unreadable as error:
            return f"is left out, because it cannot be read: {error}"

    words.short_description = "what it does"  # type: ignore[attr-defined]

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        """Return a form that knows who fills it in."""
        form = super().get_form(request, obj, change, **kwargs)
        return type(form.__name__, (form,), {"by": f"user {request.user}"})

    @admin.action(description="Enforce: hold the work back from now on", permissions=["change"])
    def enforce(self, request: HttpRequest, queryset: QuerySet[Containment]) -> None:
        self._change(request, queryset, "enforced", mode="enforce", enabled=True)

    @admin.action(description="Release: hold nothing any more", permissions=["change"])
    def release(self, request: HttpRequest, queryset: QuerySet[Containment]) -> None:
        self._change(request, queryset, "released", enabled=False)

    def _change(self, request: HttpRequest, queryset: QuerySet[Containment], words: str, **fields: Any) -> None:
        """Set the fields of each switch, and say of which that was refused."""
        done = []
        for row in queryset:
            for field, value in {**fields, "by": f"user {request.user}"}.items():
                setattr(row, field, value)
            try:
                done.append(rulebook.save_containment(row).name)
            except BadRegistration as error:
                self.message_user(request, f"{row.name}: {error}", messages.ERROR)
        if done:
            self.message_user(request, f"Now {words}: {', '.join(done)}.")

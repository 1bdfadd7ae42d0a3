"""Admin pages of tasks and commands: for reading."""

from __future__ import annotations

from typing import Any, cast
from uuid import UUID

from django.contrib import admin
from django.db import models
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.safestring import SafeString

from routing.admin.forms import Pages, ReadOnly
from routing.models import Command, PushConfig, Skill, Task

MAX_LISTED = 10_000  # rows a list counts: counting millions takes seconds


class BoundedPaginator(Pages):
    """Counts no further than ``MAX_LISTED``."""

    @cached_property
    def count(self) -> int:
        return cast("QuerySet[Model]", self.object_list)[:MAX_LISTED].count()


class SkillFilter(admin.SimpleListFilter):
    """By skill; the names come from the registry, because collecting them from the tasks would read them all."""

    title = "skill"
    parameter_name = "skill"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        names = Skill.objects.order_by("name").values_list("name", flat=True).distinct()
        return [(name, name) for name in names]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Task]) -> QuerySet[Task]:
        name = self.value()
        if name and "\0" in name:  # PostgreSQL refuses to look for it
            return queryset.none()
        return queryset.filter(skill=name) if name else queryset


@admin.register(Task)
class TaskAdmin(ReadOnly):
    list_display = ["id", "page", "skill", "state", "agent", "priority", "tenant", "created_at", "finished_at"]
    list_filter = ["state", SkillFilter, "tenant"]
    list_select_related = False
    ordering = ["-id"]  # rises with time, and is the index
    paginator = BoundedPaginator
    search_fields = ["id"]
    search_help_text = "A task's whole id, or a skill's or an agent's whole name."

    def get_queryset(self, request: HttpRequest) -> QuerySet[Task]:
        return Task.objects.defer("input", "output", "call").order_by("-id")

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> tuple[QuerySet[Any], bool]:
        """Return exact matches only: the table may hold millions."""
        term = search_term.strip()
        if not term:
            return queryset, False
        try:
            return queryset.filter(id=UUID(term)), False
        except ValueError:
            return queryset.filter(models.Q(skill=term) | models.Q(agent=term)), False

    @admin.display(description="page")
    def page(self, task: Task) -> SafeString:
        """Return the link to the task's own page."""
        return format_html('<a href="/tasks/{}">open</a>', task.pk)


@admin.register(Command)
class CommandAdmin(ReadOnly):
    list_display = ["created_at", "kind", "task_id", "by", "reason", "done_at"]
    list_filter = ["kind"]
    ordering = ["-id"]
    paginator = BoundedPaginator


@admin.register(PushConfig)
class PushConfigAdmin(ReadOnly):
    list_display = ["task_id", "url", "told", "failures", "last_error", "due_at", "dead_at", "is_over"]
    list_filter = ["is_over", ("dead_at", admin.EmptyFieldListFilter)]
    exclude = ["token", "scheme", "credentials"]
    ordering = ["-id"]
    actions = ["send_again"]

    @admin.action(description="Try again to tell what was given up", permissions=["change_task"])
    def send_again(self, request: HttpRequest, chosen: QuerySet[PushConfig]) -> None:
        """Let the chosen ones be tried again at once."""
        from routing.a2a import delivery

        given_up = list(chosen.filter(dead_at__isnull=False))
        for row in given_up:
            delivery.send_again(row)
        self.message_user(request, f"{len(given_up)} will be tried again.")

    def has_change_task_permission(self, request: HttpRequest) -> bool:
        """Return whether the person may act on tasks."""
        return bool(request.user.has_perm("routing.change_task"))

"""Admin pages of schedules. Every write is a call to ``coordination.schedules``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.html import format_html

from coordination import schedules
from coordination.models import Schedule
from routing.admin.forms import RegistryForm, Rows
from routing.errors import RoutingError


class ScheduleForm(RegistryForm):
    """A schedule; what is wrong with it stands at its field."""

    def problems(self) -> Iterator[schedules.Problem]:
        """Yield what keeps the schedule from being kept."""
        yield from schedules.problems(self.instance)


@admin.register(Schedule)
class ScheduleAdmin(Rows):
    form = ScheduleForm
    list_display = ["name", "workflow", "words", "enabled", "next", "trouble", "tenant"]
    list_filter = ["enabled", "tenant"]
    search_fields = ["name", "workflow", "description"]
    actions = ["pause", "resume", "begin"]
    readonly_fields = ["words", "upcoming", "trouble", "changed_by", "created_at"]
    fieldsets = [
        (None, {"fields": ["tenant", "name", "description", "enabled"]}),
        ("What", {"fields": ["workflow", "input", "priority"]}),
        ("When", {"fields": ["cron", "every_s", "zone", "words", "upcoming"]}),
        ("If not", {"fields": ["overlap", "catch_up", "catch_up_s"]}),
        ("Kept", {"fields": ["trouble", "changed_by", "created_at"]}),
    ]

    @admin.display(description="in words")
    def words(self, row: Schedule) -> str:
        """Return when it is due, as a sentence."""
        return schedules.table(row).in_words() if row.pk else "Shown once it is saved."

    @admin.display(description="next")
    def next(self, row: Schedule) -> str:
        """Return the next time."""
        return next((f"{due:%F %R}Z" for due in schedules.upcoming(row, 1)), "–")

    @admin.display(description="next five times")
    def upcoming(self, row: Schedule) -> str:
        """Return the next five times."""
        return ", ".join(f"{due:%a %F %R}Z" for due in schedules.upcoming(row)) if row.pk else "–"

    def save_model(self, request: HttpRequest, obj: Schedule, form: Any, change: bool) -> None:
        """Keep the schedule; what it would have met before now is settled."""
        schedules.save(obj, by=request.user.get_username())

    @admin.action(description="Pause: begin nothing, runs under way go on", permissions=["change"])
    def pause(self, request: HttpRequest, queryset: Any) -> None:
        for row in queryset:
            schedules.set_enabled(row, enabled=False, by=request.user.get_username())

    @admin.action(description="Resume", permissions=["change"])
    def resume(self, request: HttpRequest, queryset: Any) -> None:
        for row in queryset:
            schedules.set_enabled(row, enabled=True, by=request.user.get_username())

    @admin.action(description="Begin a run of each now", permissions=["change"])
    def begin(self, request: HttpRequest, queryset: Any) -> None:
        for row in queryset:
            try:
                run = schedules.run_now(row, by=request.user.get_username())
                link = format_html('{}: <a href="/runs/{}">run {}</a> begins.', row.name, run.pk, run.pk)
                self.message_user(request, link)
            except RoutingError as error:
                self.message_user(request, f"{row.name}: {error}", level="error")

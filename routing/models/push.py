"""Where clients want to be told of their tasks."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils import timezone

from routing.models.ledger import Task


class PushConfig(models.Model):
    """Where one client of A2A wants a task's updates to be sent. The secrets are sealed, and are told to nobody."""

    task = models.ForeignKey(Task, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="push_configs")
    config_id = models.CharField(max_length=200)
    url = models.CharField(max_length=2000)
    token = models.TextField(blank=True, help_text="Sealed; sent along so that the client knows us.")
    scheme = models.CharField(max_length=64, blank=True, help_text="Of the Authorization header.")
    credentials = models.TextField(blank=True, help_text="Sealed.")
    told = models.PositiveIntegerField(default=0, help_text="The generation that was told last.")
    seen_seq = models.PositiveIntegerField(default=0, help_text="The task's last event when everything was told.")
    is_over = models.BooleanField(default=False, help_text="The task has ended, and the client knows all.")
    due_at = models.DateTimeField(default=timezone.now, help_text="When to try next.")
    failures = models.PositiveSmallIntegerField(default=0, help_text="In a row.")
    last_error = models.CharField(max_length=300, blank=True)
    dead_at = models.DateTimeField(null=True, help_text="When it was given up.")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["task", "config_id"], name="pushconfig_once")]
        indexes = [
            # Who is to be told next?
            models.Index(fields=["due_at"], condition=Q(is_over=False, dead_at__isnull=True), name="pushconfig_due"),
        ]

    def __str__(self) -> str:
        return f"{self.task_id} → {self.url}"

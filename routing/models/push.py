"""Where clients want to be told of their tasks."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from routing.models.ledger import Task


class PushConfig(models.Model):
    """Where one client of A2A wants a task's updates to be sent. The secrets are sealed, and are told to nobody."""

    pk = models.CompositePrimaryKey("task_id", "config_id")
    task = models.ForeignKey(Task, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="push_configs")
    config_id = models.CharField(max_length=200)
    url = models.CharField(max_length=2000)
    token = models.TextField(blank=True, help_text="Sealed; sent along so that the client knows us.")
    scheme = models.CharField(max_length=64, blank=True, help_text="Of the Authorization header.")
    credentials = models.TextField(blank=True, help_text="Sealed.")
    told = models.PositiveIntegerField(default=0, help_text="The generation that was told last.")
    created_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return f"{self.task_id} → {self.url}"

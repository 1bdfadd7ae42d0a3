"""Who leads, how far the log is read, and what has to outlive a process. Written by the controller and Celery."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils import timezone


class Controller(models.Model):
    """Who leads, and how far the log has been read. One row (id 1).

    ``epoch`` fences: every commit of a controller requires its own epoch to stand here still.
    """

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    holder = models.CharField(max_length=128, blank=True)
    epoch = models.PositiveIntegerField(default=0)
    beat = models.PositiveBigIntegerField(default=0, help_text="Rises while the leader lives.")
    position = models.CharField(max_length=40, default="0-0", help_text="Last stream entry whose effects are here.")
    commit_seq = models.PositiveBigIntegerField(default=0)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(id=1), name="controller_single_row")]

    def __str__(self) -> str:
        return f"epoch {self.epoch} held by {self.holder or 'nobody'}"


class FleetMemory(models.Model):
    """What the fleet has learned and a later controller should know, such as what a budget has spent."""

    pk = models.CompositePrimaryKey("kind", "name")
    kind = models.CharField(max_length=32)
    name = models.TextField()
    data = models.JSONField()
    at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "fleet memories"

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


class CeleryState(models.Model):
    """What Celery's result backend keeps for tasks that are not routed: results, groups, chords' bodies."""

    key = models.CharField(primary_key=True, max_length=255)
    value = models.TextField()
    expires_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return self.key


class ChordPart(models.Model):
    """A finished member of a chord's header. Unique, so a member that ran twice counts once."""

    pk = models.CompositePrimaryKey("group_id", "task_id")
    group_id = models.CharField(max_length=64)
    task_id = models.CharField(max_length=64)
    index = models.PositiveIntegerField(null=True)
    ok = models.BooleanField()
    result = models.JSONField(null=True)
    created_at = models.DateTimeField(default=timezone.now, db_index=True)

    def __str__(self) -> str:
        return f"{self.group_id} {self.task_id}"

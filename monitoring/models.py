"""Tables of monitoring. Alerts are written by ``monitoring.alerts`` alone."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils import timezone


class Severity(models.TextChoices):
    """How soon somebody should look."""

    WARNING = "warning"
    CRITICAL = "critical"


class AlertState(models.TextChoices):
    """``open`` → ``acknowledged`` → ``resolved``; what comes again after that is another alert."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"


class Alert(models.Model):
    """Something that needs somebody, from when it was noticed until it was over."""

    kind = models.CharField(max_length=64, help_text="What it is about; its page in docs/operations is called so.")
    key = models.CharField(max_length=300, help_text="What tells it from others of its kind.")
    severity = models.CharField(max_length=8, choices=Severity.choices)
    title = models.CharField(max_length=300)
    state = models.CharField(max_length=12, choices=AlertState.choices, default=AlertState.OPEN)
    opened_at = models.DateTimeField(default=timezone.now)
    acknowledged_at = models.DateTimeField(null=True)
    acknowledged_by = models.CharField(max_length=150, blank=True)
    resolved_at = models.DateTimeField(null=True)
    note = models.CharField(max_length=300, blank=True, help_text="What somebody said of it.")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["kind", "key"], condition=~Q(state="resolved"), name="alert_open_once"),
            models.CheckConstraint(
                condition=Q(state__in=["open", "acknowledged", "resolved"]), name="alert_state_known"
            ),
            models.CheckConstraint(condition=Q(severity__in=["warning", "critical"]), name="alert_severity_known"),
        ]
        indexes = [
            models.Index(fields=["-opened_at"], name="alert_newest"),  # the inbox
            models.Index(fields=["resolved_at"], condition=Q(resolved_at__isnull=False), name="alert_old"),  # retention
        ]

    def __str__(self) -> str:
        return self.title

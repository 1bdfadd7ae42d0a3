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


class Rule(models.Model):
    """When an alert is due. Written by ``monitoring.rulebook`` alone."""

    name = models.CharField(max_length=64, unique=True, help_text="The kind of its alerts.")
    enabled = models.BooleanField(default=True)
    severity = models.CharField(max_length=8, choices=Severity.choices, default=Severity.WARNING)
    title = models.CharField(max_length=200, help_text="What is wrong; {skill} stands for the label's value.")
    condition = models.JSONField(help_text="See “Alert rules” in docs/operations.md.")
    hold_s = models.FloatField(default=0.0, help_text="It is an alert once it has held for so many seconds.")
    runbook = models.CharField(max_length=300, blank=True, help_text="Address of a page; shipped rules have theirs.")
    updated_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(condition=Q(severity__in=["warning", "critical"]), name="rule_severity_known"),
            models.CheckConstraint(condition=Q(hold_s__gte=0), name="rule_hold_not_negative"),
        ]

    def __str__(self) -> str:
        return self.name


class Series(models.Model):
    """A metric with its labels. Written by ``monitoring.store`` alone, as are ``Tick`` and ``Chunk``."""

    name = models.CharField(max_length=100)
    labels = models.JSONField(default=dict)
    key = models.CharField(max_length=500, unique=True, help_text="Name and labels, as Prometheus writes them.")
    kind = models.CharField(max_length=12)
    seen_at = models.DateTimeField(help_text="When it was last measured, within ten minutes.")

    class Meta:
        verbose_name_plural = "series"
        constraints = [
            models.CheckConstraint(condition=Q(kind__in=["gauge", "counter", "distribution"]), name="series_kind_known")
        ]
        indexes = [models.Index(fields=["name"], name="series_of_name")]

    def __str__(self) -> str:
        return self.key


class Tick(models.Model):
    """Everything that was measured at one moment, until it is rolled up."""

    at = models.DateTimeField(primary_key=True)
    data = models.BinaryField(help_text="zlib of JSON: [[series, value], …]")

    def __str__(self) -> str:
        return self.at.isoformat()


class Chunk(models.Model):
    """The points of one series over a while, at one resolution."""

    series = models.ForeignKey(Series, models.CASCADE, db_index=False, related_name="chunks")
    step_s = models.PositiveIntegerField(help_text="0: as measured.")
    start = models.DateTimeField()
    data = models.BinaryField(help_text="zlib of JSON: [point, …]")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["series", "step_s", "start"], name="chunk_once")]
        indexes = [models.Index(fields=["step_s", "start"], name="chunk_old")]  # retention

    def __str__(self) -> str:
        return f"{self.series_id} {self.step_s} {self.start}"

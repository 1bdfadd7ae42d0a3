"""Who can do what: tenants, keys, skills, agents. Written by ``routing.registry``."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from routing.models.names import DEFAULT_TENANT, valid_name


class Tenant(models.Model):
    """A group of people whose agents, tasks and keys nobody else sees."""

    name = models.CharField(primary_key=True, max_length=64, validators=[valid_name])
    description = models.CharField(max_length=200, blank=True)
    weight = models.FloatField(
        default=1, help_text="Its share when tenants compete: with 2 it gets twice as much as one with 1."
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["name"]
        constraints = [models.CheckConstraint(condition=Q(weight__gt=0), name="tenant_weight_positive")]

    def __str__(self) -> str:
        return self.name


class Scope(models.TextChoices):
    """What a key may do."""

    TASKS_READ = "tasks:read"
    TASKS_WRITE = "tasks:write"
    AGENTS_READ = "agents:read"
    AGENTS_WRITE = "agents:write"
    AGENTS_WORK = "agents:work"  # register as a pull agent, and work as one


class ApiKey(models.Model):
    """A key of a program: ``a2a_<prefix>_<secret>``. Only the secret's SHA-256 is kept."""

    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="keys")
    name = models.CharField(max_length=100)
    prefix = models.CharField(max_length=12, unique=True, editable=False)
    digest = models.CharField(max_length=64, editable=False)
    scopes = models.JSONField(default=list)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        ordering = ["tenant", "name"]
        verbose_name = "API key"

    def __str__(self) -> str:
        return f"{self.name} (a2a_{self.prefix}_…)"


class Skill(models.Model):
    """One thing that can be asked for, with the shapes of what goes in and what comes out."""

    tenant = models.ForeignKey(Tenant, models.PROTECT, default=DEFAULT_TENANT, related_name="skills")
    name = models.CharField(max_length=64, validators=[valid_name])
    version = models.CharField(max_length=32, default="1")
    description = models.TextField(blank=True)
    input_schema = models.JSONField(default=dict, blank=True, help_text="JSON Schema 2020-12; {} accepts anything.")
    output_schema = models.JSONField(default=dict, blank=True, help_text="JSON Schema 2020-12; {} accepts anything.")
    idempotent = models.BooleanField(default=False, help_text="Doing it twice does no harm.")
    timeout_s = models.FloatField(default=300, help_text="Seconds one attempt may work.")
    max_attempts = models.PositiveSmallIntegerField(default=3, help_text="Attempts that began, before a task fails.")

    class Meta:
        ordering = ["tenant", "name", "version"]
        constraints = [
            models.UniqueConstraint(fields=["tenant", "name", "version"], name="skill_once_per_version"),
            models.CheckConstraint(condition=Q(timeout_s__gt=0), name="skill_timeout_positive"),
            models.CheckConstraint(condition=Q(max_attempts__gte=1), name="skill_attempts_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.name} v{self.version}"


class Agent(models.Model):
    """Anything that can do a task. ``executor`` and ``options`` say how it is run."""

    tenant = models.ForeignKey(Tenant, models.PROTECT, default=DEFAULT_TENANT, related_name="agents")
    name = models.CharField(max_length=64, validators=[valid_name], unique=True)
    description = models.TextField(blank=True)
    skills = models.ManyToManyField(Skill, related_name="agents", blank=True)
    executor = models.CharField(max_length=32, default="python")
    options = models.JSONField(default=dict, blank=True, help_text="What the executor needs; see its documentation.")
    capacity = models.PositiveIntegerField(default=4, help_text="Attempts it may hold at once.")
    labels = models.JSONField(default=dict, blank=True, help_text='Words to choose by, as {"gpu": "yes"}.')
    cost_usd = models.DecimalField(
        max_digits=12, decimal_places=6, default=0, help_text="Expected cost of one attempt."
    )
    enabled = models.BooleanField(default=True)
    draining = models.BooleanField(default=False, help_text="Takes nothing new, finishes what it has.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["name"]
        constraints = [models.CheckConstraint(condition=Q(capacity__gte=1), name="agent_capacity_positive")]

    def __str__(self) -> str:
        return self.name

    @property
    def queue(self) -> str:
        """The Celery queue its messages go to."""
        return f"agent.{self.name}"


class Revision(models.Model):
    """Counts changes of the registry, so that every process sees cheaply that something changed. One row (id 1)."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    number = models.PositiveBigIntegerField(default=0)
    changed_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(id=1), name="revision_single_row")]

    def __str__(self) -> str:
        return str(self.number)

    @classmethod
    def raise_number(cls) -> None:
        """Count one more change of the registry. Call it in the transaction that makes the change."""
        cls.objects.update_or_create(
            id=1, defaults={"number": F("number") + 1, "changed_at": timezone.now()}, create_defaults={"number": 1}
        )

"""Tables of routing: who can do what (registry), and what happened (ledger).

Registry rows are written by ``routing.registry``. Ledger rows are inserted at the door by ``routing.lifecycle`` and
written after that by the controller alone (``routing.ledger``).
"""

from __future__ import annotations

import uuid

import uuid_utils
from django.core.validators import RegexValidator
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from routing import strategies

DEFAULT_TENANT = "default"
NAME_PATTERN = r"^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?\Z"
NAME_RULE = "Use 1 to 64 of a-z, 0-9, dot, dash and underscore, with a letter or digit first and last."
valid_name = RegexValidator(NAME_PATTERN, NAME_RULE)


def new_id() -> uuid.UUID:
    """Return a UUIDv7: ids rise with time, so new rows stand together in every index."""
    return uuid.UUID(bytes=uuid_utils.uuid7().bytes)


class TaskState(models.TextChoices):
    """A2A's task states. Waiting and assigned are details of ``submitted``."""

    SUBMITTED = "submitted"
    WORKING = "working"
    INPUT_REQUIRED = "input-required"
    AUTH_REQUIRED = "auth-required"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"
    REJECTED = "rejected"


TERMINAL = (TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELED, TaskState.REJECTED)


class AttemptState(models.TextChoices):
    """``assigned`` → ``working`` → one of the others; a lost or stale attempt never changes again."""

    ASSIGNED = "assigned"
    WORKING = "working"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"
    LOST = "lost"
    RETURNED = "returned"


class Tenant(models.Model):
    """A group of people whose agents, tasks and keys nobody else sees."""

    name = models.CharField(primary_key=True, max_length=64, validators=[valid_name])
    description = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Scope(models.TextChoices):
    """What a key may do."""

    TASKS_READ = "tasks:read"
    TASKS_WRITE = "tasks:write"
    AGENTS_READ = "agents:read"
    AGENTS_WRITE = "agents:write"


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
    strategy = models.CharField(
        max_length=32,
        choices=[(name, name) for name in ("balanced", "least_loaded")],
        default=strategies.DEFAULT_STRATEGY,
        help_text="How the agent is chosen among those with a free slot.",
    )

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


class Task(models.Model):
    """One piece of work. Inserted at the door; every later change is the controller's."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="tasks", db_index=False)
    skill = models.CharField(max_length=64)
    version = models.CharField(max_length=32, blank=True, help_text="Empty: any version.")
    input = models.JSONField(null=True)  # JSON null is stored as NULL
    priority = models.PositiveSmallIntegerField(default=5)
    labels = models.JSONField(default=dict, help_text="What the agent must carry, as {label: value}.")
    agent_pinned = models.CharField(max_length=64, blank=True)
    agents_excluded = models.JSONField(default=list)
    not_before = models.DateTimeField(null=True)
    deadline = models.DateTimeField(null=True)
    timeout_s = models.FloatField()
    max_attempts = models.PositiveSmallIntegerField()
    idempotency_key = models.CharField(max_length=200, null=True)  # noqa: DJ001  (NULLs do not collide)
    request_digest = models.CharField(max_length=64)
    call = models.JSONField(null=True, help_text="The Celery call to publish unchanged, where it came by Celery.")
    parent = models.UUIDField(null=True)
    context = models.UUIDField(null=True)
    origin = models.CharField(max_length=64, blank=True, help_text="The door it came through.")

    # From here on the controller alone writes.
    state = models.CharField(max_length=16, choices=TaskState.choices, default=TaskState.SUBMITTED)
    detail = models.CharField(max_length=300, blank=True, help_text="Why it waits, in words.")
    seq = models.PositiveIntegerField(default=0, help_text="Number of its last event (A2A's generation).")
    attempt = models.PositiveIntegerField(default=0, help_text="The current fence: only this attempt may report.")
    tries = models.PositiveSmallIntegerField(default=0, help_text="Attempts that began and did not succeed.")
    agent = models.CharField(max_length=64, blank=True)
    output = models.JSONField(null=True)
    error = models.JSONField(null=True)
    progress = models.FloatField(null=True)
    cancel_requested_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(default=timezone.now)
    accepted_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "idempotency_key"],
                condition=Q(idempotency_key__isnull=False),
                name="task_once_per_idempotency_key",
            ),
            models.CheckConstraint(condition=Q(state__in=TaskState.values), name="task_state_known"),
            models.CheckConstraint(condition=Q(priority__lte=9), name="task_priority_0_to_9"),
            models.CheckConstraint(
                condition=Q(state__in=TERMINAL, finished_at__isnull=False)
                | (~Q(state__in=TERMINAL) & Q(finished_at__isnull=True)),
                name="task_finished_exactly_if_terminal",
            ),
        ]
        permissions = [("view_flower", "Can see Flower")]
        indexes = [
            # The controller looks here for tasks that no ring told it of.
            models.Index(fields=["created_at"], condition=Q(accepted_at__isnull=True), name="task_unaccepted"),
            # Rebuilding the fleet after a restart.
            models.Index(fields=["state"], condition=~Q(state__in=TERMINAL), name="task_live"),
            # GET /tasks, newest first; and the same over all tenants, for operators.
            models.Index(fields=["tenant", "-created_at", "-id"], name="task_newest"),
            models.Index(fields=["-created_at", "-id"], name="task_newest_of_all"),
            # The tasks of one piece of work.
            models.Index(fields=["context"], condition=Q(context__isnull=False), name="task_of_context"),
            # Retention deletes by the time a task ended.
            models.Index(fields=["finished_at"], condition=Q(finished_at__isnull=False), name="task_finished"),
        ]

    def __str__(self) -> str:
        return f"{self.skill} {self.id}"


class Attempt(models.Model):
    """One agent's try at a task. ``number`` is the fence: it only ever rises."""

    pk = models.CompositePrimaryKey("task_id", "number")
    task = models.ForeignKey(Task, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="attempts")
    number = models.PositiveIntegerField()
    agent = models.CharField(max_length=64)
    worker = models.CharField(max_length=128, blank=True)
    state = models.CharField(max_length=16, choices=AttemptState.choices, default=AttemptState.ASSIGNED)
    error = models.JSONField(null=True)
    assigned_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(state__in=AttemptState.values), name="attempt_state_known")]
        indexes = [
            # An agent's history, newest first.
            models.Index(fields=["agent", "-assigned_at"], name="attempt_of_agent"),
        ]

    def __str__(self) -> str:
        return f"{self.task_id} #{self.number}"


class Decision(models.Model):
    """Why an attempt went to its agent: the candidates with their scores, and who was left out and why."""

    pk = models.CompositePrimaryKey("task_id", "attempt")
    task = models.ForeignKey(Task, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="decisions")
    attempt = models.PositiveIntegerField()
    strategy = models.CharField(max_length=32)
    agent = models.CharField(max_length=64)
    at = models.DateTimeField()
    candidates = models.JSONField(help_text='[{"agent", "score", "terms": {...}}], best first')
    exclusions = models.JSONField(help_text='{"agent": "reason"}')

    def __str__(self) -> str:
        return f"{self.task_id} #{self.attempt} → {self.agent}"


class TaskEvent(models.Model):
    """One transition of a task. ``seq`` counts from 1 without gaps."""

    pk = models.CompositePrimaryKey("task_id", "seq")
    task = models.ForeignKey(Task, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="events")
    seq = models.PositiveIntegerField()
    kind = models.CharField(max_length=24)
    attempt = models.PositiveIntegerField(null=True)
    at = models.DateTimeField()
    data = models.JSONField(default=dict)

    def __str__(self) -> str:
        return f"{self.task_id} {self.seq} {self.kind}"


class Artifact(models.Model):
    """A file that an attempt produced. The bytes are in the store, under their SHA-256."""

    pk = models.CompositePrimaryKey("task_id", "seq")
    task = models.ForeignKey(Task, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="artifacts")
    seq = models.PositiveIntegerField(help_text="Number of the event that brought it.")
    attempt = models.PositiveIntegerField()
    name = models.CharField(max_length=200)
    sha256 = models.CharField(max_length=64, db_index=True)
    size = models.PositiveBigIntegerField()
    media_type = models.CharField(max_length=100, blank=True)
    at = models.DateTimeField()

    def __str__(self) -> str:
        return self.name


class Command(models.Model):
    """A request to the controller, in the ledger before it is acted on: so it survives a lost Redis."""

    class Kind(models.TextChoices):
        CANCEL = "cancel"  # end a task
        SETTLE = "settle"  # tell a failed task's canvas of its end

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant = models.ForeignKey(Tenant, models.PROTECT, db_index=False)
    kind = models.CharField(max_length=16, choices=Kind.choices)
    task = models.ForeignKey(Task, models.DO_NOTHING, db_constraint=False, db_index=False)
    by = models.CharField(max_length=150)
    reason = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    done_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [
            # The controller's inbox.
            models.Index(fields=["created_at"], condition=Q(done_at__isnull=True), name="command_open"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.task_id}"


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


class Revision(models.Model):
    """Counts changes of the registry, so that every process sees cheaply that something changed. One row (id 1)."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    number = models.PositiveBigIntegerField(default=0)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(id=1), name="revision_single_row")]

    def __str__(self) -> str:
        return str(self.number)

    @classmethod
    def raise_number(cls) -> None:
        """Count one more change of the registry. Call it in the transaction that makes the change."""
        cls.objects.update_or_create(id=1, defaults={"number": F("number") + 1}, create_defaults={"number": 1})


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

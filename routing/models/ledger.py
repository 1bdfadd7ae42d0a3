"""What happened. Rows are inserted at the door by ``routing.lifecycle``; after that the controller alone writes."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils import timezone

from routing.models.names import new_id
from routing.models.registry import Tenant


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


class Task(models.Model):
    """One piece of work. Inserted at the door; every later change is the controller's."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="tasks", db_index=False)
    skill = models.CharField(max_length=64)
    version = models.CharField(max_length=32, blank=True, help_text="Empty: any version.")
    input = models.JSONField(null=True)  # JSON null is stored as NULL
    priority = models.PositiveSmallIntegerField(default=5)
    labels = models.JSONField(default=dict, help_text="What the agent must carry, as {label: value}.")
    requires = models.CharField(max_length=2000, blank=True, help_text="A selector over the agent's labels.")
    agent_pinned = models.CharField(max_length=64, blank=True)
    agents_excluded = models.JSONField(default=list)
    not_before = models.DateTimeField(null=True)
    deadline = models.DateTimeField(null=True)
    timeout_s = models.FloatField()
    max_attempts = models.PositiveSmallIntegerField()
    wait_s = models.FloatField(null=True, help_text="It fails when it has waited so long.")
    retries = models.JSONField(null=True, help_text="Kind of error to rule, in place of the policy's.")
    idempotency_key = models.CharField(max_length=200, null=True)  # noqa: DJ001  (NULLs do not collide)
    request_digest = models.CharField(max_length=64)
    call = models.JSONField(null=True, help_text="The Celery call to publish unchanged, where it came by Celery.")
    parent = models.UUIDField(null=True)
    context = models.UUIDField(null=True)
    origin = models.CharField(max_length=64, blank=True, help_text="The door it came through.")
    owner = models.CharField(max_length=200, blank=True, help_text="Who alone may see it by A2A; empty: not by A2A.")
    size = models.FloatField(default=0, help_text="How much work it is; bytes of the input unless the caller knows.")
    concurrency_key = models.CharField(
        max_length=200, blank=True, help_text="Limits per key count those with the same."
    )
    affinity = models.CharField(max_length=200, blank=True, help_text="Those with the same like the same agent.")
    singleton_key = models.CharField(max_length=200, null=True)  # noqa: DJ001  (NULLs do not collide)
    debounce_key = models.CharField(max_length=200, null=True)  # noqa: DJ001  (few have one; the index leaves NULLs out)
    throttle_key = models.CharField(max_length=200, null=True)  # noqa: DJ001  (the same)
    budget = models.JSONField(null=True, help_text="Its own caps: {usd, tokens, wall_s, attempts}.")

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
    status_at = models.DateTimeField(default=timezone.now, help_text="When its state changed last.")
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
            models.UniqueConstraint(
                fields=["tenant", "singleton_key"],
                condition=Q(singleton_key__isnull=False) & ~Q(state__in=TERMINAL),
                name="task_singleton_lives_once",
            ),
            models.CheckConstraint(condition=Q(state__in=TaskState.values), name="task_state_known"),
            models.CheckConstraint(condition=Q(size__gte=0), name="task_size_not_negative"),
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
            # A2A's ListTasks, by the time of the last status.
            models.Index(fields=["tenant", "owner", "-status_at", "-id"], condition=~Q(owner=""), name="task_of_owner"),
            # The tasks of one piece of work.
            models.Index(fields=["context"], condition=Q(context__isnull=False), name="task_of_context"),
            # The door: the task that waits under the same debounce key.
            models.Index(
                fields=["tenant", "debounce_key", "-created_at"],
                condition=Q(debounce_key__isnull=False, state="submitted"),
                name="task_debounced",
            ),
            # The door: how many came under the same throttle key lately.
            models.Index(
                fields=["tenant", "throttle_key", "-created_at"],
                condition=Q(throttle_key__isnull=False),
                name="task_throttled",
            ),
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
    usage = models.JSONField(null=True, help_text='What the agent says it has used, such as {"usd": 0.02}.')
    hedge = models.BooleanField(default=False, help_text="It flew beside another attempt that took long.")
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
    policy = models.CharField(max_length=64, blank=True)
    revision = models.PositiveBigIntegerField(default=0, help_text="Of the configuration.")
    strategy = models.CharField(max_length=32)
    agent = models.CharField(max_length=64)
    at = models.DateTimeField()
    candidates = models.JSONField(help_text='[{"agent", "score", "terms": {...}}], best first')
    exclusions = models.JSONField(help_text='{"agent": "reason"}')
    more = models.PositiveIntegerField(default=0, help_text="Candidates and exclusions that are not listed.")
    waited_for = models.CharField(max_length=300, blank=True, help_text="What the task waited for last, in words.")
    shadow = models.JSONField(null=True, help_text='What another strategy would have done: {"strategy", "agent"}.')

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
        ANSWER = "answer"  # go on with what was said
        RATE = "rate"  # learn how good a task's output was

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant = models.ForeignKey(Tenant, models.PROTECT, db_index=False)
    kind = models.CharField(max_length=16, choices=Kind.choices)
    task = models.ForeignKey(Task, models.DO_NOTHING, db_constraint=False, db_index=False)
    by = models.CharField(max_length=150)
    reason = models.CharField(max_length=300, blank=True)
    data = models.JSONField(null=True, help_text='Of a rating: {"agent", "skill", "score", "before"}.')
    created_at = models.DateTimeField(default=timezone.now)
    done_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [
            # The controller's inbox.
            models.Index(fields=["created_at"], condition=Q(done_at__isnull=True), name="command_open"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.task_id}"


class TaskMessage(models.Model):
    """What somebody said to a task. The first, number 0, made it, where it came as a message; others are answers."""

    pk = models.CompositePrimaryKey("task_id", "number")
    task = models.ForeignKey(Task, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="messages")
    number = models.PositiveIntegerField()
    message_id = models.CharField(max_length=200, blank=True, help_text="The sender's; empty where it had none.")
    input = models.JSONField(null=True, help_text="What the agent gets.")
    message = models.JSONField(null=True, help_text="As it came by A2A.")
    seq = models.PositiveIntegerField(help_text="Number of the task's last event before it.")
    by = models.CharField(max_length=150, blank=True)
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["task", "message_id"], condition=~Q(message_id=""), name="taskmessage_once_per_message_id"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.task_id} message {self.number}"


class Feedback(models.Model):
    """What a caller says of a task's output. One row per task and caller: a later word replaces an earlier one."""

    pk = models.CompositePrimaryKey("task_id", "by")
    task = models.ForeignKey(Task, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="feedback")
    by = models.CharField(max_length=150)
    score = models.FloatField()
    comment = models.TextField(blank=True)
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(score__gte=0, score__lte=1), name="feedback_score_0_to_1"),
        ]
        verbose_name_plural = "feedback"

    def __str__(self) -> str:
        return f"{self.task_id} {self.score} by {self.by}"

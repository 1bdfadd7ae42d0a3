"""Tables of coordination: workflows as written, and runs as they go.

Definitions are written by ``coordination.workflows``. A run's row is inserted at the door by ``coordination.runs``, and
written after that, with all that belongs to it, by the controller alone (``coordination.reducer``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from routing.models import DEFAULT_TENANT, Tenant, new_id
from routing.models.names import valid_name

if TYPE_CHECKING:
    from coordination.graph import Graph, Step
    from coordination.steps import Draft


class RunState(models.TextChoices):
    """Where a run stands. ``completed``, ``failed`` and ``canceled`` are for good, until somebody retries or reruns."""

    PENDING = "pending"
    RUNNING = "running"
    PAUSED = "paused"
    CANCELING = "canceling"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"


ENDED = (RunState.COMPLETED, RunState.FAILED, RunState.CANCELED)


class StepState(models.TextChoices):
    """Where a step of a run stands; no row: it has not begun."""

    WAITING = "waiting"
    READY = "ready"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELED = "canceled"
    UNDOING = "undoing"
    UNDONE = "undone"


class Definition(models.Model):
    """A graph as text, under its checksum: what versions and runs pin. Never changes."""

    checksum = models.CharField(primary_key=True, max_length=64)
    source = models.TextField(help_text="JSON, with nothing left to infer.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    def __str__(self) -> str:
        return self.checksum[:12]


class Workflow(models.Model):
    """A name under which versions of a graph stand."""

    tenant = models.ForeignKey(Tenant, models.PROTECT, default=DEFAULT_TENANT, related_name="workflows")
    name = models.CharField(max_length=64, validators=[valid_name])
    description = models.CharField(max_length=300, blank=True)
    enabled = models.BooleanField(default=True, help_text="Off: no new run begins; runs under way go on.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["tenant", "name"]
        constraints = [models.UniqueConstraint(fields=["tenant", "name"], name="workflow_once")]

    def __str__(self) -> str:
        return self.name

    @classmethod
    def from_steps(cls, name: str, steps: Iterable[Draft | Step], **more: Any) -> Graph:
        """Return the graph of a workflow written in Python, the same as from YAML: see ``coordination.steps``."""
        from coordination.steps import from_steps

        return from_steps(name, steps, **more)


class WorkflowVersion(models.Model):
    """One state of a workflow. Never changes: editing makes the next one."""

    workflow = models.ForeignKey(Workflow, models.PROTECT, related_name="versions")
    number = models.PositiveIntegerField()
    definition = models.ForeignKey(Definition, models.PROTECT, related_name="+")
    author = models.CharField(max_length=150, blank=True)
    note = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["workflow", "-number"]
        constraints = [
            models.UniqueConstraint(fields=["workflow", "number"], name="version_once"),
            models.CheckConstraint(condition=Q(number__gte=1), name="version_from_1"),
        ]

    def __str__(self) -> str:
        return f"{self.workflow} v{self.number}"


class Run(models.Model):
    """One execution of a graph. Inserted at the door; every later change is the controller's."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="runs", db_index=False)
    workflow = models.CharField(max_length=64, help_text="Its name, or what a canvas is called.")
    version = models.PositiveIntegerField(default=0, help_text="0: a graph of its own, without a workflow.")
    definition = models.ForeignKey(Definition, models.PROTECT, related_name="+")
    input = models.JSONField(null=True)
    priority = models.PositiveSmallIntegerField(default=5)
    context = models.UUIDField(null=True)
    parent = models.UUIDField(null=True, help_text="The run that it is a step of.")
    parent_step = models.CharField(max_length=100, blank=True)
    depth = models.PositiveSmallIntegerField(default=0)
    overrides = models.JSONField(default=dict)
    seeds = models.JSONField(default=list, help_text="How steps had ended in the run that it was forked from.")
    forked_from = models.UUIDField(null=True)
    reason = models.CharField(max_length=300, blank=True, help_text="Why it was made.")
    schedule = models.BigIntegerField(null=True, help_text="That made it.")
    due = models.DateTimeField(null=True, help_text="The schedule's time that it is for.")
    idempotency_key = models.CharField(max_length=200, null=True)  # noqa: DJ001  (NULLs do not collide)
    request_digest = models.CharField(max_length=64, blank=True)
    by = models.CharField(max_length=150, blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    # From here on the controller alone writes.
    accepted_at = models.DateTimeField(null=True)
    state = models.CharField(max_length=16, choices=RunState.choices, default=RunState.PENDING)
    seq = models.PositiveIntegerField(default=0, help_text="Number of its last event.")
    round = models.PositiveIntegerField(default=1)
    ended_steps = models.PositiveIntegerField(default=0)
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    deadline = models.FloatField(null=True, help_text="Seconds since the epoch.")
    closing = models.CharField(max_length=16, blank=True)
    close_at = models.FloatField(null=True, help_text="Seconds since the epoch.")
    compensate = models.BooleanField(default=False)
    output = models.JSONField(null=True)
    error = models.JSONField(null=True)
    unconfirmed = models.JSONField(default=list)
    commands = models.JSONField(default=list)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "idempotency_key"],
                condition=Q(idempotency_key__isnull=False),
                name="run_once_per_idempotency_key",
            ),
            models.CheckConstraint(condition=Q(state__in=RunState.values), name="run_state_known"),
            models.CheckConstraint(condition=Q(priority__lte=9), name="run_priority_0_to_9"),
        ]
        indexes = [
            # The controller looks here for runs that no ring told it of.
            models.Index(fields=["created_at"], condition=Q(accepted_at__isnull=True), name="run_unaccepted"),
            # Taking up what was under way after a restart.
            models.Index(fields=["state"], condition=~Q(state__in=ENDED), name="run_live"),
            # GET /runs, newest first; and the same over all tenants, for operators.
            models.Index(fields=["tenant", "-created_at", "-id"], name="run_newest"),
            models.Index(fields=["-created_at", "-id"], name="run_newest_of_all"),
            # The runs of a workflow that are active, for its limit.
            models.Index(fields=["tenant", "workflow", "state"], name="run_of_workflow"),
            # Sub-runs of a run.
            models.Index(fields=["parent"], condition=Q(parent__isnull=False), name="run_of_parent"),
            # Does the last run of a schedule go on?
            models.Index(fields=["schedule", "state"], condition=Q(schedule__isnull=False), name="run_of_schedule"),
            # Retention deletes by the time a run ended.
            models.Index(fields=["ended_at"], condition=Q(ended_at__isnull=False), name="run_ended"),
        ]

    def __str__(self) -> str:
        return f"{self.workflow} {self.id}"


class StepRun(models.Model):
    """A step that has begun. The columns are those of ``rows.StepRow``."""

    pk = models.CompositePrimaryKey("run_id", "step")
    run = models.ForeignKey(Run, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="steps")
    step = models.CharField(max_length=100)
    state = models.CharField(max_length=16, choices=StepState.choices)
    round = models.PositiveIntegerField()
    order = models.PositiveIntegerField(default=0)
    output = models.JSONField(null=True)
    error = models.JSONField(null=True)
    undo_error = models.JSONField(null=True)
    agent = models.CharField(max_length=64, blank=True)
    attempt = models.PositiveIntegerField(null=True)
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    facts = models.JSONField(default=dict, help_text="What else the engine has to know.")

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(state__in=StepState.values), name="step_state_known")]

    def __str__(self) -> str:
        return f"{self.run_id} {self.step}"


class MapItem(models.Model):
    """An item of a map that has ended, or has gone over to its fallback."""

    pk = models.CompositePrimaryKey("run_id", "step", "round", "item")
    run = models.ForeignKey(Run, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="items")
    step = models.CharField(max_length=100)
    round = models.PositiveIntegerField()
    item = models.PositiveIntegerField()
    state = models.CharField(max_length=16)
    output = models.JSONField(null=True)
    error = models.JSONField(null=True)

    def __str__(self) -> str:
        return f"{self.run_id} {self.step}[{self.item}]"


class StepTask(models.Model):
    """Which task was submitted for which step, so that people find the one from the other."""

    task = models.UUIDField(primary_key=True)
    run = models.ForeignKey(Run, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="tasks")
    step = models.CharField(max_length=100)
    round = models.PositiveIntegerField()
    item = models.PositiveIntegerField(null=True)
    use = models.CharField(max_length=16, help_text="step, fallback or undo")

    class Meta:
        indexes = [models.Index(fields=["run", "step"], name="steptask_of_step")]  # the run's page

    def __str__(self) -> str:
        return f"{self.task} for {self.step}"


class RunEvent(models.Model):
    """One transition of a run or of one of its steps. ``seq`` counts from 1 without gaps."""

    pk = models.CompositePrimaryKey("run_id", "seq")
    run = models.ForeignKey(Run, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="events")
    seq = models.PositiveIntegerField()
    kind = models.CharField(max_length=32)
    step = models.CharField(max_length=100, blank=True)
    round = models.PositiveIntegerField(default=0)
    at = models.DateTimeField()
    data = models.JSONField(default=dict)

    def __str__(self) -> str:
        return f"{self.run_id} {self.seq} {self.kind}"


class Approval(models.Model):
    """A question to people, and its answer."""

    class State(models.TextChoices):
        OPEN = "open"
        ANSWERED = "answered"
        EXPIRED = "expired"
        CANCELED = "canceled"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="approvals", db_index=False)
    run = models.ForeignKey(Run, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="approvals")
    step = models.CharField(max_length=100)
    round = models.PositiveIntegerField()
    title = models.CharField(max_length=300)
    text = models.TextField(blank=True)
    schema = models.JSONField(default=dict, help_text="JSON Schema of the answer; {} for yes or no.")
    who = models.JSONField(default=list, help_text='User names and "group:NAME"; [] is any operator.')
    state = models.CharField(max_length=16, choices=State.choices, default=State.OPEN)
    asked_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(null=True)
    reminded_at = models.DateTimeField(null=True)
    answer = models.JSONField(null=True)
    answered_by = models.CharField(max_length=150, blank=True)
    answered_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["run", "step", "round"], name="approval_once"),
            models.CheckConstraint(
                condition=Q(state__in=["open", "answered", "expired", "canceled"]), name="approval_state_known"
            ),
        ]
        indexes = [models.Index(fields=["-asked_at"], condition=Q(state="open"), name="approval_open")]  # the inbox

    def __str__(self) -> str:
        return self.title


class SignalReceived(models.Model):
    """A signal that came for a run, kept until a step waits for it."""

    pk = models.CompositePrimaryKey("run_id", "id")
    run = models.ForeignKey(Run, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="signals")
    id = models.CharField(max_length=64)
    number = models.PositiveIntegerField()
    name = models.CharField(max_length=100)
    payload = models.JSONField(null=True)
    taken_by = models.CharField(max_length=100, blank=True)

    def __str__(self) -> str:
        return f"{self.name} for {self.run_id}"


class RunCommand(models.Model):
    """What somebody wants of a run, in the ledger before it is acted on."""

    class Kind(models.TextChoices):
        PAUSE = "pause"
        RESUME = "resume"
        CANCEL = "cancel"
        RETRY = "retry"
        SKIP = "skip"
        RERUN = "rerun"
        FORK = "fork"
        SIGNAL = "signal"
        ANSWER = "answer"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    run = models.ForeignKey(Run, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="inbox")
    kind = models.CharField(max_length=16, choices=Kind.choices)
    data = models.JSONField(default=dict)
    by = models.CharField(max_length=150)
    reason = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    done_at = models.DateTimeField(null=True)
    refusal = models.CharField(max_length=300, blank=True, help_text="Why it was not done.")

    class Meta:
        indexes = [
            # The controller's inbox.
            models.Index(fields=["created_at"], condition=Q(done_at__isnull=True), name="runcommand_open"),
            # What was done to a run.
            models.Index(fields=["run", "created_at"], name="runcommand_of_run"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.run_id}"


class Schedule(models.Model):
    """When runs of a workflow begin by themselves. Written by ``coordination.schedules`` alone."""

    class Overlap(models.TextChoices):
        SKIP = "skip", "skip the time"
        QUEUE = "queue", "wait for its end"
        ALLOW = "allow", "run beside it"

    class CatchUp(models.TextChoices):
        SKIP = "skip", "pass over them"
        LATEST = "latest", "run once, for the latest"
        ALL = "all", "run for each"

    tenant = models.ForeignKey(Tenant, models.PROTECT, default=DEFAULT_TENANT, related_name="schedules")
    name = models.CharField(max_length=64, validators=[valid_name])
    description = models.CharField(max_length=300, blank=True)
    workflow = models.CharField(max_length=64, help_text="Its name; each run takes the newest version.")
    input = models.JSONField(
        null=True, blank=True, help_text="Of every run. In the workflow, {{ run.due }} is the time it is for."
    )
    priority = models.PositiveSmallIntegerField(null=True, blank=True, help_text="0 to 9; empty: the workflow's.")
    cron = models.CharField(
        max_length=100, blank=True, help_text="Minute, hour, day, month, weekday: 30 6 * * 1-5 is 06:30 on workdays."
    )
    every_s = models.FloatField(null=True, blank=True, help_text="Seconds from one time to the next, instead of cron.")
    zone = models.CharField("time zone", max_length=64, default="UTC", help_text="Such as Europe/Berlin.")
    overlap = models.CharField(
        max_length=8, choices=Overlap.choices, default=Overlap.SKIP, help_text="When the run before it goes on."
    )
    catch_up = models.CharField(
        max_length=8, choices=CatchUp.choices, default=CatchUp.LATEST, help_text="Times missed while all was down."
    )
    catch_up_s = models.FloatField(default=86400.0, help_text="Seconds; what was missed longer ago is passed over.")
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    changed_by = models.CharField(max_length=150, blank=True, editable=False)

    after = models.DateTimeField(default=timezone.now, editable=False, help_text="Times until then are settled.")
    held = models.DateTimeField(null=True, editable=False, help_text="The first time that waits for the last run.")
    next_at = models.DateTimeField(null=True, editable=False, help_text="When to look at it again.")
    trouble = models.CharField(max_length=300, blank=True, editable=False)

    class Meta:
        ordering = ["tenant", "name"]
        constraints = [
            models.UniqueConstraint(fields=["tenant", "name"], name="schedule_once"),
            models.CheckConstraint(
                condition=(Q(cron="") & Q(every_s__gt=0)) | (~Q(cron="") & Q(every_s__isnull=True)),
                name="schedule_cron_or_distance",
            ),
            models.CheckConstraint(condition=Q(overlap__in=["skip", "queue", "allow"]), name="schedule_overlap_known"),
            models.CheckConstraint(condition=Q(catch_up__in=["skip", "latest", "all"]), name="schedule_catch_up_known"),
        ]
        # The controller: which one is due first.
        indexes = [models.Index(fields=["next_at"], condition=Q(next_at__isnull=False), name="schedule_next")]

    def __str__(self) -> str:
        return self.name


class ScheduleTime(models.Model):
    """What became of one of a schedule's times."""

    class Cause(models.TextChoices):
        TIME = "time"
        BACKFILL = "backfill"
        HAND = "hand"

    class Outcome(models.TextChoices):
        STARTED = "started"
        SKIPPED = "skipped"
        MISSED = "missed"
        REFUSED = "refused"

    schedule = models.ForeignKey(Schedule, models.CASCADE, related_name="times")
    due = models.DateTimeField()
    at = models.DateTimeField(default=timezone.now, help_text="When it was settled.")
    cause = models.CharField(max_length=8, choices=Cause.choices)
    outcome = models.CharField(max_length=8, choices=Outcome.choices)
    why = models.CharField(max_length=300, blank=True)
    run = models.UUIDField(null=True)
    by = models.CharField(max_length=150, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["schedule", "due", "cause"], name="scheduletime_once"),
            models.CheckConstraint(
                condition=Q(outcome__in=["started", "skipped", "missed", "refused"]), name="scheduletime_outcome_known"
            ),
        ]
        indexes = [models.Index(fields=["schedule", "-at"], name="scheduletime_newest")]  # its page

    def __str__(self) -> str:
        return f"{self.schedule_id} {self.due} {self.outcome}"


class ContextKey(models.Model):
    """A value that the tasks of a context share. Written by ``coordination.state`` alone."""

    class Rule(models.TextChoices):
        REJECT = "reject"
        LAST_WRITE = "last_write"
        MERGE = "merge"
        APPEND = "append"
        MAX = "max"
        MIN = "min"

    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="+", db_index=False)
    context = models.UUIDField()
    key = models.CharField(max_length=200)
    value = models.JSONField(null=True)
    version = models.PositiveIntegerField(help_text="Goes on when the key is removed and comes again.")
    rule = models.CharField(max_length=10, choices=Rule.choices, default=Rule.REJECT)
    is_there = models.BooleanField(default=True)
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["tenant", "context", "key"], name="contextkey_once"),
            models.CheckConstraint(
                condition=Q(rule__in=["reject", "last_write", "merge", "append", "max", "min"]),
                name="contextkey_rule_known",
            ),
        ]
        indexes = [models.Index(fields=["at"], name="contextkey_age")]  # retention

    def __str__(self) -> str:
        return f"{self.context} {self.key}"


class ContextWrite(models.Model):
    """One write of a key: what it made of it, and who did it."""

    pk = models.CompositePrimaryKey("key_id", "version")
    key = models.ForeignKey(ContextKey, models.CASCADE, related_name="writes", db_index=False)
    version = models.PositiveIntegerField()
    verb = models.CharField(max_length=8, help_text="put, patch or delete")
    value = models.JSONField(null=True)
    collided = models.BooleanField(default=False, help_text="The rule joined it with what was there.")
    by = models.CharField(max_length=150)
    task = models.UUIDField(null=True)
    at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return f"{self.key_id} v{self.version}"


class ContextLock(models.Model):
    """An advisory lock of a context. Free when ``expires_at`` is past. Written by ``coordination.locks`` alone."""

    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="+", db_index=False)
    context = models.UUIDField()
    key = models.CharField(max_length=200)
    token = models.PositiveBigIntegerField(help_text="Raised each time somebody gets it.")
    holder = models.CharField(max_length=200)
    since = models.DateTimeField()
    expires_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "context", "key"], name="contextlock_once")]
        indexes = [models.Index(fields=["expires_at"], name="contextlock_expiry")]  # retention

    def __str__(self) -> str:
        return f"{self.context} {self.key} #{self.token}"


class RunView(models.Model):
    """Filters of the list of runs that somebody keeps under a name."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="run_views")
    name = models.CharField(max_length=60)
    query = models.CharField(max_length=500, help_text="The filters, as they stand in the address.")
    is_shared = models.BooleanField(default=False, help_text="Others see it, too.")

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["owner", "name"], name="runview_once")]

    def __str__(self) -> str:
        return self.name


def newest(workflow: Workflow) -> WorkflowVersion | None:
    """Return the workflow's newest version, None if it has none yet."""
    return workflow.versions.order_by(F("number").desc()).first()

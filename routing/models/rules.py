"""By which rules tasks are routed. Written by ``routing.rulebook``."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from routing.models.names import valid_name
from routing.models.registry import Tenant

GLOB_HELP = "A name, or a pattern with * and ?, such as code.*"


class WhenShut(models.TextChoices):
    """What becomes of tasks while breakers exclude every able agent."""

    WAIT = "wait", "they wait"
    FAIL = "fail", "they fail at once"


class Per(models.TextChoices):
    """What a limit is counted apart for."""

    ALL = "all", "all together"
    TENANT = "tenant", "each tenant"
    SKILL = "skill", "each skill"
    AGENT = "agent", "each agent"
    KEY = "key", "each concurrency key"


class OnFull(models.TextChoices):
    """What becomes of a task for which a limit has no room."""

    QUEUE = "queue", "it waits"
    REJECT = "reject", "it is rejected"
    CANCEL_OLDEST = "cancel_oldest", "the oldest that runs is cancelled"


class Unit(models.TextChoices):
    """What a budget counts."""

    USD = "usd", "US dollars"
    TOKENS = "tokens", "tokens"
    WALL_S = "wall_s", "seconds of work"
    ATTEMPTS = "attempts", "attempts"


class BudgetScope(models.TextChoices):
    """What a budget is counted apart for."""

    ALL = "all", "all together"
    TENANT = "tenant", "each tenant"
    RUN = "run", "each run (context)"
    TASK = "task", "each task"
    AGENT = "agent", "each agent"


class ContainmentScope(models.TextChoices):
    """What a switch holds work back from."""

    AGENT = "agent", "one agent"
    SKILL = "skill", "a skill"
    TENANT = "tenant", "a tenant"
    EVERYTHING = "everything", "everything"


class ContainmentMode(models.TextChoices):
    """Whether a switch is tried, or thrown."""

    OBSERVE = "observe", "observe: count what it would hold"
    ENFORCE = "enforce", "enforce: hold it"


class Named(models.Model):
    """What rows of all rules have."""

    name = models.CharField(max_length=64, unique=True, validators=[valid_name])
    enabled = models.BooleanField(default=True)
    note = models.TextField(blank=True, help_text="Why it is there, for those who come after you.")
    updated_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return self.name


class Rule(Named):
    """Which tasks a rule speaks of; the plain one speaks of all."""

    skill = models.CharField(max_length=64, default="*", help_text=GLOB_HELP)
    tenant = models.ForeignKey(Tenant, models.PROTECT, null=True, blank=True, related_name="+", help_text="Empty: any.")
    labels = models.CharField(
        max_length=2000, blank=True, help_text="Over the labels a task asks for, such as gpu=yes, region in (eu, us)."
    )
    priority_low = models.PositiveSmallIntegerField(default=0, help_text="Priorities from …")
    priority_high = models.PositiveSmallIntegerField(default=9, help_text="… to, inclusive.")

    class Meta:
        abstract = True
        constraints = [
            models.CheckConstraint(
                condition=Q(priority_high__lte=9, priority_low__lte=F("priority_high")),
                name="%(class)s_priorities_in_order",
            )
        ]


class Policy(Rule):
    """How the tasks it speaks of are routed. The first one that does counts; what is empty is left to the skill."""

    position = models.PositiveIntegerField(
        default=100, help_text="The smaller is asked first; of equals the narrower rule."
    )
    strategy = models.CharField(
        max_length=32, default="balanced", help_text="How the agent is chosen among those with a free slot."
    )
    weights = models.JSONField(default=dict, blank=True, help_text='Of the strategy, such as {"cost": 2}.')
    order = models.JSONField(
        default=list, blank=True, help_text='Agents, the preferred first, for the strategy ordered: ["a", "b"].'
    )
    wait_s = models.FloatField(null=True, blank=True, help_text="A task that has waited so many seconds fails.")
    timeout_s = models.FloatField(null=True, blank=True, help_text="Seconds one attempt may work.")
    max_attempts = models.PositiveSmallIntegerField(null=True, blank=True, help_text="Attempts that began.")
    retries = models.JSONField(
        default=dict,
        blank=True,
        help_text='By kind of error, * for the others: {"timeout": {"attempts": 2, "backoff_s": 5, "on": "another"}}.',
    )
    when_shut = models.CharField(
        max_length=8,
        choices=WhenShut.choices,
        default=WhenShut.WAIT,
        help_text="What becomes of tasks while circuit breakers exclude every able agent.",
    )
    hedge = models.BooleanField(
        default=False, help_text="A second attempt flies beside a slow one, for skills that are idempotent."
    )
    hedge_share = models.FloatField(
        default=0.05, help_text="Of all attempts at most so many are second ones, 0 to 0.5."
    )
    hedge_busy = models.FloatField(default=0.8, help_text="Not when more of the slots are in use, 0 to 1.")
    shadow = models.CharField(
        max_length=32, blank=True, help_text="A strategy that decides beside the real one, to compare them."
    )

    class Meta:
        ordering = ["position", "name"]
        verbose_name_plural = "policies"
        constraints = [
            *Rule.Meta.constraints,
            models.CheckConstraint(condition=Q(when_shut__in=WhenShut.values), name="policy_when_shut_known"),
            models.CheckConstraint(
                condition=Q(hedge_share__gt=0, hedge_share__lte=0.5, hedge_busy__gt=0, hedge_busy__lte=1),
                name="policy_hedging_in_range",
            ),
            models.CheckConstraint(
                condition=(Q(wait_s=None) | Q(wait_s__gt=0))
                & (Q(timeout_s=None) | Q(timeout_s__gt=0))
                & (Q(max_attempts=None) | Q(max_attempts__gte=1)),
                name="policy_numbers_positive",
            ),
        ]


class Limit(Rule):
    """So many attempts at once, or per second, of the tasks it speaks of."""

    agent = models.CharField(max_length=64, default="*", help_text=GLOB_HELP)
    per = models.CharField(max_length=8, choices=Per.choices, default=Per.ALL, help_text="Counted apart for.")
    max_running = models.PositiveIntegerField(null=True, blank=True, help_text="Attempts at once.")
    rate_per_s = models.FloatField(
        null=True, blank=True, help_text="Attempts that begin per second; 0.1 is 6 a minute."
    )
    burst = models.PositiveIntegerField(default=1, help_text="Attempts that may begin at once after a quiet time.")
    on_full = models.CharField(
        max_length=16, choices=OnFull.choices, default=OnFull.QUEUE, help_text="What becomes of a task without room."
    )

    class Meta:
        ordering = ["name"]
        constraints = [
            *Rule.Meta.constraints,
            models.CheckConstraint(condition=Q(per__in=Per.values), name="limit_per_known"),
            models.CheckConstraint(condition=Q(on_full__in=OnFull.values), name="limit_on_full_known"),
            models.CheckConstraint(
                condition=Q(burst__gte=1)
                & (Q(max_running__isnull=False, max_running__gte=1) | Q(max_running=None, rate_per_s__isnull=False))
                & (Q(rate_per_s__gt=0) | Q(rate_per_s=None)),
                name="limit_limits_something",
            ),
        ]


class Budget(Rule):
    """So much money, tokens, time or attempts for the tasks it speaks of."""

    agent = models.CharField(max_length=64, default="*", help_text=GLOB_HELP)
    unit = models.CharField(max_length=8, choices=Unit.choices, default=Unit.USD)
    amount = models.FloatField(help_text="In the unit; 0 lets nothing through.")
    scope = models.CharField(
        max_length=8, choices=BudgetScope.choices, default=BudgetScope.ALL, help_text="Counted apart for."
    )
    period_s = models.FloatField(
        null=True,
        blank=True,
        help_text="Seconds after which it is full again: 86400 is a day UTC. Empty: once for all.",
    )
    hard = models.BooleanField(default=True, help_text="Nothing begins that might overspend; else it only warns.")

    class Meta:
        ordering = ["name"]
        constraints = [
            *Rule.Meta.constraints,
            models.CheckConstraint(condition=Q(unit__in=Unit.values), name="budget_unit_known"),
            models.CheckConstraint(condition=Q(scope__in=BudgetScope.values), name="budget_scope_known"),
            models.CheckConstraint(
                condition=Q(amount__gte=0) & (Q(period_s=None) | Q(period_s__gte=1)), name="budget_numbers_positive"
            ),
        ]


class Containment(Named):
    """A switch that holds work back. ``enabled`` False is released."""

    scope = models.CharField(max_length=12, choices=ContainmentScope.choices, default=ContainmentScope.AGENT)
    value = models.CharField(
        max_length=64, blank=True, help_text="The agent, the tenant, or a pattern of skills; empty for everything."
    )
    mode = models.CharField(max_length=8, choices=ContainmentMode.choices, default=ContainmentMode.OBSERVE)
    cancel_running = models.BooleanField(default=False, help_text="Enforced, it also cancels what runs.")
    reason = models.CharField(max_length=300, help_text="Those who wait read it.")
    by = models.CharField(max_length=150, editable=False)
    since = models.DateTimeField(default=timezone.now, editable=False)
    release_at = models.DateTimeField(null=True, blank=True, help_text="Empty: until somebody releases it.")

    class Meta:
        ordering = ["-since", "name"]
        constraints = [
            models.CheckConstraint(condition=Q(scope__in=ContainmentScope.values), name="containment_scope_known"),
            models.CheckConstraint(condition=Q(mode__in=ContainmentMode.values), name="containment_mode_known"),
            models.CheckConstraint(
                condition=Q(scope="everything", value="") | (~Q(scope="everything") & ~Q(value="")),
                name="containment_names_its_target",
            ),
        ]

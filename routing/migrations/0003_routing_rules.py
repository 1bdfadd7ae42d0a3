"""Rules of routing as rows; tasks, attempts and decisions keep what they need for them."""

import django.core.validators
import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models


def strategies_become_policies(apps, schema_editor):
    """Make a policy for each skill that had a strategy of its own; the newest row of a name counts."""
    skills, policies = (apps.get_model("routing", name).objects for name in ("Skill", "Policy"))
    chosen = {}
    for skill in skills.order_by("pk"):
        chosen[skill.tenant_id, skill.name] = skill.strategy
    taken = set()
    for (tenant, skill), strategy in chosen.items():
        if strategy == "balanced":
            continue
        name, number = skill, 1
        while name in taken:
            number += 1
            name = f"{skill[:58]}-{number}"
        taken.add(name)
        note = "Made from the strategy that stood at the skill."
        policies.create(name=name, tenant_id=tenant, skill=skill, strategy=strategy, note=note)


class Migration(migrations.Migration):
    dependencies = [
        ("routing", "0002_default_tenant"),
    ]

    operations = [
        migrations.CreateModel(
            name="Budget",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "name",
                    models.CharField(
                        max_length=64,
                        unique=True,
                        validators=[
                            django.core.validators.RegexValidator(
                                "^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?\\Z",
                                "Use 1 to 64 of a-z, 0-9, dot, dash and underscore, with a letter or digit first and last.",
                            )
                        ],
                    ),
                ),
                ("enabled", models.BooleanField(default=True)),
                ("note", models.TextField(blank=True, help_text="Why it is there, for those who come after you.")),
                ("updated_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                (
                    "skill",
                    models.CharField(
                        default="*", help_text="A name, or a pattern with * and ?, such as code.*", max_length=64
                    ),
                ),
                (
                    "labels",
                    models.CharField(
                        blank=True,
                        help_text="Over the labels a task asks for, such as gpu=yes, region in (eu, us).",
                        max_length=2000,
                    ),
                ),
                ("priority_low", models.PositiveSmallIntegerField(default=0, help_text="Priorities from …")),
                ("priority_high", models.PositiveSmallIntegerField(default=9, help_text="… to, inclusive.")),
                (
                    "agent",
                    models.CharField(
                        default="*", help_text="A name, or a pattern with * and ?, such as code.*", max_length=64
                    ),
                ),
                (
                    "unit",
                    models.CharField(
                        choices=[
                            ("usd", "US dollars"),
                            ("tokens", "tokens"),
                            ("wall_s", "seconds of work"),
                            ("attempts", "attempts"),
                        ],
                        default="usd",
                        max_length=8,
                    ),
                ),
                ("amount", models.FloatField(help_text="In the unit; 0 lets nothing through.")),
                (
                    "scope",
                    models.CharField(
                        choices=[
                            ("all", "all together"),
                            ("tenant", "each tenant"),
                            ("run", "each run (context)"),
                            ("task", "each task"),
                            ("agent", "each agent"),
                        ],
                        default="all",
                        help_text="Counted apart for.",
                        max_length=8,
                    ),
                ),
                (
                    "period_s",
                    models.FloatField(
                        blank=True,
                        help_text="Seconds after which it is full again: 86400 is a day UTC. Empty: once for all.",
                        null=True,
                    ),
                ),
                (
                    "hard",
                    models.BooleanField(
                        default=True, help_text="Nothing begins that might overspend; else it only warns."
                    ),
                ),
            ],
            options={
                "ordering": ["name"],
            },
        ),
        migrations.CreateModel(
            name="Containment",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "name",
                    models.CharField(
                        max_length=64,
                        unique=True,
                        validators=[
                            django.core.validators.RegexValidator(
                                "^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?\\Z",
                                "Use 1 to 64 of a-z, 0-9, dot, dash and underscore, with a letter or digit first and last.",
                            )
                        ],
                    ),
                ),
                ("enabled", models.BooleanField(default=True)),
                ("note", models.TextField(blank=True, help_text="Why it is there, for those who come after you.")),
                ("updated_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                (
                    "scope",
                    models.CharField(
                        choices=[
                            ("agent", "one agent"),
                            ("skill", "a skill"),
                            ("tenant", "a tenant"),
                            ("everything", "everything"),
                        ],
                        default="agent",
                        max_length=12,
                    ),
                ),
                (
                    "value",
                    models.CharField(
                        blank=True,
                        help_text="The agent, the tenant, or a pattern of skills; empty for everything.",
                        max_length=64,
                    ),
                ),
                (
                    "mode",
                    models.CharField(
                        choices=[("observe", "observe: count what it would hold"), ("enforce", "enforce: hold it")],
                        default="observe",
                        max_length=8,
                    ),
                ),
                (
                    "cancel_running",
                    models.BooleanField(default=False, help_text="Enforced, it also cancels what runs."),
                ),
                ("reason", models.CharField(help_text="Those who wait read it.", max_length=300)),
                ("by", models.CharField(editable=False, max_length=150)),
                ("since", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                (
                    "release_at",
                    models.DateTimeField(blank=True, help_text="Empty: until somebody releases it.", null=True),
                ),
            ],
            options={
                "ordering": ["-since", "name"],
            },
        ),
        migrations.CreateModel(
            name="Feedback",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "task_id", "by", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "task",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="feedback",
                        to="routing.task",
                    ),
                ),
                ("by", models.CharField(max_length=150)),
                ("score", models.FloatField()),
                ("comment", models.TextField(blank=True)),
                ("at", models.DateTimeField(default=django.utils.timezone.now)),
            ],
            options={
                "verbose_name_plural": "feedback",
            },
        ),
        migrations.CreateModel(
            name="FleetMemory",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "kind", "name", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("kind", models.CharField(max_length=32)),
                ("name", models.TextField()),
                ("data", models.JSONField()),
                ("at", models.DateTimeField()),
            ],
            options={
                "verbose_name_plural": "fleet memories",
            },
        ),
        migrations.CreateModel(
            name="Limit",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "name",
                    models.CharField(
                        max_length=64,
                        unique=True,
                        validators=[
                            django.core.validators.RegexValidator(
                                "^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?\\Z",
                                "Use 1 to 64 of a-z, 0-9, dot, dash and underscore, with a letter or digit first and last.",
                            )
                        ],
                    ),
                ),
                ("enabled", models.BooleanField(default=True)),
                ("note", models.TextField(blank=True, help_text="Why it is there, for those who come after you.")),
                ("updated_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                (
                    "skill",
                    models.CharField(
                        default="*", help_text="A name, or a pattern with * and ?, such as code.*", max_length=64
                    ),
                ),
                (
                    "labels",
                    models.CharField(
                        blank=True,
                        help_text="Over the labels a task asks for, such as gpu=yes, region in (eu, us).",
                        max_length=2000,
                    ),
                ),
                ("priority_low", models.PositiveSmallIntegerField(default=0, help_text="Priorities from …")),
                ("priority_high", models.PositiveSmallIntegerField(default=9, help_text="… to, inclusive.")),
                (
                    "agent",
                    models.CharField(
                        default="*", help_text="A name, or a pattern with * and ?, such as code.*", max_length=64
                    ),
                ),
                (
                    "per",
                    models.CharField(
                        choices=[
                            ("all", "all together"),
                            ("tenant", "each tenant"),
                            ("skill", "each skill"),
                            ("agent", "each agent"),
                            ("key", "each concurrency key"),
                        ],
                        default="all",
                        help_text="Counted apart for.",
                        max_length=8,
                    ),
                ),
                ("max_running", models.PositiveIntegerField(blank=True, help_text="Attempts at once.", null=True)),
                (
                    "rate_per_s",
                    models.FloatField(
                        blank=True, help_text="Attempts that begin per second; 0.1 is 6 a minute.", null=True
                    ),
                ),
                (
                    "burst",
                    models.PositiveIntegerField(
                        default=1, help_text="Attempts that may begin at once after a quiet time."
                    ),
                ),
                (
                    "on_full",
                    models.CharField(
                        choices=[
                            ("queue", "it waits"),
                            ("reject", "it is rejected"),
                            ("cancel_oldest", "the oldest that runs is cancelled"),
                        ],
                        default="queue",
                        help_text="What becomes of a task without room.",
                        max_length=16,
                    ),
                ),
            ],
            options={
                "ordering": ["name"],
            },
        ),
        migrations.CreateModel(
            name="Policy",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "name",
                    models.CharField(
                        max_length=64,
                        unique=True,
                        validators=[
                            django.core.validators.RegexValidator(
                                "^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?\\Z",
                                "Use 1 to 64 of a-z, 0-9, dot, dash and underscore, with a letter or digit first and last.",
                            )
                        ],
                    ),
                ),
                ("enabled", models.BooleanField(default=True)),
                ("note", models.TextField(blank=True, help_text="Why it is there, for those who come after you.")),
                ("updated_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                (
                    "skill",
                    models.CharField(
                        default="*", help_text="A name, or a pattern with * and ?, such as code.*", max_length=64
                    ),
                ),
                (
                    "labels",
                    models.CharField(
                        blank=True,
                        help_text="Over the labels a task asks for, such as gpu=yes, region in (eu, us).",
                        max_length=2000,
                    ),
                ),
                ("priority_low", models.PositiveSmallIntegerField(default=0, help_text="Priorities from …")),
                ("priority_high", models.PositiveSmallIntegerField(default=9, help_text="… to, inclusive.")),
                (
                    "position",
                    models.PositiveIntegerField(
                        default=100, help_text="The smaller is asked first; of equals the narrower rule."
                    ),
                ),
                (
                    "strategy",
                    models.CharField(
                        default="balanced",
                        help_text="How the agent is chosen among those with a free slot.",
                        max_length=32,
                    ),
                ),
                (
                    "weights",
                    models.JSONField(blank=True, default=dict, help_text='Of the strategy, such as {"cost": 2}.'),
                ),
                (
                    "order",
                    models.JSONField(
                        blank=True,
                        default=list,
                        help_text='Agents, the preferred first, for the strategy ordered: ["a", "b"].',
                    ),
                ),
                (
                    "wait_s",
                    models.FloatField(blank=True, help_text="A task that has waited so many seconds fails.", null=True),
                ),
                ("timeout_s", models.FloatField(blank=True, help_text="Seconds one attempt may work.", null=True)),
                (
                    "max_attempts",
                    models.PositiveSmallIntegerField(blank=True, help_text="Attempts that began.", null=True),
                ),
                (
                    "retries",
                    models.JSONField(
                        blank=True,
                        default=dict,
                        help_text='By kind of error, * for the others: {"timeout": {"attempts": 2, "backoff_s": 5, "on": "another"}}.',
                    ),
                ),
                (
                    "when_shut",
                    models.CharField(
                        choices=[("wait", "they wait"), ("fail", "they fail at once")],
                        default="wait",
                        help_text="What becomes of tasks while circuit breakers exclude every able agent.",
                        max_length=8,
                    ),
                ),
                (
                    "hedge",
                    models.BooleanField(
                        default=False,
                        help_text="A second attempt flies beside a slow one, for skills that are idempotent.",
                    ),
                ),
                (
                    "hedge_share",
                    models.FloatField(
                        default=0.05, help_text="Of all attempts at most so many are second ones, 0 to 0.5."
                    ),
                ),
                (
                    "hedge_busy",
                    models.FloatField(default=0.8, help_text="Not when more of the slots are in use, 0 to 1."),
                ),
                (
                    "shadow",
                    models.CharField(
                        blank=True,
                        help_text="A strategy that decides beside the real one, to compare them.",
                        max_length=32,
                    ),
                ),
            ],
            options={
                "verbose_name_plural": "policies",
                "ordering": ["position", "name"],
            },
        ),
        migrations.AddField(
            model_name="attempt",
            name="hedge",
            field=models.BooleanField(default=False, help_text="It flew beside another attempt that took long."),
        ),
        migrations.AddField(
            model_name="attempt",
            name="usage",
            field=models.JSONField(help_text='What the agent says it has used, such as {"usd": 0.02}.', null=True),
        ),
        migrations.AddField(
            model_name="command",
            name="data",
            field=models.JSONField(help_text='Of a rating: {"agent", "skill", "score", "before"}.', null=True),
        ),
        migrations.AddField(
            model_name="decision",
            name="more",
            field=models.PositiveIntegerField(default=0, help_text="Candidates and exclusions that are not listed."),
        ),
        migrations.AddField(
            model_name="decision",
            name="policy",
            field=models.CharField(blank=True, max_length=64),
        ),
        migrations.AddField(
            model_name="decision",
            name="revision",
            field=models.PositiveBigIntegerField(default=0, help_text="Of the configuration."),
        ),
        migrations.AddField(
            model_name="decision",
            name="shadow",
            field=models.JSONField(
                help_text='What another strategy would have done: {"strategy", "agent"}.', null=True
            ),
        ),
        migrations.AddField(
            model_name="decision",
            name="waited_for",
            field=models.CharField(blank=True, help_text="What the task waited for last, in words.", max_length=300),
        ),
        migrations.AddField(
            model_name="task",
            name="affinity",
            field=models.CharField(blank=True, help_text="Those with the same like the same agent.", max_length=200),
        ),
        migrations.AddField(
            model_name="task",
            name="budget",
            field=models.JSONField(help_text="Its own caps: {usd, tokens, wall_s, attempts}.", null=True),
        ),
        migrations.AddField(
            model_name="task",
            name="concurrency_key",
            field=models.CharField(blank=True, help_text="Limits per key count those with the same.", max_length=200),
        ),
        migrations.AddField(
            model_name="task",
            name="debounce_key",
            field=models.CharField(max_length=200, null=True),
        ),
        migrations.AddField(
            model_name="task",
            name="singleton_key",
            field=models.CharField(max_length=200, null=True),
        ),
        migrations.AddField(
            model_name="task",
            name="size",
            field=models.FloatField(
                default=0, help_text="How much work it is; bytes of the input unless the caller knows."
            ),
        ),
        migrations.AddField(
            model_name="task",
            name="throttle_key",
            field=models.CharField(max_length=200, null=True),
        ),
        migrations.AddField(
            model_name="tenant",
            name="weight",
            field=models.FloatField(
                default=1, help_text="Its share when tenants compete: with 2 it gets twice as much as one with 1."
            ),
        ),
        migrations.AlterField(
            model_name="command",
            name="kind",
            field=models.CharField(
                choices=[("cancel", "Cancel"), ("settle", "Settle"), ("rate", "Rate")], max_length=16
            ),
        ),
        migrations.AddIndex(
            model_name="task",
            index=models.Index(
                condition=models.Q(("debounce_key__isnull", False), ("state", "submitted")),
                fields=["tenant", "debounce_key", "-created_at"],
                name="task_debounced",
            ),
        ),
        migrations.AddIndex(
            model_name="task",
            index=models.Index(
                condition=models.Q(("throttle_key__isnull", False)),
                fields=["tenant", "throttle_key", "-created_at"],
                name="task_throttled",
            ),
        ),
        migrations.AddConstraint(
            model_name="task",
            constraint=models.UniqueConstraint(
                condition=models.Q(
                    ("singleton_key__isnull", False),
                    models.Q(("state__in", ("completed", "failed", "canceled", "rejected")), _negated=True),
                ),
                fields=("tenant", "singleton_key"),
                name="task_singleton_lives_once",
            ),
        ),
        migrations.AddConstraint(
            model_name="task",
            constraint=models.CheckConstraint(condition=models.Q(("size__gte", 0)), name="task_size_not_negative"),
        ),
        migrations.AddConstraint(
            model_name="tenant",
            constraint=models.CheckConstraint(condition=models.Q(("weight__gt", 0)), name="tenant_weight_positive"),
        ),
        migrations.AddField(
            model_name="budget",
            name="tenant",
            field=models.ForeignKey(
                blank=True,
                help_text="Empty: any.",
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="routing.tenant",
            ),
        ),
        migrations.AddConstraint(
            model_name="containment",
            constraint=models.CheckConstraint(
                condition=models.Q(("scope__in", ["agent", "skill", "tenant", "everything"])),
                name="containment_scope_known",
            ),
        ),
        migrations.AddConstraint(
            model_name="containment",
            constraint=models.CheckConstraint(
                condition=models.Q(("mode__in", ["observe", "enforce"])), name="containment_mode_known"
            ),
        ),
        migrations.AddConstraint(
            model_name="containment",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("scope", "everything"), ("value", "")),
                    models.Q(models.Q(("scope", "everything"), _negated=True), models.Q(("value", ""), _negated=True)),
                    _connector="OR",
                ),
                name="containment_names_its_target",
            ),
        ),
        migrations.AddField(
            model_name="limit",
            name="tenant",
            field=models.ForeignKey(
                blank=True,
                help_text="Empty: any.",
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="routing.tenant",
            ),
        ),
        migrations.AddField(
            model_name="policy",
            name="tenant",
            field=models.ForeignKey(
                blank=True,
                help_text="Empty: any.",
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="routing.tenant",
            ),
        ),
        migrations.AddConstraint(
            model_name="budget",
            constraint=models.CheckConstraint(
                condition=models.Q(("priority_high__lte", 9), ("priority_low__lte", models.F("priority_high"))),
                name="budget_priorities_in_order",
            ),
        ),
        migrations.AddConstraint(
            model_name="budget",
            constraint=models.CheckConstraint(
                condition=models.Q(("unit__in", ["usd", "tokens", "wall_s", "attempts"])), name="budget_unit_known"
            ),
        ),
        migrations.AddConstraint(
            model_name="budget",
            constraint=models.CheckConstraint(
                condition=models.Q(("scope__in", ["all", "tenant", "run", "task", "agent"])), name="budget_scope_known"
            ),
        ),
        migrations.AddConstraint(
            model_name="budget",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("amount__gte", 0), models.Q(("period_s", None), ("period_s__gte", 1), _connector="OR")
                ),
                name="budget_numbers_positive",
            ),
        ),
        migrations.AddConstraint(
            model_name="feedback",
            constraint=models.CheckConstraint(
                condition=models.Q(("score__gte", 0), ("score__lte", 1)), name="feedback_score_0_to_1"
            ),
        ),
        migrations.AddConstraint(
            model_name="limit",
            constraint=models.CheckConstraint(
                condition=models.Q(("priority_high__lte", 9), ("priority_low__lte", models.F("priority_high"))),
                name="limit_priorities_in_order",
            ),
        ),
        migrations.AddConstraint(
            model_name="limit",
            constraint=models.CheckConstraint(
                condition=models.Q(("per__in", ["all", "tenant", "skill", "agent", "key"])), name="limit_per_known"
            ),
        ),
        migrations.AddConstraint(
            model_name="limit",
            constraint=models.CheckConstraint(
                condition=models.Q(("on_full__in", ["queue", "reject", "cancel_oldest"])), name="limit_on_full_known"
            ),
        ),
        migrations.AddConstraint(
            model_name="limit",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("burst__gte", 1),
                    models.Q(
                        models.Q(("max_running__gte", 1), ("max_running__isnull", False)),
                        models.Q(("max_running", None), ("rate_per_s__isnull", False)),
                        _connector="OR",
                    ),
                    models.Q(("rate_per_s__gt", 0), ("rate_per_s", None), _connector="OR"),
                ),
                name="limit_limits_something",
            ),
        ),
        migrations.AddConstraint(
            model_name="policy",
            constraint=models.CheckConstraint(
                condition=models.Q(("priority_high__lte", 9), ("priority_low__lte", models.F("priority_high"))),
                name="policy_priorities_in_order",
            ),
        ),
        migrations.AddConstraint(
            model_name="policy",
            constraint=models.CheckConstraint(
                condition=models.Q(("when_shut__in", ["wait", "fail"])), name="policy_when_shut_known"
            ),
        ),
        migrations.AddConstraint(
            model_name="policy",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("hedge_busy__gt", 0), ("hedge_busy__lte", 1), ("hedge_share__gt", 0), ("hedge_share__lte", 0.5)
                ),
                name="policy_hedging_in_range",
            ),
        ),
        migrations.AddConstraint(
            model_name="policy",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("wait_s", None), ("wait_s__gt", 0), _connector="OR"),
                    models.Q(("timeout_s", None), ("timeout_s__gt", 0), _connector="OR"),
                    models.Q(("max_attempts", None), ("max_attempts__gte", 1), _connector="OR"),
                ),
                name="policy_numbers_positive",
            ),
        ),
        migrations.RunPython(strategies_become_policies, migrations.RunPython.noop),
        migrations.RemoveField(
            model_name="skill",
            name="strategy",
        ),
    ]

"""Rows of an older version are carried over."""

from __future__ import annotations

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from routing.models import Policy

pytestmark = pytest.mark.django_db(transaction=True)


class TestRoutingRules:
    def test_makes_a_policy_of_each_strategy_that_stood_at_a_skill(self) -> None:
        newest = MigrationExecutor(connection).loader.graph.leaf_nodes()  # of all apps: others stand on this one
        old = MigrationExecutor(connection)
        old.migrate([("routing", "0002_default_tenant")])
        try:
            apps = old.loader.project_state([("routing", "0002_default_tenant")]).apps
            tenants, skills = (apps.get_model("routing", name).objects for name in ("Tenant", "Skill"))
            for tenant, name, version, strategy in (
                ("default", "plain", "1", "balanced"),
                ("default", "echo", "1", "balanced"),
                ("default", "echo", "2", "least_loaded"),
                ("lab", "echo", "1", "least_loaded"),
            ):
                tenants.get_or_create(name=tenant)
                skills.create(tenant_id=tenant, name=name, version=version, strategy=strategy)
        finally:
            MigrationExecutor(connection).migrate(newest)

        made = Policy.objects.order_by("name").values_list("name", "tenant_id", "skill", "strategy")
        assert list(made) == [
            ("echo", "default", "echo", "least_loaded"),
            ("echo-2", "lab", "echo", "least_loaded"),
        ]

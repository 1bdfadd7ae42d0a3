"""The only writer of policies, limits, budgets and containments."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from routing import registry, rulebook
from routing.errors import BadRegistration
from routing.models import Agent, Budget, Containment, Limit, Policy, Tenant
from routing.policies import DEFAULT

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def fleet(db: None) -> Iterator[None]:
    """Two skills, an agent for both, and a tenant without any."""
    registry.forget()
    registry.ensure_tenant()
    skills = [registry.ensure_skill(name) for name in ("code.review", "summarise")]
    registry.ensure_agent("codex", skills=skills)
    registry.save_tenant("lab")
    yield
    registry.forget()


def policy(name: str = "cheap", **fields: Any) -> Policy:
    return rulebook.save_policy(Policy(name=name, **{"strategy": "cheapest", **fields}))


def limit(name: str = "few", **fields: Any) -> Limit:
    return rulebook.save_limit(Limit(name=name, **{"max_running": 2, **fields}))


def budget(name: str = "month", **fields: Any) -> Budget:
    return rulebook.save_budget(Budget(name=name, **{"amount": 5, **fields}))


def containment(name: str = "stop", **fields: Any) -> Containment:
    given = {"scope": "skill", "value": "code.*", "mode": "enforce", "reason": "It leaks keys.", "by": "ann"}
    return rulebook.save_containment(Containment(name=name, **{**given, **fields}))


def refusal(save: Any, **fields: Any) -> BadRegistration:
    with pytest.raises(BadRegistration) as caught:
        save(**fields)
    return caught.value


class TestRules:
    def test_are_the_enabled_rows_as_the_fleet_reads_them(self) -> None:
        policy(skill="code.*", labels="gpu=yes", priority_low=7, timeout_s=60, hedge=True)
        policy("off", enabled=False)
        limit(per="agent", agent="codex")
        budget(period_s=86400, scope="tenant", tenant_id="lab")
        containment()
        registry.save_tenant("lab", weight=3)

        now = rulebook.rules()

        (cheap,) = now.policies
        assert (cheap.strategy, cheap.timeout_s, cheap.hedging.enabled) == ("cheapest", 60, True)
        assert (cheap.match.skill, str(cheap.match.labels), cheap.match.low) == ("code.*", "gpu=yes", 7)
        assert [(rule.name, rule.per, rule.match.agent) for rule in now.limits] == [("few", "agent", "codex")]
        assert [(rule.amount, rule.scope, rule.match.tenant) for rule in now.budgets] == [(5, "tenant", "lab")]
        assert [(rule.target, rule.by) for rule in now.containments] == [("skill code.*", "ann")]
        assert (now.weights, now.revision) == ({"lab": 3}, registry.revision())

    def test_leave_out_a_row_that_cannot_be_read_and_log_why(self, caplog: pytest.LogCaptureFixture) -> None:
        policy("good")
        policy("bad")
        Policy.objects.filter(name="bad").update(labels="gpu=")

        assert [spec.name for spec in rulebook.rules().policies] == ["good"]
        assert "The policy bad is left out: labels: Column 5: expected a value" in caplog.text

    def test_keep_retry_rules_by_kind_of_error(self) -> None:
        policy(retries={"timeout": {"attempts": 2, "backoff_s": 5, "on": "same"}})

        (spec,) = rulebook.rules().policies
        rule = spec.retries.rule("timeout")
        assert (rule.attempts, rule.backoff_s, rule.on) == (2, 5, "same")

    def test_come_to_the_fleet_together_with_the_agents(self) -> None:
        policy()

        fact = rulebook.fact()

        assert [agent.name for agent in fact.agents] == ["codex"]
        assert [spec.name for spec in fact.policies] == ["cheap"]
        assert fact.revision == registry.revision()


class TestSave:
    @pytest.mark.parametrize("save", [policy, limit, budget, containment])
    def test_counts_as_one_change_of_the_registry(self, save: Any) -> None:
        before = registry.revision()

        save()

        assert registry.revision() == before + 1

    @pytest.mark.parametrize("save", [policy, limit, budget, containment])
    def test_refuses_a_name_that_is_taken(self, save: Any) -> None:
        save()

        assert "already exists" in str(refusal(save))

    @pytest.mark.parametrize("save", [policy, limit, budget])
    @pytest.mark.parametrize(
        ("fields", "pointer", "words"),
        [
            ({"name": "Odd Name"}, "/name", "Use 1 to 64 of a-z"),
            ({"name": ""}, "/name", "Use 1 to 64 of a-z"),
            ({"labels": "gpu=yes,"}, "/labels", "Column 9: expected a label, found the end."),
            ({"labels": "gpu=yes, gpu=no"}, "/labels", "Nothing can meet all that is asked of gpu"),
            ({"labels": "a\0b"}, "/labels", "NUL"),
            ({"priority_low": 8, "priority_high": 3}, "/priority_low", "8 to 3 is empty"),
            ({"priority_high": 10}, "/priority_low", "Use whole numbers from 0 to 9"),
            ({"priority_low": "high"}, "/priority_low", "must be an integer"),
            ({"skill": "Code!"}, "/skill", "Use a name or a pattern"),
            ({"skill": "nobody"}, "/skill", "No skill is called 'nobody'; known: code.review, summarise."),
            ({"skill": "x.*"}, "/skill", "No skill fits 'x.*'; known: code.review, summarise."),
            ({"skill": "summarise", "tenant_id": "lab"}, "/skill", "known: none."),
            ({"tenant_id": "nobody"}, "/tenant", "No tenant is called 'nobody'; known: default, lab."),
        ],
    )
    def test_refuses_a_match_in_words(self, save: Any, fields: dict[str, Any], pointer: str, words: str) -> None:
        before = registry.revision()

        error = refusal(save, **fields)

        assert words in str(error)
        assert error.pointer == pointer
        assert registry.revision() == before

    @pytest.mark.parametrize(
        ("fields", "pointer", "words"),
        [
            ({"strategy": "luck"}, "/strategy", "There is no strategy 'luck'; there are "),
            ({"strategy": "adaptive", "weights": {"luck": 1}}, "/weights", "has no weight 'luck'"),
            ({"weights": []}, "/weights", "names with numbers"),
            ({"strategy": "ordered"}, "/order", "Name the agents, the preferred first"),
            ({"strategy": "ordered", "order": "codex"}, "/order", "list of agents"),
            ({"strategy": "ordered", "order": ["codex", "hal"]}, "/order", "No agent is called 'hal'; known: codex."),
            ({"shadow": "luck"}, "/shadow", "There is no strategy 'luck'"),
            ({"timeout_s": 0}, "/timeout_s", "above 0 and at most 7 days"),
            ({"wait_s": float("nan")}, "/wait_s", "above 0 and at most 7 days"),
            ({"wait_s": "soon"}, "/wait_s", "must be a float"),
            ({"max_attempts": 0}, "/max_attempts", "from 1 to 100"),
            ({"when_shut": "panic"}, "/when_shut", "Use one of wait, fail"),
            ({"when_shut": 1}, "/when_shut", "Text"),
            ({"hedge_share": 0.9}, "/hedge_share", "at most 0.5"),
            ({"hedge_busy": 0}, "/hedge_busy", "above 0"),
            ({"retries": {"timeout": 3}}, "/retries", "timeout: a rule is an object"),
            ({"retries": {"timeout": {"attemps": 3}}}, "/retries", "there is no 'attemps'"),
            ({"retries": {"timeout": {"attempts": "3"}}}, "/retries", "attempts is a whole number"),
            ({"retries": {"timeout": {"backoff_s": "3"}}}, "/retries", "backoff_s is a number"),
            ({"retries": {"timeout": {"on": 3}}}, "/retries", "on is a word"),
            ({"retries": {"hunger": {}}}, "/retries", "no such kind of error"),
            ({"retries": {"timeout": {"factor": 0}}}, "/retries", "factor must lie between"),
            ({"retries": []}, "/retries", "kinds of errors with rules"),
        ],
    )
    def test_refuses_a_policy_in_words(self, fields: dict[str, Any], pointer: str, words: str) -> None:
        error = refusal(policy, **fields)

        assert words.lower() in str(error).lower()
        assert error.pointer == pointer

    @pytest.mark.parametrize(
        ("fields", "pointer", "words"),
        [
            ({"max_running": None}, "", "It limits nothing"),
            ({"max_running": 0}, "/max_running", "disable the agents instead"),
            ({"rate_per_s": -1}, "/rate_per_s", "Use a number from"),
            ({"burst": 0}, "/burst", "Use a whole number"),
            ({"per": "planet"}, "/per", "Use one of all, tenant, skill, agent, key"),
            ({"on_full": "cancel_oldest", "rate_per_s": 1}, "/on_full", "makes no room in a rate"),
            ({"agent": "hal"}, "/agent", "No agent is called 'hal'; known: codex."),
        ],
    )
    def test_refuses_a_limit_in_words(self, fields: dict[str, Any], pointer: str, words: str) -> None:
        error = refusal(limit, **fields)

        assert words in str(error)
        assert error.pointer == pointer

    @pytest.mark.parametrize(
        ("fields", "pointer", "words"),
        [
            ({"amount": -1}, "/amount", "Use a number from 0"),
            ({"amount": None}, "/amount", "cannot be null"),
            ({"unit": "gold"}, "/unit", "Use one of usd, tokens"),
            ({"scope": "planet"}, "/scope", "Use one of all, tenant"),
            ({"period_s": 0}, "/period_s", "whole seconds from 1"),
            ({"period_s": 60, "scope": "task"}, "/period_s", "leave the period out"),
        ],
    )
    def test_refuses_a_budget_in_words(self, fields: dict[str, Any], pointer: str, words: str) -> None:
        error = refusal(budget, **fields)

        assert words in str(error)
        assert error.pointer == pointer

    @pytest.mark.parametrize(
        ("fields", "pointer", "words"),
        [
            ({"name": "Odd Name"}, "/name", "Use 1 to 64"),
            ({"scope": "planet"}, "/scope", "one of agent, skill, tenant, everything"),
            ({"scope": "everything"}, "/value", "must be empty"),
            ({"value": ""}, "/value", "must say which skill"),
            ({"scope": "agent", "value": "hal"}, "/value", "No agent is called 'hal'; known: codex."),
            ({"scope": "tenant", "value": "x"}, "/value", "No tenant is called 'x'; known: default, lab."),
            ({"value": "x*"}, "/value", "No skill fits 'x*'"),
            ({"reason": " "}, "/reason", "must not be empty"),
            ({"by": ""}, "/by", "must say who"),
            ({"mode": "observe", "cancel_running": True}, "/cancel_running", "needs the mode enforce"),
            ({"release_at": timezone.now() - timedelta(days=1)}, "/release_at", "lies in the past"),
        ],
    )
    def test_refuses_a_containment_in_words(self, fields: dict[str, Any], pointer: str, words: str) -> None:
        error = refusal(containment, **fields)

        assert words in str(error)
        assert error.pointer == pointer


class TestSaveContainment:
    def test_throws_a_released_switch_anew(self) -> None:
        switch = containment(enabled=False)
        first = switch.since

        switch.enabled = True
        thrown = rulebook.save_containment(switch).since
        switch.reason = "It still does."
        rulebook.save_containment(switch)

        assert thrown > first
        assert Containment.objects.get().since == thrown

    def test_releases_one_that_has_ended(self) -> None:
        switch = containment(release_at=timezone.now() + timedelta(hours=1))
        switch.release_at = timezone.now() - timedelta(seconds=1)
        switch.since = timezone.now() - timedelta(hours=1)
        switch.enabled = False

        rulebook.save_containment(switch)

        assert rulebook.rules().containments == ()

    def test_releases_one_whose_agent_is_gone(self) -> None:
        switch = containment(scope="agent", value="codex")
        registry.remove_agent(Agent.objects.get(name="codex"))
        switch.enabled = False

        rulebook.save_containment(switch)

        assert rulebook.rules().containments == ()


class TestRemove:
    def test_takes_the_rule_away_as_one_change(self) -> None:
        policy()
        before = registry.revision()

        rulebook.remove_policy("cheap")
        rulebook.remove_policy("cheap")

        assert rulebook.rules().policies == ()
        assert registry.revision() == before + 1


class TestPolicyOf:
    def test_is_the_first_that_speaks_of_the_task(self) -> None:
        policy("gpu", labels="gpu=yes", position=1)
        policy("code", skill="code.*")

        assert rulebook.policy_of("default", "code.review", {"gpu": "yes"}, 5).name == "gpu"
        assert rulebook.policy_of("default", "code.review", {}, 5).name == "code"
        assert rulebook.policy_of("default", "summarise", {}, 5) is DEFAULT

    @pytest.mark.django_db(transaction=True)
    def test_costs_no_query_while_the_registry_is_fresh(self) -> None:
        rulebook.policy_of("default", "summarise", {}, 5)

        with CaptureQueriesContext(connection) as queries:
            for _ in range(50):
                rulebook.policy_of("default", "summarise", {}, 5)

        assert len(queries) == 0

    @pytest.mark.django_db(transaction=True)
    def test_sees_a_change_at_once_and_forgets_one_that_was_rolled_back(self) -> None:
        policy("first")
        with transaction.atomic():
            policy("second", position=1)
            assert rulebook.policy_of("default", "summarise", {}, 5).name == "second"
            transaction.set_rollback(True)

        assert rulebook.policy_of("default", "summarise", {}, 5).name == "first"


class TestContainmentOf:
    def test_is_what_holds_the_work_back_from_everybody(self) -> None:
        containment()
        containment("trial", scope="everything", value="", mode="observe")
        containment("one", scope="agent", value="codex")

        held = rulebook.containment_of("default", "code.review")

        assert held is not None
        assert held.name == "stop"
        assert rulebook.containment_of("default", "summarise") is None

    def test_ends_by_itself(self) -> None:
        switch = containment(release_at=timezone.now() + timedelta(hours=1))
        assert switch.release_at is not None

        assert rulebook.containment_of("default", "code.review", switch.release_at.timestamp()) is None
        assert rulebook.containment_of("default", "code.review") is not None


class TestTheTables:
    @pytest.mark.parametrize(
        ("model", "fields"),
        [
            (Policy, {"when_shut": "panic"}),
            (Policy, {"hedge_share": 0.6}),
            (Policy, {"timeout_s": 0}),
            (Policy, {"priority_low": 5, "priority_high": 4}),
            (Limit, {"max_running": None}),
            (Limit, {"max_running": 1, "burst": 0}),
            (Limit, {"max_running": 1, "on_full": "x"}),
            (Budget, {"amount": -1}),
            (Budget, {"amount": 1, "unit": "gold"}),
            (Containment, {"scope": "everything", "value": "x"}),
            (Containment, {"scope": "agent", "value": ""}),
            (Tenant, {"weight": 0}),
        ],
    )
    def test_refuse_what_no_rule_can_be(self, model: Any, fields: dict[str, Any]) -> None:
        with pytest.raises(DatabaseError), transaction.atomic():
            model.objects.create(name="odd", **fields)

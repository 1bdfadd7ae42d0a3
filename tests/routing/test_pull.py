"""Pull agents over REST: registration, claims, leases, reports, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import ANY

import orjson
import pytest
import redis
from django.test import Client

from routing import broker, controller, registry, rulebook
from routing import events as e
from routing.models import Agent, Scope, Skill, Task
from tests.routing.desk import Desk

pytestmark = pytest.mark.django_db

AGENT = "/api/v1/agents/puller"
ME = {"session": "s" * 12, "slots": 2}
OTHER = {"session": "o" * 12, "slots": 2}
SKILL = {"name": "fetch", "description": "Fetches.", "output_schema": {"type": "object"}}


class Program:
    """A caller with a key."""

    def __init__(self, *scopes: str, tenant: str = "default") -> None:
        _, plaintext = registry.create_key(tenant, "bot", scopes)
        self.headers = {"Authorization": f"Bearer {plaintext}"}

    def __call__(self, method: str, path: str, body: Any = None, status: int = 200) -> Any:
        data = "" if body is None else json.dumps(body)
        answer = Client().generic(method, AGENT + path, data, "application/json", headers=self.headers)
        assert answer.status_code == status, answer.content
        return answer.json() if answer.content else None


@pytest.fixture
def bot(bus: redis.Redis, echo: None) -> Iterator[Program]:
    registry.ensure_tenant("other")
    bot = Program(Scope.AGENTS_WORK)
    bot("PUT", "/pull", {"skills": [SKILL], "capacity": 2}, 201)
    registry.forget()
    yield bot
    registry.forget()


class Site(Desk):
    """A fleet that hears what the API wrote into the stream, and offers attempts as the controller does."""

    position = "0-0"

    def hear(self) -> list[e.Effect]:
        entries: Any = broker.client().xrange(broker.FACTS, "(" + self.position if self.position != "0-0" else "-")
        facts: list[Any] = []
        for entry_id, fields in entries:
            self.position = entry_id.decode()
            facts += [fact for fact in controller.decode(fields[b"e"]) if not isinstance(fact, broker.News)]
        said = self.tell(*facts)
        broker.offer((x.agent, x.task, x.attempt) for x in said if isinstance(x, e.Dispatch))
        return said


@pytest.fixture
def site(bot: Program) -> Site:
    site = Site()
    site.tell(rulebook.fact())
    bot("POST", "/renew", ME)
    site.hear()
    return site


@pytest.fixture
def claimed(bot: Program, site: Site) -> Callable[[], dict[str, Any]]:
    """Return a function that submits a task, and claims it."""

    def claim() -> dict[str, Any]:
        site.submit(skill="fetch", input={"n": 1})
        site.hear()
        offer(site)
        [claim] = bot("POST", "/claims", {**ME, "wait_s": 0})["claims"]
        site.hear()
        return {"session": ME["session"], "task": claim["task"], "attempt": claim["attempt"]}

    return claim


def offer(site: Site) -> None:
    """Offer what ``submit`` has had assigned."""
    said = [x for x in site.said if isinstance(x, e.Dispatch)]
    broker.offer((x.agent, x.task, x.attempt) for x in said[-1:])


class TestRegister:
    def test_makes_the_agent_and_the_skills_that_are_not_there(self, bot: Program) -> None:
        assert Agent.objects.get(name="puller").executor == "pull"
        assert Skill.objects.get(name="fetch").description == "Fetches."

    def test_leaves_skills_as_they_are_for_a_key_that_may_not_change_them(self, bot: Program) -> None:
        bot("PUT", "/pull", {"skills": [{**SKILL, "description": "Other."}], "capacity": 3})

        assert Skill.objects.get(name="fetch").description == "Fetches."
        assert Agent.objects.get(name="puller").capacity == 3

    def test_refuses_to_take_over_an_agent_that_is_run_otherwise(self, bot: Program) -> None:
        Agent.objects.filter(name="puller").update(executor="command")

        assert bot("PUT", "/pull", {}, 409)["type"] == "/problems/not-pull"

    def test_needs_its_scope(self, bot: Program) -> None:
        Program(Scope.TASKS_READ, Scope.TASKS_WRITE)("PUT", "/pull", {}, 403)


class TestClaims:
    def test_hands_out_what_was_assigned_and_the_attempt_is_the_session_s(self, bot: Program, site: Site) -> None:
        task = site.submit(skill="fetch", input={"n": 1})
        offer(site)

        answer = bot("POST", "/claims", {**ME, "wait_s": 0})
        site.hear()

        [claim] = answer["claims"]
        assert (claim["task"], claim["attempt"], claim["input"]) == (str(task.pk), 1, {"n": 1})
        task.refresh_from_db()
        assert task.state == "working"

    def test_brings_again_what_never_arrived_and_nothing_that_did(self, bot: Program, claimed: Any) -> None:
        key = claimed()
        hold = {"task": key["task"], "attempt": key["attempt"]}

        lost = bot("POST", "/claims", {**ME, "wait_s": 0})
        held = bot("POST", "/claims", {**ME, "wait_s": 0, "holds": [hold]})
        other = bot("POST", "/claims", {**OTHER, "wait_s": 0})

        assert [claim["task"] for claim in lost["claims"]] == [key["task"]]
        assert (held["claims"], held["stop"], other["claims"]) == ([], [], [])

    def test_skips_what_was_given_up(self, bot: Program, site: Site, bus: redis.Redis) -> None:
        task = site.submit(skill="fetch", input={})
        offer(site)
        bus.set(broker.claim_key(str(task.pk), 1), broker.FENCED)

        assert bot("POST", "/claims", {**ME, "wait_s": 0})["claims"] == []

    def test_gives_nothing_to_another_tenant(self, bot: Program) -> None:
        Program(Scope.AGENTS_WORK, tenant="other")("POST", "/claims", {**ME, "wait_s": 0}, 404)

    @pytest.mark.parametrize(
        "change", [{"session": "short"}, {"slots": 0}, {"max": 101}, {"wait_s": 31}, {"holds": [{}]}, {"what": 1}]
    )
    def test_says_what_is_wrong(self, bot: Program, change: dict[str, Any]) -> None:
        assert bot("POST", "/claims", {**ME, "wait_s": 0, **change}, 422)["type"] == "/problems/bad-input"


class TestRenew:
    def test_keeps_the_lease(self, bot: Program, site: Site, claimed: Any) -> None:
        key = claimed()
        hold = {"task": key["task"], "attempt": key["attempt"]}
        for _ in range(5):
            site.now += 6
            assert bot("POST", "/renew", {**ME, "holds": [hold]})["stop"] == []
            site.hear()

        assert Task.objects.get(id=key["task"]).state == "working"

    def test_tells_of_a_lost_lease_and_the_late_result_is_refused(
        self, bot: Program, site: Site, claimed: Any, bus: redis.Redis
    ) -> None:
        key = claimed()
        site.now += 11
        fences = [x for x in site.tell() if isinstance(x, e.Fence)]
        bus.set(broker.claim_key(fences[0].task, fences[0].attempt), broker.FENCED)

        hold = {"task": key["task"], "attempt": key["attempt"]}
        assert bot("POST", "/renew", {**ME, "holds": [hold]})["stop"] == [{**hold, "reason": "stale"}]
        assert bot("POST", "/complete", {**key, "output": {}}, 409)["type"] == "/problems/not-yours"

    def test_tells_of_a_cancel(self, bot: Program, site: Site, claimed: Any) -> None:
        key = claimed()
        hold = {"task": key["task"], "attempt": key["attempt"]}
        site.tell(e.CancelAsked(task=key["task"], by="me"))

        assert bot("POST", "/renew", {**ME, "holds": [hold]})["stop"] == [{**hold, "reason": "canceled"}]


class TestReports:
    def test_progress_and_files_are_kept(self, bot: Program, site: Site, claimed: Any) -> None:
        key = claimed()

        bot("POST", "/progress", {**key, "notes": [{"kind": "progress", "fraction": 0.5}]}, 204)
        address = f"/artifacts?session={key['session']}&task={key['task']}&attempt=1&file_name=a.txt"
        kept = bot("POST", address, {"a": 1}, 201)
        site.hear()

        task = Task.objects.get(id=key["task"])
        assert [event.kind for event in task.events.order_by("seq")][-2:] == ["progress", "artifact"]
        assert (kept["name"], kept["size"], kept["sha256"]) == ("a.txt", 8, ANY)

    def test_an_output_ends_the_task_once(self, bot: Program, site: Site, claimed: Any) -> None:
        key = claimed()

        told = bot("POST", "/complete", {**key, "output": {"done": True}, "usage": {"usd": 0.5}}, 202)
        site.hear()
        again = bot("POST", "/complete", {**key, "output": {"done": True}})

        assert (told["state"], again["state"]) == ("working", "completed")
        assert Task.objects.get(id=key["task"]).output == {"done": True}

    def test_an_output_that_does_not_fit_is_refused(self, bot: Program, claimed: Any) -> None:
        assert bot("POST", "/complete", {**claimed(), "output": 7}, 422)["type"] == "/problems/bad-result"

    def test_a_failure_is_tried_again_if_it_says_so(self, bot: Program, site: Site, claimed: Any) -> None:
        key = claimed()

        bot("POST", "/fail", {**key, "error": {"message": "no", "retryable": True}}, 202)
        site.hear()

        task = Task.objects.get(id=key["task"])
        assert (task.state, task.events.order_by("-seq")[0].kind) == ("submitted", "requeued")

    def test_another_session_cannot_report(self, bot: Program, claimed: Any) -> None:
        key = {**claimed(), "session": OTHER["session"]}

        assert bot("POST", "/fail", {**key, "error": {"message": "no"}}, 409)["type"] == "/problems/not-yours"

    def test_an_unknown_attempt_is_not_found(self, bot: Program, claimed: Any) -> None:
        bot("POST", "/complete", {**claimed(), "attempt": 99, "output": {}}, 404)


class TestLeave:
    def test_gives_back_without_blame(self, bot: Program, site: Site, claimed: Any) -> None:
        key = claimed()

        bot("POST", "/leave", {"session": ME["session"]}, 204)
        site.hear()

        task = Task.objects.get(id=key["task"])
        assert task.attempts.get(number=1).state == "returned"
        assert "puller" not in {x for w in site.fleet.roster.workers.values() for x in w.serves or ()}


class TestOffer:
    def test_puts_the_attempt_where_its_agent_looks(self, bus: redis.Redis) -> None:
        broker.offer([("a", "t", 1), ("b", "t", 2)])

        assert broker.fetch("a", 5) == [("t", 1)]
        assert broker.fetch("a", 5) == []
        assert orjson.loads(bus.lrange("a2a:pull:b", 0, -1)[0]) == ["t", 2]

"""Shared state and locks on a real database, written from several threads at once."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connection
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coordination import errors, locks, merging, runs, state, workflows
from coordination.locks import Fence
from coordination.merging import Rule
from coordination.models import ContextKey, ContextLock, ContextWrite, Run, RunCommand
from coordination.state import Writer
from routing import registry
from routing.errors import RoutingError
from tests.coordination.test_run_api import Program, bot

pytestmark = pytest.mark.django_db(transaction=True)

__all__ = ["bot"]
ANN = Writer(tenant="default", by="ann")
OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["blind", "based", "patch"]), st.dictionaries(st.sampled_from("abc"), st.integers(0, 9))),
    min_size=1,
    max_size=4,
)


@pytest.fixture(autouse=True)
def tenant() -> None:
    """Make the tenant."""
    registry.ensure_tenant()


def put(context: UUID, value: Any, **more: Any) -> ContextKey:
    return state.put(ANN, context, "k", value, **more)


def at_once(*works: Callable[[], object]) -> None:
    """Do the works on threads of their own, all begun at the same moment."""
    gate = threading.Barrier(len(works))

    def begin(work: Callable[[], object]) -> None:
        try:
            gate.wait()
            work()
        finally:
            connection.close()

    threads = [threading.Thread(target=begin, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


class TestPut:
    def test_replaces_the_version_it_names(self) -> None:
        context = uuid4()
        first = put(context, {"a": 1}, base=0)

        second = put(context, {"b": 2}, base=first.version)

        assert (second.version, second.value) == (2, {"b": 2})

    @pytest.mark.parametrize("base", [None, 0, 2])
    def test_of_another_version_is_refused_with_both_values(self, base: int | None) -> None:
        context = uuid4()
        put(context, "theirs")

        with pytest.raises(errors.Conflict) as caught:
            put(context, "yours", base=base)

        assert (caught.value.fields["theirs"], caught.value.fields["yours"]) == ("theirs", "yours")
        assert state.find("default", context, "k").value == "theirs"

    @pytest.mark.parametrize(
        ("rule", "expected"),
        [("last_write", [2]), ("merge", [2]), ("append", [1, 2])],
    )
    def test_of_another_version_is_joined_as_the_rule_says(self, rule: str, expected: Any) -> None:
        context = uuid4()
        put(context, [1], rule=rule)

        assert put(context, [2]).value == expected
        assert ContextWrite.objects.get(key__context=context, version=2).collided

    def test_made_from_a_removed_value_is_refused(self) -> None:
        context = uuid4()
        row = put(context, 1)
        state.delete(ANN, context, "k", base=1)

        with pytest.raises(errors.Conflict):
            put(context, 2, base=row.version)
        assert put(context, 3).version == 3

    @pytest.mark.parametrize(
        ("key", "value", "more"),
        [
            ("", 1, {}),
            ("x" * 201, 1, {}),
            ("a\n", 1, {}),
            ("k", "x" * 300_000, {}),
            ("k", "\0", {}),
            ("k", 1, {"rule": "surprise"}),
        ],
    )
    def test_refuses_in_words_what_it_cannot_keep(self, key: str, value: Any, more: dict[str, Any]) -> None:
        with pytest.raises(RoutingError):
            state.put(ANN, uuid4(), key, value, **more)

        assert not ContextKey.objects.exists()

    def test_refuses_one_key_too_many(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(state, "MAX_KEYS", 2)
        context = uuid4()
        for key in ("a", "b"):
            state.put(ANN, context, key, 1)

        with pytest.raises(errors.TooManyKeys):
            state.put(ANN, context, "c", 1)
        assert state.put(ANN, context, "a", 2, base=1).value == 2

    def test_keeps_tenants_apart(self) -> None:
        context = uuid4()
        registry.ensure_tenant("other")
        put(context, "mine")

        with pytest.raises(errors.NoSuchKey):
            state.find("other", context, "k")
        assert state.put(Writer(tenant="other", by="eve"), context, "k", "theirs").version == 1


class TestWritersAtOnce:
    @pytest.mark.parametrize("rule", ["append", "max", "merge"])
    def test_lose_no_update(self, rule: str) -> None:
        context = uuid4()
        values: list[Any] = [{str(n): n} for n in range(6)] if rule == "merge" else list(range(6))

        at_once(*(partial(put, context, value, rule=rule) for value in values))

        found: Any = state.find("default", context, "k")
        expected = {"append": set(range(6)), "max": 5, "merge": {str(n): n for n in range(6)}}[rule]
        assert (set(found.value) if rule == "append" else found.value) == expected
        assert found.version == 6

    def test_of_the_same_version_are_let_through_one_by_one(self) -> None:
        context = uuid4()
        put(context, 0)
        refused: list[str] = []

        def raise_it() -> None:
            for _ in range(5):
                while True:
                    row: Any = state.find("default", context, "k")
                    try:
                        put(context, row.value + 1, base=row.version)
                        break
                    except errors.Conflict as error:
                        refused.append(str(error))

        at_once(raise_it, raise_it, raise_it)

        assert state.find("default", context, "k").value == 15

    @given(
        st.sampled_from([Rule.MERGE, Rule.LAST_WRITE, Rule.APPEND, Rule.REJECT]),
        st.lists(OPERATIONS, min_size=2, max_size=3),
    )
    @settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
    def test_leave_what_some_order_of_their_writes_leaves(
        self, rule: Rule, scripts: list[list[tuple[str, dict[str, int]]]]
    ) -> None:
        """The history is that order: the model, told the same writes one by one, has the same values all along."""
        context = uuid4()
        put(context, {}, rule=rule)
        taken: list[tuple[int, int | None, str, Any]] = []  # (version made, base, verb, given)

        def perform(script: list[tuple[str, dict[str, int]]]) -> None:
            for verb, value in script:
                base = state.find("default", context, "k").version if verb == "based" else None
                try:
                    row = (
                        state.patch(ANN, context, "k", value, base=base)
                        if verb == "patch"
                        else put(context, value, base=base)
                    )
                    taken.append((row.version, base, verb, value))
                except errors.Conflict:
                    pass

        at_once(*(partial(perform, script) for script in scripts))

        model: Any = {}
        for number, (version, base, verb, given_value) in enumerate(sorted(taken, key=lambda each: each[0]), 2):
            assert version == number  # each accepted write has a version of its own, without gaps
            if verb == "patch":
                model = merging.merged(model, given_value)
            else:
                model = given_value if base == version - 1 else merging.joined(rule, model, given_value)
            assert ContextWrite.objects.get(key__context=context, version=version).value == model
        assert state.find("default", context, "k").value == model


class TestLocks:
    def test_are_held_by_one(self) -> None:
        context = uuid4()
        locks.acquire("default", context, "l", holder="ann", lease_s=30)

        with pytest.raises(errors.LockTaken, match="ann"):
            locks.acquire("default", context, "l", holder="bob", lease_s=30)

    def test_go_to_one_of_many_who_want_them_at_once(self) -> None:
        context = uuid4()
        got: list[int] = []

        def want() -> None:
            try:
                got.append(locks.acquire("default", context, "l", holder="x", lease_s=30).token)
            except errors.LockTaken:
                pass

        at_once(*[want] * 6)

        assert got == [1]

    def test_raise_their_token_with_each_holder(self) -> None:
        context = uuid4()
        tokens = []
        for _ in range(3):
            row = locks.acquire("default", context, "l", holder="x", lease_s=30)
            tokens.append(row.token)
            locks.release("default", context, Fence(key="l", token=row.token))

        assert tokens == [1, 2, 3]

    def test_tell_a_holder_who_was_away_too_long(self) -> None:
        context = uuid4()
        fence = Fence(key="l", token=locks.acquire("default", context, "l", holder="slow", lease_s=30).token)
        ContextLock.objects.update(expires_at=timezone.now() - dt.timedelta(seconds=1))
        locks.acquire("default", context, "l", holder="next", lease_s=30)

        for act in (lambda: locks.release("default", context, fence),
                    lambda: locks.renew("default", context, fence, lease_s=30),
                    lambda: put(context, "late", fence=fence)):  # fmt: skip
            with pytest.raises(errors.LockLost):
                act()

        assert not ContextKey.objects.exists()

    def test_are_held_on_when_renewed(self) -> None:
        context = uuid4()
        row = locks.acquire("default", context, "l", holder="x", lease_s=1)

        longer = locks.renew("default", context, Fence(key="l", token=row.token), lease_s=60)

        assert longer.expires_at > row.expires_at + dt.timedelta(seconds=50)


class TestApi:
    def test_writes_reads_and_removes_with_versions(self, bot: Program) -> None:
        at = f"/contexts/{uuid4()}/state/plan"

        new = bot.send("put", at, {"a": 1}, HTTP_IF_NONE_MATCH="*")
        again = bot.send("put", at, {"a": 9}, HTTP_IF_NONE_MATCH="*")
        changed = bot.send("patch", at, {"b": 2}, HTTP_IF_MATCH=new["ETag"])
        same = bot.send("get", at, HTTP_IF_NONE_MATCH=changed["ETag"])
        gone = bot.send("delete", at, HTTP_IF_MATCH=changed["ETag"])

        assert [answer.status_code for answer in (new, again, changed, same, gone)] == [201, 409, 200, 304, 204]
        assert (again.json()["theirs"], again.json()["yours"]) == ({"a": 1}, {"a": 9})
        assert changed.json()["value"] == {"a": 1, "b": 2}
        assert bot.send("get", at).status_code == 404

    def test_joins_by_the_rule_and_tells_who_wrote(self, bot: Program) -> None:
        context = uuid4()
        at = f"/contexts/{context}/state/notes"

        bot.send("put", f"{at}?rule=append", ["one"])
        bot.send("put", at, ["two"])

        writes = bot.send("get", f"{at}/writes").json()["writes"]
        assert [(write["version"], write["by"], write["collided"]) for write in writes] == [
            (2, "key tests", True),
            (1, "key tests", False),
        ]
        assert bot.send("get", f"/contexts/{context}").json()["keys"][0]["value"] == ["one", "two"]

    def test_hands_out_locks_and_takes_them_back(self, bot: Program) -> None:
        at = f"/contexts/{uuid4()}"

        got = bot.send("post", f"{at}/locks/ledger", {"lease_s": 20.0})
        taken = bot.send("post", f"{at}/locks/ledger", {})
        renewed = bot.send("post", f"{at}/locks/ledger:renew", {"token": 1})
        fenced = bot.send("put", f"{at}/state/k", 1, HTTP_FENCING_TOKEN="ledger=1")
        late = bot.send("put", f"{at}/state/k", 2, HTTP_FENCING_TOKEN="ledger=2")
        gone = bot.send("delete", f"{at}/locks/ledger?token=1")

        codes = [answer.status_code for answer in (got, taken, renewed, fenced, late, gone)]
        assert codes == [201, 409, 200, 201, 409, 204]

    @pytest.mark.parametrize(
        "headers", [{"HTTP_IF_MATCH": "3"}, {"HTTP_IF_NONE_MATCH": '"v1"'}, {"HTTP_FENCING_TOKEN": "x"}]
    )
    def test_refuses_headers_it_cannot_read(self, bot: Program, headers: dict[str, str]) -> None:
        assert bot.send("put", f"/contexts/{uuid4()}/state/k", 1, **headers).status_code == 422


class TestDeleteOld:
    def test_takes_runs_with_all_that_is_theirs(self, bus: Any) -> None:
        old, new = (runs.start(runs.Request(graph=graph())).run for _ in range(2))
        long_ago = timezone.now() - dt.timedelta(days=90)
        runs.ask(old, runs.Kind.PAUSE, by="ann")
        Run.objects.filter(pk=old.pk).update(state="completed", ended_at=long_ago)
        put(uuid4(), 1)
        ContextKey.objects.update(at=long_ago)

        deleted = runs.delete_old(timezone.now() - dt.timedelta(days=30))

        assert deleted == 1
        assert [run.pk for run in Run.objects.all()] == [new.pk]
        assert not RunCommand.objects.exists()
        assert not ContextKey.objects.exists()


def graph() -> Any:
    """Return a graph of one step."""
    registry.ensure_skill("any")
    return workflows.checked("name: one\nsteps:\n  a: {task: any}\n", "default")

"""The celery executor, with tasks of a private app."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import celery
import pytest
from celery.exceptions import Ignore, Reject
from kombu.utils import json as kombu_json

from routing.executors import AgentFailed, BadInput, BadOutput, Canceled, ExecutorError, Unavailable, get
from routing.executors.celery_call import StepFailed
from routing.executors.recording import Recording
from tests.routing.running import job

app = celery.Celery("shop", broker="memory://", set_as_current=False)
Run = Callable[..., Any]


@pytest.fixture(autouse=True)
def _current_app() -> Iterator[None]:
    before: Any = celery.current_app._get_current_object()  # type: ignore[attr-defined]
    app.set_current()
    yield
    before.set_current()


@app.task(name="shop.add", shared=False)
def add(x: int, y: int = 0) -> int:
    return x + y


@app.task(name="shop.asked", shared=False, bind=True)
def asked(self: Any) -> Any:
    return {"id": self.request.id, "retries": self.request.retries, "args": list(self.request.args)}


@app.task(name="shop.again", shared=False, bind=True, max_retries=2)
def again(self: Any, *args: Any, countdown: float = 7, other: bool = False) -> Any:
    raise self.retry(countdown=countdown, exc=KeyError("busy"), args=(1,) if other else None)


@app.task(name="shop.auto", shared=False, autoretry_for=(OSError,), retry_backoff=False, default_retry_delay=3)
def auto() -> None:
    raise OSError("no route")


@app.task(name="shop.later", shared=False, bind=True)
def later(self: Any) -> None:
    raise self.retry(eta=datetime.now(UTC) + timedelta(seconds=50))


@app.task(name="shop.bad", shared=False)
def bad(kind: str) -> Any:
    raised: dict[str, Exception] = {"ignore": Ignore(), "reject": Reject("x"), "requeue": Reject("x", requeue=True)}
    if kind == "output":
        return object()
    raise raised.get(kind, ValueError(kind))


@app.task(name="shop.day", shared=False)
def day(moment: datetime) -> str:
    return type(moment).__name__


@app.task(name="shop.old_errback", shared=False)
def old_errback(task_id: str) -> str:
    return task_id


@app.task(name="shop.errback", shared=False)
def errback(request: Any, error: Any, traceback: Any, *own: Any) -> Any:
    return [request.id, request.task, list(request.args), str(error), type(error) is StepFailed, traceback, *own]


@app.task(name="shop.own_errback", shared=False)
def own_errback(task_id: str, tag: str) -> Any:
    return [task_id, tag]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs a call."""

    def start(call: Any, *, attempt: int = 1, **options: Any) -> Any:
        wanted = replace(job(tmp_path, agent="celery", input=call, **{"tasks": ["*"], **options}), attempt=attempt)
        return get("celery").run(wanted, Recording(call))

    return start


def error_of(run: Run, call: Any, **options: Any) -> ExecutorError:
    with pytest.raises(ExecutorError) as raised:
        run(call, **options)
    return raised.value


class TestRun:
    def test_returns_the_result_of_the_task(self, run: Run) -> None:
        assert run({"task": "shop.add", "args": [1], "kwargs": {"y": 2}}) == 3

    def test_gives_the_task_its_request(self, run: Run) -> None:
        assert run({"task": "shop.asked"}, attempt=3) == {"id": "t1", "retries": 2, "args": []}

    def test_gives_back_moments_as_they_were_before_they_were_json(self, run: Run) -> None:
        tagged = json.loads(kombu_json.dumps(datetime.now(UTC)))

        assert run({"task": "shop.day", "args": [tagged]}) == "datetime"

    def test_fails_with_the_type_and_traceback_of_what_the_task_raised(self, run: Run) -> None:
        error = error_of(run, {"task": "shop.bad", "args": ["what"]})

        assert (type(error), error.error["message"], error.error["retryable"]) == (
            AgentFailed,
            "ValueError: what",
            False,
        )
        assert error.error["detail"]["type"] == "ValueError"
        assert "in bad" in error.error["detail"]["traceback"]

    def test_asks_for_another_attempt_where_the_task_retries(self, run: Run) -> None:
        error = error_of(run, {"task": "shop.again"})

        assert (error.error["retryable"], error.retry_in_s) == (True, 7)
        assert "busy" in error.error["message"]

    def test_fails_for_good_with_the_error_of_the_task_after_its_last_retry(self, run: Run) -> None:
        error = error_of(run, {"task": "shop.again"}, attempt=3)

        assert (error.error["message"], error.error["retryable"], error.retry_in_s) == ("KeyError: 'busy'", False, None)

    def test_understands_automatic_retries(self, run: Run) -> None:
        assert error_of(run, {"task": "shop.auto"}).retry_in_s == 3

    def test_understands_a_retry_at_a_moment(self, run: Run) -> None:
        assert 40 < (error_of(run, {"task": "shop.later"}).retry_in_s or 0) <= 50

    def test_refuses_to_retry_with_other_arguments(self, run: Run) -> None:
        error = error_of(run, {"task": "shop.again", "kwargs": {"other": True}})

        assert (error.error["retryable"], error.retry_in_s) == (False, None)
        assert "other arguments" in error.error["message"]

    @pytest.mark.parametrize(("kind", "retryable"), [("ignore", False), ("reject", False), ("requeue", True)])
    def test_fails_where_the_task_has_no_result(self, run: Run, kind: str, retryable: bool) -> None:
        assert error_of(run, {"task": "shop.bad", "args": [kind]}).error["retryable"] is retryable

    def test_refuses_a_result_that_is_no_json(self, run: Run) -> None:
        assert isinstance(error_of(run, {"task": "shop.bad", "args": ["output"]}), BadOutput)

    @pytest.mark.parametrize(
        "call", [None, [], {}, {"task": 1}, {"task": "shop.add", "args": {}}, {"task": "x", "y": 1}]
    )
    def test_refuses_what_is_no_call(self, run: Run, call: Any) -> None:
        assert isinstance(error_of(run, call), BadInput)

    @pytest.mark.parametrize("name", ["celery.backend_cleanup", "routing.run_agent_task", "shop.unknown"])
    def test_refuses_tasks_that_are_unknown_or_none_of_the_project(self, run: Run, name: str) -> None:
        assert isinstance(error_of(run, {"task": name}), Unavailable)

    def test_runs_only_what_the_agent_may(self, run: Run) -> None:
        assert run({"task": "shop.add", "args": [1]}, tasks=["shop.*"]) == 1
        assert "allows other.*" in str(error_of(run, {"task": "shop.add", "args": [1]}, tasks=["other.*"]))
        assert "names none yet" in str(error_of(run, {"task": "shop.add", "args": [1]}, tasks=[]))

    def test_does_not_begin_what_was_cancelled(self, tmp_path: Path) -> None:
        context = Recording({"task": "shop.add"})
        context.cancel()

        with pytest.raises(Canceled):
            get("celery").run(job(tmp_path, input={"task": "shop.add"}), context)


class TestProblems:
    def test_says_what_is_wrong(self) -> None:
        assert get("celery").problems({"tasks": ["shop.*"]}) == []
        assert len(get("celery").problems({"tasks": "shop.*", "other": 1})) == 2


class TestArguments:
    """Of error links."""

    FAILED = {
        "step": "pay", "task": "shop.pay", "args": [7], "kwargs": {},
        "errors": [None, {"message": "no money", "cause": {"detail": {"traceback": "Traceback …"}}}],
    }  # fmt: skip

    def test_are_request_error_and_traceback_before_its_own(self, run: Run) -> None:
        called = run({"task": "shop.errback", "args": ["x"], "failed": self.FAILED})

        assert called == ["pay", "shop.pay", [7], "no money", True, "Traceback …", "x"]

    def test_are_the_id_of_the_task_where_it_takes_one(self, run: Run) -> None:
        assert run({"task": "shop.old_errback", "failed": self.FAILED}) == "pay"

    def test_are_the_id_where_all_others_are_its_own(self, run: Run) -> None:
        assert run({"task": "shop.own_errback", "kwargs": {"tag": "t"}, "failed": self.FAILED}) == ["pay", "t"]

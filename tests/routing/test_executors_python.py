"""The python executor, with handlers in the worker's own thread."""

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from routing.executors import (
    AgentFailed,
    BadInput,
    BadOutput,
    Canceled,
    Context,
    Executor,
    LimitExceeded,
    TimedOut,
    Unavailable,
    contract,
    get,
    handler,
    handlers,
    load,
    names,
    python,
)
from routing.executors.recording import Recording
from tests.routing.running import job

Run = Callable[..., Any]


@pytest.fixture(autouse=True)
def known() -> Iterator[None]:
    """Every test ends with the handlers it began with."""
    before, loaded = dict(python._HANDLERS), list(python._LOADED)

    yield

    python._HANDLERS.clear()
    python._HANDLERS.update(before)
    python._LOADED[:] = loaded


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs the handler ``name``."""

    def start(name: str, context: Recording, *, timeout_s: float = 60, **options: Any) -> Any:
        wanted = job(tmp_path / "work", agent=name, input=context.input, timeout_s=timeout_s, **options)
        return get("python").run(wanted, context)

    return start


class TestHandler:
    def test_makes_a_function_an_agent(self) -> None:
        @handler("lint", skills=("code.lint", "code.style"), capacity=2, isolated=True)
        def lint(input: Any, ctx: Context) -> Any:
            """Find faults.

            More words.
            """

        found = python.find("lint")
        assert found in handlers()
        assert (found.skills, found.capacity, found.isolated) == (("code.lint", "code.style"), 2, True)
        assert (found.description, found.module, found.function) == ("Find faults.", __name__, lint)

    def test_takes_its_name_for_a_skill_unless_told(self) -> None:
        handler("lint")(lambda input: input)

        assert python.find("lint").skills == ("lint",)

    def test_refuses_a_name_that_another_function_has(self) -> None:
        def first(input: Any) -> None: ...
        def second(input: Any) -> None: ...

        handler("lint")(first)

        with pytest.raises(ValueError, match=r"'lint' is taken by .*first"):
            handler("lint")(second)

    @pytest.mark.parametrize("function", [lambda: 1, lambda a, b, c: 1, lambda *, input: 1])
    def test_refuses_a_function_it_could_not_call(self, function: Callable[..., Any]) -> None:
        with pytest.raises(TypeError, match=r"must take \(input, ctx\) or \(input\)"):
            handler("lint")(function)

    def test_refuses_wrong_arguments(self) -> None:
        with pytest.raises(TypeError, match="tuple of names"):
            handler("lint", skills="code.lint")
        with pytest.raises(ValueError, match="at least 1"):
            handler("lint", capacity=0)


class TestLoad:
    def test_imports_modules_so_that_their_handlers_are_known(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "my_fleet.py").write_text(
            "from routing.executors import handler\nhandler('mine')(lambda input: input)\n"
        )
        monkeypatch.syspath_prepend(tmp_path)

        load(["my_fleet"])

        assert python.find("mine").module == "my_fleet"

    def test_says_which_module_cannot_be_imported(self) -> None:
        with pytest.raises(Unavailable, match=r"'no_such_fleet' cannot be imported: .*A2A_AGENT_MODULES"):
            load(["no_such_fleet"])


class TestRun:
    def test_gives_input_and_context(self, run: Run) -> None:
        @handler("double")
        def double(input: Any, ctx: Context) -> Any:
            ctx.progress(0.5, "half")
            ctx.log("a line", "warning")
            ref = ctx.artifact("a.txt", "text", "text/plain")
            return {"double": 2 * input, "attempt": ctx.attempt, "size": ref["size"]}

        context = Recording(21, attempt=2)

        assert run("double", context) == {"double": 42, "attempt": 2, "size": 4}
        assert context.progressed == [(0.5, "half")]
        assert context.logged == [("warning", "a line")]
        assert context.artifacts == {"a.txt": b"text"}

    def test_takes_a_function_of_the_input_alone(self, run: Run) -> None:
        handler("double")(lambda input: 2 * input)

        assert run("double", Recording(4)) == 8

    def test_finds_the_handler_the_options_name(self, run: Run) -> None:
        handler("double")(lambda input: 2 * input)

        assert run("some-agent", Recording(4), handler="double") == 8

    def test_of_an_unknown_handler_says_what_to_do(self, run: Run) -> None:
        handler("double")(lambda input: 2 * input)

        with pytest.raises(Unavailable, match=r"called 'treble'.*double.*A2A_AGENT_MODULES"):
            run("treble", Recording())

    def test_turns_an_exception_into_a_failure_that_tells_where(self, run: Run) -> None:
        @handler("broken")
        def broken(input: Any) -> None:
            try:
                dict[str, int]()["key"]
            except KeyError as error:
                raise ValueError("no luck\x00") from error

        with pytest.raises(AgentFailed, match="ValueError: no luck") as caught:
            run("broken", Recording())

        detail = caught.value.error["detail"]
        assert detail["type"] == "ValueError"
        assert 'File "tests/routing/test_executors_python.py"' in detail["traceback"]
        assert "KeyError" in detail["traceback"]
        assert str(Path(__file__).parent) not in detail["traceback"]
        assert "\x00" not in str(caught.value.error)

    def test_keeps_the_tail_of_a_long_traceback(self, run: Run) -> None:
        @handler("deep")
        def deep(input: Any) -> Any:
            return deep(input)

        with pytest.raises(AgentFailed, match="RecursionError") as caught:
            run("deep", Recording())

        assert len(caught.value.error["detail"]["traceback"]) <= 4000

    def test_lets_a_handler_say_how_it_failed(self, run: Run) -> None:
        @handler("picky")
        def picky(input: Any) -> None:
            raise BadInput("I want a list.", detail={"pointer": "/a"})

        with pytest.raises(BadInput) as caught:
            run("picky", Recording())

        assert caught.value.error == {
            "kind": "bad_input",
            "message": "I want a list.",
            "retryable": False,
            "detail": {"pointer": "/a"},
        }

    def test_survives_a_handler_that_exits(self, run: Run) -> None:
        handler("quitter")(lambda input: sys.exit(3))

        with pytest.raises(AgentFailed, match="SystemExit: 3"):
            run("quitter", Recording())

    def test_refuses_an_output_that_is_not_json(self, run: Run) -> None:
        handler("odd")(lambda input: {"a": [object()]})

        with pytest.raises(BadOutput, match=r"\$\.a\[0\] is a object"):
            run("odd", Recording())

    def test_starts_nothing_when_already_cancelled(self, run: Run) -> None:
        handler("never")(lambda input: pytest.fail("it ran"))
        context = Recording()
        context.cancel()

        with pytest.raises(Canceled):
            run("never", context)


class TestRunAsync:
    def test_awaits_the_handler(self, run: Run) -> None:
        @handler("slowly")
        async def slowly(input: Any, ctx: Context) -> Any:
            await asyncio.sleep(0)
            return input

        assert run("slowly", Recording("x")) == "x"

    def test_interrupts_it_on_cancel(self, run: Run) -> None:
        context = Recording()

        @handler("waits")
        async def waits(input: Any) -> None:
            threading.Thread(target=context.cancel).start()
            await asyncio.sleep(600)

        with pytest.raises(Canceled):
            run("waits", context)

    def test_interrupts_it_at_the_time_out(self, run: Run) -> None:
        @handler("waits")
        async def waits(input: Any) -> None:
            await asyncio.sleep(600)

        with pytest.raises(TimedOut, match=r"longer than 0.05 s"):
            run("waits", Recording(), timeout_s=0.05)

    def test_tells_a_handlers_own_time_out_from_ours(self, run: Run) -> None:
        @handler("impatient")
        async def impatient(input: Any) -> None:
            async with asyncio.timeout(0):
                await asyncio.sleep(600)

        with pytest.raises(AgentFailed, match="TimeoutError"):
            run("impatient", Recording())

    def test_a_cancel_after_the_end_does_nothing(self, run: Run) -> None:
        @handler("quick")
        async def quick(input: Any) -> int:
            return 1

        context = Recording()
        assert run("quick", context) == 1

        context.cancel()


class TestProblems:
    def test_finds_none_in_good_options(self) -> None:
        handler("double")(lambda input: input)
        options = {"handler": "double", "isolated": True, "limits": {"cpu_s": 3}, "grace_s": 1}

        assert get("python").problems(options) == get("python").problems({}) == []

    @pytest.mark.parametrize(
        ("options", "word"),
        [
            ({"handler": 3}, "handler must be"),
            ({"handler": "treble"}, "No handler is called 'treble'"),
            ({"isolated": "yes"}, "isolated"),
            ({"argv": []}, "'argv' is unknown"),
            ({"limits": {"cpu_s": "1"}}, "limits.cpu_s"),
        ],
    )
    def test_names_what_is_wrong(self, options: dict[str, Any], word: str) -> None:
        handler("double")(lambda input: input)

        problems = get("python").problems(options)

        assert len(problems) == 1
        assert word in problems[0]


class TestGet:
    def test_knows_both_executors(self) -> None:
        assert {"command", "python"} <= set(names())

    def test_of_an_unknown_name_says_what_is_known(self) -> None:
        with pytest.raises(Unavailable, match=r"'cobol'\. Known: celery, command"):
            get("cobol")

    def test_an_executor_fits_the_protocol(self) -> None:
        executor: Executor = get("python")

        assert executor.name == "python"


class TestErrorFrom:
    @pytest.mark.parametrize("kind", [AgentFailed, BadInput, BadOutput, Canceled, LimitExceeded, TimedOut, Unavailable])
    def test_makes_the_same_error_again(self, kind: type[contract.ExecutorError]) -> None:
        error = kind("why", detail={"a": 1})

        again = contract.error_from(error.error)

        assert type(again) is kind
        assert again.error == error.error

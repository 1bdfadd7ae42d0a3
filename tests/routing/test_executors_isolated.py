"""Handlers in a child process that can be killed."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from routing.executors import AgentFailed, BadInput, BadOutput, Canceled, LimitExceeded, TimedOut, get, load, python
from routing.executors.recording import Recording
from tests.routing.running import ROOT, CancelWhenReady, gone, job, programs, said

Run = Callable[..., Any]


@pytest.fixture(autouse=True)
def known() -> Iterator[None]:
    """Every test ends with the handlers and processes it began with."""
    before, loaded = dict(python._HANDLERS), list(python._LOADED)
    children = programs()

    yield

    python._HANDLERS.clear()
    python._HANDLERS.update(before)
    python._LOADED[:] = loaded
    assert programs() == children


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs the handler ``name``."""

    def start(name: str, context: Recording, *, timeout_s: float = 60, **options: Any) -> Any:
        wanted = job(tmp_path / "work", agent=name, input=context.input, timeout_s=timeout_s, **options)
        return get("python").run(wanted, context)

    return start


ISOLATED = """
    import os, subprocess, sys, threading, time
    from pathlib import Path
    from routing.executors import BadInput, handler

    @handler("talker", isolated=True)
    def talker(input, ctx):
        print("printed")
        ctx.progress(0.25, "a quarter")
        ctx.log("a line", "error")
        Path("file.txt").write_text("from a file")
        first = ctx.artifact("one.txt", "ünï", "text/plain")
        second = ctx.artifact("two.txt", Path("file.txt"))
        third = ctx.artifact("three.bin", b"x" * 3_000_000)
        return {"input": input, "pid": os.getpid(), "sizes": [r["size"] for r in (first, second, third)],
                "key": ctx.idempotency_key, "left": sorted(os.listdir("."))}

    @handler("polite")
    def polite(input, ctx):
        heard = threading.Event()
        ctx.on_cancel(heard.set)
        ctx.log("ready")
        heard.wait(600)
        print("said goodbye", ctx.cancelled, flush=True)

    @handler("endless")
    def endless(input, ctx):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        ctx.log(f"child {child.pid}")
        ctx.log("ready")
        while True:
            pass

    @handler("broken")
    def broken(input):
        raise ValueError("no luck")

    @handler("picky")
    def picky(input):
        raise BadInput("I want a list.", detail={"pointer": "/a"})

    @handler("leaver")
    def leaver(input):
        print("good bye", file=sys.stderr, flush=True)
        os._exit(input)

    @handler("crasher")
    def crasher(input):
        os.abort()

    @handler("greedy")
    def greedy(input):
        return len(bytearray(4 << 30))

    @handler("odd")
    def odd(input):
        return {"a": {1, 2}}

    @handler("threads")
    def threads(input):
        threading.Thread(target=time.sleep, args=(600,)).start()
        return "done"

    @handler("async")
    async def later(input):
        return input
"""


class TestRunIsolated:
    @pytest.fixture(autouse=True)
    def fleet(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        (tmp_path / "isolated_fleet.py").write_text(textwrap.dedent(ISOLATED))
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delenv("DJANGO_SETTINGS_MODULE", raising=False)
        load(["isolated_fleet"])
        yield
        del sys.modules["isolated_fleet"]

    def test_forwards_all_a_handler_says(self, run: Run, tmp_path: Path) -> None:
        context = Recording({"n": [1]})

        output = run("talker", context)

        assert output["input"] == {"n": [1]}
        assert output["pid"] != os.getpid()
        assert output["key"] == "k"
        assert output["sizes"] == [len("ünï".encode()), 11, 3_000_000]
        assert output["left"] == ["file.txt"]
        assert context.artifacts["one.txt"] == "ünï".encode()
        assert context.artifacts["two.txt"] == b"from a file"
        assert context.progressed == [(0.25, "a quarter")]
        assert sorted(context.logged) == [("error", "a line"), ("warning", "printed")]
        assert not (tmp_path / "work").exists()

    def test_is_chosen_by_the_options_too(self, run: Run) -> None:
        assert run("async", Recording("x"), isolated=True) == "x"

    def test_may_be_refused_by_the_options(self, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)

        assert run("talker", Recording(), isolated=False)["pid"] == os.getpid()

    def test_cancel_reaches_the_handler(self, run: Run) -> None:
        with pytest.raises(Canceled) as caught:
            run("polite", CancelWhenReady(), isolated=True, grace_s=30)

        assert "said goodbye True" in caught.value.error["detail"]["stderr"]

    def test_cancel_kills_one_that_does_not_listen_with_its_children(self, run: Run) -> None:
        context = CancelWhenReady()

        with pytest.raises(Canceled):
            run("endless", context, isolated=True, grace_s=0.2)

        assert gone(said(context, "child "))

    def test_time_out_kills_an_endless_loop(self, run: Run) -> None:
        with pytest.raises(TimedOut, match=r"longer than 1.5 s"):
            run("endless", Recording(), isolated=True, timeout_s=1.5, grace_s=0.1)

    def test_an_exception_is_told_as_in_the_thread(self, run: Run) -> None:
        with pytest.raises(AgentFailed, match="ValueError: no luck") as caught:
            run("broken", Recording(), isolated=True)

        assert 'File "isolated_fleet.py"' in caught.value.error["detail"]["traceback"]

    def test_an_error_keeps_its_kind_and_detail(self, run: Run) -> None:
        with pytest.raises(BadInput, match="I want a list") as caught:
            run("picky", Recording(), isolated=True)

        assert caught.value.error["detail"] == {"pointer": "/a"}

    def test_an_output_that_is_not_json_is_refused(self, run: Run) -> None:
        with pytest.raises(BadOutput, match=r"\$\.a is a set"):
            run("odd", Recording(), isolated=True)

    @pytest.mark.parametrize(("code", "words"), [(0, "before the handler returned"), (3, "exit code 3: good bye")])
    def test_a_handler_that_leaves_the_process_fails(self, run: Run, code: int, words: str) -> None:
        with pytest.raises(AgentFailed, match=words) as caught:
            run("leaver", Recording(code), isolated=True)

        assert caught.value.error["detail"]["stderr"] == "good bye"

    def test_a_handler_that_crashes_the_interpreter_fails(self, run: Run) -> None:
        with pytest.raises(AgentFailed, match="killed by SIGABRT"):
            run("crasher", Recording(), isolated=True)

    def test_a_memory_limit_is_named(self, run: Run) -> None:
        with pytest.raises(LimitExceeded, match=r"limits.memory_mb = 1000"):
            run("greedy", Recording(), isolated=True, limits={"memory_mb": 1000})

    def test_threads_left_behind_do_not_hold_it_up(self, run: Run) -> None:
        assert run("threads", Recording(), isolated=True) == "done"

    def test_a_module_that_needs_django_finds_it_ready(
        self, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "plain_settings.py").write_text("INSTALLED_APPS = ['django.contrib.contenttypes']\n")
        (tmp_path / "django_fleet.py").write_text(
            "import os\nfrom routing.executors import handler\n"
            "if os.environ.get('WITH_DJANGO'):\n    from django.contrib.contenttypes.models import ContentType\n"
            "handler('needs-django')(lambda input: ContentType.__name__)\n"
        )
        load(["django_fleet"])
        monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "plain_settings")
        monkeypatch.setenv("WITH_DJANGO", "1")

        assert run("needs-django", Recording(), isolated=True) == "ContentType"

    def test_death_of_the_worker_kills_the_handler_and_its_children(self, tmp_path: Path) -> None:
        source = f"""
            import os, pathlib, sys
            sys.path.append({str(tmp_path)!r})
            from routing.executors import Job, get, load
            from routing.executors.recording import Recording
            class Told(Recording):
                def log(self, message, level="info"): print(message, flush=True)
            load(["isolated_fleet"])
            job = Job(task_id="t", attempt=1, agent="endless", skill="s", input=1, timeout_s=600, idempotency_key="k",
                      options={{"isolated": True}}, work_dir=pathlib.Path({str(tmp_path / "w")!r}))
            get("python").run(job, Told())
        """
        with subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(source)], stdout=subprocess.PIPE, text=True, cwd=ROOT
        ) as worker:
            assert worker.stdout is not None
            child = int(worker.stdout.readline().removeprefix("child "))
            worker.kill()

        assert gone(child)

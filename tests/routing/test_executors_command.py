"""The command executor, with real programs, real signals and real limits."""

import gc
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from routing.executors import (
    AgentFailed,
    BadOutput,
    Canceled,
    ExecutorError,
    LimitExceeded,
    TimedOut,
    Unavailable,
    get,
)
from routing.executors.process import GUARD
from routing.executors.recording import Recording
from tests.routing.running import ROOT, CancelWhenReady, gone, job, programs, said

Run = Callable[..., Any]


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Every test ends with the processes and descriptors it began with."""
    GUARD.watch(1 << 22)  # starts the one process that stays; no group has this number
    GUARD.forget(1 << 22)
    gc.collect()  # what earlier tests have left must not close while this one runs
    me = psutil.Process()
    before, descriptors = programs(), me.num_fds()

    yield

    assert programs() == before
    assert me.num_fds() <= descriptors


@pytest.fixture
def context() -> Recording:
    return Recording({"n": 1})


@pytest.fixture
def run(tmp_path: Path, context: Recording) -> Run:
    """Runs a Python program with the command executor."""

    def start(source: str, *, timeout_s: float = 60, name: str = "work", **options: Any) -> Any:
        options["argv"] = ["{python}", "-c", textwrap.dedent(source)]
        return get("command").run(job(tmp_path / name, input={"n": 1}, timeout_s=timeout_s, **options), context)

    return start


class TestAnswer:
    def test_plain_text_becomes_text(self, run: Run) -> None:
        assert run("print('hello'); print('wörld', end='')") == {"text": "hello\nwörld"}

    def test_a_result_line_is_the_output(self, run: Run) -> None:
        assert run("""print('{"type": "result", "output": {"a": [1]}}')""") == {"a": [1]}

    def test_progress_and_log_lines_reach_the_context(self, run: Run, context: Recording) -> None:
        run(
            """
            print('{"type": "progress", "fraction": 0.5, "message": "half"}')
            print('{"type": "log", "level": "error", "message": "oh"}')
            print('{"type": "progress", "fraction": 7}')
            """
        )

        assert context.progressed == [(0.5, "half")]
        assert context.logged[0] == ("error", "oh")
        assert context.logged[1] == (
            "warning",
            "Ignored a 'progress' line: \"fraction\" must be a number from 0 to 1, or null.",
        )

    def test_progress_is_forwarded_while_the_program_runs(self, tmp_path: Path) -> None:
        context = CancelWhenReady()
        source = """import time; print('{"type": "log", "message": "ready"}', flush=True); time.sleep(600)"""

        with pytest.raises(Canceled):  # nobody would cancel if the line came at the end
            get("command").run(job(tmp_path / "w", argv=["{python}", "-c", source]), context)

    def test_plain_lines_beside_a_result_go_to_the_log(self, run: Run, context: Recording) -> None:
        output = run("""print("chatter"); print('{"type": "result", "output": 1}')""")

        assert output == 1
        assert context.logged == [("info", "Beside its result it printed: chatter")]

    def test_binary_garbage_becomes_text_a_database_can_keep(self, run: Run) -> None:
        output = run("import sys; sys.stdout.buffer.write(bytes(range(256)) * 100)")

        assert "\x00" not in output["text"]
        assert "\ufffd" in output["text"]
        json.dumps(output).encode()

    def test_no_output_is_empty_text(self, run: Run) -> None:
        assert run("pass") == {"text": ""}

    def test_an_error_line_fails_the_attempt(self, run: Run) -> None:
        with pytest.raises(AgentFailed, match="quota used up") as caught:
            run("""print('{"type": "error", "message": "quota used up", "retryable": true}'); raise SystemExit(3)""")

        assert caught.value.error["retryable"] is True

    @pytest.mark.parametrize(
        ("lines", "why"),
        [
            ('{"type": "result"}', '"output" is missing'),
            ('{"type": "result", "output": NaN}', "is nan"),
            ('{"type": "result", "output": 1}\n{"type": "result", "output": 2}', "second result"),
            ('{"type": "artifact", "name": "x"}', '"path" must be a string'),
        ],
    )
    def test_a_broken_answer_is_refused(self, run: Run, lines: str, why: str) -> None:
        with pytest.raises(BadOutput, match=why):
            run(f"print({lines!r}, flush=True)")


class TestInput:
    def test_comes_as_one_json_object_on_standard_input(self, run: Run) -> None:
        text = run("import sys; print(sys.stdin.read(), sys.argv)")["text"]

        sent, rest = json.JSONDecoder().raw_decode(text)
        assert sent == {"task": "t1", "attempt": 2, "skill": "s", "input": {"n": 1}, "idempotency_key": "k"}
        assert text[rest:].split() == ["['-c']"]

    def test_need_not_be_read(self, tmp_path: Path, context: Recording) -> None:
        large = job(tmp_path / "w", input="x" * 4_000_000, argv=["/bin/sh", "-c", "echo done"])

        assert get("command").run(large, context) == {"text": "done\n"}

    def test_larger_than_a_pipe_arrives_whole_while_the_program_writes(
        self, tmp_path: Path, context: Recording
    ) -> None:
        source = "import sys; print('y' * 1_000_000, flush=True); print(len(sys.stdin.read()))"
        large = job(tmp_path / "w", input="x" * 3_000_000, argv=["{python}", "-c", source])

        text = get("command").run(large, context)["text"]

        assert int(text.split()[1]) > 3_000_000


class TestEnvironment:
    def test_is_scrubbed(self, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("A2A_SECRET_KEY", "secret")
        monkeypatch.setenv("PASS_ME", "passed")

        text = run(
            "import os, json; print(json.dumps(dict(os.environ)))",
            env={"MINE": "yes"},
            env_pass=["PASS_ME", "NOT_THERE"],
        )["text"]

        env = json.loads(text)
        allowed = {"PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "HOME", "TMPDIR", "MINE", "PASS_ME"}
        assert set(env) <= allowed
        assert (env["MINE"], env["PASS_ME"]) == ("yes", "passed")
        assert env["HOME"] == env["TMPDIR"] == str(tmp_path / "work")

    def test_directory_is_private_and_removed(self, run: Run, tmp_path: Path) -> None:
        text = run(
            """
            import os, pathlib
            os.mkdir("locked"); pathlib.Path("locked/file").touch(); os.chmod("locked", 0)
            print(os.getcwd(), oct(os.stat(".").st_mode & 0o777))
            """
        )["text"]

        assert text.split() == [str(tmp_path / "work"), "0o700"]
        assert not (tmp_path / "work").exists()

    def test_directory_of_the_options_is_used_and_kept(self, run: Run, tmp_path: Path) -> None:
        assert run("import os; print(os.getcwd())", cwd=str(tmp_path)) == {"text": f"{tmp_path}\n"}
        assert tmp_path.exists()

    def test_holds_no_descriptors_but_the_three_pipes(self, run: Run) -> None:
        assert run("import os; print(os.listdir('/proc/self/fd'))") == {"text": "['0', '1', '2', '3']\n"}

    def test_ignores_no_signals(self, tmp_path: Path, context: Recording) -> None:
        shell = job(tmp_path / "w", argv=["/bin/grep", "SigIgn", "/proc/self/status"])

        text = get("command").run(shell, context)["text"]

        assert int(text.split()[1], 16) & (1 << (signal.SIGPIPE - 1) | 1 << (signal.SIGXFSZ - 1)) == 0


class TestArtifact:
    def test_is_kept(self, run: Run, context: Recording) -> None:
        run(
            """
            import os, pathlib
            os.mkdir("out"); pathlib.Path("out/a.txt").write_text("hello")
            print('{"type": "artifact", "name": "a.txt", "path": "out/a.txt", "media_type": "text/plain"}')
            """
        )

        assert context.artifacts == {"a.txt": b"hello"}

    @pytest.mark.parametrize(
        ("path", "prepare"),
        [
            ("../outside.txt", ""),
            ("sub/../../outside.txt", "os.mkdir('sub')"),
            ("{outside}", ""),
            ("link", "os.symlink('{outside}', 'link')"),
            ("dir/outside.txt", "os.symlink('{parent}', 'dir')"),
            ("", ""),
            ("missing", ""),
            (".", ""),
            ("sub", "os.mkdir('sub')"),
            ("fifo", "os.mkfifo('fifo')"),
        ],
    )
    def test_outside_the_directory_or_no_file_is_refused(
        self, run: Run, context: Recording, tmp_path: Path, path: str, prepare: str
    ) -> None:
        outside = tmp_path / "outside.txt"
        outside.write_text("secret")
        path, prepare = (text.format(outside=outside, parent=tmp_path) for text in (path, prepare))
        line = json.dumps({"type": "artifact", "name": "a", "path": path})

        with pytest.raises(BadOutput, match="is refused"):
            run(f"import os\n{prepare}\nprint({line!r}, flush=True)")

        assert context.artifacts == {}


class TestFailure:
    def test_of_the_exit_code_says_code_and_standard_error(self, run: Run, context: Recording) -> None:
        with pytest.raises(AgentFailed, match="exit code 3: the reason") as caught:
            run("import sys; print('the reason', file=sys.stderr); sys.exit(3)")

        assert caught.value.error["kind"] == "agent"
        assert caught.value.error["detail"] == {"exit_code": 3, "stderr": "the reason"}
        assert ("warning", "the reason") in context.logged

    def test_by_a_signal_says_which(self, run: Run) -> None:
        with pytest.raises(AgentFailed, match="killed by SIGSEGV"):
            run("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")

    def test_of_the_exit_code_wins_over_a_result(self, run: Run) -> None:
        with pytest.raises(AgentFailed, match="exit code 1"):
            run("""print('{"type": "result", "output": 1}'); raise SystemExit(1)""")

    @pytest.mark.parametrize("program", ["no-such-program", "/no/such/program", "./here"])
    def test_of_a_missing_program_says_what_to_do(self, tmp_path: Path, context: Recording, program: str) -> None:
        with pytest.raises(Unavailable, match="Install it") as caught:
            get("command").run(job(tmp_path / "w", argv=[program]), context)

        assert caught.value.error["retryable"] is True

    def test_of_a_program_the_kernel_refuses(self, tmp_path: Path, context: Recording) -> None:
        broken = tmp_path / "broken"
        broken.write_bytes(b"\x7fELF nonsense")
        broken.chmod(0o700)

        with pytest.raises(Unavailable, match="cannot be started: Exec format error"):
            get("command").run(job(tmp_path / "w", argv=[str(broken)]), context)

    def test_of_the_context_kills_the_program(self, tmp_path: Path) -> None:
        class Fenced(Recording):
            def log(self, message: str, level: str = "info") -> None:
                super().log(message, level)
                raise Canceled("stale attempt")

        context = Fenced()
        source = "import os, sys, time; print(os.getpid(), file=sys.stderr, flush=True); time.sleep(600)"

        with pytest.raises(Canceled, match="stale attempt"):
            get("command").run(job(tmp_path / "w", argv=["{python}", "-c", source]), context)

        assert gone(int(context.logged[0][1]))


class TestLimits:
    def test_memory(self, run: Run) -> None:
        with pytest.raises(LimitExceeded, match=r"limits.memory_mb = 200") as caught:
            run("x = bytearray(1 << 30)", limits={"memory_mb": 200})

        assert caught.value.error["detail"]["limit"] == "memory_mb"

    def test_processor_time(self, run: Run) -> None:
        with pytest.raises(LimitExceeded, match=r"limits.cpu_s = 1"):
            run("while True: pass", limits={"cpu_s": 1})

    def test_processor_time_of_a_program_that_ignores_the_warning(self, run: Run) -> None:
        with pytest.raises(LimitExceeded, match=r"limits.cpu_s = 1"):
            run(
                """
                import signal
                signal.signal(signal.SIGXCPU, signal.SIG_IGN)
                while True: pass
                """,
                limits={"cpu_s": 1},
            )

    def test_output(self, run: Run, context: Recording) -> None:
        with pytest.raises(LimitExceeded, match=r"limits.output_bytes = 100000"):
            run("while True: print('x' * 1000)", limits={"output_bytes": 100_000})

    def test_output_of_one_endless_line(self, run: Run) -> None:
        with pytest.raises(LimitExceeded, match=r"limits.output_bytes = 8388608"):
            run("import sys\nwhile True: sys.stdout.write('x' * 100_000)")

    def test_file_size(self, run: Run) -> None:
        with pytest.raises(LimitExceeded, match=r"limits.file_mb = 1"):
            run("open('big', 'wb').write(b'x' * 3_000_000)", limits={"file_mb": 1})

    def test_open_files(self, run: Run) -> None:
        with pytest.raises(LimitExceeded, match=r"limits.open_files = 20"):
            run("x = [open('/dev/null') for _ in range(30)]", limits={"open_files": 20})

    def test_no_core_file_is_ever_written(self, run: Run) -> None:
        text = run("import resource; print(resource.getrlimit(resource.RLIMIT_CORE))")["text"]

        assert text == "(0, 0)\n"

    def test_standard_error_is_not_limited_but_logged_at_a_rate(self, run: Run, context: Recording) -> None:
        assert run("import sys\nfor n in range(20_000): print(n, file=sys.stderr)") == {"text": ""}

        assert len(context.logged) < 5_000
        assert "log lines were dropped" in context.logged[-1][1]


GRANDCHILD = """
    import os, subprocess, sys, time
    child = subprocess.Popen([sys.executable, "-c", '''{child}'''], stdout={stdout})
    print("child", child.pid, file=sys.stderr, flush=True)
    print("ready", file=sys.stderr, flush=True)
    {then}
"""


class TestStopping:
    def test_cancel_kills_the_whole_group(self, tmp_path: Path) -> None:
        context = CancelWhenReady()
        source = GRANDCHILD.format(child="import time; time.sleep(600)", stdout="None", then="time.sleep(600)")

        with pytest.raises(Canceled):
            get("command").run(job(tmp_path / "w", argv=["{python}", "-c", textwrap.dedent(source)]), context)

        assert gone(said(context, "child "))

    def test_cancel_kills_a_program_that_ignores_sigterm(self, tmp_path: Path) -> None:
        context = CancelWhenReady()
        deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
        source = GRANDCHILD.format(child=deaf, stdout="None", then=f"exec('{deaf}')")

        with pytest.raises(Canceled):
            get("command").run(
                job(tmp_path / "w", argv=["{python}", "-c", textwrap.dedent(source)], grace_s=0.3), context
            )

        assert gone(said(context, "child "))

    def test_cancel_lets_a_program_tidy_up(self, tmp_path: Path) -> None:
        context = CancelWhenReady()
        source = """
            import os, signal, sys, time
            def tidy(*_):
                os.write(2, b"tidied")  # print may be interrupted by itself
                os._exit(0)
            signal.signal(signal.SIGTERM, tidy)
            print("ready", file=sys.stderr, flush=True)
            time.sleep(600)
        """

        with pytest.raises(Canceled) as caught:
            get("command").run(
                job(tmp_path / "w", argv=["{python}", "-c", textwrap.dedent(source)], grace_s=30), context
            )

        assert "tidied" in caught.value.error["detail"]["stderr"]

    def test_cancel_before_the_start_starts_nothing(self, run: Run, context: Recording, tmp_path: Path) -> None:
        context.cancel()

        with pytest.raises(Canceled, match="before the program started"):
            run("open('/dev/null')")

    def test_cancel_after_the_end_does_nothing(self, run: Run, context: Recording) -> None:
        run("pass")

        context.cancel()

    def test_time_out_kills(self, run: Run, context: Recording) -> None:
        with pytest.raises(TimedOut, match=r"longer than 0.5 s"):
            run("import time; time.sleep(600)", timeout_s=0.5)

    def test_time_out_kills_a_stopped_program(self, run: Run, context: Recording) -> None:
        with pytest.raises(TimedOut):
            run("import os, signal; os.kill(os.getpid(), signal.SIGSTOP)", timeout_s=0.5, grace_s=0.1)

    @pytest.mark.parametrize("stdout", ["None", "subprocess.DEVNULL"])
    def test_a_child_left_behind_neither_hangs_the_run_nor_survives(
        self, run: Run, context: Recording, stdout: str
    ) -> None:
        text = run(GRANDCHILD.format(child="import time; time.sleep(600)", stdout=stdout, then='print("done")'))["text"]

        assert text == "done\n"
        assert gone(said(context, "child "))

    def test_a_child_that_left_the_group_with_the_pipes_does_not_hang_the_run(
        self, run: Run, context: Recording
    ) -> None:
        escapee = "import os, time; os.setsid(); time.sleep(600)"

        assert run(GRANDCHILD.format(child=escapee, stdout="None", then='print("done")')) == {"text": "done\n"}

        os.kill(said(context, "child "), signal.SIGKILL)
        assert gone(said(context, "child "))

    def test_what_children_write_shortly_after_the_end_is_heard(self, run: Run) -> None:
        late = "import time; time.sleep(0.2); print(1234)"

        assert run(GRANDCHILD.format(child=late, stdout="None", then="pass")) == {"text": "1234\n"}

    def test_death_of_the_worker_kills_the_program_its_children_and_the_guard(self, tmp_path: Path) -> None:
        source = textwrap.dedent(
            """
            import os, subprocess, sys, time
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
            print(os.getpid(), child.pid, file=sys.stderr, flush=True)
            time.sleep(600)
            """
        )
        worker = f"""
            import pathlib, threading
            from routing.executors import Job, get
            from routing.executors.process import GUARD
            from routing.executors.recording import Recording
            class Told(Recording):
                def log(self, message, level="info"): print(message, GUARD._guard, flush=True)
            job = Job(task_id="t", attempt=1, agent="a", skill="s", input=1, timeout_s=600, idempotency_key="k",
                      options={{"argv": ["{{python}}", "-c", {source!r}]}},
                      work_dir=pathlib.Path({str(tmp_path / "w")!r}))
            thread = threading.Thread(target=get("command").run, args=(job, Told()))
            thread.start()
            thread.join()
        """
        with subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(worker)], stdout=subprocess.PIPE, text=True, cwd=ROOT
        ) as process:
            assert process.stdout is not None
            left = [int(pid) for pid in process.stdout.readline().split()]
            process.kill()

        assert len(left) == 3
        assert all(map(gone, left))


class TestMany:
    def test_run_at_once_in_a_thread_pool(self, tmp_path: Path) -> None:
        def one(n: int) -> Any:
            source = f"import sys; print({n}); sys.exit({n} % 2)"
            try:
                return get("command").run(job(tmp_path / str(n), argv=["{python}", "-c", source]), Recording())
            except ExecutorError as error:
                return error.error["detail"]["exit_code"]

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(one, range(24)))

        assert answers == [1 if n % 2 else {"text": f"{n}\n"} for n in range(24)]

    def test_a_guard_that_was_killed_is_replaced(self, run: Run) -> None:
        killed = GUARD._guard
        os.kill(killed, signal.SIGKILL)

        assert gone(killed)
        assert run("print('done')") == {"text": "done\n"}
        assert GUARD._guard != killed
        os.kill(GUARD._guard, 0)

    def test_without_a_pidfd_it_works_too(self, run: Run, monkeypatch: pytest.MonkeyPatch, context: Recording) -> None:
        monkeypatch.delattr(os, "pidfd_open")

        assert run("print('done')") == {"text": "done\n"}
        with pytest.raises(TimedOut):
            run("import time; time.sleep(600)", timeout_s=0.5)


class TestProblems:
    def test_finds_none_in_good_options(self) -> None:
        options = {
            "argv": ["{python}", "-m", "agent"],
            "env": {"A": "b"},
            "env_pass": ["HOME"],
            "cwd": None,
            "limits": {"cpu_s": 1, "memory_mb": 64, "output_bytes": 1, "open_files": 32, "file_mb": None},
            "grace_s": 0.5,
        }

        assert get("command").problems(options) == []

    @pytest.mark.parametrize(
        ("options", "word"),
        [
            ({}, "argv"),
            ({"argv": []}, "argv"),
            ({"argv": "ls -l"}, "argv"),
            ({"argv": ["ls", 3]}, "argv"),
            ({"argv": ["x", "{input}"]}, "standard input"),
            ({"argv": ["x\x00"]}, "NUL"),
            ({"argv": ["x"], "shell": True}, "'shell' is unknown"),
            ({"argv": ["x"], "env": {"A": 1}}, "env"),
            ({"argv": ["x"], "env": {"A=B": "1"}}, "env"),
            ({"argv": ["x"], "env_pass": "HOME"}, "env_pass"),
            ({"argv": ["x"], "cwd": "relative"}, "cwd"),
            ({"argv": ["x"], "limits": {"cpu": 1}}, "limits.cpu is unknown"),
            ({"argv": ["x"], "limits": {"cpu_s": 0}}, "at least 1"),
            ({"argv": ["x"], "limits": {"memory_mb": True}}, "at least 16"),
            ({"argv": ["x"], "limits": []}, "limits"),
            ({"argv": ["x"], "grace_s": -1}, "grace_s"),
        ],
    )
    def test_names_what_is_wrong(self, options: dict[str, Any], word: str) -> None:
        problems = get("command").problems(options)

        assert len(problems) == 1
        assert word in problems[0]

    def test_run_refuses_wrong_options(self, tmp_path: Path, context: Recording) -> None:
        with pytest.raises(Unavailable, match="options are wrong: argv") as caught:
            get("command").run(job(tmp_path / "w"), context)

        assert caught.value.error["retryable"] is False

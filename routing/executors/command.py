"""The ``command`` executor: an agent that is a program, in any language.

It gets one JSON object on standard input, never anything of the task in its arguments, and answers with the lines of
``protocol`` or with plain text, which becomes ``{"text": ...}``. Options of the agent:

    argv      what to run; "{python}" stands for this Python. Required
    env       more environment variables: {"NAME": "value"}
    env_pass  names of variables to hand over from the worker's own environment
    cwd       an existing directory to run in; otherwise a private one, removed afterwards
    limits    {cpu_s, memory_mb, output_bytes, open_files, file_mb}, see ``program.Limits``
    grace_s   seconds between SIGTERM and SIGKILL, 2 unless given
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from routing.executors import options as checks
from routing.executors.contract import AgentFailed, BadInput, Canceled, Context, Job, Unavailable, executor
from routing.executors.conversation import Conversation, clean
from routing.executors.output import as_json
from routing.executors.process import Running
from routing.executors.program import MIB, Program
from routing.executors.protocol import Artifact
from routing.executors.verdict import failure
from routing.executors.workspace import opened_inside, workspace

KNOWN = ("argv", "env", "env_pass", "cwd", "limits", "grace_s")
PASSED = ("PATH", "LANG", "LC_ALL", "TZ")
OUTPUT_BYTES = 8 * MIB
GRACE_S = 2.0


@executor("command")
class Command:
    """Runs a program for every task."""

    name: str

    def problems(self, options: Mapping[str, Any]) -> list[str]:
        """Return in words what is wrong. Whether the program exists is known only on the worker that runs it."""
        return [
            *checks.unknown(options, KNOWN),
            *_argv_problems(options.get("argv")),
            *checks.env_problems(options.get("env"), options.get("env_pass")),
            *_cwd_problems(options.get("cwd")),
            *checks.limit_problems(options.get("limits")),
            *checks.grace_problems(options.get("grace_s")),
        ]

    def run(self, job: Job, context: Context) -> Any:
        """Return the program's result, or its plain output as ``{"text": ...}``. Raises ExecutorError."""
        checks.require(self.problems(job.options))
        if context.cancelled:
            raise Canceled("The task was cancelled before the program started.")
        sent = _input(job)
        with workspace(job.work_dir) as home:
            program = _program(job, home)
            conversation = _converse(program, sent, context)
        return _answer(conversation)


def _converse(program: Program, sent: bytes, context: Context) -> Conversation:
    """Run the program to its end. Raises ExecutorError when it did not end well."""

    def publish(artifact: Artifact) -> None:
        with opened_inside(program.cwd, artifact.path) as path:
            context.artifact(artifact.name, path, artifact.media_type)

    conversation = Conversation(context, publish=publish)
    with Running(program) as running:
        running.send(sent)
        running.close_input()
        context.on_cancel(running.cancel)
        ended = running.follow(conversation)
        conversation.finish()
    failed = failure(ended, program, conversation.tail)
    if failed and (ended.stopped or not conversation.failure):
        raise failed
    return conversation


def _answer(conversation: Conversation) -> Any:
    if conversation.failure:
        said = conversation.failure
        detail = {"stderr": conversation.tail} if conversation.tail else {}
        raise AgentFailed(clean(said.message[:2000]), retryable=said.retryable, detail=detail)
    return as_json(conversation.result.output) if conversation.result else {"text": conversation.text}


def _input(job: Job) -> bytes:
    fields = {
        "task": job.task_id,
        "attempt": job.attempt,
        "skill": job.skill,
        "input": job.input,
        "idempotency_key": job.idempotency_key,
    }
    try:
        return json.dumps(fields, allow_nan=False).encode() + b"\n"
    except (TypeError, ValueError) as error:
        raise BadInput(f"The input is not JSON: {error}.") from error


def _program(job: Job, home: Path) -> Program:
    cwd = Path(job.options["cwd"]) if job.options.get("cwd") else home
    env = _environment(job.options, home)
    argv = tuple(part.replace("{python}", sys.executable) for part in job.options["argv"])
    _require_program(argv[0], cwd, env)
    return Program(
        argv=argv,
        env=env,
        cwd=cwd,
        limits=checks.limits(job.options, output_bytes=OUTPUT_BYTES),
        timeout_s=job.timeout_s,
        grace_s=GRACE_S if job.options.get("grace_s") is None else job.options["grace_s"],
    )


def _environment(options: Mapping[str, Any], home: Path) -> dict[str, str]:
    passed = (*PASSED, *(options.get("env_pass") or ()))
    handed = {name: os.environ[name] for name in passed if name in os.environ}
    own = {"HOME": str(home), "TMPDIR": str(home)}
    return {"PATH": os.defpath, "LANG": "C.UTF-8", **handed, **own, **(options.get("env") or {})}


def _require_program(name: str, cwd: Path, env: Mapping[str, str]) -> None:
    if not cwd.is_dir():
        raise Unavailable(f"The agent's working directory {str(cwd)!r} does not exist on this worker.")
    where = str(cwd / name) if "/" in name else name
    if shutil.which(where, path=env["PATH"]) is None:
        raise Unavailable(
            f"The program {name!r} is not on this worker's PATH. Install it, or give its full path in argv."
        )


def _argv_problems(argv: Any) -> list[str]:
    if not isinstance(argv, list | tuple) or not argv or not all(isinstance(part, str) and part for part in argv):
        return ['argv must be a list of non-empty strings, such as ["{python}", "-m", "my_agent"].']
    if any("\x00" in part for part in argv):
        return ["argv must not hold NUL characters."]
    if any("{input" in part for part in argv):
        return ["argv cannot hold the input: the program reads it from standard input."]
    return []


def _cwd_problems(cwd: Any) -> list[str]:
    if cwd is None or (isinstance(cwd, str) and os.path.isabs(cwd) and "\x00" not in cwd):
        return []
    return ["cwd must be an absolute path, or null for a private directory."]

"""Runs a handler in a child process that can be killed.

The child is a fresh Python (``child.py``), never a fork of this one, whose threads' locks it would inherit as they are.
It has the worker's environment and import path, talks the lines of ``protocol``, and gets the reference of each
artifact back on its standard input.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from routing.executors import options as checks
from routing.executors import python
from routing.executors.contract import AgentFailed, Context, Job, error_from
from routing.executors.conversation import Conversation
from routing.executors.output import as_json
from routing.executors.process import Running
from routing.executors.program import MIB, Program
from routing.executors.protocol import Artifact
from routing.executors.verdict import failure, over_limit
from routing.executors.workspace import workspace

OUTPUT_BYTES = 64 * MIB
GRACE_S = 2.0


def run_isolated(handler: python.Handler, job: Job, context: Context) -> Any:
    """Return what the handler returns in a child process. Raises ExecutorError."""
    with workspace(job.work_dir) as home:
        program = _program(job, home)
        with Running(program) as running:

            def publish(artifact: Artifact) -> None:
                ref = context.artifact(artifact.name, Path(artifact.path), artifact.media_type)
                running.send(_line(ref))

            conversation = Conversation(context, publish=publish)
            running.send(_line(_order(handler, job, context)))
            context.on_cancel(running.cancel)
            ended = running.follow(conversation)
            conversation.finish()
    failed = failure(ended, program, conversation.tail)
    if failed and (ended.stopped or not conversation.failure):
        raise failed
    return _answer(conversation, program)


def _answer(conversation: Conversation, program: Program) -> Any:
    if conversation.failure:
        said = conversation.failure
        if said.detail.get("type") == "MemoryError" and program.limits.memory_mb is not None:
            raise over_limit(program, "memory_mb", "it asked for more memory", said.detail)
        error = {"kind": said.kind, "message": said.message, "retryable": said.retryable, "detail": said.detail}
        raise error_from(error)
    if conversation.result is None:
        detail = {"stderr": conversation.tail} if conversation.tail else {}
        raise AgentFailed("The handler's process ended before the handler returned.", detail=detail)
    return as_json(conversation.result.output)


def _program(job: Job, home: Path) -> Program:
    path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
    return Program(
        argv=(sys.executable, "-P", "-m", "routing.executors.child"),
        env={**os.environ, "PYTHONPATH": path},
        cwd=home,
        limits=checks.limits(job.options, output_bytes=OUTPUT_BYTES),
        timeout_s=job.timeout_s,
        grace_s=GRACE_S if job.options.get("grace_s") is None else job.options["grace_s"],
    )


def _order(handler: python.Handler, job: Job, context: Context) -> dict[str, Any]:
    return {
        "handler": handler.name,
        "modules": [handler.module, *python.loaded()],
        "task_id": job.task_id,
        "attempt": job.attempt,
        "idempotency_key": job.idempotency_key,
        "input": job.input,
        "answers": list(context.answers) if job.attempt > 1 else [],
    }


def _line(value: Any) -> bytes:
    return json.dumps(value).encode() + b"\n"

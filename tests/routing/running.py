"""What the executors' tests share: jobs, a context that cancels, and a look at what still runs."""

import threading
import time
from pathlib import Path
from typing import Any

import psutil

from routing.executors import Job
from routing.executors.process import GUARD
from routing.executors.recording import Recording

ROOT = Path(__file__).parents[2]


def job(work_dir: Path, *, agent: str = "a", input: Any = None, timeout_s: float = 60, **options: Any) -> Job:
    """Return a job with these executor options."""
    return Job(
        task_id="t1",
        attempt=2,
        agent=agent,
        skill="s",
        input=input,
        options=options,
        timeout_s=timeout_s,
        idempotency_key="k",
        work_dir=work_dir,
    )


class CancelWhenReady(Recording):
    """Cancels as soon as "ready" is logged."""

    def log(self, message: str, level: str = "info") -> None:
        super().log(message, level)
        if message == "ready":
            threading.Thread(target=self.cancel).start()


def programs() -> set[psutil.Process]:
    """Return our child processes, without the guard."""
    return {child for child in psutil.Process().children(recursive=True) if child.pid != GUARD._guard}


def gone(pid: int) -> bool:
    """Return whether the process ends soon; a zombie nobody reaps has ended too."""
    for _ in range(500):
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


def said(context: Recording, prefix: str) -> int:
    """Return the number that was logged after ``prefix``."""
    return int(next(message for _, message in context.logged if message.startswith(prefix)).removeprefix(prefix))

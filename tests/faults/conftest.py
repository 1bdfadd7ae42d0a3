"""One stack for all of these tests: starting it takes longer than most of them."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from a2a_site.chaos.campaign import fresh_database
from a2a_site.chaos.stack import Stack
from a2a_site.chaos.verdict import quantile
from tests.faults.trial import Trial


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything in this directory."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.fault)


TRIALS = pytest.StashKey[list[Trial]]()
KEPT = pytest.StashKey[Path]()  # the stack's directory, after a failure


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the figures of every trial, a line of JSON each."""
    for trial in config.stash.get(TRIALS, []):
        terminalreporter.write_line(json.dumps(figures(trial)))
    if KEPT in config.stash:
        terminalreporter.write_line(f"Logs and database of the stack: {config.stash[KEPT]}")


@pytest.fixture(scope="session")
def trials(request: pytest.FixtureRequest) -> list[Trial]:
    """Return the trials so far, to be added to."""
    return request.config.stash.setdefault(TRIALS, [])


@pytest.fixture(scope="session")
def stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """Yield two controllers and two workers; with a new database on PostgreSQL where DATABASE_URL names a server.

    Their logs and database are kept where a test has failed.
    """
    home = Path(tempfile.mkdtemp(prefix="a2a-faults-"))  # pytest's own directories are too deep for a socket
    url = os.environ.get("DATABASE_URL", "")
    with fresh_database(url if url.startswith("postgres") else "") as database:
        made = Stack(home, controllers=2, workers=2, database_url=database)
        made.environment["A2A_AGENT_MODULES"] += ",tests.faults.oracle_agents"
        made.environment["A2A_CELERY_TASKS"] = "oracle.*"
        with made as running:
            yield running
    if request.session.testsfailed:
        request.config.stash[KEPT] = home
    else:
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def trial(stack: Stack, trials: list[Trial], request: pytest.FixtureRequest) -> Iterator[Trial]:
    """Yield a stack that is whole and idle; in the end no promise may have been broken."""
    stack.recover()
    trial = Trial(stack, name=request.node.nodeid.partition("::")[2])
    yield trial
    stack.customer.rest()
    stack.recover()
    trials.append(trial)


@pytest.fixture
def burdened(stack: Stack, trials: list[Trial], request: pytest.FixtureRequest) -> Iterator[Trial]:
    """Yield a trial on a stack as it is: something may be broken already."""
    trial = Trial(stack, name=request.node.nodeid.partition("::")[2])
    yield trial
    stack.customer.rest()
    trials.append(trial)


def figures(trial: Trial) -> dict[str, object]:
    """Return how long recovery took in a trial, and how long submitting."""
    verdict = trial.verdict
    if verdict is None:
        return {"fault": trial.name, **(trial.figures or {"verdict": None})}
    return {
        "fault": trial.name,
        "tasks": verdict.tasks,
        "lost": verdict.lost,
        "doubled": verdict.doubled,
        "hit": len(verdict.recovery_s),
        "recovery_p99_s": round(quantile(verdict.recovery_s, 0.99), 2),
        "recovery_max_s": round(quantile(verdict.recovery_s, 1), 2),
        "submit_p99_s": round(quantile(verdict.submit_s, 0.99), 4),
        **trial.figures,
    }

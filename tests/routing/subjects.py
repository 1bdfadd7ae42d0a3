"""Tasks as limits and budgets see them."""

from dataclasses import dataclass

from routing.events import TaskSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject(TaskSpec):
    """A task with a concurrency key of its own, in a run."""

    id: str = "x"
    tenant: str = "acme"
    skill: str = "crawl"
    concurrency_key: str = ""
    context: str = ""

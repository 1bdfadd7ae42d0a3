"""What a client can do: one list for the one that waits and the one that is awaited."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from a2a_client import calls
from a2a_client.calls import Call

if TYPE_CHECKING:
    from a2a_client.asynchronous import AsyncClient
    from a2a_client.client import Client

P = ParamSpec("P")
T = TypeVar("T")


class Method(Generic[P, T]):
    """A call as a method: ``Client`` returns the answer, ``AsyncClient`` an awaitable of it."""

    def __init__(self, make: Callable[P, Call[T]]) -> None:
        self._make = make
        self.__doc__ = make.__doc__

    @overload
    def __get__(self, client: Client, owner: Any) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: AsyncClient, owner: Any) -> Callable[P, Awaitable[T]]: ...
    @overload
    def __get__(self, client: None, owner: Any) -> Method[P, T]: ...
    def __get__(self, client: Any, owner: Any) -> Any:
        if client is None:
            return self

        @functools.wraps(self._make)
        def method(*args: P.args, **kwargs: P.kwargs) -> Any:
            return client.send(self._make(*args, **kwargs))

        return method


class Surface:
    """The calls that both clients have."""

    submit = Method(calls.submit)
    submit_many = Method(calls.submit_many)
    task = Method(calls.task)
    tasks = Method(calls.tasks)
    cancel = Method(calls.cancel)
    decision = Method(calls.decision)
    feedback = Method(calls.feedback)

    agents = Method(calls.agents)
    agent = Method(calls.agent)
    register = Method(calls.register)
    drain = Method(calls.drain)
    resume_agent = Method(calls.resume_agent)
    remove_agent = Method(calls.remove_agent)
    skills = Method(calls.skills)

    workflows = Method(calls.workflows)
    save_workflow = Method(calls.save_workflow)
    start = Method(calls.start)
    run = Method(calls.run)
    runs = Method(calls.runs)
    pause = Method(calls.pause)
    resume = Method(calls.resume)
    cancel_run = Method(calls.cancel_run)
    retry_run = Method(calls.retry_run)
    skip = Method(calls.skip)
    rerun = Method(calls.rerun)
    fork = Method(calls.fork)
    signal = Method(calls.signal)

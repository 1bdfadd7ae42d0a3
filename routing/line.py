"""A short way to Redis, for the commands that run for every task."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import redis


class Line:
    """One connection to Redis, for one thread at a time.

    redis-py's client takes three times as long for a command: it picks a connection and gathers figures for each.
    """

    def __init__(self, pool: Any) -> None:
        self.pool = pool
        self.process = os.getpid()  # a forked child must not speak over its parent's
        # Without health checks: a connection that broke while nobody spoke is found out, and made again, by ``ask``.
        options = {**pool.connection_kwargs, "health_check_interval": 0, "protocol": 2}
        self._connection = pool.connection_class(**options)

    def ask(self, *command: Any) -> Any:
        """Return Redis' answer to the command. Raises ``redis.RedisError``."""
        return self.ask_all([command])[0]

    def ask_all(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Return the answers to all commands, sent in one go. Raises the first ``redis.RedisError`` among them.

        Over a connection that turns out to be closed they may be sent twice.
        """
        packed = self._connection.pack_commands(commands)
        try:
            return self._exchange(packed, len(commands))
        except redis.ConnectionError:
            return self._exchange(packed, len(commands))

    def _exchange(self, packed: Sequence[bytes], answers: int) -> list[Any]:
        connection = self._connection
        connection.send_packed_command(packed, check_health=False)
        if answers == 1:
            return [connection.read_response()]
        found: list[Any] = []
        for _ in range(answers):  # each has to be read, lest the next command gets it
            try:
                found.append(connection.read_response())
            except redis.ResponseError as error:
                found.append(error)
        for answer in found:
            if isinstance(answer, redis.ResponseError):
                raise answer
        return found

    def close(self) -> None:
        """Drop the connection; the next command makes a new one."""
        self._connection.disconnect()

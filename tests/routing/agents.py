"""Agents for the tests."""

from typing import Any

from routing.executors import handler


@handler("registry-greeter", skills=("greet",), capacity=7)
def greet(value: Any) -> Any:
    """Say hello."""
    return {"text": f"Hello, {value['name']}"}

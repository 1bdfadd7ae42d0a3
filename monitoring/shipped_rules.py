"""The alert rules that every site begins with. Each has its page in docs/operations.  Pure."""

from __future__ import annotations

from typing import Any

_FAILED = {"metric": "a2a_tasks_ended_total", "labels": {"state": "failed"}}
_ENDED = {"metric": "a2a_tasks_ended_total"}


def _beyond(metric: str, **bounds: Any) -> dict[str, Any]:
    return {"kind": "threshold", "metric": metric, **bounds}


# name: (severity, title, seconds it has to hold, condition)
SHIPPED: dict[str, tuple[str, str, float, dict[str, Any]]] = {
    "memory-low": (
        *("warning", "The machine is nearly out of memory.", 60.0),
        _beyond("a2a_host_memory_ratio", above=0.92, clear=0.88),
    ),
    "disk-nearly-full": (
        *("critical", "The disk that holds our state is nearly full.", 30.0),
        _beyond("a2a_host_disk_ratio", above=0.92, clear=0.9),
    ),
    "processors-overloaded": (
        *("warning", "The machine has more to do than its processors can.", 300.0),
        _beyond("a2a_host_load", above=4.0, clear=2.0),
    ),
    "redis-down": ("critical", "Redis does not answer.", 5.0, _beyond("a2a_redis_up", below=0.5)),
    "redis-evicts": (
        *("critical", "Redis drops keys for want of memory.", 0.0),
        {"kind": "rate", "metric": "a2a_redis_evicted_keys_total", "above": 0.0, "over_s": 300},
    ),
    "redis-cannot-persist": (
        *("critical", "Redis cannot write its append-only file.", 10.0),
        _beyond("a2a_redis_append_only_ok", below=0.5),
    ),
    "database-slow": (
        *("warning", "The database takes long for the smallest query.", 30.0),
        _beyond("a2a_database_ping_seconds", above=0.5, clear=0.1),
    ),
    "tasks-wait-long": (
        *("warning", "Tasks for {skill} have waited for more than five minutes.", 0.0),
        _beyond("a2a_lane_oldest_seconds", above=300.0, clear=60.0),
    ),
    "fleet-saturated": (
        *("warning", "All slots have been taken for ten minutes, and tasks wait.", 600.0),
        {
            "kind": "all",
            "of": [
                _beyond("a2a_fleet_utilisation_ratio", above=0.95, clear=0.8),
                _beyond("a2a_tasks", labels={"state": "waiting"}, above=0.0, by=[]),
            ],
        },
    ),
    "many-tasks-fail": (
        *("critical", "More than one in five tasks for {skill} has failed within five minutes.", 0.0),
        {"kind": "ratio", "part": _FAILED, "whole": _ENDED, "by": ["skill"], "over_s": 300, "above": 0.2, "least": 20},
    ),
    "error-budget-burns": (
        *("critical", "Tasks fail so often that the month's error budget will not last.", 0.0),
        {
            "kind": "burn",
            "bad": _FAILED,
            "total": _ENDED,
            "objective": 0.99,
            "least": 20,
            "windows": [
                {"long_s": 3600, "short_s": 300, "factor": 14.4},
                {"long_s": 21_600, "short_s": 1800, "factor": 6.0},
            ],
        },
    ),
    "sampler-fails": (
        *("warning", "The sampler {sampler} brings nothing.", 60.0),
        _beyond("a2a_sampler_up", below=0.5),
    ),
    "metrics-left-out": (
        *("warning", "The metric {metric} has too many combinations of labels.", 0.0),
        {"kind": "rate", "metric": "a2a_samples_left_out_total", "above": 0.0, "over_s": 600},
    ),
}

"""Were the promises kept? Judges a customer's history with tests/checker.py.  Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests import checker

IN_FLIGHT = frozenset({"assigned", "working", "progress", "log", "artifact"})
CLOCK_S = 0.05  # events carry the time of the controller's batch, which began a little before


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that was broken."""

    name: str
    at: float  # seconds since the epoch
    over_at: float  # the same for a blow; later where something was away for a while
    worker: str = ""  # the only worker hit, "" if all were
    is_outage: bool = False  # nobody could have gone on meanwhile: recovery counts from ``over_at``

    @property
    def since(self) -> float:
        """From when on recovery is counted."""
        return self.over_at if self.is_outage else self.at


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of the accepted tasks."""

    tasks: int
    ends: Mapping[str, int]  # completed, failed …
    lost: int  # accepted, and without an end
    doubled: int  # more than one end, or more than one accepted outcome
    violations: Sequence[str]
    retried: int  # attempts that were lost or given back
    recovery: Mapping[str, Sequence[float]]  # fault → seconds of each task that it interrupted, sorted
    submit_s: Sequence[float]  # how long a single submission took, sorted

    @property
    def recovery_s(self) -> list[float]:
        """Every recovery time, sorted."""
        return sorted(seconds for times in self.recovery.values() for seconds in times)


def judge(history: Mapping[str, Any], faults: Iterable[Fault] = ()) -> Verdict:
    """Return the verdict on a history whose tasks should all have ended."""
    faults = sorted(faults, key=lambda fault: fault.at)
    accepted: Mapping[str, Any] = history["accepted"]
    records = [_record(event, history["tasks"]) for event in history["events"] if event["task"] in accepted]
    histories = checker.by_task(records)
    limits = {task: history["tasks"][task]["max_attempts"] for task in accepted if task in history["tasks"]}
    ends = {task: [r.kind for r in histories.get(task, ()) if r.kind in checker.TERMINAL] for task in accepted}
    outcomes = Counter(task for task, _, state in history["attempts"] if state == "completed")
    violations = checker.violations(records, accepted, max_attempts=limits)
    violations += _rows_disagree(history, ends, outcomes) + _told_wrongly(history)
    return Verdict(
        tasks=len(accepted),
        ends=Counter(kinds[0] for kinds in ends.values() if kinds),
        lost=sum(not kinds for kinds in ends.values()),
        doubled=sum(len(ends[task]) > 1 or outcomes[task] > 1 for task in ends),
        violations=violations,
        retried=sum(r.kind == "requeued" for r in records),
        recovery=_recovery(history["events"], records, faults),
        submit_s=sorted(facts["took_s"] for facts in accepted.values() if facts["door"] in ("submit", "celery")),
    )


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value below which ``share`` (0..1) of the sorted ``values`` lie; 0 of none."""
    return values[min(len(values) - 1, int(share * len(values)))] if values else 0.0


def _record(event: Mapping[str, Any], tasks: Mapping[str, Any]) -> checker.Record:
    kind, data = event["kind"], event["data"]
    return checker.Record(
        task=event["task"],
        seq=event["seq"],
        kind=kind,
        attempt=event["attempt"],
        at=event["at"],
        agent=data.get("agent", "") if kind == "assigned" else "",
        outcome=data.get("outcome", "") if kind == "requeued" else "",
        output=tasks.get(event["task"], {}).get("output") if kind == "completed" else None,
    )


def _rows_disagree(history: Mapping[str, Any], ends: Mapping[str, list[str]], outcomes: Mapping[str, int]) -> list[str]:
    """Return where the rows of tasks and attempts say something else than the events."""
    found = []
    for task, kinds in ends.items():
        row = history["tasks"].get(task)
        if row is None:
            found.append(f"{task}: lost, accepted and not in the ledger")
        elif kinds and row["state"] != kinds[0]:
            found.append(f"{task}: ended as {kinds[0]}, and its row says {row['state']}")
        if outcomes.get(task, 0) != (kinds == ["completed"]):
            found.append(f"{task}: {outcomes.get(task, 0)} attempts count as completed; it ended as {kinds}")
    return found


def _told_wrongly(history: Mapping[str, Any]) -> list[str]:
    """Return what watchers were told that the ledger does not hold: only committed facts may be told."""
    committed = {(event["task"], event["seq"], event["kind"]) for event in history["events"]}
    wrong = [tuple(told) for told in history["told"] if tuple(told) not in committed]
    return [f"{task}: watchers were told of event {seq} ({kind}), which was not committed" for task, seq, kind in wrong]


# ---- how long things stood still --------------------------------------------------------------------------------


def _recovery(
    events: Sequence[Mapping[str, Any]], records: Sequence[checker.Record], faults: Sequence[Fault]
) -> dict[str, list[float]]:
    """Return for each fault the seconds that each interrupted task waited for its next attempt or its end."""
    interrupted: dict[str, dict[str, float]] = {}
    for fault in faults:
        hit = interrupted.setdefault(fault.name, {})
        hit.update((task, fault.since) for task in _hit_by(fault, events))
    for task, at in _lost_later(events, faults):
        cause = max((fault for fault in faults if fault.at <= at[1]), key=lambda fault: fault.at, default=None)
        if cause is not None:
            interrupted[cause.name].setdefault(task, max(at[0], cause.since))
    found = {name: checker.recovery_times(records, hit.items()) for name, hit in interrupted.items() if hit}
    for fault in faults:
        found.setdefault(fault.name, []).extend(_standstill(fault, events))
    return {name: sorted(times) for name, times in found.items() if times}


def _standstill(fault: Fault, events: Sequence[Mapping[str, Any]]) -> list[float]:
    """Return the seconds until any task was completed again; nothing if none came later."""
    later = (event["at"] for event in events if event["at"] > fault.since and event["kind"] == "completed")
    return [at - fault.since for at in [next(later, None)] if at is not None]


def _hit_by(fault: Fault, events: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the tasks that an agent had when the fault began: on its worker, or anywhere."""
    state: dict[str, tuple[str, str]] = {}  # task → (kind, worker)
    for event in events:
        if event["at"] > fault.since:
            break
        worker = event["data"].get("worker", "") if event["kind"] == "working" else ""
        before = state.get(event["task"], ("", ""))
        state[event["task"]] = (event["kind"], worker or before[1])
    flying = [(task, worker) for task, (kind, worker) in state.items() if kind in IN_FLIGHT]
    return [task for task, worker in flying if not fault.worker or worker == fault.worker]


def _lost_later(
    events: Sequence[Mapping[str, Any]], faults: Sequence[Fault]
) -> Iterable[tuple[str, tuple[float, float]]]:
    """Yield (task, (last sign of life, when given up)) of attempts that were lost or given back."""
    last: dict[str, float] = {}
    for event in events:
        if event["kind"] == "requeued" and event["data"].get("outcome") in ("lost", "returned"):
            yield event["task"], (last.get(event["task"], event["at"]) - CLOCK_S, event["at"])
        last[event["task"]] = event["at"]

"""Who is there: agents with their slots, and the workers that run their attempts.  Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from routing import events as e
from routing.flights import Flight

WORKER_SILENT_S = 10.0


@dataclass(slots=True)
class Seat:
    """An agent and what it has in flight."""

    spec: e.AgentSpec
    running: dict[str, Flight] = field(default_factory=dict)  # by task, in order: replays must not differ
    gone: bool = False  # no longer registered; kept until its last attempt ends


@dataclass(slots=True)
class WorkerSeen:
    """A worker process as its last beat told."""

    incarnation: str
    threads: int
    serves: frozenset[str] | None  # agents, None = all but pull agents
    draining: bool
    seen_at: float


class Roster:
    """Agents, workers, and how many attempts each could still take."""

    def __init__(self) -> None:
        self.agents: dict[str, Seat] = {}
        self.workers: dict[str, WorkerSeen] = {}
        self.slots = 0  # of all registered agents
        self.free: set[str] = set()  # agents with a free slot
        self.touched: set[str] = set()  # agents, since somebody last cleared it, for live pages
        self._hosted: frozenset[str] | None = None  # agents that are no pull agents, None where all are so
        self._assigned = 0  # attempts sent and not begun
        self._working: Counter[str] = Counter()  # worker → attempts it works on

    # ---- agents -------------------------------------------------------------------------------------------------

    def register(self, specs: Iterable[e.AgentSpec]) -> None:
        """Follow the registry: these are the agents from now on."""
        present = {spec.name: spec for spec in specs}
        for name, spec in present.items():
            seat = self.agents.setdefault(name, Seat(spec))
            seat.spec, seat.gone = spec, False
            self._count_slots(seat)
        for name in [n for n in self.agents if n not in present]:
            self.agents[name].gone = True
            self._count_slots(self.agents[name])
            self._forget_if_gone(name)
        self.slots = sum(spec.capacity for spec in present.values())
        hosted = frozenset(name for name, spec in present.items() if not spec.is_pull)
        self._hosted = hosted if len(hosted) < len(present) else None
        self.touched.update(self.agents)

    def registered(self) -> dict[str, e.AgentSpec]:
        """Return the agents that the registry knows, by name."""
        return {name: seat.spec for name, seat in self.agents.items() if not seat.gone}

    def occupy(self, flight: Flight) -> None:
        """Give the attempt a slot of its agent."""
        seat = self.agents.get(flight.agent)
        if seat is None:  # restored, and its agent was deleted meanwhile
            spec = e.AgentSpec(name=flight.agent, tenant="", skills=frozenset(), capacity=1, enabled=False)
            seat = self.agents[flight.agent] = Seat(spec, gone=True)
        seat.running[flight.task] = flight
        self._count_slots(seat)
        if flight.phase == "assigned":
            self._assigned += 1
        else:
            self._working[flight.worker] += 1
        self.touched.add(flight.agent)

    def release(self, flight: Flight) -> None:
        """Free the attempt's slot."""
        seat = self.agents[flight.agent]
        del seat.running[flight.task]
        self._count_slots(seat)
        if flight.phase == "assigned":
            self._assigned -= 1
        else:
            self._works_no_more(flight.worker)
        self.touched.add(flight.agent)
        self._forget_if_gone(flight.agent)

    def begin(self, flight: Flight, worker: str, incarnation: str, now: float) -> None:
        """Note that the worker works on the attempt."""
        self._assigned -= 1
        self._working[worker] += 1
        flight.phase, flight.began_at = "working", now
        flight.worker, flight.incarnation = worker, incarnation

    def move(self, flight: Flight, worker: str, incarnation: str) -> None:
        """Note that it is another worker which works on the attempt than was known."""
        self._works_no_more(flight.worker)
        self._working[worker] += 1
        flight.worker, flight.incarnation = worker, incarnation

    def flights(self) -> Iterator[Flight]:
        """Yield everything in flight."""
        return (flight for seat in self.agents.values() for flight in seat.running.values())

    def _count_slots(self, seat: Seat) -> None:
        if len(seat.running) < seat.spec.capacity and not seat.gone:
            self.free.add(seat.spec.name)
        else:
            self.free.discard(seat.spec.name)

    def _works_no_more(self, worker: str) -> None:
        self._working[worker] -= 1
        if not self._working[worker]:
            del self._working[worker]

    def _forget_if_gone(self, name: str) -> None:
        seat = self.agents[name]
        if seat.gone and not seat.running:
            del self.agents[name]

    # ---- workers ------------------------------------------------------------------------------------------------

    def hear(self, beat: e.Beat, now: float) -> bool:
        """Note the beat, and return whether the worker can take more, or other things, than was known."""
        known = self.workers.get(beat.worker)
        self.workers[beat.worker] = WorkerSeen(beat.incarnation, beat.threads, beat.serves, beat.draining, now)
        return known is None or known.threads < beat.threads or known.draining or known.serves != beat.serves

    def forgive(self, seconds: float) -> None:
        """Hold nobody's silence of the last ``seconds`` against them."""
        for flight in self.flights():
            flight.lease_until += seconds  # its timer finds that out when it comes up
        for worker in self.workers.values():
            worker.seen_at += seconds

    def forget_silent(self, now: float) -> None:
        """Count no more on workers that are not heard of; their attempts end by their own leases."""
        for name in [n for n, w in self.workers.items() if w.seen_at + WORKER_SILENT_S <= now]:
            del self.workers[name]

    def served(self) -> frozenset[str] | None:
        """Return the agents that a living worker with a free thread serves, None for all.

        A message that was sent and not begun is taken to be with the roomiest worker that serves its agent.
        """
        living = [worker for worker in self.workers.values() if not worker.draining]
        if self._hosted is None and all(worker.serves is None for worker in living):
            return None if living else frozenset()
        rooms = {name: w.threads - self._working[name] for name, w in self.workers.items() if not w.draining}
        for agent, seat in self.agents.items():
            for _ in range(sum(flight.phase == "assigned" for flight in seat.running.values())):
                able = [name for name in rooms if self._serves(name, agent)]
                if able:
                    rooms[max(able, key=lambda name: (rooms[name], name))] -= 1
        roomy = [self.workers[name].serves for name, room in rooms.items() if room > 0]
        named = frozenset[str]().union(*(names for names in roomy if names is not None))
        if None not in roomy:
            return named
        return None if self._hosted is None else named | self._hosted

    def _serves(self, worker: str, agent: str) -> bool:
        serves = self.workers[worker].serves
        return not self.agents[agent].spec.is_pull if serves is None else agent in serves

    def threads(self) -> int:
        """Return how many attempts the living workers can run at once."""
        return sum(w.threads for w in self.workers.values() if not w.draining)

    def room(self) -> int:
        """Return how many more attempts the living workers could begin now; below 0 if too many were sent."""
        living = [(name, w.threads) for name, w in self.workers.items() if not w.draining]
        return sum(max(0, threads - self._working[name]) for name, threads in living) - self._assigned

    def busy_on(self, worker: str) -> int:
        """Return how many attempts the worker works on."""
        return self._working[worker]

    @property
    def busy(self) -> int:
        """Return how many attempts are in flight."""
        return self._assigned + self._working.total()

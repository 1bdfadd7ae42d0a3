"""Figures and how they are printed: one JSON line each, or a small table with the aim beside each."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured number."""

    name: str
    value: float
    unit: str
    aim: str = ""  # in words; empty: there is none
    note: str = ""
    detail: Mapping[str, float] = field(default_factory=dict)  # further numbers, by their names with units
    is_ratio: bool = False  # what the bench comes down to; printed last


@dataclass(frozen=True, slots=True, kw_only=True)
class Printer:
    """Prints the figures of one bench as they come."""

    bench: str
    as_json: bool

    def begin(self) -> None:
        """Say what comes; nothing in JSON."""
        if not self.as_json:
            print(f"\n{self.bench}  (load {_load()[0]:.1f})\n{'─' * 78}", flush=True)

    def show(self, figure: Figure) -> None:
        """Print one figure."""
        print(self._json(figure) if self.as_json else self._row(figure), flush=True)

    def skip(self, why: str) -> None:
        """Say that the bench cannot be run here."""
        line = {"bench": self.bench, "name": "skipped", "value": None, "unit": "", "note": why, "ratio": None}
        print(json.dumps(line) if self.as_json else f"  skipped: {why}", flush=True)

    def _json(self, figure: Figure) -> str:
        line: dict[str, object] = {"bench": self.bench, "name": figure.name, "value": round(figure.value, 4)}
        line["unit"] = figure.unit
        line |= {"aim": figure.aim} if figure.aim else {}
        line |= {"note": figure.note} if figure.note else {}
        line |= {name: round(value, 4) for name, value in figure.detail.items()}
        line["load"] = _load()
        line |= {"ratio": round(figure.value, 4)} if figure.is_ratio else {}
        return json.dumps(line, ensure_ascii=False)

    def _row(self, figure: Figure) -> str:
        aim = f"aim {figure.aim}" if figure.aim else ""
        note = figure.note or "  ".join(f"{name} {value:,.4g}" for name, value in figure.detail.items())
        return f"  {figure.name:<38}{figure.value:>10,.2f} {figure.unit:<9} {aim:<12} {note}".rstrip()


def _load() -> list[float]:
    """Return the machine's load averages over 1, 5 and 15 minutes: what else was going on."""
    return [round(value, 2) for value in os.getloadavg()]


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which ``share`` (0..1) of the others lie, of a sample that is not empty (nearest rank)."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))]


def median_ratio(ours: Sequence[float], bare: Sequence[float]) -> float:
    """Return the ratio of the medians."""
    return statistics.median(ours) / statistics.median(bare)


def spread(values: Sequence[float], digits: int = 0) -> str:
    """Return the rounds in words, for a note."""
    return "rounds " + " ".join(f"{value:.{digits}f}" for value in values)

"""The newest figures in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector, CollectorRegistry

from monitoring import catalogue, store
from monitoring.metrics import Kind
from monitoring.store import Reading

QUANTILES = (0.5, 0.95, 0.99)
WITHIN_S = 60.0


class _Newest(Collector):
    def __init__(self, readings: Iterable[Reading]) -> None:
        self._readings = list(readings)

    def collect(self) -> Iterator[Family]:
        """Yield a family a metric."""
        by_name: dict[str, list[Reading]] = {}
        for reading in self._readings:
            by_name.setdefault(reading.name, []).append(reading)
        for name, readings in by_name.items():
            yield _family(name, readings)


def _family(name: str, readings: list[Reading]) -> Family:
    known = catalogue.METRICS.get(name)
    text = known.help if known is not None else name
    labels = sorted({label for reading in readings for label in reading.labels})
    kind = readings[0].kind
    if kind is Kind.DISTRIBUTION:
        return _quantiles(name, text, labels, readings)
    family = (CounterMetricFamily if kind is Kind.COUNTER else GaugeMetricFamily)(name, text, labels=labels)
    for reading in readings:
        family.add_metric([reading.labels.get(label, "") for label in labels], reading.points[-1].last)
    return family


def _quantiles(name: str, text: str, labels: list[str], readings: list[Reading]) -> Family:
    """Return quantiles of what was observed lately: gauges, for they are not of all time as a summary's would be."""
    family = GaugeMetricFamily(name, text, labels=[*labels, "quantile"])
    for reading in readings:
        distribution = reading.points[-1].distribution
        for share in QUANTILES:
            value = distribution.quantile(share) if distribution is not None else None
            if value is not None:
                family.add_metric([*(reading.labels.get(label, "") for label in labels), f"{share:g}"], value)
    return family


def text() -> bytes:
    """Return all series that were measured within the last minute."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Newest(store.latest(within_s=WITHIN_S)))
    return generate_latest(registry)

"""Monitoring: what is seen, live and stored."""

from django.apps import AppConfig
from django.utils import timezone


class MonitoringConfig(AppConfig):
    name = "monitoring"

    def ready(self) -> None:
        """Have the leading controller's snapshots watched, and its work measured."""
        from monitoring import alerts, meters, store
        from routing import live, reducers, retention

        live.observe(self.name, alerts.Watcher)
        retention.register(self.name, alerts.delete_old)
        reducers.register(f"{self.name}.meter", meters.Meter)
        live.observe(f"{self.name}.ticker", meters.Ticker)
        retention.register(f"{self.name}.metrics", lambda border: store.delete_old(timezone.now()))

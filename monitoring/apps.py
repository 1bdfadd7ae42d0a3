"""Monitoring: what is seen, live and stored."""

from django.apps import AppConfig


class MonitoringConfig(AppConfig):
    name = "monitoring"

    def ready(self) -> None:
        """Have the leading controller's snapshots watched."""
        from monitoring import alerts
        from routing import live, retention

        live.observe(self.name, alerts.Watcher)
        retention.register(self.name, alerts.delete_old)

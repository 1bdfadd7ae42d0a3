"""Monitoring: what is seen, live and stored."""

from django.apps import AppConfig


class MonitoringConfig(AppConfig):
    name = "monitoring"

"""Routing: agents, skills, tasks, and who does what."""

from django.apps import AppConfig


class RoutingConfig(AppConfig):
    name = "routing"

    def ready(self) -> None:
        """Guard kombu in every process that may use it."""
        from routing import broker

        broker.guard_kombu()

"""Routing: agents, skills, tasks, and who does what."""

from django.apps import AppConfig


class RoutingConfig(AppConfig):
    name = "routing"

    def ready(self) -> None:
        """Guard kombu in every process that may use it; have the leading controller go its rounds."""
        from routing import broker, live
        from routing.a2a import rounds

        broker.guard_kombu()
        live.observe("routing.push", rounds.Rounds)

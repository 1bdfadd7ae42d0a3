"""Coordination: several agents, one piece of work."""

from django.apps import AppConfig


class CoordinationConfig(AppConfig):
    name = "coordination"

    def ready(self) -> None:
        """Have runs decided, and schedules met, in the controller's commit."""
        from coordination.clock import Clock
        from coordination.reducer import Coordination
        from routing import reducers

        reducers.register(self.name, Coordination)
        reducers.register(f"{self.name}.clock", Clock)

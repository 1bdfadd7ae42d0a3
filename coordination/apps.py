"""Coordination: several agents, one piece of work."""

from django.apps import AppConfig


class CoordinationConfig(AppConfig):
    name = "coordination"

    def ready(self) -> None:
        """Have runs decided and schedules met in the controller's commit, and let tasks share state."""
        from coordination import runs
        from coordination.clock import Clock
        from coordination.reducer import Coordination
        from coordination.sharing import Sharing
        from routing import reducers, retention
        from routing.executors import sharing

        reducers.register(self.name, Coordination)
        reducers.register(f"{self.name}.clock", Clock)
        sharing.provide(Sharing)
        retention.register(self.name, runs.delete_old)

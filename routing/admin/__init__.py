"""Admin pages of routing. Every write is a call to ``routing.registry`` or ``routing.rulebook``."""

from routing.admin import ledger, registry, rules

__all__ = ["ledger", "registry", "rules"]

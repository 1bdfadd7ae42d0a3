"""Fixtures of the pages' tests."""

from tests.monitoring.serving import admin, controller, fleet, site

__all__ = ["admin", "controller", "fleet", "site"]

"""Admin pages of workflows, runs, approvals and schedules. Every write is a call to this app's operations."""

from coordination.admin import runs, schedules, workflows

__all__ = ["runs", "schedules", "workflows"]

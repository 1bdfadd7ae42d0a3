"""Wiring of A2A Mission Control: settings, Celery, ASGI, the supervisor. No domain word lives here."""

from a2a_site.celery import app as celery_app

__all__ = ["celery_app"]

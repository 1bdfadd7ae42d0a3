"""Coordination: several agents, one piece of work."""

from django.apps import AppConfig


class CoordinationConfig(AppConfig):
    name = "coordination"

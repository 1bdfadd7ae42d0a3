"""Addresses of the live pages, their WebSockets and the probes."""

from typing import Any

from django.urls import path

from monitoring import consumers, status, views

urlpatterns = [
    path("", views.overview, name="overview"),
    path("tasks/", views.task_list, name="tasks"),
    path("tasks/<uuid:task_id>", views.task, name="task"),
    path("tasks/<uuid:task_id>/cancel", views.cancel, name="task-cancel"),
    path("tasks/<uuid:task_id>/answer", views.answer, name="task-answer"),
    path("tasks/<uuid:task_id>/artifacts/<int:seq>", views.artifact, name="task-artifact"),
    path("tasks/<uuid:task_id>/input.json", views.value, {"which": "input"}, name="task-input"),
    path("tasks/<uuid:task_id>/output.json", views.value, {"which": "output"}, name="task-output"),
    path("runs/<uuid:run_id>/steps/<str:name>", views.step, name="step"),
    path("agents/<str:name>", views.agent, name="agent"),
    path("agents/<str:name>/<str:act>", views.act_on_agent, name="agent-act"),
    path("places.json", views.places, name="places"),
    path("limits", views.limits, name="limits"),
    path("alerts", views.alert_list, name="alerts"),
    path("alerts/<int:pk>/acknowledge", views.acknowledge, name="alert-acknowledge"),
    path("healthz", views.healthz, name="healthz"),
    path("readyz", views.readyz, name="readyz"),
    path("status.json", status.page, name="status"),
    path("metrics", views.metrics, name="metrics"),
]

# Any: for Channels these are ASGI applications, which Django's types do not know as views.
_overview: Any = consumers.OverviewSocket.as_asgi()
_task: Any = consumers.TaskSocket.as_asgi()
websocket_urlpatterns: list[Any] = [
    path("ws/live", _overview),
    path("ws/tasks/<uuid:task>", _task),
]

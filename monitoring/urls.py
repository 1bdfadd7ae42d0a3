"""Addresses of the live pages, their WebSockets and the probes."""

from django.urls import URLPattern, path

from monitoring import consumers, views

urlpatterns = [
    path("", views.overview, name="overview"),
    path("tasks/", views.task_list, name="tasks"),
    path("tasks/<uuid:task_id>", views.task, name="task"),
    path("tasks/<uuid:task_id>/cancel", views.cancel, name="task-cancel"),
    path("tasks/<uuid:task_id>/artifacts/<int:seq>", views.artifact, name="task-artifact"),
    path("tasks/<uuid:task_id>/input.json", views.value, {"which": "input"}, name="task-input"),
    path("tasks/<uuid:task_id>/output.json", views.value, {"which": "output"}, name="task-output"),
    path("healthz", views.healthz, name="healthz"),
    path("readyz", views.readyz, name="readyz"),
]

websocket_urlpatterns: list[URLPattern] = [
    path("ws/live", consumers.OverviewSocket.as_asgi()),
    path("ws/tasks/<uuid:task>", consumers.TaskSocket.as_asgi()),
]

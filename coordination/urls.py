"""Addresses of the pages of workflows, runs and approvals."""

from django.urls import path

from coordination import views

urlpatterns = [
    path("workflows", views.workflow_list, name="workflows"),
    path("workflows/<str:name>", views.workflow, name="workflow"),
    path("runs", views.run_list, name="runs"),
    path("runs/observed/<uuid:root>", views.observed_canvas, name="observed"),
    path("runs/many", views.ask_many, name="runs-many"),
    path("runs/views", views.keep_view, name="run-views"),
    path("runs/<uuid:run_id>", views.run, name="run"),
    path("runs/<uuid:run_id>/<str:verb>", views.ask, name="run-ask"),
    path("schedules", views.schedule_list, name="schedules"),
    path("schedules/<int:pk>", views.schedule, name="schedule"),
    path("approvals", views.approval_list, name="approvals"),
    path("approvals/<uuid:approval_id>", views.answer, name="approval-answer"),
]

"""Admin pages of monitoring: for reading."""

from django.contrib import admin

from monitoring.models import Alert
from routing.admin.forms import ReadOnly
from routing.admin.ledger import BoundedPaginator


@admin.register(Alert)
class AlertAdmin(ReadOnly):
    list_display = ["title", "severity", "state", "opened_at", "acknowledged_by", "resolved_at"]
    list_filter = ["state", "severity", "kind"]
    ordering = ["-opened_at"]
    paginator = BoundedPaginator

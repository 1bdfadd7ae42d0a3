"""Addresses of all pages and APIs."""

from django.contrib import admin
from django.contrib.auth.views import LoginView, LogoutView
from django.urls import include, path, re_path
from django.views.generic import RedirectView

from a2a_site import api_docs, flower_proxy
from coordination.api import router as coordination
from monitoring.api import router as monitoring
from routing.api import api, urls

api.add_router("", coordination)
api.add_router("", monitoring)

urlpatterns = [
    path("admin/", admin.site.urls),
    path("api/v1/", urls()),
    path("docs/api", api_docs.page, name="api-docs"),
    path("login/", LoginView.as_view(redirect_authenticated_user=True), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("flower", RedirectView.as_view(url="/flower/")),
    re_path(r"^flower/(?P<path>.*)$", flower_proxy.proxy, name="flower"),
    path("", include("monitoring.urls")),
    path("", include("coordination.urls")),
]

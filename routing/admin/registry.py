"""Admin pages of tenants, keys, skills and agents. Every write is a call to ``routing.registry``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db import models
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html

from routing import executors, registry
from routing.admin.forms import RegistryForm, Rows, StrictJson
from routing.models import Agent, ApiKey, Scope, Skill, Tenant


class TenantForm(RegistryForm):
    """Name and description."""

    def problems(self) -> Iterable[registry.Problem]:
        """Return what is wrong with the tenant."""
        return registry.tenant_problems(self.instance)


class SkillForm(RegistryForm):
    """A skill with its schemas."""

    def problems(self) -> Iterable[registry.Problem]:
        """Return what is wrong with the skill."""
        return registry.skill_problems(self.instance)


class AgentForm(RegistryForm):
    """An agent with its skills."""

    executor = forms.ChoiceField(choices=lambda: [(name, name) for name in executors.names()])

    def problems(self) -> Iterable[registry.Problem]:
        """Return what is wrong with the agent and its skills."""
        return registry.agent_problems(self.instance, self.cleaned_data["skills"])


class KeyForm(RegistryForm):
    """What a new key is for."""

    scopes = forms.MultipleChoiceField(choices=Scope.choices, widget=forms.CheckboxSelectMultiple)

    def problems(self) -> Iterable[registry.Problem]:
        """Return what is wrong with the key; its prefix and digest are made when it is saved."""
        unset = {"prefix", "digest"}
        return [(field, words) for field, words in registry.key_problems(self.instance) if field not in unset]


@admin.register(Tenant)
class TenantAdmin(Rows):
    form = TenantForm
    list_display = ["name", "description", "weight", "created_at"]
    search_fields = ["name"]

    def get_readonly_fields(self, request: HttpRequest, obj: Tenant | None = None) -> list[str]:
        return ["name"] if obj else []

    def has_delete_permission(self, request: HttpRequest, obj: Tenant | None = None) -> bool:
        return False  # its tasks are history

    def save_model(self, request: HttpRequest, obj: Tenant, form: Any, change: bool) -> None:
        registry.save_tenant(obj.name, obj.description, weight=obj.weight)


@admin.register(Skill)
class SkillAdmin(Rows):
    form = SkillForm
    formfield_overrides = {models.JSONField: {"form_class": StrictJson}}
    list_display = ["name", "version", "tenant", "description", "timeout_s", "max_attempts"]
    list_filter = ["tenant"]
    search_fields = ["name", "description"]

    def save_model(self, request: HttpRequest, obj: Skill, form: Any, change: bool) -> None:
        registry.save_skill(obj)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Name the agents that have the skill as what stands in the way."""
        found, counts, needed, protected = super().get_deleted_objects(objs, request)
        holders = Agent.objects.filter(skills__in=objs).distinct()
        return found, counts, needed, [*protected, *(f"Agent: {agent}" for agent in holders)]

    def delete_model(self, request: HttpRequest, obj: Skill) -> None:
        registry.remove_skill(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Skill]) -> None:
        for skill in queryset:
            registry.remove_skill(skill)


@admin.register(Agent)
class AgentAdmin(Rows):
    form = AgentForm
    formfield_overrides = {models.JSONField: {"form_class": StrictJson}}
    list_display = ["name", "executor", "capacity", "enabled", "draining", "cost_usd", "tenant"]
    list_filter = ["enabled", "draining", "executor", "tenant"]
    search_fields = ["name", "description"]
    filter_horizontal = ["skills"]
    actions = ["drain", "resume", "enable", "disable"]

    def save_model(self, request: HttpRequest, obj: Agent, form: Any, change: bool) -> None:
        """Leave it to ``save_related``: the agent and its skills are one change."""

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        registry.save_agent(form.instance, form.cleaned_data["skills"])

    def delete_model(self, request: HttpRequest, obj: Agent) -> None:
        registry.remove_agent(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Agent]) -> None:
        for agent in queryset:
            registry.remove_agent(agent)

    @admin.action(description="Drain: take nothing new, finish what runs", permissions=["change"])
    def drain(self, request: HttpRequest, queryset: QuerySet[Agent]) -> None:
        self._set(request, queryset, "draining", draining=True)

    @admin.action(description="Resume after draining", permissions=["change"])
    def resume(self, request: HttpRequest, queryset: QuerySet[Agent]) -> None:
        self._set(request, queryset, "no longer draining", draining=False)

    @admin.action(description="Enable", permissions=["change"])
    def enable(self, request: HttpRequest, queryset: QuerySet[Agent]) -> None:
        self._set(request, queryset, "enabled", enabled=True)

    @admin.action(description="Disable", permissions=["change"])
    def disable(self, request: HttpRequest, queryset: QuerySet[Agent]) -> None:
        self._set(request, queryset, "disabled", enabled=False)

    def _set(self, request: HttpRequest, queryset: QuerySet[Agent], words: str, **state: bool) -> None:
        agents = list(queryset)
        for agent in agents:
            registry.set_state(agent, **state)
        self.message_user(request, f"Now {words}: {', '.join(agent.name for agent in agents)}.")


@admin.register(ApiKey)
class ApiKeyAdmin(Rows):
    form = KeyForm
    list_display = ["name", "prefix", "tenant", "scopes", "created_at", "expires_at", "revoked_at", "last_used_at"]
    list_filter = ["tenant"]
    search_fields = ["name", "prefix"]
    actions = ["revoke"]

    def get_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> Any:
        asked = ["tenant", "name", "scopes", "expires_at"]
        return asked if obj is None else [*asked, "prefix", "created_at", "revoked_at", "last_used_at"]

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """Return what a new key's form begins with: the one tenant there is, where there is but one."""
        tenants = list(Tenant.objects.values_list("name", flat=True)[:2])
        return {"tenant": tenants[0], **super().get_changeform_initial_data(request)} if len(tenants) == 1 else {}

    def has_change_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        return False  # a key is made and revoked, never edited

    def has_delete_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        return False

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        """Return whether the person may revoke keys."""
        return bool(request.user.has_perm("routing.change_apikey"))

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        """Make the key and show it, this once."""
        key, plaintext = registry.create_key(obj.tenant, obj.name, obj.scopes, obj.expires_at)
        obj.pk, obj.prefix = key.pk, key.prefix
        words = "The key is {}. Copy it now: it is kept nowhere and cannot be shown again."
        self.message_user(request, format_html(words, plaintext), messages.WARNING)

    @admin.action(description="Revoke for good", permissions=["revoke"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        keys = list(queryset)
        for key in keys:
            registry.revoke_key(key)
        self.message_user(request, f"Revoked: {', '.join(map(str, keys))}.")

"""Who calls the API, and what they may do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, PermissionsMixin
from django.http import HttpRequest
from ninja.security.http import HttpAuthBase
from ninja.utils import check_csrf

from routing import errors, registry
from routing.models import DEFAULT_TENANT, Scope

SAFE = ("GET", "HEAD", "OPTIONS")
PERMISSIONS = {  # what a signed-in person needs for what a key needs a scope for
    Scope.TASKS_READ: "routing.view_task",
    Scope.TASKS_WRITE: "routing.change_task",
    Scope.AGENTS_READ: "routing.view_agent",
    Scope.AGENTS_WRITE: "routing.change_agent",
    Scope.AGENTS_WORK: "routing.change_agent",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A program with a key, or a person with a session."""

    tenant: str  # sees and changes nothing of any other
    name: str  # for the ledger: who asked
    origin: str  # the door
    scopes: frozenset[str]


class Needs(HttpAuthBase):
    """Lets a caller with the scope pass, as ``request.auth``."""

    openapi_scheme = "bearer"

    def __init__(self, scope: Scope) -> None:
        super().__init__()
        self.scope = scope

    def __call__(self, request: HttpRequest) -> Caller:
        """Return the caller. Raises ``NotAuthenticated``, ``MissingScope`` or ``ForgedRequest``."""
        caller = identify(request)
        if self.scope not in caller.scopes:
            raise errors.MissingScope(who=caller.name, scope=self.scope.value)
        return caller


def caller(request: HttpRequest) -> Caller:
    """Return who calls, as ``Needs`` has found."""
    return request.auth  # type: ignore[attr-defined, no-any-return]


def identify(request: HttpRequest) -> Caller:
    """Return who calls: a key goes before a session. Raises ``NotAuthenticated`` or ``ForgedRequest``."""
    header = request.headers.get("Authorization", "")
    return _by_key(header) if header else _by_session(request)


def _by_key(header: str) -> Caller:
    scheme, _, plaintext = header.partition(" ")
    key = registry.authenticate(plaintext.strip()) if scheme.lower() == "bearer" else None
    if key is None:
        raise errors.NotAuthenticated()
    return Caller(tenant=key.tenant_id, name=f"key {key.name}", origin="rest", scopes=frozenset(key.scopes))


def _by_session(request: HttpRequest) -> Caller:
    user: AbstractBaseUser | AnonymousUser = request.user
    if not isinstance(user, PermissionsMixin) or not user.is_authenticated:
        raise errors.NotAuthenticated()
    if request.method not in SAFE and check_csrf(request) is not None:
        raise errors.ForgedRequest()
    scopes = frozenset(scope.value for scope, permission in PERMISSIONS.items() if _may(user, permission))
    return Caller(tenant=DEFAULT_TENANT, name=f"user {user}", origin="web", scopes=scopes)


def _may(user: Any, permission: str) -> bool:
    return bool(user.is_staff or user.has_perm(permission))

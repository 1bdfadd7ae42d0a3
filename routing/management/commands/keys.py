"""`manage.py keys create|list|revoke`: the keys of programs."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from routing import errors, registry
from routing.models import DEFAULT_TENANT, ApiKey, Scope, Tenant

ALL = [scope.value for scope in Scope]


class Command(BaseCommand):
    help = "Make keys for programs, list them, and revoke them."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the three verbs."""
        verbs = parser.add_subparsers(dest="verb", required=True)
        create = verbs.add_parser("create", help="make a key and print it: the only time that it can be seen")
        create.add_argument("name", help="who will use it")
        create.add_argument(
            "--scope", action="append", metavar="SCOPE", help=f"what it may do, again for more: {', '.join(ALL)}"
        )
        create.add_argument("--tenant", default=DEFAULT_TENANT, help="whose tasks and agents (%(default)s)")
        create.add_argument("--days", type=float, metavar="N", help="it expires after so many; else never")
        shown = verbs.add_parser("list", help="list the keys, without their secrets")
        revoke = verbs.add_parser("revoke", help="make a key useless, for good")
        revoke.add_argument("prefix", help="what stands between a2a_ and the next _")
        for verb in (create, shown, revoke):
            verb.add_argument("--json", action="store_true", help="one JSON object a line")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do what the verb says."""
        {"create": self._create, "list": self._list, "revoke": self._revoke}[options["verb"]](options)

    def _create(self, options: dict[str, Any]) -> None:
        days, scopes = options["days"], options["scope"] or [Scope.TASKS_READ, Scope.TASKS_WRITE]
        if not Tenant.objects.filter(pk=options["tenant"]).exists():
            known = ", ".join(Tenant.objects.values_list("pk", flat=True))
            raise CommandError(f"There is no tenant {options['tenant']!r}. Known: {known}.")
        expires_at = timezone.now() + timedelta(days=days) if days is not None else None
        try:
            row, plaintext = registry.create_key(options["tenant"], options["name"], scopes, expires_at)
        except errors.RoutingError as error:
            raise CommandError(str(error)) from None
        self._tell(row, options, plaintext, key=plaintext)

    def _list(self, options: dict[str, Any]) -> None:
        for row in ApiKey.objects.order_by("tenant", "name"):
            words = f"{row.prefix}  {_state(row):<8}  {row.tenant_id}  {row.name}  {', '.join(row.scopes)}"
            self._tell(row, options, words)

    def _revoke(self, options: dict[str, Any]) -> None:
        row = ApiKey.objects.filter(prefix=options["prefix"].removeprefix("a2a_").partition("_")[0]).first()
        if row is None:
            raise CommandError(f"No key has the prefix {options['prefix']!r}. `manage.py keys list` shows them.")
        registry.revoke_key(row)
        self._tell(row, options, f"{row} is revoked.")

    def _tell(self, row: ApiKey, options: dict[str, Any], words: str, **more: str) -> None:
        told = {"name": row.name, "prefix": row.prefix, "tenant": row.tenant_id, "scopes": row.scopes,
                "state": _state(row), "expires_at": row.expires_at and row.expires_at.isoformat(), **more}  # fmt: skip
        self.stdout.write(json.dumps(told) if options["json"] else words)


def _state(row: ApiKey) -> str:
    if row.revoked_at is not None:
        return "revoked"
    return "expired" if row.expires_at is not None and row.expires_at <= timezone.now() else "valid"

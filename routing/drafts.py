"""Rules as they would be: a change is made in a transaction that is rolled back, so every check at the door counts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from django.db import transaction

from routing import events as e
from routing import manifest, registry, rulebook
from routing.models import Policy


def of_file(text: str) -> e.RegistryChanged:
    """Return agents and rules as they would be after ``manage.py agents apply``. Raises ``BadManifest``."""
    with _undone():
        manifest.apply(text, by="a rehearsal")
        return rulebook.fact()


def of_toggled(policies: Iterable[Policy]) -> e.RegistryChanged:
    """Return agents and rules as they would be if these policies were enabled, or disabled if they are not.

    Raises ``BadRegistration`` for a policy that could not be enabled.
    """
    with _undone():
        for row in policies:
            row.enabled = not row.enabled
            rulebook.save_policy(row)
        return rulebook.fact()


@contextmanager
def _undone() -> Iterator[None]:
    """While inside, all changes of the database count; afterwards none has happened."""
    try:
        with transaction.atomic():
            yield
            transaction.set_rollback(True)
    finally:
        registry.forget()  # this process may have looked meanwhile

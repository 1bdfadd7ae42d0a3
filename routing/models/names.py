"""What all tables of routing share: names, and ids that rise with time."""

from __future__ import annotations

import uuid

import uuid_utils
from django.core.validators import RegexValidator

DEFAULT_TENANT = "default"
NAME_PATTERN = r"^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?\Z"
NAME_RULE = "Use 1 to 64 of a-z, 0-9, dot, dash and underscore, with a letter or digit first and last."
valid_name = RegexValidator(NAME_PATTERN, NAME_RULE)


def new_id() -> uuid.UUID:
    """Return a UUIDv7: ids rise with time, so new rows stand together in every index."""
    return uuid.UUID(bytes=uuid_utils.uuid7().bytes)

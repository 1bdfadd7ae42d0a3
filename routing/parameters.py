"""What a query may hold."""

from __future__ import annotations

from django.http import HttpRequest
from ninja import Schema

from routing import errors


def refuse_unknown(request: HttpRequest, query: type[Schema]) -> None:
    """Raise ``BadInput`` for a parameter nobody knows: a misspelt filter must not list everything."""
    for name in request.GET:
        if name not in query.model_fields:
            known = ", ".join(query.model_fields)
            raise errors.BadInput(why=f"There is no parameter {name[:50]!r}. Known: {known}.")

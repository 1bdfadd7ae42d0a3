"""What the admin pages of routing share: strict JSON, problems at their fields, rows for reading."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.core.paginator import Paginator
from django.forms.fields import InvalidJSONInput
from django.http import HttpRequest

from routing import payloads, registry
from routing.errors import RoutingError

if TYPE_CHECKING:  # Django's own classes take no type arguments when the program runs
    Rows = admin.ModelAdmin[Any]
    RowForm = forms.ModelForm[Any]
    Pages = Paginator[Any]
else:
    Rows, RowForm, Pages = admin.ModelAdmin, forms.ModelForm, Paginator


class StrictJson(forms.JSONField):
    """A JSON field that reads through ``payloads.loads``; empty is {}."""

    def to_python(self, value: Any) -> Any:
        """Return the value. Raises ``ValidationError`` in words."""
        if not isinstance(value, str):
            return {} if value is None else value
        if not value.strip():
            return {}
        try:
            return payloads.loads(value, max_bytes=registry.MAX_ROW_BYTES)
        except RoutingError as error:
            raise ValidationError(str(error)) from None

    def bound_data(self, data: Any, initial: Any) -> Any:
        """Return what the field shows again after an error elsewhere on the page."""
        if self.disabled:
            return initial
        try:
            return self.to_python(data)
        except ValidationError:
            return InvalidJSONInput(data)

    def prepare_value(self, value: Any) -> Any:
        """Return the text to edit, one line for each member."""
        return value if isinstance(value, InvalidJSONInput) else json.dumps(value, ensure_ascii=False, indent=2)


class RegistryForm(RowForm):
    """A form that shows what the registry would refuse, at the fields it is about."""

    def problems(self) -> Iterable[registry.Problem]:
        """Return what the registry has against the row as the form has filled it."""
        raise NotImplementedError

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]  # fills self.instance
        if self.errors.keys() - {NON_FIELD_ERRORS}:
            return
        self.errors.pop(NON_FIELD_ERRORS, None)  # of the table's constraints: the registry has better words for them
        for field, words in self.problems():
            self.add_error(field if field in self.fields else None, words)


class ReadOnly(Rows):
    """Nothing to add, change or delete."""

    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

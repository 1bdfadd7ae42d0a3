"""The OpenAPI document as it is published: ninja's, with the media types and the key as they really are."""

from __future__ import annotations

from typing import Any

from ninja import NinjaAPI
from ninja.openapi.schema import OpenAPISchema
from ninja.operation import Operation

PROBLEM = "application/problem+json"
PROBLEM_REF = "#/components/schemas/Problem"
WITH_BODY = ("post", "put", "patch")
KEY = {"type": "http", "scheme": "bearer", "description": "A key made by an admin or by `manage.py keys create`."}


class DescribedApi(NinjaAPI):
    """Ninja's API with a document that says what is really sent."""

    def get_openapi_schema(
        self, *, path_prefix: str | None = None, path_params: dict[str, Any] | None = None
    ) -> OpenAPISchema:
        """Return the document."""
        document = super().get_openapi_schema(path_prefix=path_prefix, path_params=path_params)
        for methods in document["paths"].values():
            for method, operation in methods.items():
                _mend(method, operation)
        document["components"]["securitySchemes"] = {"key": KEY}
        return document

    def get_openapi_operation_id(self, operation: Operation) -> str:
        """Return the view's name, which is the same in the client."""
        return operation.view_func.__name__


def _mend(method: str, operation: dict[str, Any]) -> None:
    """Let one operation say what it answers."""
    responses = operation["responses"]
    if method not in WITH_BODY:
        for status in (413, 415):
            responses.pop(status, None)
    for response in responses.values():
        content = response.get("content", {})
        told = content.get("application/json")
        if told is not None and told["schema"].get("$ref") == PROBLEM_REF:
            content[PROBLEM] = content.pop("application/json")
    operation["responses"] = {str(status): responses[status] for status in sorted(responses, key=str)}
    if "security" in operation:
        operation["security"] = [{"key": []}]

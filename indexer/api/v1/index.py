"""``/api/v1``: the list of its paths."""

from __future__ import annotations

from pydantic import Field

from indexer import __version__
from indexer.api.models import Shown
from indexer.api.operations import ROOT, ApiCall, operation, operations
from indexer.api.parameters import Query
from indexer.api.responses import Document


class NoQuery(Query):
    """No parameters."""


class Resource(Shown):
    """One path."""

    path: str = Field(
        description="A template with parameters in braces. The slashes of a repository may be written `%2F`."
    )
    summary: str


class ApiIndex(Shown):
    """The paths of the API."""

    title: str
    version: str
    description: str = Field(description="Path of the OpenAPI document.")
    resources: list[Resource]


@operation("", query=NoQuery, result=ApiIndex)
async def show_index(_call: ApiCall[NoQuery]) -> Document:
    """List the paths of the API."""
    return Document(
        body={
            "title": "Registry indexer",
            "version": __version__,
            "description": "/openapi.json",
            "resources": [
                {"path": one.path, "summary": one.summary}
                for one in operations().values()
                if one.path != ROOT
            ],
        }
    )

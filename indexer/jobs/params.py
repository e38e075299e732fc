"""What jobs are asked with: a model per kind. Unknown members are errors."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from indexer.oci.reference import RepositoryName, parse_repository_name

MOST_REPOSITORIES = 1000


def _names(values: list[RepositoryName] | None) -> list[RepositoryName] | None:
    """Return repositories' names, each once, in order."""
    return None if values is None else sorted({parse_repository_name(value) for value in values})


RepositoryText = Annotated[RepositoryName, Field(min_length=1, max_length=255)]


class Params(BaseModel):
    """Base of the models."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ReconcileParams(Params):
    """Compare the registry with the inventory, and repair the inventory: as `reconciler once` does."""

    repositories: Annotated[
        list[RepositoryText] | None, Field(min_length=1, max_length=MOST_REPOSITORIES), AfterValidator(_names)
    ] = Field(default=None, description="Only these repositories; null: all, by the registry's catalog.")
    quick: bool = Field(
        default=False,
        description="Only ask where tags point; do not read manifests again that were read recently.",
    )
    release_brake: bool = Field(
        default=False, description="This once, delete from the inventory what the brake held back."
    )

"""What jobs are asked with: a model per kind. Unknown members are errors."""

from __future__ import annotations

import uuid
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from indexer.oci.digest import Digest, parse_digest
from indexer.oci.reference import RepositoryName, TagName, parse_repository_name, parse_tag_name

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


class CleanupParams(Params):
    """Delete the tags and manifests that are due, and that a plan which may be carried out still names."""

    repositories: Annotated[
        list[RepositoryText] | None, Field(min_length=1, max_length=MOST_REPOSITORIES), AfterValidator(_names)
    ] = Field(default=None, description="Only these repositories; null: all.")
    policies: Annotated[list[str], Field(min_length=1, max_length=1000)] | None = Field(
        default=None, description="Only what these policies planned, by their ids; null: all."
    )


class StorageImportParams(Params):
    """Read tags, their past, and manifests from the registry's storage: as `reconciler storage import` does."""

    repositories: Annotated[
        list[RepositoryText] | None, Field(min_length=1, max_length=MOST_REPOSITORIES), AfterValidator(_names)
    ] = Field(default=None, description="Only these repositories; null: all that lie in the storage.")


MOST_TAGS = 10_000


def split_tag(text: str) -> tuple[RepositoryName, TagName]:
    """Return repository and tag of ``repository:tag``; raise ``ValueError``."""
    name, colon, tag = text.rpartition(":")
    if not colon or "/" in tag:
        raise ValueError(f"{text[:80]!r} names no tag: write REPOSITORY:TAG")
    return parse_repository_name(name), parse_tag_name(tag)


def _tags(values: list[str]) -> list[str]:
    """Return tags, each once, in order."""
    return sorted({":".join(split_tag(value)) for value in values})


TagText = Annotated[str, Field(min_length=3, max_length=255 + 1 + 128)]


class DeleteParams(Params):
    """Delete tags, and only these: other tags of the same manifest stay. They can be restored from the trash."""

    tags: Annotated[list[TagText], Field(min_length=1, max_length=MOST_TAGS), AfterValidator(_tags)] = Field(
        description="Each as `repository:tag`."
    )
    digest: Annotated[Digest, AfterValidator(parse_digest)] | None = Field(
        default=None,
        description="Only if the one tag points to this when it is looked at; null: wherever it points.",
    )

    @model_validator(mode="after")
    def _check_digest(self) -> Self:
        if self.digest is not None and len(self.tags) > 1:
            raise ValueError("with a digest name one tag only")
        return self

    @property
    def repositories(self) -> list[RepositoryName]:
        """The repositories of the tags, in order."""
        return sorted({split_tag(tag)[0] for tag in self.tags})


def split_manifest(text: str) -> tuple[RepositoryName, Digest]:
    """Return repository and digest of ``repository@sha256:…``; raise ``ValueError``."""
    name, at, digest = text.partition("@")
    if not at:
        raise ValueError(f"{text[:80]!r} names no manifest: write REPOSITORY@DIGEST")
    return parse_repository_name(name), parse_digest(digest)


def _manifests(values: list[str]) -> list[str]:
    """Return manifests, each once, in order."""
    return sorted({"@".join(split_manifest(value)) for value in values})


ManifestText = Annotated[str, Field(min_length=3, max_length=255 + 1 + 7 + 128)]


class RestoreParams(Params):
    """Put deleted tags and manifests back, with everything they need, as they were before their newest deletion."""

    tags: Annotated[list[TagText], Field(max_length=MOST_TAGS), AfterValidator(_tags)] = Field(
        default=[], description="Each as `repository:tag`."
    )
    manifests: Annotated[list[ManifestText], Field(max_length=MOST_TAGS), AfterValidator(_manifests)] = Field(
        default=[], description="Manifests that were deleted by their digest, each as `repository@sha256:…`."
    )
    deletion: uuid.UUID | None = Field(
        default=None,
        description="Which deletion of the one tag or manifest to undo, as the trash names it; null: the newest.",
    )
    force: bool = Field(
        default=False, description="Also where the tag points to something else by now; that is lost then."
    )

    @model_validator(mode="after")
    def _check_names_any(self) -> Self:
        if not self.tags and not self.manifests:
            raise ValueError("name tags or manifests")
        return self

    @property
    def repositories(self) -> list[RepositoryName]:
        """The repositories of the tags and manifests, in order."""
        of_manifests = {split_manifest(each)[0] for each in self.manifests}
        return sorted({split_tag(tag)[0] for tag in self.tags} | of_manifests)


class StorageCheckParams(Params):
    """Read the registry's storage, and say what cannot be pulled and why. With `repair`, write spoiled links again."""

    content: bool = Field(
        default=False,
        description="Compare the bytes of every blob with its digest, not only those of manifests: all is read.",
    )
    bytes_per_second: int = Field(
        default=100_000_000,
        ge=1_000_000,
        description="How fast each blob is read at most, where its bytes are compared.",
    )
    settle_seconds: int = Field(
        default=45,
        ge=0,
        le=3600,
        description="What looks damaged is read a second time after this, and must still be so: a push or a deletion "
        "may be under way.",
    )
    unproven_storage: bool = Field(
        default=False,
        description="Read it even if nothing shows that it is this registry's storage. The result says so.",
    )
    repair: bool = Field(
        default=False,
        description="Write links again that are empty, cut off or wrong, where the path says what they must hold and "
        "the bytes of it are right. Nothing else is written. The job then has the registry to itself.",
    )

    @model_validator(mode="after")
    def _check_repair(self) -> Self:
        if self.repair and self.content:
            raise ValueError(
                "compare the bytes first, and repair in a second job: it keeps every other from acting"
            )
        if self.repair and self.unproven_storage:
            raise ValueError("nothing is repaired in a storage that is not proven to be the registry's")
        return self


class CollectionPlanParams(Params):
    """Compute from the storage what the registry's own `garbage-collect` would delete, and damage. Deletes nothing."""

    delete_untagged: bool = Field(
        default=False,
        description="Of a collection with `--delete-untagged` (`-m`), which deletes untagged manifests.",
    )
    registry_version: Literal["2.8", "3"] | None = Field(
        default=None, description="Whose collection; null: the registry is asked."
    )
    unproven_storage: bool = Field(
        default=False,
        description="Read it even if nothing shows that it is this registry's storage. The result says so.",
    )

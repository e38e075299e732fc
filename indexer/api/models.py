"""Models of responses that several resources share. They describe and test; responses are built as plain dicts."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

T = TypeVar("T")


PULLS_KNOWN = (
    "Whether the registry announces pulls. If false, content without pulls on record may still be in use. Also false "
    "until the first pull was announced (the reconciler's own count)."
)
CHECKED = "When a client last asked by HEAD only. That is no pull, but use: a client that has the image only checks."


class Shown(BaseModel):
    """Base of the models of responses."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Problem(Shown):
    """Why a request was refused or failed (RFC 9457)."""

    type: str
    title: str
    status: int
    code: str = Field(description="A stable name of the problem, for programs.")
    detail: str = Field(description="One line for people.")
    parameter: str | None = Field(default=None, description="The parameter that is wrong.")
    allowed: str | None = Field(default=None, description="What is accepted instead.")


def older_name(name: str) -> Any:
    """Return the field of a member that has the same value as ``name``, and is kept for one release."""
    description = f"Older name of `{name}`, with the same value; kept for one release."
    return Field(description=description, json_schema_extra={"deprecated": True})


class Index(Shown):
    """How fresh an answer is."""

    as_of: datetime = Field(description="Every notification received before this instant has been applied.")
    last_reconciled_at: datetime | None = Field(
        description="When a reconcile last compared the registry completely with the inventory: for lists of one "
        "repository this repository, for the others the whole registry. Null: not yet."
    )
    walked_at: datetime | None = older_name("last_reconciled_at")
    pulls_known: bool = Field(description=PULLS_KNOWN)


class Listed(Shown, Generic[T]):
    """A page of a list."""

    items: list[T]
    next: str | None = Field(description="Cursor for `after`; null on the last page.")
    previous: str | None = Field(description="Cursor for `before`; null on the first page.")
    index: Index
    count: int | None = Field(default=None, description="Only with the parameter `count`.")

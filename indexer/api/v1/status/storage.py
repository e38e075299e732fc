"""The registry's storage, as it was read last."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from indexer.api.models import Shown
from indexer.common.rfc3339 import format_time
from indexer.store.collections import Inferred
from indexer.store.storage import Sample, StoredCheck


class CollectionShown(Shown):
    """A collection of garbage that ran, as two readings of the storage show: blobs that nothing needed are gone."""

    found_at: datetime
    not_before: datetime = Field(description="The storage was read, and they were there.")
    not_after: datetime = Field(description="It was read again, and they were gone.")
    blobs_gone: int = Field(description="Of the at most 1000 that were remembered.")
    in_maintenance: bool = Field(
        description="Whether maintenance lay in that time: then only pushes and deletions during maintenance count, "
        "else all between the two readings."
    )
    uploads: int = Field(description="Pushes and mounts, in events.")
    deletions: int
    first_at: datetime | None = Field(description="Of these events.")
    last_at: datetime | None
    examples: list[str] = Field(description="Where: at most five repositories, with the tag if there is one.")


class StorageState(Shown):
    """What the newest check and the newest reading of the storage found."""

    checked_at: datetime | None = Field(description="Null: it was never checked.")
    damaged: int = Field(description="What cannot be pulled: see `/api/v1/storage/findings`.")
    harmless: int
    read_at: datetime | None = Field(description="When its bytes were last summed up. Null: never.")
    stored_bytes: int | None
    unreferenced_bytes: int | None = Field(description="Of these, what the registry's garbage-collect frees.")
    collection: CollectionShown | None = Field(description="The newest that is known to have run.")


def show_storage_state(
    check: StoredCheck | None, sample: Sample | None, collection: Inferred | None
) -> dict[str, Any]:
    """Return a :class:`StorageState` for the response."""
    return {
        "checked_at": None if check is None else format_time(check.checked_at),
        "damaged": 0 if check is None else check.damaged,
        "harmless": 0 if check is None else check.harmless,
        "read_at": None if sample is None else format_time(sample.taken_at),
        "stored_bytes": None if sample is None else sample.stored_bytes,
        "unreferenced_bytes": None if sample is None else sample.stored_bytes - sample.referenced_bytes,
        "collection": None if collection is None else collection.show(),
    }

"""Traits of the registry: how it was found to behave."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import Field

from indexer.api.models import Shown
from indexer.common.rfc3339 import format_time
from indexer.store import traits
from indexer.store.traits import Trait


class TraitShown(Shown):
    """Whether the registry behaves so, and how that is known."""

    holds: bool
    because: str
    since: datetime
    observed_at: datetime


class RegistryTraits(Shown):
    """How the registry behaves; null: nothing has shown it yet."""

    hides_tags: TraitShown | None = Field(
        description="Its own listing leaves out tags (Distribution 3.1.0 and 3.1.1 on S3)."
    )
    is_cache: TraitShown | None = Field(
        description="It is a pull-through cache: a reconcile compares nothing."
    )
    announces_pulls: TraitShown | None = Field(
        description="It announces pulls. Unless that holds, `pulls_known` is false everywhere."
    )


def show_registry(found: Mapping[Trait, traits.TraitState]) -> dict[str, Any]:
    """Return a :class:`RegistryTraits` for the response."""
    return {trait.value: show_trait(found.get(trait)) for trait in Trait}


def show_trait(shown: traits.TraitState | None) -> dict[str, Any] | None:
    """Return a :class:`TraitShown` for the response."""
    if shown is None:
        return None
    return {
        "holds": shown.holds,
        "because": shown.because,
        "since": format_time(shown.changed_at),
        "observed_at": format_time(shown.observed_at),
    }

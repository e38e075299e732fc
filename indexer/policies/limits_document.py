"""The models of what bounds a policy: grace, use, budget, brake, undo, run."""

from __future__ import annotations

import ipaddress
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StrictBool, StrictInt

from indexer.inventory.trash import LONGEST_TRASH_NAME
from indexer.oci.reference import parse_repository_name
from indexer.policies import rules
from indexer.policies.parts import Part, Period, Rate, Share, Size, Text, WindowText

_DEFAULT_GRACE, _DEFAULT_BRAKE, _DEFAULT_UNDO, _DEFAULT_RUN = (
    rules.Grace(),
    rules.Brake(),
    rules.Undo(),
    rules.Run(),
)


def _network(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError(f'an address or a range is like "10.0.0.0/8" or "2001:db8::1"; got {value!r}')
    try:
        return ipaddress.ip_network(value)
    except ValueError as error:
        raise ValueError(f'{error}: an address or a range is like "10.0.0.0/8" or "2001:db8::1"') from None


Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(_network)]


class Grace(Part):
    """How long nothing goes after something happened."""

    pushed: Period = _DEFAULT_GRACE.pushed
    moved: Period = _DEFAULT_GRACE.moved
    restored: Period = _DEFAULT_GRACE.restored


class Ignore(Part):
    """Pulls that do not count, by who made them."""

    actors: tuple[Text, ...] = ()
    addresses: tuple[Network, ...] = ()


class Use(Part):
    """What counts as use."""

    ignore: Ignore = Ignore()
    digest_pulls_count_for_tags: StrictBool = True
    child_pulls_count_for_index: StrictBool = True

    def value(self) -> rules.Use:
        """Return what it says."""
        return rules.Use(
            ignored_actors=frozenset(self.ignore.actors),
            ignored_addresses=self.ignore.addresses,
            digest_pulls_count_for_tags=self.digest_pulls_count_for_tags,
            child_pulls_count_for_index=self.child_pulls_count_for_index,
        )


class Budget(Part):
    """Delete only as long as more is held than this."""

    bytes: Size
    of: Literal["referenced"] = "referenced"
    take: Literal["least_recently_used"] = "least_recently_used"
    only: Literal["matched_by_delete"] = "matched_by_delete"


class Brake(Part):
    """What stops a plan."""

    tags: StrictInt = Field(default=_DEFAULT_BRAKE.tags, ge=0)
    share: Share = _DEFAULT_BRAKE.share
    repository_share: Share = _DEFAULT_BRAKE.repository_share
    bytes: Size | None = None
    never_empty: StrictBool = _DEFAULT_BRAKE.never_empty


_MEANT_OTHERWISE = frozenset({"on", "yes", "no"})


def _trash(value: Any) -> Any:
    if value == "off":
        return None
    try:
        name = parse_repository_name(value if isinstance(value, str) else "")
    except ValueError:
        name = None
    if name is None or name in _MEANT_OTHERWISE or len(name) > LONGEST_TRASH_NAME:
        raise ValueError(
            f"trash is off, or the name below which copies of deleted manifests lie, of at most {LONGEST_TRASH_NAME} "
            f"characters: with trash, those of team/app lie in trash/team/app; got {value!r}"
        )
    return name


Trash = Annotated[str | None, BeforeValidator(_trash)]


class Undo(Part):
    """How long a deletion can be taken back."""

    pending: Period = _DEFAULT_UNDO.pending
    unlink_after: Period = _DEFAULT_UNDO.unlink_after
    trash: Trash = _DEFAULT_UNDO.trash
    manifests: Period = _DEFAULT_UNDO.manifests


class Run(Part):
    """When and how fast it is acted."""

    window: WindowText | None = None
    rate: Rate = _DEFAULT_RUN.rate
    errors: StrictInt = Field(default=_DEFAULT_RUN.errors, ge=1)

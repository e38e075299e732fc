"""What a hold is on, and how it is shown: the same for the command line and the API."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from indexer.common.rfc3339 import format_time, parse_time
from indexer.common.values import parse_duration
from indexer.oci.digest import parse_digest
from indexer.oci.reference import parse_repository_name, parse_tag_name
from indexer.store.holds import StoredHold

Target = tuple[str | None, str | None, str | None]
"""Repository, tag and digest."""


def parse_target(text: str) -> Target:
    """Return what ``REPO``, ``REPO:TAG``, ``REPO@DIGEST`` or ``DIGEST`` names; raise ``ValueError``."""
    name, at, digest = text.partition("@")
    if at:
        return parse_repository_name(name), None, parse_digest(digest)
    if text.startswith(("sha256:", "sha512:")):
        return None, None, parse_digest(text)
    name, colon, tag = text.partition(":")
    return parse_repository_name(name), parse_tag_name(tag) if colon else None, None


def parse_until(text: str, *, now: datetime) -> datetime:
    """Return the instant of an RFC 3339 time, or of a duration from now; raise ``ValueError`` unless it is to come."""
    try:
        at = now + parse_duration(text)
    except (ValueError, OverflowError):
        try:
            at = parse_time(text)
        except ValueError:
            raise ValueError(
                f"until: {text[:60]!r} is neither an RFC 3339 time nor a duration like 14d"
            ) from None
    if at <= now:
        raise ValueError(f"until: {format_time(at)} is over already")
    return at


def hold_json(hold: StoredHold) -> dict[str, Any]:
    """Return a hold as it is shown."""
    return {
        "id": hold.id,
        "repository": hold.repository,
        "tag": hold.tag,
        "digest": hold.digest,
        "owner": hold.owner,
        "reason": hold.reason,
        "until": format_time(hold.until),
        "created_at": format_time(hold.created_at),
        "created_by": hold.created_by,
    }


def hold_line(hold: StoredHold) -> str:
    """Return a hold as a line."""
    if hold.repository is None:
        on = str(hold.digest)
    elif hold.tag is not None:
        on = f"{hold.repository}:{hold.tag}"
    else:
        on = hold.repository + (f"@{hold.digest}" if hold.digest else "")
    until = f" until {format_time(hold.until)}" if hold.until else ""
    return f"{hold.id}  {on}  by {hold.owner}{until}: {hold.reason}"

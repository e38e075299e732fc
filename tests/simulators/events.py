"""The notifications of 2.8 and 3.x, field by field."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum, unique
from typing import Any, Final


@unique
class Version(StrEnum):
    """The two families that differ in what they answer and tell."""

    V2_8 = "2.8"
    V3 = "3.x"

    @property
    def events_media_type(self) -> str:
        """The Content-Type of a notification."""
        number = 1 if self is Version.V2_8 else 2
        return f"application/vnd.docker.distribution.events.v{number}+json"


OCTET_STREAM: Final = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class RequestInfo:
    """The client's request that an event is about."""

    method: str = "PUT"
    user_agent: str = "simulated-client/1"
    address: str = "127.0.0.1:40000"
    host: str = "registry.test"
    actor: str = ""
    id: str = field(default_factory=lambda: str(uuid.uuid4()))


@dataclass(frozen=True, slots=True)
class Source:
    """The registry process; ``instance_id`` is new after every restart."""

    address: str = "simulated:5000"
    instance_id: str = field(default_factory=lambda: str(uuid.uuid4()))


def content_target(
    repository: str, *, digest: str, media_type: str, size: int, tag: str | None, host: str, resource: str
) -> dict[str, Any]:
    """Return the target of a push, pull or mount: both versions write it alike."""
    target = {
        "mediaType": media_type,
        "digest": digest,
        "size": size,
        "length": size,
        "repository": repository,
        "url": f"http://{host}/v2/{repository}/{resource}/{digest}",
    }
    return target if tag is None else {**target, "tag": tag}


def deletion_target(
    version: Version, repository: str, *, digest: str | None = None, tag: str | None = None
) -> dict[str, Any]:
    """Return the target of a delete: 3.x writes empty strings where 2.8 writes nothing."""
    target: dict[str, Any] = {"repository": repository}
    if version is Version.V3:
        target = {"mediaType": "", "digest": "", "size": 0, **target}
    if digest is not None:
        target["digest"] = digest
    if tag is not None:
        target["tag"] = tag
    return target


def make_event(
    action: str, target: dict[str, Any], *, request: RequestInfo, source: Source, at: datetime
) -> dict[str, Any]:
    """Return one event as it stands in an envelope; ``at`` is the registry's clock."""
    return {
        "id": str(uuid.uuid4()),
        "timestamp": at.isoformat().replace("+00:00", "Z"),
        "action": action,
        "target": target,
        "request": {
            "id": request.id,
            "addr": request.address,
            "host": request.host,
            "method": request.method,
            "useragent": request.user_agent,
        },
        "actor": {"name": request.actor} if request.actor else {},
        "source": {"addr": source.address, "instanceID": source.instance_id},
    }

"""Pushes as a registry 3.x sends them: half to new tags, half to tags that are on record."""

from __future__ import annotations

import hashlib
import random
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import orjson

from indexer.store.inbox import Delivery
from tests.simulators.events import RequestInfo, Source, content_target, make_event

MEDIA_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONTENT_TYPE = "application/vnd.docker.distribution.events.v2+json"
SOURCE = Source(address="registry:5000", instance_id="3f2b8c1e-5d1a-4e8e-9d55-0f0e4d1c2b3a")


@dataclass(frozen=True, slots=True)
class Push:
    """One push: what the decisions about it come to is known beforehand."""

    repository: str
    tag: str
    digest: str
    is_move: bool
    at: datetime
    event: dict[str, object]

    @property
    def body(self) -> bytes:
        """The notification."""
        return orjson.dumps({"events": [self.event]})

    @property
    def delivery(self) -> Delivery:
        """The notification as the inbox keeps it."""
        return Delivery(received_at=self.at, content_type=CONTENT_TYPE, body=self.body)


def pushes(count: int, repositories: list[tuple[str, int]], *, seed: int = 1) -> list[Push]:
    """Return pushes to ``repositories`` (name, tags that ``_inventory.fill`` made); no tag twice."""
    chance = random.Random(seed)  # noqa: S311 - the same stream for every side
    began = datetime.now(UTC) - timedelta(hours=1)
    moved: set[tuple[str, int]] = set()
    made = []
    for number in range(count):
        name, tags = repositories[chance.randrange(len(repositories))]
        old = chance.randrange(1, tags + 1) if tags else 0
        is_move = number % 2 == 1 and old > 0 and old % 5 != 0 and (name, old) not in moved
        moved.add((name, old))
        tag = f"build-{old:08d}" if is_move else f"push-{seed}-{number}"
        digest = "sha256:" + hashlib.sha256(f"pushed {seed} {number}".encode()).hexdigest()
        at = began + timedelta(milliseconds=number)
        request = RequestInfo(
            user_agent="docker/27.3.1 go/go1.22.7 git-commit/41ca978 os/linux arch/amd64",
            address=f"10.0.{number % 4}.{number % 16}:{40000 + number % 1000}",
            actor=f"ci-{number % 8}",
            id=str(uuid.UUID(int=chance.getrandbits(128), version=4)),
        )
        target = content_target(
            name,
            digest=digest,
            media_type=MEDIA_TYPE,
            size=1234,
            tag=tag,
            host="registry",
            resource="manifests",
        )
        event = make_event("push", target, request=request, source=SOURCE, at=at)
        made.append(Push(name, tag, digest, is_move, at, event))
    return made

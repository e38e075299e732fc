"""GitLab's dummy manifests: how GitLab deletes a single tag where the registry can only delete digests.

GitLab pushes one manifest without layers to every tag that it wants to delete, then deletes that manifest by its
digest, which deletes the tags (GitLab's contract section 4.3; measured on Distribution 2.8.2 and 3.1.1). The events are
a push of the config, a push per tag, a delete of the digest and a delete per tag. What happened is one deletion per
tag. So a tag that points to a dummy counts as deleted from the push on:

- by event: the push of a dummy to a tag is the tag's deletion. The deletes of the dummy and of the tag change nothing.
- by observation: a tag that points to a dummy is absent.

A dummy is known by its digest. Those that GitLab's JSON library writes are computed here; others are recognised when
their content is read. A push that has GitLab's User-Agent and is too small to have a layer counts as one until an
observation disagrees, since a User-Agent proves nothing.
"""

from __future__ import annotations

import json
from collections.abc import Set as AbstractSet
from typing import Final

from indexer.inventory.events import Event, EventAction
from indexer.oci.digest import Digest, digest_of
from indexer.oci.manifest import ParsedManifest
from indexer.oci.media_types import DOCKER_CONFIG, DOCKER_MANIFEST

USER_AGENT_PREFIX: Final = "GitLab/"
MOST_BYTES: Final = 300
"""GitLab's dummy has 285 bytes, or 251 without white space. A layer needs at least 85 more."""

MOST_CONFIG_BYTES: Final = 64

# Ruby's pretty JSON of an empty object, until and since json 2.10, and without white space.
_CONFIGS = (b'{\n  "config": {\n  }\n}', b'{\n  "config": {}\n}', b'{"config":{}}')


def _manifest(config: bytes, *, pretty: bool) -> bytes:
    document = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": {"mediaType": DOCKER_CONFIG, "size": len(config), "digest": digest_of(config)},
    }
    text = json.dumps(document, indent=2) if pretty else json.dumps(document, separators=(",", ":"))
    return text.encode()


DUMMIES: Final = frozenset(
    digest_of(_manifest(config, pretty=pretty)) for config in _CONFIGS for pretty in (True, False)
)
"""The digests of the dummies that GitLab is known to push."""


def is_dummy_push(event: Event, dummies: AbstractSet[Digest]) -> bool:
    """Tell whether an event is the push of a dummy to a tag."""
    if event.action is not EventAction.PUSH or event.tag is None or event.digest is None:
        return False
    return event.digest in dummies or (
        event.request.user_agent.startswith(USER_AGENT_PREFIX)
        and event.media_type == DOCKER_MANIFEST
        and 0 < event.size_bytes <= MOST_BYTES
    )


def is_dummy_content(manifest: ParsedManifest, config: bytes) -> bool:
    """Tell whether a manifest and its config are a dummy: no layers, and an empty image."""
    if manifest.media_type != DOCKER_MANIFEST or manifest.layers or manifest.subject is not None:
        return False
    if manifest.unread:  # it may have layers after all
        return False
    if len(config) > MOST_CONFIG_BYTES:
        return False
    try:
        return bool(json.loads(config) == {"config": {}})
    except ValueError:
        return False

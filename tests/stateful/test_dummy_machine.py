"""GitLab deletes tags by a dummy manifest, while everybody else pushes, deletes, looks and loses events."""

from __future__ import annotations

from hypothesis import settings
from hypothesis.stateful import rule

from indexer.inventory.apply_tag_observation import as_deletion
from indexer.inventory.dummies import DUMMIES
from indexer.inventory.observations import TagObservation
from indexer.inventory.records import TagRecord
from indexer.oci.digest import Digest, digest_of
from indexer.oci.media_types import DOCKER_MANIFEST
from indexer.oci.reference import TagName
from tests.fixtures.selection import examples
from tests.simulators.events import RequestInfo
from tests.stateful.test_inventory_machine import REPOSITORY, InventoryMachine, tags
from tests.unit.test_dummies import DUMMY

GITLAB = RequestInfo(user_agent="GitLab/18.10.0")


class DummyMachine(InventoryMachine):
    """The same world, in which a tag that points to a dummy is gone."""

    @rule(tag=tags)
    def push_dummy(self, tag: TagName) -> None:
        self.registry.push(REPOSITORY, DUMMY, media_type=DOCKER_MANIFEST, tag=tag, request=GITLAB)

    @rule()
    def delete_dummy(self) -> None:
        self.registry.delete_manifest(REPOSITORY, digest_of(DUMMY), request=GITLAB)

    def observe(self, tag: TagName) -> TagObservation:
        return as_deletion(super().observe(tag), DUMMIES)

    def compare(self, record: TagRecord | None, link: Digest | None) -> None:
        # A dummy's link that dangles is no dummy any more: nobody can read what it was.
        readable = link is not None and self.registry.manifest(REPOSITORY, link) is not None
        super().compare(record, None if link == digest_of(DUMMY) and readable else link)


DummyMachine.TestCase.settings = settings(max_examples=examples(100), stateful_step_count=40, deadline=None)
TestDummyMachine = DummyMachine.TestCase

"""What happens: a pipeline pushes, a person moves, deletes and pulls a tag, and then something unheard of."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from demo.ledger import Ledger, Pushed
from tools import sample_images

if TYPE_CHECKING:
    from demo.stage import Stage
    from tools.sample_images import Image

WEB, API = "shop/web", "shop/api"
SBOM = "application/spdx+json"
PIPELINE, PERSON = "ci", "alice"
PULLS = 3


class Story:
    """Does it, and writes it down."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.ledger = Ledger()
        self._oldest = sample_images.oci_image("web 1.0.0", created="2026-03-01T08:00:00Z")
        self._older = sample_images.oci_image("web 1.1.0", created="2026-04-01T08:00:00Z")
        self._newest = sample_images.multi_platform("web 1.2.0")

    def publish(self) -> None:
        """Push an OCI image, two tags on one digest, an index, an artifact with a subject, Docker images."""
        sbom = sample_images.artifact("web 1.2.0", artifact_type=SBOM, subject=self._newest)
        self._push(WEB, "1.0.0", self._oldest)
        self._push(WEB, "1.1.0", self._older)
        self._push(WEB, "latest", self._older)
        self._push(WEB, "1.2.0", self._newest, kind="index")
        self._push(WEB, "1.2.0.sbom", sbom, kind="sbom", artifact_type=SBOM)
        self._push(API, "2.0", sample_images.docker_image("api 2.0"))
        self._push(API, "2.1-rc1", sample_images.docker_image("api 2.1-rc1"))

    def change(self) -> None:
        """Move a tag, delete one, pull one."""
        self._push(WEB, "latest", self._newest, kind="index", actor=PERSON)
        self._delete(API, "2.1-rc1")
        with self._stage.client(PERSON) as client:
            for _ in range(PULLS):
                path = f"/v2/{WEB}/manifests/latest"
                client.request("GET", path, headers={"Accept": sample_images.ACCEPT})
                self.ledger.pulled(WEB, "latest", PERSON)

    def go_behind_our_back(self) -> None:
        """Push where no notification is sent, and take a tag out of the registry's storage by hand."""
        self._stage.quiet_registry.start()
        try:
            with self._stage.client(PIPELINE, quiet=True) as client:
                for tag, seed in (("2.2", "api 2.2"), ("2.0", "api 2.0, built again")):
                    image = sample_images.docker_image(seed)
                    client.push(API, image, tag)
                    self.ledger.pushed_unheard(Pushed(API, tag, image, "image", actor=None))
        finally:
            self._stage.quiet_registry.stop()
        tags = self._stage.registry.storage_dir / f"docker/registry/v2/repositories/{WEB}/_manifests/tags"
        shutil.rmtree(tags / "1.0.0")
        self.ledger.deleted_unheard(WEB, "1.0.0")

    def _push(
        self,
        repository: str,
        tag: str,
        image: Image,
        *,
        kind: str = "image",
        artifact_type: str | None = None,
        actor: str = PIPELINE,
    ) -> None:
        with self._stage.client(actor) as client:
            if (repository, image.digest) in self.ledger.held:
                path = f"/v2/{repository}/manifests/{tag}"
                client.request("PUT", path, image.manifest.data, {"Content-Type": image.media_type})
            else:
                client.push(repository, image, tag)
        self.ledger.pushed(Pushed(repository, tag, image, kind, actor, artifact_type))

    def _delete(self, repository: str, tag: str) -> None:
        """By tag where the registry can (3.x); 2.8 deletes by digest only, and the manifest goes, too."""
        by_digest = self._stage.registry.major == 2  # noqa: PLR2004 - the version
        digest = self.ledger.tags[repository, tag].image.digest
        with self._stage.client(PERSON) as client:
            client.delete(repository, digest if by_digest else tag)
        self.ledger.deleted(repository, tag, PERSON, manifest_too=by_digest)

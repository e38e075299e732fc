"""What happens: a pipeline pushes, a person moves, deletes and pulls a tag, and then something unheard of."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING

from demo.ledger import Ledger, Pushed
from demo.stage import DemoError
from tools import sample_images
from tools.sample_images import Image

if TYPE_CHECKING:
    from demo.stage import Stage
    from tools.sample_images import Pusher

WEB, API = "shop/web", "shop/api"
SBOM = "application/spdx+json"
PIPELINE, PERSON = "ci", "alice"
PULLS = 3


class Story:
    """Does it, and writes it down."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.ledger = Ledger()
        self._built_at = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=5)
        self._oldest = self._oci_image("web 1.0.0")
        self._older = self._oci_image("web 1.1.0")
        self._newest = sample_images.index(
            [
                self._oci_image(f"web 1.2.0/{platform}", platform)
                for platform in ("linux/amd64", "linux/arm64")
            ]
        )

    def publish(self) -> None:
        """Push an OCI image, two tags on one digest, an index, an artifact with a subject, Docker images."""
        sbom = sample_images.artifact("web 1.2.0", artifact_type=SBOM, subject=self._newest)
        self._push(WEB, "1.0.0", self._oldest)
        self._push(WEB, "1.1.0", self._older)
        self._push(WEB, "latest", self._older)
        self._push(WEB, "1.2.0", self._newest, kind="index")
        self._push(WEB, "1.2.0.sbom", sbom, kind="sbom", artifact_type=SBOM)
        self._push(API, "2.0", self._docker_image("api 2.0"))
        self._push(API, "2.1-rc1", self._docker_image("api 2.1-rc1"))

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
                    image = self._docker_image(seed)
                    between = timed_push(client, API, image, tag)
                    self.ledger.pushed_unheard(Pushed(API, tag, image, "image", None, between))
        finally:
            self._stage.quiet_registry.stop()
        tags = self._stage.registry.storage_dir / f"docker/registry/v2/repositories/{WEB}/_manifests/tags"
        shutil.rmtree(tags / "1.0.0")
        self.ledger.deleted_unheard(WEB, "1.0.0")

    def _oci_image(self, seed: str, platform: str = "linux/amd64") -> Image:
        return sample_images.oci_image(seed, platform=platform, created=self._built())

    def _docker_image(self, seed: str) -> Image:
        return sample_images.docker_image(seed, created=self._built())

    def _built(self) -> str:
        """Say when an image was built: each a while after the one before, all just before the demo."""
        self._built_at += timedelta(seconds=20)
        return self._built_at.isoformat().replace("+00:00", "Z")

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
            held = (repository, image.digest) in self.ledger.held
            whole = Image(image.manifest) if held else image  # what is there already needs no second push
            between = timed_push(client, repository, whole, tag)
        self.ledger.pushed(Pushed(repository, tag, image, kind, actor, between, artifact_type))

    def _delete(self, repository: str, tag: str) -> None:
        """By tag where the registry can (3.x); 2.8 deletes by digest only, and the manifest goes, too."""
        by_digest = self._stage.registry.major == 2  # noqa: PLR2004 - the version
        digest = self.ledger.tags[repository, tag].image.digest
        with self._stage.client(PERSON) as client:
            answer = client.delete(repository, digest if by_digest else tag)
        if answer.status != HTTPStatus.ACCEPTED:
            raise DemoError(f"the registry answered {answer.status} to deleting {repository}:{tag}")
        self.ledger.deleted(repository, tag, PERSON, manifest_too=by_digest)


def timed_push(client: Pusher, repository: str, image: Image, tag: str) -> tuple[datetime, datetime]:
    """Push, and return between which instants the registry did it."""
    began = datetime.now(UTC)
    client.push(repository, image, tag)
    return began, datetime.now(UTC)

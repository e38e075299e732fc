"""Looking at tags and manifests: what each answer means, on every version, simulated and real."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from indexer.common.errors import RegistryDenied, RegistryMisbehaved
from indexer.oci.digest import digest_of, parse_digest
from indexer.oci.reference import RepositoryName, TagName
from reconciler.registry.answers import Confirmed, Deletion, Found, ManifestContent, NotFound, NotFoundCode
from reconciler.registry.auth import Credentials
from reconciler.registry.protocol import WritableRegistry
from tests.contract.conftest import StartSubject, Subject, push
from tests.simulators.events import Version
from tools.registry_server import HTPASSWD_PASSWORD, HTPASSWD_USER
from tools.sample_images import DOCKER_LIST, Blob, Image, docker_image, index, multi_platform, oci_image

APP = RepositoryName("team/app")
LATEST = TagName("latest")
NOBODY = parse_digest("sha256:" + "0" * 64)
IMAGES = {
    "oci image": oci_image("a"),
    "docker image": docker_image("a"),
    "oci index": multi_platform("a"),
    "docker list": index([docker_image("b")], media_type=DOCKER_LIST),
}


async def test_ping__says_version_and_clock(subject: Subject) -> None:
    """A registry names its API version and the time, in whole seconds."""
    registry: WritableRegistry = subject.client
    before = datetime.now(UTC)

    ping = await registry.ping()

    assert ping.api_version == "registry/2.0"
    assert ping.registry_clock is not None
    assert ping.registry_clock.microsecond == 0
    assert abs(ping.registry_clock - before) < timedelta(seconds=5)
    assert before <= ping.observed_at <= datetime.now(UTC)
    assert ping.as_of == min(ping.observed_at, ping.registry_clock)


@pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES.keys())
async def test_look_at_tag__finds_every_type_as_it_was_pushed(subject: Subject, image: Image) -> None:
    """With all four Accept types the digest, type and size are those of the push, nothing rewritten."""
    await push(subject.client, APP, image, "latest")

    look = await subject.client.head_tag(APP, LATEST)

    assert isinstance(look, Found)
    assert (look.digest, look.media_type, look.size) == (image.digest, image.media_type, image.manifest.size)


async def test_look_at_tag__condition(subject: Subject) -> None:
    """The digest on record confirms; another one brings what is there now."""
    first = await push(subject.client, APP, oci_image("a"), "latest")
    second = await push(subject.client, APP, oci_image("b"), "latest")

    confirmed = await subject.client.head_tag(APP, LATEST, if_digest=second)
    moved = await subject.client.head_tag(APP, LATEST, if_digest=first)

    assert isinstance(confirmed, Confirmed)
    assert confirmed.digest == second
    assert isinstance(moved, Found)
    assert moved.digest == second


@pytest.mark.parametrize("repository", [APP, RepositoryName("never/was")])
@pytest.mark.parametrize("condition", [None, NOBODY])
async def test_look_at_tag__absent(
    subject: Subject, repository: RepositoryName, condition: str | None
) -> None:
    """A missing tag and a missing repository are absence in the registry's own words."""
    await push(subject.client, APP, oci_image("a"), "latest")
    digest = None if condition is None else NOBODY

    look = await subject.client.head_tag(repository, TagName("gone"), if_digest=digest)

    assert isinstance(look, NotFound)
    assert look.code in {NotFoundCode.MANIFEST_UNKNOWN, NotFoundCode.NAME_UNKNOWN}


async def test_look_at_tag__dangling(subject: Subject) -> None:
    """A tag whose manifest is gone is listed and even confirmed by a condition, but cannot be read."""
    digest = await push(subject.client, APP, oci_image("a"), "latest")
    subject.break_tag(APP, digest)

    assert tuple((await subject.client.list_tags(APP)).names) == ("latest",)
    assert isinstance(await subject.client.head_tag(APP, LATEST), NotFound)
    assert isinstance(await subject.client.head_tag(APP, LATEST, if_digest=digest), Confirmed)


async def test_look_at_manifest__present_and_absent(subject: Subject) -> None:
    """A digest is found where it was pushed and nowhere else; a condition would find it everywhere."""
    image = oci_image("a")
    digest = await push(subject.client, APP, image)

    found = await subject.client.head_manifest(APP, digest)

    assert isinstance(found, Found)
    assert (found.digest, found.size) == (digest, image.manifest.size)
    assert isinstance(await subject.client.head_manifest(APP, NOBODY), NotFound)
    assert isinstance(await subject.client.head_manifest(RepositoryName("never/was"), digest), NotFound)


async def test_get_manifest__bytes_as_pushed(subject: Subject) -> None:
    """Whitespace and a trailing newline belong to the digest and are kept."""
    image = oci_image("a")
    for blob in image.blobs:
        await subject.client.put_blob(APP, blob.data)
    odd = image.manifest.data.replace(b",", b" ,\n ") + b"\n"
    digest = await subject.client.put_manifest(APP, LATEST, odd, media_type=image.media_type)

    content = await subject.client.get_manifest(APP, digest)

    assert isinstance(content, ManifestContent)
    assert (content.content, content.media_type, content.digest) == (odd, image.media_type, digest_of(odd))


async def test_get_manifest__absent(subject: Subject) -> None:
    """An unknown digest is not found, and the answer says as of when."""
    before = datetime.now(UTC)
    answer = await subject.client.get_manifest(APP, NOBODY)
    assert isinstance(answer, NotFound)
    assert before <= answer.observed_at <= datetime.now(UTC)


async def test_has_blob__present_absent_elsewhere(subject: Subject) -> None:
    """A blob is there where it was pushed, and in no other repository, known or not."""
    digest = await subject.client.put_blob(APP, b"twelve bytes")
    other = RepositoryName("team/other")

    found = [
        await subject.client.has_blob(*asked) for asked in ((APP, digest), (APP, NOBODY), (other, digest))
    ]

    assert found == [True, False, False]


async def test_get_blob__present_absent_too_large(subject: Subject) -> None:
    """A blob is read whole, or not at all."""
    digest = await subject.client.put_blob(APP, b"twelve bytes")

    assert await subject.client.get_blob(APP, digest, limit=12) == b"twelve bytes"
    assert await subject.client.get_blob(APP, NOBODY, limit=12) is None
    with pytest.raises(RegistryMisbehaved, match="more than 11 bytes"):
        await subject.client.get_blob(APP, digest, limit=11)


async def test_delete_manifest__takes_every_tag(subject: Subject) -> None:
    """A delete by digest removes all its tags; a second one finds nothing."""
    image = oci_image("a")
    for tag in ("one", "two"):
        await push(subject.client, APP, image, tag)
    await push(subject.client, APP, oci_image("b"), "other")

    assert await subject.client.delete_manifest(APP, parse_digest(image.digest)) is Deletion.ACCEPTED
    assert await subject.client.delete_manifest(APP, parse_digest(image.digest)) is Deletion.ABSENT
    assert tuple((await subject.client.list_tags(APP)).names) == ("other",)


async def test_delete_tag__only_3x_can(subject: Subject) -> None:
    """3.x deletes a tag and keeps its manifest; 2.8 cannot, and says so with a 400."""
    digest = await push(subject.client, APP, oci_image("a"), "latest")
    can = subject.version is Version.V3

    assert await subject.client.delete_tag(APP, LATEST) is (
        Deletion.ACCEPTED if can else Deletion.UNSUPPORTED
    )
    assert isinstance(await subject.client.head_tag(APP, LATEST), NotFound if can else Found)
    assert isinstance(await subject.client.head_manifest(APP, digest), Found)
    assert await subject.client.delete_tag(APP, TagName("never")) is (
        Deletion.ABSENT if can else Deletion.UNSUPPORTED
    )


async def test_delete__switched_off(start_subject: StartSubject) -> None:
    """Where deletes are not enabled the registry says so, and nothing happens."""
    subject = await start_subject(can_delete=False)
    digest = await push(subject.client, APP, oci_image("a"), "latest")

    assert await subject.client.delete_manifest(APP, digest) is Deletion.UNSUPPORTED
    assert await subject.client.delete_tag(APP, LATEST) is Deletion.UNSUPPORTED
    assert isinstance(await subject.client.head_tag(APP, LATEST), Found)


async def test_put_manifest__refused(subject: Subject) -> None:
    """What the registry does not take as a manifest is an error, not a digest."""
    with pytest.raises(RegistryMisbehaved, match="400 MANIFEST_INVALID"):
        await subject.client.put_manifest(APP, LATEST, b"no manifest", media_type=oci_image("a").media_type)


@pytest.mark.parametrize(
    "credentials", [None, Credentials(HTPASSWD_USER, "wrong"), Credentials("nobody", HTPASSWD_PASSWORD)]
)
async def test_basic__denied(start_subject: StartSubject, credentials: Credentials | None) -> None:
    """Without the right password nothing is concluded, whatever is asked."""
    subject = await start_subject(users=True, credentials=credentials)

    for ask in (
        subject.client.ping(),
        subject.client.list_repositories(),
        subject.client.list_tags(APP),
        subject.client.head_tag(APP, LATEST),
    ):
        with pytest.raises(RegistryDenied):
            await ask


async def test_basic__let_in(start_subject: StartSubject) -> None:
    """With the right password everything works."""
    subject = await start_subject(users=True, credentials=Credentials(HTPASSWD_USER, HTPASSWD_PASSWORD))
    digest = await push(subject.client, APP, oci_image("a"), "latest")

    assert isinstance(await subject.client.head_tag(APP, LATEST, if_digest=digest), Confirmed)
    assert (await subject.client.list_repositories()).names == (APP,)


async def test_put_blob__empty_and_repeated(subject: Subject) -> None:
    """The empty blob is a blob, and pushing it twice is no harm."""
    for _ in range(2):
        digest = await subject.client.put_blob(APP, b"")

    assert await subject.client.get_blob(APP, digest, limit=0) == b""
    assert digest == Blob("", b"").digest

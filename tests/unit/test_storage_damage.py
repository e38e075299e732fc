"""What is damaged in a storage: whatever cannot be pulled is named, and nothing else."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from indexer.oci.digest import Digest, digest_of
from reconciler.storage.damage import Code, Finding, Severity
from reconciler.storage.examine import Examined, examine
from reconciler.storage.observe import Reader
from reconciler.storage.repair import plan_rewrite
from tests.simulators.storage import (
    MemoryStorage,
    Served,
    StoredRegistry,
    blob_at,
    sample_registry,
    slashed,
)

KINDS = ("removed", "emptied", "truncated", "exchanged")


def check(storage: MemoryStorage, *, now: datetime | None = None, content: bool = True) -> Examined:
    """Check a storage."""
    latest = max(modified_at for _, modified_at in storage.files.values())
    return examine(Reader(storage), now=now or latest, checking=True, content=content)


def damaged_tags(found: Examined) -> set[str]:
    """Return the tags that the findings say cannot be pulled."""
    return {f"{each.repository}:{tag}" for each in found.damaged for tag in each.tags}


def broken_tags(storage: MemoryStorage) -> set[str]:
    """Return the tags that the registry cannot serve wholly."""
    served = Served(storage)
    return {
        f"{repository}:{tag}"
        for repository in served.repositories()
        for tag in served.tags(repository)
        if not served.pulls_tag(repository, tag)
    }


def broken_manifests(storage: MemoryStorage) -> set[str]:
    """Return the manifests with a link that the registry cannot serve wholly."""
    served = Served(storage)
    return {
        f"{repository}@{digest}"
        for repository in served.repositories()
        for digest in served.revisions(repository)
        if not served.pulls(repository, digest)
    }


def one(found: Examined, code: Code) -> Finding:
    """Return the only finding with a code."""
    (finding,) = [each for each in found.findings if each.code is code]
    return finding


@pytest.mark.parametrize("seed", range(25))
def test_sound_storage(seed: int) -> None:
    """A registry that nobody damaged has no findings, and everything in it can be pulled."""
    registry = sample_registry(seed)
    assert not broken_tags(registry.storage)
    assert [] == list(check(registry.storage).findings)


def damages(storage: MemoryStorage, kind: str) -> Iterator[str]:
    """Do one damage to each file in turn; undo it before the next."""
    for path, (content, modified_at) in list(storage.files.items()):
        if kind == "removed":
            del storage.files[path]
        else:
            other = next(
                (
                    each
                    for at, (each, _) in storage.files.items()
                    if at.rsplit("/", 1)[-1] == path.rsplit("/", 1)[-1] and each != content
                ),
                b"",
            )
            spoiled = {"emptied": b"", "truncated": content[: len(content) // 2], "exchanged": other}[kind]
            storage.files[path] = (spoiled, modified_at)
        yield path
        storage.files[path] = (content, modified_at)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_every_damage_is_named_rightly(seed: int, kind: str) -> None:
    """Of each link and blob, damaged in turn: exactly the tags and manifests that cannot be pulled are named."""
    storage = sample_registry(seed).storage
    for path in damages(storage, kind):
        found = check(storage)
        assert damaged_tags(found) == broken_tags(storage), path
        named = {f"{each.repository}@{digest}" for each in found.damaged for digest in each.manifests}
        assert broken_manifests(storage) <= named, path
        served = Served(storage)
        for each in found.damaged:
            for digest in each.manifests:
                assert not served.pulls(each.repository or "", digest), (path, each)


@pytest.mark.parametrize("seed", range(12, 28))
def test_several_damages_at_once(seed: int) -> None:
    """Several damages beside each other hide none of each other."""
    rng = random.Random(seed)
    storage = sample_registry(seed).storage
    for path in rng.sample(list(storage.files), rng.randint(2, 6)):
        content, modified_at = storage.files.pop(path)
        if rng.random() < 0.6:
            storage.files[path] = (content[: rng.randint(0, len(content) - 1)], modified_at)
    found = check(storage)
    assert damaged_tags(found) == broken_tags(storage)
    assert broken_manifests(storage) <= {
        f"{each.repository}@{digest}" for each in found.damaged for digest in each.manifests
    }


def repair(storage: MemoryStorage) -> list[str]:
    """Write again what may be; return the paths."""
    written = []
    for finding in check(storage).findings:
        planned = plan_rewrite(storage, finding)
        if planned is not None:
            storage.replace(planned.path, planned.digest.encode(), "0" * 16)
            written.append(planned.path)
    return written


@pytest.mark.parametrize("kind", KINDS)
def test_a_repair_restores_what_was_there(kind: str) -> None:
    """Each file damaged in turn: a repair leaves it as it is, or makes it what it was; and it changes nothing else."""
    storage = sample_registry(3).storage
    whole = dict(storage.files)
    repaired = 0
    for path in damages(storage, kind):
        spoiled = dict(storage.files)
        written = repair(storage)
        assert written in ([], [path])
        if written:
            assert storage.files == whole
            repaired += 1
        else:
            assert storage.files == spoiled
        fixed = path.endswith("/link") and not path.endswith("/current/link") and kind != "removed"
        assert bool(written) == fixed, path
    assert (repaired > 5) == (kind != "removed")


@pytest.fixture
def image() -> tuple[StoredRegistry, Digest]:
    """A repository with one image of one layer, tagged v1."""
    registry = StoredRegistry()
    return registry, registry.image("app", [b"layer"], "v1")


LAYER = digest_of(b"layer")
LINK = f"repositories/app/_layers/{slashed(LAYER)}/link"
CURRENT = "repositories/app/_manifests/tags/v1/current/link"


def revision(digest: str) -> str:
    """Return where the repository's link to a manifest lies."""
    return f"repositories/app/_manifests/revisions/{slashed(digest)}/link"


def history(digest: str) -> str:
    """Return where the tag's history has a digest."""
    return f"repositories/app/_manifests/tags/v1/index/{slashed(digest)}/link"


@pytest.mark.parametrize(
    ("path", "content", "code"),
    [
        ("current", None, Code.TAG_LINK_MISSING),
        ("current", b"", Code.TAG_LINK_UNREADABLE),
        ("current", b"sha256:12", Code.TAG_LINK_UNREADABLE),
        ("revision", None, Code.TAG_DANGLING),
        ("revision", b"", Code.MANIFEST_LINK_UNREADABLE),
        ("revision", LAYER.encode(), Code.MANIFEST_LINK_WRONG),
        ("manifest", None, Code.MANIFEST_MISSING),
        ("manifest", b"{}", Code.MANIFEST_WRONG_CONTENT),
        ("link", None, Code.BLOB_LINK_MISSING),
        ("link", b"", Code.BLOB_LINK_UNREADABLE),
        ("link", digest_of(b"x").encode(), Code.BLOB_LINK_WRONG),
        ("layer", None, Code.BLOB_MISSING),
        ("layer", b"", Code.BLOB_WRONG_CONTENT),
        ("layer", b"laye", Code.BLOB_WRONG_CONTENT),
        ("layer", b"Layer", Code.BLOB_WRONG_CONTENT),
    ],
)
def test_codes_of_damage(
    image: tuple[StoredRegistry, Digest], path: str, content: bytes | None, code: Code
) -> None:
    """Each damage has one code, names the tag, and says in words what cannot be pulled and what to do."""
    registry, digest = image
    at = {
        "current": CURRENT,
        "revision": revision(digest),
        "manifest": blob_at(digest),
        "link": LINK,
        "layer": blob_at(LAYER),
    }[path]
    _, modified_at = registry.storage.files.pop(at)
    if content is not None:
        registry.storage.files[at] = (content, modified_at)
    (finding,) = check(registry.storage).damaged
    assert (finding.code, finding.repository, finding.tags) == (code, "app", ("v1",))
    assert "app:v1" in finding.text
    assert finding.advice


@pytest.mark.parametrize(
    ("path", "content", "code"),
    [("history", None, Code.TAG_NOT_IN_HISTORY), ("history", b"", Code.TAG_HISTORY_UNREADABLE)],
)
def test_codes_of_what_is_harmless(
    image: tuple[StoredRegistry, Digest], path: str, content: bytes | None, code: Code
) -> None:
    """A tag's history serves nothing: what is wrong in it is harmless."""
    registry, digest = image
    _, modified_at = registry.storage.files.pop(history(digest))
    if content is not None:
        registry.storage.files[history(digest)] = (content, modified_at)
    (finding,) = check(registry.storage).findings
    assert (finding.code, finding.severity, finding.tags) == (code, Severity.HARMLESS, ())


def test_only_links_that_their_path_explains_are_to_be_rewritten(
    image: tuple[StoredRegistry, Digest],
) -> None:
    """A spoiled link is rewritten only where its path says what it must hold, and the bytes are there and right."""
    registry, digest = image
    files = registry.storage.files
    files[LINK] = (b"", registry.now)
    files[revision(digest)] = (b"sha256:", registry.now)
    rewritten = {each.path: each.rewrite for each in check(registry.storage).findings}
    assert rewritten == {LINK: LAYER, revision(digest): digest}
    files[blob_at(LAYER)] = (b"other", registry.now)
    assert one(check(registry.storage), Code.BLOB_LINK_UNREADABLE).rewrite is None
    files[CURRENT] = (b"", registry.now)
    assert one(check(registry.storage), Code.TAG_LINK_UNREADABLE).rewrite is None


def test_a_wrong_size_is_not_damage() -> None:
    """A manifest that states a wrong size for sound bytes is harmless, and the bytes are read to know it."""
    registry = StoredRegistry()
    layer = registry.blob("app", b"layer")
    config = registry.blob("app", b"{}")
    registry.manifest(
        "app",
        {
            "schemaVersion": 2,
            "config": {"mediaType": "a/b", "digest": config, "size": 2},
            "layers": [{"mediaType": "a/b", "digest": layer, "size": 999}],
        },
        "v1",
    )
    finding = one(check(registry.storage, content=False), Code.BLOB_SIZE_DIFFERS)
    assert (finding.severity, finding.tags) == (Severity.HARMLESS, ("v1",))
    registry.storage.files[blob_at(layer)] = (b"laye", registry.now)
    assert one(check(registry.storage, content=False), Code.BLOB_WRONG_CONTENT).severity is Severity.DAMAGED


def test_without_content_a_changed_byte_is_not_seen(image: tuple[StoredRegistry, Digest]) -> None:
    """Only ``--content`` compares bytes of a layer whose size is right; a manifest's are always compared."""
    registry, digest = image
    registry.storage.files[blob_at(LAYER)] = (b"Layer", registry.now)
    assert not check(registry.storage, content=False).findings
    assert one(check(registry.storage), Code.BLOB_WRONG_CONTENT).digest == LAYER
    wrong = registry.storage.files[blob_at(digest)][0].replace(b"schemaVersion", b"schemaversion")
    registry.storage.files[blob_at(digest)] = (wrong, registry.now)
    assert one(check(registry.storage, content=False), Code.MANIFEST_WRONG_CONTENT).digest == digest


def test_wrong_bytes_that_nobody_needs(image: tuple[StoredRegistry, Digest]) -> None:
    """Wrong bytes of a blob that no manifest needs are damage all the same: the next push of it would keep them."""
    registry, _ = image
    registry.storage.files[blob_at(digest_of(b"alone"))] = (b"spoiled", registry.now)
    (finding,) = check(registry.storage).findings
    assert (finding.code, finding.repository, finding.tags) == (Code.BLOB_WRONG_CONTENT, None, ())


def test_uploads_that_were_left(image: tuple[StoredRegistry, Digest]) -> None:
    """Uploads are named once they are a week old: the registry's own purge would have taken them."""
    registry, _ = image
    registry.upload("app", "1", b"1234")
    registry.upload("app", "2", b"12")
    assert not check(registry.storage).findings
    finding = one(check(registry.storage, now=registry.now + timedelta(days=7)), Code.UPLOAD_LEFT)
    assert finding.severity is Severity.HARMLESS
    assert finding.text.startswith("2 uploads of app")


def test_a_link_to_nothing_is_harmless(image: tuple[StoredRegistry, Digest]) -> None:
    """A link to a blob that is gone and that no manifest needs is what a 2.8 garbage-collect leaves."""
    registry, _ = image
    alone = registry.blob("app", b"alone")
    del registry.storage.files[blob_at(alone)]
    finding = one(check(registry.storage), Code.BLOB_LINK_TO_NOTHING)
    assert (finding.severity, finding.digest) == (Severity.HARMLESS, alone)


def test_an_alias_is_sound(image: tuple[StoredRegistry, Digest]) -> None:
    """A link of another algorithm holds the digest under which the registry keeps the bytes: that is no damage."""
    registry, _ = image
    registry.put(f"repositories/app/_layers/sha512/{'a' * 128}/link", LAYER.encode())
    assert not check(registry.storage).findings


def test_a_manifest_that_is_linked_as_a_layer(image: tuple[StoredRegistry, Digest]) -> None:
    """Registries of 2.1 linked manifests as layers, and later ones serve them: they are sound, and judged alike."""
    registry, digest = image
    content, modified_at = registry.storage.files.pop(revision(digest))
    registry.storage.files[f"repositories/app/_layers/{slashed(digest)}/link"] = (content, modified_at)
    assert not check(registry.storage).findings
    del registry.storage.files[blob_at(LAYER)]
    assert one(check(registry.storage), Code.BLOB_MISSING).tags == ("v1",)


def test_a_child_that_is_missing(image: tuple[StoredRegistry, Digest]) -> None:
    """An index without one of its children names the child and the index's tags; the other child's tag is sound."""
    registry, digest = image
    child = registry.image("app", [b"other"], None)
    registry.index("app", [digest, child], "multi")
    del registry.storage.files[revision(child)]
    (finding,) = check(registry.storage).damaged
    assert (finding.code, finding.digest, finding.tags) == (Code.CHILD_MISSING, child, ("multi",))


def test_schema_1_is_judged_by_its_layers() -> None:
    """A schema 1 manifest of an old registry needs its layers, and has no config."""
    registry = StoredRegistry()
    layer = registry.blob("app", b"layer")
    registry.manifest("app", {"schemaVersion": 1, "name": "app", "fsLayers": [{"blobSum": layer}]}, "old")
    assert not check(registry.storage).findings
    del registry.storage.files[blob_at(layer)]
    assert one(check(registry.storage), Code.BLOB_MISSING).tags == ("old",)


def test_what_we_cannot_read_is_not_called_damage() -> None:
    """A manifest that the registry serves and that we cannot read is named, and nothing is concluded from it."""
    registry = StoredRegistry()
    registry.manifest("app", {"schemaVersion": 2, "config": {"digest": "sha256:1"}, "layers": []}, "v1")
    finding = one(check(registry.storage), Code.MANIFEST_UNREADABLE)
    assert finding.severity is Severity.HARMLESS


def test_a_tag_that_points_to_no_manifest(image: tuple[StoredRegistry, Digest]) -> None:
    """A tag whose link holds the digest of a layer cannot be pulled, though everything that it names is there."""
    registry, _ = image
    registry.storage.files[CURRENT] = (LAYER.encode(), registry.now)
    assert one(check(registry.storage), Code.MANIFEST_UNREADABLE).tags == ("v1",)


def test_a_push_that_is_under_way_is_not_damage(image: tuple[StoredRegistry, Digest]) -> None:
    """What looks damaged is read again, later; what is whole by then is not named."""
    registry, _ = image
    taken = {path: registry.storage.files.pop(path) for path in (blob_at(LAYER), LINK)}

    def settle() -> None:
        registry.storage.files.update(taken)

    found = examine(Reader(registry.storage), now=registry.now, checking=True, settle=settle)
    assert [] == list(found.findings)


def test_what_is_damaged_only_the_second_time(image: tuple[StoredRegistry, Digest]) -> None:
    """What looks damaged at the second reading only is left to the next check: it may be under way just then."""
    registry, _ = image
    files = registry.storage.files
    files[LINK] = (b"", registry.now)

    def settle() -> None:
        files[CURRENT] = (b"", registry.now)

    found = examine(Reader(registry.storage), now=registry.now, checking=True, settle=settle)
    assert [each.code for each in found.findings] == [Code.BLOB_LINK_UNREADABLE]
    assert {each.code for each in check(registry.storage).findings} > {Code.TAG_LINK_UNREADABLE}


def test_a_tag_that_is_deleted_meanwhile_is_not_damage(image: tuple[StoredRegistry, Digest]) -> None:
    """A deletion unlinks the manifest before the tag: a tag that is gone at the second reading is not named."""
    registry, digest = image
    del registry.storage.files[revision(digest)]
    tag = [path for path in registry.storage.files if "/tags/v1/" in path]

    def settle() -> None:
        for path in tag:
            registry.storage.files.pop(path)

    found = examine(Reader(registry.storage), now=registry.now, checking=True, settle=settle)
    assert [] == list(found.findings)


def test_a_blob_that_was_stored_after_the_listing(image: tuple[StoredRegistry, Digest]) -> None:
    """Blobs are listed first. An image that is pushed after that is not missed at all: no second reading is needed."""
    registry, _ = image
    files = registry.storage.files
    late = StoredRegistry()
    late.image("app", [b"late"], "v2")
    added: list[bool] = []

    def push(_path: str) -> None:
        if not added:
            added.append(True)
            files.update(late.storage.files)

    reader = Reader(registry.storage)
    reader.list_blobs()
    push("")
    found = examine(reader, now=registry.now, checking=True, settle=lambda: pytest.fail("nothing is damaged"))
    assert [] == list(found.findings)

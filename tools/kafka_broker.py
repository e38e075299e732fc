"""A real Kafka broker for the tests: the project's own jars, fetched once with Maven and kept outside the checkout.

    python3 dev.py peers kafka

Prints where they are. Needs a Java runtime (17 or newer) and Maven.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from tools.registry_binary import cache_directory, cache_lock

VERSION = "3.9.1"
FETCH_WITHIN_SECONDS = 900
CLUSTER_ID = "registryIndexerTests01"
POM = f"""\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>tests</groupId><artifactId>kafka</artifactId><version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version>
    </dependency>
  </dependencies>
</project>
"""
COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"


class NoBrokerError(Exception):
    """A broker cannot be had here; says why."""


def find(*, fetch: bool = True) -> Path:
    """Return the directory of the broker's jars; ``fetch`` them if it must be. Raise ``NoBrokerError``."""
    if shutil.which("java") is None:
        raise NoBrokerError("a Kafka broker needs java, which is not on PATH")
    directory = cache_directory() / f"kafka-{VERSION}"
    jars = directory / "jars"
    with cache_lock(directory.parent):
        if (directory / "complete").exists():
            return jars
        maven = shutil.which("mvn")
        if maven is None or not fetch:
            raise NoBrokerError("Kafka's jars were not fetched (python3 dev.py peers kafka, needs Maven)")
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "pom.xml").write_text(POM, encoding="utf-8")
        print(f"Fetching Kafka {VERSION} with Maven (once) …", file=sys.stderr, flush=True)
        command = [maven, "-q", "-B", COPY, f"-DoutputDirectory={jars}", "-DincludeScope=runtime"]
        try:
            done = subprocess.run(
                command,
                cwd=directory,
                capture_output=True,
                text=True,
                timeout=FETCH_WITHIN_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise NoBrokerError(f"Kafka was not fetched within {FETCH_WITHIN_SECONDS} s") from None
        if done.returncode:
            raise NoBrokerError(f"Maven could not fetch Kafka: {(done.stdout + done.stderr).strip()[-300:]}")
        (directory / "complete").touch()
    return jars


def prepare(
    jars: Path,
    directory: Path,
    *,
    port: int,
    controller_port: int,
    guarded: Mapping[str, int] = MappingProxyType({}),
    more: Mapping[str, str] = MappingProxyType({}),
    users: Mapping[str, str] = MappingProxyType({}),
) -> list[str]:
    """Write what one broker of its own needs below a directory; return the command that runs it.

    Beside the open listener there may be ``guarded`` ones (``SSL``, ``SASL_SSL``, ``SASL_PLAINTEXT``) on ports of their
    own, reached as ``localhost``; ``more`` settings say how they are guarded. ``users`` are made for SCRAM, with their
    passwords.
    """
    open_to_us = f"PLAINTEXT://127.0.0.1:{port}"
    others = "".join(f",{name}://localhost:{number}" for name, number in guarded.items())
    kinds = "".join(f",{name}:{name}" for name in guarded)
    properties = directory / "server.properties"
    settings = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "listeners": f"{open_to_us},CONTROLLER://127.0.0.1:{controller_port}{others}",
        "advertised.listeners": open_to_us + others,
        "listener.security.protocol.map": f"PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT{kinds}",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": str(directory / "logs"),
        "auto.create.topics.enable": "false",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "1",
        **more,
    }
    properties.write_text("".join(f"{key}={value}\n" for key, value in settings.items()), encoding="utf-8")
    java = ["java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{jars}{os.sep}*"]
    scram = [
        part
        for name, password in users.items()
        for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")
        for part in ("--add-scram", f"{mechanism}=[name={name},password={password}]")
    ]
    subprocess.run(
        [*java, "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(properties), *scram],
        check=True,
        capture_output=True,
        timeout=120,
    )
    return [*java, "kafka.Kafka", str(properties)]

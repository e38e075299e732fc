"""The Helm chart: rendered, linted, checked against the schemas of Kubernetes, and held to what it promises."""

from __future__ import annotations

import copy
import json
import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from ruamel.yaml import YAML

from indexer.settings import Settings, holds_secrets
from tools import chart

helm = pytest.importorskip("helm_python", reason="the Helm library has no build for this machine")

ROOT = Path(__file__).parents[2]
OLDEST, NEWEST = "1.27", "1.36"
OWN_KINDS = {"ServiceMonitor", "PrometheusRule"}
"""Kinds of the Prometheus operator: Kubernetes has no schema of them."""

LEAST: dict[str, Any] = {
    "image": {"repository": "registry.example/registry-indexer"},
    "settings": {"RECONCILER_REGISTRY_URL": "https://registry.example"},
    "secrets": {
        "INDEXER_DATABASE_URL": {"secret": "ours", "key": "database-url"},
        "INDEXER_NOTIFICATIONS_TOKEN": {"secret": "ours", "key": "token", "only": "serve"},
    },
}
"""The values that are required, and no others."""
MOST: dict[str, Any] = {
    **LEAST,
    "image": {"repository": "registry.example/registry-indexer", "digest": "sha256:" + "a" * 64},
    "imagePullSecrets": [{"name": "pull"}],
    "settings": {**LEAST["settings"], "RECONCILER_INTERVAL": "2h", "INDEXER_SPOOL_BYTES": "10000000000"},
    "secrets": {
        **LEAST["secrets"],
        "INDEXER_API_TOKENS": {"secret": "ours", "key": "api", "only": "serve"},
        "INDEXER_OPERATOR_TOKENS": {"secret": "ours", "key": "operators", "only": "serve"},
        "INDEXER_IN_USE_TOKENS": {"secret": "ours", "key": "in-use", "only": "serve"},
        "RECONCILER_REGISTRY_PASSWORD": {"secret": "theirs", "key": "password", "only": "reconcile"},
    },
    "storage": {
        "registryConfig": {"secret": "registry", "key": "config.yml"},
        "claim": "registry",
        "mountPath": "/srv/registry",
    },
    "auditKey": {"secret": "audit", "key": "log.key"},
    "policies": 'version: 1 \n\n# {{ not a template }} <\u00fc> "\n\tx\ncleanup: []\n\n',
    "feeds": '[[feed]]\nname = "a"\nkind = "http"\n',
    "serve": {
        "replicas": 3,
        "persistence": {"enabled": True, "size": "5Gi", "storageClass": "fast"},
        "podAnnotations": {"a/b": "true"},
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "x", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "high",
        "extraVolumes": [{"name": "ca", "secret": {"secretName": "ca"}}],
        "extraVolumeMounts": [{"name": "ca", "mountPath": "/etc/ca", "readOnly": True}],
    },
    "reconcile": {
        "replicas": 2,
        "podAnnotations": {"a/b": "1"},
        "nodeSelector": {"disk": "ssd"},
        "extraVolumes": [{"name": "ca", "secret": {"secretName": "ca"}}],
        "extraVolumeMounts": [{"name": "ca", "mountPath": "/etc/ca", "readOnly": True}],
    },
    "service": {"type": "LoadBalancer", "port": 80, "annotations": {"x": "y"}},
    "networkPolicy": {
        "enabled": True,
        "from": [{"namespaceSelector": {"matchLabels": {"name": "registry"}}}],
        "metricsFrom": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}],
        "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "ports": [{"port": 5432}]}],
    },
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
    "fullnameOverride": "indexer",
}
LITTLE: dict[str, Any] = {
    **LEAST,
    "secrets": {"INDEXER_DATABASE_URL": {"secret": "ours", "key": "database-url"}},
    "generateTokens": True,
    "auditKey": {"secret": "audit", "key": "log.key"},
    "serve": {"podDisruptionBudget": False, "persistence": {"enabled": False}},
    "migration": {"enabled": False},
    "networkPolicy": {"enabled": False},
    "serviceAccount": {"create": False, "name": "existing"},
    "policiesConfigMap": "our-policies",
    "storage": {
        "url": "s3://images/registry",
        "env": [
            {"name": "AWS_REGION", "value": "eu-central-1"},
            {"name": "AWS_SECRET_ACCESS_KEY", "valueFrom": {"secretKeyRef": {"name": "s3", "key": "secret"}}},
        ],
    },
}
COMBINATIONS = {"least": LEAST, "most": MOST, "little": LITTLE}


def render(values: dict[str, Any], name: str = "r") -> list[dict[str, Any]]:
    """Everything that the chart makes of some values."""
    rendered = helm.Chart.load(str(chart.CHART)).render(copy.deepcopy(values), name=name, namespace="ours")
    return [
        document
        for template, text in rendered.items()
        if template.endswith(".yaml")
        for document in YAML(typ="safe").load_all(text)
        if document
    ]


RENDERED = {name: render(values) for name, values in COMBINATIONS.items()}


def pods(documents: Sequence[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The pods of what was rendered, by the kind and name of what makes them."""
    for document in documents:
        name = f"{document['kind']} {document['metadata']['name']}"
        if document["kind"] == "Pod":
            yield name, document["spec"]
        elif "template" in document.get("spec", {}):
            yield name, document["spec"]["template"]["spec"]


def of_kind(combination: str, kind: str) -> list[dict[str, Any]]:
    return [document for document in RENDERED[combination] if document["kind"] == kind]


def environment(pod: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each.get("value", "from a Secret") for each in pod["containers"][0]["env"]}


@pytest.mark.parametrize("version", [OLDEST, "1.33", NEWEST])
@pytest.mark.parametrize("combination", COMBINATIONS)
def test_chart__is_what_kubernetes_takes(combination: str, version: str) -> None:
    """Every object is valid by the schemas of Kubernetes, strictly: no unknown field, no wrong type."""
    checked = [each for each in RENDERED[combination] if each["kind"] not in OWN_KINDS]
    assert len(checked) >= 4
    for document in checked:
        kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("combination", COMBINATIONS)
def test_chart__lint_finds_nothing(combination: str) -> None:
    """Helm's own lint has no error and no warning."""
    found = helm.lint(str(chart.CHART), values=copy.deepcopy(COMBINATIONS[combination]), strict=True)
    said = [message for message in found["messages"] if message.get("severity") not in (None, "INFO", 1)]
    assert (said, found.get("errors") or []) == ([], [])


@pytest.mark.parametrize("combination", COMBINATIONS)
def test_pods__have_nobodys_rights(combination: str) -> None:
    """No pod is root, writes outside its volumes, gains rights, or gets a token for Kubernetes; each has a limit."""
    found = dict(pods(RENDERED[combination]))
    assert len(found) >= 3
    for name, pod in found.items():
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["enableServiceLinks"] is False, name
        security = pod["securityContext"]
        assert (security["runAsNonRoot"], security["runAsUser"]) == (True, 10001), name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            if "doctor" not in name:
                assert "memory" in container["resources"]["limits"], name


@pytest.mark.parametrize("combination", COMBINATIONS)
def test_pods__mounts_and_volumes_belong_together(combination: str) -> None:
    """Each mount has its volume, each volume is mounted, and each path is named once."""
    claims = {
        claim["metadata"]["name"]
        for document in of_kind(combination, "StatefulSet")
        for claim in document["spec"].get("volumeClaimTemplates", [])
    }
    for name, pod in pods(RENDERED[combination]):
        volumes = {volume["name"] for volume in pod["volumes"]} | (claims if "StatefulSet" in name else set())
        mounts = pod["containers"][0]["volumeMounts"]
        assert {mount["name"] for mount in mounts} == volumes, name
        paths = [mount["mountPath"] for mount in mounts]
        assert len(paths) == len(set(paths)), name
        for value in environment(pod).values():
            if value.startswith(("/run/", "/etc/", "/var/")):
                assert any(value.startswith(path) for path in paths), (name, value)


@pytest.mark.parametrize("combination", COMBINATIONS)
def test_pods__set_only_settings_that_exist(combination: str) -> None:
    """Every variable is a setting of the programs, or the file of one that is a secret; no secret is in a variable."""
    declared = {one.name.upper(): one for one in fields(Settings)}
    of_storage = {each["name"] for each in COMBINATIONS[combination].get("storage", {}).get("env", [])}
    for name, pod in pods(RENDERED[combination]):
        given = environment(pod)
        assert len(given) == len(pod["containers"][0]["env"]), f"{name}: a variable is set twice"
        for variable in given.keys() - of_storage:
            of_file = declared.get(variable.removesuffix("_FILE"))
            assert variable in declared or holds_secrets(of_file), (name, variable)
            assert not holds_secrets(declared.get(variable)), (name, variable)
            assert all(isinstance(value, str) for value in given.values())


def test_secrets__go_only_where_they_are_needed() -> None:
    """A secret of one program is not in the other's pod; the migration has the database's URL alone."""
    found = {
        name: {variable for variable in environment(pod) if variable.endswith("_FILE")}
        for name, pod in pods(RENDERED["most"])
    }
    assert found["Job indexer-migrate"] == {"INDEXER_DATABASE_URL_FILE"}
    assert "RECONCILER_REGISTRY_PASSWORD_FILE" not in found["StatefulSet indexer"]
    assert "RECONCILER_REGISTRY_PASSWORD_FILE" in found["Deployment indexer-reconcile"]
    assert "INDEXER_API_TOKENS_FILE" not in found["Deployment indexer-reconcile"]
    assert {"INDEXER_API_TOKENS_FILE", "RECONCILER_REGISTRY_PASSWORD_FILE"} <= found["Pod indexer-doctor"]


def test_storage__is_the_reconcilers_alone_and_read_only() -> None:
    """The claim and the mount of the registry's files are read-only: no file of theirs changes its owner."""
    names = {"RECONCILER_STORAGE_URL", "RECONCILER_REGISTRY_CONFIG", "AWS_REGION", "AWS_SECRET_ACCESS_KEY"}
    for combination, wanted in (
        ("least", {}),
        ("most", {"RECONCILER_REGISTRY_CONFIG": "/run/secrets/registry-config/config.yml"}),
        (
            "little",
            {
                "RECONCILER_STORAGE_URL": "s3://images/registry",
                "AWS_REGION": "eu-central-1",
                "AWS_SECRET_ACCESS_KEY": "from a Secret",
            },
        ),
    ):
        for name, pod in pods(RENDERED[combination]):
            given = {key: value for key, value in environment(pod).items() if key in names}
            assert given == (wanted if name.endswith("-reconcile") else {}), (combination, name)
    [pod] = [pod for name, pod in pods(RENDERED["most"]) if name == "Deployment indexer-reconcile"]
    mounts = {each["name"]: each for each in pod["containers"][0]["volumeMounts"]}
    volumes = {each["name"]: each for each in pod["volumes"]}
    assert mounts["registry-storage"] == {
        "name": "registry-storage", "mountPath": "/srv/registry", "readOnly": True,
    }  # fmt: skip
    assert volumes["registry-storage"]["persistentVolumeClaim"] == {"claimName": "registry", "readOnly": True}
    assert mounts["registry-config"]["readOnly"] is True
    assert volumes["registry-config"]["secret"]["secretName"] == "registry"


@pytest.mark.parametrize("secret", [one.name.upper() for one in fields(Settings) if holds_secrets(one)])
def test_settings__take_no_secret(secret: str) -> None:
    """Every setting that is a secret is refused where it would become a variable, or text of a release."""
    with pytest.raises(helm.HelmError):
        render({**copy.deepcopy(LEAST), "settings": {**LEAST["settings"], secret: "x"}})


def test_selectors__each_part_finds_its_own_pods() -> None:
    """Services, budget and network policies select the pods of one part, by labels that these have."""
    labels = {
        document["metadata"]["labels"]["app.kubernetes.io/component"]: document["spec"]["template"][
            "metadata"
        ]["labels"]
        for kind in ("StatefulSet", "Deployment")
        for document in of_kind("most", kind)
    }
    assert set(labels) == {"serve", "reconcile"}
    for kind in ("Service", "PodDisruptionBudget", "NetworkPolicy"):
        for document in of_kind("most", kind):
            spec = document["spec"]
            wanted = (
                spec["selector"]
                if kind == "Service"
                else (spec.get("selector") or spec["podSelector"])["matchLabels"]
            )
            part = document["metadata"]["labels"]["app.kubernetes.io/component"]
            chosen = [name for name, has in labels.items() if wanted.items() <= has.items()]
            assert chosen == [part], document["metadata"]["name"]


def test_network__is_closed_but_for_whom_it_is_open() -> None:
    """Only the named peers reach the pods, and with egress rules only what they name, and names are resolved."""
    for document in of_kind("most", "NetworkPolicy"):
        spec = document["spec"]
        assert spec["policyTypes"] == ["Ingress", "Egress"]
        assert all(rule["from"] for rule in spec["ingress"])
        assert {"port": 53, "protocol": "UDP"} in spec["egress"][0]["ports"]
    assert all(
        document["spec"]["policyTypes"] == ["Ingress"] for document in of_kind("least", "NetworkPolicy")
    )
    assert of_kind("little", "NetworkPolicy") == []


def test_parts__are_there_when_wanted() -> None:
    """What can be switched off is not rendered; what is optional is there when it is asked for."""
    kinds = {name: {document["kind"] for document in rendered} for name, rendered in RENDERED.items()}
    everywhere = {"StatefulSet", "Deployment", "Service"}
    assert kinds["least"] == everywhere | {
        "Job",
        "NetworkPolicy",
        "Pod",
        "PodDisruptionBudget",
        "ServiceAccount",
    }
    assert kinds["most"] == kinds["least"] | {"ConfigMap", "PrometheusRule", "ServiceMonitor"}
    assert kinds["little"] == everywhere | {"Pod", "Secret"}


def test_rules__are_those_of_prometheus() -> None:
    """The PrometheusRule has the alarms as they are, their templates untouched."""
    [rule] = of_kind("most", "PrometheusRule")
    assert rule["spec"] == YAML(typ="safe").load(chart.RULES)


def test_policies__are_text_that_nothing_changes() -> None:
    """The policies file reaches the pod byte for byte."""
    texts = [document["data"] for document in of_kind("most", "ConfigMap")]
    assert {"policies.yaml": MOST["policies"]} in texts


def test_tokens__are_made_once_and_kept() -> None:
    """The chart makes tokens only on purpose, long ones, and Helm does not delete them."""
    [secret] = of_kind("little", "Secret")
    assert secret["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert set(secret["data"]) == {"notifications-token", "api-token"}
    assert all(len(value) >= 50 for value in secret["data"].values())
    assert of_kind("least", "Secret") == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"image": {"repository": ""}}, "image.repository is required"),
        ({"settings": {}}, "settings.RECONCILER_REGISTRY_URL is required"),
        ({"secrets": {}}, "secrets.INDEXER_DATABASE_URL is required"),
        ({"secrets": {"INDEXER_DATABASE_URL": {"secret": "a", "key": "b"}}}, "INDEXER_NOTIFICATIONS_TOKEN is required"),
        ({"serve": {"replicas": 2}}, "all servers need the same key"),
        ({"serve": {"persistence": {"enabled": False}}}, "would be lost with the pod"),
        ({"policies": "version: 1", "policiesConfigMap": "x"}, "set one of the two"),
        ({"serve": {"replica": 2}}, "replica"),
        ({"nonsense": 1}, "nonsense"),
        ({"image": {"repository": "x", "tag": 1.1}}, "tag"),
        ({"settings": {**LEAST["settings"], "INDEXER_SPOOL_BYTES": 10_000_000_000}}, "INDEXER_SPOOL_BYTES"),
        ({"settings": {**LEAST["settings"], "INDEXER_API_TOKENS": "secret"}}, "settings"),
        ({"settings": {**LEAST["settings"], "OTHER": "x"}}, "OTHER"),
        ({"auditKey": {"secret": "x"}}, "auditKey"),
        (
            {"storage": {"url": "s3://x", "registryConfig": {"secret": "x", "key": "y"}}},
            "storage.url and storage.registryConfig",
        ),
        ({"storage": {"url": "/var/lib/registry"}}, "url"),
        ({"storage": {"readOnly": False}}, "readOnly"),
    ],
)  # fmt: skip
def test_values__that_are_wrong_are_refused(changed: dict[str, Any], said: str) -> None:
    """A value that is missing, unknown, or of another type is refused, with its name."""
    with pytest.raises(helm.HelmError) as refused:
        render({**copy.deepcopy(LEAST), **changed})
    assert said in str(refused.value)


@pytest.mark.parametrize("name", ["r", "indexer", "a" * 53])
def test_names__fit(name: str) -> None:
    """Names are valid for Kubernetes with every release name that Helm allows."""
    for document in render(LEAST, name=name):
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", document["metadata"]["name"])


def test_chart__has_the_version_of_the_program() -> None:
    """The chart belongs to one version of the programs, whose image it takes by default."""
    described = YAML(typ="safe").load(chart.CHART / "Chart.yaml")
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert (described["version"], described["appVersion"]) == (version, version)
    [server] = of_kind("least", "StatefulSet")
    image = server["spec"]["template"]["spec"]["containers"][0]["image"]
    assert image == f"registry.example/registry-indexer:{version}"
    [digest] = of_kind("most", "StatefulSet")
    assert digest["spec"]["template"]["spec"]["containers"][0]["image"].endswith("@sha256:" + "a" * 64)


def test_files__are_as_generated() -> None:
    """The README's table and the chart's alarms are what `python3 dev.py chart` writes; every value has a schema."""
    assert chart.README.read_text(encoding="utf-8") == chart.readme()
    assert chart.ALARMS.read_bytes() == chart.RULES.read_bytes()
    schema = json.loads((chart.CHART / "values.schema.json").read_text(encoding="utf-8"))
    for name, _, _ in chart.rows():
        at = schema
        for part in name.split("."):
            at = at["properties"][part]

"""The scripts that report what is in use, over answers as Kubernetes and Docker give them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPTS = Path(__file__).parents[2] / "deploy" / "in-use"
A, B, C = (f"sha256:{letter * 64}" for letter in "abc")


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"in_use_{name}", SCRIPTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def template(*images: str, **more: Any) -> dict[str, Any]:
    containers = [{"name": f"c{number}", "image": image} for number, image in enumerate(images)]
    return {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": containers, **more}}


CLUSTER: dict[str, list[dict[str, Any]]] = {
    "/api/v1/pods": [
        {
            "metadata": {"name": "web-1"},
            "spec": {
                "containers": [{"name": "web", "image": "registry.example/team/web:v1"}],
                "initContainers": [{"name": "migrate", "image": "registry.example/team/migrate:v1"}],
                "ephemeralContainers": [{"name": "debug", "image": "registry.example/team/debug:v1"}],
                "volumes": [{"name": "data", "emptyDir": {}}],
            },
            "status": {
                "phase": "Running",
                "containerStatuses": [
                    {
                        "name": "web",
                        "image": "registry.example/team/web:v1",
                        "imageID": f"docker-pullable://registry.example/team/web@{A}",
                    }
                ],
                "initContainerStatuses": [
                    {"name": "migrate", "image": B, "imageID": f"registry.example/team/migrate@{A}"}
                ],
                "ephemeralContainerStatuses": [{"name": "debug", "image": "x", "imageID": C}],
            },
        },
        {"spec": {"containers": [{"name": "new", "image": "bare:1"}]}, "status": {"phase": "Pending"}},
        {
            "spec": {"containers": []},
            "status": {"containerStatuses": [{"name": "waits", "image": "bare:1", "imageID": ""}]},
        },
    ],
    "/apis/apps/v1/deployments": [{"spec": {"replicas": 0, "template": template("team/asleep:v3")}}],
    "/apis/apps/v1/replicasets": [{"spec": {"replicas": 0, "template": template("team/web:v0")}}],
    "/apis/apps/v1/statefulsets": [{"spec": {"template": template("team/db:v5", initContainers=None)}}],
    "/apis/apps/v1/daemonsets": [{"spec": {"template": template("team/node:v1")}}],
    "/apis/apps/v1/controllerrevisions": [{"data": {"spec": {"template": template("team/node:v0")}}}],
    "/apis/batch/v1/jobs": [{"spec": {"template": template("team/once:v1")}}],
    "/apis/batch/v1/cronjobs": [
        {"spec": {"suspend": True, "jobTemplate": {"spec": {"template": template("team/monthly:v1")}}}}
    ],
    "/api/v1/replicationcontrollers": [{"spec": {"template": template("team/old:v1")}}],
    "/api/v1/podtemplates": [{"template": template("team/template:v1")}],
}


def kubernetes(path: str) -> Any:
    """One object a page, as a large cluster answers."""
    kind, _, query = path.partition("?")
    at = int(query.partition("continue=")[2] or 0)
    items = CLUSTER[kind]
    more = str(at + 1) if at + 1 < len(items) else ""
    return {"items": items[at : at + 1], "metadata": {"continue": more}}


def test_kubernetes__reports_all_that_may_run() -> None:
    """Templates at zero and suspended ones, revisions kept for a rollback, init and ephemeral containers, digests."""
    assert [
        "bare:1",
        "registry.example/team/debug:v1",
        "registry.example/team/migrate:v1",
        f"registry.example/team/migrate@{A}",
        "registry.example/team/web:v1",
        f"registry.example/team/web@{A}",
        B,
        C,
        "team/asleep:v3",
        "team/db:v5",
        "team/monthly:v1",
        "team/node:v0",
        "team/node:v1",
        "team/old:v1",
        "team/once:v1",
        "team/template:v1",
        "team/web:v0",
    ] == script("kubernetes").collect(kubernetes)


def test_kubernetes__half_an_answer_is_none(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """A kind that cannot be listed ends the report: nothing is sent."""
    module = script("kubernetes")

    def get(path: str) -> Any:
        if "cronjobs" in path:
            raise OSError("403")
        return kubernetes(path)

    monkeypatch.setattr(module, "cluster", lambda: get)
    monkeypatch.setattr(module, "report", lambda *_args, **_named: pytest.fail("it was reported"))
    assert 1 == module.main([])
    assert "nothing was reported" in capsys.readouterr().err


def docker(path: str, services: tuple[int, Any] = (503, {"message": "not a swarm manager"})) -> Any:
    if path == "/services":
        return services
    if path == "/containers/json?all=true":
        return 200, [
            {"Id": "1", "Image": "registry.example/team/web:v1", "ImageID": A, "State": "running"},
            {"Id": "2", "Image": B, "ImageID": B, "State": "exited"},
            {"Id": "3", "Image": "aaaaaaaaaaaa", "ImageID": A, "State": "created"},
            {"Id": "4", "Image": "gone:1", "ImageID": C, "State": "exited"},
        ]
    images = {
        f"/images/{A}/json": (
            200,
            {
                "Id": A,
                "RepoDigests": [f"registry.example/team/web@{C}"],
                "RepoTags": ["registry.example/team/web:v1"],
            },
        ),
        f"/images/{B}/json": (200, {"Id": B, "RepoDigests": None, "RepoTags": []}),
        f"/images/{C}/json": (404, {"message": "No such image"}),
    }
    return images[path]


def test_docker__reports_stopped_containers_too() -> None:
    """By name, config and the digests of the pull; an image that has no name any more by its config alone."""
    assert sorted(
        ["registry.example/team/web:v1", A, f"registry.example/team/web@{C}", B, "gone:1", C]
    ) == script("docker").collect(docker)


def test_docker__services_of_a_swarm() -> None:
    """A service at zero replicas may run again."""
    service = {"Spec": {"TaskTemplate": {"ContainerSpec": {"Image": f"team/svc:v1@{B}"}}}}
    found = script("docker").collect(lambda path: docker(path, (200, [service])))
    assert f"team/svc:v1@{B}" in found


def test_docker__an_engine_that_fails_reports_nothing() -> None:
    """An error of the engine is no empty set."""
    for failing in ("/containers/json?all=true", "/services", f"/images/{A}/json"):

        def get(path: str, failing: str = failing) -> Any:
            return (500, {"message": "no"}) if path == failing else docker(path)

        with pytest.raises(OSError, match="the engine answered 500"):
            script("docker").collect(get)

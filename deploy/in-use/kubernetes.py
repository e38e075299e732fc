#!/usr/bin/env python3
"""Reports to the indexer which images a Kubernetes cluster runs and may run. Python's standard library only.

Every pod template counts: Deployments (also at zero replicas), the ReplicaSets that are kept for a rollback,
StatefulSets, DaemonSets, Jobs, CronJobs, ReplicationControllers, and every pod, with its init and ephemeral containers,
and the digests that the kubelets report. A kind that cannot be read ends the report: half a set would look as if the
rest were not in use.

In a pod it uses the pod's service account, which needs `list` on these kinds (kubernetes.yaml). Elsewhere run
`kubectl proxy`, and set KUBERNETES_URL=http://127.0.0.1:8001. Environment: INDEXER_URL, IN_USE_SOURCE, IN_USE_TOKEN (or
IN_USE_TOKEN_FILE), VALID_FOR (48h). `--print` prints the images and reports nothing; `--confirm` counts a set although
it shrank by more than half.
"""

from __future__ import annotations

import json
import os
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

KINDS = (
    "/api/v1/pods",
    "/api/v1/replicationcontrollers",
    "/api/v1/podtemplates",
    "/apis/apps/v1/deployments",
    "/apis/apps/v1/replicasets",
    "/apis/apps/v1/statefulsets",
    "/apis/apps/v1/daemonsets",
    "/apis/apps/v1/controllerrevisions",
    "/apis/batch/v1/jobs",
    "/apis/batch/v1/cronjobs",
)
PAGE = 500
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def images_of(item: Any) -> Iterator[str]:
    """Yield every image that an object of the API names, wherever a pod's specification or status stands in it."""
    if isinstance(item, list):
        for each in item:
            yield from images_of(each)
    elif isinstance(item, dict):
        for key, value in item.items():
            if key in ("containers", "initContainers", "ephemeralContainers"):
                yield from (each["image"] for each in value or () if each.get("image"))
            elif key in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"):
                yield from (name for each in value or () for name in reported(each))
            else:
                yield from images_of(value)


def reported(status: dict[str, Any]) -> Iterator[str]:
    """Yield what a kubelet says that it runs: `docker-pullable://repo@sha256:…`, `repo@sha256:…`, a config's digest."""
    name = status.get("imageID") or ""
    name = name.rpartition("://")[2]
    if name:
        yield name
    image = status.get("image") or ""
    if image.startswith("sha256:"):
        yield image


def listed(get: Any, path: str) -> Iterator[Any]:
    """Yield all objects of a kind, page by page."""
    after = ""
    while True:
        page = get(f"{path}?limit={PAGE}" + (f"&continue={after}" if after else ""))
        yield from page.get("items") or ()
        after = (page.get("metadata") or {}).get("continue") or ""
        if not after:
            return


def collect(get: Any) -> list[str]:
    """Return every image of the cluster, each once."""
    return sorted({image for path in KINDS for item in listed(get, path) for image in images_of(item)})


def cluster() -> Any:
    """Return what asks the cluster's API for a path."""
    base = os.environ.get("KUBERNETES_URL", "")
    headers, context = {}, None
    if not base:
        base = f"https://{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}"
        headers["Authorization"] = "Bearer " + (ACCOUNT / "token").read_text().strip()
        context = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))

    def get(path: str) -> Any:
        request = urllib.request.Request(base.rstrip("/") + path, headers=headers)
        with urllib.request.urlopen(request, context=context, timeout=60) as answer:
            return json.load(answer)

    return get


def report(images: Iterable[str], *, confirm: bool) -> Any:
    """Send the whole set to the indexer; return its answer."""
    token = os.environ.get("IN_USE_TOKEN") or Path(os.environ["IN_USE_TOKEN_FILE"]).read_text().strip()
    url = f"{os.environ['INDEXER_URL'].rstrip('/')}/api/v1/in-use/{os.environ['IN_USE_SOURCE']}"
    body = {"images": list(images), "valid_for": os.environ.get("VALID_FOR", "48h"), "confirm": confirm}
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers, method="PUT")
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def main(arguments: list[str]) -> int:
    """Report, or print."""
    try:
        images = collect(cluster())
        if "--print" in arguments:
            print("\n".join(images))
            return 0
        answer = report(images, confirm="--confirm" in arguments)
    except urllib.error.HTTPError as error:
        print(f"{error.url}: {error.code} {error.read(1000).decode(errors='replace')}", file=sys.stderr)
        return 1
    except (OSError, KeyError, ValueError) as error:
        print(f"nothing was reported: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    print(json.dumps(answer))
    return 1 if answer.get("waits_for_confirmation") else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

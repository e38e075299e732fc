"""Jobs of a real installation: asked for over HTTP and on the command line; killed, asked to end, cancelled."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.fixtures.installation import OPERATOR_SECRET
from tests.fixtures.requests import REQUESTS
from tools.sample_images import Pusher, oci_image

if TYPE_CHECKING:
    from tests.fixtures.installation import Installation
    from tools.registry_server import RegistryServer

pytestmark = pytest.mark.slow

NAMES = [f"team/app{number:02}" for number in range(20)]
BEARER = {"Authorization": f"Bearer {OPERATOR_SECRET}"}
QUIET = {"RECONCILER_INTERVAL": "30d"}
SLOW = {**QUIET, "RECONCILER_MAX_RATE": "5", "RECONCILER_JOB_LEASE": "3s"}
FAST = {**QUIET, "RECONCILER_JOB_LEASE": "3s"}


@pytest.fixture
def filled(plain_registry: RegistryServer) -> RegistryServer:
    """A registry with a tag in each of twenty repositories, none of them on record."""
    with Pusher(plain_registry.url) as client:
        for name in NAMES:
            client.push(name, oci_image(name, layer_sizes=(64,)), "v1")
    return plain_registry


def ask(installation: Installation, **body: Any) -> dict[str, Any]:
    answer = REQUESTS.post(f"{installation.url}/api/v1/jobs", json=body, headers=BEARER, timeout=30)
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    assert answer.headers["Location"] == f"/api/v1/jobs/{job['id']}"
    return job


def job_of(installation: Installation, job: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = installation.get(f"/api/v1/jobs/{job['id']}")
    return found


def runs_once(installation: Installation) -> list[dict[str, Any]]:
    """The reconciles that were asked for, newest first."""
    return [run for run in installation.get("/api/v1/drift")["runs"] if run["mode"] == "once"]


def recorded(installation: Installation) -> set[str]:
    return {row["repository"] for row in installation.get("/api/v1/tags?limit=1000")["items"]}


def first_reconcile_over(installation: Installation) -> None:
    """What `reconciler run` reconciles when it starts has ended."""
    installation.until(
        lambda: any(run["outcome"] == "complete" for run in installation.get("/api/v1/drift")["runs"]),
        "the first reconcile to end",
    )


def test_reconcile__asked_for_over_http(installation: Installation, plain_registry: RegistryServer) -> None:
    """A reconcile that is asked for over HTTP finds what nobody announced; its stream ends with its result."""
    installation.start("reconciler", "run", **FAST)
    first_reconcile_over(installation)
    with Pusher(plain_registry.url) as client:
        client.push("team/app", oci_image("one"), "v1")
    job = ask(installation, kind="reconcile", params={"repositories": ["team/app"]}, reason="asked")
    events = []
    with httpx.stream(
        "GET", f"{installation.url}/api/v1/jobs/{job['id']}/events", headers=BEARER, timeout=60
    ) as stream:
        events = [
            json.loads(line.removeprefix("data: "))
            for line in stream.iter_lines()
            if line.startswith("data: ")
        ]
    assert ("done", "complete") == (events[-1]["state"], events[-1]["result"]["outcome"])
    assert {"team/app"} == recorded(installation)
    shown = installation.run("reconciler", "jobs", "show", job["id"], "--json")
    assert (0, events[-1]) == (shown.exit_code, shown.json)
    watched = installation.run("reconciler", "jobs", "watch", job["id"])
    assert 0 == watched.exit_code
    assert f"done: job {job['id']}" in watched.output
    installation.until_applied()
    actions = [
        (entry["action"], entry["actor"]["name"], entry["detail"].get("reason"))
        for entry in installation.audit("&action=job.requested,job.ended")
    ]
    assert [("job.requested", "ann", "asked"), ("job.ended", "ann", None)] == actions


@pytest.mark.usefixtures("filled")
def test_killed_in_the_middle__another_process_ends_it(installation: Installation) -> None:
    """SIGKILL in the middle of a job: another process ends that very run, and finds every tag once."""
    job = ask(installation, kind="reconcile")
    slow = installation.start("reconciler", "run", **SLOW)
    installation.until(lambda: runs_once(installation), "the job's run to begin")
    installation.until(lambda: len(recorded(installation)) >= 3, "some repositories to be compared")
    installation.end(slow, signal.SIGKILL)
    left = job_of(installation, job)
    assert "running" == left["state"]
    installation.start("reconciler", "run", **FAST)
    installation.until(lambda: job_of(installation, job)["state"] == "done", "another process to end the job")
    (run,) = runs_once(installation)
    assert "complete" == run["outcome"]
    done = job_of(installation, job)
    assert done["result"]["resumed_from"] == run["started_at"]
    assert left["started_at"] == done["started_at"]
    assert set(NAMES) == recorded(installation)
    installation.until_applied()
    assert ["job.requested", "job.ended"] == [
        entry["action"] for entry in installation.audit("&action=job.requested,job.ended")
    ]


@pytest.mark.usefixtures("filled")
def test_cancelled_in_the_middle(installation: Installation) -> None:
    """A running reconcile that is cancelled ends soon, as cancelled; what it had found stays found."""
    slow = installation.start("reconciler", "run", **SLOW)
    job = ask(installation, kind="reconcile")
    installation.until(lambda: job_of(installation, job)["state"] == "running", "the job to be taken")
    cancelled = installation.run("reconciler", "jobs", "cancel", job["id"])
    assert 0 == cancelled.exit_code, cancelled.error
    installation.until(lambda: job_of(installation, job)["state"] == "cancelled", "the job to be cancelled")
    again = installation.run("reconciler", "jobs", "cancel", job["id"])
    assert (1, [f"reconciler: job {job['id']} has ended already: cancelled"]) == (
        again.exit_code,
        again.error_lines,
    )
    listed = installation.run("reconciler", "jobs", "list", "--state", "cancelled", "--json")
    assert [job["id"]] == [each["id"] for each in listed.json["jobs"]]
    assert slow.poll() is None


def test_registry_away__waits_and_is_done_later(
    installation: Installation, plain_registry: RegistryServer
) -> None:
    """While the registry is away a job waits, and says so; it is done once the registry is back."""
    installation.start("reconciler", "run", **FAST)
    first_reconcile_over(installation)
    plain_registry.stop()
    job = ask(installation, kind="reconcile")
    installation.until(lambda: job_of(installation, job)["note"], "the job to say what it waits for")
    waiting = job_of(installation, job)
    assert "waiting" == waiting["state"]
    assert "it is tried again in" in waiting["note"]
    plain_registry.start()
    installation.until(lambda: job_of(installation, job)["state"] == "done", "the job to be done")


def test_stopped__gives_its_job_back(installation: Installation, filled: RegistryServer) -> None:
    """SIGTERM: the process gives its job back and ends; the job waits for the next one."""
    slow = installation.start("reconciler", "run", **SLOW)
    job = ask(installation, kind="reconcile")
    installation.until(lambda: job_of(installation, job)["state"] == "running", "the job to be taken")
    assert 0 == installation.end(slow)
    assert "waiting" == job_of(installation, job)["state"]


def test_maintenance__commands(installation: Installation) -> None:
    """Maintenance is begun, shown everywhere, and ended; the log has both."""
    begun = installation.run(
        "reconciler", "maintenance", "begin", "--for", "2h", "--reason", "collect", "--json"
    )
    assert 0 == begun.exit_code, begun.error
    assert (False, "maintenance", []) == (begun.json["may_act"], begun.json["code"], begun.json["acting"])
    assert "maintenance" == installation.get("/api/v1/status")["acting"]["paused"]["code"]
    assert "acting       paused: " in installation.run("reconciler", "status").output
    shown = installation.run("reconciler", "maintenance", "show")
    assert shown.output.rstrip().endswith("`reconciler maintenance end`: collect")
    assert "everything may act\n" == installation.run("reconciler", "maintenance", "end").output
    assert installation.get("/api/v1/status")["acting"]["paused"] is None
    assert (
        "there was no maintenance\neverything may act\n"
        == installation.run("reconciler", "maintenance", "end").output
    )
    assert 64 == installation.run("reconciler", "maintenance", "begin", "--for", "2").exit_code
    installation.until_applied()
    entries = installation.audit("&action=operator.maintenance_began,operator.maintenance_ended")
    assert ["operator.maintenance_began", "operator.maintenance_ended"] == [
        each["action"] for each in entries
    ]


def test_jobs__wrong_arguments(installation: Installation) -> None:
    """An id that is none is wrong usage; one of no job is a failure; an empty list is none."""
    assert "no jobs\n" == installation.run("reconciler", "jobs", "list").output
    for verb in ("show", "watch", "cancel"):
        assert 64 == installation.run("reconciler", "jobs", verb, "x").exit_code
        gone = installation.run("reconciler", "jobs", verb, "01900000-0000-7000-8000-000000000000")
        assert (1, ["reconciler: there is no job 01900000-0000-7000-8000-000000000000"]) == (
            gone.exit_code,
            gone.error_lines,
        )
    assert 64 == installation.run("reconciler", "jobs", "list", "--state", "gone").exit_code

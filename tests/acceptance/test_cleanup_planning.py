"""`reconciler cleanup plan|approve|reject|status`, and the file of policies, with programs that run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tools.sample_images import Pusher, multi_platform, oci_image

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fixtures.installation import Installation
    from tools.registry_server import RegistryServer

pytestmark = pytest.mark.slow

APP = "team/app"
WOULD_CHANGE, BRAKED, USAGE = 2, 3, 64


def policies(mode: str, *, tags: int = 100) -> str:
    """Everything called pr-… goes at once."""
    return f"""version: 1
cleanup:
  - id: quick
    mode: {mode}
    scope: {{repositories: {{any: ["team/**"]}}}}
    grace: {{pushed: 0s, moved: 0s}}
    delete: [{{id: pr, tags: {{glob: ["pr-*"]}}, older: {{pushed: 0s}}}}]
    brake: {{tags: {tags}, share: 100%, repository_share: 100%}}
    undo: {{pending: 0s, unlink_after: 0s}}
"""


class Cleaning:
    """An installation whose programs read one file of policies."""

    def __init__(self, installation: Installation, file: Path) -> None:
        self.installation = installation
        self.file = file
        self._setting = {"INDEXER_POLICIES_FILE": str(file)}

    def start(self) -> None:
        self.installation.end(self.installation.server)
        self.installation.server = self.installation.start("indexer", "serve", **self._setting)
        self.installation.until_ready()
        self.installation.start("reconciler", "run", **self._setting)

    def run(self, *command: str) -> Any:
        return self.installation.run("reconciler", "cleanup", *command, **self._setting)

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.run("status", "--json").json
        return found


@pytest.fixture
def cleaning(installation: Installation, tmp_path: Path) -> Cleaning:
    return Cleaning(installation, tmp_path / "policies.yaml")


def verified(installation: Installation, expected: int) -> bool:
    rows = installation.get(f"/api/v1/repositories/{APP}/tags")["items"]
    return len(rows) == expected and all(row["verified_at"] for row in rows)


def test_plan__approval_and_what_ends_it(
    cleaning: Cleaning, wired_registry: RegistryServer, pusher: Pusher
) -> None:
    """A plan names what goes; approved, it may be carried out; other bytes, a wrong file and the brake stop it."""
    installation = cleaning.installation
    del wired_registry
    cleaning.file.write_text(policies("propose"))
    cleaning.start()
    pusher.push(APP, oci_image("one"), "pr-1")
    pusher.push(APP, oci_image("two"), "pr-2")
    pusher.push(APP, multi_platform("kept"), "v1")
    installation.until(lambda: verified(installation, 3), "that the tags are verified")
    assert 0 == installation.run("reconciler", "once", "--json").exit_code

    made = cleaning.run("plan", "--json")
    assert WOULD_CHANGE == made.exit_code, made.error
    said = {each["tag"]: (each["decision"], each["rule"]) for each in made.json["verdicts"] if each["tag"]}
    assert {"pr-1": ("delete", "pr"), "pr-2": ("delete", "pr"), "v1": ("keep", None)} == said
    assert {"keep", "delete", "hold", "freed_bytes"} == set(made.json["summary"])
    assert 0 < made.json["summary"]["freed_bytes"]
    plan_id = made.json["plan_id"]
    assert plan_id == cleaning.run("plan", "--json").json["plan_id"], "the same is one plan"
    assert 3 == len(installation.tags(APP)), "a plan deletes nothing"

    assert ["not_approved"] == [each["refusal"] for each in cleaning.status()["cleanup"]]
    assert USAGE == cleaning.run("approve", plan_id).exit_code
    assert 0 == cleaning.run("approve", plan_id, "--yes", "--reason", "seen").exit_code
    status = cleaning.status()
    assert [True] == [each["acts"] for each in status["cleanup"]]
    assert 2 == status["planned"]["next_run"]["tags"]
    (approved,) = installation.audit("&action=cleanup.approved")
    assert (plan_id, "seen") == (approved["detail"]["plan"], approved["detail"]["reason"])

    before = status["policies"]["sha256"]
    cleaning.file.write_text(policies("propose") + "blockd: []\n")
    installation.until(lambda: 2 == len(cleaning.status()["policies"]["errors"]), "that both refuse it")
    status = cleaning.status()
    assert before == status["policies"]["sha256"], "what was in force stays"
    assert "policies.yaml:10: blockd" in status["policies"]["errors"][0]["error"]
    refused = cleaning.run("plan")
    assert USAGE == refused.exit_code
    assert "policies.yaml:10: blockd" in refused.error

    cleaning.file.write_text(policies("propose", tags=1))
    installation.until(
        lambda: before != cleaning.status()["policies"]["sha256"], "that the change is in force"
    )
    assert not any(each["acts"] for each in cleaning.status()["cleanup"])
    braked = cleaning.run("plan", "--json")
    assert BRAKED == braked.exit_code
    assert BRAKED == cleaning.run("approve", braked.json["plan_id"], "--yes").exit_code

    cleaning.file.write_text(policies("propose"))
    installation.until(lambda: before == cleaning.status()["policies"]["sha256"], "the change back")
    again = cleaning.run("plan", "--json").json["plan_id"]
    assert again != plan_id, "a change back is a change, too"
    assert not any(each["acts"] for each in cleaning.status()["cleanup"])
    assert 1 == cleaning.run("approve", plan_id, "--yes").exit_code
    assert 0 == cleaning.run("reject", again, "--yes").exit_code
    assert 1 == cleaning.run("approve", again, "--yes").exit_code
    changes = installation.audit("&action=policy.changed")
    assert before == changes[0]["detail"]["policies_sha256"] == changes[-1]["detail"]["policies_sha256"]


def test_programs__that_read_different_files(cleaning: Cleaning, tmp_path: Path) -> None:
    """Programs with different files are named, and nothing acts; none overwrites the other for ever."""
    cleaning.file.write_text(policies("propose"))
    cleaning.start()
    cleaning.installation.until(lambda: cleaning.status()["cleanup"], "that the file is in force")
    other = tmp_path / "other.yaml"
    other.write_text(policies("enforce"))
    installation = cleaning.installation
    process = installation.start("reconciler", "run", INDEXER_POLICIES_FILE=str(other))
    installation.until(lambda: cleaning.status()["policies"]["differ"] is not None, "that they differ")
    status = cleaning.status()
    assert str(other) in status["policies"]["differ"]
    assert ["policies_differ"] == [each["refusal"] for each in status["cleanup"]]
    installation.end(process)
    installation.until(lambda: cleaning.status()["policies"]["differ"] is None, "that the other has ended")
    assert ["propose"] == [each["mode"] for each in cleaning.status()["cleanup"]]
    assert 1 == len(installation.audit("&action=policy.changed")), "the other never was in force"

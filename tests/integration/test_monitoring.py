"""Alarms and dashboard: each alarm fires when it should and not otherwise, and queries ask for what is measured."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import httpx
import pytest
from ruamel.yaml import YAML

from tests.docs.test_reference import quoted, registered
from tests.fixtures.installation import PATIENCE_SECONDS
from tools import dashboard
from tools.ports import free_port
from tools.sample_images import Pusher, oci_image

if TYPE_CHECKING:
    from tests.fixtures.installation import Installation
    from tests.fixtures.registries import StartRegistry

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
RULES = PROMETHEUS / "rules.yml"
METRICS_PAGE = ROOT / "docs" / "reference" / "metrics.md"
OF_PROMETHEUS = {"job", "instance", "le"}


@dataclass(frozen=True)
class Case:
    """One alarm: series (name and labels → values, a minute apart) that fire it at a minute, and some that do not."""

    alarm: str
    fires: dict[str, str]
    at: int
    quiet: dict[str, str]
    still_quiet_at: int | None = None
    """A minute at which the series that fire it do not yet: it waits for some time."""


def constantly(series: str, wrong: str, right: str, at: int, still_quiet_at: int | None) -> dict[str, Any]:
    """The arguments of a case about a gauge."""
    return {
        "fires": {series: f"{wrong}x2000"},
        "quiet": {series: f"{right}x2000"},
        "at": at,
        "still_quiet_at": still_quiet_at,
    }


NOT_FRESH, FRESH = "0+0", "0+60"
"""A time stamp that stays, and one that moves with the clock, which begins at 0."""

ACTIONS = 'indexer_tag_actions_alarming{{what="{}"}}'

CASES = (
    Case("RegistryIndexerDeliveriesFail", {'indexer_notifications_total{status="503"}': "0+1x30"}, 10,
         {'indexer_notifications_total{status="202"}': "0+9x30",
          'indexer_notifications_total{status="503"}': "5x30"}, 1),
    Case("RegistryIndexerDeliveriesDenied", {'indexer_notifications_total{status="401"}': "0+1x30"}, 10,
         {'indexer_notifications_total{status="202"}': "0+9x30"}, 1),
    Case("RegistryIndexerConnectionsCrowded", {'indexer_connections_closed_total{reason="crowded"}': "0+1x30"}, 10,
         {'indexer_connections_closed_total{reason="gave_way"}': "0+1x30"}, 4),
    Case("RegistryIndexerSpooling", **constantly("indexer_notifications_spooled", "3", "0", 10, 4)),
    Case("RegistryIndexerApplyingLate", **constantly("indexer_inbox_oldest_age_seconds", "61", "60", 10, 4)),
    Case("RegistryIndexerApplyingFails", **constantly("indexer_inbox_failing", "1", "0", 15, 9)),
    Case("RegistryIndexerQuarantine", **constantly("indexer_quarantined", "1", "0", 10, 4)),
    Case("RegistryIndexerEventsLost", {'indexer_loss_intervals{state="at_most"}': "0x10 1x80"}, 30,
         {'indexer_loss_intervals{state="at_most"}': "3x10 2x80",
          'indexer_loss_intervals{state="unknown"}': "0x10 1x80"}),
    Case("RegistryIndexerBarrierRefuses", {'indexer_barrier_questions_total{outcome="refused"}': "0+20x30"}, 20,
         {'indexer_barrier_questions_total{outcome="refused"}': "0+5x30",
          'indexer_barrier_questions_total{outcome="passed"}': "0+500x30"}),
    Case("RegistryIndexerWritesUndecided", {'indexer_tag_judgements_total{outcome="undecided"}': "0+2x30"}, 20,
         {'indexer_tag_judgements_total{outcome="undecided"}': "0x30 1x30",
          'indexer_tag_judgements_total{outcome="passed"}': "0+50x30"}),
    Case("RegistryIndexerProxySecretWrong", {'indexer_proxy_requests_total{secret="wrong"}': "0+1x30"}, 5,
         {'indexer_proxy_requests_total{secret="right"}': "0+1x30"}),
    Case("RegistryIndexerLoopStuck",
         {'indexer_process_loop_last_good_timestamp_seconds{loop="seal",process="a"}': f"{NOT_FRESH}x99",
          'indexer_process_loop_last_good_timestamp_seconds{loop="seal",process="b"}': f"{NOT_FRESH}x99"}, 6,
         {'indexer_process_loop_last_good_timestamp_seconds{loop="seal",process="a"}': f"{NOT_FRESH}x99",
          'indexer_process_loop_last_good_timestamp_seconds{loop="seal",process="b"}': f"{FRESH}x99",
          'indexer_process_loop_last_good_timestamp_seconds{loop="reconcile",process="b"}': f"{NOT_FRESH}x99"}, 5),
    Case("RegistryIndexerReconcileOverdue",
         {"indexer_last_complete_reconcile_timestamp_seconds": f"{NOT_FRESH}x2000"}, 1460,
         {"indexer_last_complete_reconcile_timestamp_seconds": f"{FRESH}x2000"}, 1440),
    Case("RegistryIndexerWorkFails", **constantly('indexer_work_failing{kind="verify"}', "1", "0", 65, 59)),
    Case("RegistryIndexerReconcileUndecided",
         {'indexer_reconcile_undecided{kind="denied"}': "1x2000"}, 1450,
         {'indexer_reconcile_undecided{kind="denied"}': "0x2000",
          'indexer_reconcile_undecided{kind="another"}': "1x2000"}, 1430),
    Case("RegistryIndexerTagsHidden", **constantly("indexer_registry_hides_tags", "1", "0", 10, 4)),
    Case("RegistryIndexerReconcilerImitated", {'indexer_own_requests_total{outcome="forged"}': "0+1x30"}, 10,
         {'indexer_own_requests_total{outcome="own"}': "0+1x30"}),
    Case("RegistryIndexerTagOnDummy", **constantly(ACTIONS.format("on_dummy"), "1", "0", 10, 4)),
    Case("RegistryIndexerPushUncertain", **constantly(ACTIONS.format("uncertain"), "1", "0", 1, None)),
    Case("RegistryIndexerPushPutBack", **constantly(ACTIONS.format("put_back"), "1", "0", 1, None)),
    Case("RegistryIndexerStorageDamaged",
         **constantly('indexer_storage_findings{severity="damaged",code="a"}', "2", "0", 1, None)),
    Case("RegistryIndexerCollectionOverlapped",
         {'indexer_storage_collection_changes{what="uploads",time="maintenance"}': "3x2000",
          'indexer_storage_collection_changes{what="deletions",time="maintenance"}': "0x2000",
          "indexer_storage_collection_timestamp_seconds": f"{FRESH}x2000"}, 1,
         {'indexer_storage_collection_changes{what="uploads",time="maintenance"}': "0x2000",
          "indexer_storage_collection_timestamp_seconds": f"{FRESH}x2000"}),
    Case("RegistryIndexerPoliciesDiffer", **constantly("indexer_policies_differ", "1", "0", 15, 9)),
    Case("RegistryIndexerPoliciesRefused", **constantly("indexer_policies_refused", "2", "0", 15, 9)),
    Case("RegistryIndexerInUseSilent", **constantly('indexer_in_use_silent{source="a"}', "1", "0", 15, 9)),
    Case("RegistryIndexerInUseUnconfirmed", **constantly('indexer_in_use_unconfirmed{source="a"}', "1", "0", 1, None)),
    Case("RegistryIndexerAuditDamaged", **constantly("indexer_audit_damaged", "1", "0", 1, None)),
    Case("RegistryIndexerAuditConflict", **constantly("indexer_audit_conflicts", "1", "0", 1, None)),
    Case("RegistryIndexerFeedLate", **constantly('indexer_feed_lag_seconds{feed="a"}', "901", "900", 10, 4)),
    Case("RegistryIndexerFeedStopped", **constantly('indexer_feed_stopped{feed="a"}', "1", "0", 1, None)),
    Case("RegistryIndexerJobWaits", **constantly('indexer_jobs_oldest_waiting_seconds{kind="a"}', "901", "900", 10, 4)),
    Case("RegistryIndexerActingPaused", **constantly("indexer_acting_paused", "1", "0", 365, 359)),
    Case("RegistryIndexerJobLeaseLost", {'reconciler_job_leases_lost_total{kind="a"}': "0+1x30"}, 10,
         {'reconciler_job_leases_lost_total{kind="a"}': "5x30"}),
)  # fmt: skip
SCRAPED = {"indexer_inbox_waiting": "0x2000"}
"""Without it, `RegistryIndexerNotScraped` fires."""


def rules() -> list[dict[str, Any]]:
    """The alarms of the file."""
    document = YAML(typ="safe").load(RULES)
    return [rule for group in document["groups"] for rule in group["rules"]]


@pytest.fixture(scope="module")
def promtool() -> str:
    """Prometheus' own tool; skips where it is not installed."""
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed (Debian and Ubuntu: the package prometheus)")
    return found


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False, timeout=60)


# --- alarms ----------------------------------------------------------------------------------------------


def test_alarms__are_valid(promtool: str) -> None:
    """Prometheus takes the rules, their templates, and the scrape configuration that names them."""
    done = run(promtool, "check", "config", PROMETHEUS / "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_alarms__each_has_a_case() -> None:
    """No alarm is without a test."""
    named = {case.alarm for case in CASES} | {"RegistryIndexerNotScraped"}
    assert named == {rule["alert"] for rule in rules()}
    assert len(CASES) + 1 == len(rules())


def test_alarms__fire_when_they_should(promtool: str, tmp_path: Path) -> None:
    """Each alarm fires alone for what it is about, not before its time, and not for what is in order."""
    tests = [test for case in CASES for test in both_of(case)]
    tests.append(unit({}, [(6, ["RegistryIndexerNotScraped"]), (4, [])], scraped=False))
    file = tmp_path / "tests.json"  # JSON is YAML
    file.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}))
    done = run(promtool, "test", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr


def both_of(case: Case) -> Iterator[dict[str, Any]]:
    """The tests of promtool for a case."""
    fires = [(case.at, [case.alarm])]
    if case.still_quiet_at is not None:
        fires.append((case.still_quiet_at, []))
    yield unit(case.fires, fires)
    yield unit(case.quiet, [(case.at, [])])


def unit(
    series: dict[str, str], expected: Iterable[tuple[int, list[str]]], *, scraped: bool = True
) -> dict[str, Any]:
    """A test of promtool: the alarms that fire at some minutes."""
    given = {**(SCRAPED if scraped else {}), **series}
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in given.items()],
        "promql_expr_test": [
            {
                "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                "eval_time": f"{minute}m",
                "exp_samples": [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in names],
            }
            for minute, names in expected
        ],
    }


def test_alarms__are_those_of_the_metrics_page() -> None:
    """The page explains each condition of the rules."""
    _, _, listed = METRICS_PAGE.read_text(encoding="utf-8").partition("## Worth an alarm\n")
    described = [
        quoted(item)[0] for item in re.findall(r"^- (`.*?`[^`]*?):", listed, re.MULTILINE | re.DOTALL)
    ]
    assert {rule["expr"] for rule in rules()} - {" ".join(each.split()) for each in described} == set()


def test_alarms__say_what_to_do() -> None:
    """Each alarm has a severity, says what is wrong and what to do, and names only pages that are there."""
    for rule in rules():
        assert set(rule) - {"for"} == {"alert", "expr", "labels", "annotations"}, rule
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert set(rule["annotations"]) == {"summary", "description"}
        for page in re.findall(r"docs/[\w/-]+\.md", rule["annotations"]["description"]):
            assert (ROOT / page).exists(), page


# --- queries ---------------------------------------------------------------------------------------------

ALL_QUERIES = [*(rule["expr"] for rule in rules()), *dashboard.queries()]


@pytest.mark.parametrize("query", ALL_QUERIES)
def test_query__asks_for_what_is_measured(query: str) -> None:
    """Every metric, and every label that is selected or kept, exists with the kind that the query takes it for."""
    measured = registered()
    for name, selected in re.findall(r"\b((?:indexer|reconciler)_\w+)(?:\{([^}]*)\})?", query):
        plain = name if name in measured else re.sub(r"_(bucket|sum|count)$", "", name)
        assert plain in measured, name
        kind, labels = measured[plain]
        used = set(re.findall(r"(\w+)(?:=~|!=|=)", selected)) | {
            label.strip() for by in re.findall(r"\bby \(([^)]*)\)", query) for label in by.split(",")
        }
        assert used - labels <= OF_PROMETHEUS, (name, used - labels)
        rated = re.search(rf"\b(?:rate|increase)\({name}\b", query) is not None
        assert rated == (kind in {"counter", "histogram"}), (name, kind)


def test_dashboard__is_as_generated() -> None:
    """The file is what `python3 dev.py dashboard` writes."""
    assert dashboard.FILE.read_text(encoding="utf-8") == dashboard.text()


def test_dashboard__panels_do_not_overlap() -> None:
    """Each panel has a place and a number of its own, within the width."""
    panels = dashboard.dashboard()["panels"]
    cells: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        covered = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not covered & cells, panel["title"]
        assert place["x"] + place["w"] <= dashboard.WIDTH
        cells |= covered
    assert len({panel["id"] for panel in panels}) == len(panels)


SILENT = (
    "gitlab",
    "feed",
    "barrier",
    "undecided",
    "jobs",
    "tag_actions",
    "standing",
    "verdicts",
    "in_use",
    '"failed"',
)
"""Words in queries about what does not happen here: such a series appears with the first time that it does."""


@pytest.mark.full
def test_queries__are_answered_by_prometheus(
    installation: Installation, start_registry: StartRegistry, tmp_path: Path
) -> None:
    """Prometheus scrapes both programs, loads the rules, and has an answer to every query of the dashboard."""
    server = shutil.which("prometheus")
    if server is None:
        pytest.skip("prometheus is not installed (Debian and Ubuntu: the package prometheus)")
    registry = start_registry(3, notifications=[installation.endpoint])
    installation.connect(registry)
    measured = f"127.0.0.1:{free_port()}"
    installation.start("reconciler", "run", RECONCILER_METRICS_LISTEN=measured)
    with Pusher(registry.url) as client:
        client.push("team/app", oci_image("1"), "1.0.0")
    installation.get("/api/v1/tags")
    assert installation.ask("/api/v1/tags", token="not-the-token").status_code == 401
    listen = f"127.0.0.1:{free_port()}"
    configuration = (PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8")
    configuration = configuration.replace("127.0.0.1:5005", installation.address).replace(
        "127.0.0.1:5006", measured
    )
    configuration = configuration.replace("15s", "1s").replace("rules.yml", str(RULES))
    (tmp_path / "prometheus.yml").write_text(configuration)
    process = subprocess.Popen(
        [server, f"--config.file={tmp_path / 'prometheus.yml'}", f"--web.listen-address={listen}",
         f"--storage.tsdb.path={tmp_path / 'data'}"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        answered = asker(f"http://{listen}")
        wanted = [query for query in dashboard.queries() if not any(word in query for word in SILENT)]
        assert len(wanted) > 20
        until(lambda: [query for query in wanted if not answered(query)], "an answer to each query")
        for query in ALL_QUERIES:
            answered(query)  # an error is raised
        firing = httpx.get(f"http://{listen}/api/v1/rules").json()["data"]["groups"]
        assert [rule["name"] for group in firing for rule in group["rules"] if rule["health"] == "err"] == []
    finally:
        process.terminate()
        process.wait(30)


def asker(url: str) -> Callable[[str], bool]:
    """Return what tells whether a query has an answer; an error of Prometheus is raised."""

    def answered(query: str) -> bool:
        try:
            answer = httpx.get(f"{url}/api/v1/query?{urlencode({'query': query})}", timeout=10)
        except httpx.TransportError:
            return False  # it is starting
        if answer.status_code == 503:
            return False
        assert answer.json()["status"] == "success", (query, answer.text)
        return bool(answer.json()["data"]["result"])

    return answered


def until(left: Callable[[], list[str]], what: str) -> None:
    """Wait until nothing is left."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while missing := left():
        assert time.monotonic() < deadline, f"waited for {what}; there is none to {missing}"
        time.sleep(1)

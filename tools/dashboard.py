"""Writes ``deploy/grafana/dashboard.json``: what an operator looks at, one row for each question.

The dashboard is generated, because its JSON repeats for every panel what a table says in a line. A test compares the
file with this module, and every query with the metrics that the programs have.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[1] / "deploy" / "grafana" / "dashboard.json"
WIDTH, HEIGHT = 24, 7
SOURCE = {"type": "prometheus", "uid": "${source}"}


@dataclass(frozen=True)
class Panel:
    """One graph (or, with ``stat``, one number): queries with the legend of each."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    text: str = ""
    stat: bool = False
    wrong_above: float | None = None
    """A number above this is shown in red."""


@dataclass(frozen=True)
class Row:
    """A question, and the panels that answer it."""

    title: str
    panels: tuple[Panel, ...]


def quantiles(metric: str, by: str = "") -> tuple[tuple[str, str], ...]:
    """Return the queries for the median and the 99th percentile of a histogram."""
    labels, legend = (f"{by}, le", f" {{{{{by}}}}}") if by else ("le", "")
    return tuple(
        (f"histogram_quantile({q}, sum by ({labels}) (rate({metric}_bucket[5m])))", f"{name}{legend}")
        for q, name in (("0.5", "median"), ("0.99", "p99"))
    )


def one(title: str, unit: str, query: str, *, text: str = "", wrong_above: float | None = None) -> Panel:
    """Return a panel with one number."""
    return Panel(title, unit, ((query, ""),), text, stat=True, wrong_above=wrong_above)


ROWS = (
    Row(
        "Is everything in order?",
        (
            one("Oldest delivery not applied", "s", "max(indexer_inbox_oldest_age_seconds)", wrong_above=60),
            one("In the spool", "short", "sum(indexer_notifications_spooled)", wrong_above=0),
            one("In quarantine", "short", "max(indexer_quarantined)", wrong_above=0),
            one(
                "Tags verified within a day",
                "percentunit",
                'max(indexer_tags_verified_ratio{within="24h"})',
            ),
            one(
                "Since the last full reconcile",
                "s",
                "time() - max(indexer_last_complete_reconcile_timestamp_seconds)",
                wrong_above=86_400,
            ),
            one("Damaged audit entries", "short", "max(indexer_audit_damaged)", wrong_above=0),
        ),
    ),
    Row(
        "What arrives",
        (
            Panel(
                "Deliveries by status",
                "reqps",
                (("sum by (status) (rate(indexer_notifications_total[5m]))", "{{status}}"),),
                "202: stored. 401: wrong token. 503: could not be stored; the registry sends it again.",
            ),
            Panel("Until a delivery is stored", "s", quantiles("indexer_notification_durable_seconds")),
            Panel("Until it is applied", "s", quantiles("indexer_ingest_lag_seconds")),
            Panel(
                "Events by outcome",
                "cps",
                (("sum by (outcome) (rate(indexer_events_total[5m]))", "{{outcome}}"),),
            ),
        ),
    ),
    Row(
        "Is anything lost?",
        (
            Panel(
                "Events in the memory of registries",
                "short",
                (
                    ("max(indexer_registry_pending)", "waiting there"),
                    ("max(indexer_registry_missing)", "delivered, not here (at most)"),
                ),
                "A restart of the registry loses what waits there.",
            ),
            Panel(
                "Periods by what was lost",
                "short",
                (("max by (state) (indexer_loss_intervals)", "{{state}}"),),
            ),
        ),
    ),
    Row(
        "Is the inventory right?",
        (
            Panel(
                "Observations by outcome",
                "cps",
                (("sum by (outcome) (rate(reconciler_observations_total[5m]))", "{{outcome}}"),),
            ),
            Panel(
                "From push to verified",
                "s",
                (("max by (quantile) (indexer_push_verified_seconds)", "{{quantile}}"),),
            ),
            Panel("Work that waits", "short", (("max by (kind) (indexer_work_waiting)", "{{kind}}"),)),
            Panel("Work that fails", "short", (("max by (kind) (indexer_work_failing)", "{{kind}}"),)),
            Panel(
                "Left out by the last full reconcile",
                "short",
                (("max by (kind) (indexer_reconcile_undecided)", "{{kind}}"),),
            ),
        ),
    ),
    Row(
        "What was done",
        (
            Panel(
                "Jobs that ended",
                "cps",
                (("sum by (kind, state) (rate(reconciler_jobs_ended_total[5m]))", "{{kind}} {{state}}"),),
            ),
            Panel(
                "Tags deleted, restored, put back",
                "cps",
                (
                    (
                        "sum by (kind, outcome) (rate(reconciler_tag_actions_total[5m]))",
                        "{{kind}} {{outcome}}",
                    ),
                ),
            ),
            Panel(
                "Deletions that need attention",
                "short",
                (("max by (what) (indexer_tag_actions_alarming)", "{{what}}"),),
            ),
        ),
    ),
    Row(
        "What cleanup does",
        (
            Panel(
                "How policies stand",
                "short",
                (("max by (policy, standing) (indexer_cleanup_policy_standing)", "{{policy}} {{standing}}"),),
                "`acts`, or why nothing is done by the policy.",
            ),
            Panel(
                "Verdicts of the newest plans",
                "short",
                (("max by (policy, decision) (indexer_cleanup_verdicts)", "{{policy}} {{decision}}"),),
            ),
            Panel(
                "Planned",
                "short",
                (("max by (state) (indexer_cleanup_planned)", "{{state}}"),),
            ),
            Panel(
                "What became of it",
                "short",
                (("max by (outcome) (indexer_cleanup_ended)", "{{outcome}}"),),
                "`near_miss`: it was pulled, pushed or moved while it waited.",
            ),
            Panel(
                "In use: who is silent",
                "short",
                (("max by (source) (indexer_in_use_silent)", "{{source}}"),),
            ),
        ),
    ),
    Row(
        "What is asked",
        (
            Panel(
                "Requests by route",
                "reqps",
                (("sum by (route) (rate(indexer_api_requests_total[5m]))", "{{route}}"),),
            ),
            Panel(
                "Refused or failed",
                "reqps",
                (
                    (
                        'sum by (route, status) (rate(indexer_api_requests_total{status=~"[45].."}[5m]))',
                        "{{route}} {{status}}",
                    ),
                ),
            ),
            Panel("Until the answer", "s", quantiles("indexer_api_request_seconds")),
            Panel("Behind the proxy: waited for writes", "s", quantiles("indexer_barrier_seconds")),
            Panel("Connections", "short", (("sum(indexer_connections)", "open"),)),
        ),
    ),
    Row(
        "Where it goes",
        (
            Panel("Feeds: behind", "s", (("max by (feed) (indexer_feed_lag_seconds)", "{{feed}}"),)),
            Panel(
                "Feeds: entries",
                "cps",
                (
                    (
                        "sum by (feed, outcome) (rate(indexer_feed_entries_total[5m]))",
                        "{{feed}} {{outcome}}",
                    ),
                ),
            ),
            Panel("GitLab: oldest that waits", "s", (("max(indexer_gitlab_oldest_age_seconds)", "waits"),)),
            Panel(
                "Audit log",
                "short",
                (
                    ("max(indexer_audit_signed_position)", "signed"),
                    ("max(indexer_audit_unsealed)", "not sealed"),
                ),
            ),
        ),
    ),
    Row(
        "Loops",
        (
            Panel(
                "Since the last good round",
                "s",
                (
                    (
                        "time() - max by (loop) (indexer_process_loop_last_good_timestamp_seconds)",
                        "{{loop}}",
                    ),
                ),
                "In any process. `reconcile` ends a round once per full reconcile.",
            ),
            Panel(
                "Failed rounds",
                "cps",
                (('sum by (loop) (rate(indexer_loop_runs_total{outcome="failed"}[5m]))', "{{loop}}"),),
            ),
            Panel(
                "Share of time at work",
                "percentunit",
                (("sum by (loop) (rate(indexer_loop_round_seconds_sum[5m]))", "{{loop}}"),),
            ),
        ),
    ),
)


def dashboard() -> dict[str, Any]:
    """Return the dashboard as Grafana imports it."""
    return {
        "title": "Registry indexer",
        "uid": "registry-indexer",
        "tags": ["registry"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "1m",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "templating": {
            "list": [{"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}]
        },
        "panels": list(_panels()),
    }


def queries() -> Iterator[str]:
    """Yield every query of the dashboard."""
    for row in ROWS:
        for panel in row.panels:
            yield from (query for query, _ in panel.queries)


def _panels() -> Iterator[dict[str, Any]]:
    number, top = 0, 0
    for row in ROWS:
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "gridPos": {"x": 0, "y": top, "w": WIDTH, "h": 1},
            "panels": [],
        }
        top += 1
        per_line = 6 if row.panels[0].stat else 3
        width = WIDTH // min(per_line, len(row.panels))
        height = 4 if row.panels[0].stat else HEIGHT
        for place, panel in enumerate(row.panels):
            number += 1
            line, column = divmod(place, per_line)
            position = {"x": column * width, "y": top + line * height, "w": width, "h": height}
            yield _panel(panel, number, position)
        top += -(-len(row.panels) // per_line) * height


def _panel(panel: Panel, number: int, position: dict[str, int]) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.wrong_above is not None:
        # Grafana colours from a value on, so 0 is written as the least number above it.
        steps.append({"color": "red", "value": panel.wrong_above or 0.001})
    described = {"description": panel.text} if panel.text else {}
    return {
        "id": number,
        "type": "stat" if panel.stat else "timeseries",
        "title": panel.title,
        **described,
        "datasource": SOURCE,
        "gridPos": position,
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "min": 0,
                "thresholds": {"mode": "absolute", "steps": steps},
            },
            "overrides": [],
        },
        "targets": [
            {"refId": chr(ord("A") + place), "datasource": SOURCE, "expr": query, "legendFormat": legend}
            for place, (query, legend) in enumerate(panel.queries)
        ],
    }


def text() -> str:
    """Return the file's content."""
    return json.dumps(dashboard(), indent=2) + "\n"


def write() -> None:
    """Write the file."""
    FILE.write_text(text(), encoding="utf-8")


if __name__ == "__main__":
    write()

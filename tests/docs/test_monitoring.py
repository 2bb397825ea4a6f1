"""Alert rules and the dashboard use metrics and labels that exist, and the rules fire."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from portside.telemetry.catalogue import METRICS, Kind
from servers import ServerMissing
from support.missing import server_needed
from support.pages import ROOT

ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"
DASHBOARD = ROOT / "deploy" / "grafana" / "portside.json"
PAGE = ROOT / "docs" / "howto" / "monitor.md"

OF_PROMETHEUS = {"instance", "job", "le"}
"""Labels that Prometheus adds, and that of the buckets of a histogram."""


def samples() -> dict[str, set[str]]:
    """Return the names under which Prometheus stores the metrics, with their labels."""
    found: dict[str, set[str]] = {}
    for metric in METRICS:
        labels = {*metric.labels} | OF_PROMETHEUS
        if metric.kind is Kind.HISTOGRAM:
            found |= {f"{metric.name}_{part}": labels for part in ("bucket", "sum", "count")}
        else:
            found[metric.name] = labels
    return found


def rules() -> list[dict[str, Any]]:
    """Return the alert rules."""
    document = yaml.safe_load(ALERTS.read_text("utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    """Return the panels of the dashboard, without the headings."""
    dashboard = json.loads(DASHBOARD.read_text("utf-8"))
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def expressions() -> Iterator[tuple[str, str]]:
    """Return every expression, with where it is."""
    for rule in rules():
        yield rule["alert"], rule["expr"]
    for panel in panels():
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


def used(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Return the metrics that an expression selects, with the labels that it needs of them."""
    grouped = {
        label.strip()
        for labels in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression)
        for label in labels.split(",")
        if label.strip()
    }
    for name, selected in re.findall(r"\b(portside_\w+)(?:\{([^}]*)\})?", expression):
        yield name, set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selected)) | grouped


def test_expressions() -> None:
    """Every name and every label in every expression exists."""
    known = samples()
    found = list(expressions())
    assert len(found) > 40
    for where, expression in found:
        for name, labels in used(expression):
            assert name in known, f"{where}: {name}"
            assert labels <= known[name], f"{where}: {name}: {labels - known[name]}"


def test_legends() -> None:
    """Every label in a legend or a summary is one that the expression keeps."""
    told = [(rule["alert"], rule["expr"], rule["annotations"]["summary"]) for rule in rules()]
    told += [
        (panel["title"], target["expr"], target["legendFormat"])
        for panel in panels()
        for target in panel["targets"]
    ]
    for where, expression, text in told:
        kept = set.union({"instance"}, *(labels for _, labels in used(expression)))
        if " by " not in expression:
            kept |= set.union(set(), *(samples()[name] for name, _ in used(expression)))
        named = re.findall(r"\{\{ *(?:\$labels\.)?(\w+) *\}\}", text)
        assert set(named) <= kept, where


def test_dashboard_shows_everything() -> None:
    """Each metric is in the dashboard or in an alert, but for a few that are looked up."""
    text = ALERTS.read_text("utf-8") + DASHBOARD.read_text("utf-8")
    shown = {metric.name for metric in METRICS if metric.name in text}
    assert {metric.name for metric in METRICS} - shown == {
        "portside_collection_removed_blobs_total",
        "portside_collection_purged_manifests_total",
        "portside_expired_uploads_total",
        "portside_retention_rounds_total",
        "portside_tags",
        "portside_blobs",
        "portside_counted_timestamp_seconds",
        "portside_process_max_fds",
    }


def test_panels() -> None:
    """Panels have ids of their own, and no two are in the same place."""
    dashboard = json.loads(DASHBOARD.read_text("utf-8"))
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }
        assert not cells & taken
        taken |= cells
        assert place["x"] + place["w"] <= 24


def test_page() -> None:
    """The page says what to do about each alert, and about no other."""
    documented = re.findall(r"`(Portside\w+)`", PAGE.read_text("utf-8"))
    assert sorted(documented) == sorted(rule["alert"] for rule in rules())


FIRING: dict[str, dict[str, str]] = {
    "PortsideDown": {'up{job="portside",instance="a"}': "0x100"},
    "PortsideNotReady": {'portside_ready{instance="a",store="blobs",work="writes"}': "0x100"},
    "PortsideErrors": {
        'portside_http_requests_total{instance="a",operation="ping",status="200"}': "0+97x100",
        'portside_http_requests_total{instance="a",operation="ping",status="503"}': "0+3x100",
    },
    "PortsideSlow": {
        'portside_http_first_byte_seconds_bucket{instance="a",operation="get_blob",le="1.0"}': (
            "0+90x100"
        ),
        'portside_http_first_byte_seconds_bucket{instance="a",operation="get_blob",le="2.5"}': (
            "0+100x100"
        ),
        'portside_http_first_byte_seconds_bucket{instance="a",operation="get_blob",le="+Inf"}': (
            "0+100x100"
        ),
    },
    "PortsideDiskFillsUp": {
        'portside_disk_free_bytes{instance="a",store="blobs"}': "1000000-1000x100",
        'portside_disk_reserve_bytes{instance="a"}': "1000x100",
    },
    "PortsideDiskFull": {
        'portside_disk_free_bytes{instance="a",store="database"}': "999x100",
        'portside_disk_reserve_bytes{instance="a"}': "1000x100",
    },
    "PortsideDatabaseFails": {
        'portside_database_errors_total{instance="a",call="read",error="unavailable"}': "0+10x100"
    },
    "PortsideStorageFails": {
        'portside_storage_errors_total{instance="a",call="read",error="unavailable"}': "0+10x100"
    },
    "PortsideConnectionsExhausted": {
        'portside_database_connection_waiters{instance="a"}': "1x100",
        'portside_database_connections_in_use{instance="a"}': "20x100",
        'portside_database_connections_max{instance="a"}': "20x100",
    },
    "PortsideWritesQueue": {'portside_database_write_queue_length{instance="a"}': "101x100"},
    "PortsideCollectionFails": {
        'portside_collection_rounds_total{instance="a",outcome="failed"}': "0+1x100",
        'portside_collection_rounds_total{instance="a",outcome="done"}': "5x100",
    },
    "PortsideLoginsLimited": {'portside_logins_total{instance="a",outcome="limited"}': "0+10x100"},
    "PortsideWebhookFails": {
        'portside_webhook_oldest_seconds{instance="a",webhook="w"}': "0+60x100"
    },
    "PortsideDeliveriesDead": {'portside_webhook_dead{instance="a",webhook="w"}': "0x50 1x50"},
    "PortsideRestarts": {'portside_process_start_time_seconds{instance="a"}': "0+1x100"},
}
"""For each alert, values of each minute for which it fires."""

QUIET = {
    'up{job="portside",instance="a"}': "1x100",
    'portside_ready{instance="a",store="blobs",work="writes"}': "1x100",
    'portside_http_requests_total{instance="a",operation="ping",status="200"}': "0+100x100",
    'portside_http_first_byte_seconds_bucket{instance="a",operation="get_blob",le="1.0"}': "0+9x99",
    'portside_http_first_byte_seconds_bucket{instance="a",operation="get_blob",le="+Inf"}': (
        "0+9x99"
    ),
    'portside_disk_free_bytes{instance="a",store="blobs"}': "1000000x100",
    'portside_disk_reserve_bytes{instance="a"}': "1000x100",
    'portside_database_errors_total{instance="a",call="read",error="unavailable"}': "7x100",
    'portside_storage_errors_total{instance="a",call="read",error="unavailable"}': "7x100",
    'portside_database_connection_waiters{instance="a"}': "0x100",
    'portside_database_connections_in_use{instance="a"}': "20x100",
    'portside_database_connections_max{instance="a"}': "20x100",
    'portside_database_write_queue_length{instance="a"}': "10x100",
    'portside_collection_rounds_total{instance="a",outcome="failed"}': "0+1x100",
    'portside_collection_rounds_total{instance="a",outcome="done"}': "0+1x100",
    'portside_logins_total{instance="a",outcome="limited"}': "3x100",
    'portside_webhook_oldest_seconds{instance="a",webhook="w"}': "1799x100",
    'portside_webhook_dead{instance="a",webhook="w"}': "7x100",
    'portside_process_start_time_seconds{instance="a"}': "1x100",
}
"""Values for which no alert fires."""


def test_alerts(tmp_path: Path) -> None:
    """Prometheus' own tool accepts the rules, and each fires when it should and not otherwise."""
    assert set(FIRING) == {rule["alert"] for rule in rules()}
    with server_needed():
        tool = shutil.which("promtool")
        if tool is None:
            raise ServerMissing("promtool is not installed; it is in Debian's package prometheus")
    cases = [case({**QUIET, **series}, {alert: 1}) for alert, series in FIRING.items()]
    cases.append(case(QUIET, dict.fromkeys(FIRING, 0)))
    document = {"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": cases}
    path = tmp_path / "alerts_test.yml"
    path.write_text(yaml.safe_dump(document))
    for command in (("check", "rules", str(ALERTS)), ("test", "rules", str(path))):
        done = subprocess.run([tool, *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def case(series: dict[str, str], firing: dict[str, int]) -> dict[str, Any]:
    """Return a test of Prometheus' tool: how often each alert fires after 95 minutes."""
    return {
        "interval": "1m",
        "name": f"{firing}",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}}) or vector(0)',
                "eval_time": "95m",
                "exp_samples": [{"labels": "{}", "value": count}],
            }
            for alert, count in firing.items()
        ],
    }


@pytest.mark.parametrize("label", ["name", "repository", "identity", "reference"])
def test_no_names(label: str) -> None:
    """No metric has a label with as many values as there are repositories or identities."""
    assert not any(label in metric.labels for metric in METRICS)

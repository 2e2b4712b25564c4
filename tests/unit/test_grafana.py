"""The Grafana dashboard: layout, data sources and metrics."""

import json
import re
from typing import Any

from tests.stack import ROOT

DASHBOARD: dict[str, Any] = json.loads((ROOT / "infra/grafana/rollcall.json").read_text(encoding="utf-8"))
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
TARGETS = [target for panel in PANELS for target in panel.get("targets", [])]

METRICS = {
    # openfaas/faas, gateway/metrics/metrics.go; a histogram has _bucket, _sum and _count
    "gateway_function_invocation_total": {"function_name", "code"},
    "gateway_function_invocation_started": {"function_name"},
    "gateway_functions_seconds_bucket": {"function_name", "code", "le"},
    "gateway_functions_seconds_sum": {"function_name", "code"},
    "gateway_functions_seconds_count": {"function_name", "code"},
    "gateway_service_count": {"function_name"},
    # openfaas/of-watchdog, metrics/http.go; `job` and `instance` are Prometheus's own
    "http_requests_in_flight": {"job", "instance"},
}


def test_panels_have_unique_ids_and_do_not_overlap() -> None:
    ids = [panel["id"] for panel in PANELS]
    assert len(set(ids)) == len(ids)
    occupied: set[tuple[int, int]] = set()
    for panel in PANELS:
        position = panel["gridPos"]
        assert position["x"] + position["w"] <= 24
        cells = {
            (x, y)
            for x in range(position["x"], position["x"] + position["w"])
            for y in range(position["y"], position["y"] + position["h"])
        }
        assert not cells & occupied, panel["title"]
        occupied |= cells


def test_data_sources_are_chosen_by_variables() -> None:
    variables = {
        item["name"]: item["query"] for item in DASHBOARD["templating"]["list"] if item["type"] == "datasource"
    }
    assert variables == {"prometheus": "prometheus", "postgres": "grafana-postgresql-datasource"}
    for source in [item["datasource"] for item in (*TARGETS, *PANELS) if "datasource" in item]:
        match = re.fullmatch(r"\$\{(\w+)\}", source["uid"])
        assert match
        assert source["type"] == variables[match[1]]


def test_every_panel_queries_its_own_data_source() -> None:
    for panel in PANELS:
        assert panel["type"] == "row" or panel["targets"], panel["title"]
        for target in panel.get("targets", []):
            assert target["datasource"] == panel["datasource"]
            assert ("rawSql" in target) != ("expr" in target)


def test_every_metric_exists_in_the_gateway_or_the_watchdog() -> None:
    expressions = [target["expr"] for target in TARGETS if "expr" in target]
    used = {name for text in expressions for name in re.findall(r"\b(?:gateway|http)_\w+", text)}
    assert used == METRICS.keys()
    for text in expressions:
        for name, matchers in re.findall(r"\b((?:gateway|http)_\w+)\{([^}]*)\}", text):
            assert set(re.findall(r"(\w+)=", matchers)) <= METRICS[name]
        assert re.findall(r"\b(?:gateway|http)_\w+(?!\w|\{)", text) == []  # every metric has label matchers


def test_function_names_match_with_and_without_a_namespace() -> None:
    (pattern,) = {
        match
        for target in TARGETS
        for match in re.findall(r'function_name=~"([^"]+)"', target.get("expr", ""))
    }  # fmt: skip
    for name in ("process-data", "query-data.openfaas-fn"):
        assert re.fullmatch(pattern, name)
    assert not re.fullmatch(pattern, "process-data-2.openfaas-fn")

"""The alerts fire as tests/data/alerts.yaml expects, and use metrics that exist."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from query_data.metrics import GAUGES

from infra.local.config.stack import read_stack
from tests.stack import ROOT
from tests.unit.test_grafana import METRICS

PROMETHEUS = ROOT / "infra/prometheus"
RULES = PROMETHEUS / "rollcall.rules.yaml"
CASES = ROOT / "tests/data/alerts.yaml"

ALERTS: list[dict[str, Any]] = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"][0]["rules"]
JOBS: list[dict[str, Any]] = yaml.safe_load((PROMETHEUS / "scrape.yaml").read_text(encoding="utf-8"))["scrape_configs"]

needs_promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="no promtool on the PATH")


def promtool(*arguments: str | Path, directory: Path = PROMETHEUS) -> str:
    result = subprocess.run(
        ["promtool", *arguments], cwd=directory, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@needs_promtool
def test_the_alerts_fire_as_their_test_cases_expect(tmp_path: Path) -> None:
    shutil.copy(RULES, tmp_path)
    shutil.copy(CASES, tmp_path)
    promtool("check", "rules", "--lint-fatal", RULES)
    promtool("test", "rules", CASES.name, directory=tmp_path)


@needs_promtool
def test_prometheus_accepts_the_scrape_jobs(tmp_path: Path) -> None:
    discovery = "kubernetes_sd_configs"  # Debian builds Prometheus without Kubernetes support
    jobs = [{name: value for name, value in job.items() if name != discovery} for job in JOBS]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump({"scrape_configs": jobs}), encoding="utf-8")
    promtool("check", "config", "--syntax-only", "prometheus.yml", directory=tmp_path)


def test_every_alert_has_a_test_case_in_which_it_fires() -> None:
    fired = set(re.findall(r"alertname=\"(\w+)\"}?[,\w=\"-]*.*value: 1", CASES.read_text(encoding="utf-8")))
    assert fired == {alert["alert"] for alert in ALERTS}


def test_every_metric_of_an_alert_exists() -> None:
    known = METRICS.keys() | {gauge.name for gauge in GAUGES} | {"up"}
    for alert in ALERTS:
        assert set(re.findall(r"\b(?:gateway|http|rollcall)_\w+|\bup\b", alert["expr"])) <= known, alert["alert"]


def test_every_scrape_job_is_used_by_a_rule_or_the_dashboard() -> None:
    dashboard = (ROOT / "infra/grafana/rollcall.json").read_text(encoding="utf-8")
    used = set(re.findall(r'job=\\?"(\w+)', RULES.read_text(encoding="utf-8") + dashboard))
    unselected = {"gateway"}  # queries select its metrics by their names alone
    assert {job["job_name"] for job in JOBS} == used | unselected


def test_alerts_on_timestamps_wait_for_two_intervals_of_the_default_schedule() -> None:
    (process, _) = read_stack(ROOT, {}).functions
    minutes = re.fullmatch(r"\*/(\d+) \* \* \* \*", process.annotations["schedule"])
    assert minutes
    expressions = [alert["expr"] for alert in ALERTS if "timestamp_seconds" in alert["expr"]]
    assert len(expressions) == 3
    for expression in expressions:
        assert f"> {2 * 60 * int(minutes[1])}" in expression

"""deploy/: the Grafana dashboard and the rules of Prometheus name metrics that there are."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

from monitoring.catalogue import METRICS

DEPLOY = Path(__file__).parents[2] / "deploy"


def named(text: str) -> set[str]:
    return set(re.findall(r"\ba2a_[a-z_]+", text))


class TestDashboard:
    def test_asks_for_metrics_that_there_are(self) -> None:
        dashboard = json.loads((DEPLOY / "grafana" / "mission-control.json").read_text())
        asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]

        assert len(asked) >= 15
        assert named(" ".join(asked)) - METRICS.keys() == set()


class TestPrometheus:
    def test_rules_ask_for_metrics_that_there_are(self) -> None:
        groups = yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text())["groups"]
        rules = [rule for group in groups for rule in group["rules"]]

        assert [rule["alert"] for rule in rules if not rule["annotations"]["summary"]] == []
        assert named(" ".join(rule["expr"] for rule in rules)) - METRICS.keys() == set()

    def test_scrapes_our_address(self) -> None:
        job = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["scrape_configs"][0]

        assert job["metrics_path"] == "/metrics"

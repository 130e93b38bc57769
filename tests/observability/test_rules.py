"""Prometheus takes the configuration and the rules, and each rule does what it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.observability.deployed import (
    PROMETHEUS,
    ROOT,
    RULES,
    UNIT_TESTS,
    alerts,
    dashboards,
    families,
    metrics_documented,
    promtool,
    read,
    rules,
)


def test_prometheus_takes_the_configuration() -> None:
    done = promtool("check", "config", PROMETHEUS / "prometheus.yml")
    assert done.returncode == 0, done.stdout
    assert f"{len(RULES)} rule files found" in done.stdout


def test_prometheus_takes_the_rules() -> None:
    done = promtool("check", "rules", "--lint=all", "--lint-fatal", *RULES)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("file", UNIT_TESTS, ids=lambda path: path.stem)
def test_unit_tests_of_the_rules_pass(file: Path) -> None:
    done = promtool("test", "rules", file)
    assert done.returncode == 0, done.stdout


def expectations() -> tuple[dict[str, list[list[Any]]], dict[str, list[list[Any]]]]:
    """What the unit tests expect of each alert and each recorded series, at each moment."""
    fire: dict[str, list[list[Any]]] = {}
    recorded: dict[str, list[list[Any]]] = {}
    for file in UNIT_TESTS:
        for test in read(file)["tests"]:
            for one in test.get("alert_rule_test", ()):
                fire.setdefault(one["alertname"], []).append(one["exp_alerts"])
            for one in test.get("promql_expr_test", ()):
                name = re.sub(r"^round\(([^,]*), .*\)$", r"\1", one["expr"])
                recorded.setdefault(name, []).append(one["exp_samples"])
    return fire, recorded


def test_every_alert_is_tested_to_fire_and_to_keep_quiet() -> None:
    fire, _ = expectations()
    assert fire.keys() == alerts().keys()
    for name, expected in fire.items():
        assert any(expected), f"{name} never fires"
        assert not all(expected), f"{name} is never quiet"


def test_every_recorded_series_is_tested() -> None:
    _, recorded = expectations()
    assert {rule["record"] for rule in rules() if "record" in rule} <= recorded.keys()


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.get("alert") or rule["record"])
def test_rules_speak_of_metrics_that_there_are(rule: dict[str, Any]) -> None:
    assert families(rule["expr"]) <= metrics_documented()


@pytest.mark.parametrize("name", alerts())
def test_an_alert_says_what_it_is_and_where_to_look(name: str) -> None:
    alert = alerts()[name]
    assert alert["labels"]["severity"] in {"warning", "critical"}
    notes = alert["annotations"]
    assert notes.keys() == {"summary", "description", "dashboard"}
    uids = {dashboard["uid"]: dashboard for dashboard in dashboards().values()}
    where = re.fullmatch(r"/d/([\w-]+)(?:\?var-(\w+)=.*)?", notes["dashboard"])
    assert where is not None
    variables = {one["name"] for one in uids[where[1]]["templating"]["list"]}
    assert where[2] is None or where[2] in variables


def test_the_page_says_what_to_do_about_each_alert() -> None:
    page = (ROOT / "docs" / "observability.md").read_text()
    assert set(re.findall(r"^### (Pageferry\w+)$", page, re.MULTILINE)) == alerts().keys()


def test_jobs_have_the_names_that_rules_know() -> None:
    scraped = read(PROMETHEUS / "prometheus.yml")["scrape_configs"]
    assert {one["job_name"]: one["static_configs"][0]["targets"] for one in scraped} == {
        "pageferry-source": ["source:9101"],
        "pageferry-destination": ["destination:9102"],
    }

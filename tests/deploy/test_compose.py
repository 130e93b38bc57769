"""The compose file and the Dockerfile: valid by the published schema, and true to the code.

`make test-containers` runs both on a real engine.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from typing import Any

import pytest
import yaml

import dest_host.cli
import source_host.cli
from dest_host.settings import DestinationSettings
from paging_core.units import NS_PER_S, parse_duration_ns, parse_memory_bytes
from source_host.settings import SourceSettings
from tests.deploy.manifests import ROOT
from wire.hosting.settings import settings_of

FILE = ROOT / "deploy" / "compose.yaml"
DOCUMENT: dict[str, Any] = yaml.safe_load(FILE.read_text())
SERVICES: dict[str, dict[str, Any]] = DOCUMENT["services"]
HOSTS = {
    "source": (source_host.cli.cli, "SOURCE_HOST", SourceSettings),
    "destination": (dest_host.cli.cli, "DEST_HOST", DestinationSettings),
}


def stage(name: str) -> str:
    """What the Dockerfile says of one target."""
    text = (ROOT / "deploy" / "Dockerfile").read_text()
    (found,) = re.findall(
        rf"^FROM \S+ AS {name}$(.*?)(?=^FROM |\Z)", text, re.DOTALL | re.MULTILINE
    )
    return str(found)


def environment(name: str) -> dict[str, str]:
    """What the image tells a host."""
    (line,) = re.findall(r"^ENV (.*)$", stage(name).replace("\\\n", " "), re.MULTILINE)
    return dict(pair.split("=", 1) for pair in shlex.split(line))


def validated(document: str) -> int:
    """Exit status of the validator."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec",
               "--default-filetype", "yaml"]  # fmt: skip
    return subprocess.run(
        [*command, "-"], input=document, text=True, capture_output=True, check=False
    ).returncode


def test_valid_by_the_published_schema() -> None:
    assert validated(FILE.read_text()) == 0
    assert validated(FILE.read_text().replace("depends_on:", "depend_on:", 1)) == 1


@pytest.mark.parametrize("name", HOSTS)
def test_the_hosts_know_every_setting_that_they_are_given(name: str) -> None:
    _, prefix, model = HOSTS[name]
    known = {one.variable(prefix) for one in settings_of(model)}
    assert environment(name).keys() <= known
    assert SERVICES[name]["environment"].keys() <= known


@pytest.mark.parametrize("name", HOSTS)
def test_an_image_serves_where_it_says(name: str) -> None:
    cli, prefix, model = HOSTS[name]
    said = environment(name)
    port = model().listen.rpartition(":")[2]
    assert said[f"{prefix}_LISTEN"] == f"0.0.0.0:{port}"
    (exposed,) = re.findall(r"^EXPOSE (.*)$", stage(name), re.MULTILINE)
    assert exposed.split() == [port, said[f"{prefix}_METRICS_PORT"]]
    scraped = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    targets = [job["static_configs"][0]["targets"] for job in scraped["scrape_configs"]]
    assert [f"{name}:{said[f'{prefix}_METRICS_PORT']}"] in targets
    (program, check), (default,) = (
        re.findall(r'"([^"]+)"', found)
        for found in re.findall(r"\bCMD (\[.*\])$", stage(name), re.MULTILINE)
    )
    assert {check, default} <= cli.commands.keys()
    assert f'ENTRYPOINT ["{program}"]' in stage(name)
    (certificates,) = [
        volume for volume in SERVICES[name]["volumes"] if volume["source"].endswith(f"/{name}")
    ]
    assert (certificates["target"], certificates["read_only"]) == (said[f"{prefix}_TLS"], True)


def test_images_run_as_any_user() -> None:
    (user,) = re.findall(r"^USER (\d+):\d+$", stage("host"), re.MULTILINE)
    assert user != "0"
    assert not re.search(r"^USER ", stage("source") + stage("destination"), re.MULTILINE)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_bounded(name: str) -> None:
    service = SERVICES[name]
    assert service["mem_limit"]
    assert service["cpus"] > 0
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service.get("read_only") or name == "grafana"


def test_who_can_be_reached_from_where() -> None:
    assert DOCUMENT["networks"]["private"] == {"internal": True}
    assert all("private" in service["networks"] for service in SERVICES.values())
    shared = set(SERVICES["source"]["networks"]) & set(SERVICES["destination"]["networks"])
    assert shared == {"private"}
    for service in SERVICES.values():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:")


def test_each_waits_for_the_one_that_it_needs() -> None:
    assert SERVICES["source"]["depends_on"] == {"destination": {"condition": "service_healthy"}}
    assert SERVICES["prometheus"]["depends_on"] == {"source": {"condition": "service_healthy"}}
    assert SERVICES["grafana"]["depends_on"] == ["prometheus"]


@pytest.mark.parametrize("name", HOSTS)
def test_a_host_has_the_time_that_its_end_takes_and_memory_to_spare(name: str) -> None:
    """Half of it is for what is on its way, and for the program."""
    service, prefix = SERVICES[name], HOSTS[name][1]
    drain_ns = SourceSettings().drain if name == "source" else 0
    assert parse_duration_ns(service["stop_grace_period"]) >= drain_ns + 15 * NS_PER_S
    guests = default(service["environment"][f"{prefix}_MAX_TOTAL_MEMORY"])
    most = default(service["mem_limit"]).replace("g", "GiB")
    assert 2 * parse_memory_bytes(guests) <= parse_memory_bytes(most)


def default(text: str) -> str:
    """What is taken where the environment says nothing."""
    found = re.fullmatch(r"\$\{\w+:-(.*)\}", text)
    assert found is not None
    return found[1]


def test_prometheus_reads_our_rules_and_keeps_exemplars() -> None:
    """Which lead from a panel to a migration."""
    service = SERVICES["prometheus"]
    config, data = "/etc/prometheus", "/prometheus"
    assert service["volumes"] == [f"./prometheus:{config}:ro", f"prometheus:{data}"]
    assert set(service["command"]) == {
        f"--config.file={config}/prometheus.yml",
        f"--storage.tsdb.path={data}",
        "--storage.tsdb.retention.time=7d",
        "--enable-feature=exemplar-storage",
    }


def test_grafana_is_read_only() -> None:
    service = SERVICES["grafana"]
    assert service["environment"] == {
        "GF_AUTH_ANONYMOUS_ENABLED": "true",
        "GF_AUTH_ANONYMOUS_ORG_ROLE": "Viewer",
        "GF_ANALYTICS_REPORTING_ENABLED": "false",
        "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
    }
    provisioned = yaml.safe_load(
        (ROOT / "deploy/grafana/provisioning/dashboards/pageferry.yaml").read_text()
    )
    (provider,) = provisioned["providers"]
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in service["volumes"]
    assert "./grafana/provisioning:/etc/grafana/provisioning:ro" in service["volumes"]

"""The manifests in deploy/kind, rendered by kubectl: valid, locked down, and true to the code.

No cluster runs here: what the API server and the nodes would say is checked by the published
schemas and by hand.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import tomllib
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import kubernetes_validate
import pytest
import yaml
from click.testing import CliRunner
from cryptography import x509

import dest_host.cli
import source_host.cli
from pageferry.certs import make
from pageferry.holders import Holder
from paging_core.units import NS_PER_S, parse_memory_bytes
from source_host.settings import SourceSettings
from tests.deploy.manifests import (
    KIND,
    ROOT,
    Manifest,
    Network,
    kustomize_version,
    matches,
    of_kind,
    pods,
    rendered,
    the,
)
from wire.trust.access import Role

OVERLAYS = ("lab", "monitoring", "sweep")
VERSIONS = ("1.29.0", "1.37.0")
HOSTS = {
    "source": ("SOURCE_HOST", source_host.cli.cli, 50051, 9101),
    "destination": ("DEST_HOST", dest_host.cli.cli, 50052, 9102),
}

pytestmark = pytest.mark.skipif(
    kustomize_version() < (4, 1), reason="needs a kubectl with kustomize 4.1 or newer"
)


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of deploy/kind with certificates where the lab wants them."""
    copy = tmp_path_factory.mktemp("kind")
    shutil.copytree(KIND, copy, dirs_exist_ok=True, ignore=shutil.ignore_patterns("certs"))
    holders = [Holder("source", Role.SOURCE), Holder("destination", Role.DESTINATION),
               Holder("operator", Role.OPERATOR)]  # fmt: skip
    make(copy / "overlays" / "lab" / "certs", holders, 1, renew=False)
    return copy


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("version", VERSIONS)
def test_valid_by_the_published_schemas(tree: Path, overlay: str, version: str) -> None:
    for manifest in rendered(tree, overlay):
        if manifest["apiVersion"].startswith("monitoring.coreos.com/"):
            continue  # a custom resource: the schemas of Kubernetes do not know it
        kubernetes_validate.validate(manifest, version, strict=True)


def test_the_validator_is_strict(tree: Path) -> None:
    manifest = json.loads(json.dumps(the(rendered(tree, "lab"), "StatefulSet", "source")))
    manifest["spec"]["template"]["spec"]["containers"][0]["readOnly"] = True
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest, VERSIONS[-1], strict=True)


@pytest.mark.parametrize("overlay", ["lab", "sweep"])
def test_pods_pass_the_restricted_standard(tree: Path, overlay: str) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards, by hand."""
    manifests = rendered(tree, overlay)
    (namespace,) = of_kind(manifests, "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    names = {each["metadata"]["namespace"] for each in manifests if each is not namespace}
    assert names == {namespace["metadata"]["name"]}
    for name, template in pods(manifests):
        spec = template["spec"]
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys(), name
        assert spec["automountServiceAccountToken"] is False
        security = spec["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] == 65532
        assert security["seccompProfile"]["type"] in {"RuntimeDefault", "Localhost"}
        allowed = {"configMap", "emptyDir", "secret", "projected", "downwardAPI", "csi"}
        assert all(volume.keys() - {"name"} <= allowed for volume in spec["volumes"])
        for container in spec["containers"]:
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False
            assert own["capabilities"] == {"drop": ["ALL"]}
            assert own["readOnlyRootFilesystem"] is True
            assert not any("hostPort" in port for port in container.get("ports", []))
            assert container["resources"]["limits"].keys() >= {"cpu", "memory"}
            mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
            assert "/tmp" in mounts  # noqa: S108 - kernels are copied there


def test_selectors_find_what_they_mean(tree: Path) -> None:
    for overlay in ("lab", "sweep"):
        manifests = rendered(tree, overlay)
        labels = {name: template["metadata"]["labels"] for name, template in pods(manifests)}
        for each in of_kind(manifests, "StatefulSet", "Deployment"):
            assert matches(each["spec"]["selector"], labels[each["metadata"]["name"]])
        for each in of_kind(manifests, "Service"):
            found = [name for name, has in labels.items()
                     if matches({"matchLabels": each["spec"]["selector"]}, has)]  # fmt: skip
            assert found == [each["metadata"]["name"]]
        for each in of_kind(manifests, "PodDisruptionBudget"):
            found = [name for name, has in labels.items() if matches(each["spec"]["selector"], has)]
            assert found == [each["metadata"]["name"]]


@pytest.mark.parametrize("name", HOSTS)
def test_a_host_is_what_the_code_serves(tree: Path, name: str) -> None:
    manifests = rendered(tree, "lab")
    prefix, cli, grpc_port, metrics_port = HOSTS[name]
    host = the(manifests, "StatefulSet", name)
    (container,) = host["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "pageferry:0.1.0"
    program, serve = container["command"]
    assert serve in cli.commands
    assert "health" in cli.commands
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["exec"]["command"] == [program, "health"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"grpc": grpc_port, "metrics": metrics_port}
    service = the(manifests, "Service", name)
    assert {port["name"]: port["port"] for port in service["spec"]["ports"]} == ports
    assert host["spec"]["serviceName"] == name
    (variable,) = container["env"]
    assert variable["name"] == f"{prefix}_CONFIG"
    _check_settings(manifests, host, variable["value"], (grpc_port, metrics_port))


def _check_settings(
    manifests: list[Manifest], host: Manifest, path: str, ports: tuple[int, int]
) -> None:
    """The file that is mounted there is one that the host reads."""
    name = host["metadata"]["name"]
    spec = host["spec"]["template"]["spec"]
    mounts = {mount["name"]: mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    assert path == f"{mounts['settings']}/{name}.toml"
    config = the(manifests, "ConfigMap", volumes["settings"]["configMap"]["name"])
    secret = the(manifests, "Secret", volumes["tls"]["secret"]["secretName"])
    assert secret["type"] == "kubernetes.io/tls"
    assert secret["data"].keys() == {"tls.crt", "tls.key", "ca.crt"}
    text = config["data"][f"{name}.toml"]
    settings = tomllib.loads(text)
    assert settings["listen"] == f"0.0.0.0:{ports[0]}"
    assert settings["metrics-port"] == ports[1]
    assert settings["tls"] == mounts["tls"]
    # And the host itself reads the file and agrees, down to the names of its settings.
    cli = HOSTS[name][1]
    with NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(text)
        file.flush()
        said = CliRunner().invoke(cli, ["serve", "--config", file.name, "--print-config"])
    assert said.exit_code == 0, said.exception


def test_source_and_destination_are_apart(tree: Path) -> None:
    manifests = rendered(tree, "lab")
    cluster = yaml.safe_load((KIND / "cluster.yaml").read_text())
    nodes = [node.get("labels", {}) for node in cluster["nodes"]]
    for name in HOSTS:
        host = the(manifests, "StatefulSet", name)
        spec = host["spec"]["template"]["spec"]
        assert sum(spec["nodeSelector"].items() <= node.items() for node in nodes) == 1
        (rule,) = spec["affinity"]["podAntiAffinity"][
            "requiredDuringSchedulingIgnoredDuringExecution"
        ]
        assert rule["topologyKey"] == "kubernetes.io/hostname"
        for template in (template for other, template in pods(manifests) if other in HOSTS):
            assert matches(rule["labelSelector"], template["metadata"]["labels"])
        # One pod at a time, and a new one only when an operator deletes the old.
        assert host["spec"]["replicas"] == 1
        assert host["spec"]["updateStrategy"] == {"type": "OnDelete"}
        assert the(manifests, "PodDisruptionBudget", name)["spec"]["maxUnavailable"] == 0


ALLOWED = {
    ("migrate", "source", 50051),
    ("migrate", "destination", 50052),
    ("source", "destination", 50052),
}


NAMES = ("egress", "kubernetes.io/metadata.name=kube-system", "k8s-app=kube-dns", "UDP/53 TCP/53")
PROMETHEUS = ("ingress", "kubernetes.io/metadata.name=monitoring", "all", "TCP/metrics")


def test_the_network_allows_what_is_needed_and_no_more(tree: Path) -> None:
    """Every pair of pods, by either pod's policies alone; beside that names, and metrics."""
    network = Network(rendered(tree, "lab"))
    deny = [each for each in network.policies if not each["podSelector"] and "egress" not in each]
    assert [set(each["policyTypes"]) for each in deny] == [{"Ingress", "Egress"}]
    for allows in (network.may_leave, network.lets_in):
        found = {
            (who, whom, port)
            for who in network.labels
            for whom in network.labels
            for port in (50051, 50052, 9101, 9102)
            if who != whom and allows(who, whom, port)
        }
        assert found == ALLOWED, allows
    assert network.beyond() == {
        ("all", *NAMES),
        *((f"app.kubernetes.io/name={name}", *PROMETHEUS) for name in HOSTS),
    }


def test_a_sweep_cannot_be_reached_from_outside(tree: Path) -> None:
    network = Network(rendered(tree, "sweep"))
    (policy,) = network.policies
    assert not policy["podSelector"]
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    assert network.beyond() == {("all", *NAMES)}


def test_prometheus_finds_the_hosts(tree: Path) -> None:
    services = of_kind(rendered(tree, "lab"), "Service")
    scraped = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    jobs = {job["job_name"] for job in scraped["scrape_configs"]}
    monitors = of_kind(rendered(tree, "monitoring"), "ServiceMonitor")
    for monitor in monitors:
        selector = monitor["spec"]["selector"]
        (service,) = [each for each in services if matches(selector, each["metadata"]["labels"])]
        (endpoint,) = monitor["spec"]["endpoints"]
        assert endpoint["port"] == "metrics"
        assert "metrics" in {port["name"] for port in service["spec"]["ports"]}
        assert endpoint["path"] == "/metrics"
        job, instance = endpoint["relabelings"]
        assert job["targetLabel"] == "job"
        jobs.remove(job["replacement"])
        # By its pod's name, which stays: an alert on a lost guest compares before and after.
        assert instance["targetLabel"] == "instance"
        assert instance["sourceLabels"] == ["__meta_kubernetes_pod_name"]
    assert not jobs


def test_the_sweeps_workers_find_their_scheduler(tree: Path) -> None:
    manifests = rendered(tree, "sweep")
    (worker,) = the(manifests, "Deployment", "worker")["spec"]["template"]["spec"]["containers"]
    (service,) = of_kind(manifests, "Service")
    (port,) = service["spec"]["ports"]
    assert f"tcp://{service['metadata']['name']}:{port['port']}" in worker["command"]
    assert worker["image"] == "pageferry:0.1.0-sweep"
    (scheduler,) = the(manifests, "Deployment", "scheduler")["spec"]["template"]["spec"][
        "containers"
    ]
    (listens,) = scheduler["ports"]
    command = scheduler["command"]
    assert command[command.index("--port") + 1] == str(listens["containerPort"])
    assert (port["targetPort"], port["port"]) == (listens["name"], listens["containerPort"])


def test_the_job_asks_the_hosts_by_their_services(tree: Path) -> None:
    manifests = rendered(tree, "lab")
    (container,) = the(manifests, "Job", "migrate")["spec"]["template"]["spec"]["containers"]
    assert container["command"][:2] == ["pageferry", "migrate"]
    services = {
        f"{each['metadata']['name']}:{port['port']}"
        for each in of_kind(manifests, "Service")
        for port in each["spec"]["ports"]
    }
    addresses = {container["command"][container["command"].index(option) + 1]
                 for option in ("--source", "--dest")}  # fmt: skip
    assert addresses <= services
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert container["env"] == [{"name": "PAGEFERRY_TLS", "value": mounts["tls"]}]


def settings_of(manifests: list[Manifest], name: str) -> dict[str, Any]:
    """What a host's file says."""
    (file,) = [each["data"][f"{name}.toml"] for each in of_kind(manifests, "ConfigMap")
               if f"{name}.toml" in each["data"]]  # fmt: skip
    return tomllib.loads(file)


def test_the_destination_takes_the_source_whose_certificate_is_mounted(tree: Path) -> None:
    manifests = rendered(tree, "lab")
    pem = base64.b64decode(the(manifests, "Secret", "source-tls")["data"]["tls.crt"])
    assert settings_of(manifests, "destination")["sources"] == [
        Holder.of(x509.load_pem_x509_certificate(pem)).name
    ]


@pytest.mark.parametrize("name", HOSTS)
def test_memory_of_guests_is_half_of_the_pods_and_enough_for_the_job(tree: Path, name: str) -> None:
    """The other half is for what is on its way, and for the program."""
    manifests = rendered(tree, "lab")
    (host,) = the(manifests, "StatefulSet", name)["spec"]["template"]["spec"]["containers"]
    resources = host["resources"]
    assert resources["requests"] == resources["limits"]
    settings = settings_of(manifests, name)
    guests = parse_memory_bytes(settings["max-total-memory"])
    assert 2 * guests <= parse_memory_bytes(resources["limits"]["memory"] + "B")
    (job,) = the(manifests, "Job", "migrate")["spec"]["template"]["spec"]["containers"]
    wanted = parse_memory_bytes(job["command"][job["command"].index("--memory") + 1])
    assert wanted <= min(guests, parse_memory_bytes(settings.get("max-guest-memory", "1TiB")))


@pytest.mark.parametrize("name", HOSTS)
def test_a_host_has_the_time_that_its_end_takes(tree: Path, name: str) -> None:
    """A source's drain, up to ten seconds for migrations to give up, five for calls to end."""
    drain_s = SourceSettings().drain // NS_PER_S if name == "source" else 0
    host = the(rendered(tree, "lab"), "StatefulSet", name)
    assert host["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] >= drain_s + 15


def test_kind_test_says_what_is_missing() -> None:
    if shutil.which("kind"):
        pytest.skip("kind is here")
    ended = subprocess.run([KIND / "test"], capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 1
    assert "kind is missing; install it" in ended.stderr

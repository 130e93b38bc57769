"""Manifests as kubectl renders them, and small questions to them."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
KIND = ROOT / "deploy" / "kind"
Manifest = dict[str, Any]
IsPort = Callable[[int | str], bool]
"""Whether what a policy calls a port, by number or by name, is the one in question."""


def kustomize_version() -> tuple[int, ...]:
    """Of the kustomize in kubectl; (0,) where there is none."""
    if shutil.which("kubectl") is None:
        return (0,)
    said = subprocess.run(
        ["kubectl", "version", "--client", "--output", "json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    version = json.loads(said.stdout or "{}").get("kustomizeVersion", "v0")
    return tuple(int(part) for part in version.removeprefix("v").split("."))


@cache
def rendered(tree: Path, overlay: str) -> list[Manifest]:
    ended = subprocess.run(
        ["kubectl", "kustomize", str(tree / "overlays" / overlay)],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert not ended.stderr, ended.stderr
    return [each for each in yaml.safe_load_all(ended.stdout) if each]


def of_kind(manifests: list[Manifest], *kinds: str) -> list[Manifest]:
    return [each for each in manifests if each["kind"] in kinds]


def the(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    (found,) = [each for each in of_kind(manifests, kind) if each["metadata"]["name"] == name]
    return found


def pods(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """Name and pod template of everything that runs."""
    for each in of_kind(manifests, "StatefulSet", "Deployment", "Job"):
        yield each["metadata"]["name"], each["spec"]["template"]


def matches(selector: Manifest, labels: Manifest) -> bool:
    wanted = selector.get("matchLabels", {})
    present = all(each["key"] in labels for each in selector.get("matchExpressions", []))
    return present and all(labels.get(key) == value for key, value in wanted.items())


class Network:
    """What the network policies of some manifests let through."""

    def __init__(self, manifests: list[Manifest]) -> None:
        self.policies = [each["spec"] for each in of_kind(manifests, "NetworkPolicy")]
        self.labels = {name: pod["metadata"]["labels"] for name, pod in pods(manifests)}
        self._numbers = {
            name: {port["name"]: port["containerPort"] for port in _ports(pod)}
            for name, pod in pods(manifests)
        }

    def may_leave(self, who: str, whom: str, port: int) -> bool:
        """Whether a pod may leave for another's port."""
        return self._allows("egress", "to", who, whom, self._number(whom, port))

    def lets_in(self, who: str, whom: str, port: int) -> bool:
        """Whether a pod's port lets another in."""
        return self._allows("ingress", "from", whom, who, self._number(whom, port))

    def beyond(self) -> set[tuple[str, ...]]:
        """Whom some pod may speak to outside of the namespace.

        As whose pods, which way, which other namespace, which pods there, which ports.
        """
        return {
            (
                _labels(policy["podSelector"]),
                direction,
                _labels(peer["namespaceSelector"]),
                _labels(peer.get("podSelector", {})),
                " ".join(f"{each['protocol']}/{each['port']}" for each in rule["ports"]),
            )
            for policy in self.policies
            for direction, side in (("ingress", "from"), ("egress", "to"))
            for rule in policy.get(direction, [])
            for peer in rule[side]
            if peer.keys() != {"podSelector"}
        }

    def _number(self, whom: str, port: int) -> IsPort:
        return lambda said: self._numbers[whom].get(str(said), said) == port

    def _allows(
        self,
        direction: str,
        side: str,
        mine: str,
        theirs: str,
        is_port: IsPort,
    ) -> bool:
        rules = [
            rule
            for policy in self.policies
            if matches(policy["podSelector"], self.labels[mine])
            for rule in policy.get(direction, [])
        ]
        return any(
            "namespaceSelector" not in peer and matches(peer["podSelector"], self.labels[theirs])
            for rule in rules
            if any(is_port(each["port"]) for each in rule["ports"])
            for peer in rule[side]
        )


def _labels(selector: Manifest) -> str:
    """The labels that it asks for; ``all`` when it asks for none."""
    assert selector.keys() <= {"matchLabels"}
    return " ".join(f"{key}={value}" for key, value in selector.get("matchLabels", {}).items()) or (
        "all"
    )


def _ports(pod: Manifest) -> list[Manifest]:
    return [port for each in pod["spec"]["containers"] for port in each.get("ports", [])]

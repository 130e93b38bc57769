"""What the metrics of both hosts have in common: a registry of their own and build info."""

from __future__ import annotations

import platform
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Info, ProcessCollector, disable_created_metrics

from wire.version import CONTRACT

LATENCY_BUCKETS_S = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0,
)  # fmt: skip
"""Buckets for the handling of a batch: a MiB takes half a millisecond on an idle core."""
DURATION_BUCKETS_S = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0)
"""Buckets for verification, downtime and rounds: a millisecond to a minute."""


def host_registry(host: str) -> CollectorRegistry:
    """A fresh registry with what every host tells: the build, and its process.

    Args:
        host: ``source`` or ``destination``, the second word of every metric's name.
    """
    # They are a second series per counter that nobody asks for.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry(auto_describe=True)
    ProcessCollector(registry=registry)
    build = Info(
        f"pageferry_{host}_build",
        "Always 1; the labels say which release and contract run here.",
        registry=registry,
    )
    build.info(
        {
            "version": version("pageferry"),
            "contract": ".".join(map(str, CONTRACT)),
            "python": platform.python_version(),
        }
    )
    return registry

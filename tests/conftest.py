"""What runs every day, and how hypothesis runs here: the same examples everywhere, no clock."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Of a job in the background. What tests start inherits it, and would not hear of a Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)

OF_THEIR_OWN = {"containers", "machines"}
"""Suites with a make target each: they need an engine or root, and minutes."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave those out unless the command line names them."""
    if collection_path.name not in OF_THEIR_OWN:
        return None
    return None if any(collection_path.name in argument for argument in config.args) else True


settings.register_profile(
    "everyday",
    derandomize=True,  # a failure in one place is the same failure in every other
    deadline=None,  # the first example may compile a kernel
    max_examples=40,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("thorough", parent=settings.get_profile("everyday"), max_examples=1000)
settings.load_profile("everyday")

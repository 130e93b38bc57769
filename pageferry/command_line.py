"""The command that repeats a migration, from nothing but its configuration."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from pageferry.settings import SETTINGS
from paging_core.config import HYPERVISORS, Hypervisor
from paging_core.costs import CostTable, Level, known
from paging_core.kinds import Flag
from paging_core.settings import Setting

COSTS_FILE = "costs.toml"
"""Stands for a table of costs that is not the default one: a document has its prices, no file."""


def command_of(config: Mapping[str, Any]) -> str:
    """The command that runs it again: every setting that is not at its default.

    The same for the same configuration: a trace is named as the document names it, without its
    directory, and whatever has no part in the result (hosts, files to write) is not there.

    Args:
        config: of a result document.
    """
    words = ["pageferry", "migrate"]
    for name, setting in SETTINGS.items():
        if setting.is_option:
            words += _words(setting, config.get(name), _usual_costs(config))
    return shlex.join(words)


def _usual_costs(config: Mapping[str, Any]) -> str:
    """The table of prices that a migration has without `--costs`."""
    hypervisor = Hypervisor(config.get("hypervisor") or Hypervisor.XEN)
    return HYPERVISORS[hypervisor].costs or Level.TYPICAL


def _names() -> Iterator[str]:
    """Every table that has a name."""
    yield from Level
    for name in known():
        yield from (name, f"{name}:{Level.LOW}", f"{name}:{Level.HIGH}")


@cache
def _prices(name: str) -> Mapping[str, float]:
    return CostTable.named(name).prices_ns()


def _words(setting: Setting, value: Any, usual: str) -> Iterator[str]:
    if isinstance(setting.kind, Flag):
        if value is not None and bool(value) is not setting.is_on:
            yield setting.option
    elif setting.name == "costs_ns":
        if value is not None and value != _prices(usual):
            names = (name for name in _names() if _prices(name) == value)
            yield from (setting.option, next(names, COSTS_FILE))
    elif setting.name == "trace":
        if value is not None:
            yield from (setting.option, str(value["file"]))
    elif value is not None and value != setting.default_value():
        yield from (setting.option, setting.kind.text(value))

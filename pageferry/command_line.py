"""The command that repeats a migration, from nothing but its configuration."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from pageferry.settings import SETTINGS
from paging_core.costs import CostTable
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
            words += _words(setting, config.get(name))
    return shlex.join(words)


def _words(setting: Setting, value: Any) -> Iterator[str]:
    if isinstance(setting.kind, Flag):
        if value is not None and bool(value) is not setting.is_on:
            yield setting.option
    elif setting.name == "costs_ns":
        if value is not None and value != CostTable().prices_ns():
            yield from (setting.option, COSTS_FILE)
    elif setting.name == "trace":
        if value is not None:
            yield from (setting.option, str(value["file"]))
    elif value is not None and value != setting.default_value():
        yield from (setting.option, setting.kind.text(value))

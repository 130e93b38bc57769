"""One point of a sweep: a migration that is asked for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property

import xxhash

from pageferry.configured import Configured, configured
from pageferry.request import MigrationOptions
from paging_core.config import GuestConfig


@dataclass(frozen=True)
class Point:
    """A migration that can be run: one that exists was checked.

    Attributes:
        options: what is migrated, how.
        command: runs it alone.
        flow: keep its flow.
    """

    options: MigrationOptions
    command: str
    flow: bool = False

    def __post_init__(self) -> None:
        _ = self.configured

    @cached_property
    def guest(self) -> GuestConfig:
        """The guest, checked.

        Raises:
            InvalidInput: it cannot be.
        """
        return self.options.guest_config()

    @cached_property
    def configured(self) -> Configured:
        """Every setting, defaults filled in.

        Raises:
            InvalidInput: the settings contradict each other.
        """
        return configured(self.guest, self.options.plan())

    @cached_property
    def id(self) -> str:
        """Names it by all that decides its result; equal settings have equal names."""
        text = json.dumps(self.configured, sort_keys=True)
        return xxhash.xxh3_64_hexdigest(text.encode())

    @property
    def load(self) -> str:
        """What the guest runs, in a word."""
        trace = self.configured["trace"]
        if trace is not None:
            return str(trace["file"]).removesuffix(".parquet")
        return str(self.configured["workload"]).partition(":")[0]

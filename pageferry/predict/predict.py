"""All models side by side, for one migration that is not run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any, TypedDict

from pageferry.configured import Configured, configured
from pageferry.predict.answer import Answer
from pageferry.predict.history import WriteLog, avg, hist, window_ns
from pageferry.predict.prediction import Prediction
from pageferry.predict.rehearsal import frame_cost, rehearse
from pageferry.predict.simulation import Setting
from pageferry.request import MigrationOptions
from paging_core.config import GuestConfig
from paging_core.costs import CostTable
from paging_core.errors import BadOption
from paging_core.model_guest import ModelGuest
from paging_core.units import NS_PER_S, parse_count
from source_host.precopy.plan import Plan

SCHEMA_VERSION = 2


class Document(TypedDict):
    """All predictions of one migration."""

    schema: dict[str, str | int]
    config: Configured
    predictions: list[dict[str, Any]]
    answer: dict[str, Any] | None


def predict(options: MigrationOptions) -> list[Prediction]:
    """What AVG, HIST and a rehearsal expect of a migration, in this order.

    Args:
        options: as for ``pageferry migrate``. The guest is run with this seed; with another
            one than the migration's it is another run of the same workload.

    Raises:
        BadOption: hosts elsewhere, or the real clock, of which no model knows the speed.
        PageferryError: the guest did not boot, or its kernel gave up.
    """
    return [*from_log(options), from_rehearsal(options)]


def from_log(options: MigrationOptions) -> list[Prediction]:
    """AVG and HIST, after an untracked run of the guest; raises as `predict`."""
    config, plan = checked(options)
    with _booted(config) as guest:
        guest.run(guest.time_ns + plan.warmup_ns)
        setting = _setting(guest, plan, config.costs)
        log = WriteLog(guest, window_ns(setting))
        predictions = []
        for model in (avg, hist):
            expected = model(setting, log)
            predictions.append(replace(expected, guest_s=log.logged_ns / NS_PER_S))
        return predictions


def from_rehearsal(options: MigrationOptions) -> Prediction:
    """The rehearsal; raises as `predict`."""
    config, plan = checked(options)
    with _booted(config) as guest:
        return rehearse(guest, plan, config.costs)


class OfGuest:
    """Implements `pageferry.predict.answer.Asked` by rehearsals of a guest."""

    packs = False
    """A guest has pages: what zstd makes of them is known."""

    def __init__(self, options: MigrationOptions) -> None:
        """For the guest of a migration; raises as `predict`."""
        # As it is at the link that was asked about: `dirty=0.5link` is another load at another one.
        self.options = options.but(workload=checked(options)[0].workload or None)
        self.slows = _WRITE_RATE.search(str(self.options["workload"])) is not None

    def predict(
        self, options: MigrationOptions, *, packed: float = 1.0, slowed: float = 1.0
    ) -> list[Prediction]:
        """One rehearsal; see `Asked`.

        Raises:
            PageferryError: as `predict`.
        """
        assert packed == 1.0  # noqa: S101 - see `packs`
        return [from_rehearsal(options if slowed == 1.0 else _slowed(options, slowed))]


_WRITE_RATE = re.compile(r"(?<=write_rate=)[^,]+")


def _slowed(options: MigrationOptions, share: float) -> MigrationOptions:
    """The same guest, writing at a share of its rate."""
    spec = str(options["workload"])
    return options.but(
        workload=_WRITE_RATE.sub(lambda rate: str(round(parse_count(rate[0]) * share)), spec)
    )


def document_of(
    options: MigrationOptions, predictions: list[Prediction], found: Answer | None = None
) -> Document:
    """Predictions as one JSON document, with everything that decided them.

    Args:
        options: of the migration.
        predictions: of it.
        found: the answer; None where nobody asked for one.
    """
    config, plan = checked(options)
    return {
        "schema": {"name": "pageferry.prediction", "version": SCHEMA_VERSION},
        "config": configured(config, plan),
        "predictions": [asdict(each) for each in predictions],
        "answer": None if found is None else found.to_document(),
    }


def checked(options: MigrationOptions) -> tuple[GuestConfig, Plan]:
    """The guest and the plan; raises as `predict`."""
    if options.source is not None or options["clock"] != "virtual":
        raise BadOption("a prediction knows neither hosts nor the real clock; drop those options")
    return options.guest_config(), options.plan()


@contextmanager
def _booted(config: GuestConfig) -> Iterator[ModelGuest]:
    """A fresh guest; its memory is given back at the end."""
    guest = ModelGuest.boot(config)
    try:
        yield guest
    finally:
        guest.close()


def _setting(guest: ModelGuest, plan: Plan, costs: CostTable) -> Setting:
    assert plan.link is not None  # noqa: S101 - the virtual clock has one
    frame = frame_cost(guest.memory.frames, plan)
    return Setting(
        memory_frames=guest.n_frames,
        frame_bytes=frame.link_bytes,
        link=plan.link,
        policy=plan.make_policy(),
        downtime_limit_ns=plan.downtime_limit_ns,
        frame_digest_ns=frame.digested * plan.digest_ns(costs),
    )

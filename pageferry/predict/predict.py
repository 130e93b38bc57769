"""All models side by side, for one migration that is not run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any, TypedDict

from pageferry.configured import Configured, configured
from pageferry.predict.history import WriteLog, avg, hist, window_ns
from pageferry.predict.prediction import Prediction
from pageferry.predict.rehearsal import frame_bytes, rehearse
from pageferry.predict.simulation import Setting
from pageferry.request import MigrationOptions
from paging_core.config import GuestConfig
from paging_core.errors import BadOption
from paging_core.model_guest import ModelGuest
from paging_core.units import NS_PER_S
from source_host.precopy.plan import Plan

SCHEMA_VERSION = 1


class Document(TypedDict):
    """All predictions of one migration."""

    schema: dict[str, str | int]
    config: Configured
    predictions: list[dict[str, Any]]


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
    config, plan = _checked(options)
    with _booted(config) as guest:
        guest.run(guest.time_ns + plan.warmup_ns)
        setting = _setting(guest, plan)
        log = WriteLog(guest, window_ns(setting))
        predictions = []
        for model in (avg, hist):
            expected = model(setting, log)
            predictions.append(replace(expected, guest_s=log.logged_ns / NS_PER_S))
        return predictions


def from_rehearsal(options: MigrationOptions) -> Prediction:
    """The rehearsal; raises as `predict`."""
    config, plan = _checked(options)
    with _booted(config) as guest:
        return rehearse(guest, plan)


def document_of(options: MigrationOptions, predictions: list[Prediction]) -> Document:
    """Predictions as one JSON document, with everything that decided them."""
    config, plan = _checked(options)
    return {
        "schema": {"name": "pageferry.prediction", "version": SCHEMA_VERSION},
        "config": configured(config, plan),
        "predictions": [asdict(each) for each in predictions],
    }


def _checked(options: MigrationOptions) -> tuple[GuestConfig, Plan]:
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


def _setting(guest: ModelGuest, plan: Plan) -> Setting:
    assert plan.link is not None  # noqa: S101 - the virtual clock has one
    return Setting(
        memory_frames=guest.n_frames,
        frame_bytes=frame_bytes(guest.memory.frames, plan),
        link=plan.link,
        policy=plan.make_policy(),
        downtime_limit_ns=plan.downtime_limit_ns,
    )

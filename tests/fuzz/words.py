"""What people type: names, addresses, quantities, workloads."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from pageferry.cli.kinds import COUNT
from pageferry.holders import Holder
from pageferry.settings import SETTINGS
from pageferry.thresholds import Threshold
from paging_core.kinds import Kind
from paging_core.workloads.catalog import canonical_spec
from tests.fuzz.refusals import refusals
from wire.address import as_dialled, host_of, parse_address, stays_here
from wire.hosting.quantity import DURATION, MEMORY, NAMES, SIZE
from wire.names import check_name
from wire.text import line
from wire.trust.access import Role


def _address(text: str) -> None:
    address = parse_address(text)
    stays_here(address)
    if not address.startswith("unix:"):
        host_of(address)
        as_dialled(address)


def _workload(text: str) -> None:
    spec = canonical_spec(text)
    assert canonical_spec(spec) == spec


def _line(text: str) -> None:
    shown = line(text, 100)
    assert shown.isprintable()
    assert len(shown) <= 100
    assert line(shown, 100) == shown


def _setting(kind: Kind, text: str) -> None:
    value = kind.parse(text)
    assert kind.parse(kind.text(value)) == value


PARSERS: tuple[Callable[[str], object], ...] = (
    _address,
    _workload,
    _line,
    lambda text: check_name(text, "name", 64),
    lambda text: Holder.parse(Role.SOURCE, text),
    Threshold.parse,
    *(partial(_setting, one.kind) for one in SETTINGS.values()),
    *(
        lambda text, kind=kind: kind.convert(text, None, None)
        for kind in (COUNT, SIZE, MEMORY, DURATION, NAMES)
    ),
)  # fmt: skip


def words(data: bytes) -> None:
    """The first byte says what the others are."""
    if not data:
        return
    text = data[1:].decode(errors="surrogateescape")
    with refusals():
        PARSERS[data[0] % len(PARSERS)](text)

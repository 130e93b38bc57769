"""Would this machine migrate? One answer, and what would help, each tried by predicting again."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from pageferry.predict.prediction import Prediction
from pageferry.request import MigrationOptions
from paging_core.units import NS_PER_S, exact_duration, exact_rate
from source_host.precopy.policies import PolicyName

_RATES = tuple(round(gbit * 10**9) for gbit in (0.1, 0.3, 1, 2.5, 5, 10, 25, 40, 50, 100, 200, 400))
"""Links that there are."""
_PACKED = (2, 3, 5, 10)
_SLOWED = (0.8, 0.6, 0.4, 0.2, 0.1)
_LIMIT_TRIES = 4


class Asked(Protocol):
    """Predicts a migration of one machine, as often as it is asked."""

    @property
    def packs(self) -> bool:
        """Whether `packed` means anything: it does not know how pages pack."""

    @property
    def slows(self) -> bool:
        """Whether `slowed` means anything."""

    def predict(
        self, options: MigrationOptions, *, packed: float = 1.0, slowed: float = 1.0
    ) -> Sequence[Prediction]:
        """What happens, at one or several moments.

        Args:
            options: of the migration.
            packed: share of its size that a page has on the link.
            slowed: share of its speed at which the machine runs.
        """


@dataclass(frozen=True)
class Advice:
    """One change with which the machine would migrate within the limit.

    Attributes:
        what: the change, for people.
        option: as it is typed; empty for what no option of ours does.
        prediction: with the change, at the worst moment.
    """

    what: str
    option: str
    prediction: Prediction


@dataclass(frozen=True)
class Answer:
    """Whether a machine would migrate.

    Attributes:
        converges: its downtime is within the limit, at every moment that was tried.
        limit_s: the downtime limit.
        worst: the prediction with the longest downtime.
        best: the one with the shortest.
        advice: what would help; empty when nothing has to.
    """

    converges: bool
    limit_s: float
    worst: Prediction
    best: Prediction
    advice: tuple[Advice, ...]

    def to_document(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def answer(asked: Asked, options: MigrationOptions, found: Sequence[Prediction]) -> Answer:
    """Judge a prediction, and look for what would help where it is needed.

    Args:
        asked: who predicted.
        options: of the migration.
        found: what was predicted of it.
    """
    limit_ns = int(options["downtime_limit_ns"])
    converges = _within(found, limit_ns)
    return Answer(
        converges,
        limit_ns / NS_PER_S,
        _worst(found),
        min(found, key=lambda each: each.downtime_s),
        () if converges else tuple(_advice(asked, options, _worst(found).downtime_s)),
    )


def _within(found: Sequence[Prediction], limit_ns: int) -> bool:
    return _worst(found).downtime_s * NS_PER_S <= limit_ns


def _worst(found: Sequence[Prediction]) -> Prediction:
    return max(found, key=lambda each: each.downtime_s)


def _advice(asked: Asked, options: MigrationOptions, downtime_s: float) -> Iterator[Advice]:
    """The smallest change of each sort that does it."""
    for tried in (
        _links(options), _limits(options, downtime_s), _switches(options), _packing(asked),
        _slowing(asked),
    ):  # fmt: skip
        for what, option, changes, how in tried:
            changed = options.but(**changes)
            found = asked.predict(changed, **how)
            if _within(found, int(changed["downtime_limit_ns"])):
                yield Advice(what, option, _worst(found))
                break


_Tried = Iterator[tuple[str, str, dict[str, Any], dict[str, float]]]
"""What, the option, the settings that it changes, and what else the asked is told."""


def _links(options: MigrationOptions) -> _Tried:
    for rate in _RATES:
        if rate > options["link_bits_per_s"]:
            text = exact_rate(rate)
            yield f"a link of {text}", f"--link {text}", {"link_bits_per_s": rate}, {}


def _limits(options: MigrationOptions, downtime_s: float) -> _Tried:
    """From the downtime that was predicted on; a policy that knows the limit stops earlier."""
    limit_ns = _two_digits(max(downtime_s * NS_PER_S, int(options["downtime_limit_ns"]) + 1))
    for _ in range(_LIMIT_TRIES):
        text = exact_duration(limit_ns)
        changes = {"downtime_limit_ns": limit_ns}
        yield f"a downtime limit of {text}", f"--downtime-limit {text}", changes, {}
        limit_ns = _two_digits(limit_ns * 1.5)


def _two_digits(value: float) -> int:
    """Rounded up."""
    unit = int(10 ** max(0, math.floor(math.log10(value)) - 1))
    return math.ceil(value / unit) * unit


def _switches(options: MigrationOptions) -> _Tried:
    if not options["suppress"]:
        what = "a digest instead of a page that did not change"
        yield what, "without --no-suppress", {"suppress": True}, {}
    for policy in (PolicyName.QEMU, PolicyName.XEN):
        if options["policy"] != policy:
            yield f"the policy of {policy}", f"--policy {policy}", {"policy": policy.value}, {}


def _packing(asked: Asked) -> _Tried:
    for factor in _PACKED if asked.packs else ():
        what = f"pages that zstd packs to a {_FRACTIONS[factor]} of their size"
        yield what, "", {}, {"packed": 1 / factor}


_FRACTIONS = {2: "half", 3: "third", 5: "fifth", 10: "tenth"}


def _slowing(asked: Asked) -> _Tried:
    for share in _SLOWED if asked.slows else ():
        what = f"a machine that writes at {share:.0%} of its speed meanwhile"
        yield what, "", {}, {"slowed": share}

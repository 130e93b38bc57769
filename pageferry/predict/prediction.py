"""What a model says of a migration to come, and how wrong it was."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pageferry.document import Document


@dataclass(frozen=True)
class Prediction:
    """A migration as a model expects it.

    Attributes:
        model: its name.
        rounds: the live ones and the stop-and-copy.
        total_s: from the start of round 1 to the release on the destination.
        downtime_s: from the pause to the same release.
        bytes_wire: on the link.
        guest_s: virtual time for which a guest was run to find this out.
    """

    model: str
    rounds: int
    total_s: float
    downtime_s: float
    bytes_wire: int
    guest_s: float


def errors(prediction: Prediction, document: Document) -> dict[str, float]:
    """Relative errors against a migration that was run: +0.1 is 10 % too much.

    Returns:
        By name: ``rounds``, ``total_s``, ``downtime_s``, ``bytes_wire``.
    """
    measured = {
        "rounds": len(document["rounds"]),
        "total_s": document["time"]["total_s"],
        "downtime_s": document["time"]["downtime_s"],
        "bytes_wire": document["bytes"]["wire"],
    }
    return {name: _off(getattr(prediction, name), was) for name, was in measured.items()}


def _off(predicted: float, was: float) -> float:
    if was:
        return predicted / was - 1
    return math.inf if predicted else 0.0  # such as the downtime of one that failed

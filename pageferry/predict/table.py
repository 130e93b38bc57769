"""Predictions as a table: models side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pageferry.fitting import Fitted
from pageferry.predict.prediction import Prediction
from paging_core.units import format_bytes

_GUEST_TIME = "guest time run to know"
_ROWS: tuple[tuple[str, Callable[[Prediction], str]], ...] = (
    ("rounds, the last one included", lambda p: str(p.rounds)),
    ("total time", lambda p: f"{p.total_s:.3f} s"),
    ("downtime", lambda p: f"{1000 * p.downtime_s:.2f} ms"),
    ("on the wire", lambda p: format_bytes(p.bytes_wire)),
    (_GUEST_TIME, lambda p: f"{p.guest_s:.3f} s"),
)


def table(predictions: Sequence[Prediction]) -> Fitted:
    """One column for each model."""
    models = (prediction.model for prediction in predictions)
    made = Fitted(("", *models), title="What the migration would take")
    for title, show in _ROWS:
        if title == _GUEST_TIME and not any(each.guest_s for each in predictions):
            continue  # no guest ran
        made.add(title, *(show(prediction) for prediction in predictions))
    return made

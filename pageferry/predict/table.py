"""Predictions for a person: models side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.table import Table

from pageferry.predict.prediction import Prediction
from paging_core.units import format_bytes

_ROWS: tuple[tuple[str, Callable[[Prediction], str]], ...] = (
    ("rounds, the last one included", lambda p: str(p.rounds)),
    ("total time", lambda p: f"{p.total_s:.3f} s"),
    ("downtime", lambda p: f"{1000 * p.downtime_s:.2f} ms"),
    ("on the wire", lambda p: format_bytes(p.bytes_wire)),
    ("guest time run to know", lambda p: f"{p.guest_s:.3f} s"),
)


def table(predictions: Sequence[Prediction]) -> Table:
    """One column for each model."""
    made = Table(title="what the migration would take")
    made.add_column("")
    for prediction in predictions:
        made.add_column(prediction.model, justify="right")
    for title, show in _ROWS:
        made.add_row(title, *(show(prediction) for prediction in predictions))
    return made

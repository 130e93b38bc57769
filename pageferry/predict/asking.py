"""From what a person asked to predictions and an answer, whatever the machine is."""

from __future__ import annotations

from contextlib import closing
from typing import NamedTuple

from pageferry.predict.answer import Answer, answer
from pageferry.predict.predict import OfGuest, checked, predict
from pageferry.predict.prediction import Prediction
from pageferry.predict.windows import OfWindows, Recorded
from pageferry.request import MigrationOptions
from paging_core.config import Paging
from paging_core.traces.opening import open_trace
from paging_core.traces.written.reader import WrittenPagesFile


class Done(NamedTuple):
    """What was found.

    Attributes:
        options: of the migration, as they were predicted.
        predictions: all of them, in the order of the table.
        answer: what they mean.
        recorded: what the machine wrote; None: it was rehearsed.
    """

    options: MigrationOptions
    predictions: list[Prediction]
    answer: Answer
    recorded: Recorded | None


def ask(options: MigrationOptions) -> Done:
    """Predict a migration, and look for what would help.

    Raises:
        InvalidInput: an option or a trace that cannot be.
        PageferryError: the guest did not boot, or its kernel gave up.
    """
    if options.source is None and options["trace"] is not None and options["workload"] is None:
        with closing(open_trace(str(options["trace"]))) as trace:
            if isinstance(trace, WrittenPagesFile):
                return _of_windows(options, trace)
    of_guest = OfGuest(options)
    predictions = predict(of_guest.options)
    found = answer(of_guest, of_guest.options, predictions[-1:])
    return Done(of_guest.options, predictions, found, None)


def _of_windows(options: MigrationOptions, trace: WrittenPagesFile) -> Done:
    recorded = Recorded(trace, int(options["memory_bytes"]))
    # No guest runs, so no tracker tracks; a document says what its memory would be.
    memory = {"memory_bytes": recorded.memory_bytes, "paging": Paging.HAP.value}
    described = options.but(**memory)
    checked(described)
    of_windows = OfWindows(recorded)
    predictions = of_windows.predict(described)
    return Done(described, predictions, answer(of_windows, described, predictions), recorded)
